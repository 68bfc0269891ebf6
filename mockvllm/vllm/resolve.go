package vllm

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// ModelShape is what the checks of the engine need to know of a model.
type ModelShape struct {
	// Name as in the hub, and the class in its config.json.
	Name, Architecture, ModelType string
	MaxPositionEmbeddings         int
	Layers                        int
	HiddenSize                    int
	AttentionHeads, KVHeads       int
	HeadDim                       int
	// Experts is 0 for a dense model.
	Experts, ExpertsPerToken int
	MoEIntermediateSize      int
	VocabSize                int
	// HasMTP: the checkpoint holds a multi-token-prediction layer.
	HasMTP bool
	// Dtype of the checkpoint, as in the engine-config line without "torch.".
	Dtype       string
	EOSTokenIDs []int
}

// GLM46 is zai-org/GLM-4.6 in bf16.
//
// Source: docs/vllm.md section 6.
func GLM46() ModelShape {
	return ModelShape{
		Name: "zai-org/GLM-4.6", Architecture: "Glm4MoeForCausalLM", ModelType: "glm4_moe",
		MaxPositionEmbeddings: 202752, Layers: 92, HiddenSize: 5120,
		AttentionHeads: 96, KVHeads: 8, HeadDim: 128,
		Experts: 160, ExpertsPerToken: 8, MoEIntermediateSize: 1536,
		VocabSize: 151552, HasMTP: true, Dtype: "bfloat16",
		EOSTokenIDs: []int{151329, 151336, 151338},
	}
}

// SpecConfig is speculative decoding as the engine runs it.
type SpecConfig struct {
	// Method is "ngram", "mtp" or "draft_model".
	Method string
	// Model is the draft model's path ("draft_model"), else "".
	Model                            string
	NumSpeculativeTokens             int
	PromptLookupMin, PromptLookupMax int
}

// Override is a setting that the engine silently replaces.
type Override struct{ Flag, Asked, Got, Why string }

// EngineConfig is the configuration an engine of that version runs with: every
// default filled in.
type EngineConfig struct {
	Version Version
	Model   string
	// ServedName is the first id of /v1/models; ServedNames all of them.
	ServedName  string
	ServedNames []string
	Shape       ModelShape

	TensorParallelSize, PipelineParallelSize, DataParallelSize int
	DecodeContextParallelSize                                  int
	EnableExpertParallel, EnforceEager, TrustRemoteCode        bool

	// Dtype is resolved: "bfloat16", "float16", "float32".
	Dtype string
	// KVCacheDtype as given: "auto", "fp8", "fp8_e4m3", "bfloat16"...
	KVCacheDtype         string
	Quantization         string
	LoadFormat           string
	Seed                 *int
	GPUMemoryUtilization float64
	// KVCacheMemoryBytes replaces the memory computation when not 0 (per GPU).
	KVCacheMemoryBytes int64
	SwapSpaceGiB       float64
	BlockSize          int
	// NumGPUBlocksOverride is 0 when not given.
	NumGPUBlocksOverride int

	// MaxModelLen is -1 when it is to be fitted to memory.
	MaxModelLen                 int
	MaxNumSeqs                  int
	MaxNumBatchedTokens         int
	MaxNumBatchedTokensExplicit bool
	// LongPrefillTokenThreshold bounds a prompt's chunk when not 0.
	LongPrefillTokenThreshold int
	EnablePrefixCaching       bool
	EnableChunkedPrefill      bool
	AsyncScheduling           bool
	ReserveFullISL            bool
	SchedulingPolicy          string
	StreamInterval            int
	// Watermark is the share of blocks kept free at admission.
	Watermark float64

	Spec *SpecConfig
	// Compile: torch.compile is used.
	Compile bool
	// CUDAGraphMode is "NONE", "PIECEWISE" or "FULL_AND_PIECEWISE".
	CUDAGraphMode string
	// CaptureSizes are the CUDA-graph batch sizes, ascending; nil without graphs.
	CaptureSizes []int

	EnablePromptTokensDetails bool
	EnableRequestIDHeaders    bool
	ForceIncludeUsage         bool
	EnableLogRequests         bool
	DisableLogStats           bool
	EnableServerLoadTracking  bool
	DisableAccessLog          bool
	ReasoningParser           string
	ToolCallParser            string
	EnableAutoToolChoice      bool
	MaxLogprobs               int

	// Overrides are settings that were asked for and not applied.
	Overrides []Override
	// Warnings are messages the engine logs at WARNING for this configuration.
	Warnings []string
	// Args are what the configuration was resolved from.
	Args ServeArgs
}

// SpecTokens is k of speculative decoding, 0 without.
func (c EngineConfig) SpecTokens() int {
	if c.Spec == nil {
		return 0
	}
	return c.Spec.NumSpeculativeTokens
}

// KVCacheBytesPerElement is 1 for fp8 and 2 for 16-bit types.
func (c EngineConfig) KVCacheBytesPerElement() int {
	switch {
	case strings.HasPrefix(c.KVCacheDtype, "fp8"):
		return 1
	case c.KVCacheDtype == "auto" && c.Dtype == "float32":
		return 4
	}
	return 2
}

// ResolveOptions are what the engine reads outside of the command line.
type ResolveOptions struct {
	// AllowLongMaxModelLen is VLLM_ALLOW_LONG_MAX_MODEL_LEN=1.
	AllowLongMaxModelLen bool
}

// Defaults on a GPU of 70 GiB or more that is not an A100, for the API server.
//
// Source: docs/vllm.md section 1.7.
const (
	DefaultMaxNumBatchedTokens = 8192
	DefaultMaxNumSeqs          = 1024
	// DefaultBlockTokens is the KV block on CUDA.
	DefaultBlockTokens = 16
)

// defaultMaxNumSeqsV0 is the default of the engine before 0.8.
const defaultMaxNumSeqsV0 = 256

// Resolve fills in every default of the version and applies the engine's checks
// that need no memory model.
//
// It fails with a *RefusalError.
// Source: docs/vllm.md sections 1.3 to 1.10.
func (a ServeArgs) Resolve(v Version, m ModelShape) (EngineConfig, error) {
	return a.ResolveWith(v, m, ResolveOptions{})
}

// ResolveArgv is ParseServeArgs and Resolve in one.
func ResolveArgv(v Version, argv []string, m ModelShape) (EngineConfig, error) {
	a, err := ParseServeArgs(v, argv)
	if err != nil {
		return EngineConfig{}, err
	}
	return a.Resolve(v, m)
}

// ResolveWith is Resolve with the environment's switches. On a refusal the
// configuration is what was settled before it.
func (a ServeArgs) ResolveWith(v Version, m ModelShape, o ResolveOptions) (EngineConfig, error) {
	c := a.engineConfig(v, m)
	steps := []func(*EngineConfig, ResolveOptions) *RefusalError{
		(*EngineConfig).checkModel,
		(*EngineConfig).checkCache,
		(*EngineConfig).resolveSpec,
		(*EngineConfig).resolveScheduler,
		(*EngineConfig).checkParallel,
		(*EngineConfig).resolveAsync,
		(*EngineConfig).resolveGraphs,
	}
	for _, step := range steps {
		if e := step(&c, o); e != nil {
			return c, e
		}
	}
	return c, nil
}

// engineConfig copies what needs no check.
func (a ServeArgs) engineConfig(v Version, m ModelShape) EngineConfig {
	c := EngineConfig{
		Version: v, Model: a.Model, ServedNames: slices.Clone(a.ServedModelNames), Shape: m, Args: a,
		TensorParallelSize: a.TensorParallelSize, PipelineParallelSize: a.PipelineParallelSize, DataParallelSize: a.DataParallelSize,
		DecodeContextParallelSize: a.DecodeContextParallelSize,
		EnableExpertParallel:      a.EnableExpertParallel, EnforceEager: a.EnforceEager, TrustRemoteCode: a.TrustRemoteCode,
		KVCacheDtype: a.KVCacheDtype, Quantization: a.Quantization, LoadFormat: a.LoadFormat, Seed: a.Seed,
		GPUMemoryUtilization: a.GPUMemoryUtilization, KVCacheMemoryBytes: a.KVCacheMemoryBytes, SwapSpaceGiB: a.SwapSpaceGiB,
		BlockSize: a.BlockSize, NumGPUBlocksOverride: a.NumGPUBlocksOverride,
		MaxModelLen: a.MaxModelLen, MaxNumSeqs: a.MaxNumSeqs, MaxNumBatchedTokens: a.MaxNumBatchedTokens,
		MaxNumBatchedTokensExplicit: a.Set["--max-num-batched-tokens"],
		LongPrefillTokenThreshold:   a.LongPrefillTokenThreshold, Watermark: a.Watermark,
		SchedulingPolicy: a.SchedulingPolicy, StreamInterval: a.StreamInterval,
		EnablePrefixCaching: v.AtLeast("0.8.0"), ReserveFullISL: ReserveFullISLDefault(v),
		EnablePromptTokensDetails: a.EnablePromptTokensDetails, EnableRequestIDHeaders: a.EnableRequestIDHeaders,
		ForceIncludeUsage: a.ForceIncludeUsage, EnableLogRequests: a.LogRequests, DisableLogStats: a.DisableLogStats,
		EnableServerLoadTracking: a.EnableServerLoadTracking, DisableAccessLog: a.DisableUvicornAccessLog,
		ReasoningParser: a.ReasoningParser, ToolCallParser: a.ToolCallParser, EnableAutoToolChoice: a.EnableAutoToolChoice,
		MaxLogprobs: a.MaxLogprobs,
		Warnings:    slices.Clone(a.Warnings),
	}
	if c.Model == "" {
		// Source: vLLM 0.11.1, vllm/config/model.py.
		c.Model = "Qwen/Qwen3-0.6B"
	}
	if len(c.ServedNames) == 0 {
		c.ServedNames = []string{c.Model}
	}
	c.ServedName = c.ServedNames[0]
	if c.BlockSize == 0 {
		c.BlockSize = DefaultBlockTokens
	}
	if a.EnablePrefixCaching != nil {
		c.EnablePrefixCaching = *a.EnablePrefixCaching
	}
	if a.ReserveFullISL != nil {
		c.ReserveFullISL = *a.ReserveFullISL
	}
	return c
}

// checkModel settles dtype and max_model_len.
func (c *EngineConfig) checkModel(o ResolveOptions) *RefusalError {
	switch c.Args.Dtype {
	case "auto":
		c.Dtype = c.Shape.Dtype
		if c.Dtype == "float32" {
			c.Dtype = "float16"
		}
	case "half":
		c.Dtype = "float16"
	case "float":
		c.Dtype = "float32"
	default:
		c.Dtype = c.Args.Dtype
	}
	limit := c.Shape.MaxPositionEmbeddings
	switch n := c.MaxModelLen; {
	case n == 0 && !c.Args.Set["--max-model-len"]:
		c.MaxModelLen = limit
	case n == -1 && c.Version.AtLeast("0.16.0"):
		// "auto": the engine fits it to the KV cache after profiling.
	case n < 1:
		return refuse("max_model_len_positive", "ValueError", "ModelConfig", "--max-model-len must be at least 1",
			"max_model_len must be a positive integer, got %d", n)
	case n > limit && limit > 0:
		return c.checkLongModelLen(n, limit, o)
	}
	return nil
}

func (c *EngineConfig) checkLongModelLen(n, limit int, o ResolveOptions) *RefusalError {
	msg := fmt.Sprintf("User-specified max_model_len (%d) is greater than the derived max_model_len (max_position_embeddings=%d or model_max_length=None in model's config.json).", n, limit)
	warning := "VLLM_ALLOW_LONG_MAX_MODEL_LEN must be used with extreme caution. If the model uses relative position encoding (RoPE), positions exceeding derived_max_model_len lead to nan. If the model uses absolute position encoding, positions exceeding derived_max_model_len will cause a CUDA array out-of-bounds error."
	allow := " To allow overriding this maximum, set the env var VLLM_ALLOW_LONG_MAX_MODEL_LEN=1"
	if c.Version.AtLeast("0.10.2") {
		allow += ". " + warning
	} else {
		msg += " This may lead to incorrect model outputs or CUDA errors."
		warning = "Make sure the value is correct and within the model context size."
	}
	if o.AllowLongMaxModelLen {
		c.Warnings = append(c.Warnings, msg+" "+warning)
		return nil
	}
	return refuse("max_model_len", "ValueError", "ModelConfig",
		fmt.Sprintf("--max-model-len %d is above the model's limit of %d tokens", n, limit), "%s%s", msg, allow)
}

// checkCache settles the KV cache's settings.
func (c *EngineConfig) checkCache(ResolveOptions) *RefusalError {
	if u := c.GPUMemoryUtilization; !(u > 0 && u <= 1) {
		if c.Version.AtLeast("0.11.1") {
			word, kind := "less than or equal to 1", "less_than_equal"
			if !(u > 0) {
				word, kind = "greater than 0", "greater_than"
			}
			e := refuse("gpu_memory_utilization", "ValidationError", "CacheConfig", "--gpu-memory-utilization must be above 0 and at most 1",
				"1 validation error for CacheConfig\ngpu_memory_utilization\n  Input should be %s [type=%s, input_value=%s, input_type=float]", word, kind, pyFloatText(u))
			return e
		}
		return refuse("gpu_memory_utilization", "ValueError", "CacheConfig", "--gpu-memory-utilization must be above 0 and at most 1",
			"GPU memory utilization must be less than 1.0. Got %s.", pyFloatText(u))
	}
	if b := c.BlockSize; b < 1 || b > 1<<20 {
		return refuse("block_size", "ValueError", "CacheConfig", "--block-size must be a positive number of tokens", "Invalid block_size: %d", b)
	}
	if n := c.NumGPUBlocksOverride; n < 0 {
		return refuse("num_gpu_blocks_override", "ValueError", "CacheConfig", "--num-gpu-blocks-override must be positive", "num_gpu_blocks_override must be positive, got %d", n)
	}
	if c.Version.AtLeast("0.8.0") && c.Args.Set["--swap-space"] {
		c.Overrides = append(c.Overrides, Override{
			Flag: "--swap-space", Asked: c.Args.Values["--swap-space"], Got: "no effect",
			Why: "the V1 engine preempts by recomputing and never swaps",
		})
	}
	return nil
}

// resolveSpec settles speculative decoding.
func (c *EngineConfig) resolveSpec(ResolveOptions) *RefusalError {
	raw := c.Args.Speculative
	if raw == nil {
		return nil
	}
	method, _ := raw["method"].(string)
	model, _ := raw["model"].(string)
	if model == "ngram" || model == "[ngram]" {
		method, model = "ngram", ""
	}
	k, hasK := asInt(raw["num_speculative_tokens"])
	switch method {
	case "ngram", "[ngram]":
		return c.resolveNgram(raw, k, hasK)
	case "mtp", "glm4_moe_mtp", "deepseek_mtp":
		return c.resolveMTP(method, k, hasK)
	case "draft_model":
		if model == "" {
			return specWithoutModel()
		}
		return c.resolveDraft(model, k, hasK)
	case "":
		if model == "" {
			return specWithoutModel()
		}
		if model == c.Model && c.Shape.HasMTP {
			return c.resolveMTP("mtp", k, hasK)
		}
		return c.resolveDraft(model, k, hasK)
	}
	return refuse("spec_method", "ValueError", "SpeculativeConfig", "the methods are ngram, mtp and draft_model",
		"Unsupported speculative method: '%s'", method)
}

func specWithoutModel() *RefusalError {
	return refuse("spec_without_model", "ValueError", "SpeculativeConfig", "give a method (ngram or mtp) or a draft model",
		"num_speculative_tokens was provided but without speculative model.")
}

func specTokensMissing() *RefusalError {
	return refuse("spec_tokens_missing", "ValueError", "SpeculativeConfig", "give num_speculative_tokens",
		"num_speculative_tokens must be provided with speculative model unless the draft model config contains an n_predict parameter.")
}

func (c *EngineConfig) resolveNgram(raw map[string]any, k int, hasK bool) *RefusalError {
	lo, hasLo := asInt(raw["prompt_lookup_min"])
	hi, hasHi := asInt(raw["prompt_lookup_max"])
	switch {
	case !hasLo && !hasHi && !c.Version.AtLeast("0.8.3"):
		return refuse("lookup_missing", "ValueError", "SpeculativeConfig", "give --ngram-prompt-lookup-max",
			"ngram_prompt_lookup_max=None must be > 0")
	case !hasLo && !hasHi:
		lo, hi = defaultLookup, defaultLookup
	case !hasLo:
		lo = hi
	case !hasHi:
		hi = lo
	}
	switch {
	case lo < 1:
		return refuse("lookup_min", "ValueError", "SpeculativeConfig", "prompt_lookup_min must be at least 1", "prompt_lookup_min=%d must be > 0", lo)
	case hi < 1:
		return refuse("lookup_max", "ValueError", "SpeculativeConfig", "prompt_lookup_max must be at least 1", "prompt_lookup_max=%d must be > 0", hi)
	case lo > hi:
		return refuse("lookup_order", "ValueError", "SpeculativeConfig", "prompt_lookup_min must not exceed prompt_lookup_max",
			"prompt_lookup_min=%d must be <= prompt_lookup_max=%d", lo, hi)
	case !hasK:
		return specTokensMissing()
	case k < 1:
		return refuseSpecTokens(k)
	}
	c.Spec = &SpecConfig{Method: "ngram", NumSpeculativeTokens: k, PromptLookupMin: lo, PromptLookupMax: hi}
	return nil
}

func (c *EngineConfig) resolveMTP(method string, k int, hasK bool) *RefusalError {
	if e := refuseMTP(c.Version, c.Shape); e != nil {
		return e
	}
	if method != "mtp" {
		c.Warnings = append(c.Warnings, fmt.Sprintf("method `%s` is deprecated and replaced with mtp.", method))
	}
	if !hasK {
		k = 1 // the checkpoint has one MTP layer
	}
	if k < 1 {
		return refuseSpecTokens(k)
	}
	if k > 1 {
		c.Warnings = append(c.Warnings, "Enabling num_speculative_tokens > 1 will run multiple times of forward on same MTP layer,which may result in lower acceptance rate")
	}
	c.Spec = &SpecConfig{Method: "mtp", NumSpeculativeTokens: k}
	return nil
}

func (c *EngineConfig) resolveDraft(model string, k int, hasK bool) *RefusalError {
	if !hasK {
		return specTokensMissing()
	}
	if k < 1 {
		return refuseSpecTokens(k)
	}
	if e := refuseDraft(c.Version); e != nil {
		return e
	}
	c.Spec = &SpecConfig{Method: "draft_model", Model: model, NumSpeculativeTokens: k}
	return nil
}

// resolveScheduler settles chunked prefill, the token budget and max_num_seqs.
func (c *EngineConfig) resolveScheduler(ResolveOptions) *RefusalError {
	c.EnableChunkedPrefill = true
	if asked := c.Args.EnableChunkedPrefill; asked != nil && !*asked {
		if ChunkedPrefillHonoured(c.Version) {
			c.EnableChunkedPrefill = false
			if c.Version.AtLeast("0.12.0") {
				c.Warnings = append(c.Warnings, "This model does not officially support disabling chunked prefill. Disabling this manually may cause the engine to crash or produce incorrect outputs.")
			}
		} else {
			c.Overrides = append(c.Overrides, Override{
				Flag: "--enable-chunked-prefill", Asked: "no", Got: "yes",
				Why: fmt.Sprintf("vLLM 0.8.0 to 0.11.0 turn chunked prefill on for every generating model, and this is %s", c.Version),
			})
		}
	}
	factor := 1
	if c.Args.PerformanceMode == "throughput" {
		factor = 2
	}
	length := c.MaxModelLen
	if length < 0 {
		length = c.Shape.MaxPositionEmbeddings
	}
	length = max(1, length)
	seqsExplicit := c.Args.Set["--max-num-seqs"]
	if !seqsExplicit {
		c.MaxNumSeqs = DefaultMaxNumSeqs * factor
		if !c.Version.AtLeast("0.8.0") {
			c.MaxNumSeqs = defaultMaxNumSeqsV0
		}
	}
	if !c.MaxNumBatchedTokensExplicit {
		c.MaxNumBatchedTokens = DefaultMaxNumBatchedTokens * factor
		if !c.EnableChunkedPrefill {
			c.MaxNumBatchedTokens = max(c.MaxNumBatchedTokens, length)
		}
		if c.Version.AtLeast("0.12.0") && c.MaxNumSeqs > 0 && c.MaxNumSeqs < c.MaxNumBatchedTokens/length {
			c.MaxNumBatchedTokens = c.MaxNumSeqs * length
		}
	}
	if !seqsExplicit && c.Version.AtLeast("0.10.0") {
		c.MaxNumSeqs = max(1, min(c.MaxNumSeqs, c.MaxNumBatchedTokens))
	}
	return c.checkScheduler(length)
}

func (c *EngineConfig) checkScheduler(length int) *RefusalError {
	switch budget := c.MaxNumBatchedTokens; {
	case c.MaxNumSeqs < 1:
		return refuse("max_num_seqs", "ValueError", "SchedulerConfig", "--max-num-seqs must be at least 1",
			"max_num_seqs must be at least 1, got %d", c.MaxNumSeqs)
	case budget < 1:
		return refuse("max_num_batched_tokens", "ValueError", "SchedulerConfig", "--max-num-batched-tokens must be at least 1",
			"max_num_batched_tokens must be at least 1, got %d", budget)
	case budget < length && !c.EnableChunkedPrefill:
		return refuse("budget_model_len", "ValueError", "SchedulerConfig",
			fmt.Sprintf("without chunked prefill a whole prompt must fit one step: raise --max-num-batched-tokens from %d to %d or leave it out", budget, length),
			"max_num_batched_tokens (%d) is smaller than max_model_len (%d). This effectively limits the maximum sequence length to max_num_batched_tokens and makes vLLM reject longer sequences. Please increase max_num_batched_tokens or decrease max_model_len.", budget, length)
	case budget < c.MaxNumSeqs:
		return refuse("budget_num_seqs", "ValueError", "SchedulerConfig",
			"the token budget must allow a token for every running request",
			"max_num_batched_tokens (%d) must be greater than or equal to max_num_seqs (%d).", budget, c.MaxNumSeqs)
	}
	return nil
}

// checkParallel applies the checks between model and parallelism.
func (c *EngineConfig) checkParallel(ResolveOptions) *RefusalError {
	for _, s := range []struct {
		name string
		n    int
	}{
		{"tensor_parallel_size", c.TensorParallelSize}, {"pipeline_parallel_size", c.PipelineParallelSize},
		{"data_parallel_size", c.DataParallelSize}, {"decode_context_parallel_size", c.DecodeContextParallelSize},
		{"prefill_context_parallel_size", c.Args.PrefillContextParallelSize},
	} {
		if s.n < 1 || s.n > 4096 {
			return refuse("parallel_size", "ValueError", "ParallelConfig", "a parallel size must be at least 1", "%s must be a positive integer, got %d", s.name, s.n)
		}
	}
	if tp := c.TensorParallelSize; c.Shape.AttentionHeads%tp != 0 {
		return refuse("tp_divides_heads", "ValueError", "VllmConfig",
			fmt.Sprintf("%d attention heads cannot be split over %d GPUs", c.Shape.AttentionHeads, tp),
			"Total number of attention heads (%d) must be divisible by tensor parallel size (%d).", c.Shape.AttentionHeads, tp)
	}
	if c.EnableExpertParallel && c.Shape.Experts < 1 {
		return refuse("ep_dense", "ValueError", "VllmConfig", "expert parallelism needs a mixture-of-experts model",
			"Number of experts in the model must be greater than 0 when expert parallelism is enabled.")
	}
	if pcp := c.Args.PrefillContextParallelSize; pcp > 1 {
		return refuse("pcp", "ValueError", "ParallelConfig", "prefill context parallelism cannot run this model: use 1",
			"Prefill context parallelism is not fully supported. Please set prefill_context_parallel_size to 1.")
	}
	return RefuseContextParallel(c.Version, c.Shape, c.TensorParallelSize, c.DecodeContextParallelSize)
}

// resolveAsync settles asynchronous scheduling.
func (c *EngineConfig) resolveAsync(ResolveOptions) *RefusalError {
	c.AsyncScheduling = AsyncSchedulingDefault(c.Version)
	asked := c.Args.AsyncScheduling
	if asked != nil {
		c.AsyncScheduling = *asked
	}
	if !c.AsyncScheduling || c.Spec == nil || c.asyncSpecSupported() {
		return nil
	}
	if asked == nil {
		c.AsyncScheduling = false
		c.Warnings = append(c.Warnings, fmt.Sprintf("Async scheduling not supported with %s-based speculative decoding and will be disabled.", c.Spec.Method))
		return nil
	}
	reason := c.Spec.Method + " speculation runs on the CPU between steps: leave --async-scheduling out"
	if !c.Version.AtLeast("0.12.0") {
		return refuse("async_spec", "ValueError", "", reason, "Currently, speculative decoding is not supported with async scheduling.")
	}
	kinds := "EAGLE/MTP"
	switch {
	case c.Version.AtLeast("0.24.0"):
		kinds += "/Draft Model/NGram GPU/DSpark"
	case c.Version.AtLeast("0.18.0"):
		kinds += "/Draft Model/NGram GPU"
	case c.Version.AtLeast("0.15.0"):
		kinds += "/Draft Model"
	}
	dot := ""
	if !c.Version.AtLeast("0.18.0") {
		dot = "."
	}
	return refuse("async_spec", "ValueError", "VllmConfig", reason,
		"Currently, async scheduling is only supported with %s kind of speculative decoding%s", kinds, dot)
}

func (c *EngineConfig) asyncSpecSupported() bool {
	switch c.Spec.Method {
	case "mtp":
		return c.Version.AtLeast("0.12.0")
	case "draft_model":
		return c.Version.AtLeast("0.15.0")
	}
	return false
}

// resolveGraphs settles torch.compile and CUDA graphs.
func (c *EngineConfig) resolveGraphs(ResolveOptions) *RefusalError {
	c.Compile = !c.EnforceEager && c.Version.AtLeast("0.8.0")
	c.CUDAGraphMode = "PIECEWISE"
	if c.Version.AtLeast("0.11.0") {
		c.CUDAGraphMode = "FULL_AND_PIECEWISE"
	}
	cfg := c.Args.CompilationConfig
	for _, key := range []string{"level", "mode"} {
		if n, ok := asInt(cfg[key]); ok && n == 0 {
			c.Compile, c.CUDAGraphMode = false, "NONE"
		}
	}
	switch c.Args.OptimizationLevel {
	case 0:
		c.Compile, c.CUDAGraphMode = false, "NONE"
	case 1:
		c.CUDAGraphMode = "PIECEWISE"
	}
	if mode, ok := cfg["cudagraph_mode"].(string); ok {
		c.CUDAGraphMode = strings.ToUpper(mode)
	}
	if use, ok := cfg["use_cudagraph"].(bool); ok && !use {
		c.CUDAGraphMode = "NONE"
	}
	if c.EnforceEager {
		c.CUDAGraphMode = "NONE"
	}
	if c.CUDAGraphMode != "NONE" {
		c.CaptureSizes = c.Args.captureSizesOf(c.Version, c.MaxNumSeqs, c.SpecTokens(), c.MaxNumBatchedTokens)
	}
	return nil
}

// asInt reads a whole number out of decoded JSON.
func asInt(x any) (int, bool) {
	switch n := x.(type) {
	case json.Number:
		i, err := n.Int64()
		return int(i), err == nil
	case string:
		i, err := pyInt(n)
		return i, err == nil
	case float64:
		return int(n), n == float64(int(n))
	case int:
		return n, true
	}
	return 0, false
}
