package vllm

import (
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "rewrite golden files")

var noon = time.Date(2025, 11, 24, 12, 0, 0, 0, time.UTC)

// golden compares got with testdata/name.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; run the test with -update", err)
	}
	if got != string(want) {
		t.Errorf("%s differs; run with -update and read the diff\n%s", path, firstDiff(string(want), got))
	}
}

func firstDiff(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(w), len(g)) {
		if w[i] != g[i] {
			return fmt.Sprintf("line %d\nwant %q\n got %q", i+1, w[i], g[i])
		}
	}
	return fmt.Sprintf("%d lines, want %d", len(g), len(w))
}

// testFacts are the numbers of one start.
func testFacts() StartupFacts {
	return StartupFacts{
		PID: 4242, Port: 8000, ModelMemoryGiB: 82.6, Shards: 4,
		WeightsTime: 148*time.Second + 120*time.Millisecond, LoadTime: 155*time.Second + 250*time.Millisecond,
		CompileTime: 95*time.Second + 310*time.Millisecond, DynamoTime: 21*time.Second + 400*time.Millisecond, GraphTime: 73*time.Second + 910*time.Millisecond,
		ProfileTime: 12 * time.Second, CaptureTime: 25 * time.Second, CaptureGiB: 1.25, EngineInitTime: 165*time.Second + 500*time.Millisecond,
		KVMemoryGiB: 45.72, KVBlocks: 65136, KVTokens: 1042176, MaxConcurrency: 31.805, MoEConfigDefault: true,
	}
}

func renderAll(v Version, c EngineConfig, lines []LogLine) string {
	var b strings.Builder
	for i, l := range lines {
		b.WriteString(l.Render(v, c, noon.Add(time.Duration(i)*time.Second)))
	}
	return b.String()
}

func scanText(text string) LogFacts {
	var s LogScanner
	for _, line := range strings.Split(text, "\n") {
		s.Line(line)
	}
	return s.Facts()
}

var startups = []struct{ name, line string }{
	{"baseline", planArgs},
	{"compiled", "zai-org/GLM-4.6 -tp 8 --gpu-memory-utilization 0.95 --max-model-len 32768 --trust-remote-code --served-model-name glm"},
}

func TestStartupLogs(t *testing.T) {
	for _, v := range KnownVersions() {
		for _, s := range startups {
			c := mustResolve(t, v.String(), s.line)
			text := renderAll(v, c, StartupLines(v, c, testFacts()))
			golden(t, fmt.Sprintf("startup/%s_%s.txt", v, s.name), text)
		}
	}
}

// What is written is read back, in every version and configuration.
func TestStartupRoundTrip(t *testing.T) {
	for _, s := range sweep {
		v := MustVersion(s)
		if !v.AtLeast("0.8.0") {
			continue
		}
		for _, line := range []string{planArgs, startups[1].line, "m", "m -tp 8 --no-enable-prefix-caching", "m -tp 8 --max-num-seqs 16", "m -tp 8 --dtype half"} {
			c := mustResolve(t, s, line)
			facts := testFacts()
			text := renderAll(v, c, StartupLines(v, c, facts))
			got := scanText(text)
			checkFacts(t, s+" "+line, v, c, facts, got)
			if m := CheckEffective(c, got); len(m) > 0 {
				t.Errorf("%s %q: mismatches %v", s, line, m)
			}
		}
	}
}

func checkFacts(t interface {
	Helper()
	Errorf(string, ...any)
}, name string, v Version, c EngineConfig, f StartupFacts, got LogFacts) {
	t.Helper()
	near := func(what string, got, want, tol float64) {
		if math.Abs(got-want) > tol {
			t.Errorf("%s: %s %v, want %v", name, what, got, want)
		}
	}
	near("model memory", got.ModelMemoryGiB, f.ModelMemoryGiB, 0.0051)
	near("load", got.ModelLoadSeconds, f.LoadTime.Seconds(), 1e-6)
	near("weights", got.WeightsSeconds, f.WeightsTime.Seconds(), 0.0051)
	near("concurrency", got.MaxConcurrency, f.MaxConcurrency, 0.0051)
	near("engine init", got.EngineInitSeconds, f.EngineInitTime.Seconds(), 0.005)
	if v.AtLeast("0.10.0") {
		near("KV memory", got.KVCacheMemoryGiB, f.KVMemoryGiB, 0.0051)
	}
	if c.Compile {
		near("compile", got.CompileSeconds, f.CompileTime.Seconds(), 0.005)
	}
	if len(c.CaptureSizes) > 0 {
		near("capture", got.GraphCaptureSeconds, f.CaptureTime.Seconds(), 0.5)
		if got.CaptureDone != len(c.CaptureSizes) || got.CaptureTotal != len(c.CaptureSizes) {
			t.Errorf("%s: captured %d of %d", name, got.CaptureDone, got.CaptureTotal)
		}
	}
	if got.Version != v || got.KVTokens != f.KVTokens || got.MaxConcurrencyTokens != c.MaxModelLen || !got.Started || got.Phase != PhaseServing ||
		got.ExpertParallel != c.EnableExpertParallel || got.MoEConfigDefault != f.MoEConfigDefault || got.ShardsDone != f.Shards || got.Shards != f.Shards ||
		got.ChunkedPrefillBudget != c.MaxNumBatchedTokens || len(got.Fatal) > 0 || got.ListenURL != "http://0.0.0.0:8000" {
		t.Errorf("%s: read as %+v", name, got)
	}
	if v.AtLeast("0.15.0") != (got.AsyncScheduling != nil) {
		t.Errorf("%s: async scheduling %v", name, got.AsyncScheduling)
	}
}

// Phases only advance, in the lines and in the scanner.
func TestPhasesAdvance(t *testing.T) {
	for _, v := range KnownVersions() {
		for _, s := range startups {
			c := mustResolve(t, v.String(), s.line)
			var sc LogScanner
			last, at := PhaseBoot, 0.0
			for _, l := range StartupLines(v, c, testFacts()) {
				if l.Phase < last || (l.Phase == last && l.At < at) || l.At < 0 || l.At > 1 {
					t.Fatalf("%s %s: %v at %v after %v at %v: %s", v, s.name, l.Phase, l.At, last, at, l.Text)
				}
				last, at = l.Phase, l.At
				var seen Phase
				for _, part := range strings.Split(l.Render(v, c, noon), "\n") {
					seen = sc.Line(part)
				}
				// The scanner may be one phase ahead at the last line of a phase.
				if seen < l.Phase-1 || (seen > l.Phase && l.At < 1) {
					t.Errorf("%s %s: the scanner is in %v, the line in %v: %s", v, s.name, seen, l.Phase, l.Text)
				}
			}
		}
	}
}

func TestMultiLineMessage(t *testing.T) {
	v := MustVersion("0.11.1")
	c := mustResolve(t, "0.11.1", "m -tp 8")
	got := LogLine{Level: "INFO", Source: "a.py:1", Text: "one\ntwo", Proc: Process{Role: APIServer, PID: 9}}.Render(v, c, noon)
	want := "(APIServer pid=9) INFO 11-24 12:00:00 [a.py:1] one\r\n(APIServer pid=9) INFO 11-24 12:00:00 [a.py:1] two\n"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestProcessPrefixes(t *testing.T) {
	for _, c := range []struct{ version, api, core, worker, ep string }{
		{"0.8.2", "", "", "(VllmWorker rank=3 pid=7) ", "(VllmWorker rank=3 pid=7) "},
		{"0.10.0", "", "", "(VllmWorker rank=3 pid=7) ", "(VllmWorker rank=3 pid=7) "},
		{"0.10.1", "(APIServer pid=7) ", "(EngineCore_0 pid=7) ", "(VllmWorker TP3 pid=7) ", "(VllmWorker TP3 pid=7) "},
		{"0.11.1", "(APIServer pid=7) ", "(EngineCore_DP0 pid=7) ", "(Worker_TP3 pid=7) ", "(Worker_TP3_EP3 pid=7) "},
		{"0.14.0", "(APIServer pid=7) ", "(EngineCore_DP0 pid=7) ", "(Worker_TP3 pid=7) ", "(Worker_TP3_EP3 pid=7) "},
		{"0.22.0", "(APIServer pid=7) ", "(EngineCore pid=7) ", "(Worker_TP3 pid=7) ", "(Worker_TP3_EP3 pid=7) "},
		{"0.27.0", "(APIServer pid=7) ", "(EngineCore pid=7) ", "(Worker_TP3 pid=7) ", "(Worker_TP3_EP3 pid=7) "},
	} {
		v := MustVersion(c.version)
		plain, ep := mustResolve(t, c.version, "m -tp 8"), mustResolve(t, c.version, "m -tp 8 --enable-expert-parallel")
		at := func(r ProcessRole, cfg EngineConfig) string { return Process{Role: r, Rank: 3, PID: 7}.Prefix(v, cfg) }
		if got := [4]string{at(APIServer, plain), at(EngineCore, plain), at(Worker, plain), at(Worker, ep)}; got != [4]string{c.api, c.core, c.worker, c.ep} {
			t.Errorf("%s: %q", c.version, got)
		}
	}
}

func TestPeriodicLines(t *testing.T) {
	stats := PeriodicStats{PromptTokensPerSecond: 612.34, GenerationTokensPerSecond: 1411.2, Running: 16, Waiting: 3, Deferred: 2, KVUsage: 0.0712, PrefixHitRate: 0.25}
	spec := SpecDecodeStats{Interval: 10 * time.Second, NumDrafts: 1000, DraftTokens: 2000, AcceptedTokens: 1200, AcceptedPerPos: []int64{700, 500}}
	var b strings.Builder
	for _, v := range KnownVersions() {
		line := PeriodicLine(v, stats)
		sl, ok := SpecDecodeLine(v, spec)
		if !ok {
			t.Fatal("no line of speculation")
		}
		fmt.Fprintf(&b, "%s\n%s\n%s\n", v, line.Text, sl.Text)
		got := scanText(line.Text + "\n" + sl.Text)
		if s := got.Stats; s == nil || s.Running != 16 || s.Waiting != 3 || math.Abs(s.KVUsage-.071) > 1e-9 || s.PrefixHitRate != .25 || s.PromptTokensPerSecond != 612.3 {
			t.Errorf("%s: stats %+v", v, got.Stats)
		}
		if s := got.SpecStats; s == nil || s.AcceptedTokens != 1200 || s.DraftTokens != 2000 || s.AcceptanceRate != .6 {
			t.Errorf("%s: speculation %+v", v, got.SpecStats)
		}
		if s := got.SpecStats; v.AtLeast("0.10.0") && (s.MeanAcceptanceLength != 2.2 || fmt.Sprint(s.PerPosition) != "[0.7 0.5]") {
			t.Errorf("%s: speculation %+v", v, s)
		}
	}
	golden(t, "periodic.txt", b.String())
	if _, ok := SpecDecodeLine(MustVersion("0.11.1"), SpecDecodeStats{}); ok {
		t.Error("a line without drafts")
	}
}

// Figures of any size come back from the log.
func TestLogFiguresRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		v := MustVersion(rapid.SampledFrom([]string{"0.8.2", "0.10.0", "0.11.1", "0.14.0", "0.22.0", "0.27.0"}).Draw(rt, "version"))
		line := rapid.SampledFrom([]string{planArgs, startups[1].line, "m -tp 4"}).Draw(rt, "line")
		c, err := ResolveArgv(v, strings.Fields(line), GLM46())
		if err != nil {
			rt.Fatal(err)
		}
		f := testFacts()
		f.Shards = rapid.IntRange(1, 5).Draw(rt, "shards")
		f.ModelMemoryGiB = rapid.Float64Range(0.01, 140).Draw(rt, "memory")
		f.KVTokens = int64(rapid.IntRange(1, 1<<40).Draw(rt, "tokens"))
		f.MaxConcurrency = rapid.Float64Range(0, 1e6).Draw(rt, "concurrency")
		f.WeightsTime = time.Duration(rapid.IntRange(0, 7200e3).Draw(rt, "weights ms")) * time.Millisecond
		f.LoadTime = f.WeightsTime + 5*time.Second
		f.KVMemoryGiB = rapid.Float64Range(0.01, 130).Draw(rt, "KV")
		f.MoEConfigDefault = rapid.Bool().Draw(rt, "tiles")
		checkFacts(rt, v.String(), v, c, f, scanText(renderAll(v, c, StartupLines(v, c, f))))
	})
}
