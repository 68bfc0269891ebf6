package vllm

// LogFacts is what a server's log says.
type LogFacts struct {
	// Version as the engine-config line or the banner gives it; zero if neither
	// was seen.
	Version Version
	// EngineConfig holds the key=value pairs of the engine-config line, values
	// as printed ("'fp8'" without quotes).
	EngineConfig map[string]string
	// NonDefaultArgs as printed, a Python dict or Namespace.
	NonDefaultArgs   string
	ModelMemoryGiB   float64
	WeightsSeconds   float64
	ModelLoadSeconds float64
	KVCacheMemoryGiB float64
	// KVTokens is the smallest of the workers' figures.
	KVTokens             int64
	MaxConcurrency       float64
	MaxConcurrencyTokens int
	GraphCaptureSeconds  float64
	GraphCaptureGiB      float64
	CompileSeconds       float64
	EngineInitSeconds    float64
	// AsyncScheduling is nil if the log does not say.
	AsyncScheduling *bool
	// ChunkedPrefillBudget of "Chunked prefill is enabled with
	// max_num_batched_tokens=N"; 0 if not seen.
	ChunkedPrefillBudget int
	MoEConfigDefault     bool
	FP8KVScaleDefault    bool
	ExpertParallel       bool
	// LocalExperts and GlobalExperts of the expert-parallel line.
	LocalExperts, GlobalExperts int
	ListenURL                   string
	Phase                       Phase
	// ShardsDone and Shards of the loading bar.
	ShardsDone, Shards int
	// CaptureDone and CaptureTotal of the last capturing bar.
	CaptureDone, CaptureTotal int
	// Started: the HTTP server said that start-up is complete.
	Started bool
	// Fatal holds the errors in order of appearance, without repeats.
	Fatal []FatalLine
	// RootCause is the first error that explains; zero if none.
	RootCause FatalLine
	// Warnings are distinct WARNING messages, in order, at most 100.
	Warnings []string
	// Lines counts the lines read.
	Lines int
}

// FatalLine is an error line of the log.
type FatalLine struct {
	Class Class
	Text  string
	// Echo: it only repeats that something failed elsewhere.
	Echo bool
	// Proc is the process prefix as printed, "" if none.
	Proc string
	Line int // from 1
}

// LogScanner reads a server's log line by line. The zero value is ready.
type LogScanner struct{ facts LogFacts }

// Line takes one line, with or without its end. Carriage returns, colour codes
// and progress bars are understood. It returns the phase after the line.
func (s *LogScanner) Line(text string) Phase { return s.facts.Phase }

// Facts gives what was read so far; the value shares nothing with the scanner.
func (s *LogScanner) Facts() LogFacts { return s.facts }
