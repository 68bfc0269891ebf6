package vllm

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
	ClassPortInUse      Class = "port_in_use"
	ClassShm            Class = "shm"          // /dev/shm too small
	ClassDisk           Class = "disk"         // quota, read-only or full
	ClassNCCL           Class = "nccl"         // collectives
	ClassHang           Class = "hang"         // ready wait or broadcast timed out
	ClassEngineDead     Class = "engine_dead"  // died for a reason not seen
	ClassKilled         Class = "killed"       // by a signal, host memory included
	ClassStartFailed    Class = "start_failed" // failed for a reason not seen
)

// RefusalError is a configuration that the engine refuses at start-up.
type RefusalError struct {
	Class Class
	// Rule names the check, such as "dcp_kv_heads"; stable.
	Rule string
	// Kind is the Python exception: "ValueError", "AssertionError",
	// "ValidationError", "RuntimeError", "NotImplementedError".
	Kind string
	// Text is the engine's own message, exactly.
	Text string
	// Reason says the same in plain words, with what to do.
	Reason string
	// AfterLoad: raised in the workers after the weights are loaded.
	AfterLoad bool
	// ExitCode is 1, or 2 for an unknown flag.
	ExitCode int
}

func (e *RefusalError) Error() string { return e.Text }
