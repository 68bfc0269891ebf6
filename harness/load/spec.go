package load

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"net"
	"time"

	"github.com/glm46/glm46/harness/measure"
)

// Target is the server that is measured.
type Target struct {
	// BaseURL as "http://127.0.0.1:8000"; a trailing "/v1" is accepted.
	BaseURL string
	// Model is the served name.
	Model  string
	APIKey string
	// Version is the vLLM version it told, for the record; empty if unknown.
	Version string
	// Features of the server; see FeaturesOf.
	Features Features
	// Endpoint overrides the choice by sample: "" chooses.
	Endpoint measure.Endpoint
	// Dial replaces the TCP dialer (tests, in-memory listeners).
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	TLS  *tls.Config
	// Done is closed when the server's process has ended; nil where unknown.
	Done <-chan struct{}
}

// Features say which optional request fields the server understands.
type Features struct {
	// CacheSalt: the field cache_salt (vLLM >= 0.9.0). Without it a phase is
	// salted by a seeded change at the beginning of each prompt.
	CacheSalt bool
	// ContinuousUsage: stream_options.continuous_usage_stats.
	ContinuousUsage bool
	// ForcedLength: ignore_eos and min_tokens.
	ForcedLength bool
}

// Sample is one request to send.
type Sample struct {
	ID string
	// Prompt or Messages (a JSON array), not both.
	Prompt   string
	Messages json.RawMessage
	// Tools that Messages may call (a JSON array), or nil.
	Tools json.RawMessage
	// PromptTokens of the data set; 0 is unknown.
	PromptTokens int
	// TargetTokens is the length asked for at this level.
	TargetTokens int
	// Seed of the request: the index of the sample in its data set.
	Seed int
	// Capped: the target was cut to fit max_model_len.
	Capped bool
}

// Process is the arrival process of a level.
type Process string

// The arrival processes. Closed sends when a slot becomes free; the others
// send by a plan made before the start.
const (
	Closed   Process = "closed"
	Poisson  Process = "poisson"
	Constant Process = "constant"
	Gamma    Process = "gamma"
)

// Ramp changes the rate over the requests of an open loop, as vLLM's
// --ramp-up-strategy does.
type Ramp struct {
	Strategy                     string // "linear", "exponential"
	StartPerSecond, EndPerSecond float64
}

// Arrival says when requests are to be sent. The zero value is a closed loop.
type Arrival struct {
	Process       Process
	RatePerSecond float64 // open loop, in the server's time (scaled by MockSpeed)
	Burstiness    float64 // gamma's shape; 0 means 1
	Ramp          *Ramp
}

// WarmupSpec overrides the warm-up rules; its zero value is the contract.
type WarmupSpec struct {
	Skip bool
	// OutputTokens caps a warm-up request (default 64).
	OutputTokens int
	// MaxRequests (default 2 x concurrency) and MaxDuration (default 10 min).
	MaxRequests int
	MaxDuration time.Duration
}

// Limits of a request, in wall time.
type Limits struct {
	// Total is for the whole request (default 1 h; callers know the predicted
	// E2E latency and pass three times that if it is more).
	Total time.Duration
	// Idle is the longest silence from the first token on (default 300 s).
	Idle time.Duration
	// IdleExplicit: the user asked for Idle, so it also limits the wait for
	// response headers.
	IdleExplicit bool
	// Connect limits dialling (default 10 s).
	Connect time.Duration
}

// Spec is the load of one level.
type Spec struct {
	Level string // "c16", "r2.5"
	// Concurrency is the number of slots of a closed loop, or the cap on
	// requests in flight of an open one (0: no cap).
	Concurrency int
	Arrival     Arrival
	// Samples of the main phase, in order of sending. Those in Done are left out.
	Samples []Sample
	// Done are ids of samples that an earlier, interrupted segment finished.
	Done    map[string]bool
	Segment int
	// Seed of arrival times, prompt salting and the first wave.
	Seed uint64
	// Salt must differ between levels and starts: it keeps prefix caches apart.
	Salt   string
	Warmup WarmupSpec
	// NaturalStop drops ignore_eos and min_tokens.
	NaturalStop bool
	Limits      Limits
	// Mock and MockSpeed: the server is the mock, its time runs MockSpeed times
	// faster (0 and 1: real time).
	Mock      bool
	MockSpeed float64
	// ExpectedPrefixShare is the share of prompt tokens that the data set lets
	// the prefix cache serve; nil is unknown.
	ExpectedPrefixShare *float64
	SLO                 measure.SLO
	// Certificate of Certify; nil leaves the comparison out.
	Certificate *measure.Certificate
	// Series receives a line of metrics.jsonl.zst every ScrapeEvery (1 s).
	Series      func(measure.ServerSample)
	ScrapeEvery time.Duration
}

// Recorder receives every finished request, one at a time. Flush is called
// about twice a second. *measure.LineWriter is one.
type Recorder interface {
	Record(*measure.Record) error
	Flush() error
}

// Progress is the state of a level, delivered a few times a second. Rates and
// times are scaled to the server's time.
type Progress struct {
	Level           string
	Phase           measure.Phase
	Elapsed         time.Duration // since the level began, wall time
	Done, Total     int           // requests of the phase
	InFlight        int
	Failed          int
	RequestsPerS    float64
	TokensPerSecond float64 // over the last seconds
	TTFTP50         time.Duration
	TPOTP50         time.Duration
	// Left is the estimated wall time to the end of the level; 0 is unknown.
	Left time.Duration
}

// Outcome is what a level gave besides its records.
type Outcome struct {
	Level   string
	Clock   measure.Clock
	Warmup  measure.Warmup
	Client  measure.ClientStats
	Request measure.RequestParams
	// EndReason is "" for a level that ran to its end; else why it did not.
	EndReason string
	// ServerDead: the server ended or hung.
	ServerDead bool
	// Cancelled: ctx ended (walltime, a signal).
	Cancelled          bool
	Sent, Done, Failed int

	// Counters around the level, and at the hand-over; nil without /metrics.
	Before, HandOver, After *measure.Counters
	Series                  measure.SeriesFacts
	SpecDecode              *measure.SpecDecodeInfo
	// Gauge is the client's requests in flight over time, for Little's law.
	Gauge   []GaugePoint
	Samples []measure.ServerSample // reduced: the main phase, at most 4096 points
}

// GaugePoint is one sample of the client's own count of main requests in flight.
type GaugePoint struct {
	At       time.Duration
	InFlight int
	// Integral of InFlight over time since the run began, in request-seconds.
	Integral float64
}

// FinishInput is what Finish cannot know from the level alone.
type FinishInput struct {
	GPU              *measure.GPUFacts
	ConfigMismatches []string
	Quality          measure.Quality
	OutputCapped     int
	// Each, where given, sees every record once.
	Each func(*measure.Record)
}
