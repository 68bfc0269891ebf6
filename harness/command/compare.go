package command

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/glm46/glm46/harness/fold"
	"github.com/glm46/glm46/harness/measure"
	"github.com/glm46/glm46/harness/quality"
	"github.com/glm46/glm46/harness/result"
	"github.com/glm46/glm46/harness/stats"
)

// comparedMetrics are the figures that compare looks at, the deciding one first.
var comparedMetrics = []struct {
	name   string
	higher bool
	value  func(*measure.Metrics) float64
}{
	{"output_throughput", true, func(m *measure.Metrics) float64 { return m.OutputThroughput }},
	{"tps", true, func(m *measure.Metrics) float64 { return m.TPS.Mean }},
	{"mean_ttft_ms", false, func(m *measure.Metrics) float64 { return m.TTFT.Mean }},
	{"mean_tpot_ms", false, func(m *measure.Metrics) float64 { return m.TPOT.Mean }},
}

// comparison is one metric of one level.
type comparison struct {
	Level          string        `json:"level"`
	Metric         string        `json:"metric"`
	HigherIsBetter bool          `json:"higher_is_better"`
	BaselineStarts int           `json:"baseline_starts"`
	OtherStarts    int           `json:"other_starts"`
	Baseline       float64       `json:"baseline_mean"`
	Other          float64       `json:"other_mean"`
	Ratio          float64       `json:"ratio"`
	Low            *float64      `json:"ratio_low"`
	High           *float64      `json:"ratio_high"`
	Verdict        stats.Verdict `json:"verdict"`
	StartsNeeded   int           `json:"starts_needed,omitempty"`
	HoursNeeded    float64       `json:"hours_needed,omitempty"`
	Method         string        `json:"method"`
	Warnings       []string      `json:"warnings,omitempty"`
}

func compareCommand(env Environment) *cli.Command {
	return &cli.Command{
		Name:      "compare",
		Usage:     "two results or experiments: ratio with interval, and one of four verdicts",
		ArgsUsage: "A B",
		Description: `A is the baseline. Each is an experiment or cell in --results, or a folder:
of an experiment, a start, or a level. The unit of replication is a server
start (docs/metrics.md): one start on each side decides nothing.

Examples:
   glm46 compare 1A 1B
   glm46 compare results/1A results/5B --level c100 --json
   glm46 compare 1A 1B --fail-if-slower`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: flagResults, Usage: "`DIR` of the results", Value: defaultResultsDir},
			&cli.StringFlag{Name: "level", Usage: "only the level `NAME`: c1, c100, r2.5"},
			&cli.Float64Flag{Name: "margin", Usage: "differences below this `SHARE` do not matter", Value: stats.DefaultMargin},
			&cli.Float64Flag{Name: "confidence", Usage: "of intervals, a `SHARE`", Value: stats.DefaultConfidence},
			&cli.IntFlag{Name: "comparisons", Usage: "`N` comparisons against the same baseline are made together (Dunnett)", Value: 1},
			&cli.BoolFlag{Name: "fail-if-slower", Usage: "exit 8 if B's output throughput is worse at a level"},
			&cli.BoolFlag{Name: "include-invalid", Usage: "use results that are not valid too"},
			jsonFlag(),
		},
		Action: func(c *cli.Context) error { return compare(c, env) },
	}
}

func compare(c *cli.Context, env Environment) error {
	if c.NArg() != 2 {
		return usage(errors.New("compare: want two results, A (the baseline) and B"), `for example "glm46 compare 1A 1B"`)
	}
	margin, confidence := c.Float64("margin"), c.Float64("confidence")
	if !(margin > 0 && margin < 1) || !(confidence > 0.5 && confidence < 1) || c.Int("comparisons") < 1 {
		return usage(errors.New("want --margin between 0 and 1, --confidence between 0.5 and 1, --comparisons above 0"))
	}
	var sides [2][]result.StartResult
	for i := range sides {
		var err error
		if sides[i], err = findStarts(c.Args().Get(i), c.String(flagResults)); err != nil {
			return err
		}
	}
	comparisons := compareStarts(sides[0], sides[1], compareOptions{
		level: c.String("level"), invalid: c.Bool("include-invalid"), margin: margin, confidence: confidence, comparisons: c.Int("comparisons"),
	})
	if len(comparisons) == 0 {
		return usage(fmt.Errorf("compare: %s and %s have no valid level in common", c.Args().Get(0), c.Args().Get(1)), "--include-invalid also uses results that are not valid")
	}
	answers := [2]string{qualityOf(sides[0]), qualityOf(sides[1])}
	holdBack(comparisons, sides)
	differences := differences(sides[0], sides[1])
	if c.Bool(flagJSON) {
		if err := printJSON(env.Stdout, map[string]any{"a": c.Args().Get(0), "b": c.Args().Get(1), "comparisons": comparisons,
			"differences": differences, "quality": map[string]string{"a": answers[0], "b": answers[1]}}); err != nil {
			return err
		}
	} else {
		printComparisons(env.Stdout, c.Args().Get(0), c.Args().Get(1), comparisons, differences, confidence)
		for i, side := range answers {
			fmt.Fprint(env.Stdout, fold.Under("answers of "+c.Args().Get(i)+": ", printable(side), foldWidth(env.Stdout)))
		}
	}
	if c.Bool("fail-if-slower") {
		for _, one := range comparisons {
			if one.Metric == comparedMetrics[0].name && one.Verdict == stats.Worse {
				return exitWith(exitSlower, fmt.Errorf("%s is slower than %s at level %s", c.Args().Get(1), c.Args().Get(0), one.Level))
			}
		}
	}
	return nil
}

// qualityOf says whether the answers of a side were right: the worst of its
// starts speaks for it.
func qualityOf(starts []result.StartResult) string {
	text := "not checked"
	for _, start := range starts {
		switch q := start.Start.Quality; {
		case q == nil:
		case q.Status == quality.Degraded:
			return q.String() + ": " + q.Detail
		default:
			text = q.String()
		}
	}
	return text
}

// holdBack takes the win from a side that answers wrongly: with --include-invalid
// its figures are compared, but speed counts only for right answers.
func holdBack(comparisons []comparison, sides [2][]result.StartResult) {
	degraded := func(starts []result.StartResult) bool {
		return slices.ContainsFunc(starts, func(s result.StartResult) bool {
			return s.Start.Quality != nil && s.Start.Quality.Status == quality.Degraded
		})
	}
	a, b := degraded(sides[0]), degraded(sides[1])
	for i := range comparisons {
		c := &comparisons[i]
		if c.Verdict == stats.Better && b || c.Verdict == stats.Worse && a {
			c.Verdict = stats.Undecided
			c.Warnings = append(c.Warnings, string(measure.ReasonQualityDegraded)+": the faster side answers wrongly, so it wins nothing")
		}
	}
}

// findStarts finds the starts that an argument of compare means.
func findStarts(name, resultsDir string) ([]result.StartResult, error) {
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		starts, err := startsBelow(name)
		if err != nil {
			return nil, err
		}
		// RESULTS/<EXP_NAME>/<dataset>/<start id>: where a reference would be.
		all, err := result.ReadAll(filepath.Join(starts[0].Dir, "..", "..", ".."))
		if err != nil {
			all = starts
		}
		return result.JudgeQuality(starts, all), nil
	}
	all, err := readResults(resultsDir)
	if err != nil {
		return nil, err
	}
	var out []result.StartResult
	var names []string
	for _, start := range all {
		e := start.Start.Experiment
		experimentID, _, _ := strings.Cut(e.ID, "/")
		if !e.Modified && (e.ID == name || experimentID == name || slices.Contains(e.SameAs, name)) || start.ExpName == name || e.Modified && e.ID+"*" == name {
			out = append(out, start)
		}
		for _, candidate := range append([]string{e.ID, start.ExpName}, e.SameAs...) {
			if candidate != "" && !slices.Contains(names, candidate) {
				names = append(names, candidate)
			}
		}
	}
	if len(out) == 0 {
		var hints []string
		if near := nearestOf(name, names); len(near) > 0 {
			hints = append(hints, "there are results of "+joined(near))
		}
		return nil, usage(fmt.Errorf("compare: no result of %q in %s", name, resultsDir), hints...)
	}
	return out, nil
}

// startsBelow reads the starts in a folder: a level, a start, or what holds some.
func startsBelow(dir string) ([]result.StartResult, error) {
	if _, err := os.Stat(filepath.Join(dir, result.RunFile)); err == nil {
		start, err := result.ReadStart(filepath.Dir(filepath.Clean(dir)))
		if err != nil {
			return nil, usage(err)
		}
		start.Levels = slices.DeleteFunc(start.Levels, func(l result.LevelResult) bool { return l.Name != filepath.Base(filepath.Clean(dir)) })
		return []result.StartResult{start}, nil
	}
	var out []result.StartResult
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || entry.Name() != result.StartFile {
			return err
		}
		start, err := result.ReadStart(filepath.Dir(path))
		if err != nil {
			return err
		}
		out = append(out, start)
		return nil
	})
	if err != nil {
		return nil, usage(err)
	}
	if len(out) == 0 {
		return nil, usage(fmt.Errorf("compare: no results below %s", dir))
	}
	return out, nil
}

type compareOptions struct {
	level              string
	invalid            bool
	margin, confidence float64
	comparisons        int
}

// compareStarts compares every metric of every level that both sides have.
func compareStarts(baseline, other []result.StartResult, o compareOptions) []comparison {
	var levels []string
	for _, start := range baseline {
		for _, level := range start.Levels {
			if !slices.Contains(levels, level.Name) && (o.level == "" || o.level == level.Name) {
				levels = append(levels, level.Name)
			}
		}
	}
	slices.SortFunc(levels, result.CompareLevels)
	var out []comparison
	for _, level := range levels {
		a, b := levelMetrics(baseline, level, o.invalid), levelMetrics(other, level, o.invalid)
		if len(a) == 0 || len(b) == 0 {
			continue
		}
		for _, metric := range comparedMetrics {
			in := stats.CompareInput{HigherIsBetter: metric.higher, Margin: o.margin, Confidence: o.confidence, Comparisons: o.comparisons}
			for _, m := range a {
				in.Baseline = append(in.Baseline, metric.value(m))
			}
			for _, m := range b {
				in.Other = append(in.Other, metric.value(m))
			}
			in.HoursPerStart = hoursPerStart(append(slices.Clone(baseline), other...))
			r := stats.Compare(in)
			out = append(out, comparison{
				Level: level, Metric: metric.name, HigherIsBetter: metric.higher, BaselineStarts: len(a), OtherStarts: len(b),
				Baseline: stats.Mean(in.Baseline), Other: stats.Mean(in.Other), Ratio: r.Ratio, Low: finite(r.Low, r.HalfWidth), High: finite(r.High, r.HalfWidth),
				Verdict: r.Verdict, StartsNeeded: r.StartsNeeded, HoursNeeded: r.HoursNeeded, Method: r.Method, Warnings: r.Warnings,
			})
		}
	}
	return out
}

// finite is an interval's end, or nil where there is no interval.
func finite(end, halfWidth float64) *float64 {
	if math.IsInf(halfWidth, 0) || math.IsNaN(halfWidth) || math.IsInf(end, 0) || math.IsNaN(end) {
		return nil
	}
	return &end
}

func levelMetrics(starts []result.StartResult, name string, invalid bool) []*measure.Metrics {
	var out []*measure.Metrics
	for _, start := range starts {
		if level, ok := start.Level(name); ok && level.Err == nil && level.Finished() && (level.Run.Validity.OK || invalid) {
			out = append(out, &level.Run.Metrics)
		}
	}
	return out
}

// hoursPerStart is what a start took on the mean.
func hoursPerStart(starts []result.StartResult) float64 {
	var hours []float64
	for _, start := range starts {
		if end := start.Start.Finished; end != nil {
			hours = append(hours, end.Sub(start.Start.Created).Hours())
		}
	}
	if len(hours) == 0 {
		return 0
	}
	return stats.Mean(hours)
}

// differences lists what differs between the sides beside the settings: it may
// be the cause of what is found.
func differences(a, b []result.StartResult) []string {
	var out []string
	facts := []struct {
		name  string
		value func(result.StartResult) string
	}{
		{"data set", func(r result.StartResult) string { return r.Start.Dataset.SHA256 }},
		{"vLLM version", func(r result.StartResult) string { return r.Start.VLLMVersion }},
		{"model", func(r result.StartResult) string { return r.Start.ModelFingerprint }},
		{"node", func(r result.StartResult) string {
			if r.Start.Node == nil {
				return ""
			}
			return r.Start.Node.Hostname
		}},
		{"mock", func(r result.StartResult) string {
			if r.Start.Mock == nil {
				return "no"
			}
			return fmt.Sprintf("speed %g", r.Start.Mock.Speed)
		}},
		{"levels", func(r result.StartResult) string {
			var names []string
			for _, level := range r.Start.Levels {
				names = append(names, fmt.Sprintf("%s x %d", level.Name, level.Requests))
			}
			return joined(names)
		}},
		{"request parameters", func(r result.StartResult) string {
			for _, level := range r.Levels {
				if level.Run.Request != nil {
					return level.Run.Request.SHA256
				}
			}
			return ""
		}},
	}
	for _, fact := range facts {
		if x, y := distinct(a, fact.value), distinct(b, fact.value); x != y {
			out = append(out, fmt.Sprintf("%s: %s against %s", fact.name, x, y))
		}
	}
	return out
}

func distinct(starts []result.StartResult, value func(result.StartResult) string) string {
	const longest = 60
	var values []string
	for _, start := range starts {
		if v := value(start); !slices.Contains(values, v) {
			values = append(values, v)
		}
	}
	slices.Sort(values)
	text := strings.Join(values, " | ")
	if len(text) > longest {
		text = text[:longest] + "..."
	}
	return text
}

func printComparisons(w io.Writer, a, b string, comparisons []comparison, differences []string, confidence float64) {
	fmt.Fprintf(w, "%s against %s, ratio with %g %% interval over server starts\n\n", b, a, 100*confidence)
	fmt.Fprintf(w, "%-5s %-17s %6s %8s %8s %6s %-13s %s\n", "Level", "Metric", "Starts", "A", "B", "B/A", "Interval", "Verdict")
	warnings := []string{}
	for _, c := range comparisons {
		interval := "-"
		if c.Low != nil && c.High != nil {
			interval = fmt.Sprintf("%.3f - %.3f", *c.Low, *c.High)
		}
		fmt.Fprintf(w, "%-5s %-17s %6s %8.4g %8.4g %6.3f %-13s %s\n", c.Level, c.Metric, fmt.Sprintf("%d,%d", c.BaselineStarts, c.OtherStarts),
			c.Baseline, c.Other, c.Ratio, interval, c.Verdict)
		if c.StartsNeeded > 0 && c.Metric == comparedMetrics[0].name {
			warnings = append(warnings, fmt.Sprintf("%s %s: %d starts on each side would decide (about %.1f hours more)", c.Level, c.Metric, c.StartsNeeded, c.HoursNeeded))
		}
		for _, warning := range c.Warnings {
			if !slices.Contains(warnings, warning) {
				warnings = append(warnings, warning)
			}
		}
	}
	if len(warnings) > 0 {
		fmt.Fprintln(w)
	}
	for _, warning := range warnings {
		fmt.Fprint(w, fold.Under("note: ", warning, foldWidth(w)))
	}
	for _, difference := range differences {
		fmt.Fprint(w, fold.Under("differs: ", printable(difference), foldWidth(w)))
	}
}
