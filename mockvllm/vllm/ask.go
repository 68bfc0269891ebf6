package vllm

// ChunkedPrefillHonoured reports whether --no-enable-chunked-prefill has an
// effect in version v. From 0.8.0 to 0.11.0 the engine silently turns it on.
//
// Source: docs/vllm.md section 1.6.
func ChunkedPrefillHonoured(v Version) bool { return !(v.AtLeast("0.8.0") && !v.AtLeast("0.11.1")) }

// ContextParallelFlag gives the flag that splits the context of decodes over
// ranks in version v, and whether there is one. "--context-parallel-size" never
// existed in any release. Where there is none, the name is the one that came
// later, and the version refuses it as an unknown flag (RefuseContextParallel).
//
// Source: docs/vllm.md section 1.1.
func ContextParallelFlag(v Version) (string, bool) {
	if v.AtLeast("0.10.2") {
		return "--decode-context-parallel-size", true
	}
	return "--decode-context-parallel-size", false
}

// SpecArgs gives the arguments that ask version v for speculative decoding.
//
// method is "ngram", "mtp" or "draft_model" (then model is the draft's path); k
// is the number of draft tokens, at least 1; lookupMin and lookupMax bound the
// n-gram length, 0 for the engine's default. Until 0.8.2 these are separate
// flags, later one JSON object.
//
// It fails with a *RefusalError where the version cannot do it for GLM-4.6.
// Source: docs/vllm.md section 1.9.
func SpecArgs(v Version, method, model string, k, lookupMin, lookupMax int) ([]string, error) {
	return nil, errStub
}

// DefaultGPUMemoryUtilization is 0.9 before 0.21 and 0.92 since.
//
// Source: docs/vllm.md section 1.8.
func DefaultGPUMemoryUtilization(v Version) float64 {
	if v.AtLeast("0.21.0") {
		return 0.92
	}
	return 0.9
}

// AsyncSchedulingDefault reports whether scheduling overlaps the GPU's step by
// default (since 0.14).
//
// Source: docs/vllm.md section 1.1.
func AsyncSchedulingDefault(v Version) bool { return v.AtLeast("0.14.0") }

// CUDAGraphMemoryCounted reports whether the memory of CUDA graphs is estimated
// and subtracted before the KV cache is sized (since 0.21).
//
// Source: docs/vllm.md section 1.8.
func CUDAGraphMemoryCounted(v Version) bool { return v.AtLeast("0.21.0") }

// ReserveFullISLDefault reports whether a waiting request is admitted only when
// its whole prompt fits the free KV blocks.
//
// Source: docs/vllm.md section 5, fact 7.
func ReserveFullISLDefault(v Version) bool { return v.AtLeast("0.19.0") }

// RefuseContextParallel says why version v refuses decode context parallelism
// over dcp ranks for the model at tensor-parallel size tp; nil if it does not
// (dcp <= 1, or legal).
//
// Before 0.10.2 the flag is unknown: Class is ClassUnknownFlag and ExitCode 2.
// Source: docs/vllm.md section 1.3.
func RefuseContextParallel(v Version, m ModelShape, tp, dcp int) *RefusalError { return nil }
