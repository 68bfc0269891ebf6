// Package planfile reads an experiment plan from disk. It is apart from
// harness/experiment so that that package stays pure.
package planfile

import (
	"fmt"
	"io"
	"os"

	"github.com/glm46/glm46/harness/experiment"
)

// Load reads the plan at path, "" being the embedded one. It fails with an
// *experiment.UsageError: a file that is not there or no regular file, or not a
// plan ("path:line:column: ...").
func Load(path string) (*experiment.Plan, error) {
	if path == "" {
		return experiment.Default(), nil
	}
	data, err := read(path)
	if err != nil {
		return nil, &experiment.UsageError{What: fmt.Sprintf("plan file: %v; give the path of a YAML file (docs/plan-schema.md)", err)}
	}
	return experiment.Parse(path, data)
}

// read gives at most one byte more than a plan may have: a wrong path (a data
// set, a device) must not fill memory, and Parse says what is wrong with it.
func read(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, experiment.MaxPlanBytes+1))
}
