package pbsgen

import (
	"fmt"
	"io/fs"
	"time"

	"github.com/glm46/glm46/pbsgen/pbs"
)

// Cell is what a job script needs to know of one cell of the plan.
type Cell struct {
	// ID is what "glm46 run --exp" takes: "5B", "3A/8k".
	ID string
	// Title is one line for the reader of the script: "5B: kv=bf16, 8k".
	Title string
	// Settings are the lines NAME=VALUE that differ from the baseline. They are
	// written as comments: the plan remains the place that decides.
	Settings []string
	// ConfigHash is equal for cells that are measured once. Empty: a
	// configuration of its own.
	ConfigHash string
	// Hours is the predicted time of the cell, start-up included. 0: unknown.
	Hours float64
	// Refused says why the engine will not run the cell; empty if it will.
	Refused string
}

// Walltime is the limit asked for. The zero value leaves it to the profile.
type Walltime struct {
	// Auto takes the limit from the predicted hours of the cells.
	Auto bool
	// Limit is the limit itself; ignored with Auto.
	Limit time.Duration
}

// ParseWalltime reads "auto", PBS time ("24:00:00", "90:00", "3600") or a Go
// duration ("24h"). Empty text is the zero Walltime.
func ParseWalltime(text string) (Walltime, error) {
	switch text {
	case "":
		return Walltime{}, nil
	case "auto":
		return Walltime{Auto: true}, nil
	}
	limit, err := pbs.ParseWalltime(text)
	if err != nil {
		goDuration, goErr := time.ParseDuration(text)
		if goErr != nil {
			return Walltime{}, fmt.Errorf("walltime %q: want auto, HH:MM:SS or a duration such as 24h", text)
		}
		limit = goDuration
	}
	if limit < time.Minute {
		return Walltime{}, fmt.Errorf("walltime %q: below one minute nothing can be measured; 00:10 is ten seconds, ten minutes are 00:10:00", text)
	}
	return Walltime{Limit: limit}, nil
}

// Options are what all kinds of script have in common.
type Options struct {
	// Root is the absolute directory that binary, data and results are relative
	// to: where the scripts were generated.
	Root string
	// Binary is the absolute path of glm46. Empty: Root/glm46.
	Binary string
	// Path is where the script will lie; the header names it in its examples and
	// resubmission submits it. Relative to Root, or absolute.
	Path string
	// Plan is the plan file given by --plan; empty for the embedded plan.
	Plan string
	// RunArgs are further arguments of "glm46 run", each one argument:
	// "--base", "compiled".
	RunArgs []string
	// Profile is the site. The zero value is preset "generic".
	Profile Profile
	// Walltime is the limit asked for.
	Walltime Walltime
	// SafetyFactor multiplies predicted hours for automatic walltimes and for
	// packing. 0: DefaultSafetyFactor.
	SafetyFactor float64
	// Resubmit is how many times a job that was stopped by its walltime submits
	// itself again. 0, the default: never.
	Resubmit int
	// Simultaneous bounds the sub-jobs of an array that run at once. 0: no bound.
	Simultaneous int
	// Spares are jobs at the end of a chain for what the others left. 0:
	// DefaultSpares; negative: none.
	Spares int

	// shownAs is the name of the script in its own header where it has no Path.
	shownAs string
}

const (
	// DefaultSafetyFactor covers what a prediction leaves out: a slow file
	// system at start-up, a failed and repeated start. Source: start-up times
	// differ by a factor of 2 between runs in docs/node.md, and start-up is at most
	// half of a cell.
	DefaultSafetyFactor = 1.5
	// DefaultSpares is one job that ends within seconds if nothing is left.
	DefaultSpares = 1
	// DefaultWalltime is used where neither user, profile nor prediction says
	// anything: the common limit of the sites in docs/site-profile.md.
	DefaultWalltime = 24 * time.Hour
	// ShakedownWalltime is the limit of the shakedown job.
	ShakedownWalltime = 20 * time.Minute
)

// Request is one call of "glm46 gen-pbs": its flags, and the cells they name.
type Request struct {
	Options
	// Out is -o: a file or a directory; "-" for standard output; empty for the
	// default place below Root/experiments.
	Out string
	// Exp says that --exp was given: one job per experiment of Cells.
	Exp bool
	// All says that --all was given: a chain, or with Array an array.
	All, Array bool
	// Shakedown asks for the shakedown job.
	Shakedown bool
	// Cells are the cells asked for, in the order in which they should run. The
	// runner and the shakedown need none, but take their hours from them.
	Cells []Cell
}

// File is one file to write.
type File struct {
	// Path is absolute, or "-" for standard output.
	Path string
	Data []byte
	Mode fs.FileMode
}

// Output is what Generate made.
type Output struct {
	Files []File
	// Dirs must exist before a job is submitted: PBS loses the log of a job whose
	// log folder is missing.
	Dirs []string
	// Notes are sentences for the user: limits that were hit, what to submit.
	Notes []string
}
