package load

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/glm46/glm46/harness/measure"
)

// A resumed level: the server that ended it counted the last segment's requests
// only; requests that tell their own hits are known of all segments.
func TestPrefixFactsOfAResumedLevel(t *testing.T) {
	share := 0.02
	counters := func(queries, hits float64) *measure.Counters {
		return &measure.Counters{PrefixQueries: queries, PrefixHits: hits, Has: map[string]bool{measure.HasPrefix: true}}
	}
	out := &Outcome{HandOver: counters(500, 100), After: counters(1500, 120)}
	m := &measure.Metrics{PromptTokens: 4000, CountedPromptTokens: 1000, Segments: 2}
	p := prefixFacts(Spec{ExpectedPrefixShare: &share}, out, m)
	require.Equal(t, measure.PrefixFacts{Hits: 20, Queries: 1000, PromptTokens: 1000, ExpectedShare: share, Known: true}, p)
	told := int64(80)
	m.CachedTokens = &told
	p = prefixFacts(Spec{ExpectedPrefixShare: &share}, out, m)
	require.Equal(t, measure.PrefixFacts{Hits: 80, Queries: 1000, PromptTokens: 4000, ExpectedShare: share, Known: true}, p)
}
