package pbsgen

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/glm46/glm46/pbsgen/pbstest"
)

// worker stands for glm46 where time matters: a cell is 8 steps of 0.05 s, each kept
// on disk at once, so that the same command goes on where it was stopped. At SIGTERM
// and at its deadline it leaves with 5. It notes every cell that it completes, so
// that one measured twice shows.
const worker = `#!/bin/bash
mkdir -p -- "$GLM46_RESULTS"
outcome() { printf '{"job_id":"%s","state":"ended","exit_code":%d}\n' "${PBS_JOBID:-none}" "$1" >"$GLM46_OUTCOME"; exit "$1"; }
trap 'outcome 5' TERM
while [ $# -gt 0 ]; do
  if [ "$1" = --exp ]; then cells=$2; fi
  shift
done
[ -n "${cells:-}" ] || cells=$EXP_NAME
for cell in ${cells//,/ }; do
  file=$GLM46_RESULTS/${cell//\//_}
  for ((step = $(cat "$file" 2>/dev/null | wc -l); step < 8; step++)); do
    if [ -n "${STOP_AFTER:-}" ] && [ "$STOP_AFTER" -le "$SECONDS" ]; then outcome 5; fi
    sleep 0.05 &
    wait $!
    echo "$PBS_JOBID" >>"$file"
    if [ $step = 7 ]; then echo "$cell" >>"$GLM46_RESULTS/completed"; fi
  done
done
outcome 0
`

// commands installs qsub and its like for scripts, and gives their folder.
func (s site) commands() string {
	s.t.Helper()
	program, err := os.Executable()
	require.NoError(s.t, err)
	dir := filepath.Join(s.from, "bin")
	require.NoError(s.t, s.InstallCommands(dir, program))
	return dir
}

func (s site) runSubmit(script string, args ...string) (string, error) {
	command := exec.Command("bash", append([]string{script}, args...)...)
	command.Env = []string{"PATH=" + s.commands() + ":" + os.Getenv("PATH"), "HOME=/home/user"}
	command.Dir = s.from
	out, err := command.CombinedOutput()
	return string(out), err
}

// A chain whose jobs are cut by the walltime, each at a random moment, ends with
// every cell measured once.
func TestChainCutAtRandom(t *testing.T) {
	t.Parallel()
	seeds := uint64(1)
	if long() {
		seeds = 10
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(seed, 1))
			var mu sync.Mutex
			// A PBS second is 1 ms: the limit is 0.63 s, and jobs are cut 0 to 0.12 s
			// later. A job of two cells, 0.8 s and more, does not get through.
			s := newSite(t, pbstest.Config{Second: time.Millisecond, KillDelay: 60 * time.Second * 20, Late: func(string) time.Duration {
				mu.Lock()
				defer mu.Unlock()
				return time.Duration(random.IntN(120)) * time.Second
			}}, worker)
			cells := planCells()
			// Each cell needs 0.4 s and more, thus 6 min 40 s of PBS; the plan thinks less.
			for i := range cells {
				cells[i].Hours /= 1000
				cells[i].ConfigHash = ""
			}
			paths := s.write(Request{All: true, Cells: cells, Options: Options{Walltime: Walltime{Limit: 10*time.Minute + 30*time.Second}, Spares: 30}}) // also enough where a machine is slow
			out, err := s.runSubmit(paths[len(paths)-1])
			require.NoError(t, err, out)
			var jobs []string
			for _, line := range strings.Split(strings.TrimSpace(out), "\n") {
				require.Regexp(t, regexp.MustCompile(`^\d+\.pbstest\texperiments/chain/job_\d\d\.pbs$`), line)
				jobs = append(jobs, strings.Fields(line)[0])
			}
			s.wait()
			completed, err := os.ReadFile(filepath.Join(s.root, "results", "completed"))
			require.NoError(t, err)
			got := strings.Fields(string(completed))
			slices.Sort(got)
			want := ids(cells)
			slices.Sort(want)
			require.Equal(t, want, got, "each cell is completed once")
			cut := 0
			for _, id := range jobs {
				status, _ := s.Job(id)
				require.NotNil(t, status.ExitStatus, "afterany lets each job run")
				o := s.outcomes()[id]
				if *status.ExitStatus == -29 {
					cut++
					// PBS says -29, the outcome file what happened: also 0, where the
					// signal came after the last cell, and no end, where a slow machine
					// let the job not come to it.
					if o.State == "ended" {
						require.Contains(t, []int{0, 5}, *o.Exit)
					}
				} else {
					require.Equal(t, "ended", o.State)
					require.Equal(t, *status.ExitStatus, *o.Exit)
				}
			}
			t.Logf("%d jobs, %d cut, %d cells", len(jobs), cut, len(cells))
			require.Positive(t, cut, "some job was cut")
			require.Zero(t, *s.outcomes()[jobs[len(jobs)-1]].Exit)
		})
	}
}

// A chain waits for the job before, not for its success; nothing runs before all
// are submitted.
func TestChainSubmission(t *testing.T) {
	t.Parallel()
	s := newSite(t, pbstest.Config{NoHistory: true}, "#!/bin/bash\necho \"$PBS_JOBNAME $*\" >>ran\nexit 3\n")
	paths := s.write(Request{All: true, Cells: planCells(), Options: Options{Walltime: Walltime{Limit: 24 * time.Hour}}})
	out, err := s.runSubmit(paths[len(paths)-1], "-A", "my account")
	require.NoError(t, err, out)
	s.wait()
	ran, err := os.ReadFile(filepath.Join(s.root, "ran"))
	require.NoError(t, err)
	require.Equal(t, "glm46_chain_01 run --exp 1A,2A,3A/8k,1B,2B,3B,5B,8B\n"+
		"glm46_chain_02 run --exp 1A,2A,3A/8k,1B,2B,3B,5B,8B,3A/64k\n"+
		"glm46_chain_03 run --exp 1A,2A,3A/8k,1B,2B,3B,5B,8B,3A/64k\n", string(ran))
}

// Where one qsub fails, those submitted before are taken back.
func TestSubmitUndoes(t *testing.T) {
	t.Parallel()
	s := newSite(t, pbstest.Config{}, "#!/bin/bash\ntouch ran\n")
	paths := s.write(Request{All: true, Cells: planCells(), Options: Options{Walltime: Walltime{Limit: 24 * time.Hour}}})
	require.NoError(t, os.WriteFile(paths[1], []byte("#!/bin/bash\n#PBS -Z\n"), 0o644))
	out, err := s.runSubmit(paths[len(paths)-1])
	require.Error(t, err)
	require.Contains(t, out, "submit.sh: qsub failed; taking back the jobs submitted before it: 0.pbstest")
	s.wait()
	status, _ := s.Job("0")
	require.Nil(t, status.ExitStatus)
	require.NoFileExists(t, filepath.Join(s.root, "ran"))
}

func TestSubmitWithoutPBS(t *testing.T) {
	t.Parallel()
	s := newSite(t, pbstest.Config{}, recorder)
	paths := s.write(Request{Exp: true, Cells: planCells()})
	command := exec.Command("bash", paths[len(paths)-1])
	command.Env = []string{"PATH=" + os.Getenv("PATH")}
	out, err := command.CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "no qsub here")
}

// The whole plan as single jobs, submitted at once.
func TestSubmitJobs(t *testing.T) {
	t.Parallel()
	s := newSite(t, pbstest.Config{Nodes: 4}, "#!/bin/bash\nshift\nprintf '%s %s\n' \"$PBS_JOBNAME\" \"$*\" >\"ran.$PBS_JOBID\"\n")
	paths := s.write(Request{Exp: true, Cells: planCells()[3:7]})
	out, err := s.runSubmit(paths[len(paths)-1])
	require.NoError(t, err, out)
	s.wait()
	var got []string
	for i := range 3 {
		data, err := os.ReadFile(filepath.Join(s.root, fmt.Sprintf("ran.%d.pbstest", i)))
		require.NoError(t, err)
		got = append(got, strings.TrimSpace(string(data)))
	}
	require.Equal(t, []string{
		"glm46_2B --exp 2B", "glm46_3A --exp 3A/8k,3A/64k", "glm46_3B --exp 3B",
	}, got)
}

// A job that its walltime stops submits itself again, with the same variables, until
// it is done.
func TestResubmission(t *testing.T) {
	t.Parallel()
	s := newSite(t, pbstest.Config{}, worker)
	s.commands()
	script := s.write(Request{Options: Options{Resubmit: 5}})[0]
	// Six cells of 0.4 s, stopped by glm46's own deadline after a second at most.
	results := filepath.Join(s.from, "my results")
	id := s.submit(nil, "-v", "EXP_NAME=a b c d e f,STOP_AFTER=1,NUM_SAMPLES=7,GLM46_RESULTS="+results, script)
	s.wait()
	completed, err := os.ReadFile(filepath.Join(results, "completed"))
	require.NoError(t, err)
	require.Equal(t, "a b c d e f", strings.Join(strings.Fields(string(completed)), " "))
	jobs := s.Jobs()
	require.Greater(t, len(jobs), 1)
	require.LessOrEqual(t, len(jobs), 6)
	for _, job := range jobs[:len(jobs)-1] {
		require.Equal(t, 5, *job.ExitStatus)
	}
	require.Zero(t, *jobs[len(jobs)-1].ExitStatus)
	for _, job := range jobs {
		require.Equal(t, "7", variable(job, "NUM_SAMPLES"))
	}
	require.Contains(t, s.log(id), "submitting "+script+" again (1 of 5)")
}

// Queue and walltime of qsub's command line go on too.
func TestResubmissionKeepsQueueAndWalltime(t *testing.T) {
	t.Parallel()
	s := newSite(t, pbstest.Config{Queues: map[string]pbstest.Queue{"workq": {}, "debug": {}}, DefaultQueue: "workq"}, always)
	s.commands()
	script := s.write(Request{Options: Options{Resubmit: 1}})[0]
	s.submit(nil, "-q", "debug", "-l", "walltime=4:00:00", "-v", "EXP_NAME=5B,GLM46_WALLTIME_S=14400", script)
	s.submit(nil, "-v", "EXP_NAME=5B", script)
	s.wait()
	got := map[string]int{}
	for _, job := range s.Jobs() {
		got[job.Queue+" "+job.Walltime.String()]++
	}
	require.Equal(t, map[string]int{"debug 4h0m0s": 2, "workq 24h0m0s": 2}, got)
}

func variable(job pbstest.Status, name string) string {
	for _, v := range job.Variables {
		if v.Name == name {
			return v.Value
		}
	}
	return ""
}

// always is a glm46 that is stopped every time.
const always = "#!/bin/bash\necho \"$PBS_JOBID\" >>runs\nexit 5\n"

func TestResubmissionIsBounded(t *testing.T) {
	t.Parallel()
	s := newSite(t, pbstest.Config{}, always)
	s.commands()
	script := s.write(Request{Options: Options{Resubmit: 2, Profile: mustProfile(t, "preset: generic\nvariables: {RTYPE: rt_HF}\n")}})[0]
	s.submit(nil, script)
	s.wait()
	jobs := s.Jobs()
	require.Len(t, jobs, 3)
	for _, job := range jobs {
		require.Equal(t, "rt_HF", variable(job, "RTYPE"), "the site's own variables go on")
	}
	// A number that somebody made up does not unbind it.
	s.submit(nil, "-v", "GLM46_RESUBMITTED=-7", script)
	s.wait()
	require.Len(t, s.Jobs(), 4)
}

func TestNoResubmission(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		program string
		env     []string
		options Options
	}{
		"off by default":          {always, nil, Options{}},
		"another exit status":     {"#!/bin/bash\nexit 3\n", nil, Options{Resubmit: 3}},
		"a value that -v breaks":  {always, []string{`EXP_NAME=it's`}, Options{Resubmit: 3}},
		"a backslash in a GLM46_": {always, []string{`GLM46_MODEL=a\b`}, Options{Resubmit: 3}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, pbstest.Config{}, test.program)
			s.commands()
			script := s.write(Request{Options: test.options})[0]
			s.submit(test.env, "-V", script)
			s.wait()
			require.Len(t, s.Jobs(), 1)
		})
	}
}

// qdel means that somebody wants the job to end: it saves, and does not come back.
func TestQdelDoesNotResubmit(t *testing.T) {
	t.Parallel()
	s := newSite(t, pbstest.Config{}, worker)
	s.commands()
	script := s.write(Request{Options: Options{Resubmit: 3}})[0]
	id := s.submit(nil, "-v", "EXP_NAME="+strings.Repeat("x ", 200), script)
	require.Eventually(t, func() bool {
		data, _ := os.ReadFile(filepath.Join(s.root, "results", "x"))
		return len(data) > 0
	}, 30*time.Second, 10*time.Millisecond)
	s.Delete(pbstest.Call{Args: []string{id}})
	s.wait()
	require.Len(t, s.Jobs(), 1)
	status, _ := s.Job(id)
	require.Equal(t, 271, *status.ExitStatus)
	require.Equal(t, 5, *s.outcomes()[id].Exit, "the script waited for glm46 to save")
	require.Empty(t, s.Survivors(id))
}

// A walltime kill is answered by one more job.
func TestWalltimeKillResubmits(t *testing.T) {
	t.Parallel()
	// The limit is 4 s: a slow machine has begun to measure by then, and 20 cells last longer.
	s := newSite(t, pbstest.Config{Second: 40 * time.Millisecond, KillDelay: 1000 * time.Second, Late: func(string) time.Duration { return 0 }}, worker)
	s.commands()
	script := s.write(Request{Options: Options{Resubmit: 1, Walltime: Walltime{Limit: 100 * time.Second}}})[0]
	// In the script's own seconds the limit is near at once.
	require.NoError(t, replaceInFile(script, "walltime_s=100 ", "walltime_s=60 "))
	id := s.submit(nil, "-v", "EXP_NAME=a b c d e f g h i j k l m n o p q r s t", script)
	s.wait()
	jobs := s.Jobs()
	require.Len(t, jobs, 2, s.log(id))
	require.Equal(t, -29, *jobs[0].ExitStatus)
	require.Equal(t, 5, *s.outcomes()[id].Exit)
}

func replaceInFile(path, old, text string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if !strings.Contains(string(data), old) {
		return fmt.Errorf("%s: no %q", path, old)
	}
	return os.WriteFile(path, []byte(strings.Replace(string(data), old, text, 1)), 0o644)
}

// A requeued job has the id of its first run, and keeps the first run's outcome.
func TestRerunKeepsBothOutcomes(t *testing.T) {
	t.Parallel()
	s := newSite(t, pbstest.Config{}, worker)
	script := s.write(Request{})[0]
	require.NoError(t, replaceInFile(script, "#PBS -r n", "#PBS -r y"))
	id := s.submit(nil, "-v", "EXP_NAME=a b c d e f g h", script)
	require.Eventually(t, func() bool {
		data, _ := os.ReadFile(filepath.Join(s.root, "results", "b"))
		return len(data) > 0
	}, 30*time.Second, 10*time.Millisecond)
	time.Sleep(time.Second) // the outcome's name holds the second of the start
	require.True(t, s.Rerun(id))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, s.Wait(ctx))
	paths, err := filepath.Glob(filepath.Join(strings.ReplaceAll(s.root, "$", `\$`), "logs", "*.outcome.json"))
	require.NoError(t, err)
	require.Len(t, paths, 2)
}
