package measure

// ClientStats tell how much of the client stands in the numbers.
// Times are wall time, unscaled.
type ClientStats struct {
	SendLagP50MS float64 `json:"send_lag_p50_ms"`
	SendLagP99MS float64 `json:"send_lag_p99_ms"`
	// Timestamps says whose clock stamped what arrived: TimestampsKernel, when
	// the segment came, or TimestampsClient, when it was read.
	Timestamps string `json:"timestamps,omitempty"`
	// SocketLag is the time from bytes being readable to being read: with the
	// kernel's stamps that of every read, and in no figure; else measured by a
	// loopback probe during the run, and in every figure. Absent where neither
	// could be.
	SocketLagP50MS *float64 `json:"socket_lag_p50_ms,omitempty"`
	SocketLagP99MS *float64 `json:"socket_lag_p99_ms,omitempty"`
	MaxGCPauseMS   float64  `json:"max_gc_pause_ms"`
	// CPUShare of the Cores that the client may use, 0 to 1.
	CPUShare        float64      `json:"cpu_share"`
	Cores           int          `json:"cores"`
	EventsPerSecond float64      `json:"events_per_s"`
	Calibration     *Certificate `json:"calibration,omitempty"`
}

// Values of ClientStats.Timestamps.
const (
	TimestampsKernel = "kernel"
	TimestampsClient = "client"
)

// Certificate is what the client could do at the level's load shape on this
// machine, just before: measured against an in-process server.
type Certificate struct {
	// EventsPerSecond is the ceiling: client and server on the same cores.
	EventsPerSecond float64 `json:"events_per_s"`
	Streams         int     `json:"streams"`
	EventBytes      int     `json:"event_bytes"`
	AddedTTFTP50MS  float64 `json:"added_ttft_p50_ms"`
	AddedTTFTP99MS  float64 `json:"added_ttft_p99_ms"`
	AddedITLP50MS   float64 `json:"added_itl_p50_ms"`
	AddedITLP99MS   float64 `json:"added_itl_p99_ms"`
	DurationS       float64 `json:"duration_s"`
}

// Warmup tells how the warm-up of a level went. Times are wall time.
type Warmup struct {
	Requests  int     `json:"requests"`
	DurationS float64 `json:"duration_s"`
	// Steady: the median step gap of the last two windows differs by at most
	// 5 % at equal batch.
	Steady bool `json:"steady"`
	// TooFew: the limit of warm-up requests came before two comparable windows.
	TooFew bool `json:"too_few,omitempty"`
	// Windows are the median step gaps in ms of the last two windows.
	WindowTPOTMS []float64 `json:"window_tpot_ms,omitempty"`
	Change       float64   `json:"change,omitempty"` // relative
	Reason       string    `json:"reason,omitempty"`
	Skipped      bool      `json:"skipped,omitempty"`
}
