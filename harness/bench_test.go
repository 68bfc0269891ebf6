package harness

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"github.com/glm46/glm46/harness/experiment"
	"github.com/glm46/glm46/harness/load"
	"github.com/glm46/glm46/harness/measure"
	"github.com/glm46/glm46/harness/node"
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

// oneGPU answers as nvidia-smi does on a machine with one GPU.
// Source: harness/node/testdata/h200.
type oneGPU struct{}

const gpuSample = "2026/11/24 16:18:49.757, 0, 123.74, 36, 34, 1980, 3201, 50, 1000, 0x0000000000000000\n"

func (oneGPU) Run(_ context.Context, _ string, args ...string) (node.Output, error) {
	switch {
	case strings.HasPrefix(args[0], "--query-gpu=index,uuid"):
		return node.Output{Stdout: []byte("0, GPU-22222222-3333-4444-5555-666666666666, NVIDIA H200, 580.159.04, 96.00.A5.00.1A, Default, Disabled, Enabled, 143771, 0, 0, 1980, 700.00\n")}, nil
	case strings.HasPrefix(args[0], "--query-gpu=timestamp"):
		return node.Output{Stdout: []byte(gpuSample)}, nil
	}
	return node.Output{Exit: 2}, nil
}

func (oneGPU) Stream(context.Context, string, ...string) (io.ReadCloser, func() error, error) {
	r, w := io.Pipe()
	go func() { _, _ = io.WriteString(w, strings.Repeat(gpuSample, 10)) }() // and then nothing, as if it were slow
	return r, r.Close, nil
}

// A server that somebody else started is recorded like our own: its metrics, and
// the GPUs if it runs here.
func TestBenchTelemetry(t *testing.T) {
	s := mockServer(t, nil)
	dir := t.TempDir()
	data := filepath.Join(dir, "mine.jsonl")
	var lines strings.Builder
	for i := range 8 { // long enough for a sample, which comes each second
		fmt.Fprintf(&lines, `{"id":"%d","prompt":"one two three","target_tokens":30000}`+"\n", i)
	}
	require.NoError(t, os.WriteFile(data, []byte(lines.String()), 0o666))
	system := node.Host()
	system.Runner = oneGPU{}
	said := &notes{}
	_, err := Bench(t.Context(), BenchOptions{URL: s.URL, Data: data, ResultsDir: dir, Observer: said, NoCertificate: true, System: system})
	require.NoError(t, err)
	all, err := result.ReadAll(dir)
	require.NoError(t, err)
	require.Len(t, all, 1)
	require.Empty(t, said.with("telemetry"))
	require.NotZero(t, lineCount(t, filepath.Join(all[0].Dir, result.MetricsFile)))
	require.NotZero(t, lineCount(t, filepath.Join(all[0].Dir, result.GPUFile)))
	require.Len(t, all[0].Start.GPUs, 1)
	require.Equal(t, "NVIDIA H200", all[0].Start.GPUs[0].Name)
	// What idle GPUs take is not what the mock's tokens cost.
	require.Empty(t, all[0].Levels[0].Run.GPU)
	require.Nil(t, all[0].Levels[0].Run.Energy)
}

func lineCount(t *testing.T, path string) int {
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	d, err := zstd.NewReader(bytes.NewReader(raw))
	require.NoError(t, err)
	defer d.Close()
	text, err := io.ReadAll(d)
	require.NoError(t, err)
	return bytes.Count(text, []byte("\n"))
}

func TestIsHere(t *testing.T) {
	for _, tt := range []struct {
		address string
		want    bool
	}{
		{"http://127.0.0.1:8000", true}, {"http://[::1]:8000/v1", true}, {"http://localhost:1", true}, {"http://NODE7:8000", true},
		{"http://0.0.0.0:8000", true}, {"http://192.0.2.1:8000", false}, {"http://node8:8000", false}, {"::", false}, {"http://", false},
	} {
		require.Equal(t, tt.want, isHere(tt.address, "node7"), tt.address)
	}
	require.False(t, isHere("http://", ""))
}
