package engine

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// Two replicas: requests go where least is to do, a step is as long as the longest,
// and experts see the tokens of both.
func TestReplicasStepTogether(t *testing.T) {
	var steps []string
	timer := StepTimerFunc(func(s *StepShape) time.Duration {
		prefill := 0
		for _, c := range s.Chunks {
			prefill += c.Tokens
		}
		steps = append(steps, fmt.Sprintf("%d:%d+%d/%d", s.Index, s.DecodeTokens, prefill, s.OtherTokens))
		return time.Duration(1+s.DecodeTokens+prefill) * time.Millisecond
	})
	cfg := SimConfig{Engine: Config{NumBlocks: 100, MaxNumSeqs: 8, MaxNumBatchedTokens: 64, MaxModelLen: 512, ChunkedPrefill: true}, Replicas: 2}
	s, err := NewSim(cfg, timer, nil)
	require.NoError(t, err)
	for i, n := range []int{40, 20, 10} {
		require.NoError(t, s.Submit(0, Request{ID: uint64(i), PromptTokens: n, MaxTokens: 2 + i%2}))
	}
	require.Error(t, s.Submit(0, Request{ID: 1, PromptTokens: 5}), "an ID that the other replica holds")
	var got []string
	for at, ok := s.Next(); ok; at, ok = s.Next() {
		for _, em := range s.Advance(at, nil) {
			got = append(got, fmt.Sprintf("%d@%d by %d", em.ID, em.Due.Milliseconds(), em.Replica))
		}
	}
	// 0 and 2 are at home in replica 0, 1 in replica 1, which takes one step more:
	// then replica 0 runs along with one token.
	if want := "0:0+50/20 0:0+20/50 1:2+0/1 1:1+0/2 2:1+0/1"; strings.Join(steps, " ") != want {
		t.Errorf("steps %v\nwant  %s", steps, want)
	}
	if want := "0@51 by 0,2@51 by 0,1@51 by 1,0@54 by 0,2@54 by 0,1@54 by 1,1@56 by 1"; strings.Join(got, ",") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, ","), want)
	}
	st := s.Stats()
	if st.Steps != 3 || len(st.Replicas) != 2 || st.Replicas[1].GenerationTokens != 3 || st.GenerationTokens != 7 || st.Replicas[0].Steps != 3 {
		t.Errorf("stats %+v", st)
	}
}

// Every request ends whatever the replicas; blocks come back; and one replica is the
// engine as it is without any.
func TestReplicasEndEverything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := SimConfig{Engine: Config{
			NumBlocks: rapid.IntRange(20, 60).Draw(t, "blocks"), MaxNumSeqs: rapid.IntRange(1, 6).Draw(t, "seqs"),
			MaxNumBatchedTokens: rapid.IntRange(16, 128).Draw(t, "budget"), MaxModelLen: 200, ChunkedPrefill: true, PrefixCaching: rapid.Bool().Draw(t, "prefix"),
		}, FrontEnd: FrontEnd{TokenizePerToken: time.Microsecond, EventLoopWork: time.Millisecond, DeliveryPerChunk: 46 * time.Microsecond}}
		n := rapid.IntRange(1, 20).Draw(t, "requests")
		type asked struct {
			at           time.Duration
			prompt, most int
			abort        bool
		}
		reqs := make([]asked, n)
		at := time.Duration(0)
		for i := range reqs {
			at += time.Duration(rapid.IntRange(0, 5000).Draw(t, "gap")) * time.Microsecond
			reqs[i] = asked{at, rapid.IntRange(1, 150).Draw(t, "prompt"), rapid.IntRange(1, 40).Draw(t, "output"), rapid.IntRange(0, 9).Draw(t, "abort") == 0}
		}
		run := func(replicas int) (string, *Sim) {
			cfg.Replicas = replicas
			s, err := NewSim(cfg, StepTimerFunc(func(s *StepShape) time.Duration {
				return time.Duration(500+10*s.DecodeTokens+s.OtherTokens+len(s.Chunks)) * time.Microsecond
			}), nil)
			if err != nil {
				t.Fatal(err)
			}
			var b strings.Builder
			note := func(out []Emission) {
				for _, em := range out {
					fmt.Fprintln(&b, em.ID, em.Due, em.First, em.Tokens, em.Finish)
				}
			}
			for i, r := range reqs {
				for next, ok := s.Next(); ok && next < r.at; next, ok = s.Next() {
					note(s.Advance(next, nil))
				}
				if err := s.Submit(r.at, Request{ID: uint64(i), PromptTokens: r.prompt, MaxTokens: r.most}); err != nil {
					t.Fatal(err)
				}
				if r.abort {
					s.Abort(r.at, uint64(i))
				}
			}
			for next, ok := s.Next(); ok; next, ok = s.Next() {
				note(s.Advance(next, nil))
			}
			return b.String(), s
		}
		none, _ := run(0)
		if one, _ := run(1); one != none {
			t.Fatalf("one replica:\n%s\nnone:\n%s", one, none)
		}
		for k := 2; k <= 3; k++ {
			_, s := run(k)
			st := s.Stats()
			if st.FreeBlocks != st.UsableBlocks || st.UsableBlocks != k*(cfg.Engine.NumBlocks-1) || st.Running+st.Waiting+st.FrontEnd != 0 {
				t.Fatalf("%d replicas: %+v", k, st)
			}
			if ended := st.Finished[FinishLength] + st.Finished[FinishAbort]; ended != int64(n) {
				t.Fatalf("%d replicas: %d of %d ended", k, ended, n)
			}
		}
	})
}
