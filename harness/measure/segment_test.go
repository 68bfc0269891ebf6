package measure

import (
	"testing"
	"time"
)

// A resumed level is compared with the counters of the server that it ended on,
// which never saw the requests taken over.
func TestTotalsCoverTheLastSegment(t *testing.T) {
	record := func(segment int, phase Phase, tokens int) *Record {
		return &Record{
			SampleID: "s", Phase: phase, Segment: segment, Sent: time.Second, FirstToken: 2 * time.Second, LastToken: 3 * time.Second, End: 3 * time.Second,
			PromptTokens: 100, CompletionTokens: tokens, Outcome: OK, Events: Events{{At: 2 * time.Second, Tokens: 1}, {At: 3 * time.Second, Tokens: tokens - 1}},
		}
	}
	m, err := Summarize(Records([]*Record{record(0, PhaseMain, 10), record(1, PhaseWarmup, 4), record(1, PhaseMain, 20)}), SummaryOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if want := (TokenTotals{Requests: 2, OK: 2, PromptTokens: 200, CompletionTokens: 24}); m.All != want {
		t.Errorf("totals %+v, want %+v", m.All, want)
	}
	if m.PromptTokens != 200 || m.CountedPromptTokens != 100 {
		t.Errorf("%d prompt tokens, %d of them counted by the last server, want 200 and 100", m.PromptTokens, m.CountedPromptTokens)
	}
	if m.Completed != 2 || m.CompletionTokens != 30 {
		t.Errorf("metrics of %d requests with %d tokens, want both segments' 2 and 30", m.Completed, m.CompletionTokens)
	}
}
