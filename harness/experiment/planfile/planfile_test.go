package planfile

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/glm46/glm46/harness/experiment"
)

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
		return path
	}
	p, err := Load("")
	require.NoError(t, err)
	require.Equal(t, "zai-org/GLM-4.6", p.Model)
	p, err = Load(write("plan.yaml", string(experiment.DefaultYAML())))
	require.NoError(t, err)
	require.Len(t, p.Groups, 8)

	bad := write("bad.yaml", "schema: 1\nmodl: x\n")
	for path, want := range map[string]string{
		bad:                             bad + `:2:1: plan: unknown key "modl"; nearest: model`,
		filepath.Join(dir, "none.yaml"): "no such file",
		dir:                             "no regular file",
		"/dev/zero":                     "no regular file",
		write("big", strings.Repeat("#", experiment.MaxPlanBytes+10)): "larger than",
		write("empty", ""): "empty; a plan needs",
	} {
		_, err := Load(path)
		var usage *experiment.UsageError
		require.ErrorAs(t, err, &usage, path)
		require.Contains(t, err.Error(), want)
	}
}
