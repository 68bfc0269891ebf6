package command

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tidwall/gjson"
)

func runMain(t *testing.T, environ []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = Main(append([]string{"glm46"}, args...), Environment{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs, Environ: environ})
	return code, out.String(), errs.String()
}

func TestPermuteArguments(t *testing.T) {
	app := newApp(Environment{Stdout: &bytes.Buffer{}, Stderr: &bytes.Buffer{}})
	for _, test := range []struct{ in, want string }{
		{"report DIR --format md", "report --format md DIR"},
		{"report --format=md DIR", "report --format=md DIR"},
		{"datasets verify a b --json", "datasets verify --json a b"},
		{"datasets gen -o DIR --dataset 8k", "datasets gen -o DIR --dataset 8k"},
		{"gen-pbs -o -", "gen-pbs -o -"},
		{"report DIR -- --format", "report DIR -- --format"},
		{"mock serve MODEL --port 1 --enforce-eager", "mock serve MODEL --port 1 --enforce-eager"},
		{"compare A B --json", "compare --json A B"},
	} {
		got := permuteArguments(app, append([]string{"glm46"}, strings.Fields(test.in)...))
		if want := append([]string{"glm46"}, strings.Fields(test.want)...); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", test.in, got, want)
		}
	}
}

func TestUsageErrors(t *testing.T) {
	for _, test := range []struct {
		args   string
		stderr string
	}{
		{"run --exp 5X", "5A"},
		{"run --exp 5B --moc", "--mock"},
		{"rum", "run"},
		{"run", "EXP_NAME"},
		{"run --exp 5B --num-samples 0", "above 0"},
		{"run --exp 5B --mock --mock-speed 0", "above 0"},
		{"run --exp 5B --vllm-version x", "x"},
		{"run --exp 5B --data-from /", "--mock only"},
		{"run --exp 5B stray", "stray"},
		{"run --exp 5B --mock-speed NaN --dry-run", "above 0"},
		{"run --exp 5B --walltime bad --dry-run", "walltime"},
		{"run --exp 5B --set NONSENSE=1", "NONSENSE"},
		{"run --exp 5B --plan /nonexistent.yaml", "nonexistent"},
		{"run --exp 5B --vllm $(x)", "not expanded"},
		{"run --exp 5B --vllm $HOME/vllm", `\$ for a dollar sign`},
		{"run --exp 5B --vllm \"${x}\"", "not expanded"},
		{"run --exp 5B --vllm <(x)", "--vllm"},
		{"run --exp 5B --vllm 'unclosed", "--vllm"},
		{"report", "which results folder"},
		{"report /nonexistent", "nonexistent"},
		{"datasets", "one of gen, verify, info"},
		{"datasets gen --dataset 9k", "8k"},
		{"bench", "--url"},
		{"bench --url ftp://x", "http://HOST:PORT"},
		{"gen-pbs --walltime tomorrow", "walltime"},
	} {
		code, stdout, stderr := runMain(t, nil, strings.Fields(test.args)...)
		if code != 2 || !strings.Contains(stderr, test.stderr) || !strings.HasPrefix(stderr, "glm46: error: ") {
			t.Errorf("%s: exit %d, stderr %q; want 2 and %q", test.args, code, stderr, test.stderr)
		}
		if stdout != "" {
			t.Errorf("%s: prints %q on stdout", test.args, stdout)
		}
	}
}

// Every command answers --help with examples, on stdout.
func TestHelp(t *testing.T) {
	for _, command := range []string{"list", "run", "bench", "plan", "gen-pbs", "selftest", "mock serve", "datasets gen", "datasets verify", "datasets info", "report", "compare", "doctor"} {
		code, stdout, stderr := runMain(t, nil, append(strings.Fields(command), "--help")...)
		if code != 0 || stderr != "" || !strings.Contains(stdout, "Example") {
			t.Errorf("%s --help: exit %d, stderr %q, no examples in %q", command, code, stderr, stdout)
		}
	}
}

func TestHostileEnvironment(t *testing.T) {
	for _, value := range []string{"$(touch x)", "../..", strings.Repeat("a", 10_000), "5B\nx", `5B"`, "5B'", "5B;x", "-x", ""} {
		code, stdout, _ := runMain(t, []string{"EXP_NAME=" + value}, "run", "--dry-run")
		if code != 2 || stdout != "" {
			t.Errorf("EXP_NAME=%.40q: exit %d, stdout %q", value, code, stdout)
		}
	}
	for _, environ := range [][]string{{"EXP_NAME=5B", "GLM46_MOKC=1"}, {"EXP_NAME=5B", "NUM_SAMPLE=3"}, {"EXP_NAME=5B", "NUM_SAMPLES=x"}, {"EXP_NAME=5B", "GLM46_MOCK=perhaps"}} {
		code, _, stderr := runMain(t, environ, "run", "--dry-run")
		if code != 2 {
			t.Errorf("%q: exit %d, %q", environ, code, stderr)
		}
	}
}

func TestDryRun(t *testing.T) {
	code, stdout, stderr := runMain(t, []string{"EXP_NAME=3B_dcp2", "CONTEXT_PARALLEL_SIZE=2", "MAX_MODEL_LEN=131072", "DATASET_TYPE=64k"}, "run", "--dry-run")
	require.Equal(t, 4, code)
	require.Contains(t, stdout, "--decode-context-parallel-size 2")
	require.Contains(t, stderr, "refuses")
	require.Equal(t, 1, strings.Count(stdout, "\n"))

	code, stdout, stderr = runMain(t, nil, "run", "--exp", "5B", "--dry-run")
	require.Equal(t, 0, code)
	require.Empty(t, stderr)
	require.True(t, strings.HasPrefix(stdout, "vllm serve zai-org/GLM-4.6 "), stdout)
	require.Contains(t, stdout, "--kv-cache-dtype auto")

	code, stdout, _ = runMain(t, []string{"GLM46_WALLTIME_S=12.5"}, "run", "--exp", "5B", "--dry-run")
	require.Equal(t, 2, code)
	require.Empty(t, stdout)

	code, stdout, _ = runMain(t, nil, "run", "--exp", "5B", "--dry-run", "--vllm", "podman run image vllm", "--json")
	require.Equal(t, 0, code)
	require.Equal(t, `["podman","run","image","vllm","serve"]`, firstWords(stdout, 5))
}

// firstWords gives the first words of a dry run's first command as JSON.
func firstWords(stdout string, n int) string {
	words := gjson.Get(stdout, "cells.0.argv").Array()[:n]
	quoted := make([]string, n)
	for i, word := range words {
		quoted[i] = word.Raw
	}
	return "[" + strings.Join(quoted, ",") + "]"
}

// Without vllm a refusal and a missing data set are still said first.
func TestOrderOfChecksWithoutVLLM(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	missing := t.TempDir()
	for _, test := range []struct {
		exp  string
		want int
	}{
		{"3B", exitEngine},
		{"1A", exitDataSet},
		{"3B,1A", exitDataSet},
	} {
		code, _, stderr := runMain(t, nil, "run", "--exp", test.exp, "--data", missing, "--results", t.TempDir())
		if code != test.want {
			t.Errorf("%s: exit %d, want %d: %s", test.exp, code, test.want, stderr)
		}
		if want := "vllm: not found"; !strings.Contains(stderr, want) {
			t.Errorf("%s: %q does not say %q", test.exp, stderr, want)
		}
	}
}

// A sample without a length to ask for is a fault of the data set, seen before
// a server is started for it.
func TestMissingTargets(t *testing.T) {
	data, results := t.TempDir(), filepath.Join(t.TempDir(), "results")
	line := `{"id":"a","prompt":"One short prompt."}` + "\n"
	require.NoError(t, os.WriteFile(filepath.Join(data, "8k.jsonl"), []byte(line), 0o644))
	code, _, stderr := runMain(t, nil, "run", "--exp", "1A", "--mock", "--mock-speed", "200", "--data", data, "--results", results)
	if want := "give --max-tokens"; code != exitDataSet || !strings.Contains(stderr, want) {
		t.Errorf("exit %d, want %d: %q, want it to say %q", code, exitDataSet, stderr, want)
	}
	if _, err := os.Stat(results); err == nil {
		t.Error("a results folder was made")
	}
}
