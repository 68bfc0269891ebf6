package experiment

import (
	"fmt"
	"strings"

	"github.com/glm46/glm46/mockvllm/vllm"
)

// Parameter is one row of the parameter reference.
type Parameter struct {
	// Section of the plan's reference: "Core Parameters".
	Section string `json:"section"`
	// Flag as the plan writes it; Actual what the version asked for has, ""
	// where it has nothing of the kind.
	Flag   string `json:"flag"`
	Actual string `json:"actual"`
	// Variable of the job interface, "" for none.
	Variable    string `json:"variable,omitempty"`
	Options     string `json:"options"`
	PlanDefault string `json:"plan_default"`
	// Default in the version asked for, "-" where it has no such flag; Defaults
	// by version, oldest first.
	Default     string           `json:"default"`
	Defaults    []VersionDefault `json:"defaults"`
	Description string           `json:"description"`
	// First and Last are the first and the last version that has the plan's
	// flag; "" where open, "never" where no version has it. GoneIn is the first
	// one without it.
	First  string `json:"first"`
	Last   string `json:"last"`
	GoneIn string `json:"gone_in,omitempty"`
	// Correction says what the plan's row has wrong; "" for nothing.
	Correction string `json:"correction,omitempty"`
}

// VersionDefault is a default in one version; "-" where the flag is not there.
type VersionDefault struct {
	Version string `json:"version"`
	Default string `json:"default"`
}

// parameterRow is what the plan's reference says, and what it means.
type parameterRow struct {
	section, flag, options, planDefault, description string
	variable                                         string
	// instead are flags that mean the same in other versions, best first.
	instead    []string
	correction string
}

const (
	sectionCore   = "Core Parameters"
	sectionSpec   = "Speculative Decoding"
	sectionMemory = "Memory Management"
	sectionMore   = "Also used by the plan"
)

// parameterRows is the plan's parameter reference, row by row, with the
// flags of its baseline that it left out.
var parameterRows = []parameterRow{
	{section: sectionCore, flag: "--enforce-eager", options: "flag", planDefault: "-", variable: VarEnforceEager,
		description: "Disables torch.compile and CUDA graphs"},
	{section: sectionCore, flag: "--enable-expert-parallel", options: "flag", planDefault: "-", variable: VarEnableEP,
		description: "Enables EP for MoE models",
		correction:  "Without it experts are sharded over the tensor-parallel ranks, not replicated; weights per GPU are the same."},
	{section: sectionCore, flag: "--context-parallel-size", options: "1,2,4,8", planDefault: "1", variable: VarContextParallelSize,
		description: "DCP: splits context across GPU groups", instead: []string{"--decode-context-parallel-size"},
		correction: "No version ever had this flag; it is --decode-context-parallel-size (since 0.10.2), and with grouped-query attention it needs more tensor-parallel ranks than KV heads: never on 8 GPUs with 8 KV heads."},
	{section: sectionCore, flag: "--max-model-len", options: "int", planDefault: "model default", variable: VarMaxModelLen,
		description: "Maximum sequence length",
		correction:  "32k is 32,000 and 32K is 32,768. It does not change max_num_seqs, which is a fixed default (1024 on this GPU)."},
	{section: sectionCore, flag: "--kv-cache-dtype", options: "fp8,auto", planDefault: "auto", variable: VarKVCacheDtype,
		description: "KV cache quantization", correction: "auto is the model's own type: bf16 for this model."},
	{section: sectionCore, flag: "--enable-prefix-caching", options: "flag", planDefault: "-", variable: VarEnablePrefixCaching,
		description: "Cache common prompt prefixes", correction: "On by default since 0.8.0; turning it off needs --no-enable-prefix-caching."},
	{section: sectionCore, flag: "--enable-chunked-prefill", options: "flag", planDefault: "-", variable: VarEnableChunkedPrefill,
		description: "Process prompts in chunks", correction: "On by default; 0.8.0 to 0.11.0 silently turn it on again, later versions honour --no-enable-chunked-prefill."},
	{section: sectionSpec, flag: "--speculative-model", options: "model,[ngram]", planDefault: "-", variable: VarSpeculativeModel,
		description: "Draft model for speculation", instead: []string{"--speculative-config"},
		correction: "Gone since 0.8.3: --speculative-config takes one JSON object. [ngram] looks the prompt up and is no MTP."},
	{section: sectionSpec, flag: "--num-speculative-tokens", options: "1-8", planDefault: "-", variable: VarMTPNumTokens,
		description: "Number of tokens to speculate", instead: []string{"--speculative-config"},
		correction: "Gone since 0.8.3: num_speculative_tokens inside --speculative-config."},
	{section: sectionMemory, flag: "--gpu-memory-utilization", options: "0.0-1.0", planDefault: "0.9", variable: VarGPUMemoryUtilization,
		description: "Fraction of GPU memory to use", correction: "0.92 since 0.21; from then CUDA-graph memory is subtracted too. 0 is not a value."},
	{section: sectionMemory, flag: "--swap-space", options: "int (GB)", planDefault: "4", variable: VarSwapSpace,
		description: "CPU swap space for KV cache", correction: "Gone since 0.18, without effect since 0.8.0: a preempted request is computed again, never swapped. The unit is GiB."},
	{section: sectionMore, flag: "--tensor-parallel-size", options: "1,2,4,8", planDefault: "-", variable: VarTensorParallelSize,
		description: "GPUs that share every layer"},
	{section: sectionMore, flag: "--dtype", options: "auto,bfloat16,float16", planDefault: "-", variable: VarDtype,
		description: "Type of weights and activations"},
	{section: sectionMore, flag: "--trust-remote-code", options: "flag", planDefault: "-",
		description: "Lets the model's own code run", correction: "Always given; the model needs it only on versions without its architecture."},
	{section: sectionMore, flag: "--max-num-seqs", options: "int", planDefault: "computed",
		description: "Requests that run at once",
		correction:  "Not computed from memory: a fixed default, 1024 on a GPU of 70 GiB or more. The plan never sets it; the engine's choice is read back."},
	{section: sectionMore, flag: "--max-num-batched-tokens", options: "int", planDefault: "-",
		description: "Token budget of one step", correction: "8192 on this GPU; with chunked prefill off and no value given, the larger of that and the model length."},
}

// Parameters is the plan's parameter reference for version v.
func Parameters(v vllm.Version) []Parameter {
	if v.IsZero() {
		v = vllm.MustVersion(vllm.DefaultVersion)
	}
	out := make([]Parameter, 0, len(parameterRows))
	for _, row := range parameterRows {
		p := Parameter{
			Section: row.section, Flag: row.flag, Variable: row.variable, Options: row.options,
			PlanDefault: row.planDefault, Description: row.description, Correction: row.correction,
		}
		p.Actual, p.Default = row.in(v)
		for _, k := range vllm.KnownVersions() {
			_, d := row.in(k)
			p.Defaults = append(p.Defaults, VersionDefault{k.String(), d})
		}
		p.First, p.Last, p.GoneIn = lifetime(row.flag)
		out = append(out, p)
	}
	return out
}

// in gives the flag that version v has for the row, and its default.
func (row parameterRow) in(v vllm.Version) (flag, def string) {
	for _, name := range append([]string{row.flag}, row.instead...) {
		if f, ok := vllm.LookupFlag(v, name); ok {
			return f.Name, orText(f.DefaultFor(v), "-")
		}
	}
	return "", "-"
}

// lifetime gives the first version with a flag, the last one known to have it,
// and the first without it.
func lifetime(name string) (first, last, gone string) {
	found := false
	var lastGone vllm.Version
	for _, f := range vllm.AllFlags() {
		if f.Name != name {
			continue
		}
		if !found || f.Since.IsZero() || first != "" && f.Since.Compare(vllm.MustVersion(first)) < 0 {
			first = f.Since.String()
		}
		if !found || f.Until.IsZero() || !lastGone.IsZero() && f.Until.Compare(lastGone) > 0 {
			lastGone = f.Until
		}
		found = true
	}
	if !found {
		return "never", "never", ""
	}
	if lastGone.IsZero() {
		return first, "", ""
	}
	return first, before(lastGone), lastGone.String()
}

// before names the release before one: the tag where it is sure, else the
// minor series.
func before(v vllm.Version) string {
	if v.Patch > 0 {
		return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Patch-1)
	}
	return fmt.Sprintf("%d.%d", v.Major, v.Minor-1)
}

// ParametersText renders the reference for a terminal; width 0 is 80 columns.
func ParametersText(v vllm.Version, width int) string {
	if v.IsZero() {
		v = vllm.MustVersion(vllm.DefaultVersion)
	}
	w := textWriter{width: width}
	if w.width <= 0 {
		w.width = 80
	}
	w.line("Parameter reference for vLLM " + v.String())
	section := ""
	for _, p := range Parameters(v) {
		if p.Section != section {
			section = p.Section
			w.line("")
			w.line(section)
		}
		w.line("  " + p.Flag)
		const indent = 12
		w.field("what", indent, p.Description)
		w.field("options", indent, p.Options)
		if p.Variable != "" {
			w.field("variable", indent, p.Variable)
		}
		if p.Actual != p.Flag {
			w.field("this one", indent, orText(p.Actual, "has no such flag"))
		}
		w.field("default", indent, p.Default+" (plan: "+p.PlanDefault+")")
		w.field("by version", indent, defaultsText(p.Defaults))
		w.field("versions", indent, versionsText(p))
		if p.Correction != "" {
			w.field("but", indent, p.Correction)
		}
	}
	return w.String()
}

// defaultsText joins versions with equal defaults: "0.8.2-0.14.0 0.9, ...".
func defaultsText(list []VersionDefault) string {
	var parts []string
	for i := 0; i < len(list); {
		j := i
		for j+1 < len(list) && list[j+1].Default == list[i].Default {
			j++
		}
		span := list[i].Version
		if j > i {
			span += " to " + list[j].Version
		}
		parts = append(parts, span+": "+list[i].Default)
		i = j + 1
	}
	return strings.Join(parts, "; ")
}

func versionsText(p Parameter) string {
	switch {
	case p.First == "never":
		return "in none"
	case p.First == "" && p.Last == "":
		return "in all"
	case p.Last == "":
		return "since " + p.First
	case p.First == "":
		return "until " + p.Last
	}
	return "from " + p.First + " until " + p.Last
}
