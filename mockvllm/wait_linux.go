package mockvllm

import (
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// fdWaiter blocks its thread on a timerfd. Go's own timers are rounded up to a
// millisecond when the process is otherwise idle, because epoll_wait counts in
// milliseconds; a timerfd is exact to the kernel's slack of 50 us. The kernel wakes
// the thread itself: a file that the runtime polls would wake another thread first,
// and queue the driver behind whatever goroutines are ready.
//
// Source: Go 1.26, src/runtime/netpoll_epoll.go, netpoll.
type fdWaiter struct {
	fd int
	// woken: a Wake came since the last return of Wait.
	woken atomic.Bool
	mu    sync.Mutex // orders timerfd_settime of Wait and Wake
	buf   [8]byte
}

// wakeQuantum is how long the driver lets due tokens gather when it has just
// worked. Waking, and waking the client, costs as much as writing a token, so
// this lowers the CPU time a token by a third at some thousand tokens a second,
// and adds a quarter of a millisecond in the mean (docs/performance.md).
const wakeQuantum = 500 * time.Microsecond

func newFDWaiter() (waiter, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("timerfd_create", err)
	}
	return &fdWaiter{fd: fd}, nil
}

func (w *fdWaiter) set(d time.Duration) {
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}
	_ = unix.TimerfdSettime(w.fd, 0, &spec, nil)
}

func (w *fdWaiter) Wait(t time.Time) {
	w.mu.Lock()
	if w.woken.Swap(false) {
		w.mu.Unlock()
		return
	}
	var d time.Duration // 0 disarms
	if !t.IsZero() {
		if d = time.Until(t); d <= 0 {
			w.mu.Unlock()
			return
		}
	}
	w.set(d)
	w.mu.Unlock()
	for {
		if _, err := unix.Read(w.fd, w.buf[:]); err != unix.EINTR {
			break
		}
	}
	w.woken.Store(false)
}

func (w *fdWaiter) Wake() {
	if w.woken.Swap(true) {
		return
	}
	w.mu.Lock()
	w.set(1)
	w.mu.Unlock()
}

func (w *fdWaiter) Quantum() time.Duration { return wakeQuantum }

func (w *fdWaiter) OwnThread() bool { return true }

func (w *fdWaiter) Close() { _ = unix.Close(w.fd) }
