package pbsgen

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/glm46/glm46/pbsgen/pbs"
	"github.com/glm46/glm46/pbsgen/pbstest"
)

// hostile are values that do damage where a shell, PBS or YAML reads them as more
// than text. CANARY is a file that no script may make.
var hostile = []string{
	"$(touch CANARY)", "`touch CANARY`", "${x:=$(touch CANARY)}", "$((a[$(touch CANARY)]))", "x[$(touch CANARY)]", "a[`touch CANARY`]",
	"; touch CANARY", "& touch CANARY &", "| touch CANARY", "|| touch CANARY", "&& touch CANARY", "x;touch CANARY;", "x&touch CANARY&",
	"\ntouch CANARY\n", "x\ntouch CANARY", "\r\ntouch CANARY", "x\rtouch CANARY", "\x0btouch CANARY", "\u2028touch CANARY", "\u0085touch CANARY",
	"'; touch CANARY; '", "\"; touch CANARY; \"", "'$(touch CANARY)'", "\"$(touch CANARY)\"", "'\"$(touch CANARY)\"'", "\\'; touch CANARY; \\'",
	"\\$(touch CANARY)", "\\\\$(touch CANARY)", "\\`touch CANARY`", "\\\"; touch CANARY #", "x' $(touch CANARY) 'y", "x\\", "x\\\\", "\\",
	"$'\\ntouch CANARY'", "$\"touch CANARY\"", "'\n'touch CANARY", "{touch,CANARY}", "<(touch CANARY)", ">(touch CANARY)", "> CANARY", ">CANARY",
	"2>CANARY", "<CANARY", "<<EOF\n$(touch CANARY)\nEOF", "$$(touch CANARY)", "${IFS}touch${IFS}CANARY", "${HOME}$(touch CANARY)", "${HOME", "$HOME", "${}", "${!x}",
	"${x@P}", "${PATH}", "~", "~root/x", "*", "?", "[a-z]*", "!touch", "!!", "#", "# x", "x # touch CANARY", "#PBS -N evil", "\n#PBS -N evil\n",
	"x\n#PBS -l walltime=1", " -N evil", "x -N evil", "x' -N evil '", "x\" -N evil \"", "x\\\n-N evil", "-N evil", "--exp", "-", "--", "-rf /",
	"a,b", "a=b,EXP_NAME=evil", ",", "=", "a=b", "x:y", "host:/path", "^array_index^", "..", "../..", "../../etc/passwd", "/", "//", "", " ", "  x  ", "\t",
	"x\ty", "x\x00y", "\x1b[31mx", "\x7f", "\xff\xfe", "é", "日本", "\u202e", "\ufeff", "%s%n%d", "%(touch CANARY)", "{{.Root}}", "{{template \"vllm\"}}",
	"${GLM46_OUTCOME}", "]]; touch CANARY; [[", ")); touch CANARY; ((", "} ; touch CANARY; {", ";;\ntouch CANARY", "*) touch CANARY ;;", "esac\ntouch CANARY",
	"\"\n'\n`\n$(touch CANARY)", "\\\n", "'", "\"", "''", "\"\"", "'\"", "`", "$", "${", "$(", "((", strings.Repeat("A", 10_000),
	strings.Repeat("$(touch CANARY)", 100), "<script>alert(1)</script>", "{\"a\": [1, 2]}", "null", "yes", "0x10", "1e5", "[x]", "{x}", "&anchor", "!!str x", "- x",
}

func corpus(canary string) []string {
	list := make([]string, len(hostile))
	for i, h := range hostile {
		list[i] = strings.ReplaceAll(h, "CANARY", canary)
	}
	return list
}

// long says that the whole corpus goes everywhere; otherwise each field meets 60 values
// of it, another 60 for each.
func long() bool { return os.Getenv("GLM46_LONG") != "" }

// share gives the corpus as one field meets it, by number.
func share(canary, field string) map[int]string {
	all := corpus(canary)
	start, count := 0, 60
	for _, c := range field {
		start = (start*31 + int(c)) % len(all)
	}
	if long() {
		count = len(all)
	}
	chosen := map[int]string{}
	for i := range count {
		// 7 has no factor in common with any size that is not a multiple of it.
		at := (start + 7*i) % len(all)
		chosen[at] = all[at]
	}
	return chosen
}

// fields are all the places through which text reaches a script. Each sets one.
var fields = map[string]func(*Request, string){
	"root":         func(r *Request, v string) { r.Root = "/nonexistent/" + v },
	"binary":       func(r *Request, v string) { r.Binary = v },
	"path":         func(r *Request, v string) { r.Path = v },
	"plan":         func(r *Request, v string) { r.Plan = v },
	"run argument": func(r *Request, v string) { r.RunArgs = []string{"--set", v} },
	"cell id":      func(r *Request, v string) { r.Cells[0].ID = v },
	"cell title":   func(r *Request, v string) { r.Cells[0].Title = v },
	"cell setting": func(r *Request, v string) { r.Cells[0].Settings = []string{v, v} },
	"cell refusal": func(r *Request, v string) { r.Cells[0].Refused = v },
	"cell hash":    func(r *Request, v string) { r.Cells[0].ConfigHash = v },
	"name":         func(r *Request, v string) { r.Profile.Name = v },
	"description":  func(r *Request, v string) { r.Profile.Description = v },
	"queue":        func(r *Request, v string) { r.Profile.Queue = v },
	"project":      func(r *Request, v string) { r.Profile.Project = v },
	"account":      func(r *Request, v string) { r.Profile.Account = v },
	"group_list":   func(r *Request, v string) { r.Profile.GroupList = v },
	"select":       func(r *Request, v string) { r.Profile.Select += ":host=" + v },
	"select whole": func(r *Request, v string) { r.Profile.Select = v },
	"place":        func(r *Request, v string) { r.Profile.Place = v },
	"resources": func(r *Request, v string) {
		r.Profile.Select = ""
		r.Profile.Resources = []string{"ncpus=8", "ngpus=8", "mem=9gb", "x=" + v}
	},
	"implied":           func(r *Request, v string) { r.Profile.Implied = []string{v} },
	"walltime.default":  func(r *Request, v string) { r.Profile.Walltime.Default = v },
	"walltime.max":      func(r *Request, v string) { r.Profile.Walltime.Max = v },
	"directives":        func(r *Request, v string) { r.Profile.Directives = []string{"-l filesystems=" + v} },
	"directives whole":  func(r *Request, v string) { r.Profile.Directives = []string{v} },
	"variables value":   func(r *Request, v string) { r.Profile.Variables = map[string]string{"RTYPE": v} },
	"variables name":    func(r *Request, v string) { r.Profile.Variables = map[string]string{v: "x"} },
	"keep":              func(r *Request, v string) { r.Profile.Keep = v },
	"umask":             func(r *Request, v string) { r.Profile.Umask = v },
	"array_limit":       func(r *Request, v string) { r.Profile.ArrayLimit = v },
	"mail.to":           func(r *Request, v string) { r.Profile.Mail.To = v },
	"mail.when":         func(r *Request, v string) { r.Profile.Mail = Mail{"a@x", v} },
	"modules.init":      func(r *Request, v string) { r.Profile.Modules = Modules{Init: v, Load: []string{"x"}} },
	"modules.use":       func(r *Request, v string) { r.Profile.Modules = Modules{Use: []string{v}, Load: []string{"x"}} },
	"modules.load":      func(r *Request, v string) { r.Profile.Modules = Modules{Load: []string{v}} },
	"venv":              func(r *Request, v string) { r.Profile.Venv = v },
	"vllm":              func(r *Request, v string) { r.Profile.VLLM = []string{"vllm", v} },
	"container.kind":    func(r *Request, v string) { r.Profile.Container = Container{Kind: v, Image: "/i"} },
	"container.image":   func(r *Request, v string) { r.Profile.Container = Container{Kind: "apptainer", Image: v} },
	"container.image e": func(r *Request, v string) { r.Profile.Container = Container{Kind: "enroot", Image: v} },
	"container.binds": func(r *Request, v string) {
		r.Profile.Container = Container{Kind: "apptainer", Image: "/i", Binds: []string{v}}
	},
	"container.options": func(r *Request, v string) {
		r.Profile.Container = Container{Kind: "enroot", Image: "/i", Options: []string{v}}
	},
	"container.env": func(r *Request, v string) {
		r.Profile.Container = Container{Kind: "enroot", Image: "/i", Env: []string{v}}
	},
	"container.command": func(r *Request, v string) {
		r.Profile.Container = Container{Kind: "apptainer", Image: "/i", Command: []string{v}}
	},
	"environment value":    func(r *Request, v string) { r.Profile.Environment = map[string]string{"SOME": v} },
	"environment name":     func(r *Request, v string) { r.Profile.Environment = map[string]string{v: "x"} },
	"scratch":              func(r *Request, v string) { r.Profile.Scratch = "/nonexistent/" + v },
	"cache":                func(r *Request, v string) { r.Profile.Cache = "/nonexistent/" + v },
	"copy_binary":          func(r *Request, v string) { r.Profile.CopyBinary = v },
	"prefetch":             func(r *Request, v string) { r.Profile.Prefetch = v },
	"model":                func(r *Request, v string) { r.Profile.Model = v },
	"data":                 func(r *Request, v string) { r.Profile.Data = v },
	"results":              func(r *Request, v string) { r.Profile.Results = v },
	"logs":                 func(r *Request, v string) { r.Profile.Logs = v },
	"requires":             func(r *Request, v string) { r.Profile.Requires = []string{v} },
	"environment EXP_NAME": nil, // TestHostileEnvironment
}

// Every field that a profile may have meets the corpus.
func TestHostileFieldsAreAll(t *testing.T) {
	t.Parallel()
	covered := slices.Sorted(maps.Keys(fields))
	for _, name := range profileFields(reflect.TypeFor[Profile](), "") {
		require.True(t, slices.ContainsFunc(covered, func(field string) bool {
			return field == name || strings.HasPrefix(field, name+" ")
		}), "no hostile values for %s", name)
	}
}

func profileFields(t reflect.Type, prefix string) []string {
	var names []string
	for i := range t.NumField() {
		name := prefix + t.Field(i).Tag.Get("yaml")
		if t.Field(i).Type.Kind() == reflect.Struct {
			names = append(names, profileFields(t.Field(i).Type, name+".")...)
			continue
		}
		names = append(names, name)
	}
	return names
}

// Each hostile value in each field is refused, or gives a script that bash and qsub
// read as if the value were harmless: the same directives by name, the same commands,
// nothing run.
func TestHostileFields(t *testing.T) {
	require.GreaterOrEqual(t, len(share("", "x")), 50)
	require.NotZero(t, len(hostile)%7, "share steps by 7")
	canary := filepath.Join(t.TempDir(), "canary")
	harmless := shapes(t)
	for field, set := range fields {
		if set == nil {
			continue
		}
		t.Run(field, func(t *testing.T) {
			t.Parallel()
			refused := 0
			for i, value := range share(canary, field) {
				if value == "" || field == "logs" && strings.HasPrefix(value, "/") {
					continue // stands for "not given"; moves the logs, as it should
				}
				for _, kind := range kindsOf(field) {
					script, err := hostileScript(t, kind, set, value)
					if err != nil {
						refused++
						continue
					}
					if err := sameShape(harmless[field+kind], script, value); err != nil {
						t.Errorf("value %d, %.200q: %v", i, value, err)
					}
				}
			}
			t.Logf("%d of %d refused", refused, len(kindsOf(field))*len(hostile))
		})
	}
	require.NoFileExists(t, canary)
}

// kindsOf are the kinds of script that a field reaches in different ways.
func kindsOf(field string) []string {
	if strings.HasPrefix(field, "cell") || field == "run argument" {
		return []string{"job", "array"}
	}
	return []string{"runner"}
}

var genericProfile = sync.OnceValue(func() Profile {
	p, err := LoadProfile("generic")
	if err != nil {
		panic(err)
	}
	return p
})

func hostileScript(t *testing.T, kind string, set func(*Request, string), value string) ([]byte, error) {
	t.Helper()
	r := Request{Options: Options{Root: "/nonexistent/project", Profile: genericProfile(), Resubmit: 1}, Cells: planCells()}
	r.Path = "experiments/x.pbs"
	set(&r, value)
	switch kind {
	case "runner":
		return Runner(r.Options, r.Cells...)
	case "job":
		return Job(r.Options, r.Cells)
	}
	r.Resubmit = 0
	return Array(r.Options, r.Cells)
}

// shapes are the scripts with a plain value in each field.
func shapes(t *testing.T) map[string]shape {
	t.Helper()
	plain := map[string]string{
		"walltime.default": "24:00:00", "walltime.max": "48:00:00", "keep": "oed", "umask": "027", "array_limit": "yes", "copy_binary": "no", "prefetch": "no",
		"mail.when": "a", "container.kind": "apptainer", "implied": "mem", "requires": "queue", "select whole": "1:ncpus=1:ngpus=8:mem=9gb",
		"directives whole": "-p 1", "place": "free", "logs": "harmless", "environment name": "harmless",
	}
	found := map[string]shape{}
	for field, set := range fields {
		if set == nil {
			continue
		}
		for _, kind := range kindsOf(field) {
			script, err := hostileScript(t, kind, set, orElse(plain[field], "/harmless"))
			if err != nil {
				script, err = hostileScript(t, kind, set, "harmless")
			}
			if field != "requires" {
				require.NoError(t, err, field)
			}
			if found[field+kind], err = shapeOf(script); field != "requires" {
				require.NoError(t, err, field)
			}
		}
	}
	return found
}

// sameShape compares what the shell and PBS would do: the sequence of directives'
// options, and the tree of commands without their words. The variables that value
// may refer to, ${NAME}, are left out.
func sameShape(want shape, script []byte, value string) error {
	got, err := shapeOf(script)
	if err != nil {
		return err
	}
	wantTree, gotTree := want.tree, got.tree
	for _, name := range reference.FindAllString(value, -1) {
		line := "value of " + strings.Trim(name, "${}") + "\n"
		wantTree, gotTree = strings.ReplaceAll(wantTree, line, ""), strings.ReplaceAll(gotTree, line, "")
	}
	if variableForm.MatchString(value) { // the name of a variable that is set
		gotTree = strings.Replace(gotTree, "set "+value+"\n", "set harmless\n", 1)
	}
	if wantTree != gotTree {
		return fmt.Errorf("the commands differ:\n%s", firstDifference(wantTree, gotTree))
	}
	if want.options != got.options {
		return fmt.Errorf("the directives differ: %s, want %s", got.options, want.options)
	}
	return nil
}

// shape is what a script does, without the texts in it.
type shape struct{ tree, options string }

func shapeOf(script []byte) (s shape, err error) {
	if s.tree, err = skeleton(script); err != nil {
		return s, err
	}
	s.options, err = optionLetters(script)
	return s, err
}

func firstDifference(a, b string) string {
	linesA, linesB := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(linesA), len(linesB)) {
		if linesA[i] != linesB[i] {
			return linesA[i] + "\n" + linesB[i]
		}
	}
	return "one is longer"
}

// optionLetters are the directives' options in order; -o may be missing where PBS
// cannot take the path, and site resources may be any.
func optionLetters(script []byte) (string, error) {
	found, err := pbs.Scan(script)
	if err != nil {
		return "", err
	}
	if len(found.Ignored) > 0 {
		return "", fmt.Errorf("ignored directives: %v", found.Ignored)
	}
	var all []pbs.Setting
	letters := ""
	for _, d := range found.Directives {
		settings, err := pbs.DirectiveSettings(d)
		if err != nil {
			return "", err
		}
		for _, s := range settings {
			if s.Option != 'o' {
				letters += string(s.Option)
			}
		}
		all = append(all, settings...)
	}
	job, err := pbs.Merge(nil, all)
	if err != nil {
		return "", err
	}
	if strings.Contains(job.Name, "evil") {
		return "", fmt.Errorf("job name %q", job.Name)
	}
	return letters, nil
}

// Values of the job's environment reach glm46 byte for byte, and nothing runs; PBS's
// own variables are as hostile as a site's hooks may make them.
func TestHostileEnvironment(t *testing.T) {
	t.Parallel()
	s := newSite(t, pbstest.Config{}, recorder)
	canary := filepath.Join(t.TempDir(), "canary")
	resubmitting := s.write(Request{Options: Options{Resubmit: 2}, Out: "r.pbs"})[0]
	script := s.write(Request{})[0]
	names := append([]string{"GLM46_MODEL", "GLM46_DATA", "GLM46_WALLTIME_S", "GLM46_MOCK", "GLM46_SET", "GLM46_VLLM", "GLM46_RESUBMITTED", "PBS_ARRAY_INDEX"}, EnvironmentNames...)
	for i, value := range share(canary, "environment") {
		if strings.ContainsRune(value, 0) {
			continue // no environment can hold it
		}
		// The two read the same values; each of them meets half of the corpus.
		for _, path := range [][]string{{script}, {resubmitting}}[i%2] {
			env := []string{}
			for _, name := range names {
				env = append(env, name+"="+value)
			}
			if len(value) <= 100 { // longer than a file name may be
				env = append(env, "PBS_JOBID="+value)
			}
			for _, name := range []string{"PBS_O_WORKDIR", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "no_proxy"} {
				env = append(env, name+"="+value)
			}
			record, environment := s.runDirectly(path, env)
			require.Equal(t, filepath.Join(s.root, "logs"), filepath.Dir(environment["GLM46_OUTCOME"]), "value %d, %q", i, value)
			require.Contains(t, record, "argument=run\n", "value %d, %q", i, value)
			for _, name := range names {
				if name == "GLM46_RESUBMITTED" && path == resubmitting {
					require.NotContains(t, environment, name)
					continue
				}
				if value == "" && (name == "GLM46_WALLTIME_S" || name == "GLM46_DATA" || name == "GLM46_MODEL") {
					continue // empty: the default
				}
				require.Equal(t, value, environment[name], "%s, value %d", name, i)
			}
		}
	}
	require.NoFileExists(t, canary)
}

// runDirectly runs a script under bash, with a stub for qsub, and gives what the
// recorder saw.
func (s site) runDirectly(script string, env []string) (string, map[string]string) {
	s.t.Helper()
	command := exec.Command("bash", script)
	command.Dir = s.from
	results := filepath.Join(s.from, "results")
	require.NoError(s.t, os.RemoveAll(results))
	command.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.Home(), "TMPDIR=" + s.t.TempDir(), "GLM46_RESULTS=" + results}, env...)
	out, err := command.CombinedOutput()
	require.NoError(s.t, err, "%s", out)
	return s.record(results)
}

func TestShellWordsAreRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String().Draw(t, "text")
		word, err := shellWord(text)
		if err != nil {
			return
		}
		got, err := literalOf(word)
		if err != nil || got != text {
			t.Fatalf("%q quoted as %s reads as %q, %v", text, word, got, err)
		}
	})
	for _, text := range hostile {
		if word, err := shellWord(text); err == nil {
			out, err := exec.Command("bash", "-c", "printf %s "+word).Output()
			require.NoError(t, err)
			require.Equal(t, text, string(out))
		}
	}
}

func TestReferences(t *testing.T) {
	for text, want := range map[string]string{
		"":                        "''",
		"/plain":                  "/plain",
		"${HOME}/a b":             `"${HOME}"'/a b'`,
		"$HOME":                   `"\$HOME"`,
		"${HOME:-x}":              `"\${HOME:-x}"`,
		"${A}${B}":                `"${A}""${B}"`,
		"$(x)${A}`y`":             "\"\\$(x)\"\"${A}\"\"\\`y`\"",
		"${A$(touch x)}":          `"\${A\$(touch x)}"`,
		"a'b":                     `"a'b"`,
		"${GLM46_A}'; touch x; '": `"${GLM46_A}"` + `"'; touch x; '"`,
	} {
		got, err := shellReferences(text)
		require.NoError(t, err)
		out, err := exec.Command("bash", "-c", "printf %s "+strings.NewReplacer(`"${HOME}"`, "", `"${A}"`, "", `"${B}"`, "", `"${GLM46_A}"`, "").Replace(got)).Output()
		require.NoError(t, err, got)
		require.Equal(t, strings.NewReplacer("${HOME}", "", "${A}", "", "${B}", "", "${GLM46_A}", "").Replace(text), string(out))
		if text != "$(x)${A}`y`" {
			require.Equal(t, want, got)
		}
	}
}
