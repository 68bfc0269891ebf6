package result

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/glm46/glm46/harness/measure"
)

// State is what became of a start, or of a level.
type State string

// The states, from the best to the least.
const (
	StateValid       State = "valid"
	StateNotValid    State = "not valid"
	StateInterrupted State = "interrupted"
	StateRefused     State = "refused"
	StateFailed      State = "failed"
	StateRunning     State = "running"
	StateIncomplete  State = "incomplete"
)

// StartResult is one start's folder, read back.
type StartResult struct {
	// Dir is the folder; ExpName, DatasetName and StartID are its path's parts.
	Dir, ExpName, DatasetName, StartID string
	Start                              StartJSON
	Levels                             []LevelResult
	// Live says that a process still writes here; Owner says which.
	Live  bool
	Owner Owner
	// Err says why start.json could not be read; the rest is then empty.
	Err error
}

// LevelResult is one level's folder, read back.
type LevelResult struct {
	Name, Dir string
	Run       measure.RunJSON
	// Raw is run.json as it stands.
	Raw json.RawMessage
	Err error
}

// ReadAll reads every start under RESULTS, ordered by experiment name, data set
// and start id (which sorts by time). What it finds unreadable is in the
// result's Err; folders that it does not know, and links, are passed over.
//
// A RESULTS directory that is not there gives an error that wraps
// [fs.ErrNotExist].
func ReadAll(results string) ([]StartResult, error) {
	if _, err := os.ReadDir(results); err != nil {
		return nil, fmt.Errorf("results: %w; give the folder that \"glm46 run\" wrote", err)
	}
	var out []StartResult
	for _, exp := range folders(results) {
		for _, set := range folders(filepath.Join(results, exp)) {
			for _, id := range folders(filepath.Join(results, exp, set)) {
				dir := filepath.Join(results, exp, set, id)
				if r, ok := readStart(dir, exp, set, id); ok {
					out = append(out, r)
				}
			}
		}
	}
	return out, nil
}

// folders lists the real folders in dir whose names are ours, sorted.
func folders(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names
}

// ReadStart reads one start's folder. Its Err field says what is wrong with it.
func ReadStart(dir string) (StartResult, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return StartResult{}, err
	}
	set := filepath.Dir(abs)
	r, ok := readStart(dir, filepath.Base(filepath.Dir(set)), filepath.Base(set), filepath.Base(abs))
	if !ok {
		return StartResult{}, fmt.Errorf("results: %s holds no %s; give a start's folder", dir, StartFile)
	}
	return r, r.Err
}

func readStart(dir, exp, set, id string) (StartResult, bool) {
	r := StartResult{Dir: dir, ExpName: exp, DatasetName: set, StartID: id}
	b, err := readSmall(filepath.Join(dir, StartFile))
	if errors.Is(err, fs.ErrNotExist) {
		return r, false
	}
	if err == nil {
		r.Start, err = ParseStart(b)
	}
	if err != nil {
		r.Err = fmt.Errorf("%s: %w", filepath.Join(dir, StartFile), err)
		return r, true
	}
	for _, name := range folders(dir) {
		path := filepath.Join(dir, name)
		b, err := readSmall(filepath.Join(path, RunFile))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		l := LevelResult{Name: name, Dir: path, Raw: b, Err: err}
		if err == nil {
			l.Run, err = ParseRun(b)
		}
		if err != nil {
			l.Err = fmt.Errorf("%s: %w", filepath.Join(path, RunFile), err)
		}
		r.Levels = append(r.Levels, l)
	}
	sortLevels(r.Levels)
	if has(r.Start.Validity, measure.ReasonIncomplete) {
		r.Owner, r.Live, _ = Holder(dir, "owner", 0)
	}
	return r, true
}

// readSmall reads a file of at most 64 MiB: a JSON file beyond that is not ours.
func readSmall(path string) ([]byte, error) {
	st, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Size() > 64<<20 {
		return nil, fmt.Errorf("not a regular file of at most 64 MiB")
	}
	return os.ReadFile(path)
}

// ParseStart reads start.json.
func ParseStart(b []byte) (StartJSON, error) {
	var s StartJSON
	if err := json.Unmarshal(b, &s); err != nil {
		return StartJSON{}, fmt.Errorf("not a start.json: %w", err)
	}
	if s.SchemaVersion < 1 || s.SchemaVersion > SchemaVersion {
		return StartJSON{}, fmt.Errorf("schema version %d; this program reads 1 to %d: use the version that wrote it, or a newer one", s.SchemaVersion, SchemaVersion)
	}
	if !s.Validity.OK && len(s.Validity.Reasons) == 0 || s.Validity.OK && len(s.Validity.Reasons) > 0 {
		return StartJSON{}, errors.New("validity contradicts itself: ok and reasons do not agree")
	}
	return s, nil
}

// ParseRun reads run.json without its arrays of single requests.
func ParseRun(b []byte) (measure.RunJSON, error) {
	r, err := measure.ParseRun(b)
	if err != nil {
		return measure.RunJSON{}, fmt.Errorf("not a run.json: %w", err)
	}
	return r, nil
}

// sortLevels orders closed loops by concurrency, then open loops by rate, then
// the rest by name.
func sortLevels(levels []LevelResult) {
	slices.SortStableFunc(levels, func(a, b LevelResult) int { return CompareLevels(a.Name, b.Name) })
}

// State sums the start up.
func (r StartResult) State() State {
	v := r.Start.Validity
	switch {
	case r.Err != nil:
		return StateIncomplete
	case r.Start.Refused != nil:
		return StateRefused
	case r.Start.Failed != nil && len(r.Levels) == 0:
		return StateFailed
	case has(v, measure.ReasonInterrupted):
		return StateInterrupted
	case has(v, measure.ReasonIncomplete) && r.Live:
		return StateRunning
	case has(v, measure.ReasonIncomplete), has(v, ReasonError):
		return StateIncomplete
	case v.OK:
		return StateValid
	}
	return StateNotValid
}

// Level returns the level of that name; ok is false where there is none.
func (r StartResult) Level(name string) (LevelResult, bool) {
	for _, l := range r.Levels {
		if l.Name == name {
			return l, true
		}
	}
	return LevelResult{}, false
}

// Finished says whether the level ran to its end, valid or not.
func (l LevelResult) Finished() bool {
	return l.Err == nil && !has(l.Run.Validity, measure.ReasonIncomplete) && !has(l.Run.Validity, measure.ReasonInterrupted)
}

// Resumable returns those of starts with that resume key that were broken off and
// that no process is writing to, the newest first.
func Resumable(starts []StartResult, resumeKey string) []StartResult {
	return newest(starts, resumeKey, StateInterrupted, StateIncomplete)
}

// Finished returns those of starts with that resume key that ran to their end
// with a valid result, the newest first.
func Finished(starts []StartResult, resumeKey string) []StartResult {
	return newest(starts, resumeKey, StateValid)
}

func newest(starts []StartResult, resumeKey string, states ...State) []StartResult {
	var out []StartResult
	for _, r := range starts {
		if resumeKey != "" && r.Start.ResumeKey == resumeKey && slices.Contains(states, r.State()) {
			out = append(out, r)
		}
	}
	slices.SortStableFunc(out, func(a, b StartResult) int { return b.Start.Created.Compare(a.Start.Created) })
	return out
}

func has(v measure.Validity, r measure.Reason) bool { return slices.Contains(v.Reasons, r) }
