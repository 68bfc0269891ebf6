package mockvllm

import (
	"fmt"
	"slices"
	"time"

	"github.com/glm46/glm46/mockvllm/engine"
)

// VirtualRequest is a request of a virtual run.
type VirtualRequest struct {
	// At is when the client wants to send it.
	At time.Duration
	// PromptTokens no other request shares; Prompt, when set, replaces them.
	PromptTokens int
	Prompt       []int32
	CacheSalt    string
	// OutputTokens at which it ends, unless the context ends first.
	OutputTokens int
	// Temperature and TopP decide what sampling costs; 0 is greedy.
	Temperature, TopP float64
}

// VirtualRun is what a virtual run is made of.
type VirtualRun struct {
	Engine engine.SimConfig
	Timer  engine.StepTimer
	// Requests are sent in the order of At; equal times keep their order.
	Requests []VirtualRequest
	// MaxConcurrency is the most requests in flight at the client: the next one is
	// sent when the last chunk of another arrives. 0: no limit (open loop).
	MaxConcurrency int
	// Plain takes every step one by one; the result is the same.
	Plain bool
}

// VirtualResult is when every token of a virtual run reached its client. Requests
// are numbered as in VirtualRun.Requests.
type VirtualResult struct {
	run    *engine.Virtual
	number []int // of the request in the engine
	Stats  engine.Stats
}

// RunVirtual plays requests against the engine in virtual time.
//
// It fails if the engine's configuration has a fault, or, with
// *engine.RequestError, if a request cannot run; the request's number is said.
func RunVirtual(r VirtualRun) (*VirtualResult, error) {
	v, err := engine.NewVirtual(r.Engine, r.Timer)
	if err != nil {
		return nil, err
	}
	v.Plain = r.Plain
	order := make([]int, len(r.Requests))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return int(min(max(r.Requests[a].At-r.Requests[b].At, -1), 1)) })

	res := &VirtualResult{run: v, number: make([]int, len(r.Requests))}
	d := virtualDriver{run: v, limit: r.MaxConcurrency}
	for _, i := range order {
		q := r.Requests[i]
		at := d.waitForSlot(q.At)
		n, err := v.Submit(at, engine.Request{
			Prompt: q.Prompt, PromptTokens: q.PromptTokens, CacheSalt: q.CacheSalt, MaxTokens: q.OutputTokens,
			MinTokens: q.OutputTokens, IgnoreEOS: true, Temperature: q.Temperature, TopP: q.TopP,
		})
		if err != nil {
			return nil, fmt.Errorf("requests[%d]: %w", i, err)
		}
		res.number[i] = n
		d.inFlight++
	}
	d.finish()
	res.Stats = v.Stats()
	return res, nil
}

// virtualDriver is the client: it knows when a slot becomes free.
type virtualDriver struct {
	run      *engine.Virtual
	limit    int
	inFlight int             // sent and not ended in the engine
	ends     []time.Duration // when the last chunks of ended requests arrive, in order
	ended    []int
}

// waitForSlot runs the engine until a request that wants to go at `at` may, and
// gives the time when it does.
func (d *virtualDriver) waitForSlot(at time.Duration) time.Duration {
	for {
		send, known := at, true
		if taken := d.inFlight + len(d.ends); d.limit > 0 && taken >= d.limit {
			// Requests arrive in order of At, so all ends up to At are past.
			if over := taken - d.limit; over < len(d.ends) {
				send = max(at, d.ends[over])
			} else {
				known = false
			}
		}
		until := send
		if !known {
			until = 1<<63 - 1
		}
		if d.step(until) && known {
			d.forget(send)
			return send
		}
	}
}

// step runs the engine to until; true if it came there.
func (d *virtualDriver) step(until time.Duration) bool {
	var done bool
	d.ended, done = d.run.Run(until, d.ended[:0])
	for _, i := range d.ended {
		d.ends = append(d.ends, d.run.Times(i).LastDue)
		d.inFlight--
	}
	return done && len(d.ended) == 0
}

// forget drops ends that are past at now.
func (d *virtualDriver) forget(now time.Duration) {
	n := 0
	for n < len(d.ends) && d.ends[n] <= now {
		n++
	}
	d.ends = slices.Delete(d.ends, 0, n)
}

func (d *virtualDriver) finish() {
	for !d.step(1<<63 - 1) {
	}
}

// Len is the number of requests.
func (r *VirtualResult) Len() int { return len(r.number) }

// Times gives the life of request i.
func (r *VirtualResult) Times(i int) engine.RequestTimes { return r.run.Times(r.number[i]) }

// Chunks calls yield for every chunk of request i, in order, with the time it
// reached the client and the tokens in it, until yield returns false.
func (r *VirtualResult) Chunks(i int, yield func(due time.Duration, tokens int) bool) {
	begins := r.run.Deliveries()
	r.run.Spans(r.number[i], func(s engine.Span) bool {
		for j := range s.N {
			if !yield(begins[s.First+j]+s.Offset, s.Tokens) {
				return false
			}
		}
		return true
	})
}

// Gap is a time between successive chunks of one stream, and how often it came.
type Gap struct {
	Length time.Duration
	Count  int
}

// Gaps pools the gaps between successive chunks of all requests, in no order.
// Steps of one batch give one entry for all its requests.
func (r *VirtualResult) Gaps() []Gap {
	begins := r.run.Deliveries()
	change := make([]int, len(begins)+1) // of the number of requests whose gap ends at a delivery
	var out []Gap
	for i := range r.number {
		last := time.Duration(-1)
		r.run.Spans(r.number[i], func(s engine.Span) bool {
			if last >= 0 {
				out = append(out, Gap{begins[s.First] + s.Offset - last, 1})
			}
			change[s.First+1]++
			change[s.First+s.N]--
			last = begins[s.First+s.N-1] + s.Offset
			return true
		})
	}
	sharing := 0
	for k := 1; k < len(begins); k++ {
		if sharing += change[k]; sharing > 0 {
			out = append(out, Gap{begins[k] - begins[k-1], sharing})
		}
	}
	return out
}
