package harness

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/glm46/glm46/harness/experiment"
	"github.com/glm46/glm46/harness/load"
	"github.com/glm46/glm46/harness/measure"
	"github.com/glm46/glm46/harness/result"
)

// A level that an error ended was not interrupted: start.json names the error,
// and the start can be continued.
func TestErrorInsideALevel(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/models" {
			http.NotFound(w, r)
			return
		}
		fmt.Fprint(w, `{"data":[{"id":"m","max_model_len":16}]}`)
	}))
	defer server.Close()
	dir := t.TempDir()
	data := filepath.Join(dir, "set.jsonl")
	require.NoError(t, os.WriteFile(data, []byte(`{"id":"long","prompt":"`+strings.Repeat("many words ", 100)+`","prompt_tokens":200,"target_tokens":4}`+"\n"), 0o644))
	outcome, err := Bench(t.Context(), BenchOptions{URL: server.URL, Data: data, ResultsDir: filepath.Join(dir, "results"), NoCertificate: true})
	require.NoError(t, err)
	require.Equal(t, codeDataSet, outcome.Code)
	cell := outcome.Cells[0]
	require.Equal(t, result.StateIncomplete, cell.State)
	require.Contains(t, cell.Reason, "does not fit max-model-len 16")
	require.Len(t, cell.Dirs, 1)
	start, err := result.ReadStart(cell.Dirs[0])
	require.NoError(t, err)
	require.Equal(t, []measure.Reason{result.ReasonError}, start.Start.Validity.Reasons)
	require.Contains(t, start.Start.Validity.Details[string(result.ReasonError)], "level c1: ")
	require.Equal(t, result.StateIncomplete, start.State())
}

// The certificate is made for the level's load: with as many streams as can be
// in flight, and once for each shape.
func TestCertificateShape(t *testing.T) {
	samples := make([]load.Sample, 200)
	for i := range samples {
		samples[i].TargetTokens = 500
	}
	c := &campaign{o: Options{Mock: &MockOptions{Speed: 100}}}
	for _, tt := range []struct {
		level experiment.Level
		want  int
	}{
		{experiment.Level{Concurrency: 16}, 16},
		{experiment.Level{Concurrency: 1000}, 200},
		{experiment.Level{RequestRate: 2}, 20},
		{experiment.Level{RequestRate: 2, Concurrency: 8}, 8},
		{experiment.Level{RequestRate: 0.01}, 1},
	} {
		require.Equal(t, tt.want, c.shape(tt.level, samples).Streams, "%+v", tt.level)
	}
	shape := c.shape(experiment.Level{Concurrency: 2}, samples)
	require.EqualValues(t, 5000, shape.TokensPerSecond)
	shape.Duration = 100 * time.Millisecond
	first := c.certify(t.Context(), shape)
	require.NotNil(t, first)
	require.Same(t, first, c.certify(t.Context(), shape))
	shape.Streams = 3
	require.NotSame(t, first, c.certify(t.Context(), shape))
}
