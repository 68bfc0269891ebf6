package load

import (
	"cmp"
	"fmt"
	"time"

	"github.com/glm46/glm46/harness/measure"
)

// Finish computes metrics and verdict of a level from its records and makes its
// run.json; the caller adds Experiment, Server, GPU, Scheduler and Dataset.
func Finish(target Target, spec Spec, out *Outcome, records measure.Source, in FinishInput) (*measure.RunJSON, error) {
	m, err := measure.Summarize(records, measure.SummaryOptions{MockSpeed: spec.MockSpeed, OpenLoop: !spec.Arrival.closed(), SLO: spec.SLO, Each: in.Each})
	if err != nil {
		return nil, fmt.Errorf("load: metrics of level %s: %w", spec.Level, err)
	}
	run := measure.IncompleteRun()
	run.SetMetrics(m)
	describe(run, target, spec, out)
	client := out.Client
	client.SendLagP50MS, client.SendLagP99MS = m.SendLagP50MS, m.SendLagP99MS
	client.EventsPerSecond = m.EventsPerSecond
	run.Client = &client
	checked, text := measure.CountersCheck(m.All, out.Before, out.After)
	run.Tokens = &measure.TokensInfo{
		Source: string(cmp.Or(m.TokenSource, measure.TokensFromNone)), Client: m.All, Checked: checked, Mismatches: m.LengthMismatches,
		TokensPerEvent: m.TokensPerEvent, CachedTokens: m.CachedTokens,
	}
	if text != "" {
		run.Tokens.Checked += ": " + text
	}
	prefix := prefixFacts(spec, out, m)
	if out.Before != nil && out.After != nil {
		run.Tokens.ServerCounter = map[string]float64{
			"requests":          out.After.SuccessTotal() - out.Before.SuccessTotal(),
			"aborted":           out.After.Aborted() - out.Before.Aborted(),
			"prompt_tokens":     out.After.PromptTokens - out.Before.PromptTokens,
			"generation_tokens": out.After.GenerationTokens - out.Before.GenerationTokens,
		}
		run.KV = &measure.KVInfo{
			UsageMax: out.Series.KVUsageMax, WaitingMax: out.Series.WaitingMax, RunningMax: out.Series.RunningMax,
			Preemptions: out.Series.Preemptions, PrefixQueries: prefix.Queries, PrefixHits: prefix.Hits, ExpectedPrefixShare: spec.ExpectedPrefixShare,
		}
	}
	concurrency := spec.Concurrency
	if n := len(spec.Samples); spec.Arrival.closed() && concurrency > n {
		concurrency = n
	}
	run.Validity = measure.Verdict(measure.VerdictInput{
		Metrics: m, Client: client, Warmup: out.Warmup, Concurrency: concurrency, OpenLoop: !spec.Arrival.closed(),
		Mock: spec.Mock || out.After != nil && out.After.MockLate != nil, MockSpeed: spec.MockSpeed, MockLateShare: mockLateShare(spec, out, m),
		Before: out.Before, HandOver: out.HandOver, After: out.After, Series: out.Series, Prefix: prefix,
		Little: littleFacts(out, m), GPU: in.GPU, ConfigMismatches: in.ConfigMismatches, MaxClockStepMS: out.Clock.MaxStepMS,
		Interrupted: out.EndReason, OutputCapped: max(in.OutputCapped, capped(spec)), Quality: in.Quality,
	})
	return run, nil
}

// mockLateShare is how late the mock's median token of the main phase was, as a
// share of a step; nil where the server is not the mock.
func mockLateShare(spec Spec, out *Outcome, m *measure.Metrics) *float64 {
	if out.HandOver == nil || out.After == nil || m.ITL.Median <= 0 {
		return nil
	}
	late, ok := out.After.MockLate.MedianSince(out.HandOver.MockLate)
	if !ok {
		return nil
	}
	step := m.ITL.Median / 1e3 / max(1, spec.MockSpeed) // wall time
	share := late / step
	return &share
}

func capped(spec Spec) int {
	n := 0
	for _, s := range spec.Samples {
		if s.Capped {
			n++
		}
	}
	return n
}

// describe fills in what is known of the load.
func describe(run *measure.RunJSON, target Target, spec Spec, out *Outcome) {
	kind := "openai"
	if target.Endpoint == measure.EndpointChat || target.Endpoint == "" && len(spec.Samples) > 0 && len(spec.Samples[0].Messages) > 0 {
		kind = "openai-chat"
	}
	run.Identity = measure.Identity{
		Date: time.Unix(0, out.Clock.StartUnixNS).Format("20060102-150405"), EndpointType: kind, Backend: kind, Label: kind,
		ModelID: target.Model, TokenizerID: target.Model, NumPrompts: len(spec.Samples),
	}
	process := spec.Arrival.Process
	if process == "" {
		process = Closed
	}
	burstiness := 1.0
	if process == Gamma && spec.Arrival.Burstiness > 0 {
		burstiness = spec.Arrival.Burstiness
	}
	run.Traffic = measure.Traffic{RequestRate: "inf", Burstiness: burstiness}
	if !spec.Arrival.closed() {
		run.Traffic.RequestRate = spec.Arrival.RatePerSecond
	}
	if spec.Concurrency > 0 {
		c := spec.Concurrency
		run.Traffic.MaxConcurrency = &c
	}
	if ramp := spec.Arrival.Ramp; ramp != nil {
		run.Traffic.RampUpStrategy, run.Traffic.RampUpStartRPS, run.Traffic.RampUpEndRPS = &ramp.Strategy, &ramp.StartPerSecond, &ramp.EndPerSecond
	}
	run.Level = measure.LevelInfo{
		Name: spec.Level, Arrival: string(process), Concurrency: spec.Concurrency, RequestRate: spec.Arrival.RatePerSecond,
		Requests: len(spec.Samples), Seed: spec.Seed, NaturalStop: spec.NaturalStop,
	}
	if process == Gamma {
		run.Level.Burstiness = burstiness
	}
	if same := sameTarget(spec.Samples); same > 0 {
		run.Level.OutputTokens = same
	}
	run.Clock = out.Clock
	run.MockSpeed = spec.MockSpeed
	if spec.Mock && run.MockSpeed == 0 {
		run.MockSpeed = 1
	}
	warmup, request := out.Warmup, out.Request
	run.Warmup, run.Request = &warmup, &request
	run.SpecDecode = out.SpecDecode
	run.Server = &measure.ServerInfo{URL: target.BaseURL, Version: target.Version}
}

// sameTarget is the length that all samples ask for, 0 if they differ.
func sameTarget(samples []Sample) int {
	for _, s := range samples {
		if s.TargetTokens != samples[0].TargetTokens {
			return 0
		}
	}
	if len(samples) == 0 {
		return 0
	}
	return samples[0].TargetTokens
}

// prefixFacts of the main phase: hits since the hand-over. Where the server
// tells each request's cached tokens, those count: they are the main phase's own.
func prefixFacts(spec Spec, out *Outcome, m *measure.Metrics) measure.PrefixFacts {
	var p measure.PrefixFacts
	if spec.ExpectedPrefixShare != nil {
		p.ExpectedShare = *spec.ExpectedPrefixShare
	}
	if out.HandOver == nil || out.After == nil || !out.After.Has[measure.HasPrefix] {
		return p
	}
	p.Hits = out.After.PrefixHits - out.HandOver.PrefixHits
	p.Queries = out.After.PrefixQueries - out.HandOver.PrefixQueries
	// The counters are those of the server that answered last; what requests
	// tell of themselves covers all segments.
	p.PromptTokens = float64(m.CountedPromptTokens)
	if m.CachedTokens != nil {
		p.Hits, p.PromptTokens = float64(*m.CachedTokens), float64(m.PromptTokens)
	}
	p.Known = spec.ExpectedPrefixShare != nil
	return p
}

// littleFacts compares, over the steady window, the client's gauge of requests
// in flight with what the records say, and with the server's own count.
func littleFacts(out *Outcome, m *measure.Metrics) measure.LittleFacts {
	w := m.Window
	f := measure.LittleFacts{Completions: w.Completions, Predicted: w.MeanInFlight}
	length := (w.End - w.Start).Seconds()
	if length <= 0 || m.Segments > 1 || len(out.Gauge) < 2 {
		return f
	}
	from, okFrom := integralAt(out.Gauge, w.Start)
	to, okTo := integralAt(out.Gauge, w.End)
	f.Known = okFrom && okTo
	f.MeanInFlight = (to - from) / length
	for _, s := range out.Samples {
		if s.At > w.Start && s.At < w.End && s.Has[measure.HasRunning] && s.Has[measure.HasWaiting] {
			f.ServerSamples++
			f.ClientSampled += float64(s.InFlight)
			f.ServerInFlight += s.Running + s.Waiting
		}
	}
	if f.ServerSamples > 0 {
		f.ClientSampled /= float64(f.ServerSamples)
		f.ServerInFlight /= float64(f.ServerSamples)
	}
	return f
}

// integralAt interpolates the gauge; the integral is linear between points.
func integralAt(points []GaugePoint, at time.Duration) (float64, bool) {
	for i := 1; i < len(points); i++ {
		a, b := points[i-1], points[i]
		if at <= b.At {
			if at <= a.At {
				// The first request began a moment before its point was taken.
				return a.Integral - float64(a.InFlight)*(a.At-at).Seconds(), true
			}
			share := (at - a.At).Seconds() / (b.At - a.At).Seconds()
			return a.Integral + share*(b.Integral-a.Integral), true
		}
	}
	last := points[len(points)-1]
	return last.Integral, at <= last.At
}
