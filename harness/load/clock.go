package load

import (
	"context"
	"math"
	"time"

	"golang.org/x/sys/unix"
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

// coarse is the lateness of the runtime's timers: they ride on epoll, which
// counts in milliseconds.
const coarse = 1500 * time.Microsecond

// sleep until an instant of the run; false if ctx ended first. With exact, the
// last part sleeps in the kernel, late by some 60 us instead of up to 1 ms, at
// the price of a thread.
func (c clock) sleep(ctx context.Context, until time.Duration, exact bool) bool {
	wait := until - c.now()
	if exact {
		wait -= coarse
	}
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
		}
	}
	for exact {
		left := until - c.now()
		if left <= 0 {
			break
		}
		ts := unix.NsecToTimespec(int64(left))
		_ = unix.Nanosleep(&ts, nil) // cut short by a signal: the loop goes on
	}
	return ctx.Err() == nil
}

// forever stands for no deadline.
const forever = time.Duration(math.MaxInt64)
