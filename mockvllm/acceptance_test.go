package mockvllm

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/glm46/glm46/mockvllm/engine"
	"github.com/glm46/glm46/mockvllm/tokenizer"
)

// acceptance runs n-gram look-up on the mock's own text and gives the share of
// decode steps with a draft and the cumulative acceptance by position.
func acceptance(t testing.TB, repetition float64, prompt []int32) (p float64, a []float64) {
	cfg := engine.SimConfig{Engine: engine.Config{
		NumBlocks: 100000, MaxNumSeqs: 100, MaxNumBatchedTokens: 8192, MaxModelLen: 32768, ChunkedPrefill: true,
		Spec: engine.Spec{Method: engine.SpecNGram, Tokens: 5, LookupMin: 2, LookupMax: 4},
	}}
	text := &textSource{tokenizer.Text{Repetition: repetition}}
	s, err := engine.NewSim(cfg, engine.StepTimerFunc(func(*engine.StepShape) time.Duration { return time.Millisecond }), text)
	require.NoError(t, err)
	const n, tokens = 20, 1024
	for i := range n {
		require.NoError(t, s.Submit(0, engine.Request{ID: uint64(i), Prompt: prompt, MaxTokens: tokens, IgnoreEOS: true, Seed: uint64(i)}))
	}
	decodes := 0
	var out []engine.Emission
	for at, ok := s.Next(); ok; at, ok = s.Next() {
		out = s.Advance(at, out[:0])
		decodes += len(out)
	}
	st := s.Stats()
	for _, k := range st.AcceptedPerPosition {
		a = append(a, float64(k)/float64(st.Drafts))
	}
	return float64(st.Drafts) / float64(decodes), a
}

// The default share of repetition gives what is published for chat and code.
// Source: docs/timing-model.md, speculation (p = 0.55 and a = 0.81 0.74 0.70 for
// code editing, 0.54 to 0.73, 0.36 to 0.5, 0.26 to 0.38 for chat).
func TestAcceptanceIsPlausible(t *testing.T) {
	prompt := tokenizer.Encode(strings.Repeat("The people of the village keep a list of everything that went wrong, and read it aloud on Friday. ", 3))
	prompt = append(prompt, tokenizer.Encode("What is certain is that the list has never been empty, although nobody knows exactly when this habit started.")...)
	for _, r := range []float64{0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1} {
		p, a := acceptance(t, r, prompt)
		t.Logf("repetition %.1f: drafts in %.2f of steps, accepted %.2f", r, p, a)
		if r == tokenizer.DefaultRepetition && (a[0] < 0.5 || a[0] > 0.85 || p < 0.1 || p > 0.7) {
			t.Errorf("repetition %.1f: drafts in %.2f of steps, accepted %.2f", r, p, a)
		}
	}
}
