package datasets

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/glm46/glm46/datasets/gen"
)

func generate(t *testing.T, o GenOptions) (*Result, *Set) {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	if o.Dataset == "" {
		o.Dataset = "8k"
	}
	res, err := Generate(ctx, o)
	require.NoError(t, err)
	set, err := Load(ctx, o.Dir, o.Dataset, LoadOptions{})
	require.NoError(t, err)
	return res, set
}

// The plan's sets have the plan's shape, and pass their own verification
// without a warning.
func TestGeneratedSets(t *testing.T) {
	for _, spec := range Specs() {
		samples := 60
		if spec.Name == "64k" {
			samples = 8
		}
		dir := t.TempDir()
		_, set := generate(t, GenOptions{Dataset: spec.Name, Dir: dir, Samples: samples, Seed: 7})
		info := set.Info()
		if info.Samples != samples || info.SharedPrefixShare != 0 || info.IdenticalPrompts != 0 {
			t.Errorf("%s: %d samples, shared %v, identical %d", spec.Name, info.Samples, info.SharedPrefixShare, info.IdenticalPrompts)
		}
		if m := info.PromptTokens.Mean / float64(spec.PromptTokens); m < 0.97 || m > 1.03 {
			t.Errorf("%s: mean prompt %v", spec.Name, info.PromptTokens.Mean)
		}
		if info.TargetTokens.Min != int64(spec.TargetTokens) || info.TargetTokens.Max != int64(spec.TargetTokens) {
			t.Errorf("%s: targets %+v", spec.Name, info.TargetTokens)
		}
		if len(info.Kinds) != len(gen.Kinds()) {
			t.Errorf("%s: kinds %v", spec.Name, info.Kinds)
		}
		rep, err := Verify(ctx, []string{dir}, VerifyOptions{})
		require.NoError(t, err)
		if !rep.OK() || len(rep.Files[0].Warnings) > 0 || rep.Files[0].ContentSHA256 != set.Manifest.ContentSHA256 || rep.Files[0].SharedPrefixShare != set.Manifest.SharedPrefixShare {
			t.Errorf("%s: %+v", spec.Name, rep.Files[0])
		}
	}
}

func TestSameSeedSameBytes(t *testing.T) {
	a, _ := generate(t, GenOptions{Samples: 10, Seed: 3})
	b, _ := generate(t, GenOptions{Samples: 10, Seed: 3})
	c, _ := generate(t, GenOptions{Samples: 10, Seed: 4})
	if a.Manifest.SHA256 != b.Manifest.SHA256 {
		t.Error("the same seed gave other bytes")
	}
	if a.Manifest.ContentSHA256 == c.Manifest.ContentSHA256 {
		t.Error("another seed gave the same bytes")
	}
	// A change of the text generator changes data sets that people have
	// results for: raise generatorVersion with it.
	const want = "d5436a82971aeefef6ffc58dc7b39dc816987d82772b51f0866573a86532e9ad"
	if a.Manifest.ContentSHA256 != want {
		t.Errorf("content of seed 3 is %s, was %s: raise generatorVersion", a.Manifest.ContentSHA256, want)
	}
}

func TestRepeatKind(t *testing.T) {
	for _, tt := range []struct {
		set           string
		times, tokens int
		samples       int
	}{{"8k", 50, 6100, 100}, {"64k", 400, 48000, 8}} {
		_, set := generate(t, GenOptions{Dataset: tt.set, Kind: KindRepeat, Samples: tt.samples, Seed: 1})
		if s := set.Info().SharedPrefixShare; s < 0.985*float64(tt.samples-1)/float64(tt.samples) || s >= 1 {
			t.Errorf("%s: shared prefix %v, want 0.99 of all but the first", tt.set, s)
		}
		if m := set.Info().PromptTokens; m.Min < m.Max-20 || m.Mean < 0.99*float64(tt.tokens) || m.Mean > 1.01*float64(tt.tokens) {
			t.Errorf("%s: prompts of %d to %d tokens", tt.set, m.Min, m.Max)
		}
		p := set.Samples[0].Prompt
		middle := p[len(p)/2:]
		sentence := middle[strings.Index(middle, "\n\n")+2:][:60]
		if n := strings.Count(p, sentence); n < tt.times-1 || n > tt.times {
			t.Errorf("%s: the paragraph occurs %d times, want %d", tt.set, n, tt.times)
		}
		if !strings.HasPrefix(p[strings.LastIndex(p, "\n\n")+2:], "Write a detailed essay") {
			t.Errorf("%s: no topic at the end: %q", tt.set, p[len(p)-200:])
		}
		if len(set.Warnings) == 0 || set.Warnings[0].Code != "shared_prefix" {
			t.Errorf("%s: Load does not say that prefixes are shared: %v", tt.set, set.Warnings)
		}
	}
}

func TestSharedPrefixOption(t *testing.T) {
	for _, tt := range []struct {
		share  float64
		groups int
		want   float64
	}{{0.5, 1, 0.5 * 39 / 40}, {0.5, 4, 0.5 * 36 / 40}, {0.25, 2, 0.25 * 38 / 40}} {
		_, set := generate(t, GenOptions{Samples: 40, Seed: 1, SharedPrefixShare: tt.share, PrefixGroups: tt.groups, Languages: []string{"en"}})
		if got := set.Info().SharedPrefixShare; got < tt.want-0.05 || got > tt.want+0.05 {
			t.Errorf("share %v in %d groups: %v, want %v", tt.share, tt.groups, got, tt.want)
		}
	}
}

func TestSelfRepetitionOption(t *testing.T) {
	repeated := func(x float64) float64 {
		_, set := generate(t, GenOptions{Samples: 8, Seed: 1, Kind: KindDocuments, Languages: []string{"en"}, SelfRepetition: x})
		total, again := 0, 0
		for _, s := range set.Samples {
			seen := map[string]bool{}
			for _, line := range strings.Split(s.Prompt, "\n") {
				if len(line) < 80 {
					continue
				}
				total++
				if seen[line] {
					again++
				}
				seen[line] = true
			}
		}
		return float64(again) / float64(total)
	}
	none, some, much := repeated(-1), repeated(0.3), repeated(0.7)
	if none != 0 || some < 0.2 || some > 0.4 || much < 0.6 || much > 0.8 {
		t.Errorf("asked for 0, 0.3, 0.7; found %.2f, %.2f, %.2f", none, some, much)
	}
}

func TestFromFiles(t *testing.T) {
	src := t.TempDir()
	for name, text := range map[string]string{
		"a.go":             strings.Repeat("package a // a line of source text, number one\n", 200),
		"b/b.md":           strings.Repeat("Some *prose* about something else entirely.\n", 300),
		"b/bin.dat":        "\x00\x01" + strings.Repeat("x", 500),
		"testdata/odd.txt": strings.Repeat("must not be used\n", 100),
		".git/config.txt":  strings.Repeat("must not be used\n", 100),
		"min.js":           "must not be used " + strings.Repeat("x", 5000),
		"latin.txt":        strings.Repeat("must not be used \xe9\n", 100),
		"figures.csv":      strings.Repeat("must not be used 123456789,123456789,123456789\n", 100),
		"tiny.txt":         "must not be used",
	} {
		writeFile(t, filepath.Join(src, name), []byte(text))
	}
	require.NoError(t, os.Symlink("/etc/passwd", filepath.Join(src, "link.txt")))
	res, set := generate(t, GenOptions{Samples: 5, Seed: 1, From: src})
	for _, s := range set.Samples {
		if strings.Contains(s.Prompt, "must not be used") || strings.Contains(s.Prompt, "root:") {
			t.Errorf("sample %s uses a file that it must not", s.ID)
		}
		if !strings.Contains(s.Prompt, "File `a.go`") && !strings.Contains(s.Prompt, "File `b/b.md`") {
			t.Errorf("sample %s names no file", s.ID)
		}
	}
	if len(res.Notes) != 1 || !strings.Contains(res.Notes[0], "times over") {
		t.Errorf("little text must be said: %q", res.Notes)
	}
	if g := res.Manifest.Generator; g.Source != "files" || g.SourceFiles == 0 || g.SourceSHA256 == "" {
		t.Errorf("generator %+v", g)
	}
	var bad *SourceError
	for _, dir := range []string{t.TempDir(), filepath.Join(src, "a.go"), filepath.Join(src, "none")} {
		if _, err := Generate(ctx, GenOptions{Dataset: "8k", Dir: t.TempDir(), From: dir}); !errors.As(err, &bad) {
			t.Errorf("from %s: %v", dir, err)
		}
	}
}

// Go's own source is what the main run uses.
func TestFromGoSource(t *testing.T) {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Skip("no go command:", err)
	}
	src := filepath.Join(strings.TrimSpace(string(out)), "src")
	if _, err := os.Stat(src); err != nil {
		t.Skip("no Go source tree:", err)
	}
	a, set := generate(t, GenOptions{Samples: 20, Seed: 1, From: src})
	b, _ := generate(t, GenOptions{Samples: 20, Seed: 1, From: src})
	if a.Manifest.SHA256 != b.Manifest.SHA256 {
		t.Error("the same tree and seed gave other bytes")
	}
	info := set.Info()
	if info.SharedPrefixShare > 0.01 || info.PromptTokens.Mean < 5900 || info.PromptTokens.Mean > 6300 || len(a.Notes) > 0 {
		t.Errorf("shared %v, mean %v, notes %v", info.SharedPrefixShare, info.PromptTokens.Mean, a.Notes)
	}
}

func TestGenerateOptions(t *testing.T) {
	var bad *GenError
	for option, o := range map[string]GenOptions{
		"dataset":         {Dataset: "9k"},
		"kind":            {Dataset: "8k", Kind: "poems"},
		"samples":         {Dataset: "8k", Samples: -1},
		"prompt-tokens":   {Dataset: "8k", PromptTokens: 10},
		"shared-prefix":   {Dataset: "8k", SharedPrefixShare: 1.5},
		"self-repetition": {Dataset: "8k", SelfRepetition: 2},
		"languages":       {Dataset: "8k", Languages: []string{"xx"}},
	} {
		o.Dir = t.TempDir()
		if _, err := Generate(ctx, o); !errors.As(err, &bad) || bad.Option != option {
			t.Errorf("%s: %v", option, err)
		}
	}
	if _, err := Generate(ctx, GenOptions{Dataset: "8k", Dir: t.TempDir(), From: "x", Kind: KindRepeat}); !errors.As(err, &bad) {
		t.Errorf("--from and --kind: %v", err)
	}
}

// What was not generated is never replaced; what was, is.
func TestGenerateReplacesOnlyItsOwn(t *testing.T) {
	dir := t.TempDir()
	mine := filepath.Join(dir, "8k.jsonl")
	writeFile(t, mine, []byte(good))
	var exists *ExistsError
	if _, err := Generate(ctx, GenOptions{Dataset: "8k", Dir: dir, Samples: 2}); !errors.As(err, &exists) || exists.Path != mine {
		t.Errorf("another form in the way: %v", err)
	}
	require.NoError(t, os.Rename(mine, filepath.Join(dir, "8k.jsonl.zst")))
	if _, err := Generate(ctx, GenOptions{Dataset: "8k", Dir: dir, Samples: 2}); !errors.As(err, &exists) {
		t.Errorf("the same name without manifest: %v", err)
	}
	require.NoError(t, os.Remove(filepath.Join(dir, "8k.jsonl.zst")))

	first, _ := generate(t, GenOptions{Dir: dir, Samples: 2, Seed: 1})
	again, _ := generate(t, GenOptions{Dir: dir, Samples: 2, Seed: 1})
	other, _ := generate(t, GenOptions{Dir: dir, Samples: 2, Seed: 2})
	long, set := generate(t, GenOptions{Dir: dir, Dataset: "64k", Samples: 1})
	if first.Unchanged || !again.Unchanged || other.Unchanged || long.Unchanged {
		t.Errorf("unchanged: %v %v %v %v", first.Unchanged, again.Unchanged, other.Unchanged, long.Unchanged)
	}
	man, err := readManifestFile(dir)
	require.NoError(t, err)
	if len(man.Sets) != 2 || man.Sets["8k"].SHA256 != other.Manifest.SHA256 || set.Manifest == nil {
		t.Errorf("manifest %+v", man.Sets)
	}
	left, err := filepath.Glob(filepath.Join(dir, ".*"))
	require.NoError(t, err)
	if len(left) != 1 || filepath.Base(left[0]) != lockFileName {
		t.Errorf("temporary files left: %v", left)
	}
}

// Several jobs that make a missing set at once all find a whole one.
func TestConcurrentGenerate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "data")
	var wg sync.WaitGroup
	errs := make(chan error, 32)
	for i := range 6 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			name := []string{"8k", "64k"}[i%2]
			_, err := Generate(ctx, GenOptions{Dataset: name, Dir: dir, Samples: 2, Seed: uint64(i / 4)})
			errs <- err
			_, err = Load(ctx, dir, name, LoadOptions{})
			errs <- err
		}()
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
	rep, err := Verify(ctx, []string{dir}, VerifyOptions{})
	require.NoError(t, err)
	if !rep.OK() || len(rep.Files) != 2 {
		t.Errorf("%+v", rep.Files)
	}
}

// An interrupted generation leaves nothing behind.
func TestInterruptedGenerate(t *testing.T) {
	dir := t.TempDir()
	c, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := Generate(c, GenOptions{Dataset: "8k", Dir: dir}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	unlock, err := lockDir(ctx, dir)
	require.NoError(t, err)
	c, cancel = context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	if _, err := Generate(c, GenOptions{Dataset: "8k", Dir: dir}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while another job holds the lock: %v", err)
	}
	unlock()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	if len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}
