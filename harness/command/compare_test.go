package command

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/glm46/glm46/harness/measure"
	"github.com/glm46/glm46/harness/quality"
	"github.com/glm46/glm46/harness/result"
	"github.com/glm46/glm46/harness/stats"
)

// startsWith makes one start for each throughput, with a valid level c100.
func startsWith(valid bool, throughputs ...float64) []result.StartResult {
	var out []result.StartResult
	for _, t := range throughputs {
		var m measure.Metrics
		m.OutputThroughput = t
		m.TPS.Mean, m.TTFT.Mean, m.TPOT.Mean = t/100, 200, 1000*100/t
		v := measure.Validity{OK: valid}
		if !valid {
			v.Reasons = []measure.Reason{measure.ReasonFailedRequests}
		}
		out = append(out, result.StartResult{Levels: []result.LevelResult{{Name: "c100", Run: measure.RunJSON{Metrics: m, Validity: v}}}})
	}
	return out
}

// TestWrongAnswersWinNothing: a fast side that answers wrongly is not called better.
func TestWrongAnswersWinNothing(t *testing.T) {
	wrong := func(starts []result.StartResult) []result.StartResult {
		for i := range starts {
			starts[i].Start.Quality = &quality.Record{Status: quality.Degraded, Detail: "14 of 22"}
		}
		return starts
	}
	o := compareOptions{margin: stats.DefaultMargin, confidence: stats.DefaultConfidence, comparisons: 1, invalid: true}
	slow, fast := []float64{100, 101, 99}, []float64{200, 202, 199}
	for name, c := range map[string]struct {
		a, b []result.StartResult
		want stats.Verdict
	}{
		"B is wrong and faster": {startsWith(true, slow...), wrong(startsWith(false, fast...)), stats.Undecided},
		"B is wrong and slower": {startsWith(true, fast...), wrong(startsWith(false, slow...)), stats.Worse},
		"A is wrong and faster": {wrong(startsWith(false, fast...)), startsWith(true, slow...), stats.Undecided},
		"A is wrong and slower": {wrong(startsWith(false, slow...)), startsWith(true, fast...), stats.Better},
	} {
		comparisons := compareStarts(c.a, c.b, o)
		holdBack(comparisons, [2][]result.StartResult{c.a, c.b})
		if got := comparisons[0].Verdict; got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestCompareStarts(t *testing.T) {
	o := compareOptions{margin: stats.DefaultMargin, confidence: stats.DefaultConfidence, comparisons: 1}
	for name, test := range map[string]struct {
		a, b []float64
		want stats.Verdict
	}{
		"twice as fast":      {[]float64{100, 101, 99}, []float64{200, 202, 199}, stats.Better},
		"half as fast":       {[]float64{100, 101, 99}, []float64{50, 51, 50}, stats.Worse},
		"the same":           {[]float64{100, 100.2, 99.9}, []float64{100.1, 99.9, 100}, stats.Equivalent},
		"one start each":     {[]float64{100}, []float64{200}, stats.Undecided},
		"lost in the spread": {[]float64{100, 120, 80}, []float64{105, 90, 115}, stats.Undecided},
	} {
		got := compareStarts(startsWith(true, test.a...), startsWith(true, test.b...), o)
		require.Len(t, got, len(comparedMetrics), name)
		if got[0].Metric != "output_throughput" || got[0].Verdict != test.want {
			t.Errorf("%s: %s is %s, want %s", name, got[0].Metric, got[0].Verdict, test.want)
		}
		if test.want == stats.Better && (got[0].Low == nil || *got[0].Low > got[0].Ratio || *got[0].High < got[0].Ratio) {
			t.Errorf("%s: interval does not hold the ratio: %+v", name, got[0])
		}
		var text bytes.Buffer
		printComparisons(&text, "1A", "1B", got, nil, o.confidence)
		for line := range strings.Lines(text.String()) {
			if strings.HasPrefix(line, "c100") && len(line) > 81 {
				t.Errorf("%s: more than 80 columns: %s", name, line)
			}
		}
	}
}

func TestCompareLeavesOutInvalid(t *testing.T) {
	o := compareOptions{margin: stats.DefaultMargin, confidence: stats.DefaultConfidence, comparisons: 1}
	if got := compareStarts(startsWith(true, 100), startsWith(false, 200), o); len(got) != 0 {
		t.Errorf("an invalid result was compared: %+v", got)
	}
	o.invalid = true
	if got := compareStarts(startsWith(true, 100), startsWith(false, 200), o); len(got) == 0 {
		t.Error("--include-invalid does not use it")
	}
}

func TestDifferencesAreListed(t *testing.T) {
	a, b := startsWith(true, 1), startsWith(true, 1)
	b[0].Start.VLLMVersion = "0.14.0"
	b[0].Start.Mock = &result.Mock{Speed: 10}
	got := strings.Join(differences(a, b), "\n")
	for _, want := range []string{"vLLM version", "mock: no against speed 10"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in %q", want, got)
		}
	}
}
