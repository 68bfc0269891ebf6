package engine

import (
	"errors"
	"time"
)

var errNotBuilt = errors.New("engine: not built yet")

// Sim is an engine with its front end on one time line. Both drivers use it:
// the wall driver asks Next, waits, and calls Advance; the virtual driver does
// not wait.
//
// Internal events happen at their own instants whatever the calls of Advance:
// the same Submits at the same times give the same schedule. At equal times a
// Submit comes before the events of Advance, so a driver that has both due
// submits first. A Sim is not safe for concurrent use.
type Sim struct{}

// SimConfig is what a Sim is made of.
type SimConfig struct {
	Engine   Config
	FrontEnd FrontEnd
	// Observe is called at the end of every step when not nil.
	Observe func(StepInfo)
}

// NewSim makes a Sim at time 0. tokens may be nil.
//
// It fails if the configuration has a fault, naming all of them.
func NewSim(c SimConfig, timer StepTimer, tokens TokenSource) (*Sim, error) {
	return nil, errNotBuilt
}

// Submit hands a request in at now: the client has sent it, the tokenizer is
// next. A time before the last call counts as that call's time.
//
// It fails with *RequestError if the request cannot run: no prompt, a prompt of
// MaxModelLen tokens or more, or an ID that is in flight.
func (s *Sim) Submit(now time.Duration, r Request) error { return errNotBuilt }

// Abort ends a request at now. Its blocks are free from the next step on; what
// was on its way to the client is dropped, and an Emission with FinishAbort
// follows from the next Advance. It reports whether the request was in flight.
func (s *Sim) Abort(now time.Duration, id uint64) bool { return false }

// Next gives the time of the next event; false if nothing is in flight. The
// time may be in the past if Advance stopped early.
func (s *Sim) Next() (at time.Duration, ok bool) { return 0, false }

// Advance lets everything happen that is due at now or before, appends the
// emissions due to out, ordered by Due, and returns it.
//
// It stops early where the caller may want to submit in answer to an emission:
// after a step whose tokens reach the client at its very end (a front end
// without cost), so steps of zero length come one a call. Call it again until
// Next is later than now.
func (s *Sim) Advance(now time.Duration, out []Emission) []Emission { return out }

// Now is the time of the last call.
func (s *Sim) Now() time.Duration { return 0 }

// Stats gives the counters now.
func (s *Sim) Stats() Stats { return Stats{} }

// ResetPrefixCache empties the prefix cache. Like vLLM it does nothing and
// reports false while any block is in use.
func (s *Sim) ResetPrefixCache() bool { return false }
