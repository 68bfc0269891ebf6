package vllm

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Class sorts failures of a start or a run. Values are stable: they stand in
// result files.
type Class string

// Classes of failures. Source: docs/vllm.md sections 1.2 to 1.4 and 2.
const (
	ClassNone           Class = ""
	ClassUnknownFlag    Class = "unknown_flag"    // argparse, exit 2
	ClassUsage          Class = "bad_argument"    // argparse, exit 2
	ClassConfigRefused  Class = "config_refused"  // a check of the configuration, exit 1
	ClassOOMLoad        Class = "oom_load"        // out of GPU memory while loading or profiling
	ClassOOMCapture     Class = "oom_capture"     // ... while capturing graphs or warming up
	ClassOOMRun         Class = "oom_run"         // ... while serving
	ClassKVTooSmall     Class = "kv_too_small"    // KV cache cannot hold one longest request
	ClassNoKVMemory     Class = "no_kv_memory"    // nothing left for the KV cache
	ClassGPUBusy        Class = "gpu_busy"        // memory in use by others, or exclusive mode
	ClassGPUFault       Class = "gpu_fault"       // ECC, XID, illegal access
	ClassNoGPU          Class = "no_gpu"          // no device visible
	ClassGPUUUID        Class = "gpu_uuid"        // CUDA_VISIBLE_DEVICES holds UUIDs
	ClassWeightsMissing Class = "weights_missing" // path, shard or config not there
	ClassModelUnknown   Class = "model_unknown"   // architecture not in this version
	ClassHubOffline     Class = "hub_offline"     // hub asked and not reachable
	ClassPortInUse      Class = "port_in_use"     // another server listens
	ClassShm            Class = "shm"             // /dev/shm too small
	ClassDisk           Class = "disk"            // quota, read-only or full
	ClassStaleFile      Class = "stale_file"      // lock files on a network file system
	ClassHostMemory     Class = "host_memory"     // CPU memory or the job's memory limit
	ClassNCCL           Class = "nccl"            // collectives
	ClassHang           Class = "hang"            // ready wait or broadcast timed out
	ClassCacheCorrupt   Class = "cache_corrupt"   // compile cache damaged
	ClassEngineDead     Class = "engine_dead"     // died for a reason not seen
	ClassKilled         Class = "killed"          // by a signal, host memory included
	ClassStartFailed    Class = "start_failed"    // failed for a reason not seen
)

// RefusalError is a configuration that the engine refuses at start-up.
type RefusalError struct {
	Class Class
	// Rule names the check, such as "dcp_kv_heads"; stable.
	Rule string
	// Kind is the Python exception: "ValueError", "AssertionError",
	// "RuntimeError", "NotImplementedError".
	Kind string
	// Text is the engine's own message, exactly.
	Text string
	// Reason says the same in plain words, with what to do.
	Reason string
	// Config is the configuration class whose validation failed ("ModelConfig");
	// "" when the exception is not wrapped by pydantic.
	Config string
	// AfterLoad: raised in the workers after the weights are loaded.
	AfterLoad bool
	// InEngine: raised in the engine core, after profiling.
	InEngine bool
	// ExitCode is 1, or 2 for an unknown flag.
	ExitCode int
}

func (e *RefusalError) Error() string { return e.Text }

// refuse builds the refusal of a configuration check.
func refuse(rule, kind, config, reason, format string, args ...any) *RefusalError {
	return &RefusalError{
		Class: ClassConfigRefused, Rule: rule, Kind: kind, Config: config,
		Text: fmt.Sprintf(format, args...), Reason: reason, ExitCode: 1,
	}
}

// conservingMemory is the advice that newer versions append.
const conservingMemory = " See https://docs.vllm.ai/en/latest/configuration/conserving_memory/ for more details."

// RefuseKVTooSmall is the refusal when the KV cache cannot hold one request of
// max_model_len. needed and available are GiB a GPU; estimatedLen is the
// longest request that would fit, 0 if unknown.
//
// Source: docs/vllm.md section 1.4, vllm/v1/core/kv_cache_utils.py.
func RefuseKVTooSmall(v Version, maxModelLen int, neededGiB, availableGiB float64, estimatedLen int) *RefusalError {
	possessive, tail := "models's", ""
	if v.AtLeast("0.20.0") {
		possessive, tail = "model's", conservingMemory
	}
	estimate := ""
	if estimatedLen > 0 && v.AtLeast("0.8.5") {
		estimate = fmt.Sprintf("Based on the available memory, the estimated maximum model length is %d. ", estimatedLen)
	}
	return &RefusalError{
		Class: ClassKVTooSmall, Rule: "kv_one_request", Kind: "ValueError", InEngine: true, ExitCode: 1,
		Text: fmt.Sprintf("To serve at least one request with the %s max seq len (%d), (%.2f GiB KV cache is needed, which is larger than the available KV cache memory (%.2f GiB). %sTry increasing `gpu_memory_utilization` or decreasing `max_model_len` when initializing the engine.%s",
			possessive, maxModelLen, neededGiB, availableGiB, estimate, tail),
		Reason: fmt.Sprintf("one request of %d tokens needs %.2f GiB of KV cache a GPU and %.2f GiB is left; lower --max-model-len or raise --gpu-memory-utilization", maxModelLen, neededGiB, availableGiB),
	}
}

// RefuseNoKVMemory is the refusal when nothing is left for the KV cache.
//
// Source: docs/vllm.md section 1.4.
func RefuseNoKVMemory(v Version) *RefusalError {
	tail := ""
	if v.AtLeast("0.12.0") {
		tail = conservingMemory
	}
	return &RefusalError{
		Class: ClassNoKVMemory, Rule: "kv_none", Kind: "ValueError", InEngine: true, ExitCode: 1,
		Text:   "No available memory for the cache blocks. Try increasing `gpu_memory_utilization` when initializing the engine." + tail,
		Reason: "the weights and activations leave no GPU memory for the KV cache; raise --gpu-memory-utilization or lower --max-num-batched-tokens",
	}
}

// RefuseGPUBusy is the refusal when other processes hold GPU memory. free and
// total are GiB of GPU number device.
//
// Source: docs/vllm.md section 1.4.
func RefuseGPUBusy(v Version, device int, freeGiB, totalGiB, utilization float64) *RefusalError {
	where := ""
	if v.AtLeast("0.15.0") {
		where = fmt.Sprintf(" cuda:%d", device)
	}
	return &RefusalError{
		Class: ClassGPUBusy, Rule: "gpu_free", Kind: "ValueError", AfterLoad: false, ExitCode: 1,
		Text: fmt.Sprintf("Free memory on device%s (%s/%s GiB) on startup is less than desired GPU memory utilization (%s, %s GiB). Decrease GPU memory utilization or reduce GPU memory used by other processes.",
			where, round2(freeGiB), round2(totalGiB), pyFloatText(utilization), round2(totalGiB*utilization)),
		Reason: fmt.Sprintf("GPU %d has %.2f GiB free and the engine wants %.2f GiB; end the process that holds the rest", device, freeGiB, totalGiB*utilization),
	}
}

// OutOfMemoryText is PyTorch's message of a failed allocation on a GPU.
//
// Source: docs/vllm.md section 2, fatal lines.
func OutOfMemoryText(device int, wantGiB, totalGiB, freeGiB float64) string {
	return fmt.Sprintf("CUDA out of memory. Tried to allocate %.2f GiB. GPU %d has a total capacity of %.2f GiB of which %.2f GiB is free. Including non-PyTorch memory, this process has %.2f GiB memory in use. Of the allocated memory %.2f GiB is allocated by PyTorch, and %.2f GiB is reserved by PyTorch but unallocated. If reserved but unallocated memory is large try setting PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True to avoid fragmentation.  See documentation for Memory Management  (https://pytorch.org/docs/stable/notes/cuda.html#environment-variables)",
		wantGiB, device, totalGiB, freeGiB, totalGiB-freeGiB, math.Max(0, totalGiB-freeGiB-2.5), 0.3)
}

// SamplerWarmupText is the message when the sampler's warm-up does not fit.
func SamplerWarmupText(maxNumSeqs int) string {
	return fmt.Sprintf("CUDA out of memory occurred when warming up sampler with %d dummy requests. Please try lowering `max_num_seqs` or `gpu_memory_utilization` when initializing the engine.", maxNumSeqs)
}

// RefuseContextParallel says why version v refuses decode context parallelism
// over dcp ranks for the model at tensor-parallel size tp; nil if it does not
// (dcp <= 1, or legal).
//
// Before 0.10.2 the flag is unknown: Class is ClassUnknownFlag and ExitCode 2.
// Source: docs/vllm.md section 1.3.
func RefuseContextParallel(v Version, m ModelShape, tp, dcp int) *RefusalError {
	if dcp <= 1 {
		return nil
	}
	flag, known := ContextParallelFlag(v)
	if !known {
		return &RefusalError{
			Class: ClassUnknownFlag, Rule: "dcp_unknown_flag", ExitCode: 2,
			Text:   fmt.Sprintf("unrecognized arguments: %s %d", flag, dcp),
			Reason: fmt.Sprintf("vLLM %s has no context parallelism (--decode-context-parallel-size came with 0.10.2), and where it exists it needs more tensor-parallel ranks than the model's %d KV heads: use CONTEXT_PARALLEL_SIZE=1", v, m.KVHeads),
		}
	}
	if tp%dcp != 0 {
		return refuse("dcp_divides_tp", "ValueError", "ParallelConfig",
			fmt.Sprintf("tensor-parallel size %d is not a multiple of context-parallel size %d", tp, dcp),
			"tp_size=%d must be divisible bydcp_size=%d.", tp, dcp)
	}
	reason := fmt.Sprintf("context parallelism needs more tensor-parallel ranks than KV heads; with %d ranks and %d KV heads each GPU already holds one head's KV and nothing is left to split: use CONTEXT_PARALLEL_SIZE=1", tp, m.KVHeads)
	if !v.AtLeast("0.11.1") {
		e := refuse("dcp_mla_only", "AssertionError", "", reason,
			"DCP requires attention impls to return the softmax lse for decode, but the impl FlashAttentionImpl does not return the softmax lse for decode.")
		e.AfterLoad = true
		return e
	}
	if tp <= m.KVHeads {
		if v.AtLeast("0.26.0") {
			return refuse("dcp_kv_heads", "ValueError", "VllmConfig", reason,
				"Decode context parallelism for GQA/MQA requires `--tensor-parallel-size` (%d) to be greater than the model's total number of KV heads (%d). Increase `--tensor-parallel-size` or set `--decode-context-parallel-size 1`.", tp, m.KVHeads)
		}
		return refuse("dcp_kv_heads", "AssertionError", "VllmConfig", reason,
			"tensor parallel size %d must be greater than total num kv heads %d when enable decode context parallel for GQA/MQA", tp, m.KVHeads)
	}
	if most := tp / m.KVHeads; dcp > most {
		return refuse("dcp_too_large", "AssertionError", "VllmConfig",
			fmt.Sprintf("%d ranks over %d KV heads leave at most %d-way context parallelism", tp, m.KVHeads, most),
			"decode context parallel size must less than or equal to (tensor parallel size %d // total num kv heads %d) = %d, but got %d", tp, m.KVHeads, most, dcp)
	}
	if perKV := m.AttentionHeads / m.KVHeads; perKV%dcp != 0 {
		return refuse("dcp_query_heads", "AssertionError", "VllmConfig",
			fmt.Sprintf("%d query heads a KV head cannot be split %d ways", perKV, dcp),
			"Total number of q per kv attn heads (%d) must be divisible by dcp world size when enable decode context parallel for GQA (%d).", perKV, dcp)
	}
	return nil
}

// round2 writes a number as Python's round(x, 2) prints it: 2 decimals, trailing
// zeros dropped but one.
func round2(x float64) string {
	return pyFloatText(math.Round(x*100) / 100)
}

// pyFloatText writes a number as Python's repr() does in the usual range.
func pyFloatText(x float64) string {
	s := strconv.FormatFloat(x, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}
