package datasets

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
)

// ManifestSchema names the version of manifest.json that is written.
const ManifestSchema = "glm46.datasets.manifest/1"

// ManifestFileName is the name of the manifest in a folder of data sets.
const ManifestFileName = "manifest.json"

// ManifestFile is the content of manifest.json: one entry a data set.
type ManifestFile struct {
	Schema string               `json:"schema"`
	Sets   map[string]*Manifest `json:"sets"`
}

// Manifest describes one data set as its writer left it.
type Manifest struct {
	// File name, in the manifest's folder.
	File string `json:"file"`
	// Bytes and SHA256 (hex) of the file as it lies on disk.
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
	// ContentBytes and ContentSHA256 (hex) of the expanded bytes.
	ContentBytes  int64  `json:"content_bytes"`
	ContentSHA256 string `json:"content_sha256"`
	// Samples in the file.
	Samples int64 `json:"samples"`
	// PromptTokens and TargetTokens over the samples.
	PromptTokens TokenStats `json:"prompt_tokens"`
	TargetTokens TokenStats `json:"target_tokens"`
	// Tokenizer that counted PromptTokens.
	Tokenizer TokenizerInfo `json:"tokenizer"`
	// SharedPrefixShare is the share of prompt tokens, 0 to 1, that an
	// unlimited prefix cache would serve, in blocks of BlockTokens.
	SharedPrefixShare float64 `json:"shared_prefix_share"`
	// Generator that wrote the set, or nil.
	Generator *GeneratorInfo `json:"generator,omitempty"`
}

// GeneratorInfo is what repeats a generated set.
type GeneratorInfo struct {
	Name    string `json:"name"`
	Version int    `json:"version"`
	Kind    string `json:"kind"`
	Seed    uint64 `json:"seed"`
	// Source is "synthetic" or "files".
	Source string `json:"source"`
	// SourceFiles, SourceBytes and SourceSHA256 describe the user's text.
	SourceFiles  int    `json:"source_files,omitempty"`
	SourceBytes  int64  `json:"source_bytes,omitempty"`
	SourceSHA256 string `json:"source_sha256,omitempty"`
}

// TokenStats summarises token counts over the samples of a set.
type TokenStats struct {
	// Count of samples that have a figure; Missing of those that have none.
	Count   int64 `json:"count"`
	Missing int64 `json:"missing,omitempty"`
	// Estimated counts the figures that are estimates.
	Estimated int64   `json:"estimated,omitempty"`
	Total     int64   `json:"total"`
	Min       int64   `json:"min"`
	Mean      float64 `json:"mean"`
	P50       int64   `json:"p50"`
	P90       int64   `json:"p90"`
	Max       int64   `json:"max"`
	// Histogram has at most 12 buckets of equal width, in order.
	Histogram []Bucket `json:"histogram,omitempty"`
}

// Bucket counts the values from From up to and including To.
type Bucket struct {
	From  int64 `json:"from"`
	To    int64 `json:"to"`
	Count int64 `json:"count"`
}

// maxManifestBytes is more than any manifest of ours; a larger file is none.
const maxManifestBytes = 8 << 20

// readManifestFile reads the manifest of a folder; without one it returns an
// empty manifest. A manifest that cannot be read is *InvalidError.
func readManifestFile(dir string) (*ManifestFile, error) {
	path := filepath.Join(dir, ManifestFileName)
	empty := &ManifestFile{Schema: ManifestSchema, Sets: map[string]*Manifest{}}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return empty, nil
	}
	bad := func(field, what string) error {
		return &InvalidError{Faults: []Fault{{File: path, Field: field, Code: "manifest", What: what,
			Do: "remove the file (a set without manifest is accepted), or make the set again"}}}
	}
	if err != nil {
		return nil, bad("", "cannot be read: "+errText(err))
	}
	if info.Size() > maxManifestBytes {
		return nil, bad("", fmt.Sprintf("is %d bytes long: not a manifest", info.Size()))
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, bad("", "cannot be read: "+errText(err))
	}
	var m ManifestFile
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, bad("", "is not a manifest: "+err.Error())
	}
	if m.Schema != ManifestSchema {
		return nil, bad("schema", fmt.Sprintf("want %q, got %.80q", ManifestSchema, m.Schema))
	}
	for name, set := range m.Sets {
		if set == nil {
			return nil, bad("sets."+name, "is null")
		}
	}
	if m.Sets == nil {
		m.Sets = map[string]*Manifest{}
	}
	return &m, nil
}

// writeManifestFile replaces the manifest of a folder, whole.
func writeManifestFile(dir string, m *ManifestFile) error {
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	path := filepath.Join(dir, ManifestFileName)
	if err := renameio.WriteFile(path, append(data, '\n'), 0o666, renameio.WithTempDir(dir)); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// errText is the reason of a file error without the path, which the caller
// names itself.
func errText(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}
