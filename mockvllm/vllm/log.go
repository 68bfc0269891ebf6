package vllm

import "time"

// Phase is a stage of a start, in order.
type Phase int

const (
	PhaseBoot    Phase = iota // interpreter, arguments, configuration
	PhaseInit                 // workers, collectives
	PhaseLoad                 // weights
	PhaseCompile              // torch.compile
	PhaseProfile              // memory profiling, KV cache
	PhaseCapture              // CUDA graphs
	PhaseReady                // engine ready, HTTP server starting
	PhaseServing              // healthy
	PhaseStopping
)

// String gives the phase's stable name, as in result files.
func (p Phase) String() string {
	names := [...]string{"boot", "init", "load", "compile", "profile", "capture", "ready", "serving", "stopping"}
	if p < 0 || int(p) >= len(names) {
		return "unknown"
	}
	return names[p]
}

// Stream a line goes to.
type Stream int

const (
	Stdout Stream = iota
	Stderr
)

// Process names who writes a line.
type Process struct {
	Role ProcessRole
	Rank int // of a worker
	PID  int
}

// ProcessRole of a process of the server.
type ProcessRole int

const (
	APIServer ProcessRole = iota
	EngineCore
	Worker
	Bare // uvicorn's own lines: no prefix, no vLLM header
)

// LogLine is one record of the log. Render gives the bytes.
type LogLine struct {
	Phase  Phase
	Stream Stream
	Proc   Process
	// Level is "INFO", "WARNING", "ERROR", "DEBUG", or "" for raw text.
	Level string
	// Source is "file.py:line".
	Source string
	// Text may hold "\n": each part is prefixed when rendered.
	Text string
}

// StartupFacts are the numbers a start prints.
type StartupFacts struct {
	PID            int // of the API server; others follow
	Host           string
	Port           int
	ModelMemoryGiB float64
	Shards         int // safetensors files; 0: 92

	WeightsTime, LoadTime              time.Duration
	CompileTime, DynamoTime, GraphTime time.Duration
	CompileCached                      bool
	ProfileTime                        time.Duration
	CaptureTime                        time.Duration
	CaptureGiB                         float64
	EngineInitTime                     time.Duration // profile, KV cache, compile, capture
	KVMemoryGiB                        float64
	KVBlocks                           int
	KVTokens                           int64
	MaxConcurrency                     float64
	MoEConfigDefault                   bool
	// DeviceName as in the MoE file name, "NVIDIA_H200" by default.
	DeviceName string
}

// StartupLines gives the log of a successful start of version v, in order.
//
// Source: docs/vllm.md section 2.
func StartupLines(v Version, c EngineConfig, f StartupFacts) []LogLine { return nil }

// Render writes the line as version v does at that instant, with a final
// newline: process prefix, level, date, source; multi-line texts repeat the
// prefix after "\r\n". Colour is never written (not a terminal).
func (l LogLine) Render(v Version, c EngineConfig, at time.Time) string { return "" }

// PeriodicStats are the figures of the line that is logged every 10 s.
type PeriodicStats struct {
	PromptTokensPerSecond, GenerationTokensPerSecond float64
	Running, Waiting, Deferred                       int
	// KVUsage and PrefixHitRate are shares, 0 to 1.
	KVUsage, PrefixHitRate float64
}

// StatsIntervalDefault is the time between periodic lines
// (VLLM_LOG_STATS_INTERVAL).
const StatsIntervalDefault = 10 * time.Second

// PeriodicLine is the periodic statistics line of version v.
func PeriodicLine(v Version, s PeriodicStats) LogLine { return LogLine{} }

// SpecDecodeStats are counts since the last such line.
type SpecDecodeStats struct {
	Interval                               time.Duration
	NumDrafts, DraftTokens, AcceptedTokens int64
	AcceptedPerPos                         []int64
	NumSpecTokens                          int
}

// SpecDecodeLine is the line that follows the periodic one; ok is false when
// nothing was drafted.
func SpecDecodeLine(v Version, s SpecDecodeStats) (line LogLine, ok bool) { return LogLine{}, false }

// FailureFacts shape the lines of a failed start or a dead engine.
type FailureFacts struct {
	PID   int
	Phase Phase
	Rank  int
	// Text overrides the message of the first error.
	Text string
	// Kind is the Python exception of the first error.
	Kind string
}

// FailureLines gives what version v writes when it fails by that class: the
// root cause in the process where it happens, its echoes after it.
func FailureLines(v Version, c EngineConfig, class Class, f FailureFacts) []LogLine { return nil }

// RefusalLines gives what version v writes when the engine refuses.
func RefusalLines(v Version, c EngineConfig, e *RefusalError, pid int) []LogLine { return nil }

// EngineDeathLines gives what version v writes when the engine dies serving.
func EngineDeathLines(v Version, c EngineConfig, f FailureFacts) []LogLine { return nil }
