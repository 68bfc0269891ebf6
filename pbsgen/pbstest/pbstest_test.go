package pbstest

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	Main()
	goleak.VerifyTestMain(m)
}

// fast makes a PBS second a twentieth of a real one.
var fast = Config{Second: 50 * time.Millisecond}

func start(t *testing.T, config Config) *Server {
	t.Helper()
	s, err := Start(config)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

type bench struct {
	*Server
	t   *testing.T
	dir string
}

func newBench(t *testing.T, config Config) bench {
	t.Helper()
	dir := t.TempDir() // first: it goes only when the server has closed
	return bench{start(t, config), t, dir}
}

func (b bench) script(name, text string) string {
	b.t.Helper()
	path := filepath.Join(b.dir, name)
	require.NoError(b.t, os.WriteFile(path, []byte(text), 0o644))
	return name
}

func (b bench) call(args ...string) Call {
	return Call{Args: args, Dir: b.dir, Env: []string{"PATH=" + os.Getenv("PATH"), "HOME=/somewhere", "LANG=C"}}
}

func (b bench) qsub(args ...string) string {
	b.t.Helper()
	reply := b.Submit(b.t.Context(), b.call(args...))
	require.NoError(b.t, reply.Error(), "qsub %q", args)
	return reply.ID()
}

// end waits for jobs and gives the last one's status.
func (b bench) end(ids ...string) Status {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
	defer cancel()
	require.NoError(b.t, b.Wait(ctx, ids...))
	status, ok := b.Job(ids[len(ids)-1])
	require.True(b.t, ok)
	return status
}

func (b bench) exit(id string) int {
	b.t.Helper()
	status := b.end(id)
	require.NotNil(b.t, status.ExitStatus, "job %s never ran", id)
	return *status.ExitStatus
}

func (b bench) log(id string) string {
	b.t.Helper()
	status, _ := b.Job(id)
	data, err := os.ReadFile(status.OutputPath)
	require.NoError(b.t, err)
	return string(data)
}

// started waits until the job's script has written its first line.
func (b bench) started(id, file string) {
	b.t.Helper()
	require.Eventually(b.t, func() bool {
		_, err := os.Stat(filepath.Join(b.dir, file))
		return err == nil
	}, 30*time.Second, 10*time.Millisecond, "job %s did not begin", id)
}

func TestEnvironmentOfAJob(t *testing.T) {
	t.Parallel()
	b := newBench(t, Config{Profile: "export FROM_PROFILE=yes\n", NodeEnv: []string{"CUDA_VISIBLE_DEVICES=GPU-1,GPU-2"}})
	b.script("env.pbs", "#!/bin/bash\n#PBS -l select=1:ncpus=12:ngpus=8\n#PBS -j oe\n"+
		`echo "cwd=$PWD umask=$(umask) argv0=$0 flags=$-"; env -0 | sort -z | tr '\0' '\n'; read -r line || echo stdin-at-end; tty || :`+"\n")
	id := b.qsub("-v", "EXP_NAME=5B_kv_bf16,A=x y,HOME=/no", "-A", "acct", "env.pbs")
	require.Equal(t, 0, b.exit(id))
	require.Equal(t, "0.pbstest", id)
	log := b.log(id)
	for _, want := range []string{
		"cwd=" + b.Home() + " umask=0077", "flags=hB", "stdin-at-end", "not a tty", "FROM_PROFILE=yes", "EXP_NAME=5B_kv_bf16", "A=x y",
		"HOME=" + b.Home(), "PBS_O_WORKDIR=" + b.dir, "PBS_O_HOME=/somewhere", "PBS_JOBID=" + id, "PBS_JOBNAME=env.pbs", "PBS_QUEUE=workq",
		"PBS_ENVIRONMENT=PBS_BATCH", "NCPUS=12", "OMP_NUM_THREADS=12", "PBS_ACCOUNT=acct", "CUDA_VISIBLE_DEVICES=GPU-1,GPU-2", "PBS_JOBCOOKIE=",
		"TMPDIR=" + filepath.Join(b.config.Dir, "tmp", "pbs."+id),
	} {
		require.Contains(t, log, want)
	}
	require.NotContains(t, log, "PBS_ARRAY_INDEX")
	require.NotContains(t, log, "argv0="+b.dir, "the script is a copy in the spool")
	status, _ := b.Job(id)
	require.Equal(t, filepath.Join(b.dir, "env.pbs.o0"), status.OutputPath)
	info, err := os.Stat(status.OutputPath)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
}

func TestExitStatus(t *testing.T) {
	t.Parallel()
	b := newBench(t, Config{Nodes: 4})
	b.script("exit.pbs", "#!/bin/bash\nexit $CODE\n")
	b.script("missing.pbs", "#!/no/such/shell\n")
	b.script("killed.pbs", "#!/bin/bash\nkill -9 $$\n")
	require.Equal(t, 0, b.exit(b.qsub("-v", "CODE=0", "exit.pbs")))
	require.Equal(t, 4, b.exit(b.qsub("-v", "CODE=4", "exit.pbs")))
	require.Equal(t, 44, b.exit(b.qsub("-v", "CODE=300", "exit.pbs")))
	require.Equal(t, 137, b.exit(b.qsub("killed.pbs")))
	require.Contains(t, []int{126, 127}, b.exit(b.qsub("missing.pbs")))
	require.Equal(t, 254, b.exit(b.qsub("-S", "/no/such/shell", "-v", "CODE=0", "exit.pbs")))
	require.Equal(t, 3, b.exit(b.qsub("--", "/bin/sh", "-c", "exit 3")))

	reply := b.Submit(t.Context(), b.call("-W", "block=true", "-v", "CODE=4", "exit.pbs"))
	require.Equal(t, 4, reply.Exit)
	status, _ := b.Job(reply.ID())
	require.Equal(t, 93, status.Substate)
}

const loop = `
touch "$PBS_O_WORKDIR/$PBS_JOBID.began"
for ((i = 0; i < 6000; i++)); do sleep 0.05; done
`

func TestDeleteSignalsTheSession(t *testing.T) {
	t.Parallel()
	b := newBench(t, fast)
	// The child in its own process group gets SIGTERM, the one in its own session
	// gets nothing and outlives the job.
	b.script("children.pbs", `#!/bin/bash
cd "$PBS_O_WORKDIR"
set -m
bash -c 'trap "echo group >>got; exit" TERM; while :; do sleep 0.05; done' &
set +m
setsid bash -c 'trap "echo session >>got; exit" TERM; while :; do sleep 0.05; done' </dev/null >/dev/null 2>&1 &
trap 'echo script >>got; exit 7' TERM
sleep 0.3
touch began
while :; do sleep 0.05; done
`)
	id := b.qsub("children.pbs")
	b.started(id, "began")
	require.Equal(t, 0, b.Delete(b.call(id)).Exit)
	require.Equal(t, 271, b.exit(id), "the top shell dies of SIGTERM, whatever the script exits with")
	got, err := os.ReadFile(filepath.Join(b.dir, "got"))
	require.NoError(t, err)
	lines := strings.Fields(string(got))
	slices.Sort(lines)
	require.Equal(t, []string{"group", "script"}, lines)
	require.NotEmpty(t, b.Survivors(id), "a process of another session outlives the job")
	status, _ := b.Job(id)
	require.Equal(t, 91, status.Substate)
	require.Equal(t, 35, b.Delete(b.call(id)).Exit)
	require.Equal(t, 153, b.Delete(b.call("99")).Exit)
}

func TestKillAfterTheDelay(t *testing.T) {
	t.Parallel()
	b := newBench(t, fast)
	b.script("deaf.pbs", "#!/bin/bash\ntrap '' TERM\n"+loop)
	id := b.qsub("deaf.pbs")
	b.started(id, id+".began")
	b.Delete(b.call(id))
	require.Equal(t, 271, b.exit(id))
	require.Empty(t, b.Survivors(id))

	id = b.qsub("deaf.pbs")
	b.started(id, id+".began")
	b.Delete(b.call("-W", "force", id))
	require.Equal(t, 265, b.exit(id))
}

func TestQsigEndsTheJob(t *testing.T) {
	t.Parallel()
	b := newBench(t, fast)
	b.script("usr1.pbs", "#!/bin/bash\ntrap 'echo caught >>\"$PBS_O_WORKDIR/caught\"' USR1\n"+loop)
	id := b.qsub("usr1.pbs")
	b.started(id, id+".began")
	require.Equal(t, 0, b.Signal(b.call("-s", "0", id)).Exit)
	require.Equal(t, 165, b.Signal(b.call("-s", "NONSENSE", id)).Exit)
	require.Equal(t, 0, b.Signal(b.call("-s", "USR1", id)).Exit)
	require.Equal(t, 266, b.exit(id))
	require.Empty(t, b.Survivors(id))
}

func TestWalltime(t *testing.T) {
	t.Parallel()
	b := newBench(t, fast)
	b.script("over.pbs", "#!/bin/bash\n#PBS -l walltime=15\ntrap 'echo termed; exit 0' TERM\n"+loop)
	id := b.qsub("over.pbs")
	require.Equal(t, -29, b.exit(id))
	status, _ := b.Job(id)
	require.Contains(t, status.Comment, "exceeded resource walltime")
	require.Equal(t, 93, status.Substate)
	require.Contains(t, b.log(id), "termed")
	text, err := os.ReadFile(status.ErrorPath)
	require.NoError(t, err)
	require.Contains(t, string(text), "=>> PBS: job killed: walltime ")
	require.Contains(t, string(text), " exceeded limit 15\n")
}

// Polls after 10, 26, 48, 76, 110, 150, 196, 248 s ...: docs/pbs.md saw limits of
// 15/240/330/420 s noticed at 27/255/363/437 s.
func TestWalltimePolls(t *testing.T) {
	t.Parallel()
	s := &Server{config: Config{}.withDefaults()}
	for limit, want := range map[int]time.Duration{15: 26 * time.Second, 240: 248 * time.Second, 330: 370 * time.Second, 420: 440 * time.Second} {
		r := &run{server: s, job: &job{}}
		interval, at := s.config.MinPoll, time.Duration(0)
		for at < time.Duration(limit)*time.Second {
			at = r.nextPoll(time.Duration(limit)*time.Second, &interval, at)
		}
		require.Equal(t, want, at, "limit %d s", limit)
	}
}

func TestLateWalltime(t *testing.T) {
	t.Parallel()
	config := fast
	config.Late = func(string) time.Duration { return 3 * time.Second }
	b := newBench(t, config)
	b.script("late.pbs", "#!/bin/bash\n#PBS -l walltime=4\n"+loop)
	require.Equal(t, -29, b.exit(b.qsub("late.pbs")))
}

func TestArray(t *testing.T) {
	t.Parallel()
	b := newBench(t, Config{Nodes: 4})
	require.NoError(t, os.Mkdir(filepath.Join(b.dir, "logs"), 0o755))
	b.script("array.pbs", `#!/bin/bash
#PBS -J 0-3%2
#PBS -j oe
#PBS -o logs/
cd "$PBS_O_WORKDIR"
echo "$PBS_ARRAY_INDEX $PBS_ARRAY_ID $PBS_JOBID"
mkdir "run.$PBS_ARRAY_INDEX"
ls -d run.* | wc -l >>most
sleep 0.2
rmdir "run.$PBS_ARRAY_INDEX"
exit $((PBS_ARRAY_INDEX == 2))
`)
	id := b.qsub("array.pbs")
	require.Equal(t, "0[].pbstest", id)
	require.Equal(t, 0, b.exit(id), "the array's status was 0 although a sub-job failed")
	require.Equal(t, 1, b.exit("0[2]"))
	require.Equal(t, "3 0[].pbstest 0[3].pbstest\n", b.log("0[3]"))
	status, _ := b.Job("0[3]")
	require.Equal(t, filepath.Join(b.dir, "logs", "0[3].pbstest.OU"), status.OutputPath)
	require.Equal(t, "X", status.State)
	most, err := os.ReadFile(filepath.Join(b.dir, "most"))
	require.NoError(t, err)
	require.NotContains(t, string(most), "3")
	require.NotContains(t, string(most), "4")

	b.script("single.pbs", "#PBS -J 0-0\n")
	reply := b.Submit(t.Context(), b.call("single.pbs"))
	require.Equal(t, 2, reply.Exit)
	require.Contains(t, reply.Stderr, "qsub: illegal -J value\n")
	require.Empty(t, reply.Stdout)
}

func TestDependencies(t *testing.T) {
	t.Parallel()
	b := newBench(t, Config{})
	b.script("good.pbs", "#!/bin/bash\nexit 0\n")
	b.script("bad.pbs", "#!/bin/bash\nexit 3\n")
	gate := b.qsub("-h", "good.pbs")
	bad := b.qsub("-W", "depend=afterany:"+gate, "bad.pbs")
	want := map[string]bool{ // by kind: does it run?
		"afterok": false, "afternotok": true, "afterany": true, "after": true,
	}
	ids := map[string]string{}
	for kind := range want {
		ids[kind] = b.qsub("-W", "depend="+kind+":"+bad, "good.pbs")
		status, _ := b.Job(ids[kind])
		require.Equal(t, "H", status.State)
		require.Equal(t, "s", status.Hold)
	}
	chain := b.qsub("-W", "depend=afterany:"+ids["afterok"], "good.pbs")
	require.Equal(t, 0, b.Release(b.call(gate)).Exit)
	for kind, runs := range want {
		require.Equal(t, runs, b.end(ids[kind]).ExitStatus != nil, kind)
	}
	require.Nil(t, b.end(chain).ExitStatus, "afterany does not run after a job that never ran")

	unknown := b.qsub("-W", "depend=afterany:777", "good.pbs")
	status := b.end(unknown)
	require.Equal(t, "F", status.State)
	require.Nil(t, status.ExitStatus)
	require.Empty(t, status.Comment)
}

func TestForgottenParent(t *testing.T) {
	t.Parallel()
	b := newBench(t, Config{NoHistory: true})
	b.script("good.pbs", "#!/bin/bash\nexit 0\n")
	id := b.qsub("good.pbs")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, b.Wait(ctx))
	_, known := b.Job(id)
	require.False(t, known)
	next := b.qsub("-W", "depend=afterany:"+id, "good.pbs")
	_, known = b.Job(next)
	require.False(t, known, "accepted, and dropped at once")
}

func TestRerunKeepsTheID(t *testing.T) {
	t.Parallel()
	b := newBench(t, fast)
	b.script("rerun.pbs", `#!/bin/bash
#PBS -k oed
#PBS -j oe
cd "$PBS_O_WORKDIR"
echo "$PBS_JOBID $PBS_JOBCOOKIE"
if [ -e second ]; then exit 0; fi
trap 'touch second; exit 1' TERM
touch began
while :; do sleep 0.05; done
`)
	id := b.qsub("rerun.pbs")
	b.started(id, "began")
	require.Contains(t, b.log(id), id, "-k oed: readable while the job runs")
	require.True(t, b.Rerun(id))
	require.Equal(t, 0, b.exit(id))
	lines := slices.DeleteFunc(strings.Split(b.log(id), "\n"), func(line string) bool { return !strings.HasPrefix(line, id) })
	require.Len(t, lines, 2, "-k oed appends")
	require.NotEqual(t, lines[0], lines[1], "a new cookie")
	require.Equal(t, strings.Fields(lines[0])[0], strings.Fields(lines[1])[0])
	status, _ := b.Job(id)
	require.Equal(t, 2, status.RunCount)

	once := b.qsub("-r", "n", "rerun.pbs")
	require.False(t, b.Rerun(once))
}

func TestLostNodeGoesOn(t *testing.T) {
	t.Parallel()
	b := newBench(t, fast)
	b.script("lost.pbs", `#!/bin/bash
cd "$PBS_O_WORKDIR"
if [ -e began ]; then exit 0; fi
touch began
while :; do date +%N >alive; sleep 0.05; done
`)
	id := b.qsub("lost.pbs")
	b.started(id, "began")
	require.True(t, b.LoseNode(id))
	require.Equal(t, 0, b.exit(id), "the job ran again elsewhere")
	require.NotEmpty(t, b.Survivors(id), "the old processes go on meanwhile")
	require.NoError(t, os.Remove(filepath.Join(b.dir, "alive")))
	b.started(id, "alive")
	b.ReturnNode(id)
	require.Eventually(t, func() bool { return len(b.Survivors(id)) == 0 }, 10*time.Second, 20*time.Millisecond)

	require.NoError(t, os.Remove(filepath.Join(b.dir, "began")))
	once := b.qsub("-r", "n", "lost.pbs")
	b.started(once, "began")
	require.True(t, b.LoseNode(once))
	require.Equal(t, -20, b.exit(once))
}

func TestLostLog(t *testing.T) {
	t.Parallel()
	b := newBench(t, Config{})
	b.script("log.pbs", "#!/bin/bash\n#PBS -j oe\necho text\n")
	id := b.qsub("-o", "missing/log", "log.pbs")
	require.Equal(t, 0, b.exit(id))
	require.NoFileExists(t, filepath.Join(b.dir, "missing", "log"))
	entries, err := os.ReadDir(b.Undelivered())
	require.NoError(t, err)
	require.Len(t, entries, 1)
}

func TestServerRules(t *testing.T) {
	t.Parallel()
	b := newBench(t, Config{DefaultQueue: "workq", Queues: map[string]Queue{"workq": {MaxWalltime: time.Hour}, "off": {Disabled: true}}, Resources: []string{"filesystems"}})
	b.script("x.pbs", "#!/bin/bash\n")
	b.script("a b.sh", "#!/bin/bash\n")
	require.NoError(t, os.Mkdir(filepath.Join(b.dir, "folder"), 0o755))
	for _, test := range []struct {
		args []string
		text string
		exit int
	}{
		{[]string{"nofile"}, "qsub: script file:: No such file or directory\n", 1},
		{[]string{"folder"}, "qsub: script not a file\n", 1},
		{[]string{"x.pbs", "extra"}, usage, 2},
		{[]string{"a b.sh"}, "qsub: illegal -N value\n" + usage, 2},
		{[]string{"-q", "nosuch", "x.pbs"}, "qsub: Unknown queue\n", 170},
		{[]string{"-q", "off", "x.pbs"}, "qsub: Queue is not enabled\n", 173},
		{[]string{"-l", "walltime=2:00:00", "x.pbs"}, "qsub: Job violates queue and/or server resource limits\n", 188},
		{[]string{"-l", "jobfs=1gb", "x.pbs"}, "qsub: Unknown resource Resource_List.jobfs\n", 187},
		{[]string{"-l", "select=1:nosuchres=1", "x.pbs"}, "qsub: Unknown resource: nosuchres\n", 187},
	} {
		reply := b.Submit(t.Context(), b.call(test.args...))
		require.Equal(t, Reply{Stderr: test.text, Exit: test.exit}, reply, "%q", test.args)
	}
	require.Equal(t, 0, b.exit(b.qsub("-l", "filesystems=home", "x.pbs")))
	id := b.qsub("-l", "select=1:ngpus=9", "x.pbs")
	status, _ := b.Job(id)
	require.Equal(t, "Q", status.State)
	require.Equal(t, "Can Never Run: Insufficient amount of resource: ngpus (R: 9 A: 8 T: 8)", status.Comment)
	b.Delete(b.call(id))
	require.Nil(t, b.end(id).ExitStatus)
}

// A job and a script outside use the installed commands.
func TestCommands(t *testing.T) {
	t.Parallel()
	b := newBench(t, Config{})
	program, err := os.Executable()
	require.NoError(t, err)
	commands := filepath.Join(b.dir, "the bin")
	require.NoError(t, b.InstallCommands(commands, program))
	b.script("outer.pbs", "#!/bin/bash\n#PBS -j oe\n#PBS -l walltime=1:00\ncd \"$PBS_O_WORKDIR\"\nqsub -v \"A=from outer\" inner.pbs\nqstat -f -F json \"$PBS_JOBID\"\n")
	b.script("inner.pbs", "#!/bin/bash\n#PBS -j oe\necho \"A is $A\"\n")
	qsub := func(args ...string) (string, int) {
		command := exec.Command(filepath.Join(commands, "qsub"), args...)
		command.Dir = b.dir
		out, err := command.Output()
		if err != nil {
			require.IsType(t, &exec.ExitError{}, err)
		}
		return string(out), command.ProcessState.ExitCode()
	}
	out, code := qsub("outer.pbs")
	require.Equal(t, "0.pbstest\n", out)
	require.Equal(t, 0, code)
	require.Equal(t, 0, b.exit("0"))
	require.Equal(t, 0, b.exit("1"))
	require.Equal(t, "A is from outer\n", b.log("1"))

	log := b.log("0")
	first, document, _ := strings.Cut(log, "\n")
	require.Equal(t, "1.pbstest", first)
	var stat struct {
		Jobs map[string]struct {
			State     string                    `json:"job_state"`
			Started   string                    `json:"stime"`
			Resources struct{ Walltime string } `json:"Resource_List"`
		}
	}
	require.NoError(t, json.Unmarshal([]byte(document), &stat))
	require.Equal(t, "R", stat.Jobs["0.pbstest"].State)
	require.Equal(t, "00:01:00", stat.Jobs["0.pbstest"].Resources.Walltime)
	_, err = time.Parse(time.ANSIC, stat.Jobs["0.pbstest"].Started)
	require.NoError(t, err)

	require.Equal(t, 35, b.Stat(b.call("-f", "0")).Exit)
	require.Equal(t, 153, b.Stat(b.call("-f", "99")).Exit)
	require.Contains(t, b.Stat(b.call("-xf", "0")).Stdout, "Exit_status = 0\n")
	_, code = qsub("-W", "foo=bar", "outer.pbs")
	require.Equal(t, 154, code)
}

func TestExportAll(t *testing.T) {
	t.Parallel()
	b := newBench(t, Config{})
	b.script("v.pbs", "#!/bin/bash\n#PBS -j oe\nprintf '%s|%s' \"$JSON\" \"$B\"\n")
	c := b.call("-V", "-v", "B=2", "v.pbs")
	c.Env = append(c.Env, `JSON={"a": 'b', "c": [1,2]}`, "B=1")
	reply := b.Submit(t.Context(), c)
	require.NoError(t, reply.Error())
	require.Equal(t, 0, b.exit(reply.ID()))
	require.Equal(t, `{"a": 'b', "c": [1,2]}|2`, b.log(reply.ID()))
}

func TestScriptFromStdin(t *testing.T) {
	t.Parallel()
	b := newBench(t, Config{})
	c := b.call()
	c.Stdin = []byte("#!/bin/bash\n#PBS -j oe\necho $PBS_JOBNAME\n")
	reply := b.Submit(t.Context(), c)
	require.Equal(t, 0, b.exit(reply.ID()))
	require.Equal(t, "STDIN\n", b.log(reply.ID()))
}

func TestProgramWithoutShell(t *testing.T) {
	t.Parallel()
	b := newBench(t, fast)
	// Its own handlers work, and its own exit code is the job's, even after qdel.
	id := b.qsub("--", "/bin/bash", "-c", `trap 'exit 9' TERM; touch "$PBS_O_WORKDIR/began"; while :; do sleep 0.05; done`)
	b.started(id, "began")
	b.Delete(b.call(id))
	require.Equal(t, 9, b.exit(id))
}

func TestCloseLeavesNothing(t *testing.T) {
	t.Parallel()
	s, err := Start(Config{Nodes: 3})
	require.NoError(t, err)
	b := bench{s, t, t.TempDir()}
	b.script("stay.pbs", "#!/bin/bash\ntrap '' TERM\nsetsid sleep 600 </dev/null >/dev/null 2>&1 &\n"+loop)
	var ids []string
	for range 3 {
		ids = append(ids, b.qsub("stay.pbs"))
	}
	waiting := b.qsub("stay.pbs")
	for _, id := range ids {
		b.started(id, id+".began")
	}
	require.NoError(t, s.Close())
	for _, id := range append(ids, waiting) {
		require.Eventually(t, func() bool { return len(s.Survivors(id)) == 0 }, 5*time.Second, 20*time.Millisecond)
	}
	require.Equal(t, 162, s.Submit(t.Context(), b.call("stay.pbs")).Exit)
}

// Many commands at once, for the race detector.
func TestConcurrentCommands(t *testing.T) {
	t.Parallel()
	b := newBench(t, Config{Nodes: 2, Second: 10 * time.Millisecond})
	b.script("short.pbs", "#!/bin/bash\nexit 0\n")
	var group sync.WaitGroup
	for i := range 4 {
		group.Add(1)
		go func() {
			defer group.Done()
			reply := b.Submit(context.Background(), b.call("short.pbs"))
			if i%2 == 0 {
				b.Delete(b.call(reply.ID()))
			}
			b.Stat(b.call("-f", "-F", "json"))
			b.Signal(b.call("-s", "0", reply.ID()))
		}()
	}
	group.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, b.Wait(ctx))
	require.Len(t, b.Jobs(), 4)
}

func TestSignalSessionKeepsOthers(t *testing.T) {
	t.Parallel()
	other := exec.Command("sleep", "600")
	other.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	require.NoError(t, other.Start())
	defer func() { _ = other.Process.Kill(); _ = other.Wait() }()
	one := exec.Command("sleep", "600")
	one.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	require.NoError(t, one.Start())
	require.Equal(t, []int{one.Process.Pid}, pids(sessionOf(one.Process.Pid)))
	signalSession(one.Process.Pid, syscall.SIGKILL)
	_ = one.Wait()
	_, err := os.Stat("/proc/" + strconv.Itoa(other.Process.Pid))
	require.NoError(t, err)
}

func pids(list []process) []int {
	var out []int
	for _, p := range list {
		out = append(out, p.pid)
	}
	return out
}
