package selftest

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/glm46/glm46/harness"
	"github.com/glm46/glm46/harness/experiment"
	"github.com/glm46/glm46/harness/result"
)

// quick is a mock that answers soon, for checks in which times mean nothing.
var quick = []string{"--mock-ttft", "15ms", "--mock-itl", "3ms"}

// oneStream asks for one stream of n samples of the selftest's plan.
func oneStream(n int) experiment.Request {
	return experiment.Request{Experiments: []string{"T1"}, NumSamples: n, Concurrency: "1"}
}

// faults are what a mock can do to a request, with the class that the client
// must give it. On one stream the mock's requests 0 and 1 are the warm-up.
var faults = []struct{ rule, class string }{
	{`status: 429`, "http_429"},
	{`status: 400, message: "This model's maximum context length is 8192 tokens."`, "context_length"},
	{`status: 404`, "http_4xx"},
	{`status: 503`, "http_5xx"},
	{`at_token: 2, garbage: "data: {not json"`, "malformed_event"},
	{`at_token: 2, error: true`, "stream_error_event"},
	{`at_token: 2, cut: true`, "truncated"},
	{`no_done: true`, "truncated"},
	{`at_token: 2, reset: true`, "reset"},
	{`usage: missing`, "usage_missing"},
	{`length: -1`, "wrong_length"},
	{`at_token: 2, stall: forever`, "stalled"},
	{`delay: 30s`, "timeout"},
}

const warmupRequests = 2

func failedRequests(ctx context.Context, w *world, t *tally) {
	scenario := "version: 1\nrequests:\n"
	classes := map[string]int{}
	for i, f := range faults {
		scenario += fmt.Sprintf("  - {match: {index: [%d]}, %s}\n", warmupRequests+i, f.rule)
		classes[f.class]++
	}
	samples := len(faults) + 2
	m, err := w.run(ctx, campaign{
		dir: "failures/requests", plan: w.plan(ctx), request: oneStream(samples), speed: 1, args: quick, scenario: scenario,
		change: func(o *harness.Options) {
			// A silence of twice the idle limit on all streams is a server that
			// hangs, which would end the level.
			o.Limits.Total, o.Limits.Idle = 900*time.Millisecond, 500*time.Millisecond
		},
	})
	if t.err(err, "campaign") {
		return
	}
	want(t, "exit code", m.outcome.Code, 3)
	l, ok := m.onlyLevel(t)
	if !ok {
		return
	}
	for class, n := range classes {
		want(t, "requests that failed with "+class, int(l.run.Get("failures.by_class."+class).Int()), n)
	}
	want(t, "failed requests", int(l.run.Get("failed").Int()), len(faults))
	want(t, "finished requests", int(l.run.Get("completed").Int()), 2)
	l.wantReason(t, "failed_requests")
	// What failed stays out of the figures: the two that ended well decide them.
	t.add(Figure{Name: "total_output_tokens", Got: l.run.Get("total_output_tokens").Num, Truth: l.want["total_output_tokens"]})
	t.note("%d faults of a request, each with its class", len(faults))
}

// onlyLevel reads the only level of the only cell.
func (m *measurement) onlyLevel(t *tally) (*level, bool) {
	c := m.outcome.Cells[0]
	if len(c.Dirs) == 0 {
		t.fail("%s: no folder of results: %s", c.Cell.Label(), c.Reason)
		return nil, false
	}
	l, err := readLevel(c.Dirs[len(c.Dirs)-1], "c1", m.truths, m.options.Mock.Speed)
	if t.err(err, "read the results") {
		return nil, false
	}
	return l, true
}

// wantReason wants a code in a level's verdict.
func (l *level) wantReason(t *tally, code string) {
	for _, r := range l.run.Get("validity.reasons").Array() {
		if r.Str == code {
			return
		}
	}
	t.fail("%s: the verdict has no %s: %s", l.name, code, l.run.Get("validity").Raw)
}

// failedLengths lets every answer stop one token early.
func failedLengths(ctx context.Context, w *world, t *tally) {
	m, err := w.run(ctx, campaign{
		dir: "failures/lengths", plan: w.plan(ctx), request: oneStream(4), speed: 1, args: quick,
		scenario: "version: 1\nrequests:\n  - {match: {every: 2}, length: -1}\n",
	})
	if t.err(err, "campaign") {
		return
	}
	want(t, "exit code", m.outcome.Code, 3)
	if l, ok := m.onlyLevel(t); ok {
		l.wantReason(t, "output_length_mismatch")
		want(t, "wrong lengths", int(l.run.Get("failures.by_class.wrong_length").Int()), 2)
	}
	t.note("answers of another length than asked for: output_length_mismatch, exit code 3")
}

// engineDeath lets the engine die while it is measured.
func engineDeath(ctx context.Context, w *world, t *tally) {
	m, err := w.run(ctx, campaign{
		dir: "failures/death", plan: w.plan(ctx), request: oneStream(shortSamples), speed: 1, args: []string{"--mock-ttft", "60ms", "--mock-itl", "30ms"},
		scenario: "version: 1\nevents:\n  - {after: 2s, die: oom_run}\n",
	})
	if t.err(err, "campaign") {
		return
	}
	c := m.outcome.Cells[0]
	want(t, "exit code", m.outcome.Code, 4)
	want(t, "state", c.State, result.StateFailed)
	start := startJSON(c)
	want(t, "class of the death", start.Get("failed.class").Str, "oom_run")
	if !hasReason(start.Get("validity.reasons").Raw, "server_died") {
		t.fail("start.json has no server_died: %s", start.Get("validity").Raw)
	}
	if l, ok := m.onlyLevel(t); ok {
		l.wantReason(t, "interrupted")
		if n := l.run.Get("completed").Int(); n < 1 || n >= shortSamples {
			t.fail("%d of %d requests were kept", n, shortSamples)
		}
	}
	t.note("the engine's death ends the cell: server_died, exit code 4, what was measured is kept")
}

func hasReason(list, code string) bool { return strings.Contains(list, `"`+code+`"`) }

// configMismatch lets the engine run with another configuration than asked for.
func configMismatch(ctx context.Context, w *world, t *tally) {
	for _, lenient := range []bool{false, true} {
		m, err := w.run(ctx, campaign{
			dir: fmt.Sprintf("failures/config-%v", lenient), plan: w.plan(ctx), request: oneStream(1), speed: 1, args: quick,
			scenario: "version: 1\neffective: {enable_prefix_caching: false}\n",
			change:   func(o *harness.Options) { o.Lenient = lenient },
		})
		if t.err(err, "campaign") {
			return
		}
		want(t, "exit code", m.outcome.Code, 3)
		start := startJSON(m.outcome.Cells[0])
		if !hasReason(start.Get("validity.reasons").Raw, "effective_config_mismatch") {
			t.fail("start.json has no effective_config_mismatch: %s", start.Get("validity").Raw)
		}
		want(t, "setting that differs", start.Get("effective_config_diff.0.setting").Str+start.Get("effective_diff.0.setting").Str, "enable-prefix-caching")
		runs, _ := filepath.Glob(filepath.Join(m.outcome.Cells[0].Dirs[0], "c1", "run.json"))
		want(t, fmt.Sprintf("levels measured with --lenient=%v", lenient), len(runs) == 1, lenient)
	}
	t.note("another configuration than asked for: effective_config_mismatch, exit code 3, measured only with --lenient")
}

// unknownFlag gives the engine a flag that it does not have, known beforehand
// and found by the engine.
func unknownFlag(ctx context.Context, w *world, t *tally) {
	m, err := w.run(ctx, campaign{dir: "failures/flag", plan: w.plan(ctx), request: oneStream(1), speed: 1, args: append(slices.Clone(quick), "--no-such-flag")})
	if t.err(err, "campaign") {
		return
	}
	c := m.outcome.Cells[0]
	want(t, "exit code", m.outcome.Code, 4)
	want(t, "state", c.State, result.StateRefused)
	want(t, "class", startJSON(c).Get("refused.class").Str, "unknown_flag")
	if !strings.Contains(c.EngineText, "--no-such-flag") {
		t.fail("what the engine said is not told: %q", c.EngineText)
	}
	text := strings.Replace(string(planFile), `vllm_args: [--seed, "7"]`, `vllm_args: [--no-such-flag]`, 1)
	plan, err := experiment.Parse("plan.yaml", []byte(text))
	if t.err(err, "plan with an unknown flag") {
		return
	}
	m, err = w.run(ctx, campaign{dir: "failures/flag-known", plan: plan, request: oneStream(1), speed: 1})
	if t.err(err, "campaign") {
		return
	}
	want(t, "exit code of a refusal known beforehand", m.outcome.Code, 4)
	want(t, "known beforehand", m.outcome.Cells[0].KnownBefore, true)
	t.note("an unknown flag is a refusal with the engine's words, exit code 4, before and after a start")
}

// startFailures are ways in which a start fails: the mock's scenario, the class
// that must be recorded, and whether that is a refusal.
var startFailures = []struct {
	name, scenario, class string
	refused               bool
	limit                 time.Duration
}{
	{"unknown-flag", "unknown_flag: --enable-expert-parallel", "unknown_flag", true, 0},
	{"oom-load", "fail: oom_load", "oom_load", false, 0},
	{"oom-capture", "fail: oom_capture, at: 0.6", "oom_capture", false, 0},
	{"kv-too-small", "fail: kv_too_small", "kv_too_small", true, 0},
	{"no-kv-memory", "fail: no_kv_memory", "no_kv_memory", true, 0},
	{"weights", "fail: weights_missing", "weights_missing", false, 0},
	{"gpu-busy", "fail: gpu_busy", "gpu_busy", false, 0},
	{"nccl", "fail: nccl", "nccl", false, 0},
	{"exit", "die: load", "killed", false, 0},
	{"hang", "hang: load", "start_timeout", false, 1500 * time.Millisecond},
	{"never-healthy", "never_healthy: true", "start_timeout", false, 1500 * time.Millisecond},
}

func startFailureSteps() []step {
	var out []step
	for _, f := range startFailures {
		out = append(out, step{name: "failures/start-" + f.name, limit: 60 * time.Second, do: func(ctx context.Context, w *world, t *tally) {
			m, err := w.run(ctx, campaign{
				dir: "failures/start-" + f.name, plan: w.plan(ctx), request: oneStream(1), speed: 1, args: quick,
				scenario: "version: 1\nstart: {" + f.scenario + "}\n",
				change: func(o *harness.Options) {
					if f.limit > 0 {
						o.StartTimeout = f.limit
					}
				},
			})
			if t.err(err, "campaign") {
				return
			}
			c := m.outcome.Cells[0]
			state := result.StateFailed
			if f.refused {
				state = result.StateRefused
			}
			want(t, "exit code", m.outcome.Code, 4)
			want(t, "state", c.State, state)
			start := startJSON(c)
			want(t, "class", start.Get("failed.class").Str, f.class)
			if start.Get("failed.lines.#").Int() == 0 && f.class != "start_timeout" && f.class != "killed" {
				t.fail("no log line shows the cause")
			}
			t.note("%s, %s: %.90s", c.State, f.class, start.Get("failed.lines.0").Str)
		}})
	}
	return out
}
