package datasets

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/klauspost/compress/zstd"

	"github.com/glm46/glm46/datasets/gen"
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

// GenError says that an option of Generate has no meaning (exit 2).
type GenError struct {
	// Option is the flag's name without dashes ("dataset").
	Option string
	// What is wrong with it.
	What string
}

// Error says which option is wrong and why.
func (e *GenError) Error() string { return e.Option + ": " + e.What }

// generatorVersion changes when the same options give another content.
const generatorVersion = 1

// DatasetSpec is the shape of one of the plan's data sets.
type DatasetSpec struct {
	Name         string
	PromptTokens int
	TargetTokens int
}

// Specs lists the data sets of the experiment plan.
// Source: the plan's table of data sets, and its baseline's prompt tokens.
func Specs() []DatasetSpec {
	return []DatasetSpec{{"8k", 6100, 8192}, {"64k", 48000, 64000}}
}

// promptSpread is how far a prompt's length may be from the set's, as a share:
// real requests are not all of one length, and subsets need strata.
const promptSpread = 0.08

// withDefaults fills in the options or says what is wrong with them.
func (o GenOptions) withDefaults() (GenOptions, error) {
	spec := DatasetSpec{}
	for _, s := range Specs() {
		if s.Name == o.Dataset {
			spec = s
		}
	}
	if spec.Name == "" {
		return o, &GenError{"dataset", fmt.Sprintf("unknown data set %q; want 8k or 64k", o.Dataset)}
	}
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	def(&o.Samples, 100)
	def(&o.PromptTokens, spec.PromptTokens)
	def(&o.TargetTokens, spec.TargetTokens)
	def(&o.PrefixGroups, 1)
	if o.Dir == "" {
		o.Dir = DefaultDir
	}
	if o.Kind == "" {
		o.Kind = KindMixed
	}
	known := false
	for _, k := range Kinds() {
		known = known || k == o.Kind
	}
	switch {
	case !known:
		return o, &GenError{"kind", fmt.Sprintf("unknown kind %q; want one of %s", o.Kind, strings.Join(Kinds(), ", "))}
	case o.From != "" && o.Kind != KindMixed:
		return o, &GenError{"kind", fmt.Sprintf("%s text cannot be made from files; leave out one of --kind and --from", o.Kind)}
	case o.Samples < 0 || o.Samples > 1_000_000:
		return o, &GenError{"samples", fmt.Sprintf("want 1 to 1,000,000, got %d", o.Samples)}
	case o.PromptTokens < 200 || o.PromptTokens > 2_000_000:
		return o, &GenError{"prompt-tokens", fmt.Sprintf("want 200 to 2,000,000, got %d", o.PromptTokens)}
	case o.TargetTokens < 1:
		return o, &GenError{"target-tokens", fmt.Sprintf("want at least 1, got %d", o.TargetTokens)}
	case !(o.SharedPrefixShare >= 0 && o.SharedPrefixShare <= 0.9):
		return o, &GenError{"shared-prefix", fmt.Sprintf("want a share from 0 to 0.9, got %v", o.SharedPrefixShare)}
	case o.PrefixGroups < 1:
		return o, &GenError{"prefix-groups", fmt.Sprintf("want at least 1, got %d", o.PrefixGroups)}
	case !(o.SelfRepetition <= 0.95):
		return o, &GenError{"self-repetition", fmt.Sprintf("want a share from 0 to 0.95, got %v", o.SelfRepetition)}
	}
	for _, l := range o.Languages {
		if !contains(gen.Languages(), l) {
			return o, &GenError{"languages", fmt.Sprintf("unknown language %q; want some of %s", l, strings.Join(gen.Languages(), ", "))}
		}
	}
	return o, nil
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

// Generate writes a data set and its manifest, whole or not at all.
//
// Two processes may generate into one folder at once. A set that was not
// generated is never replaced: *ExistsError. Options without meaning are
// *GenError, a From without text *SourceError.
func Generate(ctx context.Context, opts GenOptions) (*Result, error) {
	o, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Dir, 0o777); err != nil {
		return nil, fmt.Errorf("make the data folder: %w", err)
	}
	unlock, err := lockDir(ctx, o.Dir)
	if err != nil {
		return nil, err
	}
	defer unlock()

	file := o.Dataset + ".jsonl.zst"
	path := filepath.Join(o.Dir, file)
	man, err := readManifestFile(o.Dir)
	if err != nil {
		return nil, err
	}
	if err := mayReplace(o, man, file); err != nil {
		return nil, err
	}
	out, err := newSetWriter(path)
	if err != nil {
		return nil, err
	}
	defer out.cleanup()
	m, notes, err := o.writeSamples(ctx, out)
	if err != nil {
		return nil, err
	}
	if err := out.close(); err != nil {
		return nil, fmt.Errorf("write %s: %w", path, err)
	}
	m.File = file
	m.Bytes, m.SHA256 = out.fileBytes, hex.EncodeToString(out.fileSum.Sum(nil))
	m.ContentBytes, m.ContentSHA256 = out.contentBytes, hex.EncodeToString(out.contentSum.Sum(nil))
	res := &Result{Set: o.Dataset, Path: path, ManifestPath: filepath.Join(o.Dir, ManifestFileName), Manifest: m, Notes: notes}

	if old := man.Sets[o.Dataset]; old != nil && sameManifest(old, m) && sameFile(path, m) {
		res.Unchanged = true
		return res, nil
	}
	// Between the two renames there must be no manifest that speaks of another
	// file: the old entry goes first.
	if man.Sets[o.Dataset] != nil {
		delete(man.Sets, o.Dataset)
		if err := writeManifestFile(o.Dir, man); err != nil {
			return nil, err
		}
	}
	if err := out.commit(); err != nil {
		return nil, fmt.Errorf("write %s: %w", path, err)
	}
	man.Sets[o.Dataset] = m
	return res, writeManifestFile(o.Dir, man)
}

// mayReplace says whether the set's file, in any form, is missing or ours.
func mayReplace(o GenOptions, man *ManifestFile, file string) error {
	old := man.Sets[o.Dataset]
	for _, name := range setFileNames(o.Dataset) {
		path := filepath.Join(o.Dir, name)
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if name == file && old != nil && old.Generator != nil && old.File == file {
			continue
		}
		return &ExistsError{Path: path}
	}
	return nil
}

func sameManifest(a, b *Manifest) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// sameFile says whether path holds the bytes that m describes.
func sameFile(path string, m *Manifest) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	return err == nil && n == m.Bytes && hex.EncodeToString(h.Sum(nil)) == m.SHA256
}

// writtenRecord is the form of a sample on disk. Order and names are fixed.
type writtenRecord struct {
	ID                    string `json:"id"`
	Kind                  string `json:"kind"`
	Prompt                string `json:"prompt"`
	PromptTokens          int    `json:"prompt_tokens"`
	PromptTokensEstimated bool   `json:"prompt_tokens_estimated,omitempty"`
	TargetTokens          int    `json:"target_tokens"`
}

// writeSamples writes all samples and gathers what the manifest says of them.
func (o GenOptions) writeSamples(ctx context.Context, w io.Writer) (*Manifest, []string, error) {
	counter := o.Tokenizer
	if counter == nil {
		counter = estimator{}
	}
	info := &GeneratorInfo{Name: "glm46", Version: generatorVersion, Kind: o.Kind, Seed: o.Seed, Source: "synthetic"}
	var pool *textPool
	if o.From != "" {
		var err error
		// A third of a prompt from one file: most prompts then hold several.
		if pool, err = openPool(ctx, o.From, o.Seed, o.PromptTokens*4/3); err != nil {
			return nil, nil, err
		}
		defer pool.close()
	}
	var prompts, targets statsBuilder
	prefixes := newPrefixIndex(o.Tokenizer, true)
	seen := map[[32]byte]bool{}
	build := o.promptBuilder(counter, pool)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for i := range o.Samples {
		if ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
		kind, text, err := build(i)
		if err != nil {
			return nil, nil, err
		}
		sum := sha256.Sum256([]byte(text))
		if seen[sum] {
			return nil, nil, fmt.Errorf("internal error: prompt %d equals an earlier one", i)
		}
		seen[sum] = true
		n := counter.CountTokens(text)
		prompts.add(int64(n), o.Tokenizer == nil)
		targets.add(int64(o.TargetTokens), false)
		prefixes.addSample(text, false, int64(n))
		err = enc.Encode(writtenRecord{
			ID: fmt.Sprintf("%s-%04d", o.Dataset, i), Kind: kind, Prompt: text,
			PromptTokens: n, PromptTokensEstimated: o.Tokenizer == nil, TargetTokens: o.TargetTokens,
		})
		if err != nil {
			return nil, nil, fmt.Errorf("write sample %d: %w", i, err)
		}
	}
	var notes []string
	if pool != nil {
		info.Source = "files"
		info.SourceFiles, info.SourceBytes, info.SourceSHA256 = pool.files, pool.bytes, pool.sum()
		if pool.passes > 0 {
			notes = append(notes, fmt.Sprintf("%s holds less text than the set needs: it was used %d times over, in another order each time", o.From, pool.passes+1))
		}
	}
	return &Manifest{
		Samples: int64(o.Samples), PromptTokens: prompts.stats(), TargetTokens: targets.stats(),
		Tokenizer: counter.Info(), SharedPrefixShare: round4(prefixes.share()), Generator: info,
	}, notes, nil
}

func round4(x float64) float64 { return float64(int64(x*1e4+0.5)) / 1e4 }

// promptBuilder returns a function that makes prompt i.
func (o GenOptions) promptBuilder(counter TokenCounter, pool *textPool) func(i int) (kind, text string, err error) {
	count := counter.CountTokens
	exact := o.Tokenizer != nil
	if o.Kind == KindRepeat {
		return o.repeatBuilder(count, exact)
	}
	lengths := gen.NewRand(o.Seed, "lengths "+o.Dataset, 0)
	choices := gen.NewRand(o.Seed, "choices "+o.Dataset, 0)
	prefixes := map[int]string{}
	source := func(i int, purpose string) (string, passages) {
		if pool != nil {
			rep := max(o.SelfRepetition, 0)
			return "files", &filePassages{pool: pool, r: gen.NewRand(o.Seed, purpose+" "+o.Dataset, uint64(i)), rep: rep}
		}
		kind, lang := o.choose(choices, i)
		opts := gen.Options{Kind: kind, Language: lang, SelfRepetition: o.SelfRepetition}
		switch {
		case opts.SelfRepetition == 0:
			opts.SelfRepetition = gen.DefaultSelfRepetition(kind)
		case opts.SelfRepetition < 0:
			opts.SelfRepetition = 0
		}
		return kind, gen.NewPrompt(o.Seed, purpose+" "+o.Dataset, uint64(i), opts)
	}
	return func(i int) (string, string, error) {
		// The mean of two draws: most lengths near the middle.
		spread := (lengths.Float64() + lengths.Float64() - 1) * promptSpread
		target := int(float64(o.PromptTokens)*(1+spread) + 0.5)
		group := i % o.PrefixGroups
		prefix, ok := prefixes[group]
		if !ok && o.SharedPrefixShare > 0 {
			_, src := source(group, "prefix")
			prefix = assemble("", noClosing{src}, fmt.Sprintf("group %d", group), int(o.SharedPrefixShare*float64(o.PromptTokens)), count, exact)
			prefixes[group] = prefix
		}
		kind, src := source(i, "prompt")
		label := fmt.Sprintf("%05d-%08x", i, uint32(gen.NewRand(o.Seed, "label "+o.Dataset, uint64(i)).Uint64()))
		text := assemble(prefix, src, label, target, count, exact)
		if f, ok := src.(*filePassages); ok && f.err != nil {
			return "", "", f.err
		}
		return kind, text, nil
	}
}

// noClosing is a source whose text goes on.
type noClosing struct{ passages }

func (noClosing) Closing() string { return "" }

// choose returns kind and language of prompt i: kinds take turns, half of the
// prose is English.
func (o GenOptions) choose(r *gen.Rand, i int) (kind, lang string) {
	kind = o.Kind
	if kind == KindMixed {
		kind = gen.Kinds()[i%len(gen.Kinds())]
	}
	langs := o.Languages
	if len(langs) == 0 {
		if r.Chance(0.5) {
			return kind, "en"
		}
		langs = gen.Languages()[1:]
	}
	return kind, gen.Pick(r, langs)
}

// repeatBuilder makes the shape of the plan's first data set: one paragraph,
// 50 or 400 times, and a topic at the end.
func (o GenOptions) repeatBuilder(count func(string) int, exact bool) func(int) (string, string, error) {
	// 122 tokens x 50 and 120 x 400, as in the plan's data sets.
	times := 50
	if o.PromptTokens >= 12_000 {
		times = o.PromptTokens / 120
	}
	const topicTokens = 24
	size := max((o.PromptTokens-topicTokens)/times, 12)
	paragraph := cutTo(gen.RepeatParagraph(o.Seed, size, count), size, count)
	for i := 0; count(paragraph) < size && i < size; i++ {
		paragraph = strings.TrimRight(paragraph, "\n") + fillers[i%len(fillers)] + "\n\n"
	}
	body := strings.Repeat(paragraph, times)
	return func(i int) (string, string, error) {
		closing := gen.RepeatTopic(o.Seed, uint64(i))
		if exact {
			return KindRepeat, settle(body, closing, o.PromptTokens, count), nil
		}
		return KindRepeat, body + closing, nil
	}
}

// estimator is the TokenCounter without a tokenizer.
type estimator struct{}

func (estimator) CountTokens(text string) int { return EstimateTokens(text) }
func (estimator) Info() TokenizerInfo {
	return TokenizerInfo{Kind: "estimate", Calibration: estimateCalibration}
}

// estimateCalibration changes with the constants of the estimate.
const estimateCalibration = "glm-4.6/1"

// setWriter compresses a set into a file that appears only when it is whole.
type setWriter struct {
	pending                 *renameio.PendingFile
	buf                     *bufio.Writer
	zw                      *zstd.Encoder
	fileSum, contentSum     hash.Hash
	fileBytes, contentBytes int64
}

// windowBytes is how far back a match may lie. It fits the second-level cache of
// a processor, which expands a quarter faster then than with the level's own
// 8 MiB; files are 1 to 3 % larger (docs/performance.md, "Data sets").
const windowBytes = 1 << 20

func newSetWriter(path string) (*setWriter, error) {
	pending, err := renameio.NewPendingFile(path, renameio.WithTempDir(filepath.Dir(path)), renameio.WithPermissions(0o666))
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", path, err)
	}
	w := &setWriter{pending: pending, fileSum: sha256.New(), contentSum: sha256.New()}
	w.buf = bufio.NewWriterSize(pending, 1<<18)
	// One thread: the bytes must not depend on the machine.
	w.zw, err = zstd.NewWriter(fileSide{w}, zstd.WithEncoderCRC(true), zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithWindowSize(windowBytes))
	if err != nil {
		pending.Cleanup()
		return nil, fmt.Errorf("write %s: %w", path, err)
	}
	return w, nil
}

// fileSide takes the compressed bytes of a setWriter.
type fileSide struct{ w *setWriter }

func (f fileSide) Write(p []byte) (int, error) {
	f.w.fileSum.Write(p)
	f.w.fileBytes += int64(len(p))
	return f.w.buf.Write(p)
}

func (w *setWriter) Write(p []byte) (int, error) {
	w.contentSum.Write(p)
	w.contentBytes += int64(len(p))
	return w.zw.Write(p)
}

func (w *setWriter) close() error {
	if err := w.zw.Close(); err != nil {
		return err
	}
	return w.buf.Flush()
}

func (w *setWriter) commit() error { return w.pending.CloseAtomicallyReplace() }

// cleanup removes what was not committed.
func (w *setWriter) cleanup() { w.pending.Cleanup() }
