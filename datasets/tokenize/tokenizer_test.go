package tokenize

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/dlclark/regexp2/v2"
	"github.com/stretchr/testify/require"

	"github.com/glm46/glm46/datasets/gen"
)

func load(t testing.TB, name string) *Tokenizer {
	t.Helper()
	tok, err := Load(filepath.Join("testdata", name+".json"))
	require.NoError(t, err)
	return tok
}

type recorded struct {
	Text string  `json:"text"`
	IDs  []int32 `json:"ids"`
}

func strs(t testing.TB, name string) (out []recorded) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name+".strings.jsonl"))
	require.NoError(t, err)
	sc := bufio.NewScanner(bytes.NewReader(data))
	sc.Buffer(nil, 1<<22)
	for sc.Scan() {
		var r recorded
		require.NoError(t, json.Unmarshal(sc.Bytes(), &r))
		out = append(out, r)
	}
	return out
}

// The ids are those that HF tokenizers gave; compare/run.sh does this for
// 10,000 strings and larger vocabularies.
func TestAgainstReference(t *testing.T) {
	for _, name := range []string{"cl100k", "qwen", "gpt2-prefix", "other"} {
		tok := load(t, name)
		bad := 0
		for _, r := range strs(t, name) {
			got := tok.EncodeTokens(nil, r.Text)
			if !slices.Equal(got, r.IDs) || tok.CountTokens(r.Text) != len(r.IDs) {
				if bad++; bad < 4 {
					t.Errorf("%s: %q\ngot  %v\nwant %v", name, r.Text, got, r.IDs)
				}
			}
		}
	}
}

// A long piece takes another road through merging; the result is the same.
func TestLongPieces(t *testing.T) {
	tok := load(t, "cl100k")
	for _, piece := range []string{strings.Repeat("the", 30), strings.Repeat("abcabd", 40), strings.Repeat("a", 500), "internationalization" + strings.Repeat("ing", 50)} {
		s := newState()
		a := slices.Clone(tok.model.encode(nil, s, piece))
		// The same by hand: the simple way, whatever the length.
		sym := s.symbols[:0]
		for i := range len(piece) {
			n := int32(i)
			sym = append(sym, symbol{id: tok.model.bytes[piece[i]], prev: n - 1, next: n + 1, rank: noRank})
		}
		sym[len(sym)-1].next = -1
		for i := range sym[:len(sym)-1] {
			g := tok.model.merges.get(sym[i].id, sym[i+1].id)
			sym[i].rank, sym[i].merged = g.rank, g.id
		}
		tok.model.mergeShort(sym)
		var b []int32
		for i := int32(0); i >= 0; i = sym[i].next {
			b = append(b, sym[i].id)
		}
		if !slices.Equal(a, b) {
			t.Errorf("%.20q: queue %v, simple %v", piece, a, b)
		}
	}
}

// The splitters written by hand cut as the patterns say.
func TestSplittersAgainstPatterns(t *testing.T) {
	for pattern, next := range map[string]func(string) int{
		patternCL100K: func(s string) int { return nextCL100K(s, 3) },
		patternQwen:   func(s string) int { return nextCL100K(s, 1) },
		patternGPT2:   nextGPT2,
	} {
		re := step{pattern: regexp2.MustCompile(pattern)}
		hand := step{next: next}
		for _, r := range strs(t, "cl100k") {
			comparePieces(t, re, hand, r.Text)
		}
	}
}

func comparePieces(t *testing.T, re, hand step, text string) {
	t.Helper()
	var a, b []string
	re.cut(text, func(s string) { a = append(a, s) })
	hand.cut(text, func(s string) { b = append(b, s) })
	if !slices.Equal(a, b) {
		t.Fatalf("%q\npattern %q\nby hand %q", text, a, b)
	}
}

func FuzzSplit(f *testing.F) {
	for _, s := range []string{"don't I'LL", "x\n\n y\t z", "  a", "\r\n 1234 ½", "日本 語!?\n", "'ſ", "\u00a0x", "a\u0301b"} {
		f.Add(s)
	}
	steps := map[string]step{}
	for _, p := range []string{patternCL100K, patternQwen, patternGPT2} {
		steps[p] = step{pattern: regexp2.MustCompile(p)}
	}
	f.Fuzz(func(t *testing.T, text string) {
		if !utf8.ValidString(text) || len(text) > 2000 {
			return
		}
		comparePieces(t, steps[patternCL100K], step{next: func(s string) int { return nextCL100K(s, 3) }}, text)
		comparePieces(t, steps[patternQwen], step{next: func(s string) int { return nextCL100K(s, 1) }}, text)
		comparePieces(t, steps[patternGPT2], step{next: nextGPT2}, text)
	})
}

// Tokens decode to the text that they came from.
func FuzzTokenizer(f *testing.F) {
	for _, r := range strs(f, "cl100k")[:20] {
		f.Add(r.Text)
	}
	tok := load(f, "cl100k")
	var vocab struct {
		Model struct {
			Vocab map[string]int32 `json:"vocab"`
		} `json:"model"`
		Added []struct {
			ID      int32  `json:"id"`
			Content string `json:"content"`
			LStrip  bool   `json:"lstrip"`
		} `json:"added_tokens"`
	}
	data, err := os.ReadFile("testdata/cl100k.json")
	require.NoError(f, err)
	require.NoError(f, json.Unmarshal(data, &vocab))
	text := map[int32]string{}
	strip := int32(-1)
	for token, id := range vocab.Model.Vocab {
		text[id], _ = rawBytes(token)
	}
	for _, a := range vocab.Added {
		text[a.ID] = a.Content
		if a.LStrip {
			strip = a.ID
		}
	}
	f.Fuzz(func(t *testing.T, s string) {
		ids := tok.EncodeTokens(nil, s)
		if n := tok.CountTokens(s); n != len(ids) {
			t.Fatalf("%q: %d tokens counted, %d encoded", s, n, len(ids))
		}
		if slices.Contains(ids, strip) {
			return // takes white space away
		}
		var back strings.Builder
		for _, id := range ids {
			back.WriteString(text[id])
		}
		if want := strings.ToValidUTF8(s, "\uFFFD"); back.String() != want {
			t.Fatalf("%q came back as %q", want, back.String())
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"model":{"type":"BPE","vocab":{"a":0},"merges":["a a"]},"pre_tokenizer":{"type":"ByteLevel"}}`))
	f.Add([]byte(`{"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":[["a","b"]]},"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"ByteLevel","use_regex":false,"add_prefix_space":false}]},"added_tokens":[{"id":5,"content":"x"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if tok, err := Parse(data); err == nil {
			tok.CountTokens("some text, ab 12")
		}
	})
}

func TestUnsupported(t *testing.T) {
	const byteLevel = `"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false},`
	for what, text := range map[string]string{
		"normalizer":      `{"normalizer":{"type":"Lowercase"},` + byteLevel + `"model":{"type":"BPE","vocab":{"a":0},"merges":[]}}`,
		"model":           `{` + byteLevel + `"model":{"type":"WordPiece","vocab":{"a":0}}}`,
		"pre_tokenizer":   `{"pre_tokenizer":{"type":"Metaspace"},"model":{"type":"BPE","vocab":{"a":0},"merges":[]}}`,
		"no byte level":   `{"pre_tokenizer":{"type":"Digits"},"model":{"type":"BPE","vocab":{"a":0},"merges":[]}}`,
		"byte fallback":   `{` + byteLevel + `"model":{"type":"BPE","vocab":{"a":0},"merges":[],"byte_fallback":true}}`,
		"possessive":      `{"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":"("},"behavior":"Isolated"},{"type":"ByteLevel","add_prefix_space":false,"use_regex":false}]},"model":{"type":"BPE","vocab":{"a":0},"merges":[]}}`,
		"split behaviour": `{"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":"x"},"behavior":"Removed"},{"type":"ByteLevel","add_prefix_space":false,"use_regex":false}]},"model":{"type":"BPE","vocab":{"a":0},"merges":[]}}`,
	} {
		_, err := Parse([]byte(text))
		var u *UnsupportedError
		if !errors.As(err, &u) {
			t.Errorf("%s: %v, want UnsupportedError", what, err)
		}
	}
	for what, text := range map[string]string{
		"no JSON":  `{`,
		"no vocab": `{` + byteLevel + `"model":{"type":"BPE"}}`,
		"merges":   `{` + byteLevel + `"model":{"type":"BPE","vocab":{"a":0},"merges":["a b"]}}`,
	} {
		if _, err := Parse([]byte(text)); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
	if _, err := Load(t.TempDir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no tokenizer.json in the folder: %v", err)
	}
}

func TestTemplateTokensAreCountedApart(t *testing.T) {
	tok, err := Parse([]byte(`{"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false},"model":{"type":"BPE","vocab":{"a":0},"merges":[]},
		"post_processor":{"type":"Sequence","processors":[{"type":"ByteLevel"},{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"[gMASK]","type_id":0}},{"SpecialToken":{"id":"<sop>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}]}]}}`))
	require.NoError(t, err)
	if tok.AddedSpecialTokens != 2 || tok.CountTokens("aa") != 2 {
		t.Errorf("%d added, %d counted", tok.AddedSpecialTokens, tok.CountTokens("aa"))
	}
}

func TestConcurrentUse(t *testing.T) {
	tok := load(t, "cl100k")
	all := strs(t, "cl100k")
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range all {
				r := all[(i+g*37)%len(all)]
				if n := tok.CountTokens(r.Text); n != len(r.IDs) {
					t.Errorf("%q: %d tokens, want %d", r.Text, n, len(r.IDs))
				}
			}
		}()
	}
	wg.Wait()
}

// Long runs without a boundary must not take quadratic time: 128 kB of one
// letter would then take minutes.
func TestNoQuadraticTime(t *testing.T) {
	tok := load(t, "cl100k")
	for _, s := range []string{"a", "ab", "日", " ", "\n", "!", "1", "\u0301"} {
		if n := tok.CountTokens(strings.Repeat(s, 1<<17/len(s))); n == 0 {
			t.Errorf("%q: no tokens", s)
		}
	}
}

func TestEstimateOfKnownTexts(t *testing.T) {
	for text, want := range map[string]int{"": 0, "hello": 1, "Hello world, this is a test.": 8, "x := 1\n": 4} {
		if got := Estimate(text); got < want-1 || got > want+1 {
			t.Errorf("%q: %d, want about %d", text, got, want)
		}
	}
}

func TestEstimateSampledIsCloseToTheWhole(t *testing.T) {
	for _, kind := range gen.Kinds() {
		p := gen.NewPrompt(1, "test", 1, gen.Options{Kind: kind, Language: "en"})
		var b strings.Builder
		for b.Len() < 300_000 {
			b.WriteString(p.Next())
		}
		whole, sampled := Estimate(b.String()), EstimateSampled([]byte(b.String()))
		if d := float64(sampled)/float64(whole) - 1; d < -0.06 || d > 0.06 {
			t.Errorf("%s: sampled %d, whole %d", kind, sampled, whole)
		}
	}
}

func BenchmarkCountTokens(b *testing.B) {
	tok := load(b, "cl100k")
	var all strings.Builder
	for _, r := range strs(b, "cl100k") {
		all.WriteString(r.Text)
	}
	text := strings.Repeat(all.String(), 20)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		tok.CountTokens(text)
	}
}

func BenchmarkEstimate(b *testing.B) {
	text := strings.Repeat("func (s *Store) Get(key string) error {\n\treturn fmt.Errorf(\"no %q\", key)\n}\n\n", 2000)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		Estimate(text)
	}
}
