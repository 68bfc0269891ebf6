package experiment

import (
	_ "embed"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/glm46/glm46/mockvllm/vllm"
)

//go:embed glm46.yaml
var defaultPlan []byte

// Default is the embedded plan: GLM-4.6 on 8 x H200.
func Default() *Plan {
	p, err := Parse("glm46.yaml", defaultPlan)
	if err != nil {
		panic(err) // our bug: the embedded plan is tested
	}
	return p
}

// DefaultYAML is the text of the embedded plan, to start another one from.
func DefaultYAML() []byte { return slices.Clone(defaultPlan) }

// SchemaVersion is the only value of a plan's `schema`.
const SchemaVersion = 1

// MaxPlanBytes bounds a plan file. A plan is written by hand (the embedded one
// has 6 kB), and the YAML library is quadratic in the keys of one mapping.
const MaxPlanBytes = 256 << 10

const (
	maxNesting = 32 // a plan needs 8
	maxFaults  = 20 // shown at once
)

// Parse reads a plan from YAML. name stands in errors.
//
// It fails with a *UsageError whose text is one line a fault,
// "name:line:column: what is wrong", at most 20 of them.
func Parse(name string, data []byte) (*Plan, error) {
	r := &reader{file: name}
	root, err := r.parse(data)
	if err != nil {
		return nil, err
	}
	p := r.plan(root)
	if err := r.err(); err != nil {
		return nil, err
	}
	return p, nil
}

// reader walks the syntax tree and collects faults. It does not decode into
// structs, because every fault then has its line, column and nearest key.
type reader struct {
	file   string
	faults []*UsageError
}

// entry is one "key: value" of a mapping.
type entry struct {
	key   string
	tok   *token.Token
	value ast.Node
}

func (r *reader) err() error {
	switch {
	case len(r.faults) == 0:
		return nil
	case len(r.faults) == 1:
		return r.faults[0]
	}
	var lines []string
	for i, f := range r.faults {
		if i == maxFaults {
			lines = append(lines, fmt.Sprintf("%s: %d more", r.file, len(r.faults)-i))
			break
		}
		lines = append(lines, f.Error())
	}
	return &UsageError{What: strings.Join(lines, "\n")}
}

func (r *reader) at(tok *token.Token) string {
	if tok == nil || tok.Position == nil {
		return r.file
	}
	return fmt.Sprintf("%s:%d:%d", r.file, tok.Position.Line, tok.Position.Column)
}

func (r *reader) fault(tok *token.Token, format string, args ...any) {
	r.faults = append(r.faults, usagef("%s: %s", r.at(tok), fmt.Sprintf(format, args...)))
}

func (r *reader) faultNearest(tok *token.Token, nearest []string, format string, args ...any) {
	r.fault(tok, format, args...)
	r.faults[len(r.faults)-1].Nearest = nearest
}

// adopt reports an error of a lower layer at a place.
func (r *reader) adopt(tok *token.Token, err error) {
	var u *UsageError
	if errors.As(err, &u) {
		r.faultNearest(tok, u.Nearest, "%s", u.What)
		return
	}
	r.fault(tok, "%v", err)
}

// parse gives the root of the only document.
func (r *reader) parse(data []byte) (root ast.Node, err error) {
	if len(data) > MaxPlanBytes {
		return nil, usagef("%s: larger than %d bytes; a plan is a short YAML file", r.file, MaxPlanBytes)
	}
	if !utf8.Valid(data) {
		return nil, usagef("%s: not UTF-8", r.file)
	}
	if line := tooDeep(data); line > 0 {
		return nil, usagef("%s:%d: nested deeper than %d", r.file, line, maxNesting)
	}
	// The YAML library has panicked on malformed input before; a plan is input.
	defer func() {
		if p := recover(); p != nil {
			root, err = nil, usagef("%s: not readable as YAML (%v)", r.file, p)
		}
	}()
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		var y yaml.Error
		if errors.As(err, &y) {
			return nil, usagef("%s: %s", r.at(y.GetToken()), y.GetMessage())
		}
		return nil, usagef("%s: %v", r.file, err)
	}
	var docs []ast.Node
	for _, d := range file.Docs {
		if d != nil && d.Body != nil && d.Body.Type() != ast.CommentType {
			docs = append(docs, d.Body)
		}
	}
	switch len(docs) {
	case 0:
		return nil, usagef("%s: empty; a plan needs at least model, gpus, datasets and groups", r.file)
	case 1:
		return docs[0], nil
	}
	return nil, usagef("%s: more than one YAML document", r.at(docs[1].GetToken()))
}

// tooDeep gives the first line that nests deeper than a plan can, 0 for none.
// It bounds the recursion of the YAML library, so it may err on the safe side.
func tooDeep(data []byte) int {
	depth, line := 0, 1
	for i, b := range data {
		switch b {
		case '[', '{':
			depth++
		case ']', '}':
			depth = max(0, depth-1)
		case '\n':
			line++
		}
		if depth > maxNesting {
			return line
		}
		if b != '\n' && i != 0 {
			continue
		}
		start := i
		if b == '\n' {
			start++
		}
		rest := data[start:]
		marks, blanks := 0, 0
		for _, c := range rest {
			if c == '-' || c == '?' || c == ':' || c == '&' || c == '!' {
				marks++
			} else if c == ' ' || c == '\t' {
				blanks++
			} else {
				break
			}
			if marks > maxNesting && blanks >= maxNesting || blanks > 1000 {
				return line
			}
		}
	}
	return 0
}

// mapping gives the entries of a mapping. known, if not nil, are its only keys.
// A null node gives none.
func (r *reader) mapping(n ast.Node, what string, known []string) []entry {
	var values []*ast.MappingValueNode
	switch m := n.(type) {
	case *ast.MappingNode:
		values = m.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{m}
	case *ast.NullNode, nil:
		return nil
	default:
		r.fault(n.GetToken(), "%s: want a mapping (key: value)", what)
		return nil
	}
	var out []entry
	for _, v := range values {
		key, ok := scalar(v.Key)
		if !ok {
			r.fault(v.Key.GetToken(), "%s: keys are plain words; anchors, aliases, merges and tags are not taken", what)
			continue
		}
		if known != nil && !slices.Contains(known, key) {
			r.faultNearest(v.Key.GetToken(), Nearest(key, known), "%s: unknown key %s", what, quote(key))
			continue
		}
		out = append(out, entry{key, v.Key.GetToken(), v.Value})
	}
	return out
}

// scalar gives a scalar's text as written: YAML's own idea of its type ("yes",
// 8, 1e3) does not matter, the field decides.
func scalar(n ast.Node) (string, bool) {
	switch s := n.(type) {
	case *ast.StringNode:
		return s.Value, true
	case *ast.LiteralNode:
		return s.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	}
	return "", false
}

// text gives a scalar on one line, without control characters.
func (r *reader) text(e entry) string {
	s, ok := scalar(e.value)
	if !ok {
		r.fault(e.tok, "%s: want a text; anchors, aliases and tags are not taken", e.key)
		return ""
	}
	s = strings.Join(strings.Fields(s), " ")
	if strings.ContainsFunc(s, unicode.IsControl) {
		r.fault(e.value.GetToken(), "%s: holds control characters", e.key)
		return ""
	}
	return s
}

func (r *reader) number(e entry, least, most int) int {
	s, ok := scalar(e.value)
	n, err := parseInt(s, least, most)
	if !ok || err != nil {
		r.fault(e.tok, "%s: want a whole number from %d to %d, got %s", e.key, least, most, quote(s))
		return 0
	}
	return n
}

func (r *reader) decimal(e entry) float64 {
	s, ok := scalar(e.value)
	f, err := parseDecimal(s)
	if !ok || err != nil {
		r.fault(e.tok, "%s: want a number, 0 or more, got %s", e.key, quote(s))
		return 0
	}
	return f
}

func (r *reader) yes(e entry) bool {
	s, _ := scalar(e.value)
	if s != "yes" && s != "no" {
		r.fault(e.tok, "%s: want yes or no, got %s", e.key, quote(s))
	}
	return s == "yes"
}

func (r *reader) list(e entry) []ast.Node {
	s, ok := e.value.(*ast.SequenceNode)
	if !ok {
		r.fault(e.tok, "%s: want a list", e.key)
		return nil
	}
	return s.Values
}

// word gives a name that may stand in paths and messages.
func (r *reader) word(e entry) string {
	s := r.text(e)
	if s != "" && !wordPattern.MatchString(s) {
		r.fault(e.tok, "%s: want letters, digits, dots, underscores and dashes (at most 32, a letter or digit first), got %s", e.key, quote(s))
		return ""
	}
	return s
}

var wordPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$`)

var planKeys = []string{"schema", "name", "model", "gpus", "gpu", "tensor_parallel_size", "shape", "datasets",
	"baseline", "vllm_args", "server_env", "published", "groups"}

func (r *reader) plan(root ast.Node) *Plan {
	p := &Plan{File: r.file}
	byKey := map[string]entry{}
	for _, e := range r.mapping(root, "plan", planKeys) {
		byKey[e.key] = e
	}
	for _, key := range []string{"schema", "model", "gpus", "datasets", "groups"} {
		if _, ok := byKey[key]; !ok && len(r.faults) == 0 {
			r.fault(root.GetToken(), "plan: %s is missing", key)
		}
	}
	with := func(key string, read func(e entry)) {
		if e, ok := byKey[key]; ok {
			read(e)
		}
	}
	with("schema", func(e entry) { r.number(e, SchemaVersion, SchemaVersion) })
	with("name", func(e entry) { p.Name = r.text(e) })
	with("model", func(e entry) {
		p.Model = r.text(e)
		if err := CheckModel(p.Model); err != nil {
			r.adopt(e.tok, err)
		}
	})
	with("gpus", func(e entry) { p.GPUs = r.number(e, 1, 1024) })
	with("gpu", func(e entry) { p.GPU = r.text(e) })
	p.TensorParallelSize = p.GPUs
	with("tensor_parallel_size", func(e entry) { p.TensorParallelSize = r.number(e, 1, max(1, p.GPUs)) })
	p.Shape.Name = p.Model
	with("shape", func(e entry) { r.shape(e, p) })
	with("datasets", func(e entry) { r.datasets(e, p) })

	p.Baseline = documentedBaseline
	tp := byKey["tensor_parallel_size"].tok
	if tp == nil {
		tp = byKey["gpus"].tok
	}
	if p.TensorParallelSize > 0 {
		if err := p.Baseline.Set(VarTensorParallelSize, strconv.Itoa(p.TensorParallelSize)); err != nil {
			r.adopt(tp, err)
		}
	}
	with("baseline", func(e entry) {
		for _, v := range r.settings(e) {
			switch v.Name {
			case VarNumSamples:
				r.fault(e.tok, "baseline: %s is the data set's: say samples under datasets", v.Name)
			case VarTensorParallelSize:
				r.fault(e.tok, "baseline: say tensor_parallel_size at the top instead of %s", v.Name)
			default:
				r.check(e.tok, p.Baseline.Set(v.Name, v.Value))
			}
		}
		s, err := p.Baseline.normalize()
		r.check(e.tok, err)
		p.Baseline = s
	})
	with("vllm_args", func(e entry) { p.VLLMArgs = r.vllmArgs(e) })
	with("server_env", func(e entry) { p.ServerEnv = r.serverEnv(e) })
	with("groups", func(e entry) { r.groups(e, p) })
	with("published", func(e entry) { r.published(e, p) })
	return p
}

// documentedBaseline is what a plan's baseline starts from.
// Source: docs/plan-schema.md, the table of variables.
var documentedBaseline = Settings{
	EnforceEager: true, EnableEP: true, ContextParallelSize: 1, MaxModelLen: 32768, KVCacheDtype: "fp8",
	EnablePrefixCaching: true, EnableChunkedPrefill: true, MTPMethod: "ngram",
	GPUMemoryUtilization: 0.95, TensorParallelSize: 8, Dtype: "bfloat16", NumSamples: 100,
}

func (r *reader) check(tok *token.Token, err error) {
	if err != nil {
		r.adopt(tok, err)
	}
}

var shapeKeys = []string{"architecture", "since", "max_position_embeddings", "layers", "attention_heads", "kv_heads", "experts", "mtp", "dtype"}

func (r *reader) shape(e entry, p *Plan) {
	s := &p.Shape
	for _, f := range r.mapping(e.value, "shape", shapeKeys) {
		switch f.key {
		case "architecture":
			s.Architecture = r.word(f)
		case "since":
			v, err := vllm.ParseVersion(r.text(f))
			r.check(f.tok, err)
			p.ModelSince = v
		case "max_position_embeddings":
			s.MaxPositionEmbeddings = r.number(f, 1, maxTokens)
		case "layers":
			s.Layers = r.number(f, 1, 10_000)
		case "attention_heads":
			s.AttentionHeads = r.number(f, 1, 100_000)
		case "kv_heads":
			s.KVHeads = r.number(f, 1, 100_000)
		case "experts":
			s.Experts = r.number(f, 0, 100_000)
		case "mtp":
			s.HasMTP = r.yes(f)
		case "dtype":
			s.Dtype = r.word(f)
		}
	}
}

func (r *reader) datasets(e entry, p *Plan) {
	for _, d := range r.mapping(e.value, "datasets", nil) {
		if !wordPattern.MatchString(d.key) {
			r.fault(d.tok, "datasets: a name has letters, digits, dots, underscores and dashes (at most 32), got %s", quote(d.key))
			continue
		}
		set := Dataset{Name: d.key, Samples: 100}
		for _, f := range r.mapping(d.value, "data set "+d.key, []string{"samples", "prompt_tokens", "target_tokens", "levels"}) {
			switch f.key {
			case "samples":
				set.Samples = r.number(f, 1, maxCount)
			case "prompt_tokens":
				set.PromptTokens = r.number(f, 1, maxTokens)
			case "target_tokens":
				set.TargetTokens = r.number(f, 1, maxTokens)
			case "levels":
				set.Levels = r.levels(f)
			}
		}
		if len(set.Levels) == 0 {
			r.fault(d.tok, "data set %s: needs levels, such as `levels: [{concurrency: 1}]`", d.key)
		}
		p.Datasets = append(p.Datasets, set)
	}
	if len(p.Datasets) == 0 {
		r.fault(e.tok, "datasets: at least one")
	}
}

func (r *reader) levels(e entry) []Level {
	var out []Level
	for _, n := range r.list(e) {
		var l Level
		for _, f := range r.mapping(n, "level", []string{"concurrency", "request_rate", "requests", "output_tokens"}) {
			switch f.key {
			case "concurrency":
				l.Concurrency = r.number(f, 1, maxConcurrency)
			case "request_rate":
				l.RequestRate = r.decimal(f)
				if l.RequestRate <= 0 {
					r.fault(f.tok, "request_rate: above 0 requests/s")
				}
			case "requests":
				l.Requests = r.number(f, 1, maxCount)
			case "output_tokens":
				l.OutputTokens = r.number(f, 1, maxTokens)
			}
		}
		if (l.Concurrency > 0) == (l.RequestRate > 0) {
			r.fault(n.GetToken(), "level: either concurrency (closed loop) or request_rate (open loop)")
			continue
		}
		l.Name = levelName(l)
		if slices.ContainsFunc(out, func(o Level) bool { return o.Name == l.Name }) {
			r.fault(n.GetToken(), "level: %s is there twice", l.Name)
			continue
		}
		out = append(out, l)
	}
	return out
}

// settings reads a mapping of variables to values, in the order of the table.
// Values are checked; the variables that choose a cell are not taken.
func (r *reader) settings(e entry) []EnvVar {
	got := map[string]string{}
	names := slices.DeleteFunc(Variables(), func(n string) bool { return n == VarExpName || n == VarDatasetType })
	for _, f := range r.mapping(e.value, e.key, names) {
		value, ok := scalar(f.value)
		if !ok {
			r.fault(f.tok, "%s: want a value", f.key)
			continue
		}
		scratch := documentedBaseline
		if err := scratch.Set(f.key, value); err != nil {
			r.adopt(f.tok, err)
			continue
		}
		got[f.key] = value
	}
	var out []EnvVar
	for _, name := range names {
		if v, ok := got[name]; ok {
			out = append(out, EnvVar{name, v})
		}
	}
	return out
}

func (r *reader) vllmArgs(e entry) []string {
	var out []string
	for _, n := range r.list(e) {
		s, ok := scalar(n)
		if !ok || s == "" || strings.ContainsFunc(s, unicode.IsControl) {
			r.fault(n.GetToken(), "vllm_args: one argument an item, as text without control characters")
			continue
		}
		if len(out) == 0 && s[0] != '-' {
			r.fault(n.GetToken(), "vllm_args: the first item is a flag, got %s", quote(s))
		}
		if err := checkFreeArg(s); err != nil {
			r.fault(n.GetToken(), "vllm_args: %v", err)
		}
		out = append(out, s)
	}
	return out
}

// managed are flags that a plan's free arguments may not hold, and where what
// they set is said instead.
var managed = []struct{ flag, instead string }{
	{"--max-num-seqs", "it is never set: the engine's own choice is read back and reported"},
	{"--trust-remote-code", "it is always given"},
	{"--enforce-eager", "say ENFORCE_EAGER"},
	{"--enable-expert-parallel", "say ENABLE_EP"},
	{"--decode-context-parallel-size", "say CONTEXT_PARALLEL_SIZE"},
	{"--max-model-len", "say MAX_MODEL_LEN"},
	{"--kv-cache-dtype", "say KV_CACHE_DTYPE"},
	{"--enable-prefix-caching", "say ENABLE_PREFIX_CACHING"},
	{"--enable-chunked-prefill", "say ENABLE_CHUNKED_PREFILL"},
	{"--gpu-memory-utilization", "say GPU_MEMORY_UTILIZATION"},
	{"--swap-space", "say SWAP_SPACE"},
	{"--tensor-parallel-size", "say tensor_parallel_size, or TENSOR_PARALLEL_SIZE in an experiment"},
	{"--dtype", "say DTYPE"},
	{"--model", "say model"},
	{"--host", "the harness binds the server"},
	{"--port", "the harness binds the server"},
	{"--uds", "the harness binds the server"},
	{"--api-key", "a plan holds no secrets"},
	{"--served-model-name", "the harness asks for the model by its path"},
}

// checkFreeArg refuses a managed flag in all the forms that vLLM's parser
// takes: --no-x, --x=y, underscores and abbreviations.
func checkFreeArg(arg string) error {
	if arg == "-tp" || strings.HasPrefix(arg, "-tp=") || arg == "-dcp" || strings.HasPrefix(arg, "-dcp=") {
		return fmt.Errorf("%s is set by the plan's own settings", arg)
	}
	if !strings.HasPrefix(arg, "--") {
		return nil
	}
	name, _, _ := strings.Cut(strings.ReplaceAll(arg, "_", "-"), "=")
	positive := "--" + strings.TrimPrefix(strings.TrimPrefix(name, "--"), "no-")
	for _, m := range managed {
		if name == m.flag || positive == m.flag || len(name) > len("--max-") && strings.HasPrefix(m.flag, name) && !isOtherFlag(name) {
			return fmt.Errorf("%s may not stand here: %s", arg, m.instead)
		}
	}
	return nil
}

// isOtherFlag: the text is the whole name of a flag of some version, so it is
// no abbreviation.
func isOtherFlag(name string) bool {
	return slices.ContainsFunc(vllm.AllFlags(), func(f vllm.Flag) bool { return f.Name == name })
}

var envNamePattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`)

func (r *reader) serverEnv(e entry) []EnvVar {
	var out []EnvVar
	for _, f := range r.mapping(e.value, "server_env", nil) {
		if !envNamePattern.MatchString(f.key) {
			r.fault(f.tok, "server_env: %s is no name of an environment variable", quote(f.key))
			continue
		}
		value, ok := scalar(f.value)
		if !ok || strings.ContainsFunc(value, unicode.IsControl) {
			r.fault(f.tok, "server_env: %s: want a text without control characters", f.key)
			continue
		}
		out = append(out, EnvVar{f.key, value})
	}
	slices.SortFunc(out, func(a, b EnvVar) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func (r *reader) groups(e entry, p *Plan) {
	for _, n := range r.list(e) {
		g := Group{}
		for _, f := range r.mapping(n, "group", []string{"id", "title", "notes", "correction", "experiments"}) {
			switch f.key {
			case "id":
				g.ID = r.number(f, 1, maxCount)
				if slices.ContainsFunc(p.Groups, func(o Group) bool { return o.ID == g.ID }) {
					r.fault(f.tok, "group: id %d is there twice", g.ID)
				}
			case "title":
				g.Title = r.text(f)
			case "notes":
				g.Notes = r.text(f)
			case "correction":
				g.Correction = r.text(f)
			case "experiments":
				for _, x := range r.list(f) {
					if x, ok := r.experiment(x, p, g); ok {
						g.Experiments = append(g.Experiments, x)
					}
				}
			}
		}
		if g.ID == 0 {
			r.fault(n.GetToken(), "group: id is missing")
		}
		p.Groups = append(p.Groups, g)
	}
	if len(p.experiments()) == 0 && len(r.faults) == 0 {
		r.fault(e.tok, "groups: no experiment in any of them")
	}
}

var experimentKeys = []string{"id", "config", "datasets", "set", "added", "since", "since_why", "vllm_args", "server_env", "notes", "correction"}

func (r *reader) experiment(n ast.Node, p *Plan, g Group) (Experiment, bool) {
	var x Experiment
	entries := r.mapping(n, "experiment", experimentKeys)
	if len(entries) == 0 {
		return x, false
	}
	var datasets entry
	for _, f := range entries {
		switch f.key {
		case "id":
			x.ID = r.word(f)
			known := append(p.experiments(), pointers(g.Experiments)...)
			if slices.ContainsFunc(known, func(o *Experiment) bool { return o.ID == x.ID }) {
				r.fault(f.tok, "experiment %s is there twice", x.ID)
			}
		case "config":
			x.Config = r.text(f)
		case "datasets":
			datasets = f
		case "set":
			x.Set = r.settings(f)
		case "added":
			x.Added = r.yes(f)
		case "since":
			v, err := vllm.ParseVersion(r.text(f))
			r.check(f.tok, err)
			x.Since = v
		case "since_why":
			x.SinceWhy = r.text(f)
		case "vllm_args":
			x.VLLMArgs = r.vllmArgs(f)
		case "server_env":
			x.ServerEnv = r.serverEnv(f)
		case "notes":
			x.Notes = r.text(f)
		case "correction":
			x.Correction = r.text(f)
		}
	}
	if x.ID == "" {
		r.fault(entries[0].tok, "experiment: id is missing")
		return x, false
	}
	if datasets.value == nil {
		r.fault(entries[0].tok, "experiment %s: datasets is missing", x.ID)
		return x, false
	}
	r.experimentDatasets(datasets, p, &x)
	return x, true
}

// experimentDatasets reads a list of names, or a mapping of names to what the
// experiment changes there.
func (r *reader) experimentDatasets(e entry, p *Plan, x *Experiment) {
	add := func(tok *token.Token, name string, set []EnvVar, correction string) {
		if p.dataset(name) == nil {
			r.faultNearest(tok, Nearest(name, p.datasetNames()), "experiment %s: unknown data set %s", x.ID, quote(name))
			return
		}
		if slices.ContainsFunc(x.Datasets, func(d ExperimentDataset) bool { return d.Name == name }) {
			r.fault(tok, "experiment %s: data set %s is there twice", x.ID, name)
			return
		}
		d := ExperimentDataset{Name: name, Set: merge(x.Set, set), Correction: correction}
		// What the plan itself asks for must make sense.
		s := p.Baseline
		for _, v := range d.Set {
			r.check(tok, s.Set(v.Name, v.Value))
		}
		_, err := s.normalize()
		r.check(tok, err)
		if s.TensorParallelSize > p.GPUs && p.GPUs > 0 {
			r.fault(tok, "experiment %s: %s=%d is more than the plan's %d GPUs", x.ID, VarTensorParallelSize, s.TensorParallelSize, p.GPUs)
		}
		x.Datasets = append(x.Datasets, d)
	}
	switch v := e.value.(type) {
	case *ast.SequenceNode:
		for _, n := range v.Values {
			name, _ := scalar(n)
			add(n.GetToken(), name, nil, "")
		}
	case *ast.MappingNode, *ast.MappingValueNode:
		for _, f := range r.mapping(v, "datasets", nil) {
			var set []EnvVar
			correction := ""
			if m, ok := f.value.(*ast.MappingNode); ok {
				rest := *m
				rest.Values = nil
				for _, mv := range m.Values {
					if key, _ := scalar(mv.Key); key == "correction" {
						correction = r.text(entry{key, mv.Key.GetToken(), mv.Value})
						continue
					}
					rest.Values = append(rest.Values, mv)
				}
				set = r.settings(entry{f.key, f.tok, &rest})
			} else if _, null := f.value.(*ast.NullNode); !null {
				r.fault(f.tok, "datasets: %s: want what changes there, such as {MAX_MODEL_LEN: 131072}, or {}", f.key)
			}
			add(f.tok, f.key, set, correction)
		}
	default:
		r.fault(e.tok, "datasets: want a list of names, or a mapping of names to changes")
	}
	if len(x.Datasets) == 0 && len(r.faults) == 0 {
		r.fault(e.tok, "experiment %s: datasets is empty", x.ID)
	}
}

// merge puts the changes of b over those of a, in the order of the table.
func merge(a, b []EnvVar) []EnvVar {
	var out []EnvVar
	for _, name := range Variables() {
		for _, list := range [][]EnvVar{b, a} {
			i := slices.IndexFunc(list, func(v EnvVar) bool { return v.Name == name })
			if i >= 0 {
				out = append(out, list[i])
				break
			}
		}
	}
	return out
}

func (r *reader) published(e entry, p *Plan) {
	out := &Published{}
	keys := []string{"experiment", "tps", "latency_s", "model_memory_gib", "prompt_tokens", "completion_tokens", "notes"}
	for _, f := range r.mapping(e.value, "published", keys) {
		switch f.key {
		case "experiment":
			out.Experiment = r.text(f)
			if p.experiment(out.Experiment) == nil {
				r.faultNearest(f.tok, Nearest(out.Experiment, p.ids()), "published: unknown experiment %s", quote(out.Experiment))
			}
		case "tps":
			out.TPS = r.decimal(f)
		case "latency_s":
			out.LatencySeconds = r.decimal(f)
		case "model_memory_gib":
			out.ModelMemoryGiB = r.decimal(f)
		case "prompt_tokens":
			out.PromptTokens = r.number(f, 1, maxTokens)
		case "completion_tokens":
			out.CompletionTokens = r.number(f, 1, maxTokens)
		case "notes":
			out.Notes = r.text(f)
		}
	}
	p.Published = out
}

// CheckModel refuses what cannot be a model's name or path on a command line.
func CheckModel(model string) error {
	switch {
	case model == "":
		return usagef("model: empty; want a name such as zai-org/GLM-4.6 or a path")
	case len(model) > 4096:
		return usagef("model: longer than a path can be (%d bytes)", len(model))
	case model[0] == '-':
		return usagef("model: %s begins with a dash and would be read as a flag; write ./%s for a folder of that name", quote(model), quote(model))
	case !utf8.ValidString(model) || strings.ContainsFunc(model, unicode.IsControl):
		return usagef("model: %s holds control characters", quote(model))
	}
	return nil
}

func pointers(list []Experiment) []*Experiment {
	out := make([]*Experiment, len(list))
	for i := range list {
		out[i] = &list[i]
	}
	return out
}

// experiments in the plan's order.
func (p *Plan) experiments() []*Experiment {
	var out []*Experiment
	for i := range p.Groups {
		out = append(out, pointers(p.Groups[i].Experiments)...)
	}
	return out
}

func (p *Plan) experiment(id string) *Experiment {
	for _, x := range p.experiments() {
		if x.ID == id {
			return x
		}
	}
	return nil
}

func (p *Plan) dataset(name string) *Dataset {
	for i := range p.Datasets {
		if p.Datasets[i].Name == name {
			return &p.Datasets[i]
		}
	}
	return nil
}

func (p *Plan) datasetNames() []string {
	var out []string
	for _, d := range p.Datasets {
		out = append(out, d.Name)
	}
	return out
}

// ids are what --exp takes: experiments, and cells where they differ.
func (p *Plan) ids() []string {
	var out []string
	for _, x := range p.experiments() {
		out = append(out, x.ID)
		if len(x.Datasets) > 1 {
			for _, d := range x.Datasets {
				out = append(out, x.ID+"/"+d.Name)
			}
		}
	}
	return out
}

// IDs are the names that --exp takes, in the plan's order: experiments, and
// cells ("3A/64k") where an experiment has several.
func (p *Plan) IDs() []string { return p.ids() }

// Dataset finds a data set by name, nil if the plan has none of that name.
func (p *Plan) Dataset(name string) *Dataset { return p.dataset(name) }
