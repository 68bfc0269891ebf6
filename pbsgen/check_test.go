package pbsgen

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Each edit that people make to a script is explained, at its line.
func TestCheckExplainsEdits(t *testing.T) {
	t.Parallel()
	script, err := Runner(Options{Root: project, Path: RunnerPath})
	require.NoError(t, err)
	for _, test := range []struct {
		name, old, new string
		level          Level
		want           string // part of the finding
		at             string // a text on the finding's line; empty: the whole file
	}{
		{"units in walltime", "walltime=24:00:00", "walltime=24h", Error, "Illegal attribute or resource value Resource_List.walltime; write HH:MM:SS", "walltime=24h"},
		{"longer walltime only", "walltime=24:00:00", "walltime=12:00:00", Error, "glm46 is told 86400 s, PBS 43200 s", "walltime_s=86400"},
		{"shorter seconds", "walltime_s=86400", "walltime_s=3600", Warning, "glm46 stops earlier than it must", "walltime_s=3600"},
		{"ten seconds", "walltime=24:00:00", "walltime=00:10", Warning, "the walltime is 10s", "walltime=00:10"},
		{"no walltime", "#PBS -l walltime=24:00:00\n", "", Warning, "no walltime", ""},
		{"no seconds", "walltime_s=86400", "walltime_s=$x", Warning, "glm46 is not told the walltime", ""},
		{"trailing comment", "#PBS -r n", "#PBS -r n # no restart", Error, "a comment stands behind the directive", "#PBS -r n"},
		{"glued comment", "#PBS -r n", "#PBS_NOTE", Error, "#PBS is glued", "#PBS_NOTE"},
		{"a comment that looks like one", "#PBS -r n", "# PBS -r n", Note, "this is a comment, not a directive", "# PBS -r n"},
		{"late directive", "set -euo pipefail", "set -euo pipefail\n#PBS -q fast", Error, "this directive is ignored: -q fast", "#PBS -q fast"},
		{"unknown option", "#PBS -r n", "#PBS -Z x", Error, "invalid option -- 'Z'", "#PBS -Z x"},
		{"bad name", "#PBS -N glm46", "#PBS -N a/b", Error, "illegal -N value; a job name has letters", "-N a/b"},
		{"variable in -o", "-o /home/user/glm46/logs/", "-o $PBS_JOBID.log", Warning, "-o does not expand variables", "$PBS_JOBID.log"},
		{"host in -o", "#PBS -o /home", "#PBS -o home:/x", Error, "a path in -o and -e must not hold a colon", "#PBS -o home:"},
		{"array of one", "#PBS -r n", "#PBS -J 0-0", Error, "no lists, and more than one element", "-J 0-0"},
		{"array not rerunnable", "#PBS -r n", "#PBS -r n -J 0-3", Error, "array jobs are always rerunnable", "#PBS -r n -J"},
		{"job-wide with select", "#PBS -r n", "#PBS -l ngpus=8", Error, `cannot be used with "select"`, "-l ngpus=8"},
		{"no memory", ":mem=1000gb", "", Warning, "mem is not asked for", "select="},
		{"memory in bytes", "mem=1000gb", "mem=1000", Error, "mem=1000 is 1000 bytes", "select="},
		{"no cores", "ncpus=64:", "", Warning, "ncpus is not asked for", "select="},
		{"no GPUs", "ngpus=8:", "", Warning, "ngpus is not asked for", "select="},
		{"second walltime", "#PBS -r n", "#PBS -l walltime=1:00:00", Warning, "among directives the first counts", "walltime=1:00:00"},
		{"second name", "#PBS -r n", "#PBS -N other", Warning, "-N is given again", "-N other"},
		{"log stays on the node", "#PBS -k oed\n", "", Note, "the log stays on the node", ""},
		{"whole environment", "#PBS -r n", "#PBS -V", Warning, "-V copies the whole environment", "#PBS -V"},
		{"variables", "#PBS -r n", "#PBS -v A=1", Note, "a -v on qsub's command line replaces this one", "-v A=1"},
		{"TORQUE", "#PBS -l select=1:ncpus=64:ngpus=8:mem=1000gb", "#PBS -l nodes=1:ppn=96:gpus=8", Error, "node(s) specification error", "nodes=1"},
		{"lost missing log folder", "#PBS -o /home/user/glm46/logs/", "#PBS -o /no/such/folder/", Error, "the log folder /no/such/folder does not exist here", "/no/such/folder/"},
		{"CRLF", "#PBS -r n\n", "#PBS -r n\r\n", Error, "script contains cr, lf", "#PBS -r n"},
		{"BOM", "#!/bin/bash\n", "\ufeff#!/bin/bash\n", Error, "byte order mark", "\ufeff#!"},
		{"no shebang", "#!/bin/bash\n", "# hello\n", Warning, "no #! line", "# hello"},
		{"syntax", "umask 027", "umask 027; if", Error, "bash cannot read the script", ""},
		{"setsid", "exec \"$program\"", "exec setsid \"$program\"", Error, "setsid takes a program out of the job", "setsid"},
		{"setsid alone", "exec \"$program\" run", "setsid \"$program\" run", Error, "setsid takes a program out of the job", "setsid"},
		{"no exec", "exec \"$program\" run", "\"$program\" run", Warning, "glm46 runs without exec", "\"$program\" run"},
		{"eval", "umask 027", "eval \"$EXP_NAME\"", Warning, "eval runs text as a command", "eval"},
		{"not strict", "set -euo pipefail", "set -u", Warning, "no set -euo pipefail", ""},
		{"nohup", "umask 027", "nohup true", Warning, "nohup has no use in a job", "nohup"},
	} {
		t.Run(test.name, func(t *testing.T) {
			text := string(script)
			require.Contains(t, text, test.old)
			text = strings.Replace(text, test.old, test.new, 1)
			var seen []string
			for _, f := range CheckScript("exp_runner.pbs", []byte(text)) {
				seen = append(seen, f.String())
				if f.Level != test.level || !strings.Contains(f.String(), test.want) {
					continue
				}
				if test.at == "" {
					return
				}
				require.Positive(t, f.Line, f)
				require.Contains(t, strings.Split(text, "\n")[f.Line-1], test.at)
				return
			}
			t.Fatalf("no %s %q in:\n%s", test.level, test.want, strings.Join(seen, "\n"))
		})
	}
}

func TestCheckFile(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	out, err := Generate(Request{Options: Options{Root: root}})
	require.NoError(t, err)
	require.NoError(t, out.Write(nil))
	findings, err := Check(out.Files[0].Path)
	require.NoError(t, err)
	require.Empty(t, findings, "the log folder is made with the script")
	for _, request := range []Request{{All: true, Cells: planCells()}, {Exp: true, Cells: planCells()}} {
		request.Root, request.Walltime.Limit, request.Resubmit = root, 24*time.Hour, 2
		out, err := Generate(request)
		require.NoError(t, err)
		require.NoError(t, out.Write(nil))
		for _, f := range out.Files {
			findings, err := Check(f.Path)
			require.NoError(t, err)
			require.Empty(t, findings, f.Path)
		}
	}
	_, err = Check(filepath.Join(root, "missing"))
	require.ErrorIs(t, err, os.ErrNotExist)

	name := filepath.Join(root, "a b.sh")
	require.NoError(t, os.WriteFile(name, []byte("#!/bin/bash\nset -euo pipefail\nexec glm46 run\n"), 0o644))
	findings, err = Check(name)
	require.NoError(t, err)
	require.True(t, slices.ContainsFunc(findings, func(f Finding) bool {
		return f.Level == Error && strings.Contains(f.What, `the file name "a b.sh" becomes the job's name`)
	}), findings)
}

func FuzzCheck(f *testing.F) {
	script, err := Runner(Options{Root: project})
	require.NoError(f, err)
	f.Add(script)
	f.Add([]byte("#PBS\r\n#PBS -l select=1:mem=1\nset -e\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, finding := range CheckScript("x.pbs", data) {
			if finding.What == "" || finding.Line < 0 || finding.Line > strings.Count(string(data), "\n")+1 {
				t.Fatalf("%+v", finding)
			}
		}
	})
}
