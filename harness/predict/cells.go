package predict

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/glm46/glm46/harness/experiment"
	"github.com/glm46/glm46/mockvllm"
	"github.com/glm46/glm46/mockvllm/model"
	"github.com/glm46/glm46/mockvllm/vllm"
)

// Defaults of a prediction.
const (
	DefaultStarts = 3
	// DefaultSpread is the assumed standard deviation of the logarithm of a
	// metric from start to start. Source: docs/timing-model.md, noise (inferred:
	// graph mode 2 to 4 % between extremes).
	DefaultSpread = 0.015
	// confidenceZ is the two-sided 95 % point of the normal distribution: the
	// spread is assumed, not estimated.
	confidenceZ = 1.959964
)

// Length is the size of one sample, in tokens.
type Length struct{ Prompt, Target int }

// CellOptions are what a prediction of cells leaves open. The zero value has the
// defaults.
type CellOptions struct {
	Version vllm.Version
	// Model given to vllm serve; empty: the plan's.
	Model string
	// Bases to predict under: "eager", "compiled"; none: the request's.
	Bases  []string
	Starts int
	Spread float64
	// Walltime of a job, for packing; 0: no packing.
	Walltime time.Duration
	// Profile; nil: GLM-4.6 on eight H200.
	Profile *model.Profile
	// Lengths of a data set's samples; nil, or none: the plan's averages.
	Lengths func(dataset string) []Length

	builtIn bool // Profile was nil
}

// Entry is one level of one cell under one base. Figures are null where the cell
// cannot be predicted; Refused or Unknown then says why.
type Entry struct {
	ID      string `json:"id"`
	Dataset string `json:"dataset"`
	Base    string `json:"base"`
	Level   string `json:"level"`
	Config  string `json:"config"`

	KVTokens         *int     `json:"kv_tokens"`
	MaxConcurrency   *float64 `json:"max_concurrency"`
	Preemptions      *int64   `json:"preemptions"`
	TTFTMs           *float64 `json:"ttft_ms"`
	TPOTMs           *float64 `json:"tpot_ms"`
	TPS              *float64 `json:"tps"`
	LatencyS         *float64 `json:"latency_s"`
	OutputThroughput *float64 `json:"output_throughput"`
	// Hours of one start for this level alone: start-up, warm-up and level.
	Hours           *float64 `json:"hours"`
	StartupS        *float64 `json:"startup_s"`
	VsBaseline      *float64 `json:"vs_baseline"`
	Distinguishable *bool    `json:"distinguishable"`

	ConfigHash string   `json:"config_hash"`
	SameAs     []string `json:"same_as,omitempty"`
	Added      bool     `json:"added,omitempty"`
	// Modified: settings are not the plan's for this id.
	Modified bool `json:"modified,omitempty"`
	// Refused: the engine does not start, in words. Unknown: it would, but the
	// profile has no numbers or the samples do not fit.
	Refused string `json:"refused,omitempty"`
	Unknown string `json:"unknown,omitempty"`
	// OutputCapped: targets are cut to what max_model_len leaves, so the work is
	// not that of the baseline.
	OutputCapped bool `json:"output_capped,omitempty"`
	// Assumed is what the figures take for granted, such as acceptance.
	Assumed string `json:"assumed,omitempty"`
}

// Job is a packed PBS job.
type Job struct {
	Hours float64  `json:"hours"`
	Cells []string `json:"cells"`
	// TooLong: one start alone does not fit the walltime; the job is continued.
	TooLong bool `json:"too_long,omitempty"`
}

// Totals of a prediction. Equal cells are measured once, and the levels of a cell
// share its start-up.
type Totals struct {
	Cells          int     `json:"cells"`
	Configurations int     `json:"configurations"`
	Refused        int     `json:"refused"`
	Starts         int     `json:"starts"`
	Hours          float64 `json:"hours"`
	// ResolutionShare is the smallest difference that Starts starts of each of
	// two configurations tell from noise, as a share, at Spread.
	ResolutionShare float64 `json:"resolution_share"`
	Spread          float64 `json:"spread"`
	Jobs            []Job   `json:"jobs,omitempty"`
}

// Report is what `plan --json` prints for cells.
type Report struct {
	Cells       []Entry `json:"cells"`
	Totals      Totals  `json:"totals"`
	VLLMVersion string  `json:"vllm_version"`
	Profile     string  `json:"profile"`
}

// Resolution is the smallest difference, as a share, that a comparison of starts
// server starts on each side resolves at 95 % confidence, if the logarithm of the
// metric has the standard deviation spread from start to start.
//
// Source: docs/timing-model.md, cells of the plan: exp(1.96 x spread x
// sqrt(2/starts)) - 1.
func Resolution(starts int, spread float64) float64 {
	return math.Expm1(confidenceZ * spread * math.Sqrt(2/float64(max(1, starts))))
}

// Cells predicts what the request asks for.
//
// It fails with *experiment.UsageError for a wrong request; refusals of the
// engine are entries, not errors.
func Cells(plan *experiment.Plan, request experiment.Request, o CellOptions) (*Report, error) {
	o = o.withDefaults(plan)
	bases := o.Bases
	if len(bases) == 0 {
		bases = []string{request.Base}
	}
	p := predictor{plan: plan, o: o, cache: map[string]*prediction{}}
	report := &Report{VLLMVersion: o.Version.String(), Profile: o.Profile.Name}
	configurations := map[string]*prediction{}
	for _, base := range bases {
		request.Base = base
		cells, err := plan.Resolve(request)
		if err != nil {
			return nil, err
		}
		baselines, err := p.baselines(request)
		if err != nil {
			return nil, err
		}
		for _, cell := range cells {
			pr := p.predict(cell)
			report.Cells = append(report.Cells, p.entries(cell, base, pr, baselines)...)
			report.Totals.Cells++
			if pr.refused != "" {
				report.Totals.Refused++
			}
			key := p.key(cell)
			if _, known := configurations[key]; !known {
				configurations[key] = pr
				pr.id = cell.ID
				if len(bases) > 1 {
					pr.id += " (" + baseName(base) + ")"
				}
				pr.order = len(configurations)
			}
		}
	}
	report.Totals.finish(configurations, o)
	return report, nil
}

func (o CellOptions) withDefaults(plan *experiment.Plan) CellOptions {
	if o.Version.IsZero() {
		o.Version = vllm.MustVersion(vllm.DefaultVersion)
	}
	if o.Model == "" {
		o.Model = plan.Model
	}
	if o.Starts < 1 {
		o.Starts = DefaultStarts
	}
	if o.Spread <= 0 {
		o.Spread = DefaultSpread
	}
	if o.Profile == nil {
		o.Profile, o.builtIn = model.GLM46H200(), true
	}
	return o
}

func baseName(base string) string {
	if base == "" {
		return "eager"
	}
	return base
}

// Hours predicts the hours of one start of each cell, all its levels: 0 for cells
// that are refused or unknown. Keys are cell ids.
func Hours(plan *experiment.Plan, cells []experiment.Cell, o CellOptions) map[string]float64 {
	p := predictor{plan: plan, o: o.withDefaults(plan), cache: map[string]*prediction{}}
	out := map[string]float64{}
	for _, c := range cells {
		out[c.ID] = p.predict(c).total().Hours()
	}
	return out
}

// LevelTimes is what one level of a cell is predicted to take.
type LevelTimes struct {
	Name             string
	Concurrency      int // streams; 0 in an open loop
	WarmUp, Duration time.Duration
	// LongestE2E of a request.
	LongestE2E time.Duration
}

// Times predicts start-up and levels of one cell; the error says why it cannot.
func Times(plan *experiment.Plan, cell experiment.Cell, o CellOptions) (startup time.Duration, levels []LevelTimes, err error) {
	p := predictor{plan: plan, o: o.withDefaults(plan), cache: map[string]*prediction{}}
	pr := p.predict(cell)
	if text := pr.refused + pr.unknown; text != "" {
		return 0, nil, errors.New("predict: " + cell.ID + ": " + text)
	}
	for _, l := range pr.levels {
		levels = append(levels, LevelTimes{
			Name: l.name, Concurrency: l.concurrency, WarmUp: l.warmUp,
			Duration: time.Duration(l.DurationSeconds * float64(time.Second)), LongestE2E: l.LongestE2E,
		})
	}
	return pr.startup, levels, nil
}

type predictor struct {
	plan  *experiment.Plan
	o     CellOptions
	cache map[string]*prediction
}

// prediction of one configuration.
type prediction struct {
	id               string
	order            int
	refused, unknown string
	assumed          string
	kvTokens         int
	concurrency      float64
	startup          time.Duration
	levels           []levelPrediction
}

type levelPrediction struct {
	Summary
	name        string
	concurrency int
	warmUp      time.Duration
	capped      bool
}

// total is one start: start-up and all levels.
func (p *prediction) total() time.Duration {
	if p.refused+p.unknown != "" {
		return 0
	}
	sum := p.startup
	for _, l := range p.levels {
		sum += l.time()
	}
	return sum
}

func (l levelPrediction) time() time.Duration {
	return l.warmUp + time.Duration(l.DurationSeconds*float64(time.Second))
}

// key is equal for cells that are measured once.
func (p *predictor) key(c experiment.Cell) string {
	return c.ConfigHash
}

func (p *predictor) predict(c experiment.Cell) *prediction {
	if pr, ok := p.cache[p.key(c)]; ok {
		return pr
	}
	pr := &prediction{}
	p.cache[p.key(c)] = pr
	cfg, refusal := c.EngineConfig(p.o.Version, p.o.Model)
	if refusal != nil {
		pr.refused = refusal.Reason
		return pr
	}
	if text := mismatch(c.Shape(), p.o.Profile.Shape); text != "" {
		pr.unknown = text
		return pr
	}
	profile := p.o.Profile
	if p.o.builtIn {
		profile = model.BuiltIn(cfg)
	}
	m, err := model.New(profile, cfg, model.Options{DrawNGram: true, TunedMoE: tunedTiles(c)})
	var no *vllm.RefusalError
	switch {
	case errors.As(err, &no):
		pr.refused = no.Reason
		return pr
	case err != nil:
		pr.unknown = err.Error()
		return pr
	}
	pr.kvTokens, pr.concurrency, pr.startup = m.KVTokens(), m.MaxConcurrency(), m.StartupTotal()
	pr.assumed = assumptions(m, cfg)
	for _, l := range c.Levels {
		lp, err := p.level(c, m, l)
		if err != nil {
			pr.unknown, pr.levels = err.Error(), nil
			return pr
		}
		pr.levels = append(pr.levels, lp)
	}
	return pr
}

// mismatch says why a profile is not for a plan's model; "" if it is, as far as
// the plan knows its model.
func mismatch(plan vllm.ModelShape, profile model.Shape) string {
	for _, c := range []struct {
		what          string
		plan, profile int
	}{
		{"layers", plan.Layers, profile.Layers}, {"KV heads", plan.KVHeads, profile.KVHeads},
		{"query heads", plan.AttentionHeads, profile.QueryHeads}, {"experts", plan.Experts, profile.Experts},
	} {
		if c.plan != 0 && c.plan != c.profile {
			return fmt.Sprintf("the profile is for a model with %d %s, the plan's has %d; give a profile of that model", c.profile, c.what, c.plan)
		}
	}
	return ""
}

func tunedTiles(c experiment.Cell) bool {
	return slices.ContainsFunc(c.ServerEnv, func(e experiment.EnvVar) bool { return e.Name == vllm.TunedConfigFolderEnv && e.Value != "" })
}

func assumptions(m *model.Model, cfg vllm.EngineConfig) string {
	var out []string
	if n := cfg.DataParallelSize; n > 1 {
		out = append(out, fmt.Sprintf("%d replicas, each with this KV cache; step times derived from those of one replica over all GPUs", n))
	}
	if a := m.Engine().Spec.Acceptance; cfg.Spec != nil && a != nil {
		out = append(out, fmt.Sprintf("drafts in %.0f %% of steps, accepted by position (cumulative) %v; the data decide", 100*a.DraftProbability, a.Cumulative))
	}
	return strings.Join(out, "; ")
}

// lengths gives n samples as the level uses them, cut to what fits.
func (p *predictor) lengths(c experiment.Cell, m *model.Model, l experiment.Level) (out []Length, capped bool, err error) {
	var all []Length
	if p.o.Lengths != nil {
		all = p.o.Lengths(c.Dataset)
	}
	var average Length // of the plan, for what the samples do not say
	if d := p.plan.Dataset(c.Dataset); d != nil {
		average = Length{d.PromptTokens, d.TargetTokens}
	}
	if len(all) == 0 {
		all = []Length{average}
	}
	n := max(1, c.Settings.NumSamples)
	if l.Requests > 0 {
		n = min(n, l.Requests)
	}
	out = make([]Length, n)
	for i := range out {
		s := all[i%len(all)]
		if s.Prompt < 1 {
			s.Prompt = average.Prompt
		}
		if s.Target < 1 {
			s.Target = average.Target
		}
		if l.OutputTokens > 0 {
			s.Target = l.OutputTokens
		}
		if most := c.Settings.MaxTokens; most > 0 && (s.Target < 1 || s.Target > most) {
			s.Target = most
		}
		if s.Prompt < 1 || s.Target < 1 {
			return nil, false, fmt.Errorf("neither plan nor samples say how long the samples of %q are", c.Dataset)
		}
		room := m.MaxModelLen() - s.Prompt
		if room < 1 {
			return nil, false, fmt.Errorf("prompts of %d tokens do not fit max-model-len %d", s.Prompt, m.MaxModelLen())
		}
		capped = capped || s.Target > room
		s.Target = min(s.Target, room)
		out[i] = s
	}
	return out, capped, nil
}

// warmUpTokens is the longest output of a warm-up request.
// Source: docs/metrics.md, warm-up.
const warmUpTokens = 64

func (p *predictor) level(c experiment.Cell, m *model.Model, l experiment.Level) (levelPrediction, error) {
	lengths, capped, err := p.lengths(c, m, l)
	if err != nil {
		return levelPrediction{}, err
	}
	out := levelPrediction{name: l.Name, concurrency: l.Concurrency, capped: capped}
	if l.Auto {
		tokens := 0
		for _, s := range lengths {
			tokens += s.Prompt + s.Target
		}
		out.concurrency = min(len(lengths), max(1, m.KVTokens()*len(lengths)/tokens))
		out.name = fmt.Sprintf("c%d", out.concurrency)
	}
	run := mockvllm.VirtualRun{Engine: m.Sim(), Timer: m, MaxConcurrency: out.concurrency}
	for i, s := range lengths {
		q := mockvllm.VirtualRequest{PromptTokens: s.Prompt, OutputTokens: s.Target}
		if l.RequestRate > 0 {
			q.At = time.Duration(float64(i) / l.RequestRate * float64(time.Second))
		}
		run.Requests = append(run.Requests, q)
	}
	res, err := mockvllm.RunVirtual(run)
	if err != nil {
		return out, err
	}
	out.Summary = Summarize(res)
	run.Requests = run.Requests[:min(len(run.Requests), 2*max(1, out.concurrency))]
	run.Requests = slices.Clone(run.Requests)
	for i := range run.Requests {
		run.Requests[i].OutputTokens = min(run.Requests[i].OutputTokens, warmUpTokens)
	}
	if res, err = mockvllm.RunVirtual(run); err != nil {
		return out, err
	}
	const longestWarmUp = 10 * time.Minute
	out.warmUp = min(time.Duration(Summarize(res).DurationSeconds*float64(time.Second)), longestWarmUp)
	return out, nil
}

// baselines are the plan's baseline cells by data set, under the load of the
// request but none of its settings.
func (p *predictor) baselines(r experiment.Request) (map[string]*prediction, error) {
	cells, err := p.plan.Resolve(experiment.Request{
		All: true, Base: r.Base, NumSamples: r.NumSamples, MaxTokens: r.MaxTokens,
		Concurrency: r.Concurrency, RequestRate: r.RequestRate,
		Lookup: func(string) (string, bool) { return "", false },
	})
	if err != nil {
		return nil, err
	}
	out := map[string]*prediction{}
	eager := r.Base != "compiled"
	for _, want := range []func(experiment.Cell) bool{
		func(c experiment.Cell) bool { return len(c.Differs) == 0 },
		func(c experiment.Cell) bool { return c.Config == "baseline" },
	} {
		for _, c := range cells {
			if out[c.Dataset] == nil && want(c) && (r.Base == "" || c.Settings.EnforceEager == eager) {
				out[c.Dataset] = p.predict(c)
			}
		}
	}
	return out, nil
}

func (p *predictor) entries(c experiment.Cell, base string, pr *prediction, baselines map[string]*prediction) []Entry {
	var out []Entry
	for i, l := range c.Levels {
		e := Entry{
			ID: c.ID, Modified: c.Modified, Dataset: c.Dataset, Base: baseName(base), Level: l.Name, Config: c.Config, ConfigHash: c.ConfigHash,
			SameAs: c.SameAs, Added: c.Added, Refused: pr.refused, Unknown: pr.unknown, Assumed: pr.assumed,
		}
		if pr.kvTokens > 0 {
			startup := pr.startup.Seconds()
			e.KVTokens, e.MaxConcurrency, e.StartupS = &pr.kvTokens, &pr.concurrency, &startup
		}
		if i < len(pr.levels) {
			p.fill(&e, pr, pr.levels[i], baselines[c.Dataset])
		}
		out = append(out, e)
	}
	return out
}

func (p *predictor) fill(e *Entry, pr *prediction, l levelPrediction, baseline *prediction) {
	hours, latency := (pr.startup + l.time()).Hours(), l.E2EL.MeanMs/1000
	e.Level, e.Hours, e.LatencyS = l.name, &hours, &latency
	e.Preemptions, e.TTFTMs, e.TPOTMs = &l.Preemptions, &l.TTFT.MeanMs, &l.TPOT.MeanMs
	e.TPS, e.OutputThroughput = &l.TPS, &l.OutputThroughput
	e.OutputCapped = l.capped
	if baseline == nil {
		return
	}
	for _, b := range baseline.levels {
		// Loads fitted to the KV cache differ, so they are not compared.
		if b.name != l.name || !(b.OutputThroughput > 0) {
			continue
		}
		ratio := l.OutputThroughput / b.OutputThroughput
		apart := math.Abs(ratio-1) > Resolution(p.o.Starts, p.o.Spread)
		e.VsBaseline, e.Distinguishable = &ratio, &apart
	}
}

func (t *Totals) finish(configurations map[string]*prediction, o CellOptions) {
	t.Configurations = len(configurations)
	t.Spread, t.ResolutionShare = o.Spread, Resolution(o.Starts, o.Spread)
	var list []*prediction
	for _, pr := range configurations {
		list = append(list, pr)
	}
	slices.SortFunc(list, func(a, b *prediction) int { return a.order - b.order })
	for _, pr := range list {
		if pr.total() > 0 {
			t.Starts += o.Starts
			t.Hours += pr.total().Hours() * float64(o.Starts)
		}
	}
	if o.Walltime > 0 {
		t.Jobs = pack(list, o)
	}
}

// pack puts starts into as few jobs of the walltime as first-fit in order of
// falling length finds.
func pack(list []*prediction, o CellOptions) []Job {
	type start struct {
		id    string
		hours float64
	}
	var starts []start
	for range o.Starts {
		for _, pr := range list {
			if h := pr.total().Hours(); h > 0 {
				starts = append(starts, start{pr.id, h})
			}
		}
	}
	slices.SortStableFunc(starts, func(a, b start) int {
		return cmp.Compare(b.hours, a.hours)
	})
	limit := o.Walltime.Hours()
	var jobs []Job
	for _, s := range starts {
		at := slices.IndexFunc(jobs, func(j Job) bool { return j.Hours+s.hours <= limit })
		if at < 0 {
			jobs = append(jobs, Job{TooLong: s.hours > limit})
			at = len(jobs) - 1
		}
		jobs[at].Hours += s.hours
		jobs[at].Cells = append(jobs[at].Cells, s.id)
	}
	return jobs
}
