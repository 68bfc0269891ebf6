package tokenizer

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

const prose = `The first thing that anyone notices about the harbour is how quiet it becomes in winter. Ships
that would wait for days in July come and go within an hour, and the people who work on the docks stand around a
small fire, drinking tea and talking about the weather. In the office above the warehouse, the manager keeps a list
of everything that has gone wrong since the beginning of the year: broken ropes, late deliveries, a crane that
refused to move until somebody hit it with a hammer. She reads it aloud every Friday, partly as a warning and partly
because it makes the others laugh. Nobody knows exactly when this habit started, although the oldest of the drivers
says that his father remembered it too. What is certain is that the list has never been empty, and that nothing on
it has ever been repaired twice in the same way.
Modern schedulers have a similar list. They record how long each request waited, how many tokens it produced, and
whether the machine had enough memory to hold all of its intermediate results. If the answer is no, the youngest
request is thrown out and must begin again later, which costs time but keeps the rest of the batch moving forward.`

func TestRoundTrip(t *testing.T) {
	for _, s := range []string{
		"", "a", " ", "  \n\n\t x", "The quick brown fox", prose, "日本語とemoji 🎉 und Umlaute äöü", "\x00\xff\xfe broken \xe4\xb8",
		"<|user|>\nhello<|assistant|>", "func main() {\n\tfmt.Println(\"hi\")\n}\n", "[gMASK]<sop>", "</think></thin", strings.Repeat("x", 10000),
	} {
		ids := Encode(s)
		if got := Decode(ids); got != s {
			t.Errorf("decode(encode(%q)) = %q", s, got)
		}
		if got := Count(s); got != len(ids) {
			t.Errorf("count(%q) = %d, want %d", s, got, len(ids))
		}
	}
}

// Source: the published averages of large vocabularies on English, about 4 to
// 4.5 bytes a token in prose and 3 to 3.5 in code.
func TestBytesPerToken(t *testing.T) {
	check := func(name, text string, low, high float64) {
		ratio := float64(len(text)) / float64(Count(text))
		t.Logf("%s: %d bytes, %.2f bytes a token", name, len(text), ratio)
		if ratio < low || ratio > high {
			t.Errorf("%s: %.2f bytes a token, want %.1f to %.1f", name, ratio, low, high)
		}
	}
	check("prose", prose, 3.7, 4.7)
	var code strings.Builder
	for _, f := range []string{"tokenizer.go", "trie.go", "text.go", "vocabulary.go"} {
		b, err := os.ReadFile(f)
		require.NoError(t, err)
		code.Write(b)
	}
	check("this package", code.String(), 2.5, 3.8)
	files, _ := filepath.Glob(filepath.Join(goRoot(), "src/net/http/*.go"))
	if len(files) == 0 {
		t.Skip("no Go source tree here: program text is checked on this package only")
	}
	code.Reset()
	for _, f := range files {
		b, err := os.ReadFile(f)
		require.NoError(t, err)
		code.Write(b)
	}
	check("net/http", code.String(), 2.9, 3.8)
}

func TestVocabulary(t *testing.T) {
	v := vocab()
	if len(v.pieces) >= int(FirstSpecial) {
		t.Fatalf("%d pieces reach into the special tokens", len(v.pieces))
	}
	t.Logf("%d pieces, %d cells", len(v.pieces), len(v.trie.cells))
	for id, p := range v.pieces {
		got, n := v.trie.longest(p)
		if got != int32(id) || n != len(p) {
			t.Errorf("piece %d %q encodes to %d (%d bytes)", id, p, got, n)
		}
		text, whole := JSON(int32(id))
		if whole != utf8.ValidString(p) {
			t.Errorf("piece %q: whole = %v", p, whole)
		}
		if whole {
			var back string
			require.NoError(t, json.Unmarshal([]byte(`"`+string(text)+`"`), &back))
			if back != p {
				t.Errorf("piece %q is %q in JSON", p, text)
			}
		}
	}
}

func TestStream(t *testing.T) {
	for _, s := range []string{prose, "naïve 🎉🎉 中文字符罕龘", "tail \xe4\xb8", "\xff\xff\x80abc"} {
		var st Stream
		var out []byte
		for _, id := range Encode(s) {
			out = st.Append(out, id)
			if !utf8.Valid(out) {
				t.Fatalf("%q: invalid text on the way: %q", s, out)
			}
		}
		out = st.Flush(out)
		if utf8.ValidString(s) && string(out) != s {
			t.Errorf("stream of %q = %q", s, out)
		}
	}
	var st Stream
	if got := st.Append(nil, User); len(got) > 0 {
		t.Errorf("special token streamed as %q", got)
	}
}

func text(tx Text, s Source, n int) []int32 {
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = tx.Token(s, i)
	}
	return ids
}

func TestFreshTextIsCanonical(t *testing.T) {
	for seed := range uint64(50) {
		ids := text(Text{Seed: 1, Repetition: 0.5}, Source{Seed: seed, IgnoreEOS: true}, 700)
		if got := Encode(Decode(ids)); !slices.Equal(got, ids) {
			t.Fatalf("seed %d: %q encodes to other tokens", seed, Decode(ids))
		}
		if seed == 0 {
			t.Log(Decode(ids[:200]))
		}
	}
}

func TestTextRepeatsByShare(t *testing.T) {
	prompt := Encode(strings.Repeat(prose, 3))
	for _, share := range []float64{0, 0.3, 1} {
		copied := 0
		const n = 64 * 400
		tx := Text{Repetition: share}
		src := Source{Prompt: prompt, Seed: 3, IgnoreEOS: true}
		for p := 0; p < n; p += passageTokens {
			if _, _, ok := tx.origin(mix(mix(3)), src, p); ok {
				copied++
			}
		}
		if got := float64(copied) / 400; got < share-0.07 || got > share+0.07 {
			t.Errorf("share %.1f: %.2f of passages are copies", share, got)
		}
		for i := range 2000 {
			if id := tx.Token(src, i); id < 0 || id >= FirstSpecial {
				t.Fatalf("token %d is %d", i, id)
			}
		}
	}
}

func TestTextStops(t *testing.T) {
	tx := Text{Stop: true}
	end := func(s Source) int {
		for i := range 5000 {
			if tx.Token(s, i) == User {
				return i
			}
		}
		return -1
	}
	if got := end(Source{Seed: 9}); got < 64 || got > 2048 {
		t.Errorf("text ends at %d, want 64 to 2048", got)
	}
	if got := end(Source{Seed: 9, MinTokens: 3000}); got != 3000 {
		t.Errorf("with min_tokens 3000 text ends at %d", got)
	}
	if got := end(Source{Seed: 9, IgnoreEOS: true}); got != -1 {
		t.Errorf("with ignore_eos text ends at %d", got)
	}
}

func FuzzRoundTrip(f *testing.F) {
	for _, s := range []string{"hello world", prose, "\xff\x00", "<|user|>", "日本"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ids := Encode(s)
		if Decode(ids) != s {
			t.Fatalf("%q does not come back", s)
		}
		var st Stream
		var out []byte
		for _, id := range ids {
			out = st.Append(out, id)
		}
		if out = st.Flush(out); !utf8.Valid(out) {
			t.Fatalf("%q streams as invalid %q", s, out)
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	text := strings.Repeat(prose, 100)
	b.SetBytes(int64(len(text)))
	ids := Encode(text)
	for b.Loop() {
		ids = AppendTokens(ids[:0], text)
	}
}

func BenchmarkText(b *testing.B) {
	tx, s, i := Text{Repetition: 0.3}, Source{Seed: 1, Prompt: Encode(prose), IgnoreEOS: true}, 0
	for b.Loop() {
		tx.Token(s, i&8191)
		i++
	}
}

func BenchmarkBuild(b *testing.B) {
	for b.Loop() {
		build()
	}
}

// goRoot is the folder of the Go that runs the tests, "" where there is none.
func goRoot() string {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}
