package datasets

import (
	"encoding/json"

	"github.com/glm46/glm46/datasets/tokenize"
)

// BlockTokens is the size of a KV block in tokens: the unit in which a prefix
// cache shares prompts.
// Source: vLLM 0.11.1, default block size on CUDA.
const BlockTokens = 16

// Sample is one prompt with the length of answer that is asked for it.
//
// Exactly one of Prompt and Messages is set.
type Sample struct {
	// ID is unique in its set. A record without one gets its number ("17").
	ID string
	// Prompt is plain text, for /v1/completions.
	Prompt string
	// Messages is an OpenAI "messages" array, for /v1/chat/completions.
	Messages json.RawMessage
	// Tools is the OpenAI "tools" array that goes with Messages, or nil.
	Tools json.RawMessage
	// PromptTokens counts the prompt without chat template or special tokens;
	// 0 means unknown. The file's own figure wins, then the tokenizer's count,
	// then an estimate.
	PromptTokens int
	// PromptTokensEstimated says that PromptTokens comes from [EstimateTokens].
	PromptTokensEstimated bool
	// PromptTokensCounted says that the tokenizer given to Load counted it.
	PromptTokensCounted bool
	// TargetTokens is the length of answer to ask for; 0 means that the set
	// does not say, and the run needs --max-tokens.
	TargetTokens int
	// TargetTokensEstimated says that TargetTokens was estimated from the text
	// of a recorded answer.
	TargetTokensEstimated bool
	// Kind is the generator's name for the sort of text ("code-review"), or "".
	Kind string
	// File is the file that holds the sample, as the user named it.
	File string
	// Line is the line of the sample in its expanded file, from 1.
	Line int
}

// Text returns what a model would read of the sample, without the chat
// template: the prompt, or the roles and contents of the messages and the
// tools. Two samples are the same prompt if their texts are equal.
func (s *Sample) Text() string {
	if s.Messages == nil {
		return s.Prompt
	}
	return messagesText(s.Messages, s.Tools)
}

// Set is a data set in memory.
type Set struct {
	// Name is "8k", "64k" or the name that the file gives.
	Name string
	// Path is the file or folder that was read.
	Path string
	// Format says what was recognised, outermost first: "zstd, JSON Lines".
	Format string
	// Samples in the order of the file.
	Samples []Sample
	// SHA256 is the hash of the file as it lies on disk, in hex; for a folder,
	// of the list of its files' names and hashes.
	SHA256 string
	// ContentSHA256 is the hash of the expanded bytes, in hex; it stays the
	// same when a file is compressed again in another way.
	ContentSHA256 string
	// Bytes and ContentBytes are the sizes that belong to the two hashes.
	Bytes, ContentBytes int64
	// Manifest describes the set as its writer left it, or is nil.
	Manifest *Manifest
	// Tokenizer says what counted the tokens that the file does not state.
	Tokenizer TokenizerInfo
	// Warnings are findings that make the set worse, not wrong.
	Warnings []Fault

	sharedPrefix float64
	identical    int
}

// TokenizerInfo names what counted tokens.
type TokenizerInfo struct {
	// Kind is "estimate" or "tokenizer.json".
	Kind string `json:"kind"`
	// SHA256 of the tokenizer's file, in hex; "" for the estimate.
	SHA256 string `json:"sha256,omitempty"`
	// Calibration names the estimate's constants; "" for a tokenizer.
	Calibration string `json:"calibration,omitempty"`
}

// TokenCounter counts the tokens of a text.
type TokenCounter interface {
	// CountTokens returns the number of tokens of text, without special tokens
	// that a template would add.
	CountTokens(text string) int
	// Info names the counter.
	Info() TokenizerInfo
}

// EstimateTokens estimates how many tokens GLM-4.6's tokenizer makes of text,
// without the model's files. It is an estimate and must be shown as one.
//
// Source: docs/datasets.md, "Token estimate", which also gives its errors.
func EstimateTokens(text string) int { return tokenize.Estimate(text) }
