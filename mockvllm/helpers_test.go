package mockvllm

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "rewrite golden files")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testModel = "zai-org/GLM-4.6"

// fast is a pace at which tests need not wait.
var fast = &Pace{}

// quick options: the plan's baseline on the default version.
func quick(args ...string) Options {
	return Options{Args: append([]string{testModel, "--tensor-parallel-size", "8", "--max-model-len", "32768"}, args...)}
}

func startMock(t testing.TB, o Options) *Mock {
	t.Helper()
	m, err := New(o)
	require.NoError(t, err)
	require.NoError(t, m.Start(t.Context()))
	t.Cleanup(func() { m.Close() })
	return m
}

// serve puts a mock on a real socket. direct: streams go past net/http.
func serve(t testing.TB, m *Mock, direct bool) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(m)
	s.Config.ErrorLog = discardLog
	if direct {
		s.Config.ConnContext = m.ConnContext
	}
	s.Start()
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
		s.Client().CloseIdleConnections()
	})
	return s
}

// newServer is a started mock on a socket.
func newServer(t testing.TB, o Options) (*Mock, *httptest.Server) {
	m := startMock(t, o)
	return m, serve(t, m, true)
}

type answer struct {
	status int
	header http.Header
	body   string
}

func call(t testing.TB, c *http.Client, method, url, body string, header ...string) answer {
	t.Helper()
	a, err := callErr(t.Context(), c, method, url, body, header...)
	require.NoError(t, err)
	return a
}

func callErr(ctx context.Context, c *http.Client, method, url, body string, header ...string) (answer, error) {
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := c.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(b)}, err
}

// chunk is what tests look at in an event.
type chunk struct {
	Object  string
	Model   string
	Choices []struct {
		Index int
		Delta struct {
			Role             *string
			Content          *string
			Reasoning        *string
			ReasoningContent *string `json:"reasoning_content"`
		}
		Text         *string
		FinishReason *string `json:"finish_reason"`
		StopReason   any     `json:"stop_reason"`
	}
	Usage *usageJSON
	Error *struct {
		Message string
		Type    string
		Code    int
	}
}

type usageJSON struct {
	PromptTokens     int `json:"prompt_tokens"`
	TotalTokens      int `json:"total_tokens"`
	CompletionTokens int `json:"completion_tokens"`
	Details          *struct {
		CachedTokens int `json:"cached_tokens"`
	} `json:"prompt_tokens_details"`
}

// parsed is a stream as a client sees it.
type parsed struct {
	chunks    []chunk
	text      string
	reasoning string
	finish    string
	stop      any
	usage     *usageJSON
	done      bool
	garbage   []string
	err       string
	role      int
}

func parseStream(t testing.TB, body string) parsed {
	t.Helper()
	var p parsed
	sc := bufio.NewScanner(strings.NewReader(body))
	sc.Buffer(nil, 1<<24)
	for sc.Scan() {
		line := sc.Text()
		if line == "" {
			continue
		}
		data, ok := strings.CutPrefix(line, "data: ")
		if data == "[DONE]" {
			p.done = true
			continue
		}
		var c chunk
		if !ok || json.Unmarshal([]byte(data), &c) != nil {
			p.garbage = append(p.garbage, line)
			continue
		}
		p.chunks = append(p.chunks, c)
		if c.Error != nil {
			p.err = c.Error.Message
		}
		if c.Usage != nil {
			p.usage = c.Usage
		}
		for _, ch := range c.Choices {
			if ch.Delta.Role != nil {
				p.role++
			}
			for _, s := range []*string{ch.Delta.Content, ch.Text} {
				if s != nil {
					p.text += *s
				}
			}
			switch {
			case ch.Delta.Reasoning != nil:
				p.reasoning += *ch.Delta.Reasoning
			case ch.Delta.ReasoningContent != nil:
				p.reasoning += *ch.Delta.ReasoningContent
			}
			if ch.FinishReason != nil {
				p.finish, p.stop = *ch.FinishReason, ch.StopReason
			}
		}
	}
	return p
}

// pipeListener joins servers and clients inside a process.
type pipeListener struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	a, b := net.Pipe()
	select {
	case l.conns <- a:
		return b, nil
	case <-l.done:
		return nil, errors.New("listener closed")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// servePipe serves a mock over memory; stop must be called before a bubble ends.
func servePipe(m *Mock) (c *http.Client, stop func()) {
	l := newPipeListener()
	srv := m.HTTPServer()
	srv.IdleTimeout = 0
	served := make(chan struct{})
	go func() {
		_ = srv.Serve(l)
		close(served)
	}()
	tr := &http.Transport{DialContext: l.dial, MaxIdleConnsPerHost: 10000}
	return &http.Client{Transport: tr}, func() {
		tr.CloseIdleConnections()
		_ = srv.Close()
		<-served
		m.Close()
	}
}
