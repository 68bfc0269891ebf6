// Package launch runs `vllm serve` as a child process: it starts it, reads its
// log, waits until it serves, and ends it with everything that it started.
//
// A vLLM server is a tree of processes that outlives its root when the root is
// killed, with the GPU memory in its hands (vllm-project/vllm#55510, #43060).
// So the child gets its own process group (never its own session: PBS signals a
// job by session), a signal when we die, and is watched by ancestry; orphans come
// to us where [BecomeSubreaper] was called. Read process.go, then stop.go.
//
// No shell is involved. The package measures nothing and judges no figures.
package launch

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/glm46/glm46/mockvllm/vllm"
)

// Command is what to start.
type Command struct {
	// Argv is the program and its arguments; the program is looked up in PATH.
	Argv []string
	// Env is the whole environment ("NAME=VALUE"), as [ServerEnv] makes it; nil
	// means ours. A mark is added by which stray processes are known.
	Env []string
	// Dir is the working directory; empty means ours.
	Dir string
	// LogPath is the file that takes stdout and stderr, byte by byte. It must
	// not exist: a log is never overwritten.
	LogPath string
	// OnLine, if set, is called for every line of the log, from one goroutine.
	OnLine func(line string)
}

// tokenVariable marks every process of one server in its environment, so that
// one that left its family and its group is still known as ours.
const tokenVariable = "GLM46_SERVER_TOKEN"

// Process is a running server. Its methods may be called from several
// goroutines.
type Process struct {
	cmd   *exec.Cmd
	pid   int
	start uint64 // start time in ticks, with pid unique until the next boot
	token string
	begun time.Time

	exited chan struct{} // closed when the child has been reaped
	read   chan struct{} // closed when its output has ended or was given up
	ready  chan struct{} // closed once it serves
	out    *os.File

	progressed atomic.Int64 // bytes of output read

	watchStop chan struct{}
	watchDone chan struct{}

	mu       sync.Mutex
	scanner  vllm.LogScanner
	state    *os.ProcessState
	phases   []PhaseSpan
	lastLine time.Time
	tail     []string
	logErr   error
	seen     map[int]uint64 // every descendant seen: pid to start time
	served   Served
	isReady  bool

	stopping sync.Mutex // one Stop at a time; the others wait for its report
	stopped  *StopReport
}

// PhaseSpan is a phase of the start-up and when it began, from the start of
// the process on.
type PhaseSpan struct {
	Phase vllm.Phase
	At    time.Duration
}

// Served is what a ready server says of itself.
type Served struct {
	// Version is /version's, "" where it is not served.
	Version string
	// Models are the ids of /v1/models; MaxModelLen is the first one's.
	Models      []string
	MaxModelLen int
	// Seconds from the start of the process to the first healthy answer.
	Seconds float64
}

// BecomeSubreaper makes this process the parent of its orphaned descendants, so
// that workers whose parent was killed can still be found and ended. It holds
// for the whole process. Source: prctl(2), PR_SET_CHILD_SUBREAPER.
func BecomeSubreaper() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become the parent of orphans: %w", err)
	}
	return nil
}

// Start starts a server and returns at once; [Process.WaitReady] waits for it.
// The caller calls [Process.Stop] in the end, whatever happens in between.
//
// ctx bounds only the starting itself. It fails with a [*FailedStart] where the
// program cannot be run.
func Start(ctx context.Context, c Command) (*Process, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(c.Argv) == 0 {
		return nil, errors.New("launch: no program given")
	}
	var b [12]byte
	if _, err := rand.Read(b[:]); err != nil {
		return nil, err
	}
	token := hex.EncodeToString(b[:])
	path, err := exec.LookPath(c.Argv[0])
	if errors.Is(err, exec.ErrDot) { // "./vllm" is meant where it is written
		err = nil
	}
	if err != nil {
		return nil, &FailedStart{Class: ClassNoProgram, Lines: []string{err.Error()}, Exit: Exit{Code: 127},
			Do: fmt.Sprintf("install vLLM, load its module, or name its command with --vllm (now %q)", c.Argv[0])}
	}
	log, err := os.OpenFile(c.LogPath, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o666)
	if err != nil {
		return nil, fmt.Errorf("launch: the server's log: %w", err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		log.Close()
		return nil, fmt.Errorf("launch: %w", err)
	}
	// A full pipe would stall the server while this process is busy; more room
	// than the default 64 KiB makes that unlikely. Refusal does no harm.
	_, _ = unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, 1<<20)

	cmd := &exec.Cmd{Path: path, Args: c.Argv, Dir: c.Dir, Stdout: w, Stderr: w}
	env := c.Env
	if env == nil {
		env = os.Environ()
	}
	cmd.Env = append(append([]string{}, env...), tokenVariable+"="+token)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setpgid: true,
		// TERM, not KILL: it lets the API server end its engine and workers, and
		// we are not there any more to do it.
		Pdeathsig: syscall.SIGTERM,
	}
	p := &Process{cmd: cmd, token: token, out: r, seen: map[int]uint64{},
		exited: make(chan struct{}), read: make(chan struct{}), ready: make(chan struct{}),
		watchStop: make(chan struct{}), watchDone: make(chan struct{})}
	started := make(chan error, 1)
	go p.run(w, started)
	if err := <-started; err != nil {
		r.Close()
		log.Close()
		os.Remove(c.LogPath)
		return nil, &FailedStart{Class: ClassNoProgram, Lines: []string{err.Error()}, Exit: Exit{Code: 126},
			Do: fmt.Sprintf("check that %s can be run here", path)}
	}
	go p.readLog(log, c.OnLine)
	go p.watch()
	return p, nil
}

// run starts the child and waits for its end, on one thread: the parent-death
// signal is tied to the thread that forks, which therefore must live as long as
// the child (golang/go#27505).
func (p *Process) run(w *os.File, started chan<- error) {
	defer close(p.exited)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := p.cmd.Start()
	w.Close()
	if err == nil {
		p.pid, p.begun = p.cmd.Process.Pid, time.Now()
		if st, ok := readStat(p.pid); ok {
			p.start = st.start
		}
		p.seen[p.pid] = p.start
		p.phases = []PhaseSpan{{Phase: vllm.PhaseBoot}}
		p.lastLine = p.begun
	}
	started <- err
	if err != nil {
		return
	}
	// The error says only how it ended, which the state says as well.
	_ = p.cmd.Wait()
	p.mu.Lock()
	p.state = p.cmd.ProcessState
	p.mu.Unlock()
}

// Longest line that is looked at; what is longer is kept in the log whole.
const maxLineBytes = 64 << 10

// queueBytes is how much of the log may wait to be looked at. Beyond it the
// server would have to wait, so that no fatal line is ever passed over.
const queueBytes = 64 << 20

// readLog copies the output to the log as it is. The lines are looked at on the
// side: that takes longer than copying, and the server must not wait for it.
func (p *Process) readLog(log io.WriteCloser, onLine func(string)) {
	defer close(p.read)
	defer log.Close()
	q := &queue{}
	q.changed.L = &q.mu
	scanned := make(chan struct{})
	go func() {
		defer close(scanned)
		var line []byte
		for {
			part, ok := q.take()
			line = p.lines(line, part, onLine)
			if !ok {
				if len(line) > 0 {
					p.line(string(line), onLine)
				}
				return
			}
		}
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := p.out.Read(buf)
		if n > 0 {
			p.progressed.Add(int64(n))
			if _, err := log.Write(buf[:n]); err != nil {
				p.mu.Lock()
				// Go on reading: a full disk must not block the server.
				p.logErr = fmt.Errorf("write the server's log: %w", err)
				p.mu.Unlock()
			}
			q.put(buf[:n])
		}
		if err != nil {
			q.end()
			<-scanned
			return
		}
	}
}

// lines takes more output after the unfinished line, passes whole lines on, and
// returns what is unfinished now. Progress bars end in a carriage return.
func (p *Process) lines(line, more []byte, onLine func(string)) []byte {
	for len(more) > 0 {
		i := bytes.IndexAny(more, "\n\r")
		piece := more
		if i >= 0 {
			piece = more[:i]
		}
		line = append(line, piece[:min(len(piece), maxLineBytes-len(line))]...)
		if i < 0 {
			return line
		}
		more = more[i+1:]
		if len(line) > 0 {
			p.line(string(line), onLine)
			line = line[:0]
		}
	}
	return line
}

// queue hands bytes from one goroutine to another.
type queue struct {
	mu      sync.Mutex
	changed sync.Cond
	bytes   []byte
	ended   bool
}

func (q *queue) put(b []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.bytes) > queueBytes {
		q.changed.Wait()
	}
	q.bytes = append(q.bytes, b...)
	q.changed.Broadcast()
}

func (q *queue) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended = true
	q.changed.Broadcast()
}

// take waits for bytes and returns all there are; ok is false with the last.
func (q *queue) take() (b []byte, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.bytes) == 0 && !q.ended {
		q.changed.Wait()
	}
	b, q.bytes = q.bytes, nil
	q.changed.Broadcast()
	return b, !q.ended
}

// tailLines is how much of the log an error may quote.
const tailLines = 40

func (p *Process) line(text string, onLine func(string)) {
	now := time.Now()
	p.mu.Lock()
	phase := p.scanner.Line(text)
	p.lastLine = now
	if last := p.phases[len(p.phases)-1].Phase; phase > last {
		p.phases = append(p.phases, PhaseSpan{phase, now.Sub(p.begun)})
	}
	p.tail = append(p.tail, text)
	if len(p.tail) > tailLines {
		p.tail = p.tail[len(p.tail)-tailLines:]
	}
	p.mu.Unlock()
	if onLine != nil {
		onLine(text)
	}
}

// PID is the server's process id, which is its process group's too.
func (p *Process) PID() int { return p.pid }

// Done is closed when the server's first process has ended.
func (p *Process) Done() <-chan struct{} { return p.exited }

// Facts is what the log has said so far.
func (p *Process) Facts() vllm.LogFacts {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.scanner.Facts()
}

// Served is what the server said of itself when it became ready.
func (p *Process) Served() Served {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.served
}

// Phases are the phases of the start-up so far, in order.
func (p *Process) Phases() []PhaseSpan {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]PhaseSpan{}, p.phases...)
}

// Tail returns the log's last lines, at most 40.
func (p *Process) Tail() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string{}, p.tail...)
}

// LogErr says whether the log could not be written; it is then not whole.
func (p *Process) LogErr() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.logErr
}

// Exit says how the server's first process ended; ok is false while it runs.
func (p *Process) Exit() (e Exit, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == nil {
		return Exit{}, false
	}
	if ws, isWait := p.state.Sys().(syscall.WaitStatus); isWait && ws.Signaled() {
		return Exit{Code: -1, Signal: ws.Signal()}, true
	}
	return Exit{Code: p.state.ExitCode()}, true
}

// Exit is how a process ended.
type Exit struct {
	// Code is the exit status, -1 after a signal.
	Code   int
	Signal syscall.Signal
	// Running says that it had not ended.
	Running bool
}

// String gives "exit 1", "signal: killed" or "still running".
func (e Exit) String() string {
	switch {
	case e.Running:
		return "still running"
	case e.Signal != 0:
		return "signal: " + e.Signal.String()
	}
	return fmt.Sprintf("exit %d", e.Code)
}

// killed says that the end looks like SIGKILL from outside, as from the kernel
// when memory is short: by signal, or as a shell or container reports it.
func (e Exit) killed() bool { return e.Signal == syscall.SIGKILL || e.Code == 137 }

// DisplayArgv is the argument list with secrets replaced, for records.
func DisplayArgv(argv []string) []string {
	out := append([]string{}, argv...)
	for i, a := range out {
		name, _, joined := strings.Cut(a, "=")
		switch {
		case secretFlag(name) && joined:
			out[i] = name + "=" + redacted
		case secretFlag(name):
			// vLLM takes several keys after one --api-key.
			for j := i + 1; j < len(out) && !strings.HasPrefix(out[j], "-"); j++ {
				out[j] = redacted
			}
		}
	}
	return out
}

func secretFlag(name string) bool {
	n := strings.ReplaceAll(strings.ToLower(name), "_", "-")
	return n == "--api-key" || n == "--hf-token" || strings.HasSuffix(n, "-password") || strings.HasSuffix(n, "-keyfile-password") || strings.HasSuffix(n, "-secret")
}
