package load

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/glm46/glm46/harness/measure"
)

// scriptedConn gives its bytes in pieces of a size, then ends.
type scriptedConn struct {
	net.Conn
	data []byte
	size int
}

func (c *scriptedConn) Read(p []byte) (int, error) {
	if len(c.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.data[:min(len(c.data), c.size)])
	c.data = c.data[n:]
	return n, nil
}

func (c *scriptedConn) SetReadDeadline(time.Time) error { return nil }

// readResponse reads a whole response as this client does.
func readResponse(raw []byte, size, buffer int) (status int, body []byte, reusable bool, err error) {
	c := &conn{socket: &netSocket{Conn: &scriptedConn{data: raw, size: size}, clock: clock{time.Now()}}, limits: limits{total: forever}}
	resp, err := c.head()
	if err != nil {
		return 0, nil, false, err
	}
	in := contentOf(c, resp)
	p := make([]byte, buffer)
	for {
		n, _, err := in.ReadTimed(p)
		body = append(body, p[:n]...)
		if err == io.EOF {
			return resp.StatusCode, body, in.reusable(), nil
		}
		if err != nil {
			return resp.StatusCode, body, false, err
		}
	}
}

func TestReadResponse(t *testing.T) {
	for _, tt := range []struct {
		name, raw, body string
		reusable        bool
		fault           error
	}{
		{"chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0a\r\n0123456789\r\n0\r\n\r\n", "abc0123456789", true, nil},
		{"bare line feeds", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\n0\n\n", "abc", true, nil},
		{"extension and trailer", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=\"y\"\r\nabc\r\n0\r\nA: b\r\nC: d\r\n\r\n", "abc", true, nil},
		{"length", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", "abc", true, nil},
		{"bytes behind the length", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcd", "abc", false, nil},
		{"bytes behind the chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\nx", "a", false, nil},
		{"until the end", "HTTP/1.1 200 OK\r\n\r\nabc", "abc", false, nil},
		{"continue first", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", "a", true, nil},
		{"cut chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "ab", false, io.ErrUnexpectedEOF},
		{"cut length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", "ab", false, io.ErrUnexpectedEOF},
		{"no last chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", "ab", false, io.ErrUnexpectedEOF},
		{"bad size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\ng\r\n", "", false, errChunk},
		{"huge size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n", "", false, errChunk},
		{"no size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n", "", false, errChunk},
		{"no line end behind a chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", "a", false, errChunk},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, size := range []int{1, 2, 3, 7, 1 << 20} {
				_, body, reusable, err := readResponse([]byte(tt.raw), size, 64)
				if string(body) != tt.body || !errors.Is(err, tt.fault) {
					t.Errorf("reads of %d: got %q, %v", size, body, err)
				}
				// Bytes behind the end are only seen if they came with the end.
				if reusable != tt.reusable && (tt.reusable || size > 100) {
					t.Errorf("reads of %d: reusable %v", size, reusable)
				}
			}
		})
	}
}

func FuzzReadResponse(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"), 3)
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"), 1)
	f.Fuzz(func(t *testing.T, raw []byte, size int) {
		size = max(1, min(size, 4096))
		status, body, _, err := readResponse(bytes.Clone(raw), len(raw)+1, 1<<16)
		splitStatus, splitBody, _, splitErr := readResponse(bytes.Clone(raw), size, 33)
		if status != splitStatus || !bytes.Equal(body, splitBody) || (err == nil) != (splitErr == nil) {
			t.Fatalf("whole: %d %q %v\nsplit: %d %q %v", status, body, err, splitStatus, splitBody, splitErr)
		}
		// What net/http reads to the end is read the same.
		resp, stdErr := http.ReadResponse(bufio.NewReader(bytes.NewReader(raw)), &http.Request{Method: http.MethodPost})
		if stdErr != nil || resp.StatusCode < 200 || err != nil {
			return
		}
		want, stdErr := io.ReadAll(resp.Body)
		if stdErr == nil && !bytes.Equal(want, body) {
			t.Fatalf("net/http reads %q, got %q", want, body)
		}
	})
}

// TestConnectionsAreReused: slots keep their connection, and one that the
// server closed is never used.
func TestConnectionsAreReused(t *testing.T) {
	var opened atomic.Int64
	s := &scripted{answer: func(a asked) []step { return completion(a.MaxTokens, 0, 0, 10) }}
	srv := httptest.NewUnstartedServer(s)
	srv.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	srv.Start()
	defer srv.Close()
	var rec memory
	spec := Spec{Level: "c2", Concurrency: 2, Samples: samples(50, 3), Warmup: WarmupSpec{Skip: true}}
	_, err := Run(t.Context(), Target{BaseURL: srv.URL, Model: "m"}, spec, &rec, nil)
	require.NoError(t, err)
	require.LessOrEqual(t, opened.Load(), int64(4), "two slots and the metrics")

	// A server that closes behind every answer, without saying so.
	closing := rawServer(t, func(c *net.TCPConn) {
		_, _ = io.WriteString(c, chunked(tokenEvent, lastEvent, usageOf(2), doneEvent))
		c.Close()
	})
	var second memory
	spec.Concurrency, spec.Samples = 1, samples(20, 2)
	_, err = Run(t.Context(), Target{BaseURL: closing, Model: "m"}, spec, &second, nil)
	require.NoError(t, err)
	for _, r := range second.records {
		// A close that comes after the look at the socket, but before the server
		// has the request, cannot be told from a reset; it must stay rare.
		if r.Outcome != measure.OK && r.Outcome != measure.Reset {
			t.Errorf("%s: %s", r.Outcome, r.Detail)
		}
	}
}

func TestParseAddress(t *testing.T) {
	for base, want := range map[string]string{
		"http://127.0.0.1:8000":     "127.0.0.1:8000 ",
		"http://127.0.0.1:8000/":    "127.0.0.1:8000 ",
		"http://127.0.0.1:8000/v1":  "127.0.0.1:8000 ",
		"http://127.0.0.1:8000/v1/": "127.0.0.1:8000 ",
		"http://h/a/b/v1":           "h:80 /a/b",
		"https://h/x":               "h:443 /x",
		"http://[::1]:80":           "[::1]:80 ",
		"ftp://h":                   "",
		"h:80":                      "",
		"http://h/?a=b":             "",
		"http://h/#f":               "",
		"http://h:80\r\nX: y/":      "",
		"":                          "",
	} {
		a, err := parseAddress(base, nil)
		if got := a.host + " " + a.prefix; err == nil && got != want || (err != nil) != (want == "") {
			t.Errorf("%q: got %q, %v", base, got, err)
		}
	}
}

func TestTLS(t *testing.T) {
	s := &scripted{answer: func(a asked) []step { return completion(a.MaxTokens, 0, 0, 10) }}
	srv := httptest.NewTLSServer(s)
	defer srv.Close()
	var rec memory
	target := Target{BaseURL: srv.URL, Model: "m", TLS: srv.Client().Transport.(*http.Transport).TLSClientConfig}
	_, err := Run(t.Context(), target, Spec{Level: "c1", Concurrency: 1, Samples: samples(3, 3), Warmup: WarmupSpec{Skip: true}}, &rec, nil)
	require.NoError(t, err)
	for _, r := range rec.records {
		require.Equal(t, measure.OK, r.Outcome, r.Detail)
	}
}

func TestSpecIsChecked(t *testing.T) {
	good := Spec{Level: "c1", Concurrency: 1, Samples: samples(1, 1)}
	target := Target{BaseURL: "http://127.0.0.1:1", Model: "m"}
	for name, change := range map[string]func(*Target, *Spec){
		"URL":         func(t *Target, _ *Spec) { t.BaseURL = "x" },
		"key":         func(t *Target, _ *Spec) { t.APIKey = "a\r\nHost: x" },
		"concurrency": func(_ *Target, s *Spec) { s.Concurrency = 0 },
		"target":      func(_ *Target, s *Spec) { s.Samples[0].TargetTokens = 0 },
		"prompt":      func(_ *Target, s *Spec) { s.Samples[0].Prompt = "" },
		"rate":        func(_ *Target, s *Spec) { s.Arrival.Process = Poisson },
	} {
		tg, spec := target, good
		spec.Samples = samples(1, 1)
		change(&tg, &spec)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if _, err := Run(ctx, tg, spec, &memory{}, nil); err == nil || !strings.HasPrefix(err.Error(), "load: ") {
			t.Errorf("%s: %v", name, err)
		}
		cancel()
	}
}

func TestEventLog(t *testing.T) {
	var sp spill
	defer func() { require.NoError(t, sp.close()) }()
	logs := make([]eventLog, 3)
	for i := range logs {
		logs[i].spill = &sp
	}
	const n = 30_000
	for k := range n {
		for i := range logs {
			logs[i].add(time.Duration(k*(i+1))*ms+time.Duration(i), 1+k%5)
		}
	}
	for i := range logs {
		require.NotEmpty(t, logs[i].parts, "nothing was spilled")
		require.Less(t, cap(logs[i].buf), 2*spillBytes, "memory grows with the stream")
		events, err := logs[i].read(nil)
		require.NoError(t, err)
		require.Len(t, events, n)
		for k, e := range events {
			want := measure.Event{At: time.Duration(k*(i+1))*ms + time.Duration(i), Tokens: 1 + k%5}
			if e != want {
				t.Fatalf("stream %d, event %d: got %v, want %v", i, k, e, want)
			}
		}
	}
	// Without room for the file, events stay in memory.
	t.Setenv("TMPDIR", "/nonexistent")
	var none spill
	full := eventLog{spill: &none}
	for k := range n {
		full.add(time.Duration(k)*ms, 1)
	}
	events, err := full.read(nil)
	require.NoError(t, err)
	require.Len(t, events, n)
	damaged := eventLog{buf: []byte{0x80}}
	_, err = damaged.read(nil)
	require.Error(t, err)
}
