package harness

import (
	"context"
	"fmt"
	"os"
	"slices"

	"github.com/glm46/glm46/harness/node"
)

// preflight checks the node before GPU time is spent, and keeps what it found
// for the records.
func (c *campaign) preflight(ctx context.Context) error {
	if err := os.MkdirAll(c.o.ResultsDir, 0o777); err != nil {
		return fmt.Errorf("results folder: %w; choose a writable --results", err)
	}
	needs := node.Needs{ResultsDir: c.o.ResultsDir}
	if c.o.Mock == nil {
		needs.GPUs, needs.ExpectGPU, needs.VLLM = c.o.Plan.GPUs, c.o.Plan.GPU, c.o.Server[0]
		for _, cell := range c.o.Cells {
			needs.GPUs = max(needs.GPUs, cell.Settings.TensorParallelSize)
		}
		if info, err := os.Stat(c.model); err == nil && info.IsDir() {
			needs.ModelDir = c.model
		}
	}
	state, err := node.Preflight(ctx, c.o.System, needs)
	c.node = state
	for _, check := range state.Checks {
		if check.Status == node.Warn && c.o.Mock == nil {
			c.observer.Note("", check.String())
		}
	}
	return err
}

// ordinals are the GPUs that the server may use; nil for the mock.
func (c *campaign) ordinals() []int {
	if c.o.Mock != nil || c.node == nil {
		return nil
	}
	return slices.Clone(c.node.Visible.Ordinals)
}
