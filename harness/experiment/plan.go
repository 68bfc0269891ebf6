package experiment

import (
	"fmt"

	"github.com/glm46/glm46/mockvllm/vllm"
)

// Plan is a whole experiment plan. It is immutable once loaded: methods do not
// change it, and several goroutines may use it.
type Plan struct {
	// File is the name that errors carry; "glm46.yaml" for the embedded plan.
	File string
	// Name is the plan's title.
	Name string
	// Model is what `vllm serve` gets unless --model says otherwise.
	Model string
	// GPUs is the number of GPUs of one server; GPU their kind ("H200").
	GPUs int
	GPU  string
	// Shape is what is known about the model beforehand, for refusals that need
	// no GPU. A zero field means "not known": nothing is refused for it.
	Shape vllm.ModelShape
	// ModelSince is the first vLLM version with a class for the model; zero: not
	// known.
	ModelSince vllm.Version
	// TensorParallelSize is the baseline's.
	TensorParallelSize int
	// Datasets in the order of the file.
	Datasets []Dataset
	// Baseline holds the settings that every experiment varies from.
	Baseline Settings
	// VLLMArgs go to every server of the plan, after the settings' flags.
	VLLMArgs []string
	// ServerEnv is added to the environment of every server of the plan.
	ServerEnv []EnvVar
	// Groups in the order of the file.
	Groups []Group
	// Published are figures that the plan brings along; nil if none.
	Published *Published
}

// Dataset is one data set of a plan and the load offered with it.
type Dataset struct {
	// Name is the value of DATASET_TYPE and the stem of the file: "8k".
	Name string
	// Samples is how many the plan uses; NUM_SAMPLES replaces it.
	Samples int
	// PromptTokens and TargetTokens are about what one sample holds; they are
	// for reading and for predictions, never for a request.
	PromptTokens, TargetTokens int
	Levels                     []Level
}

// Group is one group of experiments: those that vary one thing.
type Group struct {
	ID    int
	Title string
	// Notes is the plan's own text; Correction what it has wrong ("" if nothing).
	Notes, Correction string
	Experiments       []Experiment
}

// Experiment is one row of the plan: one change, on one or more data sets.
type Experiment struct {
	// ID is the plan's: "5B".
	ID string
	// Config is the plan's short label: "kv=bf16".
	Config string
	// Set holds what the experiment changes against the baseline, in the order of
	// [Variables].
	Set []EnvVar
	// Datasets the experiment runs on, in order; at least one.
	Datasets []ExperimentDataset
	// Added marks an experiment of ours, shown and run only on request.
	Added bool
	// Since is the first vLLM version that can do what the experiment wants;
	// zero: any. SinceWhy says what came with it.
	Since    vllm.Version
	SinceWhy string
	// VLLMArgs and ServerEnv are added for this experiment's servers.
	VLLMArgs  []string
	ServerEnv []EnvVar
	// Notes is the plan's own text; Correction what it has wrong.
	Notes, Correction string
}

// ExperimentDataset is an experiment on one data set.
type ExperimentDataset struct {
	Name string
	// Set holds the changes against the baseline on this data set, the
	// experiment's own included, in the order of [Variables].
	Set []EnvVar
	// Correction is what to know about this cell only.
	Correction string
}

// Published are figures that a plan reports for one experiment, to print
// beside measured ones. Zero: not given.
type Published struct {
	Experiment       string
	TPS              float64 // tokens/s of one stream
	LatencySeconds   float64
	ModelMemoryGiB   float64 // per GPU
	PromptTokens     int
	CompletionTokens int
	Notes            string
}

// EnvVar is one variable of an environment, or of the job interface.
type EnvVar struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Level is one load of a cell.
type Level struct {
	// Name is the folder of its results: "c16" (16 streams), "r2.5" (2.5
	// requests/s), "auto" until the KV cache's size is known.
	Name string `json:"name"`
	// Concurrency is the number of streams of a closed loop; 0 in an open loop.
	Concurrency int `json:"concurrency,omitempty"`
	// RequestRate is the offered rate of an open loop, in requests/s; 0: closed.
	RequestRate float64 `json:"request_rate,omitempty"`
	// Requests of the main phase; 0: all samples (NUM_SAMPLES of them).
	Requests int `json:"requests,omitempty"`
	// OutputTokens of every request; 0: the sample's whole target. MAX_TOKENS
	// has capped it already; a whole target is still to be capped.
	OutputTokens int `json:"output_tokens,omitempty"`
	// Auto asks for as many streams as the KV cache holds at once.
	Auto bool `json:"auto,omitempty"`
}

// Cell is one experiment on one data set, with everything resolved.
type Cell struct {
	// ID is the plan's: "5B", or "3A/64k" where an experiment has several data
	// sets. A custom experiment has its EXP_NAME. [Cell.Label] adds the star.
	ID string
	// Experiment is the plan's id ("3A"), or the EXP_NAME of a custom one.
	Experiment string
	// Group is the plan's number, 0 for a custom experiment.
	Group      int
	GroupTitle string
	// Config is the plan's short label ("kv=bf16"), "custom" for a custom one.
	Config  string
	Dataset string
	// Notes is the plan's text, Correction what it has wrong.
	Notes, Correction string
	// CUDAGraphs and TorchCompile are "enabled" or "disabled".
	CUDAGraphs, TorchCompile string

	Settings Settings
	// Env is the job interface's environment of this cell, complete: as an
	// environment it gives this cell back. Unset variables are left out.
	Env []EnvVar
	// ServerEnv is added to the environment of the server process.
	ServerEnv []EnvVar
	Levels    []Level
	// Added marks a cell of ours, not of the original plan.
	Added bool
	// SameAs are the ids of the plan's other cells with the same ConfigHash.
	SameAs []string
	// ExpName names the folder of results: EXP_NAME, else the experiment.
	ExpName string
	// Base is "eager" or "compiled" where --base chose it, else "".
	Base string
	// Custom marks an experiment that the plan does not have.
	Custom bool
	// Modified: something differs from the plan's cell of that id, so that
	// reports show "<id>*".
	Modified bool
	// ConfigHash covers settings, data-set name and levels; 16 hex digits.
	ConfigHash string
	// ServerHash covers what the server process depends on: cells with the same
	// one can share a start. 16 hex digits.
	ServerHash string
	// VLLMArgs are the free arguments after the settings' flags.
	VLLMArgs []string
	// Differs lists the settings that are not the base's, with values.
	Differs []EnvVar

	shape    vllm.ModelShape
	model    string
	short    []EnvVar
	since    vllm.Version
	sinceWhy string
}

// Label is the id as reports show it: with a star where the cell is modified.
func (c Cell) Label() string {
	if c.Modified {
		return c.ID + "*"
	}
	return c.ID
}

// Shape is what is known about the model of the cell's plan.
func (c Cell) Shape() vllm.ModelShape { return c.shape }

// VersionNote says what to know about running the whole plan on vLLM v; "" for
// nothing. It refuses nothing: a build may have the model's class by other ways
// (a plug-in, a patch), and the engine's own words decide.
func (p *Plan) VersionNote(v vllm.Version) string {
	if p.ModelSince.IsZero() || v.Compare(p.ModelSince) >= 0 {
		return ""
	}
	what := p.Shape.Architecture
	if what == "" {
		what = p.Model
	}
	return fmt.Sprintf("vLLM %s as released has no class for this model (%s came with %s); expect the start to fail unless the installed build adds it", v, what, p.ModelSince)
}

// Configuration is one thing to measure: cells that are the same share it.
type Configuration struct {
	// Cell is the first of Cells, the one that is measured.
	Cell Cell
	// Cells in the order given; all have Cell's ConfigHash.
	Cells []Cell
}

// Configurations groups cells by ConfigHash, in order of first appearance.
func Configurations(cells []Cell) []Configuration {
	var out []Configuration
	for _, same := range GroupBy(cells, func(c Cell) string { return c.ConfigHash }) {
		out = append(out, Configuration{Cell: same[0], Cells: same})
	}
	return out
}

// GroupBy puts items of one key together, groups and items in order of first
// appearance.
func GroupBy[T any, K comparable](items []T, key func(T) K) [][]T {
	var out [][]T
	at := map[K]int{}
	for _, item := range items {
		k := key(item)
		i, ok := at[k]
		if !ok {
			i = len(out)
			at[k] = i
			out = append(out, nil)
		}
		out[i] = append(out[i], item)
	}
	return out
}
