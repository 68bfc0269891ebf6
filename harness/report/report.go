// Package report turns result folders into tables: the experiment plan's
// results table, its baseline table, and one table row for the end of a run.
//
// [Build] decides what is shown (report.go, pick.go), the writers only how:
// Markdown, JSON, CSV, one HTML file, 80 columns of text. Figures of different
// levels never share a column, labels such as "mock" are always shown, and texts
// from result files are escaped for the place they land in. The package compares
// nothing and claims no difference between rows.
package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/glm46/glm46/harness/experiment"
	"github.com/glm46/glm46/harness/measure"
	"github.com/glm46/glm46/harness/quality"
	"github.com/glm46/glm46/harness/result"
)

// SchemaVersion is the version of the JSON report.
const SchemaVersion = 1

// FirstLevel is the level whose TPS and latency the plan's table shows: one
// stream. Source: docs/metrics.md, metrics.
const FirstLevel = "c1"

// Options are what [Build] needs beside cells and results.
type Options struct {
	Title string
	// Published are the plan's own figures for the baseline table; nil: none.
	Published *experiment.Published
	// Created is the instant that the report carries; zero: none.
	Created time.Time
	// Partial leaves out cells of the plan that have no result.
	Partial bool
}

// Report is everything a writer needs, and the JSON document itself.
type Report struct {
	SchemaVersion int        `json:"glm46_schema_version"`
	Title         string     `json:"title,omitempty"`
	Created       *time.Time `json:"created,omitempty"`
	// Levels are the level names of all rows but FirstLevel, in order: the
	// columns of output throughput.
	Levels []string `json:"levels"`
	// Rows follow the plan, one a cell; then what the plan does not have.
	Rows     []Row     `json:"rows"`
	Baseline *Baseline `json:"baseline,omitempty"`
	// Unreadable names folders whose files could not be read, and why.
	Unreadable []string `json:"unreadable,omitempty"`
}

// Row is one cell of the plan, or one experiment that the plan does not have.
type Row struct {
	// Exp is the cell's id, with a star where settings differ from the plan's.
	Exp     string `json:"exp"`
	Group   int    `json:"group,omitempty"`
	Title   string `json:"group_title,omitempty"`
	Config  string `json:"config"`
	Dataset string `json:"dataset"`
	// TPS (tokens/s) and LatencySeconds belong to FirstLevel; nil: not measured.
	TPS            *float64 `json:"tps"`
	LatencySeconds *float64 `json:"latency_s"`
	Status         Status   `json:"status"`
	// Labels do not make it invalid: mock, sped_up, output_capped, ...
	Labels []string `json:"labels,omitempty"`
	// Notes: the plan's, what it has wrong ("in fact: ..."), then ours.
	Notes []string `json:"notes,omitempty"`
	// SameAs are the cells with the same configuration, measured once.
	SameAs []string `json:"same_as,omitempty"`
	Levels []Level  `json:"levels,omitempty"`
	// Starts is how many server starts the figures are means of; StartIDs names
	// them.
	Starts   int      `json:"starts"`
	StartIDs []string `json:"start_ids,omitempty"`
	// Dirs are their folders, as given to the reader.
	Dirs        []string `json:"dirs,omitempty"`
	VLLMVersion string   `json:"vllm_version,omitempty"`
	Node        string   `json:"node,omitempty"`
	Added       bool     `json:"added,omitempty"`
	// Quality is the check of the last start's answers.
	Quality *quality.Record `json:"quality,omitempty"`
	// InPlan is false for rows that no cell of the plan asked for.
	InPlan bool `json:"in_plan"`

	modelMemory *float64 // GiB a GPU, for the baseline table
}

// Status says what became of a row.
type Status struct {
	// Kind is valid, not valid, refused, failed, interrupted, incomplete,
	// running or pending.
	Kind string `json:"kind"`
	// Codes are the reasons of "not valid"; Reason says in words why it was
	// refused or how it failed.
	Codes  []string `json:"codes,omitempty"`
	Reason string   `json:"reason,omitempty"`
	// Done of Total requests, where it was broken off.
	Done  int `json:"done,omitempty"`
	Total int `json:"total,omitempty"`
}

// kindBench is the kind of starts on servers that are not ours.
const kindBench = "bench"

// StatusPending is the kind of a cell without a result.
const StatusPending = "pending"

// String gives the plan's words: "valid", "not valid (codes)", "refused
// (reason)", "interrupted 40/100", "pending".
func (s Status) String() string {
	switch s.Kind {
	case string(result.StateNotValid):
		return s.Kind + " (" + strings.Join(s.Codes, ", ") + ")"
	case string(result.StateRefused), string(result.StateFailed):
		if s.Reason != "" {
			return s.Kind + " (" + s.Reason + ")"
		}
	case string(result.StateInterrupted), string(result.StateIncomplete), string(result.StateRunning):
		if s.Total > 0 {
			return fmt.Sprintf("%s %d/%d", s.Kind, s.Done, s.Total)
		}
	}
	return s.Kind
}

// Level is one level of a row: means over the row's starts.
type Level struct {
	Name string `json:"name"`
	// OutputThroughput is in tokens/s, over the whole level.
	OutputThroughput float64 `json:"output_throughput"`
	SteadyThroughput float64 `json:"steady_output_throughput,omitempty"`
	TPS              float64 `json:"tps"`
	LatencySeconds   float64 `json:"latency_s"`
	MeanTTFTms       float64 `json:"mean_ttft_ms"`
	MeanTPOTms       float64 `json:"mean_tpot_ms"`
	Completed        int     `json:"completed"`
	Requests         int     `json:"requests"`
	PromptTokens     float64 `json:"mean_prompt_tokens"`
	CompletionTokens float64 `json:"mean_completion_tokens"`
	Valid            bool    `json:"valid"`
	// Codes are the reasons why not, Labels the level's own.
	Codes  []string `json:"codes,omitempty"`
	Labels []string `json:"labels,omitempty"`
	Starts int      `json:"starts"`
}

// Level returns the level of that name.
func (r Row) Level(name string) (Level, bool) {
	for _, l := range r.Levels {
		if l.Name == name {
			return l, true
		}
	}
	return Level{}, false
}

// Baseline compares the measured baseline with the published one.
type Baseline struct {
	Exp  string         `json:"exp"`
	Rows []BaselineLine `json:"rows"`
	// Notes say what the two have not in common.
	Notes []string `json:"notes,omitempty"`
}

// BaselineLine is one figure of the baseline table.
type BaselineLine struct {
	Metric string `json:"metric"`
	Unit   string `json:"unit,omitempty"`
	// Published and Measured are nil where there is no figure.
	Published *float64 `json:"published"`
	Measured  *float64 `json:"measured"`
	Digits    int      `json:"-"`
}

// Build makes the report of results for the cells of a plan, in the cells'
// order. Starts that belong to no cell get rows of their own behind: modified
// cells after the cell, custom experiments and benches at the end.
func Build(cells []experiment.Cell, starts []result.StartResult, o Options) *Report {
	r := &Report{SchemaVersion: SchemaVersion, Title: oneLine(o.Title), Levels: []string{}, Rows: []Row{}}
	if !o.Created.IsZero() {
		t := o.Created.UTC()
		r.Created = &t
	}
	var readable []result.StartResult
	for _, s := range starts {
		if s.Err != nil {
			r.Unreadable = append(r.Unreadable, oneLine(s.Err.Error()))
			continue
		}
		for _, l := range s.Levels {
			if l.Err != nil {
				r.Unreadable = append(r.Unreadable, oneLine(l.Err.Error()))
			}
		}
		readable = append(readable, s)
	}
	used := make([]bool, len(readable))
	for _, c := range cells {
		var mine []result.StartResult
		for i, s := range readable {
			if belongs(s, c) {
				mine = append(mine, s)
				used[i] = true
			}
		}
		if len(mine) > 0 || !o.Partial {
			r.Rows = append(r.Rows, cellRow(c, mine))
		}
	}
	r.addOthers(readable, used)
	for i := range r.Rows {
		r.Rows[i].clean()
	}
	r.Levels = levelColumns(r.Rows)
	if o.Published != nil {
		r.Baseline = baseline(r.Rows, *o.Published)
	}
	return r
}

// belongs says whether a start measured a cell: the same settings, data set and
// levels, whatever the name it ran under.
func belongs(s result.StartResult, c experiment.Cell) bool {
	if s.Start.Kind == kindBench || s.Start.Dataset.Name != c.Dataset {
		return false
	}
	return s.Start.ConfigHash != "" && s.Start.ConfigHash == c.ConfigHash
}

func cellRow(c experiment.Cell, starts []result.StartResult) Row {
	row := Row{Exp: c.Label(), Group: c.Group, Title: c.GroupTitle, Config: c.Config, Dataset: c.Dataset,
		SameAs: slices.Clone(c.SameAs), Added: c.Added, InPlan: true}
	if c.Notes != "" {
		row.Notes = append(row.Notes, c.Notes)
	}
	if c.Correction != "" {
		row.Notes = append(row.Notes, "in fact: "+c.Correction)
	}
	fill(&row, starts)
	return row
}

// addOthers makes rows of the starts that no cell took, one a configuration.
func (r *Report) addOthers(starts []result.StartResult, used []bool) {
	type key struct{ kind, exp, set, hash string }
	groups := map[key][]result.StartResult{}
	var order []key
	for i, s := range starts {
		if used[i] {
			continue
		}
		k := key{s.Start.Kind, cmp.Or(s.Start.Experiment.ID, s.ExpName), s.Start.Dataset.Name, s.Start.ConfigHash}
		if s.Start.Kind == kindBench {
			// Of a server of others nothing says that it is the same one again.
			k.hash = s.StartID
		}
		if _, ok := groups[k]; !ok {
			order = append(order, k)
		}
		groups[k] = append(groups[k], s)
	}
	for _, k := range order {
		first := groups[k][0].Start
		row := Row{Exp: k.exp, Group: first.Experiment.Group, Config: first.Experiment.Config, Dataset: k.set}
		if first.Experiment.Modified {
			row.Exp += "*"
		}
		if first.Experiment.Notes != "" {
			row.Notes = append(row.Notes, first.Experiment.Notes)
		}
		if k.kind == kindBench {
			row.Notes = append(row.Notes, "at "+first.Created.UTC().Format("2006-01-02 15:04:05 UTC"))
		}
		fill(&row, groups[k])
		at := len(r.Rows)
		for i, have := range r.Rows {
			if have.Exp == k.exp && first.Experiment.Modified {
				at = i + 1
			}
		}
		r.Rows = slices.Insert(r.Rows, at, row)
	}
}

func levelColumns(rows []Row) []string {
	out := []string{}
	for _, row := range rows {
		for _, l := range row.Levels {
			if l.Name != FirstLevel && !slices.Contains(out, l.Name) {
				out = append(out, l.Name)
			}
		}
	}
	slices.SortStableFunc(out, result.CompareLevels)
	return out
}

func baseline(rows []Row, p experiment.Published) *Baseline {
	b := &Baseline{Exp: p.Experiment}
	var tps, latency, memory, prompt, completion *float64
	for _, row := range rows {
		if row.Exp != p.Experiment {
			continue
		}
		tps, latency, memory = row.TPS, row.LatencySeconds, row.modelMemory
		if l, ok := row.Level(FirstLevel); ok && l.Completed > 0 {
			prompt, completion = &l.PromptTokens, &l.CompletionTokens
		}
		if len(row.Labels) > 0 && row.Starts > 0 {
			b.Notes = append(b.Notes, "measured: "+strings.Join(row.Labels, ", "))
		}
		if row.Starts > 0 && row.Status.Kind != string(result.StateValid) {
			b.Notes = append(b.Notes, "measured: "+row.Status.String())
		}
		break
	}
	line := func(metric, unit string, published float64, measured *float64, digits int) {
		l := BaselineLine{Metric: metric, Unit: unit, Measured: measured, Digits: digits}
		if published > 0 {
			l.Published = &published
		}
		b.Rows = append(b.Rows, l)
	}
	line("TPS", "tokens/s", p.TPS, tps, 2)
	line("Latency", "s", p.LatencySeconds, latency, 1)
	line("Model Memory", "GiB", p.ModelMemoryGiB, memory, 1)
	line("Prompt Tokens", "", float64(p.PromptTokens), prompt, 0)
	line("Completion Tokens", "", float64(p.CompletionTokens), completion, 0)
	if p.Notes != "" {
		b.Notes = append(b.Notes, "published: "+oneLine(p.Notes))
	}
	return b
}

// levelOf condenses one run.json.
func levelOf(l result.LevelResult) Level {
	m := l.Run.Metrics
	out := Level{Name: l.Name, OutputThroughput: m.OutputThroughput, SteadyThroughput: m.SteadyOutputThroughput,
		TPS: m.TPS.Mean, LatencySeconds: m.LatencySeconds, MeanTTFTms: m.TTFT.Mean, MeanTPOTms: m.TPOT.Mean,
		Completed: m.Completed, Requests: max(l.Run.Level.Requests, m.Completed+m.Failed+m.Cancelled), Valid: l.Run.Validity.OK, Starts: 1}
	if m.Completed > 0 {
		out.PromptTokens = float64(m.PromptTokens) / float64(m.Completed)
		out.CompletionTokens = float64(m.CompletionTokens) / float64(m.Completed)
	}
	out.Codes, out.Labels = codes(l.Run.Validity), labels(l.Run.Validity)
	return out
}

func codes(v measure.Validity) []string {
	var out []string
	for _, r := range v.Reasons {
		out = append(out, string(r))
	}
	return out
}

func labels(v measure.Validity) []string {
	var out []string
	for _, l := range v.Labels {
		out = append(out, string(l))
	}
	return out
}

// clean makes every text of a row, which may come from anybody's file, one line
// without control characters. What a format acts upon it escapes itself.
func (r *Row) clean() {
	for _, s := range []*string{&r.Exp, &r.Title, &r.Config, &r.Dataset, &r.Status.Reason, &r.VLLMVersion, &r.Node} {
		*s = oneLine(*s)
	}
	lists := []*[]string{&r.Status.Codes, &r.Labels, &r.Notes, &r.SameAs, &r.StartIDs}
	for i := range r.Levels {
		l := &r.Levels[i]
		l.Name = oneLine(l.Name)
		lists = append(lists, &l.Codes, &l.Labels)
	}
	for _, list := range lists {
		clean := make([]string, 0, len(*list))
		for _, s := range *list {
			if s = oneLine(s); s != "" {
				clean = append(clean, s)
			}
		}
		if len(clean) == 0 {
			clean = nil
		}
		*list = clean
	}
}
