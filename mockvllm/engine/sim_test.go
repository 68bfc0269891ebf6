package engine

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// echo is a text that repeats itself now and then, and ends in token 0 at times.
type echo struct{ eos bool }

func (e echo) Token(r *Request, pos int) int32 {
	x := mix(r.Seed ^ uint64(pos/7%5))
	if e.eos && mix(x^uint64(pos))%40 == 0 {
		return 0
	}
	return int32(x%7) + 1
}

// plan is a run: requests and aborts at times.
type runPlan struct {
	cfg    SimConfig
	timer  StepTimer
	tokens TokenSource
	events []runEvent
}

type runEvent struct {
	at    time.Duration
	abort uint64
	req   Request
}

func drawPlan(t *rapid.T) runPlan {
	block := rapid.SampledFrom([]int{1, 3, 16}).Draw(t, "block")
	maxLen := rapid.IntRange(10, 150).Draw(t, "max_model_len")
	per := (maxLen + block - 1) / block
	c := Config{
		BlockTokens: block, NumBlocks: rapid.IntRange(per+1, 4*per+1).Draw(t, "blocks"), MaxModelLen: maxLen,
		MaxNumSeqs:                rapid.IntRange(1, 10).Draw(t, "max_num_seqs"),
		MaxNumBatchedTokens:       rapid.IntRange(1, 64).Draw(t, "budget"),
		LongPrefillTokenThreshold: rapid.SampledFrom([]int{0, 0, 5}).Draw(t, "threshold"),
		Policy:                    rapid.SampledFrom([]string{PolicyFCFS, PolicyFCFS, PolicyPriority}).Draw(t, "policy"),
		ChunkedPrefill:            rapid.Bool().Draw(t, "chunked"), PrefixCaching: rapid.Bool().Draw(t, "prefix"),
		ReserveFullISL: rapid.Bool().Draw(t, "isl"), SkipOversizedWaiting: rapid.Bool().Draw(t, "skip"),
		CountLookupsOnAdmission: rapid.Bool().Draw(t, "count"), IgnorePreemptedLookups: rapid.Bool().Draw(t, "ignore"),
		ReuseUnhashedFirst: rapid.Bool().Draw(t, "front"), EOS: []int32{0},
	}
	if !c.ChunkedPrefill {
		c.MaxNumBatchedTokens += maxLen
	}
	switch k := rapid.IntRange(1, 5).Draw(t, "k"); rapid.IntRange(0, 3).Draw(t, "spec") {
	case 1:
		c.Spec = Spec{Method: SpecNGram, Tokens: k, LookupMin: 1, LookupMax: 3}
	case 2:
		c.Spec = Spec{Method: SpecMTP, Tokens: k, LookaheadTokens: k, DropLastHitBlock: true}
	case 3:
		c.Spec = Spec{Method: SpecNGram, Tokens: k, Acceptance: &Acceptance{DraftProbability: 0.6, Cumulative: []float64{0.8, 0.5}}}
	}
	p := runPlan{cfg: SimConfig{Engine: c}}
	if rapid.Bool().Draw(t, "front end") {
		p.cfg.FrontEnd = FrontEnd{
			TokenizePerToken: 20 * time.Microsecond, EventLoopWork: 2 * time.Millisecond,
			DeliveryPerChunk: 150 * time.Microsecond, DeliveryDelay: 70 * time.Microsecond,
		}
	}
	p.tokens = rapid.SampledFrom([]TokenSource{nil, echo{}, echo{eos: true}}).Draw(t, "tokens")
	n := rapid.IntRange(1, 16).Draw(t, "n")
	at := time.Duration(0)
	for i := range n {
		at += time.Duration(rapid.IntRange(0, 6000).Draw(t, "gap")) * time.Microsecond
		r := Request{
			ID: uint64(i + 1), PromptTokens: rapid.IntRange(1, maxLen-1).Draw(t, "prompt"),
			MaxTokens: rapid.IntRange(1, 120).Draw(t, "out"), MinTokens: rapid.IntRange(0, 5).Draw(t, "min"),
			IgnoreEOS: rapid.Bool().Draw(t, "ignore_eos"), Seed: uint64(rapid.IntRange(0, 3).Draw(t, "seed")),
			Priority: rapid.IntRange(0, 2).Draw(t, "priority"),
		}
		if rapid.Bool().Draw(t, "text") {
			head := rapid.IntRange(0, 2).Draw(t, "head")
			r.Prompt = make([]int32, r.PromptTokens)
			for j := range r.Prompt {
				r.Prompt[j] = int32(1 + head*j/11%6)
			}
		}
		p.events = append(p.events, runEvent{at: at, req: r})
		if rapid.IntRange(0, 4).Draw(t, "abort") == 0 {
			late := at + time.Duration(rapid.IntRange(0, 20000).Draw(t, "after"))*time.Microsecond
			p.events = append(p.events, runEvent{at: late, abort: r.ID})
		}
	}
	p.timer = StepTimerFunc(func(s *StepShape) time.Duration {
		d := 500*time.Microsecond + time.Duration(s.ContextTokens)*11 + time.Duration(s.LogitRows)*100
		for _, c := range s.Chunks {
			d += time.Duration(c.Tokens) * 1003
		}
		return d
	})
	return p
}

// log is what a run gave: emissions as text, by order.
type runLog struct {
	lines    []string
	ended    map[uint64]FinishReason
	tokens   map[uint64]int
	times    map[uint64]RequestTimes
	stats    Stats
	admitted int
}

// play runs a plan; look gives instants at which the driver looks between events.
// check runs after every call.
func (p runPlan) play(t require.TestingT, look func(next time.Duration) time.Duration, check func(*Sim)) *runLog {
	s, err := NewSim(p.cfg, p.timer, p.tokens)
	require.NoError(t, err)
	events := append([]runEvent(nil), p.events...)
	// Stable by time: a submit and an abort of one time keep their order.
	for i := 1; i < len(events); i++ {
		for j := i; j > 0 && events[j].at < events[j-1].at; j-- {
			events[j], events[j-1] = events[j-1], events[j]
		}
	}
	l := &runLog{ended: map[uint64]FinishReason{}, tokens: map[uint64]int{}, times: map[uint64]RequestTimes{}}
	var out []Emission
	last := time.Duration(-1)
	for calls := 0; ; calls++ {
		if calls > 200000 {
			t.Errorf("no end after %d calls", calls)
			t.FailNow()
		}
		at, ok := s.Next()
		if len(events) > 0 && (!ok || events[0].at <= at) {
			e := events[0]
			events = events[1:]
			if e.abort != 0 {
				s.Abort(e.at, e.abort)
			} else if err := s.Submit(e.at, e.req); err == nil {
				l.admitted++
			}
			if check != nil {
				check(s)
			}
			continue
		}
		if !ok {
			break
		}
		to := look(at)
		if len(events) > 0 {
			to = min(to, events[0].at-1)
		}
		to = max(to, at)
		out = s.Advance(to, out[:0])
		if check != nil {
			check(s)
		}
		for _, e := range out {
			if e.Due < last || e.Due > to {
				t.Errorf("due %v after %v in a call to %v", e.Due, last, to)
			}
			last = e.Due
			l.add(t, e)
		}
	}
	l.stats = s.Stats()
	return l
}

func (l *runLog) add(t require.TestingT, e Emission) {
	if e.Finish != FinishAbort && e.First != l.tokens[e.ID] {
		t.Errorf("request %d: token %d follows %d", e.ID, e.First, l.tokens[e.ID])
	}
	if _, over := l.ended[e.ID]; over {
		t.Errorf("request %d goes on after its end", e.ID)
	}
	l.tokens[e.ID] += e.Tokens
	line := fmt.Sprintf("%d %v %d+%d %v %q c%d", e.ID, e.Due, e.First, e.Tokens, e.TokenIDs, e.Finish, e.CachedTokens)
	if e.Finish != FinishNone {
		l.ended[e.ID] = e.Finish
		l.times[e.ID] = *e.Times
		line += fmt.Sprintf(" %+v", *e.Times)
	}
	l.lines = append(l.lines, line)
}

func (l *runLog) text() string { return strings.Join(l.lines, "\n") }

func exact(next time.Duration) time.Duration { return next }

// TestInvariants: blocks are conserved, budget and order kept, every request ends
// with the tokens it should have.
func TestInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawPlan(t)
		budget := p.cfg.Engine.MaxNumBatchedTokens
		timer := p.timer
		p.timer = StepTimerFunc(func(s *StepShape) time.Duration {
			total := s.DecodeTokens
			for _, c := range s.Chunks {
				total += c.Tokens
				if c.Tokens < 1 {
					t.Errorf("an empty chunk")
				}
			}
			if total > budget || total < 1 || s.LogitRows != s.DecodeTokens+len(s.Chunks) {
				t.Errorf("%d tokens of %d: %+v", total, budget, s)
			}
			return timer.Step(s)
		})
		l := p.play(t, exact, func(s *Sim) {
			if err := s.engine.check(); err != nil {
				t.Fatal(err)
			}
		})
		if len(l.ended) != l.admitted {
			t.Errorf("%d of %d requests ended", len(l.ended), l.admitted)
		}
		var generated int64
		for _, e := range p.events {
			r := e.req
			want := p.cfg.Engine.MaxModelLen - r.promptTokens()
			if r.MaxTokens > 0 {
				want = min(want, r.MaxTokens)
			}
			got := l.tokens[r.ID]
			generated += int64(got)
			switch l.ended[r.ID] {
			case FinishLength:
				if got != want {
					t.Errorf("request %d: %d tokens, want %d", r.ID, got, want)
				}
			case FinishStop:
				if r.IgnoreEOS || got < r.MinTokens || got > want {
					t.Errorf("request %d stopped after %d", r.ID, got)
				}
			}
		}
		st := l.stats
		if st.FreeBlocks != st.UsableBlocks || st.Running+st.Waiting+st.FrontEnd != 0 || st.KVUsage != 0 {
			t.Errorf("something is left: %+v", st)
		}
		if st.GenerationTokens < generated || st.PrefixHits > st.PrefixQueries || st.AcceptedTokens > st.DraftTokens {
			t.Errorf("counters: %+v, %d tokens emitted", st, generated)
		}
		for id, x := range l.times {
			if l.ended[id] == FinishAbort {
				continue
			}
			if !(x.Arrived <= x.Tokenized && x.Tokenized <= x.Queued && x.Queued <= x.Scheduled && x.Scheduled < x.FirstToken &&
				x.FirstToken <= x.LastToken && x.FirstToken <= x.FirstDue && x.LastToken <= x.LastDue && x.FirstDue <= x.LastDue) {
				t.Errorf("request %d: times out of order: %+v", id, x)
			}
			if x.OutputTokens != l.tokens[id] {
				t.Errorf("request %d: %d output tokens, %d emitted", id, x.OutputTokens, l.tokens[id])
			}
		}
	})
}

// TestDriversAgree: the same requests at the same times give the same schedule,
// however often and however late the driver looks.
func TestDriversAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawPlan(t)
		first := p.play(t, exact, nil)
		again := p.play(t, exact, nil)
		require.Equal(t, first.text(), again.text())
		seed := rapid.Uint64().Draw(t, "driver")
		rng := rand.New(rand.NewPCG(seed, 1))
		late := p.play(t, func(next time.Duration) time.Duration {
			return next + time.Duration(rng.Int64N(int64(8*time.Millisecond)))
		}, nil)
		require.Equal(t, first.text(), late.text())
		require.Equal(t, first.stats, late.stats)
	})
}

// TestVirtualAgrees: the virtual driver's record is what Advance hands out.
func TestVirtualAgrees(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawPlan(t)
		p.tokens = nil
		if p.cfg.Engine.Spec.Method == SpecNGram && p.cfg.Engine.Spec.Acceptance == nil {
			p.cfg.Engine.Spec = Spec{}
		}
		kept := p.events[:0]
		for _, e := range p.events {
			if e.abort == 0 {
				e.req.ID = uint64(len(kept))
				kept = append(kept, e)
			}
		}
		p.events = kept
		l := p.play(t, exact, nil)
		v, err := NewVirtual(p.cfg, p.timer)
		require.NoError(t, err)
		for _, e := range p.events {
			for done := false; !done; {
				_, done = v.Run(e.at, nil)
			}
			_, err := v.Submit(e.at, e.req)
			require.NoError(t, err)
		}
		for done := false; !done; {
			_, done = v.Run(never, nil)
		}
		for i := range p.events {
			require.Equal(t, l.times[uint64(i)], v.Times(i))
		}
		require.Equal(t, l.stats, v.Stats())
	})
}

// TestInstantSteps: with steps and a front end that take no time, every call of
// Advance takes one step, so a driver can answer in between.
func TestInstantSteps(t *testing.T) {
	c := Config{NumBlocks: 1000, MaxNumSeqs: 8, MaxNumBatchedTokens: 8192, MaxModelLen: 4096, ChunkedPrefill: true}
	s, err := NewSim(SimConfig{Engine: c}, StepTimerFunc(func(*StepShape) time.Duration { return 0 }), nil)
	require.NoError(t, err)
	require.NoError(t, s.Submit(0, Request{ID: 1, PromptTokens: 5, MaxTokens: 3}))
	got := ""
	for now := time.Duration(0); ; now += time.Second { // the driver is late, the step is not early
		at, ok := s.Next()
		if !ok {
			break
		}
		require.LessOrEqual(t, at, now)
		for _, e := range s.Advance(now, nil) {
			got += fmt.Sprintf("%d:%d@%v ", e.ID, e.First, e.Due)
		}
		if now == 0 {
			require.NoError(t, s.Submit(now, Request{ID: 2, PromptTokens: 5, MaxTokens: 1}))
		}
	}
	require.Equal(t, "1:0@0s 1:1@1s 2:0@1s 1:2@2s ", got)
}

// TestEventLoopIsShared: the front end of docs/timing-model.md, by hand.
func TestEventLoopIsShared(t *testing.T) {
	c := Config{NumBlocks: 1000, MaxNumSeqs: 8, MaxNumBatchedTokens: 8192, MaxModelLen: 4096, ChunkedPrefill: true}
	front := FrontEnd{TokenizePerToken: time.Millisecond, EventLoopWork: 6 * time.Millisecond, DeliveryPerChunk: time.Millisecond, DeliveryDelay: 2 * time.Millisecond}
	s, err := NewSim(SimConfig{Engine: c, FrontEnd: front}, StepTimerFunc(func(*StepShape) time.Duration { return 3 * time.Millisecond }), nil)
	require.NoError(t, err)
	// Tokenized at 1 and 3 ms. One alone from 1 to 3: 2 of 6 done. Both from 3: the
	// first needs 4 more at half speed, till 11. Its step is 11 to 14; the second
	// has 2 more to do, alone, till 13. The delivery of the first takes 14 to 15.
	require.NoError(t, s.Submit(0, Request{ID: 1, PromptTokens: 1, MaxTokens: 2}))
	require.NoError(t, s.Submit(0, Request{ID: 2, PromptTokens: 2, MaxTokens: 1}))
	var out []Emission
	for at, ok := s.Next(); ok; at, ok = s.Next() {
		out = s.Advance(at, out)
	}
	require.Len(t, out, 3)
	ms := time.Millisecond
	require.Equal(t, 17*ms, out[0].Due) // 14 + 1 + 2
	require.Equal(t, 20*ms, out[1].Due) // step 14 to 17, both; first in the list
	require.Equal(t, 21*ms, out[2].Due)
	require.Equal(t, 11*ms, out[1].Times.Queued)
	require.Equal(t, 13*ms, out[2].Times.Queued)
	require.Equal(t, 14*ms, out[2].Times.Scheduled)
}

// TestDeliveryGoesFirst: while chunks are delivered, nobody gets on in the event
// loop.
func TestDeliveryGoesFirst(t *testing.T) {
	c := Config{NumBlocks: 1000, MaxNumSeqs: 8, MaxNumBatchedTokens: 8192, MaxModelLen: 4096, ChunkedPrefill: true}
	front := FrontEnd{EventLoopWork: 6 * time.Millisecond, DeliveryPerChunk: 2 * time.Millisecond}
	s, err := NewSim(SimConfig{Engine: c, FrontEnd: front}, StepTimerFunc(func(*StepShape) time.Duration { return 4 * time.Millisecond }), nil)
	require.NoError(t, err)
	ms := time.Millisecond
	require.NoError(t, s.Submit(0, Request{ID: 1, PromptTokens: 1, MaxTokens: 3}))
	require.NoError(t, s.Submit(8*ms, Request{ID: 2, PromptTokens: 1, MaxTokens: 1}))
	// First: queued 6, steps end at 10, 14, 18; the loop delivers 10-12, 14-16, 18-20.
	// Second: 8-10 and 12-14 and 16-18.
	var last Emission
	for at, ok := s.Next(); ok; at, ok = s.Next() {
		for _, e := range s.Advance(at, nil) {
			last = e
		}
	}
	require.Equal(t, uint64(2), last.ID)
	require.Equal(t, 18*ms, last.Times.Queued)
}

// TestAbortLeavesTheEventLoop: who stays has the loop for itself.
func TestAbortLeavesTheEventLoop(t *testing.T) {
	c := Config{NumBlocks: 1000, MaxNumSeqs: 8, MaxNumBatchedTokens: 8192, MaxModelLen: 4096, ChunkedPrefill: true}
	ms := time.Millisecond
	s, err := NewSim(SimConfig{Engine: c, FrontEnd: FrontEnd{EventLoopWork: 6 * ms}}, StepTimerFunc(func(*StepShape) time.Duration { return ms }), nil)
	require.NoError(t, err)
	for id := range uint64(3) {
		require.NoError(t, s.Submit(0, Request{ID: id, PromptTokens: 1, MaxTokens: 1}))
	}
	// Three share until 6: 2 of 6 done each. One leaves; the rest need 4 each at half
	// speed: 14. Then the next leaves at 10, with 2 to go: the last ends at 12.
	require.True(t, s.Abort(6*ms, 1))
	require.True(t, s.Abort(10*ms, 0))
	require.Equal(t, 1, s.Stats().FrontEnd)
	var last Emission
	for at, ok := s.Next(); ok; at, ok = s.Next() {
		for _, e := range s.Advance(at, nil) {
			last = e
		}
	}
	require.Equal(t, 12*ms, last.Times.Queued)
}

// TestLeapWhileOneWaits: a waiting request that finds no blocks is looked up in
// every step, also in those taken at once.
func TestLeapWhileOneWaits(t *testing.T) {
	run := func(plain bool) (Stats, int) {
		calls := 0
		c := Config{NumBlocks: 11, MaxNumSeqs: 8, MaxNumBatchedTokens: 8192, MaxModelLen: 160, ChunkedPrefill: true, PrefixCaching: true, ReserveFullISL: true}
		v, err := NewVirtual(SimConfig{Engine: c}, StepTimerFunc(func(*StepShape) time.Duration { return time.Millisecond }))
		require.NoError(t, err)
		v.Plain = plain
		v.sim.observe = func(StepInfo) { calls++ }
		for _, r := range []Request{{PromptTokens: 60, MaxTokens: 80}, {PromptTokens: 100, MaxTokens: 10}} {
			_, err := v.Submit(0, r)
			require.NoError(t, err)
		}
		for done := false; !done; {
			_, done = v.Run(never, nil)
		}
		return v.Stats(), calls
	}
	plain, calls := run(true)
	fast, fastCalls := run(false)
	require.Equal(t, plain, fast)
	require.Equal(t, calls, fastCalls)
	// 80 look-ups fail while the first runs, one succeeds.
	require.Equal(t, int64(60+81*100), plain.PrefixQueries)
}

func TestRequestErrors(t *testing.T) {
	c := Config{NumBlocks: 10, MaxNumSeqs: 8, MaxNumBatchedTokens: 8192, MaxModelLen: 100, ChunkedPrefill: true}
	s, err := NewSim(SimConfig{Engine: c}, StepTimerFunc(func(*StepShape) time.Duration { return 1 }), nil)
	require.NoError(t, err)
	require.NoError(t, s.Submit(0, Request{ID: 1, PromptTokens: 99}))
	for _, r := range []Request{{ID: 1, PromptTokens: 5}, {ID: 2}, {ID: 3, Prompt: []int32{}}, {ID: 4, PromptTokens: 100}} {
		var e *RequestError
		require.ErrorAs(t, s.Submit(0, r), &e)
		require.Equal(t, r.ID, e.ID)
	}
}

// TestMemoryIsSteady: what is kept does not grow with the requests served.
func TestMemoryIsSteady(t *testing.T) {
	c := Config{
		NumBlocks: 2000, MaxNumSeqs: 64, MaxNumBatchedTokens: 8192, MaxModelLen: 4096, ChunkedPrefill: true, PrefixCaching: true,
		Spec: Spec{Method: SpecNGram, Tokens: 2, LookupMin: 2, LookupMax: 3},
	}
	front := FrontEnd{TokenizePerToken: time.Microsecond, EventLoopWork: 100 * time.Microsecond, DeliveryPerChunk: time.Microsecond, DeliveryDelay: time.Microsecond}
	s, err := NewSim(SimConfig{Engine: c, FrontEnd: front}, StepTimerFunc(func(*StepShape) time.Duration { return time.Millisecond }), echo{})
	require.NoError(t, err)
	var out []Emission
	id := uint64(0)
	serve := func(n int) {
		for inFlight := 0; n > 0 || inFlight > 0; {
			for ; n > 0 && inFlight < 50; n, inFlight = n-1, inFlight+1 {
				id++
				r := Request{ID: id, Prompt: make([]int32, 40), MaxTokens: 4, Seed: id, CacheSalt: fmt.Sprint(id)}
				require.NoError(t, s.Submit(s.Now(), r))
				if id%97 == 0 {
					s.Abort(s.Now(), id)
				}
			}
			at, _ := s.Next()
			out = s.Advance(at, out[:0])
			for _, e := range out {
				if e.Finish != FinishNone {
					inFlight--
				}
			}
		}
	}
	heap := func() uint64 {
		clear(out[:cap(out)])
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	serve(1000)
	before := heap()
	serve(99000)
	if after := heap(); after > before+64<<10 {
		t.Errorf("heap grew from %d to %d bytes between 1,000 and 100,000 requests", before, after)
	}
	runtime.KeepAlive(s)
}

// BenchmarkAdvance is the wall driver's share: 64 streams, a token each a step.
func BenchmarkAdvance(b *testing.B) {
	for _, front := range []struct {
		name string
		cfg  FrontEnd
	}{{"free", FrontEnd{}}, {"timed", FrontEnd{DeliveryPerChunk: 46 * time.Microsecond, DeliveryDelay: 300 * time.Microsecond}}} {
		b.Run(front.name, func(b *testing.B) {
			c := Config{NumBlocks: 60000, MaxNumSeqs: 1024, MaxNumBatchedTokens: 8192, MaxModelLen: 131072, ChunkedPrefill: true, PrefixCaching: true}
			step := 20 * time.Millisecond
			if front.name == "free" {
				step = 0
			}
			s, err := NewSim(SimConfig{Engine: c, FrontEnd: front.cfg}, StepTimerFunc(func(*StepShape) time.Duration { return step }), echo{})
			require.NoError(b, err)
			id := uint64(0)
			submit := func() {
				id++
				if err := s.Submit(s.Now(), Request{ID: id, Prompt: make([]int32, 100), MaxTokens: 512, IgnoreEOS: true}); err != nil {
					b.Fatal(err)
				}
			}
			for range 64 {
				submit()
			}
			var out []Emission
			tokens := 0
			b.ReportAllocs()
			for b.Loop() {
				at, _ := s.Next()
				out = s.Advance(at, out[:0])
				for _, e := range out {
					tokens += e.Tokens
					if e.Finish != FinishNone {
						submit()
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(tokens), "ns/token")
		})
	}
}
