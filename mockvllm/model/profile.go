package model

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"slices"
	"strings"

	"github.com/glm46/glm46/mockvllm/vllm"
)

// Profile holds every coefficient of a model on its hardware. Units stand in
// the names: us is microseconds, gib is 2^30 bytes, s is seconds. Its JSON form,
// with the formulas, is documented in docs/timing-model.md.
type Profile struct {
	Name        string      `json:"name"`
	Description string      `json:"description"`
	Shape       Shape       `json:"shape"`
	Memory      Memory      `json:"memory"`
	Startup     Startup     `json:"startup"`
	Dense       Dense       `json:"dense"`
	Attention   Attention   `json:"attention"`
	MoE         MoE         `json:"moe"`
	AllReduce   AllReduce   `json:"all_reduce"`
	Head        Head        `json:"head"`
	Sampling    Sampling    `json:"sampling"`
	Launch      Launch      `json:"launch"`
	Host        Host        `json:"host"`
	FrontEnd    FrontEnd    `json:"front_end"`
	Speculation Speculation `json:"speculation"`
	Noise       Noise       `json:"noise"`
	// Sources says for every coefficient, by its path or the path of the object
	// around it, where it comes from: fact; M measured, P published, F fitted,
	// I inferred, then how sure.
	Sources map[string]string `json:"sources"`
}

// Shape is the model and how it is split.
type Shape struct {
	Layers      int `json:"layers"`
	DenseLayers int `json:"dense_layers"` // layers without routed experts
	HiddenSize  int `json:"hidden_size"`
	QueryHeads  int `json:"query_heads"`
	KVHeads     int `json:"kv_heads"`
	HeadDim     int `json:"head_dim"`
	// Experts is 0 for a model without experts; its moe tables may be empty.
	Experts               int `json:"experts"`
	ExpertsPerToken       int `json:"experts_per_token"`
	VocabSize             int `json:"vocab_size"`
	MaxPositionEmbeddings int `json:"max_position_embeddings"`
	// TensorParallelSize is the split that all times and weights are for.
	TensorParallelSize int `json:"tensor_parallel_size"`
	// DataParallelSize is the replicas that share the experts of one layer; it may
	// be missing, which is 1. All times and weights are of a GPU of one replica.
	DataParallelSize int `json:"data_parallel_size,omitempty"`
}

func (s Shape) replicas() int { return max(1, s.DataParallelSize) }

// Memory of one GPU.
type Memory struct {
	GPUGiB                float64       `json:"gpu_gib"`
	WeightsGiB            float64       `json:"weights_gib"`
	OverheadGiB           float64       `json:"overhead_gib"`
	ActivationMinGiB      float64       `json:"activation_min_gib"`
	ActivationGiBPerToken float64       `json:"activation_gib_per_token"` // of max_num_batched_tokens
	GraphsGiB             float64       `json:"graphs_gib"`
	MTPGiB                float64       `json:"mtp_gib"`
	KVElementBytes        ByKV[float64] `json:"kv_element_bytes"`
}

// ByKV holds one value for a KV cache in the model's type and one for fp8.
type ByKV[T any] struct {
	Auto T `json:"auto"`
	FP8  T `json:"fp8"`
}

func (b ByKV[T]) of(fp8 bool) T {
	if fp8 {
		return b.FP8
	}
	return b.Auto
}

// Startup phases.
type Startup struct {
	LoadEPSeconds         float64 `json:"load_ep_s"`
	LoadNoEPSeconds       float64 `json:"load_no_ep_s"`
	LoadPageCacheSeconds  float64 `json:"load_page_cache_s"`
	ProfileSeconds        float64 `json:"profile_s"`
	CompileSeconds        float64 `json:"compile_s"`
	CompileCachedSeconds  float64 `json:"compile_cached_s"`
	CaptureSecondsPerSize float64 `json:"capture_s_per_size"`
}

// Dense is projections, norms, rope, router and shared expert of a layer.
type Dense struct {
	Scale                    float64 `json:"scale"`
	SmallBase                float64 `json:"small_base_us"`
	SmallBatch               float64 `json:"small_batch_us"` // added from two tokens on
	SmallPerToken            float64 `json:"small_us_per_token"`
	SmallLimitTokens         int     `json:"small_limit_tokens"`
	Table                    Table   `json:"table_us"` // above the limit
	DenseLayerSaving         float64 `json:"dense_layer_saving_us"`
	DenseLayerSavingPerToken float64 `json:"dense_layer_saving_us_per_token"`
}

// Attention of a layer.
type Attention struct {
	Decode            ByKV[DecodeAttention] `json:"decode"`
	PrefillBase       float64               `json:"prefill_base_us"`
	PrefillRamp       float64               `json:"prefill_ramp_us"`
	PrefillRampTokens float64               `json:"prefill_ramp_tokens"`
	PrefillTFLOPS     Table                 `json:"prefill_tflops"` // by chunk length; constant above the last
}

// DecodeAttention reads the KV cache of all decoding requests.
type DecodeAttention struct {
	Base           float64 `json:"base_us"`
	Log2           float64 `json:"log2_us"` // per doubling of the mean context
	Log2FromTokens float64 `json:"log2_from_tokens"`
	KVBytesPerUS   float64 `json:"kv_bytes_per_us"`
}

// MoE is the routed experts of a layer, by real tokens of the step.
type MoE struct {
	// Penalty weighs fallback tiles (1) against tuned ones (0).
	Penalty      float64 `json:"penalty"`
	NoEPFallback Table   `json:"no_ep_fallback_us"`
	EPFallback   Table   `json:"ep_fallback_us"`
	NoEPTuned    Table   `json:"no_ep_tuned_us"`
	EPTuned      Table   `json:"ep_tuned_us"`
}

// AllReduce of one layer's activations, by tokens.
type AllReduce struct {
	PerLayer float64 `json:"per_layer"`
	Graph    Table   `json:"graph_us"` // whenever not eager
	Eager    Table   `json:"eager_us"`
}

// Head is the slice of lm_head and the all-gather of logits, by rows.
type Head struct {
	Base         float64 `json:"base_us"`
	PerRow       float64 `json:"us_per_row"`
	LeastPerRow  float64 `json:"least_us_per_row"`
	GatherPerRow float64 `json:"gather_us_per_row"`
}

// Sampling by kind, by rows.
type Sampling struct {
	Greedy      PerRow `json:"greedy"`
	Temperature PerRow `json:"temperature"`
	TopP        PerRow `json:"top_p"`
}

// PerRow is a cost with a part for every row.
type PerRow struct {
	Base   float64 `json:"base_us"`
	PerRow float64 `json:"us_per_row"`
}

// Launch is the least time a layer takes, whatever its kernels do.
type Launch struct {
	Eager      float64 `json:"eager_us_per_layer"`
	FullGraph  float64 `json:"full_graph_us_per_layer"`
	Piecewise  float64 `json:"piecewise_us_per_layer"`
	Uncaptured float64 `json:"uncaptured_us_per_layer"`
}

// Host is the scheduler's time between steps.
type Host struct {
	Step       float64 `json:"step_us"`
	PerRequest float64 `json:"us_per_request"`
	AsyncStep  float64 `json:"async_step_us"` // what is left under asynchronous scheduling
}

// FrontEnd is the API process.
type FrontEnd struct {
	TokenizerPerToken float64 `json:"tokenizer_us_per_token"`
	EventLoop         float64 `json:"event_loop_us"`
	DeliveryPerChunk  float64 `json:"delivery_us_per_chunk"`
	DeliveryDelay     float64 `json:"delivery_delay_us"`
}

// Speculation costs, and acceptance where it is drawn.
type Speculation struct {
	NGramPerRequest       float64   `json:"ngram_us_per_request"`
	NGramPerContextToken  float64   `json:"ngram_us_per_context_token"`
	NGramDraftProbability float64   `json:"ngram_draft_probability"`
	NGramAcceptance       []float64 `json:"ngram_acceptance"` // cumulative, by position
	MTPAttention          float64   `json:"mtp_attention_us"`
	MTPHead               float64   `json:"mtp_head_us"`
	MTPHeadPerRow         float64   `json:"mtp_head_us_per_row"`
	MTPSample             float64   `json:"mtp_sample_us"`
	MTPDraftProbability   float64   `json:"mtp_draft_probability"`
	MTPAcceptance         []float64 `json:"mtp_acceptance"` // cumulative, by position
}

// Noise of a step: standard deviation of its logarithm.
type Noise struct {
	Graph float64 `json:"graph_sigma"`
	Eager float64 `json:"eager_sigma"`
}

// Table is a piecewise linear function given by nodes (x, y) with rising x.
type Table [][2]float64

// at interpolates: constant below the first node, the last slope kept above the
// last one.
func (t Table) at(x float64) float64 {
	n := len(t)
	if n == 0 {
		return 0
	}
	if n == 1 || x <= t[0][0] {
		return t[0][1]
	}
	i := 1
	for i < n-1 && x > t[i][0] {
		i++
	}
	a, b := t[i-1], t[i]
	return a[1] + (b[1]-a[1])*(x-a[0])/(b[0]-a[0])
}

// capped is at, but constant above the last node.
func (t Table) capped(x float64) float64 {
	if n := len(t); n > 0 {
		x = min(x, t[n-1][0])
	}
	return t.at(x)
}

//go:embed glm46-h200.json
var glm46H200 []byte

// GLM46H200JSON is the built-in profile as a file to start another one from.
func GLM46H200JSON() []byte { return bytes.Clone(glm46H200) }

// GLM46H200 is GLM-4.6 in bf16 on eight H200, tensor parallel 8. The caller owns
// the result.
func GLM46H200() *Profile {
	p, err := ParseProfile("glm46-h200.json", glm46H200)
	if err != nil {
		panic(err) // the file is part of the program and tested
	}
	return p
}

//go:embed glm46-h200-tp4-dp2.json
var glm46H200Replicas []byte

// BuiltIn is the built-in profile for a configuration: that of two replicas of
// tensor parallel 4 with expert parallelism where that is asked for, else
// GLM46H200. The caller owns the result.
func BuiltIn(c vllm.EngineConfig) *Profile {
	if c.TensorParallelSize != 4 || c.DataParallelSize != 2 || !c.EnableExpertParallel {
		return GLM46H200()
	}
	p, err := ParseProfile("glm46-h200-tp4-dp2.json", glm46H200Replicas)
	if err != nil {
		panic(err) // the file is part of the program and tested
	}
	return p
}

// ParseProfile reads a profile in JSON. name stands in errors. Unknown and
// missing fields are faults, as are coefficients without a source; all faults
// are reported.
func ParseProfile(name string, data []byte) (*Profile, error) {
	var raw any
	dec := json.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&raw); err != nil {
		return nil, fmt.Errorf("%s: not JSON: %w", name, err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, fmt.Errorf("%s: text after the profile's object", name)
	}
	var faults []string
	compare("", reflect.TypeFor[Profile](), raw, &faults)
	if len(faults) > 0 {
		return nil, profileError(name, faults)
	}
	p := &Profile{}
	if err := json.Unmarshal(data, p); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if faults = p.faults(); len(faults) > 0 {
		return nil, profileError(name, faults)
	}
	return p, nil
}

func profileError(name string, faults []string) error {
	errs := make([]error, len(faults))
	for i, f := range faults {
		errs[i] = fmt.Errorf("%s: %s", name, f)
	}
	return errors.Join(errs...)
}

// compare reports fields of the type that the JSON lacks, and the reverse.
func compare(path string, t reflect.Type, raw any, faults *[]string) {
	if t.Kind() != reflect.Struct {
		return
	}
	object, ok := raw.(map[string]any)
	if !ok {
		*faults = append(*faults, at(path, "")+": want an object")
		return
	}
	known := map[string]bool{}
	for i := range t.NumField() {
		f := t.Field(i)
		key, optional := strings.CutSuffix(f.Tag.Get("json"), ",omitempty")
		known[key] = true
		if v, ok := object[key]; ok {
			compare(at(path, key), f.Type, v, faults)
		} else if !optional {
			*faults = append(*faults, at(path, key)+": missing")
		}
	}
	var unknown []string
	for key := range object {
		if !known[key] {
			unknown = append(unknown, at(path, key)+": no such coefficient")
		}
	}
	slices.Sort(unknown)
	*faults = append(*faults, unknown...)
}

func at(path, key string) string {
	switch {
	case path == "" && key == "":
		return "the profile"
	case path == "":
		return key
	case key == "":
		return path
	}
	return path + "." + key
}

type coefficient struct {
	path  string
	value reflect.Value
}

// coefficients walks over all leaves but name, description and sources.
func (p *Profile) coefficients() []coefficient {
	var out []coefficient
	var walk func(path string, v reflect.Value)
	walk = func(path string, v reflect.Value) {
		if v.Kind() != reflect.Struct {
			out = append(out, coefficient{path, v})
			return
		}
		for i := range v.NumField() {
			key, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
			if path == "" && (key == "name" || key == "description" || key == "sources") {
				continue
			}
			walk(at(path, key), v.Field(i))
		}
	}
	walk("", reflect.ValueOf(p).Elem())
	for i := range out {
		out[i].path = strings.TrimPrefix(out[i].path, ".")
	}
	return out
}

// faults checks values: finite, not negative, tables rising, shape usable.
func (p *Profile) faults() []string {
	var out []string
	fault := func(bad bool, format string, args ...any) {
		if bad {
			out = append(out, fmt.Sprintf(format, args...))
		}
	}
	for _, c := range p.coefficients() {
		switch v := c.value.Interface().(type) {
		case int:
			fault(v < 0, "%s: %d is negative", c.path, v)
		case float64:
			fault(!(v >= 0) || math.IsInf(v, 0), "%s: %v: want a number of 0 or more", c.path, v)
		case Table:
			if !(strings.HasPrefix(c.path, "moe.") && p.Shape.Experts == 0) {
				out = append(out, v.faults(c.path)...)
			}
		case []float64:
			last := 1.0
			for i, a := range v {
				fault(!(a >= 0 && a <= last), "%s[%d]: %v: want 0 to 1, not rising", c.path, i, a)
				last = a
			}
			fault(len(v) == 0, "%s: no positions", c.path)
		}
		fault(p.source(c.path) == "", "sources: nothing for %s", c.path)
	}
	s := p.Shape
	for _, c := range []struct {
		name  string
		value int
	}{
		{"layers", s.Layers}, {"query_heads", s.QueryHeads}, {"kv_heads", s.KVHeads}, {"head_dim", s.HeadDim},
		{"max_position_embeddings", s.MaxPositionEmbeddings}, {"tensor_parallel_size", s.TensorParallelSize},
	} {
		fault(c.value < 1, "shape.%s: %d: want at least 1", c.name, c.value)
	}
	fault(s.DenseLayers > s.Layers, "shape.dense_layers: %d of %d layers", s.DenseLayers, s.Layers)
	fault(p.Name == "", "name: empty")
	for _, kv := range []bool{false, true} {
		d := p.Attention.Decode.of(kv)
		fault(!(d.KVBytesPerUS > 0 && d.Log2FromTokens > 0), "attention.decode: kv_bytes_per_us and log2_from_tokens must be above 0")
		fault(!(p.Memory.KVElementBytes.of(kv) > 0), "memory.kv_element_bytes: must be above 0")
	}
	fault(!(p.Attention.PrefillRampTokens > 0), "attention.prefill_ramp_tokens: must be above 0")
	fault(p.Speculation.NGramDraftProbability > 1 || p.Speculation.MTPDraftProbability > 1, "speculation: a draft probability is above 1")
	fault(p.MoE.Penalty > 10, "moe.penalty: %v: want 0 (tuned) to 1 (fallback)", p.MoE.Penalty)
	for _, n := range p.Attention.PrefillTFLOPS {
		fault(!(n[1] > 0), "attention.prefill_tflops: %v must be above 0", n[1])
	}
	return out
}

func (t Table) faults(path string) []string {
	if len(t) == 0 {
		return []string{path + ": no nodes"}
	}
	var out []string
	for i, n := range t {
		if !(n[0] >= 0 && n[1] >= 0) || math.IsInf(n[0]+n[1], 0) {
			out = append(out, fmt.Sprintf("%s[%d]: %v: want numbers of 0 or more", path, i, n))
		}
		if i > 0 && !(n[0] > t[i-1][0]) {
			out = append(out, fmt.Sprintf("%s[%d]: %v does not rise above %v", path, i, n[0], t[i-1][0]))
		}
	}
	if n := len(t); n > 1 && t[n-1][1] < t[n-2][1] {
		out = append(out, path+": falls at the end, so it would go below 0")
	}
	return out
}

// source is that of the path or of an object around it, "" if there is none.
func (p *Profile) source(path string) string {
	for {
		if text := p.Sources[path]; text != "" {
			return text
		}
		i := strings.LastIndexByte(path, '.')
		if i < 0 {
			return ""
		}
		path = path[:i]
	}
}
