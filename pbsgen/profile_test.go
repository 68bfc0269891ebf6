package pbsgen

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestProfileFaults(t *testing.T) {
	t.Parallel()
	const good = "select: 1:ncpus=96:ngpus=8:mem=1900gb\n"
	for _, test := range []struct{ name, text, want string }{
		{"unknown field", good + "quue: x\n", `site.yaml:2:1: unknown field "quue"; did you mean "queue"?`},
		{"unknown inner field", good + "walltime: {maximum: 1}\n", `site.yaml:2:12: unknown field "maximum"`},
		{"twice", good + "queue: a\nqueue: b\n", `site.yaml:3:1: `},
		{"syntax", "select: [1\n", "site.yaml:1:"},
		{"type", good + "modules: 3\n", "site.yaml:2:"},
		{"no resources", "queue: x\n", `site.yaml: select: no resources are asked for; write select: "1:ncpus=96`},
		{"no memory", "queue: a\nselect: 1:ncpus=96:ngpus=8\n", "site.yaml:2:1: select: mem is not asked for: PBS may give 256 MB, and the kernel would kill vLLM while loading; add it, or write implied: [mem]"},
		{"no cores", "select: 1:ngpus=8:mem=1tb\n", "site.yaml:1:1: select: ncpus is not asked for: PBS would give 1 core"},
		{"no GPU", "resources: [ncpus=8, mem=1tb]\n", "site.yaml:1:1: resources: ngpus is not asked for"},
		{"memory in bytes", "select: 1:ncpus=96:ngpus=8:mem=1900\n", "site.yaml:1:1: select: mem=1900 is 1900 bytes to PBS; write the unit"},
		{"both forms", good + "resources: [ncpus=8]\n", "site.yaml:2:1: resources: select is given too; keep one: PBS refuses both together"},
		{"bad select", "select: 0:ncpus=96\n", `site.yaml:1:1: select: qsub would refuse "0:ncpus=96"`},
		{"walltime unit", good + "walltime:\n  default: 1:00:00\n  max: 24h\n", `site.yaml:4:3: walltime.max: walltime "24h": "24h" is not a whole number; PBS knows no units, 24 hours are 24:00:00`},
		{"walltime order", good + "walltime: {default: 2:00:00, max: 1:00:00}\n", "site.yaml:2:12: walltime.default: 2:00:00 is above the maximum 1:00:00"},
		{"directive with prefix", good + "directives:\n  - -l a=1\n  - '#PBS -l b=1'\n", `site.yaml:4:5: directives[1]: "#PBS -l b=1" begins with #PBS; leave #PBS out`},
		{"directive with comment", good + "directives: ['-l a=1 # x']\n", "site.yaml:2:14: directives[0]: qsub would not read"},
		{"owned directive", good + "directives: ['-q x']\n", "directives[0]: -q is not for directives; use queue:"},
		{"export all", good + "directives: ['-V']\n", "directives[0]: -V is not for directives; it would copy stale variables"},
		{"walltime as directive", good + "directives: ['-l walltime=1:00:00']\n", "-l walltime is not for directives; use the field walltime:"},
		{"bad variable", good + "variables: {A: 'x,y'}\n", `site.yaml:2:13: variables.A: "x,y" cannot pass through qsub -v`},
		{"PBS variable", good + "environment: {PBS_JOBID: x}\n", "site.yaml:2:15: environment.PBS_JOBID: PBS_JOBID is set by PBS or by the script"},
		{"long queue", good + "queue: abcdefghijklmnop\n", `site.yaml:2:1: queue: "abcdefghijklmnop" is not a queue; a queue name has at most 15 characters`},
		{"umask", good + "umask: '999'\n", `site.yaml:2:1: umask: "999" is no umask`},
		{"keep", good + "keep: x\n", "site.yaml:2:1: keep:"},
		{"mail", good + "mail: {when: ae}\n", "site.yaml:2:1: mail.to:"},
		{"mail when", good + "mail: {to: a@x, when: q}\n", "site.yaml:2:17: mail.when:"},
		{"tilde", good + "model: ~/glm\n", `site.yaml:2:1: model: "~/glm": ~ is not expanded; write ${HOME}`},
		{"container", good + "container: {kind: docker, image: x}\n", `site.yaml:2:13: container.kind: "docker" is not supported`},
		{"no image", good + "container: {kind: enroot}\n", "site.yaml:2:1: container.image: a container without an image"},
		{"vllm twice", good + "vllm: [x]\ncontainer: {kind: enroot, image: x}\n", "site.yaml:2:1: vllm: container is given too"},
		{"preset", "preset: nowhere\n" + good, `site.yaml:1:1: preset: "nowhere" is not a preset; use one of abci3,`},
		{"schema", "schema: 2\n" + good, "site.yaml:1:1: schema: schema 2 is newer than this program"},
		{"two documents", good + "---\n" + good, "site.yaml: holds several YAML documents"},
		{"logs outside", good + "logs: ../x\n", "site.yaml:2:1: logs:"},
		{"switch", good + "copy_binary: maybe\n", `site.yaml:2:1: copy_binary: want yes or no, got "maybe"`},
		{"module", good + "modules: {load: ['a b']}\n", `site.yaml:2:18: modules.load[0]: "a b" is no module`},
		{"group list", good + "group_list: a,b\n", "site.yaml:2:1: group_list:"},
		{"implied", good + "implied: [gpus]\n", "site.yaml:2:11: implied[0]:"},
		{"requires", good + "requires: [money]\n", "site.yaml:2:12: requires[0]:"},
		{"place", good + "place: 'a b'\n", "site.yaml:2:1: place:"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := ParseProfile("site.yaml", []byte(test.text))
			var faults *ProfileError
			require.ErrorAs(t, err, &faults)
			require.Contains(t, err.Error(), test.want)
		})
	}
	_, err := ParseProfile("site.yaml", []byte("queue: 'a b'\numask: x\nwalltime: {max: 1d}\n"))
	require.Equal(t, 4, strings.Count(err.Error(), "\n"), "all faults at once:\n%v", err)
}

func TestPresetIsOverlaid(t *testing.T) {
	t.Parallel()
	p := mustProfile(t, "preset: abci3\nproject: g1\nwalltime: {default: '02:00:00'}\nvariables: {RTYPE: rt_HF}\n")
	require.Equal(t, "site", p.Name)
	require.Equal(t, "rt_HF", p.Queue)
	require.Equal(t, ProfileWalltime{Default: "02:00:00", Max: "168:00:00"}, p.Walltime, "the limit is the preset's")
	require.Equal(t, []string{"ncpus", "mem", "ngpus"}, p.Implied)

	p = mustProfile(t, "preset: gadi\nproject: xx\ndirectives: ['-l storage=scratch/xx']\nselect: 1:ncpus=48:ngpus=4:mem=1tb\n")
	require.Empty(t, p.Resources, "one form replaces the other")
	require.Equal(t, []string{"-l storage=scratch/xx"}, p.Directives)
}

func TestLoadProfile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "my.yaml")
	require.NoError(t, os.WriteFile(path, []byte("preset: generic\n"), 0o644))
	p, err := LoadProfile(path)
	require.NoError(t, err)
	require.Equal(t, "my", p.Name)
	_, err = LoadProfile("nosuch")
	require.EqualError(t, err, `profile "nosuch": no such file, and no such preset (`+strings.Join(PresetNames(), ", ")+")")
}

func TestSharedProfileIsNotChanged(t *testing.T) {
	t.Parallel()
	p := mustProfile(t, fullProfile)
	before := mustProfile(t, fullProfile)
	_, err := Generate(Request{Options: Options{Root: project, Profile: p, Resubmit: 1}, Exp: true, Cells: planCells()})
	require.NoError(t, err)
	require.Equal(t, before, p)
}

func TestWalltimeChoice(t *testing.T) {
	t.Parallel()
	site := mustProfile(t, "preset: generic\nwalltime: {default: '10:00:00', max: '48:00:00'}\n")
	cells := planCells()
	for _, test := range []struct {
		name  string
		w     Walltime
		p     Profile
		cells []Cell
		want  string
	}{
		{"as asked", Walltime{Limit: 5 * time.Hour}, site, cells[:1], "05:00:00"},
		{"the site's usual", Walltime{}, site, cells[:1], "10:00:00"},
		{"3.1 h x 1.5 + 10 min, to 5 min", Walltime{Auto: true}, site, cells[:1], "04:50:00"},
		{"cells of one configuration count once", Walltime{Auto: true}, site, []Cell{cells[0], cells[2], cells[4]}, "04:50:00"},
		{"bounded by the queue", Walltime{Auto: true}, site, []Cell{{ID: "x", Hours: 100}}, "48:00:00"},
		{"asked too much", Walltime{Limit: 100 * time.Hour}, site, cells[:1], "48:00:00"},
		{"nothing predicted", Walltime{Auto: true}, site, []Cell{{ID: "x"}}, "10:00:00"},
		{"nothing known", Walltime{}, Profile{}, cells[:1], "24:00:00"},
	} {
		t.Run(test.name, func(t *testing.T) {
			script, err := Job(Options{Root: project, Walltime: test.w, Profile: test.p}, test.cells)
			require.NoError(t, err)
			has(t, script, "#PBS -l walltime="+test.want)
			noFindings(t, File{Path: "x.pbs", Data: script})
		})
	}
	script, err := Array(Options{Root: project, Walltime: Walltime{Auto: true}}, cells)
	require.NoError(t, err)
	has(t, script, "#PBS -l walltime=29:25:00") // that of the longest sub-job, 19.5 h
	script, err = Runner(Options{Root: project, Walltime: Walltime{Auto: true}}, cells...)
	require.NoError(t, err)
	has(t, script, "#PBS -l walltime=29:25:00")
}

func TestParseWalltime(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Walltime{
		"": {}, "auto": {Auto: true}, "24:00:00": {Limit: 24 * time.Hour}, "3600": {Limit: time.Hour}, "90m": {Limit: 90 * time.Minute}, "1.5h": {Limit: 90 * time.Minute},
	} {
		got, err := ParseWalltime(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{"x", "-1h", "00:10", "1s", "0", "24:00:00:00", "1d"} {
		_, err := ParseWalltime(text)
		require.Error(t, err, text)
	}
}

func TestGenerateUsage(t *testing.T) {
	t.Parallel()
	cells := planCells()
	for name, r := range map[string]Request{
		"two kinds":          {Exp: true, All: true, Cells: cells},
		"array alone":        {Array: true, Cells: cells},
		"no cells":           {All: true},
		"array resubmits":    {All: true, Array: true, Cells: cells, Options: Options{Resubmit: 1}},
		"chain to stdout":    {All: true, Cells: cells, Out: Stdout},
		"jobs to stdout":     {Exp: true, Cells: cells, Out: Stdout},
		"shakedown resubmit": {Shakedown: true, Options: Options{Resubmit: 1}},
	} {
		r.Root = project
		_, err := Generate(r)
		var usage *UsageError
		require.ErrorAs(t, err, &usage, name)
	}
	for name, r := range map[string]Request{
		"relative root":     {Options: Options{Root: "x"}},
		"array of one":      {Options: Options{Root: project}, All: true, Array: true, Cells: cells[:1]},
		"bad id":            {Options: Options{Root: project}, Exp: true, Cells: []Cell{{ID: "a b"}}},
		"endless":           {Options: Options{Root: project}, Exp: true, Cells: []Cell{{ID: "a", Hours: 1e9}}},
		"many resubmission": {Options: Options{Root: project, Resubmit: 1000}},
		"factor":            {Options: Options{Root: project, SafetyFactor: 0.5}},
		"line break":        {Options: Options{Root: "/a\nb"}},
	} {
		_, err := Generate(r)
		require.Error(t, err, name)
	}
}

func TestWrite(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	r := Request{Options: Options{Root: root}}
	out, err := Generate(r)
	require.NoError(t, err)
	require.NoError(t, out.Write(nil))
	path := filepath.Join(root, RunnerPath)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o755), info.Mode().Perm())
	require.DirExists(t, filepath.Join(root, "logs"))

	require.NoError(t, out.Write(nil))
	require.NoFileExists(t, path+".old", "nothing has changed")
	require.NoError(t, os.WriteFile(path, []byte("edited"), 0o755))
	require.NoError(t, out.Write(nil))
	old, err := os.ReadFile(path + ".old")
	require.NoError(t, err)
	require.Equal(t, "edited", string(old))

	// -o: a file, a folder that exists, standard output.
	r.Out = "x/y.pbs"
	out, err = Generate(r)
	require.NoError(t, err)
	require.Equal(t, filepath.Join(root, "x/y.pbs"), out.Files[0].Path)
	require.Contains(t, string(out.Files[0].Data), "glm46 gen-pbs --check x/y.pbs")
	r.Out = root
	out, err = Generate(r)
	require.NoError(t, err)
	require.Equal(t, filepath.Join(root, "exp_runner.pbs"), out.Files[0].Path)
	r.Out = Stdout
	out, err = Generate(r)
	require.NoError(t, err)
	var stdout bytes.Buffer
	require.NoError(t, out.Write(&stdout))
	require.True(t, strings.HasPrefix(stdout.String(), "#!/bin/bash\n"))
}

func TestNotes(t *testing.T) {
	t.Parallel()
	site := mustProfile(t, "preset: generic\narray_limit: no\nwalltime: {max: '10:00:00'}\n")
	out, err := Generate(Request{Options: Options{Root: project, Profile: site, Simultaneous: 2, Walltime: Walltime{Limit: 20 * time.Hour}}, All: true, Array: true, Cells: planCells()})
	require.NoError(t, err)
	notes := strings.Join(out.Notes, "\n")
	require.Contains(t, notes, "walltime 20:00:00 is above the site's limit: the jobs ask for 10:00:00")
	require.Contains(t, notes, "3A/64k is predicted to take 19.5 h, more than one job of 10:00:00")
	require.Contains(t, notes, "cannot limit the sub-jobs")
	require.NotContains(t, string(out.Files[0].Data), "%2")
}

func TestAsk(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	answers := "nowhere\nabci3\n\ngaa 1\ngaa1\n\n\n\n2d\n48:00:00\n/models/GLM-4.6\n"
	profile, text, err := Ask(strings.NewReader(answers), &out, "")
	require.NoError(t, err, out.String())
	require.Contains(t, out.String(), "not usable: the site needs it")
	require.Contains(t, out.String(), `not usable: "gaa 1" holds spaces`)
	require.Equal(t, "gaa1", profile.Project)
	require.Equal(t, "48:00:00", profile.Walltime.Default)
	require.Equal(t, "schema: 1\npreset: abci3\nproject: gaa1\nwalltime:\n  default: 48:00:00\nmodel: /models/GLM-4.6\n", string(text))

	again, err := ParseProfile("site.yaml", text)
	require.NoError(t, err)
	again.Name = profile.Name
	require.Equal(t, profile, again, "the answers as a file give the same profile")

	_, _, err = Ask(strings.NewReader("generic\n"), &out, "")
	require.ErrorContains(t, err, "no answer to")
	_, _, err = Ask(strings.NewReader(strings.Repeat("nowhere\n", 100)), &out, "")
	require.ErrorContains(t, err, "no usable answer")
}

func FuzzProfile(f *testing.F) {
	f.Add(fullProfile)
	for _, name := range PresetNames() {
		data, _ := Preset(name)
		f.Add(string(data))
	}
	f.Add("preset: abci3\nselect: [1]\n")
	f.Fuzz(func(t *testing.T, text string) {
		profile, err := ParseProfile("f.yaml", []byte(text))
		var faults *ProfileError
		if err != nil {
			if !errors.As(err, &faults) || len(faults.Faults) == 0 {
				t.Fatalf("not a list of faults: %v", err)
			}
			return
		}
		script, err := Runner(Options{Root: project, Profile: profile})
		if err != nil {
			return
		}
		if _, err := skeleton(script); err != nil {
			t.Fatalf("%v\n%s", err, script)
		}
		if _, err := optionLetters(script); err != nil {
			t.Fatalf("%v\n%s", err, script)
		}
	})
}
