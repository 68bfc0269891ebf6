// Package planfile reads an experiment plan from disk. It is apart from
// harness/experiment so that that package stays pure.
package planfile

import (
	"fmt"
	"io"
	"os"

	"github.com/glm46/glm46/harness/experiment"
)

// maxPlanBytes bounds a plan file: a plan is written by hand, and a wrong path
// (a data set, a device) must not fill memory.
const maxPlanBytes = 4 << 20

// Load reads the plan at path. It fails with an *experiment.UsageError: a file
// that is not there, too large, or not a plan ("path:line:column: ...").
func Load(path string) (*experiment.Plan, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, &experiment.UsageError{What: fmt.Sprintf("plan file: %v", err)}
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxPlanBytes+1))
	if err != nil {
		return nil, &experiment.UsageError{What: fmt.Sprintf("plan file: %v", err)}
	}
	if len(data) > maxPlanBytes {
		return nil, &experiment.UsageError{What: fmt.Sprintf("plan file %s: larger than %d bytes; a plan is a short YAML file", path, maxPlanBytes)}
	}
	return experiment.Parse(path, data)
}
