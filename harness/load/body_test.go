package load

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestFeaturesOf(t *testing.T) {
	for version, want := range map[string]Features{
		"0.8.2":  {ContinuousUsage: true, ForcedLength: true},
		"0.9.0":  {CacheSalt: true, ContinuousUsage: true, ForcedLength: true},
		"0.11.1": {CacheSalt: true, ContinuousUsage: true, ForcedLength: true},
		"":       {ForcedLength: true},
		"llama":  {ForcedLength: true},
	} {
		require.Equal(t, want, FeaturesOf(version), version)
	}
}

func TestBodySalting(t *testing.T) {
	for _, sample := range []Sample{
		{ID: "prompt", Prompt: "The quick brown fox jumps over the lazy dog, again and again"},
		{ID: "chinese", Prompt: "从前有一座山，山里有一座庙，庙里有一个老和尚"},
		{ID: "symbols", Prompt: "!!! ??? ... ---"},
		{ID: "messages", Messages: json.RawMessage(`[{"role":"system","content":""},{"role":"user","content":"Hello there, tell me"}]`)},
		{ID: "parts", Messages: json.RawMessage(`[{"role":"user","content":[{"type":"image_url","image_url":{}},{"type":"text","text":"Hello there"}]}]`)},
	} {
		t.Run(sample.ID, func(t *testing.T) {
			b := body{model: "m"}
			build := func(salt string) string {
				out, err := b.append(nil, &sample, 10, salt)
				require.NoError(t, err)
				require.True(t, json.Valid(out), string(out))
				return string(out)
			}
			one, two := build("phase 1"), build("phase 2")
			require.NotEqual(t, one, two, "two phases share their prompts")
			require.Equal(t, one, build("phase 1"))
			require.NotContains(t, one, "cache_salt")
			b.features.CacheSalt = true
			field := build("phase 1")
			require.Contains(t, field, `"cache_salt":"phase 1"`)
			require.Equal(t, strings.Replace(field, "phase 1", "phase 2", 1), build("phase 2"), "with the field, prompts are sent as they are")
		})
	}
}

func TestSaltTextProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		prefix := rapid.String().Draw(t, "prefix")
		a, b := prefix+rapid.String().Draw(t, "a"), prefix+rapid.String().Draw(t, "b")
		salt := rapid.StringN(1, 10, -1).Draw(t, "salt")
		x, y := saltText(a, salt), saltText(b, salt)
		if utf8.ValidString(a) != utf8.ValidString(x) {
			t.Fatalf("%q became %q", a, x)
		}
		if len(x) != len(a) && len(x) != len(a)+1 {
			t.Fatalf("%q of %d bytes became %d bytes", a, len(a), len(x))
		}
		// Prefixes shared within a phase stay shared.
		if len(prefix) >= saltedBytes+4 && len(x) == len(a) && len(y) == len(b) && x[:len(prefix)] != y[:len(prefix)] {
			t.Fatalf("%q and %q share %d bytes, %q and %q do not", a, b, len(prefix), x, y)
		}
		if len(a) > saltedBytes+4 && len(x) == len(a) && x[saltedBytes+4:] != a[saltedBytes+4:] {
			t.Fatalf("%q was changed far behind its beginning: %q", a, x)
		}
	})
}

func TestBodyTools(t *testing.T) {
	b := body{model: "m"}
	sample := Sample{ID: "x", Messages: json.RawMessage(`[{"role":"user","content":"hi"}]`), Tools: json.RawMessage(`[{"type":"function"}]`)}
	out, err := b.append(nil, &sample, 1, "")
	require.NoError(t, err)
	require.True(t, json.Valid(out), string(out))
	require.Contains(t, string(out), `"tools":[{"type":"function"}],"tool_choice":"none"`)
}

func TestBodyErrors(t *testing.T) {
	b := body{model: "m", endpoint: "completions"}
	_, err := b.append(nil, &Sample{ID: "x", Messages: json.RawMessage(`[]`)}, 1, "s")
	require.ErrorContains(t, err, "completions endpoint")
	b = body{model: "m"}
	_, err = b.append(nil, &Sample{ID: "x", Messages: json.RawMessage(`{`)}, 1, "s")
	require.ErrorContains(t, err, `sample "x"`)
}

func FuzzAppendString(f *testing.F) {
	f.Add("a\"b\\c\n\t\x00\x7f\u2028é\xff")
	f.Fuzz(func(t *testing.T, s string) {
		var got string
		require.NoError(t, json.Unmarshal(appendString(nil, s), &got))
		require.Equal(t, strings.ToValidUTF8(s, "\ufffd") == s, got == s)
		if utf8.ValidString(s) {
			require.Equal(t, s, got)
		}
		_ = excerpt([]byte(s))
	})
}
