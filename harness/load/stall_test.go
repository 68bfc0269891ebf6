package load

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/glm46/glm46/harness/measure"
	"github.com/glm46/glm46/mockvllm"
)

// mockInMemory serves a mock inside a synctest bubble, in virtual time.
func mockInMemory(t *testing.T, o mockvllm.Options) Target {
	t.Helper()
	m, err := mockvllm.New(o)
	require.NoError(t, err)
	require.NoError(t, m.Start(t.Context()))
	l := newMemoryListener()
	srv := m.HTTPServer()
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() {
		srv.Close()
		<-done
		require.NoError(t, m.Close())
	})
	return Target{BaseURL: "http://memory", Model: "zai-org/GLM-4.6", Dial: l.dial, Version: "0.11.1", Features: FeaturesOf("0.11.1")}
}

// TestStallBehindCap: an open loop with a cap on requests in flight, and all of
// those in flight stall for 2 s. Latency from the schedule shows the wait of the
// requests that could not be sent, latency from send does not, and the client is
// not blamed for it.
func TestStallBehindCap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		scenario, err := mockvllm.ParseScenario("stall.yaml", []byte("version: 1\nrequests:\n- match: {from: 10, to: 13}\n  at_token: 2\n  stall: 2s\n"))
		require.NoError(t, err)
		target := mockInMemory(t, mockvllm.Options{Args: mockArgs(), Pace: &mockvllm.Pace{TTFT: 50 * ms, ITL: 10 * ms}, Scenario: scenario})
		var rec memory
		spec := Spec{
			Level: "r10", Concurrency: 4, Arrival: Arrival{Process: Constant, RatePerSecond: 10}, Samples: samples(100, 20),
			Salt: "stall", Warmup: WarmupSpec{Skip: true},
		}
		out, err := Run(t.Context(), target, spec, &rec, nil)
		require.NoError(t, err)
		run, err := Finish(target, spec, out, measure.Records(rec.records), FinishInput{})
		require.NoError(t, err)
		m := run.Metrics
		require.Equal(t, 100, m.Completed)
		near(t, "TTFT, longest", m.TTFT.Max, 50, 1)
		// The stalled four were sent at 1.1 to 1.4 s and ended 2.07 s later (the paced
		// mock makes up for a stall at once); the request of 1.5 s went when the first
		// of them had ended.
		near(t, "E2E, longest: a stalled request", m.E2EL.Max, 50+2*10+2000, 1)
		near(t, "wait, longest", m.ClientQueueTime.Max, 1100+2070-1500, 1)
		near(t, "TTFT from the schedule, longest", m.TTFTFromSchedule.Max, 1670+50, 1)
		near(t, "E2E from the schedule, longest", m.E2ELIncludingClientQueue.Max, 2070, 1)
		near(t, "lag, longest", m.SendLagMaxMS, 0, 1)
		waited := 0
		for _, r := range rec.main() {
			if r.Slot > 0 {
				waited++
				require.Greater(t, r.Slot, r.Intended)
			}
			require.Less(t, r.Lag(), ms)
		}
		require.Greater(t, waited, 20)
		require.NotContains(t, run.Validity.Reasons, measure.ReasonClientSaturated, run.Validity.Details)
		// What the file holds gives the same.
		again := roundTrip(t, rec.records)
		back, err := measure.Summarize(measure.Records(again), measure.SummaryOptions{OpenLoop: true})
		require.NoError(t, err)
		require.Equal(t, m.SendLagP99MS, back.SendLagP99MS)
		require.Equal(t, m.TTFTFromSchedule, back.TTFTFromSchedule)
	})
}

// roundTrip writes records as lines and reads them back.
func roundTrip(t *testing.T, records []*measure.Record) []*measure.Record {
	t.Helper()
	var out []*measure.Record
	for _, r := range records {
		line, err := r.AppendJSON(nil)
		require.NoError(t, err)
		back := &measure.Record{}
		require.NoError(t, measure.ParseRecord(line, back))
		out = append(out, back)
	}
	return out
}
