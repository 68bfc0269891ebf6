package pbs

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// Resource is one entry of -l.
type Resource struct {
	Name, Value string
	Line        int
}

// Job is what a submission asks for, after precedence: what qsub sends to the
// server.
type Job struct {
	Name, Queue, Account, Project string
	Out, Err, Join, Keep          string
	Shell                         string
	Mail, MailTo                  string
	Hold, ExportAll, Rerunnable   bool
	Resources                     []Resource
	// Variables is the argument of -v that won, nil without one.
	Variables *string
	Array     *ArrayRange
	// Attributes are the keywords of -W.
	Attributes map[string]string
	// After is the earliest start, as given to -a.
	After string
	// Lines says which directive each option came from (0: command line); options
	// that were not given are missing.
	Lines map[byte]int
}

// ArrayRange is the argument of -J.
type ArrayRange struct {
	First, Last, Step int
	// Limit is the number of sub-jobs that may run at once; 0: no limit.
	Limit int
}

// Indices are the values of PBS_ARRAY_INDEX.
func (r ArrayRange) Indices() []int {
	var list []int
	for i := r.First; i <= r.Last; i += r.Step {
		list = append(list, i)
	}
	return list
}

// Resource gives the value asked for; empty if none was.
func (j *Job) Resource(name string) string {
	for _, r := range j.Resources {
		if r.Name == name {
			return r.Value
		}
	}
	return ""
}

// Walltime is the limit asked for; 0 without one.
func (j *Job) Walltime() time.Duration {
	limit, err := ParseWalltime(j.Resource("walltime"))
	if err != nil {
		return 0
	}
	return limit
}

// Merge applies PBS's precedence: the command line over the directives; within one
// level the last wins, except that among directives the first of a -l resource
// wins. -l and -W merge by name, -v does not: one on the command line replaces that
// of the script.
//
// It fails with a *Refusal as qsub would.
func Merge(commandLine, directives []Setting) (*Job, error) {
	job := &Job{Rerunnable: true, Attributes: map[string]string{}, Lines: map[byte]int{}}
	for _, s := range directives {
		if err := job.apply(s, true); err != nil {
			return nil, inDirective(err, s)
		}
	}
	fromScript := job.Resources
	job.Resources = nil
	for _, s := range commandLine {
		if err := job.apply(s, false); err != nil {
			return nil, err
		}
	}
	for _, r := range fromScript {
		if job.Resource(r.Name) == "" {
			job.Resources = append(job.Resources, r)
		}
	}
	if job.Array != nil && !job.Rerunnable {
		return nil, &Refusal{Text: "qsub:  cannot submit non-rerunable Array Job", Exit: ExitFault, Line: job.Lines['r']}
	}
	if err := job.checkSelect(); err != nil {
		return nil, err
	}
	return job, nil
}

func inDirective(err error, s Setting) error {
	refusal, ok := err.(*Refusal)
	if !ok {
		return err
	}
	return &Refusal{Text: refusal.Text, Exit: refusal.Exit, Line: s.Line}
}

func (j *Job) apply(s Setting, directive bool) error {
	j.Lines[s.Option] = s.Line
	switch s.Option {
	case 'N':
		j.Name = s.Value
		return CheckName(s.Value)
	case 'o', 'e':
		return j.applyPath(s)
	case 'j':
		j.Join = s.Value
		return oneOf(s, "oe", "eo", "n")
	case 'k':
		j.Keep = s.Value
		return lettersOf(s, "oed", "n")
	case 'r':
		j.Rerunnable = s.Value == "y"
		return oneOf(s, "y", "n")
	case 'q':
		j.Queue = s.Value
		return checkDestination(s.Value)
	case 'A':
		j.Account = s.Value
	case 'P':
		j.Project = s.Value
		if strings.Contains(s.Value, "/") {
			return &Refusal{Text: "qsub: Illegal attribute or resource value project", Exit: ExitIllegalValue}
		}
	case 'S':
		j.Shell = s.Value
	case 'm':
		j.Mail = s.Value
		return lettersOf(s, "abej", "n")
	case 'M':
		j.MailTo = s.Value
	case 'h':
		j.Hold = true
	case 'a':
		j.After = s.Value
	case 'V':
		j.ExportAll = true
	case 'v':
		j.Variables = &s.Value
	case 'J':
		return j.applyArray(s)
	case 'l':
		return j.applyResources(s, directive)
	case 'W':
		return j.applyAttributes(s)
	case 'p':
		if priority, err := strconv.Atoi(s.Value); err != nil || priority < -1024 || priority > 1023 {
			return illegal('p')
		}
	}
	return nil
}

func oneOf(s Setting, values ...string) error {
	if slices.Contains(values, s.Value) {
		return nil
	}
	return illegal(s.Option)
}

func lettersOf(s Setting, letters, alone string) error {
	if s.Value == alone || s.Value != "" && strings.Trim(s.Value, letters) == "" {
		return nil
	}
	return illegal(s.Option)
}

func (j *Job) applyPath(s Setting) error {
	// host:path; a host part that does not resolve is refused, and a path with a
	// colon is taken for one.
	if s.Value == "" || strings.Contains(s.Value, ":") {
		return illegal(s.Option)
	}
	if s.Option == 'o' {
		j.Out = s.Value
	} else {
		j.Err = s.Value
	}
	return nil
}

// MaxNameBytes is the longest job name. Source: docs/pbs.md, -N (19.x and later).
const MaxNameBytes = 230

// CheckName says whether qsub takes a job name.
func CheckName(name string) error {
	if len(name) > MaxNameBytes {
		return &Refusal{Text: "qsub: Job name is too long ", Exit: ExitUsage}
	}
	if name == "" || strings.IndexFunc(name, notNameRune) >= 0 {
		return illegal('N')
	}
	return nil
}

func notNameRune(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_+.", r))
}

// MaxQueueBytes is the longest queue name. Source: docs/pbs.md, -q.
const MaxQueueBytes = 15

func checkDestination(destination string) error {
	queue, _, _ := strings.Cut(destination, "@")
	if queue == "" && destination != "" && destination[0] == '@' {
		return nil
	}
	if queue == "" || len(queue) > MaxQueueBytes || strings.ContainsAny(queue, " \t\"'") {
		return &Refusal{Text: "qsub: illegally formed destination: " + destination, Exit: ExitUsage}
	}
	return nil
}

func (j *Job) applyArray(s Setting) error {
	bounds, limitText, hasLimit := strings.Cut(s.Value, "%")
	bounds, stepText, hasStep := strings.Cut(bounds, ":")
	firstText, lastText, isRange := strings.Cut(bounds, "-")
	r := ArrayRange{Step: 1}
	fine := isRange && natural(firstText, &r.First) && natural(lastText, &r.Last) &&
		(!hasStep || natural(stepText, &r.Step) && r.Step > 0) &&
		(!hasLimit || natural(limitText, &r.Limit) && r.Limit > 0)
	if !fine || r.Last <= r.First {
		return illegal('J')
	}
	j.Array = &r
	return nil
}

func natural(text string, value *int) bool {
	n, err := strconv.ParseUint(text, 10, 31)
	*value = int(n)
	return err == nil
}

func (j *Job) applyResources(s Setting, firstWins bool) error {
	for _, item := range strings.Split(s.Value, ",") {
		name, value, hasValue := strings.Cut(item, "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if name == "" {
			return illegal('l')
		}
		r := Resource{Name: name, Value: value, Line: s.Line}
		if err := checkResource(r); err != nil {
			return err
		}
		if !hasValue && name == "walltime" {
			continue
		}
		at := slices.IndexFunc(j.Resources, func(other Resource) bool { return other.Name == name })
		switch {
		case at < 0:
			j.Resources = append(j.Resources, r)
		case !firstWins:
			j.Resources[at] = r
		}
	}
	return nil
}

func checkResource(r Resource) error {
	switch r.Name {
	case "walltime":
		if r.Value == "" || strings.Trim(r.Value, "0:.") == "" {
			return nil // taken, and ignored
		}
		if _, err := ParseWalltime(r.Value); err != nil {
			return badResource(r.Name)
		}
	case "mem", "vmem", "pmem", "pvmem", "file":
		if _, err := ParseSize(r.Value); err != nil {
			return badResource(r.Name)
		}
	case "ncpus", "ngpus":
		var n int
		if !natural(r.Value, &n) {
			return badResource(r.Name)
		}
	case "select":
		_, err := ParseSelect(r.Value)
		return err
	case "nodes":
		if strings.Contains(r.Value, ":gpus=") {
			return &Refusal{Text: "qsub: node(s) specification error", Exit: ExitNodeSpec}
		}
	case "soft_walltime":
		return &Refusal{Text: "qsub: Cannot set attribute, read only or insufficient permission", Exit: 155}
	}
	return nil
}

func badResource(name string) error {
	return &Refusal{Text: "qsub: Illegal attribute or resource value Resource_List." + name, Exit: ExitIllegalValue}
}

// attributeNames are the keywords of -W that the server has.
var attributeNames = []string{
	"block", "create_resv_from_job", "cred", "depend", "group_list", "max_run_subjobs", "pwd", "release_nodes_on_stageout",
	"root", "run_count", "sandbox", "stagein", "stageout", "tolerate_node_failures", "umask",
}

func (j *Job) applyAttributes(s Setting) error {
	for _, item := range splitAttributes(s.Value) {
		name, value, hasValue := strings.Cut(item, "=")
		if !hasValue || name == "" {
			return illegal('W')
		}
		if !slices.Contains(attributeNames, name) {
			return &Refusal{Text: "qsub: Error (15002) submitting job", Exit: ExitNoAttribute}
		}
		if name == "umask" && (value == "" || strings.Trim(value, "0123456789") != "") {
			return illegal('W')
		}
		if name == "depend" {
			if _, err := ParseDepend(value); err != nil {
				return err
			}
		}
		if name == "max_run_subjobs" && j.Array != nil {
			natural(value, &j.Array.Limit)
		}
		j.Attributes[name] = value
	}
	return nil
}

// splitAttributes splits at commas; a part without '=' belongs to the value before
// it, as in "depend=afterok:1,afterany:2".
func splitAttributes(text string) []string {
	var items []string
	for _, part := range strings.Split(text, ",") {
		if len(items) > 0 && !strings.Contains(part, "=") {
			items[len(items)-1] += "," + part
			continue
		}
		items = append(items, part)
	}
	return items
}

// Dependency is one entry of -W depend=.
type Dependency struct {
	// Kind is after, afterok, afternotok or afterany.
	Kind string
	IDs  []string
}

// ParseDepend reads the value of -W depend=.
func ParseDepend(text string) ([]Dependency, error) {
	var list []Dependency
	for _, part := range strings.Split(text, ",") {
		fields := strings.Split(part, ":")
		if !slices.Contains([]string{"after", "afterok", "afternotok", "afterany"}, fields[0]) || len(fields) < 2 {
			return nil, illegal('W')
		}
		for _, id := range fields[1:] {
			if !validDependencyID(id) {
				return nil, illegal('W')
			}
		}
		list = append(list, Dependency{Kind: fields[0], IDs: fields[1:]})
	}
	return list, nil
}

// validDependencyID reports whether a dependency may name id: "12", "12.server",
// "12[].server", but not one sub-job.
func validDependencyID(id string) bool {
	number, _, _ := strings.Cut(id, ".")
	number = strings.TrimSuffix(number, "[]")
	return number != "" && strings.Trim(number, "0123456789") == ""
}

// wholeJob are entries of -l that may stand beside select.
var wholeJob = []string{"walltime", "min_walltime", "max_walltime", "cput", "pcput", "nice", "software"}

// perHost are the entries that may not. Custom resources are the site's affair:
// those that are not per host may stand beside select.
var perHost = []string{"ncpus", "mem", "vmem", "ngpus", "mpiprocs", "ompthreads", "arch", "host", "vnode", "nodes", "naccelerators"}

func (j *Job) checkSelect() error {
	if j.Resource("select") == "" && j.Resource("place") == "" {
		return nil
	}
	for _, r := range j.Resources {
		if slices.Contains(perHost, r.Name) && !slices.Contains(wholeJob, r.Name) {
			return &Refusal{
				Text: `qsub: "-lresource=" cannot be used with "select" or "place", resource is: ` + r.Name,
				Exit: ExitSelectMix, Line: r.Line,
			}
		}
	}
	return nil
}
