package datasets

import (
	"context"
	"errors"
)

// DefaultDir is where data sets lie unless --data says otherwise.
const DefaultDir = "storage/samples/glm46_benchmark"

// LoadOptions tune Load. The zero value is what a run wants.
type LoadOptions struct {
	// Tokenizer counts the prompts whose record has no count; nil: estimate.
	Tokenizer TokenCounter
	// Limits against bombs; zero fields take their defaults.
	Limits Limits
	// MaxFaults is how many faults are listed; 0: 100.
	MaxFaults int
	// Separator between samples of plain text; "": recognised.
	Separator string
}

// Load reads the data set called name from path, whole and validated.
//
// path is a folder of data sets (then name says which: "8k"), or one file, or
// a folder of one file a sample; for the last two name may be "" and is then
// taken from the file. Every form that [Verify] accepts is read.
//
// It fails with *NotFoundError if there is no such set, with *InvalidError and
// all faults (up to opts.MaxFaults) if it is not valid.
func Load(ctx context.Context, path, name string, opts LoadOptions) (*Set, error) {
	return nil, errors.New("datasets.Load: not written yet")
}

// setFileNames lists the names under which a set may lie in its folder, in the
// order in which they are looked for.
func setFileNames(name string) []string {
	var out []string
	for _, ext := range []string{".jsonl.zst", ".jsonl", ".jsonl.gz", ".json", ".jsonl.xz", ".jsonl.bz2", ".json.zst", ".json.gz", ".tar", ".tar.zst", ".tar.gz", ".txt", ""} {
		out = append(out, name+ext)
	}
	return out
}
