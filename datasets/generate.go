package datasets

import (
	"context"
	"errors"
)

// Kinds of text that Generate writes; KindMixed takes turns over the others
// but KindRepeat.
const (
	KindMixed      = "mixed"
	KindCodeReview = "code-review"
	KindDocuments  = "documents"
	KindAgent      = "agent"
	KindRetrieval  = "retrieval"
	KindRepeat     = "repeat"
)

// Kinds lists the kinds that GenOptions.Kind accepts.
func Kinds() []string {
	return []string{KindMixed, KindCodeReview, KindDocuments, KindAgent, KindRetrieval, KindRepeat}
}

// GenOptions say what Generate writes.
type GenOptions struct {
	// Dataset is "8k" or "64k".
	Dataset string
	// Samples to write; 0: 100.
	Samples int
	// Dir to write into; it is made if missing. "": DefaultDir.
	Dir string
	// Seed: same options and seed, same bytes.
	Seed uint64
	// From is a folder of the user's text files; "": synthetic text.
	From string
	// Kind of text; "": KindMixed. With From only "" and KindMixed are known.
	Kind string
	// PromptTokens and TargetTokens; 0: those of Dataset (6,100 and 8,192;
	// 48,000 and 64,000).
	PromptTokens, TargetTokens int
	// SharedPrefixShare is the share of each prompt, 0 to 1, that it has in
	// common with the others of its group, at its beginning.
	SharedPrefixShare float64
	// PrefixGroups is the number of groups that share a prefix; 0: 1.
	PrefixGroups int
	// SelfRepetition is the share of a prompt's passages, 0 to 1, that repeat
	// an earlier passage of the same prompt; negative: the default of the kind.
	SelfRepetition float64
	// Languages of the prose ("en", "de", "zh" ...); nil: all.
	Languages []string
	// Tokenizer makes lengths exact; nil: within 1 % of EstimateTokens.
	Tokenizer TokenCounter
}

// Result says what Generate wrote.
type Result struct {
	// Set is "8k" or "64k"; Path the file written.
	Set  string `json:"set"`
	Path string `json:"path"`
	// ManifestPath is the manifest that now lists it.
	ManifestPath string    `json:"manifest_path"`
	Manifest     *Manifest `json:"manifest"`
	// Unchanged says that the same bytes already lay there.
	Unchanged bool `json:"unchanged"`
	// Notes are worth a line each: "the text was used 3 times over".
	Notes []string `json:"notes,omitempty"`
}

// Generate writes a data set and its manifest, whole or not at all.
//
// Two processes may generate into one folder at once. A set that was not
// generated is never replaced: *ExistsError.
func Generate(ctx context.Context, opts GenOptions) (*Result, error) {
	return nil, errors.New("datasets.Generate: not written yet")
}
