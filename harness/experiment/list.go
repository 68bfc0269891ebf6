package experiment

import (
	"fmt"
	"strings"

	"mvdan.cc/sh/v3/syntax"

	"github.com/glm46/glm46/harness/fold"
	"github.com/glm46/glm46/mockvllm/vllm"
)

// ListOptions say what `glm46 list` shows.
type ListOptions struct {
	// Version of vLLM whose arguments are shown; zero: the default version.
	Version vllm.Version
	// Model replaces the plan's, "" for none.
	Model string
	// Width of the text in columns; 0: 80.
	Width int
	// States by Cell.Label ("3A/64k", "5B*"), from result folders; nil: none.
	States map[string]string
	// Checks run after the version's own, such as memory.
	Checks []Check
}

// List is the JSON document of `glm46 list`.
type List struct {
	Plan        string `json:"plan"`
	Model       string `json:"model"`
	GPUs        int    `json:"gpus"`
	GPU         string `json:"gpu,omitempty"`
	VLLMVersion string `json:"vllm_version"`
	Base        string `json:"base"`
	// Note is Plan.VersionNote.
	Note  string     `json:"note,omitempty"`
	Cells []ListCell `json:"cells"`

	baseline []EnvVar
	groups   []Group
}

// ListCell is one cell of a List. ID carries a star where the cell is modified.
type ListCell struct {
	ID         string `json:"id"`
	Experiment string `json:"experiment"`
	Group      int    `json:"group"`
	GroupTitle string `json:"group_title"`
	Config     string `json:"config"`
	Dataset    string `json:"dataset"`
	// Env is the cell's whole environment in the job interface; QsubV the part
	// that differs from the baseline, as the argument of `qsub -v`.
	Env   map[string]string `json:"env"`
	QsubV string            `json:"qsub_v"`
	// Differs holds the settings that are not the baseline's.
	Differs   map[string]string `json:"differs"`
	ServerEnv map[string]string `json:"server_env,omitempty"`
	// Argv follows "vllm".
	Argv       []string `json:"argv"`
	Levels     []Level  `json:"levels"`
	ConfigHash string   `json:"config_hash"`
	SameAs     []string `json:"same_as"`
	Added      bool     `json:"added"`
	Modified   bool     `json:"modified"`
	// Accepted by the version; if not, Reason in plain words, its class, and
	// what the engine says.
	Accepted     bool   `json:"accepted"`
	Reason       string `json:"reason"`
	ReasonClass  string `json:"reason_class,omitempty"`
	EngineText   string `json:"engine_text,omitempty"`
	CUDAGraphs   string `json:"cuda_graphs"`
	TorchCompile string `json:"torch_compile"`
	Notes        string `json:"notes"`
	Correction   string `json:"correction,omitempty"`
	// Warnings are what an engine that accepts the cell logs about its settings.
	Warnings []string `json:"warnings,omitempty"`
	State    string   `json:"state,omitempty"`

	differs []EnvVar
}

// NewList collects what `glm46 list` shows about cells.
func (p *Plan) NewList(cells []Cell, o ListOptions) List {
	if o.Version.IsZero() {
		o.Version = vllm.MustVersion(vllm.DefaultVersion)
	}
	l := List{Plan: p.Name, Model: p.Model, GPUs: p.GPUs, GPU: p.GPU, VLLMVersion: o.Version.String(), Base: "eager", Note: p.VersionNote(o.Version), Cells: []ListCell{}, groups: p.Groups}
	if o.Model != "" {
		l.Model = o.Model
	}
	base := p.Baseline
	for _, c := range cells {
		if c.Base != "" {
			l.Base, base.EnforceEager = c.Base, c.Base == "eager"
		}
	}
	if !base.EnforceEager {
		l.Base = "compiled"
	}
	for _, v := range base.Vars() {
		if v.Name != VarNumSamples {
			l.baseline = append(l.baseline, v)
		}
	}
	for _, c := range cells {
		l.Cells = append(l.Cells, newListCell(c, o))
	}
	return l
}

func newListCell(c Cell, o ListOptions) ListCell {
	argv, refusal := c.Argv(o.Version, o.Model, o.Checks...)
	out := ListCell{
		ID: c.Label(), Experiment: c.Experiment, Group: c.Group, GroupTitle: c.GroupTitle, Config: c.Config, Dataset: c.Dataset,
		Env: asMap(c.Env), QsubV: QsubV(c.ShortEnv()), Differs: asMap(c.Differs), Argv: argv, Levels: c.Levels,
		ConfigHash: c.ConfigHash, SameAs: c.SameAs, Added: c.Added, Modified: c.Modified, Accepted: refusal == nil,
		CUDAGraphs: c.CUDAGraphs, TorchCompile: c.TorchCompile, Notes: c.Notes, Correction: c.Correction,
		State: o.States[c.Label()], differs: c.Differs,
	}
	if len(c.ServerEnv) > 0 {
		out.ServerEnv = asMap(c.ServerEnv)
	}
	if out.SameAs == nil {
		out.SameAs = []string{}
	}
	if refusal == nil {
		config, _ := c.EngineConfig(o.Version, o.Model)
		out.Warnings = config.Warnings
	} else {
		out.Reason, out.ReasonClass, out.EngineText = refusal.Reason, string(refusal.Class), refusal.EngineText
	}
	return out
}

func asMap(vars []EnvVar) map[string]string {
	out := make(map[string]string, len(vars))
	for _, v := range vars {
		out[v.Name] = v.Value
	}
	return out
}

// QsubV joins variables as the argument of `qsub -v`. Values of the job
// interface hold no comma, quote or backslash but for a draft model's path,
// whose blanks are fine there.
func QsubV(vars []EnvVar) string {
	parts := make([]string, len(vars))
	for i, v := range vars {
		parts[i] = v.Name + "=" + v.Value
	}
	return strings.Join(parts, ",")
}

// ShellCommand is argv as one line that a shell reads back as it is.
func ShellCommand(argv []string) string {
	quoted := make([]string, len(argv))
	for i, a := range argv {
		q, err := syntax.Quote(a, syntax.LangBash)
		if err != nil {
			// Only a NUL byte cannot be quoted, and no argument can hold one.
			q = "'" + strings.ReplaceAll(strings.ReplaceAll(a, "\x00", ""), "'", `'\''`) + "'"
		}
		quoted[i] = q
	}
	return strings.Join(quoted, " ")
}

// Text renders the list in at most o.Width columns (a word that is longer
// stands alone). Each cell is a block of lines; cells are grouped as in the
// plan.
func (l List) Text(o ListOptions) string {
	w := textWriter{width: o.Width}
	if w.width <= 0 {
		w.width = 80
	}
	title := l.Plan
	if title == "" {
		title = "experiment plan"
	}
	w.line(title)
	w.head("model", fmt.Sprintf("%s on %d x %s, vLLM %s", l.Model, l.GPUs, orText(l.GPU, "GPU"), l.VLLMVersion))
	w.head("baseline", l.Base+": "+joinVars(l.baseline))
	if l.Note != "" {
		w.head("note", l.Note)
	}
	refused := l.overview(&w, o.States != nil)
	group := -1
	for _, c := range l.Cells {
		if c.Group != group {
			group = c.Group
			w.line("")
			if c.Group == 0 {
				w.line("Custom experiments")
			} else {
				w.line(fmt.Sprintf("Group %d: %s", c.Group, c.GroupTitle))
				l.groupNotes(&w, c.Group)
			}
		}
		w.cell(c)
	}
	w.line("")
	w.line(l.summary(refused))
	return w.String()
}

// overview writes one line a cell and counts the refused ones.
func (l List) overview(w *textWriter, states bool) (refused int) {
	w.line("")
	row := func(id, data, config, vllm, state, same string) {
		line := fmt.Sprintf("%-8s %-5s %-18s %-9s", id, data, config, vllm)
		if states {
			// What does not fit into the column goes below: a state can hold codes.
			word, rest, _ := strings.Cut(state, " (")
			line += fmt.Sprintf(" %-17s", word)
			if rest != "" {
				defer w.column("        ", strings.TrimSuffix(rest, ")"))
			}
		}
		w.column(line, same)
	}
	row("Exp", "Data", "Config", "vLLM", "State", "Same as")
	for _, c := range l.Cells {
		if !c.Accepted {
			refused++
		}
		row(c.ID, c.Dataset, c.Config, acceptance(c), c.State, strings.Join(c.SameAs, " "))
	}
	return refused
}

func acceptance(c ListCell) string {
	if c.Accepted {
		return "accepted"
	}
	return "refused"
}

func (l List) groupNotes(w *textWriter, id int) {
	for _, g := range l.groups {
		if g.ID == id && g.Notes != "" {
			w.paragraph("notes:", g.Notes)
		}
		if g.ID == id && g.Correction != "" {
			w.paragraph("but:", g.Correction)
		}
	}
}

func (l List) summary(refused int) string {
	hashes := map[string]bool{}
	for _, c := range l.Cells {
		hashes[c.ConfigHash] = true
	}
	return fmt.Sprintf("%d cells, %d configurations, %d cells refused by vLLM %s", len(l.Cells), len(hashes), refused, l.VLLMVersion)
}

func orText(s, instead string) string {
	if s == "" {
		return instead
	}
	return s
}

func joinVars(vars []EnvVar) string {
	parts := make([]string, len(vars))
	for i, v := range vars {
		parts[i] = v.Name + "=" + v.Value
	}
	return strings.Join(parts, " ")
}

// textWriter wraps lines at a width.
type textWriter struct {
	strings.Builder
	width int
}

func (w *textWriter) line(s string) { w.WriteString(strings.TrimRight(s, " ") + "\n") }

func (w *textWriter) cell(c ListCell) {
	state := acceptance(c)
	if c.Added {
		state += ", added"
	}
	if c.State != "" {
		state += ", " + c.State
	}
	w.line(fmt.Sprintf("  %-7s %-5s %-18s CUDA graphs %-9s torch.compile %s", c.ID, c.Dataset, c.Config, c.CUDAGraphs+",", c.TorchCompile))
	const indent = 10
	w.field("state", indent, state)
	if c.Notes != "" {
		w.field("notes", indent, c.Notes)
	}
	if c.Correction != "" {
		w.field("but", indent, c.Correction)
	}
	differs := joinVars(c.differs)
	w.field("differs", indent, orText(differs, "nothing"))
	for _, v := range sortedVars(c.ServerEnv) {
		w.field("server", indent, v.Name+"="+v.Value)
	}
	w.field("env", indent, c.QsubV)
	w.field("argv", indent, "vllm "+ShellCommand(c.Argv))
	if len(c.SameAs) > 0 {
		w.field("equals", indent, strings.Join(c.SameAs, " "))
	}
	w.field("levels", indent, levelsText(c.Levels))
	w.field("hash", indent, c.ConfigHash)
	if !c.Accepted {
		w.field("reason", indent, c.Reason)
	}
	if c.EngineText != "" {
		w.field("vLLM says", indent, c.EngineText)
	}
	for _, text := range c.Warnings {
		w.field("warning", indent, text)
	}
}

func sortedVars(m map[string]string) []EnvVar {
	var out []EnvVar
	for name, value := range m {
		out = append(out, EnvVar{name, value})
	}
	return mergeEnv(nil, out)
}

// levelsText says what each level offers: "c1: 5 x 512".
func levelsText(levels []Level) string {
	parts := make([]string, len(levels))
	for i, l := range levels {
		requests, tokens := "all samples", "full targets"
		if l.Requests > 0 {
			requests = fmt.Sprintf("%d requests", l.Requests)
		}
		if l.OutputTokens > 0 {
			tokens = fmt.Sprintf("%d tokens", l.OutputTokens)
		}
		parts[i] = fmt.Sprintf("%s (%s, %s)", l.Name, requests, tokens)
	}
	return strings.Join(parts, ", ")
}

// field writes "    label: text" with the text in a column of its own, indent
// columns after the label's.
func (w *textWriter) field(label string, indent int, text string) {
	w.column(fmt.Sprintf("    %-*s", indent, label+":"), text)
}

// head writes "label: text" at the margin.
func (w *textWriter) head(label, text string) { w.column(fmt.Sprintf("%-10s", label+":"), text) }

// paragraph writes "  label text", wrapped under itself.
func (w *textWriter) paragraph(label, text string) { w.column("  "+label, text) }

// column writes text after prefix, wrapped, every line under the first.
func (w *textWriter) column(prefix, text string) {
	w.WriteString(fold.Under(prefix+" ", text, w.width))
}
