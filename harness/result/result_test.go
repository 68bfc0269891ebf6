package result

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/glm46/glm46/harness/measure"
)

// writerVariable makes the test binary a writer that works in the folder it
// names until it is killed.
const writerVariable = "GLM46_TEST_WRITER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(writerVariable); dir != "" {
		writeUntilKilled(dir)
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func sample(exp, set string) StartJSON {
	return StartJSON{Experiment: Experiment{ID: "5B", Name: exp}, Dataset: Dataset{Name: set, SHA256: "ab"},
		ConfigHash: "c0ffee", ResumeKey: "key", Argv: []string{"vllm", "serve"}}
}

func create(t *testing.T, results string, s StartJSON) *Start {
	t.Helper()
	start, err := Create(results, s, CreateOptions{Now: time.Date(2026, 11, 24, 17, 0, 0, 0, time.UTC), JobID: "12[3].srv"})
	require.NoError(t, err)
	t.Cleanup(start.Abandon)
	return start
}

func run(name string, reasons ...measure.Reason) *measure.RunJSON {
	r := measure.IncompleteRun()
	r.Level = measure.LevelInfo{Name: name, Concurrency: 1}
	r.Validity = measure.Validity{OK: len(reasons) == 0, Reasons: append([]measure.Reason{}, reasons...), Labels: []measure.Label{}}
	return r
}

func only(t *testing.T, results string) StartResult {
	t.Helper()
	all, err := ReadAll(results)
	require.NoError(t, err)
	require.Len(t, all, 1)
	return all[0]
}

func TestLife(t *testing.T) {
	results := t.TempDir()
	s := create(t, results, sample("5B_kv_bf16", "8k"))
	want := regexp.MustCompile(`^` + regexp.QuoteMeta(results) + `/5B_kv_bf16/8k/20261124T170000Z-12\.3-[0-9a-f]{16}$`)
	if !want.MatchString(s.Dir()) {
		t.Errorf("folder %s", s.Dir())
	}
	got := only(t, results)
	if got.State() != StateRunning || !got.Live || got.Owner.PID != os.Getpid() {
		t.Errorf("at the beginning: %s, live %v", got.State(), got.Live)
	}
	require.NoError(t, s.Update(func(j *StartJSON) { j.Server = &Server{KVTokens: 7}; j.StartID = "mine"; j.Validity.OK = true }))
	if j := s.JSON(); j.StartID == "mine" || j.Validity.OK || j.Server.KVTokens != 7 {
		t.Errorf("after an update: %+v", j)
	}
	l, err := s.Level(run("c1"))
	require.NoError(t, err)
	if got := only(t, results); !has(got.Levels[0].Run.Validity, measure.ReasonIncomplete) || got.Levels[0].Finished() {
		t.Errorf("a level begins as %+v", got.Levels[0].Run.Validity)
	}
	_, err = s.Level(run("c1"))
	require.ErrorIs(t, err, fs.ErrExist, "a level exists once")
	require.NoError(t, l.Update(run("c1")))
	if got := only(t, results); got.Levels[0].Finished() {
		t.Error("an updated level is finished")
	}
	require.Error(t, l.Finish(run("c1", measure.ReasonIncomplete)), "a verdict is due")
	both := run("c1", measure.ReasonInterrupted)
	both.Validity.OK = true
	require.Error(t, l.Finish(both), "neither valid nor not")
	require.NoError(t, l.Finish(run("c1")))
	require.Error(t, l.Finish(run("c1")), "finished once")
	require.NoError(t, s.Finish(measure.Validity{Reasons: []measure.Reason{measure.ReasonIncomplete}}, time.Now()))
	require.Error(t, s.Update(func(*StartJSON) {}), "finished")
	got = only(t, results)
	if got.State() != StateValid || !got.Start.Validity.OK || got.Start.Finished == nil || got.Live {
		t.Errorf("in the end: %s %+v", got.State(), got.Start.Validity)
	}
}

func TestNamesThatAreNoFolders(t *testing.T) {
	results := t.TempDir()
	for _, name := range []string{"", "..", "../x", "a/b", ".hidden", "a b", "$(touch x)", "a\nb", strings.Repeat("x", 65), "ä", "-x", `"`} {
		var bad *NameError
		_, err := Create(results, sample(name, "8k"), CreateOptions{})
		require.ErrorAs(t, err, &bad, "experiment %q", name)
		_, err = Create(results, sample("x", name), CreateOptions{})
		require.ErrorAs(t, err, &bad, "data set %q", name)
	}
	s := create(t, results, sample("x", "8k"))
	for _, name := range []string{"", "..", "c1/../..", ".c1"} {
		var bad *NameError
		_, err := s.Level(run(name))
		require.ErrorAs(t, err, &bad)
	}
	entries, err := os.ReadDir(results)
	require.NoError(t, err)
	require.Len(t, entries, 1)
}

func TestStates(t *testing.T) {
	finish := func(v measure.Validity) func(*Start) {
		return func(s *Start) { require.NoError(t, s.Finish(v, time.Now())) }
	}
	for _, c := range []struct {
		want   State
		change func(*StartJSON)
		end    func(*Start)
	}{
		{StateValid, nil, finish(measure.Validity{})},
		{StateNotValid, nil, finish(measure.Validity{Reasons: []measure.Reason{measure.ReasonLittlesLaw}})},
		{StateInterrupted, nil, finish(measure.Validity{Reasons: []measure.Reason{measure.ReasonInterrupted}})},
		{StateRefused, func(j *StartJSON) { j.Refused = &Refused{Class: "x"} }, finish(measure.Validity{Reasons: []measure.Reason{ReasonRefused}})},
		{StateFailed, func(j *StartJSON) { j.Failed = &Failed{Class: "x"} }, finish(measure.Validity{Reasons: []measure.Reason{ReasonFailedStart}})},
		{StateIncomplete, nil, (*Start).Abandon},
		{StateRunning, nil, func(*Start) {}},
	} {
		results := t.TempDir()
		s := create(t, results, sample("x", "8k"))
		if c.change != nil {
			require.NoError(t, s.Update(c.change))
		}
		c.end(s)
		if got := only(t, results).State(); got != c.want {
			t.Errorf("want %s, got %s", c.want, got)
		}
		all, err := ReadAll(results)
		require.NoError(t, err)
		resumable := Resumable(all, "key")
		if want := c.want == StateInterrupted || c.want == StateIncomplete; (len(resumable) == 1) != want {
			t.Errorf("%s: resumable %v", c.want, len(resumable) == 1)
		}
		finished := Finished(all, "key")
		if (len(finished) == 1) != (c.want == StateValid) {
			t.Errorf("%s: finished %d", c.want, len(finished))
		}
		require.Empty(t, Resumable(all, "another key"))
		require.Empty(t, Resumable(all, ""))
	}
}

func TestReadAllPassesOverWhatIsNotOurs(t *testing.T) {
	results := t.TempDir()
	create(t, results, sample("b", "8k")).Abandon()
	create(t, results, sample("a", "8k")).Abandon()
	write := func(path, text string) {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(results, path)), 0o777))
		require.NoError(t, os.WriteFile(filepath.Join(results, path), []byte(text), 0o666))
	}
	write("a/8k/.x.tmp-1/start.json", `{}`)
	write("a/8k/notes/readme.txt", "mine")
	write("a/readme.txt", "mine")
	write("c/8k/broken/start.json", `{"glm46_schema_version": 1`)
	write("d/8k/future/start.json", `{"glm46_schema_version": 99, "validity": {"ok": true}}`)
	write("e/8k/liar/start.json", `{"glm46_schema_version": 1, "validity": {"ok": true, "reasons": ["interrupted"]}}`)
	write("f/8k/nothing/start.json", ``)
	require.NoError(t, os.Symlink("/", filepath.Join(results, "g")))
	require.NoError(t, os.MkdirAll(filepath.Join(results, "h/8k/link"), 0o777))
	require.NoError(t, os.Symlink("/dev/zero", filepath.Join(results, "h/8k/link/start.json")))
	all, err := ReadAll(results)
	require.NoError(t, err)
	var got []string
	for _, r := range all {
		got = append(got, fmt.Sprintf("%s %v", r.ExpName, r.Err == nil))
	}
	if want := []string{"a true", "b true", "c false", "d false", "e false", "f false", "h false"}; !slices.Equal(got, want) {
		t.Errorf("want %q, got %q", want, got)
	}
	_, err = ReadAll(filepath.Join(results, "none"))
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestCompareLevels(t *testing.T) {
	names := []string{"x", "r10", "c100", "r2.5", "c16", "c1", "auto"}
	slices.SortFunc(names, CompareLevels)
	if want := []string{"c1", "c16", "c100", "r2.5", "r10", "auto", "x"}; !slices.Equal(names, want) {
		t.Errorf("got %q", names)
	}
	for want, got := range map[string]string{"c16": LevelName(16, 0), "r2.5": LevelName(0, 2.5), "r10": LevelName(4, 10)} {
		if got != want {
			t.Errorf("want %s, got %s", want, got)
		}
	}
}

// Two writers of one RESULTS directory never get the same folder, and neither
// changes what the other has written.
func TestManyWriters(t *testing.T) {
	results := t.TempDir()
	const writers, starts = 8, 6
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range starts {
				j := sample("5B", "8k")
				j.Notes = []string{fmt.Sprintf("%d/%d", w, i)}
				// The same instant and the same job: a requeued job's case.
				s, err := Create(results, j, CreateOptions{Now: time.Unix(1e9, 0), JobID: "7.srv"})
				if err != nil {
					t.Error(err)
					return
				}
				l, err := s.Level(run("c1"))
				if err != nil {
					t.Error(err)
					return
				}
				if err := errors.Join(l.Finish(run("c1")), s.Finish(measure.Validity{}, time.Now())); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	all, err := ReadAll(results)
	require.NoError(t, err)
	seen := map[string]bool{}
	for _, r := range all {
		if r.State() != StateValid || len(r.Levels) != 1 {
			t.Errorf("%s: %s", r.Dir, r.State())
		}
		seen[r.Start.Notes[0]] = true
	}
	if len(seen) != writers*starts {
		t.Errorf("want %d starts, got %d", writers*starts, len(seen))
	}
}

// writeUntilKilled goes through whole lives of starts for ever.
func writeUntilKilled(results string) {
	for i := 0; ; i++ {
		s, err := Create(results, sample("x", "8k"), CreateOptions{})
		if err != nil {
			fmt.Println(err)
			return
		}
		big := strings.Repeat("word ", 20000)
		for k := range 3 {
			_ = s.Update(func(j *StartJSON) { j.Notes = append(j.Notes, strconv.Itoa(k)+big) })
		}
		if l, err := s.Level(run("c1")); err == nil {
			r := run("c1")
			r.Identity.Label = big
			_ = l.Finish(r)
		}
		_ = s.Finish(measure.Validity{}, time.Now())
		if i == 0 {
			fmt.Println("going")
		}
	}
}

// Killed at any instant, a writer leaves records that can be read and that say
// truly whether they are finished; a dead writer's folder is not live.
func TestKilledAtAnyInstant(t *testing.T) {
	kills := 12
	if os.Getenv("GLM46_LONG") != "" {
		kills = 200
	}
	results := t.TempDir()
	for i := range kills {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), writerVariable+"="+results)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		buf := make([]byte, 16)
		_, err = out.Read(buf)
		require.NoError(t, err)
		time.Sleep(time.Duration(i*i%37) * time.Millisecond / 3)
		require.NoError(t, cmd.Process.Kill())
		_ = cmd.Wait()
	}
	all, err := ReadAll(results)
	require.NoError(t, err)
	complete, incomplete := 0, 0
	for _, r := range all {
		require.NoError(t, r.Err)
		switch r.State() {
		case StateValid:
			complete++
			if len(r.Levels) != 1 || !r.Levels[0].Finished() || len(r.Start.Notes) != 3 {
				t.Errorf("%s says valid, but is not whole", r.Dir)
			}
		case StateIncomplete:
			incomplete++
			for _, l := range r.Levels {
				require.NoError(t, l.Err)
			}
		default:
			t.Errorf("%s: %s", r.Dir, r.State())
		}
	}
	if complete == 0 || incomplete > kills {
		t.Errorf("%d complete, %d incomplete after %d kills", complete, incomplete, kills)
	}
}

// Whatever step fails, what was there before is still there.
func TestFailingDiskLeavesTheOld(t *testing.T) {
	if os.Getuid() == 0 {
		// Root writes anywhere; a file in the place of a folder stops it too.
		t.Log("as root: rights do not bind")
	}
	results := t.TempDir()
	s := create(t, results, sample("x", "8k"))
	before, err := os.ReadFile(s.Path(StartFile))
	require.NoError(t, err)
	// A folder in the place of the file: neither root nor anyone replaces it.
	require.NoError(t, os.Rename(s.Path(StartFile), s.Path("kept")))
	require.NoError(t, os.MkdirAll(filepath.Join(s.Path(StartFile), "sub"), 0o777))
	require.Error(t, s.Update(func(j *StartJSON) { j.Notes = []string{"new"} }))
	if len(s.JSON().Notes) != 0 {
		t.Error("what was not written counts as written")
	}
	require.NoError(t, os.RemoveAll(s.Path(StartFile)))
	require.NoError(t, os.Rename(s.Path("kept"), s.Path(StartFile)))
	after, err := os.ReadFile(s.Path(StartFile))
	require.NoError(t, err)
	if !bytes.Equal(before, after) {
		t.Error("the old record changed")
	}
	require.NoError(t, s.Update(func(j *StartJSON) { j.Notes = []string{"new"} }))
	entries, err := os.ReadDir(s.Dir())
	require.NoError(t, err)
	for _, e := range entries {
		if strings.Contains(e.Name(), "tmp") || strings.HasPrefix(e.Name(), ".start.json") {
			t.Errorf("left behind: %s", e.Name())
		}
	}
	_, err = Create(s.Path(StartFile), sample("x", "8k"), CreateOptions{})
	require.Error(t, err, "RESULTS is a file")
}

func TestStartJSONRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := StartJSON{SchemaVersion: SchemaVersion, Kind: "run", StartID: rapid.String().Draw(t, "id"),
			Experiment: Experiment{ID: rapid.String().Draw(t, "exp"), Name: "x", Group: rapid.IntRange(0, 8).Draw(t, "group")},
			Dataset:    Dataset{Name: "8k", Samples: rapid.IntRange(0, 100).Draw(t, "samples")},
			Argv:       rapid.SliceOfN(rapid.String(), 1, 4).Draw(t, "argv"),
			Levels:     []measure.LevelInfo{{Name: "c1", Concurrency: 1}},
			Refused:    &Refused{Class: "x", Reason: rapid.String().Draw(t, "reason")},
			Validity:   measure.Validity{Reasons: []measure.Reason{ReasonRefused}, Labels: []measure.Label{}}}
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		back, err := ParseStart(b)
		if err != nil {
			t.Fatal(err)
		}
		again, err := json.Marshal(back)
		if err != nil || !bytes.Equal(b, again) {
			t.Fatalf("%s\n%s", b, again)
		}
	})
}

func FuzzParseStart(f *testing.F) {
	b, _ := json.Marshal(StartJSON{SchemaVersion: 1, Validity: measure.IncompleteValidity()})
	f.Add(b)
	f.Add([]byte(`{"glm46_schema_version":1,"validity":{"ok":true,"reasons":[]}}`))
	f.Add([]byte(`{"glm46_schema_version":1e400}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseStart(b)
		if err != nil {
			return
		}
		if s.Validity.OK == (len(s.Validity.Reasons) > 0) {
			t.Errorf("%s: a contradictory verdict was taken", b)
		}
		if _, err := json.Marshal(s); err != nil {
			t.Errorf("%s: %v", b, err)
		}
	})
}
