package load

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/glm46/glm46/harness/poll"
)

// socket is a connection whose bytes come with the moment they arrived. A wait
// that lasts until end gives os.ErrDeadlineExceeded.
type socket interface {
	read(p []byte, end time.Duration) (n int, at time.Duration, err error)
	write(head, payload []byte, end time.Duration) error
	// sleep until a moment of the run; false if the run was given up first.
	sleep(ctx context.Context, until time.Duration) bool
	// quiet tells that an idle connection has nothing to read, else it is closed
	// or out of step.
	quiet() bool
	Close() error
}

// polledSocket is read by the run's poller. Its reads and writes are made inside
// of task.
type polledSocket struct {
	*poll.Socket
	task *poll.Task
}

func (s *polledSocket) read(p []byte, end time.Duration) (int, time.Duration, error) {
	return s.Read(s.task, p, end)
}

func (s *polledSocket) write(head, payload []byte, end time.Duration) error {
	return s.Write(s.task, head, payload, end)
}

func (s *polledSocket) sleep(_ context.Context, until time.Duration) bool {
	return s.task.Sleep(until) == nil
}

func (s *polledSocket) quiet() bool { return s.Quiet() }

// netSocket is read by the goroutine of its request: with TLS, over a network in
// memory, and where there is no poller.
type netSocket struct {
	net.Conn
	clock    clock
	deadline time.Duration // of reads, as it is set
}

// read moves the connection's deadline only when it strikes or has to come
// earlier, not for every event.
func (s *netSocket) read(p []byte, end time.Duration) (int, time.Duration, error) {
	for {
		if s.deadline == 0 || end < s.deadline {
			s.deadline = end
			if err := s.SetReadDeadline(s.clock.start.Add(end)); err != nil {
				return 0, s.clock.now(), err
			}
		}
		n, err := s.Conn.Read(p)
		at := s.clock.now()
		switch {
		case n > 0:
			return n, at, nil
		case err == nil:
		case !errors.Is(err, os.ErrDeadlineExceeded) || at >= end:
			return 0, at, err
		default:
			s.deadline = 0
		}
	}
}

func (s *netSocket) write(head, payload []byte, end time.Duration) error {
	if err := s.SetWriteDeadline(s.clock.start.Add(end)); err != nil {
		return err
	}
	buffers := net.Buffers{head, payload}
	_, err := buffers.WriteTo(s.Conn)
	return err
}

func (s *netSocket) sleep(ctx context.Context, until time.Duration) bool {
	return s.clock.sleep(ctx, until)
}

func (s *netSocket) quiet() bool {
	c := s.Conn
	if t, ok := c.(interface{ NetConn() net.Conn }); ok { // TLS
		c = t.NetConn()
	}
	sc, ok := c.(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	quiet := false
	err = raw.Read(func(fd uintptr) bool {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		quiet = err == syscall.EAGAIN
		return true
	})
	return err == nil && quiet
}
