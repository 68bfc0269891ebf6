package selftest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"github.com/glm46/glm46/harness/launch"
)

// program is the real binary, built once.
var program string

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "glm46-selftest-build-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "glm46")
	if out, err := build(program); err != nil {
		fmt.Fprintf(os.Stderr, "%s\n%v\n", out, err)
		return 1
	}
	// As the command does it: what loses its parent comes to us and is seen.
	if err := launch.BecomeSubreaper(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return m.Run()
}

func build(path string, flags ...string) ([]byte, error) {
	cmd := exec.Command("go", append(append([]string{"build"}, flags...), "-o", path, "../..")...)
	return cmd.CombinedOutput()
}

// play runs checks and wants them all well.
func play(t *testing.T, only string) {
	t.Helper()
	reported := 0
	r, err := Run(t.Context(), Options{Executable: program, Dir: t.TempDir(), Only: only, Report: func(c Check) {
		reported++
		t.Logf("ok=%v %s %s (%.1f s)", c.OK, c.Name, c.Detail, c.Seconds)
		if !c.OK {
			t.Errorf("%s: %s", c.Name, c.Detail)
		}
	}})
	require.NoError(t, err)
	require.Equal(t, reported, len(r.Checks))
	require.NotEmpty(t, r.Checks)
	require.Equal(t, r.Failed() == 0, r.OK)
}

// The checks in which times mean nothing; the whole is `glm46 selftest`, which
// .ci/run starts, and TestWhole.
func TestChecksWithoutTimes(t *testing.T) {
	for _, only := range []string{"plan", "data", "pbs", "failures/config", "failures/flag", "failures/start", "interrupt/signal", "leftovers"} {
		t.Run(only, func(t *testing.T) { play(t, only) })
	}
}

func long(t *testing.T) {
	t.Helper()
	if os.Getenv("GLM46_LONG") == "" {
		t.Skip("takes a minute: set GLM46_LONG=1")
	}
}

func TestWhole(t *testing.T) {
	long(t)
	play(t, "")
}

// sabotages are faults that a build may have, each with the check that must
// fail. They are put into a copy of one file.
var sabotages = []struct{ name, file, old, new, only string }{
	{"TPOT over n tokens", "harness/measure/summarize.go",
		"tpot = append(tpot, ms(q.last-q.first)/float64(q.tokens-1))", "tpot = append(tpot, ms(q.last-q.first)/float64(q.tokens))", "pace"},
	{"TTFT from the schedule", "harness/measure/summarize.go",
		"ttft = append(ttft, ms(q.first-q.sent))", "ttft = append(ttft, ms(q.first-q.intended))", "bench"},
	{"throughput without the last token", "harness/measure/summarize.go",
		"tokens += float64(q.tokens)", "tokens += float64(q.tokens - 1)", "pace"},
	{"times read too early", "harness/load/clock.go",
		"return time.Since(c.start) }", "return time.Since(c.start) - 5*time.Millisecond }", "pace"},
	{"a rate over all for TPS", "harness/report/pick.go",
		"row.TPS, row.LatencySeconds = &l.TPS,", "row.TPS, row.LatencySeconds = &l.OutputThroughput,", "pace"},
	{"TPS in the table of throughput", "harness/report/write.go",
		"strconv.FormatFloat(l.OutputThroughput", "strconv.FormatFloat(l.TPS", "pace"},
	{"429 taken for 4xx", "harness/load/request.go",
		"return measure.HTTP429, detail", "return measure.HTTP4xx, detail", "failures/requests"},
	{"no look at the effective configuration", "harness/start.go",
		"vllm.CheckEffective(wanted, srv.facts)", "vllm.CheckEffective(wanted, srv.facts)[:0]", "failures/config"},
	{"samples sent again after a stop", "harness/level.go",
		"spec.Done[r.SampleID] = true", `spec.Done[r.SampleID+"x"] = true`, "interrupt/phases"},
}

// A sabotaged build must fail its selftest.
func TestSabotage(t *testing.T) {
	long(t)
	for _, s := range sabotages {
		t.Run(s.name, func(t *testing.T) {
			dir := t.TempDir()
			file, err := filepath.Abs(filepath.Join("..", "..", s.file))
			require.NoError(t, err)
			source, err := os.ReadFile(file)
			require.NoError(t, err)
			require.Equal(t, 1, strings.Count(string(source), s.old), "%s no longer has the line to break", s.file)
			broken := filepath.Join(dir, "broken.go")
			require.NoError(t, os.WriteFile(broken, []byte(strings.Replace(string(source), s.old, s.new, 1)), 0o666))
			overlay, err := json.Marshal(map[string]map[string]string{"Replace": {file: broken}})
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o666))
			sabotaged := filepath.Join(dir, "glm46")
			out, err := build(sabotaged, "-overlay", filepath.Join(dir, "overlay.json"))
			require.NoError(t, err, "%s", out)
			cmd := exec.CommandContext(t.Context(), sabotaged, "selftest", "--only", s.only)
			out, err = cmd.CombinedOutput()
			var exit *exec.ExitError
			require.ErrorAs(t, err, &exit, "%s", out)
			require.Equal(t, 3, exit.ExitCode(), "%s", out)
			require.Contains(t, string(out), "FAIL "+s.only)
		})
	}
}

// tokens of a request: due and written at the same times, in milliseconds.
func tokens(id string, arrival, first, gap int64, n int) truth {
	const ms = 1e6
	t := truth{id: id, arrival: arrival * ms, prompt: 100}
	for k := range int64(n) {
		at := (arrival + first + k*gap) * ms
		t.due, t.written = append(t.due, at), append(t.written, at)
	}
	return t
}

func TestSummarize(t *testing.T) {
	got := summarize([]lifetime{tokens("a", 1000, 100, 10, 11).lifetime(), tokens("b", 1200, 300, 20, 6).lifetime()}, 2)
	for key, want := range map[string]float64{
		"mean_ttft_ms": 400, "median_ttft_ms": 400, "std_ttft_ms": 200, "p90_ttft_ms": 560,
		"mean_tpot_ms": 30, "mean_e2el_ms": 600, "latency": 0.6,
		"mean_itl_ms": (10*20 + 5*40) / 15.0,
		"tps":         (11/0.4 + 6/0.8) / 2, "duration": 1.2, "output_throughput": 17 / 1.2, "request_throughput": 2 / 1.2,
		"total_token_throughput": 217 / 1.2, "completed": 2, "total_input_tokens": 200, "total_output_tokens": 17, "token_events": 17, "tokens_per_event": 1,
	} {
		require.InDelta(t, want, got[key], 1e-9, key)
	}
}

// Tokens that are due together went out together: one event.
func TestSummarizeBursts(t *testing.T) {
	burst := tokens("a", 0, 100, 10, 6)
	for i := range burst.due {
		burst.due[i] = burst.due[i/3*3]
		burst.written[i] = burst.due[i]
	}
	got := summarize([]lifetime{burst.lifetime()}, 1)
	require.InDelta(t, 3, got["tokens_per_event"], 1e-9)
	require.InDelta(t, 30, got["mean_itl_ms"], 1e-9)
	require.InDelta(t, 6, got["mean_itl_token_ms"], 1e-9)
	require.InDelta(t, 6, got["mean_tpot_ms"], 1e-9)
}

// written makes a level's folder, and start gives what the mock knows of it.
type written struct {
	dir    string
	truths map[string]truth
	run    map[string]any
	lines  []map[string]any
}

// honest is a level of four requests as a right client would write it down: each
// reading 0.1 ms after the mock's.
func honest(t *testing.T) *written {
	w := &written{dir: t.TempDir(), truths: map[string]truth{}, run: map[string]any{"clock": map[string]any{"start_unix_ns": 0}}}
	const late = 100_000
	var all []lifetime
	for i, n := range []int{4, 15, 26, 12} {
		tr := tokens(fmt.Sprintf("cmpl-r-m-%d", i), int64(1000+1000*i), 150, 30, n)
		w.truths[tr.id] = tr
		life := lifetime{sent: tr.arrival - late, first: tr.first() + late, last: tr.last() + late, end: tr.last() + 2*late, prompt: 100, tokens: n}
		events := [][2]int64{}
		for _, at := range tr.written {
			events = append(events, [2]int64{at + late, 1})
			life.chunks = append(life.chunks, at+late)
		}
		all = append(all, life)
		w.lines = append(w.lines, map[string]any{
			"request_id": fmt.Sprintf("r-m-%d", i), "sample_id": fmt.Sprint(i), "phase": "main", "outcome": "ok", "requested_tokens": n,
			"intended_ns": life.sent, "sent_ns": life.sent, "first_token_ns": life.first, "last_token_ns": life.last, "end_ns": life.end,
			"prompt_tokens": 100, "completion_tokens": n, "events": events,
		})
	}
	for key, v := range summarize(all, 1) {
		w.run[key] = v
	}
	return w
}

// read writes the folder and reads it as the selftest does.
func (w *written) read(t *testing.T) *level {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Join(w.dir, "c1"), 0o777))
	run, err := json.Marshal(w.run)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(w.dir, "c1", "run.json"), run, 0o666))
	var lines []byte
	for _, l := range w.lines {
		line, err := json.Marshal(l)
		require.NoError(t, err)
		lines = append(append(lines, line...), '\n')
	}
	enc, err := zstd.NewWriter(nil)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(w.dir, "c1", "requests.jsonl.zst"), enc.EncodeAll(lines, nil), 0o666))
	l, err := readLevel(w.dir, "c1", w.truths, 1)
	require.NoError(t, err)
	return l
}

func TestFiguresOfAnHonestLevel(t *testing.T) {
	l := honest(t).read(t)
	found := &tally{}
	found.add(l.figures()...)
	l.checkRecords(found)
	require.False(t, found.bad(), "%+v", found.check("x"))
}

// Each of these is a wrong formula or a wrong reading, and must show.
func TestFiguresOfADishonestLevel(t *testing.T) {
	scale := func(key string, by float64) func(*written) {
		return func(w *written) { w.run[key] = w.run[key].(float64) * by }
	}
	for name, change := range map[string]func(*written){
		"TPOT over n":                scale("mean_tpot_ms", (3/4.0+14/15.0+25/26.0+11/12.0)/4),
		"throughput, last token off": scale("output_throughput", 53/57.0),
		"TTFT twice":                 scale("mean_ttft_ms", 2),
		"a token too many":           scale("total_output_tokens", 58/57.0),
		"latency in ms":              scale("latency", 1000),
		"no TPS":                     func(w *written) { delete(w.run, "tps") },
		"p99 by nearest rank":        scale("p99_e2el_ms", 1.01),
		"first token late":           func(w *written) { w.lines[1]["first_token_ns"] = w.lines[1]["last_token_ns"] },
		"a count off":                func(w *written) { w.lines[2]["completion_tokens"] = 25 },
		"an event lost": func(w *written) {
			events := w.lines[2]["events"].([][2]int64)
			w.lines[2]["events"] = events[:len(events)-1]
		},
		"another clock": func(w *written) { w.run["clock"] = map[string]any{"start_unix_ns": 5_000_000} },
		"a failure":     func(w *written) { w.lines[0]["outcome"] = "reset" },
	} {
		t.Run(name, func(t *testing.T) {
			w := honest(t)
			change(w)
			l := w.read(t)
			found := &tally{}
			found.add(l.figures()...)
			l.checkRecords(found)
			if !found.bad() {
				t.Errorf("nothing was found: %+v", found.check(name))
			}
		})
	}
}

func TestUnknownRequest(t *testing.T) {
	w := honest(t)
	l := w.read(t)
	delete(w.truths, "cmpl-r-m-2")
	_, err := readLevel(w.dir, l.name, w.truths, 1)
	require.ErrorContains(t, err, "r-m-2")
}

func TestNumber(t *testing.T) {
	for text, want := range map[string][2]float64{"8.69": {8.69, 0.005}, "58.9s": {58.9, 0.05}, "28.9 !": {28.9, 0.05}, "12": {12, 0.5}} {
		v, rounding, ok := number(text)
		require.True(t, ok, text)
		require.InDelta(t, want[0], v, 1e-12)
		require.InDelta(t, want[1], rounding, 1e-12)
	}
	_, _, ok := number("-")
	require.False(t, ok)
}

func TestTables(t *testing.T) {
	md := markdownTable("# x\n\n| Metric | Published |\n|---|---|\n| TPS | 1 |\n\n| Exp | TPS | Latency |\n|---|---|---|\n| 5B* | 8.20 | 7.8s |\n\n- legend\n")
	cell, ok := md.cell("5B*", "Latency")
	require.True(t, ok)
	require.Equal(t, "7.8s", cell)
	term := terminalTable("5B*: valid\n\nExp  Config   Data   TPS  Latency  c16 tok/s  Status\n5B*  kv=bf16  8k    8.20     7.8s     28.9 !  not valid\n    mock; Full precision\n")
	cell, ok = term.cell("5B*", "c16 tok/s")
	require.True(t, ok)
	require.Equal(t, "28.9 !", cell)
}

// A step that hangs, panics or is stopped is a failed check, not the end.
func TestSteps(t *testing.T) {
	w := &world{}
	checks := step{name: "x", limit: time.Minute, do: func(context.Context, *world, *tally) { panic("oh") }}.checks(t.Context(), w)
	require.False(t, checks[0].OK)
	require.Contains(t, checks[0].Detail, "oh")

	checks = step{name: "x", limit: time.Millisecond, do: func(ctx context.Context, _ *world, _ *tally) { <-ctx.Done() }}.checks(t.Context(), w)
	require.False(t, checks[0].OK)
	require.Contains(t, checks[0].Detail, "not done after")

	tries := 0
	found := &tally{}
	measureAgain(t.Context(), found, func(_ int, try *tally) {
		tries++
		if try.part("part"); tries < 3 {
			try.parts[0].add(Figure{Name: "f", Got: 1})
		}
	})
	require.Equal(t, 3, tries)
	require.False(t, found.bad())
	require.Len(t, found.parts, 1)
	require.Contains(t, found.check("x").Detail, "measured again")

	_, err := Run(t.Context(), Options{})
	require.Error(t, err)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("stopped"))
	_, err = Run(ctx, Options{Executable: program, Dir: t.TempDir(), Only: "plan"})
	require.ErrorContains(t, err, "stopped")
}

func TestFigureTolerance(t *testing.T) {
	for _, f := range []Figure{{Got: 103, Truth: 100, Allowed: 2}, {Got: 97, Truth: 100, Allowed: 2}, {Got: absent, Truth: 0}, {Got: 1, Truth: 0, Allowed: 0.5}} {
		require.False(t, f.OK(), "%+v", f)
	}
	require.True(t, Figure{Got: 102, Truth: 100, Allowed: 2}.OK())
}
