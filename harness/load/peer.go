package load

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// peer is the server of a certificate: it answers every request with constant
// events, one write each, paced or as fast as it can, and remembers when it did
// what. It shares the client's process and clock.
type peer struct {
	l        net.Listener
	start    time.Time
	gap      time.Duration // between events; 0: none
	event    []byte        // with its chunk framing
	group    sync.WaitGroup
	mu       sync.Mutex
	conns    map[net.Conn]struct{}
	closed   bool
	remember bool
	answers  map[string]*answer
}

// answer is what the peer knows of one request, since start.
type answer struct {
	received time.Duration
	written  []time.Duration
}

// eventBytesLeast is the shortest event of its kind.
const eventBytesLeast = 120

// startPeer listens on loopback. Events are eventBytes long.
func startPeer(eventBytes int, gap time.Duration, remember bool) (*peer, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("load: certificate: %w", err)
	}
	p := &peer{
		l: l, start: time.Now(), gap: gap, event: chunk(constantEvent(eventBytes)), remember: remember,
		conns: map[net.Conn]struct{}{}, answers: map[string]*answer{},
	}
	p.group.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.mu.Lock()
			if p.closed {
				c.Close()
			} else {
				p.conns[c] = struct{}{}
				p.group.Go(func() { p.serve(c) })
			}
			p.mu.Unlock()
		}
	})
	return p, nil
}

func (p *peer) url() string { return "http://" + p.l.Addr().String() }

// close ends all answers and waits for them.
func (p *peer) close() {
	p.l.Close()
	p.mu.Lock()
	p.closed = true
	for c := range p.conns {
		c.Close()
	}
	p.mu.Unlock()
	p.group.Wait()
}

// constantEvent is a completion chunk of that many bytes.
func constantEvent(size int) string {
	const before, after = `data: {"id":"cmpl-1","object":"text_completion","choices":[{"index":0,"text":" word`, `","logprobs":null,"finish_reason":null}]}` + "\n\n"
	return before + strings.Repeat("x", max(0, size-len(before)-len(after))) + after
}

func chunk(s string) []byte { return fmt.Appendf(nil, "%x\r\n%s\r\n", len(s), s) }

// serve the requests of one connection.
func (p *peer) serve(c net.Conn) {
	defer func() {
		c.Close()
		p.mu.Lock()
		delete(p.conns, c)
		p.mu.Unlock()
	}()
	in := bufio.NewReaderSize(c, 32<<10)
	for {
		id, tokens, err := readAsked(in)
		if err != nil {
			return
		}
		a := &answer{received: time.Since(p.start)}
		if p.remember {
			p.mu.Lock()
			p.answers[id] = a
			p.mu.Unlock()
		}
		if p.answer(c, a, tokens) != nil {
			return
		}
	}
}

func (p *peer) answer(c net.Conn, a *answer, tokens int) error {
	const head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
	if _, err := io.WriteString(c, head); err != nil {
		return err
	}
	next := time.Now()
	for range tokens {
		if p.gap > 0 {
			next = next.Add(p.gap)
			time.Sleep(time.Until(next))
		}
		if p.remember {
			a.written = append(a.written, time.Since(p.start))
		}
		if _, err := c.Write(p.event); err != nil {
			return err
		}
	}
	last := chunk(`data: {"choices":[{"index":0,"text":"","finish_reason":"length"}]}` + "\n\n")
	last = append(last, chunk(fmt.Sprintf(`data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":%d}}`+"\n\ndata: [DONE]\n\n", tokens))...)
	_, err := c.Write(append(last, "0\r\n\r\n"...))
	return err
}

var errAsked = errors.New("not a request of this client")

// readAsked reads a request of this client: its id and tokens asked for.
func readAsked(in *bufio.Reader) (id string, tokens int, err error) {
	length := 0
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return "", 0, err
		}
		if line = strings.TrimRight(line, "\r\n"); line == "" {
			break
		}
		name, value, _ := strings.Cut(line, ": ")
		switch name {
		case "Content-Length":
			if length, err = strconv.Atoi(value); err != nil {
				return "", 0, errAsked
			}
		case "X-Request-Id":
			id = value
		}
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(in, body); err != nil {
		return "", 0, err
	}
	_, rest, found := bytes.Cut(body, []byte(`"max_tokens":`))
	end := bytes.IndexByte(rest, ',')
	if !found || end < 0 {
		return "", 0, errAsked
	}
	tokens, err = strconv.Atoi(string(rest[:end]))
	return id, tokens, err
}
