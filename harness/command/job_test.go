package command

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// What bash's printf %q makes of any words is read back as these words.
func TestCommandWords(t *testing.T) {
	for _, words := range [][]string{
		{"vllm"}, {"run-vllm", "a b", "it's", `"`, `\`, "$HOME", "`x`", "$(x)", "*", "~", "#x", "x=1", ";", "&", "a\nb", "é", "", "{a,b}", "!x"},
		{"apptainer", "exec", "--nv", "--bind", "/my $project's (1)", "/images/vllm.sif", "vllm"},
	} {
		line, err := exec.Command("bash", append([]string{"-c", `printf '%q ' "$@"`, "_"}, words...)...).Output()
		require.NoError(t, err)
		got, err := commandWords(string(line))
		require.NoError(t, err, "%s", line)
		require.Equal(t, words, got, "%s", line)
	}
}

// Only a folder that a job script made and marked is removed, read-only parts too.
func TestRemoveJobFolder(t *testing.T) {
	base := t.TempDir()
	folder := func(name string, marked bool) string {
		dir := filepath.Join(base, name)
		require.NoError(t, os.MkdirAll(filepath.Join(dir, "image", "etc"), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "image", "etc", "passwd"), nil, 0o444))
		require.NoError(t, os.Chmod(filepath.Join(dir, "image", "etc"), 0o555))
		t.Cleanup(func() { _ = os.Chmod(filepath.Join(dir, "image", "etc"), 0o755) })
		if marked {
			require.NoError(t, os.WriteFile(filepath.Join(dir, jobFolderMark), nil, 0o644))
		}
		return dir
	}
	link := filepath.Join(base, "glm46-link")
	target := folder("glm46-target", true)
	require.NoError(t, os.Symlink(target, link))
	for dir, want := range map[string]bool{
		folder("glm46-1.srv.5.x", true): false, folder("glm46-unmarked", false): true, folder("other", true): true, link: true, link + "/": true,
	} {
		removeJobFolder(Environment{Stderr: os.Stderr, Environ: []string{variableJobFolder + "=" + dir}})
		_, err := os.Lstat(filepath.Clean(dir))
		require.Equal(t, want, err == nil, dir)
	}
	require.DirExists(t, target)
	removeJobFolder(Environment{})
}
