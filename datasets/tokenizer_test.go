package datasets

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func fixtureTokenizer(t testing.TB) *Tokenizer {
	t.Helper()
	tok, err := OpenTokenizer("tokenize/testdata/cl100k.json")
	require.NoError(t, err)
	return tok
}

// With a tokenizer, lengths are exact to the token and nothing is estimated.
func TestGenerateExactWithTokenizer(t *testing.T) {
	tok := fixtureTokenizer(t)
	for _, o := range []GenOptions{
		{Samples: 12, Seed: 5, PromptTokens: 3000},
		{Samples: 4, Seed: 5, PromptTokens: 3000, Kind: KindRepeat},
		{Samples: 4, Seed: 5, PromptTokens: 3000, SharedPrefixShare: 0.5},
	} {
		o.Dataset, o.Dir, o.Tokenizer = "8k", t.TempDir(), tok
		res, err := Generate(ctx, o)
		require.NoError(t, err)
		set, err := Load(ctx, o.Dir, "8k", LoadOptions{Tokenizer: tok})
		require.NoError(t, err)
		if res.Manifest.Tokenizer != tok.Info() || res.Manifest.PromptTokens.Estimated != 0 {
			t.Errorf("manifest says %+v", res.Manifest.Tokenizer)
		}
		for i, s := range set.Samples {
			if n := tok.CountTokens(s.Prompt); n != s.PromptTokens || s.PromptTokensEstimated {
				t.Errorf("%s sample %d: %d tokens, the file says %d", o.Kind, i, n, s.PromptTokens)
			}
		}
		for _, w := range set.Warnings {
			if w.Code == "count_differs" {
				t.Error(w)
			}
		}
		if o.Kind == KindRepeat {
			if p := res.Manifest.PromptTokens; p.Min != 3000 || p.Max != 3000 {
				t.Errorf("repeat: %d to %d tokens, want 3000", p.Min, p.Max)
			}
		}
	}
}

// The length asked for is met exactly, not only counted.
func TestAssembleIsExact(t *testing.T) {
	tok := fixtureTokenizer(t)
	o := GenOptions{Dataset: "8k", Seed: 1, PromptTokens: 2000, Tokenizer: tok}
	o, err := o.withDefaults()
	require.NoError(t, err)
	build := o.promptBuilder(tok, nil)
	lengths := map[int]int{}
	for i := range 20 {
		_, text, err := build(i)
		require.NoError(t, err)
		lengths[tok.CountTokens(text)]++
	}
	// What the builder aimed at: the same stream of lengths.
	plain := o
	plain.Tokenizer = nil
	for n := range lengths {
		if n < 2000*92/100-1 || n > 2000*108/100+1 {
			t.Errorf("a prompt of %d tokens, want 2000 within 8 %%", n)
		}
	}
	for _, target := range []int{500, 501, 502, 503, 997} {
		src := &listPassages{}
		if n := tok.CountTokens(assemble("", src, "x", target, tok.CountTokens, true)); n != target {
			t.Errorf("asked for %d tokens, got %d", target, n)
		}
		src = &listPassages{}
		n := EstimateTokens(assemble("", src, "x", target, EstimateTokens, false))
		if d := float64(n)/float64(target) - 1; d < -0.01 || d > 0.01 {
			t.Errorf("asked for %d tokens by estimate, got %d", target, n)
		}
	}
}

// listPassages is a source of simple passages.
type listPassages struct{ n int }

func (*listPassages) Header(label string) string { return "Request " + label + "\n\n" }
func (*listPassages) Closing() string            { return "What is this?\n" }
func (l *listPassages) Next() string {
	l.n++
	return fmt.Sprintf("Passage %d has some words, 泵站 and more: %s.\n\n", l.n, strings.Repeat("very ", l.n%9))
}

// Counts of the file are compared with the tokenizer's; shared prefixes are
// counted in its own blocks.
func TestVerifyWithTokenizer(t *testing.T) {
	tok := fixtureTokenizer(t)
	shared := strings.Repeat("The same words again and again. ", 40)
	a, b := shared+"first", shared+"second"
	path := filepath.Join(t.TempDir(), "s.jsonl")
	writeFile(t, path, []byte(fmt.Sprintf(`{"id":"a","prompt":%q,"prompt_tokens":%d,"target_tokens":9}`+"\n"+`{"id":"b","prompt":%q,"prompt_tokens":%d,"target_tokens":9}`+"\n",
		a, tok.CountTokens(a), b, tok.CountTokens(b)+3)))
	rep, err := Verify(ctx, []string{path}, VerifyOptions{LoadOptions: LoadOptions{Tokenizer: tok}})
	require.NoError(t, err)
	found := ""
	for _, w := range rep.Files[0].Warnings {
		if w.Code == "count_differs" {
			found = w.What
		}
	}
	if want := `1 of 2 counts differ from the tokenizer's, the worst by -3 (sample "b")`; found != want {
		t.Errorf("got %q, want %q", found, want)
	}
	blocks := 0
	ia, ib := tok.EncodeTokens(nil, a), tok.EncodeTokens(nil, b)
	for i := 0; i+BlockTokens < len(ib) && fmt.Sprint(ia[:i+BlockTokens]) == fmt.Sprint(ib[:i+BlockTokens]); i += BlockTokens {
		blocks++
	}
	set, err := Load(ctx, path, "", LoadOptions{Tokenizer: tok})
	require.NoError(t, err)
	want := float64(blocks*BlockTokens) / float64(len(ia)+len(ib))
	got := SharedPrefixShare(set.Samples, tok)
	if got < want-0.01 || got > want+0.01 {
		t.Errorf("shared prefix %v, want %v", got, want)
	}
}
