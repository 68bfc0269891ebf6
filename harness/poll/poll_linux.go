//go:build amd64 || arm64

package poll

import (
	"io"
	"iter"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// yieldEvery is how often the thread's goroutine steps back. Go's runtime takes
// the place (GOMAXPROCS) of one that holds it for 10 ms, and then looks every 20 us
// for more to take, which costs as much as reading some thousand events a second;
// stepping back wakes another thread, so it is not done more often.
//
// Source: Go 1.26, src/runtime/proc.go, sysmon, retake and goschedImpl.
const yieldEvery = 5 * time.Millisecond

// Poller is one thread for many sockets.
type Poller struct {
	start   time.Time
	epoll   int
	wake    int // eventfd
	timer   int // timerfd
	stopped chan struct{}

	mu     sync.Mutex
	inbox  []*Task
	asleep bool // a new task has to wake the thread
	closed bool

	cancelled atomic.Bool

	// The thread's own.
	tasks    []*Task
	byFD     []*Task
	earliest time.Duration // no wait ends before
	armed    time.Duration // what timer is set to
	lags     Lags
	msg      unix.Msghdr
	iov      unix.Iovec
	control  [8]uint64 // words, for the alignment of a Cmsghdr
}

// Task is what Do runs: a coroutine on the poller's thread.
type Task struct {
	p     *Poller
	index int // in tasks
	next  func() (struct{}, bool)
	yield func(struct{}) bool
	done  chan struct{}
	end   time.Duration // of the wait at hand
	why   error         // how it ended
}

// Socket is a connection that a Poller reads and writes. It belongs to one task
// at a time.
type Socket struct {
	p    *Poller
	fd   int
	mask uint32 // epoll's interest, 0: not registered
	last time.Duration
}

// New starts a poller. Its times count from start.
func New(start time.Time) (*Poller, error) {
	p := &Poller{start: start, epoll: -1, wake: -1, timer: -1, earliest: Forever, armed: Forever, stopped: make(chan struct{})}
	var err error
	if p.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if p.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		p.closeFDs()
		return nil, os.NewSyscallError("eventfd", err)
	}
	if p.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK); err != nil {
		p.closeFDs()
		return nil, os.NewSyscallError("timerfd_create", err)
	}
	for _, fd := range []int{p.wake, p.timer} {
		if err := unix.EpollCtl(p.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}); err != nil {
			p.closeFDs()
			return nil, os.NewSyscallError("epoll_ctl", err)
		}
	}
	p.msg.Iov = &p.iov
	p.msg.SetIovlen(1)
	go p.loop()
	return p, nil
}

func (p *Poller) closeFDs() {
	for _, fd := range []int{p.epoll, p.wake, p.timer} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}

func (p *Poller) now() time.Duration { return time.Since(p.start) }

// Take makes a connection the poller's. c is closed, also when it fails.
func (p *Poller) Take(c *net.TCPConn) (*Socket, error) {
	defer c.Close()
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	// A copy of the descriptor that Go's own poller does not know: it would wake
	// up for each event, too.
	fd, fault := -1, error(nil)
	err = raw.Control(func(from uintptr) { fd, fault = unix.FcntlInt(from, unix.F_DUPFD_CLOEXEC, 0) })
	if err == nil {
		err = os.NewSyscallError("fcntl", fault)
	}
	if err != nil {
		return nil, err
	}
	// Without stamps the time of the read stands in.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
	return &Socket{p: p, fd: fd}, nil
}

// Do runs f on the poller's thread and returns when f has. What f does between
// reads, writes and sleeps holds up all others.
func (p *Poller) Do(f func(*Task)) {
	t := &Task{p: p, done: make(chan struct{})}
	t.next, _ = iter.Pull(func(yield func(struct{}) bool) {
		t.yield = yield
		f(t)
	})
	p.mu.Lock()
	p.inbox = append(p.inbox, t)
	wake := p.asleep
	p.asleep = false
	p.mu.Unlock()
	if wake {
		p.wakeUp()
	}
	<-t.done
}

func (p *Poller) wakeUp() {
	one := [8]byte{1}
	_, _ = unix.Write(p.wake, one[:])
}

// Cancel ends all waits, and those to come, with net.ErrClosed. It does nothing
// after Close.
func (p *Poller) Cancel() {
	p.cancelled.Store(true)
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed { // else the descriptor may be another file's by now
		p.wakeUp()
	}
}

// Close ends the thread. No task may be under way, and none may come. It gives
// how late reads were.
func (p *Poller) Close() *Lags {
	p.mu.Lock()
	p.closed = true
	p.wakeUp()
	p.mu.Unlock()
	<-p.stopped
	p.closeFDs()
	return &p.lags
}

// loop is the thread.
func (p *Poller) loop() {
	defer close(p.stopped)
	var (
		events  [256]unix.EpollEvent
		started []*Task
		yielded time.Duration
	)
	for {
		var closed bool
		started, closed = p.take(started)
		if closed {
			return
		}
		for _, t := range started {
			t.index = len(p.tasks)
			p.tasks = append(p.tasks, t)
			p.resume(t, nil)
		}
		p.expire()
		timeout := -1
		if len(started) > 0 {
			timeout = 0 // others may have come meanwhile
		}
		p.arm()
		if now := p.now(); now-yielded >= yieldEvery {
			yielded = now
			runtime.Gosched()
		}
		n, err := unix.EpollWait(p.epoll, events[:], timeout)
		if err != nil && err != unix.EINTR {
			panic(os.NewSyscallError("epoll_wait", err)) // wrong arguments
		}
		for i := range max(n, 0) {
			p.event(int(events[i].Fd))
			p.expire() // a planned request does not wait for a crowd of events
		}
		if p.cancelled.Load() {
			for i := len(p.tasks) - 1; i >= 0; i-- {
				p.resume(p.tasks[i], net.ErrClosed)
			}
		}
	}
}

// take gives the new tasks; used is the slice of the time before.
func (p *Poller) take(used []*Task) (tasks []*Task, closed bool) {
	clear(used)
	p.mu.Lock()
	defer p.mu.Unlock()
	tasks, p.inbox = p.inbox, used[:0]
	p.asleep = len(tasks) == 0
	return tasks, p.closed
}

// arm sets the timer to the earliest end of a wait.
func (p *Poller) arm() {
	if p.earliest == p.armed {
		return
	}
	p.armed = p.earliest
	var spec unix.ItimerSpec // all zero: off
	if p.earliest != Forever {
		spec.Value = unix.NsecToTimespec(int64(max(1, p.earliest-p.now())))
	}
	_ = unix.TimerfdSettime(p.timer, 0, &spec, nil)
}

// expire ends the waits whose end has come.
func (p *Poller) expire() {
	now := p.now()
	if now < p.earliest {
		return
	}
	p.earliest = Forever
	for i := len(p.tasks) - 1; i >= 0; i-- {
		if t := p.tasks[i]; t.end <= now {
			p.resume(t, os.ErrDeadlineExceeded)
		} else {
			p.earliest = min(p.earliest, t.end)
		}
	}
}

// event of a descriptor.
func (p *Poller) event(fd int) {
	switch {
	case fd == p.wake || fd == p.timer:
		var b [8]byte
		_, _ = unix.Read(fd, b[:])
		if fd == p.timer {
			p.armed = Forever
		}
	case fd < len(p.byFD) && p.byFD[fd] != nil:
		p.resume(p.byFD[fd], nil)
	}
}

// resume goes on with a task until its next wait or its end.
func (p *Poller) resume(t *Task, why error) {
	t.why = why
	if _, more := t.next(); more {
		return
	}
	last := p.tasks[len(p.tasks)-1]
	p.tasks[t.index], last.index = last, t.index
	p.tasks[len(p.tasks)-1] = nil
	p.tasks = p.tasks[:len(p.tasks)-1]
	close(t.done)
}

// wait until resumed, for an event or by the end of the wait.
func (t *Task) wait(end time.Duration) error {
	if t.p.cancelled.Load() {
		return net.ErrClosed
	}
	t.end = end
	t.p.earliest = min(t.p.earliest, end)
	t.yield(struct{}{})
	return t.why
}

// Sleep until an instant, exact to some 20 us where a processor is free.
func (t *Task) Sleep(until time.Duration) error {
	for t.p.now() < until {
		if err := t.wait(until); err != nil && err != os.ErrDeadlineExceeded {
			return err
		}
	}
	return nil
}

// await an event of the socket.
func (s *Socket) await(t *Task, mask uint32, end time.Duration) error {
	if s.mask != mask {
		op := unix.EPOLL_CTL_MOD
		if s.mask == 0 {
			op = unix.EPOLL_CTL_ADD
			for len(t.p.byFD) <= s.fd {
				t.p.byFD = append(t.p.byFD, nil)
			}
		}
		if err := unix.EpollCtl(t.p.epoll, op, s.fd, &unix.EpollEvent{Events: mask, Fd: int32(s.fd)}); err != nil {
			return os.NewSyscallError("epoll_ctl", err)
		}
		s.mask = mask
	}
	t.p.byFD[s.fd] = t
	return t.wait(end)
}

// Read waits until end for bytes. at is when the last of them arrived.
func (s *Socket) Read(t *Task, b []byte, end time.Duration) (n int, at time.Duration, err error) {
	for {
		// Asking the socket first would mostly cost a call for nothing, and let one
		// that always has more keep out the others.
		if err := s.await(t, unix.EPOLLIN|unix.EPOLLRDHUP, end); err != nil {
			return 0, t.p.now(), err
		}
		n, stamp, errno := t.p.receive(s.fd, b)
		switch errno {
		case 0:
			if n == 0 {
				return 0, t.p.now(), io.EOF
			}
			return n, s.at(stamp), nil
		case unix.EINTR, unix.EAGAIN:
		default:
			return 0, t.p.now(), os.NewSyscallError("recvmsg", errno)
		}
	}
}

// at turns a stamp, in nanoseconds of the wall clock, into a time of the run.
func (s *Socket) at(stamp int64) time.Duration {
	now := time.Now()
	at := now.Sub(s.p.start)
	// A stamp of the future or of long ago: somebody set the clock.
	if lag := time.Duration(now.UnixNano() - stamp); stamp != 0 && lag >= 0 && lag < time.Minute {
		s.p.lags.add(lag)
		at -= lag
	} else {
		s.p.lags.unstamped++
	}
	s.last = max(s.last, at)
	return s.last
}

// receive reads without blocking and without telling the scheduler: the call
// takes a microsecond. stamp is 0 if the kernel gave none.
func (p *Poller) receive(fd int, b []byte) (n int, stamp int64, errno syscall.Errno) {
	p.iov.Base = unsafe.SliceData(b)
	p.iov.SetLen(len(b))
	p.msg.Control = (*byte)(unsafe.Pointer(&p.control))
	p.msg.SetControllen(int(unsafe.Sizeof(p.control)))
	r, _, errno := unix.RawSyscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&p.msg)), unix.MSG_DONTWAIT)
	p.iov.Base = nil
	if errno != 0 {
		return 0, 0, errno
	}
	const head = unix.SizeofCmsghdr
	if c := (*unix.Cmsghdr)(unsafe.Pointer(&p.control)); p.msg.Controllen >= head+16 && c.Level == unix.SOL_SOCKET && c.Type == unix.SO_TIMESTAMPNS {
		stamp = (*unix.Timespec)(unsafe.Add(unsafe.Pointer(&p.control), head)).Nano()
	}
	return int(r), stamp, 0
}

// Write sends head and body as one message, waiting until end for room.
func (s *Socket) Write(t *Task, head, body []byte, end time.Duration) error {
	s.last = max(s.last, t.p.now()) // no answer comes before its request
	for len(head)+len(body) > 0 {
		n, err := unix.SendmsgBuffers(s.fd, [][]byte{head, body}, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		switch err {
		case nil:
			skip := min(n, len(head))
			head, body = head[skip:], body[n-skip:]
		case unix.EINTR:
		case unix.EAGAIN:
			if err := s.await(t, unix.EPOLLOUT, end); err != nil {
				return err
			}
		default:
			return os.NewSyscallError("sendmsg", err)
		}
	}
	return nil
}

// Quiet tells that nothing is to be read and that the connection is open.
func (s *Socket) Quiet() bool {
	var b [1]byte
	_, _, err := unix.Recvfrom(s.fd, b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	return err == unix.EAGAIN
}

// Release takes the socket out of its task, for another one to use.
func (s *Socket) Release() {
	if s.mask != 0 {
		_ = unix.EpollCtl(s.p.epoll, unix.EPOLL_CTL_DEL, s.fd, nil)
		s.p.byFD[s.fd] = nil
		s.mask = 0
	}
}

// Close the connection. It may be called outside of a task if it was released.
func (s *Socket) Close() error {
	s.Release()
	return os.NewSyscallError("close", unix.Close(s.fd))
}
