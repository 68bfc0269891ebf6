package load

import (
	"context"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/glm46/glm46/harness/measure"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func near(t *testing.T, name string, got, want, tolerance float64) {
	t.Helper()
	if math.Abs(got-want) > tolerance {
		t.Errorf("%s: got %v, want %v within %v", name, got, want, tolerance)
	}
}

func TestClosedLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{answer: func(a asked) []step {
			return completion(a.MaxTokens, 200*time.Millisecond, 20*time.Millisecond, 100)
		}}
		target, stop := serveMemory(t, s)
		defer stop()
		var rec memory
		var last Progress
		spec := Spec{Level: "c4", Concurrency: 4, Samples: samples(20, 100), Salt: "x"}
		out, err := Run(t.Context(), target, spec, &rec, func(p Progress) { last = p })
		require.NoError(t, err)
		require.Empty(t, out.EndReason)
		main := rec.main()
		require.Len(t, main, 20)
		run, err := Finish(target, spec, out, measure.Records(rec.records), FinishInput{})
		require.NoError(t, err)
		m := run.Metrics
		near(t, "TTFT", m.TTFT.Mean, 200, 0.1)
		near(t, "TPOT", m.TPOT.Mean, 20, 0.01)
		near(t, "ITL p99", m.ITL.P99, 20, 0.01)
		near(t, "E2E", m.E2EL.Mean, 200+99*20, 0.1)
		near(t, "TPS", m.TPS.Mean, 100/2.18, 0.01)
		near(t, "latency", m.LatencySeconds, 2.18, 0.001)
		near(t, "steady rate", m.SteadyOutputThroughput, 4*100/2.18, 0.02*4*100/2.18)
		require.Equal(t, 4, m.MaxConcurrentRequests)
		require.Equal(t, 20, last.Done)
		t.Logf("%+v\n%+v\n%+v", run.Validity, *run.Warmup, m.Window)
		require.True(t, run.Validity.OK)
	})
}

func TestCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{answer: func(a asked) []step {
			return completion(a.MaxTokens, 200*time.Millisecond, 20*time.Millisecond, 100)
		}}
		target, stop := serveMemory(t, s)
		defer stop()
		var rec memory
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		spec := Spec{Level: "c4", Concurrency: 4, Samples: samples(20, 100), Salt: "x"}
		out, err := Run(ctx, target, spec, &rec, nil)
		require.NoError(t, err)
		require.True(t, out.Cancelled)
		run, err := Finish(target, spec, out, measure.Records(rec.records), FinishInput{})
		require.NoError(t, err)
		require.Equal(t, []measure.Reason{measure.ReasonInterrupted}, run.Validity.Reasons)
		require.Positive(t, run.Metrics.Completed)
		require.Equal(t, 4, run.Metrics.Cancelled)
	})
}

func TestTooFewFiles(t *testing.T) {
	require.NoError(t, enoughFiles(512, 1024))
	err := enoughFiles(1000, 1024)
	require.ErrorContains(t, err, "1000 requests in flight need some 1064 open files, and this process may have 1024")
}
