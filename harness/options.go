package harness

import (
	"time"

	"github.com/glm46/glm46/harness/experiment"
	"github.com/glm46/glm46/harness/load"
	"github.com/glm46/glm46/harness/measure"
	"github.com/glm46/glm46/harness/node"
	"github.com/glm46/glm46/harness/result"
	"github.com/glm46/glm46/mockvllm/vllm"
)

// Options are what a campaign is asked to do. Zero fields take the defaults
// named at them.
type Options struct {
	Plan  *experiment.Plan
	Cells []experiment.Cell
	// Version of vLLM; nil: a real server is asked, the mock takes the default.
	Version *vllm.Version
	// Model is the path or name given to the server; "": the plan's.
	Model string
	// Server is the command line that starts vllm, word by word: {"vllm"}.
	Server []string
	// Mock starts this program as the server instead.
	Mock *MockOptions
	// DataDir holds the data sets; DataFrom is text to make a missing one from
	// (with Mock only); "": Go's source tree where there is one.
	DataDir, DataFrom string
	// ResultsDir receives the results.
	ResultsDir string
	// Starts of the server for each configuration; 0: 1.
	Starts int
	// Again measures also what the results hold already.
	Again bool
	// Prefetch reads the weights into the page cache before the first start, where
	// Model is a folder and the job's memory holds them.
	Prefetch bool
	// StartTimeout bounds a start-up; 0: 60 min.
	StartTimeout time.Duration
	// Deadline is when the job ends; zero: never. Margin is kept free before it
	// to stop the server and write records.
	Deadline time.Time
	Margin   time.Duration
	// Limits of a request; zero fields take the defaults of package load.
	Limits load.Limits
	SLO    measure.SLO
	// Lenient goes on where the engine's effective configuration differs.
	Lenient bool
	// NaturalStop lets answers end where the model ends them.
	NaturalStop bool
	// Endpoint overrides the choice by sample.
	Endpoint measure.Endpoint
	// Quality says when answers are checked before the levels; "": auto.
	Quality QualityMode
	// NoCertificate leaves the client's calibration out.
	NoCertificate bool
	// System is the machine; nil: this one.
	System *node.System
	// Environ is the environment of the server; nil: that of System.
	Environ     []string
	ToolVersion string
	Observer    Observer
}

// MockOptions say how the mock stands in for vllm.
type MockOptions struct {
	// Executable is this program; it is started as "EXECUTABLE mock serve ...".
	Executable string
	// Speed divides the mock's time; 0: 1.
	Speed float64
	Seed  uint64
	// Args are further flags of the mock ("--mock-scenario", FILE).
	Args []string
}

// DefaultStartTimeout bounds a start-up that makes no progress anybody knows of.
// Source: docs/vllm.md, start-up: weights from a slow file system and a cold
// torch.compile were reported to take more than 20 minutes each.
const DefaultStartTimeout = 60 * time.Minute

// Observer is told what happens while it happens. Calls come one at a time.
type Observer interface {
	// Note is a line for the log. cell may be "".
	Note(cell, text string)
	// Progress is called a few times a second while a level runs.
	Progress(cell string, p load.Progress)
	// LevelDone gives the finished run.json of a level.
	LevelDone(cell string, run *measure.RunJSON)
}

// silent is the Observer of who does not want one.
type silent struct{}

func (silent) Note(string, string)                {}
func (silent) Progress(string, load.Progress)     {}
func (silent) LevelDone(string, *measure.RunJSON) {}

// Outcome is what came of a campaign.
type Outcome struct {
	// Cells in the order asked for.
	Cells []CellOutcome
	// Code is the exit code of the whole (README, "Exit codes").
	Code int
	// Why the campaign ended early; "" if it did not.
	Why string
}

// CellOutcome is what came of one cell.
type CellOutcome struct {
	Cell experiment.Cell
	// State of its last start.
	State result.State
	// Reused says that the results held it already.
	Reused bool
	// Reason in words where State is not valid.
	Reason string
	// EngineText is what the engine said, where it refused.
	EngineText string
	// KnownBefore says that the refusal was known before any start.
	KnownBefore bool
	// Dirs are the folders of its starts.
	Dirs []string
	code int
}

// Exit codes of a campaign.
const (
	codeOK          = 0
	codeInternal    = 1
	codeNotValid    = 3
	codeEngine      = 4
	codeInterrupted = 5
	codePreflight   = 6
	codeDataSet     = 7
)

// exitCode is the first that applies of 5, 1, 6, 7, 4, 3, 0. A refusal that was
// known before counts only if every cell asked for is refused.
func exitCode(cells []CellOutcome) int {
	seen := map[int]bool{}
	allRefused := len(cells) > 0
	for _, cell := range cells {
		if !cell.KnownBefore {
			allRefused = false
			seen[cell.code] = true
		}
	}
	if allRefused {
		return codeEngine
	}
	for _, code := range []int{codeInterrupted, codeInternal, codePreflight, codeDataSet, codeEngine, codeNotValid} {
		if seen[code] {
			return code
		}
	}
	return codeOK
}
