package load

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/glm46/glm46/harness/measure"
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
	return readTruths(tb, t.b.Bytes())
}

func readTruths(tb testing.TB, raw []byte) map[string]truth {
	out := map[string]truth{}
	dec := json.NewDecoder(bytes.NewReader(raw))
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
func killSpec(salt string) Spec {
	return Spec{Level: "c8", Concurrency: 8, Samples: samples(5000, 40), Salt: salt, Warmup: WarmupSpec{Skip: true}}
}

// TestKillChild is the client of TestKilledClient; it does nothing on its own.
func TestKillChild(t *testing.T) {
	url, path := os.Getenv("GLM46_TEST_KILL_URL"), os.Getenv("GLM46_TEST_KILL_FILE")
	if url == "" {
		t.Skip("only as a child of TestKilledClient")
	}
	lines, err := measure.CreateLines(path)
	require.NoError(t, err)
	_, err = Run(t.Context(), Target{BaseURL: url, Model: "zai-org/GLM-4.6", Features: FeaturesOf("0.11.1")}, killSpec(path), lines, nil)
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
