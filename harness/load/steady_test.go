package load

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/glm46/glm46/harness/measure"
)

func TestSteadiness(t *testing.T) {
	feed := func(s *steadiness, from, to, gap time.Duration, batch int64, prefilling int64) {
		for at := from; at < to; at += gap {
			s.gap(at, gap, batchKey(batch, prefilling))
		}
	}
	for _, tt := range []struct {
		name   string
		feed   func(*steadiness)
		ok     bool
		change float64
	}{
		{"steady", func(s *steadiness) { feed(s, 0, 10*time.Second, 100*ms, 16, 0) }, true, 0},
		{"4 % faster", func(s *steadiness) {
			feed(s, 0, 5*time.Second, 100*ms, 16, 0)
			feed(s, 5*time.Second+ms, 10*time.Second, 96*ms, 16, 0)
		}, true, 0.04},
		{"20 % faster", func(s *steadiness) {
			feed(s, 0, 5*time.Second, 100*ms, 16, 0)
			feed(s, 5*time.Second+ms, 10*time.Second, 80*ms, 16, 0)
		}, true, 0.2},
		{"faster because the batch is smaller", func(s *steadiness) {
			feed(s, 0, 5*time.Second, 100*ms, 16, 0)
			feed(s, 5*time.Second+ms, 10*time.Second, 50*ms, 4, 0)
		}, false, 0},
		{"slower because of prefills, equal where they are alike", func(s *steadiness) {
			feed(s, 0, 5*time.Second, 100*ms, 16, 0)
			feed(s, 5*time.Second+ms, 10*time.Second, 400*ms, 16, 3)
			feed(s, 6*time.Second+ms, 7*time.Second, 100*ms, 16, 0)
		}, true, 0},
		{"too few gaps", func(s *steadiness) { feed(s, 0, 10*time.Second, time.Second, 16, 0) }, false, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSteadiness(1)
			tt.feed(s)
			_, _, _, ok, _ := s.state(10 * time.Second)
			require.False(t, ok, "not every slot is at work")
			s.full(1)
			_, _, _, ok, _ = s.state(9 * time.Second)
			require.False(t, ok, "two windows have not passed")
			_, _, change, ok, reason := s.state(10*time.Second + 1)
			require.Equal(t, tt.ok, ok, reason)
			near(t, "change", change, tt.change, 0.005)
		})
	}
	require.Equal(t, 200*ms, newSteadiness(100).window)
	require.Equal(t, 500*ms, newSteadiness(10).window)
}

func TestSteadinessIsBounded(t *testing.T) {
	s := newSteadiness(1)
	s.full(1)
	for i := range 1_000_000 {
		s.gap(time.Duration(i)*10*time.Microsecond, 100*ms, 1)
	}
	require.Less(t, len(s.gaps), steadyMemory)
	_, _, change, ok, _ := s.state(10*time.Second + 1)
	require.True(t, ok)
	require.Zero(t, change)
}

// TestWarmupEndsWhenSteady: long enough warm-up requests make two windows, and
// the hand-over comes before the limit of requests.
func TestWarmupEndsWhenSteady(t *testing.T) {
	for _, tt := range []struct {
		name   string
		steady bool
	}{{"steady", true}, {"still changing", false}} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &scripted{answer: func(a asked) []step {
					steps := completion(a.MaxTokens, 200*ms, 200*ms, 10)
					if !tt.steady { // every gap is 1.5 % shorter than the one before
						factor := 1.0
						for i := range steps {
							steps[i].after = time.Duration(float64(steps[i].after) * factor)
							factor *= 0.985
						}
					}
					return steps
				}}
				target, stop := serveMemory(t, s)
				defer stop()
				var rec memory
				spec := Spec{Level: "c2", Concurrency: 2, Samples: samples(60, 64), Warmup: WarmupSpec{MaxRequests: 20}}
				out, err := Run(t.Context(), target, spec, &rec, nil)
				require.NoError(t, err)
				require.Equal(t, tt.steady, out.Warmup.Steady, "%+v", out.Warmup)
				require.False(t, out.Warmup.TooFew)
				run, err := Finish(target, spec, out, measure.Records(rec.records), FinishInput{})
				require.NoError(t, err)
				if tt.steady {
					require.Less(t, out.Warmup.Requests, 8)
					require.True(t, run.Validity.OK)
				} else {
					require.Equal(t, 20, out.Warmup.Requests)
					require.Equal(t, []measure.Reason{measure.ReasonWarmupNotSteady}, run.Validity.Reasons)
				}
			})
		})
	}
}
