package mockvllm

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var changing = regexp.MustCompile(`("created":)\d+|(modelperm-)[0-9a-f]+|(-)[0-9a-f]{8}(")`)

// What goes over the wire, by version, to the byte.
func TestFramesByVersion(t *testing.T) {
	for _, version := range []string{"0.8.2", "0.10.0", "0.11.0", "0.11.1", "0.14.0", "0.16.0", "0.22.0", "0.27.0"} {
		t.Run(version, func(t *testing.T) {
			args := []string{"--reasoning-parser", "glm45", "--enable-prompt-tokens-details"}
			if version == "0.8.2" {
				args = []string{"--enable-prompt-tokens-details"}
			}
			o := quick(args...)
			o.Version, o.Speed = version, 1000
			_, s := newServer(t, o)
			var b strings.Builder
			for _, c := range []struct{ name, path, body string }{
				{"chat, streamed", "/v1/chat/completions", `{"messages":[{"role":"user","content":"hi"}],"max_tokens":4,"ignore_eos":true,"temperature":0,"stream":true,"stream_options":{"include_usage":true}}`},
				{"chat, streamed, continuous usage", "/v1/chat/completions", `{"messages":[{"role":"user","content":"hi"}],"max_tokens":2,"ignore_eos":true,"temperature":0,"stream":true,"stream_options":{"include_usage":true,"continuous_usage_stats":true}}`},
				{"chat, stopped", "/v1/chat/completions", `{"messages":[{"role":"user","content":"hi"}],"max_tokens":60,"stop":",","temperature":0,"chat_template_kwargs":{"enable_thinking":false}}`},
				{"chat, whole", "/v1/chat/completions", `{"messages":[{"role":"user","content":"hi"}],"max_tokens":4,"ignore_eos":true,"temperature":0}`},
				{"completion, streamed", "/v1/completions", `{"prompt":"hi","max_tokens":2,"ignore_eos":true,"temperature":0,"stream":true,"stream_options":{"include_usage":true,"continuous_usage_stats":true}}`},
				{"completion, whole", "/v1/completions", `{"prompt":"hi","max_tokens":2,"ignore_eos":true,"temperature":0}`},
				{"unknown model", "/v1/completions", `{"model":"other","prompt":"hi"}`},
				{"prompt too long", "/v1/completions", fmt.Sprintf(`{"prompt":%q,"max_tokens":1}`, strings.Repeat(" the", 33000))},
				{"output too long", "/v1/chat/completions", `{"messages":[{"role":"user","content":"hi"}],"max_tokens":32768}`},
				{"bad field", "/v1/chat/completions", `{"messages":[{"role":"user","content":"hi"}],"max_tokens":"x"}`},
				{"unknown route", "/v2/chat", `{}`},
			} {
				a := call(t, s.Client(), "POST", s.URL+c.path, c.body, "X-Request-Id", "golden")
				fmt.Fprintf(&b, "== %s: %d %s\n%s\n", c.name, a.status, a.header.Get("Content-Type"), strings.TrimSuffix(a.body, "\n"))
			}
			got := changing.ReplaceAllString(b.String(), "${1}${2}${3}0${4}")
			path := filepath.Join("testdata", "frames", version+".txt")
			if *update {
				require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
				require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
			}
			want, err := os.ReadFile(path)
			require.NoError(t, err, "run with -update to write it")
			if got != string(want) {
				t.Errorf("differs from %s (run with -update to rewrite it):\n%s", path, got)
			}
		})
	}
}
