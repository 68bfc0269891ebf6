package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/glm46/glm46/harness/measure"
)

// rawServer accepts connections on a real socket, reads one request on each and
// lets answer do what it likes with the connection.
func rawServer(t *testing.T, answer func(c *net.TCPConn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	var conns []net.Conn
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns = append(conns, c)
			in := bufio.NewReader(c)
			req, err := http.ReadRequest(in)
			if err != nil {
				c.Close()
				continue
			}
			if req.Method != http.MethodPost { // /metrics, /health
				_, _ = io.WriteString(c, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
				c.Close()
				continue
			}
			_, _ = io.Copy(io.Discard, req.Body)
			answer(c.(*net.TCPConn))
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
		for _, c := range conns {
			c.Close()
		}
	})
	return "http://" + l.Addr().String()
}

const (
	streamHead = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
	closedHead = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
	tokenEvent = `data: {"choices":[{"index":0,"text":"x","finish_reason":null}]}` + "\n\n"
	lastEvent  = `data: {"choices":[{"index":0,"text":"x","finish_reason":"length"}]}` + "\n\n"
	doneEvent  = "data: [DONE]\n\n"
)

func usageOf(n int) string {
	return fmt.Sprintf(`data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":%d}}`+"\n\n", n)
}

// chunked frames every part as a chunk and ends the body.
func chunked(parts ...string) string {
	var b strings.Builder
	b.WriteString(streamHead)
	for _, p := range parts {
		b.Write(chunk(p))
	}
	b.WriteString("0\r\n\r\n")
	return b.String()
}

func withStatus(status, body string) string {
	return fmt.Sprintf("HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", status, len(body), body)
}

func resetConn(c *net.TCPConn) {
	_ = c.SetLinger(0)
	c.Close()
}

func TestFailureClasses(t *testing.T) {
	write := func(s string) func(*net.TCPConn) {
		return func(c *net.TCPConn) { _, _ = io.WriteString(c, s) }
	}
	writeClose := func(s string) func(*net.TCPConn) {
		return func(c *net.TCPConn) { _, _ = io.WriteString(c, s); c.Close() }
	}
	short := Limits{Total: 300 * time.Millisecond, Idle: 5 * time.Second}
	for _, tt := range []struct {
		name   string
		answer func(*net.TCPConn)
		limits Limits
		want   measure.Class
		detail string
		tokens int
	}{
		{"ok", write(chunked(tokenEvent, lastEvent, usageOf(2), doneEvent)), Limits{}, measure.OK, "", 2},
		{"ok until the connection closes", writeClose(closedHead + tokenEvent + lastEvent + usageOf(2) + doneEvent), Limits{}, measure.OK, "", 2},
		{"ok in one chunk", write(chunked(tokenEvent + lastEvent + usageOf(2) + doneEvent)), Limits{}, measure.OK, "", 2},
		{"bytes behind [DONE]", write(chunked(tokenEvent, lastEvent, usageOf(2), doneEvent, "rubbish\n\n")), Limits{}, measure.OK, "", 2},
		{"reset before the head", resetConn, Limits{}, measure.Reset, "before the response head", 0},
		{"closed before the head", func(c *net.TCPConn) { c.Close() }, Limits{}, measure.Reset, "before the response head", 0},
		{"half a head", writeClose("HTTP/1.1 200 OK\r\nContent-"), Limits{}, measure.Reset, "before the response head", 0},
		{"silence before the head", func(*net.TCPConn) {}, short, measure.Timeout, "no response head within 300ms", 0},
		{"silence before the head, explicit idle limit", func(*net.TCPConn) {}, Limits{Idle: 200 * time.Millisecond, IdleExplicit: true}, measure.Timeout, "idle limit", 0},
		{"no HTTP", writeClose("hello\r\n\r\n"), Limits{}, measure.MalformedEvent, "response head", 0},
		{"context length", write(withStatus("400 Bad Request", `{"error":{"message":"This model's maximum context length is 32768 tokens. However, ..."}}`)), Limits{}, measure.ContextLength, "32768", 0},
		{"other 400", write(withStatus("400 Bad Request", `{"error":"x"}`)), Limits{}, measure.HTTP4xx, "HTTP 400", 0},
		{"404", write(withStatus("404 Not Found", `{}`)), Limits{}, measure.HTTP4xx, "HTTP 404", 0},
		{"redirect", write("HTTP/1.1 302 Found\r\nLocation: http://example.com/\r\nContent-Length: 0\r\n\r\n"), Limits{}, measure.HTTP4xx, "HTTP 302", 0},
		{"429", write(withStatus("429 Too Many Requests", `{}`)), Limits{}, measure.HTTP429, "HTTP 429", 0},
		{"500", write(withStatus("500 Internal Server Error", `{"error":{"message":"EngineCore encountered an issue."}}`)), Limits{}, measure.HTTP5xx, "EngineCore", 0},
		{"503 without body", writeClose("HTTP/1.1 503 Service Unavailable\r\n\r\n"), Limits{}, measure.HTTP5xx, "HTTP 503", 0},
		{"JSON instead of a stream", write(withStatus("200 OK", `{"choices":[{"text":"x"}]}`)), Limits{}, measure.MalformedEvent, "application/json", 0},
		{"no data line", write(chunked(": comment\n\n")), Limits{}, measure.MalformedEvent, "no data line", 0},
		{"empty body", write(chunked()), Limits{}, measure.MalformedEvent, "no data line", 0},
		{"error event", write(chunked(tokenEvent, `data: {"error":{"message":"boom","code":500}}`+"\n\n", doneEvent)), Limits{}, measure.StreamErrorEvent, "boom", 1},
		{"bad JSON", write(chunked(tokenEvent, "data: {\"choices\":[\n\n")), Limits{}, measure.MalformedEvent, "event data", 1},
		{"garbage line", write(chunked(tokenEvent, "rubbish\n\n", lastEvent)), Limits{}, measure.MalformedEvent, "rubbish", 1},
		{"bad chunk", write(streamHead + "zz\r\n"), Limits{}, measure.MalformedEvent, "chunked", 0},
		{"reset in the stream", func(c *net.TCPConn) {
			_, _ = io.WriteString(c, streamHead+string(chunk(tokenEvent)))
			time.Sleep(50 * time.Millisecond)
			resetConn(c)
		}, Limits{}, measure.Reset, "", 1},
		{"stalled", write(streamHead + string(chunk(tokenEvent))), Limits{Idle: 200 * time.Millisecond}, measure.Stalled, "no byte for 200ms after 1 token", 1},
		{"too long", func(c *net.TCPConn) {
			if _, err := io.WriteString(c, streamHead); err != nil {
				return
			}
			for range 20 {
				time.Sleep(50 * time.Millisecond)
				if _, err := c.Write(chunk(tokenEvent)); err != nil {
					return
				}
			}
		}, short, measure.Timeout, "longer than 300ms", -1},
		{"silence behind the head counts for the total limit only", write(streamHead), Limits{Total: 400 * time.Millisecond, Idle: 100 * time.Millisecond}, measure.Timeout, "longer than 400ms", 0},
		{"body ends without [DONE]", write(chunked(tokenEvent, lastEvent, usageOf(2))), Limits{}, measure.Truncated, "without [DONE]", 2},
		{"connection ends inside the body", writeClose(streamHead + string(chunk(tokenEvent))), Limits{}, measure.Truncated, "inside the body", 1},
		{"connection ends inside an event", writeClose(closedHead + tokenEvent + tokenEvent[:20]), Limits{}, measure.Truncated, "without [DONE]", 1},
		{"no finish_reason", write(chunked(tokenEvent, tokenEvent, usageOf(2), doneEvent)), Limits{}, measure.Truncated, "finish_reason", 2},
		{"no tokens", write(chunked(`data: {"choices":[{"index":0,"text":"","finish_reason":"stop"}]}`+"\n\n", usageOf(0), doneEvent)), Limits{}, measure.NoTokens, "", 0},
		{"no usage", write(chunked(tokenEvent, lastEvent, doneEvent)), Limits{}, measure.UsageMissing, "", 2},
		{"wrong length", write(chunked(tokenEvent, lastEvent, usageOf(3), doneEvent)), Limits{}, measure.WrongLength, "3 tokens instead of 2", 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var rec memory
			target := Target{BaseURL: rawServer(t, tt.answer), Model: "m", Features: Features{ForcedLength: true}}
			spec := Spec{Level: "c1", Concurrency: 1, Samples: samples(1, 2), Limits: tt.limits, Warmup: WarmupSpec{Skip: true}}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			out, err := Run(ctx, target, spec, &rec, nil)
			require.NoError(t, err)
			require.Len(t, rec.records, 1)
			r := rec.records[0]
			if r.Outcome != tt.want || !strings.Contains(r.Detail, tt.detail) || tt.tokens >= 0 && len(r.Events) != tt.tokens {
				t.Errorf("got %s (%s) with %d token events, want %s (%s) with %d", r.Outcome, r.Detail, len(r.Events), tt.want, tt.detail, tt.tokens)
			}
			require.Empty(t, out.EndReason, "one failed request ended the level")
			require.GreaterOrEqual(t, r.End, r.LastToken)
			if tt.want == measure.Stalled {
				require.GreaterOrEqual(t, r.End, r.LastToken+tt.limits.Idle, "the slot is free when the silence is known to be a failure")
			}
			run, err := Finish(target, spec, out, measure.Records(rec.records), FinishInput{})
			require.NoError(t, err)
			if tt.want != measure.OK {
				require.Contains(t, run.Validity.Reasons, measure.ReasonFailedRequests)
				require.Equal(t, map[measure.Class]int{tt.want: 1}, run.Failures.ByClass)
				require.Zero(t, run.Metrics.Completed)
			}
		})
	}
}

func TestConnectFailures(t *testing.T) {
	refused := func() string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer l.Close()
		return "http://" + l.Addr().String()
	}()
	for _, tt := range []struct {
		name   string
		target Target
		want   measure.Class
	}{
		// Nothing listens: that is a dead server.
		{"refused", Target{BaseURL: refused}, measure.ServerDead},
		{"timeout", Target{BaseURL: refused, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
			return nil, context.DeadlineExceeded
		}}, measure.ConnectTimeout},
		{"unreachable", Target{BaseURL: refused, Dial: func(context.Context, string, string) (net.Conn, error) {
			return nil, errors.New("no route to host")
		}}, measure.ServerDead},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.target.Model = "m"
			var rec memory
			out, err := Run(t.Context(), tt.target, Spec{
				Level: "c1", Concurrency: 1, Samples: samples(3, 2), Limits: Limits{Connect: 50 * time.Millisecond}, Warmup: WarmupSpec{Skip: true},
			}, &rec, nil)
			require.NoError(t, err)
			require.Equal(t, tt.want, rec.records[0].Outcome, rec.records[0].Detail)
			if tt.want == measure.ServerDead {
				require.True(t, out.ServerDead)
				require.Contains(t, out.EndReason, "refuses connections")
				require.Len(t, rec.records, 1, "the level went on without a server")
				require.Contains(t, rec.records[0].Detail, "connect_refused")
			} else {
				require.Len(t, rec.records, 3)
			}
		})
	}
}
