package engine

import (
	"fmt"
	"time"
)

// Request is one generation, as the engine sees it.
type Request struct {
	// ID is chosen by the caller, unique among the requests in flight.
	ID uint64
	// Prompt holds the token ids. It may be nil: then PromptTokens tokens that
	// no other request shares are assumed, which cost no memory. The slice is
	// kept until the request ends and must not change.
	Prompt []int32
	// PromptTokens is the prompt's length, at least 1; ignored if Prompt is set.
	PromptTokens int
	// CacheSalt separates prefix-cache entries: equal prompts share blocks only
	// under equal salts.
	CacheSalt string
	// MaxTokens is the longest output; 0 or less: what the context leaves.
	MaxTokens int
	// MinTokens: the end-of-sequence token does not end the request before.
	MinTokens int
	// IgnoreEOS: the end-of-sequence token does not end the request at all.
	IgnoreEOS bool
	// Seed goes to the [TokenSource] with the request.
	Seed uint64
	// Temperature 0 is greedy. TopP of 0 or 1 is off. They decide what sampling
	// costs (StepShape.Sampling), not what is sampled.
	Temperature, TopP float64
	// Priority orders requests under PolicyPriority: lower is earlier.
	Priority int
	// Owner is the caller's own; the engine hands it back in Emission.Request.
	Owner any
}

func (r *Request) promptTokens() int {
	if r.Prompt != nil {
		return len(r.Prompt)
	}
	return r.PromptTokens
}

func (r *Request) sample() Sampling {
	switch {
	case r.Temperature <= 0:
		return SampleGreedy
	case r.TopP > 0 && r.TopP < 1:
		return SampleTopP
	}
	return SampleTemperature
}

// Policies of the waiting queue.
const (
	PolicyFCFS     = "fcfs"
	PolicyPriority = "priority"
)

// Config is what the scheduler needs to know.
type Config struct {
	// BlockTokens is the size of a KV block in tokens; 0 is 16.
	BlockTokens int
	// NumBlocks is the number of KV blocks, the null block included: one less
	// can be used.
	NumBlocks int
	// MaxNumSeqs is the most requests that may run.
	MaxNumSeqs int
	// MaxNumBatchedTokens is the token budget of a step.
	MaxNumBatchedTokens int
	// MaxModelLen is the longest prompt plus output, in tokens.
	MaxModelLen int
	// LongPrefillTokenThreshold bounds a request's tokens in a step; 0 is off.
	LongPrefillTokenThreshold int
	// Policy is PolicyFCFS (also "") or PolicyPriority.
	Policy string

	ChunkedPrefill bool
	PrefixCaching  bool
	// ReserveFullISL admits a request only if its whole prompt fits the free
	// blocks, not only its first chunk (vLLM since about 0.19).
	ReserveFullISL bool
	// SkipOversizedWaiting: without chunked prefill, a waiting request that does
	// not fit the rest of the budget is passed over for later ones (vLLM 0.11.1);
	// otherwise admission stops there.
	SkipOversizedWaiting bool
	// CountLookupsOnAdmission counts prefix-cache queries only for requests that
	// are then admitted (later vLLM); otherwise every lookup counts (0.11.1).
	CountLookupsOnAdmission bool
	// IgnorePreemptedLookups leaves the look-ups of preempted requests out of the
	// counters (vLLM since 0.10.2).
	IgnorePreemptedLookups bool
	// ReuseUnhashedFirst puts freed blocks without content worth keeping in front
	// of the free list (later vLLM).
	ReuseUnhashedFirst bool

	// EOS are the token ids that end a request which does not ignore them. With
	// none, or without a TokenSource, only lengths end requests.
	EOS []int32

	Spec Spec
}

// Methods of speculation.
const (
	SpecNone  = ""
	SpecNGram = "ngram"
	SpecMTP   = "mtp"
)

// Spec is speculative decoding.
type Spec struct {
	// Method is SpecNone, SpecNGram or SpecMTP.
	Method string
	// Tokens is k, the most draft tokens of a request and step.
	Tokens int
	// LookupMin and LookupMax bound the length of the n-gram that SpecNGram looks
	// up in prompt and output.
	LookupMin, LookupMax int
	// LookaheadTokens are KV slots reserved beyond the scheduled tokens (k with
	// MTP, 0 with ngram).
	LookaheadTokens int
	// DropLastHitBlock gives the last block of a prefix hit up, because the draft
	// layer needs its hidden states (MTP).
	DropLastHitBlock bool
	// Acceptance replaces looking up: drafts and their acceptance are drawn. nil
	// with SpecNGram: drafts are looked up and compared with the TokenSource's
	// true continuation. nil with SpecMTP: every request drafts, and each position
	// is accepted with probability 0.9.
	Acceptance *Acceptance
	// Seed of the draws.
	Seed uint64
}

// Acceptance gives probabilities for synthetic speculation.
//
// Source: docs/timing-model.md, speculation.
type Acceptance struct {
	// DraftProbability that a request drafts in a step, 0 to 1.
	DraftProbability float64
	// Cumulative[i] is the share of drafts whose first i+1 tokens are accepted:
	// not increasing, 0 to 1. Positions beyond the last keep its ratio to the one
	// before.
	Cumulative []float64
}

// Sampling is what choosing a token costs, in rising order.
type Sampling uint8

// Kinds of sampling; a step has the dearest of its requests.
const (
	SampleGreedy Sampling = iota
	SampleTemperature
	SampleTopP
)

// Chunk is a piece of prefill in a step.
type Chunk struct {
	// Tokens computed in this step (q), and tokens computed before, cached ones
	// included (c).
	Tokens, Computed int
}

// StepShape is the work of one step.
type StepShape struct {
	// Index counts steps from 0.
	Index int64
	// Decodes is D, the requests that continue after their prefill; DecodeTokens
	// is d, their scheduled tokens (D without speculation).
	Decodes, DecodeTokens int
	// ContextTokens is K: the sum over decodes of cached plus scheduled tokens.
	ContextTokens int64
	// Chunks are the pieces of prefill, in order; valid during the call only.
	Chunks []Chunk
	// LogitRows is R, the rows that get logits: d + number of chunks.
	LogitRows int
	// UniformDecode: there are only decodes, and each has 1 + k tokens.
	UniformDecode bool
	// Sampled is the number of requests that sample a token that is kept: decodes
	// and chunks that end a prefill.
	Sampled int
	// OtherTokens of the replicas that step together with this one: the experts
	// see them too.
	OtherTokens int
	// ProposerContextTokens is the sum of context lengths of those requests.
	ProposerContextTokens int64
	Sampling              Sampling
}

// StepTimer says how long a step takes. It is called once a step of every replica,
// in order, and must not keep the shape. Zero is allowed: as fast as the driver can.
type StepTimer interface {
	Step(*StepShape) time.Duration
}

// StepTimerFunc is a function as a StepTimer.
type StepTimerFunc func(*StepShape) time.Duration

// Step calls f.
func (f StepTimerFunc) Step(s *StepShape) time.Duration { return f(s) }

// TokenSource gives the true continuation of a request: the token at output
// position pos, counted from 0. It must be pure: the engine asks for a position
// when it is emitted, and again for prefix hashes or comparisons with drafts.
type TokenSource interface {
	Token(r *Request, pos int) int32
}

// FinishReason says how a request ended.
type FinishReason uint8

// Ends of a request. FinishNone: it goes on.
const (
	FinishNone FinishReason = iota
	FinishLength
	FinishStop
	FinishAbort
)

// String gives vLLM's finished_reason label; "" for FinishNone.
func (f FinishReason) String() string {
	return [...]string{"", "length", "stop", "abort"}[f]
}

// Emission is what one request gets out of one step, when the client gets it.
type Emission struct {
	// Request is the caller's request, as given to Submit (a copy owned by the
	// engine; its address is the same in every emission of the request).
	Request *Request
	ID      uint64
	// Due is when the chunk reaches the client, on the Sim's clock.
	Due time.Duration
	// First is the output position of the first token, Tokens their number. 0
	// tokens: only with FinishAbort, or FinishLength if the KV cache cannot hold
	// the request.
	First, Tokens int
	// TokenIDs has Tokens ids; nil without a TokenSource. Valid until the next
	// call of Advance.
	TokenIDs []int32
	Finish   FinishReason
	// Replica that ran it.
	Replica int
	// CachedTokens of the prompt that came from the prefix cache at the first
	// admission.
	CachedTokens int
	// Times is set on the last emission only.
	Times *RequestTimes
}

// RequestTimes is the life of a request on the Sim's clock. Zero: not reached.
type RequestTimes struct {
	Arrived   time.Duration // Submit
	Tokenized time.Duration // out of the tokenizer
	Queued    time.Duration // event-loop work done: eligible for a step
	Scheduled time.Duration // start of the first step that holds it
	// FirstToken and LastToken are ends of engine steps; FirstDue and LastDue are
	// when those tokens reached the client.
	FirstToken, LastToken time.Duration
	FirstDue, LastDue     time.Duration

	PromptTokens, OutputTokens, CachedTokens int
	Preemptions                              int
}

// StepInfo describes a finished step to an observer.
type StepInfo struct {
	Replica    int
	Index      int64
	Start, End time.Duration
	// ScheduledTokens in all, PrefillTokens of them in chunks.
	ScheduledTokens, PrefillTokens int
	Decodes, Chunks                int
	// EmittedTokens were generated; PromptTokensDone are the prompt tokens, cached
	// ones included, of requests whose first token came out of this step.
	EmittedTokens, PromptTokensDone int
	// Preempted and Admitted requests while this step was scheduled.
	Preempted, Admitted int
	// Running and Waiting are counts after the step, FreeBlocks those while it ran.
	Running, Waiting, FreeBlocks int
}

// Stats are counters since start and gauges now, in vLLM's sense.
type Stats struct {
	// Running and Waiting requests of the scheduler; FrontEnd those still in the
	// tokenizer or the event loop.
	Running, Waiting, FrontEnd int
	// UsableBlocks is NumBlocks - 1. Cached blocks that nobody uses count as free.
	UsableBlocks, FreeBlocks int
	// KVUsage is 1 - free/usable, 0 to 1.
	KVUsage float64

	Steps       int64
	Preemptions int64
	// PrefixQueries and PrefixHits count tokens, as vLLM does.
	PrefixQueries, PrefixHits int64
	// PromptTokens of requests whose prefill ended, cached ones included;
	// CachedTokens of those came from the prefix cache; GenerationTokens emitted.
	PromptTokens, CachedTokens, GenerationTokens int64
	// Finished requests by FinishReason.
	Finished [FinishAbort + 1]int64

	// Speculation. AcceptedPerPosition[i] counts drafts whose first i+1 tokens
	// were accepted; nil without speculation.
	Drafts, DraftTokens, AcceptedTokens int64
	AcceptedPerPosition                 []int64

	// Replicas has the same for each replica, if there are several; then the
	// counters above are sums, but for Steps: replicas step together.
	Replicas []Stats
}

// FrontEnd is the API process before and after the engine. The zero value costs
// nothing.
//
// Source: docs/timing-model.md, front end.
type FrontEnd struct {
	// TokenizePerToken of the prompt, by one thread, first in first out.
	TokenizePerToken time.Duration
	// EventLoopWork of a request, on a thread shared equally by all requests that
	// are in it; delivery goes first.
	EventLoopWork time.Duration
	// DeliveryPerChunk of the same thread, in the order of the running list, and
	// DeliveryDelay from the end of its turn to the client.
	DeliveryPerChunk, DeliveryDelay time.Duration
}

// RequestError is a request that the engine does not take.
type RequestError struct {
	ID   uint64
	Text string
}

func (e *RequestError) Error() string { return fmt.Sprintf("engine: request %d: %s", e.ID, e.Text) }
