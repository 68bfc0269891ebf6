package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTruth(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "truth.jsonl")
	write := func(s string) { require.NoError(t, os.WriteFile(path, []byte(s), 0o644)) }
	// A warm-up of one token, then two requests of three: TTFT 100 and 300 ms, TPOT 20 and 30 ms.
	write(`{"arrival_unix_ns":5,"tokens":[{"written_unix_ns":9}]}
{"arrival_unix_ns":1000000000,"tokens":[{"written_unix_ns":1100000000},{"written_unix_ns":1119000000},{"written_unix_ns":1140000000}]}
{"arrival_unix_ns":2000000000,"tokens":[{"written_unix_ns":2300000000},{"written_unix_ns":2300000001},{"written_unix_ns":2360000000}]}
`)
	events, truth, err := readTruth(path, 3)
	require.NoError(t, err)
	require.Equal(t, 7, events, "the warm-up counts as events")
	require.Equal(t, claims{Requests: 2, TTFT: 200, TPOT: 25}, truth, "but not in the means")

	write("{\"arrival_unix_ns\":5,\n")
	_, _, err = readTruth(path, 3)
	require.ErrorContains(t, err, "not JSON")
}

// A round's start-up is taken off its own full run, and ratios are of the same round.
func TestReport(t *testing.T) {
	t.Parallel()
	row := func(client, load string, cpu float64, events int) measurement {
		return measurement{Client: client, Version: "1", Load: load, CPUS: cpu, KernelS: cpu / 2, Events: events}
	}
	var rows []measurement
	for _, startUp := range []float64{1, 3, 2} {
		rows = append(rows,
			row("vllm", "paced-tiny", startUp, 100), row("vllm", "paced", startUp+1, 1100),
			row("glm46", "paced-tiny", 0.5, 0), row("glm46", "paced", 0.75, 2000),
			row(withCertificate, "paced-tiny", startUp/2, 0))
	}
	var s strings.Builder
	printReport(&s, rows)
	require.Contains(t, s.String(), "medians of 3 rounds")
	require.Contains(t, s.String(), "| glm46 | 1 | 0.0 | 0.75, 0.50 | 125.0, 62.5 | 8000 (8000 to 8000) | 1 | 1 | 0 |")
	// Gross, by round: 2000/0.75 against 1100/2, 1100/4 and 1100/3; the middle one is 7.3.
	require.Contains(t, s.String(), "| vllm | 1 | 0.0 | 3.00, 2.00 | 1000.0, 500.0 | 1000 (1000 to 1000) | 8.0 | 7.3 | 0 |")
	require.Contains(t, s.String(), "start-up is 1.00 CPU s (median of 3)")
	require.NotContains(t, s.String(), "aiperf", "what was not measured has no row")
}

func TestInputs(t *testing.T) {
	t.Parallel()
	l := load{requests: 300, tokens: 7, ttft: time.Millisecond}
	all := prompts(l)
	require.Equal(t, all, prompts(l), "every client gets the same")
	seen := map[string]bool{}
	for _, p := range all {
		require.False(t, seen[p], p)
		seen[p] = true
		require.InDelta(t, 404, len(p), 8)
	}
	b := bench{dir: t.TempDir()}
	for _, c := range clients {
		j := job{bench: &b, load: l, url: "http://127.0.0.1:1", dir: filepath.Join(b.dir, c.name)}
		require.NoError(t, os.Mkdir(j.dir, 0o755))
		require.NoError(t, c.prepare(j))
		inputs, err := os.ReadDir(j.dir)
		require.NoError(t, err)
		require.NotEmpty(t, inputs, c.name)
		_, err = c.read(j)
		require.Error(t, err, "%s has no result yet", c.name)
	}
	require.NoError(t, writeTokenizer(b.tokenizer()))
	_, err := found(b.dir, "tokenizer.json")
	require.NoError(t, err)
	require.Len(t, vocabulary(), 256, "one token a byte")
}
