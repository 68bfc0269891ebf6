package pbstest

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// run is one run of a job on a node.
type run struct {
	server *Server
	job    *job
	began  time.Time
	cookie string

	mu      sync.Mutex
	command *exec.Cmd
	session int
	reason  reason
	// nudge wakes the watcher when reason has changed.
	nudge chan struct{}
}

// reason says why a run is being ended; the first one counts.
type reason int

const (
	running reason = iota
	walltimeOver
	deleted
	forced
	signalled
	requeued
	nodeLost
)

func newCookie() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// do runs the job from start to end.
func (r *run) do() {
	defer r.server.running.Done()
	exit, reason := r.execute()
	s := r.server
	s.mu.Lock()
	defer s.mu.Unlock()
	if reason == nodeLost {
		return // LoseNode has decided already
	}
	s.busy--
	j := r.job
	j.run = nil
	switch {
	case reason == requeued && !s.closing:
		j.state, j.substate, j.comment = "Q", 10, ""
	case reason == walltimeOver:
		s.finish(j, -29, 93, "Job run and exceeded resource walltime")
	case reason == deleted || reason == forced:
		s.finish(j, exit, 91, "Job run and terminated")
	case exit == 0:
		s.finish(j, exit, 92, "Job run and finished")
	default:
		s.finish(j, exit, 93, "Job run and failed")
	}
	s.settle()
}

// execute starts the top shell, watches it and the clock, and delivers the logs. It
// gives PBS's exit status.
func (r *run) execute() (int, reason) {
	logs, err := r.openLogs()
	if err != nil {
		return -1, running
	}
	defer logs.deliver()
	if r.job.program == nil && r.shell() == "" {
		return 254, running
	}
	command, stdin, err := r.prepare(logs)
	if err != nil {
		return -1, running
	}
	r.mu.Lock()
	err = command.Start()
	if err == nil {
		r.command, r.session = command, command.Process.Pid
	}
	pending := r.reason
	r.mu.Unlock()
	if err != nil {
		_ = stdin.Close()
		return 254, running
	}
	if pending != running { // deleted between launch and start
		signalSession(r.session, syscall.SIGKILL)
	}
	// The login shell reads the script's path from its standard input.
	if r.job.program == nil {
		_, _ = io.WriteString(stdin, r.scriptPath()+"\n")
	}
	_ = stdin.Close()

	topEnded := make(chan struct{})
	go func() {
		_ = command.Wait()
		close(topEnded)
	}()
	why := r.watch(topEnded, logs)
	if why == nodeLost {
		<-topEnded
		return 0, why
	}
	killSession(r.session) // what the script left behind
	<-topEnded
	if dir := r.tmpdir(); dir != "" {
		_ = os.RemoveAll(dir)
	}
	if r.job.request.Attributes["sandbox"] == "PRIVATE" {
		_ = os.RemoveAll(r.jobdir())
	}
	return pbsExit(command.ProcessState), why
}

// pbsExit is the top shell's exit code, or 256 plus the signal that killed it.
func pbsExit(state *os.ProcessState) int {
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 256 + int(status.Signal())
	}
	return state.ExitCode()
}

// watch waits for the end of the job, enforcing the walltime and what commands ask
// for. It gives the reason for which the job ended.
func (r *run) watch(topEnded <-chan struct{}, logs *logFiles) reason {
	s := r.server
	limit := s.real(r.job.walltime)
	interval := s.config.MinPoll
	next := r.nextPoll(limit, &interval, 0)
	poll := time.NewTimer(time.Until(r.began.Add(next)))
	defer poll.Stop()
	for {
		select {
		case <-topEnded:
			return r.current()
		case <-r.nudge:
			switch why := r.current(); why {
			case nodeLost:
				return why
			case deleted, requeued:
				return r.terminate(topEnded, why)
			case forced:
				return why
			}
		case <-poll.C:
			elapsed := time.Since(r.began)
			if limit > 0 && elapsed >= limit {
				if r.set(walltimeOver) {
					seconds := int(elapsed.Seconds() / s.config.Second.Seconds())
					fmt.Fprintf(logs.err, "=>> PBS: job killed: walltime %d exceeded limit %d\n", seconds, int(r.job.walltime.Seconds()))
					return r.terminate(topEnded, walltimeOver)
				}
				continue
			}
			next = r.nextPoll(limit, &interval, next)
			poll.Reset(time.Until(r.began.Add(next)))
		}
	}
}

// nextPoll is when the clock is looked at next, after the start.
func (r *run) nextPoll(limit time.Duration, interval *time.Duration, last time.Duration) time.Duration {
	s := r.server
	if limit == 0 {
		return time.Hour
	}
	if s.config.Late != nil {
		return limit + s.real(s.config.Late(r.job.id))
	}
	next := last + s.real(*interval)
	*interval = min(*interval+s.config.PollStep, s.config.MaxPoll)
	return next
}

// terminate sends SIGTERM to the session, and waits until it is empty or the kill
// delay is over. The top shell dies at once; the script may go on.
func (r *run) terminate(topEnded <-chan struct{}, why reason) reason {
	signalSession(r.session, syscall.SIGTERM)
	deadline := time.Now().Add(r.server.real(r.server.config.KillDelay))
	tick := time.NewTicker(sessionPoll)
	defer tick.Stop()
	for time.Now().Before(deadline) && len(sessionOf(r.session)) > 0 {
		select {
		case <-r.nudge:
			if now := r.current(); now == nodeLost {
				return now
			}
		case <-tick.C:
		}
	}
	return why
}

// sessionPoll is how often the end of a session is looked for.
const sessionPoll = 20 * time.Millisecond

func (r *run) current() reason {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reason
}

// set notes a reason; the first counts, but force and a lost node always do, and a
// signal that ended nothing does not.
func (r *run) set(why reason) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.reason != running && r.reason != signalled && why != forced && why != nodeLost {
		return false
	}
	r.reason = why
	return true
}

// end asks the watcher to end the run.
func (r *run) end(why reason) {
	if !r.set(why) {
		return
	}
	select {
	case r.nudge <- struct{}{}:
	default:
	}
	if why == forced {
		r.signal(syscall.SIGKILL)
	}
}

func (r *run) signal(sig syscall.Signal) {
	r.mu.Lock()
	session := r.session
	r.mu.Unlock()
	if session > 0 {
		signalSession(session, sig)
	}
}

func (r *run) shell() string {
	shell := r.job.request.Shell
	if shell == "" {
		shell = "/bin/bash"
	}
	if info, err := os.Stat(shell); err != nil || info.IsDir() {
		return ""
	}
	return shell
}

// safe makes a file name of a job id.
func safe(id string) string {
	return strings.NewReplacer("[", "_", "]", "_").Replace(id)
}

func (r *run) scriptPath() string {
	return filepath.Join(r.server.config.Dir, "spool", safe(r.job.id)+".SC")
}

// tmpdir is the job's TMPDIR; like PBS's it holds the id with its brackets.
func (r *run) tmpdir() string { return filepath.Join(r.server.config.Dir, "tmp", "pbs."+r.job.id) }

func (r *run) jobdir() string {
	if r.job.request.Attributes["sandbox"] == "PRIVATE" {
		return filepath.Join(r.server.home, "pbs."+r.job.id+".x8z")
	}
	return r.server.home
}

// prepare makes the top process: a login shell that leads a session and reads the
// script's path from a pipe; or with "--" the program itself.
func (r *run) prepare(logs *logFiles) (*exec.Cmd, io.WriteCloser, error) {
	if err := os.WriteFile(r.scriptPath(), r.job.script, 0o700); err != nil {
		return nil, nil, err
	}
	nodefile := filepath.Join(r.server.config.Dir, "aux", safe(r.job.id))
	if err := errors.Join(
		os.WriteFile(nodefile, []byte(hostname()+"\n"), 0o600),
		os.MkdirAll(r.tmpdir(), 0o700),
		os.MkdirAll(r.jobdir(), 0o700),
	); err != nil {
		return nil, nil, err
	}
	// A small shell sets the umask, which is the process's in Go, and becomes the
	// top process.
	args := []string{"--noprofile", "--norc", "-c", `umask "$1"; shell=$2; exec -a "-${shell##*/}" "$shell"`, "mom", r.umask(), r.shell()}
	if r.job.program != nil {
		args = append([]string{"--noprofile", "--norc", "-c", `umask "$1"; shift; exec "$@"`, "mom", r.umask()}, r.job.program...)
	}
	command := exec.Command("/bin/bash", args...)
	command.Dir = r.jobdir()
	command.Env = r.environment(nodefile)
	command.Stdout, command.Stderr = logs.out, logs.err
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	stdin, err := command.StdinPipe()
	return command, stdin, err
}

func (r *run) umask() string {
	if umask := r.job.request.Attributes["umask"]; umask != "" {
		return umask
	}
	return "077"
}

// environment is the job's: what was submitted, overridden by PBS's own.
func (r *run) environment(nodefile string) []string {
	j, s := r.job, r.server
	own := map[string]string{
		"PBS_JOBID": j.id, "PBS_JOBNAME": j.name, "PBS_QUEUE": j.queue, "PBS_O_QUEUE": j.queue, "PBS_JOBDIR": r.jobdir(),
		"PBS_NODEFILE": nodefile, "PBS_ENVIRONMENT": "PBS_BATCH", "ENVIRONMENT": "BATCH", "PBS_JOBCOOKIE": r.cookie,
		"PBS_NODENUM": "0", "PBS_TASKNUM": "1", "PBS_MOMPORT": "15003", "TMPDIR": r.tmpdir(), "HOME": s.home,
		"USER": "tester", "LOGNAME": "tester", "SHELL": "/bin/bash",
		"NCPUS": r.cores(), "OMP_NUM_THREADS": r.cores(),
	}
	if j.request.Account != "" {
		own["PBS_ACCOUNT"] = j.request.Account
	}
	if j.array != nil {
		own["PBS_ARRAY_INDEX"], own["PBS_ARRAY_ID"] = strconv.Itoa(j.index), j.array.id
	}
	list := []string{"PATH=/usr/local/bin:/usr/bin:/bin"}
	for _, v := range j.variables {
		if _, taken := own[v.Name]; !taken {
			list = append(list, v.Name+"="+v.Value)
		}
	}
	list = append(list, s.config.NodeEnv...)
	for name, value := range own {
		list = append(list, name+"="+value)
	}
	slices.Sort(list[1:])
	return list
}

func (r *run) cores() string {
	chunk := r.job.request.Resource("select")
	for _, item := range strings.FieldsFunc(chunk, func(c rune) bool { return c == ':' || c == '+' }) {
		if cores, ok := strings.CutPrefix(item, "ncpus="); ok {
			return cores
		}
	}
	if cores := r.job.request.Resource("ncpus"); cores != "" {
		return cores
	}
	return "1"
}

// logFiles are the streams of a run and where they end up.
type logFiles struct {
	out, err *os.File
	// moves are from spool to final place.
	moves [][2]string
	lost  string
}

func (r *run) openLogs() (*logFiles, error) {
	outPath, errPath := r.job.logPaths(r.server.home)
	logs := &logFiles{lost: r.server.Undelivered()}
	mode := os.FileMode(0o666)
	if mask, err := strconv.ParseUint(r.umask(), 8, 32); err == nil {
		mode &^= os.FileMode(mask & 0o777)
	}
	open := func(final, ext string) (*os.File, error) {
		path := final
		flags := os.O_CREATE | os.O_WRONLY | os.O_APPEND
		if _, err := os.Stat(filepath.Dir(final)); !r.job.direct() || err != nil {
			// The cookie keeps apart the runs of one job of which one is on a lost node.
			path = filepath.Join(r.server.config.Dir, "spool", safe(r.job.id)+"."+r.cookie[:8]+ext)
			flags |= os.O_TRUNC
			logs.moves = append(logs.moves, [2]string{path, final})
		}
		file, err := os.OpenFile(path, flags, mode)
		if err == nil {
			err = file.Chmod(mode)
		}
		return file, err
	}
	var err error
	if logs.out, err = open(outPath, ".OU"); err != nil {
		return nil, err
	}
	if errPath == "" {
		logs.err = logs.out
		return logs, nil
	}
	logs.err, err = open(errPath, ".ER")
	return logs, err
}

// deliver moves spooled logs to their place, or aside where that folder is missing.
func (l *logFiles) deliver() {
	_ = l.out.Close()
	if l.err != l.out {
		_ = l.err.Close()
	}
	for _, move := range l.moves {
		data, err := os.ReadFile(move[0])
		if err != nil {
			continue
		}
		if os.WriteFile(move[1], data, 0o600) != nil {
			_ = os.WriteFile(filepath.Join(l.lost, filepath.Base(move[0])), data, 0o600)
		}
		_ = os.Remove(move[0])
	}
}
