package vllm

import "strings"

// classRule maps words of an error to a class: one of any must occur, and all
// of all.
type classRule struct {
	class Class
	any   []string
	all   []string
}

// classRules are tried in order, on the text in lower case. Sources:
// docs/vllm.md sections 1.2 to 1.4 and 2, and its list of failures seen on
// clusters.
var classRules = []classRule{
	{class: ClassUnknownFlag, any: []string{"unrecognized arguments"}},
	{class: ClassUsage, any: []string{"vllm serve: error:", "vllm: error:"}},
	{class: ClassGPUUUID, any: []string{"with base 10: 'gpu-", "with base 10: 'mig-"}},
	{class: ClassKVTooSmall, any: []string{"to serve at least one request with the model"}},
	{class: ClassNoKVMemory, any: []string{"no available memory for the cache blocks"}},
	{class: ClassGPUBusy, any: []string{"is less than desired gpu memory utilization", "busy or unavailable", "error in memory profiling"}},
	{class: ClassOOMCapture, any: []string{"when warming up sampler"}},
	{class: ClassHostMemory, any: []string{"can't allocate memory", "cannot allocate memory", "oom-kill", "oom killer", "out of host memory"}},
	{class: ClassGPUFault, any: []string{"uncorrectable ecc", "ecc_uncorrectable", "an illegal memory access", "unspecified launch failure", "device-side assert", "xid "}},
	{class: ClassNoGPU, any: []string{"no cuda gpus are available", "no cuda-capable device", "failed to infer device type", "no supported device detected", "invalid device ordinal"}},
	{class: ClassPortInUse, any: []string{"address already in use", "eaddrinuse", "[errno 98]"}},
	{class: ClassShm, any: []string{"/dev/shm", "allocate shared memory", "shm_open", "bus error", "sigbus"}},
	{class: ClassStaleFile, any: []string{"stale file handle", "[errno 116]"}},
	{class: ClassDisk, any: []string{"disk quota exceeded", "no space left on device", "read-only file system", "permission denied", "permissionerror"}},
	{class: ClassHubOffline, any: []string{
		"couldn't connect to 'https://huggingface.co'", "localentrynotfounderror", "offlinemodeisenabled", "offline mode is enabled",
		"temporary failure in name resolution", "name or service not known", "failed to resolve 'huggingface.co'", "huggingface.co', port=443", "cannot find the requested files in the local cache",
		"couldn't find them in the cached files", "an error happened while trying to locate the file on the hub",
	}},
	{class: ClassModelUnknown, any: []string{"are not supported for now", "failed to be inspected", "but transformers does not recognize this architecture", "has no vllm implementation"}},
	{class: ClassNCCL, any: []string{"nccl error", "ncclsystemerror", "ncclunhandled", "distbackenderror", "gloo connectfullmesh"}},
	{class: ClassHang, any: []string{"waiting for engine", "rpc call to"}, all: []string{"timed out"}},
	{class: ClassCacheCorrupt, any: []string{"corrupt", "unpicklingerror", "bad magic number"}, all: []string{"cache"}},
	{class: ClassConfigRefused, any: []string{
		"shared_head.head.weight", "return the softmax lse for decode", "value error, ", "assertion failed, ", "validation error for ", "is greater than the derived max_model_len",
		"must be greater than total num kv heads", "decode context parallelism for gqa/mqa", "is smaller than max_model_len",
		"must be greater than or equal to max_num_seqs", "must be divisible by tensor parallel size", "must be divisible bydcp_size",
		"number of experts in the model must be greater than 0", "without speculative model", "must be <= prompt_lookup_max",
		"async scheduling is only supported", "speculative decoding is not supported", "speculative decoding with draft model is not supported", "prefill context parallelism is not",
	}},
	{class: ClassWeightsMissing, any: []string{
		"cannot find any model weights", "no such file or directory", "does not appear to have a file named", "repo id must be",
		"repositorynotfounderror", "entrynotfounderror", "not a valid model identifier", "invalid repository id or local directory",
		"were not initialized from checkpoint", "error while deserializing header", "safetensors_rust.safetensorerror", "filenotfounderror",
		"weights missing from checkpoint",
	}},
	{class: ClassOOMLoad, any: []string{"cuda out of memory", "outofmemoryerror", "cuda error: out of memory"}},
	{class: ClassKilled, any: []string{"worker proc"}, all: []string{"died unexpectedly"}},
}

// Classify sorts an error text; phase says when it was logged and decides which
// kind of memory shortage it is. It gives ClassNone for a text it does not know.
func Classify(text string, phase Phase) Class {
	t := strings.ToLower(text)
	for _, r := range classRules {
		if !containsAny(t, r.any) || !containsAll(t, r.all) {
			continue
		}
		if r.class != ClassOOMLoad {
			return r.class
		}
		switch {
		case phase >= PhaseServing:
			return ClassOOMRun
		case phase >= PhaseCapture:
			return ClassOOMCapture
		}
		return ClassOOMLoad
	}
	return ClassNone
}

func containsAny(t string, words []string) bool {
	for _, w := range words {
		if strings.Contains(t, w) {
			return true
		}
	}
	return false
}

func containsAll(t string, words []string) bool {
	for _, w := range words {
		if !strings.Contains(t, w) {
			return false
		}
	}
	return true
}

// echoTexts are lines that only repeat that something failed elsewhere.
//
// Source: docs/vllm.md section 2, fatal lines.
var echoTexts = []string{
	"workerproc failed to start", "workerproc hit an exception", "workerproc initialization failed",
	"enginecore failed to start", "enginecore encountered a fatal error", "engine core initialization failed",
	"enginecore encountered an issue", "enginedeaderror", "asyncllm output_handler failed",
	"worker failed with error", "engine core proc enginecore", "cancellederror", "please check the stack trace",
	"broken pipe",
}

// isEcho reports whether an error text is an echo.
func isEcho(text string) bool { return containsAny(strings.ToLower(text), echoTexts) }

// Advice says in a few words what to do about a class; "" if nothing helps.
func Advice(c Class) string { return adviceByClass[c] }

var adviceByClass = map[Class]string{
	ClassUnknownFlag:    "this vLLM has no such flag: leave the setting out or use a release that has it",
	ClassUsage:          "correct the flag's value",
	ClassConfigRefused:  "the engine does not allow this combination: change the setting that the message names",
	ClassOOMLoad:        "lower --gpu-memory-utilization is no help here: use more GPUs, quantized weights or a smaller --max-num-batched-tokens",
	ClassOOMCapture:     "lower --gpu-memory-utilization or --max-num-seqs",
	ClassOOMRun:         "lower --gpu-memory-utilization to leave room beside the KV cache",
	ClassKVTooSmall:     "lower --max-model-len or raise --gpu-memory-utilization",
	ClassNoKVMemory:     "raise --gpu-memory-utilization or lower --max-num-batched-tokens",
	ClassGPUBusy:        "another process holds the GPU: find and end it, or ask for the node exclusively",
	ClassGPUFault:       "the GPU or node is faulty: use another node and report this one",
	ClassNoGPU:          "the job sees no GPU: ask for ngpus in the PBS request",
	ClassGPUUUID:        "set CUDA_VISIBLE_DEVICES to ordinals (0,1,...) instead of UUIDs",
	ClassWeightsMissing: "check the model path and that all shards of the index are there",
	ClassModelUnknown:   "this vLLM does not know the architecture: use a newer release",
	ClassHubOffline:     "the node has no network: give the snapshot directory as model and set HF_HUB_OFFLINE=1",
	ClassPortInUse:      "use another port",
	ClassShm:            "/dev/shm is too small: at least 2 GiB must be free",
	ClassDisk:           "a cache directory cannot be written: point the caches to node-local scratch",
	ClassStaleFile:      "lock files on a network file system: use the snapshot path and HF_HUB_OFFLINE=1",
	ClassHostMemory:     "the job's memory limit is too low: ask for more with mem= in the PBS request",
	ClassNCCL:           "GPUs cannot talk to each other: check NCCL's settings and the node",
	ClassHang:           "the engine made no progress: raise VLLM_ENGINE_READY_TIMEOUT_S, or look for a hung worker",
	ClassCacheCorrupt:   "delete the compile cache; give each job its own",
	ClassEngineDead:     "the engine died: look at the first error of the log",
	ClassKilled:         "a process was killed, often by the job's memory limit: look at the job's memory",
	ClassStartFailed:    "look at the log",
}
