package measure

import (
	"math"
	"time"
)

// Counters are what a server's /metrics said at one moment, summed over
// engines. Missing families are listed, not zero by accident: see Has.
type Counters struct {
	At time.Duration `json:"at_ns"`
	// Gauges.
	Running     float64  `json:"running"`
	Waiting     float64  `json:"waiting"`
	WaitingFull *float64 `json:"waiting_capacity,omitempty"`
	KVUsage     float64  `json:"kv_usage"` // 0 to 1
	// Counters since the server began.
	PromptTokens     float64            `json:"prompt_tokens"`
	GenerationTokens float64            `json:"generation_tokens"`
	Success          map[string]float64 `json:"success,omitempty"` // by finished_reason
	Preemptions      float64            `json:"preemptions"`
	PrefixQueries    float64            `json:"prefix_queries"` // tokens
	PrefixHits       float64            `json:"prefix_hits"`    // tokens
	SpecDrafts       float64            `json:"spec_drafts,omitempty"`
	SpecDraftTokens  float64            `json:"spec_draft_tokens,omitempty"`
	SpecAccepted     float64            `json:"spec_accepted_tokens,omitempty"`
	SpecPerPosition  []float64          `json:"spec_accepted_per_pos,omitempty"`
	// MockLate is the mock's own histogram of how late its tokens were written,
	// in wall time; nil on another server.
	MockLate *Buckets `json:"-"`
	// CacheConfig holds the labels of vllm:cache_config_info.
	CacheConfig map[string]string `json:"-"`
	// Has tells which of the fields above the server served.
	Has map[string]bool `json:"-"`
}

// ServerSample is one line of metrics.jsonl.zst: the server's counters beside
// the client's own number of requests in flight.
type ServerSample struct {
	Level    string        `json:"level"`
	Phase    Phase         `json:"phase"`
	At       time.Duration `json:"at_ns"`
	InFlight int           `json:"client_in_flight"`
	Counters
}

// Buckets are a Prometheus histogram: Counts[i] values were at most Bounds[i];
// the last bound is +Inf.
type Buckets struct {
	Bounds []float64
	Counts []float64
}

// MedianSince is the median of the values counted since before (nil: ever), by
// linear interpolation inside its bucket. ok is false where there are none.
func (b *Buckets) MedianSince(before *Buckets) (median float64, ok bool) {
	if b == nil || len(b.Counts) == 0 {
		return 0, false
	}
	count := func(i int) float64 {
		n := b.Counts[i]
		if before != nil && len(before.Counts) == len(b.Counts) {
			n -= before.Counts[i]
		}
		return n
	}
	half := count(len(b.Counts)-1) / 2
	if half <= 0 {
		return 0, false
	}
	low, below := 0.0, 0.0
	for i, high := range b.Bounds {
		n := count(i)
		if n >= half {
			if math.IsInf(high, 1) {
				return low, true
			}
			return low + (high-low)*(half-below)/(n-below), true
		}
		low, below = high, n
	}
	return low, true
}
