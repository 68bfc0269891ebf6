package main_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tidwall/gjson"

	"github.com/glm46/glm46/harness/quality"
)

// program is the real binary, built once.
var program string

func TestMain(m *testing.M) {
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "glm46-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "glm46")
	build := exec.Command("go", "build", "-trimpath", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%s\n%v\n", out, err)
		return 1
	}
	return m.Run()
}

// site is a working directory with a small data set: prompts of 300 tokens,
// targets of 96.
type site struct {
	t   *testing.T
	dir string
}

func newSite(t *testing.T) *site {
	t.Parallel()
	s := &site{t: t, dir: t.TempDir()}
	for _, set := range []string{"8k", "64k"} {
		s.run(0, nil, "datasets", "gen", "--dataset", set, "--samples", "12", "--prompt-tokens", "300", "--target-tokens", "96")
	}
	return s
}

func (s *site) command(environ []string, args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	cmd.Dir = s.dir
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "TMPDIR=" + s.t.TempDir()}, environ...)
	return cmd
}

// run runs the program and checks its exit code.
func (s *site) run(code int, environ []string, args ...string) (stdout, stderr string) {
	s.t.Helper()
	cmd := s.command(environ, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if got := exitCode(s.t, err); got != code {
		s.t.Fatalf("glm46 %s: exit %d, want %d\n%s%s", strings.Join(args, " "), got, code, out.String(), errs.String())
	}
	return out.String(), errs.String()
}

func exitCode(t *testing.T, err error) int {
	t.Helper()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	require.NoError(t, err)
	return 0
}

// starts returns all start.json of an experiment.
func (s *site) starts(experiment string) []string {
	paths, err := filepath.Glob(filepath.Join(s.dir, "results", experiment, "*", "*", "start.json"))
	require.NoError(s.t, err)
	var out []string
	for _, path := range paths {
		data, err := os.ReadFile(path)
		require.NoError(s.t, err)
		require.True(s.t, json.Valid(data), path)
		out = append(out, string(data))
	}
	return out
}

// The mock of these tests runs 100 times faster than the model.
var fast = []string{"--mock", "--mock-speed", "100", "--no-certificate"}

func TestMainJob(t *testing.T) {
	s := newSite(t)
	stdout, stderr := s.run(0, nil, append([]string{"run", "--exp", "5B"}, fast...)...)
	require.Contains(t, stdout, "5B: valid")
	require.Contains(t, stdout, "kv=bf16")
	for _, level := range []string{"level c1:", "level c16:", "level c100:"} {
		require.Contains(t, stderr, level)
	}
	records, err := filepath.Glob(filepath.Join(s.dir, "results", "5B", "8k", "*", "c100", "run.json"))
	require.NoError(t, err)
	require.Len(t, records, 1)
	run, err := os.ReadFile(records[0])
	require.NoError(t, err)
	require.Equal(t, int64(12), gjson.GetBytes(run, "completed").Int())
	require.Equal(t, int64(12*96), gjson.GetBytes(run, "total_output_tokens").Int())
	require.True(t, gjson.GetBytes(run, "validity.ok").Bool(), string(run))

	// What is measured once is not measured again.
	stdout, _ = s.run(0, nil, append([]string{"run", "--exp", "5B"}, fast...)...)
	require.Contains(t, stdout, "already measured")
	require.Len(t, s.starts("5B"), 1)

	report, _ := s.run(0, nil, "report", "results")
	require.Contains(t, report, "| 5B | kv=bf16 | 8k |")
	list, _ := s.run(0, nil, "list", "--exp", "5B", "--results", "results")
	require.Contains(t, list, "valid")
}

// Cells with the same settings are measured once, and all of them show it.
func TestEqualCells(t *testing.T) {
	s := newSite(t)
	stdout, _ := s.run(0, nil, append([]string{"run", "--exp", "1A,2A,6A"}, fast...)...)
	for _, id := range []string{"1A", "2A", "6A"} {
		require.Contains(t, stdout, id+": valid")
	}
	all, err := filepath.Glob(filepath.Join(s.dir, "results", "*", "*", "*"))
	require.NoError(t, err)
	require.Len(t, all, 1)
	report, _ := s.run(0, nil, "report", "results", "--measured")
	require.Contains(t, report, "| 7A |")
}

func TestRefusedCell(t *testing.T) {
	s := newSite(t)
	stdout, _ := s.run(4, nil, append([]string{"run", "--exp", "3B"}, fast...)...)
	require.Contains(t, stdout, "must be greater than total num kv heads 8")
	require.Contains(t, s.starts("3B")[0], "engine_refused")
	// Beside a cell that runs, a refusal known beforehand is only a result.
	stdout, _ = s.run(0, nil, append([]string{"run", "--exp", "3B,5B"}, fast...)...)
	require.Contains(t, stdout, "3B: refused")
	require.Contains(t, stdout, "5B: valid")
	report, _ := s.run(0, nil, "report", "results")
	require.Contains(t, report, "refused")
}

func TestMissingDataSet(t *testing.T) {
	s := &site{t: t, dir: t.TempDir()}
	_, stderr := s.run(7, nil, "run", "--exp", "5B", "--vllm-version", "0.11.1")
	require.Contains(t, stderr, "glm46 datasets gen --dataset 8k")
	require.NoError(t, os.MkdirAll(filepath.Join(s.dir, "storage/samples/glm46_benchmark"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(s.dir, "storage/samples/glm46_benchmark/8k.jsonl"), []byte("{\"id\":1}\n"), 0o644))
	_, stderr = s.run(7, nil, append([]string{"run", "--exp", "5B"}, fast...)...)
	require.Contains(t, stderr, "8k.jsonl:1")
}

// Another model, fewer GPUs, other cells: another file, not other code.
func TestOtherPlan(t *testing.T) {
	s := newSite(t)
	plan, err := os.ReadFile("harness/experiment/testdata/other.yaml")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(s.dir, "other.yaml"), plan, 0o644))
	list, _ := s.run(0, nil, "list", "--plan", "other.yaml", "--json")
	names := gjson.Get(list, "cells.#.dataset").Array()
	for _, name := range names {
		if _, err := os.Stat(filepath.Join(s.dir, "storage/samples/glm46_benchmark", name.String()+".jsonl.zst")); err != nil {
			from := filepath.Join(s.dir, "storage/samples/glm46_benchmark/8k.jsonl.zst")
			data, err := os.ReadFile(from)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(from), name.String()+".jsonl.zst"), data, 0o644))
		}
	}
	stdout, _ := s.run(0, nil, append([]string{"run", "--plan", "other.yaml", "--all", "--max-tokens", "32"}, fast...)...)
	require.Equal(t, len(names), strings.Count(stdout, ": valid"), stdout)
}

// qsubLine matches the variables of a qsub line of the plan.
var qsubLine = regexp.MustCompile(`qsub -v '([^']*)'`)

// Every qsub line of the plan works with the generated runner, run as PBS does.
func TestRunnerScript(t *testing.T) {
	s := newSite(t)
	s.run(0, nil, "gen-pbs")
	plan, err := os.Open("testdata/qsub.txt")
	require.NoError(t, err)
	defer plan.Close()
	lines := 0
	for scanner := bufio.NewScanner(plan); scanner.Scan(); {
		match := qsubLine.FindStringSubmatch(scanner.Text())
		if match == nil {
			continue
		}
		lines++
		environ := append(strings.Split(match[1], ","), "GLM46_MOCK=1", "GLM46_MOCK_SPEED=50", "GLM46_NO_CERTIFICATE=1", "GLM46_MAX_TOKENS=16",
			fmt.Sprintf("PBS_JOBID=%d.server", lines), "PBS_O_WORKDIR="+s.dir, "PBS_QUEUE=gpu", "PBS_ENVIRONMENT=PBS_BATCH",
			"PATH="+os.Getenv("PATH"), "HOME="+t.TempDir(), "TMPDIR="+t.TempDir(), "NCPUS=2", "OMP_NUM_THREADS=2")
		cmd := exec.Command("bash", filepath.Join(s.dir, "experiments/exp_runner.pbs"))
		cmd.Dir, cmd.Env = t.TempDir(), environ
		out, err := cmd.CombinedOutput()
		want := 0
		if strings.Contains(match[1], "CONTEXT_PARALLEL_SIZE=") {
			want = 4
		}
		if got := exitCode(t, err); got != want {
			t.Errorf("%s: exit %d, want %d\n%s", match[1], got, want, out)
		}
		name := strings.TrimPrefix(strings.Split(match[1], ",")[0], "EXP_NAME=")
		require.Len(t, s.starts(name), 1, match[1])
	}
	require.Equal(t, 12, lines)
	outcomes, err := filepath.Glob(filepath.Join(s.dir, "logs", "*.outcome.json"))
	require.NoError(t, err)
	require.Len(t, outcomes, lines)
}

// A signal at any phase leaves a record that says so and no process, and the
// same command goes on from there.
func TestSignals(t *testing.T) {
	for _, test := range []struct {
		name, waitFor string
		signal        syscall.Signal
	}{
		{"while starting", "starting the server", syscall.SIGTERM},
		{"in a level", "level c1:", os.Interrupt.(syscall.Signal)},
		{"in the last level", "level c16:", syscall.SIGTERM},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSite(t)
			args := []string{"run", "--exp", "5B", "--mock", "--mock-speed", "40", "--max-tokens", "64", "--no-certificate"}
			cmd := s.command(nil, args...)
			stderr, err := cmd.StderrPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			lines := bufio.NewScanner(stderr)
			seen := ""
			for lines.Scan() {
				seen += lines.Text() + "\n"
				if strings.Contains(lines.Text(), test.waitFor) {
					require.NoError(t, cmd.Process.Signal(test.signal))
				}
			}
			require.Equal(t, 5, exitCode(t, cmd.Wait()), seen)
			starts := s.starts("5B")
			require.Len(t, starts, 1, seen)
			require.Equal(t, `["interrupted"]`, gjson.Get(starts[0], "validity.reasons|@ugly").Raw, seen)
			require.Empty(t, processesIn(t, s.dir))

			stdout, _ := s.run(0, nil, args...)
			require.Contains(t, stdout, "5B*: valid")
			require.Len(t, s.starts("5B"), 2)
		})
	}
}

// processesIn lists processes whose working directory is dir.
func processesIn(t *testing.T, dir string) []string {
	t.Helper()
	paths, err := filepath.Glob("/proc/[0-9]*/cwd")
	require.NoError(t, err)
	var found []string
	for _, path := range paths {
		if target, err := os.Readlink(path); err == nil && target == dir {
			found = append(found, path)
		}
	}
	return found
}

func TestWalltime(t *testing.T) {
	s := newSite(t)
	_, stderr := s.run(5, []string{"GLM46_WALLTIME_S=6"}, "run", "--exp", "5B", "--mock", "--mock-speed", "10", "--no-certificate")
	require.Contains(t, stderr, "walltime")
	s.run(0, nil, append([]string{"run", "--exp", "5B"}, fast...)...)
}

// script writes a scenario in which the mock answers the items of the quality
// check, some of them wrongly.
func (s *site) script(wrong int) (path string) {
	type rule struct {
		Match  map[string]string `json:"match"`
		Answer string            `json:"answer"`
	}
	var rules []rule
	for i, it := range quality.Items(0) {
		answer := it.Want
		if i < wrong {
			answer = "none"
		}
		const unique = 60 // bytes of the prompt's end
		rules = append(rules, rule{map[string]string{"prompt_ends": it.Prompt[max(0, len(it.Prompt)-unique):]}, " " + answer + it.Stop})
	}
	data, err := json.Marshal(map[string]any{"version": 1, "requests": rules})
	require.NoError(s.t, err)
	path = filepath.Join(s.dir, fmt.Sprintf("answers-%d.json", wrong))
	require.NoError(s.t, os.WriteFile(path, data, 0o600))
	return path
}

func TestAnswersAreChecked(t *testing.T) {
	s := newSite(t)
	run := func(code int, args ...string) (stdout, stderr string) {
		return s.run(code, nil, append([]string{"run", "--concurrency", "4", "--num-samples", "4", "--mock", "--mock-speed", "500", "--no-certificate"}, args...)...)
	}
	run(0, "--exp", "1A", "--results", "unasked")
	starts, err := filepath.Glob(filepath.Join(s.dir, "unasked", "1A", "8k", "*", "c4", "run.json"))
	require.NoError(t, err)
	require.Len(t, starts, 1)
	record, err := os.ReadFile(starts[0])
	require.NoError(t, err)
	require.Contains(t, gjson.GetBytes(record, "validity.details.quality_degraded").Str, "not_checked: the mock has no model")

	_, stderr := run(0, "--exp", "5B", "--quality", "on", "--mock-scenario", s.script(0))
	require.Contains(t, stderr, "quality: passed, 22 of 22 items right, is the reference")
	// Wrong by itself; then right enough by itself, but not beside the reference.
	stdout, _ := run(3, "--exp", "1A", "--quality", "on", "--mock-scenario", s.script(8))
	require.Contains(t, stdout, "quality_degraded")
	require.Contains(t, stdout, "14 of 22 items answered rightly")
	run(3, "--exp", "1B", "--quality", "on", "--mock-scenario", s.script(5))
	start := s.starts("1B")[0]
	require.Equal(t, "degraded", gjson.Get(start, "quality.status").Str)
	require.Equal(t, int64(5), gjson.Get(start, "quality.reference.lost").Int())

	stdout, _ = s.run(0, nil, "report", "results", "--measured")
	require.Contains(t, stdout, "not valid (quality_degraded)")
	require.Contains(t, stdout, "answers: passed, 22 of 22 items right, is the reference")
	s.run(2, nil, "compare", "5B", "1B")
	stdout, _ = s.run(0, nil, "compare", "5B", "1B", "--include-invalid")
	require.Contains(t, stdout, "answers of 1B: degraded, 17 of 22 items right")
	require.NotContains(t, stdout, "better")
	s.run(2, nil, "run", "--exp", "1A", "--mock", "--quality", "maybe")
}
