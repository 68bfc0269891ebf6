package node

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Status of a [Check].
type Status string

// The statuses. A warning does not stop a run, a failure does.
const (
	OK   Status = "ok"
	Warn Status = "warn"
	Fail Status = "fail"
	// Skip says that a check does not apply here.
	Skip Status = "skip"
)

// Check is one thing looked at.
type Check struct {
	Name   string `json:"name"`
	Status Status `json:"status"`
	// Detail says what was found, Do what to do about it.
	Detail string `json:"detail"`
	Do     string `json:"do,omitempty"`
}

// String gives the check as one line.
func (c Check) String() string {
	s := fmt.Sprintf("%-4s  %-18s %s", c.Status, c.Name, c.Detail)
	if c.Do != "" {
		s += "; " + c.Do
	}
	return s
}

// Needs are what a run asks of the node.
type Needs struct {
	// GPUs is the tensor-parallel size; 0: no GPU is needed (the mock, bench).
	GPUs int
	// ResultsDir must be writable. CacheDir and TempDir too, where given.
	ResultsDir, CacheDir, TempDir string
	// ModelDir is a model's folder; empty where the model is a hub name.
	ModelDir string
	// Port is the port asked for; 0: any free one.
	Port int
	// VLLM is the program that starts the server; empty: not looked for.
	VLLM string
	// WeightsBytes is the size of the weights, for the page cache; 0: unknown.
	WeightsBytes uint64
	// MinDiskBytes is the room that results need; 0 means [MinDiskBytes].
	MinDiskBytes uint64
	// ExpectGPU is what a GPU's name should hold ("H200"); empty: any. Another
	// one is a warning: the figures are then not the plan's.
	ExpectGPU string
}

// Limits that checks apply. Source: docs/node.md, GPU checks and failure list.
const (
	// MaxUsedMiB is what a free GPU may hold.
	MaxUsedMiB = 1024
	// MinShmBytes: vLLM's queues take about 240 MiB each.
	MinShmBytes = 2 << 30
	// MinDiskBytes: records of one level at full length are some 100 MB.
	MinDiskBytes = 2 << 30
	// MinOpenFiles is what a server with hundreds of streams needs.
	MinOpenFiles = 4096
	// MaxTempPath leaves room for vLLM's socket names within the 107 bytes of a
	// unix socket's path.
	MaxTempPath = 60
	// MinMemoryBytes is below what any server of a large model lives with; the
	// PBS hook's default limit is 256 MB.
	MinMemoryBytes = 64 << 30
)

// NotReadyError says that the node is not fit for the run.
type NotReadyError struct{ Failed []Check }

func (e *NotReadyError) Error() string {
	var parts []string
	for _, c := range e.Failed {
		s := c.Name + ": " + c.Detail
		if c.Do != "" {
			s += "; " + c.Do
		}
		parts = append(parts, s)
	}
	return "this node is not ready: " + strings.Join(parts, " | ")
}

// State is what the checks found out, for the run and its record.
type State struct {
	Info      Info
	GPUs      []GPU
	Visible   VisibleGPUs
	Scheduler Scheduler
	Checks    []Check
}

// Err is a [*NotReadyError] if a check failed, else nil.
func (s *State) Err() error {
	var failed []Check
	for _, c := range s.Checks {
		if c.Status == Fail {
			failed = append(failed, c)
		}
	}
	if len(failed) == 0 {
		return nil
	}
	return &NotReadyError{failed}
}

// Observe describes this machine and the GPUs that this process may use, judging
// nothing. A machine without an NVIDIA driver has no GPUs. With the error, an
// [*SMIError] or what is wrong with CUDA_VISIBLE_DEVICES, comes the rest.
func Observe(ctx context.Context, sys *System) (*State, error) {
	s := &State{Info: sys.Collect(), Scheduler: sys.PBS()}
	all, err := QueryGPUs(ctx, sys)
	if errors.Is(err, exec.ErrNotFound) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	visible, err := sys.Visible(all)
	if err != nil {
		return s, err
	}
	s.see(all, visible)
	return s, nil
}

// see keeps the visible ones of a machine's GPUs.
func (s *State) see(all []GPU, visible VisibleGPUs) {
	s.Visible = visible
	for _, g := range all {
		if slices.Contains(visible.Ordinals, g.Index) {
			s.GPUs = append(s.GPUs, g)
		}
	}
}

// Preflight looks at everything that a run needs, in a few seconds, and changes
// nothing but test files that it removes again. Its error is that of
// [State.Err]; the state is there in any case.
func Preflight(ctx context.Context, sys *System, n Needs) (*State, error) {
	s := &State{Info: sys.Collect(), Scheduler: sys.PBS()}
	c := &checker{sys: sys, needs: n, state: s}
	c.gpus(ctx)
	c.cpus()
	c.memory()
	c.shm()
	c.disks()
	c.limits()
	c.port()
	c.program()
	c.model()
	c.environment()
	for _, check := range s.Checks {
		if check.Status == Warn {
			s.Info.Warnings = append(s.Info.Warnings, check.Name+": "+check.Detail)
		}
	}
	return s, s.Err()
}

// Doctor is [Preflight] with what else is worth knowing about a node: where it
// is, and how long the job still has. It knows a login node from a compute node:
// there, what only a job has is passed over.
func Doctor(ctx context.Context, sys *System, n Needs) *State {
	kind, why := sys.Kind()
	if kind == LoginNode {
		n.GPUs = 0
	}
	s, _ := Preflight(ctx, sys, n)
	first := []Check{{Name: "node", Status: OK, Detail: fmt.Sprintf("%s, a %s (%s)", sys.Hostname, kind, why)}}
	if kind == LoginNode {
		first[0].Do = `for the GPU checks run "glm46 doctor" inside a job (qsub -I)`
	}
	first = append(first, sys.walltimeCheck(ctx))
	s.Checks = append(first, s.Checks...)
	return s
}

// Kinds of node.
const (
	LoginNode   = "login node"
	ComputeNode = "compute node"
	Workstation = "machine without a batch system"
)

// Kind tells a login node (PBS is there, no job, no GPU) from a compute node.
func (s *System) Kind() (kind, why string) {
	_, smi := s.LookPath("nvidia-smi")
	_, qsub := s.LookPath("qsub")
	job := s.env("PBS_JOBID")
	switch {
	case job != "":
		return ComputeNode, "job " + job
	case qsub == nil && smi != nil:
		return LoginNode, "qsub is here, a job and nvidia-smi are not"
	case qsub == nil:
		return ComputeNode, "nvidia-smi is here, though no job is: mind others on this node"
	case smi == nil:
		return Workstation, "nvidia-smi is here, qsub is not"
	}
	return Workstation, "neither qsub nor nvidia-smi is here"
}

func (s *System) walltimeCheck(ctx context.Context) Check {
	c := Check{Name: "walltime", Status: Skip, Detail: "no job"}
	w, ok, err := s.WalltimeDeadline(ctx, 0, s.Now())
	switch {
	case err != nil:
		c.Status, c.Detail, c.Do = Warn, "unknown: "+err.Error(), "set "+WalltimeVariable+" in the job script"
	case ok:
		left := w.Deadline.Sub(s.Now())
		c.Status, c.Detail = OK, fmt.Sprintf("%s left (%s)", left.Round(time.Second), w.Source)
		if left < 10*time.Minute {
			c.Status, c.Do = Warn, "too little for a start of the real server"
		}
	case s.env("PBS_JOBID") != "":
		c.Status, c.Detail, c.Do = Warn, "unknown", "set "+WalltimeVariable+" in the job script"
	}
	return c
}

type checker struct {
	sys   *System
	needs Needs
	state *State
}

func (c *checker) add(name string, status Status, detail, do string) {
	if status == OK || status == Skip {
		do = ""
	}
	c.state.Checks = append(c.state.Checks, Check{name, status, detail, do})
}

// gpus makes all checks of the devices.
func (c *checker) gpus(ctx context.Context) {
	if c.needs.GPUs == 0 {
		c.add("gpus", Skip, "no GPU is needed", "")
		return
	}
	all, err := QueryGPUs(ctx, c.sys)
	if err != nil {
		c.add("gpus", Fail, err.Error(), "run on a node with GPUs and the driver, or with --mock")
		return
	}
	visible, err := c.sys.Visible(all)
	if err != nil {
		c.state.Visible = visible
		c.add("gpus", Fail, err.Error(), "")
		return
	}
	c.state.see(all, visible)
	gpus := c.state.GPUs
	switch {
	case visible.Set && len(visible.Ordinals) == 0:
		c.add("gpus", Fail, "CUDA_VISIBLE_DEVICES is empty: the job was given no GPU", fmt.Sprintf("ask for them: -l select=1:ngpus=%d (or as your site writes it)", c.needs.GPUs))
		return
	case len(gpus) < c.needs.GPUs:
		c.add("gpus", Fail, fmt.Sprintf("%d of the %d GPUs needed are here", len(gpus), c.needs.GPUs), fmt.Sprintf("ask for ngpus=%d, or lower TENSOR_PARALLEL_SIZE", c.needs.GPUs))
	default:
		detail := fmt.Sprintf("%d x %s, driver %s", len(gpus), gpus[0].Name, gpus[0].Driver)
		if visible.Translated {
			detail += ", UUIDs in CUDA_VISIBLE_DEVICES become " + visible.Value
		}
		c.add("gpus", OK, detail, "")
	}
	if len(gpus) == 0 {
		return
	}
	c.gpuKind(gpus)
	c.gpuModes(gpus)
	c.gpuErrors(gpus)
	c.gpuUse(ctx, gpus)
}

// gpuKind compares the devices with each other and with the plan's.
func (c *checker) gpuKind(gpus []GPU) {
	for _, g := range gpus[1:] {
		if g.Name != gpus[0].Name || g.VBIOS != gpus[0].VBIOS {
			c.add("gpu kind", Warn, fmt.Sprintf("GPU %d is %s (VBIOS %s), GPU %d is %s (VBIOS %s)", gpus[0].Index, gpus[0].Name, gpus[0].VBIOS, g.Index, g.Name, g.VBIOS),
				"results of mixed nodes cannot be compared with others")
			return
		}
	}
	if e := c.needs.ExpectGPU; e != "" && !strings.Contains(strings.ToUpper(gpus[0].Name), strings.ToUpper(e)) {
		c.add("gpu kind", Warn, fmt.Sprintf("%s, the plan is for %s", gpus[0].Name, e), "the model may not fit, and figures are not the plan's")
		return
	}
	c.add("gpu kind", OK, fmt.Sprintf("%s, %.0f MiB, power limit %.0f W", gpus[0].Name, gpus[0].TotalMiB, gpus[0].PowerCapWatts), "")
}

func (c *checker) gpuModes(gpus []GPU) {
	ok := true
	for _, g := range gpus {
		if g.ComputeMode != "" && g.ComputeMode != "Default" {
			ok = false
			c.add("gpu mode", Fail, fmt.Sprintf("GPU %d is in compute mode %s", g.Index, g.ComputeMode), "vLLM's workers need mode Default: ask the site (nvidia-smi -c 0)")
		}
		if g.MIGMode == "Enabled" {
			ok = false
			c.add("gpu mode", Fail, fmt.Sprintf("MIG is on on GPU %d", g.Index), "ask for whole GPUs")
		}
	}
	if ok {
		c.add("gpu mode", OK, "compute mode Default, MIG off", "")
	}
	if gpus[0].Persistence == "Disabled" {
		c.add("gpu persistence", Warn, "persistence mode is off", "the first CUDA call takes seconds longer; nothing else changes")
	}
}

func (c *checker) gpuErrors(gpus []GPU) {
	ok := true
	unknown := false
	for _, g := range gpus {
		switch {
		case g.UncorrectedECC == nil:
			unknown = true
		case *g.UncorrectedECC > 0:
			ok = false
			c.add("gpu errors", Fail, fmt.Sprintf("GPU %d: %d uncorrected ECC errors", g.Index, *g.UncorrectedECC), "report node "+c.sys.Hostname+" to the site and exclude it")
		}
		if g.RemapPending == "Yes" || g.RemapFailure == "Yes" {
			ok = false
			c.add("gpu errors", Fail, fmt.Sprintf("GPU %d: row remapping pending %s, failed %s", g.Index, g.RemapPending, g.RemapFailure), "the GPU needs a reset: report node "+c.sys.Hostname+" to the site")
		}
	}
	if ok {
		detail := "no uncorrected ECC error, no row to remap"
		if unknown {
			detail = "ECC counters unknown"
		}
		c.add("gpu errors", OK, detail, "")
	}
}

// gpuUse looks for others on the GPUs.
func (c *checker) gpuUse(ctx context.Context, gpus []GPU) {
	var busy []string
	for _, g := range gpus {
		if g.UsedMiB > MaxUsedMiB {
			busy = append(busy, fmt.Sprintf("GPU %d holds %.0f MiB", g.Index, g.UsedMiB))
		}
	}
	apps, err := QueryApps(ctx, c.sys)
	if err != nil {
		c.add("gpu processes", Warn, "unknown: "+err.Error(), "")
	}
	for _, a := range apps {
		if i := slices.IndexFunc(gpus, func(g GPU) bool { return g.UUID == a.UUID }); i >= 0 {
			who := a.Name
			if a.User != "" {
				who += " of " + a.User
			}
			busy = append(busy, fmt.Sprintf("GPU %d: process %d (%s) holds %.0f MiB", gpus[i].Index, a.PID, strings.TrimSpace(who), a.UsedMiB))
		}
	}
	if len(busy) > 0 {
		c.add("gpu processes", Fail, strings.Join(busy, ", "), "end what is left there if it is yours, or report the node")
		return
	}
	if err == nil {
		c.add("gpu processes", OK, "none, memory free", "")
	}
}

func (c *checker) cpus() {
	i := c.state.Info
	detail := fmt.Sprintf("%d usable", i.CPUs)
	usable := float64(i.CPUs)
	if i.CPUQuota > 0 {
		detail += fmt.Sprintf(", cgroup quota %.1f", i.CPUQuota)
		usable = min(usable, i.CPUQuota)
	}
	// vLLM's own advice: a core for each worker, one for the API server and one
	// for the engine.
	need := float64(c.needs.GPUs + 2)
	switch {
	case c.needs.GPUs == 0:
		c.add("cpus", OK, detail, "")
	case usable < need:
		c.add("cpus", Fail, fmt.Sprintf("%s, TP %d needs %.0f cores", detail, c.needs.GPUs, need), "ask for ncpus= in the job; PBS gives 1 otherwise")
	case usable < 2*need:
		c.add("cpus", Warn, detail+": little for the client beside the server", "ask for more ncpus=")
	default:
		c.add("cpus", OK, detail, "")
	}
}

func gib(b uint64) string { return fmt.Sprintf("%.1f GiB", float64(b)/(1<<30)) }

func (c *checker) memory() {
	i := c.state.Info
	room := i.memoryRoom()
	detail := gib(i.MemAvailableBytes) + " available"
	if i.MemLimitBytes > 0 {
		detail += ", cgroup limit " + gib(i.MemLimitBytes)
	}
	switch {
	case room == 0:
		c.add("memory", Warn, "unknown", "")
	case c.needs.GPUs == 0:
		c.add("memory", OK, detail, "")
	case room < MinMemoryBytes:
		c.add("memory", Fail, detail, "ask for mem= in the job (PBS's default limit is 256 MB); at least the size of the weights is best")
	case c.needs.WeightsBytes > 0 && float64(c.needs.WeightsBytes) > 0.85*float64(room):
		c.add("memory", Warn, fmt.Sprintf("%s, weights take %s: they will not stay cached between starts", detail, gib(c.needs.WeightsBytes)), "ask for more mem=")
	default:
		c.add("memory", OK, detail, "")
	}
}

func (c *checker) shm() {
	d, err := c.sys.Disk("/dev/shm")
	switch {
	case err != nil:
		c.add("shm", Warn, "/dev/shm: "+err.Error(), "vLLM's workers talk through it")
	case c.needs.GPUs > 0 && d.FreeBytes < MinShmBytes:
		c.add("shm", Fail, fmt.Sprintf("/dev/shm has %s free, %s needed", gib(d.FreeBytes), gib(MinShmBytes)), "clean it, or give the container more (--ipc host)")
	default:
		c.add("shm", OK, "/dev/shm has "+gib(d.FreeBytes)+" free", "")
	}
}

func (c *checker) disks() {
	least := c.needs.MinDiskBytes
	if least == 0 {
		least = MinDiskBytes
	}
	for _, d := range []struct{ name, dir, flag string }{
		{"results", c.needs.ResultsDir, "--results"},
		{"cache", c.needs.CacheDir, "the cache folder"},
		{"temp", c.needs.TempDir, "TMPDIR"},
	} {
		if d.dir == "" {
			continue
		}
		if err := c.sys.TryWrite(d.dir); err != nil {
			c.add(d.name, Fail, "cannot write: "+err.Error(), "check quota and rights, or choose another "+d.flag)
			continue
		}
		room, err := c.sys.Disk(d.dir)
		switch {
		case err != nil:
			c.add(d.name, Warn, d.dir+": "+err.Error(), "")
		case room.FreeBytes < least:
			c.add(d.name, Fail, fmt.Sprintf("%s has %s free, %s needed", d.dir, gib(room.FreeBytes), gib(least)), "clean up, or choose another "+d.flag)
		default:
			detail := fmt.Sprintf("%s has %s free", d.dir, gib(room.FreeBytes))
			if room.Type != "" {
				detail += " (" + room.Type + ")"
			}
			c.add(d.name, OK, detail, "")
		}
	}
	if t := c.needs.TempDir; len(t) > MaxTempPath && c.needs.GPUs > 0 {
		c.add("temp path", Warn, fmt.Sprintf("%s is %d bytes long; sockets in it may exceed 107", t, len(t)), "set TMPDIR to a short path")
	}
}

func (c *checker) limits() {
	l, err := c.sys.Limit("nofile")
	switch {
	case err != nil:
		c.add("open files", Warn, "unknown: "+err.Error(), "")
	case l.Hard < MinOpenFiles:
		c.add("open files", Fail, fmt.Sprintf("limit %s", limitText(l.Hard)), fmt.Sprintf("raise it: ulimit -n 65535 (at least %d)", MinOpenFiles))
	case l.Hard < 65535:
		c.add("open files", Warn, fmt.Sprintf("limit %s", limitText(l.Hard)), "vLLM asks for 65535")
	default:
		c.add("open files", OK, fmt.Sprintf("limit %s", limitText(l.Hard)), "")
	}
	if c.needs.GPUs > 0 {
		if l, err := c.sys.Limit("memlock"); err == nil && l.Soft != Unlimited {
			c.add("locked memory", Warn, "limit "+limitText(l.Soft), "ulimit -l unlimited, else NCCL over InfiniBand may fail")
		}
	}
}

func limitText(v uint64) string {
	if v == Unlimited {
		return "none"
	}
	return strconv.FormatUint(v, 10)
}

func (c *checker) port() {
	if err := c.sys.Listen(c.needs.Port); err != nil {
		do := "choose another port"
		if c.needs.Port == 0 {
			do = "127.0.0.1 cannot be listened on: is the loopback interface up?"
		}
		c.add("port", Fail, err.Error(), do)
		return
	}
	if c.needs.Port == 0 {
		c.add("port", OK, "127.0.0.1 can be listened on", "")
	} else {
		c.add("port", OK, fmt.Sprintf("127.0.0.1:%d is free", c.needs.Port), "")
	}
}

func (c *checker) program() {
	if c.needs.VLLM == "" {
		return
	}
	path, err := c.sys.LookPath(c.needs.VLLM)
	if err != nil {
		c.add("vllm", Fail, fmt.Sprintf("%s: not found", c.needs.VLLM), "load its module, activate its environment, or name its command with --vllm")
		return
	}
	c.add("vllm", OK, path, "")
}

// environment looks at variables that are known to break servers.
func (c *checker) environment() {
	if v := c.sys.env("OMP_NUM_THREADS"); v != "" && v != "1" {
		c.add("omp threads", OK, fmt.Sprintf("OMP_NUM_THREADS=%s here; the server gets 1", v), "")
	}
	for _, name := range []string{"http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"} {
		if c.sys.env(name) != "" {
			c.add("proxy", OK, name+" is set; it is not used for this machine", "")
			break
		}
	}
	if c.needs.GPUs == 0 {
		return
	}
	home := c.sys.env("HOME")
	cache := c.sys.env("HF_HOME")
	if home != "" && (cache == "" || within(cache, home)) && c.needs.ModelDir == "" {
		c.add("model cache", Warn, "HF_HOME is in the home directory", "weights of 717 GB do not fit there: set HF_HOME to project scratch, or give a folder with --model")
	}
}

func within(path, dir string) bool {
	r, err := filepath.Rel(dir, path)
	return err == nil && r != ".." && !strings.HasPrefix(r, "../")
}
