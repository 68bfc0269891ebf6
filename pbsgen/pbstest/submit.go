package pbstest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/glm46/glm46/pbsgen/pbs"
)

// Call is one call of a PBS command.
type Call struct {
	// Args are the arguments, without the command's name.
	Args []string
	// Dir is the working directory, Env the environment as NAME=VALUE.
	Dir   string
	Env   []string
	Stdin []byte
}

// Reply is what a PBS command prints, and its exit status.
type Reply struct {
	Stdout, Stderr string
	Exit           int
}

// ID is the job id that qsub printed.
func (r Reply) ID() string { return strings.TrimSpace(r.Stdout) }

func (r Reply) Error() error {
	if r.Exit == 0 {
		return nil
	}
	return fmt.Errorf("exit %d: %s", r.Exit, strings.TrimSpace(r.Stderr))
}

const usage = "usage: qsub [-a date_time] [-A account_string] [-c interval]\n"

// Submit is qsub. With -W block=true it returns at the end of the job, or of ctx.
func (s *Server) Submit(ctx context.Context, c Call) Reply {
	j, err := s.prepare(c)
	if err != nil {
		return refused(err)
	}
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		return Reply{Stderr: "Connection refused\nqsub: cannot connect to server " + s.config.ServerName + " (errno=15010)\n", Exit: 162}
	}
	s.enqueue(j)
	s.mu.Unlock()
	reply := Reply{Stdout: j.id + "\n"}
	if j.request.Attributes["block"] == "true" {
		return s.block(ctx, j, reply)
	}
	return reply
}

func refused(err error) Reply {
	var refusal *pbs.Refusal
	if !errors.As(err, &refusal) {
		return Reply{Stderr: "qsub: " + err.Error() + "\n", Exit: 1}
	}
	text := ""
	if refusal.Text != "" {
		text = refusal.Text + "\n"
	}
	if refusal.Exit == pbs.ExitUsage {
		text += usage
	}
	return Reply{Stderr: text, Exit: refusal.Exit}
}

func (s *Server) block(ctx context.Context, j *job, reply Reply) Reply {
	if err := s.Wait(ctx, j.id); err != nil {
		s.Delete(Call{Args: []string{j.id}})
		reply.Exit = 2
		return reply
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if j.exit == nil {
		reply.Stderr, reply.Exit = "qsub: "+j.id+" Job to be deleted at request of user\n", 3
		return reply
	}
	reply.Exit = *j.exit & 0xff
	return reply
}

// prepare reads command line and script, and applies qsub's and the server's rules.
func (s *Server) prepare(c Call) (*job, error) {
	options, rest, err := pbs.ParseArguments(c.Args)
	if err != nil {
		return nil, err
	}
	j := &job{index: -1, directory: c.Dir, state: "Q", substate: 10}
	var directives []pbs.Setting
	switch {
	case len(rest) > 1 && rest[0] == "--":
		j.program, j.name = rest[1:], filepath.Base(rest[1])
	case len(rest) > 1:
		return nil, &pbs.Refusal{Exit: pbs.ExitUsage}
	default:
		if directives, err = j.read(c, rest, options); err != nil {
			return nil, err
		}
	}
	if j.request, err = pbs.Merge(options, directives); err != nil {
		return nil, err
	}
	if j.request.Name != "" {
		j.name = j.request.Name
	} else if err := pbs.CheckName(j.name); err != nil {
		return nil, err
	}
	if j.variables, err = variables(j.request, c); err != nil {
		return nil, err
	}
	j.depend, err = pbs.ParseDepend(j.request.Attributes["depend"])
	if j.request.Attributes["depend"] != "" && err != nil {
		return nil, err
	}
	return j, s.admit(j, c)
}

// read takes the script from its file, or from standard input.
func (j *job) read(c Call, rest []string, options []pbs.Setting) ([]pbs.Setting, error) {
	path := ""
	if len(rest) == 1 {
		path = rest[0]
	}
	if path == "" || path == "-" {
		j.name, j.script = "STDIN", c.Stdin
	} else {
		full := path
		if !filepath.IsAbs(full) {
			full = filepath.Join(c.Dir, full)
		}
		var err error
		if j.script, err = readScript(full); err != nil {
			return nil, err
		}
		j.name = filepath.Base(full)
	}
	found, err := pbs.Scan(j.script)
	if err != nil {
		return nil, err
	}
	var settings []pbs.Setting
	for _, d := range found.Directives {
		more, err := pbs.DirectiveSettings(d)
		if err != nil {
			return nil, err
		}
		settings = append(settings, more...)
	}
	return settings, nil
}

func readScript(path string) ([]byte, error) {
	file, err := os.Open(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, &pbs.Refusal{Text: "qsub: script file:: No such file or directory", Exit: 1}
	case err != nil:
		return nil, &pbs.Refusal{Text: "qsub: opening script file:: Permission denied", Exit: 8}
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, &pbs.Refusal{Text: "qsub: script not a file", Exit: 1}
	}
	return io.ReadAll(file)
}

// passedOn are variables of the submitting shell that every job gets as PBS_O_NAME.
var passedOn = []string{"HOME", "LANG", "LOGNAME", "PATH", "MAIL", "SHELL", "TZ"}

// variables are the job's Variable_List: PBS_O_*, then -V, then -v.
func variables(request *pbs.Job, c Call) ([]pbs.Variable, error) {
	environment := map[string]string{}
	for _, entry := range c.Env {
		name, value, _ := strings.Cut(entry, "=")
		environment[name] = value
	}
	lookup := func(name string) (string, bool) { value, ok := environment[name]; return value, ok }
	list := map[string]string{}
	if request.ExportAll {
		maps.Copy(list, environment)
		maps.DeleteFunc(list, func(name, _ string) bool { return strings.HasPrefix(name, "PBS_O_") || name == "PBS_JOBCOOKIE" })
	}
	if request.Variables != nil {
		given, err := pbs.ParseVariables(*request.Variables, lookup)
		if err != nil {
			return nil, err
		}
		for _, v := range given {
			list[v.Name] = v.Value
		}
	}
	for _, name := range passedOn {
		if value, ok := environment[name]; ok {
			list["PBS_O_"+name] = value
		}
	}
	list["PBS_O_WORKDIR"], list["PBS_O_HOST"], list["PBS_O_SYSTEM"] = c.Dir, hostname(), "Linux"
	var sorted []pbs.Variable
	for _, name := range slices.Sorted(maps.Keys(list)) {
		sorted = append(sorted, pbs.Variable{Name: name, Value: list[name]})
	}
	return sorted, nil
}

func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "localhost"
	}
	return name
}

// builtin are resources that every server has; ngpus is there on a site with GPUs.
var builtin = []string{
	"ncpus", "mem", "vmem", "pmem", "pvmem", "file", "cput", "pcput", "walltime", "min_walltime", "max_walltime", "nice", "ngpus",
	"select", "place", "nodes", "nodect", "mpiprocs", "mpiprocs", "ompthreads", "arch", "host", "vnode", "software",
}

// admit applies the server's rules.
func (s *Server) admit(j *job, _ Call) error {
	name, _, _ := strings.Cut(j.request.Queue, "@")
	if name == "" {
		name = s.config.DefaultQueue
	}
	queue, ok := s.config.Queues[name]
	if !ok {
		return &pbs.Refusal{Text: "qsub: Unknown queue", Exit: pbs.ExitUnknownQueue}
	}
	if queue.Disabled {
		return &pbs.Refusal{Text: "qsub: Queue is not enabled", Exit: 173}
	}
	j.queue = name
	for _, r := range j.request.Resources {
		if !slices.Contains(builtin, r.Name) && !slices.Contains(s.config.Resources, r.Name) {
			return &pbs.Refusal{Text: "qsub: Unknown resource Resource_List." + r.Name, Exit: pbs.ExitUnknownResrc}
		}
	}
	chunks, err := pbs.ParseSelect(j.request.Resource("select"))
	if err != nil && j.request.Resource("select") != "" {
		return err
	}
	for _, chunk := range chunks {
		for _, r := range chunk.Resources {
			if !slices.Contains(builtin, r.Name) && !slices.Contains(s.config.Resources, r.Name) {
				return &pbs.Refusal{Text: "qsub: Unknown resource: " + r.Name, Exit: pbs.ExitUnknownResrc}
			}
		}
	}
	j.walltime = j.request.Walltime()
	if j.walltime == 0 {
		j.walltime = queue.DefaultWalltime
	}
	if queue.MaxWalltime > 0 && j.walltime > queue.MaxWalltime {
		return &pbs.Refusal{Text: "qsub: Job violates queue and/or server resource limits", Exit: pbs.ExitOverLimits}
	}
	return nil
}

// enqueue gives the job its id, and for an array its sub-jobs.
func (s *Server) enqueue(j *job) {
	j.seq = s.sequence
	s.sequence++
	j.parents = map[string]*job{}
	for _, d := range j.depend {
		for _, id := range d.IDs {
			j.parents[id] = s.find(id)
		}
	}
	if j.request.Array == nil {
		j.id = s.id(j.seq, "")
		s.add(j)
	} else {
		j.id = s.id(j.seq, "[]")
		s.add(j)
		for _, i := range j.request.Array.Indices() {
			sub := *j
			sub.index, sub.array, sub.subs = i, j, nil
			sub.id = s.id(j.seq, fmt.Sprintf("[%d]", i))
			j.subs = append(j.subs, &sub)
			s.add(&sub)
		}
	}
	if j.request.Hold {
		s.setHold(j, "u")
	}
	s.settle()
}

func (s *Server) add(j *job) {
	s.jobs[j.id] = j
	s.order = append(s.order, j)
}

func (s *Server) setHold(j *job, hold string) {
	for _, each := range append([]*job{j}, j.subs...) {
		each.hold, each.state = hold, "H"
	}
}

// Release is qrls: it removes a user's hold.
func (s *Server) Release(c Call) Reply {
	return s.each("qrls", c.Args, func(j *job) {
		if j.hold != "u" {
			return
		}
		for _, each := range append([]*job{j}, j.subs...) {
			each.hold, each.state = "", "Q"
		}
		s.settle()
	})
}

// each applies an action to the jobs named, under the lock, with qdel's messages.
func (s *Server) each(command string, ids []string, action func(*job)) Reply {
	var reply Reply
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		jobs := s.several(id)
		if len(jobs) == 0 {
			reply.Stderr += command + ": Unknown Job Id " + id + "\n"
			reply.Exit = 153
		}
		for _, j := range jobs {
			if j.ended() {
				reply.Stderr += command + ": Job has finished " + j.id + "\n"
				reply.Exit = 35
				continue
			}
			action(j)
		}
	}
	return reply
}

// settle decides what waits, runs and is dropped, until nothing changes.
func (s *Server) settle() {
	for s.step() {
	}
	s.changed.Broadcast()
}

func (s *Server) step() bool {
	for _, j := range s.order {
		if j.array != nil {
			continue
		}
		if j.state == "B" && !slices.ContainsFunc(j.subs, func(sub *job) bool { return !sub.ended() }) {
			s.finish(j, 0, 92, "")
			return true
		}
		if (j.state == "Q" || j.state == "H" && j.hold == "s") && s.resolve(j) {
			return true
		}
	}
	for _, j := range s.order {
		if j.state == "Q" && len(j.subs) == 0 && s.mayRun(j) && !s.closing {
			s.launch(j)
			return true
		}
	}
	return false
}

// resolve looks at dependencies; it reports whether the job's state changed.
func (s *Server) resolve(j *job) bool {
	verdict := ready
	for _, d := range j.depend {
		for _, id := range d.IDs {
			verdict = max(verdict, dependency(d.Kind, j.parents[id]))
		}
	}
	switch {
	case verdict == never:
		s.drop(j)
		return true
	case verdict == wait && j.state == "Q":
		s.setHold(j, "s")
		return true
	case verdict == ready && j.hold == "s":
		for _, each := range append([]*job{j}, j.subs...) {
			each.hold, each.state = "", "Q"
		}
		return true
	}
	return false
}

// verdict of a dependency, in order of weight.
type verdict int

const (
	ready verdict = iota
	wait
	never
)

// dependency decides one of them. A job that the server does not know (nil) can never
// satisfy it; a job that never ran satisfies nothing.
func dependency(kind string, parent *job) verdict {
	if parent == nil {
		return never
	}
	if kind == "after" && parent.runCount > 0 {
		return ready
	}
	if !parent.ended() {
		return wait
	}
	if parent.exit == nil {
		return never
	}
	ok := *parent.exit == 0
	if kind == "afterok" && !ok || kind == "afternotok" && ok {
		return never
	}
	return ready
}

// drop ends a job that never ran: no exit status, no comment.
func (s *Server) drop(j *job) {
	for _, each := range append([]*job{j}, j.subs...) {
		each.state, each.hold, each.substate = "F", "", 91
		if each.array != nil {
			each.state = "X"
		}
	}
	s.forget(j)
}

func (s *Server) forget(j *job) {
	if !s.config.NoHistory || j.array != nil {
		return
	}
	for _, each := range append([]*job{j}, j.subs...) {
		delete(s.jobs, each.id)
	}
}

// mayRun reports whether a node is free, and notes why the job can never run.
func (s *Server) mayRun(j *job) bool {
	if reason := s.neverFits(j.request); reason != "" {
		j.comment = "Can Never Run: " + reason
		return false
	}
	if j.array != nil && j.array.request.Array.Limit > 0 {
		alive := 0
		for _, sub := range j.array.subs {
			if sub.state == "R" || sub.state == "E" {
				alive++
			}
		}
		if alive >= j.array.request.Array.Limit {
			return false
		}
	}
	return s.busy < s.config.Nodes
}

func (s *Server) neverFits(request *pbs.Job) string {
	want := map[string]string{}
	for _, r := range request.Resources {
		want[r.Name] = r.Value
	}
	if chunks, err := pbs.ParseSelect(request.Resource("select")); err == nil {
		for _, r := range chunks[0].Resources {
			want[r.Name] = r.Value
		}
	}
	has := map[string]int64{"ngpus": int64(s.config.NodeGPUs), "ncpus": int64(s.config.NodeCores), "mem": s.config.NodeMemoryBytes}
	for _, name := range slices.Sorted(maps.Keys(has)) {
		if need, err := pbs.ParseSize(want[name]); err == nil && need > has[name] {
			return fmt.Sprintf("Insufficient amount of resource: %s (R: %s A: %d T: %d)", name, want[name], has[name], has[name])
		}
	}
	return ""
}

// finish records the end of a job.
func (s *Server) finish(j *job, exit, substate int, comment string) {
	j.exit, j.substate, j.comment, j.state = &exit, substate, comment, "F"
	if j.array != nil {
		j.state = "X"
	}
	s.forget(j)
	s.settleLater()
}

// settleLater has the caller's loop go on; finish is called under the lock.
func (s *Server) settleLater() { s.changed.Broadcast() }

// launch starts a job on a free node.
func (s *Server) launch(j *job) {
	s.busy++
	j.state, j.substate, j.started = "R", 42, time.Now()
	j.runCount++
	if j.array != nil {
		j.array.state = "B"
		if j.array.runCount == 0 {
			j.array.runCount, j.array.started = 1, j.started
		}
	}
	r := &run{server: s, job: j, began: j.started, cookie: newCookie(), nudge: make(chan struct{}, 1)}
	j.run = r
	j.cookies = append(j.cookies, r.cookie)
	s.running.Add(1)
	go r.do()
}
