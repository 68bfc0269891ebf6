package pbsgen

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"mvdan.cc/sh/v3/syntax"

	"github.com/glm46/glm46/pbsgen/pbs"
)

// Level says how bad a finding is.
type Level string

// The levels: qsub refuses the script, or the job does not do what the script says;
// it works, with a surprise; good to know.
const (
	Error   Level = "error"
	Warning Level = "warning"
	Note    Level = "note"
)

// Finding is one remark about a script.
type Finding struct {
	// Line is the line in the file, from 1; 0 for the file as a whole.
	Line  int   `json:"line"`
	Level Level `json:"level"`
	// What is the case, Why it matters, and what to Do; Why and Do may be empty.
	What string `json:"what"`
	Why  string `json:"why,omitempty"`
	Do   string `json:"do,omitempty"`
}

func (f Finding) String() string {
	text := string(f.Level) + ": " + f.What
	if f.Line > 0 {
		text = strconv.Itoa(f.Line) + ": " + text
	}
	for _, more := range []string{f.Why, f.Do} {
		if more != "" {
			text += "; " + more
		}
	}
	return text
}

// Check explains a job script that somebody edited: what qsub would refuse, what it
// would silently ignore, and what will surprise in the job. Findings come by line.
//
// It fails where the file cannot be read.
func Check(path string) ([]Finding, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("check job script: %w", err)
	}
	return CheckScript(filepath.Base(path), data), nil
}

// CheckScript is Check on a script's text; name is its file name, which qsub uses
// as the job's name where the script gives none.
func CheckScript(name string, data []byte) []Finding {
	c := checker{data: data, lines: strings.Split(string(data), "\n")}
	c.file(name)
	script, err := pbs.Scan(data)
	if err != nil {
		c.refusal(err, "convert the file: sed -i 's/\\r$//' "+name)
		script, _ = pbs.Scan(bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n")))
	}
	c.tree, c.unreadable = syntax.NewParser(syntax.Variant(syntax.LangBash)).Parse(bytes.NewReader(bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n"))), "")
	c.submits = len(script.Directives) == 0 && c.unreadable == nil && callsQsub(c.tree)
	c.scanned(script)
	if job := c.job(script, name); job != nil && len(script.Directives) > 0 {
		c.request(job)
		c.walltime(job)
	}
	c.shell()
	slices.SortStableFunc(c.findings, func(a, b Finding) int { return a.Line - b.Line })
	return c.findings
}

type checker struct {
	data  []byte
	lines []string
	// tree is the script as bash reads it, where it can.
	tree       *syntax.File
	unreadable error
	// submits says that the script calls qsub and is no job itself.
	submits  bool
	findings []Finding
}

func (c *checker) add(line int, level Level, what, why, do string) {
	c.findings = append(c.findings, Finding{line, level, what, why, do})
}

func (c *checker) refusal(err error, do string) {
	line := 0
	var refused *pbs.Refusal
	if errors.As(err, &refused) {
		line = refused.Line
	}
	c.add(line, Error, "qsub refuses the script: "+strings.TrimSpace(err.Error()), "", do)
}

func (c *checker) file(name string) {
	if bytes.HasPrefix(c.data, []byte("\xef\xbb\xbf")) {
		c.add(1, Error, "the file begins with a byte order mark", "it hides a directive or the #! line behind it", "save it as UTF-8 without BOM")
	}
	if !bytes.HasPrefix(c.data, []byte("#!")) && !bytes.HasPrefix(c.data, []byte("\xef\xbb\xbf#!")) {
		c.add(1, Warning, "no #! line", "the login shell runs the script, whichever that is", "begin with #!/bin/bash")
	}
	if bytes.IndexByte(c.data, 0) >= 0 {
		c.add(0, Error, "the file holds zero bytes", "it is no script", "")
	}
}

// scanned looks at what PBS takes for directives, and what it does not.
func (c *checker) scanned(script pbs.Script) {
	if len(script.Directives) == 0 && !c.submits {
		c.add(0, Warning, "no #PBS directives", "everything must then come from qsub's command line", "")
	}
	for _, d := range script.Ignored {
		c.add(d.Line, Error, "this directive is ignored: "+strings.TrimSpace(d.Text),
			fmt.Sprintf("PBS stops reading directives at the first command, line %d", script.Stop), "move it above that line")
	}
	for _, d := range script.Directives {
		c.directive(d)
	}
	nearly := regexp.MustCompile(`(?i)^\s*#+\s*PBS\s+-`)
	for i, line := range c.lines {
		if nearly.MatchString(line) && !strings.HasPrefix(strings.TrimLeft(line, " \t"), pbs.Prefix) {
			c.add(i+1, Note, "this is a comment, not a directive: "+strings.TrimSpace(line), "", "write #PBS, in capitals and without a space, if it should count")
		}
	}
}

func (c *checker) directive(d pbs.Directive) {
	switch {
	case d.Text[0] != ' ' && d.Text[0] != '\t':
		c.add(d.Line, Error, "#PBS is glued to what follows", "qsub takes it for a directive and refuses it", "put a space after #PBS, or before PBS for a comment")
		return
	case strings.Contains(d.Text, " #"):
		c.add(d.Line, Error, "a comment stands behind the directive", "qsub has none, and refuses the script", "put the comment on a line of its own")
		return
	}
	if strings.ContainsAny(d.Text, "$`") && !strings.Contains(d.Text, "'") {
		c.add(d.Line, Warning, "nothing is expanded in a directive: "+strings.TrimSpace(d.Text), "no shell reads it", "write the value, or pass it to qsub")
	}
	if strings.Contains(d.Text, ":gpus=") || strings.Contains(d.Text, " -t ") {
		c.add(d.Line, Warning, "this is TORQUE's syntax", "OpenPBS and PBS Professional have select= and -J", "see docs/pbs.md")
	}
}

// job applies qsub's rules; nil if it would refuse.
func (c *checker) job(script pbs.Script, name string) *pbs.Job {
	var all []pbs.Setting
	fine := true
	for _, d := range script.Directives {
		settings, err := pbs.DirectiveSettings(d)
		if err != nil {
			fine = false
			if !c.has(d.Line, Error) {
				c.refusal(err, "see docs/pbs.md for the options")
			}
			continue
		}
		all = append(all, settings...)
	}
	c.repeated(all)
	job, err := pbs.Merge(nil, all)
	if err != nil {
		c.refusal(err, adviceFor(err))
		return nil
	}
	if job.Name == "" && pbs.CheckName(name) != nil {
		c.add(0, Error, fmt.Sprintf("the file name %q becomes the job's name, which qsub refuses", name), "", "add #PBS -N NAME: letters, digits and -_+. only")
	}
	if !fine {
		return nil
	}
	return job
}

func (c *checker) has(line int, level Level) bool {
	return slices.ContainsFunc(c.findings, func(f Finding) bool { return f.Line == line && f.Level == level })
}

func adviceFor(err error) string {
	text := err.Error()
	switch {
	case strings.Contains(text, "walltime"):
		return "write HH:MM:SS; PBS knows no units"
	case strings.Contains(text, "-N value"):
		return "a job name has letters, digits and -_+. only"
	case strings.Contains(text, "-J value"):
		return "write FIRST-LAST, as in 0-13%4: no lists, and more than one element"
	case strings.Contains(text, "-o value"), strings.Contains(text, "-e value"):
		return "a path in -o and -e must not hold a colon: what stands before it is taken for a host"
	case strings.Contains(text, "non-rerunable"):
		return "remove -r n: array jobs are always rerunnable"
	case strings.Contains(text, "cannot be used with"):
		return "put it into the chunk, select=1:ncpus=..:ngpus=..:mem=.., or give up select"
	}
	return ""
}

// repeated finds options of which only one can count.
func (c *checker) repeated(all []pbs.Setting) {
	first := map[string]int{}
	for _, s := range all {
		switch s.Option {
		case 'W':
		case 'l':
			for _, item := range strings.Split(s.Value, ",") {
				name, _, _ := strings.Cut(item, "=")
				if line, ok := first["l"+name]; ok {
					c.add(s.Line, Warning, "-l "+name+" is given again", fmt.Sprintf("among directives the first counts, line %d", line), "remove one")
				} else {
					first["l"+name] = s.Line
				}
			}
		default:
			key := string(s.Option)
			if _, ok := first[key]; ok {
				c.add(s.Line, Warning, "-"+key+" is given again", "the last counts; -v lists are not joined", "remove one")
			}
			first[key] = s.Line
		}
	}
}

// request looks at what is asked for, and what is silently left to a default.
func (c *checker) request(job *pbs.Job) {
	asked := map[string]string{}
	for _, r := range job.Resources {
		asked[r.Name] = r.Value
	}
	line := resourceLine(job, "select")
	if chunks, err := pbs.ParseSelect(job.Resource("select")); err == nil {
		for _, chunk := range chunks {
			for _, r := range chunk.Resources {
				asked[r.Name] = r.Value
			}
		}
	}
	for _, d := range []struct{ name, why string }{
		{"ncpus", "PBS gives 1 core unless the queue says otherwise; vLLM on 8 GPUs needs at least 10"},
		{"mem", "where PBS uses cgroups a job without mem gets 256 MB, and vLLM is killed while loading"},
		{"ngpus", "PBS gives no GPU unless the queue says otherwise"},
	} {
		if _, ok := asked[d.name]; !ok {
			c.add(line, Warning, d.name+" is not asked for", d.why, "add it to select, or make sure that the queue fixes it")
		}
	}
	if bytes, err := pbs.ParseSize(asked["mem"]); err == nil && bytes < 1<<30 {
		c.add(line, Error, fmt.Sprintf("mem=%s is %d bytes", asked["mem"], bytes), "a number without a unit counts bytes", "write mem=1900gb")
	}
	c.logs(job)
	if job.ExportAll {
		c.add(job.Lines['V'], Warning, "-V copies the whole environment of the submitting shell", "also stale variables: CUDA_VISIBLE_DEVICES, a virtual environment", "name what is needed with -v")
	}
	if job.Variables != nil {
		c.add(job.Lines['v'], Note, "a -v on qsub's command line replaces this one", "lists are not joined", "repeat these variables there")
	}
	if umask, err := strconv.ParseUint(job.Attributes["umask"], 8, 32); err == nil && umask > 0o777 {
		c.add(job.Lines['W'], Warning, "umask "+job.Attributes["umask"]+" is no umask", "", "write umask=027")
	}
}

func resourceLine(job *pbs.Job, name string) int {
	for _, r := range job.Resources {
		if r.Name == name {
			return r.Line
		}
	}
	return job.Lines['l']
}

func (c *checker) logs(job *pbs.Job) {
	if strings.Contains(job.Out, "$") {
		c.add(job.Lines['o'], Warning, "-o does not expand variables", "the file would be named with the dollar sign", "name a folder, with a slash at the end: PBS puts <job id>.OU there")
	}
	if dir := logFolder(job.Out); filepath.IsAbs(dir) {
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			c.add(job.Lines['o'], Error, "the log folder "+dir+" does not exist here", "qsub accepts that, and the log is lost", "mkdir -p it before qsub")
		}
	}
	if !strings.Contains(job.Keep, "d") {
		c.add(job.Lines['k'], Note, "the log stays on the node until the job ends", "", "add #PBS -k oed to read it meanwhile (PBS 18 and later)")
	}
}

func logFolder(out string) string {
	if strings.HasSuffix(out, "/") {
		return filepath.Clean(out)
	}
	return filepath.Dir(out)
}

var exportedSeconds = regexp.MustCompile(`^\s*(?:export\s+)?(?:walltime_s|GLM46_WALLTIME_S)=["']?([0-9]+)\b`)

// walltime compares the limit that PBS gets with the one that glm46 is told.
func (c *checker) walltime(job *pbs.Job) {
	line := resourceLine(job, "walltime")
	asked := job.Walltime()
	if asked == 0 {
		c.add(line, Warning, "no walltime", "the site's default applies, which may be an hour, or no limit at all", "add #PBS -l walltime=HH:MM:SS")
		return
	}
	if asked < 5*time.Minute {
		c.add(line, Warning, fmt.Sprintf("the walltime is %v", asked), "loading the model alone takes minutes; 00:10 is ten seconds", "write HH:MM:SS")
	}
	for i, text := range c.lines {
		found := exportedSeconds.FindStringSubmatch(text)
		if found == nil {
			continue
		}
		seconds, err := strconv.ParseInt(found[1], 10, 64)
		if err == nil && time.Duration(seconds)*time.Second == asked {
			return
		}
		level, why := Error, "glm46 would still be measuring when PBS kills the job"
		if err == nil && time.Duration(seconds)*time.Second < asked {
			level, why = Warning, "glm46 stops earlier than it must"
		}
		c.add(i+1, level, fmt.Sprintf("glm46 is told %s s, PBS %d s (line %d)", found[1], int64(asked.Seconds()), line), why,
			fmt.Sprintf("write %d here", int64(asked.Seconds())))
		return
	}
	c.add(0, Warning, "glm46 is not told the walltime", "a job cannot see its own limit, and PBS gives no warning before it",
		fmt.Sprintf("export GLM46_WALLTIME_S=%d", int64(asked.Seconds())))
}

// shell looks at the script as bash does.
func (c *checker) shell() {
	if i := bytes.IndexByte(c.data, '\n'); i > 0 && bytes.HasPrefix(c.data, []byte("#!")) && !bytes.Contains(c.data[:i], []byte("bash")) {
		c.add(1, Note, "the script is not for bash", "its commands are not checked", "")
		return
	}
	if err := c.unreadable; err != nil {
		line := 0
		var parse syntax.ParseError
		if errors.As(err, &parse) {
			line = int(parse.Pos.Line())
		}
		c.add(line, Error, "bash cannot read the script: "+strings.TrimPrefix(err.Error(), fmt.Sprintf("%d:", line)), "", "")
		return
	}
	c.commands(c.tree)
}

func (c *checker) commands(tree *syntax.File) {
	strict := false
	syntax.Walk(tree, func(node syntax.Node) bool {
		call, ok := node.(*syntax.CallExpr)
		if !ok || len(call.Args) == 0 {
			return true
		}
		line := int(call.Pos().Line())
		words := literals(call)
		if words[0] == "exec" && len(words) > 1 {
			words = words[1:]
		}
		switch words[0] {
		case "set":
			strict = strict || slices.Contains(words, "pipefail") && slices.ContainsFunc(words, func(w string) bool { return strings.HasPrefix(w, "-e") })
		case "setsid":
			c.add(line, Error, "setsid takes a program out of the job", "PBS ends the processes of the job's session: this one would live on, on somebody else's node", "remove setsid")
		case "nohup", "disown":
			c.add(line, Warning, words[0]+" has no use in a job", "PBS kills what is left when the script ends", "remove it, and wait for the program")
		case "eval":
			c.add(line, Warning, "eval runs text as a command", "a value from qsub -v could become one", "use the value in quotes instead")
		}
		return true
	})
	if !strict {
		c.add(0, Warning, "no set -euo pipefail", "the script goes on after a failed command", "add it after the directives")
	}
	if !c.submits && bytes.Contains(c.data, []byte(pbs.Prefix)) {
		c.lastCommand(tree)
	}
}

// lastCommand wants exec, or the script's own wait: else a signal reaches glm46 and
// the script at the same time, and the script's status hides glm46's.
func (c *checker) lastCommand(tree *syntax.File) {
	runs, waits, execs := 0, false, false
	syntax.Walk(tree, func(node syntax.Node) bool {
		if call, ok := node.(*syntax.CallExpr); ok && len(call.Args) > 0 {
			words := literals(call)
			if slices.Contains(words, "run") {
				runs = int(call.Pos().Line())
				execs = words[0] == "exec"
			}
			waits = waits || words[0] == "wait"
		}
		return true
	})
	switch {
	case runs == 0:
		c.add(0, Warning, `no "glm46 run" in the script`, "", "end with: exec \"$program\" run </dev/null")
	case !execs && !waits:
		c.add(runs, Warning, "glm46 runs without exec", "the script's own end may hide its exit status", "put exec before it, as the last line")
	}
}

// callsQsub says whether a script submits jobs and does not measure: submit.sh.
func callsQsub(tree *syntax.File) bool {
	submits, runs := false, false
	syntax.Walk(tree, func(node syntax.Node) bool {
		if call, ok := node.(*syntax.CallExpr); ok && len(call.Args) > 0 {
			submits = submits || call.Args[0].Lit() == "qsub"
			runs = runs || slices.Contains(literals(call), "run")
		}
		return true
	})
	return submits && !runs
}

// literals are the words of a command, "" for those that are not plain text.
func literals(call *syntax.CallExpr) []string {
	words := make([]string, len(call.Args))
	for i, w := range call.Args {
		words[i] = w.Lit()
	}
	return words
}
