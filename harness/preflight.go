package harness

import (
	"context"
	"fmt"
	"os"
)

// preflight checks the node before GPU time is spent.
func (c *campaign) preflight(ctx context.Context) error {
	if err := os.MkdirAll(c.o.ResultsDir, 0o777); err != nil {
		return fmt.Errorf("results folder: %w; choose a writable --results", err)
	}
	if c.o.Mock != nil {
		return nil
	}
	return nil
}
