package pbsgen

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"text/template"
	"time"
	"unicode"

	"github.com/glm46/glm46/pbsgen/pbs"
)

//go:embed job.pbs.tmpl
var jobTemplate string

//go:embed submit.sh.tmpl
var submitTemplate string

var templates = func() *template.Template {
	t := template.New("job").Funcs(template.FuncMap{"word": shellWord, "references": shellReferences, "comment": comment})
	template.Must(t.Parse(jobTemplate))
	template.Must(t.New("submit").Parse(submitTemplate))
	return t
}()

// EnvironmentNames are the variables of the job interface, in the order in which
// the runner's header lists them. Source: docs/pbs.md, the runner.
var EnvironmentNames = []string{
	"EXP_NAME", "ENFORCE_EAGER", "ENABLE_EP", "CONTEXT_PARALLEL_SIZE", "MAX_MODEL_LEN", "KV_CACHE_DTYPE",
	"ENABLE_PREFIX_CACHING", "ENABLE_CHUNKED_PREFILL", "ENABLE_MTP", "MTP_NUM_TOKENS", "MTP_METHOD", "SPECULATIVE_MODEL",
	"DATASET_TYPE", "NUM_SAMPLES", "MAX_TOKENS", "GPU_MEMORY_UTILIZATION", "SWAP_SPACE", "TENSOR_PARALLEL_SIZE", "DTYPE",
}

// script is what the template of a job needs.
type script struct {
	Title      string   // one line
	About      []string // lines of the header
	Name       string
	Directives []string // without "#PBS "
	Path       string

	Root, Binary, Logs string
	// LogsInside says that Logs moves with the project.
	LogsInside, CopyBinary, Prefetch bool
	Profile                          Profile
	Walltime                         string
	WalltimeSeconds                  int64
	// Run are the arguments of "glm46 run", each one a word.
	Run []string
	// SubJobs are the --exp values of an array, by index; Run then lacks --exp.
	SubJobs []subJob
	Plan    string

	Environment []pbs.Variable
	// ContainerEnv are the variables handed into an image by name.
	ContainerEnv []string
	Resubmit     int
	// PassNames are variables that a resubmission passes on, some on each line;
	// SiteVariables is the -v of the script, which a -v on the command line replaces.
	PassNames     []string
	SiteVariables string
}

type subJob struct {
	Index int
	Exp   string
	Note  string
}

// kind is what the kinds of job differ in.
type kind struct {
	title   string
	about   []string
	name    string
	run     []string
	subJobs []subJob
	hours   float64
	// limit replaces the walltime's choice.
	limit time.Duration
	// pass says that the environment decides what is measured.
	pass bool
}

// render writes the script of one job.
func (o Options) render(k kind) ([]byte, error) {
	o, err := o.complete()
	if err != nil {
		return nil, err
	}
	if err := o.Profile.missing(); err != nil {
		return nil, err
	}
	limit := k.limit
	if limit == 0 {
		limit, _ = o.limit(k.hours)
	}
	limit = o.Profile.bounded(limit)
	s := script{
		Title: k.title, About: k.about, Name: k.name, Path: o.Path, Root: o.Root, Binary: o.Binary, Logs: o.logs(),
		Profile: o.Profile, Walltime: pbs.FormatWalltime(limit), WalltimeSeconds: int64(limit / time.Second),
		Run: slices.Concat(k.run, o.RunArgs), SubJobs: k.subJobs, Plan: o.Plan, Resubmit: o.Resubmit,
		SiteVariables: o.Profile.variableList(), LogsInside: !filepath.IsAbs(o.Profile.Logs), CopyBinary: isYes(o.Profile.CopyBinary), Prefetch: isYes(o.Profile.Prefetch),
	}
	if k.pass {
		s.PassNames = wrapWords(EnvironmentNames, 72, "")
	}
	for _, name := range slices.Sorted(maps.Keys(o.Profile.Environment)) {
		s.Environment = append(s.Environment, pbs.Variable{Name: name, Value: o.Profile.Environment[name]})
	}
	s.ContainerEnv = slices.Compact(slices.Sorted(slices.Values(slices.Concat(serverVariables, o.Profile.Container.Env, slices.Collect(maps.Keys(o.Profile.Environment))))))
	if s.Directives, err = o.directives(s); err != nil {
		return nil, err
	}
	return execute("job", s)
}

func execute(name string, data any) ([]byte, error) {
	var b bytes.Buffer
	if err := templates.ExecuteTemplate(&b, name, data); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// serverVariables reach the server in an image that takes variables by name only.
// Source: docs/node.md, environment of the server.
var serverVariables = []string{
	"CUDA_DEVICE_ORDER", "CUDA_VISIBLE_DEVICES", "FLASHINFER_WORKSPACE_BASE", "HF_HOME", "HF_HUB_OFFLINE", "HF_MODULES_CACHE",
	"NO_PROXY", "OMP_NUM_THREADS", "PYTHONNOUSERSITE", "TMPDIR", "TORCHINDUCTOR_CACHE_DIR", "TRANSFORMERS_OFFLINE",
	"TRITON_CACHE_DIR", "VLLM_CACHE_ROOT", "VLLM_ENGINE_READY_TIMEOUT_S", "VLLM_HOST_IP", "VLLM_NO_USAGE_STATS",
	"VLLM_RPC_BASE_PATH", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "no_proxy",
}

// complete checks the options and fills in defaults.
func (o Options) complete() (Options, error) {
	if o.Profile.isZero() {
		generic, err := LoadProfile("generic")
		if err != nil {
			return o, err
		}
		o.Profile = generic
	}
	o.Profile = o.Profile.withDefaults()
	if faults := o.Profile.validate(); len(faults) > 0 {
		for i := range faults {
			faults[i].File = "profile " + o.Profile.Name
		}
		return o, &ProfileError{faults}
	}
	if !filepath.IsAbs(o.Root) {
		return o, fmt.Errorf("the project's folder %q is not absolute", o.Root)
	}
	if o.Path != "" && !filepath.IsAbs(o.Path) {
		o.Path = filepath.Join(o.Root, o.Path)
	}
	if o.Binary == "" {
		o.Binary = filepath.Join(o.Root, "glm46")
	}
	if o.SafetyFactor == 0 {
		o.SafetyFactor = DefaultSafetyFactor
	}
	if o.SafetyFactor < 1 {
		return o, fmt.Errorf("safety factor %g: want at least 1", o.SafetyFactor)
	}
	if o.Resubmit < 0 || o.Resubmit > MaxResubmit {
		return o, fmt.Errorf("resubmit %d: want 0 (never) to %d", o.Resubmit, MaxResubmit)
	}
	for what, path := range map[string]string{"project's folder": o.Root, "binary": o.Binary, "plan file": o.Plan, "script": o.Path} {
		if strings.IndexFunc(path, unicode.IsControl) >= 0 {
			return o, fmt.Errorf("the path of the %s, %q, holds control characters: choose another", what, path)
		}
	}
	return o, nil
}

// MaxResubmit bounds how often a job may submit itself.
const MaxResubmit = 20

// MissingError says that the site wants something the profile does not have.
type MissingError struct {
	Profile string
	Fields  []string
}

func (e *MissingError) Error() string {
	return fmt.Sprintf(`profile %s needs %s: write a file with "preset: %s" and "%s: ..." and give it with --profile, or use gen-pbs --interactive`,
		e.Profile, strings.Join(e.Fields, " and "), e.Profile, e.Fields[0])
}

// missing fails with a *MissingError.
func (p Profile) missing() error {
	have := map[string]string{"project": p.Project, "account": p.Account, "group_list": p.GroupList, "queue": p.Queue, "model": p.Model}
	var fields []string
	for _, field := range p.Requires {
		if have[field] == "" {
			fields = append(fields, field)
		}
	}
	if fields == nil {
		return nil
	}
	return &MissingError{p.Name, fields}
}

// logs is the absolute log folder.
func (o Options) logs() string {
	if filepath.IsAbs(o.Profile.Logs) {
		return o.Profile.Logs
	}
	return filepath.Join(o.Root, o.Profile.Logs)
}

// directives are the #PBS lines, in the order in which they stand.
func (o Options) directives(s script) ([]string, error) {
	p := o.Profile
	var d directiveList
	d.add("-N", s.Name)
	d.addIf(p.Queue != "", "-q", p.Queue)
	d.addIf(p.Project != "", "-P", p.Project)
	d.addIf(p.Account != "", "-A", p.Account)
	d.addIf(p.GroupList != "", "-W", "group_list="+p.GroupList)
	d.addIf(p.Select != "", "-l", "select="+p.Select)
	d.addIf(p.Place != "", "-l", "place="+p.Place)
	for _, r := range p.Resources {
		d.add("-l", r)
	}
	d.add("-l", "walltime="+s.Walltime)
	if len(s.SubJobs) > 0 {
		bounds := fmt.Sprintf("0-%d", len(s.SubJobs)-1)
		if o.Simultaneous > 0 && p.arrayLimit() {
			bounds += fmt.Sprintf("%%%d", o.Simultaneous)
		}
		d.add("-J", bounds)
	} else {
		d.add("-r", "n")
	}
	d.add("-j", "oe")
	d.addIf(p.Keep != "none", "-k", p.Keep)
	// PBS takes a colon for the end of a host name: such a project logs to the
	// folder of submission, which is PBS's default.
	d.addIf(!strings.ContainsAny(s.Logs, ":^"), "-o", s.Logs+"/")
	d.add("-W", "umask="+p.Umask)
	d.add("-S", "/bin/bash")
	d.addIf(p.Mail.To != "", "-M", p.Mail.To)
	d.addIf(p.Mail.To != "", "-m", orElse(p.Mail.When, "ae"))
	d.addIf(s.SiteVariables != "", "-v", s.SiteVariables)
	for _, text := range p.Directives {
		d.lines = append(d.lines, strings.TrimSpace(text))
	}
	return d.lines, errors.Join(d.err, checkDirectives(d.lines))
}

// variableList is the argument of -v for the site's variables.
func (p Profile) variableList() string {
	var items []string
	for _, name := range slices.Sorted(maps.Keys(p.Variables)) {
		items = append(items, name+"="+p.Variables[name])
	}
	return strings.Join(items, ",")
}

type directiveList struct {
	lines []string
	err   error
}

func (d *directiveList) add(option, value string) {
	quoted, ok := pbs.Quote(value)
	if !ok {
		d.err = errors.Join(d.err, fmt.Errorf("%s %q cannot be written in a PBS directive: remove control characters, mixed quotes and a trailing backslash", option, value))
		return
	}
	d.lines = append(d.lines, option+" "+quoted)
}

func (d *directiveList) addIf(given bool, option, value string) {
	if given {
		d.add(option, value)
	}
}

// checkDirectives has PBS's own rules read what was written.
func checkDirectives(lines []string) error {
	var all []pbs.Setting
	for _, line := range lines {
		settings, err := pbs.DirectiveSettings(pbs.Directive{Text: " " + line})
		if err != nil {
			return err
		}
		all = append(all, settings...)
	}
	_, err := pbs.Merge(nil, all)
	return err
}

func orElse(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}
