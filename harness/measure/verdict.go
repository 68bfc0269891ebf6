package measure

// Reason is a code that makes a result not valid (docs/metrics.md, verdict).
type Reason string

// The reasons.
const (
	ReasonFailedRequests          Reason = "failed_requests"
	ReasonOutputLengthMismatch    Reason = "output_length_mismatch"
	ReasonEffectiveConfigMismatch Reason = "effective_config_mismatch"
	ReasonPrefixHitsUnexpected    Reason = "prefix_hits_unexpected"
	ReasonServerCountersDisagree  Reason = "server_counters_disagree"
	ReasonClientSaturated         Reason = "client_saturated"
	ReasonWarmupNotSteady         Reason = "warmup_not_steady"
	ReasonLittlesLaw              Reason = "littles_law"
	ReasonClockStepped            Reason = "clock_stepped"
	ReasonGPUThrottled            Reason = "gpu_throttled"
	ReasonGPUForeignProcess       Reason = "gpu_foreign_process"
	ReasonGPUError                Reason = "gpu_error"
	ReasonQualityDegraded         Reason = "quality_degraded"
	ReasonInterrupted             Reason = "interrupted"
	ReasonIncomplete              Reason = "incomplete"
)

// Label is a remark that does not make a result invalid.
type Label string

// The labels. ReasonClientSaturated and ReasonWarmupNotSteady appear among the
// labels, too, where the contract makes them labels only.
const (
	LabelKVAdmissionBound Label = "kv_admission_bound"
	LabelPreemptions      Label = "preemptions"
	LabelQueueBound       Label = "queue_bound"
	LabelFewSamples       Label = "few_samples"
	LabelFewCompletions   Label = "few_completions"
	LabelNoSteadyWindow   Label = "no_steady_window"
	LabelPowerCapped      Label = "power_capped"
	LabelOutputCapped     Label = "output_capped"
	LabelResumed          Label = "resumed"
	LabelMock             Label = "mock"
	LabelSpedUp           Label = "sped_up"
	LabelMockLate         Label = "mock_late"
)

// NotChecked is the detail text of a check that had nothing to work on.
const NotChecked = "not_checked"

// Validity says whether a result may be used, and if not why.
type Validity struct {
	OK      bool     `json:"ok"`
	Reasons []Reason `json:"reasons"`
	Labels  []Label  `json:"labels"`
	// Details hold a sentence for every reason and label, and "not_checked: ..."
	// for checks that could not be made.
	Details map[string]string `json:"details,omitempty"`
}

// IncompleteValidity is what start.json and run.json say from the beginning.
func IncompleteValidity() Validity {
	return Validity{Reasons: []Reason{ReasonIncomplete}, Labels: []Label{}}
}

// GPUFacts are what the verdict needs of the GPU series of a level.
type GPUFacts struct {
	Samples int
	// ThrottledShare and PowerCappedShare are shares of samples, 0 to 1.
	ThrottledShare, PowerCappedShare float64
	// ForeignProcesses and Errors are sentences, one each.
	ForeignProcesses, Errors []string
}

// PrefixFacts are the prefix-cache counters of the main phase.
type PrefixFacts struct {
	// Hits and Queries are tokens; PromptTokens those of the main phase.
	Hits, Queries, PromptTokens float64
	// ExpectedShare is what the data set allows, 0 to 1.
	ExpectedShare float64
	// Known: the server served the counters, and the expectation is known.
	Known bool
}

// LittleFacts feed the check of L = lambda W in the steady window.
type LittleFacts struct {
	Known bool
	// MeanInFlight is the client's gauge, integrated over the window;
	// Predicted is rate x mean E2E, both ends of the window accounted for.
	MeanInFlight, Predicted float64
	Completions             int
	// Server comparison: means over the samples in the window.
	ServerSamples                 int
	ClientSampled, ServerInFlight float64
}

// VerdictInput is everything that a verdict rests on. Zero values mean that a
// check could not be made, not that it passed.
type VerdictInput struct {
	Metrics       *Metrics
	Client        ClientStats
	Warmup        Warmup
	Concurrency   int
	OpenLoop      bool
	MockSpeed     float64 // 0: no mock; >= 1: a mock
	Mock          bool
	MockLateShare *float64

	// Before and After are the server's counters around all requests since it
	// was last idle; HandOver those at the beginning of the main phase.
	Before, HandOver, After *Counters
	Series                  SeriesFacts
	Prefix                  PrefixFacts
	Little                  LittleFacts
	GPU                     *GPUFacts

	// ConfigMismatches are sentences, one a setting.
	ConfigMismatches []string
	// MaxClockStepMS is the largest jump of the wall clock against the
	// monotonic one.
	MaxClockStepMS float64
	// Interrupted is why the level ended early; empty if it did not.
	Interrupted  string
	OutputCapped int // samples whose target does not fit max_model_len
	Quality      Quality
}

// Quality is what the check of the server's answers found; both empty: they are
// right.
type Quality struct {
	// Degraded says in what they are wrong, NotChecked why nobody looked.
	Degraded, NotChecked string
}

// SeriesFacts condense the server series of the main phase.
type SeriesFacts struct {
	Samples        int
	KVUsageMax     float64
	WaitingMax     float64
	RunningMax     float64
	KVBoundSamples int // waiting > 0 while the KV cache was full
	Preemptions    float64
}
