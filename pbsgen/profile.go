package pbsgen

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Profile is what differs between sites. docs/site-profile.md explains every field
// with examples. Its zero value stands for preset "generic".
//
// Texts marked "with references" may hold ${NAME}: a variable of the job's
// environment. Nothing else in them is special: "$(x)" stays "$(x)".
type Profile struct {
	// Name and Description are for the reader of the script.
	Name        string `yaml:"name"`
	Description string `yaml:"description"`

	Queue     string `yaml:"queue"`      // -q
	Project   string `yaml:"project"`    // -P
	Account   string `yaml:"account"`    // -A
	GroupList string `yaml:"group_list"` // -W group_list=
	// Requires names fields that the site insists on and a preset cannot know.
	Requires []string `yaml:"requires"`

	// Select is the whole chunk request, "1:ncpus=96:ngpus=8:mem=1900gb"; Place
	// its placement. Resources are job-wide requests ("ncpus=48") for sites that
	// have no select: one of the two.
	Select    string   `yaml:"select"`
	Place     string   `yaml:"place"`
	Resources []string `yaml:"resources"`
	// Implied names those of ncpus, mem and ngpus that the queue fixes, so that
	// they need not be asked for.
	Implied []string `yaml:"implied"`

	Walltime ProfileWalltime `yaml:"walltime"`

	// Directives are further directives without "#PBS": "-l filesystems=home".
	Directives []string `yaml:"directives"`
	// Variables are passed by -v in the script ("RTYPE: rt_HF").
	Variables map[string]string `yaml:"variables"`
	// Keep is the argument of -k; "none" leaves it out.
	Keep string `yaml:"keep"`
	// Umask is three or four octal digits.
	Umask string `yaml:"umask"`
	// ArrayLimit is "no" where PBS is older than 22.05 and has no %N in -J.
	ArrayLimit string `yaml:"array_limit"`
	Mail       Mail   `yaml:"mail"`

	Modules Modules `yaml:"modules"`
	// Venv is the folder of a Python environment; with references.
	Venv string `yaml:"venv"`
	// VLLM is the command that starts vllm, where it is not simply "vllm"; each
	// word with references. Not together with Container.
	VLLM      []string  `yaml:"vllm"`
	Container Container `yaml:"container"`
	// Environment is exported before glm46 starts; values with references.
	Environment map[string]string `yaml:"environment"`

	// Scratch is the node-local folder for caches; with references. Empty: the
	// first that is set of PBS_LOCALDIR, PBS_JOBFS, TMPDIR, then /tmp.
	Scratch string `yaml:"scratch"`
	// Cache keeps compile caches between jobs, in a folder of its own; with
	// references. Empty: below Scratch, new for every job.
	Cache string `yaml:"cache"`
	// CopyBinary is "yes" to run a copy of glm46 on Scratch.
	CopyBinary string `yaml:"copy_binary"`
	// Prefetch is "yes" to read the weights into the page cache before the first
	// start, where the model is a folder and the job's memory holds them.
	Prefetch string `yaml:"prefetch"`

	// Model, Data and Results are what --model, --data and --results get, unless
	// the environment says otherwise; with references.
	Model   string `yaml:"model"`
	Data    string `yaml:"data"`
	Results string `yaml:"results"`
	// Logs is the folder for logs and outcome files, below the project's.
	Logs string `yaml:"logs"`
}

// ProfileWalltime are a queue's limits, as PBS times.
type ProfileWalltime struct {
	Default string `yaml:"default"`
	Max     string `yaml:"max"`
}

// Mail says whom PBS tells of what: When is letters of a, b and e.
type Mail struct {
	To   string `yaml:"to"`
	When string `yaml:"when"`
}

// Modules are environment modules, loaded in order.
type Modules struct {
	// Init is sourced first where the job's shell does not have "module".
	Init string   `yaml:"init"`
	Use  []string `yaml:"use"`
	Load []string `yaml:"load"`
}

// Container is how vllm runs inside an image.
type Container struct {
	// Kind is apptainer, singularity or enroot.
	Kind string `yaml:"kind"`
	// Image is a file; with references.
	Image string `yaml:"image"`
	// Binds are "outside:inside" or one path for both; with references. The
	// project, the model and the scratch folder are always bound.
	Binds []string `yaml:"binds"`
	// Options go to the container program before the image; with references.
	Options []string `yaml:"options"`
	// Env names further variables to hand in, where the program needs a list.
	Env []string `yaml:"env"`
	// Command is what starts vllm inside; empty: "vllm".
	Command []string `yaml:"command"`
}

// Fault is one thing wrong with a profile.
type Fault struct {
	// File, Line and Column say where; Line is 0 where the file as a whole is meant.
	File         string
	Line, Column int
	// Field is the YAML path: "walltime.max".
	Field string
	// What is wrong, and what to Do.
	What, Do string
}

func (f Fault) String() string {
	var b strings.Builder
	b.WriteString(f.File)
	if f.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", f.Line, f.Column)
	}
	if f.Field != "" {
		b.WriteString(": " + f.Field)
	}
	b.WriteString(": " + f.What)
	if f.Do != "" {
		b.WriteString("; " + f.Do)
	}
	return b.String()
}

// ProfileError lists everything that is wrong with a profile.
type ProfileError struct{ Faults []Fault }

func (e *ProfileError) Error() string {
	lines := make([]string, len(e.Faults))
	for i, f := range e.Faults {
		lines[i] = f.String()
	}
	return strings.Join(lines, "\n")
}

//go:embed presets/*.yaml
var presetFiles embed.FS

// PresetNames are the built-in profiles, sorted.
func PresetNames() []string {
	entries, err := fs.ReadDir(presetFiles, "presets")
	if err != nil {
		panic(err) // the files are part of the binary
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = strings.TrimSuffix(e.Name(), ".yaml")
	}
	return names
}

// Preset gives a built-in profile, as its file: a start for one of your own.
func Preset(name string) ([]byte, bool) {
	data, err := presetFiles.ReadFile(path.Join("presets", name+".yaml"))
	return data, err == nil
}

// LoadProfile reads a profile file, or a preset by its name ("abci3").
//
// It fails with a *ProfileError that names file, line and field of every fault.
func LoadProfile(pathOrPreset string) (Profile, error) {
	if data, ok := Preset(pathOrPreset); ok {
		return ParseProfile("preset "+pathOrPreset, data)
	}
	data, err := os.ReadFile(pathOrPreset)
	if errors.Is(err, fs.ErrNotExist) {
		return Profile{}, fmt.Errorf("profile %q: no such file, and no such preset (%s)", pathOrPreset, strings.Join(PresetNames(), ", "))
	}
	if err != nil {
		return Profile{}, fmt.Errorf("profile: %w", err)
	}
	return ParseProfile(pathOrPreset, data)
}

// document is a profile's file: "preset: NAME" fills what the file leaves out.
type document struct {
	Schema  int    `yaml:"schema"`
	Preset  string `yaml:"preset"`
	Profile `yaml:",inline"`
}

// ParseProfile reads a profile from its text; file is its name in errors.
func ParseProfile(file string, data []byte) (profile Profile, err error) {
	// The YAML library has panicked on malformed input, and a profile is input.
	defer func() {
		if p := recover(); p != nil {
			profile, err = Profile{}, &ProfileError{[]Fault{{File: file, What: "cannot be read as YAML", Do: "docs/site-profile.md shows the form"}}}
		}
	}()
	var doc document
	positions, fault := decode(file, data, &doc)
	if fault != nil {
		return Profile{}, &ProfileError{[]Fault{*fault}}
	}
	profile = doc.Profile
	var faults []Fault
	if doc.Schema > 1 {
		faults = append(faults, Fault{Field: "schema", What: fmt.Sprintf("schema %d is newer than this program", doc.Schema), Do: "use schema: 1"})
	}
	if doc.Preset != "" {
		base, ok := Preset(doc.Preset)
		if !ok {
			faults = append(faults, Fault{Field: "preset", What: fmt.Sprintf("%q is not a preset", doc.Preset), Do: "use one of " + strings.Join(PresetNames(), ", ")})
		} else if merged, err := overlay(base, data); err != nil {
			faults = append(faults, Fault{Field: "preset", What: err.Error()})
		} else {
			profile = merged
		}
	}
	if profile.Name == "" {
		profile.Name = strings.TrimSuffix(path.Base(file), path.Ext(file))
	}
	faults = append(faults, profile.validate()...)
	if len(faults) == 0 {
		return profile.withDefaults(), nil
	}
	for i := range faults {
		faults[i].File = file
		faults[i].Line, faults[i].Column = positions.find(faults[i].Field)
	}
	return Profile{}, &ProfileError{faults}
}

// overlay decodes the preset, then the user's file over it: what the file names
// replaces, lists and maps too.
func overlay(base, own []byte) (Profile, error) {
	var doc document
	if err := yaml.Unmarshal(base, &doc); err != nil {
		return Profile{}, err
	}
	var given document
	if err := yaml.Unmarshal(own, &given); err != nil {
		return Profile{}, err
	}
	if given.Select != "" || given.Resources != nil {
		doc.Select, doc.Place, doc.Resources = "", "", nil
	}
	if given.VLLM != nil || given.Container.Kind != "" {
		doc.VLLM, doc.Container = nil, Container{}
	}
	if given.Name == "" {
		doc.Name = ""
	}
	if given.Walltime.Max != "" {
		doc.Walltime = ProfileWalltime{} // the usual walltime may be above the new limit
	}
	if given.Variables != nil {
		doc.Variables = nil
	}
	if given.Environment != nil {
		doc.Environment = nil
	}
	if err := yaml.Unmarshal(own, &doc); err != nil {
		return Profile{}, err
	}
	return doc.Profile, nil
}

// decode reads the file strictly and remembers where each field stands.
func decode(file string, data []byte, doc *document) (found positions, fault *Fault) {
	if len(data) > maxProfileBytes {
		return nil, &Fault{File: file, What: fmt.Sprintf("is larger than %d bytes", maxProfileBytes), Do: "is it a site profile?"}
	}
	tree, err := parser.ParseBytes(data, 0)
	if err != nil {
		return nil, yamlFault(file, err)
	}
	if len(tree.Docs) > 1 {
		return nil, &Fault{File: file, What: "holds several YAML documents", Do: "leave one"}
	}
	if err := yaml.UnmarshalWithOptions(data, doc, yaml.Strict()); err != nil {
		return nil, yamlFault(file, err)
	}
	found = positions{}
	for _, d := range tree.Docs {
		found.collect("", d.Body)
	}
	return found, nil
}

// maxProfileBytes is far above any profile (presets have 0.5 kB, one that uses every field 2 kB); the YAML library is
// quadratic in the keys of one mapping, and recursive in their depth.
const maxProfileBytes = 8 << 10

func yamlFault(file string, err error) *Fault {
	fault := &Fault{File: file, What: err.Error()}
	var positioned yaml.Error
	if errors.As(err, &positioned) {
		fault.What = positioned.GetMessage()
		if token := positioned.GetToken(); token != nil && token.Position != nil {
			fault.Line, fault.Column = token.Position.Line, token.Position.Column
		}
	}
	if strings.Contains(fault.What, "unknown field") {
		fault.Do = nearestField(fault.What)
	}
	return fault
}

// positions maps a YAML path ("walltime.max", "directives[1]") to line and column.
type positions map[string][2]int

func (p positions) collect(prefix string, node ast.Node) {
	switch n := node.(type) {
	case *ast.MappingNode:
		for _, value := range n.Values {
			p.collect(prefix, value)
		}
	case *ast.MappingValueNode:
		key := n.Key.String()
		if prefix != "" {
			key = prefix + "." + key
		}
		at := n.Key.GetToken().Position
		p[key] = [2]int{at.Line, at.Column}
		p.collect(key, n.Value)
	case *ast.SequenceNode:
		for i, value := range n.Values {
			key := fmt.Sprintf("%s[%d]", prefix, i)
			at := value.GetToken().Position
			p[key] = [2]int{at.Line, at.Column}
			p.collect(key, value)
		}
	}
}

// find gives the place of a field, or of what holds it.
func (p positions) find(field string) (line, column int) {
	for field != "" {
		if at, ok := p[field]; ok {
			return at[0], at[1]
		}
		cut := max(strings.LastIndexByte(field, '.'), strings.LastIndexByte(field, '['))
		if cut < 0 {
			break
		}
		field = field[:cut]
	}
	return 0, 0
}

func (p Profile) isZero() bool {
	return p.Select == "" && p.Resources == nil
}

// withDefaults fills what every profile has.
func (p Profile) withDefaults() Profile {
	if p.Keep == "" {
		p.Keep = "oed"
	}
	if p.Umask == "" {
		p.Umask = "027"
	}
	if p.Logs == "" {
		p.Logs = "logs"
	}
	return p
}

// isYes reads a switch: YAML's own true, or the word people write.
func isYes(text string) bool { return text == "yes" || text == "true" }

func (p Profile) arrayLimit() bool { return p.ArrayLimit == "" || isYes(p.ArrayLimit) }

func (p Profile) implies(resource string) bool { return slices.Contains(p.Implied, resource) }
