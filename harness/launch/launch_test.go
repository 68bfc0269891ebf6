package launch

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/glm46/glm46/mockvllm/vllm"
)

// startFake starts the test binary as a fake server. Its processes note their
// pids in the folder returned; the test fails if any of them is alive at its end.
func startFake(t *testing.T, mode string) (p *Process, port int, pids string) {
	t.Helper()
	dir := t.TempDir()
	pids = filepath.Join(dir, "pids")
	require.NoError(t, os.Mkdir(pids, 0o777))
	port, err := FreePort()
	require.NoError(t, err)
	p, err = Start(t.Context(), Command{
		Argv: []string{os.Args[0], strconv.Itoa(port)},
		// A program built with the race detector else sleeps 1 s at its end.
		Env:     append(os.Environ(), "GORACE=atexit_sleep_ms=0", fakeMode+"="+mode+" pids="+pids),
		LogPath: filepath.Join(dir, "server.log"),
	})
	require.NoError(t, err)
	t.Cleanup(func() {
		p.Kill()
		for _, pid := range notedPIDs(t, pids) {
			if s, ok := readStat(pid); ok && !s.dead() {
				t.Errorf("process %d (%s) is still alive", pid, s.name)
				unix.Kill(pid, unix.SIGKILL)
			}
		}
	})
	return p, port, pids
}

func notedPIDs(t *testing.T, dir string) []int {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	var out []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			out = append(out, pid)
		}
	}
	return out
}

// waitPIDs waits until n processes have noted themselves.
func waitPIDs(t *testing.T, dir string, n int) []int {
	t.Helper()
	for range 2000 {
		if pids := notedPIDs(t, dir); len(pids) >= n {
			return pids
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("want %d processes, have %d", n, len(notedPIDs(t, dir)))
	return nil
}

func ready(port int, name string) ReadyOptions {
	return ReadyOptions{URL: fmt.Sprintf("http://127.0.0.1:%d", port), ServedName: name, Poll: 20 * time.Millisecond, Timeout: time.Minute}
}

func TestReadyAndStop(t *testing.T) {
	p, port, _ := startFake(t, "serve=glm-x workers=2")
	_, err := p.WaitReady(t.Context(), ready(port, "glm-x"))
	require.NoError(t, err)
	got := p.Served()
	if got.Version != "0.11.1" || !slices.Equal(got.Models, []string{"glm-x"}) || got.MaxModelLen != 32768 || got.Seconds <= 0 {
		t.Errorf("served: %+v", got)
	}
	spans := p.Phases()
	if last := spans[len(spans)-1]; last.Phase != vllm.PhaseServing {
		t.Errorf("phases: %+v", spans)
	}
	r := p.Stop(t.Context(), 30*time.Second)
	if !r.Clean() || r.Steps[0] != "SIGTERM server" || r.Exit != (Exit{}) {
		t.Errorf("stop: %+v", r)
	}
	if r.Processes != 3 {
		t.Errorf("want 3 processes seen, got %d", r.Processes)
	}
	if again := p.Stop(t.Context(), time.Second); again.Took != r.Took {
		t.Errorf("a second stop: %+v", again)
	}
}

// Every kind of server ends, with all that it started, and the report says
// which steps it took.
func TestStopLeavesNothing(t *testing.T) {
	const short = 600 * time.Millisecond
	for _, c := range []struct {
		name, mode string
		processes  int
		grace      time.Duration
		steps      []string
	}{
		{"obedient", "workers=3", 4, time.Minute, []string{"SIGTERM server", "SIGTERM group"}},
		{"deaf server", "deaf", 1, short, []string{"SIGTERM server", "SIGTERM group", "SIGKILL rest"}},
		{"deaf all", "deaf workers=2 deafworkers", 3, short, []string{"SIGTERM server", "SIGTERM group", "SIGKILL rest"}},
		{"deaf workers", "workers=2 deafworkers", 3, short, []string{"SIGTERM server", "SIGTERM group", "SIGKILL rest"}},
		{"daemon", "daemon", 3, short, []string{"SIGTERM server", "SIGTERM group", "SIGKILL rest"}},
		{"ended by itself", "workers=2 deafworkers exit=0", 3, short, []string{"SIGTERM group", "SIGKILL rest"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, _, pids := startFake(t, c.mode)
			waitPIDs(t, pids, c.processes)
			if strings.Contains(c.mode, "exit") {
				<-p.Done()
			}
			r := p.Stop(t.Context(), c.grace)
			if !r.Clean() {
				t.Errorf("left: %q", r.Left)
			}
			if !slices.Equal(r.Steps, c.steps) {
				t.Errorf("steps: want %q, got %q", c.steps, r.Steps)
			}
			for _, pid := range notedPIDs(t, pids) {
				if s, ok := readStat(pid); ok {
					t.Errorf("process %d: state %c after the stop", pid, s.state)
				}
			}
		})
	}
}

func TestStopWhenTheRootWasKilled(t *testing.T) {
	p, _, pids := startFake(t, "workers=3 deafworkers")
	waitPIDs(t, pids, 4)
	p.snapshot()
	require.NoError(t, unix.Kill(p.PID(), unix.SIGKILL))
	<-p.Done()
	r := p.Stop(t.Context(), 300*time.Millisecond)
	if !r.Clean() || r.Exit.Signal != syscall.SIGKILL {
		t.Errorf("stop: %+v", r)
	}
}

func TestStopAtOnceWhenToldSo(t *testing.T) {
	p, _, pids := startFake(t, "deaf workers=2 deafworkers")
	waitPIDs(t, pids, 3)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	// With an hour of patience this ends only because ctx has.
	if r := p.Stop(ctx, time.Hour); !r.Clean() || r.Exit.Signal != syscall.SIGKILL {
		t.Errorf("stop: %+v", r)
	}
}

func TestStopShortIsShort(t *testing.T) {
	if !strings.Contains(ShortStop.String(), "8s") {
		t.Fatal("the short form has 8 s")
	}
	p, _, pids := startFake(t, "deaf daemon")
	waitPIDs(t, pids, 3)
	r := p.StopShort(t.Context())
	if !r.Clean() {
		t.Errorf("left: %q", r.Left)
	}
}

// A killed harness takes the server along: the parent-death signal.
func TestServerEndsWithUs(t *testing.T) {
	if os.Getenv("GLM46_TEST_PARENT") != "" {
		// This is the harness that will be killed.
		p, err := Start(t.Context(), Command{Argv: []string{os.Args[0]}, LogPath: os.Getenv("GLM46_TEST_PARENT") + "/log",
			Env: append(os.Environ(), fakeMode+"=wait pids="+os.Getenv("GLM46_TEST_PARENT"))})
		require.NoError(t, err)
		<-p.Done()
		return
	}
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^TestServerEndsWithUs$")
	cmd.Env = append(os.Environ(), "GLM46_TEST_PARENT="+dir)
	require.NoError(t, cmd.Start())
	pid := waitPIDs(t, dir, 1)[0]
	before, ok := readStat(pid)
	require.True(t, ok)
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	for range 1000 {
		s, ok := readStat(pid)
		if !ok || s.start != before.start {
			return
		}
		if s.dead() {
			reap(pid) // it has come to us
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	unix.Kill(pid, unix.SIGKILL)
	t.Error("the server outlived its killed parent")
}

func TestFailedStarts(t *testing.T) {
	t.Run("exit", func(t *testing.T) {
		p, port, _ := startFake(t, "exit=1")
		_, err := p.WaitReady(t.Context(), ready(port, "m"))
		var f *FailedStart
		require.ErrorAs(t, err, &f)
		if f.Class != vllm.ClassStartFailed || f.Exit.Code != 1 {
			t.Errorf("got %+v", f)
		}
	})
	t.Run("usage", func(t *testing.T) {
		p, port, _ := startFake(t, "exit=2")
		_, err := p.WaitReady(t.Context(), ready(port, "m"))
		var f *FailedStart
		require.ErrorAs(t, err, &f)
		if f.Class != vllm.ClassUsage || !f.Refused() {
			t.Errorf("got %+v", f)
		}
	})
	t.Run("killed", func(t *testing.T) {
		p, port, _ := startFake(t, "kill")
		_, err := p.WaitReady(t.Context(), ready(port, "m"))
		var f *FailedStart
		require.ErrorAs(t, err, &f)
		if f.Class != vllm.ClassKilled || f.Exit.Signal != syscall.SIGKILL || !strings.Contains(f.Error(), "mem=") {
			t.Errorf("got %+v", f)
		}
	})
	t.Run("out of host memory", func(t *testing.T) {
		p, port, _ := startFake(t, "late=300ms kill")
		o := ready(port, "m")
		n := int64(4)
		o.MemoryKills = func() (int64, bool) { n++; return n, true }
		_, err := p.WaitReady(t.Context(), o)
		var f *FailedStart
		require.ErrorAs(t, err, &f)
		if f.Class != ClassHostMemory {
			t.Errorf("got %+v", f)
		}
	})
	t.Run("never ready", func(t *testing.T) {
		p, port, _ := startFake(t, "sick")
		o := ready(port, "m")
		o.Timeout = 300 * time.Millisecond
		_, err := p.WaitReady(t.Context(), o)
		var f *FailedStart
		require.ErrorAs(t, err, &f)
		if f.Class != ClassTimeout || !f.Exit.Running {
			t.Errorf("got %+v", f)
		}
	})
	t.Run("another server answers", func(t *testing.T) {
		p, port, _ := startFake(t, "serve=theirs")
		_, err := p.WaitReady(t.Context(), ready(port, "ours"))
		var f *FailedStart
		require.ErrorAs(t, err, &f)
		if f.Class != ClassForeignServer || !strings.Contains(err.Error(), "theirs") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("told to stop", func(t *testing.T) {
		p, port, _ := startFake(t, "late=1m")
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("SIGTERM")
		o := ready(port, "m")
		o.Report = func(StartProgress) { cancel(why) }
		_, err := p.WaitReady(ctx, o)
		var f *FailedStart
		require.ErrorAs(t, err, &f)
		if f.Class != ClassCancelled || !errors.Is(err, why) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("no program", func(t *testing.T) {
		_, err := Start(t.Context(), Command{Argv: []string{"no-such-vllm", "serve"}, LogPath: filepath.Join(t.TempDir(), "log")})
		var f *FailedStart
		require.ErrorAs(t, err, &f)
		if f.Class != ClassNoProgram || !strings.Contains(err.Error(), "--vllm") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("not a program", func(t *testing.T) {
		dir := t.TempDir()
		path := filepath.Join(dir, "vllm")
		require.NoError(t, os.WriteFile(path, []byte("\x00\x01not a program"), 0o755))
		_, err := Start(t.Context(), Command{Argv: []string{path}, LogPath: filepath.Join(dir, "log")})
		var f *FailedStart
		require.ErrorAs(t, err, &f)
		if _, err := os.Stat(filepath.Join(dir, "log")); err == nil {
			t.Error("an empty log was left behind")
		}
	})
	t.Run("log exists", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "log")
		require.NoError(t, os.WriteFile(path, []byte("old"), 0o666))
		_, err := Start(t.Context(), Command{Argv: []string{os.Args[0]}, LogPath: path})
		require.ErrorIs(t, err, os.ErrExist)
	})
}

func TestLogIsWhole(t *testing.T) {
	dir := t.TempDir()
	var lines, longest int
	last := ""
	p, err := Start(t.Context(), Command{Argv: []string{os.Args[0]}, Env: append(os.Environ(), fakeMode+"=flood exit=0"),
		LogPath: filepath.Join(dir, "log"), OnLine: func(s string) { lines++; longest = max(longest, len(s)); last = s }})
	require.NoError(t, err)
	<-p.Done()
	r := p.Stop(t.Context(), time.Second)
	if !r.Clean() || len(r.Steps) != 0 {
		t.Errorf("stop: %+v", r)
	}
	b, err := os.ReadFile(filepath.Join(dir, "log"))
	require.NoError(t, err)
	want := strings.Repeat(strings.Repeat("x", 120)+"\n", floodLines) + strings.Repeat("y", 200<<10) + "\n" + "no newline at the end"
	if string(b) != want {
		t.Errorf("the log has %d bytes, want %d", len(b), len(want))
	}
	if lines != floodLines+2 || longest != maxLineBytes || last != "no newline at the end" {
		t.Errorf("%d lines, longest %d, last %q", lines, longest, last)
	}
	if len(p.Tail()) != tailLines {
		t.Errorf("tail has %d lines", len(p.Tail()))
	}
}

// The server may never learn of a proxy or another machine.
func TestLoopbackOnly(t *testing.T) {
	t.Setenv("http_proxy", "http://192.0.2.1:3128")
	t.Setenv("HTTP_PROXY", "http://192.0.2.1:3128")
	tr := LoopbackTransport()
	defer tr.CloseIdleConnections()
	_, err := (&http.Client{Transport: tr}).Get("http://192.0.2.7:8000/health")
	if err == nil || !strings.Contains(err.Error(), "loopback") {
		t.Errorf("got %v", err)
	}
	if tr.Proxy != nil {
		t.Error("a proxy is used")
	}
}

func TestFreePort(t *testing.T) {
	port, err := FreePort()
	require.NoError(t, err)
	if port < 1024 || port > 65535 {
		t.Errorf("port %d", port)
	}
}

func TestFamily(t *testing.T) {
	all := map[int]stat{}
	add := func(pid, ppid, pgid int, start uint64) {
		all[pid] = stat{pid: pid, ppid: ppid, pgid: pgid, start: start, state: 'S'}
	}
	add(1, 0, 1, 1)
	add(100, 1, 100, 50)    // us
	add(200, 100, 200, 100) // the server
	add(201, 200, 200, 101) // its engine
	add(202, 201, 202, 102) // a worker with a group of its own
	add(203, 100, 200, 103) // an orphan of its group
	add(204, 100, 204, 104) // an orphan that left the group, marked
	add(205, 100, 205, 105) // our nvidia-smi
	add(206, 100, 206, 99)  // older than the server
	add(207, 1, 207, 106)   // seen before, now an orphan of init
	add(208, 1, 208, 107)   // its number was seen, but it is another process
	add(209, 207, 207, 108) // a child of one seen before
	add(210, 1, 210, 109)   // a stranger
	add(211, 204, 211, 110) // a child of the marked one
	seen := map[int]uint64{200: 100, 207: 106, 208: 7, 205: 1}
	var got []int
	for _, s := range family(all, 200, 100, seen, 100, func(pid int) bool { return pid == 204 }) {
		got = append(got, s.pid)
	}
	slices.Sort(got)
	if want := []int{200, 201, 202, 203, 204, 207, 209, 211}; !slices.Equal(got, want) {
		t.Errorf("want %v, got %v", want, got)
	}
}

func TestParseStat(t *testing.T) {
	for _, c := range []struct {
		in   string
		ok   bool
		want stat
	}{
		{"42 (vllm) S 7 42 42 0 -1 4194560 1 0 0 0 1 1 0 0 20 0 9 0 12345 0 0", true, stat{42, 7, 42, 42, 12345, 'S', 9, "vllm"}},
		{"42 (a) b (c d) Z 7 41 40 0 -1 4194560 1 0 0 0 1 1 0 0 20 0 1 0 99 0 0", true, stat{42, 7, 41, 40, 99, 'Z', 1, "a) b (c d"}},
		{"42 vllm S 7", false, stat{}},
		{"", false, stat{}},
		{"42 (x) S 7 42", false, stat{}},
	} {
		got, ok := parseStat([]byte(c.in))
		if ok != c.ok || got != c.want {
			t.Errorf("%q: got %+v, %v", c.in, got, ok)
		}
	}
	for _, c := range []struct {
		s    stat
		dead bool
	}{{stat{state: 'S', threads: 1}, false}, {stat{state: 'Z', threads: 1}, true}, {stat{state: 'Z', threads: 0}, true}, {stat{state: 'Z', threads: 3}, false}, {stat{state: 'X'}, true}} {
		if c.s.dead() != c.dead {
			t.Errorf("%+v: dead %v", c.s, c.s.dead())
		}
	}
	me, ok := readStat(os.Getpid())
	if !ok || me.pid != os.Getpid() || me.ppid != os.Getppid() || me.start == 0 {
		t.Errorf("our own: %+v", me)
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("42 (vllm) S 7 42 42 0 -1 4194560 1 0 0 0 1 1 0 0 20 0 1 0 12345 0 0"))
	f.Add([]byte("42 (a)) Z"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, ok := parseStat(b); ok && s.state == 0 {
			t.Errorf("%q: no state", b)
		}
	})
}

func TestSignalExactly(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	require.NoError(t, cmd.Start())
	s, ok := readStat(cmd.Process.Pid)
	require.True(t, ok)
	if err := signalExactly(s.pid, s.start+1, unix.SIGKILL); !errors.Is(err, unix.ESRCH) {
		t.Errorf("another start time: %v", err)
	}
	if now, _ := readStat(s.pid); now.dead() {
		t.Error("a process with another start time was killed")
	}
	require.NoError(t, signalExactly(s.pid, s.start, unix.SIGKILL))
	_ = cmd.Wait()
}
