package measure

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// good is a level without fault: 200 requests at concurrency 10.
func good() VerdictInput {
	has := map[string]bool{HasSuccess: true, HasPrompt: true, HasGeneration: true, HasPrefix: true, HasRunning: true, HasWaiting: true}
	before := &Counters{Has: has, Success: map[string]float64{"length": 5, "abort": 1}, PromptTokens: 50, GenerationTokens: 70}
	after := &Counters{Has: has, Success: map[string]float64{"length": 225, "abort": 1}, PromptTokens: 22050, GenerationTokens: 11070}
	return VerdictInput{
		Metrics: &Metrics{
			Requests: 200, Completed: 200, LengthForced: 200, PromptTokens: 20000, CompletionTokens: 10000, FailuresByClass: map[Class]int{}, Segments: 1,
			All:  TokenTotals{Requests: 220, OK: 220, PromptTokens: 22000, CompletionTokens: 11000},
			TTFT: Distribution{Median: 100}, E2EL: Distribution{Median: 1000},
			Window: Window{Completions: 180, MeanInFlight: 10},
		},
		Client:      ClientStats{SendLagP99MS: 1, CPUShare: 0.1, Cores: 2, EventsPerSecond: 1000, Calibration: &Certificate{EventsPerSecond: 400000}},
		Warmup:      Warmup{Steady: true},
		Concurrency: 10,
		Before:      before, HandOver: before, After: after,
		Prefix: PrefixFacts{Known: true, PromptTokens: 20000},
		Little: LittleFacts{Known: true, MeanInFlight: 10, Predicted: 10.1, Completions: 180, ServerSamples: 20, ClientSampled: 10, ServerInFlight: 9.9},
		GPU:    &GPUFacts{Samples: 100},
	}
}

func TestVerdict(t *testing.T) {
	late := 0.2
	for _, tt := range []struct {
		name   string
		change func(*VerdictInput)
		reason Reason // the only one
		label  Label
		detail string
	}{
		{"good", func(*VerdictInput) {}, "", "", ""},
		{"1 % failed", func(in *VerdictInput) { in.Metrics.Completed, in.Metrics.Failed = 198, 2 }, "", "", ""},
		{"more failed", func(in *VerdictInput) {
			in.Metrics.Completed, in.Metrics.Failed, in.Metrics.FailuresByClass = 197, 3, map[Class]int{Stalled: 3}
		}, ReasonFailedRequests, "", "3 of 200 requests failed (stalled 3)"},
		{"nothing finished", func(in *VerdictInput) { in.Metrics.Completed, in.Metrics.Window.Completions = 0, 180 }, ReasonFailedRequests, "", "no request"},
		{"0.5 % of wrong length", func(in *VerdictInput) { in.Metrics.LengthMismatches = 1 }, "", "", ""},
		{"more of wrong length", func(in *VerdictInput) { in.Metrics.LengthMismatches = 2 }, ReasonOutputLengthMismatch, "", "2 of 200"},
		{"configuration", func(in *VerdictInput) { in.ConfigMismatches = []string{"kv_cache_dtype: wanted fp8, runs auto"} }, ReasonEffectiveConfigMismatch, "", "wanted fp8"},
		{"hits from elsewhere", func(in *VerdictInput) { in.Prefix.Hits = 300 }, ReasonPrefixHitsUnexpected, "", "300 of 20000"},
		{"a few hits", func(in *VerdictInput) { in.Prefix.Hits = 190 }, "", "", ""},
		{"hits missing", func(in *VerdictInput) { in.Prefix.ExpectedShare = 0.04 }, ReasonPrefixHitsUnexpected, "", "allows 4.0 %"},
		{"shared prompts, some hits", func(in *VerdictInput) { in.Prefix.ExpectedShare, in.Prefix.Hits = 0.9, 9000 }, "", "", ""},
		{"shared prompts, no hits", func(in *VerdictInput) { in.Prefix.ExpectedShare = 0.9 }, ReasonPrefixHitsUnexpected, "", "no hits at all"},
		{"hits of preempted requests", func(in *VerdictInput) { in.Prefix.Hits, in.Series.Preemptions = 3000, 4 }, "", LabelPreemptions, "4 preemptions"},
		{"prompt tokens disagree", func(in *VerdictInput) { in.After.PromptTokens++ }, ReasonServerCountersDisagree, "", "client 22000, server 22001"},
		{"generation tokens disagree", func(in *VerdictInput) { in.After.GenerationTokens-- }, ReasonServerCountersDisagree, "", "generation tokens"},
		{"requests disagree", func(in *VerdictInput) { in.After.Success = map[string]float64{"length": 226, "abort": 1} }, ReasonServerCountersDisagree, "", "requests: client 220, server 221"},
		{"within 0.1 % after a failure", func(in *VerdictInput) {
			in.Metrics.All.Requests, in.After.GenerationTokens = 221, 11080
		}, "", "", ""},
		{"beyond 0.1 % after a failure", func(in *VerdictInput) {
			in.Metrics.All.Requests, in.After.GenerationTokens = 221, 11090
		}, ReasonServerCountersDisagree, "", ""},
		{"server restarted", func(in *VerdictInput) { in.After.PromptTokens = 10 }, ReasonServerCountersDisagree, "", "went back"},
		{"late sending", func(in *VerdictInput) { in.Client.SendLagP99MS = 5.1 }, ReasonClientSaturated, "", "5.1 ms late"},
		{"CPU", func(in *VerdictInput) { in.Client.CPUShare = 0.81 }, ReasonClientSaturated, "", "81 %"},
		{"near the ceiling", func(in *VerdictInput) { in.Client.EventsPerSecond = 80001 }, ReasonClientSaturated, "", "ceiling"},
		{"saturated while sped up", func(in *VerdictInput) { in.Client.CPUShare, in.MockSpeed, in.Mock = 0.99, 100, true }, "", Label(ReasonClientSaturated), "99 %"},
		{"warm-up not steady", func(in *VerdictInput) { in.Warmup = Warmup{Change: 0.2} }, ReasonWarmupNotSteady, "", "20.0 %"},
		{"short warm-up", func(in *VerdictInput) { in.Warmup = Warmup{TooFew: true} }, "", Label(ReasonWarmupNotSteady), "too few"},
		{"warm-up sped up", func(in *VerdictInput) { in.Warmup, in.MockSpeed = Warmup{Change: 0.2}, 50 }, "", Label(ReasonWarmupNotSteady), ""},
		{"Little's law", func(in *VerdictInput) { in.Little.Predicted = 10.4 }, ReasonLittlesLaw, "", "4.0 % apart"},
		{"Little's law, server", func(in *VerdictInput) { in.Little.ServerInFlight = 9.7 }, ReasonLittlesLaw, "", "running and waiting"},
		{"Little's law, few server samples", func(in *VerdictInput) { in.Little.ServerInFlight, in.Little.ServerSamples = 5, 3 }, "", "", ""},
		{"clock", func(in *VerdictInput) { in.MaxClockStepMS = 1000 }, ReasonClockStepped, "", "1000 ms"},
		{"slewed clock", func(in *VerdictInput) { in.MaxClockStepMS = 2 }, "", "", ""},
		{"throttled", func(in *VerdictInput) { in.GPU.ThrottledShare = 0.02 }, ReasonGPUThrottled, "", "2.0 %"},
		{"power", func(in *VerdictInput) { in.GPU.PowerCappedShare = 0.5 }, "", LabelPowerCapped, "50.0 %"},
		{"foreign process", func(in *VerdictInput) { in.GPU.ForeignProcesses = []string{"pid 7 (python) on GPU 3"} }, ReasonGPUForeignProcess, "", "pid 7"},
		{"GPU error", func(in *VerdictInput) { in.GPU.Errors = []string{"XID 79 on GPU 3"} }, ReasonGPUError, "", "XID 79"},
		{"quality", func(in *VerdictInput) { in.Quality.Degraded = "agreement 0.71" }, ReasonQualityDegraded, "", "0.71"},
		{"interrupted", func(in *VerdictInput) { in.Interrupted = "SIGTERM" }, ReasonInterrupted, "", "SIGTERM"},
		{"waited for KV", func(in *VerdictInput) { in.Series.KVBoundSamples = 3 }, "", LabelKVAdmissionBound, "KV blocks"},
		{"queue", func(in *VerdictInput) { in.Metrics.TTFT.Median = 501 }, "", LabelQueueBound, "50 %"},
		{"few samples", func(in *VerdictInput) { in.Metrics.Completed = 29 }, "", LabelFewSamples, "29 requests"},
		{"no window", func(in *VerdictInput) {
			in.Concurrency = 100
			in.Little.Known = false
			in.Metrics.Window.Completions = 500
		}, "", LabelNoSteadyWindow, "concurrency 100"},
		{"few completions", func(in *VerdictInput) { in.Metrics.Window.Completions, in.Little.Completions = 49, 49 }, "", LabelFewCompletions, "49 completions"},
		{"capped", func(in *VerdictInput) { in.OutputCapped = 100 }, "", LabelOutputCapped, "100 samples"},
		{"resumed", func(in *VerdictInput) { in.Metrics.Segments = 2 }, "", LabelResumed, "2 segments"},
		{"mock", func(in *VerdictInput) { in.Mock = true }, "", LabelMock, ""},
		{"sped up", func(in *VerdictInput) { in.Mock, in.MockSpeed = true, 100 }, "", LabelSpedUp, "100 times"},
		{"mock late", func(in *VerdictInput) { in.MockLateShare = &late }, "", LabelMockLate, "20 %"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := good()
			tt.change(&in)
			v := Verdict(in)
			want := []Reason{}
			if tt.reason != "" {
				want = append(want, tt.reason)
			}
			if !slices.Equal(v.Reasons, want) || v.OK != (tt.reason == "") {
				t.Errorf("got %v, ok %v, want %v: %v", v.Reasons, v.OK, want, v.Details)
			}
			if tt.label != "" && !slices.Contains(v.Labels, tt.label) {
				t.Errorf("no label %s among %v", tt.label, v.Labels)
			}
			if tt.label == "" && tt.reason == "" && len(v.Labels) > 0 {
				t.Errorf("labels %v", v.Labels)
			}
			if tt.detail != "" && !strings.Contains(fmt.Sprint(v.Details), tt.detail) {
				t.Errorf("details %v say nothing of %q", v.Details, tt.detail)
			}
			for _, r := range v.Reasons {
				require.NotEmpty(t, v.Details[string(r)])
			}
			for _, l := range v.Labels {
				require.NotEmpty(t, v.Details[string(l)])
			}
		})
	}
}

func TestVerdictNotChecked(t *testing.T) {
	// A server without counters, and nothing known of the GPUs: no reason comes
	// of what could not be looked at.
	in := good()
	in.Before, in.After, in.HandOver, in.GPU, in.Prefix, in.Little = nil, nil, nil, nil, PrefixFacts{}, LittleFacts{}
	in.Warmup = Warmup{Skipped: true}
	v := Verdict(in)
	require.True(t, v.OK, v.Reasons)
	for _, r := range []Reason{ReasonServerCountersDisagree, ReasonPrefixHitsUnexpected, ReasonLittlesLaw, ReasonWarmupNotSteady} {
		if !strings.HasPrefix(v.Details[string(r)], NotChecked) {
			t.Errorf("%s: %q", r, v.Details[string(r)])
		}
	}
}

func TestEveryReasonIsReachable(t *testing.T) {
	in := VerdictInput{
		Metrics:          &Metrics{Completed: 1, Failed: 1, LengthForced: 1, LengthMismatches: 1, All: TokenTotals{Requests: 1, OK: 1}},
		Client:           ClientStats{CPUShare: 1},
		ConfigMismatches: []string{"x"}, Prefix: PrefixFacts{Known: true, Hits: 9, PromptTokens: 9},
		Before: good().Before, After: good().After, Warmup: Warmup{Change: 1},
		Little:         LittleFacts{Known: true, Completions: 100, MeanInFlight: 1, Predicted: 2},
		MaxClockStepMS: 100, GPU: &GPUFacts{ThrottledShare: 1, ForeignProcesses: []string{"x"}, Errors: []string{"x"}},
		Interrupted: "x", Quality: Quality{Degraded: "x"},
	}
	got := append(Verdict(in).Reasons, IncompleteValidity().Reasons...)
	for _, want := range []Reason{
		ReasonFailedRequests, ReasonOutputLengthMismatch, ReasonEffectiveConfigMismatch, ReasonPrefixHitsUnexpected, ReasonServerCountersDisagree,
		ReasonClientSaturated, ReasonWarmupNotSteady, ReasonLittlesLaw, ReasonClockStepped, ReasonGPUThrottled, ReasonGPUForeignProcess, ReasonGPUError,
		ReasonInterrupted, ReasonIncomplete, ReasonQualityDegraded,
	} {
		if !slices.Contains(got, want) {
			t.Errorf("%s was not given", want)
		}
	}
}
