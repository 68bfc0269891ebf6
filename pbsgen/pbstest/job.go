package pbstest

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/glm46/glm46/pbsgen/pbs"
)

// job is a job, an array, or a sub-job of one.
type job struct {
	seq   int
	id    string
	index int // of a sub-job; -1 otherwise
	array *job
	subs  []*job

	request   *pbs.Job
	name      string
	queue     string
	script    []byte
	program   []string // "-- program args": run without a shell
	variables []pbs.Variable
	directory string // of submission
	depend    []pbs.Dependency
	// parents are the jobs that depend names, found at submission: a server without
	// history tells the children of a job before it forgets it. nil: unknown.
	parents map[string]*job

	state    string
	hold     string
	exit     *int
	substate int
	comment  string
	runCount int
	started  time.Time
	walltime time.Duration

	run *run // while running
	// lost are runs whose node is lost: their processes go on.
	lost    []*run
	cookies []string // of all runs, to find their processes
}

func (j *job) ended() bool { return j.state == "F" || j.state == "X" }

func (j *job) status() Status {
	s := Status{
		ID: j.id, Name: j.name, Queue: j.queue, State: j.state, ExitStatus: j.exit, Substate: j.substate, RunCount: j.runCount,
		Comment: j.comment, Walltime: j.walltime, Started: j.started, Index: j.index, Hold: j.hold, Variables: j.variables, Job: j.request,
	}
	if len(j.subs) == 0 {
		s.OutputPath, s.ErrorPath = j.logPaths("")
	}
	return s
}

// logPaths are where the streams go in the end; home is for -k without d.
func (j *job) logPaths(home string) (out, err string) {
	suffix := strconv.Itoa(j.seq)
	if j.index >= 0 {
		suffix += "." + strconv.Itoa(j.index)
	}
	place := func(path, letter, ext string) string {
		if j.keeps(letter) && !strings.Contains(j.request.Keep, "d") && home != "" {
			return filepath.Join(home, j.name+"."+letter+suffix)
		}
		if path == "" {
			return filepath.Join(j.directory, j.name+"."+letter+suffix)
		}
		path = strings.ReplaceAll(path, "^array_index^", strconv.Itoa(max(j.index, 0)))
		full := path
		if !filepath.IsAbs(full) {
			full = filepath.Join(j.directory, full)
		}
		if info, e := os.Stat(full); strings.HasSuffix(path, "/") || e == nil && info.IsDir() {
			return filepath.Join(full, j.id+"."+ext)
		}
		return full
	}
	out, err = place(j.request.Out, "o", "OU"), place(j.request.Err, "e", "ER")
	switch j.request.Join {
	case "oe":
		err = ""
	case "eo":
		out, err = err, ""
	}
	return out, err
}

// keeps reports whether -k names the stream.
func (j *job) keeps(letter string) bool {
	return j.request.Keep != "n" && strings.Contains(j.request.Keep, letter)
}

// direct reports whether the streams are written to their final place at once.
func (j *job) direct() bool { return strings.Contains(j.request.Keep, "d") }

func (s *Server) id(seq int, middle string) string {
	return fmt.Sprintf("%d%s.%s", seq, middle, s.config.ServerName)
}

// find looks a job up by id, with or without the server's name.
func (s *Server) find(id string) *job {
	if j, ok := s.jobs[id]; ok {
		return j
	}
	return s.jobs[id+"."+s.config.ServerName]
}

// several expands a range of sub-jobs, "88[3-4].srv".
func (s *Server) several(id string) []*job {
	if j := s.find(id); j != nil {
		return []*job{j}
	}
	before, rest, ok := strings.Cut(id, "[")
	bounds, after, closed := strings.Cut(rest, "]")
	firstText, lastText, isRange := strings.Cut(bounds, "-")
	first, err1 := strconv.Atoi(firstText)
	last, err2 := strconv.Atoi(lastText)
	if !ok || !closed || !isRange || err1 != nil || err2 != nil {
		return nil
	}
	var list []*job
	for i := first; i <= last; i++ {
		if j := s.find(fmt.Sprintf("%s[%d]%s", before, i, after)); j != nil {
			list = append(list, j)
		}
	}
	return list
}
