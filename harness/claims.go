package harness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/glm46/glm46/harness/result"
)

// claimsFolder, below the results, holds who measures what at this moment.
const claimsFolder = ".claims"

// waitForOthers is the time between two looks at what another job measures, which
// takes hours; with a mock it may be over at once.
const (
	waitForOthers    = 5 * time.Second
	waitForOtherMock = 100 * time.Millisecond
)

// round goes through starts of servers. Those that another job of the same results
// is busy with come last: when that job is done its result is used, and when it was
// cut off this one goes on there. It reports whether there is time for more.
func (c *campaign) round(ctx context.Context, starts [][]*job) bool {
	told := map[string]string{} // by resume key, whom the log names already
	for {
		var held [][]*job
		for i, jobs := range starts {
			if ctx.Err() != nil {
				c.notStarted(ctx, append(held, starts[i:]...))
				return false
			}
			other := c.attempt(ctx, jobs)
			if other == nil {
				continue
			}
			held = append(held, jobs)
			if key := jobs[0].resumeKey; told[key] != other.Owner.Nonce {
				told[key] = other.Owner.Nonce
				c.observer.Note(jobs[0].cell().Label(), "another job measures this now ("+describeOwner(other.Owner)+"): what is left comes first, then this waits for its result")
			}
		}
		if starts = held; len(held) == 0 {
			return true
		}
		wait := waitForOthers
		if c.o.Mock != nil {
			wait = waitForOtherMock
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

func describeOwner(o result.Owner) string {
	text := fmt.Sprintf("process %d on %s", o.PID, o.Host)
	if o.JobID != "" {
		text = "job " + o.JobID + ", " + text
	}
	return text
}

// attempt measures what one server can serve, unless another process does so now: it
// then gives the error that names it.
func (c *campaign) attempt(ctx context.Context, jobs []*job) *result.HeldError {
	if why := c.tooLittleTime(jobs); why != "" {
		c.observer.Note(jobs[0].cell().Label(), why)
		c.skip(jobs, why)
		return nil
	}
	if c.o.Again {
		c.measure(ctx, jobs) // asked for on top of what there is
		return nil
	}
	release, err := c.claim(jobs)
	defer release()
	var held *result.HeldError
	if errors.As(err, &held) {
		return held
	}
	if err != nil {
		// Measured twice is better than not at all.
		c.observer.Note(jobs[0].cell().Label(), fmt.Sprintf("cannot keep other jobs from measuring the same: %v", err))
	}
	// Another job may have finished it between the look and the claim.
	if jobs = c.pending(jobs, jobs[0].number); len(jobs) > 0 {
		c.measure(ctx, jobs)
	}
	return nil
}

// claim takes the resume keys of jobs for this process, all or none. release may be
// called in any case.
func (c *campaign) claim(jobs []*job) (release func(), err error) {
	var claims []*result.Claim
	release = func() {
		for _, claim := range claims {
			claim.Release()
		}
	}
	dir := filepath.Join(c.o.ResultsDir, claimsFolder)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return release, err
	}
	for _, j := range jobs {
		claim, err := result.Acquire(dir, j.resumeKey, result.ClaimOptions{JobID: c.o.System.PBS().JobID})
		if err != nil {
			release()
			claims = nil
			return release, err
		}
		claims = append(claims, claim)
	}
	return release, nil
}
