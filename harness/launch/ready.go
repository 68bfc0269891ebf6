package launch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/glm46/glm46/mockvllm/vllm"
)

// Classes of a failed start beside those of package vllm.
const (
	// ClassNoProgram: the program is not there or cannot be run.
	ClassNoProgram vllm.Class = "no_program"
	// ClassTimeout: not ready in time, though alive.
	ClassTimeout vllm.Class = "start_timeout"
	// ClassForeignServer: another server answers on the port. vLLM sets
	// SO_REUSEPORT, so two can share one (vllm-project/vllm#39762).
	ClassForeignServer vllm.Class = "foreign_server"
	// ClassHostMemory: killed for the memory limit of its cgroup.
	ClassHostMemory vllm.Class = "host_memory"
	// ClassCancelled: we were told to stop while it started.
	ClassCancelled vllm.Class = "cancelled"
)

// StartTimeout is how long a start may take. Weights of 700 GB from a busy
// file system and a cold compile cache take over 20 minutes each.
// Source: docs/node.md, start-up.
const StartTimeout = 60 * time.Minute

// fatalGrace is how long a server may live on after a fatal line: it prints its
// traceback and ends by itself, and the lines tell more than the first one.
const fatalGrace = 20 * time.Second

// ReadyOptions say what to wait for.
type ReadyOptions struct {
	// URL is the server's base URL, "http://127.0.0.1:PORT".
	URL string
	// ServedName is the unique --served-model-name; another answer on
	// /v1/models means that another server answers. Empty: not checked.
	ServedName string
	APIKey     string
	// Timeout bounds the whole start; 0 means [StartTimeout].
	Timeout time.Duration
	// Poll is the time between two looks at /health; 0 means 500 ms.
	Poll time.Duration
	// Report, if set, is called when the phase changes and every ReportEvery
	// (0: 30 s), from the goroutine that waits.
	Report      func(StartProgress)
	ReportEvery time.Duration
	// MemoryKills, if set, counts the cgroup's out-of-memory kills so far: a
	// server that got SIGKILL is then known to have died of it.
	MemoryKills func() (int64, bool)
	// Transport replaces the way to the server, for tests.
	Transport http.RoundTripper
}

// StartProgress is where a start-up is.
type StartProgress struct {
	Phase vllm.Phase
	// Elapsed since the process began, InPhase since the phase did, Silent
	// since the log's last line.
	Elapsed, InPhase, Silent time.Duration
	// Done of Total in the phase (shards, graphs); Total is 0 where unknown.
	Done, Total int
}

// FailedStart says how a server failed to start.
type FailedStart struct {
	Class vllm.Class
	// Phase is where it was; Elapsed since it began.
	Phase   vllm.Phase
	Elapsed time.Duration
	// Lines are the log lines that show the cause, the first error first; the
	// log's last lines where no line explains it.
	Lines []string
	Exit  Exit
	// Do says what to do next.
	Do  string
	Err error // what our side saw, if anything
}

func (e *FailedStart) Error() string {
	s := fmt.Sprintf("the server did not start: %s in phase %s after %s (%s)", e.Class, e.Phase, e.Elapsed.Round(time.Second), e.Exit)
	if len(e.Lines) > 0 {
		s += ": " + clipLine(e.Lines[0])
	} else if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	if e.Do != "" {
		s += "; " + e.Do
	}
	return s
}

func (e *FailedStart) Unwrap() error { return e.Err }

func clipLine(s string) string {
	if len(s) > 400 {
		return s[:400] + "..."
	}
	return s
}

// Refused says whether the engine refused its configuration: a result of the
// cell, not a fault of the node.
func (e *FailedStart) Refused() bool {
	switch e.Class {
	case vllm.ClassUnknownFlag, vllm.ClassUsage, vllm.ClassConfigRefused, vllm.ClassKVTooSmall, vllm.ClassNoKVMemory, vllm.ClassModelUnknown:
		return true
	}
	return false
}

// LoopbackTransport reaches servers on this machine only and never through a
// proxy: sites set http_proxy for their nodes, and a proxy answers for
// localhost (docs/node.md, F6).
func LoopbackTransport() *http.Transport {
	d := &net.Dialer{Timeout: 5 * time.Second}
	return &http.Transport{
		Proxy:             nil,
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			host, _, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
				return nil, fmt.Errorf("%s is not this machine's loopback address", addr)
			}
			return d.DialContext(ctx, network, addr)
		},
	}
}

// WaitReady waits until the server answers /health with 200 and serves the
// expected model, and returns what its log said.
//
// It fails early, with a [*FailedStart], when the process ends, when the log
// shows a fatal error and the process does not end soon, when another server
// answers, or after the timeout; or when ctx ends (class "cancelled", wrapping
// the context's error). It does not stop the process.
func (p *Process) WaitReady(ctx context.Context, o ReadyOptions) (vllm.LogFacts, error) {
	if o.Timeout <= 0 {
		o.Timeout = StartTimeout
	}
	if o.Poll <= 0 {
		o.Poll = 500 * time.Millisecond
	}
	if o.ReportEvery <= 0 {
		o.ReportEvery = 30 * time.Second
	}
	base, err := url.Parse(o.URL)
	if err != nil || base.Host == "" {
		return vllm.LogFacts{}, fmt.Errorf("launch: want a base URL such as http://127.0.0.1:8000, got %q", o.URL)
	}
	tr := o.Transport
	if tr == nil {
		tr = LoopbackTransport()
	}
	client := &http.Client{Transport: tr, Timeout: 10 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer client.CloseIdleConnections()
	kills, killsKnown := int64(0), false
	if o.MemoryKills != nil {
		kills, killsKnown = o.MemoryKills()
	}
	fail := func(class vllm.Class, err error) error {
		f := p.failure(class, err)
		if killsKnown && f.Exit.killed() {
			if now, ok := o.MemoryKills(); ok && now > kills {
				f.Class, f.Do = ClassHostMemory, `the job's memory limit was hit: ask for more with "mem=" (weights are read through the page cache, which counts)`
			}
		}
		return f
	}

	timeout := time.NewTimer(time.Until(p.begun.Add(o.Timeout)))
	defer timeout.Stop()
	report := time.NewTicker(o.ReportEvery)
	defer report.Stop()
	poll := time.NewTicker(o.Poll)
	defer poll.Stop()
	var fatalSince time.Time
	last := vllm.Phase(-1)
	for {
		pr := p.progress()
		if o.Report != nil && pr.Phase != last {
			o.Report(pr)
		}
		last = pr.Phase
		if healthy(ctx, client, o) {
			served, err := ask(ctx, client, o)
			if err != nil {
				return p.Facts(), fail(ClassForeignServer, err)
			}
			// A server that answers while ours has ended is not ours.
			select {
			case <-p.exited:
				return p.Facts(), fail("", nil)
			default:
			}
			return p.becomeReady(served), nil
		}
		if facts := p.Facts(); len(facts.Fatal) == 0 {
			fatalSince = time.Time{}
		} else if fatalSince.IsZero() {
			fatalSince = time.Now()
		} else if time.Since(fatalSince) > fatalGrace {
			return facts, fail(facts.RootCause.Class, errors.New("it did not end by itself after a fatal error"))
		}
		select {
		case <-p.exited:
			p.drain()
			return p.Facts(), fail("", nil)
		case <-ctx.Done():
			return p.Facts(), fail(ClassCancelled, context.Cause(ctx))
		case <-timeout.C:
			return p.Facts(), fail(ClassTimeout, fmt.Errorf("not ready after %s", o.Timeout))
		case <-report.C:
			if o.Report != nil {
				o.Report(p.progress())
			}
		case <-poll.C:
		}
	}
}

// drain lets the log catch up after the end of the process, for a moment:
// workers may hold the pipe open longer.
func (p *Process) drain() {
	t := time.NewTimer(2 * time.Second)
	defer t.Stop()
	select {
	case <-p.read:
	case <-t.C:
	}
}

func (p *Process) becomeReady(s Served) vllm.LogFacts {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := time.Since(p.begun)
	s.Seconds = at.Seconds()
	p.served = s
	if !p.isReady {
		p.isReady = true
		close(p.ready)
		if last := p.phases[len(p.phases)-1].Phase; last < vllm.PhaseServing {
			p.phases = append(p.phases, PhaseSpan{vllm.PhaseServing, at})
		}
	}
	return p.scanner.Facts()
}

func (p *Process) progress() StartProgress {
	p.mu.Lock()
	defer p.mu.Unlock()
	now, span := time.Now(), p.phases[len(p.phases)-1]
	f := p.scanner.Facts()
	pr := StartProgress{Phase: span.Phase, Elapsed: now.Sub(p.begun), InPhase: now.Sub(p.begun) - span.At, Silent: now.Sub(p.lastLine)}
	switch span.Phase {
	case vllm.PhaseLoad:
		pr.Done, pr.Total = f.ShardsDone, f.Shards
	case vllm.PhaseCapture:
		pr.Done, pr.Total = f.CaptureDone, f.CaptureTotal
	}
	return pr
}

// Failure describes how the server failed, from its log and its end; for a
// server that died while it was being measured.
func (p *Process) Failure() *FailedStart {
	p.drain()
	return p.failure("", nil)
}

// failure finds class and cause. class "" means: what log and exit say.
func (p *Process) failure(class vllm.Class, err error) *FailedStart {
	facts := p.Facts()
	pr := p.progress()
	e, ended := p.Exit()
	if !ended {
		e = Exit{Running: true}
	}
	f := &FailedStart{Class: class, Phase: pr.Phase, Elapsed: pr.Elapsed, Exit: e, Err: err}
	if facts.RootCause.Text != "" {
		f.Lines = append(f.Lines, facts.RootCause.Text)
	}
	for _, l := range facts.Fatal {
		if !l.Echo && len(f.Lines) < 8 && !slices.Contains(f.Lines, l.Text) {
			f.Lines = append(f.Lines, l.Text)
		}
	}
	if f.Class == vllm.ClassNone {
		f.Class = facts.RootCause.Class
	}
	if f.Class == vllm.ClassNone {
		f.Class = classOfExit(e)
	}
	if len(f.Lines) == 0 && class != ClassCancelled {
		f.Lines = lastLines(p.Tail(), 8)
	}
	if f.Do == "" {
		f.Do = advice(f.Class, pr)
	}
	return f
}

func classOfExit(e Exit) vllm.Class {
	switch {
	case e.Running:
		return vllm.ClassHang
	case e.Code == 127 || e.Code == 126:
		return ClassNoProgram
	case e.Signal != 0 || e.Code > 128:
		return vllm.ClassKilled
	case e.Code == 2:
		return vllm.ClassUsage
	}
	return vllm.ClassStartFailed
}

func lastLines(lines []string, n int) []string {
	var out []string
	for _, l := range lines {
		if l = strings.TrimSpace(l); l != "" {
			out = append(out, l)
		}
	}
	return out[max(0, len(out)-n):]
}

// advice says what to do after a failure of that class.
func advice(c vllm.Class, pr StartProgress) string {
	switch c {
	case ClassTimeout:
		return fmt.Sprintf("the log was silent for %s; give more time with --start-timeout if phase %s is only slow", pr.Silent.Round(time.Second), pr.Phase)
	case ClassForeignServer:
		return "another server has the same port: start again, a new port is chosen"
	case ClassNoProgram:
		return "install vLLM, load its module, or name its command with --vllm"
	case vllm.ClassKilled:
		return `killed from outside, often for the job's memory limit: look at "mem=" and at the node's log`
	case vllm.ClassGPUUUID:
		return "CUDA_VISIBLE_DEVICES holds UUIDs: unset it or give ordinals"
	case vllm.ClassGPUBusy:
		return `GPU memory is in use: run "glm46 doctor" to see by whom`
	case vllm.ClassShm:
		return "/dev/shm is too small: give the container or node at least 2 GiB"
	case vllm.ClassHubOffline:
		return "the hub cannot be reached: give a model folder with --model"
	case vllm.ClassWeightsMissing:
		return "files of the model are missing: check --model"
	case vllm.ClassDisk:
		return "a cache cannot be written: check quota, TMPDIR and the cache folders"
	case ClassCancelled:
		return ""
	}
	return "see server.log"
}

func healthy(ctx context.Context, c *http.Client, o ReadyOptions) bool {
	status, _, err := get(ctx, c, o, "/health")
	return err == nil && status == http.StatusOK
}

// ask reads /v1/models and /version of a healthy server.
func ask(ctx context.Context, c *http.Client, o ReadyOptions) (Served, error) {
	var s Served
	if status, body, err := get(ctx, c, o, "/version"); err == nil && status == http.StatusOK {
		var v struct {
			Version string `json:"version"`
		}
		if json.Unmarshal(body, &v) == nil {
			s.Version = v.Version
		}
	}
	status, body, err := get(ctx, c, o, "/v1/models")
	if err != nil {
		return s, fmt.Errorf("/health is well, but /v1/models: %w", err)
	}
	var m struct {
		Data []struct {
			ID          string `json:"id"`
			MaxModelLen int    `json:"max_model_len"`
		} `json:"data"`
	}
	if status == http.StatusOK {
		err = json.Unmarshal(body, &m)
	}
	if status != http.StatusOK || err != nil {
		return s, fmt.Errorf("/v1/models answers %d with %q: not our server", status, clipLine(string(bytes.TrimSpace(body))))
	}
	for _, d := range m.Data {
		s.Models = append(s.Models, d.ID)
	}
	if len(m.Data) > 0 {
		s.MaxModelLen = m.Data[0].MaxModelLen
	}
	if o.ServedName != "" && !slices.Contains(s.Models, o.ServedName) {
		return s, fmt.Errorf("/v1/models serves %q, not %q: another server answers on %s", s.Models, o.ServedName, o.URL)
	}
	return s, nil
}

func get(ctx context.Context, c *http.Client, o ReadyOptions, path string) (status int, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(o.URL, "/")+path, nil)
	if err != nil {
		return 0, nil, err
	}
	if o.APIKey != "" {
		req.Header.Set("Authorization", "Bearer "+o.APIKey)
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, body, err
}

// MemoryKills reads how often the kernel killed a process of this cgroup for
// its memory limit (cgroup v2 memory.events, v1 memory.oom_control); ok is false
// where it cannot be read. It fits [ReadyOptions].
func MemoryKills() (n int64, ok bool) {
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(own)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		var file string
		switch {
		case f[0] == "0":
			file = "/sys/fs/cgroup" + f[2] + "/memory.events"
		case slices.Contains(strings.Split(f[1], ","), "memory"):
			file = "/sys/fs/cgroup/memory" + f[2] + "/memory.oom_control"
		default:
			continue
		}
		if b, err := os.ReadFile(file); err == nil {
			for line := range strings.Lines(string(b)) {
				var v int64
				if _, err := fmt.Sscanf(line, "oom_kill %d", &v); err == nil {
					return v, true
				}
			}
		}
	}
	return 0, false
}
