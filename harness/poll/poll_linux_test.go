//go:build amd64 || arm64

package poll

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const ms = time.Millisecond

func newPoller(t *testing.T) *Poller {
	p, err := New(time.Now())
	require.NoError(t, err)
	t.Cleanup(func() { p.Close() })
	return p
}

// pair is a connection: the poller's end and the other one.
func pair(t *testing.T, p *Poller) (*Socket, *net.TCPConn) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	peer, err := l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { peer.Close() })
	s, err := p.Take(c.(*net.TCPConn))
	require.NoError(t, err)
	return s, peer.(*net.TCPConn)
}

// do runs f as a task with the socket, which it releases.
func do(p *Poller, s *Socket, f func(*Task)) {
	p.Do(func(t *Task) {
		defer s.Release()
		f(t)
	})
}

// Everything that was written arrives, in order, on every socket, and stamps do
// not go back.
func TestManyStreams(t *testing.T) {
	const streams, events = 100, 50
	p := newPoller(t)
	var group sync.WaitGroup
	for i := range streams {
		s, peer := pair(t, p)
		var sent bytes.Buffer
		for k := range events {
			fmt.Fprintf(&sent, "stream %d event %d\n", i, k)
		}
		group.Go(func() {
			for rest := sent.Bytes(); len(rest) > 0; {
				n := min(len(rest), 17)
				if _, err := peer.Write(rest[:n]); err != nil {
					t.Error(err)
				}
				rest = rest[n:]
			}
			peer.CloseWrite()
		})
		group.Go(func() {
			var got bytes.Buffer
			do(p, s, func(task *Task) {
				buf := make([]byte, 64)
				for last := time.Duration(0); ; {
					n, at, err := s.Read(task, buf, Forever)
					got.Write(buf[:n])
					if err == io.EOF {
						return
					}
					if err != nil || at < last || at > p.now() {
						t.Errorf("stream %d: %v at %v after %v", i, err, at, last)
						return
					}
					last = at
				}
			})
			s.Close()
			if got.String() != sent.String() {
				t.Errorf("stream %d: got %q", i, got.String())
			}
		})
	}
	group.Wait()
	require.Empty(t, p.tasks)
}

// The stamp is that of the arrival, however late the read is: bytes that were
// written while another task held the thread are not later for it.
func TestStampIsTheArrival(t *testing.T) {
	p := newPoller(t)
	s, peer := pair(t, p)
	defer s.Close()
	for range 100 {
		reading, written := make(chan struct{}), make(chan time.Duration, 1)
		go func() {
			<-reading
			p.Do(func(*Task) { // holds the thread until the bytes lie there
				if _, err := peer.Write([]byte("x")); err != nil {
					t.Error(err)
				}
				written <- p.now()
				time.Sleep(5 * ms)
			})
		}()
		var at, readAt time.Duration
		do(p, s, func(task *Task) {
			close(reading)
			var b [8]byte
			var err error
			if _, at, err = s.Read(task, b[:], Forever); err != nil {
				t.Error(err)
			}
			readAt = p.now()
		})
		after := <-written
		if s.p.lags.Count() == 0 {
			continue // the kernel begins to stamp a moment after the first socket asked
		}
		require.LessOrEqual(t, at, after)
		require.GreaterOrEqual(t, readAt, after)
		require.GreaterOrEqual(t, p.lags.Percentile(1), 4*ms) // it lay there for as long
		return
	}
	t.Skip("this kernel does not stamp TCP segments")
}

func TestReadWaitsUntilItsEnd(t *testing.T) {
	p := newPoller(t)
	s, _ := pair(t, p)
	defer s.Close()
	do(p, s, func(task *Task) {
		for range 3 {
			end := p.now() + 3*ms
			_, at, err := s.Read(task, make([]byte, 8), end)
			if !errors.Is(err, os.ErrDeadlineExceeded) || at < end {
				t.Errorf("%v at %v, end %v", err, at, end)
			}
		}
		// One that is over already.
		if _, _, err := s.Read(task, make([]byte, 8), p.now()-1); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
	})
}

func TestSleep(t *testing.T) {
	p := newPoller(t)
	var group sync.WaitGroup
	for i := range 500 {
		group.Go(func() {
			p.Do(func(task *Task) {
				until := p.now() + time.Duration(i%7)*ms
				if err := task.Sleep(until); err != nil || p.now() < until {
					t.Errorf("%v, %v before its time", err, until-p.now())
				}
			})
		})
	}
	group.Wait()
}

func TestCancel(t *testing.T) {
	p := newPoller(t)
	s, _ := pair(t, p)
	defer s.Close()
	var group sync.WaitGroup
	begun := make(chan struct{}, 2)
	group.Go(func() {
		do(p, s, func(task *Task) {
			begun <- struct{}{}
			for range 2 { // the second does not begin to wait
				if _, _, err := s.Read(task, make([]byte, 8), Forever); !errors.Is(err, net.ErrClosed) {
					t.Error(err)
				}
			}
		})
	})
	group.Go(func() {
		p.Do(func(task *Task) {
			begun <- struct{}{}
			if err := task.Sleep(p.now() + time.Hour); !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
		})
	})
	<-begun
	<-begun
	p.Cancel()
	group.Wait()
	p.Do(func(task *Task) {
		if err := task.Sleep(p.now() + time.Hour); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
}

// A payload that does not fit the socket goes out as the other side reads it.
func TestWriteWaitsForRoom(t *testing.T) {
	p := newPoller(t)
	s, peer := pair(t, p)
	defer s.Close()
	head, body := []byte("head"), bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
	read := make(chan []byte)
	go func() {
		time.Sleep(2 * ms)
		b := make([]byte, len(head)+len(body))
		_, err := io.ReadFull(peer, b)
		if err != nil {
			t.Error(err)
		}
		read <- b
	}()
	do(p, s, func(task *Task) {
		if err := s.Write(task, head, body, Forever); err != nil {
			t.Error(err)
		}
	})
	require.True(t, bytes.Equal(append(head, body...), <-read))
	do(p, s, func(task *Task) { // nobody reads any more
		if err := s.Write(task, head, body, p.now()+2*ms); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
	})
}

func TestReset(t *testing.T) {
	p := newPoller(t)
	s, peer := pair(t, p)
	defer s.Close()
	do(p, s, func(task *Task) {
		_ = peer.SetLinger(0)
		peer.Close()
		if _, _, err := s.Read(task, make([]byte, 8), Forever); !errors.Is(err, syscall.ECONNRESET) {
			t.Error(err)
		}
		if err := s.Write(task, []byte("x"), nil, Forever); !errors.Is(err, syscall.EPIPE) {
			t.Error(err)
		}
	})
}

// A socket goes from task to task; between them it may be looked at.
func TestSocketIsUsedAgain(t *testing.T) {
	p := newPoller(t)
	s, peer := pair(t, p)
	for i := range 3 {
		require.True(t, s.Quiet())
		do(p, s, func(task *Task) {
			if _, err := peer.Write([]byte{byte(i)}); err != nil {
				t.Error(err)
			}
			b := make([]byte, 8)
			if n, _, err := s.Read(task, b, Forever); err != nil || n != 1 || b[0] != byte(i) {
				t.Error(i, n, b[0], err)
			}
		})
	}
	_, err := peer.Write([]byte("late"))
	require.NoError(t, err)
	require.False(t, s.Quiet())
	require.NoError(t, s.Close())
}

// A connection that cannot be taken leaves nothing open.
func TestTakeOfAClosedConnection(t *testing.T) {
	p := newPoller(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	c.Close()
	_, err = p.Take(c.(*net.TCPConn))
	require.ErrorIs(t, err, net.ErrClosed)
}

// Without the kernel's stamp, or with one that cannot be, the time of the read
// stands in; times never go back.
func TestNoStamp(t *testing.T) {
	p := newPoller(t)
	s, peer := pair(t, p)
	defer s.Close()
	require.NoError(t, unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 0))
	do(p, s, func(task *Task) {
		before := p.now()
		if _, err := peer.Write([]byte("x")); err != nil {
			t.Error(err)
		}
		if _, at, err := s.Read(task, make([]byte, 8), Forever); err != nil || at < before || at > p.now() {
			t.Error(at, before, err)
		}
	})
	require.EqualValues(t, 1, p.lags.Unstamped())
	require.Zero(t, p.lags.Count())
	for _, stamp := range []int64{0, time.Now().Add(time.Hour).UnixNano(), time.Now().Add(-time.Hour).UnixNano()} {
		before := p.now()
		require.GreaterOrEqual(t, s.at(stamp), before)
	}
	// One of before the last read's.
	last := s.last
	require.Equal(t, last, s.at(time.Now().Add(-time.Second).UnixNano()))
	require.EqualValues(t, 4, p.lags.Unstamped())
	require.EqualValues(t, 1, p.lags.Count())
}

// A run that ends just when it is given up: the descriptor that Cancel would
// write to is another file's.
func TestCancelAfterClose(t *testing.T) {
	p, err := New(time.Now())
	require.NoError(t, err)
	p.Close()
	other, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	require.NoError(t, err)
	defer unix.Close(other)
	p.wake = other
	p.Cancel()
	_, err = unix.Read(other, make([]byte, 8))
	require.Equal(t, unix.EAGAIN, err)
}
