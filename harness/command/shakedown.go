package command

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"

	"github.com/urfave/cli/v2"

	"github.com/glm46/glm46/harness"
	"github.com/glm46/glm46/harness/experiment"
	"github.com/glm46/glm46/harness/result"
)

const (
	flagShakedown   = "shakedown"
	flagNoShakedown = "no-shakedown"
	// shakedownName is the experiment name of shakedown results.
	shakedownName = "shakedown"
	// shakedownTokens is the answer of the shakedown's one request: enough to see
	// tokens come.
	shakedownTokens = 64
)

// shakedownCells is one request on one stream of the cell asked for, or of the
// plan's first.
func shakedownCells(plan *experiment.Plan, r experiment.Request) ([]experiment.Cell, error) {
	if len(r.Experiments) == 0 {
		all, err := resolve(plan, experiment.Request{All: true, Lookup: noEnvironment})
		if err != nil {
			return nil, err
		}
		r.Experiments = []string{all[0].ID}
	}
	r.Group, r.All = 0, false
	r.Concurrency, r.NumSamples, r.MaxTokens, r.RequestRate = "1", 1, shakedownTokens, 0
	cells, err := resolve(plan, r)
	if err != nil {
		return nil, err
	}
	cells = cells[:1]
	cells[0].ExpName = shakedownName
	return cells, nil
}

// askShakedown refuses to begin a whole plan on a site where not even one start
// was seen to work: the first mistake must not cost a night.
func askShakedown(c *cli.Context, o *harness.Options) error {
	if o.Mock != nil || !c.Bool(flagAll) || c.Bool(flagNoShakedown) || c.Bool(flagShakedown) {
		return nil
	}
	starts, err := result.ReadAll(o.ResultsDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, start := range starts {
		if start.ExpName == shakedownName && start.State() == result.StateValid && start.Start.Mock == nil {
			return nil
		}
	}
	return exitWith(exitPreflight, fmt.Errorf("no shakedown in %s: before a whole plan one short start should be seen to work", o.ResultsDir),
		`run "glm46 run --shakedown" in a job ("glm46 gen-pbs --shakedown" writes one), or give --no-shakedown`)
}

// isOurselves says whether a program is this one, by a link or by its path.
func isOurselves(program string) bool {
	self, err := os.Executable()
	if err != nil {
		return false
	}
	path, err := exec.LookPath(program)
	if err != nil && !errors.Is(err, exec.ErrDot) {
		return false
	}
	a, errA := os.Stat(self)
	b, errB := os.Stat(path)
	return errA == nil && errB == nil && os.SameFile(a, b)
}
