package experiment

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/agext/levenshtein"
)

// Request is what a user asks for. The zero value asks for nothing, which is a
// usage error.
type Request struct {
	// Experiments are ids of experiments or cells (--exp, split at commas or
	// not): "3A" is all its data sets, "3A/64k" one. They replace EXP_NAME.
	Experiments []string
	// Group is --group, 0: none. All is --all: every cell of the plan.
	Group int
	All   bool
	// Added lets Group and All take the added cells too.
	Added bool
	// Dataset is --dataset, "" for none: like --set DATASET_TYPE.
	Dataset string
	// Base is --base: "", "eager" or "compiled".
	Base string
	// Set are --set NAME=VALUE; the last of a name wins.
	Set []string
	// NumSamples and MaxTokens are the flags of that name, 0 for none.
	NumSamples, MaxTokens int
	// Concurrency is --concurrency: "", "N[,N]" or "auto".
	Concurrency string
	// RequestRate is --request-rate in requests/s, 0 for none.
	RequestRate float64
	// Lookup reads the environment's variables; nil: Environ is used.
	Lookup func(name string) (string, bool)
	// Environ is the environment as "NAME=VALUE". It is searched for misspelt
	// variables; nil: not.
	Environ []string
	// KnownGLM46 are the GLM46_* variables that exist; nil: not checked.
	KnownGLM46 []string
}

// Resolve gives the cells that r asks for, in the plan's order, each once.
//
// --set (and the flags that stand for it) wins over the environment, the
// environment over the experiment, the experiment over the base. It fails with
// a *UsageError.
func (p *Plan) Resolve(r Request) ([]Cell, error) {
	if r.Environ != nil {
		if err := CheckEnvironment(r.Environ, r.KnownGLM46); err != nil {
			return nil, err
		}
	}
	q := query{plan: p, base: r.Base}
	if r.Base != "" && r.Base != "eager" && r.Base != "compiled" {
		return nil, &UsageError{What: fmt.Sprintf("--base %s: want eager or compiled", quote(r.Base)), Nearest: Nearest(r.Base, []string{"eager", "compiled"})}
	}
	var err error
	if q.levels, err = levelsFor(r.Concurrency, r.RequestRate); err != nil {
		return nil, err
	}
	if err := q.readOverrides(r); err != nil {
		return nil, err
	}
	chosen, err := q.choose(r)
	if err != nil {
		return nil, err
	}
	var cells []Cell
	for _, s := range chosen {
		c, err := q.cell(s, true)
		if err != nil {
			return nil, err
		}
		cells = append(cells, c)
	}
	if err := q.checkEffect(cells); err != nil {
		return nil, err
	}
	if err := q.findEqual(cells); err != nil {
		return nil, err
	}
	return cells, nil
}

// override is a variable that a flag, --set or the environment gives.
type override struct {
	name, value string
	source      string // for messages: "environment", "--set", "--dataset"
	flag        bool   // stronger than the environment
}

// query is one resolution under way.
type query struct {
	plan      *Plan
	base      string
	levels    []Level // nil: the data set's
	overrides []override
}

func (q *query) override(name string) (override, bool) {
	for _, o := range q.overrides {
		if o.name == name {
			return o, true
		}
	}
	return override{}, false
}

// readOverrides collects and checks every variable that is given, in the order
// of the table.
func (q *query) readOverrides(r Request) error {
	lookup := r.Lookup
	if lookup == nil {
		lookup = func(name string) (string, bool) {
			// The last of a name wins, as in qsub -v.
			for i := len(r.Environ) - 1; i >= 0; i-- {
				if value, ok := strings.CutPrefix(r.Environ[i], name+"="); ok {
					return value, true
				}
			}
			return "", false
		}
	}
	set, err := parseSet(r.Set)
	if err != nil {
		return err
	}
	flags := map[string]override{}
	addFlag := func(given bool, name, value, flag string) error {
		if !given {
			return nil
		}
		if o, ok := set[name]; ok && o.value != value {
			return usagef("%s %s and --set %s=%s contradict each other; give one of them", flag, quote(value), name, quote(o.value))
		}
		flags[name] = override{name, value, flag, true}
		return nil
	}
	for _, err := range []error{
		addFlag(r.Dataset != "", VarDatasetType, r.Dataset, "--dataset"),
		addFlag(r.NumSamples != 0, VarNumSamples, strconv.Itoa(r.NumSamples), "--num-samples"),
		addFlag(r.MaxTokens != 0, VarMaxTokens, strconv.Itoa(r.MaxTokens), "--max-tokens"),
	} {
		if err != nil {
			return err
		}
	}
	for _, name := range Variables() {
		o, ok := flags[name]
		if !ok {
			o, ok = set[name]
		}
		if !ok {
			value, found := lookup(name)
			if !found || name == VarExpName && value == "" {
				continue
			}
			o = override{name, value, "environment", false}
		}
		if err := q.checkOverride(o, len(r.Experiments) > 0); err != nil {
			return err
		}
		q.overrides = append(q.overrides, o)
	}
	return nil
}

func parseSet(list []string) (map[string]override, error) {
	out := map[string]override{}
	for _, s := range list {
		name, value, ok := strings.Cut(s, "=")
		if !ok {
			return nil, usagef("--set %s: want NAME=VALUE", quote(s))
		}
		if !slices.Contains(Variables(), name) {
			return nil, &UsageError{What: fmt.Sprintf("--set: unknown variable %s", quote(name)), Nearest: Nearest(name, Variables())}
		}
		out[name] = override{name, value, "--set", true}
	}
	return out, nil
}

// checkOverride refuses a value that its variable does not take.
func (q *query) checkOverride(o override, expGiven bool) error {
	var err error
	switch o.name {
	case VarExpName:
		if expGiven && !o.flag {
			return nil // --exp replaces it, whatever it holds
		}
		err = CheckExpName(o.value)
	case VarDatasetType:
		if q.plan.dataset(o.value) == nil {
			err = &UsageError{What: fmt.Sprintf("%s: want %s, got %s", VarDatasetType, orList(q.plan.datasetNames()), quote(o.value)),
				Nearest: Nearest(o.value, q.plan.datasetNames())}
		}
	default:
		scratch := q.plan.Baseline
		err = scratch.Set(o.name, o.value)
		if err == nil && scratch.TensorParallelSize > q.plan.GPUs {
			err = usagef("%s=%d is more than the plan's %d GPUs", VarTensorParallelSize, scratch.TensorParallelSize, q.plan.GPUs)
		}
	}
	if u, ok := err.(*UsageError); ok {
		return &UsageError{What: o.source + ": " + u.What, Nearest: u.Nearest}
	}
	return err
}

var expNamePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// CheckExpName refuses what may not name an experiment and its results folder:
// letters, digits, dots, underscores and dashes, a letter or digit first, at
// most 64. It fails with a *UsageError.
func CheckExpName(name string) error {
	if !expNamePattern.MatchString(name) {
		return usagef("%s: want letters, digits, dots, underscores and dashes (at most 64, a letter or digit first), got %s", VarExpName, quote(name))
	}
	return nil
}

// selection is a cell that was asked for.
type selection struct {
	group   *Group
	exp     *Experiment // nil: custom
	dataset string
	expName string
}

func (q *query) choose(r Request) ([]selection, error) {
	named := len(r.Experiments) > 0
	switch {
	case named && (r.All || r.Group != 0):
		return nil, usagef("--exp goes neither with --group nor with --all; give one of them")
	case r.All && r.Group != 0:
		return nil, usagef("--group does not go with --all; give one of them")
	case named:
		return q.chooseNamed(r.Experiments)
	case r.All || r.Group != 0:
		return q.chooseGroup(r.Group, r.All, r.Added)
	}
	o, ok := q.override(VarExpName)
	if !ok {
		return nil, usagef("no experiment: set %s, or give --exp, --group or --all (`glm46 list` shows them)", VarExpName)
	}
	return []selection{q.chooseExpName(o.value)}, nil
}

// chooseNamed takes the ids of --exp.
func (q *query) chooseNamed(list []string) ([]selection, error) {
	wanted := map[string]bool{}
	for _, part := range list {
		for id := range strings.SplitSeq(part, ",") {
			id = strings.TrimSpace(id)
			keys, err := q.named(id)
			if err != nil {
				return nil, err
			}
			for _, k := range keys {
				wanted[k] = true
			}
		}
	}
	var out []selection
	q.eachExperiment(func(g *Group, x *Experiment) {
		for _, d := range q.plan.Datasets {
			if wanted[x.ID+"/"+d.Name] {
				out = append(out, selection{g, x, d.Name, x.ID})
			}
		}
	})
	return out, nil
}

// named gives "experiment/data set" for every cell that one id of --exp means.
func (q *query) named(id string) ([]string, error) {
	name, dataset, exact := strings.Cut(id, "/")
	x := q.plan.experiment(name)
	if x == nil || exact && !x.has(dataset) {
		hint := ""
		if x != nil && q.plan.dataset(dataset) != nil {
			hint = fmt.Sprintf(" (the plan has no such cell; --exp %s --dataset %s makes one)", x.ID, dataset)
		}
		return nil, &UsageError{What: fmt.Sprintf("--exp: unknown experiment %s%s", quote(id), hint), Nearest: Nearest(id, q.plan.ids())}
	}
	o, given := q.override(VarDatasetType)
	switch {
	case exact && given && o.flag && o.value != dataset:
		return nil, usagef("--exp %s and %s %s contradict each other; give one of them", id, o.source, quote(o.value))
	case exact:
		return []string{id}, nil
	case given:
		return []string{x.ID + "/" + o.value}, nil
	}
	var out []string
	for _, d := range x.Datasets {
		out = append(out, x.ID+"/"+d.Name)
	}
	return out, nil
}

func (x *Experiment) has(dataset string) bool {
	return slices.ContainsFunc(x.Datasets, func(d ExperimentDataset) bool { return d.Name == dataset })
}

// chooseGroup takes the plan's cells of a group, or all; DATASET_TYPE leaves
// only those of that data set.
func (q *query) chooseGroup(group int, all, added bool) ([]selection, error) {
	if !all && !slices.ContainsFunc(q.plan.Groups, func(g Group) bool { return g.ID == group }) {
		var ids []string
		for _, g := range q.plan.Groups {
			ids = append(ids, strconv.Itoa(g.ID))
		}
		return nil, &UsageError{What: fmt.Sprintf("--group %d: the plan has no such group (it has %s)", group, strings.Join(ids, ", ")), Nearest: Nearest(strconv.Itoa(group), ids)}
	}
	o, given := q.override(VarDatasetType)
	var out []selection
	q.eachExperiment(func(g *Group, x *Experiment) {
		if !all && g.ID != group || x.Added && !added {
			return
		}
		for _, d := range x.Datasets {
			if !given || d.Name == o.value {
				out = append(out, selection{g, x, d.Name, x.ID})
			}
		}
	})
	if len(out) == 0 {
		return nil, usagef("no cell of that kind on data set %s", quote(o.value))
	}
	return out, nil
}

// chooseExpName takes EXP_NAME: an id, alone or before "_", "-" or "." (the
// longest that fits), else a custom experiment. It is always one cell.
func (q *query) chooseExpName(name string) selection {
	s := selection{expName: name}
	q.eachExperiment(func(g *Group, x *Experiment) {
		rest, ok := strings.CutPrefix(name, x.ID)
		if ok && (rest == "" || strings.ContainsRune("_-.", rune(rest[0]))) && (s.exp == nil || len(x.ID) > len(s.exp.ID)) {
			s.group, s.exp = g, x
		}
	})
	o, given := q.override(VarDatasetType)
	switch {
	case given:
		s.dataset = o.value
	case s.exp != nil && len(s.exp.Datasets) == 1:
		s.dataset = s.exp.Datasets[0].Name
	case s.exp != nil && !s.exp.has(q.plan.defaultDataset()):
		s.dataset = s.exp.Datasets[0].Name
	default:
		s.dataset = q.plan.defaultDataset()
	}
	return s
}

// defaultDataset is 8k, or the first one where a plan has no 8k.
func (p *Plan) defaultDataset() string {
	if p.dataset("8k") != nil {
		return "8k"
	}
	return p.Datasets[0].Name
}

func (q *query) eachExperiment(visit func(*Group, *Experiment)) {
	for i := range q.plan.Groups {
		g := &q.plan.Groups[i]
		for j := range g.Experiments {
			visit(g, &g.Experiments[j])
		}
	}
}

// cell builds a cell; asked: with the overrides, else as the plan has it but
// for the number and length of samples.
func (q *query) cell(s selection, asked bool) (Cell, error) {
	p := q.plan
	d := p.dataset(s.dataset)
	c := Cell{
		ID: s.expName, Experiment: s.expName, ExpName: s.expName, Config: "custom", Dataset: s.dataset,
		Notes: "custom experiment, not in the plan", Custom: s.exp == nil, Base: q.base,
		VLLMArgs: slices.Clone(p.VLLMArgs), ServerEnv: p.ServerEnv,
		shape: p.Shape, model: p.Model,
	}
	base := p.Baseline
	base.NumSamples = d.Samples
	home, homeSettings := base, base
	if q.base != "" {
		base.EnforceEager = q.base == "eager"
	}
	settings, foreign := base, false
	if x := s.exp; x != nil {
		set := x.Set
		i := slices.IndexFunc(x.Datasets, func(d ExperimentDataset) bool { return d.Name == s.dataset })
		foreign = i < 0
		c.ID, c.Experiment, c.Config, c.Added = x.ID, x.ID, x.Config, x.Added
		c.Notes, c.Correction = x.Notes, x.Correction
		if i >= 0 {
			set = x.Datasets[i].Set
			if x.Datasets[i].Correction != "" {
				c.Correction = x.Datasets[i].Correction
			}
		}
		if len(x.Datasets) > 1 || foreign {
			c.ID += "/" + s.dataset
		}
		c.Group, c.GroupTitle = s.group.ID, s.group.Title
		c.VLLMArgs = append(c.VLLMArgs, x.VLLMArgs...)
		c.ServerEnv = mergeEnv(p.ServerEnv, x.ServerEnv)
		c.since, c.sinceWhy = x.Since, x.SinceWhy
		for _, v := range set {
			if err := errors.Join(settings.Set(v.Name, v.Value), homeSettings.Set(v.Name, v.Value)); err != nil {
				return c, err
			}
		}
	}
	planned, err := settings.normalize()
	if err != nil {
		return c, err
	}
	for _, o := range q.overrides {
		if o.name == VarExpName || o.name == VarDatasetType {
			continue
		}
		if asked || o.name == VarNumSamples || o.name == VarMaxTokens {
			if err := settings.Set(o.name, o.value); err != nil {
				return c, err
			}
		}
	}
	if c.Settings, err = settings.normalize(); err != nil {
		u := err.(*UsageError)
		return c, &UsageError{What: c.ID + ": " + u.What, Nearest: u.Nearest}
	}
	c.Modified = !c.Custom && (foreign || !slices.Equal(c.Settings.Vars(), planned.Vars()))
	c.Differs = difference(base, c.Settings)
	c.CUDAGraphs, c.TorchCompile = "enabled", "enabled"
	if c.Settings.EnforceEager {
		c.CUDAGraphs, c.TorchCompile = "disabled", "disabled"
	}
	c.Levels = applyCaps(q.levels, d.Levels, c.Settings)
	c.Env, c.short = c.environment(), c.shortEnv(home, homeSettings, p.defaultDataset())
	c.ConfigHash, c.ServerHash = c.configHash(), c.serverHash()
	return c, nil
}

// mergeEnv puts b over a, sorted by name.
func mergeEnv(a, b []EnvVar) []EnvVar {
	out := slices.Clone(b)
	for _, v := range a {
		if !slices.ContainsFunc(out, func(o EnvVar) bool { return o.Name == v.Name }) {
			out = append(out, v)
		}
	}
	slices.SortFunc(out, func(a, b EnvVar) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// difference lists what b sets otherwise than a.
func difference(a, b Settings) []EnvVar {
	base := map[string]string{}
	for _, v := range a.Vars() {
		base[v.Name] = v.Value
	}
	var out []EnvVar
	for _, v := range b.Vars() {
		if old, ok := base[v.Name]; !ok || old != v.Value {
			// ngram is the method of every base without speculation too.
			if v.Name == VarMTPMethod && v.Value == a.MTPMethod {
				continue
			}
			out = append(out, v)
		}
	}
	return out
}

// environment gives the variables that, as an environment, give the cell back.
func (c Cell) environment() []EnvVar {
	vars := append([]EnvVar{{VarExpName, c.ExpName}, {VarDatasetType, c.Dataset}}, c.Settings.Vars()...)
	order := Variables()
	slices.SortStableFunc(vars, func(a, b EnvVar) int { return slices.Index(order, a.Name) - slices.Index(order, b.Name) })
	return vars
}

// ShortEnv is the part of Env that a job must say, as the plan's `qsub -v`
// lines do: EXP_NAME first, what differs from the plan's baseline or from the
// experiment, DATASET_TYPE where it is not the default, NUM_SAMPLES last.
func (c Cell) ShortEnv() []EnvVar { return slices.Clone(c.short) }

// shortEnv computes ShortEnv; home is the plan's baseline and planned what the
// experiment makes of it, both without --base, which is no variable.
func (c Cell) shortEnv(home, planned Settings, defaultDataset string) []EnvVar {
	needed := append(difference(home, c.Settings), difference(planned, c.Settings)...)
	out := []EnvVar{{VarExpName, c.ExpName}}
	for _, v := range c.Settings.Vars() {
		if v.Name != VarNumSamples && slices.Contains(needed, v) {
			out = append(out, v)
		}
	}
	if c.Dataset != defaultDataset {
		out = append(out, EnvVar{VarDatasetType, c.Dataset})
	}
	return append(out, EnvVar{VarNumSamples, strconv.Itoa(c.Settings.NumSamples)})
}

// levelsFor gives the levels that flags ask for, nil for the data set's own.
func levelsFor(concurrency string, rate float64) ([]Level, error) {
	switch {
	case rate != 0 && (math.IsNaN(rate) || math.IsInf(rate, 0) || rate < 0 || rate > 1e6):
		return nil, usagef("--request-rate: want requests/s, above 0 and at most 1,000,000, got %v", rate)
	case rate != 0 && concurrency != "":
		return nil, usagef("--request-rate (open loop) does not go with --concurrency (closed loop); give one of them")
	case rate != 0:
		l := Level{RequestRate: rate}
		l.Name = levelName(l)
		return []Level{l}, nil
	case concurrency == "":
		return nil, nil
	case concurrency == "auto":
		return []Level{{Name: "auto", Auto: true}}, nil
	case len(concurrency) > 4096:
		return nil, usagef("--concurrency %s: too long", quote(concurrency))
	}
	var out []Level
	for part := range strings.SplitSeq(concurrency, ",") {
		n, err := parseInt(strings.TrimSpace(part), 1, maxConcurrency)
		if err != nil {
			return nil, usagef("--concurrency %s: want whole numbers from 1 to %d with commas between them, or auto", quote(concurrency), maxConcurrency)
		}
		l := Level{Concurrency: n}
		l.Name = levelName(l)
		if slices.Contains(out, l) {
			return nil, usagef("--concurrency %s: %d is there twice", quote(concurrency), n)
		}
		out = append(out, l)
	}
	return out, nil
}

func levelName(l Level) string {
	if l.RequestRate > 0 {
		return "r" + formatDecimal(l.RequestRate)
	}
	return "c" + strconv.Itoa(l.Concurrency)
}

// applyCaps brings levels within NUM_SAMPLES and MAX_TOKENS.
func applyCaps(asked, own []Level, s Settings) []Level {
	levels := slices.Clone(own)
	if asked != nil {
		levels = slices.Clone(asked)
	}
	for i := range levels {
		l := &levels[i]
		l.Requests = min(l.Requests, s.NumSamples)
		if s.MaxTokens > 0 && l.OutputTokens > 0 {
			l.OutputTokens = min(l.OutputTokens, s.MaxTokens)
		}
	}
	return levels
}

// checkEffect refuses a speculation variable that changes nothing in any cell:
// the user believes that it does.
func (q *query) checkEffect(cells []Cell) error {
	if slices.ContainsFunc(cells, func(c Cell) bool { return c.Settings.EnableMTP }) {
		return nil
	}
	for _, name := range []string{VarMTPNumTokens, VarMTPMethod, VarSpeculativeModel} {
		o, ok := q.override(name)
		if ok && (name != VarMTPMethod || o.value != "ngram") {
			return usagef("%s: %s=%s changes nothing without %s=yes", o.source, name, quote(o.value), VarEnableMTP)
		}
	}
	return nil
}

// findEqual fills in SameAs: the plan's cells with the same hash, under the
// levels that were asked for.
func (q *query) findEqual(cells []Cell) error {
	added := slices.ContainsFunc(cells, func(c Cell) bool { return c.Added })
	var plan []Cell
	var err error
	q.eachExperiment(func(g *Group, x *Experiment) {
		for _, d := range x.Datasets {
			if x.Added && !added {
				continue
			}
			c, e := q.cell(selection{g, x, d.Name, x.ID}, false)
			if e != nil {
				err = e
			}
			plan = append(plan, c)
		}
	})
	if err != nil {
		return err
	}
	for i := range cells {
		c := &cells[i]
		c.SameAs = []string{}
		for _, o := range plan {
			if o.ConfigHash == c.ConfigHash && o.ID != c.ID {
				c.SameAs = append(c.SameAs, o.ID)
			}
		}
	}
	return nil
}

// foreign are variables of other software that come within two edits of ours.
// Sources: RTYPE is a resource type of ABCI (docs/pbs.md); OSTYPE, HOSTTYPE and
// SHTYPE come from shells; the others are common in containers and builds.
var foreign = []string{"RTYPE", "OSTYPE", "SHTYPE", "TYPE", "CTYPE", "STYLE", "APP_NAME", "ENV_NAME"}

// CheckEnvironment looks for variables that are probably misspelt: names within
// two edits of a known one, and GLM46_* names that do not exist. environ holds
// "NAME=VALUE"; knownGLM46 the names that exist, nil to leave those alone.
//
// It fails with a *UsageError that holds the nearest names.
func CheckEnvironment(environ []string, knownGLM46 []string) error {
	ours := Variables()
	known := append(slices.Clone(ours), knownGLM46...)
	for _, e := range environ {
		name, _, _ := strings.Cut(e, "=")
		if slices.Contains(known, name) || slices.Contains(foreign, name) {
			continue
		}
		if strings.HasPrefix(name, "GLM46_") {
			if knownGLM46 == nil {
				continue
			}
			return &UsageError{What: fmt.Sprintf("environment: unknown variable %s", quote(name)), Nearest: Nearest(name, knownGLM46)}
		}
		for _, k := range known {
			if misspelt(name, k) {
				return &UsageError{What: fmt.Sprintf("environment: %s looks like a misspelt %s; unset it if it is another program's", quote(name), k), Nearest: Nearest(name, known)}
			}
		}
	}
	return nil
}

// misspelt: at most two edits apart, or the same but for case.
func misspelt(name, known string) bool {
	if d := len(name) - len(known); d < -2 || d > 2 {
		return false
	}
	return strings.EqualFold(name, known) || levenshtein.Distance(name, known, nil) <= 2
}
