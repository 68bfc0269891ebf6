package engine

import (
	"errors"
	"fmt"
)

// DefaultBlockTokens is the size of a KV block, in tokens.
//
// Source: vLLM 0.11.1, default on CUDA.
const DefaultBlockTokens = 16

// validate fills BlockTokens in and reports all faults of the configuration.
func (c *Config) validate() error {
	if c.BlockTokens == 0 {
		c.BlockTokens = DefaultBlockTokens
	}
	var faults []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Errorf("engine: "+format, args...))
		}
	}
	fault(c.BlockTokens < 1, "block of %d tokens: want at least 1", c.BlockTokens)
	fault(c.NumBlocks < 2, "%d KV blocks: want at least 2, one is the null block", c.NumBlocks)
	fault(c.NumBlocks > 1<<30, "%d KV blocks: want at most 2^30", c.NumBlocks)
	fault(c.MaxNumSeqs < 1, "max_num_seqs %d: want at least 1", c.MaxNumSeqs)
	fault(c.MaxNumBatchedTokens < 1, "max_num_batched_tokens %d: want at least 1", c.MaxNumBatchedTokens)
	fault(c.MaxModelLen < 2, "max_model_len %d: want at least 2", c.MaxModelLen)
	fault(c.LongPrefillTokenThreshold < 0, "long_prefill_token_threshold %d: want 0 or more", c.LongPrefillTokenThreshold)
	fault(!c.ChunkedPrefill && c.MaxNumBatchedTokens < c.MaxModelLen,
		"max_num_batched_tokens %d is less than max_model_len %d without chunked prefill", c.MaxNumBatchedTokens, c.MaxModelLen)
	fault(c.Policy != "" && c.Policy != PolicyFCFS && c.Policy != PolicyPriority,
		"policy %q: want %q or %q", c.Policy, PolicyFCFS, PolicyPriority)
	return errors.Join(append(faults, c.Spec.validate())...)
}

func (s *Spec) validate() error {
	if s.Method == SpecNone {
		return nil
	}
	if s.Method != SpecNGram && s.Method != SpecMTP {
		return fmt.Errorf("engine: speculation method %q: want %q or %q", s.Method, SpecNGram, SpecMTP)
	}
	if s.Tokens < 1 || s.LookaheadTokens < 0 {
		return fmt.Errorf("engine: %d draft tokens and %d look-ahead slots: want at least 1 and 0", s.Tokens, s.LookaheadTokens)
	}
	if s.Acceptance == nil && s.Method == SpecMTP {
		s.Acceptance = &Acceptance{DraftProbability: 1, Cumulative: []float64{0.9}}
	}
	if s.Acceptance == nil && (s.LookupMin < 1 || s.LookupMax < s.LookupMin) {
		return fmt.Errorf("engine: prompt_lookup_min=%d must be at least 1 and <= prompt_lookup_max=%d", s.LookupMin, s.LookupMax)
	}
	return s.Acceptance.validate()
}

func (a *Acceptance) validate() error {
	if a == nil {
		return nil
	}
	if !(a.DraftProbability >= 0 && a.DraftProbability <= 1) {
		return fmt.Errorf("engine: draft probability %v: want 0 to 1", a.DraftProbability)
	}
	if len(a.Cumulative) == 0 {
		return errors.New("engine: acceptance has no positions")
	}
	last := 1.0
	for i, c := range a.Cumulative {
		if !(c >= 0 && c <= last) {
			return fmt.Errorf("engine: cumulative acceptance %v at position %d: want 0 to 1, not increasing", c, i)
		}
		last = c
	}
	return nil
}

// conditional gives for each of k positions the probability that it is accepted
// if all before were.
func (a *Acceptance) conditional(k int) []float64 {
	if a == nil {
		return nil
	}
	out := make([]float64, k)
	last := 1.0
	for i := range out {
		if i < len(a.Cumulative) {
			if last > 0 {
				out[i] = a.Cumulative[i] / last
			}
			last = a.Cumulative[i]
			continue
		}
		out[i] = out[i-1]
	}
	return out
}
