package engine

import (
	"slices"
	"time"
)

// Virtual runs a Sim without waiting and without handing out tokens: it records
// when each chunk reaches its client. While the batch of a step is the same as
// before, a step costs the same whatever the number of requests in it.
//
// The schedule is that of Sim, to the nanosecond.
type Virtual struct {
	// Plain takes every step one by one. For comparisons.
	Plain bool

	sim      *Sim
	rec      recorder
	requests []*seq
	scratch  leapPlan
}

// span is a run of chunks of one request in successive deliveries, always at the
// same place and with the same number of tokens.
type span struct {
	delivery, n, place, tokens int32
}

type recorder struct {
	begins []time.Duration // of every delivery
	ended  []*seq
}

// step records the outputs of one step.
func (r *recorder) step(outputs []output, begin time.Duration) {
	if len(outputs) == 0 {
		return
	}
	at := int32(len(r.begins))
	r.begins = append(r.begins, begin)
	for i, o := range outputs {
		o.s.record(at, 1, int32(i), int32(o.tokens))
		if o.finish != FinishNone {
			r.ended = append(r.ended, o.s)
		}
	}
}

func (s *seq) record(delivery, n, place, tokens int32) {
	if len(s.spans) > 0 {
		l := &s.spans[len(s.spans)-1]
		if l.delivery+l.n == delivery && l.place == place && l.tokens == tokens {
			l.n += n
			return
		}
	}
	s.spans = append(s.spans, span{delivery, n, place, tokens})
}

// NewVirtual makes a virtual run at time 0, without a TokenSource: lengths end
// requests.
func NewVirtual(c SimConfig, timer StepTimer) (*Virtual, error) {
	s, err := NewSim(c, timer, nil)
	if err != nil {
		return nil, err
	}
	v := &Virtual{sim: s}
	s.rec = &v.rec
	return v, nil
}

// Submit hands a request in, like Sim.Submit, and gives its number: 0, 1, ...
// Its ID is that number.
func (v *Virtual) Submit(now time.Duration, r Request) (int, error) {
	r.ID = uint64(len(v.requests))
	if err := v.sim.Submit(now, r); err != nil {
		return 0, err
	}
	s := v.sim.engine.byID[r.ID]
	s.index = len(v.requests)
	v.requests = append(v.requests, s)
	return s.index, nil
}

// Run lets everything happen that is due before until, and stops early after a
// step in which requests ended: their numbers are appended to ended. done: there
// is nothing left before until.
func (v *Virtual) Run(until time.Duration, ended []int) (_ []int, done bool) {
	s := v.sim
	for {
		at := s.nextEvent()
		if at >= until {
			return ended, true
		}
		if !v.Plain && !s.busy && at == s.now && s.front.next() > at && v.leap(until) {
			continue
		}
		s.event(at)
		if len(v.rec.ended) == 0 {
			continue
		}
		for _, q := range v.rec.ended {
			ended = append(ended, q.index)
		}
		v.rec.ended = v.rec.ended[:0]
		return ended, false
	}
}

// Times gives the life of request i.
func (v *Virtual) Times(i int) RequestTimes { return v.requests[i].times }

// Stats gives the counters now.
func (v *Virtual) Stats() Stats { return v.sim.Stats() }

// Deliveries gives the times at which deliveries began, in order.
func (v *Virtual) Deliveries() []time.Duration { return v.rec.begins }

// Span is a run of N chunks of one request in successive deliveries, the first
// of them number First, each with Tokens tokens, each reaching the client Offset
// after its delivery began.
type Span struct {
	First, N, Tokens int
	Offset           time.Duration
}

// Spans gives the chunks of request i in order.
func (v *Virtual) Spans(i int, yield func(Span) bool) {
	for _, sp := range v.requests[i].spans {
		if !yield(Span{int(sp.delivery), int(sp.n), int(sp.tokens), v.sim.front.due(0, int(sp.place))}) {
			return
		}
	}
}

// leapPlan is what steps of one unchanged batch need to know.
type leapPlan struct {
	steps   int
	counts  []int32 // by step mod BlockTokens: blocks to take
	order   []int32 // running-list places by that step, in order
	queries int64   // prefix-cache query tokens that a waiting request adds a step
}

// plan finds how many steps the batch stays as it is: nobody ends, is admitted
// or preempted. 0: take the next step alone.
//
// Source of what counts as a change: the rules in schedule and admit.
func (e *Engine) plan(p *leapPlan) {
	p.steps, p.queries = 0, 0
	d := len(e.running)
	if d == 0 || d > e.cfg.MaxNumBatchedTokens || e.cfg.Spec.Tokens > 0 || e.tokens != nil {
		return
	}
	if e.running[d-1].prefilling || !e.waitsOn(p) {
		return
	}
	size := e.cfg.BlockTokens
	if len(p.counts) != size {
		p.counts = make([]int32, size)
	}
	clear(p.counts)
	left := e.cfg.MaxModelLen
	for _, s := range e.running {
		if s.prefilling || s.aborted || e.cfg.PrefixCaching && s.Prompt != nil {
			return
		}
		left = min(left, s.remaining())
		p.counts[len(s.blocks)*size-s.computed]++
	}
	p.steps = min(left-1, e.stepsUntilFull(p.counts))
}

// waitsOn reports whether the waiting queue stays as it is while the batch does.
func (e *Engine) waitsOn(p *leapPlan) bool {
	d := len(e.running)
	if e.waiting.len() == 0 || d >= e.cfg.MaxNumSeqs || d == e.cfg.MaxNumBatchedTokens {
		return true
	}
	s := e.waiting.at(0)
	known := e.cfg.PrefixCaching && (s.Prompt != nil || len(s.former) > 0 && !e.cfg.IgnorePreemptedLookups)
	if known || !e.cfg.ChunkedPrefill {
		return false // what it finds or which one is tried may change
	}
	hit, onFree := e.lookUp(s)
	n := s.tokens - hit*e.cfg.BlockTokens
	if t := e.cfg.LongPrefillTokenThreshold; t > 0 {
		n = min(n, t)
	}
	if e.fits(s, hit, onFree, min(n, e.cfg.MaxNumBatchedTokens-d)) {
		return false
	}
	// It stays out: every block that goes to the batch makes one free block less,
	// and takes at most one block of what it needs (a cached one of its own).
	if e.cfg.PrefixCaching && !e.cfg.CountLookupsOnAdmission && s.times.Preemptions == 0 {
		p.queries = int64(s.tokens)
	}
	return true
}

// stepsUntilFull gives the number of steps for which the free blocks last, if
// counts[j] blocks are taken in every step j modulo their number.
func (e *Engine) stepsUntilFull(counts []int32) int {
	d := len(e.running)
	steps := e.pool.free / d * len(counts)
	rest := e.pool.free % d
	for _, c := range counts {
		if rest -= int(c); rest < 0 {
			break
		}
		steps++
	}
	return steps
}

// leap takes steps of an unchanged batch at once; false if there is none.
//
// Times are computed step by step as always; what happens to requests is the
// same in all steps and done once.
func (v *Virtual) leap(until time.Duration) bool {
	s, e, p := v.sim, v.sim.engine, &v.scratch
	if s.lock.all != nil {
		return false
	}
	e.plan(p)
	if p.steps < 2 {
		return false
	}
	d := len(e.running)
	e.decodeShape()
	sh := &e.shape
	free := e.pool.free
	taken, arrived := 0, false
	open := time.Duration(-1) // length of a step that began and does not end before until
	for taken < p.steps && !arrived {
		length := max(e.timer.Step(sh), 0)
		end := s.now + length
		if end >= until {
			open = length
			break
		}
		for s.front.next() <= end {
			if q := s.front.step(); q != nil {
				e.enqueue(q)
				arrived = true
			}
		}
		free -= int(p.counts[taken%len(p.counts)])
		if s.observe != nil {
			waiting := e.waiting.len()
			s.observe(StepInfo{
				Index: sh.Index, Start: s.now, End: end, ScheduledTokens: d, Decodes: d,
				EmittedTokens: d, Running: d, Waiting: waiting, FreeBlocks: free,
			})
		}
		s.now = end
		v.rec.begins = append(v.rec.begins, s.front.deliver(end, d))
		taken++
		sh.Index++
		sh.ContextTokens += int64(d)
		sh.ProposerContextTokens = sh.ContextTokens
	}
	v.settle(taken)
	if open >= 0 {
		if !e.schedule() {
			panic("engine: a batch that runs cannot be scheduled")
		}
		e.measure()
		e.inFlight = true
		s.begun(open)
	}
	return true
}

// decodeShape is measure for a batch of which every request decodes one token in
// the next step, which is not yet scheduled.
func (e *Engine) decodeShape() {
	d := len(e.running)
	sh := &e.shape
	*sh = StepShape{
		Index: e.stats.Steps, Decodes: d, DecodeTokens: d, LogitRows: d, Sampled: d,
		UniformDecode: true, Chunks: sh.Chunks[:0],
	}
	for _, s := range e.running {
		sh.ContextTokens += int64(s.computed + 1)
		sh.Sampling = max(sh.Sampling, s.sampling)
	}
	sh.ProposerContextTokens = sh.ContextTokens
}

// settle books n steps of the batch: tokens, blocks in the order in which steps
// would have taken them, counters.
func (v *Virtual) settle(n int) {
	if n == 0 {
		return
	}
	s, e, p := v.sim, v.sim.engine, &v.scratch
	p.sort(e)
	size := e.cfg.BlockTokens
	starts := make([]int32, size+1)
	for j, c := range p.counts {
		starts[j+1] = starts[j] + c
	}
	for _, q := range e.running {
		q.blocks = slices.Grow(q.blocks, n/size+1)
	}
	for j := range n {
		r := j % size
		for _, at := range p.order[starts[r]:starts[r+1]] {
			q := e.running[at]
			q.blocks = append(q.blocks, e.pool.take())
		}
	}
	last := v.rec.begins[len(v.rec.begins)-1]
	first := int32(len(v.rec.begins) - n)
	for i, q := range e.running {
		q.computed += n
		q.tokens += n
		q.out += n
		q.scheduled = 1
		q.record(first, int32(n), int32(i), 1)
		q.times.LastToken, q.times.LastDue = s.now, s.front.due(last, i)
	}
	e.stats.Steps += int64(n)
	e.stats.GenerationTokens += int64(n) * int64(len(e.running))
	e.stats.PrefixQueries += int64(n) * p.queries
}

// sort fills order: the running list by the step, modulo BlockTokens, in which a
// request takes its next block.
func (p *leapPlan) sort(e *Engine) {
	if cap(p.order) < len(e.running) {
		p.order = make([]int32, len(e.running), 2*len(e.running))
	}
	p.order = p.order[:len(e.running)]
	next := make([]int32, len(p.counts))
	for j := 1; j < len(next); j++ {
		next[j] = next[j-1] + p.counts[j-1]
	}
	for i, s := range e.running {
		j := len(s.blocks)*len(p.counts) - s.computed
		p.order[next[j]] = int32(i)
		next[j]++
	}
}
