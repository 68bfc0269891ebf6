package predict

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/glm46/glm46/harness/experiment"
	"github.com/glm46/glm46/mockvllm/vllm"
)

func allCells(t testing.TB, r experiment.Request, o CellOptions) *Report {
	t.Helper()
	if len(r.Experiments) == 0 {
		r.All = true
	}
	report, err := Cells(experiment.Default(), r, o)
	require.NoError(t, err)
	return report
}

func entry(t testing.TB, r *Report, id, base, level string) Entry {
	t.Helper()
	for _, e := range r.Cells {
		if e.ID == id && e.Base == base && e.Level == level {
			return e
		}
	}
	t.Fatalf("no entry %s %s %s", id, base, level)
	return Entry{}
}

// short is the plan at a load that is quick to predict.
var short = experiment.Request{Concurrency: "1,8", NumSamples: 8, MaxTokens: 64}

func TestCellsBothBases(t *testing.T) {
	r := allCells(t, short, CellOptions{Bases: []string{"eager", "compiled"}})
	if r.Totals.Cells != 44 || len(r.Cells) != 88 {
		t.Errorf("%d cells, %d entries; want 22 cells x 2 bases x 2 levels", r.Totals.Cells, len(r.Cells))
	}
	if r.Totals.Refused != 4 { // 3B and 3C under both
		t.Errorf("%d refused, want 4", r.Totals.Refused)
	}
	base := entry(t, r, "1A", "eager", "c1")
	if *base.VsBaseline != 1 || *base.Distinguishable {
		t.Errorf("1A against itself: %v, %v", *base.VsBaseline, *base.Distinguishable)
	}
	// Compiled decodes one stream several times faster: the launch floor is gone.
	if e := entry(t, r, "1B", "eager", "c1"); *e.VsBaseline < 4 || !*e.Distinguishable {
		t.Errorf("1B against the eager baseline: %v", *e.VsBaseline)
	}
	if e := entry(t, r, "1A", "compiled", "c1"); *e.VsBaseline > 0.25 {
		t.Errorf("1A, which stays eager, against the compiled baseline: %v", *e.VsBaseline)
	}
	if e := entry(t, r, "3B", "eager", "c1"); e.Refused == "" || e.Hours != nil || e.OutputThroughput != nil {
		t.Errorf("3B: %+v", e)
	}
	if e := entry(t, r, "3A/64k", "compiled", "c8"); *e.VsBaseline != 1 {
		t.Errorf("3A/64k is the baseline of its data set, not %v of it", *e.VsBaseline)
	}
}

func TestEqualCellsCountOnce(t *testing.T) {
	r := allCells(t, short, CellOptions{Starts: 2, Walltime: 4 * time.Hour})
	if r.Totals.Configurations != 14 || r.Totals.Starts != 2*12 {
		t.Errorf("%d configurations, %d starts; want 14 and 2 x 12", r.Totals.Configurations, r.Totals.Starts)
	}
	packed, hours := 0, 0.0
	for _, j := range r.Totals.Jobs {
		packed += len(j.Cells)
		hours += j.Hours
		if j.Hours > 4 && !j.TooLong {
			t.Errorf("a job of %.1f h", j.Hours)
		}
	}
	if packed != r.Totals.Starts || math.Abs(hours-r.Totals.Hours) > 1e-6 {
		t.Errorf("%d starts of %.3f h packed, want %d of %.3f h", packed, hours, r.Totals.Starts, r.Totals.Hours)
	}
}

func TestAddedCells(t *testing.T) {
	r := allCells(t, experiment.Request{Concurrency: "4", NumSamples: 4, MaxTokens: 64, Experiments: []string{"1C", "2C", "3D", "3E", "3F", "8D", "8E", "1B", "2A", "3A/64k"}}, CellOptions{Bases: []string{"eager"}})
	// Two replicas of half the GPUs: 41.8 GiB for keys and values on each, of two
	// heads; the launch floor of eager steps is the same, so four streams are as
	// fast.
	two, whole := entry(t, r, "3E", "eager", "c4"), entry(t, r, "3A/64k", "eager", "c4")
	if two.Unknown+two.Refused != "" || *two.KVTokens != 953280 || !strings.Contains(two.Assumed, "2 replicas") {
		t.Errorf("3E: %+v", two)
	}
	if ratio := *two.TPOTMs / *whole.TPOTMs; ratio < 0.9 || ratio > 1.1 {
		t.Errorf("3E: %.3f ms a token, %.3f with one replica", *two.TPOTMs, *whole.TPOTMs)
	}
	if e := entry(t, r, "8D", "eager", "c4"); e.Assumed == "" {
		t.Error("8D does not say what acceptance it assumes")
	}
	async, sync := entry(t, r, "1C", "eager", "c4"), entry(t, r, "1B", "eager", "c4")
	if *async.TPOTMs >= *sync.TPOTMs {
		t.Errorf("asynchronous scheduling: %.3f ms, %.3f without", *async.TPOTMs, *sync.TPOTMs)
	}
}

func TestBaselineCellIsThePublishedOne(t *testing.T) {
	e := entry(t, allCells(t, experiment.Request{Experiments: []string{"1A"}, MaxTokens: 512}, CellOptions{}), "1A", "eager", "c1")
	if math.Abs(*e.TPS-8.69) > 0.005 || math.Abs(*e.LatencyS-58.89) > 0.03 {
		t.Errorf("TPS %.3f, latency %.2f s; published 8.69 and 58.9", *e.TPS, *e.LatencyS)
	}
	if *e.StartupS != 175 {
		t.Errorf("start-up %v s, want 155 + 20", *e.StartupS)
	}
}

func TestChunkedPrefillOffByVersion(t *testing.T) {
	report, err := Cells(experiment.Default(), experiment.Request{Experiments: []string{"7B"}, Concurrency: "2", NumSamples: 2, MaxTokens: 16},
		CellOptions{Version: vllm.MustVersion("0.10.0")})
	require.NoError(t, err)
	if e := report.Cells[0]; !strings.Contains(e.Refused, "chunked prefill") {
		t.Errorf("7B on 0.10.0: %+v", e)
	}
}

func TestLengthsReplaceThePlans(t *testing.T) {
	o := CellOptions{Lengths: func(dataset string) []Length { return []Length{{100, 5}, {40000, 5}} }}
	r, err := Cells(experiment.Default(), experiment.Request{Experiments: []string{"1A"}, Concurrency: "1", NumSamples: 2}, o)
	require.NoError(t, err)
	if !strings.Contains(r.Cells[0].Unknown, "40000") {
		t.Errorf("a prompt beyond max-model-len: %+v", r.Cells[0])
	}
	o.Lengths = func(string) []Length { return []Length{{100, 1 << 20}} } // capped by the context
	r, err = Cells(experiment.Default(), experiment.Request{Experiments: []string{"1A"}, Concurrency: "1", NumSamples: 1}, o)
	require.NoError(t, err)
	if !r.Cells[0].OutputCapped {
		t.Error("it does not say that outputs are cut")
	}
	if got := *r.Cells[0].LatencyS; got < 3700 || got > 3800 { // 32,668 steps of about 114.6 ms
		t.Errorf("latency %.0f s", got)
	}
}

func TestTimesAndHours(t *testing.T) {
	plan := experiment.Default()
	cells, err := plan.Resolve(experiment.Request{Experiments: []string{"1A", "3B"}, Concurrency: "2", NumSamples: 4, MaxTokens: 32})
	require.NoError(t, err)
	startup, levels, err := Times(plan, cells[0], CellOptions{})
	require.NoError(t, err)
	if startup != 175*time.Second || len(levels) != 1 || levels[0].Concurrency != 2 || levels[0].LongestE2E <= 0 || levels[0].WarmUp <= 0 {
		t.Errorf("%v %+v", startup, levels)
	}
	hours := Hours(plan, cells, CellOptions{})
	want := (startup + levels[0].WarmUp + levels[0].Duration).Hours()
	if math.Abs(hours["1A"]-want) > 1e-9 || hours["3B"] != 0 {
		t.Errorf("hours %v, want %v and 0", hours, want)
	}
	_, _, err = Times(plan, cells[1], CellOptions{})
	require.ErrorContains(t, err, "3B")
}

func TestResolution(t *testing.T) {
	// By hand: 1.96 x 0.015 x sqrt(2/3) = 0.0240.
	if got := Resolution(3, 0.015); math.Abs(got-0.0243) > 1e-4 {
		t.Errorf("resolution %v", got)
	}
	if Resolution(12, 0.015) >= Resolution(3, 0.015) {
		t.Error("more starts do not resolve more")
	}
}

func TestReportRenders(t *testing.T) {
	r := allCells(t, short, CellOptions{})
	text := r.Text(0)
	for _, want := range []string{"| 1A* ", "3B* is refused", "assumes: drafts", "hours in all"} {
		require.Contains(t, text, want)
	}
	const width = 80
	narrow := r.Text(width)
	require.Contains(t, narrow, "3B* DCP-2, eager baseline: refused\n")
	for line := range strings.Lines(narrow) {
		if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > width {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	data, err := json.Marshal(r)
	require.NoError(t, err)
	var doc struct {
		Cells []map[string]any `json:"cells"`
	}
	require.NoError(t, json.Unmarshal(data, &doc))
	for _, key := range []string{"id", "dataset", "base", "level", "kv_tokens", "preemptions", "ttft_ms", "tpot_ms", "tps", "output_throughput", "hours", "vs_baseline", "distinguishable"} {
		if _, ok := doc.Cells[0][key]; !ok {
			t.Errorf("no key %q", key)
		}
	}
}

// BenchmarkWholePlan predicts the whole plan, both bases, at its own levels.
func BenchmarkWholePlan(b *testing.B) {
	for b.Loop() {
		if _, err := Cells(experiment.Default(), experiment.Request{All: true}, CellOptions{Bases: []string{"eager", "compiled"}}); err != nil {
			b.Fatal(err)
		}
	}
}
