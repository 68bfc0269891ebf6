package mockvllm

import (
	"container/heap"
	"slices"
	"time"

	"github.com/glm46/glm46/mockvllm/engine"
	"github.com/glm46/glm46/mockvllm/tokenizer"
)

// simCore is the simulated engine as a core.
type simCore struct{ *engine.Sim }

func (c simCore) submit(now time.Duration, s *stream) error { return c.Submit(now, s.req) }
func (c simCore) abort(now time.Duration, id uint64)        { c.Abort(now, id) }
func (c simCore) next() (time.Duration, bool)               { return c.Next() }
func (c simCore) advance(now time.Duration, out []engine.Emission) []engine.Emission {
	return c.Advance(now, out)
}
func (c simCore) stats() engine.Stats    { return c.Stats() }
func (c simCore) resetPrefixCache() bool { return c.ResetPrefixCache() }

// paceCore emits token k of a request at its arrival + TTFT + k x ITL, each
// request on its own: no scheduler, no KV cache, no prefix cache.
type paceCore struct {
	pace   Pace
	tokens engine.TokenSource
	eos    []int32
	limit  int // max_model_len
	blocks int

	queue paceQueue
	byID  map[uint64]*paced
	gone  []*paced // aborted, not yet told
	ids   []int32
	st    engine.Stats
}

type paced struct {
	req   *engine.Request
	at    time.Duration // of the next token
	next  int           // its position
	end   int           // tokens in all
	index int           // in the queue
	times engine.RequestTimes
}

// paceQueue is a heap by time, then by request.
type paceQueue []*paced

func (q paceQueue) Len() int { return len(q) }
func (q paceQueue) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].req.ID < q[j].req.ID
}
func (q paceQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}
func (q *paceQueue) Push(x any) {
	p := x.(*paced)
	p.index = len(*q)
	*q = append(*q, p)
}
func (q *paceQueue) Pop() any {
	old := *q
	p := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	return p
}

// settle puts the first entry, whose time has grown, where it belongs: heap.Fix
// without calls through an interface, since this is done for every token.
func (q paceQueue) settle() {
	i, first := 0, q[0]
	for {
		c := 2*i + 1
		if c >= len(q) {
			break
		}
		if c+1 < len(q) && q.Less(c+1, c) {
			c++
		}
		if first.at < q[c].at || first.at == q[c].at && first.req.ID < q[c].req.ID {
			break
		}
		q[i] = q[c]
		q[i].index = i
		i = c
	}
	q[i] = first
	first.index = i
}

func newPaceCore(p Pace, tokens engine.TokenSource, eos []int32, maxModelLen, blocks int) *paceCore {
	return &paceCore{pace: p, tokens: tokens, eos: eos, limit: maxModelLen, blocks: blocks, byID: map[uint64]*paced{}}
}

func (c *paceCore) submit(now time.Duration, s *stream) error {
	end := c.limit - len(s.req.Prompt)
	if s.req.MaxTokens > 0 {
		end = min(end, s.req.MaxTokens)
	}
	p := &paced{req: &s.req, at: now + c.pace.TTFT, end: max(end, 1)}
	p.times = engine.RequestTimes{Arrived: now, Tokenized: now, Queued: now, Scheduled: now, PromptTokens: len(s.req.Prompt)}
	c.byID[s.id] = p
	heap.Push(&c.queue, p)
	return nil
}

func (c *paceCore) abort(now time.Duration, id uint64) {
	p := c.byID[id]
	if p == nil {
		return
	}
	heap.Remove(&c.queue, p.index)
	delete(c.byID, id)
	p.at = now
	c.gone = append(c.gone, p)
}

func (c *paceCore) next() (time.Duration, bool) {
	switch {
	case len(c.gone) > 0:
		return c.gone[0].at, true
	case len(c.queue) > 0:
		return c.queue[0].at, true
	}
	return 0, false
}

func (c *paceCore) advance(now time.Duration, out []engine.Emission) []engine.Emission {
	c.ids = c.ids[:0]
	for _, p := range c.gone {
		p.times.OutputTokens = p.next
		c.st.Finished[engine.FinishAbort]++
		out = append(out, engine.Emission{Request: p.req, ID: p.req.ID, Due: p.at, Finish: engine.FinishAbort, Times: &p.times})
	}
	c.gone = c.gone[:0]
	before := len(out)
	for len(c.queue) > 0 && c.queue[0].at <= now {
		p := c.queue[0]
		at := len(c.ids)
		id := c.tokens.Token(p.req, p.next)
		c.ids = append(c.ids, id)
		em := engine.Emission{Request: p.req, ID: p.req.ID, Due: p.at, First: p.next, Tokens: 1, TokenIDs: c.ids[at : at+1 : at+1]}
		if p.next == 0 {
			p.times.FirstToken, p.times.FirstDue = p.at, p.at
			c.st.PromptTokens += int64(len(p.req.Prompt))
		}
		p.times.LastToken, p.times.LastDue = p.at, p.at
		p.next++
		c.st.GenerationTokens++
		switch {
		case c.stops(p, id):
			em.Finish = engine.FinishStop
		case p.next >= p.end:
			em.Finish = engine.FinishLength
		}
		if em.Finish == engine.FinishNone {
			p.at += c.pace.ITL
			c.queue.settle()
		} else {
			heap.Pop(&c.queue)
			delete(c.byID, p.req.ID)
			p.times.OutputTokens = p.next
			em.Times = &p.times
			c.st.Finished[em.Finish]++
		}
		out = append(out, em)
	}
	if n := len(out) - before; n > 0 {
		c.st.Steps++
	}
	return out
}

func (c *paceCore) stops(p *paced, id int32) bool {
	return !p.req.IgnoreEOS && p.next > p.req.MinTokens && id >= tokenizer.FirstSpecial && slices.Contains(c.eos, id)
}

func (c *paceCore) stats() engine.Stats {
	st := c.st
	st.Running = len(c.queue)
	st.UsableBlocks, st.FreeBlocks = c.blocks, c.blocks
	return st
}

func (c *paceCore) resetPrefixCache() bool { return len(c.queue) == 0 }
