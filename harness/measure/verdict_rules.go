package measure

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Limits of the verdict. Source: docs/metrics.md, verdict.
const (
	failedShare         = 0.01
	mismatchShare       = 0.005
	prefixTolerance     = 0.01 // of prompt tokens
	prefixExactBelow    = 0.05 // expected share up to which it must be met
	counterTolerance    = 0.001
	sendLagLimitMS      = 5.0
	cpuShareLimit       = 0.80
	ceilingFactor       = 5.0
	littleTolerance     = 0.03
	littleServerTol     = 0.02
	littleCompletions   = 5 // times the concurrency
	littleServerSamples = 10
	// The two counts are not read at one instant: in this many samples a request
	// at its edge may be in one count and not in the other.
	littleEdges         = 2.0
	clockStepLimitMS    = 50.0
	throttledShare      = 0.01
	queueBoundShare     = 0.5
	mockLateShare       = 0.05
	fewSamplesBelow     = 30
	kvBoundSamplesLeast = 1
)

type judge struct {
	in VerdictInput
	v  Validity
}

// reason makes the result invalid.
func (j *judge) reason(r Reason, format string, args ...any) {
	if !slices.Contains(j.v.Reasons, r) {
		j.v.Reasons = append(j.v.Reasons, r)
	}
	j.detail(string(r), format, args...)
}

// label remarks.
func (j *judge) label(l Label, format string, args ...any) {
	if !slices.Contains(j.v.Labels, l) {
		j.v.Labels = append(j.v.Labels, l)
	}
	j.detail(string(l), format, args...)
}

func (j *judge) detail(code, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if old := j.v.Details[code]; old != "" && !strings.HasPrefix(old, NotChecked) {
		text = old + "; " + text
	}
	j.v.Details[code] = text
}

func (j *judge) notChecked(r Reason, why string) {
	if j.v.Details[string(r)] == "" {
		j.v.Details[string(r)] = NotChecked + ": " + why
	}
}

// spedUp: times are scaled back, and so are the errors of client and mock.
func (j *judge) spedUp() bool { return j.in.MockSpeed > 1 }

// Verdict applies the rules of docs/metrics.md. Reasons and labels come in the
// order of that table.
func Verdict(in VerdictInput) Validity {
	if in.Metrics == nil {
		in.Metrics = &Metrics{}
	}
	j := &judge{in: in, v: Validity{Reasons: []Reason{}, Labels: []Label{}, Details: map[string]string{}}}
	j.failures()
	j.lengths()
	if len(in.ConfigMismatches) > 0 {
		j.reason(ReasonEffectiveConfigMismatch, "%s", strings.Join(in.ConfigMismatches, "; "))
	}
	j.prefix()
	j.counters()
	j.client()
	j.warmup()
	j.little()
	j.machine()
	if q := in.Quality; q.Degraded != "" {
		j.reason(ReasonQualityDegraded, "%s", q.Degraded)
	} else if q.NotChecked != "" {
		j.notChecked(ReasonQualityDegraded, q.NotChecked)
	}
	if in.Interrupted != "" {
		j.reason(ReasonInterrupted, "%s", in.Interrupted)
	}
	j.labels()
	j.v.OK = len(j.v.Reasons) == 0
	return j.v
}

// failures and every code below: docs/metrics.md, verdict.
func (j *judge) failures() {
	m := j.in.Metrics
	finished := m.Completed + m.Failed
	if finished == 0 {
		if j.in.Interrupted == "" {
			j.reason(ReasonFailedRequests, "no request of the main phase finished")
		}
		return
	}
	if float64(m.Failed) > failedShare*float64(finished) {
		var classes []string
		for class, n := range m.FailuresByClass {
			classes = append(classes, fmt.Sprintf("%s %d", class, n))
		}
		slices.Sort(classes)
		j.reason(ReasonFailedRequests, "%d of %d requests failed (%s); at most %g %% may", m.Failed, finished, strings.Join(classes, ", "), 100*failedShare)
	}
}

func (j *judge) lengths() {
	m := j.in.Metrics
	if m.LengthForced > 0 && float64(m.LengthMismatches) > mismatchShare*float64(m.LengthForced) {
		j.reason(ReasonOutputLengthMismatch, "%d of %d requests did not end by length at the number of tokens asked for", m.LengthMismatches, m.LengthForced)
	}
}

func (j *judge) prefix() {
	p := j.in.Prefix
	switch {
	case !p.Known:
		j.notChecked(ReasonPrefixHitsUnexpected, "the server does not count prefix-cache hits, or the data set's share is unknown")
	case p.PromptTokens <= 0:
		j.notChecked(ReasonPrefixHitsUnexpected, "no prompt tokens")
	case j.in.Series.Preemptions > 0:
		j.notChecked(ReasonPrefixHitsUnexpected, fmt.Sprintf("preempted requests hit their own blocks; %.0f of %.0f prompt tokens were hits", p.Hits, p.PromptTokens))
	case p.ExpectedShare > prefixExactBelow:
		if p.Hits <= 0 {
			j.reason(ReasonPrefixHitsUnexpected, "no hits at all, but the prompts share %.1f %% of their tokens", 100*p.ExpectedShare)
		}
	case math.Abs(p.Hits-p.ExpectedShare*p.PromptTokens) > prefixTolerance*p.PromptTokens:
		j.reason(ReasonPrefixHitsUnexpected, "%.0f of %.0f prompt tokens came from the prefix cache (%.1f %%), the data set allows %.1f %%: the cache held prompts from elsewhere, or was not fresh",
			p.Hits, p.PromptTokens, 100*p.Hits/p.PromptTokens, 100*p.ExpectedShare)
	}
}

// CountersCheck compares what the client saw with the server's counters, over
// all requests since the server was last idle. It returns "equal",
// "within_0.1%", "disagree" or "not_checked", and what it found.
func CountersCheck(all TokenTotals, before, after *Counters) (string, string) {
	if before == nil || after == nil {
		return NotChecked, "no counters from the server"
	}
	for _, has := range []string{HasSuccess, HasPrompt, HasGeneration} {
		if !before.Has[has] || !after.Has[has] {
			return NotChecked, "the server does not count " + has
		}
	}
	if after.PromptTokens < before.PromptTokens || after.GenerationTokens < before.GenerationTokens {
		return "disagree", "the server's counters went back: it was restarted"
	}
	clean := all.OK == all.Requests && after.Aborted() == before.Aborted()
	worst := 0.0
	var faults []string
	for _, c := range []struct {
		name           string
		client, server float64
	}{
		{"requests", float64(all.OK), after.SuccessTotal() - before.SuccessTotal()},
		{"prompt tokens", float64(all.PromptTokens), after.PromptTokens - before.PromptTokens},
		{"generation tokens", float64(all.CompletionTokens), after.GenerationTokens - before.GenerationTokens},
	} {
		if c.client == c.server {
			continue
		}
		off := math.Abs(c.client-c.server) / max(c.client, c.server, 1)
		worst = max(worst, off)
		if clean || off > counterTolerance {
			faults = append(faults, fmt.Sprintf("%s: client %.0f, server %.0f", c.name, c.client, c.server))
		}
	}
	switch {
	case len(faults) > 0:
		return "disagree", strings.Join(faults, "; ")
	case worst > 0:
		return "within_0.1%", ""
	}
	return "equal", ""
}

func (j *judge) counters() {
	switch verdict, text := CountersCheck(j.in.Metrics.All, j.in.Before, j.in.After); verdict {
	case NotChecked:
		j.notChecked(ReasonServerCountersDisagree, text)
	case "disagree":
		j.reason(ReasonServerCountersDisagree, "%s", text)
	}
}

func (j *judge) client() {
	c := j.in.Client
	var faults []string
	if c.SendLagP99MS > sendLagLimitMS {
		faults = append(faults, fmt.Sprintf("requests left up to %.1f ms late (p99; limit %g ms)", c.SendLagP99MS, sendLagLimitMS))
	}
	if c.CPUShare > cpuShareLimit {
		faults = append(faults, fmt.Sprintf("the client used %.0f %% of its %d cores (limit %.0f %%)", 100*c.CPUShare, c.Cores, 100*cpuShareLimit))
	}
	if cal := c.Calibration; cal != nil && cal.EventsPerSecond > 0 && c.EventsPerSecond*ceilingFactor > cal.EventsPerSecond {
		faults = append(faults, fmt.Sprintf("%.0f events/s are within a factor %g of the ceiling of %.0f", c.EventsPerSecond, ceilingFactor, cal.EventsPerSecond))
	}
	switch {
	case len(faults) == 0:
	case j.spedUp():
		j.label(Label(ReasonClientSaturated), "%s", strings.Join(faults, "; "))
	default:
		j.reason(ReasonClientSaturated, "%s", strings.Join(faults, "; "))
	}
}

func (j *judge) warmup() {
	w := j.in.Warmup
	switch {
	case w.Steady:
	case w.Skipped:
		j.notChecked(ReasonWarmupNotSteady, "the warm-up was left out")
	case w.TooFew || j.spedUp():
		j.label(Label(ReasonWarmupNotSteady), "%s", orElse(w.Reason, "too few warm-up requests for two windows"))
	default:
		j.reason(ReasonWarmupNotSteady, "%s", orElse(w.Reason, fmt.Sprintf("the step gap still changed by %.1f %%", 100*w.Change)))
	}
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func (j *judge) little() {
	l := j.in.Little
	if !l.Known || l.Completions < littleCompletions*max(1, j.in.Concurrency) || l.MeanInFlight <= 0 {
		j.notChecked(ReasonLittlesLaw, fmt.Sprintf("the steady window holds %d completions, fewer than %d x concurrency", l.Completions, littleCompletions))
		return
	}
	if off := math.Abs(l.Predicted-l.MeanInFlight) / l.MeanInFlight; off > littleTolerance {
		j.reason(ReasonLittlesLaw, "%.2f requests in flight on the mean, but rate x mean E2E gives %.2f: %.1f %% apart", l.MeanInFlight, l.Predicted, 100*off)
		return
	}
	if j.spedUp() {
		// A request is between client and server for a moment of wall time, which
		// the speed makes a long one of the server's time.
		j.notChecked(ReasonLittlesLaw, "sped up: the server's count of requests is not compared")
		return
	}
	if l.ServerSamples < littleServerSamples || l.ClientSampled <= 0 {
		return
	}
	if off := math.Abs(l.ServerInFlight-l.ClientSampled) / l.ClientSampled; off > littleServerTol+littleEdges/(float64(l.ServerSamples)*l.ClientSampled) {
		j.reason(ReasonLittlesLaw, "the client had %.2f requests in flight, the server %.2f running and waiting: %.1f %% apart", l.ClientSampled, l.ServerInFlight, 100*off)
	}
}

func (j *judge) machine() {
	if step := math.Abs(j.in.MaxClockStepMS); step > clockStepLimitMS {
		j.reason(ReasonClockStepped, "the wall clock jumped by %.0f ms against the monotonic clock", step)
	}
	g := j.in.GPU
	if g == nil {
		return
	}
	if g.ThrottledShare > throttledShare {
		j.reason(ReasonGPUThrottled, "GPUs were slowed down by hardware or heat in %.1f %% of samples", 100*g.ThrottledShare)
	}
	if len(g.ForeignProcesses) > 0 {
		j.reason(ReasonGPUForeignProcess, "%s", strings.Join(g.ForeignProcesses, "; "))
	}
	if len(g.Errors) > 0 {
		j.reason(ReasonGPUError, "%s", strings.Join(g.Errors, "; "))
	}
	if g.PowerCappedShare > 0 {
		j.label(LabelPowerCapped, "the power limit held clocks down in %.1f %% of samples", 100*g.PowerCappedShare)
	}
}

func (j *judge) labels() {
	m, in := j.in.Metrics, j.in
	if in.Series.KVBoundSamples >= kvBoundSamplesLeast {
		j.label(LabelKVAdmissionBound, "requests waited for KV blocks in %d of %d samples", in.Series.KVBoundSamples, in.Series.Samples)
	}
	if in.Series.Preemptions > 0 {
		j.label(LabelPreemptions, "%.0f preemptions", in.Series.Preemptions)
	}
	if m.E2EL.Median > 0 && m.TTFT.Median > queueBoundShare*m.E2EL.Median {
		j.label(LabelQueueBound, "the median TTFT is %.0f %% of the median E2E latency", 100*m.TTFT.Median/m.E2EL.Median)
	}
	if m.Completed < fewSamplesBelow {
		j.label(LabelFewSamples, "%d requests completed, fewer than %d", m.Completed, fewSamplesBelow)
	}
	if in.Concurrency > 0 && !in.OpenLoop && 2*in.Concurrency >= m.Requests {
		j.label(LabelNoSteadyWindow, "concurrency %d is half of the %d requests or more: most of the level is ramp and drain", in.Concurrency, m.Requests)
	}
	if in.Concurrency > 0 && m.Window.Completions < littleCompletions*in.Concurrency {
		j.label(LabelFewCompletions, "the steady window holds %d completions, fewer than %d x concurrency", m.Window.Completions, littleCompletions)
	}
	if in.OutputCapped > 0 {
		j.label(LabelOutputCapped, "the target of %d samples was cut to fit max_model_len", in.OutputCapped)
	}
	if m.Segments > 1 {
		j.label(LabelResumed, "%d segments: request metrics pool them, rates come from those at full concurrency", m.Segments)
	}
	if in.Mock || in.MockSpeed > 0 {
		j.label(LabelMock, "the server is the mock")
	}
	if j.spedUp() {
		j.label(LabelSpedUp, "the mock ran %g times faster; times are scaled back, and so are the errors of client and mock", in.MockSpeed)
	}
	if in.MockLateShare != nil && *in.MockLateShare > mockLateShare {
		j.label(LabelMockLate, "the mock's median token came %.0f %% of a step late: scaled times are upper bounds", 100**in.MockLateShare)
	}
}
