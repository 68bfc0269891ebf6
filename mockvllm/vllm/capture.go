package vllm

import "slices"

// maxCaptureTokens is the largest CUDA-graph batch by default on Hopper.
// Source: docs/vllm.md section 1.10.
const maxCaptureTokens = 512

// CaptureSizes lists the batch sizes, in tokens and ascending, that are
// captured as CUDA graphs.
//
// specTokens is k of speculative decoding (0: none); budget is
// max_num_batched_tokens, 0 for no cap. Since 0.11.1 the sizes are 1, 2, 4,
// then by 8 below 256 and by 16 from there to
// min(2 x maxNumSeqs x (1+specTokens), 512): 51 for the defaults. Before, they
// went by 8 all the way: 67.
//
// Source: docs/vllm.md section 1.10.
func CaptureSizes(v Version, maxNumSeqs, specTokens, budget int) []int {
	largest := maxCaptureTokens
	// Divided, not multiplied: both factors come from the command line.
	if perSeq := 2 * (1 + max(0, min(specTokens, maxCaptureTokens))); maxNumSeqs < maxCaptureTokens/perSeq+1 {
		largest = min(largest, maxNumSeqs*perSeq)
	}
	return captureSizesUpTo(v, largest, budget)
}

func captureSizesUpTo(v Version, largest, budget int) []int {
	if budget > 0 {
		largest = min(largest, budget)
	}
	var out []int
	add := func(from, to, step int) {
		for s := from; s <= to && s <= largest; s += step {
			out = append(out, s)
		}
	}
	add(1, 2, 1)
	add(4, 4, 1)
	if v.AtLeast("0.11.1") {
		add(8, 255, 8)
		add(256, largest, 16)
	} else {
		add(8, largest, 8)
	}
	return out
}

// captureSizesOf gives the sizes a configuration asks for, or the default.
func (a ServeArgs) captureSizesOf(v Version, maxNumSeqs, specTokens, budget int) []int {
	explicit := slices.Clone(a.CaptureSizes)
	if list, ok := a.CompilationConfig["cudagraph_capture_sizes"].([]any); ok && len(explicit) == 0 {
		for _, x := range list {
			if n, ok := asInt(x); ok {
				explicit = append(explicit, n)
			}
		}
	}
	// One value of --cuda-graph-sizes is the largest size; several are the list.
	if len(explicit) == 1 && a.Set["--cuda-graph-sizes"] {
		return captureSizesUpTo(v, explicit[0], budget)
	}
	if len(explicit) > 0 {
		slices.Sort(explicit)
		explicit = slices.Compact(explicit)
		return slices.DeleteFunc(explicit, func(n int) bool { return n < 1 || (budget > 0 && n > budget) })
	}
	if a.MaxCaptureSize > 0 {
		return captureSizesUpTo(v, a.MaxCaptureSize, budget)
	}
	if n, ok := asInt(a.CompilationConfig["max_cudagraph_capture_size"]); ok && n > 0 {
		return captureSizesUpTo(v, n, budget)
	}
	return CaptureSizes(v, maxNumSeqs, specTokens, budget)
}
