package selftest

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/tidwall/gjson"

	"github.com/glm46/glm46/harness/experiment"
	"github.com/glm46/glm46/harness/load"
	"github.com/glm46/glm46/harness/measure"
	"github.com/glm46/glm46/harness/result"
)

var errStop = errors.New("selftest stops it")

// interruptPhases stops the same run in its start-up, in a warm-up and in a
// level, then lets it finish: every record says interrupted, nothing is left, and
// in the end every sample was measured once.
func interruptPhases(ctx context.Context, w *world, t *tally) {
	const dir = "interrupt/phases"
	// In the mock's time; on the wall tokens come every 20 ms.
	pace := []string{"--mock-startup", "model", "--mock-ttft", "16s", "--mock-itl", "4s"}
	play := func(phase string, watch func(stop func()) *watcher) *measurement {
		stopped, stop := context.WithCancelCause(ctx)
		defer stop(nil)
		o := &watcher{}
		if watch != nil {
			o = watch(func() { stop(errStop) })
		}
		m, err := w.run(stopped, campaign{
			dir: dir, plan: w.plan(ctx), request: experiment.Request{Experiments: []string{"T1"}}, speed: 200, args: pace, watch: o,
		})
		if t.err(err, phase) {
			return nil
		}
		if left := processesNaming(w.path(dir)); len(left) > 0 {
			t.fail("%s: processes are left: %s", phase, strings.Join(left, "; "))
		}
		return m
	}
	stops := []struct {
		phase string
		watch func(stop func()) *watcher
	}{
		{"start-up", func(stop func()) *watcher {
			return &watcher{note: func(text string) {
				if strings.HasPrefix(text, "start-up: load") {
					stop()
				}
			}}
		}},
		{"warm-up", func(stop func()) *watcher {
			return &watcher{progress: func(p load.Progress) {
				if p.Phase == measure.PhaseWarmup && p.InFlight > 0 {
					stop()
				}
			}}
		}},
		{"level", func(stop func()) *watcher {
			return &watcher{progress: func(p load.Progress) {
				if p.Level == "c8" && p.Phase == measure.PhaseMain && p.Done > 0 {
					stop()
				}
			}}
		}},
	}
	for _, s := range stops {
		m := play(s.phase, s.watch)
		if m == nil {
			return
		}
		c := m.outcome.Cells[0]
		want(t, s.phase+": exit code", m.outcome.Code, 5)
		want(t, s.phase+": state", c.State, result.StateInterrupted)
		start := startJSON(c)
		if !hasReason(start.Get("validity.reasons").Raw, "interrupted") || start.Get("progress.why").Str != errStop.Error() {
			t.fail("%s: start.json says %s, %s", s.phase, start.Get("validity").Raw, start.Get("progress").Raw)
		}
		runs, _ := filepath.Glob(filepath.Join(last(c.Dirs), "*", "run.json"))
		for _, run := range runs {
			data, err := os.ReadFile(run)
			if v := gjson.ParseBytes(data).Get("validity"); err != nil || hasReason(v.Get("reasons").Raw, "incomplete") {
				t.fail("%s: %s says %s", s.phase, run, v.Raw)
			}
		}
	}
	m := play("end", nil)
	if m == nil || t.err(m.read(), "read the results") {
		return
	}
	m.checkOutcome(t)
	start := startJSON(m.outcome.Cells[0])
	if start.Get("continues").Str == "" {
		t.fail("the last start does not say which one it continues")
	}
	checkOnce(t, m)
	t.note("stopped in start-up, warm-up and level, then finished: every sample once, no process left")
}

func last(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[len(list)-1]
}

// checkOnce wants every sample of every level of the first cell exactly once.
func checkOnce(t *tally, m *measurement) {
	segments := 0
	for _, l := range m.levels[m.outcome.Cells[0].Cell.Label()] {
		seen := map[string]int{}
		tokens := 0
		for _, r := range l.main() {
			seen[r.sample]++
			tokens += r.tokens
			want(t, l.name+" "+r.sample+": tokens", r.tokens, r.requested)
			segments = max(segments, r.segment+1)
		}
		for sample, n := range seen {
			want(t, l.name+" "+sample+": times measured", n, 1)
		}
		want(t, l.name+": samples", len(seen), int(l.run.Get("num_prompts").Int()))
		want(t, l.name+": total_output_tokens", int(l.run.Get("total_output_tokens").Int()), tokens)
		if !hasReason(l.run.Get("validity.labels").Raw, "resumed") {
			t.fail("%s: no label \"resumed\"", l.name)
		}
	}
	if segments < 2 {
		t.fail("no level was continued: the stop came too late to test anything")
	}
}

// interruptSignal sends SIGTERM to the program itself, started as a job starts
// it, and starts it again.
func interruptSignal(ctx context.Context, w *world, t *tally) {
	if t.err(w.prepare(ctx), "prepare") {
		return
	}
	results := w.path("interrupt", "signal")
	environ := append(slices.Clone(w.environ), "EXP_NAME=5B_kv_bf16", "KV_CACHE_DTYPE=auto", "NUM_SAMPLES=6", "MAX_TOKENS=40",
		"GLM46_MOCK=1", "GLM46_MOCK_SPEED=100", "GLM46_NO_CERTIFICATE=1", "GLM46_DATA="+w.path(dataDir), "GLM46_RESULTS="+results)
	cmd := exec.CommandContext(ctx, w.program, "run")
	cmd.Dir, cmd.Env = w.dir, environ
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if t.err(cmd.Start(), "start") {
		return
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	pattern := filepath.Join(results, "5B_kv_bf16", "8k", "*", "c1", "run.json")
	for found := false; !found; {
		select {
		case err := <-ended:
			t.fail("run ended before its first level: %v: %s", err, stderr.String())
			return
		case <-ctx.Done():
			<-ended
			return
		case <-time.After(10 * time.Millisecond):
			matches, _ := filepath.Glob(pattern)
			found = len(matches) > 0
		}
	}
	family := descendants(cmd.Process.Pid)
	if t.err(cmd.Process.Signal(syscall.SIGTERM), "SIGTERM") {
		return
	}
	<-ended
	want(t, "exit code after SIGTERM", cmd.ProcessState.ExitCode(), 5)
	if len(family) == 0 && procExists() {
		t.fail("no server was running when the signal came")
	}
	for _, p := range family {
		if p.alive() {
			t.fail("process %d of the run is left: %s", p.pid, p.name)
		}
	}
	starts, err := result.ReadAll(results)
	if t.err(err, "read the results") || len(starts) != 1 {
		return
	}
	want(t, "state after SIGTERM", starts[0].State(), result.StateInterrupted)
	if p := starts[0].Start.Progress; p == nil || p.Why != "SIGTERM" {
		t.fail("start.json does not say that SIGTERM ended it: %+v", p)
	}
	again := exec.CommandContext(ctx, w.program, "run")
	again.Dir, again.Env = w.dir, environ
	out, err := again.Output()
	if t.err(err, "the same command again") {
		return
	}
	table := terminalTable(string(out))
	if status, _ := table.cell("5B*", "Status"); status != "valid" {
		t.fail("the same command again prints no valid row 5B*: %s", out)
	}
	t.note("SIGTERM ends a run with exit code 5 and no process of %d left; the same command finishes", len(family))
}
