package datasets

import (
	"encoding/json"
)

// Subset returns n samples of the set, in the order of the file: stratified
// (every part of the range of kinds and prompt lengths is represented) and
// stable (the subset of 50 contains the subset of 10). n <= 0 or n >= the
// number of samples returns all.
func (s *Set) Subset(n int) []Sample {
	if n <= 0 || n >= len(s.Samples) {
		return s.Samples
	}
	return s.Samples[:n]
}

// SharedPrefixShare returns the share of prompt tokens, 0 to 1, that a prefix
// cache without limit would serve if the samples ran one after the other: whole
// blocks of BlockTokens, never the last token of a prompt, as vLLM counts.
func SharedPrefixShare(samples []Sample, tokenizer TokenCounter) float64 { return 0 }

// Info describes a set: counts, tokens, hashes.
type Info struct {
	Name              string         `json:"name"`
	Path              string         `json:"path"`
	Format            string         `json:"format"`
	Samples           int            `json:"samples"`
	SHA256            string         `json:"sha256"`
	ContentSHA256     string         `json:"content_sha256"`
	Bytes             int64          `json:"bytes"`
	ContentBytes      int64          `json:"content_bytes"`
	PromptTokens      TokenStats     `json:"prompt_tokens"`
	TargetTokens      TokenStats     `json:"target_tokens"`
	TotalTokens       TokenStats     `json:"total_tokens"`
	SharedPrefixShare float64        `json:"shared_prefix_share"`
	IdenticalPrompts  int            `json:"identical_prompts"`
	Kinds             map[string]int `json:"kinds,omitempty"`
	Tokenizer         TokenizerInfo  `json:"tokenizer"`
	Manifest          *Manifest      `json:"manifest,omitempty"`
	Warnings          []Fault        `json:"warnings,omitempty"`
}

// Info describes the set.
func (s *Set) Info() *Info { return &Info{Name: s.Name, Path: s.Path, Samples: len(s.Samples)} }

// Text is the description for a person: a few lines and a small histogram.
func (i *Info) Text() string { return i.Name }

func messagesText(messages, tools json.RawMessage) string { return string(messages) }
