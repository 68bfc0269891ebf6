package vllm

import (
	"fmt"
	"strings"
)

// FailureFacts shape the lines of a failed start or a dead engine. Zero values
// take plausible ones.
type FailureFacts struct {
	// PID of the API server; the engine core and workers have those after it.
	PID int
	// Rank of the worker where it happens.
	Rank int
	// Kind and Text of the first error: the Python exception and its message.
	Kind, Text string
	// TotalGiB and FreeGiB of the GPU.
	TotalGiB, FreeGiB float64
}

// where an error happens.
type failureSite int

const (
	inAPI failureSite = iota
	inEngine
	inWorker
)

// failureOf gives the site, exception and message of a class.
// Source: docs/vllm.md section 2 for vLLM's own texts; the others are those of
// PyTorch, NCCL, the operating system and the model hub.
func failureOf(v Version, c EngineConfig, class Class, f FailureFacts) (site failureSite, kind, text string) {
	total, free := f.TotalGiB, f.FreeGiB
	if total <= 0 {
		total, free = 139.81, 0.42
	}
	switch class {
	case ClassOOMLoad:
		return inWorker, "torch.OutOfMemoryError", OutOfMemoryText(f.Rank, 2.34, total, free)
	case ClassOOMCapture:
		if len(c.CaptureSizes) == 0 {
			return inWorker, "RuntimeError", SamplerWarmupText(c.MaxNumSeqs)
		}
		return inWorker, "torch.OutOfMemoryError", OutOfMemoryText(f.Rank, 0.25, total, free)
	case ClassOOMRun:
		return inWorker, "torch.OutOfMemoryError", OutOfMemoryText(f.Rank, 1.12, total, free)
	case ClassKVTooSmall:
		e := RefuseKVTooSmall(v, c.MaxModelLen, 35.57, 10, 57648)
		return inEngine, e.Kind, e.Text
	case ClassNoKVMemory:
		e := RefuseNoKVMemory(v)
		return inEngine, e.Kind, e.Text
	case ClassGPUBusy:
		e := RefuseGPUBusy(v, f.Rank, 61.2, total, c.GPUMemoryUtilization)
		return inWorker, e.Kind, e.Text
	case ClassGPUFault:
		return inWorker, "RuntimeError", "CUDA error: uncorrectable ECC error encountered"
	case ClassNoGPU:
		return inAPI, "RuntimeError", "Failed to infer device type, please set the environment variable `VLLM_LOGGING_LEVEL=DEBUG` to turn on verbose logging to help debug the issue."
	case ClassGPUUUID:
		return inAPI, "ValueError", "invalid literal for int() with base 10: 'GPU-8f6c2f7e-0d0b-4c55-9a50-5d2b3f0c9a11'"
	case ClassWeightsMissing:
		return inWorker, "RuntimeError", fmt.Sprintf("Cannot find any model weights with `%s`", c.Model)
	case ClassModelUnknown:
		return inAPI, "ValueError", fmt.Sprintf("Model architectures ['%s'] are not supported for now.", c.Shape.Architecture)
	case ClassHubOffline:
		return inAPI, "OSError", fmt.Sprintf("We couldn't connect to 'https://huggingface.co' to load the files, and couldn't find them in the cached files.\nCheck your internet connection or see how to run the library in offline mode at 'https://huggingface.co/docs/transformers/installation#offline-mode'. (model %s)", c.Model)
	case ClassPortInUse:
		return inAPI, "OSError", "[Errno 98] Address already in use"
	case ClassShm:
		return inWorker, "RuntimeError", "unable to allocate shared memory(shm) for file </torch_4242_2718281828_0>: No space left on device (28)"
	case ClassDisk:
		return inWorker, "OSError", "[Errno 122] Disk quota exceeded: '/root/.cache/vllm'"
	case ClassStaleFile:
		return inAPI, "OSError", "[Errno 116] Stale file handle"
	case ClassNCCL:
		return inWorker, "torch.distributed.DistBackendError", "NCCL error in: /pytorch/torch/csrc/distributed/c10d/NCCLUtils.cpp:77, unhandled system error (run with NCCL_DEBUG=INFO for details), NCCL version 2.27.5"
	case ClassHang:
		if v.AtLeast("0.14.0") {
			return inAPI, "TimeoutError", "Timed out waiting for engine core processes to start. This is often caused by slow weight loading for large models. Waited 600s (configured by VLLM_ENGINE_READY_TIMEOUT_S). To increase the timeout, set the environment variable: VLLM_ENGINE_READY_TIMEOUT_S=<seconds>"
		}
		return inAPI, "RuntimeError", "Timed out waiting for engines to send initial message on input socket."
	case ClassHostMemory:
		return inWorker, "RuntimeError", "[enforce fail at alloc_cpu.cpp:119] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 4294967296 bytes. Error code 12 (Cannot allocate memory)"
	}
	return inEngine, "RuntimeError", "unexpected failure of the engine"
}

// FailureLines gives what version v writes when a start fails by that class:
// the root cause in the process where it happens, its echoes after it. f.Kind
// and f.Text replace the message.
//
// The lines stand for what a real log holds, tracebacks shortened to a frame or
// two. Source: docs/vllm.md section 2.
func FailureLines(v Version, c EngineConfig, class Class, f FailureFacts) []LogLine {
	site, kind, text := failureOf(v, c, class, f)
	if f.Text != "" {
		text = f.Text
	}
	if f.Kind != "" {
		kind = f.Kind
	}
	return failureLines(v, c, site, kind, text, f)
}

// RefusalLines gives what version v writes when the engine refuses. An unknown
// flag gives the parser's text.
func RefusalLines(v Version, c EngineConfig, e *RefusalError, pid int) []LogLine {
	f := FailureFacts{PID: pid}
	switch {
	case e.Class == ClassUnknownFlag:
		usage, prog := usageText(v, false)
		return []LogLine{{Stream: Stderr, Proc: Process{Role: Bare}, Text: strings.TrimSuffix(usage+prog+": error: "+e.Text, "\n")}}
	case e.AfterLoad || e.Class == ClassGPUBusy || e.Class == ClassOOMLoad || e.Class == ClassOOMCapture:
		return failureLines(v, c, inWorker, e.Kind, e.Text, f)
	case e.InEngine:
		return failureLines(v, c, inEngine, e.Kind, e.Text, f)
	}
	if e.Config != "" && v.AtLeast("0.10.0") {
		return failureLines(v, c, inAPI, "pydantic_core._pydantic_core.ValidationError", pydanticText(e), f)
	}
	return failureLines(v, c, inAPI, e.Kind, e.Text, f)
}

// pydanticText wraps a failed check as pydantic prints it.
func pydanticText(e *RefusalError) string {
	if e.Kind == "ValidationError" {
		return e.Text
	}
	word, code := "Value error", "value_error"
	if e.Kind == "AssertionError" {
		word, code = "Assertion failed", "assertion_error"
	}
	return fmt.Sprintf("1 validation error for %s\n  %s, %s [type=%s, input_value=ArgsKwargs((), {'model': ...}), input_type=ArgsKwargs]\n    For further information visit https://errors.pydantic.dev/2.12/v/%s",
		e.Config, word, e.Text, code, code)
}

// failureLines builds the chain worker > engine core > API server.
func failureLines(v Version, c EngineConfig, site failureSite, kind, text string, f FailureFacts) []LogLine {
	var out []LogLine
	api := Process{Role: APIServer, PID: f.PID}
	core := Process{Role: EngineCore, PID: f.PID + 100}
	worker := Process{Role: Worker, Rank: f.Rank, PID: f.PID + 101 + f.Rank}
	logged := func(p Process, source, body string) {
		for _, line := range strings.Split(body, "\n") {
			out = append(out, LogLine{Proc: p, Level: "ERROR", Source: source, Text: line})
		}
	}
	raw := func(p Process, body string) {
		out = append(out, LogLine{Stream: Stderr, Proc: p, Text: body})
	}
	const tb = "Traceback (most recent call last):\n"
	frame := func(file string, line int, fn, code string) string {
		return fmt.Sprintf("  File \"/usr/local/lib/python3.12/dist-packages/vllm/%s\", line %d, in %s\n    %s\n", file, line, fn, code)
	}
	err := kind + ": " + text
	if text == "" {
		err = kind
	}
	if c.workers() == 1 && site == inWorker {
		site = inEngine
	}
	const multiproc, coreSource = "multiproc_executor.py:743", "core.py:842"
	if site == inWorker {
		logged(worker, multiproc, "WorkerProc failed to start.")
		logged(worker, multiproc, tb+frame("v1/executor/multiproc_executor.py", 715, "worker_main", "worker = WorkerProc(*args, **kwargs)")+err)
	}
	if site == inWorker || site == inEngine {
		cause := err
		if site == inWorker {
			cause = "Exception: WorkerProc initialization failed due to an exception in a background process. See stack trace for root cause."
		}
		logged(core, coreSource, "EngineCore failed to start.")
		logged(core, coreSource, tb+frame("v1/engine/core.py", 833, "run_engine_core", "engine_core = EngineCoreProc(*args, **kwargs)")+cause)
		raw(core, "Process EngineCore_DP0:")
		raw(core, tb+frame("v1/engine/core.py", 846, "run_engine_core", "raise e")+cause)
		raw(api, tb+frame("v1/engine/utils.py", 980, "wait_for_engine_startup", "raise RuntimeError(")+"RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}")
		return out
	}
	raw(api, tb+frame("entrypoints/cli/main.py", 73, "main", "args.dispatch_function(args)")+err)
	return out
}

// EngineDeathLines gives what version v writes when the engine dies while it
// serves: the cause in a worker, the engine core's fatal error, and the API
// server's echo. class chooses the cause (ClassOOMRun by default).
//
// Source: docs/vllm.md section 2, fatal lines.
func EngineDeathLines(v Version, c EngineConfig, class Class, f FailureFacts) []LogLine {
	if class == ClassNone {
		class = ClassOOMRun
	}
	_, kind, text := failureOf(v, c, class, f)
	if f.Text != "" {
		text = f.Text
	}
	if f.Kind != "" {
		kind = f.Kind
	}
	var out []LogLine
	api := Process{Role: APIServer, PID: f.PID}
	core := Process{Role: EngineCore, PID: f.PID + 100}
	worker := Process{Role: Worker, Rank: f.Rank, PID: f.PID + 101 + f.Rank}
	logged := func(p Process, source string, lines ...string) {
		for _, l := range lines {
			out = append(out, LogLine{Phase: PhaseServing, Proc: p, Level: "ERROR", Source: source, Text: l})
		}
	}
	const tb = "Traceback (most recent call last):"
	if class == ClassKilled {
		logged(core, "multiproc_executor.py:154", fmt.Sprintf("Worker proc VllmWorker-%d died unexpectedly, shutting down executor.", f.Rank))
	} else {
		logged(worker, "multiproc_executor.py:841", "WorkerProc hit an exception.", tb,
			`  File "/usr/local/lib/python3.12/dist-packages/vllm/v1/executor/multiproc_executor.py", line 836, in worker_busy_loop`,
			kind+": "+text)
	}
	logged(core, "core.py:851", "EngineCore encountered a fatal error.", tb,
		`  File "/usr/local/lib/python3.12/dist-packages/vllm/v1/engine/core.py", line 842, in run_engine_core`,
		"RuntimeError: Worker failed with error '"+strings.ReplaceAll(text, "\n", " ")+"', please check the stack trace above for the root cause")
	logged(api, "async_llm.py:525", "AsyncLLM output_handler failed.", tb,
		`  File "/usr/local/lib/python3.12/dist-packages/vllm/v1/engine/async_llm.py", line 477, in output_handler`,
		"vllm.v1.engine.exceptions.EngineDeadError: "+EngineDeadMessage)
	return out
}
