package mockvllm

import (
	"net"
	"sync"
	"syscall"
	"time"
)

// sink takes a stream's events to its client. flush is called by the driver (or
// a helper of it) and never blocks.
type sink interface {
	// flush sends s.pending and empties it.
	flush(s *stream)
	// drain returns when everything flushed has left, or cannot.
	drain()
}

// connSink writes to the connection's socket past net/http, which is parked in
// the handler meanwhile with empty buffers. What the socket does not take at
// once is written by a goroutine that is started for it.
type connSink struct {
	lateness *lateness
	conn     net.Conn
	raw      syscall.RawConn
	try      func(fd uintptr) // made once: a closure a write would allocate
	rest     []byte           // of the write under way
	failed   bool             // the peer is gone

	mu       sync.Mutex
	backlog  []byte
	draining chan struct{} // open while the goroutine writes; nil without one
}

// newConnSink gives nil if the connection has no socket of its own.
func newConnSink(c net.Conn, l *lateness) *connSink {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	k := &connSink{conn: c, raw: raw, lateness: l}
	k.try = k.send
	return k
}

// send hands rest to the socket once, without blocking.
func (k *connSink) send(fd uintptr) {
	n, again := sendNow(fd, k.rest)
	k.rest = k.rest[n:]
	k.failed = len(k.rest) > 0 && !again
}

func (k *connSink) flush(s *stream) {
	k.write(s.pending)
	s.pending = s.pending[:0]
	now := time.Now()
	k.lateness.observe(s.marks, now)
	if s.truth != nil {
		s.truth.wrote(s.marks, now)
	}
	s.marks = s.marks[:0]
}

func (k *connSink) write(b []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.failed {
		return
	}
	if k.draining != nil {
		k.backlog = append(k.backlog, b...)
		return
	}
	k.rest = b
	// Control, not Write: nobody else writes, so there is no order to keep.
	if err := k.raw.Control(k.try); err != nil {
		k.failed = true
		return
	}
	if len(k.rest) > 0 && !k.failed {
		k.backlog = append(k.backlog[:0], k.rest...)
		k.draining = make(chan struct{})
		go k.writeBacklog()
	}
	k.rest = nil
}

// writeBacklog writes what a slow reader has left behind, blocking.
func (k *connSink) writeBacklog() {
	for {
		k.mu.Lock()
		if len(k.backlog) == 0 || k.failed {
			k.backlog = nil
			close(k.draining)
			k.draining = nil
			k.mu.Unlock()
			return
		}
		b := k.backlog
		k.backlog = nil
		k.mu.Unlock()
		if _, err := k.conn.Write(b); err != nil {
			k.mu.Lock()
			k.failed = true
			k.mu.Unlock()
		}
	}
}

func (k *connSink) drain() {
	k.mu.Lock()
	wait := k.draining
	k.mu.Unlock()
	if wait != nil {
		<-wait
	}
}

// queueSink hands events to the handler's goroutine, which writes them through
// net/http: for connections without a socket, HTTP/1.0, and streams with faults.
type queueSink struct {
	mu    sync.Mutex
	buf   []byte
	marks []mark
	wake  chan struct{}
}

func newQueueSink() *queueSink { return &queueSink{wake: make(chan struct{}, 1)} }

func (k *queueSink) flush(s *stream) {
	k.mu.Lock()
	base := len(k.buf)
	k.buf = append(k.buf, s.pending...)
	for _, m := range s.marks {
		m.end += base
		k.marks = append(k.marks, m)
	}
	k.mu.Unlock()
	s.pending, s.marks = s.pending[:0], s.marks[:0]
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

func (k *queueSink) drain() {}

// take empties the queue into the caller's buffers.
func (k *queueSink) take(buf []byte, marks []mark) ([]byte, []mark) {
	k.mu.Lock()
	defer k.mu.Unlock()
	buf, k.buf = k.buf, buf[:0]
	marks, k.marks = k.marks, marks[:0]
	return buf, marks
}
