package datasets

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/glm46/glm46/datasets/jsonscan"
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
	if opts.Limits.ExpandedBytes == 0 {
		opts.Limits.ExpandedBytes = defaultLoadBytes
	}
	for try := 0; ; try++ {
		t, extra, err := locate(path, name)
		if err != nil {
			return nil, err
		}
		set := &Set{Name: t.name, Path: t.path, Manifest: t.manifest}
		s := newScanner(ctx, t.name, VerifyOptions{LoadOptions: opts})
		s.sink = set.take
		s.prefixes = newPrefixIndex(opts.Tokenizer, true)
		s.ids.limit, s.prompts.limit = math.MaxInt, math.MaxInt // the samples are in memory anyway
		rep, err := s.scanTarget(t)
		if err != nil {
			return nil, err
		}
		if len(rep.Faults) > 0 {
			// Another job may have replaced set and manifest in between.
			if again, _, err := locate(path, name); try == 0 && err == nil && t.manifest != nil && !sameManifest(again.manifest, t.manifest) {
				continue
			}
			return nil, &InvalidError{Faults: rep.Faults, More: rep.MoreFaults}
		}
		set.Format, set.SHA256, set.ContentSHA256 = rep.Format, rep.SHA256, rep.ContentSHA256
		set.Bytes, set.ContentBytes = rep.Bytes, rep.ContentBytes
		set.Tokenizer, set.Warnings = rep.Tokenizer, rep.Warnings
		if len(extra) > 0 {
			set.Warnings = append(set.Warnings, Fault{File: t.path, Code: "several_forms", What: "is used; the set also lies there as " + strings.Join(extra, ", "), Do: "remove what is not meant"})
		}
		set.sharedPrefix, set.identical = rep.SharedPrefixShare, int(rep.IdenticalPrompts)
		return set, nil
	}
}

// defaultLoadBytes is the most that a set may expand to that is held in memory.
const defaultLoadBytes = 4 << 30

// take keeps a sample.
func (set *Set) take(s *scanner, r *record) {
	x := Sample{
		ID: r.id, PromptTokens: int(r.promptTokens), PromptTokensEstimated: r.promptEstimated, PromptTokensCounted: r.promptCounted,
		TargetTokens: int(r.targetTokens), TargetTokensEstimated: r.targetEstimated,
		File: s.file, Line: int(s.line),
	}
	if r.kind.Kind == jsonscan.String {
		x.Kind = clip(r.kind.Text(), 60)
	}
	switch {
	case r.text != nil:
		x.Prompt = string(r.text)
	case r.messages.Kind == jsonscan.Array:
		x.Messages = bytes.Clone(r.messages.Raw)
		if r.tools.Kind == jsonscan.Array {
			x.Tools = bytes.Clone(r.tools.Raw)
		}
	default:
		x.Prompt = r.prompt.Text()
	}
	if x.ID == "" {
		x.ID = strconv.FormatInt(s.samples, 10)
		if s.wholeText {
			x.ID = stem(filepath.Base(s.file))
			x.ID = strings.TrimSuffix(x.ID, filepath.Ext(x.ID))
		}
	}
	set.Samples = append(set.Samples, x)
}

// target is one data set on disk.
type target struct {
	name     string
	path     string
	files    []string // of a folder of one file a sample; nil for a file
	manifest *Manifest
	// missing: the manifest lists the set, but the file is not there.
	missing bool
}

// locate finds the set called name at path. extra are other forms of it.
func locate(path, name string) (t *target, extra []string, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil, notFound(path, name, err)
	}
	if !info.IsDir() {
		t, err := fileTarget(path)
		if err == nil && name != "" {
			t.name = name
		}
		return t, nil, err
	}
	home, err := openHome(path)
	if err != nil {
		return nil, nil, err
	}
	if name == "" {
		sets := home.targets()
		switch {
		case len(sets) == 1:
			return sets[0], nil, nil
		case len(sets) > 1:
			names := make([]string, len(sets))
			for i, s := range sets {
				names[i] = s.name
			}
			return nil, nil, &InvalidError{Faults: []Fault{{File: path, Code: "which", What: "holds several data sets: " + strings.Join(names, ", "), Do: "name one of them, or give the file"}}}
		}
		return nil, nil, notFound(path, name, nil)
	}
	found := home.named(name)
	switch {
	case len(found) > 0:
		for _, f := range found[1:] {
			extra = append(extra, filepath.Base(f.path))
		}
		return found[0], extra, nil
	case home.samples != nil && !home.isHome():
		t := *home.samples
		t.name = name
		return &t, nil, nil
	}
	return nil, nil, notFound(path, name, nil)
}

func notFound(path, name string, cause error) error {
	if cause != nil && !errors.Is(cause, fs.ErrNotExist) && !errors.Is(cause, syscall.ENOTDIR) {
		return fmt.Errorf("%s: %s", path, errText(cause))
	}
	e := &NotFoundError{Name: name, Path: path}
	if name != "" {
		e.Looked = append(setFileNames(name)[:4], name+"/")
	}
	for _, s := range Specs() {
		if s.Name == name && filepath.Ext(path) == "" {
			e.Command = fmt.Sprintf("glm46 datasets gen --dataset %s -o %s", name, shellWord(path))
		}
	}
	return e
}

// shellWord quotes a path for a command line that a person may copy.
func shellWord(s string) string {
	plain := s != ""
	for _, r := range s {
		plain = plain && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._/-+=:,@%", r))
	}
	if plain {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// fileTarget is the set of one file, with the entry of the manifest beside it.
func fileTarget(path string) (*target, error) {
	man, err := readManifestFile(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	base := filepath.Base(path)
	t := &target{name: setName(base), path: path}
	for _, name := range sortedKeys(man.Sets) {
		if man.Sets[name].File == base {
			t.name, t.manifest = name, man.Sets[name]
		}
	}
	return t, nil
}

func sortedKeys(m map[string]*Manifest) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// setName is the name of a set by its file: "8k" of "8k.jsonl.zst".
func setName(base string) string {
	name := stem(base)
	for _, ext := range setExts {
		name = strings.TrimSuffix(name, ext)
	}
	return name
}

var setExts = []string{".jsonl", ".ndjson", ".json", ".txt"}

// home is what a folder holds.
type home struct {
	path     string
	manifest *ManifestFile
	// records are files of many samples (JSON Lines, archives); objects are
	// files that may be one sample each or a set each (.json, .txt).
	records, objects []string
	dirs             []string
	samples          *target // the folder as one set, nil without objects
}

// openHome lists the data files of a folder.
func openHome(path string) (*home, error) {
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %s", path, errText(err))
	}
	man, err := readManifestFile(path)
	if err != nil {
		return nil, err
	}
	h := &home{path: path, manifest: man}
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, ".") || name == ManifestFileName {
			continue
		}
		lower := strings.ToLower(name)
		inner := stem(lower)
		switch {
		case e.IsDir():
			h.dirs = append(h.dirs, name)
		case strings.HasSuffix(inner, ".jsonl"), strings.HasSuffix(inner, ".ndjson"), strings.Contains(lower, ".tar"):
			h.records = append(h.records, name)
		case strings.HasSuffix(inner, ".json"), strings.HasSuffix(inner, ".txt"):
			h.objects = append(h.objects, name)
		}
	}
	if len(h.objects) > 0 {
		t := &target{name: filepath.Base(filepath.Clean(path)), path: path}
		for _, o := range h.objects {
			t.files = append(t.files, filepath.Join(path, o))
		}
		h.samples = t
	}
	return h, nil
}

// isHome says whether the folder holds data sets, rather than the samples of
// one.
func (h *home) isHome() bool {
	if len(h.manifest.Sets) > 0 || len(h.records) > 0 {
		return true
	}
	for _, s := range Specs() {
		for _, o := range append(h.objects, h.dirs...) {
			if setName(o) == s.Name {
				return true
			}
		}
	}
	return false
}

// named returns the forms of one set, the one to use first.
func (h *home) named(name string) []*target {
	var out []*target
	add := func(base string) {
		t := &target{name: name, path: filepath.Join(h.path, base)}
		if m := h.manifest.Sets[name]; m != nil && m.File == base {
			t.manifest = m
		}
		info, err := os.Stat(t.path)
		if err != nil {
			return
		}
		if info.IsDir() {
			sub, err := openHome(t.path)
			if err != nil || sub.samples == nil {
				return
			}
			t.files = sub.samples.files
		}
		for _, o := range out {
			if o.path == t.path {
				return
			}
		}
		out = append(out, t)
	}
	if !plainName(name) {
		return nil
	}
	if m := h.manifest.Sets[name]; m != nil && plainName(m.File) {
		add(m.File)
	}
	for _, base := range setFileNames(name) {
		add(base)
	}
	if len(out) == 0 && h.manifest.Sets[name] != nil && plainName(h.manifest.Sets[name].File) {
		// What the manifest lists and is not there in any form is a fault.
		m := h.manifest.Sets[name]
		return []*target{{name: name, path: filepath.Join(h.path, m.File), manifest: m, missing: true}}
	}
	return out
}

// plainName says whether a name stays in its folder.
func plainName(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/\\\x00")
}

// targets lists every set of the folder.
func (h *home) targets() []*target {
	if !h.isHome() {
		if h.samples == nil {
			return nil
		}
		return []*target{h.samples}
	}
	var out []*target
	seen := map[string]bool{}
	add := func(t *target) {
		if !seen[t.path] {
			seen[t.path] = true
			out = append(out, t)
		}
	}
	for _, name := range sortedKeys(h.manifest.Sets) {
		for _, t := range h.named(name)[:min(1, len(h.named(name)))] {
			add(t)
		}
	}
	for _, base := range append(append([]string(nil), h.records...), h.objects...) {
		if t, err := fileTarget(filepath.Join(h.path, base)); err == nil {
			add(t)
		}
	}
	for _, d := range h.dirs {
		for _, s := range Specs() {
			if d == s.Name {
				for _, t := range h.named(d) {
					if t.files != nil {
						add(t)
					}
				}
			}
		}
	}
	return out
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
