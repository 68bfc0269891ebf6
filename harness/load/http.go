package load

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/glm46/glm46/harness/poll"
)

// The client speaks HTTP/1.1 itself. net/http would read ahead in a goroutine
// of its own, so that nobody could tell when the bytes of an event came from
// the socket, and would keep three goroutines a stream.

// address is where requests go.
type address struct {
	host   string // host:port to dial
	header string // Host
	prefix string // path in front of /v1
	tls    *tls.Config
}

// parseAddress reads a base URL: http or https, no query.
func parseAddress(base string, config *tls.Config) (address, error) {
	u, err := url.Parse(base)
	if err != nil {
		return address{}, fmt.Errorf("load: server URL: %w", err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return address{}, fmt.Errorf("load: server URL %q: want http://HOST:PORT", base)
	}
	if u.RawQuery != "" || u.Fragment != "" {
		return address{}, fmt.Errorf("load: server URL %q: query and fragment have no meaning here", base)
	}
	a := address{host: u.Host, header: u.Host, prefix: strings.TrimSuffix(strings.TrimRight(u.EscapedPath(), "/"), "/v1")}
	if u.Port() == "" {
		a.host = net.JoinHostPort(u.Hostname(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
	}
	if u.Scheme == "https" {
		a.tls = config.Clone()
		if a.tls == nil {
			a.tls = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		if a.tls.ServerName == "" {
			a.tls.ServerName = u.Hostname()
		}
		a.tls.NextProtos = []string{"http/1.1"}
	}
	return a, nil
}

// headBytes is the size of a connection's buffer for response heads, and
// maxHeadBytes the most that a head may have.
const (
	headBytes    = 4 << 10
	maxHeadBytes = 256 << 10
)

// conn is one connection. It is used by one request at a time.
type conn struct {
	socket
	// Bytes read behind the head: in[r:w], at readAt.
	in       []byte
	r, w     int
	readAt   time.Duration
	limits   limits        // of the reads to come
	idleFrom time.Duration // since when it has been in the pool
}

// limits of the reads of one request, on the run's clock.
type limits struct {
	total time.Duration // end of the request
	idle  time.Duration // longest silence, 0: none
	last  time.Duration // when the last byte came
}

// Why a read ended without bytes.
var (
	errTotal = errors.New("the time limit of the request ended")
	errIdle  = errors.New("no byte for the idle limit")
)

// bounded reads within the limits.
func (c *conn) bounded(p []byte) (int, time.Duration, error) {
	n, at, err := c.read(p, c.limits.end())
	switch {
	case n > 0:
		c.limits.last = at
	case errors.Is(err, os.ErrDeadlineExceeded) && at >= c.limits.total:
		err = errTotal
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = errIdle
	}
	return n, at, err
}

// end of the wait for the next byte.
func (l limits) end() time.Duration {
	if l.idle > 0 {
		return min(l.total, l.last+l.idle)
	}
	return l.total
}

// head reads a response's head. errHead wraps what is wrong with one that is
// not HTTP.
func (c *conn) head() (*http.Response, error) {
	if c.in == nil {
		c.in = make([]byte, headBytes)
	}
	c.r, c.w = 0, 0
	for {
		end := headEnd(c.in[:c.w])
		if end < 0 {
			if c.w == len(c.in) {
				if c.w >= maxHeadBytes {
					return nil, &headError{errors.New("a response head of more than 256 KiB")}
				}
				c.in = append(c.in, make([]byte, len(c.in))...)
			}
			n, at, err := c.bounded(c.in[c.w:])
			c.w += n
			c.readAt = at
			if err != nil && n == 0 {
				if err == io.EOF && c.w > 0 {
					err = io.ErrUnexpectedEOF
				}
				return nil, err
			}
			continue
		}
		raw := c.in[:end]
		resp, err := http.ReadResponse(bufio.NewReaderSize(bytes.NewReader(raw), len(raw)), &http.Request{Method: http.MethodPost})
		if err != nil {
			return nil, &headError{err}
		}
		if resp.StatusCode >= 100 && resp.StatusCode < 200 && resp.StatusCode != http.StatusSwitchingProtocols {
			c.w = copy(c.in, c.in[end:c.w])
			continue
		}
		c.r = end
		return resp, nil
	}
}

// headEnd is where the empty line behind a head ends, -1 without one. Lines end
// with CRLF or LF.
func headEnd(b []byte) int {
	for i := 0; ; {
		n := bytes.IndexByte(b[i:], '\n')
		if n < 0 {
			return -1
		}
		i += n + 1
		rest := b[i:]
		switch {
		case len(rest) > 0 && rest[0] == '\n':
			return i + 1
		case len(rest) > 1 && rest[0] == '\r' && rest[1] == '\n':
			return i + 2
		}
	}
}

// headError is a response that is not HTTP.
type headError struct{ err error }

func (e *headError) Error() string { return "response head: " + e.err.Error() }
func (e *headError) Unwrap() error { return e.err }

// content reads a response's body with the moment of every read. It takes the
// framing out in place and never reads beyond what the caller asked for.
type content struct {
	c         *conn
	chunked   bool
	close     bool  // the body ends with the connection
	left      int64 // of the body or of the chunk
	state     chunkState
	line      int // bytes of the line at hand, against endless ones
	digits    int
	extension bool
	done      bool
	extra     bool // bytes behind the end of the response
}

type chunkState int

const (
	chunkSize chunkState = iota
	chunkData
	chunkEnd
	chunkTrailer
)

// contentOf a response whose head was read from c.
func contentOf(c *conn, resp *http.Response) *content {
	b := &content{c: c}
	switch {
	case len(resp.TransferEncoding) > 0 && resp.TransferEncoding[0] == "chunked":
		b.chunked = true
	case resp.ContentLength >= 0:
		b.left = resp.ContentLength
		b.done = b.left == 0
	default:
		b.close = true
	}
	return b
}

// errChunk is framing that is not HTTP's.
var errChunk = errors.New("bad chunked encoding")

// ReadTimed makes content a measure.TimedReader.
func (b *content) ReadTimed(p []byte) (int, time.Duration, error) {
	for !b.done {
		n, at := 0, b.c.readAt
		if b.c.r < b.c.w { // bytes that came with the head
			n = copy(p, b.c.in[b.c.r:b.c.w])
			b.c.r += n
		} else {
			var err error
			n, at, err = b.c.bounded(p)
			if err != nil && n == 0 {
				if err == io.EOF && !b.close {
					err = io.ErrUnexpectedEOF
				}
				return 0, at, err
			}
		}
		n, err := b.decode(p[:n])
		if n > 0 || err != nil {
			return n, at, err
		}
	}
	return 0, b.c.readAt, io.EOF
}

// decode takes the framing out of p in place.
func (b *content) decode(p []byte) (int, error) {
	if !b.chunked {
		if b.close {
			return len(p), nil
		}
		n := int(min(int64(len(p)), b.left))
		b.left -= int64(n)
		b.done = b.left == 0
		b.extra = b.extra || n < len(p)
		return n, nil
	}
	out := 0
	for i := 0; i < len(p); {
		if b.done {
			b.extra = true
			break
		}
		if b.state == chunkData {
			n := int(min(int64(len(p)-i), b.left))
			if out != i {
				copy(p[out:], p[i:i+n])
			}
			out += n
			i += n
			if b.left -= int64(n); b.left == 0 {
				b.state = chunkEnd
			}
			continue
		}
		if err := b.frame(p[i]); err != nil {
			return out, err
		}
		i++
	}
	return out, nil
}

// frame takes one byte of the framing between chunks.
func (b *content) frame(c byte) error {
	if b.line++; b.line > 4096 {
		return fmt.Errorf("%w: a line of more than 4 KiB", errChunk)
	}
	switch b.state {
	case chunkSize:
		switch {
		case c == '\n':
			if b.digits == 0 {
				return fmt.Errorf("%w: a chunk without size", errChunk)
			}
			b.line, b.digits, b.extension = 0, 0, false
			b.state = chunkData
			if b.left == 0 {
				b.state = chunkTrailer
			}
		case c == '\r' || c == ' ' || c == '\t':
		case c == ';':
			b.extension = true
		case b.extension:
		default:
			v := hexValue(c)
			if v < 0 || b.digits >= 15 {
				return fmt.Errorf("%w: size byte %q", errChunk, c)
			}
			b.left = b.left<<4 | v
			b.digits++
		}
	case chunkEnd:
		switch c {
		case '\r':
		case '\n':
			b.line, b.state = 0, chunkSize
		default:
			return fmt.Errorf("%w: byte %q behind a chunk", errChunk, c)
		}
	case chunkTrailer:
		switch c {
		case '\r':
			b.line--
		case '\n':
			b.done = b.line == 1
			b.line = 0
		}
	}
	return nil
}

// hexValue of a digit, -1 of anything else.
func hexValue(c byte) int64 {
	switch {
	case c >= '0' && c <= '9':
		return int64(c - '0')
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return int64(c|0x20-'a') + 10
	}
	return -1
}

// reusable reports whether the response was read to its end and another one
// can follow on the connection.
func (b *content) reusable() bool { return b.done && !b.extra && !b.close && b.c.r == b.c.w }

// pool keeps connections between requests. A connection that waited longer
// than poolAge, or that the server closed, is not used again, so that a request
// never fails for a connection that was no longer good.
type pool struct {
	clock  clock
	addr   address
	poller *poll.Poller // nil where goroutines read
	dial   func(ctx context.Context, network, addr string) (net.Conn, error)
	mu     sync.Mutex
	idle   []*conn
	done   bool
}

// poolAge is well below the shortest keep-alive of servers in use.
// Source: uvicorn's timeout_keep_alive is 5 s, which vLLM keeps.
const poolAge = time.Second

// get takes an idle connection or dials.
func (p *pool) get(ctx context.Context, timeout time.Duration) (*conn, error) {
	for {
		p.mu.Lock()
		n := len(p.idle)
		if n == 0 {
			p.mu.Unlock()
			break
		}
		c := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		if p.clock.now()-c.idleFrom < poolAge && c.quiet() {
			return c, nil
		}
		c.Close()
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	nc, err := p.dial(ctx, "tcp", p.addr.host)
	if err != nil {
		return nil, err
	}
	if tcp, ok := nc.(*net.TCPConn); ok && p.poller != nil && p.addr.tls == nil {
		s, err := p.poller.Take(tcp)
		if err != nil {
			return nil, err
		}
		return &conn{socket: &polledSocket{Socket: s}}, nil
	}
	if p.addr.tls != nil {
		t := tls.Client(nc, p.addr.tls)
		if err := t.HandshakeContext(ctx); err != nil {
			nc.Close()
			return nil, err
		}
		nc = t
	}
	return &conn{socket: &netSocket{Conn: nc, clock: p.clock}}, nil
}

// put gives a connection back.
func (p *pool) put(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done {
		c.Close()
		return
	}
	c.idleFrom = p.clock.now()
	p.idle = append(p.idle, c)
}

// close the idle connections, and those that come back later.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.idle {
		c.Close()
	}
	p.idle, p.done = nil, true
}
