package load

import (
	"context"
	"math"
	"time"
)

// clock counts nanoseconds since the run began, on the monotonic clock.
type clock struct{ start time.Time }

func (c clock) now() time.Duration { return time.Since(c.start) }

// step is how far the wall clock has moved against the monotonic one.
func (c clock) step() time.Duration {
	now := time.Now()
	wall := time.Duration(now.UnixNano() - c.start.UnixNano())
	return wall - now.Sub(c.start)
}

// sleep until an instant of the run, late by up to a millisecond: the runtime's
// timers ride on epoll, which counts in those. It returns false if ctx ended
// first.
func (c clock) sleep(ctx context.Context, until time.Duration) bool {
	if wait := until - c.now(); wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
		}
	}
	return ctx.Err() == nil
}

// forever stands for no deadline.
const forever = time.Duration(math.MaxInt64)
