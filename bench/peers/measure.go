package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/tidwall/gjson"
)

// bench is where things are.
type bench struct {
	glm46, tools, shim string
	dir                string
	keep               bool
	limit              time.Duration
	run                int
}

// tokenizer is a folder in Hugging Face's cache, so that it also goes by tokenizerName.
func (b *bench) tokenizer() string {
	return filepath.Join(b.cache(), "hub", "models--"+strings.ReplaceAll(tokenizerName, "/", "--"), "snapshots", tokenizerCommit)
}

func (b *bench) cache() string { return filepath.Join(b.dir, "huggingface") }

// measurement is one run of one client.
type measurement struct {
	Client  string `json:"client"`
	Version string `json:"version"`
	Load    string `json:"load"`
	// WallS is from start to end of the process, with all of its start-up.
	WallS float64 `json:"wall_s"`
	// CPUS is user and system time of the process and everything it started.
	CPUS float64 `json:"cpu_s"`
	// KernelS is the system time in CPUS.
	KernelS float64 `json:"kernel_s"`
	// PeakMiB is the largest sum of proportional set sizes (shared pages shared out) seen.
	PeakMiB float64 `json:"peak_mib"`
	// Events is how many tokens, one an event, the server wrote for this run, warm-up included.
	Events int `json:"events"`
	// Claims is what the tool says, Truth what the server did, for the main requests.
	Claims claims `json:"claims"`
	Truth  claims `json:"truth"`
}

// measure starts a mock server, runs one client against it to the end and reads
// what both have to say.
func (b *bench) measure(c client, l load) (m measurement, err error) {
	b.run++
	j := job{bench: b, load: l, dir: filepath.Join(b.dir, fmt.Sprintf("%03d-%s-%s", b.run, c.name, l.name))}
	if err := os.MkdirAll(j.dir, 0o755); err != nil {
		return m, err
	}
	m = measurement{Client: c.name, Load: l.name}
	if m.Version, err = b.version(c); err != nil {
		return m, err
	}
	truth := filepath.Join(b.dir, fmt.Sprintf("%03d-truth.jsonl", b.run))
	stop, url, err := b.serve(l, truth)
	if err != nil {
		return m, err
	}
	j.url = url
	if err = c.prepare(j); err == nil {
		err = b.client(c, j, &m)
	}
	if err = errors.Join(err, stop()); err != nil {
		return m, err
	}
	left, err := reap()
	if err != nil {
		return m, err
	}
	m.CPUS += left.all
	m.KernelS += left.kernel
	if m.Claims, err = c.read(j); err != nil {
		return m, err
	}
	if m.Events, m.Truth, err = readTruth(truth, l.tokens); err != nil {
		return m, err
	}
	if m.Truth.Requests < l.requests {
		return m, fmt.Errorf("the load was not the one asked for: %d requests of %d tokens, the server finished %d, the client counts %d; -keep keeps its log",
			l.requests, l.tokens, m.Truth.Requests, m.Claims.Requests)
	}
	if b.keep {
		return m, nil
	}
	return m, errors.Join(os.RemoveAll(j.dir), os.Remove(truth))
}

// version asks a tool's environment which version is installed.
func (b *bench) version(c client) (string, error) {
	argv := []string{b.glm46, "--version"}
	if c.distribution != "" {
		argv = []string{
			filepath.Join(b.tools, c.distribution, "bin", "python"), "-c",
			"import sys; from importlib.metadata import version; print(version(sys.argv[1]))", c.distribution,
		}
	}
	out, err := exec.Command(argv[0], argv[1:]...).Output()
	if err != nil {
		return "", fmt.Errorf("ask for the version (%s): %w", strings.Join(argv, " "), err)
	}
	return strings.TrimSpace(strings.TrimPrefix(string(out), "glm46 version ")), nil
}

// serve starts the mock on a free loopback port. stop ends it and waits for it.
func (b *bench) serve(l load, truth string) (stop func() error, url string, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", err
	}
	port := listener.Addr().(*net.TCPAddr).Port
	if err := listener.Close(); err != nil {
		return nil, "", err
	}
	cmd := exec.Command(b.glm46, "mock", "serve", model, "--tensor-parallel-size", "8", "--host", "127.0.0.1", "--port", strconv.Itoa(port),
		"--disable-log-requests", "--mock-ttft", l.ttft.String(), "--mock-itl", l.itl.String(), "--mock-truth", truth)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, "", err
	}
	stop = func() error {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			return err
		}
		if err := cmd.Wait(); err != nil {
			return fmt.Errorf("mock server: %w\n%s", err, log.String())
		}
		return nil
	}
	url = fmt.Sprintf("http://127.0.0.1:%d", port)
	for range 200 {
		time.Sleep(25 * time.Millisecond)
		r, err := http.Get(url + "/health")
		if err != nil {
			continue
		}
		if err := r.Body.Close(); err != nil {
			return nil, "", errors.Join(err, stop())
		}
		if r.StatusCode == http.StatusOK {
			return stop, url, nil
		}
	}
	return nil, "", errors.Join(errors.New("the mock server did not become healthy in 5 s"), stop())
}

// client runs the tool in a session of its own, so that all of it can be found and ended.
func (b *bench) client(c client, j job, m *measurement) error {
	argv := c.command(j)
	log, err := os.Create(j.path("client.log"))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), b.limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Dir = j.dir
	cmd.Env = append(os.Environ(), "HF_HUB_OFFLINE=1", "HF_HOME="+b.cache(), "HOME="+j.dir,
		"AIPERF_TELEMETRY_DISABLED=1", "VLLM_NO_USAGE_STATS=1", "DO_NOT_TRACK=1", "NO_COLOR=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return errors.Join(err, log.Close())
	}
	peak := make(chan float64)
	done := make(chan struct{})
	go func() { peak <- watch(cmd.Process.Pid, done) }()
	err = cmd.Wait()
	m.WallS = time.Since(start).Seconds()
	close(done)
	m.PeakMiB = <-peak
	used := secondsOf(cmd.ProcessState.SysUsage().(*syscall.Rusage))
	m.CPUS, m.KernelS = used.all, used.kernel
	for _, pid := range session(cmd.Process.Pid) {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may have gone by itself
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && slices.Contains(c.exits, exit.ExitCode()) {
		err = nil
	}
	if err != nil {
		text, _ := os.ReadFile(j.path("client.log"))
		err = fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), err, text[max(0, len(text)-4000):])
	}
	return errors.Join(err, log.Close())
}

// reap collects the children that came to this process because the tool left
// them, and gives the CPU seconds they had used.
func reap() (sum cpuSeconds, err error) {
	for range 100 {
		var usage syscall.Rusage
		pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, &usage)
		switch {
		case errors.Is(err, syscall.ECHILD):
			return sum, nil
		case err != nil && !errors.Is(err, syscall.EINTR):
			return sum, err
		case pid > 0:
			used := secondsOf(&usage)
			sum.all += used.all
			sum.kernel += used.kernel
		default:
			time.Sleep(20 * time.Millisecond)
		}
	}
	return sum, errors.New("a process that a tool had started is still there after 2 s")
}

// cpuSeconds are user and system time, and system time alone.
type cpuSeconds struct{ all, kernel float64 }

func secondsOf(u *syscall.Rusage) cpuSeconds {
	kernel := time.Duration(u.Stime.Nano())
	return cpuSeconds{(time.Duration(u.Utime.Nano()) + kernel).Seconds(), kernel.Seconds()}
}

// watch samples the memory of a session until done, in MiB.
func watch(leader int, done chan struct{}) (peak float64) {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		var sum int
		for _, pid := range session(leader) {
			sum += proportionalKiB(pid)
		}
		peak = max(peak, float64(sum)/1024)
		select {
		case <-done:
			return peak
		case <-tick.C:
		}
	}
}

// session lists the processes of a session.
func session(leader int) (pids []int) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		data, err := os.ReadFile(path)
		if err != nil {
			continue // gone
		}
		// Behind the name in parentheses: state, parent, group, session.
		fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
		if len(fields) > 3 && fields[3] == strconv.Itoa(leader) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			pids = append(pids, pid)
		}
	}
	return pids
}

func proportionalKiB(pid int) int {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0 // gone
	}
	_, rest, _ := strings.Cut(string(data), "\nPss:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0
	}
	kib, _ := strconv.Atoi(fields[0])
	return kib
}

// readTruth sums up the mock's truth file: all tokens written, and means over the
// requests with the main length (warm-up has another).
func readTruth(path string, tokens int) (events int, truth claims, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, claims{}, err
	}
	for line := range bytes.Lines(data) {
		if !json.Valid(line) {
			return 0, claims{}, fmt.Errorf("%s has a line that is not JSON", path)
		}
		r := gjson.ParseBytes(line)
		n := int(r.Get("tokens.#").Int())
		events += n
		if n != tokens {
			continue
		}
		first := r.Get("tokens.0.written_unix_ns").Int()
		last := r.Get(fmt.Sprintf("tokens.%d.written_unix_ns", n-1)).Int()
		truth.Requests++
		truth.TTFT += float64(first-r.Get("arrival_unix_ns").Int()) / 1e6
		truth.TPOT += float64(last-first) / 1e6 / float64(n-1)
	}
	if truth.Requests > 0 {
		truth.TTFT /= float64(truth.Requests)
		truth.TPOT /= float64(truth.Requests)
	}
	return events, truth, nil
}
