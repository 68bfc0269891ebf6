package pbsgen

import "errors"

var errNotYet = errors.New("not built yet")

// Runner returns the general runner: the experiment comes from the environment.
func Runner(o Options) ([]byte, error) { return nil, errNotYet }

// Job returns the script of one job that measures the cells one after the other.
func Job(o Options, cells []Cell) ([]byte, error) { return nil, errNotYet }

// Array returns a job array with one sub-job per unique configuration of cells.
func Array(o Options, cells []Cell) ([]byte, error) { return nil, errNotYet }

// ChainJob is one job of a chain.
type ChainJob struct {
	// Cells are those planned for this job; its script also continues those of
	// the jobs before it.
	Cells  []Cell
	Hours  float64
	Spare  bool
	Script []byte
}

// Chain packs cells into as few jobs as fit and returns their scripts.
func Chain(o Options, cells []Cell) ([]ChainJob, error) { return nil, errNotYet }

// Shakedown returns a short job that starts the baseline once and stops it.
func Shakedown(o Options) ([]byte, error) { return nil, errNotYet }

// SubmitScript returns submit.sh for scripts (relative to Root or absolute);
// chained makes each job wait for the one before it.
func SubmitScript(o Options, scripts []string, chained bool) ([]byte, error) { return nil, errNotYet }

// Generate does what "glm46 gen-pbs" asks for.
func Generate(r Request) (*Output, error) { return nil, errNotYet }

// Write writes all files, each whole or not at all, and makes the folders.
func (o *Output) Write() error { return errNotYet }

// Finding is one remark about a script.
type Finding struct {
	// Line is the line in the file, from 1; 0 for the file as a whole.
	Line  int
	Level Level
	// What is wrong, Why it matters, and what to Do.
	What, Why, Do string
}

// Level says how bad a finding is.
type Level string

// The levels: qsub refuses the script or the job does not do what it says;
// it works but something will surprise; good to know.
const (
	Error   Level = "error"
	Warning Level = "warning"
	Note    Level = "note"
)

// Check explains a script that somebody edited, most serious finding first.
func Check(path string) ([]Finding, error) { return nil, errNotYet }

// Profile is what differs between sites.
type Profile struct{ Name string }

// LoadProfile reads a profile file, or a preset by its name.
func LoadProfile(pathOrPreset string) (Profile, error) { return Profile{}, errNotYet }

// PresetNames are the built-in profiles, sorted.
func PresetNames() []string { return nil }
