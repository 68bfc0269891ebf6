package datasets

import (
	"context"
	"errors"
)

// Limits keep a file from costing more memory or time than a data set can be
// worth. Zero fields take the defaults of DefaultLimits.
type Limits struct {
	// ExpandedBytes at most of one file.
	ExpandedBytes int64
	// RecordBytes at most of one line or record.
	RecordBytes int64
	// Depth at most of nested arrays and objects.
	Depth int
	// Ratio at most of expanded to compressed bytes; judged once enough bytes
	// have been expanded to matter (docs/datasets.md, "Limits").
	Ratio float64
}

// Fit is a context length that samples are checked against.
type Fit struct {
	// Name of the experiment ("4C/64k").
	Name string
	// MaxModelLen in tokens.
	MaxModelLen int
}

// VerifyOptions tune Verify. The zero value is what `datasets verify` wants.
type VerifyOptions struct {
	LoadOptions
	// Fits are the context lengths to check samples against, by data set name;
	// the entry "" holds for every set.
	Fits map[string][]Fit
}

// Report is what Verify found.
type Report struct {
	// Files in the order of the paths given.
	Files []FileReport `json:"files"`
}

// OK says that no file has a fault.
func (r *Report) OK() bool {
	for i := range r.Files {
		if len(r.Files[i].Faults) > 0 {
			return false
		}
	}
	return true
}

// FileReport is what Verify found in one data set.
type FileReport struct {
	Name   string `json:"name"`
	Path   string `json:"path"`
	Format string `json:"format"`
	// Samples that were read, valid or not.
	Samples       int64  `json:"samples"`
	Bytes         int64  `json:"bytes"`
	SHA256        string `json:"sha256"`
	ContentBytes  int64  `json:"content_bytes"`
	ContentSHA256 string `json:"content_sha256"`
	// HasManifest says that a manifest lists the set.
	HasManifest  bool          `json:"has_manifest"`
	PromptTokens TokenStats    `json:"prompt_tokens"`
	TargetTokens TokenStats    `json:"target_tokens"`
	Tokenizer    TokenizerInfo `json:"tokenizer"`
	// SharedPrefixShare: see Manifest.
	SharedPrefixShare float64 `json:"shared_prefix_share"`
	// IdenticalPrompts counts samples whose prompt an earlier one has too.
	IdenticalPrompts int64 `json:"identical_prompts"`
	// Fits against context lengths.
	Fits []FitReport `json:"fits,omitempty"`
	// Faults make the set unusable; MoreFaults counts those not listed.
	Faults     []Fault `json:"faults"`
	MoreFaults int64   `json:"more_faults,omitempty"`
	// Warnings make it worse, not wrong.
	Warnings     []Fault `json:"warnings"`
	MoreWarnings int64   `json:"more_warnings,omitempty"`
}

// FitReport says which samples do not fit a context length with their full
// target.
type FitReport struct {
	Name        string `json:"name"`
	MaxModelLen int    `json:"max_model_len"`
	// Capped samples get a shorter answer; Impossible ones not even one token.
	Capped     int64 `json:"capped"`
	Impossible int64 `json:"impossible"`
	// WorstOverTokens is by how much the worst sample does not fit.
	WorstOverTokens int64 `json:"worst_over_tokens"`
	// IDs of the first samples that do not fit, at most 5.
	IDs []string `json:"ids,omitempty"`
}

// Verify expands and validates data sets, streaming: memory does not grow with
// the size of a file. paths are files and folders; a folder of data sets
// stands for all sets in it.
//
// The error is nil if everything could be judged, whatever the judgement: ask
// [Report.OK]. A path that does not exist is *NotFoundError.
func Verify(ctx context.Context, paths []string, opts VerifyOptions) (*Report, error) {
	return nil, errors.New("datasets.Verify: not written yet")
}
