package load

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/glm46/glm46/harness/measure"
	"github.com/glm46/glm46/mockvllm"
)

// startMock serves a mock in process on loopback.
func startMock(t testing.TB, o mockvllm.Options) Target {
	t.Helper()
	m, err := mockvllm.New(o)
	require.NoError(t, err)
	require.NoError(t, m.Start(t.Context()))
	srv := m.HTTPServer()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() {
		srv.Close()
		<-done
		require.NoError(t, m.Close())
	})
	version := o.Version
	if version == "" {
		version = "0.11.1"
	}
	return Target{BaseURL: "http://" + l.Addr().String(), Model: "zai-org/GLM-4.6", Version: version, Features: FeaturesOf(version)}
}

func TestAgainstMock(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: it takes some seconds of wall time")
	}
	levels := []struct {
		concurrency, samples, tokens int
		speed                        float64
	}{{1, 3, 256, 100}, {16, 32, 256, 100}, {100, 100, 128, 200}}
	if os.Getenv("GLM46_LONG") != "" {
		levels = append(levels, levels[2])
		levels[3].tokens = 8192 // the whole level of the plan
	}
	for _, tt := range levels {
		t.Run(fmt.Sprintf("c%d of %d tokens", tt.concurrency, tt.tokens), func(t *testing.T) {
			target := startMock(t, mockvllm.Options{
				Args:  []string{"zai-org/GLM-4.6", "--tensor-parallel-size", "8", "--enforce-eager", "--enable-expert-parallel", "--kv-cache-dtype", "fp8", "--max-model-len", "32768", "--gpu-memory-utilization", "0.95"},
				Speed: tt.speed,
			})
			path := filepath.Join(t.TempDir(), "requests.jsonl.zst")
			lines, err := measure.CreateLines(path)
			require.NoError(t, err)
			zero := 0.0
			spec := Spec{
				Level: fmt.Sprintf("c%d", tt.concurrency), Concurrency: tt.concurrency, Mock: true, MockSpeed: tt.speed,
				Salt: t.Name(), ExpectedPrefixShare: &zero,
			}
			for i := range tt.samples {
				spec.Samples = append(spec.Samples, Sample{ID: fmt.Sprintf("s%d", i), Prompt: fmt.Sprintf("%d %s", i*7919, strings.Repeat(fmt.Sprintf("word %d and ", i), 2000)), Seed: i, TargetTokens: tt.tokens})
			}
			start := time.Now()
			out, err := Run(t.Context(), target, spec, lines, nil)
			require.NoError(t, err)
			require.NoError(t, lines.Close())
			wall := time.Since(start)
			src, err := measure.OpenRecords(path)
			require.NoError(t, err)
			run, err := Finish(target, spec, out, src, FinishInput{})
			require.NoError(t, err)
			m := run.Metrics
			info, err := os.Stat(path)
			require.NoError(t, err)
			t.Logf("wall %v, TTFT %.0f ms, TPOT %.2f ms, TPS %.2f, %.0f tok/s, steady %.0f, share %.2f, file %d kB", wall, m.TTFT.Mean, m.TPOT.Mean, m.TPS.Mean, m.OutputThroughput, m.SteadyOutputThroughput, m.Window.Share, info.Size()/1000)
			t.Logf("%+v", run.Validity)
			t.Logf("%+v %+v", *run.Client, *run.Tokens)
			if !run.Validity.OK {
				t.Errorf("not valid: %v", run.Validity.Reasons)
			}
		})
	}
}
