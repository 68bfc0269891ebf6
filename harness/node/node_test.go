package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// recording plays the commands of a recorded session ("$ command", output,
// "exit N") and what tests add to it.
type recording struct {
	mu      sync.Mutex
	answers map[string]Output
	errs    map[string]error
	calls   []string
	stream  string // what Stream gives
}

func (r *recording) Run(_ context.Context, name string, args ...string) (Output, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	call := strings.Join(append([]string{name}, args...), " ")
	r.calls = append(r.calls, call)
	if err := r.errs[call]; err != nil {
		return Output{Exit: -1}, err
	}
	if o, ok := r.answers[call]; ok {
		return o, nil
	}
	return Output{Exit: 127, Stderr: []byte("not recorded: " + call)}, nil
}

func (r *recording) Stream(_ context.Context, name string, args ...string) (io.ReadCloser, func() error, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, strings.Join(append([]string{name}, args...), " "))
	pr, pw := io.Pipe()
	go func() {
		io.WriteString(pw, r.stream)
		pw.Close()
	}()
	return pr, func() error { return nil }, nil
}

// replay reads a session.txt.
func replay(t testing.TB, path string) *recording {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	r := &recording{answers: map[string]Output{}, errs: map[string]error{}}
	var call string
	var out []byte
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "$ "); ok {
			call, out = strings.TrimSpace(rest), nil
			continue
		}
		var exit int
		if n, err := fmt.Sscanf(line, "exit %d\n", &exit); n == 1 && err == nil {
			r.answers[call] = Output{Stdout: out, Exit: exit}
			continue
		}
		out = append(out, line...)
	}
	return r
}

const (
	gpuQuery   = "nvidia-smi --query-gpu=" + gpuFields + " " + csvFormat
	remapQuery = "nvidia-smi --query-remapped-rows=" + remapFields + " --format=csv,noheader"
	appsQuery  = "nvidia-smi --query-compute-apps=" + appFields + " " + csvFormat
)

// eightH200 is a node of eight recorded H200s.
func eightH200(t testing.TB) *recording {
	r := replay(t, "testdata/h200/session.txt")
	one := string(r.answers[gpuQuery].Stdout)
	require.Contains(t, one, "NVIDIA H200")
	var gpus, remap strings.Builder
	for i := range 8 {
		uuid := fmt.Sprintf("GPU-%d2222222-3333-4444-5555-666666666666", i)
		gpus.WriteString(strings.Replace(strings.Replace(one, "0, GPU-22222222-3333-4444-5555-666666666666", fmt.Sprintf("%d, %s", i, uuid), 1), "", "", 1))
		fmt.Fprintf(&remap, "%s, No, No\n", uuid)
	}
	r.answers[gpuQuery] = Output{Stdout: []byte(gpus.String())}
	r.answers[remapQuery] = Output{Stdout: []byte(remap.String())}
	r.answers[appsQuery] = Output{}
	return r
}

// computeNode is a healthy node of a PBS site, in a job.
func computeNode(t testing.TB) (*System, *recording) {
	r := eightH200(t)
	return &System{
		Runner: r,
		Files: fstest.MapFS{
			"proc/meminfo":                           {Data: []byte("MemTotal:       2113440000 kB\nMemFree:  1 kB\nMemAvailable:   2013440000 kB\n")},
			"proc/cpuinfo":                           {Data: []byte("processor\t: 0\nmodel name\t: Xeon 8558\n")},
			"proc/sys/kernel/osrelease":              {Data: []byte("5.14.0\n")},
			"proc/self/cgroup":                       {Data: []byte("0::/pbs.slice/job\n")},
			"sys/fs/cgroup/pbs.slice/job/memory.max": {Data: []byte("1600000000000\n")},
			"sys/fs/cgroup/pbs.slice/memory.max":     {Data: []byte("max\n")},
			"sys/fs/cgroup/pbs.slice/job/cpu.max":    {Data: []byte("9600000 100000\n")},
		},
		Environ:  []string{"PBS_JOBID=191.srv", "PBS_QUEUE=hopper", "PBS_JOBNAME=5B", "GLM46_WALLTIME_S=3600", "OMP_NUM_THREADS=96", "HOME=/home/u", "HF_HOME=/scratch/hf"},
		Hostname: "node7",
		CPUs:     96,
		Disk:     func(string) (Disk, error) { return Disk{FreeBytes: 1 << 40, TotalBytes: 1 << 41, Type: "lustre"}, nil },
		TryWrite: func(string) error { return nil },
		Limit:    func(string) (Limit, error) { return Limit{Unlimited, Unlimited}, nil },
		Listen:   func(int) error { return nil },
		LookPath: func(name string) (string, error) { return "/usr/bin/" + name, nil },
		Now:      func() time.Time { return time.Date(2026, 11, 24, 17, 0, 0, 0, time.UTC) },
	}, r
}

var tp8 = Needs{GPUs: 8, ResultsDir: "/scratch/results", TempDir: "/tmp/x", VLLM: "vllm", ExpectGPU: "H200"}

func TestHealthyNode(t *testing.T) {
	sys, r := computeNode(t)
	s, err := Preflight(t.Context(), sys, tp8)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range s.Checks {
		if c.Status != OK {
			t.Errorf("%s", c)
		}
	}
	if len(s.GPUs) != 8 || s.GPUs[3].Index != 3 || s.GPUs[3].RemapPending != "No" || s.GPUs[3].UncorrectedECC == nil {
		t.Errorf("gpus: %+v", s.GPUs)
	}
	i := s.Info
	if i.CPUQuota != 96 || i.MemLimitBytes != 1600000000000 || i.MemAvailableBytes != 2013440000<<10 || i.CPUModel != "Xeon 8558" {
		t.Errorf("info: %+v", i)
	}
	if got := s.Scheduler; got.Kind != "pbs" || got.JobID != "191.srv" || got.Queue != "hopper" || got.Node != "node7" {
		t.Errorf("scheduler: %+v", got)
	}
	if n := len(r.calls); n != 3 {
		t.Errorf("%d programs were run: %q", n, r.calls)
	}
}

// Each fault is found, stops the run, and says what to do.
func TestFaultsOfANode(t *testing.T) {
	gpus := func(old, new string) func(*System, *recording) {
		return func(_ *System, r *recording) {
			o := r.answers[gpuQuery]
			if !strings.Contains(string(o.Stdout), old) {
				panic("not in the recording: " + old)
			}
			o.Stdout = []byte(strings.Replace(string(o.Stdout), old, new, 1))
			r.answers[gpuQuery] = o
		}
	}
	set := func(env string) func(*System, *recording) {
		return func(s *System, _ *recording) { s.Environ = append(s.Environ, env) }
	}
	file := func(name, text string) func(*System, *recording) {
		return func(s *System, _ *recording) { s.Files.(fstest.MapFS)[name] = &fstest.MapFile{Data: []byte(text)} }
	}
	for _, c := range []struct {
		name, check string
		break_      func(*System, *recording)
		says        []string
	}{
		{"no driver", "gpus", func(_ *System, r *recording) {
			r.errs[gpuQuery] = &exec.Error{Name: "nvidia-smi", Err: exec.ErrNotFound}
		}, []string{"not found", "no NVIDIA driver", "--mock"}},
		{"driver hangs", "gpus", func(_ *System, r *recording) { r.errs[gpuQuery] = context.DeadlineExceeded }, []string{"hangs"}},
		{"no GPU in the job", "gpus", set("CUDA_VISIBLE_DEVICES="), []string{"ngpus=8"}},
		{"too few GPUs", "gpus", set("CUDA_VISIBLE_DEVICES=0,1,2,3"), []string{"4 of the 8", "ngpus=8"}},
		{"a GPU that is not here", "gpus", set("CUDA_VISIBLE_DEVICES=GPU-deadbeef"), []string{"deadbeef"}},
		{"a MIG slice", "gpus", set("CUDA_VISIBLE_DEVICES=MIG-1234"), []string{"MIG"}},
		{"exclusive mode", "gpu mode", gpus("Default", "Exclusive_Process"), []string{"Exclusive_Process"}},
		{"MIG on", "gpu mode", gpus("Default, Disabled", "Default, Enabled"), []string{"MIG"}},
		{"ECC", "gpu errors", gpus("143771, 0, 0,", "143771, 0, 3,"), []string{"3 uncorrected", "node7"}},
		{"row remap", "gpu errors", func(_ *System, r *recording) {
			o := r.answers[remapQuery]
			r.answers[remapQuery] = Output{Stdout: []byte(strings.Replace(string(o.Stdout), "No, No", "Yes, No", 1))}
		}, []string{"remapping"}},
		{"memory in use", "gpu processes", gpus("143771, 0,", "143771, 90000,"), []string{"90000 MiB"}},
		{"a foreign process", "gpu processes", func(s *System, r *recording) {
			r.answers[appsQuery] = Output{Stdout: []byte("GPU-32222222-3333-4444-5555-666666666666, 439, VLLM::Worker, with comma, 874\n")}
			s.Files.(fstest.MapFS)["proc/439/status"] = &fstest.MapFile{Data: []byte("Name:\tpython\nUid:\t1001\t1001\t1001\t1001\n")}
			s.UserName = func(int) string { return "mallory" }
		}, []string{"GPU 3", "process 439", "VLLM::Worker, with comma", "mallory", "874 MiB"}},
		{"one core", "cpus", func(s *System, _ *recording) { s.CPUs = 1 }, []string{"ncpus="}},
		{"a CPU quota", "cpus", file("sys/fs/cgroup/pbs.slice/job/cpu.max", "200000 100000"), []string{"quota 2.0", "ncpus="}},
		{"the hook's default memory", "memory", file("sys/fs/cgroup/pbs.slice/memory.max", "268435456"), []string{"0.2 GiB", "mem="}},
		{"cgroup v1 memory", "memory", func(s *System, _ *recording) {
			f := s.Files.(fstest.MapFS)
			f["proc/self/cgroup"] = &fstest.MapFile{Data: []byte("11:cpu,cpuacct:/pbs/1\n5:memory:/pbs/1\n0::/\n")}
			f["sys/fs/cgroup/memory/pbs/1/memory.limit_in_bytes"] = &fstest.MapFile{Data: []byte("268435456\n")}
			f["sys/fs/cgroup/memory/memory.limit_in_bytes"] = &fstest.MapFile{Data: []byte("9223372036854771712\n")}
		}, []string{"mem="}},
		{"small shm", "shm", func(s *System, _ *recording) {
			s.Disk = func(p string) (Disk, error) { return Disk{FreeBytes: 64 << 20}, nil }
		}, []string{"/dev/shm"}},
		{"results cannot be written", "results", func(s *System, _ *recording) {
			s.TryWrite = func(dir string) error { return &fs.PathError{Op: "mkdir", Path: dir, Err: fs.ErrPermission} }
		}, []string{"/scratch/results", "--results"}},
		{"disk full", "results", func(s *System, _ *recording) {
			s.Disk = func(p string) (Disk, error) {
				if p == "/dev/shm" {
					return Disk{FreeBytes: 1 << 40}, nil
				}
				return Disk{FreeBytes: 1 << 20}, nil
			}
		}, []string{"free"}},
		{"few open files", "open files", func(s *System, _ *recording) {
			s.Limit = func(string) (Limit, error) { return Limit{1024, 1024}, nil }
		}, []string{"ulimit -n"}},
		{"no loopback", "port", func(s *System, _ *recording) { s.Listen = func(int) error { return errors.New("cannot assign") } }, []string{"127.0.0.1"}},
		{"no vllm", "vllm", func(s *System, _ *recording) {
			s.LookPath = func(string) (string, error) { return "", errors.New("not found") }
		}, []string{"--vllm"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			sys, r := computeNode(t)
			c.break_(sys, r)
			s, err := Preflight(t.Context(), sys, tp8)
			var bad *NotReadyError
			require.ErrorAs(t, err, &bad)
			i := slices.IndexFunc(s.Checks, func(x Check) bool { return x.Name == c.check && x.Status == Fail })
			if i < 0 {
				t.Fatalf("check %q did not fail: %v", c.check, s.Checks)
			}
			for _, want := range c.says {
				if !strings.Contains(s.Checks[i].String(), want) {
					t.Errorf("%s\ndoes not say %q", s.Checks[i], want)
				}
			}
		})
	}
}

// With the mock nothing of GPUs is asked, nor is nvidia-smi run.
func TestMockNeedsNoGPU(t *testing.T) {
	sys, r := computeNode(t)
	sys.CPUs, sys.Files = 1, fstest.MapFS{}
	sys.LookPath = func(string) (string, error) { return "", errors.New("none") }
	s, err := Preflight(t.Context(), sys, Needs{ResultsDir: "/x"})
	require.NoError(t, err)
	if len(r.calls) != 0 {
		t.Errorf("ran %q", r.calls)
	}
	if s.Checks[0].Status != Skip {
		t.Errorf("%v", s.Checks[0])
	}
}

func TestDoctorKnowsWhereItIs(t *testing.T) {
	missing := func(names ...string) func(string) (string, error) {
		return func(n string) (string, error) {
			if slices.Contains(names, n) {
				return "", errors.New("not found")
			}
			return "/usr/bin/" + n, nil
		}
	}
	for _, c := range []struct {
		name, want string
		change     func(*System)
	}{
		{"in a job", ComputeNode, func(*System) {}},
		{"login", LoginNode, func(s *System) { s.Environ = nil; s.LookPath = missing("nvidia-smi") }},
		{"by ssh on a GPU node", ComputeNode, func(s *System) { s.Environ = nil }},
		{"a laptop", Workstation, func(s *System) { s.Environ = nil; s.LookPath = missing("nvidia-smi", "qsub") }},
	} {
		sys, r := computeNode(t)
		c.change(sys)
		if c.want == Workstation {
			r.errs[gpuQuery] = errors.New("executable file not found")
		}
		s := Doctor(t.Context(), sys, tp8)
		if !strings.Contains(s.Checks[0].Detail, c.want) {
			t.Errorf("%s: %s", c.name, s.Checks[0])
		}
		if c.want == LoginNode {
			if s.Err() != nil && strings.Contains(s.Err().Error(), "gpu") {
				t.Errorf("GPUs are asked for on a login node: %v", s.Err())
			}
		}
		if c.want == Workstation && s.Err() == nil {
			t.Errorf("%s: ready for eight GPUs", c.name)
		}
	}
}

func TestVisible(t *testing.T) {
	gpus := []GPU{{Index: 0, UUID: "GPU-aaaa-1"}, {Index: 1, UUID: "GPU-bbbb-2"}, {Index: 2, UUID: "GPU-bccc-3"}}
	for _, c := range []struct {
		environ []string
		want    string
		count   int
		bad     bool
	}{
		{nil, "", 3, false},
		{[]string{"CUDA_VISIBLE_DEVICES="}, "", 0, false},
		{[]string{"CUDA_VISIBLE_DEVICES=2,0"}, "2,0", 2, false},
		{[]string{"CUDA_VISIBLE_DEVICES=GPU-bbbb-2,GPU-aaaa-1"}, "1,0", 2, false},
		{[]string{"CUDA_VISIBLE_DEVICES=GPU-bccc"}, "2", 1, false},
		{[]string{"CUDA_VISIBLE_DEVICES=0, 1"}, "0,1", 2, false},
		{[]string{"CUDA_VISIBLE_DEVICES=0,0"}, "", 0, true},
		{[]string{"CUDA_VISIBLE_DEVICES=7"}, "", 0, true},
		{[]string{"CUDA_VISIBLE_DEVICES=GPU-zzzz"}, "", 0, true},
		{[]string{"CUDA_VISIBLE_DEVICES=GPU-b"}, "", 0, true}, // two GPUs begin so
		{[]string{"CUDA_VISIBLE_DEVICES=1", "CUDA_VISIBLE_DEVICES=2"}, "2", 1, false},
	} {
		v, err := (&System{Environ: c.environ}).Visible(gpus)
		if (err != nil) != c.bad || !c.bad && (v.Value != c.want || len(v.Ordinals) != c.count) {
			t.Errorf("%q: got %+v, %v", c.environ, v, err)
		}
	}
}

func TestWalltime(t *testing.T) {
	now := time.Date(2026, 11, 24, 17, 0, 0, 0, time.Local)
	answer, err := os.ReadFile("testdata/qstat.json")
	require.NoError(t, err)
	qstat := func(o Output) *System {
		return &System{Environ: []string{"PBS_JOBID=191.srv"}, Runner: &recording{answers: map[string]Output{"qstat -f -F json 191.srv": o}}}
	}
	env := func(v string) *System {
		return &System{Environ: []string{"GLM46_WALLTIME_S=" + v, "PBS_JOBID=191.srv"}}
	}
	for _, c := range []struct {
		name   string
		sys    *System
		flag   time.Duration
		source string
		after  time.Duration
		bad    bool
	}{
		{"flag wins", env("60"), time.Hour, "flag", time.Hour, false},
		{"variable", env("3600"), 0, WalltimeVariable, time.Hour, false},
		{"variable, no number", env("01:00:00"), 0, "", 0, true},
		{"variable, negative", env("-5"), 0, "", 0, true},
		{"variable, huge", env("99999999999999"), 0, "", 0, true},
		{"no job", &System{}, 0, "", 0, false},
		{"qstat", qstat(Output{Stdout: answer}), 0, "qstat", 10*time.Minute - 43*time.Minute - 21*time.Second, false},
		{"unknown job", qstat(Output{Exit: 153, Stderr: []byte("qstat: Unknown Job Id 191.srv")}), 0, "", 0, true},
		{"server down", qstat(Output{Exit: 255, Stderr: []byte("Connection refused")}), 0, "", 0, true},
		{"no stime yet", qstat(Output{Stdout: []byte(`{"Jobs":{"191.srv":{"Resource_List":{"walltime":"00:10:00"}}}}`)}), 0, "", 0, false},
	} {
		w, ok, err := c.sys.WalltimeDeadline(t.Context(), c.flag, now)
		if (err != nil) != c.bad || ok != (c.source != "") || ok && (w.Source != c.source || !w.Deadline.Equal(now.Add(c.after))) {
			t.Errorf("%s: got %+v, %v, %v", c.name, w, ok, err)
		}
		if err != nil && !strings.Contains(err.Error(), WalltimeVariable) {
			t.Errorf("%s: %v does not say what to set", c.name, err)
		}
	}
	job, err := ParseQstat(answer, "191", time.UTC)
	require.NoError(t, err)
	want := QstatJob{ID: "191.srv", State: "R", Queue: "hopper", ExecHost: "node/0*2", Walltime: 10 * time.Minute,
		Started: time.Date(2026, 11, 24, 16, 16, 39, 0, time.UTC), RunCount: 1, Select: "1:ncpus=2:ngpus=8:mem=200mb", Memory: "200mb"}
	if job != want {
		t.Errorf("want %+v, got %+v", want, job)
	}
}

func TestParsePBSDuration(t *testing.T) {
	for in, want := range map[string]time.Duration{"3600": time.Hour, "90:00": 90 * time.Minute, "168:00:00": 168 * time.Hour, "00:00:30.5": 30 * time.Second} {
		if got, err := ParsePBSDuration(in); err != nil || got != want {
			t.Errorf("%q: %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "1:2:3:4", "-1", "x", "1::2", "99999999:99999999:99999999", "+5"} {
		if got, err := ParsePBSDuration(in); err == nil {
			t.Errorf("%q: taken as %v", in, got)
		}
	}
}

func TestRecordedQueries(t *testing.T) {
	for _, dir := range []string{"h100", "h200"} {
		sys := &System{Runner: replay(t, "testdata/"+dir+"/session.txt")}
		gpus, err := QueryGPUs(t.Context(), sys)
		require.NoError(t, err)
		g := gpus[0]
		if len(gpus) != 1 || g.Driver != "580.159.04" || g.ComputeMode != "Default" || g.MIGMode != "Disabled" || g.UncorrectedECC == nil ||
			*g.UncorrectedECC != 0 || g.MaxSMClockMHz != 1980 || g.PowerCapWatts != 700 || g.RemapFailure != "No" {
			t.Errorf("%s: %+v", dir, gpus)
		}
	}
	busy, err := os.ReadFile("testdata/h100/apps_busy.txt")
	require.NoError(t, err)
	line, _, _ := strings.Cut(string(busy), "\n")
	apps, err := ParseApps([]byte(line))
	require.NoError(t, err)
	if len(apps) != 1 || apps[0] != (ComputeApp{UUID: "GPU-11111111-2222-3333-4444-555555555555", PID: 439, Name: "python3", UsedMiB: 874}) {
		t.Errorf("%+v", apps)
	}
	_, err = (&System{Runner: replay(t, "testdata/h100/session.txt")}).smi(t.Context(), "--query-gpu=index,no.such.field", "--format=csv,noheader")
	var refused *SMIError
	require.ErrorAs(t, err, &refused)
	if !refused.refusedField() || refused.Exit != 2 {
		t.Errorf("%+v", refused)
	}
}

func TestGPUsThatDoNotTell(t *testing.T) {
	in := "0, GPU-a, NVIDIA A100, 470.1, [N/A], [N/A], [N/A], Enabled, 40536, [Unknown Error], [N/A], 1410 MHz, [Not Supported]\n\n"
	gpus, err := ParseGPUs([]byte(in))
	require.NoError(t, err)
	g := gpus[0]
	if g.UncorrectedECC != nil || g.MIGMode != "" || g.UsedMiB != 0 || g.MaxSMClockMHz != 1410 || g.PowerCapWatts != 0 {
		t.Errorf("%+v", g)
	}
	for _, bad := range []string{"0, GPU-a\n", "x, GPU-a,a,b,c,d,e,f,1,2,3,4,5\n", "Unable to determine the device handle for GPU0000:5D:00.0: Unknown Error\n", "0, [GPU is lost],a,b,c,d,e,f,1,2,3,4,5"} {
		if g, err := ParseGPUs([]byte(bad)); err == nil {
			t.Errorf("%q: taken as %+v", bad, g)
		}
	}
}

type lines []any

func (l *lines) Line(v any) error { *l = append(*l, v); return nil }

func TestSampler(t *testing.T) {
	for _, old := range []bool{false, true} {
		series, err := os.ReadFile("testdata/h100/series.csv")
		require.NoError(t, err)
		fields := SampleFields
		now := time.Unix(1000, 0)
		r := &recording{answers: map[string]Output{}, stream: string(series) + "\nUnable to determine the device handle\n"}
		query := func(f string) string { return "nvidia-smi --query-gpu=" + f + " " + csvFormat + " --id=0,1" }
		if old {
			r.answers[query(fields)] = Output{Exit: 2, Stdout: []byte("Field \"clocks_event_reasons.active\" is not a valid field to query.\n")}
			fields = strings.Replace(fields, "clocks_event", "clocks_throttle", 1)
		}
		r.answers[query(fields)] = Output{}
		sys := &System{Runner: r, Now: func() time.Time { now = now.Add(time.Second); return now }}
		var sink lines
		s, err := StartSampler(t.Context(), sys, []int{0, 1}, &sink)
		require.NoError(t, err)
		<-s.done
		err = s.Stop()
		if err == nil || !strings.Contains(err.Error(), "1 lines not understood") {
			t.Errorf("a lost GPU is passed over in silence: %v", err)
		}
		if last := r.calls[len(r.calls)-1]; last != query(fields)+" -lms 1000" {
			t.Errorf("ran %q", last)
		}
		if len(sink) != 26 {
			t.Errorf("%d samples", len(sink))
		}
		all := s.Between(time.Unix(0, 0), time.Unix(5000, 0))
		if part := s.Between(time.Unix(1003, 0), time.Unix(1005, 0)); len(all) != 26 || len(part) != 3 {
			t.Errorf("%d of %d samples in the window", len(part), len(all))
		}
		u := Summarize(all)
		if len(u) != 1 || u[0].Samples != 26 || u[0].PowerMaxWatts < 650 || u[0].SMClockMin != 345 || u[0].Throttle["power_cap"] == 0 || u[0].Throttle["idle"] != 0 {
			t.Errorf("%+v", u)
		}
		if e := u[0].PowerMeanWatts * 25; u[0].EnergyJoules < 0.9*e || u[0].EnergyJoules > 1.1*e {
			t.Errorf("energy %.0f J, mean power over 25 s would be %.0f J", u[0].EnergyJoules, e)
		}
		throttled, capped := ThrottledShares(all)
		if throttled != 0 || capped <= 0 || capped >= 1 {
			t.Errorf("shares %g %g", throttled, capped)
		}
	}
}

func TestThrottleNames(t *testing.T) {
	if got := Throttle(0x1 | 0x8 | 0x40 | 0x4000).Names(); !slices.Equal(got, []string{"idle", "hardware_slowdown", "hardware_thermal", "0x4000"}) {
		t.Errorf("%q", got)
	}
	if ThrottleInvalidating != 0x8|0x20|0x40|0x80 {
		t.Errorf("mask %#x", uint64(ThrottleInvalidating))
	}
}

func TestWaitFree(t *testing.T) {
	r := eightH200(t)
	sys := &System{Runner: r}
	require.NoError(t, WaitFree(t.Context(), sys, []int{0, 1}, time.Minute))
	o := r.answers[gpuQuery]
	r.answers[gpuQuery] = Output{Stdout: []byte(strings.Replace(string(o.Stdout), "143771, 0,", "143771, 80000,", 1))}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := WaitFree(ctx, sys, []int{0}, time.Minute)
	if err == nil || !strings.Contains(err.Error(), "GPU 0: 80000 MiB") {
		t.Errorf("got %v", err)
	}
}

func TestModelFolder(t *testing.T) {
	files := fstest.MapFS{
		"models/glm/config.json":                     {Data: []byte("{}")},
		"models/glm/tokenizer.json":                  {Data: []byte("{}")},
		"models/glm/model.safetensors.index.json":    {Data: []byte(`{"weight_map":{"a":"model-1.safetensors","b":"model-2.safetensors","c":"../../etc/passwd"}}`)},
		"models/glm/model-1.safetensors":             {Data: make([]byte, 100)},
		"models/bare/config.json":                    {Data: []byte("{}")},
		"models/bare/model.safetensors":              {Data: make([]byte, 10)},
		"models/bare/tokenizer.json":                 {Data: []byte("{}")},
		"models/broken/model.safetensors.index.json": {Data: []byte("{")},
		"etc/passwd": {Data: []byte("root")},
	}
	sys := &System{Files: files}
	m, err := sys.Model("/models/glm")
	require.NoError(t, err)
	if m.Shards != 1 || m.WeightsBytes != 100 || !slices.Equal(m.Missing, []string{"../../etc/passwd", "model-2.safetensors"}) {
		t.Errorf("%+v", m)
	}
	m, err = sys.Model("/models/bare/")
	require.NoError(t, err)
	if m.Shards != 1 || len(m.Missing) != 0 {
		t.Errorf("%+v", m)
	}
	_, err = sys.Model("/models/broken")
	require.Error(t, err)
	_, err = sys.Model("/models/none")
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestCleanShm(t *testing.T) {
	dir := t.TempDir()
	since := time.Now().Add(-time.Minute)
	for _, n := range []string{"psm_a", "nccl-b", "vllm_offload_c", "other", "psm_open"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, n), []byte("x"), 0o600))
	}
	require.NoError(t, os.Symlink("other", filepath.Join(dir, "psm_link")))
	open, err := os.Open(filepath.Join(dir, "psm_open"))
	require.NoError(t, err)
	defer open.Close()
	none, err := CleanShm(dir, os.Getuid()+1, since)
	require.NoError(t, err)
	require.Empty(t, none, "files of somebody else")
	none, err = CleanShm(dir, os.Getuid(), time.Now().Add(time.Hour))
	require.NoError(t, err)
	require.Empty(t, none, "older than the start")
	gone, err := CleanShm(dir, os.Getuid(), since)
	require.NoError(t, err)
	slices.Sort(gone)
	if !slices.Equal(gone, []string{"nccl-b", "psm_a", "vllm_offload_c"}) {
		t.Errorf("removed %q", gone)
	}
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, left, 3)
}

// The real machine answers without faults of ours.
func TestHost(t *testing.T) {
	sys := Host()
	i := sys.Collect()
	if i.Hostname == "" || i.CPUs < 1 || i.MemTotalBytes == 0 || i.Kernel == "" {
		t.Errorf("%+v", i)
	}
	dir := t.TempDir()
	require.NoError(t, sys.TryWrite(filepath.Join(dir, "new")))
	left, err := os.ReadDir(filepath.Join(dir, "new"))
	require.NoError(t, err)
	require.Empty(t, left)
	d, err := sys.Disk(dir)
	require.NoError(t, err)
	require.NotZero(t, d.TotalBytes)
	require.NoError(t, sys.Listen(0))
	_, err = sys.Limit("nofile")
	require.NoError(t, err)
	o, err := sys.Runner.Run(t.Context(), "sh", "-c", "echo out; echo err >&2; exit 3")
	require.NoError(t, err)
	if o.Exit != 3 || string(o.Stdout) != "out\n" || string(o.Stderr) != "err\n" {
		t.Errorf("%+v", o)
	}
	_, err = sys.Runner.Run(t.Context(), "no-such-program")
	require.Error(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = sys.Runner.Run(ctx, "sleep", "60")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	r, stop, err := sys.Runner.Stream(t.Context(), "sh", "-c", "echo one; exec sleep 60")
	require.NoError(t, err)
	b := make([]byte, 4)
	_, err = io.ReadFull(r, b)
	require.NoError(t, err)
	require.NoError(t, stop())
	require.NoError(t, r.Close())
	_, _, err = sys.Runner.Stream(t.Context(), "no-such-program")
	require.Error(t, err)
}

func FuzzParseGPUs(f *testing.F) {
	for _, dir := range []string{"h100", "h200"} {
		f.Add(replay(f, "testdata/"+dir+"/session.txt").answers[gpuQuery].Stdout)
	}
	f.Add([]byte("0, GPU-a, \"x, y, z\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		gpus, err := ParseGPUs(b)
		if err != nil {
			return
		}
		for i, g := range gpus {
			if g.Index < 0 || g.UUID == "" || i > 0 && gpus[i-1].Index > g.Index {
				t.Errorf("%q: %+v", b, g)
			}
		}
		_ = applyRemapped(gpus, b)
	})
}

func FuzzParseSample(f *testing.F) {
	b, err := os.ReadFile("testdata/h200/series.csv")
	require.NoError(f, err)
	for line := range strings.Lines(string(b)) {
		f.Add(line)
	}
	f.Add("t, 0, [N/A], NaN, inf, 1e999, -1, 0x, , zz")
	f.Fuzz(func(t *testing.T, line string) {
		s, err := ParseSample(line, time.Unix(1, 0))
		if err == nil && (s.Index < 0 || s.PowerWatts != s.PowerWatts) {
			t.Errorf("%q: %+v", line, s)
		}
	})
}

func FuzzParseApps(f *testing.F) {
	f.Add([]byte("GPU-1, 439, python3, 874\n"))
	f.Add([]byte("[N/A], 1, a, b, c, [N/A]"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if apps, err := ParseApps(b); err == nil {
			for _, a := range apps {
				_ = a.Name
			}
		}
	})
}

func FuzzParseQstat(f *testing.F) {
	b, err := os.ReadFile("testdata/qstat.json")
	require.NoError(f, err)
	f.Add(b)
	f.Add([]byte(`{"Jobs":{"191.srv":{"Resource_List":{"walltime":36000},"stime":null}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		job, err := ParseQstat(b, "191.srv", time.UTC)
		if err == nil && job.Walltime < 0 {
			t.Errorf("%q: %+v", b, job)
		}
		if err != nil && !errors.Is(err, ErrNoQstat) {
			t.Errorf("%q: %v", b, err)
		}
	})
}
