package vllm

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
// Source: docs/vllm.md section 7.
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
	EnablePrefixCaching         bool
	EnableChunkedPrefill        bool
	AsyncScheduling             bool
	ReserveFullISL              bool
	SchedulingPolicy            string
	StreamInterval              int

	Spec *SpecConfig
	// CaptureSizes are the CUDA-graph batch sizes, ascending; nil when eager.
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

// ResolveOptions are what the engine reads outside of the command line.
type ResolveOptions struct {
	// AllowLongMaxModelLen is VLLM_ALLOW_LONG_MAX_MODEL_LEN=1.
	AllowLongMaxModelLen bool
	// UseV0 is VLLM_USE_V1=0 (versions before 0.11).
	UseV0 bool
}

// Resolve fills in every default of the version and applies the engine's checks
// that need no memory model.
//
// It fails with a *RefusalError.
// Source: docs/vllm.md sections 1.3 to 1.10.
func (a ServeArgs) Resolve(v Version, m ModelShape) (EngineConfig, error) {
	return a.ResolveWith(v, m, ResolveOptions{})
}

// ResolveWith is Resolve with the environment's switches.
func (a ServeArgs) ResolveWith(v Version, m ModelShape, o ResolveOptions) (EngineConfig, error) {
	return EngineConfig{}, errStub
}

// ResolveArgv is ParseServeArgs and Resolve in one.
func ResolveArgv(v Version, argv []string, m ModelShape) (EngineConfig, error) {
	a, err := ParseServeArgs(v, argv)
	if err != nil {
		return EngineConfig{}, err
	}
	return a.Resolve(v, m)
}
