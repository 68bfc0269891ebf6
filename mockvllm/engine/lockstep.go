package engine

import "time"

// lockStep is what several replicas of an engine add to the first one. Their
// experts are shared, so a step of one is a step of all: it lasts as long as the
// longest, and a replica without work runs along with one token that goes nowhere.
// A request belongs to the replica that had the least to do when it came. With one
// replica there is nothing here.
//
// Source: docs/timing-model.md, replicas; vLLM 0.11.1,
// vllm/v1/engine/core.py DPEngineCoreProc, vllm/v1/engine/core_client.py DPLBAsyncMPClient.
type lockStep struct {
	all     []*Engine // nil for one replica
	active  []*Engine // in the step in flight
	one     [1]*Engine
	outputs []output
}

// make adds the other replicas.
func (l *lockStep) make(first *Engine, c SimConfig) error {
	l.one[0] = first
	for i := 1; i < c.Replicas; i++ {
		e, err := New(c.Engine, first.timer, first.tokens)
		if err != nil {
			return err
		}
		e.byID, e.replica = first.byID, i
		if l.all == nil {
			l.all = append(l.all, first)
		}
		l.all = append(l.all, e)
	}
	return nil
}

// hasWork of the replicas.
func (l *lockStep) hasWork() bool {
	for _, e := range l.all {
		if e.hasWork() {
			return true
		}
	}
	return false
}

// home chooses a request's replica: the first of those with the least to do, where
// one that waits counts as four that run.
func (l *lockStep) home(q *seq) *Engine {
	least := 0
	for i, e := range l.all {
		if n := 4*e.waiting.len() + len(e.running); i == 0 || n < least {
			q.home, least = e, n
		}
	}
	return q.home
}

// stepping gives the replicas that have requests in the step in flight, or had in
// the one that just ended.
func (l *lockStep) stepping(first *Engine) []*Engine {
	if l.all == nil {
		return l.one[:]
	}
	return l.active
}

// begin schedules a step of all replicas.
func (l *lockStep) begin(first *Engine) (longest time.Duration, ok bool) {
	if l.all == nil {
		return first.Begin()
	}
	l.active = l.active[:0]
	tokens := 0
	for _, e := range l.all {
		if e.hasWork() && e.schedule() {
			e.measure()
			tokens += e.info.ScheduledTokens
			l.active = append(l.active, e)
		} else {
			tokens++
			e.stats.Steps++
		}
	}
	for _, e := range l.active {
		e.shape.OtherTokens = tokens - e.info.ScheduledTokens
		longest = max(longest, e.timer.Step(&e.shape))
		e.inFlight = true
	}
	return longest, len(l.active) > 0
}

// end finishes the step in flight and gives what came out, replica by replica.
func (l *lockStep) end(first *Engine) []output {
	if l.all == nil {
		first.end()
		return first.outputs
	}
	l.outputs = l.outputs[:0]
	for _, e := range l.active {
		e.end()
		l.outputs = append(l.outputs, e.outputs...)
	}
	return l.outputs
}

// stats sums over the replicas.
func (l *lockStep) stats(first *Engine) Stats {
	sum := first.Stats()
	if l.all == nil {
		return sum
	}
	sum.Replicas = append(sum.Replicas, first.Stats())
	for _, e := range l.all[1:] {
		st := e.Stats()
		sum.Replicas = append(sum.Replicas, st)
		sum.Running += st.Running
		sum.Waiting += st.Waiting
		sum.UsableBlocks += st.UsableBlocks
		sum.FreeBlocks += st.FreeBlocks
		sum.Preemptions += st.Preemptions
		sum.PrefixQueries += st.PrefixQueries
		sum.PrefixHits += st.PrefixHits
		sum.PromptTokens += st.PromptTokens
		sum.CachedTokens += st.CachedTokens
		sum.GenerationTokens += st.GenerationTokens
		for i, n := range st.Finished {
			sum.Finished[i] += n
		}
		sum.Drafts += st.Drafts
		sum.DraftTokens += st.DraftTokens
		sum.AcceptedTokens += st.AcceptedTokens
		for i, n := range st.AcceptedPerPosition {
			sum.AcceptedPerPosition[i] += n
		}
	}
	sum.KVUsage = 1 - float64(sum.FreeBlocks)/float64(sum.UsableBlocks)
	return sum
}

func (l *lockStep) resetPrefixCache(first *Engine) bool {
	if l.all == nil {
		return first.ResetPrefixCache()
	}
	ok := true
	for _, e := range l.all {
		ok = e.ResetPrefixCache() && ok
	}
	return ok
}
