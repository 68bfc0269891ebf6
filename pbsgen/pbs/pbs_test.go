package pbs

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// The rows are those of docs/pbs.md, "-v and -V".
func TestParseVariables(t *testing.T) {
	environment := map[string]string{"SET": "from environment", "COMMAS": "a,b\nc", "QUOTED": `say "hi"`, "ODD": `it's`, "A": "fromA"}
	tests := []struct {
		text string
		want []Variable // nil: refused
	}{
		{"EXP_NAME=2B_no_ep,ENABLE_EP=no,NUM_SAMPLES=100", []Variable{{"EXP_NAME", "2B_no_ep"}, {"ENABLE_EP", "no"}, {"NUM_SAMPLES", "100"}}},
		{"A=a b c", []Variable{{"A", "a b c"}}},
		{" A = a ", []Variable{{"A", "a"}}},
		{"A=x=y=z", []Variable{{"A", "x=y=z"}}},
		{"A=", []Variable{{"A", ""}}},
		{"A", []Variable{{"A", "fromA"}}},
		{"UNSET", nil},
		{"A=1,2,B=x", nil},
		{`A=1\,2,B=x`, []Variable{{"A", "1,2"}, {"B", "x"}}},
		{`A="1,2",B=x`, []Variable{{"A", "1,2"}, {"B", "x"}}},
		{`A='1,2',B=x`, []Variable{{"A", "1,2"}, {"B", "x"}}},
		{`A=x"y,z"w`, []Variable{{"A", "xy,zw"}}},
		{`A=say "hi"`, []Variable{{"A", "say hi"}}},
		{"A=it's", nil},
		{`A={"a":1,"b":[1,2]}`, nil},
		{`A='{"a":1}'`, []Variable{{"A", `{\a\:1}`}}},
		{`A='{"a":1,"b":2}'`, nil},
		{`A="{\"a\":1}"`, []Variable{{"A", `{\\a\\:1}`}}},
		{`A=C:\dir`, []Variable{{"A", `C:\\dir`}}},
		{"A=a\n\t$HOME`x`;&|<>*?#!%~é", []Variable{{"A", "a\n\t$HOME`x`;&|<>*?#!%~é"}}},
		{"A=1,", []Variable{{"A", "1"}}},
		{",A=1", nil},
		{"A=1,,B=2", nil},
		{"=1", nil},
		{"A=1,A=2", []Variable{{"A", "2"}}},
		{"a-b.c=1", []Variable{{"a-b.c", "1"}}},
		{"COMMAS", []Variable{{"COMMAS", "a,b\nc"}}},
		{"QUOTED", []Variable{{"QUOTED", `say \hi\`}}},
		{"ODD", nil},
	}
	for _, test := range tests {
		t.Run(test.text, func(t *testing.T) {
			got, err := ParseVariables(test.text, func(name string) (string, bool) { v, ok := environment[name]; return v, ok })
			if test.want == nil {
				var refusal *Refusal
				require.ErrorAs(t, err, &refusal)
				require.Equal(t, "qsub: cannot send environment with the job", refusal.Text)
				require.Equal(t, 1, refusal.Exit)
				return
			}
			require.NoError(t, err)
			require.Equal(t, test.want, got)
		})
	}
}

func TestSafeValuesArriveUnchanged(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.String().Draw(t, "value")
		if !SafeValue(value) {
			return
		}
		got, err := ParseVariables("A="+value+",B=x", func(string) (string, bool) { return "", false })
		if err != nil || len(got) != 2 || got[0].Value != value {
			t.Fatalf("%q arrived as %v, %v", value, got, err)
		}
	})
}

func TestQuoteGivesTheWordBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.String().Draw(t, "word")
		quoted, ok := Quote(word)
		if !ok {
			return
		}
		// The word stands in a directive among others, as the generator writes it.
		scan, err := Scan([]byte("#!/bin/bash\n#PBS -A " + quoted + " -r n\nset -e\n"))
		if err != nil || len(scan.Directives) != 1 {
			t.Fatalf("%q: %v %v", quoted, scan, err)
		}
		settings, err := DirectiveSettings(scan.Directives[0])
		if err != nil || len(settings) != 2 || settings[0].Value != word {
			t.Fatalf("%q quoted as %q read as %v, %v", word, quoted, settings, err)
		}
	})
}

func TestWalltime(t *testing.T) {
	good := map[string]time.Duration{
		"90": 90 * time.Second, "00:10": 10 * time.Second, "90:00": 90 * time.Minute, "24:00:00": 24 * time.Hour, "1.5": 2 * time.Second,
		"100:99:99": 101*time.Hour + 40*time.Minute + 39*time.Second, "1:00:00.0": time.Hour,
	}
	for text, want := range good {
		got, err := ParseWalltime(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "0", "00:00:00", "24h", "1d", "1:2:3:4", "-1", "1:-2", "abc", "1.5:00", "99999999999", "1e5", " 1", "٣"} {
		_, err := ParseWalltime(text)
		require.Error(t, err, text)
	}
	require.Equal(t, "101:40:39", FormatWalltime(good["100:99:99"]))
	require.Equal(t, "00:00:02", FormatWalltime(1500*time.Millisecond))
}

func TestScan(t *testing.T) {
	script := strings.Join([]string{
		"#!/bin/bash",            // 1
		"# PBS -N comment",       // 2
		"##PBS -N comment",       // 3
		"#pbs -N comment",        // 4
		"  #PBS -N indented",     // 5
		"#PBS",                   // 6
		"#PBS -l select=1\\",     // 7
		":ncpus=4 -j oe",         // 8
		"",                       // 9
		"#PBS_NOTE glued",        // 10
		"set -e",                 // 11
		"#PBS -l walltime=1",     // 12
		"echo '#PBS not at all'", // 13
	}, "\n")
	got, err := Scan([]byte(script))
	require.NoError(t, err)
	require.Equal(t, []Directive{{5, " -N indented"}, {7, " -l select=1:ncpus=4 -j oe"}, {10, "_NOTE glued"}}, got.Directives)
	require.Equal(t, 11, got.Stop)
	require.Equal(t, []Directive{{12, " -l walltime=1"}}, got.Ignored)

	_, err = DirectiveSettings(got.Directives[2])
	require.ErrorContains(t, err, "directive error:_NOTE glued")

	for _, stop := range []string{":", ": x", "cd /", "A=1", " : "} {
		got, err := Scan([]byte("#PBS -N a\n" + stop + "\n#PBS -N b\n"))
		require.NoError(t, err)
		require.Len(t, got.Directives, 1, stop)
		require.Equal(t, 2, got.Stop, stop)
	}
	_, err = Scan([]byte("#!/bin/bash\n#PBS -N a\r\n"))
	var refusal *Refusal
	require.ErrorAs(t, err, &refusal)
	require.Equal(t, Refusal{"qsub: script contains cr, lf", 1, 2}, *refusal)
}

func settings(t *testing.T, lines ...string) []Setting {
	t.Helper()
	var all []Setting
	for i, line := range lines {
		more, err := DirectiveSettings(Directive{Line: i + 1, Text: " " + line})
		require.NoError(t, err)
		all = append(all, more...)
	}
	return all
}

func commandLine(t *testing.T, words ...string) []Setting {
	t.Helper()
	got, rest, err := ParseArguments(words)
	require.NoError(t, err)
	require.Empty(t, rest)
	return got
}

func TestPrecedence(t *testing.T) {
	script := settings(t, "-N first -q q1", "-Nsecond", "-l walltime=1", "-l walltime=2", "-l select=1:ncpus=2", "-v A=1,B=2", "-W umask=022", "-W sandbox=PRIVATE")
	job, err := Merge(nil, script)
	require.NoError(t, err)
	require.Equal(t, "second", job.Name, "the last -N wins")
	require.Equal(t, time.Second, job.Walltime(), "among directives the first -l wins")
	require.Equal(t, "A=1,B=2", *job.Variables)
	require.Equal(t, map[string]string{"umask": "022", "sandbox": "PRIVATE"}, job.Attributes)

	job, err = Merge(commandLine(t, "-l", "walltime=5", "-l", "walltime=7", "-v", "C=3", "-qq2", "-W", "umask=077"), script)
	require.NoError(t, err)
	require.Equal(t, 7*time.Second, job.Walltime(), "on the command line the last -l wins")
	require.Equal(t, "1:ncpus=2", job.Resource("select"), "-l merges by resource")
	require.Equal(t, "C=3", *job.Variables, "-v of the command line replaces that of the script")
	require.Equal(t, "q2", job.Queue)
	require.Equal(t, map[string]string{"umask": "077", "sandbox": "PRIVATE"}, job.Attributes)
}

func TestRefusals(t *testing.T) {
	tests := []struct {
		words string
		text  string
		exit  int
	}{
		{"-Z", "qsub: invalid option -- 'Z'", 2},
		{"-N", "qsub: option requires an argument -- 'N'", 2},
		{"-N a/b", "qsub: illegal -N value", 2},
		{"-N " + strings.Repeat("a", 231), "qsub: Job name is too long ", 2},
		{"-r no", "qsub: illegal -r value", 2},
		{"-k x", "qsub: illegal -k value", 2},
		{"-j xx", "qsub: illegal -j value", 2},
		{"-m x", "qsub: illegal -m value", 2},
		{"-p 2000", "qsub: illegal -p value", 2},
		{"-q abcdefghijklmnop", "qsub: illegally formed destination: abcdefghijklmnop", 2},
		{"-P a/b", "qsub: Illegal attribute or resource value project", 166},
		{"-o nosuchhost:/x", "qsub: illegal -o value", 2},
		{"-l walltime=24h", "qsub: Illegal attribute or resource value Resource_List.walltime", 166},
		{"-l select=0:ncpus=1", "qsub: Illegal attribute or resource value Resource_List.select", 166},
		{"-l select=1:mem=x", "qsub: Illegal attribute or resource value select.mem", 166},
		{"-l nodes=1:ppn=96:gpus=8", "qsub: node(s) specification error", 241},
		{"-l soft_walltime=1", "qsub: Cannot set attribute, read only or insufficient permission", 155},
		{"-l select=1 -l ngpus=8", `qsub: "-lresource=" cannot be used with "select" or "place", resource is: ngpus`, 5},
		{"-J 1,3,5", "qsub: illegal -J value", 2},
		{"-J 0-0", "qsub: illegal -J value", 2},
		{"-J 0", "qsub: illegal -J value", 2},
		{"-J 0-3 -r n", "qsub:  cannot submit non-rerunable Array Job", 1},
		{"-W foo=bar", "qsub: Error (15002) submitting job", 154},
		{"-W umask=abc", "qsub: illegal -W value", 2},
		{"-W depend=afterok:abc", "qsub: illegal -W value", 2},
		{"-W depend=afterok:88[3].srv", "qsub: illegal -W value", 2},
		{"-W depend=sometimes:1", "qsub: illegal -W value", 2},
	}
	for _, test := range tests {
		t.Run(test.words, func(t *testing.T) {
			given, _, err := ParseArguments(strings.Fields(test.words))
			if err == nil {
				_, err = Merge(given, nil)
			}
			var refusal *Refusal
			require.ErrorAs(t, err, &refusal)
			require.Equal(t, test.text, refusal.Text)
			require.Equal(t, test.exit, refusal.Exit)
		})
	}
}

func TestAccepted(t *testing.T) {
	for _, words := range []string{
		"-N 5B_kv", "-W umask=0999", "-l select=1", "-l select=ncpus=1", "-l select=2:ncpus=4:mem=10gb+1:ngpus=8", "-J 0-13%4", "-J 1-9:2",
		"-l walltime=0", "-l walltime", "-W depend=afterok:1:2.srv,afterany:88[].srv", "-k oed", "-k n", "-l nodes=1:ppn=4", "-P any", "-A any,thing",
		"-l select=1:ncpus=1 -l walltime=1 -l filesystems=home", "-m abe", "-q @server", "-W group_list=g -W block=true",
	} {
		given, _, err := ParseArguments(strings.Fields(words))
		require.NoError(t, err, words)
		_, err = Merge(given, nil)
		require.NoError(t, err, words)
	}
	job, err := Merge(commandLine(t, "-J", "0-13:3%4"), nil)
	require.NoError(t, err)
	require.Equal(t, []int{0, 3, 6, 9, 12}, job.Array.Indices())
	require.Equal(t, 4, job.Array.Limit)
}

func TestTrailingCommentIsRefused(t *testing.T) {
	_, err := DirectiveSettings(Directive{Line: 3, Text: " -l walltime=99 # x"})
	var refusal *Refusal
	require.ErrorAs(t, err, &refusal)
	require.Equal(t, Refusal{"qsub: directive error: -l walltime=99 # x ", 1, 3}, *refusal)
	_, err = DirectiveSettings(Directive{Text: " -Z bad"})
	require.EqualError(t, err, "qsub: invalid option -- 'Z'\nqsub: directive error: -Z bad ")
}

func TestDirectiveQuotes(t *testing.T) {
	require.Equal(t, []string{"-v", `A="1,2",B=x y`}, Words(` -v 'A="1,2",B=x y'`))
	require.Equal(t, []string{"a b", "c'd", ""}, Words(`a\ b "c'd" ''`))
}

func TestSize(t *testing.T) {
	for text, want := range map[string]int64{"10gb": 10 << 30, "10GB": 10 << 30, "10G": 10 << 30, "1TB": 1 << 40, "10": 10, "5b": 5, "2kw": 16 << 10, "1w": 8} {
		got, err := ParseSize(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "gb", "1.5gb", "-1gb", "1xb", "999999999tb", "1 gb"} {
		_, err := ParseSize(text)
		require.Error(t, err, text)
	}
}

// FuzzScript looks for panics, and for directives that come from lines that do not
// hold the prefix.
func FuzzScript(f *testing.F) {
	f.Add([]byte("#!/bin/bash\n#PBS -N a -l select=1:ncpus=2 -v 'A=\"1,2\"'\n#PBS -J 0-3%2\nset -e\n"))
	f.Add([]byte("#PBS -l walltime=1:2:3\\\n4 -W depend=afterok:1\n: \n#PBS -o x"))
	f.Fuzz(func(t *testing.T, data []byte) {
		script, err := Scan(data)
		if err != nil {
			return
		}
		var all []Setting
		for _, d := range script.Directives {
			more, err := DirectiveSettings(d)
			if err != nil {
				continue
			}
			all = append(all, more...)
		}
		job, err := Merge(nil, all)
		if err != nil {
			var refusal *Refusal
			if !errors.As(err, &refusal) {
				t.Fatalf("not a refusal: %v", err)
			}
			return
		}
		if job.Variables != nil {
			_, _ = ParseVariables(*job.Variables, func(string) (string, bool) { return "", false })
		}
	})
}
