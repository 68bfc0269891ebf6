package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/glm46/glm46/harness/measure"
	"github.com/glm46/glm46/harness/poll"
)

// request is one request under way.
type request struct {
	r      *runner
	sample *Sample
	rec    *measure.Record
	salt   string
	log    eventLog

	// What the live line and the watch over a hung server look at, in
	// nanoseconds of the run and tokens.
	began   time.Duration // start of its share of requests in flight
	first   atomic.Int64
	last    atomic.Int64
	lastAny atomic.Int64
	tokens  atomic.Int64
}

var bodies = sync.Pool{New: func() any { b := make([]byte, 0, 64<<10); return &b }}

// do sends the request and reads its answer to the end. It fills q.rec. at is
// when to send it; what can be done before is done before. 0 is at once.
func (q *request) do(ctx context.Context, at time.Duration) {
	rec := q.rec
	class, detail := q.exchange(ctx, at)
	if rec.End == 0 {
		rec.End = q.r.clock.now()
	}
	if class != measure.OK && ctx.Err() != nil && class != measure.ServerDead {
		// The request was given up, whatever that looked like on the socket.
		class, detail = q.r.givenUp(ctx, class, detail)
	}
	rec.Outcome, rec.Detail = class, detail
}

// exchange is one request on one connection.
func (q *request) exchange(ctx context.Context, at time.Duration) (measure.Class, string) {
	r, rec := q.r, q.rec
	pooled := bodies.Get().(*[]byte)
	giveBack := sync.OnceFunc(func() {
		if cap(*pooled) <= 1<<20 { // a 64k prompt has some 250 kB
			bodies.Put(pooled)
		}
	})
	defer giveBack()
	payload, err := r.body.append((*pooled)[:0], q.sample, rec.RequestedTokens, q.salt)
	if err != nil {
		return measure.HTTP4xx, "not sent: " + err.Error()
	}
	*pooled = payload
	c, err := r.pool.get(ctx, r.limits.Connect)
	if err != nil {
		return dialClass(err)
	}
	head := r.head(rec, len(payload))
	var (
		class  measure.Class
		detail string
		keep   bool
	)
	if polled, ok := c.socket.(*polledSocket); ok {
		// A run that is given up ends all waits of its poller.
		r.poller.Do(func(t *poll.Task) {
			polled.task = t
			defer polled.Release()
			class, detail, keep = q.converse(ctx, c, at, head, payload, giveBack)
		})
	} else {
		stop := context.AfterFunc(ctx, func() { c.Close() })
		class, detail, keep = q.converse(ctx, c, at, head, payload, giveBack)
		keep = stop() && keep // else it closes the connection: not to be used again
	}
	if keep {
		r.pool.put(c)
	} else {
		c.Close()
	}
	return class, detail
}

// converse sends a request when it is time and reads the answer. written is
// called when the payload is not needed any more. keep tells that the connection
// can be used again.
func (q *request) converse(ctx context.Context, c *conn, at time.Duration, head, payload []byte, written func()) (class measure.Class, detail string, keep bool) {
	r, rec := q.r, q.rec
	start := max(at, r.clock.now())
	total := start + r.limits.Total
	limit := limits{total: total}
	if r.limits.IdleExplicit {
		limit.idle = r.limits.Idle
	}
	writeEnd := total
	if limit.idle > 0 {
		writeEnd = min(total, start+limit.idle)
	}
	if at > 0 && !c.sleep(ctx, at) {
		return measure.Cancelled, "not sent", false
	}
	rec.Sent = max(1, r.clock.now())
	err := c.write(head, payload, writeEnd)
	r.sent(q)
	if err != nil {
		class, detail = writeClass(err)
		return class, detail, false
	}
	written() // a stream may last for minutes; its prompt is not needed
	limit.last = r.clock.now()
	c.limits = limit
	resp, err := c.head()
	if err != nil {
		class, detail = headClass(err, r.limits)
		return class, detail, false
	}
	rec.HTTPStatus = resp.StatusCode
	in := contentOf(c, resp)
	if resp.StatusCode != http.StatusOK {
		class, detail = statusClass(resp.StatusCode, q.errorBody(in))
		return class, detail, in.reusable() && !resp.Close
	}
	c.limits = limits{total: total, last: r.clock.now()}
	if kind := resp.Header.Get("Content-Type"); kind != "" && !strings.HasPrefix(strings.ToLower(kind), "text/event-stream") {
		return measure.MalformedEvent, fmt.Sprintf("a body of type %q instead of an event stream: %s", kind, excerpt(q.errorBody(in))), false
	}
	class, detail = q.stream(c, in)
	if class == measure.OK || finished(class) {
		keep = q.drain(c, in) && !resp.Close
	}
	return class, detail, keep
}

// errorBody of a response that is no stream, at most 64 KiB in 10 s.
func (q *request) errorBody(in *content) []byte {
	limit := in.c.limits
	limit.total = min(limit.total, q.r.clock.now()+10*time.Second)
	limit.idle = 0
	in.c.limits = limit
	b := make([]byte, 0, 4<<10)
	for len(b) < 64<<10 {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		n, _, err := in.ReadTimed(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if err != nil {
			break
		}
	}
	return b
}

// drain reads what is left behind [DONE], at most a second, so that the
// connection can be used again.
func (q *request) drain(c *conn, in *content) bool {
	if in.done {
		return in.reusable()
	}
	limit := c.limits
	limit.total = min(limit.total, q.r.clock.now()+time.Second)
	limit.idle = 0
	c.limits = limit
	var rest [512]byte
	for {
		if _, _, err := in.ReadTimed(rest[:]); err != nil {
			return err == io.EOF && in.reusable()
		}
	}
}

// finished tells failures of a response that came to its regular end.
func finished(class measure.Class) bool {
	switch class {
	case measure.NoTokens, measure.UsageMissing, measure.WrongLength:
		return true
	}
	return false
}

// reading is what one stream needs to be read; it goes from stream to stream.
type reading struct {
	events measure.SSEReader
	parser measure.EventParser
}

var readings = sync.Pool{New: func() any { return &reading{} }}

// stream reads the events of an answer and says how it ended.
func (q *request) stream(c *conn, in *content) (measure.Class, string) {
	rec := q.rec
	tools := readings.Get().(*reading)
	defer readings.Put(tools)
	events := &tools.events
	events.Reset(in)
	tools.parser.Reset()
	var (
		d         measure.Delta
		done      bool
		reasoning bool
		told      int  // running count of tokens from the server
		running   bool // the server gives running counts
		usage     bool
		broken    error
	)
	var end time.Duration
	for !done {
		data, at, err := events.Next()
		q.lastAny.Store(int64(at))
		if err != nil {
			// The failure is known now, which may be long after the last byte.
			end, broken = q.r.clock.now(), err
			break
		}
		rec.EventCount++
		if string(data) == "[DONE]" {
			done, end = true, at
			break
		}
		if err := tools.parser.Parse(data, &d); err != nil {
			rec.End = at
			return measure.MalformedEvent, fmt.Sprintf("%v: %s", err, excerpt(data))
		}
		if d.Error != nil {
			rec.End = at
			rec.EventBytes = events.BytesRead()
			return measure.StreamErrorEvent, excerpt(d.Error)
		}
		tokens := 0
		if d.HasText() {
			tokens = 1
		}
		if d.HasUsage {
			usage = true
			rec.PromptTokens, rec.CompletionTokens = d.PromptTokens, d.CompletionTokens
			if d.CachedTokens >= 0 {
				cached := d.CachedTokens
				rec.CachedTokens = &cached
			}
		}
		// Running counts tell how many tokens an event holds, also where its text
		// is still incomplete and empty. They are running counts if the first token
		// came with one; a last event with nothing but usage is none.
		running = running || d.HasChoice && d.CompletionTokens > 0 && rec.FirstToken == 0
		if running {
			if d.HasUsage && d.HasChoice {
				tokens = max(0, d.CompletionTokens-told)
			}
			told += tokens
		}
		if len(d.FinishReason) > 0 {
			rec.FinishReason = string(d.FinishReason)
		}
		reasoning = reasoning || d.Reasoning
		if tokens > 0 {
			q.token(at, tokens, c)
		}
		if d.Content || d.Tool {
			if rec.FirstContent == 0 {
				rec.FirstContent = at
			}
		}
	}
	rec.End = end
	rec.EventBytes = events.BytesRead()
	if !reasoning {
		rec.FirstContent = rec.FirstToken
	}
	switch {
	case !usage:
		rec.TokenSource = measure.TokensFromNone
	case running && told == rec.CompletionTokens:
		rec.TokenSource = measure.TokensFromContinuousUsage
	default:
		rec.TokenSource = measure.TokensFromUsage
	}
	if !done {
		return q.brokenClass(broken, events.DataLines())
	}
	return q.doneClass(usage)
}

// token takes note of an event that holds tokens.
func (q *request) token(at time.Duration, tokens int, c *conn) {
	rec := q.rec
	if rec.FirstToken == 0 {
		rec.FirstToken = at
		q.first.Store(int64(at))
		q.r.firstToken(q)
		// From here on silence counts.
		c.limits.idle = q.r.limits.Idle
	} else if q.r.warming.Load() {
		q.r.steady.gap(at, at-rec.LastToken, q.r.batch())
	}
	rec.LastToken = at
	q.last.Store(int64(at))
	q.tokens.Add(int64(tokens))
	q.log.add(at, tokens)
}

// brokenClass of a stream that ended before [DONE].
func (q *request) brokenClass(err error, lines int) (measure.Class, string) {
	idle := q.r.limits.Idle
	switch {
	case errors.Is(err, errIdle):
		return measure.Stalled, fmt.Sprintf("no byte for %v after %d token events", idle, q.log.count)
	case errors.Is(err, errTotal):
		return measure.Timeout, fmt.Sprintf("the request took longer than %v; %d token events had come", q.r.limits.Total, q.log.count)
	}
	var sse *measure.SSEError
	switch {
	case errors.As(err, &sse), errors.Is(err, errChunk):
		return measure.MalformedEvent, err.Error()
	case err == io.EOF && lines == 0:
		return measure.MalformedEvent, "the body holds no data line"
	case err == io.EOF:
		return measure.Truncated, fmt.Sprintf("the body ended without [DONE] after %d token events", q.log.count)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return measure.Truncated, fmt.Sprintf("the connection ended inside the body after %d token events", q.log.count)
	}
	return measure.Reset, err.Error()
}

// doneClass of a stream that came to [DONE].
func (q *request) doneClass(usage bool) (measure.Class, string) {
	rec := q.rec
	switch {
	case rec.FinishReason == "":
		return measure.Truncated, "[DONE] came without a finish_reason"
	case q.log.count == 0:
		return measure.NoTokens, "the stream ended regularly without a token"
	case !usage || rec.CompletionTokens == 0:
		return measure.UsageMissing, "no usage, though stream_options.include_usage was sent"
	case rec.CompletionTokens > rec.RequestedTokens || rec.LengthForced && rec.CompletionTokens != rec.RequestedTokens:
		return measure.WrongLength, fmt.Sprintf("%d tokens instead of %d (finish_reason %q)", rec.CompletionTokens, rec.RequestedTokens, rec.FinishReason)
	}
	return measure.OK, ""
}

// dialClass of a connection that was not made.
func dialClass(err error) (measure.Class, string) {
	var n net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &n) && n.Timeout() {
		return measure.ConnectTimeout, err.Error()
	}
	if errors.Is(err, syscall.ECONNRESET) {
		return measure.Reset, "while connecting: " + err.Error()
	}
	return measure.ConnectRefused, err.Error()
}

func writeClass(err error) (measure.Class, string) {
	var n net.Error
	if errors.As(err, &n) && n.Timeout() {
		return measure.Timeout, "the server did not take the request: " + err.Error()
	}
	return measure.Reset, "while sending: " + err.Error()
}

// headClass of a response whose head did not arrive.
func headClass(err error, l Limits) (measure.Class, string) {
	var head *headError
	switch {
	case errors.Is(err, errTotal):
		return measure.Timeout, fmt.Sprintf("no response head within %v", l.Total)
	case errors.Is(err, errIdle):
		return measure.Timeout, fmt.Sprintf("no response head within the idle limit of %v", l.Idle)
	case errors.As(err, &head):
		return measure.MalformedEvent, err.Error()
	}
	return measure.Reset, "before the response head: " + err.Error()
}

// statusClass of an answer other than 200.
func statusClass(status int, body []byte) (measure.Class, string) {
	detail := fmt.Sprintf("HTTP %d: %s", status, excerpt(body))
	switch {
	case status == http.StatusBadRequest && strings.Contains(string(body), "maximum context length"):
		return measure.ContextLength, detail
	case status == http.StatusTooManyRequests:
		return measure.HTTP429, detail
	case status >= 500:
		return measure.HTTP5xx, detail
	}
	return measure.HTTP4xx, detail
}
