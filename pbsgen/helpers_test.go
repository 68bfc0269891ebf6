package pbsgen

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"mvdan.cc/sh/v3/syntax"

	"github.com/glm46/glm46/pbsgen/pbs"
	"github.com/glm46/glm46/pbsgen/pbstest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestMain(m *testing.M) {
	pbstest.Main()
	goleak.VerifyTestMain(m)
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, got, 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err, "run go test -update")
	require.Equal(t, string(want), string(got))
}

// sound fails unless a script is what an administrator would sign: two parsers and
// shellcheck read it, and qsub's rules take its directives.
func sound(t *testing.T, script []byte) {
	t.Helper()
	_, err := syntax.NewParser(syntax.Variant(syntax.LangBash)).Parse(bytes.NewReader(script), "")
	require.NoError(t, err)
	bash := exec.Command("bash", "-n")
	bash.Stdin = bytes.NewReader(script)
	out, err := bash.CombinedOutput()
	require.NoError(t, err, "bash -n: %s", out)
	if bytes.Contains(script, []byte(pbs.Prefix)) {
		found, err := pbs.Scan(script)
		require.NoError(t, err)
		require.Empty(t, found.Ignored)
	}
	require.NotContains(t, string(script), "shellcheck disable")
	shellcheck(t, script)
}

// shellcheck runs the program of that name where there is one; TestShellcheckIsThere
// says so where there is none.
func shellcheck(t *testing.T, script []byte) {
	t.Helper()
	program, err := exec.LookPath("shellcheck")
	if err != nil {
		return
	}
	command := exec.Command(program, "--norc", "--severity=style", "-")
	command.Stdin = bytes.NewReader(script)
	out, err := command.CombinedOutput()
	require.NoError(t, err, "shellcheck:\n%s", out)
}

func TestShellcheckIsThere(t *testing.T) {
	if _, err := exec.LookPath("shellcheck"); err != nil {
		t.Skip("shellcheck is not installed: the scripts are checked by bash and by a parser only; .ci/run has it")
	}
}

// planCells are cells as the plan has them, with made-up hours.
func planCells() []Cell {
	cells := []Cell{
		{ID: "1A", Title: "1A: baseline, 8k", ConfigHash: "base", Hours: 3.1},
		{ID: "1B", Title: "1B: compiled, 8k", Settings: []string{"ENFORCE_EAGER=no"}, ConfigHash: "1b", Hours: 1.4},
		{ID: "2A", Title: "2A: EP, 8k", ConfigHash: "base", Hours: 3.1},
		{ID: "2B", Title: "2B: no EP, 8k", Settings: []string{"ENABLE_EP=no"}, ConfigHash: "2b", Hours: 3.4},
		{ID: "3A/8k", Title: "3A/8k: DCP-1, 8k", ConfigHash: "base", Hours: 3.1},
		{ID: "3A/64k", Title: "3A/64k: DCP-1, 64k", Settings: []string{"MAX_MODEL_LEN=131072", "DATASET_TYPE=64k"}, ConfigHash: "3a64", Hours: 19.5},
		{ID: "3B", Title: "3B: DCP-2, 64k", Settings: []string{"CONTEXT_PARALLEL_SIZE=2", "MAX_MODEL_LEN=131072"}, ConfigHash: "3b", Refused: "context parallelism needs more tensor-parallel ranks than KV heads"},
		{ID: "5B", Title: "5B: kv=bf16, 8k", Settings: []string{"KV_CACHE_DTYPE=auto"}, ConfigHash: "5b", Hours: 3.6},
		{ID: "8B", Title: "8B: MTP-2, 8k", Settings: []string{"ENABLE_MTP=yes", "MTP_NUM_TOKENS=2"}, ConfigHash: "8b", Hours: 2.9},
	}
	return cells
}

func mustProfile(t *testing.T, text string) Profile {
	t.Helper()
	p, err := ParseProfile("site.yaml", []byte(text))
	require.NoError(t, err)
	return p
}

func has(t *testing.T, script []byte, lines ...string) {
	t.Helper()
	all := strings.Split(string(script), "\n")
	for _, line := range lines {
		require.Contains(t, all, line)
	}
}
