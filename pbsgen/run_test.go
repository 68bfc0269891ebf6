package pbsgen

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/glm46/glm46/pbsgen/pbstest"
)

// recorder stands for glm46: it notes its arguments and environment, and leaves with
// FAKE_EXIT, without a shell reading any value.
const recorder = `#!/bin/bash
mkdir -p -- "$GLM46_RESULTS"
{
  printf 'argument=%s\n' "$@"
  printf 'cwd=%s\numask=%s\nprogram=%s\n' "$PWD" "$(umask)" "$0"
  read -r line && printf 'stdin=%s\n' "$line"
} >"$GLM46_RESULTS/record"
env -0 >"$GLM46_RESULTS/environment"
printf '{"job_id":"%s","state":"ended","exit_code":%d}\n' "${PBS_JOBID:-none}" "${FAKE_EXIT:-0}" >"$GLM46_OUTCOME"
exit "${FAKE_EXIT:-0}"
`

// site is a project folder with a fake glm46, and a PBS server.
type site struct {
	*pbstest.Server
	t    *testing.T
	root string
	// from is the folder that qsub is called in.
	from string
}

func newSite(t *testing.T, config pbstest.Config, program string) site {
	t.Helper()
	base := t.TempDir()
	s := site{t: t, root: filepath.Join(base, "my $project's (1)"), from: filepath.Join(base, "elsewhere")}
	require.NoError(t, os.MkdirAll(s.root, 0o755))
	require.NoError(t, os.MkdirAll(s.from, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(s.root, "glm46"), []byte(program), 0o755))
	var err error
	s.Server, err = pbstest.Start(config)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// write generates and writes; it gives the paths of the scripts.
func (s site) write(r Request) []string {
	s.t.Helper()
	r.Root = s.root
	out, err := Generate(r)
	require.NoError(s.t, err)
	require.NoError(s.t, out.Write(nil))
	var paths []string
	for _, f := range out.Files {
		paths = append(paths, f.Path)
	}
	return paths
}

func (s site) call(env []string, args ...string) pbstest.Call {
	return pbstest.Call{Args: args, Dir: s.from, Env: append([]string{"PATH=" + os.Getenv("PATH"), "HOME=/home/user"}, env...)}
}

func (s site) submit(env []string, args ...string) string {
	s.t.Helper()
	reply := s.Submit(s.t.Context(), s.call(env, args...))
	require.NoError(s.t, reply.Error(), "qsub %q", args)
	return reply.ID()
}

func (s site) wait(ids ...string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Minute)
	defer cancel()
	require.NoError(s.t, s.Wait(ctx, ids...))
}

func (s site) exit(id string) int {
	s.t.Helper()
	s.wait(id)
	status, ok := s.Job(id)
	require.True(s.t, ok)
	require.NotNil(s.t, status.ExitStatus, "job %s never ran", id)
	return *status.ExitStatus
}

func (s site) log(id string) string {
	s.t.Helper()
	data, err := os.ReadFile(filepath.Join(s.root, "logs", id+".OU"))
	require.NoError(s.t, err)
	return string(data)
}

func (s site) record(results string) (record string, environment map[string]string) {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(results, "record"))
	require.NoError(s.t, err)
	data, err := os.ReadFile(filepath.Join(results, "environment"))
	require.NoError(s.t, err)
	environment = map[string]string{}
	for _, entry := range strings.Split(string(data), "\x00") {
		name, value, _ := strings.Cut(entry, "=")
		environment[name] = value
	}
	return string(text), environment
}

// outcomes are the outcome files, by job id.
func (s site) outcomes() map[string]outcomeFile {
	s.t.Helper()
	paths, err := filepath.Glob(filepath.Join(strings.ReplaceAll(s.root, "$", `\$`), "logs", "*.outcome.json"))
	require.NoError(s.t, err)
	found := map[string]outcomeFile{}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		require.NoError(s.t, err)
		var o outcomeFile
		require.NoError(s.t, json.Unmarshal(data, &o), "%s", data)
		found[o.JobID] = o
	}
	return found
}

type outcomeFile struct {
	JobID string `json:"job_id"`
	State string `json:"state"`
	Exit  *int   `json:"exit_code"`
}

// planLines are the commands of the experiment plan, word for word.
var planLines = []string{
	"EXP_NAME=1B_compiled,ENFORCE_EAGER=no,NUM_SAMPLES=100",
	"EXP_NAME=2B_no_ep,ENABLE_EP=no,NUM_SAMPLES=100",
	"EXP_NAME=3B_dcp2,CONTEXT_PARALLEL_SIZE=2,MAX_MODEL_LEN=131072,DATASET_TYPE=64k,NUM_SAMPLES=100",
	"EXP_NAME=3C_dcp4,CONTEXT_PARALLEL_SIZE=4,MAX_MODEL_LEN=131072,DATASET_TYPE=64k,NUM_SAMPLES=100",
	"EXP_NAME=4A_len16k,MAX_MODEL_LEN=16384,NUM_SAMPLES=100",
	"EXP_NAME=4C_len65k,MAX_MODEL_LEN=65536,NUM_SAMPLES=100",
	"EXP_NAME=4D_len131k,MAX_MODEL_LEN=131072,DATASET_TYPE=64k,NUM_SAMPLES=100",
	"EXP_NAME=5B_kv_bf16,KV_CACHE_DTYPE=auto,NUM_SAMPLES=100",
	"EXP_NAME=6B_no_prefix_cache,ENABLE_PREFIX_CACHING=no,NUM_SAMPLES=100",
	"EXP_NAME=7B_no_chunked,ENABLE_CHUNKED_PREFILL=no,NUM_SAMPLES=100",
	"EXP_NAME=8B_mtp2,ENABLE_MTP=yes,MTP_NUM_TOKENS=2,NUM_SAMPLES=100",
	"EXP_NAME=8C_mtp4,ENABLE_MTP=yes,MTP_NUM_TOKENS=4,NUM_SAMPLES=100",
}

func TestPlanLines(t *testing.T) {
	t.Parallel()
	s := newSite(t, pbstest.Config{}, recorder)
	script := s.write(Request{})[0]
	require.Equal(t, filepath.Join(s.root, "experiments", "exp_runner.pbs"), script)
	for _, line := range planLines {
		t.Run(line, func(t *testing.T) {
			require.NoError(t, os.RemoveAll(filepath.Join(s.root, "results")))
			id := s.submit(nil, "-v", line, script)
			require.Equal(t, 0, s.exit(id), s.log(id))
			record, environment := s.record(filepath.Join(s.root, "results"))
			require.Equal(t, "argument=run\ncwd="+s.root+"\numask=0027\nprogram="+s.root+"/glm46\n", record)
			for _, pair := range strings.Split(line, ",") {
				name, value, _ := strings.Cut(pair, "=")
				require.Equal(t, value, environment[name])
			}
			for name, want := range map[string]string{
				"GLM46_WALLTIME_S": "86400", "GLM46_DATA": "storage/samples/glm46_benchmark", "GLM46_RESULTS": "results",
				"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "VLLM_HOST_IP": "127.0.0.1",
				"PYTHONNOUSERSITE": "1", "VLLM_NO_USAGE_STATS": "1",
			} {
				require.Equal(t, want, environment[name], name)
			}
			for _, name := range []string{"VLLM_CACHE_ROOT", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "FLASHINFER_WORKSPACE_BASE", "HF_MODULES_CACHE"} {
				require.NotContains(t, environment[name], s.Home(), "%s is in the home directory", name)
				require.Contains(t, environment[name], "pbs."+id, "%s is on the node's disk", name)
			}
			require.Contains(t, environment["no_proxy"], "localhost,127.0.0.1,")
			require.Equal(t, environment["no_proxy"], environment["NO_PROXY"])
			require.Contains(t, s.log(id), "walltime 86400 s, OMP_NUM_THREADS of PBS 64, CUDA_VISIBLE_DEVICES unset")
			require.Equal(t, 0, *s.outcomes()[id].Exit)
		})
	}
	entries, err := os.ReadDir(s.Home())
	require.NoError(t, err)
	require.Len(t, entries, 1, "nothing but the profile is in the home directory")
	info, err := os.Stat(filepath.Join(s.root, "results", "record"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o640), info.Mode().Perm())
}

// The plan's commands name the script relative to the project.
func TestRelativeScript(t *testing.T) {
	t.Parallel()
	s := newSite(t, pbstest.Config{}, recorder)
	s.write(Request{})
	s.from = s.root
	id := s.submit(nil, "-v", "EXP_NAME=5B_kv_bf16,KV_CACHE_DTYPE=auto,NUM_SAMPLES=100", "experiments/exp_runner.pbs")
	require.Equal(t, 0, s.exit(id))
}

// The same script without PBS, as for a first try with the mock.
func TestWithoutPBS(t *testing.T) {
	t.Parallel()
	s := newSite(t, pbstest.Config{}, recorder)
	script := s.write(Request{})[0]
	command := exec.Command("bash", script)
	command.Dir = s.from
	temporary := t.TempDir()
	command.Env = []string{"PATH=" + os.Getenv("PATH"), "EXP_NAME=5B", "GLM46_MOCK=1", "FAKE_EXIT=3", "TMPDIR=" + temporary}
	out, err := command.CombinedOutput()
	require.Error(t, err)
	require.Equal(t, 3, command.ProcessState.ExitCode(), "%s", out)
	_, environment := s.record(filepath.Join(s.root, "results"))
	require.Equal(t, "1", environment["GLM46_MOCK"])
	left, err := os.ReadDir(temporary)
	require.NoError(t, err)
	require.Empty(t, left, "the mock needs no folders on the node")
}

func TestExitStatusPasses(t *testing.T) {
	t.Parallel()
	s := newSite(t, pbstest.Config{}, recorder)
	script := s.write(Request{})[0]
	for _, code := range []string{"0", "2", "3", "4", "5", "6", "7"} {
		id := s.submit(nil, "-v", "EXP_NAME=5B,FAKE_EXIT="+code, script)
		require.Equal(t, code, string(rune('0'+s.exit(id))))
	}
}

// The environment wins over what the script would choose.
func TestUserVariablesWin(t *testing.T) {
	t.Parallel()
	s := newSite(t, pbstest.Config{}, recorder)
	script := s.write(Request{Options: Options{Profile: mustProfile(t, "preset: generic\nmodel: /m\n")}})[0]
	results := filepath.Join(t.TempDir(), "my results")
	id := s.submit(nil, "-l", "walltime=4:00:00", "-v", "EXP_NAME=5B,GLM46_WALLTIME_S=14400,GLM46_MODEL=/other,GLM46_DATA=/d,GLM46_RESULTS="+results, script)
	require.Equal(t, 0, s.exit(id))
	_, environment := s.record(results)
	require.Equal(t, "14400", environment["GLM46_WALLTIME_S"])
	require.Equal(t, "/other", environment["GLM46_MODEL"])
	require.Equal(t, "/d", environment["GLM46_DATA"])
}

func TestNoProgram(t *testing.T) {
	t.Parallel()
	s := newSite(t, pbstest.Config{}, recorder)
	script := s.write(Request{})[0]
	require.NoError(t, os.Remove(filepath.Join(s.root, "glm46")))
	id := s.submit(nil, "-v", "EXP_NAME=5B", script)
	require.Equal(t, 6, s.exit(id))
	require.Contains(t, s.log(id), "glm46 job: error: no program glm46 in "+s.root)
	require.Equal(t, outcomeFile{id, "ended", s.outcomes()[id].Exit}, s.outcomes()[id])
	require.Equal(t, 6, *s.outcomes()[id].Exit)
}

// A project that was moved is found by the folder of submission.
func TestMovedProject(t *testing.T) {
	t.Parallel()
	s := newSite(t, pbstest.Config{}, recorder)
	script := s.write(Request{})[0]
	moved := s.root + " moved"
	require.NoError(t, os.Rename(s.root, moved))
	s.root, s.from = moved, moved
	id := s.submit(nil, "-o", "logs/", "-v", "EXP_NAME=5B", filepath.Join(moved, "experiments", filepath.Base(script)))
	require.Equal(t, 0, s.exit(id))
	record, _ := s.record(filepath.Join(moved, "results"))
	require.Contains(t, record, "cwd="+moved)
}

func TestCopiedProgram(t *testing.T) {
	t.Parallel()
	s := newSite(t, pbstest.Config{}, recorder)
	script := s.write(Request{Options: Options{Profile: mustProfile(t, "preset: generic\ncopy_binary: yes\n")}})[0]
	id := s.submit(nil, "-v", "EXP_NAME=5B", script)
	require.Equal(t, 0, s.exit(id))
	record, _ := s.record(filepath.Join(s.root, "results"))
	require.Contains(t, record, "/tmp/pbs."+id+"/glm46-"+id+".")
}

// The folder on the node bears the mark by which glm46 knows that it may remove it;
// where the script ends before glm46 begins it removes it itself.
func TestFolderOnTheNode(t *testing.T) {
	t.Parallel()
	s := newSite(t, pbstest.Config{}, recorder)
	scratch := filepath.Join(t.TempDir(), "local disk")
	require.NoError(t, os.Mkdir(scratch, 0o755))
	modules := filepath.Join(t.TempDir(), "modules.sh")
	require.NoError(t, os.WriteFile(modules, []byte("module() { [ \"$2\" = good ]; }\n"), 0o644))
	profile := "preset: generic\nscratch: " + scratch + "\nmodules: {init: " + modules + ", load: [%s]}\n"
	script := s.write(Request{Options: Options{Profile: mustProfile(t, strings.Replace(profile, "%s", "good", 1))}})[0]
	id := s.submit(nil, "-v", "EXP_NAME=5B,GLM46_JOB_FOLDER=/home", script)
	require.Equal(t, 0, s.exit(id), s.log(id))
	_, environment := s.record(filepath.Join(s.root, "results"))
	folder := environment["GLM46_JOB_FOLDER"]
	require.Equal(t, scratch, filepath.Dir(folder))
	require.FileExists(t, filepath.Join(folder, ".glm46-job"))
	require.True(t, strings.HasPrefix(environment["VLLM_CACHE_ROOT"], folder+"/"))
	info, err := os.Stat(folder)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
	require.NoError(t, os.RemoveAll(folder))

	script = s.write(Request{Options: Options{Profile: mustProfile(t, strings.Replace(profile, "%s", "bad", 1))}})[0]
	require.Equal(t, 6, s.exit(s.submit(nil, "-v", "EXP_NAME=5B", script)))
	left, err := os.ReadDir(scratch)
	require.NoError(t, err)
	require.Empty(t, left)
}

// The weights are read beforehand where the profile says so, and the job may say no.
func TestPrefetch(t *testing.T) {
	t.Parallel()
	s := newSite(t, pbstest.Config{}, recorder)
	for profile, want := range map[string]string{"prefetch: yes\n": "1", "prefetch: no\n": "", "": ""} {
		script := s.write(Request{Options: Options{Profile: mustProfile(t, "preset: generic\n"+profile)}})[0]
		require.Equal(t, 0, s.exit(s.submit(nil, "-v", "EXP_NAME=5B", script)))
		_, environment := s.record(filepath.Join(s.root, "results"))
		require.Equal(t, want, environment["GLM46_PREFETCH"])
		require.Equal(t, 0, s.exit(s.submit(nil, "-v", "EXP_NAME=5B,GLM46_PREFETCH=0", script)))
		_, environment = s.record(filepath.Join(s.root, "results"))
		require.Equal(t, "0", environment["GLM46_PREFETCH"])
	}
}

// A container's command line reaches glm46 as one shell-quoted text.
func TestContainerCommand(t *testing.T) {
	t.Parallel()
	s := newSite(t, pbstest.Config{}, recorder)
	script := s.write(Request{Options: Options{Profile: mustProfile(t, "preset: generic\ncontainer: {kind: apptainer, image: '${HOME}/my image.sif', options: [--no-home, 'a b'], binds: [/data]}\nmodel: /m\n")}})[0]
	id := s.submit(nil, "-v", "EXP_NAME=5B", script)
	require.Equal(t, 0, s.exit(id), s.log(id))
	_, environment := s.record(filepath.Join(s.root, "results"))
	out, err := exec.Command("bash", "-c", `eval "words=($1)"; printf '%s\n' "${words[@]}"`, "_", environment["GLM46_VLLM"]).Output()
	require.NoError(t, err)
	words := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	require.Equal(t, []string{"apptainer", "exec", "--nv", "--bind", s.root}, words[:5])
	require.Equal(t, []string{"--bind", "/data", "--no-home", "a b", s.Home() + "/my image.sif", "vllm"}, words[len(words)-6:])
	require.NotContains(t, words, "/m", "a folder that does not exist cannot be bound")

	id = s.submit(nil, "-v", "EXP_NAME=5B,GLM46_MOCK=1", script)
	require.Equal(t, 0, s.exit(id))
	_, environment = s.record(filepath.Join(s.root, "results"))
	require.NotContains(t, environment, "GLM46_VLLM", "the mock needs no container")
}

func TestModules(t *testing.T) {
	t.Parallel()
	s := newSite(t, pbstest.Config{}, recorder)
	modules := filepath.Join(t.TempDir(), "modules.sh")
	require.NoError(t, os.WriteFile(modules, []byte("module() { [ \"$1 $2\" != 'load bad/1' ] || return 1; LOADED=\"$LOADED $*\"; export LOADED; }\n"), 0o644))
	profile := "preset: generic\nmodules: {init: " + modules + ", use: [/my modules], load: [cuda/12.4, %s]}\n"
	script := s.write(Request{Options: Options{Profile: mustProfile(t, strings.Replace(profile, "%s", "gcc", 1))}})[0]
	id := s.submit(nil, "-v", "EXP_NAME=5B", script)
	require.Equal(t, 0, s.exit(id), s.log(id))
	_, environment := s.record(filepath.Join(s.root, "results"))
	require.Equal(t, " use /my modules load cuda/12.4 load gcc", environment["LOADED"])

	script = s.write(Request{Options: Options{Profile: mustProfile(t, strings.Replace(profile, "%s", "bad/1", 1))}})[0]
	id = s.submit(nil, "-v", "EXP_NAME=5B", script)
	require.Equal(t, 6, s.exit(id))
	require.Contains(t, s.log(id), "glm46 job: error: module load bad/1 failed")
}

func TestArrayRunsEachConfiguration(t *testing.T) {
	t.Parallel()
	// Each sub-job notes what it was asked for in a file of its own.
	s := newSite(t, pbstest.Config{Nodes: 3}, "#!/bin/bash\nmkdir -p -- \"$GLM46_RESULTS\"\nprintf '%s ' \"$@\" >\"$GLM46_RESULTS/$PBS_ARRAY_INDEX\"\n")
	script := s.write(Request{All: true, Array: true, Cells: planCells(), Options: Options{Simultaneous: 2}})[0]
	id := s.submit(nil, script)
	require.Equal(t, 0, s.exit(id))
	var got []string
	for _, name := range []string{"0", "1", "2", "3", "4", "5"} {
		data, err := os.ReadFile(filepath.Join(s.root, "results", name))
		require.NoError(t, err)
		got = append(got, string(data))
	}
	require.Equal(t, []string{"run --exp 1A,3B ", "run --exp 1B ", "run --exp 2B ", "run --exp 3A/64k ", "run --exp 5B ", "run --exp 8B "}, got)
	require.NoFileExists(t, filepath.Join(s.root, "results", "6"))

	// Outside an array it says so.
	command := exec.Command("bash", script)
	command.Env = []string{"PATH=" + os.Getenv("PATH"), "GLM46_MOCK=1"}
	out, err := command.CombinedOutput()
	require.Error(t, err)
	require.Equal(t, 2, command.ProcessState.ExitCode())
	require.Contains(t, string(out), "this script is a job array, and needs a value from 0 to 5")
}
