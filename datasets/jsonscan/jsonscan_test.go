package jsonscan

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

// valid says what the package says of a whole text.
func valid(b []byte) bool {
	_, end, err := Value(b, Space(b, 0), 10000)
	return err == nil && Space(b, end) == len(b)
}

var texts = []string{
	`{}`, `[]`, `""`, `0`, `-0`, `1.5e-3`, `1E+9`, `true`, `false`, `null`, ` { "a" : [ 1 , 2 ] } `, `{"a":"x\ny"}`,
	`{"a":"é日本語😀"}`, `"\ud83d\ude00"`, `"\ud800"`, `"\u00e9\/\b\f\r\t\\\""`, `"long enough for more than eight bytes at once \" and on"`,
	"{\"a\":\"x\ny\"}", "\"\x01\"", "\"1234567\x1f\"", `"\x"`, `"\u12"`, `"\u12g4"`, `01`, `1.`, `.5`, `+1`, `-`, `1e`, `1e+`, `NaN`, `tru`, `truex`, `nul`,
	`[1,]`, `{,}`, `{"a" 1}`, `{"a":1}}`, `{"a":1} x`, `{"a":1`, `{"a":"x`, `{a:1}`, `{'a':1}`, "\ufeff{}", `{"a":1/*c*/}`, "{\"a\"\x00:1}", `{"a":[1,2}`,
	`{"a":"b""c":1}`, `"\`, `"`, `{"a":1 2}`, `[1 2]`, `{"a":,}`, `{"a"}`, ``, ` `, "\"\x7f\"", `{"a":1,"a":2}`, `[`, `{`, `[[[]]`, `]`,
	`"` + strings.Repeat(`long enough\n\tfor blocks \\\\ of any size \"so\" `, 9) + `"`, `"` + strings.Repeat("x", 70) + "\x02" + `"`, `"` + strings.Repeat(`\\`, 64) + `"`, `"` + strings.Repeat(`\\`, 64) + `\"`,
	strings.Repeat("[", 200) + strings.Repeat("]", 200),
}

// The standard library decides what is JSON.
func TestAgainstStandardLibrary(t *testing.T) {
	for _, s := range texts {
		if got, want := valid([]byte(s)), json.Valid([]byte(s)); got != want {
			t.Errorf("%.60q: valid = %v, encoding/json says %v", s, got, want)
		}
	}
}

// Blocks of strings are judged as their bytes are, whatever stands where.
func TestPlain(t *testing.T) {
	if n, _ := plain(bytes.Repeat([]byte{'x'}, 256)); n == 0 {
		t.Skip("this processor has no AVX2: there is nothing to compare")
	}
	simply := func(b []byte) (end int, flags int) { // up to the first byte that is not plain
		for end < len(b) {
			switch c := b[end]; {
			case c == '"' || c < 0x20:
				return end, flags
			case c == '\\':
				if end+1 == len(b) || !simple[b[end+1]] {
					return end, flags
				}
				flags |= escaped
				end += 2
			default:
				end++
			}
		}
		return end, flags
	}
	for c := range 256 {
		for _, before := range []string{"x", `\`, `\\`} {
			for at := range 130 {
				b := append(bytes.Repeat([]byte("y"), at), before...)
				b = append(append(b, byte(c)), bytes.Repeat([]byte(`é\n`), 48)...)
				want, wantFlags := simply(b)
				n, flags := plain(b)
				if n > want || n < want-64 && n < len(b)-128 {
					t.Fatalf("%q before byte 0x%02x at %d: %d bytes are plain, want up to %d", before, c, at, n, want)
				}
				if n == want && flags != wantFlags && b[n] != '\\' { // the escape that begins there counts
					t.Fatalf("%q before byte 0x%02x at %d: flags %d, want %d", before, c, at, flags, wantFlags)
				}
				// What is left must be judged as the whole is.
				if rest, _ := simply(b[n:]); n+rest != want {
					t.Fatalf("%q before byte 0x%02x at %d: %d bytes are plain and then %d, want %d", before, c, at, n, rest, want)
				}
			}
		}
	}
}

func FuzzValue(f *testing.F) {
	for _, s := range texts {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 5000 {
			return // encoding/json stops at another depth
		}
		if got, want := valid(b), json.Valid(b); got != want {
			t.Fatalf("%q: valid = %v, encoding/json says %v", b, got, want)
		}
		span, _, err := Value(b, Space(b, 0), 10000)
		if err != nil || span.Kind != String || !utf8.Valid(b) {
			return
		}
		var want string
		if json.Unmarshal(span.Raw, &want) == nil && span.Text() != want {
			t.Fatalf("%q: text %q, encoding/json says %q", span.Raw, span.Text(), want)
		}
	})
}

func TestObjectMembers(t *testing.T) {
	text := []byte(`{"id":"a\u0062","prompt":"x","n":[1,{"y":2}],"ok":true}`)
	var got []string
	end, err := Object(text, 0, 10, func(k, v Span) {
		got = append(got, k.Text()+"="+v.Kind.String()+":"+v.Text())
	})
	if err != nil || end != len(text) {
		t.Fatalf("end %d, error %v", end, err)
	}
	want := `id=a string:ab|prompt=a string:x|n=an array:[1,{"y":2}]|ok=true or false:true`
	if s := strings.Join(got, "|"); s != want {
		t.Errorf("got  %s\nwant %s", s, want)
	}
}

func TestErrors(t *testing.T) {
	tests := []struct {
		text, want string
		offset     int
		short      bool
	}{
		{`{"a":1`, "ends inside an object", 6, true},
		{`{"a":"x`, "ends inside a string", 7, true},
		{`{"a":"x\`, "ends inside a string", 8, true},
		{`{"a":tr`, "ends inside a word", 7, true},
		{`{"a":1,}`, `unexpected '}', want a member's name in double quotes`, 7, false},
		{`{"a":"\q"}`, `unexpected 'q', want one of "\/bfnrtu after a backslash`, 7, false},
		{"{\"a\":\"x\ty\"}", "raw control character (byte 0x09) in a string", 7, false},
		{`{"a":NaN}`, "unexpected 'N', want a value", 5, false},
	}
	for _, tt := range tests {
		_, _, err := Value([]byte(tt.text), 0, 10)
		if err == nil || err.What != tt.want || err.Offset != tt.offset || err.Short != tt.short {
			t.Errorf("%s: got %+v, want %q at %d", tt.text, err, tt.want, tt.offset)
		}
	}
}

func TestDepth(t *testing.T) {
	for _, s := range []string{`[[[]]]`, `{"a":{"a":{}}}`, `[{"a":[]}]`} {
		if _, _, err := Value([]byte(s), 0, 3); err != nil {
			t.Errorf("%s at depth 3: %v", s, err)
		}
		if _, _, err := Value([]byte(s), 0, 2); err == nil || !err.Deep {
			t.Errorf("%s at depth 2: %v, want too deep", s, err)
		}
	}
}

func TestUnquoteHalfPair(t *testing.T) {
	for raw, want := range map[string]bool{`"\ud83d\ude00"`: true, `"\ud83d"`: false, `"\ude00\ud83d"`: false, `"\ud83dx"`: false, `"a"`: true} {
		if _, ok := Unquote(nil, []byte(raw)); ok != want {
			t.Errorf("%s: ok = %v, want %v", raw, ok, want)
		}
	}
}

func BenchmarkValue(b *testing.B) {
	line := strings.Repeat("func (s *Store) Get(key string) error {\n\treturn fmt.Errorf(\"no %q\", key)\n}\n\n", 2000)
	text, _ := json.Marshal(map[string]any{"id": "x", "prompt": line, "prompt_tokens": 48000})
	text = bytes.TrimSpace(text)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if !valid(text) {
			b.Fatal("not valid")
		}
	}
}
