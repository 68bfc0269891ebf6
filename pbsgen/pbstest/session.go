package pbstest

import (
	"bytes"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a line of /proc/PID/stat.
type process struct {
	pid, parent, session int
	start                string
	zombie               bool
}

func (p process) kill() error { return syscall.Kill(p.pid, syscall.SIGKILL) }

// processes reads /proc.
func processes() []process {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var list []process
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			if p, ok := readProcess(pid); ok {
				list = append(list, p)
			}
		}
	}
	return list
}

func readProcess(pid int) (process, bool) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return process{}, false
	}
	// The name stands in parentheses and may hold anything.
	end := strings.LastIndexByte(string(data), ')')
	fields := strings.Fields(string(data)[end+1:])
	if end < 0 || len(fields) < 20 {
		return process{}, false
	}
	parent, _ := strconv.Atoi(fields[1])
	session, _ := strconv.Atoi(fields[3])
	return process{pid: pid, parent: parent, session: session, start: fields[19], zombie: fields[0] == "Z"}, true
}

// sessionOf are the living processes of a session, children before parents, its
// leader last.
func sessionOf(session int) []process {
	if session <= 1 {
		return nil
	}
	var list []process
	parents := map[int]int{}
	for _, p := range processes() {
		parents[p.pid] = p.parent
		if p.session == session && !p.zombie {
			list = append(list, p)
		}
	}
	depth := func(p process) int {
		if p.pid == session {
			return -1
		}
		n := 0
		for pid := p.pid; pid > 1 && n < len(parents); pid = parents[pid] {
			n++
		}
		return n
	}
	slices.SortStableFunc(list, func(a, b process) int { return depth(b) - depth(a) })
	return list
}

// signalSession signals each process of a session, as PBS does: whatever its process
// group, and no process of another session.
func signalSession(session int, sig syscall.Signal) {
	for _, p := range sessionOf(session) {
		_ = syscall.Kill(p.pid, sig) // it may have ended meanwhile
	}
}

// killSession kills a session and waits until it is empty: a process may have forked
// another one between the look and the signal, and dies a moment after it.
func killSession(session int) {
	for range killRounds {
		if len(sessionOf(session)) == 0 {
			return
		}
		signalSession(session, syscall.SIGKILL)
		time.Sleep(sessionPoll / 4)
	}
}

// killRounds is 5 s: a process in the kernel's hands may need that long to die.
const killRounds = 1000

// outside are living processes of a job's runs that are not in a session of theirs:
// PBS leaves them alone. They are known by the cookie in their environment.
func (s *Server) outside(j *job) []process {
	s.mu.Lock()
	cookies := slices.Clone(j.cookies)
	s.mu.Unlock()
	var list []process
	for _, p := range processes() {
		if p.zombie || p.pid == os.Getpid() {
			continue
		}
		environment, err := os.ReadFile("/proc/" + strconv.Itoa(p.pid) + "/environ")
		if err != nil {
			continue
		}
		for _, cookie := range cookies {
			if bytes.Contains(environment, []byte("PBS_JOBCOOKIE="+cookie)) {
				list = append(list, p)
				break
			}
		}
	}
	return list
}

// Survivors are the ids of processes of a job that still live, in whatever session.
// After the job's end there should be none.
func (s *Server) Survivors(id string) []int {
	s.mu.Lock()
	j := s.find(id)
	s.mu.Unlock()
	if j == nil {
		return nil
	}
	var pids []int
	for _, p := range s.outside(j) {
		pids = append(pids, p.pid)
	}
	return pids
}
