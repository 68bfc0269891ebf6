package engine

import "time"

// Engine is the scheduler alone: no front end, no delivery. A step is Begin and
// End; between them its work is in flight.
type Engine struct{}

// New makes an engine. tokens may be nil.
//
// It fails if the configuration has a fault, naming all of them.
func New(c Config, timer StepTimer, tokens TokenSource) (*Engine, error) { return nil, errNotBuilt }

// Add puts a request at the end of the waiting queue. It fails with
// *RequestError as Sim.Submit does.
func (e *Engine) Add(r *Request) error { return errNotBuilt }

// Abort removes a request: at once, or at the end of the step in flight that
// holds it. It reports whether the request was there.
func (e *Engine) Abort(id uint64) bool { return false }

// Output is what a request gets from a step.
type Output struct {
	Request       *Request
	First, Tokens int
	Finish        FinishReason
	CachedTokens  int
}

// Begin schedules a step and gives its duration; false if there is nothing to
// do.
func (e *Engine) Begin() (time.Duration, bool) { return 0, false }

// End finishes the step in flight and appends what came out, in the order of
// the running list.
func (e *Engine) End(out []Output) []Output { return out }

// Stats gives the counters now.
func (e *Engine) Stats() Stats { return Stats{} }

// ResetPrefixCache empties the prefix cache; false while any block is in use.
func (e *Engine) ResetPrefixCache() bool { return false }
