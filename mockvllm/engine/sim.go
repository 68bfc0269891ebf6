package engine

import "time"

// Sim is an engine with its front end on one time line. Both drivers use it:
// the wall driver asks Next, waits, and calls Advance; the virtual driver does
// not wait.
//
// Internal events happen at their own instants whatever the calls of Advance:
// the same Submits at the same times give the same schedule. At equal times a
// Submit comes before the events of Advance, so a driver that has both due
// submits first. A Sim is not safe for concurrent use.
type Sim struct {
	engine  *Engine // the first replica
	lock    lockStep
	front   frontEnd
	observe func(StepInfo)

	now     time.Duration // of the last call or event
	busy    bool          // a step is in flight
	stepEnd time.Duration
	// yielded: a step ended whose tokens reach the client at that instant; the
	// next step waits for the next call of Advance.
	yielded bool
	// instant: a step took no time, so the next one starts when Advance is called.
	instant bool

	chunks fifo[chunk]
	aborts fifo[chunk]
	ids    fifo[int32] // tokens of chunks, in their order
	idsOut []int32

	rec *recorder // set while the virtual driver records
}

// chunk is on its way to the client.
type chunk struct {
	s             *seq
	due           time.Duration
	first, tokens int32
	finish        FinishReason
}

// SimConfig is what a Sim is made of.
type SimConfig struct {
	Engine   Config
	FrontEnd FrontEnd
	// Replicas of the engine behind one front end; 0 is 1.
	Replicas int
	// Observe is called at the end of every step when not nil.
	Observe func(StepInfo)
}

// NewSim makes a Sim at time 0. tokens may be nil.
//
// It fails if the configuration has a fault, naming all of them.
func NewSim(c SimConfig, timer StepTimer, tokens TokenSource) (*Sim, error) {
	e, err := New(c.Engine, timer, tokens)
	if err != nil {
		return nil, err
	}
	s := &Sim{engine: e, front: frontEnd{cfg: c.FrontEnd}, observe: c.Observe}
	return s, s.lock.make(e, c)
}

// Submit hands a request in at now: the client has sent it, the tokenizer is
// next. A time before the last call counts as that call's time.
//
// It fails with *RequestError if the request cannot run: no prompt, a prompt of
// MaxModelLen tokens or more, or an ID that is in flight.
func (s *Sim) Submit(now time.Duration, r Request) error {
	s.runBefore(now)
	q, err := s.engine.prepare(&r)
	if err != nil {
		return err
	}
	s.front.arrive(s.now, q)
	return nil
}

// Abort ends a request at now. Its blocks are free from the next step on; what
// was on its way to the client is dropped, and an Emission with FinishAbort
// follows from the next Advance. It reports whether the request was in flight.
func (s *Sim) Abort(now time.Duration, id uint64) bool {
	s.runBefore(now)
	q := s.engine.byID[id]
	if q == nil || q.aborted {
		return false
	}
	q.times.OutputTokens = q.out
	s.front.abort(s.now, q)
	q.home.abort(q)
	s.aborts.push(chunk{s: q, due: s.now, finish: FinishAbort})
	return true
}

// runBefore lets everything happen that is due before now.
func (s *Sim) runBefore(now time.Duration) {
	for {
		at := s.nextEvent()
		if s.held() {
			at = s.front.next()
		}
		if at >= now {
			break
		}
		s.event(at)
	}
	s.now = max(s.now, now)
}

// held reports whether the next step waits for a call of Advance.
func (s *Sim) held() bool { return s.instant && !s.busy }

// Next gives the time of the next event; false if nothing is in flight. The
// time may be in the past if Advance stopped early.
func (s *Sim) Next() (at time.Duration, ok bool) {
	at = s.nextEvent()
	for _, q := range [...]*fifo[chunk]{&s.chunks, &s.aborts} {
		if q.len() > 0 {
			at = min(at, q.front().due)
		}
	}
	return at, at != never
}

// nextEvent gives the time of the next event but deliveries.
func (s *Sim) nextEvent() time.Duration {
	at := s.front.next()
	switch {
	case s.busy:
		at = min(at, s.stepEnd)
	case s.hasWork():
		at = min(at, s.now)
	}
	return at
}

func (s *Sim) hasWork() bool { return s.engine.hasWork() || s.lock.hasWork() }

// Advance lets everything happen that is due at now or before, appends the
// emissions due to out, ordered by Due, and returns it.
//
// It stops early where the caller may want to submit in answer to an emission:
// after a step whose tokens reach the client at its very end (a front end
// without cost), so steps of zero length come one a call. Call it again until
// Next is later than now.
func (s *Sim) Advance(now time.Duration, out []Emission) []Emission {
	s.idsOut = s.idsOut[:0]
	s.yielded = false
	if s.held() {
		s.runBefore(now) // the clock moves first: the step starts at now
		s.instant = false
	}
	for !s.yielded && !s.held() {
		at := s.nextEvent()
		if at > now {
			s.now = max(s.now, now)
			break
		}
		s.event(at)
	}
	return s.flush(min(now, s.now), out)
}

// event makes the event at time at happen: front end first, then the end of a
// step, then the start of one.
func (s *Sim) event(at time.Duration) {
	s.now = max(s.now, at)
	switch {
	case s.front.next() <= at:
		if q := s.front.step(); q != nil {
			s.lock.home(q).enqueue(q)
		}
	case s.busy && s.stepEnd <= at:
		s.endStep()
	default:
		s.beginStep()
	}
}

func (s *Sim) beginStep() {
	d, ok := s.lock.begin(s.engine)
	if !ok {
		panic("engine: requests wait and none can be scheduled")
	}
	s.begun(d)
}

// begun notes that the engine has a step in flight that takes d.
func (s *Sim) begun(d time.Duration) {
	s.busy, s.stepEnd, s.instant = true, s.now+d, d == 0
	for _, e := range s.lock.stepping(s.engine) {
		e.info.Start = s.now
		for _, q := range e.running[len(e.running)-e.info.Admitted:] {
			if q.times.Preemptions == 0 {
				q.times.Scheduled = s.now
			}
		}
	}
}

func (s *Sim) endStep() {
	s.busy = false
	outputs := s.lock.end(s.engine)
	begin := s.front.deliver(s.now, len(outputs))
	for i, o := range outputs {
		due := s.front.due(begin, i)
		s.stamp(o, due)
		if s.rec == nil {
			s.chunks.push(chunk{o.s, due, int32(o.first), int32(o.tokens), o.finish})
		}
	}
	if s.rec != nil {
		s.rec.step(outputs, begin)
	}
	for _, e := range s.lock.stepping(s.engine) {
		if s.rec == nil {
			s.ids.pushAll(e.outTokens)
		}
		if s.observe != nil {
			e.info.End = s.now
			s.observe(e.info)
		}
	}
	s.yielded = len(outputs) > 0 && s.front.due(begin, 0) <= s.now
	s.instant = s.instant && s.hasWork()
}

// stamp notes when a request's tokens came.
func (s *Sim) stamp(o output, due time.Duration) {
	t := &o.s.times
	if o.first == 0 {
		t.FirstToken, t.FirstDue = s.now, due
	}
	t.LastToken, t.LastDue = s.now, due
}

// flush appends the chunks due at now or before.
func (s *Sim) flush(now time.Duration, out []Emission) []Emission {
	for {
		from := &s.chunks
		if s.aborts.len() > 0 && (s.chunks.len() == 0 || s.aborts.front().due < s.chunks.front().due) {
			from = &s.aborts
		}
		if from.len() == 0 || from.front().due > now {
			return out
		}
		c := from.pop()
		var ids []int32
		if s.engine.tokens != nil && c.tokens > 0 {
			at := len(s.idsOut)
			s.idsOut = s.ids.popInto(s.idsOut, int(c.tokens))
			ids = s.idsOut[at:len(s.idsOut):len(s.idsOut)]
		}
		if c.s.aborted && c.finish != FinishAbort {
			continue
		}
		em := Emission{
			Request: &c.s.Request, ID: c.s.ID, Due: c.due, First: int(c.first), Tokens: int(c.tokens),
			TokenIDs: ids, Finish: c.finish, Replica: c.s.home.replica, CachedTokens: c.s.cached,
		}
		if c.finish != FinishNone {
			em.Times = &c.s.times
		}
		out = append(out, em)
	}
}

// Now is the time of the last call.
func (s *Sim) Now() time.Duration { return s.now }

// Stats gives the counters now.
func (s *Sim) Stats() Stats {
	st := s.lock.stats(s.engine)
	st.FrontEnd = len(s.engine.byID) - st.Running - st.Waiting
	return st
}

// ResetPrefixCache empties the prefix cache. Like vLLM it does nothing and
// reports false while any block is in use (of a replica: there).
func (s *Sim) ResetPrefixCache() bool { return s.lock.resetPrefixCache(s.engine) }

// fifo is a queue in one slice.
type fifo[T any] struct {
	items []T
	head  int
}

func (f *fifo[T]) len() int  { return len(f.items) - f.head }
func (f *fifo[T]) front() *T { return &f.items[f.head] }

func (f *fifo[T]) push(v T) {
	f.compact()
	f.items = append(f.items, v)
}

func (f *fifo[T]) pushAll(v []T) {
	f.compact()
	f.items = append(f.items, v...)
}

// compact reuses the space of what was popped.
func (f *fifo[T]) compact() {
	switch {
	case f.head == len(f.items):
		f.items, f.head = f.items[:0], 0
	case f.head > 1024 && f.head > len(f.items)/2:
		n := copy(f.items, f.items[f.head:])
		clear(f.items[n:])
		f.items, f.head = f.items[:n], 0
	}
}

func (f *fifo[T]) pop() T {
	v := f.items[f.head]
	var zero T
	f.items[f.head] = zero
	f.head++
	return v
}

func (f *fifo[T]) popInto(out []T, n int) []T {
	out = append(out, f.items[f.head:f.head+n]...)
	f.head += n
	return out
}
