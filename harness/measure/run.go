package measure

// SchemaVersion of run.json. It grows when a key changes its meaning.
const SchemaVersion = 1

// RunJSON is run.json: vLLM's flat keys with vLLM's units, and one object of
// ours each. Absent means not applicable. The flat keys of the metrics are
// written from Metrics by MarshalJSON and read back by UnmarshalJSON.
type RunJSON struct {
	Identity
	Traffic
	Metrics Metrics `json:"-"`

	SchemaVersion int             `json:"glm46_schema_version"`
	Experiment    *ExperimentInfo `json:"experiment,omitempty"`
	Level         LevelInfo       `json:"level"`
	Validity      Validity        `json:"validity"`
	Clock         Clock           `json:"clock"`
	MockSpeed     float64         `json:"mock_speed,omitempty"`
	MockSeed      *uint64         `json:"mock_seed,omitempty"`
	Window        *Window         `json:"window,omitempty"`
	Warmup        *Warmup         `json:"warmup,omitempty"`
	Client        *ClientStats    `json:"client,omitempty"`
	Tokens        *TokensInfo     `json:"tokens,omitempty"`
	Failures      *Failures       `json:"failures,omitempty"`
	FinishReasons map[string]int  `json:"finish_reasons,omitempty"`
	FirstContent  *FirstContent   `json:"first_content,omitempty"`
	Request       *RequestParams  `json:"request,omitempty"`
	Server        *ServerInfo     `json:"server,omitempty"`
	KV            *KVInfo         `json:"kv,omitempty"`
	SpecDecode    *SpecDecodeInfo `json:"spec_decode,omitempty"`
	GPU           []GPUInfo       `json:"gpu,omitempty"`
	Energy        *EnergyInfo     `json:"energy,omitempty"`
	Scheduler     *SchedulerInfo  `json:"scheduler,omitempty"`
	Dataset       *DatasetInfo    `json:"dataset,omitempty"`
	Stats         *StatsInfo      `json:"stats,omitempty"`
}

// Identity are vLLM's identity keys.
type Identity struct {
	Date         string `json:"date"` // 20060102-150405
	EndpointType string `json:"endpoint_type"`
	Backend      string `json:"backend"`
	Label        string `json:"label"`
	ModelID      string `json:"model_id"`
	TokenizerID  string `json:"tokenizer_id"`
	NumPrompts   int    `json:"num_prompts"`
}

// Traffic are vLLM's traffic keys. RequestRate is a number or "inf".
type Traffic struct {
	RequestRate    any      `json:"request_rate"`
	Burstiness     float64  `json:"burstiness"`
	MaxConcurrency *int     `json:"max_concurrency"`
	RampUpStrategy *string  `json:"ramp_up_strategy"`
	RampUpStartRPS *float64 `json:"ramp_up_start_rps"`
	RampUpEndRPS   *float64 `json:"ramp_up_end_rps"`
}

// ExperimentInfo says which cell of which plan was measured.
type ExperimentInfo struct {
	Name       string            `json:"name"` // EXP_NAME
	Cell       string            `json:"cell"`
	Experiment string            `json:"experiment"`
	Group      int               `json:"group,omitempty"`
	Config     string            `json:"config,omitempty"`
	Base       string            `json:"base,omitempty"`
	Modified   bool              `json:"modified,omitempty"`
	ConfigHash string            `json:"config_hash,omitempty"`
	ResumeKey  string            `json:"resume_key,omitempty"`
	StartID    string            `json:"start_id,omitempty"`
	Settings   map[string]string `json:"settings,omitempty"`
}

// LevelInfo is the load of the level.
type LevelInfo struct {
	Name         string  `json:"name"`    // "c16", "r2.5"
	Arrival      string  `json:"arrival"` // closed, poisson, constant, gamma
	Concurrency  int     `json:"concurrency,omitempty"`
	RequestRate  float64 `json:"request_rate,omitempty"`
	Burstiness   float64 `json:"burstiness,omitempty"`
	Requests     int     `json:"requests"`
	OutputTokens int     `json:"output_tokens,omitempty"` // 0: each sample's own target
	Auto         bool    `json:"auto,omitempty"`
	Seed         uint64  `json:"seed"`
	NaturalStop  bool    `json:"natural_stop,omitempty"`
}

// Clock holds the instant the run began on the wall clock; all else is
// monotonic since then.
type Clock struct {
	StartUnixNS int64 `json:"start_unix_ns"`
	EndUnixNS   int64 `json:"end_unix_ns,omitempty"`
	// HandOverNS is where the main phase began, since the start of the run.
	HandOverNS int64 `json:"hand_over_ns,omitempty"`
	// MaxStepMS is the largest jump of the wall clock against the monotonic one.
	MaxStepMS float64 `json:"max_step_ms"`
	// Segments are the starts of earlier segments of a resumed level.
	Segments []int64 `json:"segments_start_unix_ns,omitempty"`
}

// TokensInfo is the token truth: client against usage against server.
type TokensInfo struct {
	Source         string             `json:"source"`
	Client         TokenTotals        `json:"client"`
	ServerCounter  map[string]float64 `json:"server_counter,omitempty"`
	Checked        string             `json:"checked"` // "equal", "within_0.1%", "disagree", "not_checked"
	Mismatches     int                `json:"mismatches"`
	TokensPerEvent float64            `json:"tokens_per_event"`
	CachedTokens   *int64             `json:"cached_tokens,omitempty"`
}

// Failures are counted by class, with one text each.
type Failures struct {
	ByClass  map[Class]int    `json:"by_class"`
	Examples map[Class]string `json:"examples,omitempty"`
}

// FirstContent is the time to the first text that is not reasoning.
type FirstContent struct {
	Mean float64 `json:"mean_ms"`
	P50  float64 `json:"p50_ms"`
	P99  float64 `json:"p99_ms"`
}

// RequestParams are the parameters sent with every request, with their hash.
type RequestParams struct {
	Params map[string]any `json:"params"`
	SHA256 string         `json:"sha256"`
	// Salting is "cache_salt" or "prompt_prefix".
	Salting string `json:"salting"`
}

// ServerInfo is what start.json holds, in short.
type ServerInfo struct {
	Version         string             `json:"version,omitempty"`
	Args            []string           `json:"args,omitempty"`
	Env             map[string]string  `json:"env,omitempty"`
	EffectiveConfig map[string]string  `json:"effective_config,omitempty"`
	EffectiveDiff   []string           `json:"effective_diff,omitempty"`
	StartupPhasesS  map[string]float64 `json:"startup_phases_s,omitempty"`
	KVTokens        int64              `json:"kv_tokens,omitempty"`
	ModelMemoryGiB  float64            `json:"model_memory_gib,omitempty"`
	LogSHA256       string             `json:"log_sha256,omitempty"`
	URL             string             `json:"url,omitempty"`
}

// KVInfo are the KV cache's figures of the main phase.
type KVInfo struct {
	UsageMax            float64  `json:"usage_max"`
	WaitingMax          float64  `json:"waiting_max"`
	RunningMax          float64  `json:"running_max"`
	Preemptions         float64  `json:"preemptions"`
	PrefixQueries       float64  `json:"prefix_queries"`
	PrefixHits          float64  `json:"prefix_hits"`
	ExpectedPrefixShare *float64 `json:"expected_prefix_share,omitempty"`
}

// SpecDecodeInfo is speculation during the level; the flat spec_decode_ keys
// of vLLM are written from it.
type SpecDecodeInfo struct {
	AcceptanceRate    float64   `json:"acceptance_rate"`   // 0 to 1
	AcceptanceLength  float64   `json:"acceptance_length"` // tokens a step
	Drafts            float64   `json:"num_drafts"`
	DraftTokens       float64   `json:"draft_tokens"`
	AcceptedTokens    float64   `json:"accepted_tokens"`
	PerPositionShares []float64 `json:"per_position_acceptance_rates"`
}

// GPUInfo is one GPU over the level.
type GPUInfo struct {
	UUID            string             `json:"uuid"`
	Name            string             `json:"name,omitempty"`
	Driver          string             `json:"driver,omitempty"`
	SMClockMeanMHz  float64            `json:"sm_clock_mean_mhz,omitempty"`
	SMClockMinMHz   float64            `json:"sm_clock_min_mhz,omitempty"`
	MemClockMeanMHz float64            `json:"mem_clock_mean_mhz,omitempty"`
	PowerMeanWatts  float64            `json:"power_mean_watts,omitempty"`
	PowerMaxWatts   float64            `json:"power_max_watts,omitempty"`
	EnergyJoules    float64            `json:"energy_joules,omitempty"`
	TemperatureMaxC float64            `json:"temperature_max_c,omitempty"`
	UtilisationMean float64            `json:"utilisation_mean,omitempty"` // 0 to 1
	MemoryMaxGiB    float64            `json:"memory_max_gib,omitempty"`
	ThrottleShares  map[string]float64 `json:"throttle_reasons,omitempty"` // by mask name, 0 to 1
	XID             []string           `json:"xid,omitempty"`
	ECCUncorrected  int64              `json:"ecc_uncorrected,omitempty"`
	Samples         int                `json:"samples,omitempty"`
}

// EnergyInfo is energy of all GPUs over the main phase.
type EnergyInfo struct {
	TotalGPUEnergyJ      float64 `json:"total_gpu_energy_j"`
	AvgTotalGPUPowerW    float64 `json:"avg_total_gpu_power_w"`
	JoulesPerOutputToken float64 `json:"joules_per_output_token"`
}

// SchedulerInfo is the job that the run was part of.
type SchedulerInfo struct {
	Kind          string   `json:"kind"` // "pbs"
	JobID         string   `json:"job_id,omitempty"`
	Queue         string   `json:"queue,omitempty"`
	Node          string   `json:"node,omitempty"`
	WalltimeLeftS *float64 `json:"walltime_left_s,omitempty"`
}

// DatasetInfo names the data.
type DatasetInfo struct {
	Name    string `json:"name"`
	SHA256  string `json:"sha256"`
	Samples int    `json:"samples"`
	// PromptCounts: see there; absent if no level ran.
	PromptCounts *PromptCounts `json:"prompt_counts,omitempty"`
}

// StatsInfo are counts, intervals and doubts beside vLLM's flat keys.
type StatsInfo struct {
	NStarts int      `json:"n_starts"`
	NRuns   int      `json:"n_runs"`
	TooFew  []string `json:"too_few"`
	// Metrics by stem: n, min, max, sample std and 95 % intervals.
	Metrics map[string]StatBlock `json:"metrics"`
}

// StatBlock belongs to one metric, in the metric's unit.
type StatBlock struct {
	N          int     `json:"n"`
	Min        float64 `json:"min"`
	Max        float64 `json:"max"`
	SampleStd  float64 `json:"std"`
	MeanLow    float64 `json:"ci_low"`
	MeanHigh   float64 `json:"ci_high"`
	MedianLow  float64 `json:"median_ci_low"`
	MedianHigh float64 `json:"median_ci_high"`
	Method     string  `json:"method"`
}

// IncompleteRun is the run.json that a level's folder holds from the beginning.
func IncompleteRun() *RunJSON {
	return &RunJSON{SchemaVersion: SchemaVersion, Validity: IncompleteValidity()}
}
