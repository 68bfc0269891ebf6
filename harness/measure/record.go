package measure

import (
	"iter"
	"time"
)

// Phase says which part of a level a request belongs to.
type Phase string

// The phases of a level. A main request is one sent after the hand-over.
const (
	PhaseWarmup Phase = "warmup"
	PhaseMain   Phase = "main"
)

// Endpoint is the API that a request was sent to.
type Endpoint string

// The two endpoints: a sample with a prompt goes to completions, one with
// messages to chat.
const (
	EndpointCompletions Endpoint = "completions"
	EndpointChat        Endpoint = "chat"
)

// TokenSource says where the token counts of a record come from.
type TokenSource string

// The sources of token counts.
const (
	// TokensFromUsage: only the final usage event told; events hold one token
	// each as far as anybody knows.
	TokensFromUsage TokenSource = "usage"
	// TokensFromContinuousUsage: every event carried a running count.
	TokensFromContinuousUsage TokenSource = "continuous_usage"
	// TokensFromNone: the server told no counts.
	TokensFromNone TokenSource = "none"
)

// Class is how a request ended: OK or the first failure class that applies
// (docs/metrics.md, failure classes).
type Class string

// OK and the failure classes, in the order in which they are looked for.
const (
	OK               Class = "ok"
	ConnectRefused   Class = "connect_refused"
	ConnectTimeout   Class = "connect_timeout"
	Reset            Class = "reset"
	Timeout          Class = "timeout"
	ContextLength    Class = "context_length"
	HTTP429          Class = "http_429"
	HTTP4xx          Class = "http_4xx"
	HTTP5xx          Class = "http_5xx"
	MalformedEvent   Class = "malformed_event"
	StreamErrorEvent Class = "stream_error_event"
	Stalled          Class = "stalled"
	Truncated        Class = "truncated"
	NoTokens         Class = "no_tokens"
	UsageMissing     Class = "usage_missing"
	WrongLength      Class = "wrong_length"
	// Cancelled: the client gave the request up (walltime, a signal).
	Cancelled Class = "cancelled"
	// ServerDead: the server ended while the request ran.
	ServerDead Class = "server_dead"
)

// Event is one event of a stream that carried at least one token.
type Event struct {
	// At is when its last byte was read from the socket, since the run began.
	At time.Duration
	// Tokens in it; 1 where the server does not tell.
	Tokens int
}

// Events of one stream, in order. In JSON they are pairs: [[ns, tokens], ...].
type Events []Event

// Record is all that is kept of one request. Durations count from the start of
// the run on one monotonic clock and are wall time, never scaled by the mock's
// speed. A zero Sent, FirstToken, FirstContent, LastToken means "never".
//
// It is one line of requests.jsonl.zst; the events are pairs [ns, tokens].
type Record struct {
	SampleID  string   `json:"sample_id"`
	RequestID string   `json:"request_id"`
	Phase     Phase    `json:"phase"`
	Level     string   `json:"level"`
	Endpoint  Endpoint `json:"endpoint"`
	// Segment counts the interruptions before this request: 0 in a level that
	// was never resumed. Clocks of different segments are not comparable.
	Segment int `json:"segment"`

	// Intended is when the load plan wanted it sent (closed loop: the moment
	// its slot became free); Sent when the request was written.
	Intended time.Duration `json:"intended_ns"`
	// Slot is when a request of an open loop got a place under the cap on
	// requests in flight, where that was after Intended; 0 where it did not wait.
	Slot time.Duration `json:"slot_ns,omitempty"`
	Sent time.Duration `json:"sent_ns,omitempty"`
	// FirstToken is the first event with a generated token of any kind,
	// FirstContent the first with text that is not reasoning.
	FirstToken   time.Duration `json:"first_token_ns,omitempty"`
	FirstContent time.Duration `json:"first_content_ns,omitempty"`
	LastToken    time.Duration `json:"last_token_ns,omitempty"`
	// End is the terminal marker, or the moment the failure was known.
	End time.Duration `json:"end_ns"`

	PromptTokens     int         `json:"prompt_tokens"`
	CompletionTokens int         `json:"completion_tokens"`
	CachedTokens     *int        `json:"cached_tokens,omitempty"`
	TokenSource      TokenSource `json:"token_source"`
	RequestedTokens  int         `json:"requested_tokens"`
	// LengthForced: ignore_eos and min_tokens were sent, so that any other
	// length is a fault.
	LengthForced bool   `json:"length_forced"`
	FinishReason string `json:"finish_reason,omitempty"`

	Outcome Class `json:"outcome"`
	// HTTPStatus is 0 where no status line arrived.
	HTTPStatus int    `json:"http_status,omitempty"`
	Detail     string `json:"detail,omitempty"`

	// EventCount and EventBytes cover every event of the stream, with or
	// without tokens.
	EventCount int   `json:"event_count"`
	EventBytes int64 `json:"event_bytes"`

	Events Events `json:"events"`
}

// Lag is how late the client was: from the moment the request could be sent to
// Sent, never negative. The wait for a place under the cap is the server's.
func (r *Record) Lag() time.Duration {
	if r.Sent == 0 {
		return 0
	}
	return max(0, r.Sent-max(r.Intended, r.Slot))
}

// Source gives the records of a level, in any order, as often as it is asked:
// metrics need two passes, and the records of a long run do not fit in memory.
// A yielded record is valid until the next one is asked for.
type Source func() iter.Seq2[*Record, error]

// Records is a Source over records in memory.
func Records(records []*Record) Source {
	return func() iter.Seq2[*Record, error] {
		return func(yield func(*Record, error) bool) {
			for _, r := range records {
				if !yield(r, nil) {
					return
				}
			}
		}
	}
}
