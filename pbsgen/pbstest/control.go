package pbstest

import (
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Delete is qdel: SIGTERM to the session, SIGKILL after the kill delay; with
// -W force SIGKILL at once.
func (s *Server) Delete(c Call) Reply {
	why := deleted
	ids := c.Args
	if len(ids) >= 2 && ids[0] == "-W" && ids[1] == "force" {
		why, ids = forced, ids[2:]
	}
	return s.each("qdel", ids, func(j *job) { s.end(j, why) })
}

// end ends a job, and all of an array's.
func (s *Server) end(j *job, why reason) {
	for _, each := range append([]*job{j}, j.subs...) {
		switch {
		case each.run != nil:
			each.run.end(why)
		case len(each.subs) > 0 && each.state == "B":
			// its sub-jobs end it
		case !each.ended():
			s.drop(each)
		}
	}
	s.settle()
}

// kill ends a job whatever it does, for Close.
func (s *Server) kill(j *job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if j.run != nil {
		j.run.end(forced)
	}
	for _, r := range j.lost {
		r.signal(syscall.SIGKILL)
	}
	if j.run == nil && !j.ended() && len(j.subs) == 0 {
		s.drop(j)
	}
}

// Signal is qsig -s NAME ID: the signal goes to every process of the session; where
// the top shell dies of it, the rest is killed at once.
func (s *Server) Signal(c Call) Reply {
	name, ids := "TERM", c.Args
	if len(ids) >= 2 && ids[0] == "-s" {
		name, ids = ids[1], ids[2:]
	}
	if name == "0" || name == "SIGNULL" {
		return s.each("qsig", ids, func(*job) {})
	}
	sig := unix.SignalNum("SIG" + strings.TrimPrefix(name, "SIG"))
	if n, err := strconv.Atoi(name); err == nil {
		sig = syscall.Signal(n)
	}
	if sig <= 0 {
		return Reply{Stderr: "qsig: Unknown/illegal signal name\n", Exit: 165}
	}
	return s.each("qsig", ids, func(j *job) {
		if j.run != nil {
			j.run.set(signalled)
			j.run.signal(sig)
		}
	})
}

// Rerun is qrerun by an operator, or preemption: the job goes back to the queue and
// starts again under the same id. It reports false for a job that is not running or
// was submitted with -r n.
func (s *Server) Rerun(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	j := s.find(id)
	if j == nil || j.run == nil || !j.request.Rerunnable {
		return false
	}
	j.run.end(requeued)
	return true
}

// LoseNode cuts the connection to the node of a running job: a rerunnable job starts
// again elsewhere while its old processes go on; another one ends with -20. The
// processes live until ReturnNode or Close.
func (s *Server) LoseNode(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	j := s.find(id)
	if j == nil || j.run == nil {
		return false
	}
	r := j.run
	j.lost = append(j.lost, r)
	j.run = nil
	s.busy--
	r.end(nodeLost)
	if j.request.Rerunnable {
		lost := -20
		j.state, j.substate, j.exit = "Q", 10, &lost
	} else {
		s.finish(j, -20, 93, "Job run and failed")
	}
	s.settle()
	return true
}

// ReturnNode brings lost nodes of a job back: their old processes get SIGKILL.
func (s *Server) ReturnNode(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if j := s.find(id); j != nil {
		for _, r := range j.lost {
			r.signal(syscall.SIGKILL)
		}
		j.lost = nil
	}
}
