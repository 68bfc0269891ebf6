package mockvllm

import (
	"runtime"
	"sync"
	"time"

	"github.com/glm46/glm46/mockvllm/engine"
	"github.com/glm46/glm46/mockvllm/vllm"
)

// core is what the wall driver drives: the simulated engine, or the fixed pace.
// Its time is a duration since the driver's start, in model time.
type core interface {
	submit(now time.Duration, s *stream) error
	abort(now time.Duration, id uint64)
	// next gives the time of the next event.
	next() (time.Duration, bool)
	// advance appends what is due at now.
	advance(now time.Duration, out []engine.Emission) []engine.Emission
	stats() engine.Stats
	resetPrefixCache() bool
}

// driver runs a core against the wall clock.
//
// One goroutine owns the core. It waits for the core's next event, whose time
// follows from the times of earlier events and never from when the driver woke,
// so lateness does not add up. Everything that is due is then encoded and
// written stream by stream, by the goroutine itself and, if it is much and there
// are more than two processors, by helpers.
type driver struct {
	core  core
	wait  waiter
	epoch time.Time
	speed float64
	// emitted is called for every emission before it is encoded, ended for every
	// request that leaves; both in the driver's goroutine.
	emitted func(s *stream, em *engine.Emission)
	ended   func(s *stream, em *engine.Emission)

	mu     sync.Mutex
	inbox  []message
	closed bool

	live    map[uint64]*stream
	out     []engine.Emission
	batch   []message
	dirty   []*stream
	leaving []*stream
	aborts  []uint64
	helpers *helpers
	woke    time.Time
	failed  *failure // the engine is dead
	gone    chan struct{}
}

// message asks the driver's goroutine for something.
type message struct {
	submit *stream
	abort  *stream
	call   func()
	closed chan struct{} // closed when call has returned
}

func newDriver(c core, w waiter, speed float64) *driver {
	return &driver{core: c, wait: w, speed: speed, live: map[uint64]*stream{}, gone: make(chan struct{})}
}

// start begins the driver's clock.
func (d *driver) start() {
	d.epoch = time.Now()
	// Of the processors one is the driver's, and one is left to clients and to
	// the reading of requests.
	d.helpers = newHelpers(min(runtime.NumCPU(), 4) - 2)
	go d.run()
}

// close ends the goroutine after every stream has been let go, and waits for it.
func (d *driver) close() {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.wait.Wake()
	<-d.gone
	d.helpers.close()
	d.wait.Close()
}

func (d *driver) post(m message) bool {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return false
	}
	d.inbox = append(d.inbox, m)
	d.mu.Unlock()
	d.wait.Wake()
	return true
}

// do runs f in the driver's goroutine; false if that has ended.
func (d *driver) do(f func()) bool {
	done := make(chan struct{})
	if !d.post(message{call: f, closed: done}) {
		return false
	}
	select {
	case <-done:
		return true
	case <-d.gone:
		return false
	}
}

// model gives the model time of an instant.
func (d *driver) model(t time.Time) time.Duration {
	return time.Duration(float64(t.Sub(d.epoch)) * d.speed)
}

// wall gives the instant of a model time.
func (d *driver) wall(t time.Duration) time.Time {
	return d.epoch.Add(time.Duration(float64(t) / d.speed))
}

func (d *driver) run() {
	defer close(d.gone)
	if d.wait.OwnThread() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
	}
	for d.takeInbox() {
		now := d.model(time.Now())
		d.out = d.core.advance(now, d.out[:0])
		d.deliver()
		at, ok := d.core.next()
		switch {
		case !ok:
			d.wait.Wait(time.Time{})
		case at > now:
			// Up to a quantum later, so that what is due close together is
			// done together.
			t := d.wall(at)
			if q := d.wait.Quantum(); q > 0 {
				if soonest := d.woke.Add(q); t.Before(soonest) {
					t = soonest
				}
			}
			d.wait.Wait(t)
		}
		if d.wait.Quantum() > 0 {
			d.woke = time.Now()
		}
	}
}

// takeInbox does what others asked for; false when the driver is to end.
func (d *driver) takeInbox() bool {
	d.mu.Lock()
	d.batch, d.inbox = d.inbox, d.batch[:0]
	closed := d.closed
	d.mu.Unlock()
	for i, m := range d.batch {
		switch {
		case m.submit != nil:
			d.submit(m.submit)
		case m.abort != nil:
			if d.live[m.abort.id] == m.abort {
				d.core.abort(d.model(time.Now()), m.abort.id)
			}
		case m.call != nil:
			m.call()
			close(m.closed)
		}
		d.batch[i] = message{}
	}
	if closed {
		for _, s := range d.live {
			d.release(s)
		}
	}
	return !closed
}

func (d *driver) submit(s *stream) {
	s.req.Owner = s
	s.lastDue = d.model(s.arrived)
	if d.failed != nil {
		d.reject(s, *d.failed)
		return
	}
	// The request came when its body was read; reading and tokenizing it here
	// took the time since. The model charges its own time for that.
	if err := d.core.submit(d.model(s.arrived), s); err != nil {
		d.reject(s, failure{status: 400, typ: vllm.ErrTypeBadRequest, message: err.Error()})
		return
	}
	d.live[s.id] = s
}

// reject ends a stream by an error.
func (d *driver) reject(s *stream, f failure) {
	s.fail(f)
	d.flush(s)
	d.release(s)
}

// release lets a stream go: nothing touches it any more.
func (d *driver) release(s *stream) {
	if s.ended {
		return
	}
	s.ended = true
	delete(d.live, s.id)
	close(s.done)
}

// deliver encodes d.out and writes what the streams got.
func (d *driver) deliver() {
	if len(d.out) == 0 {
		return
	}
	for i := range d.out {
		em := &d.out[i]
		s := em.Request.Owner.(*stream)
		if s.ended {
			if em.Times != nil {
				d.ended(s, em) // a stop string ended it before
			}
			continue
		}
		d.emitted(s, em)
		before := s.tokens
		if s.accept(em) {
			d.aborts = append(d.aborts, s.id)
			d.leave(s, em)
		} else if em.Finish != engine.FinishNone {
			d.leave(s, em)
		}
		if s.out == nil && s.truth == nil || len(s.pending) == 0 && s.tokens == before {
			continue
		}
		s.marks = append(s.marks, mark{end: len(s.pending), first: before, tokens: s.tokens - before, due: d.wall(em.Due)})
		if s.out != nil && !s.queued {
			s.queued = true
			d.dirty = append(d.dirty, s)
		}
	}
	d.helpers.flush(d.dirty)
	for i, s := range d.dirty {
		s.queued = false
		d.dirty[i] = nil
	}
	d.dirty = d.dirty[:0]
	for i, s := range d.leaving {
		d.release(s)
		d.leaving[i] = nil
	}
	d.leaving = d.leaving[:0]
	for _, id := range d.aborts {
		d.core.abort(d.model(time.Now()), id)
	}
	d.aborts = d.aborts[:0]
}

func (d *driver) leave(s *stream, em *engine.Emission) {
	d.ended(s, em)
	d.leaving = append(d.leaving, s)
}

func (d *driver) flush(s *stream) {
	if s.out != nil && len(s.pending) > 0 {
		s.marks = append(s.marks, mark{end: len(s.pending)})
		s.out.flush(s)
	}
}

// fail ends every stream, also those to come, by an error. It is called in the
// driver's goroutine.
func (d *driver) fail(f failure) {
	d.failed = &f
	for _, s := range d.live {
		d.core.abort(d.model(time.Now()), s.id)
		d.reject(s, f)
	}
}

// helpers share the writing of a large step.
type helpers struct {
	work chan []*stream
	done chan struct{}
	n    int
	wg   sync.WaitGroup
}

// shareFrom is the number of streams from which a helper is worth its wake-up
// (some 50 us, the time of six writes on the machine of docs/performance.md).
const shareFrom = 32

func newHelpers(n int) *helpers {
	h := &helpers{n: max(n, 0), work: make(chan []*stream), done: make(chan struct{})}
	for range h.n {
		h.wg.Go(func() {
			for part := range h.work {
				flushAll(part)
				h.done <- struct{}{}
			}
		})
	}
	return h
}

func (h *helpers) close() {
	close(h.work)
	h.wg.Wait()
}

func (h *helpers) flush(streams []*stream) {
	parts := 0
	if h.n > 0 && len(streams) >= shareFrom {
		size := (len(streams) + h.n) / (h.n + 1)
		for len(streams) > size {
			h.work <- streams[:size:size]
			streams = streams[size:]
			parts++
		}
	}
	flushAll(streams)
	for range parts {
		<-h.done
	}
}

func flushAll(streams []*stream) {
	for _, s := range streams {
		s.out.flush(s)
	}
}
