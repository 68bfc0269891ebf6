package vllm

import (
	"encoding/json"
	"errors"
)

var errStub = errors.New("vllm: not built yet")

// ServeArgs is what `vllm serve MODEL --flags...` was given. Fields hold the
// version's default where a flag was not given; Set says which were.
//
// A field of 0 or "" stands for "chosen by the engine" (see [ServeArgs.Resolve]).
type ServeArgs struct {
	Version Version

	// Model as given; "" when none was (vLLM then serves its own small default).
	Model            string
	ServedModelNames []string
	Tokenizer        string
	Host             string // "" is 0.0.0.0
	Port             int
	UDS              string
	APIKeys          []string
	RootPath         string

	TensorParallelSize         int
	PipelineParallelSize       int
	DataParallelSize           int
	DecodeContextParallelSize  int
	PrefillContextParallelSize int
	EnableExpertParallel       bool

	EnforceEager         bool
	TrustRemoteCode      bool
	Dtype                string
	Quantization         string
	LoadFormat           string
	DownloadDir          string
	Revision             string
	Seed                 *int
	KVCacheDtype         string
	GPUMemoryUtilization float64
	KVCacheMemoryBytes   int64
	SwapSpaceGiB         float64
	BlockSize            int
	NumGPUBlocksOverride int

	// MaxModelLen: 0 is the model's own, -1 what fits into memory ("auto").
	MaxModelLen         int
	MaxNumSeqs          int
	MaxNumBatchedTokens int
	// Three-valued switches: nil is the version's default.
	EnablePrefixCaching  *bool
	EnableChunkedPrefill *bool
	AsyncScheduling      *bool
	// ReserveFullISL is --scheduler-reserve-full-isl.
	ReserveFullISL   *bool
	SchedulingPolicy string
	StreamInterval   int
	PerformanceMode  string

	// Speculative is --speculative-config, or what the older separate flags
	// amount to; nil when none was given.
	Speculative map[string]any
	// CompilationConfig is --compilation-config, nil when not given.
	CompilationConfig map[string]any
	// OptimizationLevel is -O; -1 when not given.
	OptimizationLevel         int
	CaptureSizes              []int
	MaxCaptureSize            int
	MaxLogprobs               int
	GenerationConfig          string
	ReasoningParser           string
	ToolCallParser            string
	EnableAutoToolChoice      bool
	ChatTemplate              string
	HFOverrides               map[string]any
	EnablePromptTokensDetails bool
	EnableRequestIDHeaders    bool
	ForceIncludeUsage         bool
	EnableServerLoadTracking  bool
	DisableUvicornAccessLog   bool
	UvicornLogLevel           string
	DisableLogStats           bool
	// LogRequests: requests are logged (default on before 0.10.1, off since).
	LogRequests        bool
	DisableFrontendMP  bool
	ReturnTokensAsIDs  bool
	CustomAllReduceOff bool
	ShutdownTimeoutS   int
	FingerprintMode    string

	// Set holds the long name of every flag that was given.
	Set map[string]bool
	// Values holds the text of every flag that was given, by long name; lists
	// joined by one blank, dotted JSON as one object, switches "true" or "false".
	Values map[string]string
	// Warnings are log lines the parser writes (deprecated flags).
	Warnings []string
}

// UsageError is a command line that vLLM's parser refuses, before any model
// work.
type UsageError struct {
	// Text is what vLLM writes to stderr, usage lines included.
	Text string
	// Message is the last line's part after "error: ".
	Message string
	// Flags are the unknown or faulty flags, as given.
	Flags []string
	// Class is ClassUnknownFlag or ClassUsage.
	Class Class
	// ExitCode is always 2.
	ExitCode int
}

func (e *UsageError) Error() string { return e.Message }

// ParseServeArgs reads what follows "vllm serve" as version v does: unique
// prefixes of flags, "_" for "-", --x=y, --no-x, dotted JSON, k and K suffixes.
//
// It fails with a *UsageError.
// Source: docs/vllm.md section 1.2.
func ParseServeArgs(v Version, argv []string) (ServeArgs, error) { return ServeArgs{}, errStub }

// HumanInt reads a whole number with an optional suffix: k, m, g, t are powers
// of 1000 and may follow a decimal fraction, K, M, G, T are powers of 1024 and
// may not.
//
// Source: vLLM 0.11.1, vllm/engine/arg_utils.py human_readable_int.
func HumanInt(s string) (int, error) { return 0, errStub }

var _ json.Marshaler
