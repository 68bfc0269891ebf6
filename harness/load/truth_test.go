package load

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/glm46/glm46/harness/measure"
	"github.com/glm46/glm46/harness/stats"
	"github.com/glm46/glm46/mockvllm"
)

// truth is what the mock says of one request.
type truth struct {
	RequestID    string `json:"request_id"`
	PromptTokens int    `json:"prompt_tokens"`
	Tokens       []struct {
		WrittenUnixNS int64 `json:"written_unix_ns"`
	} `json:"tokens"`
	End string `json:"end"`
}

// truths collects the mock's truth file.
type truths struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (t *truths) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.Write(p)
}

func (t *truths) all(tb testing.TB) map[string]truth {
	tb.Helper()
	t.mu.Lock()
	defer t.mu.Unlock()
	out := map[string]truth{}
	dec := json.NewDecoder(bytes.NewReader(t.b.Bytes()))
	for dec.More() {
		var one truth
		require.NoError(tb, dec.Decode(&one))
		// The mock names a request as vLLM does: the header's value behind a prefix.
		out[strings.TrimPrefix(strings.TrimPrefix(one.RequestID, "chat"), "cmpl-")] = one
	}
	return out
}

func mockArgs() []string {
	return []string{"zai-org/GLM-4.6", "--tensor-parallel-size", "8", "--kv-cache-dtype", "fp8", "--max-model-len", "32768"}
}

// killSpec is the load that the killed client runs: short requests without end.
func killSpec() Spec {
	return Spec{Level: "c8", Concurrency: 8, Samples: samples(5000, 40), Salt: "kill", Warmup: WarmupSpec{Skip: true}}
}

// TestKillChild is the client of TestKilledClient; it does nothing on its own.
func TestKillChild(t *testing.T) {
	url, path := os.Getenv("GLM46_TEST_KILL_URL"), os.Getenv("GLM46_TEST_KILL_FILE")
	if url == "" {
		t.Skip("only as a child of TestKilledClient")
	}
	lines, err := measure.CreateLines(path)
	require.NoError(t, err)
	_, err = Run(t.Context(), Target{BaseURL: url, Model: "zai-org/GLM-4.6", Features: FeaturesOf("0.11.1")}, killSpec(), lines, nil)
	require.NoError(t, err)
}

// TestKilledClient ends clients with SIGKILL at random moments: their records
// load, and say what the mock knows.
func TestKilledClient(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: it starts processes")
	}
	kills := 3
	if os.Getenv("GLM46_LONG") != "" {
		kills = 50
	}
	var file truths
	target := startMock(t, mockvllm.Options{Args: mockArgs(), Pace: &mockvllm.Pace{TTFT: 5 * ms, ITL: 2 * ms}, Truth: &file})
	rng := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	finished := 0
	for i := range kills {
		path := filepath.Join(t.TempDir(), fmt.Sprintf("%d.jsonl.zst", i))
		child := exec.Command(os.Args[0], "-test.run", "^TestKillChild$")
		child.Env = append(os.Environ(), "GLM46_TEST_KILL_URL="+target.BaseURL, "GLM46_TEST_KILL_FILE="+path)
		require.NoError(t, child.Start())
		// At random, but over the whole range even in three kills: records are flushed
		// every half second, so that the late ones find some.
		time.Sleep(100*ms + time.Duration(i%3)*700*ms + time.Duration(rng.Int64N(int64(700*ms))))
		require.NoError(t, child.Process.Kill())
		_ = child.Wait()
		src, err := measure.OpenRecords(path)
		if os.IsNotExist(err) || err != nil && !fileExists(path) {
			continue // killed before it began
		}
		require.NoError(t, err)
		time.Sleep(50 * ms) // the mock writes its line behind the last byte
		known := file.all(t)
		for r, err := range src() {
			require.NoError(t, err)
			require.Equal(t, measure.OK, r.Outcome, r.Detail)
			finished++
			said, ok := known[r.RequestID]
			require.True(t, ok, "the mock does not know %s", r.RequestID)
			tokens := 0
			for _, e := range r.Events {
				tokens += e.Tokens
			}
			// Ids repeat from child to child: the counts are the same in each.
			require.Equal(t, len(said.Tokens), tokens)
			require.Equal(t, len(said.Tokens), r.CompletionTokens)
			require.Equal(t, said.PromptTokens, r.PromptTokens)
		}
		_, err = measure.Summarize(src, measure.SummaryOptions{})
		require.NoError(t, err)
	}
	require.Positive(t, finished, "no request finished in any of the clients")
	t.Logf("%d requests of %d killed clients", finished, kills)
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// lateness of the client against the mock's truth, in milliseconds, sorted.
func lateness(tb testing.TB, target Target, file *truths, spec Spec) (first, gaps, last []float64, run *measure.RunJSON) {
	tb.Helper()
	var rec memory
	out, err := Run(context.Background(), target, spec, &rec, nil)
	require.NoError(tb, err)
	run, err = Finish(target, spec, out, measure.Records(rec.records), FinishInput{})
	require.NoError(tb, err)
	known := file.all(tb)
	for _, r := range rec.main() {
		require.Equal(tb, measure.OK, r.Outcome, r.Detail)
		said := known[r.RequestID]
		require.Len(tb, said.Tokens, len(r.Events))
		late := make([]float64, len(r.Events))
		for i, e := range r.Events {
			late[i] = float64(out.Clock.StartUnixNS+int64(e.At)-said.Tokens[i].WrittenUnixNS) / 1e6
		}
		first = append(first, late[0])
		last = append(last, late[len(late)-1])
		for i := 1; i < len(late); i++ {
			gaps = append(gaps, max(late[i]-late[i-1], late[i-1]-late[i]))
		}
	}
	slices.Sort(first)
	slices.Sort(gaps)
	slices.Sort(last)
	return first, gaps, last, run
}

// BenchmarkPunctuality: 512 streams at 20 ms, spread over the step, for 10 s.
// What it reports is the client's own error: its timestamp less the moment the
// mock wrote the token.
func BenchmarkPunctuality(b *testing.B) {
	for b.Loop() {
		var file truths
		target := startMock(b, mockvllm.Options{Args: mockArgs(), Pace: &mockvllm.Pace{TTFT: 20 * ms, ITL: 20 * ms}, Truth: &file})
		set := samples(512, 500)
		first, gaps, last, run := lateness(b, target, &file, Spec{Level: "c512", Concurrency: 512, Samples: set, Warmup: WarmupSpec{Skip: true}})
		for name, v := range map[string][]float64{"first": first, "gap": gaps, "last": last} {
			b.ReportMetric(stats.Percentile(v, 50), name+"-p50-ms")
			b.ReportMetric(stats.Percentile(v, 99), name+"-p99-ms")
		}
		b.ReportMetric(100*run.Client.CPUShare, "cpu-%")
	}
}

// BenchmarkOpenLoop: 500 requests a second by plan; what it reports is how late
// they left.
func BenchmarkOpenLoop(b *testing.B) {
	for b.Loop() {
		var file truths
		target := startMock(b, mockvllm.Options{Args: mockArgs(), Pace: &mockvllm.Pace{TTFT: 5 * ms, ITL: 5 * ms}, Truth: &file})
		spec := Spec{Level: "r500", Arrival: Arrival{Process: Poisson, RatePerSecond: 500}, Samples: samples(5000, 10), Warmup: WarmupSpec{Skip: true}}
		_, _, _, run := lateness(b, target, &file, spec)
		b.ReportMetric(run.Client.SendLagP50MS, "lag-p50-ms")
		b.ReportMetric(run.Client.SendLagP99MS, "lag-p99-ms")
		b.ReportMetric(100*run.Client.CPUShare, "cpu-%")
	}
}
