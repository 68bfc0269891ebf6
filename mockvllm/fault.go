package mockvllm

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"time"

	"github.com/glm46/glm46/mockvllm/tokenizer"
	"github.com/glm46/glm46/mockvllm/vllm"
)

// fault is a rule of the scenario at work on one stream (of a request of several
// prompts: the first). It is played in the
// handler's goroutine, where waiting holds nobody else up.
type fault struct {
	*Rule
	fired bool // what happens at AtToken has happened
	// end says how the request was ended, for the truth file.
	end string
}

// applyRules puts the scenario on a request; true if it is answered already.
func (m *Mock) applyRules(x *exchange, s *stream) bool {
	index := int(m.requests.Add(1) - 1)
	r := m.scenario.rule(index, s.gen, x.r.Header.Get("X-Request-Id"))
	if r == nil {
		return false
	}
	s.fault = &fault{Rule: r}
	if r.Answer != "" {
		s.scripted = tokenizer.Encode(r.Answer)
		s.req.MaxTokens = min(s.req.MaxTokens, len(s.scripted))
		s.req.MinTokens = min(s.req.MinTokens, s.req.MaxTokens)
		s.req.IgnoreEOS, s.gen.ignoreEOS = true, true // the mock's own text would end
	}
	if r.Length != 0 {
		s.req.MaxTokens = max(1, s.req.MaxTokens+r.Length)
		s.req.MinTokens = min(s.req.MinTokens, s.req.MaxTokens)
	}
	if r.Delay > 0 && !pause(x.r.Context(), r.Delay) {
		return true
	}
	if r.Status != 0 {
		typ, message := r.Type, r.Message
		if typ == "" {
			typ = http.StatusText(r.Status)
			if r.Status == http.StatusInternalServerError {
				typ = vllm.ErrTypeInternal
			}
		}
		if message == "" {
			message = http.StatusText(r.Status)
		}
		s.fault.end = "status"
		x.fail(r.Status, typ, message, "")
		return true
	}
	return false
}

// pause waits; false if the client left.
func pause(ctx context.Context, d time.Duration) bool {
	if d == forever {
		<-ctx.Done()
		return false
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// pumpOutput writes events through net/http, with the stream's fault.
type pumpOutput struct {
	m     *Mock
	x     *exchange
	s     *stream
	flush *http.ResponseController
}

// write sends events; false if the stream is to end here.
func (o *pumpOutput) write(buf []byte, marks []mark) bool {
	if o.s.fault == nil {
		ok := o.send(buf)
		o.wrote(marks)
		return ok
	}
	from := 0
	for i, k := range marks {
		event := buf[from:k.end]
		from = k.end
		if k.tokens > 0 && o.s.fault.AtToken < k.first+k.tokens && !o.fire() {
			return false
		}
		if o.s.fault.NoDone {
			event = bytes.TrimSuffix(event, []byte(vllm.Done))
		}
		if !o.drip(event) {
			return false
		}
		o.wrote(marks[i : i+1])
	}
	return true
}

func (o *pumpOutput) send(b []byte) bool {
	if _, err := o.x.w.Write(b); err != nil {
		return false
	}
	return o.flush.Flush() == nil
}

func (o *pumpOutput) wrote(marks []mark) {
	now := time.Now()
	o.m.late.observe(marks, now)
	if o.s.truth != nil {
		o.s.truth.wrote(marks, now)
	}
}

// drip sends an event, slowly if the rule says so.
func (o *pumpOutput) drip(event []byte) bool {
	d := o.s.fault.Drip
	if d == nil {
		return o.send(event)
	}
	for len(event) > 0 {
		n := min(d.Bytes, len(event))
		if !o.send(event[:n]) {
			return false
		}
		if event = event[n:]; len(event) > 0 && !pause(o.x.r.Context(), d.Every) {
			return false
		}
	}
	return true
}

// fire plays what happens at a token; false if the stream ends with it.
func (o *pumpOutput) fire() bool {
	f := o.s.fault
	if f.fired {
		return true
	}
	f.fired = true
	if f.stall > 0 && !pause(o.x.r.Context(), f.stall) {
		return false
	}
	if f.Garbage != nil && !o.send([]byte(*f.Garbage+"\n\n")) {
		return false
	}
	switch {
	case f.Error:
		f.end = "error"
		e := failure{http.StatusInternalServerError, vllm.ErrTypeInternal, f.Message}
		if e.message == "" {
			e.message = "Internal server error"
		}
		o.send(vllm.ErrorEvents(o.m.version, e.status, e.typ, e.message))
		return false
	case f.Cut:
		f.end = "cut"
		return false
	case f.Reset:
		o.x.reset(f)
		return false
	}
	return true
}

// reset makes the end of the connection a TCP reset, where there is a socket.
func (x *exchange) reset(f *fault) {
	f.end = "reset"
	if c, ok := x.r.Context().Value(connKey{}).(*net.TCPConn); ok {
		_ = c.SetLinger(0)
	}
}

// wholeFault plays a fault on an answer that is not streamed; true if there is
// no answer to give.
func (m *Mock) wholeFault(x *exchange, s *stream) (done bool) {
	f := s.fault
	if f == nil || f.AtToken >= max(1, s.tokens) {
		return false
	}
	if f.stall > 0 && !pause(x.r.Context(), f.stall) {
		return true
	}
	switch {
	case f.Error:
		f.end = "error"
		s.err = &failure{http.StatusInternalServerError, vllm.ErrTypeInternal, f.Message}
		return false
	case f.Reset:
		x.reset(f)
		return true
	case f.Cut:
		f.end = "cut"
		return true
	}
	return false
}

// failStart plays the failure of a start.
func (m *Mock) failStart(ctx context.Context, f *StartFault, phase vllm.Phase) error {
	switch {
	case f.Hang != "":
		<-ctx.Done()
		return &StartError{Class: vllm.ClassKilled, ExitCode: 1, Text: "stopped while hanging in phase " + f.Hang}
	case f.Die != "":
		return &StartError{Class: vllm.ClassKilled, ExitCode: 128 + 9, Text: "killed in phase " + f.Die}
	}
	class := vllm.Class(f.Fail)
	lines := vllm.FailureLines(m.version, m.cfg, class, vllm.FailureFacts{PID: m.pid, Text: f.Message, TotalGiB: m.model.GPUMemoryGiB(), FreeGiB: 0.42})
	m.logAll(lines)
	text := ""
	if len(lines) > 0 {
		text = lines[len(lines)-1].Text
	}
	return &StartError{Class: class, ExitCode: 1, Text: text}
}

func (m *Mock) neverHealthy() bool {
	return m.scenario != nil && m.scenario.Start != nil && m.scenario.Start.NeverHealthy
}

func (m *Mock) resetFails() bool { return m.badReset.Load() }

// scheduleEvents starts what happens at a time.
func (m *Mock) scheduleEvents() {
	if m.scenario == nil {
		return
	}
	for _, e := range m.scenario.Events {
		if e.Slow != 0 {
			continue // part of the engine's clock: see newMock
		}
		m.wg.Go(func() {
			if sleepUntil(m.life, m.driver.wall(e.After)) != nil {
				return
			}
			if e.ResetFails {
				m.badReset.Store(true)
				return
			}
			m.die(vllm.Class(e.Die), e.Message)
		})
	}
}

// die is the engine's death: the lines, errors to everything in flight, and 500
// to what comes.
func (m *Mock) die(class vllm.Class, message string) {
	m.deadOnce.Do(func() {
		m.logAll(vllm.EngineDeathLines(m.version, m.cfg, class, vllm.FailureFacts{PID: m.pid, Text: message, TotalGiB: m.model.GPUMemoryGiB(), FreeGiB: 0.42}))
		m.driver.do(func() {
			m.driver.fail(failure{http.StatusInternalServerError, vllm.ErrTypeInternal, vllm.EngineDeadMessage})
			close(m.dead)
		})
	})
}

// slowPeriods are the scenario's, for the engine's clock.
func (s *Scenario) slowPeriods() []slowPeriod {
	if s == nil {
		return nil
	}
	var out []slowPeriod
	for _, e := range s.Events {
		if e.Slow > 0 {
			p := slowPeriod{from: e.After, factor: e.Slow}
			if e.For > 0 {
				p.to = e.After + e.For
			}
			out = append(out, p)
		}
	}
	return out
}
