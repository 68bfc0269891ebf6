package datasets

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
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
	Samples      int64  `json:"samples"`
	Bytes        int64  `json:"bytes"`
	SHA256       string `json:"sha256"`
	ContentBytes int64  `json:"content_bytes"`
	// ContentSHA256 comes from the manifest, once the file's own hash has been
	// compared with it. Without one it is left out for compressed files, where it
	// would cost half as much again as all else; Load makes it.
	ContentSHA256 string `json:"content_sha256,omitempty"`
	// HasManifest says that a manifest lists the set.
	HasManifest  bool          `json:"has_manifest"`
	PromptTokens TokenStats    `json:"prompt_tokens"`
	TargetTokens TokenStats    `json:"target_tokens"`
	Tokenizer    TokenizerInfo `json:"tokenizer"`
	// SharedPrefixShare: see Manifest.
	SharedPrefixShare float64 `json:"shared_prefix_share"`
	// IdenticalPrompts counts samples whose prompt an earlier one has too.
	IdenticalPrompts int64 `json:"identical_prompts"`
	// NotKeptFrom is the first sample that was not remembered: from it on,
	// samples are compared with the ones before it only, for duplicate ids and
	// identical prompts. PrefixNotKeptFrom is the same for the blocks behind
	// SharedPrefixShare, which is then the least that is shared. 0: all are.
	NotKeptFrom       int64 `json:"not_kept_from,omitempty"`
	PrefixNotKeptFrom int64 `json:"prefix_not_kept_from,omitempty"`
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
	rep := &Report{}
	for _, path := range paths {
		targets, err := targetsOf(path)
		var invalid *InvalidError
		if errors.As(err, &invalid) {
			rep.Files = append(rep.Files, FileReport{Name: setName(filepath.Base(path)), Path: path, Faults: invalid.Faults, Warnings: []Fault{}})
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, t := range targets {
			r, err := newScanner(ctx, t.name, opts).scanTarget(t)
			if err != nil {
				return nil, err
			}
			rep.Files = append(rep.Files, *r)
		}
	}
	return rep, nil
}

// targetsOf lists the data sets that a path of the user's stands for.
func targetsOf(path string) ([]*target, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, notFound(path, "", err)
	}
	if !info.IsDir() {
		t, err := fileTarget(path)
		if err != nil {
			return nil, err
		}
		return []*target{t}, nil
	}
	h, err := openHome(path)
	if err != nil {
		return nil, err
	}
	targets := h.targets()
	if len(targets) == 0 {
		return nil, &InvalidError{Faults: []Fault{{File: path, Code: "empty", What: "holds no data set (.jsonl, .json, .txt, .tar, each plain or compressed)", Do: "give the file or folder of a data set"}}}
	}
	return targets, nil
}

// scanTarget reads a set and says what it found. The error is not about the
// data.
func (s *scanner) scanTarget(t *target) (*FileReport, error) {
	rep := &FileReport{Name: t.name, Path: t.path, HasManifest: t.manifest != nil}
	s.file = t.path
	switch {
	case t.missing:
		s.fault(0, "", "missing", "is listed in "+ManifestFileName+", but is not there", "make the set again, or remove its entry")
	case t.files != nil:
		if err := s.scanFolder(t, rep); err != nil {
			return nil, err
		}
	default:
		if err := s.scanOne(t, rep); err != nil {
			return nil, err
		}
	}
	s.file, s.line = t.path, 0
	s.summarise(rep)
	return rep, nil
}

// openRegular opens a file that can be read to its end.
func (s *scanner) openRegular(path string) (*os.File, error) {
	s.file, s.line = path, 0
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		s.fault(0, "", "file", "is not a regular file", "give a file")
		return nil, nil
	}
	var f *os.File
	if err == nil {
		f, err = os.Open(path)
	}
	if err != nil {
		s.fault(0, "", "file", "cannot be read: "+errText(err), "check the path and its permissions")
		return nil, nil
	}
	return f, nil
}

// scanOne reads a set of one file, and compares it with its manifest.
func (s *scanner) scanOne(t *target, rep *FileReport) error {
	f, err := s.openRegular(t.path)
	if f == nil {
		return err
	}
	defer f.Close()
	m := t.manifest
	sum, err := s.scanFile(t.path, f, m == nil && s.sink != nil)
	if err != nil {
		return err
	}
	rep.SHA256, rep.Bytes = sum.fileHex(), sum.fileBytes
	rep.ContentSHA256, rep.ContentBytes = sum.contentHex(), sum.contentBytes
	if m == nil {
		return nil
	}
	s.file, s.line = t.path, 0
	const do = "copy the file again, or make the set again; if the change is meant, remove its entry from " + ManifestFileName
	if rep.SHA256 != m.SHA256 {
		s.fault(0, "sha256", "hash", fmt.Sprintf("the file's SHA-256 is %s, the manifest says %s", rep.SHA256, clip(m.SHA256, 64)), do)
		return nil
	}
	// The same bytes expand to the same bytes: the hash of those is known.
	rep.ContentSHA256 = m.ContentSHA256
	if s.structural {
		return nil
	}
	if rep.ContentBytes != m.ContentBytes {
		s.fault(0, "content_bytes", "manifest", fmt.Sprintf("the file expands to %d bytes, the manifest says %d", rep.ContentBytes, m.ContentBytes), do)
	}
	if s.samples != m.Samples {
		s.fault(0, "samples", "manifest", fmt.Sprintf("the file holds %d samples, the manifest says %d", s.samples, m.Samples), do)
	}
	return nil
}

// scanFolder reads a folder of one file a sample.
func (s *scanner) scanFolder(t *target, rep *FileReport) error {
	s.wholeText = true
	s.formats = []string{fmt.Sprintf("folder of %d files", len(t.files))}
	fileSum, contentSum := sha256.New(), sha256.New()
	for _, path := range t.files {
		f, err := s.openRegular(path)
		if err != nil {
			return err
		}
		if f == nil {
			continue
		}
		sum, err := s.scanFile(path, f, true)
		f.Close()
		if err != nil {
			return err
		}
		fmt.Fprintf(fileSum, "%s  %s\n", sum.fileHex(), filepath.Base(path))
		fmt.Fprintf(contentSum, "%s  %s\n", sum.contentHex(), filepath.Base(path))
		rep.Bytes += sum.fileBytes
		rep.ContentBytes += sum.contentBytes
	}
	rep.SHA256, rep.ContentSHA256 = hex.EncodeToString(fileSum.Sum(nil)), hex.EncodeToString(contentSum.Sum(nil))
	return nil
}

// highShare is the share of shared prefix from which it is said.
const highShare = 0.05

// summarise fills in the report and says what concerns the set as a whole.
func (s *scanner) summarise(rep *FileReport) {
	rep.Format = s.format()
	rep.Samples = s.samples
	rep.PromptTokens, rep.TargetTokens = s.promptStats.stats(), s.targetStats.stats()
	rep.Tokenizer = s.info()
	rep.SharedPrefixShare = round4(s.prefixes.share())
	rep.IdenticalPrompts = s.identical
	rep.NotKeptFrom, rep.PrefixNotKeptFrom = s.forgot, s.prefixes.forgot
	rep.Fits = s.fits
	if s.identical > 0 {
		s.warn(0, "prompt", "identical", fmt.Sprintf("%d samples have the prompt of an earlier one (%s)", s.identical, strings.Join(s.identicalAt, ", ")),
			"make them differ: with prefix caching on, an equal prompt costs no prefill")
	}
	if share := rep.SharedPrefixShare; share > highShare {
		s.warn(0, "prompt", "shared_prefix", fmt.Sprintf("%.1f %% of the prompt tokens are the beginning of an earlier prompt, in whole blocks of %d", 100*share, BlockTokens),
			"know that this alone decides what prefix caching gains (experiments 6A and 6B), and that it flatters every prefill figure")
	}
	s.checkName(rep)
	for _, f := range s.fits {
		if f.Capped+f.Impossible == 0 {
			continue
		}
		what := fmt.Sprintf("%s: %d of %d samples do not fit max-model-len %d with their full target, by up to %d tokens", f.Name, f.Capped+f.Impossible, s.samples, f.MaxModelLen, f.WorstOverTokens)
		if f.Impossible > 0 {
			what += fmt.Sprintf("; %d do not fit at all", f.Impossible)
		}
		s.warn(0, "target_tokens", "does_not_fit", what, "their answers are capped and the result is labelled; raise max-model-len to have them whole")
	}
	if c := s.counted; c.differ > 0 {
		s.warn(0, "prompt_tokens", "count_differs", fmt.Sprintf("%d of %d counts differ from the tokenizer's, the worst by %+d (sample %s)", c.differ, c.n, c.worst, c.worstAt),
			"count with this tokenizer, or leave prompt_tokens out")
	}
	if s.oddCounts > 0 {
		s.warn(0, "prompt_tokens", "count_odd", fmt.Sprintf("%d counts cannot be right (%s)", s.oddCounts, s.oddCountAt), "leave prompt_tokens out: it is then counted or estimated")
	}
	if s.droppedTurns > 0 {
		s.warn(0, "conversations", "turns_dropped", fmt.Sprintf("%d turns are not used: a conversation gives its first question, and its first answer's length", s.droppedTurns),
			"this is what vLLM's own benchmark does; for whole conversations write \"messages\"")
	}
	if n := s.targetStats.missing; n > 0 && s.samples > 0 && len(s.faults.list) == 0 {
		s.warn(0, "target_tokens", "no_target", fmt.Sprintf("%d of %d samples do not say how long an answer to ask for", n, s.samples), "give --max-tokens when you run it")
	}
	if n := s.forgot; n > 0 {
		s.warn(0, "", "not_compared", fmt.Sprintf("from sample %d on, samples were compared with those before it only: duplicate ids and identical prompts among the later ones are not found", n), "split the file to compare more")
	}
	if n := s.prefixes.forgot; n > 0 {
		s.warn(0, "prompt", "prefix_not_compared", fmt.Sprintf("from prompt %d on, shared prefixes were looked for in the prompts before it only: more than %.1f %% may be shared", n, 100*rep.SharedPrefixShare), "split the file to compare more")
	}
	rep.Faults, rep.MoreFaults = s.faults.list, s.faults.more
	rep.Warnings, rep.MoreWarnings = s.warnings.list, s.warnings.more
	if rep.Faults == nil {
		rep.Faults = []Fault{}
	}
	if rep.Warnings == nil {
		rep.Warnings = []Fault{}
	}
}

// nameTolerance is how far the mean of a set named 8k or 64k may be from what
// the name promises.
const nameTolerance = 0.25

// checkName compares token counts with what the set's name promises.
func (s *scanner) checkName(rep *FileReport) {
	for _, spec := range Specs() {
		if spec.Name != rep.Name || rep.PromptTokens.Count == 0 {
			continue
		}
		off := func(got TokenStats, want int) bool {
			return got.Count > 0 && math.Abs(got.Mean/float64(want)-1) > nameTolerance
		}
		var fields, want, got []string
		if off(rep.PromptTokens, spec.PromptTokens) {
			fields, want, got = append(fields, "prompt_tokens"), append(want, fmt.Sprintf("%d prompt", spec.PromptTokens)), append(got, fmt.Sprintf("%.0f", rep.PromptTokens.Mean))
		}
		if off(rep.TargetTokens, spec.TargetTokens) {
			fields, want, got = append(fields, "target_tokens"), append(want, fmt.Sprintf("%d target", spec.TargetTokens)), append(got, fmt.Sprintf("%.0f", rep.TargetTokens.Mean))
		}
		if len(fields) > 0 {
			s.warn(0, strings.Join(fields, ", "), "name", fmt.Sprintf("a set named %s has about %s tokens, this has %s on average", spec.Name, strings.Join(want, " and "), strings.Join(got, " and ")),
				"results are not comparable with those of the plan's data set; give it another name")
		}
	}
}
