package datasets

import (
	"math/bits"
	"slices"
	"strings"
)

// Subset returns n samples of the set, in the order of the file: stratified
// (every part of the range of kinds and prompt lengths is represented) and
// stable (the subset of 50 contains the subset of 10). n <= 0 or n >= the
// number of samples returns all.
func (s *Set) Subset(n int) []Sample {
	if n <= 0 || n >= len(s.Samples) {
		return slices.Clone(s.Samples)
	}
	chosen := make([]bool, len(s.Samples))
	for _, i := range spreadOrder(s.Samples)[:n] {
		chosen[i] = true
	}
	out := make([]Sample, 0, n)
	for i, c := range chosen {
		if c {
			out = append(out, s.Samples[i])
		}
	}
	return out
}

// spreadOrder orders samples so that every beginning of the order is spread
// evenly over kinds and, within a kind, over prompt lengths: the van der Corput
// sequence over the sorted samples, begun in the middle.
func spreadOrder(samples []Sample) []int {
	n := len(samples)
	sorted := make([]int, n)
	for i := range sorted {
		sorted[i] = i
	}
	slices.SortFunc(sorted, func(a, b int) int {
		x, y := &samples[a], &samples[b]
		if c := strings.Compare(x.Kind, y.Kind); c != 0 {
			return c
		}
		if x.PromptTokens != y.PromptTokens {
			return x.PromptTokens - y.PromptTokens
		}
		if c := strings.Compare(x.ID, y.ID); c != 0 {
			return c
		}
		return a - b
	})
	width := bits.Len(uint(n - 1))
	out := make([]int, 0, n)
	for i := range 1 << width {
		r := int(bits.Reverse64(uint64(i)) >> (64 - width))
		if r < n {
			out = append(out, sorted[(r+n/2)%n])
		}
	}
	return out
}

// SharedPrefixShare returns the share of prompt tokens, 0 to 1, that a prefix
// cache without limit would serve if the samples ran one after the other: whole
// blocks of BlockTokens, never the last token of a prompt, as vLLM counts.
//
// With a tokenizer that can name the tokens it is exact; else (nil too) blocks
// of 64 bytes stand for those of 16 tokens.
func SharedPrefixShare(samples []Sample, tokenizer TokenCounter) float64 {
	p := newPrefixIndex(tokenizer, true)
	for i := range samples {
		s := &samples[i]
		text := s.Text()
		n := s.PromptTokens
		if n == 0 {
			n = max(1, EstimateTokens(text))
		}
		p.addSample(text, s.Messages != nil, int64(n))
	}
	return p.share()
}
