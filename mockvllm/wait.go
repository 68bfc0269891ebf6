package mockvllm

import "time"

// waiter blocks the driver until an instant or until somebody wakes it.
type waiter interface {
	// Wait returns at or soon after t, or when Wake was called since the last
	// return. The zero time is "until woken".
	Wait(t time.Time)
	// Wake may be called from any goroutine.
	Wake()
	// Quantum is how much later than due the driver may wake to do several
	// things at once; 0 where waking costs nothing.
	Quantum() time.Duration
	// OwnThread: the driver's goroutine should keep its thread.
	OwnThread() bool
	Close()
}

// timerWaiter waits by plain time, which testing/synctest can fake. The runtime
// rounds its timers up to a millisecond when nothing else runs.
type timerWaiter struct {
	timer *time.Timer
	wake  chan struct{}
}

func newTimerWaiter() waiter {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return &timerWaiter{timer: t, wake: make(chan struct{}, 1)}
}

func (w *timerWaiter) Wait(t time.Time) {
	if t.IsZero() {
		<-w.wake
		return
	}
	d := time.Until(t)
	if d <= 0 {
		return
	}
	w.timer.Reset(d)
	select {
	case <-w.timer.C:
	case <-w.wake:
		w.timer.Stop()
	}
}

func (w *timerWaiter) Wake() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *timerWaiter) Quantum() time.Duration { return 0 }

func (w *timerWaiter) OwnThread() bool { return false }

func (w *timerWaiter) Close() { w.timer.Stop() }
