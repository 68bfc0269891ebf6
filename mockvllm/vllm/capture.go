package vllm

// CaptureSizes lists the batch sizes, in tokens and ascending, that are
// captured as CUDA graphs.
//
// specTokens is k of speculative decoding (0: none); budget is
// max_num_batched_tokens. The default configuration (1024 requests, budget
// 8192) gives 51 sizes up to 512.
//
// Source: docs/vllm.md section 1.10.
func CaptureSizes(v Version, maxNumSeqs, specTokens, budget int) []int { return nil }
