package measure

import (
	"encoding/json"
	"iter"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

const ms = time.Millisecond

// stream makes a successful main record: sent at sent, first token after ttft,
// then events of these many tokens every gap.
func stream(intended, sent, ttft, gap time.Duration, tokens ...int) *Record {
	r := &Record{
		SampleID: "s", Phase: PhaseMain, Intended: intended, Sent: sent, FirstToken: sent + ttft, FirstContent: sent + ttft,
		PromptTokens: 100, TokenSource: TokensFromContinuousUsage, LengthForced: true, FinishReason: "length", Outcome: OK,
	}
	at := r.FirstToken
	for i, n := range tokens {
		if i > 0 {
			at += gap
		}
		r.Events = append(r.Events, Event{At: at, Tokens: n})
		r.CompletionTokens += n
	}
	r.LastToken, r.End = at, at
	r.RequestedTokens = r.CompletionTokens
	r.EventCount = len(tokens) + 2
	r.EventBytes = int64(100 * r.EventCount)
	return r
}

func repeat(n, times int) []int { return slices.Repeat([]int{n}, times) }

func summarize(t testing.TB, opt SummaryOptions, records ...*Record) *Metrics {
	t.Helper()
	m, err := Summarize(Records(records), opt)
	require.NoError(t, err)
	return m
}

func near(t testing.TB, name string, got, want float64) {
	t.Helper()
	if math.Abs(got-want) > 1e-9*max(1, math.Abs(want)) {
		t.Errorf("%s: got %v, want %v", name, got, want)
	}
}

func TestSummarizeOneStream(t *testing.T) {
	// Two tokens an event: 10 events, 20 tokens, 100 ms apart.
	r := stream(1000*ms, 1002*ms, 500*ms, 100*ms, repeat(2, 10)...)
	r.FirstContent += 300 * ms
	m := summarize(t, SummaryOptions{}, r)
	near(t, "ttft", m.TTFT.Mean, 500)
	near(t, "ttft from schedule", m.TTFTFromSchedule.Mean, 502)
	near(t, "ttfc", m.TTFC.Mean, 800)
	near(t, "e2el", m.E2EL.Mean, 1400)
	near(t, "tpot", m.TPOT.Mean, 900.0/19)
	near(t, "itl mean", m.ITL.Mean, 100)
	require.Equal(t, 9, m.ITL.N)
	// 9 gaps and 10 tokens that came with another one: 19 values.
	require.Equal(t, 19, m.ITLToken.N)
	near(t, "itl_token mean", m.ITLToken.Mean, 900.0/19)
	near(t, "itl_token median", m.ITLToken.Median, 0)
	near(t, "itl_token p90", m.ITLToken.P90, 100)
	near(t, "tokens per event", m.TokensPerEvent, 2)
	near(t, "tps", m.TPS.Mean, 20/1.4)
	near(t, "latency", m.LatencySeconds, 1.4)
	near(t, "duration", m.DurationSeconds, 1.4)
	near(t, "output throughput", m.OutputThroughput, 20/1.4)
	near(t, "total throughput", m.TotalTokenThroughput, 120/1.4)
	near(t, "request throughput", m.RequestThroughput, 1/1.4)
	near(t, "queue time", m.ClientQueueTime.Mean, 2)
	near(t, "e2el with queue", m.E2ELIncludingClientQueue.Mean, 1402)
	near(t, "lag", m.SendLagP99MS, 2)
	// Seconds since the first send: 500 ... 900 in the first (5 events), the rest
	// in the second.
	near(t, "peak", m.MaxOutputTokensPerSecond, 10)
}

func TestSummarizeScales(t *testing.T) {
	slow := stream(0, 10*ms, 500*ms, 100*ms, repeat(1, 20)...)
	fast := stream(0, ms/10, 5*ms, ms, repeat(1, 20)...)
	a := summarize(t, SummaryOptions{}, slow)
	b := summarize(t, SummaryOptions{MockSpeed: 100}, fast)
	for i, s := range a.stems() {
		near(t, s.stem, b.stems()[i].d.Mean, s.d.Mean)
	}
	near(t, "rate", b.OutputThroughput, a.OutputThroughput)
	near(t, "steady", b.SteadyOutputThroughput, a.SteadyOutputThroughput)
	near(t, "peak", b.MaxOutputTokensPerSecond, a.MaxOutputTokensPerSecond)
	near(t, "lag is wall time", b.SendLagP99MS, 0.1)
	near(t, "events/s are wall time", b.EventsPerSecond, 100*a.EventsPerSecond)
}

func TestSummarizeSingleToken(t *testing.T) {
	m := summarize(t, SummaryOptions{SLO: SLO{TPOT: ms}}, stream(0, ms, 10*ms, 0, 1))
	require.Zero(t, m.TPOT.N)
	require.Zero(t, m.ITL.N)
	require.NotNil(t, m.RequestGoodput)
	require.Positive(t, *m.RequestGoodput, "a request of one token has a TPOT of 0")
}

func TestSummarizeUntoldTokens(t *testing.T) {
	// Ten events, usage tells 30 tokens: which event held how many is unknown.
	r := stream(0, ms, 100*ms, 100*ms, repeat(1, 10)...)
	r.CompletionTokens, r.RequestedTokens, r.TokenSource = 30, 30, TokensFromUsage
	m := summarize(t, SummaryOptions{}, r)
	near(t, "tokens per event", m.TokensPerEvent, 3)
	near(t, "tpot", m.TPOT.Mean, 900.0/29)
	require.Equal(t, 29, m.ITLToken.N)
	near(t, "tokens in the window", m.Window.Tokens, 30)
}

// TestSteadyWindow: 8 streams ramp up over 8 s, hold for 40 s at 50 tokens/s
// each, and drain. The plateau's rate is 400 tokens/s.
func TestSteadyWindow(t *testing.T) {
	var records []*Record
	for i := range 8 {
		// Slot i: back-to-back requests of 4 s each from second i until second 48+i.
		for k := range 12 {
			sent := time.Duration(i)*time.Second + time.Duration(k)*4*time.Second + ms
			records = append(records, stream(sent, sent, 20*ms, 20*ms, repeat(1, 200)...))
			r := records[len(records)-1]
			r.End = r.Sent + 4*time.Second // the next one's intended
		}
	}
	m := summarize(t, SummaryOptions{}, records...)
	require.Equal(t, 8, m.Window.PeakInFlight)
	near(t, "window start", m.Window.StartS, 7)
	near(t, "window end", m.Window.EndS, 48)
	if got := m.SteadyOutputThroughput; math.Abs(got-400) > 4 {
		t.Errorf("steady rate: got %v, want the plateau's 400 within 1 %%", got)
	}
	if m.OutputThroughput > 360 {
		t.Errorf("whole-run rate %v holds ramp and drain", m.OutputThroughput)
	}
	near(t, "mean in flight", m.Window.MeanInFlight, 8)
}

func TestSummarizeFailures(t *testing.T) {
	ok := stream(0, ms, 100*ms, 20*ms, repeat(1, 50)...)
	bad := stream(0, ms, 100*ms, 20*ms, repeat(1, 3)...)
	bad.Outcome, bad.Detail, bad.FinishReason = Stalled, "no byte for 5m", ""
	wrong := stream(0, ms, 100*ms, 20*ms, repeat(1, 3)...)
	wrong.Outcome, wrong.RequestedTokens = WrongLength, 50
	early := stream(0, ms, 100*ms, 20*ms, repeat(1, 50)...)
	early.FinishReason = "stop"
	refused := &Record{SampleID: "r", Phase: PhaseMain, Outcome: ConnectRefused, Detail: "x", End: ms}
	given := &Record{SampleID: "c", Phase: PhaseMain, Outcome: Cancelled, Sent: ms, End: 2 * ms}
	warm := stream(0, ms, 7000*ms, 20*ms, 1)
	warm.Phase = PhaseWarmup
	m := summarize(t, SummaryOptions{}, ok, bad, wrong, early, refused, given, warm)
	require.Equal(t, 6, m.Requests)
	require.Equal(t, 2, m.Completed)
	require.Equal(t, 3, m.Failed)
	require.Equal(t, 1, m.Cancelled)
	require.Equal(t, map[Class]int{Stalled: 1, WrongLength: 1, ConnectRefused: 1}, m.FailuresByClass)
	require.Equal(t, 2, m.LengthMismatches)
	require.Equal(t, 3, m.LengthForced)
	near(t, "only successes", m.TTFT.Mean, 100)
	require.EqualValues(t, 100, m.CompletionTokens)
	require.Equal(t, TokenTotals{Requests: 7, OK: 3, PromptTokens: 500, CompletionTokens: 107}, m.All)
	require.Contains(t, m.Arrays.Errors, "no byte for 5m")
	require.Len(t, m.Arrays.InputLens, 6)
}

func TestSummarizeSegments(t *testing.T) {
	// Two segments with clocks of their own: rates add up over both, latencies pool.
	a := stream(0, ms, 100*ms, 100*ms, repeat(1, 10)...)
	b := stream(0, 5000*ms, 300*ms, 100*ms, repeat(1, 10)...)
	src := Join(Records([]*Record{a}), Records([]*Record{b}))
	m, err := Summarize(src, SummaryOptions{})
	require.NoError(t, err)
	require.Equal(t, 2, m.Segments)
	near(t, "ttft", m.TTFT.Mean, 200)
	near(t, "duration", m.DurationSeconds, 1.0+1.2)
	near(t, "rate", m.OutputThroughput, 20/2.2)
}

func TestSummarizeEmpty(t *testing.T) {
	m := summarize(t, SummaryOptions{SLO: SLO{TTFT: ms}})
	require.Zero(t, m.Completed)
	require.Zero(t, m.OutputThroughput)
	run := IncompleteRun()
	run.SetMetrics(m)
	_, err := json.Marshal(run)
	require.NoError(t, err)
}

// vllmKeys is the flat record of vLLM's benchmark.
// Source: vLLM 0.11.1, vllm/benchmarks/serve.py, and main of 2026 for the keys
// of the client's queue.
func vllmKeys() []string {
	keys := []string{
		"date", "endpoint_type", "backend", "label", "model_id", "tokenizer_id", "num_prompts", "request_rate", "burstiness", "max_concurrency",
		"ramp_up_strategy", "ramp_up_start_rps", "ramp_up_end_rps", "duration", "completed", "failed", "total_input_tokens", "total_output_tokens",
		"request_throughput", "request_goodput", "output_throughput", "total_token_throughput", "max_output_tokens_per_s", "max_concurrent_requests",
		"rtfx", "input_lens", "output_lens", "ttfts", "itls", "latencies", "start_times", "queue_times", "generated_texts", "errors",
		"spec_decode_acceptance_rate", "spec_decode_acceptance_length", "spec_decode_num_drafts", "spec_decode_draft_tokens",
		"spec_decode_accepted_tokens", "spec_decode_per_position_acceptance_rates",
	}
	for _, stem := range []string{"ttft", "tpot", "itl", "e2el", "client_queue_time", "e2el_including_client_queue"} {
		for _, part := range []string{"mean", "median", "std", "p50", "p90", "p95", "p99", "p99.9"} {
			keys = append(keys, part+"_"+stem+"_ms")
		}
	}
	return keys
}

func TestRunJSON(t *testing.T) {
	m := summarize(t, SummaryOptions{}, stream(0, ms, 100*ms, 20*ms, repeat(1, 50)...), stream(0, 2*ms, 120*ms, 21*ms, repeat(1, 60)...))
	run := IncompleteRun()
	run.SetMetrics(m)
	run.Label = `x"glm46_schema_version":7` // a value cannot break the layout
	run.RequestRate = "inf"
	run.SpecDecode = &SpecDecodeInfo{AcceptanceRate: 0.7, Drafts: 10, PerPositionShares: []float64{0.8, 0.6}}
	run.Validity = Validity{OK: true, Reasons: []Reason{}, Labels: []Label{LabelMock}}
	b, err := json.MarshalIndent(run, "", " ")
	require.NoError(t, err)
	var flat map[string]any
	require.NoError(t, json.Unmarshal(b, &flat))
	for _, key := range vllmKeys() {
		if _, ok := flat[key]; !ok {
			t.Errorf("no %s", key)
		}
	}
	for _, key := range []string{"tps", "mean_tps", "latency", "steady_output_throughput", "tokens_per_event", "mean_ttfc_ms", "mean_itl_token_ms", "mean_ttft_from_schedule_ms", "glm46_schema_version", "validity", "window", "stats", "failures"} {
		if _, ok := flat[key]; !ok {
			t.Errorf("no %s", key)
		}
	}
	near(t, "acceptance is percent", flat["spec_decode_acceptance_rate"].(float64), 70)
	near(t, "ttfts are seconds", flat["ttfts"].([]any)[0].(float64), 0.1)
	near(t, "std is the population's", flat["std_ttft_ms"].(float64), 10)
	stats := flat["stats"].(map[string]any)
	require.Contains(t, stats["too_few"], "p90_ttft_ms")
	require.NotContains(t, stats["too_few"], "p90_itl_ms")

	var back RunJSON
	require.NoError(t, json.Unmarshal(b, &back))
	again, err := json.MarshalIndent(&back, "", " ")
	require.NoError(t, err)
	require.Equal(t, string(b), string(again))

	parsed, err := ParseRun(b)
	require.NoError(t, err)
	require.NotZero(t, back.Metrics.Arrays)
	back.Metrics.Arrays = Arrays{}
	require.Equal(t, back, parsed, "all but the arrays")
	for _, bad := range []string{"", "{", "null", "[]", `{"level":7}`} {
		_, err := ParseRun([]byte(bad))
		require.ErrorContains(t, err, "run.json: ", bad)
	}
}

// TestSummarizeProperties: whatever the streams, the figures hold together.
func TestSummarizeProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 20).Draw(t, "n")
		var records []*Record
		total, first, last := 0, time.Duration(math.MaxInt64), time.Duration(0)
		for range n {
			sent := time.Duration(rapid.Int64Range(1, 1e10).Draw(t, "sent"))
			lag := time.Duration(rapid.Int64Range(0, int64(sent)).Draw(t, "lag"))
			ttft := time.Duration(rapid.Int64Range(1, 1e9).Draw(t, "ttft"))
			gap := time.Duration(rapid.Int64Range(0, 1e8).Draw(t, "gap"))
			tokens := rapid.SliceOfN(rapid.IntRange(1, 6), 1, 40).Draw(t, "tokens")
			r := stream(sent-lag, sent, ttft, gap, tokens...)
			records = append(records, r)
			total += r.CompletionTokens
			first, last = min(first, sent), max(last, r.End)
		}
		m, err := Summarize(Records(records), SummaryOptions{OpenLoop: rapid.Bool().Draw(t, "open")})
		if err != nil {
			t.Fatal(err)
		}
		check := func(what string, ok bool) {
			if !ok {
				t.Fatalf("%s: %+v", what, m)
			}
		}
		close := func(a, b float64) bool { return math.Abs(a-b) <= 1e-6*max(1, math.Abs(b)) }
		check("rate", close(m.OutputThroughput, float64(total)/(last-first).Seconds()))
		check("events", m.ITLToken.N == total-n)
		check("itl_token sums up to decode time", close(m.ITLToken.Mean*float64(m.ITLToken.N), m.ITL.Mean*float64(m.ITL.N)))
		check("e2e = ttft + decode", close(m.E2EL.Mean*float64(n), m.TTFT.Mean*float64(n)+m.ITL.Mean*float64(m.ITL.N)))
		check("window inside", m.Window.Share >= 0 && m.Window.Share <= 1)
		check("window tokens", m.Window.Tokens <= float64(total)+1e-6)
		check("in flight", m.Window.MeanInFlight <= float64(m.MaxConcurrentRequests)+1e-9 && m.MaxConcurrentRequests <= n)
		for _, s := range m.stems() {
			d := s.d
			check(s.stem, d.Min <= d.P50+1e-9 && d.P50 <= d.P90+1e-9 && d.P90 <= d.P99+1e-9 && d.P99 <= d.Max+1e-9)
		}
	})
}

// Records are read once while they are few, and each time when they are many;
// nobody can tell by what comes out.
func TestRemember(t *testing.T) {
	for _, tt := range []struct{ records, events, reads int }{{3, 5, 1}, {3, rememberedEvents / 2, 2}} {
		reads := 0
		one := Record{Events: make(Events, tt.events)}
		src := remember(func() iter.Seq2[*Record, error] {
			reads++
			return func(yield func(*Record, error) bool) {
				for i := range tt.records { // the same record, reused, as files are read
					one.Segment = i
					if !yield(&one, nil) {
						return
					}
				}
			}
		})
		for range src() { // not to its end: nothing to remember
			break
		}
		for range 2 {
			var seen []int
			for r, err := range src() {
				require.NoError(t, err)
				require.Len(t, r.Events, tt.events)
				seen = append(seen, r.Segment)
			}
			require.Equal(t, []int{0, 1, 2}, seen)
		}
		require.Equal(t, tt.reads+1, reads)
	}
}
