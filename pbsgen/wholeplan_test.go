package pbsgen

import (
	"bytes"
	"context"
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

	"github.com/glm46/glm46/pbsgen/pbstest"
)

// realSite is a project folder with the real program, as built from this tree, and
// small data sets: jobs, records and resuming are tested here, not the figures.
func realSite(t *testing.T, config pbstest.Config) site {
	t.Helper()
	if !long() {
		t.Skip("measures the whole plan against the mock, a minute or two: set GLM46_LONG=1")
	}
	s := newSite(t, config, "")
	build := exec.Command("go", "build", "-o", filepath.Join(s.root, "glm46"), "..")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	dir := filepath.Join(s.root, "storage", "samples", "glm46_benchmark")
	require.NoError(t, os.MkdirAll(dir, 0o755))
	for name, words := range map[string]int{"8k": 50, "64k": 200} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name+".jsonl"), smallSet(words), 0o644))
	}
	return s
}

// smallSet is a data set of 100 samples with prompts of so many words and answers of
// 32 tokens, in place of 8,192 and 64,000.
func smallSet(words int) []byte {
	random := rand.New(rand.NewPCG(uint64(words), 1))
	var set bytes.Buffer
	for sample := range 100 {
		fmt.Fprintf(&set, `{"id":"s%d","target_tokens":32,"prompt":"`, sample)
		for range words {
			fmt.Fprintf(&set, "word%d ", random.IntN(10_000))
		}
		set.WriteString("\"}\n")
	}
	return set.Bytes()
}

func (s site) glm46(args ...string) string {
	s.t.Helper()
	command := exec.Command(filepath.Join(s.root, "glm46"), args...)
	command.Dir = s.root
	var stderr strings.Builder
	command.Stderr = &stderr
	out, err := command.Output()
	require.NoError(s.t, err, "glm46 %q: %s", args, stderr.String())
	return string(out)
}

// mock are the variables that turn a job into one against the mock, so many times as
// fast as a real engine.
func mock(speed int) string {
	return fmt.Sprintf("GLM46_MOCK=1,GLM46_MOCK_SPEED=%d,GLM46_NO_CERTIFICATE=1", speed)
}

// rows counts the rows of the results table by status.
func (s site) rows() (all int, byStatus map[string]int) {
	s.t.Helper()
	var report struct {
		Rows []struct {
			Status struct{ Kind string }
		}
	}
	require.NoError(s.t, json.Unmarshal([]byte(s.glm46("report", "results", "--format", "json")), &report))
	byStatus = map[string]int{}
	for _, row := range report.Rows {
		byStatus[row.Status.Kind]++
	}
	return len(report.Rows), byStatus
}

// complete gives how often each level of each configuration was finished.
func (s site) complete() map[string]int {
	s.t.Helper()
	found := map[string]int{}
	pattern := filepath.Join(strings.ReplaceAll(s.root, "$", `\$`), "results", "*", "*", "*", "*", "run.json")
	paths, err := filepath.Glob(pattern)
	require.NoError(s.t, err)
	for _, path := range paths {
		data, err := os.ReadFile(path)
		require.NoError(s.t, err)
		var run struct {
			Validity struct {
				Reasons []string
				Details map[string]string
			}
		}
		require.NoError(s.t, json.Unmarshal(data, &run))
		// A level that an earlier start finished is copied into the one that goes on.
		copied := strings.HasPrefix(run.Validity.Details["resumed"], "measured on start ")
		if len(run.Validity.Reasons) == 0 && !copied {
			parts := strings.Split(path, string(filepath.Separator))
			found[strings.Join([]string{parts[len(parts)-5], parts[len(parts)-4], parts[len(parts)-2]}, "/")]++
		}
	}
	return found
}

// All commands of the plan, and the two cells that it has none for, give its table:
// 22 cells, of which 12 configurations are measured and 2 refused.
func TestWholePlanByItsCommands(t *testing.T) {
	t.Parallel()
	s := realSite(t, pbstest.Config{})
	s.glm46("gen-pbs")
	s.from = s.root
	for _, line := range append([]string{"EXP_NAME=1A", "EXP_NAME=4C_len65k_64k,MAX_MODEL_LEN=65536,DATASET_TYPE=64k"}, planLines...) {
		id := s.submit(nil, "-v", line+","+mock(2000), "experiments/exp_runner.pbs")
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		require.NoError(t, s.Wait(ctx, id))
		cancel()
		status, _ := s.Job(id)
		want := 0
		if strings.Contains(line, "CONTEXT_PARALLEL_SIZE") {
			want = 4
		}
		require.Equal(t, want, *status.ExitStatus, "%s:\n%s", line, s.log(id))
		require.Equal(t, want, *s.outcomes()[id].Exit)
		require.Empty(t, s.Survivors(id), "nothing of the job is left")
	}
	s.requirePlanMeasuredOnce()
}

// requirePlanMeasuredOnce wants the table of 22 cells: 12 configurations measured,
// each level of them once, and 2 refused.
func (s site) requirePlanMeasuredOnce() {
	s.t.Helper()
	complete := s.complete()
	require.Len(s.t, complete, 12*3, "three levels of twelve configurations: %v", complete)
	for level, times := range complete {
		require.Equal(s.t, 1, times, level)
	}
	all, byStatus := s.rows()
	require.Equal(s.t, 22, all)
	require.Equal(s.t, map[string]int{"valid": 20, "refused": 2}, byStatus)
}

// The whole plan as a chain with a walltime that is too short, each job cut at a
// random moment, some by their own deadline: every configuration is measured once.
func TestWholePlanByAChain(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	var mu sync.Mutex
	round := 0
	const (
		second = 40 * time.Microsecond // 24 h are 3.5 s
		// The mock alone needs more than a second for a cell at this speed, also on a
		// fast machine: the first job does not get through.
		speed = 150
	)
	s := realSite(t, pbstest.Config{
		Second: second, KillDelay: 10 * time.Second * time.Duration(time.Second/second), // ten real seconds
		Late: func(string) time.Duration {
			mu.Lock()
			defer mu.Unlock()
			// Later jobs get more, so that slow machines come to an end too.
			return time.Duration(random.IntN(75_000<<min(round, 6))) * time.Second
		},
	})
	notes := s.glm46("gen-pbs", "--all", "--walltime", "24:00:00")
	require.Empty(t, notes, "notes go to stderr")
	submit := filepath.Join(s.root, "experiments", "chain", "submit.sh")
	before := map[string]int{}
	for range 20 {
		// In every other round glm46 knows no limit, and PBS kills it; else it keeps 2 s
		// of these for its records.
		variables := mock(speed) + ",GLM46_WALLTIME_S=86400"
		if round%2 == 1 {
			variables = fmt.Sprintf("%s,GLM46_WALLTIME_S=%d", mock(speed), 4+(1<<min(round, 6))+random.IntN(3))
		}
		out, err := s.runSubmit(submit, "-v", variables)
		require.NoError(t, err, out)
		s.waitLong()
		jobs := s.Jobs()
		t.Logf("round %d: %v", round, lastExits(jobs))
		now := s.complete()
		for key, n := range before {
			require.GreaterOrEqual(t, now[key], n, "nothing is lost")
		}
		before = now
		mu.Lock()
		round++
		mu.Unlock()
		if *jobs[len(jobs)-1].ExitStatus == 0 {
			break
		}
	}
	jobs := s.Jobs()
	require.Zero(t, *jobs[len(jobs)-1].ExitStatus)
	byWalltime, byDeadline := 0, 0
	for _, job := range jobs {
		require.Empty(t, s.Survivors(job.ID))
		switch *job.ExitStatus {
		case -29:
			byWalltime++
		case 5:
			byDeadline++
		}
	}
	t.Logf("%d jobs, %d cut by PBS, %d by their own deadline", len(jobs), byWalltime, byDeadline)
	require.Positive(t, byWalltime)
	s.requirePlanMeasuredOnce()
}

func (s site) waitLong() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Minute)
	defer cancel()
	require.NoError(s.t, s.Wait(ctx))
}

func lastExits(jobs []pbstest.Status) []int {
	var exits []int
	for _, job := range jobs[max(len(jobs)-4, 0):] {
		if job.ExitStatus != nil {
			exits = append(exits, *job.ExitStatus)
		}
	}
	return exits
}
