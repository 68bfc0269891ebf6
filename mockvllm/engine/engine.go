package engine

import "time"

// Engine is the scheduler alone: no front end, no delivery. A step is Begin and
// End; between them its work is in flight.
//
// Source: docs/vllm.md section 5; docs/timing-model.md, scheduler.
type Engine struct {
	cfg    Config
	timer  StepTimer
	tokens TokenSource
	pool   *pool

	byID    map[uint64]*seq
	running []*seq
	waiting queue
	uids    uint64

	replica   int
	inFlight  bool
	shape     StepShape
	info      StepInfo // of the step in flight
	stats     Stats
	perPos    []int64
	accept    []float64 // conditional acceptance by position, if drawn
	outputs   []output
	outTokens []int32
}

// output is what a sequence gets from a step; its tokens follow each other in
// Engine.outTokens in the order of the outputs.
type output struct {
	s             *seq
	first, tokens int
	finish        FinishReason
}

// New makes an engine. tokens may be nil.
//
// It fails if the configuration has a fault, naming all of them.
func New(c Config, timer StepTimer, tokens TokenSource) (*Engine, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	usable := c.NumBlocks - 1
	// A request that all blocks together cannot hold would preempt itself for
	// ever in vLLM. Here it ends by length.
	c.MaxModelLen = min(c.MaxModelLen, usable*c.BlockTokens)
	return &Engine{
		cfg: c, timer: timer, tokens: tokens,
		pool:   newPool(usable, c.ReuseUnhashedFirst && c.PrefixCaching),
		byID:   map[uint64]*seq{},
		perPos: make([]int64, c.Spec.Tokens),
		accept: c.Spec.Acceptance.conditional(c.Spec.Tokens),
	}, nil
}

// Add puts a request at the end of the waiting queue (by priority under
// PolicyPriority). It fails with *RequestError as Sim.Submit does.
func (e *Engine) Add(r *Request) error {
	s, err := e.prepare(r)
	if err != nil {
		return err
	}
	e.enqueue(s)
	return nil
}

// prepare checks a request and registers it.
func (e *Engine) prepare(r *Request) (*seq, error) {
	n := r.promptTokens()
	switch {
	case n < 1:
		return nil, &RequestError{r.ID, "the prompt is empty"}
	case n >= e.cfg.MaxModelLen:
		return nil, &RequestError{r.ID, "the prompt leaves no room for output below max_model_len"}
	case e.byID[r.ID] != nil:
		return nil, &RequestError{r.ID, "a request of this ID is in flight"}
	}
	s := &seq{Request: *r, home: e, prompt: n, tokens: n, maxOut: e.cfg.MaxModelLen - n, sampling: r.sample()}
	if r.MaxTokens > 0 {
		s.maxOut = min(s.maxOut, r.MaxTokens)
	}
	s.times.PromptTokens = n
	e.uids++
	s.uid = e.uids
	e.byID[r.ID] = s
	if e.cfg.PrefixCaching && s.Prompt != nil {
		s.hashState = hashText(s.CacheSalt)
		for _, t := range s.Prompt {
			e.chain(s, hashToken(s.hashState, t))
		}
	}
	return s, nil
}

// chain takes the next state of the hash over a sequence's tokens.
func (e *Engine) chain(s *seq, state uint64) {
	s.hashState = state
	if s.hashed++; s.hashed%e.cfg.BlockTokens == 0 {
		s.hashes = append(s.hashes, state)
	}
}

func (e *Engine) enqueue(s *seq) {
	s.state = waiting
	if e.cfg.Policy == PolicyPriority {
		e.waiting.insert(s, before)
		return
	}
	e.waiting.pushBack(s)
}

// before orders by priority, then arrival.
func before(a, b *seq) bool {
	if a.Priority != b.Priority {
		return a.Priority < b.Priority
	}
	return a.uid < b.uid
}

// Abort removes a request: at once, or at the end of the step in flight that
// holds it. It reports whether the request was there.
func (e *Engine) Abort(id uint64) bool {
	s := e.byID[id]
	if s == nil || s.aborted {
		return false
	}
	e.abort(s)
	return true
}

func (e *Engine) abort(s *seq) {
	s.aborted = true
	switch {
	case s.state == waiting:
		e.waiting.remove(s)
	case s.state == running && e.inFlight && s.scheduled > 0:
		return // End removes it
	case s.state == running:
		e.dropRunning(s)
	}
	e.leave(s, FinishAbort)
}

func (e *Engine) dropRunning(s *seq) {
	for i, r := range e.running {
		if r == s {
			copy(e.running[i:], e.running[i+1:])
			e.running[len(e.running)-1] = nil
			e.running = e.running[:len(e.running)-1]
			return
		}
	}
}

// leave ends a sequence that is in no list any more.
func (e *Engine) leave(s *seq, why FinishReason) {
	e.freeBlocks(s)
	s.state, s.finish = gone, why
	s.times.OutputTokens = s.out
	s.former, s.hashes, s.lookup, s.history, s.draftIDs = nil, nil, nil, nil, nil
	delete(e.byID, s.ID)
	e.stats.Finished[why]++
}

// freeBlocks gives a sequence's blocks back; their content stays known.
func (e *Engine) freeBlocks(s *seq) {
	if e.cfg.PrefixCaching && s.Prompt == nil {
		for i := range min(s.computed, s.tokens) / e.cfg.BlockTokens {
			e.pool.keepOwn(s.blocks[i], ownKey(s.uid, i))
		}
	}
	e.pool.release(s.blocks)
	if s.Prompt == nil && e.cfg.PrefixCaching && s.finish == FinishNone && !s.aborted {
		s.former = append(s.former[:0], s.blocks...)
	}
	s.blocks, s.published = s.blocks[:0], 0
}

// Output is what a request gets from a step.
type Output struct {
	Request       *Request
	First, Tokens int
	Finish        FinishReason
	CachedTokens  int
}

// Begin schedules a step and gives its duration; false if there is nothing to
// do.
func (e *Engine) Begin() (time.Duration, bool) {
	if !e.schedule() {
		return 0, false
	}
	e.measure()
	e.inFlight = true
	d := e.timer.Step(&e.shape)
	return max(d, 0), true
}

func (e *Engine) hasWork() bool { return len(e.running)+e.waiting.len() > 0 }

// schedule chooses every request's tokens for a step: the running list in
// order, then the waiting queue.
func (e *Engine) schedule() bool {
	e.info = StepInfo{Replica: e.replica, Index: e.stats.Steps}
	for {
		before := e.info.Preempted
		budget := e.scheduleRunning(e.cfg.MaxNumBatchedTokens)
		preempted := e.info.Preempted > before
		if !preempted {
			budget = e.admit(budget)
		}
		// By priority, the first to run may preempt itself: vLLM's step is then
		// empty and takes no time.
		if budget < e.cfg.MaxNumBatchedTokens || !preempted {
			return budget < e.cfg.MaxNumBatchedTokens
		}
	}
}

func (e *Engine) scheduleRunning(budget int) int {
	i := 0
	for ; i < len(e.running) && budget > 0; i++ {
		s := e.running[i]
		n := s.tokens + s.drafts - s.computed
		if t := e.cfg.LongPrefillTokenThreshold; t > 0 {
			n = min(n, t)
		}
		n = min(n, budget, e.cfg.MaxModelLen-1-s.computed)
		s.scheduled = 0
		if n <= 0 {
			continue
		}
		fits := false
		for {
			if fits = e.allocate(s, n, e.cfg.Spec.LookaheadTokens); fits {
				break
			}
			at, victim := e.victim()
			if at < i { // only by priority: it was scheduled in this step
				budget += victim.scheduled
				i--
			}
			e.preempt(at, victim)
			if victim == s {
				break
			}
		}
		if !fits {
			break
		}
		e.take(s, n)
		budget -= n
	}
	for ; i < len(e.running); i++ {
		e.running[i].scheduled = 0
	}
	return budget
}

// take schedules n tokens of a sequence that has the blocks for them.
func (e *Engine) take(s *seq, n int) {
	s.scheduled = n
	s.computed += n
	if s.drafts > 0 {
		s.inFlight = max(0, s.computed-s.tokens) // drafts beyond the budget are dropped
		s.drafts = 0
	}
	if e.cfg.PrefixCaching && s.Prompt != nil {
		e.publish(s)
	}
}

// publish makes the blocks of s known that are full once the step is done.
func (e *Engine) publish(s *seq) {
	full := min(min(s.computed, s.tokens)/e.cfg.BlockTokens, len(s.hashes))
	for ; s.published < full; s.published++ {
		e.pool.publish(s.blocks[s.published], s.hashes[s.published])
	}
}

// allocate gives s the blocks for its next n tokens and spare slots after them;
// false, and nothing happens, if there are too few.
func (e *Engine) allocate(s *seq, n, spare int) bool {
	size := e.cfg.BlockTokens
	slots := min(s.computed+n+spare, e.cfg.MaxModelLen)
	need := (slots+size-1)/size - len(s.blocks)
	if need <= 0 {
		return true
	}
	if need > e.pool.free {
		return false
	}
	for range need {
		s.blocks = append(s.blocks, e.pool.take())
	}
	return true
}

// victim is the running request to preempt: the last, or the one of the worst
// priority.
func (e *Engine) victim() (int, *seq) {
	last := len(e.running) - 1
	if e.cfg.Policy == PolicyPriority {
		for i, s := range e.running {
			if before(e.running[last], s) {
				last = i
			}
		}
	}
	return last, e.running[last]
}

func (e *Engine) preempt(at int, s *seq) {
	copy(e.running[at:], e.running[at+1:])
	e.running[len(e.running)-1] = nil
	e.running = e.running[:len(e.running)-1]
	if s.scheduled > 0 && s.inFlight > 0 {
		s.inFlight = 0
	}
	e.freeBlocks(s)
	s.computed, s.scheduled, s.drafts, s.prefilling = 0, 0, 0, false
	s.state = waiting
	s.times.Preemptions++
	e.stats.Preemptions++
	e.info.Preempted++
	if e.cfg.Policy == PolicyPriority {
		e.waiting.insert(s, before)
		return
	}
	e.waiting.pushFront(s)
}

// admit starts waiting requests while budget, seats and blocks last.
func (e *Engine) admit(budget int) int {
	for i := 0; i < e.waiting.len() && budget > 0 && len(e.running) < e.cfg.MaxNumSeqs; {
		s := e.waiting.at(i)
		hit, onFree := e.lookUp(s)
		if !e.cfg.CountLookupsOnAdmission {
			e.countLookUp(s, hit)
		}
		n := s.tokens - hit*e.cfg.BlockTokens
		if t := e.cfg.LongPrefillTokenThreshold; t > 0 {
			n = min(n, t)
		}
		if !e.cfg.ChunkedPrefill && n > budget {
			if !e.cfg.SkipOversizedWaiting {
				break
			}
			i++
			continue
		}
		n = min(n, budget)
		if !e.fits(s, hit, onFree, n) {
			break
		}
		if e.cfg.CountLookupsOnAdmission {
			e.countLookUp(s, hit)
		}
		e.waiting.removeAt(i)
		e.start(s, hit, n)
		budget -= n
	}
	return budget
}

// fits reports whether a waiting request's first n tokens, beyond hit cached
// blocks of which onFree are free ones, find blocks.
func (e *Engine) fits(s *seq, hit, onFree, n int) bool {
	size := e.cfg.BlockTokens
	slots := min(hit*size+n, e.cfg.MaxModelLen)
	if e.cfg.ReserveFullISL {
		slots = min(s.tokens, e.cfg.MaxModelLen)
	}
	return (slots+size-1)/size-hit+onFree <= e.pool.free
}

// start moves a waiting request, already out of the queue, to the running list.
func (e *Engine) start(s *seq, hit, n int) {
	for i := range hit {
		id := e.hitBlock(s, i)
		e.pool.touch(id)
		s.blocks = append(s.blocks, id)
	}
	s.computed = hit * e.cfg.BlockTokens
	s.published = hit
	if !s.admitted {
		s.admitted = true
		s.cached = s.computed
		s.times.CachedTokens = s.computed
	}
	e.allocate(s, n, 0)
	s.state, s.prefilling = running, true
	e.running = append(e.running, s)
	e.take(s, n)
	e.info.Admitted++
}

// lookUp gives the number of blocks that the prefix cache has of s, and how many
// of them are free. At least one token is left to compute.
func (e *Engine) lookUp(s *seq) (hit, onFree int) {
	if !e.cfg.PrefixCaching {
		return 0, 0
	}
	most := (s.tokens - 1) / e.cfg.BlockTokens
	if s.Prompt == nil {
		most = min(most, len(s.former))
	} else {
		most = min(most, len(s.hashes))
	}
	for ; hit < most; hit++ {
		id := e.hitBlock(s, hit)
		if id == none {
			break
		}
		if e.pool.blocks[id].ref == 0 {
			onFree++
		}
	}
	if hit > 0 && e.cfg.Spec.DropLastHitBlock {
		hit--
		if e.pool.blocks[e.hitBlock(s, hit)].ref == 0 {
			onFree--
		}
	}
	return hit, onFree
}

// hitBlock finds block i of s in the cache, or none.
func (e *Engine) hitBlock(s *seq, i int) int32 {
	if s.Prompt == nil {
		if id := s.former[i]; e.pool.holds(id, ownKey(s.uid, i)) {
			return id
		}
		return none
	}
	if id, ok := e.pool.find(s.hashes[i]); ok {
		return id
	}
	return none
}

func (e *Engine) countLookUp(s *seq, hit int) {
	if !e.cfg.PrefixCaching || e.cfg.IgnorePreemptedLookups && s.times.Preemptions > 0 {
		return
	}
	e.stats.PrefixQueries += int64(s.tokens)
	e.stats.PrefixHits += int64(hit * e.cfg.BlockTokens)
}

// measure describes the scheduled step for the timer and the observer.
func (e *Engine) measure() {
	sh := &e.shape
	*sh = StepShape{Index: e.stats.Steps, Chunks: sh.Chunks[:0]}
	uniform := 1 + e.cfg.Spec.Tokens
	sh.UniformDecode = true
	for _, s := range e.running {
		n := s.scheduled
		if n == 0 {
			continue
		}
		sh.Sampling = max(sh.Sampling, s.sampling)
		if s.prefilling {
			sh.Chunks = append(sh.Chunks, Chunk{Tokens: n, Computed: s.computed - n})
			e.info.PrefillTokens += n
			if s.computed >= s.tokens {
				sh.Sampled++
				sh.ProposerContextTokens += int64(s.computed)
			}
			continue
		}
		sh.Decodes++
		sh.DecodeTokens += n
		sh.ContextTokens += int64(s.computed)
		if n != uniform {
			sh.UniformDecode = false
		}
	}
	sh.Sampled += sh.Decodes
	sh.ProposerContextTokens += sh.ContextTokens
	sh.LogitRows = sh.DecodeTokens + len(sh.Chunks)
	sh.UniformDecode = sh.UniformDecode && len(sh.Chunks) == 0

	e.info.Decodes, e.info.Chunks = sh.Decodes, len(sh.Chunks)
	e.info.ScheduledTokens = sh.DecodeTokens + e.info.PrefillTokens
	e.info.FreeBlocks = e.pool.free
}

// End finishes the step in flight and appends what came out, in the order of
// the running list.
func (e *Engine) End(out []Output) []Output {
	e.end()
	for _, o := range e.outputs {
		out = append(out, Output{
			Request: &o.s.Request, First: o.first, Tokens: o.tokens,
			Finish: o.finish, CachedTokens: o.s.cached,
		})
	}
	return out
}

// end finishes the step in flight and leaves its outputs in e.outputs.
func (e *Engine) end() {
	e.inFlight = false
	e.outputs, e.outTokens = e.outputs[:0], e.outTokens[:0]
	left := false
	for _, s := range e.running {
		if s.scheduled == 0 {
			continue
		}
		if s.aborted {
			left = true
			continue
		}
		// A request samples if everything it has is computed.
		if s.computed < s.tokens {
			s.inFlight = 0
			continue
		}
		if o := e.emit(s); o.finish != FinishNone {
			left = true
		}
	}
	if left {
		e.sweep()
	}
	e.stats.Steps++
	e.info.Running, e.info.Waiting = len(e.running), e.waiting.len()
}

// emit gives a sequence the tokens of its step.
func (e *Engine) emit(s *seq) output {
	s.prefilling = false
	accepted := 0
	if s.inFlight > 0 {
		accepted = e.verify(s)
		s.computed -= s.inFlight - accepted
		s.inFlight = 0
	}
	o := output{s: s, first: s.out}
	for range accepted + 1 {
		var id int32
		if e.tokens != nil {
			id = e.tokens.Token(&s.Request, s.out)
			e.outTokens = append(e.outTokens, id)
		}
		s.out++
		s.tokens++
		o.tokens++
		e.remember(s, id)
		if o.finish = e.ends(s, id); o.finish != FinishNone {
			break
		}
	}
	if o.first == 0 {
		e.info.PromptTokensDone += s.prompt
		e.stats.PromptTokens += int64(s.prompt)
		e.stats.CachedTokens += int64(s.cached)
	}
	e.info.EmittedTokens += o.tokens
	e.stats.GenerationTokens += int64(o.tokens)
	s.finish = o.finish
	if s.finish == FinishNone && e.cfg.Spec.Tokens > 0 {
		e.propose(s)
	}
	e.outputs = append(e.outputs, o)
	return o
}

// remember continues hash chain and history by a generated token.
func (e *Engine) remember(s *seq, id int32) {
	if e.cfg.PrefixCaching && s.Prompt != nil {
		if e.tokens != nil {
			e.chain(s, hashToken(s.hashState, id))
		} else {
			e.chain(s, hashUnknown(s.hashState, s.uid))
		}
	}
	if e.lookingUp() {
		s.history = append(s.history, id)
	}
}

func (e *Engine) lookingUp() bool {
	return e.cfg.Spec.Method == SpecNGram && e.cfg.Spec.Acceptance == nil && e.tokens != nil
}

// ends says whether the token just emitted is the last one.
func (e *Engine) ends(s *seq, id int32) FinishReason {
	if e.tokens != nil && !s.IgnoreEOS && s.out >= s.MinTokens {
		for _, eos := range e.cfg.EOS {
			if id == eos {
				return FinishStop
			}
		}
	}
	if s.out >= s.maxOut {
		return FinishLength
	}
	return FinishNone
}

// sweep takes sequences that ended in this step off the running list.
func (e *Engine) sweep() {
	kept := e.running[:0]
	for _, s := range e.running {
		switch {
		case s.aborted:
			e.leave(s, FinishAbort)
		case s.finish != FinishNone:
			e.leave(s, s.finish)
		default:
			kept = append(kept, s)
		}
	}
	clear(e.running[len(kept):])
	e.running = kept
}

// Stats gives the counters now.
func (e *Engine) Stats() Stats {
	st := e.stats
	st.Running, st.Waiting = len(e.running), e.waiting.len()
	st.UsableBlocks, st.FreeBlocks = e.pool.usable, e.pool.free
	st.KVUsage = 1 - float64(st.FreeBlocks)/float64(st.UsableBlocks)
	if len(e.perPos) > 0 {
		st.AcceptedPerPosition = append([]int64(nil), e.perPos...)
	}
	return st
}

// ResetPrefixCache empties the prefix cache; false while any block is in use.
func (e *Engine) ResetPrefixCache() bool { return e.pool.reset() }
