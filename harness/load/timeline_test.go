package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/glm46/glm46/harness/measure"
)

const ms = time.Millisecond

// one runs a single request of the main phase against a scripted answer.
func one(t *testing.T, sample Sample, features Features, limits Limits, steps []step) (*measure.Record, *measure.RunJSON) {
	t.Helper()
	s := &scripted{answer: func(asked) []step { return steps }}
	target, stop := serveMemory(t, s)
	defer stop()
	target.Features = features
	var rec memory
	spec := Spec{Level: "c1", Concurrency: 1, Samples: []Sample{sample}, Warmup: WarmupSpec{Skip: true}, Limits: limits}
	out, err := Run(t.Context(), target, spec, &rec, nil)
	require.NoError(t, err)
	require.Len(t, rec.records, 1)
	run, err := Finish(target, spec, out, measure.Records(rec.records), FinishInput{})
	require.NoError(t, err)
	return rec.records[0], run
}

// chat event with a delta and, where count >= 0, a running usage.
func chat(delta string, finish string, count int) string {
	usage := ""
	if count >= 0 {
		usage = fmt.Sprintf(`,"usage":{"prompt_tokens":50,"total_tokens":%d,"completion_tokens":%d}`, 50+count, count)
	}
	return fmt.Sprintf(`data: {"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[{"index":0,"delta":%s,"logprobs":null,"finish_reason":%s}]%s}`+"\n\n", delta, finish, usage)
}

func TestTimelines(t *testing.T) {
	messages := json.RawMessage(`[{"role":"user","content":"Say something long about nothing"}]`)
	running := Features{ForcedLength: true, ContinuousUsage: true, CacheSalt: true}
	for _, tt := range []struct {
		name     string
		tokens   int
		steps    []step
		ttft     float64 // ms
		ttfc     float64
		e2e      float64
		events   []int
		perEvent float64
		source   measure.TokenSource
	}{
		{"role first, together with the first token, then 1 to 6 tokens an event", 21, []step{
			{300 * ms, chat(`{"role":"assistant","content":""}`, "null", 0) + chat(`{"content":"a"}`, "null", 1)},
			{50 * ms, chat(`{"content":"bc"}`, "null", 3)}, {50 * ms, chat(`{"content":"def"}`, "null", 6)},
			{50 * ms, chat(`{"content":"ghij"}`, "null", 10)}, {50 * ms, chat(`{"content":"klmno"}`, "null", 15)},
			{50 * ms, chat(`{"content":"pqrstu"}`, `"length"`, 21)}, {0, usageEvent(50, 21)},
		}, 300, 300, 550, []int{1, 2, 3, 4, 5, 6}, 3.5, measure.TokensFromContinuousUsage},
		{"role alone long before the first token", 2, []step{
			{100 * ms, chat(`{"role":"assistant","content":""}`, "null", 0)}, {400 * ms, chat(`{"content":"a"}`, "null", 1)},
			{20 * ms, chat(`{"content":"b"}`, `"length"`, 2)}, {0, usageEvent(50, 2)},
		}, 500, 500, 520, []int{1, 1}, 1, measure.TokensFromContinuousUsage},
		{"reasoning before content", 4, []step{
			{100 * ms, chat(`{"role":"assistant","content":""}`, "null", 0) + chat(`{"reasoning":"hm","reasoning_content":"hm"}`, "null", 1)},
			{100 * ms, chat(`{"reasoning":"m","reasoning_content":"m"}`, "null", 2)}, {100 * ms, chat(`{"content":"yes","reasoning_content":null}`, "null", 3)},
			{100 * ms, chat(`{"content":"!"}`, `"length"`, 4)}, {0, usageEvent(50, 4)},
		}, 100, 300, 400, []int{1, 1, 1, 1}, 1, measure.TokensFromContinuousUsage},
		{"old reasoning field, no running usage", 3, []step{
			{100 * ms, chat(`{"role":"assistant","content":""}`, "null", -1) + chat(`{"reasoning_content":"hm"}`, "null", -1)},
			{100 * ms, chat(`{"content":"yes"}`, "null", -1)}, {100 * ms, chat(`{"content":"!"}`, `"length"`, -1)}, {0, usageEvent(50, 3)},
		}, 100, 200, 300, []int{1, 1, 1}, 1, measure.TokensFromUsage},
		{"tokens without text yet", 4, []step{
			{100 * ms, chat(`{"role":"assistant","content":""}`, "null", 0)}, {100 * ms, chat(`{"content":""}`, "null", 1)},
			{100 * ms, chat(`{"content":"€"}`, "null", 3)}, {100 * ms, chat(`{"content":""}`, `"length"`, 4)}, {0, usageEvent(50, 4)},
		}, 200, 200, 400, []int{1, 2, 1}, 4.0 / 3, measure.TokensFromContinuousUsage},
		{"text without new tokens", 2, []step{
			{100 * ms, chat(`{"content":"a"}`, "null", 1)}, {100 * ms, chat(`{"content":"b"}`, "null", 1)},
			{100 * ms, chat(`{"content":"c"}`, `"length"`, 2)}, {0, usageEvent(50, 2)},
		}, 100, 100, 300, []int{1, 1}, 1, measure.TokensFromContinuousUsage},
		{"several tokens an event, told only at the end", 6, []step{
			{100 * ms, chat(`{"content":"abc"}`, "null", -1)}, {100 * ms, chat(`{"content":"def"}`, `"length"`, -1)}, {0, usageEvent(50, 6)},
		}, 100, 100, 200, []int{1, 1}, 3, measure.TokensFromUsage},
		{"usage in the last event with text", 3, []step{
			{100 * ms, chat(`{"content":"a"}`, "null", -1)}, {100 * ms, chat(`{"content":"b"}`, "null", -1)},
			{100 * ms, chat(`{"content":"c"}`, `"length"`, 3)}, {0, "data: [DONE]\n\n"},
		}, 100, 100, 300, []int{1, 1, 1}, 1, measure.TokensFromUsage},
		{"running counts that stand at 0", 2, []step{
			{100 * ms, chat(`{"content":"a"}`, "null", 0)}, {100 * ms, chat(`{"content":"b"}`, `"length"`, 0)}, {0, usageEvent(50, 2)},
		}, 100, 100, 200, []int{1, 1}, 1, measure.TokensFromUsage},
		{"tool calls", 2, []step{
			{100 * ms, chat(`{"tool_calls":[{"index":0,"function":{"name":"f"}}]}`, "null", 1)},
			{100 * ms, chat(`{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]}`, `"length"`, 2)}, {0, usageEvent(50, 2)},
		}, 100, 100, 200, []int{1, 1}, 1, measure.TokensFromContinuousUsage},
		{"a stall in the middle below the limit", 3, []step{
			{100 * ms, chat(`{"content":"a"}`, "null", 1)}, {2 * time.Second, chat(`{"content":"b"}`, "null", 2)},
			{100 * ms, chat(`{"content":"c"}`, `"length"`, 3)}, {0, usageEvent(50, 3)},
		}, 100, 100, 2200, []int{1, 1, 1}, 1, measure.TokensFromContinuousUsage},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, run := one(t, Sample{ID: "a", Messages: messages, TargetTokens: tt.tokens}, running, Limits{Idle: 5 * time.Second}, tt.steps)
				require.Equal(t, measure.OK, r.Outcome, r.Detail)
				require.Equal(t, measure.EndpointChat, r.Endpoint)
				m := run.Metrics
				near(t, "TTFT", m.TTFT.Mean, tt.ttft, 0.001)
				near(t, "TTFC", m.TTFC.Mean, tt.ttfc, 0.001)
				near(t, "E2E", m.E2EL.Mean, tt.e2e, 0.001)
				near(t, "TPOT", m.TPOT.Mean, (tt.e2e-tt.ttft)/float64(tt.tokens-1), 0.001)
				near(t, "TPS", m.TPS.Mean, float64(tt.tokens)/tt.e2e*1e3, 0.001)
				near(t, "ITL", m.ITL.Mean, (tt.e2e-tt.ttft)/float64(len(tt.events)-1), 0.001)
				near(t, "tokens per event", m.TokensPerEvent, tt.perEvent, 1e-9)
				require.Equal(t, tt.tokens-1, m.ITLToken.N)
				require.Equal(t, tt.source, r.TokenSource)
				var events []int
				for _, e := range r.Events {
					events = append(events, e.Tokens)
				}
				require.Equal(t, tt.events, events)
			})
		})
	}
}

func TestErrorAfterTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, run := one(t, Sample{ID: "a", Prompt: "p", TargetTokens: 5}, Features{}, Limits{}, []step{
			{100 * ms, chat(`{"content":"a"}`, "null", -1)}, {100 * ms, chat(`{"content":"b"}`, "null", -1)},
			{100 * ms, `data: {"error":{"message":"EngineCore died","code":500}}` + "\n\ndata: [DONE]\n\n"},
		})
		require.Equal(t, measure.StreamErrorEvent, r.Outcome)
		require.Contains(t, r.Detail, "EngineCore died")
		require.Len(t, r.Events, 2)
		near(t, "end", (r.End - r.Sent).Seconds(), 0.3, 1e-6)
		require.Zero(t, run.Metrics.Completed)
		require.Zero(t, run.Metrics.TTFT.N, "a failed request is in the means")
	})
}

// TestOpenLoopBehindAStall: one request every 100 ms, at most 4 in flight, each
// takes 300 ms; for 2 s the server does nothing. Latency from the send does not
// show what the requests behind the stall waited, latency from the schedule does.
func TestOpenLoopBehindAStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		stalled := func() time.Duration { // what is left of the stall from 1 s to 3 s
			now := time.Since(begin)
			if now > time.Second && now < 3*time.Second {
				return 3*time.Second - now
			}
			return 0
		}
		s := &scripted{answer: func(a asked) []step { return completion(a.MaxTokens, stalled()+100*ms, 100*ms, 10) }}
		target, stop := serveMemory(t, s)
		defer stop()
		var rec memory
		spec := Spec{
			Level: "r10", Concurrency: 4, Arrival: Arrival{Process: Constant, RatePerSecond: 10}, Samples: samples(60, 3), Warmup: WarmupSpec{Skip: true},
		}
		out, err := Run(t.Context(), target, spec, &rec, nil)
		require.NoError(t, err)
		run, err := Finish(target, spec, out, measure.Records(rec.records), FinishInput{})
		require.NoError(t, err)
		m := run.Metrics
		require.Equal(t, 60, m.Completed)
		require.LessOrEqual(t, m.MaxConcurrentRequests, 4)
		for i, r := range rec.records {
			require.Equal(t, time.Duration(out.Clock.HandOverNS)+time.Duration(mustSeed(t, r)+1)*100*ms, r.Intended, "request %d was rescheduled", i)
		}
		// Four were in flight when the stall began, and waited up to 2 s; the
		// rest waited for a place and was answered at once.
		near(t, "longest TTFT from the send", m.TTFT.Max, 2000, 1)
		near(t, "median TTFT from the send", m.TTFT.Median, 100, 1)
		if m.TTFTFromSchedule.Median < 300 || m.TTFTFromSchedule.P90 < 1500 {
			t.Errorf("latency from the schedule hides the wait: median %v, p90 %v ms", m.TTFTFromSchedule.Median, m.TTFTFromSchedule.P90)
		}
		near(t, "schedule = send + queue", m.TTFTFromSchedule.Mean, m.TTFT.Mean+m.ClientQueueTime.Mean, 0.001)
	})
}

func mustSeed(t *testing.T, r *measure.Record) int {
	t.Helper()
	var n int
	_, err := fmt.Sscanf(r.SampleID, "s%03d", &n)
	require.NoError(t, err)
	return n
}

func TestRequestsAsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{answer: func(a asked) []step { return completion(a.MaxTokens, ms, ms, 10) }}
		target, stop := serveMemory(t, s)
		defer stop()
		target.Features = Features{CacheSalt: true, ContinuousUsage: true, ForcedLength: true}
		target.APIKey = "secret"
		set := samples(6, 100)
		set[3].Prompt, set[3].Messages = "", json.RawMessage(`[{"role":"user","content":"hello there"}]`)
		var rec memory
		out, err := Run(t.Context(), target, Spec{Level: "c2", Concurrency: 2, Samples: set, Salt: "start-1/c2"}, &rec, nil)
		require.NoError(t, err)
		salts := map[string]map[string]bool{}
		warm := 0
		for _, a := range s.asked {
			require.Equal(t, "Bearer secret", a.Header.Get("Authorization"))
			require.True(t, a.Stream)
			require.Equal(t, map[string]bool{"include_usage": true, "continuous_usage_stats": true}, a.Options)
			require.Contains(t, string(a.Raw), `"temperature":0,"top_p":1`)
			require.True(t, *a.IgnoreEOS)
			require.Equal(t, a.MaxTokens, *a.MinTokens)
			path := "/v1/completions"
			if *a.Seed == 3 {
				path = "/v1/chat/completions"
			} else {
				require.Equal(t, set[*a.Seed].Prompt, a.Prompt)
			}
			require.Equal(t, path, a.Path)
			phase := strings.Split(a.Header.Get("X-Request-Id"), "-")[2]
			if salts[phase] == nil {
				salts[phase] = map[string]bool{}
			}
			salts[phase][a.Salt] = true
			if phase == "w" {
				warm++
				require.Equal(t, 64, a.MaxTokens)
			} else {
				require.Equal(t, 100, a.MaxTokens)
			}
		}
		require.Equal(t, 4, warm, "twice the concurrency")
		require.Equal(t, warm, out.Warmup.Requests)
		require.Len(t, salts["m"], 1, "the main phase has one salt")
		for salt := range salts["w"] {
			require.NotContains(t, salts["m"], salt)
			require.NotEmpty(t, salt)
		}
		// The hand-over has no pause: every slot's main request follows at once.
		for _, r := range rec.main() {
			require.Less(t, r.Lag(), ms)
			require.GreaterOrEqual(t, r.Intended, time.Duration(0))
			require.GreaterOrEqual(t, r.Sent, time.Duration(out.Clock.HandOverNS))
		}
		require.Equal(t, saltField, out.Request.Salting)
		require.Len(t, out.Request.SHA256, 64)
	})
}

func TestNaturalStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{answer: func(a asked) []step { return completion(7, ms, ms, 10) }}
		target, stop := serveMemory(t, s)
		defer stop()
		var rec memory
		spec := Spec{Level: "c1", Concurrency: 1, Samples: samples(2, 100), NaturalStop: true, Warmup: WarmupSpec{Skip: true}}
		out, err := Run(t.Context(), target, spec, &rec, nil)
		require.NoError(t, err)
		require.Nil(t, s.asked[0].MinTokens)
		require.Nil(t, s.asked[0].IgnoreEOS)
		run, err := Finish(target, spec, out, measure.Records(rec.records), FinishInput{})
		require.NoError(t, err)
		require.Equal(t, 2, run.Metrics.Completed)
		require.Zero(t, run.Metrics.LengthMismatches)
	})
}

// TestHungServer: after some tokens the server says nothing more, on no stream,
// and takes new requests without answering. The level ends.
func TestHungServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		s := &scripted{answer: func(a asked) []step {
			steps := completion(a.MaxTokens, 100*ms, 100*ms, 10)
			at := time.Since(begin)
			for i := range steps {
				if at += steps[i].after; at > 3*time.Second {
					return append(steps[:i], step{time.Hour, ""})
				}
			}
			return steps
		}}
		target, stop := serveMemory(t, s)
		defer stop()
		var rec memory
		spec := Spec{Level: "c4", Concurrency: 4, Samples: samples(40, 10), Warmup: WarmupSpec{Skip: true}, Limits: Limits{Idle: 10 * time.Second}}
		out, err := Run(t.Context(), target, spec, &rec, nil)
		require.NoError(t, err)
		require.True(t, out.ServerDead)
		require.Contains(t, out.EndReason, "hangs")
		require.Less(t, time.Since(begin), time.Minute)
		run, err := Finish(target, spec, out, measure.Records(rec.records), FinishInput{})
		require.NoError(t, err)
		require.Contains(t, run.Validity.Reasons, measure.ReasonInterrupted)
		require.Positive(t, run.Metrics.Completed, "what was measured is kept")
		require.InDelta(t, 4, run.Metrics.FailuresByClass[measure.Stalled], 1, "a request may have ended as the server began to hang")
		require.Equal(t, 4, run.Metrics.FailuresByClass[measure.ServerDead])
	})
}

func TestServerProcessEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{answer: func(a asked) []step { return completion(a.MaxTokens, 100*ms, 100*ms, 10) }}
		target, stop := serveMemory(t, s)
		defer stop()
		done := make(chan struct{})
		target.Done = done
		go func() { time.Sleep(2500 * ms); close(done) }()
		var rec memory
		out, err := Run(t.Context(), target, Spec{Level: "c2", Concurrency: 2, Samples: samples(40, 10), Warmup: WarmupSpec{Skip: true}}, &rec, nil)
		require.NoError(t, err)
		require.True(t, out.ServerDead)
		require.False(t, out.Cancelled)
		dead := 0
		for _, r := range rec.records {
			if r.Outcome == measure.ServerDead {
				dead++
			}
		}
		require.Equal(t, 2, dead)
	})
}

func TestResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{answer: func(a asked) []step { return completion(a.MaxTokens, 100*ms, 100*ms, 10) }}
		target, stop := serveMemory(t, s)
		defer stop()
		var first, second memory
		spec := Spec{Level: "c2", Concurrency: 2, Samples: samples(10, 10), Salt: "x"}
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() { time.Sleep(6 * time.Second); cancel(errors.New("walltime")) }()
		out, err := Run(ctx, target, spec, &first, nil)
		require.NoError(t, err)
		require.True(t, out.Cancelled)
		require.Equal(t, "walltime", out.EndReason)
		spec.Done, spec.Segment = map[string]bool{}, 1
		var kept []*measure.Record
		for _, r := range first.records {
			if r.Phase == measure.PhaseMain && r.Outcome == measure.OK {
				spec.Done[r.SampleID] = true
				kept = append(kept, r)
			}
		}
		require.NotEmpty(t, kept)
		require.Less(t, len(kept), 10)
		out, err = Run(t.Context(), target, spec, &second, nil)
		require.NoError(t, err)
		run, err := Finish(target, spec, out, measure.Join(measure.Records(kept), measure.Records(second.records)), FinishInput{})
		require.NoError(t, err)
		require.True(t, run.Validity.OK, run.Validity.Details)
		require.Contains(t, run.Validity.Labels, measure.LabelResumed)
		require.Equal(t, 10, run.Metrics.Completed)
		near(t, "TTFT", run.Metrics.TTFT.Mean, 100, 0.001)
	})
}

func TestRecorderFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{answer: func(a asked) []step { return completion(a.MaxTokens, 100*ms, 100*ms, 10) }}
		target, stop := serveMemory(t, s)
		defer stop()
		full := errors.New("no space left on device")
		_, err := Run(t.Context(), target, Spec{Level: "c2", Concurrency: 2, Samples: samples(40, 10)}, failing{full}, nil)
		require.ErrorIs(t, err, full)
	})
}

type failing struct{ err error }

func (f failing) Record(*measure.Record) error { return f.err }
func (f failing) Flush() error                 { return nil }

// TestCounters: the server's counters are read before, at the hand-over and
// after the last response.
func TestCounters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		requests, prompt, generation, hits, preempted := 3, 100, 200, 0, 0
		s := &scripted{
			answer: func(a asked) []step {
				mu.Lock()
				defer mu.Unlock()
				requests, prompt, generation = requests+1, prompt+10, generation+a.MaxTokens
				return completion(a.MaxTokens, 100*ms, 10*ms, 10)
			},
			extra: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				fmt.Fprintf(w, "# TYPE vllm:request_success_total counter\nvllm:request_success_total{finished_reason=\"length\"} %d\n"+
					"# TYPE vllm:prompt_tokens_total counter\nvllm:prompt_tokens_total %d\n# TYPE vllm:generation_tokens_total counter\nvllm:generation_tokens_total %d\n"+
					"# TYPE vllm:prefix_cache_queries_total counter\nvllm:prefix_cache_queries_total %d\n# TYPE vllm:prefix_cache_hits_total counter\nvllm:prefix_cache_hits_total %d\n"+
					"# TYPE vllm:num_preemptions_total counter\nvllm:num_preemptions_total %d\n",
					requests, prompt, generation, prompt, hits, preempted)
			}),
		}
		target, stop := serveMemory(t, s)
		defer stop()
		zero := 0.0
		spec := Spec{Level: "c2", Concurrency: 2, Samples: samples(40, 100), Salt: "x", ExpectedPrefixShare: &zero}
		var lines []measure.ServerSample
		spec.Series = func(s measure.ServerSample) { lines = append(lines, s) }
		measured := func(extra int) *measure.RunJSON {
			var rec memory
			out, err := Run(t.Context(), target, spec, &rec, nil)
			require.NoError(t, err)
			out.After.GenerationTokens += float64(extra)
			run, err := Finish(target, spec, out, measure.Records(rec.records), FinishInput{})
			require.NoError(t, err)
			return run
		}
		run := measured(0)
		require.True(t, run.Validity.OK, run.Validity.Details)
		require.Equal(t, "equal", run.Tokens.Checked)
		require.EqualValues(t, 44, run.Tokens.ServerCounter["requests"])
		require.InDelta(t, 22*1.1, len(lines), 2, "one line a second")
		run = measured(1)
		require.Equal(t, []measure.Reason{measure.ReasonServerCountersDisagree}, run.Validity.Reasons)
		// Preemptions of the warm-up, which ends after some 1.5 s, are not the main
		// phase's.
		preempt := func(n int) { mu.Lock(); preempted += n; mu.Unlock() }
		go func() { time.Sleep(500 * ms); preempt(7) }()
		run = measured(0)
		require.Greater(t, run.Clock.HandOverNS, int64(600*ms))
		require.Zero(t, run.KV.Preemptions)
		require.NotContains(t, run.Validity.Labels, measure.LabelPreemptions)
		go func() { time.Sleep(10 * time.Second); preempt(2) }()
		run = measured(0)
		require.EqualValues(t, 2, run.KV.Preemptions)
		require.Contains(t, run.Validity.Labels, measure.LabelPreemptions)
		go func() { time.Sleep(10 * time.Second); mu.Lock(); hits = 50; mu.Unlock() }()
		run = measured(0)
		require.Equal(t, []measure.Reason{measure.ReasonPrefixHitsUnexpected}, run.Validity.Reasons)
	})
}

func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{answer: func(a asked) []step { return completion(a.MaxTokens, 200*ms, 20*ms, 10) }}
		target, stop := serveMemory(t, s)
		defer stop()
		var all []Progress
		var rec memory
		_, err := Run(t.Context(), target, Spec{Level: "c4", Concurrency: 4, Samples: samples(40, 100), Warmup: WarmupSpec{Skip: true}}, &rec, func(p Progress) { all = append(all, p) })
		require.NoError(t, err)
		middle := all[len(all)/2]
		require.Equal(t, 4, middle.InFlight)
		require.Equal(t, 40, middle.Total)
		near(t, "done", float64(middle.Done), 20, 2)
		near(t, "tokens/s", middle.TokensPerSecond, 4*100/2.18, 15)
		require.Equal(t, 200*ms, middle.TTFTP50)
		require.Equal(t, 20*ms, middle.TPOTP50)
		near(t, "left", middle.Left.Seconds(), 10.9, 1)
		last := all[len(all)-1]
		require.Equal(t, 40, last.Done)
		require.Zero(t, last.InFlight)
	})
}
