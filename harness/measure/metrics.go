package measure

import "time"

// Distribution describes one quantity over the requests (or gaps) of a level.
// The unit is that of its key: milliseconds for latencies, tokens/s for TPS.
// An empty one (N == 0) is all zeros, as vLLM writes it.
type Distribution struct {
	N      int
	Mean   float64
	Median float64
	// Std is the population standard deviation, as vLLM's std_ keys;
	// SampleStd divides by N-1.
	Std, SampleStd float64
	Min, Max       float64
	// Percentiles by linear interpolation (numpy's default).
	P50, P90, P95, P99, P999 float64
	// MeanLow and MeanHigh bound the mean at 95 % confidence, by Method;
	// equal to Mean where Method is "none".
	MeanLow, MeanHigh float64
	// MedianLow and MedianHigh are order-statistic bounds of the median at 95 %.
	MedianLow, MedianHigh float64
	Method                string
}

// Window is the steady window: the longest span in which requests in flight
// stay at 95 % of their peak or above.
type Window struct {
	Method string `json:"method"` // "in_flight_95"
	// StartS and EndS count from the first send, scaled like the metrics.
	StartS float64 `json:"start_s"`
	EndS   float64 `json:"end_s"`
	// Share of the level's duration, 0 to 1.
	Share        float64 `json:"share"`
	PeakInFlight int     `json:"peak_in_flight"`
	MeanInFlight float64 `json:"mean_in_flight"`
	// Completions are requests that ended well inside the window.
	Completions int `json:"completions"`
	// Start and End on the clock of the records, in wall time.
	Start                  time.Duration `json:"-"`
	End                    time.Duration `json:"-"`
	Segment                int           `json:"-"`
	Tokens                 float64       `json:"tokens"`
	SteadyOutputThroughput float64       `json:"steady_output_throughput"`
	SteadyRequestsPerS     float64       `json:"steady_request_throughput"`
	SteadyTotalThroughput  float64       `json:"steady_total_token_throughput"`
}

// SLO is what a request must meet to count as good. Zero means not asked.
type SLO struct {
	TTFT, TPOT, E2E time.Duration
}

// SummaryOptions say how records become metrics.
type SummaryOptions struct {
	// MockSpeed multiplies every duration; 0 and 1 mean real time.
	MockSpeed float64
	// OpenLoop: latency from the schedule is meaningful, and requests in flight
	// count from Sent, not from Intended.
	OpenLoop bool
	SLO      SLO
	// Each, where given, sees every record once, in order.
	Each func(*Record)
}

// Metrics are the figures of a level's main phase. Latencies are means over
// successes only; every formula is in docs/metrics.md.
type Metrics struct {
	TTFT, TPOT, ITL, E2EL                     Distribution // ms
	TTFTFromSchedule, TTFC, ITLToken          Distribution // ms
	ClientQueueTime, E2ELIncludingClientQueue Distribution // ms
	TPS                                       Distribution // tokens/s
	LatencySeconds                            float64      // mean E2E
	Requests, Completed, Failed, Cancelled    int
	PromptTokens, CompletionTokens            int64 // successes
	DurationSeconds                           float64
	RequestThroughput, OutputThroughput       float64
	TotalTokenThroughput                      float64
	SteadyOutputThroughput                    float64
	RequestGoodput                            *float64
	MaxOutputTokensPerSecond                  float64
	MaxConcurrentRequests                     int
	TokensPerEvent                            float64
	TokenEvents                               int64
	EventsPerSecond                           float64 // all events of the main phase, wall time
	MeanEventBytes                            float64
	Window                                    Window
	FailuresByClass                           map[Class]int
	FailureExamples                           map[Class]string
	FinishReasons                             map[string]int
	// LengthForced counts requests whose length was forced; LengthMismatches
	// those of them that finished with another reason than "length" or with
	// another number of tokens.
	LengthForced, LengthMismatches int
	CachedTokens                   *int64
	// WarmupRequests and the totals over both phases are for the comparison
	// with the server's counters. All covers the last segment: the requests that
	// the server knows of which answered last.
	WarmupRequests int
	All            TokenTotals
	// CountedPromptTokens are those of the main phase's successes in the last
	// segment, which the server's counters since the hand-over cover.
	CountedPromptTokens int64
	// TokenSource is the weakest of the successes.
	TokenSource TokenSource
	// SendLagP50MS and SendLagP99MS are in wall time.
	SendLagP50MS, SendLagP99MS, SendLagMaxMS float64
	Segments                                 int
	// TooFew names the percentile keys with too few samples to be shown.
	TooFew []string
	Arrays Arrays
}

// TokenTotals sums what the client saw over warm-up and main phase.
type TokenTotals struct {
	Requests int `json:"requests"`
	// OK requests finished; the rest failed or was cancelled.
	OK               int   `json:"ok"`
	PromptTokens     int64 `json:"prompt_tokens"`
	CompletionTokens int64 `json:"completion_tokens"`
}

// Arrays are vLLM's per-request arrays, in order of sending, failures included.
// ITLs is empty for a level with more than 100,000 gaps.
type Arrays struct {
	InputLens  []int
	OutputLens []int
	TTFTs      []float64 // s
	ITLs       [][]float64
	Latencies  []float64 // s
	StartTimes []float64 // s since the first send
	QueueTimes []float64 // s
	Errors     []string
}
