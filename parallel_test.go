package main_test

import (
	"bufio"
	"bytes"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Two jobs that measure the same cells at the same moment share the work: each cell is
// measured once, and both show all results.
func TestTwoJobsShareTheWork(t *testing.T) {
	s := newSite(t)
	args := []string{"run", "--exp", "1A,1B,2B,5B", "--mock", "--mock-speed", "50", "--no-certificate"}
	commands := make([]*exec.Cmd, 2)
	outputs := make([]bytes.Buffer, 2)
	for i := range commands {
		commands[i] = s.command([]string{"PBS_JOBID=" + string(rune('1'+i)) + ".srv"}, args...)
		commands[i].Stdout, commands[i].Stderr = &outputs[i], &outputs[i]
		require.NoError(t, commands[i].Start())
	}
	both := ""
	for i, command := range commands {
		require.Equal(t, 0, exitCode(t, command.Wait()), "%s", &outputs[i])
		for _, id := range []string{"1A", "1B", "2B", "5B"} {
			require.Contains(t, outputs[i].String(), id+": valid")
		}
		both += outputs[i].String()
	}
	require.Contains(t, both, "another job measures this now (job ")
	require.Contains(t, both, "already measured")
	starts, err := filepath.Glob(filepath.Join(s.dir, "results", "*", "*", "*", "start.json"))
	require.NoError(t, err)
	require.Len(t, starts, 4, both)
	_, stderr := s.run(0, nil, "report", "results")
	require.Empty(t, stderr)
}

// A job that is killed without a word blocks nobody: another one goes on with its cell.
func TestKilledJobBlocksNobody(t *testing.T) {
	s := newSite(t)
	args := []string{"run", "--exp", "5B", "--mock", "--mock-speed", "20", "--no-certificate"}
	command := s.command([]string{"PBS_JOBID=1.srv"}, args...)
	stderr, err := command.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, command.Start())
	lines := bufio.NewScanner(stderr)
	for lines.Scan() && !strings.Contains(lines.Text(), "level c1:") {
	}
	require.NoError(t, command.Process.Kill())
	require.Error(t, command.Wait())
	stdout, _ := s.run(0, nil, args...)
	require.Contains(t, stdout, "5B: valid")
	require.Len(t, s.starts("5B"), 2)
}

// What a start had finished is used also where the start after it was cut before it
// could take that over.
func TestResumingLooksBehindTheLastStart(t *testing.T) {
	s := newSite(t)
	args := []string{"run", "--exp", "5B", "--mock", "--mock-speed", "20", "--no-certificate"}
	for _, until := range []string{"level c1:", "starting the server"} {
		command := s.command(nil, args...)
		stderr, err := command.StderrPipe()
		require.NoError(t, err)
		require.NoError(t, command.Start())
		lines := bufio.NewScanner(stderr)
		for lines.Scan() && !strings.Contains(lines.Text(), until) {
		}
		require.NoError(t, command.Process.Kill())
		require.Error(t, command.Wait())
	}
	stdout, stderr := s.run(0, nil, args...)
	require.Contains(t, stdout, "5B: valid")
	require.Contains(t, stderr, "level c1 was finished on start")
	require.Len(t, s.starts("5B"), 3)
}
