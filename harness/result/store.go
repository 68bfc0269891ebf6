package result

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/renameio/v2"

	"github.com/glm46/glm46/harness/measure"
)

// Names of the files in a start's and a level's folder.
const (
	StartFile    = "start.json"
	RunFile      = "run.json"
	LogFile      = "server.log"
	MetricsFile  = "metrics.jsonl.zst"
	GPUFile      = "gpu.jsonl.zst"
	RequestsFile = "requests.jsonl.zst"
	QualityFile  = "quality.json"
)

// nameOK is what a folder's name may be: what EXP_NAME may be.
var nameOK = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// ValidName reports whether name can be a folder's: an experiment, a data set or a
// level.
func ValidName(name string) bool { return nameOK.MatchString(name) }

// A NameError says that a name cannot be a folder's.
type NameError struct{ What, Name string }

func (e *NameError) Error() string {
	return fmt.Sprintf("%s %q cannot name a folder; use letters, digits, dot, dash and underscore, at most 64, the first a letter or digit", e.What, clip(e.Name))
}

func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "..."
	}
	return s
}

// CreateOptions are the parts of [Create] that come from outside.
type CreateOptions struct {
	// Now is the instant of creation; zero: the current one.
	Now time.Time
	// JobID goes into the start id, for people to read; it makes nothing
	// unique, since a requeued job keeps its id.
	JobID string
}

// Start is the folder of one server start, open for writing by this process.
// Its methods may be called from several goroutines.
type Start struct {
	dir   string
	claim *Claim

	mu   sync.Mutex
	json StartJSON
	done bool
}

// Create makes the folder RESULTS/<EXP_NAME>/<dataset>/<start id>/, in which
// start.json already says "incomplete", and claims it for this process.
//
// s.Experiment.Name and s.Dataset.Name name the folders; Create fills in the
// start id, the time, the schema version and the validity. The folder appears
// whole or not at all. It fails with a [*NameError], or where the file system
// does.
func Create(results string, s StartJSON, o CreateOptions) (*Start, error) {
	if !nameOK.MatchString(s.Experiment.Name) {
		return nil, &NameError{"experiment name", s.Experiment.Name}
	}
	if !nameOK.MatchString(s.Dataset.Name) {
		return nil, &NameError{"data set name", s.Dataset.Name}
	}
	now := o.Now
	if now.IsZero() {
		now = time.Now()
	}
	id, err := startID(now, o.JobID)
	if err != nil {
		return nil, err
	}
	s.SchemaVersion, s.StartID, s.Created, s.Finished = SchemaVersion, id, now.UTC(), nil
	s.Validity = incomplete(s.Validity)
	if s.Kind == "" {
		s.Kind = "run"
	}
	parent := filepath.Join(results, s.Experiment.Name, s.Dataset.Name)
	if err := os.MkdirAll(parent, 0o777); err != nil {
		return nil, fmt.Errorf("results: %w; choose a writable --results", err)
	}
	dir := filepath.Join(parent, id)
	var claim *Claim
	err = makeDir(dir, func(tmp string) error {
		c, err := Acquire(tmp, "owner", ClaimOptions{JobID: o.JobID})
		if err != nil {
			return err
		}
		claim = c
		return writeJSON(filepath.Join(tmp, StartFile), s)
	})
	if err != nil {
		if claim != nil {
			claim.Release()
		}
		return nil, fmt.Errorf("results: make the start's folder: %w; check the room and quota of %s", err, results)
	}
	claim.moved(dir)
	return &Start{dir: dir, claim: claim, json: s}, nil
}

// startID is unique by 64 random bits; time and job are for people. It sorts
// by time.
func startID(now time.Time, job string) (string, error) {
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", fmt.Errorf("results: no random numbers: %w", err)
	}
	id := now.UTC().Format("20060102T150405Z")
	if j := cleanJobID(job); j != "" {
		id += "-" + j
	}
	return id + "-" + hex.EncodeToString(b[:]), nil
}

// cleanJobID makes a PBS id fit for a file name: "12[3].srv" becomes "12.3".
func cleanJobID(id string) string {
	seq, _, _ := strings.Cut(id, ".")
	seq = strings.NewReplacer("[", ".", "]", "").Replace(seq)
	out := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '.' || r == '_' {
			return r
		}
		return -1
	}, seq)
	out = strings.Trim(out, ".")
	return out[:min(len(out), 24)]
}

// makeDir makes dir by filling a hidden folder beside it and renaming that: it
// appears whole. An existing dir is an error.
func makeDir(dir string, fill func(tmp string) error) (err error) {
	parent, base := filepath.Split(dir)
	tmp, err := os.MkdirTemp(parent, "."+base+".tmp-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(tmp)
		}
	}()
	// MkdirTemp makes 0700 folders; results are for the group where the umask
	// says so.
	if err := os.Chmod(tmp, 0o777&^umask()); err != nil {
		return err
	}
	if err := fill(tmp); err != nil {
		return err
	}
	if err := syncDir(tmp); err != nil {
		return err
	}
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		return &fs.PathError{Op: "mkdir", Path: dir, Err: fs.ErrExist}
	}
	// Onto a folder that is not empty rename fails, so a race loses nothing:
	// every folder made here holds a file from its first instant.
	if err := os.Rename(tmp, dir); err != nil {
		return err
	}
	return syncDir(parent)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	// Some network file systems refuse to sync a directory; they order
	// renames themselves.
	_ = d.Sync()
	return nil
}

func writeJSON(path string, v any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false) // read by people, too
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return writeWhole(path, b.Bytes())
}

// writeWhole replaces a file whole or leaves it as it is.
func writeWhole(path string, b []byte) error {
	if err := renameio.WriteFile(path, b, 0o666&^umask()); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// Dir is the start's folder.
func (s *Start) Dir() string { return s.dir }

// LogPath is where the server's log belongs.
func (s *Start) LogPath() string { return s.Path(LogFile) }

// JSON returns start.json as last written.
func (s *Start) JSON() StartJSON {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.json
}

// errFinished says that a finished record was to be changed.
var errFinished = errors.New("results: this record is finished; nothing may be changed in it")

// Update changes start.json and writes it whole. It stays incomplete.
func (s *Start) Update(change func(*StartJSON)) error {
	return s.write(func(j *StartJSON) {
		change(j)
		j.Validity = incomplete(j.Validity)
	}, false)
}

// Finish writes start.json for the last time, with the verdict, and gives the
// folder up. Without a reason the start is valid.
func (s *Start) Finish(v measure.Validity, now time.Time) error {
	reasons := []measure.Reason{}
	for _, r := range v.Reasons {
		if r != measure.ReasonIncomplete && !slices.Contains(reasons, r) {
			reasons = append(reasons, r)
		}
	}
	v.Reasons = reasons
	v.OK = len(v.Reasons) == 0
	err := s.write(func(j *StartJSON) {
		end := now.UTC()
		j.Validity, j.Finished = v, &end
	}, true)
	s.claim.Release()
	return err
}

// Abandon gives the folder up unfinished: it goes on saying "incomplete". After
// Finish it does nothing, so that it can be deferred.
func (s *Start) Abandon() {
	s.mu.Lock()
	s.done = true
	s.mu.Unlock()
	s.claim.Release()
}

func (s *Start) write(change func(*StartJSON), last bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done {
		return errFinished
	}
	if err := s.claim.Check(); err != nil {
		return err
	}
	next := s.json
	change(&next)
	// What names and orders the record is not the caller's to change.
	next.SchemaVersion, next.StartID, next.Created = s.json.SchemaVersion, s.json.StartID, s.json.Created
	if err := writeJSON(filepath.Join(s.dir, StartFile), next); err != nil {
		return fmt.Errorf("results: %w; check the room and quota there", err)
	}
	s.json, s.done = next, last
	return nil
}

// Path names a file in the start's folder (MetricsFile, GPUFile).
func (s *Start) Path(file string) string { return filepath.Join(s.dir, file) }

// Level is the folder of one level.
type Level struct {
	start *Start
	dir   string
	mu    sync.Mutex
	done  bool
}

// LevelName gives the folder of a level: "c16" for a concurrency, "r2.5" for a
// request rate per second.
func LevelName(concurrency int, requestRate float64) string {
	if requestRate > 0 {
		return "r" + strconv.FormatFloat(requestRate, 'f', -1, 64)
	}
	return "c" + strconv.Itoa(concurrency)
}

// Level makes the folder of the level run.Level.Name with a run.json that holds
// what is known beforehand and says "incomplete", whatever run's verdict is. A
// start has each level once.
func (s *Start) Level(run *measure.RunJSON) (*Level, error) {
	name := run.Level.Name
	if !nameOK.MatchString(name) {
		return nil, &NameError{"level", name}
	}
	if err := s.claim.Check(); err != nil {
		return nil, err
	}
	first := *run
	first.SchemaVersion = measure.SchemaVersion
	first.Validity = incomplete(run.Validity)
	dir := filepath.Join(s.dir, name)
	err := makeDir(dir, func(tmp string) error { return writeJSON(filepath.Join(tmp, RunFile), &first) })
	if err != nil {
		return nil, fmt.Errorf("results: make the level's folder: %w", err)
	}
	return &Level{start: s, dir: dir}, nil
}

// Dir is the level's folder.
func (l *Level) Dir() string { return l.dir }

// Path names a file in the level's folder (RequestsFile).
func (l *Level) Path(file string) string { return filepath.Join(l.dir, file) }

// Update replaces run.json, which goes on saying "incomplete".
func (l *Level) Update(run *measure.RunJSON) error {
	r := *run
	r.Validity = incomplete(run.Validity)
	return l.write(&r, false)
}

// Finish replaces run.json for the last time. Its verdict must be made: it may
// not say "incomplete", nor be neither valid nor not. A level is finished once.
func (l *Level) Finish(run *measure.RunJSON) error {
	v := run.Validity
	if slices.Contains(v.Reasons, measure.ReasonIncomplete) || v.OK != (len(v.Reasons) == 0) {
		return fmt.Errorf("results: %s: a finished level needs a verdict, got ok %t with reasons %q", l.Path(RunFile), v.OK, v.Reasons)
	}
	return l.write(run, true)
}

func (l *Level) write(run *measure.RunJSON, last bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.done {
		return errFinished
	}
	if err := l.start.claim.Check(); err != nil {
		return err
	}
	if err := writeJSON(l.Path(RunFile), run); err != nil {
		return fmt.Errorf("results: %w; check the room and quota there", err)
	}
	l.done = last
	return nil
}

// incomplete is v with the reason "incomplete" alone; labels and details stay.
func incomplete(v measure.Validity) measure.Validity {
	out := measure.IncompleteValidity()
	out.Labels, out.Details = append(out.Labels, v.Labels...), v.Details
	return out
}

// CompareLevels orders level names: closed loops by concurrency, then open loops
// by rate, then the rest by name.
func CompareLevels(a, b string) int {
	rank := func(name string) (kind int, n float64) {
		if len(name) > 1 {
			if v, err := strconv.ParseFloat(name[1:], 64); err == nil {
				switch name[0] {
				case 'c':
					return 0, v
				case 'r':
					return 1, v
				}
			}
		}
		return 2, 0
	}
	ka, na := rank(a)
	kb, nb := rank(b)
	return cmp.Or(cmp.Compare(ka, kb), cmp.Compare(na, nb), strings.Compare(a, b))
}
