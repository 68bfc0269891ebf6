package load

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/glm46/glm46/harness/measure"
)

// memory keeps records.
type memory struct {
	mu      sync.Mutex
	records []*measure.Record
	flushes int
}

func (m *memory) Record(r *measure.Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := *r
	c.Events = append(measure.Events(nil), r.Events...)
	m.records = append(m.records, &c)
	return nil
}

func (m *memory) Flush() error { m.flushes++; return nil }

// main records in the order of their samples' seeds is what most tests look at.
func (m *memory) main() []*measure.Record {
	var out []*measure.Record
	for _, r := range m.records {
		if r.Phase == measure.PhaseMain {
			out = append(out, r)
		}
	}
	return out
}

// step of a scripted answer: after a pause, bytes.
type step struct {
	after time.Duration
	bytes string
}

// asked is a request as the scripted server saw it.
type asked struct {
	Path      string
	Model     string          `json:"model"`
	Prompt    string          `json:"prompt"`
	Messages  json.RawMessage `json:"messages"`
	MaxTokens int             `json:"max_tokens"`
	MinTokens *int            `json:"min_tokens"`
	IgnoreEOS *bool           `json:"ignore_eos"`
	Seed      *int            `json:"seed"`
	Salt      string          `json:"cache_salt"`
	Stream    bool            `json:"stream"`
	Options   map[string]bool `json:"stream_options"`
	Raw       []byte          `json:"-"`
	Header    http.Header     `json:"-"`
}

// scripted is a server that answers with steps on a stream of its own making.
type scripted struct {
	answer func(a asked) []step
	mu     sync.Mutex
	asked  []asked
	extra  http.Handler // other paths
}

func (s *scripted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		if s.extra != nil {
			s.extra.ServeHTTP(w, r)
			return
		}
		http.NotFound(w, r)
		return
	}
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	a := asked{Path: r.URL.Path, Raw: raw, Header: r.Header.Clone()}
	if err := json.Unmarshal(raw, &a); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	s.asked = append(s.asked, a)
	s.mu.Unlock()
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	w.WriteHeader(http.StatusOK)
	for _, st := range s.answer(a) {
		if st.after > 0 {
			timer := time.NewTimer(st.after)
			select {
			case <-timer.C:
			case <-r.Context().Done():
				timer.Stop()
				return
			}
		}
		if _, err := io.WriteString(w, st.bytes); err != nil {
			return
		}
		if f, ok := w.(http.Flusher); ok {
			f.Flush()
		}
	}
}

// completion is a regular answer of n tokens: the first after ttft, the others
// at itl.
func completion(n int, ttft, itl time.Duration, prompt int) []step {
	steps := make([]step, 0, n+1)
	for i := range n {
		wait, finish := itl, "null"
		if i == 0 {
			wait = ttft
		}
		if i == n-1 {
			finish = `"length"`
		}
		steps = append(steps, step{wait, fmt.Sprintf(`data: {"choices":[{"index":0,"text":" w%d","finish_reason":%s}]}`+"\n\n", i, finish)})
	}
	return append(steps, step{0, usageEvent(prompt, n)})
}

func usageEvent(prompt, n int) string {
	return fmt.Sprintf(`data: {"choices":[],"usage":{"prompt_tokens":%d,"total_tokens":%d,"completion_tokens":%d}}`+"\n\ndata: [DONE]\n\n", prompt, prompt+n, n)
}

// memoryListener connects a server and a client in one process without sockets.
type memoryListener struct {
	conns chan net.Conn
	quit  chan struct{}
	once  sync.Once
}

func newMemoryListener() *memoryListener {
	return &memoryListener{conns: make(chan net.Conn), quit: make(chan struct{})}
}

func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.quit:
		return nil, net.ErrClosed
	}
}

func (l *memoryListener) Close() error { l.once.Do(func() { close(l.quit) }); return nil }

func (l *memoryListener) Addr() net.Addr { return memoryAddr{} }

type memoryAddr struct{}

func (memoryAddr) Network() string { return "memory" }
func (memoryAddr) String() string  { return "memory" }

func (l *memoryListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.quit:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// serveMemory serves a handler inside a synctest bubble and gives the target.
func serveMemory(t *testing.T, h http.Handler) (Target, func()) {
	t.Helper()
	l := newMemoryListener()
	srv := &http.Server{Handler: h}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	return Target{BaseURL: "http://memory", Model: "m", Dial: l.dial, Features: Features{ForcedLength: true}}, func() {
		require.NoError(t, srv.Close())
		<-done
	}
}

// samples of n prompts, all with the same target.
func samples(n, target int) []Sample {
	out := make([]Sample, n)
	for i := range out {
		out[i] = Sample{ID: fmt.Sprintf("s%03d", i), Prompt: fmt.Sprintf("Prompt number %d of a test", i), Seed: i, TargetTokens: target}
	}
	return out
}
