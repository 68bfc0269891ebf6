package pbsgen

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/glm46/glm46/pbsgen/pbs"
)

const project = "/home/user/glm46"

func TestGolden(t *testing.T) {
	site := mustProfile(t, fullProfile)
	options := Options{Root: project}
	tests := []struct {
		name string
		r    Request
	}{
		{"runner", Request{Options: options}},
		{"runner-resubmit", Request{Options: Options{Root: project, Profile: site, Resubmit: 3}}},
		{"job-5B", Request{Options: Options{Root: project, Walltime: Walltime{Auto: true}}, Exp: true, Cells: planCells()[7:8]}},
		{"job-3A", Request{Options: options, Exp: true, Cells: planCells()[4:6]}},
		{"jobs", Request{Options: Options{Root: project, Profile: site}, Exp: true, Cells: planCells()[6:]}},
		{"array", Request{Options: Options{Root: project, Simultaneous: 4, Walltime: Walltime{Auto: true}, Plan: "plans/my plan.yaml", RunArgs: []string{"--base", "compiled"}}, All: true, Array: true, Cells: planCells()}},
		{"chain", Request{Options: Options{Root: project, Walltime: Walltime{Limit: 24 * time.Hour}, Resubmit: 2}, All: true, Cells: planCells()}},
		{"shakedown", Request{Options: options, Shakedown: true}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			out, err := Generate(test.r)
			require.NoError(t, err)
			for _, f := range out.Files {
				sound(t, f.Data)
				golden(t, filepath.Join(test.name, filepath.Base(f.Path)), f.Data)
				noFindings(t, f)
			}
			golden(t, filepath.Join(test.name, "notes.txt"), []byte(strings.Join(out.Notes, "\n")+"\n"))
			for _, dir := range out.Dirs {
				require.True(t, filepath.IsAbs(dir))
			}
		})
	}
}

// noFindings has the checker find nothing in what the generator wrote, but the log
// folder that is not there in tests.
func noFindings(t *testing.T, f File) {
	t.Helper()
	if filepath.Ext(f.Path) != ".pbs" {
		return
	}
	for _, finding := range CheckScript(filepath.Base(f.Path), f.Data) {
		if finding.Level != Note && !strings.Contains(finding.What, "log folder") {
			t.Errorf("%s:%v", f.Path, finding)
		}
	}
}

// fullProfile uses every field.
const fullProfile = `
schema: 1
preset: hopper
name: my site
description: two words
queue: AISG_large
project: proj-1
account: acct
group_list: grp
select: 1:ncpus=112:ngpus=8:mem=1800gb:host=n1
place: scatter:exclhost
walltime: {default: "08:00:00", max: "48:00:00"}
directives: ["-l filesystems=home:eagle", "-p 10"]
variables: {RTYPE: rt_HF, USE_SSH: "1"}
keep: oed
umask: "022"
array_limit: no
mail: {to: "me@example.org,you@example.org", when: abe}
modules: {init: /etc/profile.d/modules.sh, use: [/apps/my modules], load: [cuda/12.4, singularity]}
container:
  kind: singularity
  image: ${HOME}/images/vllm 0.11.sif
  binds: ["${HOME}/data:/data", /scratch]
  options: [--no-home, "--env=A=it's $5"]
  env: [MY_VAR]
  command: [/opt/venv/bin/vllm]
environment: {HF_HOME: "/scratch/${USER}/hf", NCCL_DEBUG: WARN, ODD: "a'b\"c $(x) ` + "`y`" + ` \\ !z"}
scratch: ${PBS_LOCALDIR}
cache: /scratch/${USER}/cache
copy_binary: yes
model: /scratch/models/GLM-4.6
data: /scratch/data
results: /scratch/results dir
logs: job logs
venv: /scratch/${USER}/venv
`

func TestPresets(t *testing.T) {
	require.Contains(t, PresetNames(), "generic")
	require.Contains(t, PresetNames(), "abci3")
	require.Contains(t, PresetNames(), "hopper")
	for _, name := range PresetNames() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			profile, err := LoadProfile(name)
			require.NoError(t, err)
			require.Equal(t, name, profile.Name)
			_, err = Runner(Options{Root: project, Profile: profile})
			if len(profile.Requires) > 0 {
				var missing *MissingError
				require.ErrorAs(t, err, &missing)
				require.Equal(t, profile.Requires, missing.Fields)
			}
			profile.Project, profile.Account = "p1", "a1"
			script, err := Runner(Options{Root: project, Profile: profile, Path: RunnerPath})
			require.NoError(t, err)
			sound(t, script)
			golden(t, filepath.Join("presets", name+".pbs"), script)
		})
	}
}

func TestEnrootContainer(t *testing.T) {
	profile := mustProfile(t, "preset: hopper\nproject: p\ncontainer: {kind: enroot, image: '${HOME}/vllm.sqsh', binds: ['/a:/b'], env: [MY_VAR]}\n")
	script, err := Runner(Options{Root: project, Profile: profile, Path: RunnerPath})
	require.NoError(t, err)
	sound(t, script)
	golden(t, "enroot.pbs", script)
}

func TestDirectivesOfEveryKind(t *testing.T) {
	out, err := Generate(Request{Options: Options{Root: project, Simultaneous: 3}, All: true, Array: true, Cells: planCells()})
	require.NoError(t, err)
	has(t, out.Files[0].Data, "#PBS -J 0-5%3", "#PBS -l walltime=24:00:00", "walltime_s=86400 # the walltime above in seconds: a job cannot see its own limit")
	require.NotContains(t, string(out.Files[0].Data), "#PBS -r n", "refused with -J")

	script, err := Job(Options{Root: project}, planCells()[7:8])
	require.NoError(t, err)
	has(t, script, "#PBS -N glm46_5B", "#PBS -r n", "#PBS -j oe", "#PBS -k oed", "#PBS -W umask=027", "#PBS -o "+project+"/logs/",
		`exec "$program" run --exp 5B </dev/null`)
	require.True(t, strings.HasSuffix(string(script), "</dev/null\n"), "exec is the last line")

	script, err = Shakedown(Options{Root: project, Walltime: Walltime{Limit: 24 * time.Hour}})
	require.NoError(t, err)
	has(t, script, "#PBS -l walltime=00:20:00", `exec "$program" run --shakedown </dev/null`)
}

// PBS takes a colon in -o for the end of a host name.
func TestColonInTheProject(t *testing.T) {
	out, err := Generate(Request{Options: Options{Root: "/data/a:b"}})
	require.NoError(t, err)
	require.NotContains(t, string(out.Files[0].Data), "#PBS -o")
	require.Contains(t, strings.Join(out.Notes, "\n"), "colon")
	sound(t, out.Files[0].Data)
}

func TestWalltimeAndSecondsAgree(t *testing.T) {
	for _, limit := range []time.Duration{10 * time.Minute, 90 * time.Minute, 24 * time.Hour, 168*time.Hour + time.Second} {
		script, err := Runner(Options{Root: project, Walltime: Walltime{Limit: limit}})
		require.NoError(t, err)
		has(t, script, "#PBS -l walltime="+pbs.FormatWalltime(limit))
		noFindings(t, File{Path: "x.pbs", Data: script})
	}
}
