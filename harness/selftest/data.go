package selftest

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/glm46/glm46/datasets"
)

func dataGenerate(ctx context.Context, w *world, t *tally) {
	var files [2][]byte
	for i := range files {
		dir := w.path("generated", string(rune('a'+i)))
		o := datasets.GenOptions{Dataset: "8k", Samples: 6, Dir: dir, Seed: 5, PromptTokens: 400, TargetTokens: 64, SelfRepetition: -1}
		if _, err := datasets.Generate(ctx, o); t.err(err, "generate") {
			return
		}
		data, err := os.ReadFile(filepath.Join(dir, "8k.jsonl.zst"))
		if t.err(err, "generate") {
			return
		}
		files[i] = data
	}
	if !bytes.Equal(files[0], files[1]) {
		t.fail("one seed gave two data sets")
	}
	dir := w.path("generated", "a")
	report, err := datasets.Verify(ctx, []string{dir}, datasets.VerifyOptions{})
	if t.err(err, "verify") {
		return
	}
	if !report.OK() {
		t.fail("a new data set is found faulty")
	}
	set, err := datasets.Load(ctx, dir, "8k", datasets.LoadOptions{})
	if t.err(err, "load") {
		return
	}
	want(t, "samples", len(set.Samples), 6)
	for _, s := range set.Samples {
		want(t, s.ID+": target", s.TargetTokens, 64)
		if n := datasets.EstimateTokens(s.Text()); n < 300 || n > 500 {
			t.fail("%s: about %d prompt tokens instead of 400", s.ID, n)
		}
	}
	t.note("the same bytes from one seed; verified and read back: %d samples", len(set.Samples))
}

// dataFaults breaks a set in ways that disks and people do, each of which must
// be named with its file.
func dataFaults(ctx context.Context, w *world, t *tally) {
	dir := w.path("faults")
	if _, err := datasets.Generate(ctx, datasets.GenOptions{Dataset: "8k", Samples: 4, Dir: dir, Seed: 6, PromptTokens: 200, TargetTokens: 32, SelfRepetition: -1}); t.err(err, "generate") {
		return
	}
	path := filepath.Join(dir, "8k.jsonl.zst")
	good, err := os.ReadFile(path)
	if t.err(err, "generate") {
		return
	}
	flipped := bytes.Clone(good)
	flipped[len(flipped)/2] ^= 0x40
	for _, fault := range []struct {
		name string
		data []byte
		says string
	}{
		{"a flipped bit", flipped, ""},
		{"a truncated file", good[:len(good)*2/3], ""},
		{"an empty file", nil, ""},
		{"a second sample of one id", packed(`{"id":"a","prompt":"x","target_tokens":3}`, `{"id":"a","prompt":"y","target_tokens":3}`), "8k.jsonl.zst:2"},
		{"a negative count", packed(`{"id":"a","prompt":"x","target_tokens":-3}`), "target_tokens"},
		{"broken JSON", packed(`{"id":"a","prompt":"x"`), "8k.jsonl.zst:1"},
	} {
		if t.err(os.WriteFile(path, fault.data, 0o666), fault.name) {
			return
		}
		report, err := datasets.Verify(ctx, []string{dir}, datasets.VerifyOptions{})
		if t.err(err, fault.name) {
			continue
		}
		var texts []string
		for _, f := range report.Files {
			for _, x := range f.Faults {
				texts = append(texts, x.String())
			}
		}
		said := strings.Join(texts, "; ")
		if report.OK() || !strings.Contains(said, "8k.jsonl.zst") || !strings.Contains(said, fault.says) {
			t.fail("%s: verify says %q", fault.name, said)
		}
		var invalid *datasets.InvalidError
		if _, err := datasets.Load(ctx, dir, "8k", datasets.LoadOptions{}); !errors.As(err, &invalid) {
			t.fail("%s: load says %v", fault.name, err)
		}
	}
	t.note("bit flip, truncation, emptiness, double ids, bad counts and bad JSON are named")
}

func packed(lines ...string) []byte {
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		return nil
	}
	defer enc.Close()
	return enc.EncodeAll([]byte(strings.Join(lines, "\n")+"\n"), nil)
}
