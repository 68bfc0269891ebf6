package vllm

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// TunedConfigFolderEnv names a folder of tile files for the experts' kernels, which
// is looked at before vLLM's own since TunedConfigFolderSince.
//
// Source: vLLM 0.10.2, vllm/model_executor/layers/fused_moe/fused_moe.py, get_moe_configs.
const (
	TunedConfigFolderEnv   = "VLLM_TUNED_CONFIG_FOLDER"
	TunedConfigFolderSince = "0.10.2"
)

// StartupFacts are the numbers a start prints. Zero values are left out of the
// log where vLLM would not print the line either.
type StartupFacts struct {
	// PID of the API server; the engine core and the workers get those after it.
	PID  int
	Host string // "" is 0.0.0.0
	Port int
	// ModelMemoryGiB is the weights' share of one GPU.
	ModelMemoryGiB float64
	// Shards of the checkpoint that the progress bar counts; 0: 92.
	Shards int

	WeightsTime, LoadTime              time.Duration
	CompileTime, DynamoTime, GraphTime time.Duration
	// CompileCached: the graphs come from the compile cache.
	CompileCached  bool
	ProfileTime    time.Duration
	CaptureTime    time.Duration
	CaptureGiB     float64
	EngineInitTime time.Duration // profile, KV cache, compile, capture
	KVMemoryGiB    float64
	KVBlocks       int
	KVTokens       int64
	MaxConcurrency float64
	// MoEConfigDefault: no tuned tile file for this shape and GPU.
	MoEConfigDefault bool
	// MoEConfigFolder holds a tuned tile file of one's own; "" if there is none.
	MoEConfigFolder string
	// DeviceName as in the tile file's name; "" is NVIDIA_H200.
	DeviceName string
	// DevMode: VLLM_SERVER_DEV_MODE=1.
	DevMode bool
}

// startup builds the lines of a start.
type startup struct {
	v     Version
	c     EngineConfig
	f     StartupFacts
	lines []LogLine
	phase Phase
	at    float64
}

// StartupLines gives the log of a successful start of version v, in order. The
// last line says that start-up is complete.
//
// Source: docs/vllm.md section 2.
func StartupLines(v Version, c EngineConfig, f StartupFacts) []LogLine {
	s := &startup{v: v, c: c, f: f}
	if s.f.Shards <= 0 {
		s.f.Shards = 92
	}
	if s.f.DeviceName == "" {
		s.f.DeviceName = "NVIDIA_H200"
	}
	s.boot()
	s.init()
	s.load()
	s.compile()
	s.profile()
	s.capture()
	s.ready()
	return s.lines
}

// workers is the number of worker processes.
func (c EngineConfig) workers() int {
	return max(1, min(64, c.TensorParallelSize*c.PipelineParallelSize))
}

func (s *startup) in(p Phase, at float64) { s.phase, s.at = p, at }

func (s *startup) add(proc Process, level, source, format string, args ...any) {
	n := 1
	if proc.Role == EngineCore || proc.Role == Worker {
		n = s.c.replicas() // which all say the same
	}
	for dp := range n {
		s.of(dp, proc, level, source, format, args...)
	}
}

// of adds a line of one replica.
func (s *startup) of(dp int, proc Process, level, source, format string, args ...any) {
	proc.DP, proc.PID = dp, proc.PID+dp*(1+s.c.workers())
	s.lines = append(s.lines, LogLine{Phase: s.phase, At: s.at, Proc: proc, Level: level, Source: source, Text: fmt.Sprintf(format, args...)})
}

// replicas of the engine, as far as anybody would log them.
func (c EngineConfig) replicas() int { return max(1, min(64, c.DataParallelSize)) }

func (s *startup) api() Process  { return Process{Role: APIServer, PID: s.f.PID} }
func (s *startup) core() Process { return Process{Role: EngineCore, PID: s.f.PID + 100} }
func (s *startup) worker(r int) Process {
	return Process{Role: Worker, Rank: r, PID: s.f.PID + 101 + r}
}

func (s *startup) bar(format string, args ...any) {
	s.lines = append(s.lines, LogLine{Phase: s.phase, At: s.at, Stream: Stderr, Proc: Process{Role: Bare}, Text: fmt.Sprintf(format, args...)})
}

// all writes a line of the workers: each its own before 0.11.1, once a node
// since.
func (s *startup) all(level, source, format string, args ...any) {
	n := s.c.workers()
	if s.v.AtLeast("0.11.1") {
		n = 1
	}
	for r := range n {
		s.add(s.worker(r), level, source, format, args...)
	}
}

func (s *startup) boot() {
	s.in(PhaseBoot, 0)
	s.add(Process{Role: Bare}, "INFO", "__init__.py:216", "Automatically detected platform cuda.")
	s.in(PhaseBoot, 0.4)
	if s.v.AtLeast("0.15.0") {
		// The logo is drawn in block characters; ours is another drawing with
		// the same two facts beside it.
		s.add(s.api(), "INFO", "utils.py:299", "\n ▄ █  ▄▀█  █   █▄ ▄█\n  ▀▄▀   █  █▄▄ █ ▀ █  version %s\n                      model   %s\n", s.v, s.c.Model)
	} else {
		s.add(s.api(), "INFO", "api_server.py:1977", "vLLM API server version %s", s.v)
	}
	if s.v.AtLeast("0.10.0") {
		s.add(s.api(), "INFO", "utils.py:253", "non-default args: %s", NonDefaultArgs(s.c.Args))
	} else {
		s.add(s.api(), "INFO", "api_server.py:1034", "args: %s", NamespaceArgs(s.c.Args))
	}
	for _, w := range s.c.Args.Warnings {
		s.add(s.api(), "WARNING", "argparse_utils.py:195", "%s", w)
	}
	s.in(PhaseBoot, 0.8)
	if s.v.AtLeast("0.10.0") {
		s.add(s.api(), "INFO", "model.py:637", "Resolved architecture: %s", s.c.Shape.Architecture)
		s.add(s.api(), "INFO", "model.py:1750", "Using max model len %d", s.c.MaxModelLen)
	}
	if strings.HasPrefix(s.c.KVCacheDtype, "fp8") {
		s.add(s.api(), "INFO", "cache.py:195", "Using fp8 data type to store kv cache. It reduces the GPU memory footprint and boosts the performance. Meanwhile, it may cause accuracy drop without a proper scaling factor")
	}
	if s.c.EnableChunkedPrefill {
		s.add(s.api(), "INFO", "scheduler.py:216", "Chunked prefill is enabled with max_num_batched_tokens=%d.", s.c.MaxNumBatchedTokens)
	}
	for _, w := range s.c.Warnings {
		if !slices.Contains(s.c.Args.Warnings, w) {
			s.add(s.api(), "WARNING", "vllm.py:601", "%s", w)
		}
	}
	if s.v.AtLeast("0.15.0") {
		state := "disabled"
		if s.c.AsyncScheduling {
			state = "enabled"
		}
		s.add(s.api(), "INFO", "vllm.py:624", "Asynchronous scheduling is %s.", state)
	}
}

func (s *startup) init() {
	s.in(PhaseInit, 0)
	if s.v.AtLeast("0.8.5") {
		s.add(s.core(), "INFO", "core.py:648", "Waiting for init message from front-end.")
	}
	s.add(s.core(), "INFO", "core.py:93", "Initializing a V1 LLM engine (v%s) with config: %s", s.v, EngineConfigText(s.c))
	s.in(PhaseInit, 0.6)
	n := s.c.workers()
	for r := range n {
		if n > 1 {
			s.add(s.worker(r), "INFO", "pynccl.py:111", "vLLM is using nccl==2.27.5")
		}
	}
	for i := range n * s.c.replicas() {
		dp, r, ep := i/n, i%n, i
		if s.c.Shape.Experts == 0 && !s.c.EnableExpertParallel {
			ep = 0
		}
		s.of(dp, s.worker(r), "INFO", "parallel_state.py:1325", "rank %d in world size %d is assigned as DP rank %d, PP rank 0, TP rank %d, EP rank %d", i, n*s.c.replicas(), dp, r, ep)
	}
}

func (s *startup) load() {
	s.in(PhaseLoad, 0)
	s.all("INFO", "gpu_model_runner.py:3034", "Starting to load model %s...", s.c.Model)
	if s.c.EnableExpertParallel && s.c.Shape.Experts > 0 {
		n := s.c.workers() * s.c.replicas()
		local := s.c.Shape.Experts / n
		for r := range n {
			s.of(r/s.c.workers(), s.worker(r%s.c.workers()), "INFO", "layer.py:468", "[EP Rank %d/%d] Expert parallelism is enabled. Expert placement strategy: linear. Local/global number of experts: %d/%d. Experts local to global index map: %s.",
				r, n, local, s.c.Shape.Experts, expertMap(r, local))
		}
	}
	s.all("INFO", "cuda.py:418", "Using Flash Attention backend on V1 engine.")
	if s.c.LoadFormat != "dummy" {
		for i := 0; i <= s.f.Shards; i++ {
			share := float64(i) / float64(s.f.Shards)
			s.in(PhaseLoad, 0.98*share)
			spent := time.Duration(share * float64(s.f.WeightsTime))
			if i == 0 {
				s.bar("\rLoading safetensors checkpoint shards:   0%% Completed | 0/%d [00:00<?, ?it/s]", s.f.Shards)
				continue
			}
			s.bar("\rLoading safetensors checkpoint shards: %3.0f%% Completed | %d/%d [%s<%s, %5.2fs/it]",
				100*share, i, s.f.Shards, clock(spent), clock(s.f.WeightsTime-spent), s.f.WeightsTime.Seconds()/float64(s.f.Shards))
		}
	}
	s.in(PhaseLoad, 0.99)
	s.all("INFO", "default_loader.py:314", "Loading weights took %.2f seconds", s.f.WeightsTime.Seconds())
	s.in(PhaseLoad, 1)
	switch {
	case s.v.AtLeast("0.14.0"):
		s.all("INFO", "gpu_model_runner.py:3659", "Model loading took %s GiB memory and %.6f seconds", trim2(s.f.ModelMemoryGiB), s.f.LoadTime.Seconds())
	case s.v.AtLeast("0.11.1"):
		s.all("INFO", "gpu_model_runner.py:3126", "Model loading took %.4f GiB memory and %.6f seconds", s.f.ModelMemoryGiB, s.f.LoadTime.Seconds())
	default:
		s.all("INFO", "gpu_model_runner.py:2392", "Model loading took %.4f GiB and %.6f seconds", s.f.ModelMemoryGiB, s.f.LoadTime.Seconds())
	}
}

func (s *startup) compile() {
	if !s.c.Compile {
		return
	}
	s.in(PhaseCompile, 0)
	s.all("INFO", "backends.py:618", "Using cache directory: /root/.cache/vllm/torch_compile_cache/0f1e2d3c4b/rank_0_0/backbone for vLLM's torch.compile")
	s.in(PhaseCompile, 0.2)
	s.all("INFO", "backends.py:634", "Dynamo bytecode transform time: %.2f s", s.f.DynamoTime.Seconds())
	what := "general shape"
	switch {
	case s.v.AtLeast("0.13.0"):
		what = fmt.Sprintf("compile range (1, %d)", s.c.MaxNumBatchedTokens)
	case s.v.AtLeast("0.10.0"):
		what = "dynamic shape"
	}
	s.in(PhaseCompile, 0.95)
	if s.f.CompileCached {
		s.all("INFO", "backends.py:161", "Directly load the compiled graph(s) for %s from the cache, took %.3f s", what, s.f.GraphTime.Seconds())
	} else {
		s.all("INFO", "backends.py:248", "Compiling a graph for %s takes %.2f s", what, s.f.GraphTime.Seconds())
	}
	s.in(PhaseCompile, 1)
	verb := "takes"
	if s.v.AtLeast("0.18.0") {
		verb = "took"
	}
	s.all("INFO", "monitor.py:34", "torch.compile %s %.2f s in total", verb, s.f.CompileTime.Seconds())
}

func (s *startup) profile() {
	s.in(PhaseProfile, 0.5)
	if s.c.Shape.Experts > 0 && (s.f.MoEConfigDefault || s.f.MoEConfigFolder != "") {
		e, n := s.c.Shape.Experts, s.c.Shape.MoEIntermediateSize/(max(1, s.c.TensorParallelSize)*s.c.replicas())
		if s.c.EnableExpertParallel {
			e, n = s.c.Shape.Experts/(s.c.workers()*s.c.replicas()), s.c.Shape.MoEIntermediateSize
		}
		name := fmt.Sprintf("E=%d,N=%d,device_name=%s.json", e, n, s.f.DeviceName)
		if s.f.MoEConfigFolder != "" {
			s.all("INFO", "fused_moe.py:865", "Using configuration from %s/%s for MoE layer.", strings.TrimSuffix(s.f.MoEConfigFolder, "/"), name)
		} else {
			s.all("WARNING", "fused_moe.py:875", "Using default MoE config. Performance might be sub-optimal! Config file not found at ['/usr/local/lib/python3.12/dist-packages/vllm/model_executor/layers/fused_moe/configs/%s']", name)
		}
	}
	if strings.HasPrefix(s.c.KVCacheDtype, "fp8") {
		s.all("WARNING", "kv_cache.py:109", "Using KV cache scaling factor 1.0 for fp8_e4m3. If this is unintended, verify that k/v_scale scaling factors are properly set in the checkpoint.")
	}
	if s.v.AtLeast("0.18.0") && s.c.Compile {
		s.all("INFO", "monitor.py:76", "Initial profiling/warmup run took %.2f s", s.f.ProfileTime.Seconds())
	}
	s.in(PhaseProfile, 1)
	if CUDAGraphMemoryCounted(s.v) && len(s.c.CaptureSizes) > 0 {
		s.all("INFO", "gpu_model_runner.py:5651", "Estimated CUDA graph memory: %.2f GiB total", s.f.CaptureGiB)
	}
	switch {
	case s.v.AtLeast("0.14.0"):
		s.all("INFO", "gpu_worker.py:358", "Available KV cache memory: %s GiB", trim2(s.f.KVMemoryGiB))
	case s.v.AtLeast("0.10.0"):
		s.all("INFO", "gpu_worker.py:298", "Available KV cache memory: %.2f GiB", s.f.KVMemoryGiB)
	}
	size := fmt.Sprintf("GPU KV cache size: %s tokens", commas(s.f.KVTokens))
	concurrency := fmt.Sprintf("Maximum concurrency for %s tokens per request: %.2fx", commas(int64(s.c.MaxModelLen)), s.f.MaxConcurrency)
	// The engine core reports every worker's size; equal lines only once since 0.12.
	n := s.c.workers()
	if s.v.AtLeast("0.12.0") {
		n = 1
	}
	for range n {
		if s.v.AtLeast("0.27.0") {
			s.add(s.core(), "INFO", "kv_cache_utils.py:2146", "%s, %s", size, concurrency)
			continue
		}
		s.add(s.core(), "INFO", "kv_cache_utils.py:1229", "%s", size)
		s.add(s.core(), "INFO", "kv_cache_utils.py:1234", "%s", concurrency)
	}
}

func (s *startup) capture() {
	sizes := len(s.c.CaptureSizes)
	if sizes == 0 {
		return
	}
	bar := func(to float64, title string, n int, d time.Duration) {
		rate := 0.0
		if d > 0 {
			rate = float64(n) / d.Seconds()
		}
		s.bar("\r%s   0%%|          | 0/%d [00:00<?, ?it/s]", title, n)
		s.in(PhaseCapture, to)
		s.bar("\r%s 100%%|██████████| %d/%d [%s<00:00, %5.2fit/s]", title, n, n, clock(d), rate)
	}
	// The bar shows itself before anything is captured: at the end of profiling.
	switch {
	case s.c.CUDAGraphMode == "FULL_AND_PIECEWISE":
		bar(0.5, "Capturing CUDA graphs (mixed prefill-decode, PIECEWISE):", sizes, s.f.CaptureTime/2)
		bar(0.98, "Capturing CUDA graphs (decode, FULL):", sizes, s.f.CaptureTime/2)
	case s.v.AtLeast("0.11.0"):
		bar(0.98, "Capturing CUDA graphs (mixed prefill-decode, "+s.c.CUDAGraphMode+"):", sizes, s.f.CaptureTime)
	default:
		bar(0.98, "Capturing CUDA graph shapes:", sizes, s.f.CaptureTime)
	}
	s.in(PhaseCapture, 1)
	s.all("INFO", "gpu_model_runner.py:4017", "Graph capturing finished in %.0f secs, took %.2f GiB", s.f.CaptureTime.Seconds(), s.f.CaptureGiB)
}

func (s *startup) ready() {
	s.in(PhaseReady, 0)
	const what = "init engine (profile, create kv cache, warmup model) took"
	switch {
	case s.v.AtLeast("0.20.0") && s.c.Compile:
		s.add(s.core(), "INFO", "core.py:299", "%s %.2f s (compilation: %.2f s)", what, s.f.EngineInitTime.Seconds(), s.f.CompileTime.Seconds())
	case s.v.AtLeast("0.20.0"):
		s.add(s.core(), "INFO", "core.py:299", "%s %.2f s", what, s.f.EngineInitTime.Seconds())
	default:
		s.add(s.core(), "INFO", "core.py:250", "%s %.2f seconds", what, s.f.EngineInitTime.Seconds())
	}
	s.in(PhaseReady, 0.5)
	if s.v.AtLeast("0.8.5") && !s.v.AtLeast("0.14.0") {
		s.add(s.api(), "INFO", "loggers.py:147", "Engine 000: vllm cache_config_info with initialization after num_gpu_blocks is: %d", s.f.KVBlocks)
	}
	host := s.f.Host
	if host == "" {
		host = "0.0.0.0"
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	name := "vLLM API server"
	switch {
	case s.v.AtLeast("0.18.0"):
		name = "vLLM server"
	case s.v.AtLeast("0.9.0"):
		name = "vLLM API server 0"
	}
	s.add(s.api(), "INFO", "api_server.py:2056", "Starting %s on http://%s:%d", name, host, s.f.Port)
	s.add(s.api(), "INFO", "launcher.py:38", "Available routes are:")
	for _, r := range Routes(s.v) {
		if !r.Dev || s.f.DevMode {
			s.add(s.api(), "INFO", "launcher.py:46", "Route: %s, Methods: %s", r.Path, strings.Join(r.Methods, ", "))
		}
	}
	s.in(PhaseReady, 1)
	uvicorn := func(text string) {
		s.lines = append(s.lines, LogLine{Phase: PhaseReady, At: 1, Stream: Stderr, Proc: s.api(), Text: text})
	}
	uvicorn(fmt.Sprintf("INFO:     Started server process [%d]", s.f.PID))
	uvicorn("INFO:     Waiting for application startup.")
	uvicorn("INFO:     Application startup complete.")
}

// ShutdownLines gives what version v writes when it is stopped by SIGTERM.
func ShutdownLines(pid int) []LogLine {
	var out []LogLine
	for _, t := range []string{"Shutting down", "Waiting for application shutdown.", "Application shutdown complete."} {
		out = append(out, LogLine{Phase: PhaseStopping, Stream: Stderr, Proc: Process{Role: APIServer, PID: pid}, Text: "INFO:     " + t})
	}
	return out
}

// EngineConfigText is the configuration of the engine-config line, from
// "model=" on. The list of fields grew over the releases; fields that no check
// reads are those of about that release.
//
// Source: docs/vllm.md section 2.
func EngineConfigText(c EngineConfig) string {
	v := c.Version
	var parts []string
	add := func(key, value string) { parts = append(parts, key+"="+value) }
	tokenizer := c.Args.Tokenizer
	if tokenizer == "" {
		tokenizer = c.Model
	}
	optional := func(s string) string {
		if s == "" {
			return "None"
		}
		return s
	}
	add("model", pyQuote(c.Model))
	add("speculative_config", specText(c))
	add("tokenizer", pyQuote(tokenizer))
	add("skip_tokenizer_init", "False")
	add("tokenizer_mode", "auto")
	add("revision", optional(c.Args.Revision))
	if !v.AtLeast("0.11.0") {
		add("override_neuron_config", map[bool]string{true: "{}", false: "None"}[v.AtLeast("0.8.5")])
	}
	add("tokenizer_revision", "None")
	add("trust_remote_code", pyBool(c.TrustRemoteCode))
	add("dtype", "torch."+c.Dtype)
	add("max_seq_len", strconv.Itoa(c.MaxModelLen))
	add("download_dir", optional(c.Args.DownloadDir))
	add("load_format", c.LoadFormat)
	add("tensor_parallel_size", strconv.Itoa(c.TensorParallelSize))
	add("pipeline_parallel_size", strconv.Itoa(c.PipelineParallelSize))
	if v.AtLeast("0.10.2") {
		add("data_parallel_size", strconv.Itoa(c.DataParallelSize))
	}
	if v.AtLeast("0.18.0") {
		add("decode_context_parallel_size", strconv.Itoa(c.DecodeContextParallelSize))
		add("dcp_comm_backend", "ag_rs")
	}
	add("disable_custom_all_reduce", pyBool(c.Args.CustomAllReduceOff))
	add("quantization", optional(c.Quantization))
	add("enforce_eager", pyBool(c.EnforceEager))
	if v.AtLeast("0.14.0") {
		add("enable_return_routed_experts", "False")
	}
	add("kv_cache_dtype", c.KVCacheDtype)
	device := "device_config"
	if !v.AtLeast("0.12.0") {
		device = " device_config" // two blanks in the original
	}
	add(device, "cuda")
	switch {
	case v.AtLeast("0.11.0"):
		add("structured_outputs_config", fmt.Sprintf("StructuredOutputsConfig(backend='auto', disable_fallback=False, disable_any_whitespace=False, disable_additional_properties=False, reasoning_parser=%s)", pyQuote(c.ReasoningParser)))
	case v.AtLeast("0.8.5"):
		add("decoding_config", fmt.Sprintf("DecodingConfig(backend='auto', disable_fallback=False, disable_any_whitespace=False, disable_additional_properties=False, reasoning_backend=%s)", pyQuote(c.ReasoningParser)))
	default:
		add("decoding_config", "DecodingConfig(guided_decoding_backend='xgrammar', reasoning_backend="+optional(c.ReasoningParser)+")")
	}
	if v.AtLeast("0.8.5") {
		add("observability_config", "ObservabilityConfig(show_hidden_metrics_for_version=None, otlp_traces_endpoint=None, collect_detailed_traces=None)")
	} else {
		add("observability_config", "ObservabilityConfig(show_hidden_metrics=False, otlp_traces_endpoint=None, collect_model_forward_time=False, collect_model_execute_time=False)")
	}
	seed := "0"
	if c.Seed != nil {
		seed = strconv.Itoa(*c.Seed)
	} else if !v.AtLeast("0.9.0") {
		seed = "None"
	}
	add("seed", seed)
	add("served_model_name", c.ServedName)
	if !v.AtLeast("0.10.2") {
		add("num_scheduler_steps", "1")
		add("multi_step_stream_outputs", "True")
	}
	add("enable_prefix_caching", pyBool(c.EnablePrefixCaching))
	if v.AtLeast("0.11.1") {
		add("enable_chunked_prefill", pyBool(c.EnableChunkedPrefill))
	} else {
		add("chunked_prefill_enabled", pyBool(c.EnableChunkedPrefill))
	}
	if !v.AtLeast("0.11.0") {
		add("use_async_output_proc", pyBool(!c.EnforceEager))
	}
	add("pooler_config", "None")
	add("compilation_config", compilationText(c))
	return strings.Join(parts, ", ")
}

func specText(c EngineConfig) string {
	if c.Spec == nil {
		return "None"
	}
	model := "None"
	switch {
	case c.Spec.Model != "":
		model = pyQuote(c.Spec.Model)
	case c.Spec.Method == "mtp":
		model = pyQuote(c.Model)
	}
	return fmt.Sprintf("SpeculativeConfig(method=%s, model=%s, num_spec_tokens=%d)", pyQuote(c.Spec.Method), model, c.Spec.NumSpeculativeTokens)
}

// compilationText is compilation_config: JSON with descending sizes before
// 0.11.1, a Python dict with ascending ones since.
func compilationText(c EngineConfig) string {
	sizes := slices.Clone(c.CaptureSizes)
	list := func() string {
		texts := make([]string, len(sizes))
		for i, n := range sizes {
			texts[i] = strconv.Itoa(n)
		}
		return strings.Join(texts, ",")
	}
	largest := 0
	if len(sizes) > 0 {
		largest = slices.Max(sizes)
	}
	if !c.Version.AtLeast("0.11.1") {
		slices.Reverse(sizes)
		if !c.Compile {
			return fmt.Sprintf(`{"splitting_ops":[],"compile_sizes":[],"cudagraph_capture_sizes":[%s],"max_capture_size":%d}`, list(), largest)
		}
		return fmt.Sprintf(`{"level":3,"custom_ops":["none"],"use_inductor":true,"compile_sizes":[],"use_cudagraph":%t,"cudagraph_num_of_warmups":1,"cudagraph_capture_sizes":[%s],"max_capture_size":%d}`, len(sizes) > 0, list(), largest)
	}
	mode := "<CompilationMode.NONE: 0>"
	if c.Compile {
		mode = "<CompilationMode.VLLM_COMPILE: 3>"
	}
	graphs := map[string]string{"NONE": "<CUDAGraphMode.NONE: 0>", "PIECEWISE": "<CUDAGraphMode.PIECEWISE: 1>", "FULL": "<CUDAGraphMode.FULL: 2>", "FULL_AND_PIECEWISE": "<CUDAGraphMode.FULL_AND_PIECEWISE: (2, 1)>"}[c.CUDAGraphMode]
	if graphs == "" {
		graphs = "<CUDAGraphMode." + c.CUDAGraphMode + ">"
	}
	return fmt.Sprintf("{'level': None, 'mode': %s, 'debug_dump_path': None, 'cudagraph_mode': %s, 'cudagraph_num_of_warmups': 1, 'cudagraph_capture_sizes': [%s], 'max_cudagraph_capture_size': %d}",
		mode, graphs, strings.ReplaceAll(list(), ",", ", "), largest)
}

// NonDefaultArgs is the Python dict of the "non-default args" line.
func NonDefaultArgs(a ServeArgs) string {
	var parts []string
	for _, kv := range givenArgs(a, false) {
		parts = append(parts, pyQuote(kv[0])+": "+kv[1])
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// NamespaceArgs is the Namespace of the "args" line before 0.10.0: every
// argument, given or not.
func NamespaceArgs(a ServeArgs) string {
	parts := []string{"subparser='serve'"}
	for _, kv := range givenArgs(a, true) {
		parts = append(parts, kv[0]+"="+kv[1])
	}
	return "Namespace(" + strings.Join(parts, ", ") + ")"
}

// givenArgs lists arguments as Python names and values, in the order of the
// flag table; with all, also those not given.
func givenArgs(a ServeArgs, all bool) [][2]string {
	var out [][2]string
	if a.Set["model_tag"] {
		out = append(out, [2]string{"model_tag", pyQuote(a.Model)})
	}
	for _, r := range flagRows {
		f := r.flag()
		if !f.In(a.Version) {
			continue
		}
		name := strings.ReplaceAll(strings.TrimPrefix(f.Name, "--"), "-", "_")
		switch {
		case f.Name == "--model":
			if a.Model != "" {
				out = append(out, [2]string{"model", pyQuote(a.Model)})
			}
		case a.Set[f.Name]:
			if text := a.pyValue(f); all || a.Values[f.Name] != f.DefaultFor(a.Version) {
				out = append(out, [2]string{name, text})
			}
		case all:
			out = append(out, [2]string{name, pyDefault(f, a.Version)})
		}
	}
	return out
}

// pyValue writes a given value as Python's repr().
func (a ServeArgs) pyValue(f Flag) string {
	text := a.Values[f.Name]
	switch f.Kind {
	case FlagBool, FlagSwitch:
		return pyBool(text == "true")
	case FlagInt, FlagHumanInt:
		return text
	case FlagFloat:
		x, err := pyFloat(text)
		if err != nil {
			return text
		}
		return pyFloatText(x)
	case FlagJSON:
		return pyRepr(a.json[f.Name])
	case FlagList, FlagAppend:
		items := make([]string, 0, len(a.lists[f.Name]))
		for _, x := range a.lists[f.Name] {
			items = append(items, pyQuote(x))
		}
		return "[" + strings.Join(items, ", ") + "]"
	}
	return pyQuote(text)
}

// pyDefault writes a flag's default, None where the engine chooses.
func pyDefault(f Flag, v Version) string {
	text := f.DefaultFor(v)
	switch f.Kind {
	case FlagBool, FlagSwitch:
		return pyBool(text == "true")
	case FlagInt, FlagHumanInt, FlagFloat:
		if _, err := pyFloat(text); err != nil {
			return "None"
		}
		return text
	case FlagChoice:
		return pyQuote(text)
	}
	return "None"
}

// pyRepr writes decoded JSON as Python's repr().
func pyRepr(x any) string {
	switch t := x.(type) {
	case nil:
		return "None"
	case bool:
		return pyBool(t)
	case string:
		return pyQuote(t)
	case json.Number:
		return t.String()
	case []any:
		parts := make([]string, len(t))
		for i, e := range t {
			parts[i] = pyRepr(e)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case map[string]any:
		keys := make([]string, 0, len(t))
		for k := range t {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		parts := make([]string, len(keys))
		for i, k := range keys {
			parts[i] = pyQuote(k) + ": " + pyRepr(t[k])
		}
		return "{" + strings.Join(parts, ", ") + "}"
	}
	return fmt.Sprint(x)
}

// expertMap writes which global expert each local one is.
func expertMap(rank, local int) string {
	parts := make([]string, local)
	for i := range parts {
		parts[i] = fmt.Sprintf("%d->%d", i, rank*local+i)
	}
	return strings.Join(parts, ", ")
}

// trim2 rounds to 2 decimals and drops trailing zeros but one, as newer
// versions print memory.
func trim2(x float64) string { return round2(x) }

// commas groups digits by three.
func commas(n int64) string {
	s := strconv.FormatInt(n, 10)
	neg := strings.HasPrefix(s, "-")
	s = strings.TrimPrefix(s, "-")
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	if neg {
		s = "-" + s
	}
	return s
}

// clock writes a duration as progress bars do: mm:ss or h:mm:ss.
func clock(d time.Duration) string {
	s := int64(max(0, d).Seconds())
	if s >= 3600 {
		return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
	}
	return fmt.Sprintf("%02d:%02d", s/60, s%60)
}
