package model

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "rewrite the table of coefficients in docs/timing-model.md")

// TestDocsListEveryCoefficient: value, unit and source of each stand in the
// documentation, as the program has them.
func TestDocsListEveryCoefficient(t *testing.T) {
	const path = "../../docs/timing-model.md"
	const begin, end = "-update -->\n", "<!-- end -->"
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	head, rest, ok := strings.Cut(string(data), begin)
	require.True(t, ok)
	got, tail, ok := strings.Cut(rest, end)
	require.True(t, ok)
	want := coefficientTable(t, GLM46H200())
	if got != want && *update {
		require.NoError(t, os.WriteFile(path, []byte(head+begin+want+end+tail), 0o644))
		return
	}
	if got != want {
		t.Error("the table of coefficients is not the program's; run go test ./mockvllm/model -run Docs -update")
	}
}

func coefficientTable(t *testing.T, p *Profile) string {
	var b strings.Builder
	b.WriteString("\n| coefficient | value | unit | source |\n|---|---|---|---|\n")
	for _, c := range p.coefficients() {
		value, err := json.Marshal(c.value.Interface())
		require.NoError(t, err)
		text := string(value)
		if table, ok := c.value.Interface().(Table); ok {
			var nodes []string
			for _, n := range table {
				nodes = append(nodes, fmt.Sprintf("%g: %g", n[0], n[1]))
			}
			text = strings.Join(nodes, ", ")
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", c.path, text, unitOf(c.path), p.source(c.path))
	}
	b.WriteString("\n")
	return b.String()
}

func unitOf(path string) string {
	for _, u := range []struct{ suffix, unit string }{
		{"_gib_per_token", "GiB a token of the budget"}, {"_gib", "GiB a GPU"}, {"_s_per_size", "s a capture size"},
		{"us_per_context_token", "us a token of context"}, {"us_per_token", "us a token"}, {"us_per_row", "us a row"},
		{"us_per_layer", "us a layer"}, {"us_per_request", "us a request"}, {"us_per_chunk", "us a chunk"},
		{"_bytes_per_us", "bytes/us"}, {"_tflops", "TFLOP/s by tokens of the chunk"}, {"_us", "us"}, {"_s", "s"}, {"_tokens", "tokens"},
		{"element_bytes.auto", "bytes"}, {"element_bytes.fp8", "bytes"}, {"_probability", "share"}, {"_acceptance", "share"},
		{"_sigma", "of the logarithm"},
	} {
		if strings.HasSuffix(path, u.suffix) {
			return u.unit
		}
	}
	return ""
}
