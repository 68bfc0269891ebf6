package measure

import "time"

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
	// MockLateShare is the mock's median token lateness as a share of a step.
	MockLateShare *float64 `json:"mock_late_share,omitempty"`
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
