package vllm

import (
	"fmt"
	"strings"
	"time"
)

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
	DP   int // replica of an engine core or worker
	PID  int
}

// ProcessRole of a process of the server.
type ProcessRole int

const (
	APIServer ProcessRole = iota
	EngineCore
	Worker
	// Bare lines have neither prefix nor header: the HTTP server's own lines
	// and progress bars.
	Bare
)

// LogLine is one record of the log. Render gives the bytes.
type LogLine struct {
	Phase Phase
	// At is the share of the phase's time that has passed, 0 to 1.
	At     float64
	Stream Stream
	Proc   Process
	// Level is "INFO", "WARNING", "ERROR", "DEBUG", or "" for text without a
	// header (tracebacks, progress bars, uvicorn).
	Level string
	// Source is "file.py:line". Line numbers are of one release and cosmetic.
	Source string
	// Text may hold "\n": each part is prefixed when rendered.
	Text string
}

// Prefix is the process prefix that version v writes, with its blank; "" where
// it writes none.
//
// Source: docs/vllm.md section 2.
func (p Process) Prefix(v Version, c EngineConfig) string {
	role := p.Role
	if role == Worker && c.TensorParallelSize*c.PipelineParallelSize <= 1 {
		role = EngineCore // one GPU: the engine core is its own worker
	}
	name := ""
	switch role {
	case APIServer:
		if v.AtLeast("0.10.1") {
			name = "APIServer"
		}
	case EngineCore:
		switch {
		case v.AtLeast("0.18.0") && c.DataParallelSize <= 1:
			name = "EngineCore"
		case v.AtLeast("0.10.2"):
			name = fmt.Sprintf("EngineCore_DP%d", p.DP)
		case v.AtLeast("0.10.1"):
			name = fmt.Sprintf("EngineCore_%d", p.DP)
		}
	case Worker:
		switch {
		case v.AtLeast("0.10.2"):
			name = "Worker_"
			if c.DataParallelSize > 1 {
				name += fmt.Sprintf("DP%d_", p.DP)
			}
			name += fmt.Sprintf("TP%d", p.Rank)
			if c.EnableExpertParallel {
				name += fmt.Sprintf("_EP%d", p.DP*c.workers()+p.Rank)
			}
		case v.AtLeast("0.10.1"):
			name = fmt.Sprintf("VllmWorker TP%d", p.Rank)
		default:
			name = fmt.Sprintf("VllmWorker rank=%d", p.Rank)
		}
	}
	if name == "" {
		return ""
	}
	return fmt.Sprintf("(%s pid=%d) ", name, p.PID)
}

// Render writes the line as version v does at that instant, with a final
// newline: process prefix, level, date, source. A text of several lines repeats
// level, date and source after "\r\n" and the process prefix after the newline.
// Colour is never written (the log is not a terminal).
//
// Source: docs/vllm.md section 2.
func (l LogLine) Render(v Version, c EngineConfig, at time.Time) string {
	prefix := l.Proc.Prefix(v, c)
	if l.Level == "" {
		var b strings.Builder
		for _, part := range strings.Split(l.Text, "\n") {
			b.WriteString(prefix + part + "\n")
		}
		return b.String()
	}
	open, end := "[", "] "
	if !v.AtLeast("0.8.0") {
		open = ""
	}
	header := l.Level + " " + at.Format("01-02 15:04:05") + " " + open + l.Source + end
	return prefix + header + strings.ReplaceAll(l.Text, "\n", "\r\n"+prefix+header) + "\n"
}

// StatsIntervalDefault is the time between periodic lines
// (VLLM_LOG_STATS_INTERVAL).
const StatsIntervalDefault = 10 * time.Second

// PeriodicStats are the figures of the line that is logged every 10 s.
type PeriodicStats struct {
	// Engine is the replica.
	Engine                                           int
	PromptTokensPerSecond, GenerationTokensPerSecond float64
	Running, Waiting, Deferred                       int
	// KVUsage and PrefixHitRate are shares, 0 to 1.
	KVUsage, PrefixHitRate float64
}

// PeriodicLine is the periodic statistics line of version v, written by the API
// server. vLLM logs it at INFO while there was traffic in this or the previous
// interval, else at DEBUG; the caller decides.
//
// Source: docs/vllm.md section 2.
func PeriodicLine(v Version, s PeriodicStats) LogLine {
	deferred := ""
	if s.Deferred > 0 && v.AtLeast("0.27.0") {
		deferred = fmt.Sprintf(", Deferred: %d reqs", s.Deferred)
	}
	return LogLine{
		Phase: PhaseServing, Level: "INFO", Source: "loggers.py:208", Proc: Process{Role: APIServer},
		Text: fmt.Sprintf("Engine %03d: Avg prompt throughput: %.1f tokens/s, Avg generation throughput: %.1f tokens/s, Running: %d reqs, Waiting: %d reqs%s, GPU KV cache usage: %.1f%%, Prefix cache hit rate: %.1f%%",
			s.Engine, s.PromptTokensPerSecond, s.GenerationTokensPerSecond, s.Running, s.Waiting, deferred, 100*s.KVUsage, 100*s.PrefixHitRate),
	}
}

// SpecDecodeStats are counts since the last such line.
type SpecDecodeStats struct {
	Interval                               time.Duration
	NumDrafts, DraftTokens, AcceptedTokens int64
	// AcceptedPerPos has one count a draft position.
	AcceptedPerPos []int64
}

// SpecDecodeLine is the line that follows the periodic one; ok is false when
// nothing was drafted.
//
// Source: docs/vllm.md section 2.
func SpecDecodeLine(v Version, s SpecDecodeStats) (line LogLine, ok bool) {
	if s.NumDrafts <= 0 || s.DraftTokens <= 0 {
		return LogLine{}, false
	}
	length := 1 + float64(s.AcceptedTokens)/float64(s.NumDrafts)
	rate := 100 * float64(s.AcceptedTokens) / float64(s.DraftTokens)
	positions := make([]string, len(s.AcceptedPerPos))
	for i, n := range s.AcceptedPerPos {
		positions[i] = fmt.Sprintf("%.3f", float64(n)/float64(s.NumDrafts))
	}
	perPos := strings.Join(positions, ", ")
	line = LogLine{Phase: PhaseServing, Level: "INFO", Source: "metrics.py:100", Proc: Process{Role: APIServer}}
	switch {
	case v.AtLeast("0.10.2"):
		perSecond := func(n int64) float64 {
			if s.Interval <= 0 {
				return 0
			}
			return float64(n) / s.Interval.Seconds()
		}
		line.Text = fmt.Sprintf("SpecDecoding metrics: Mean acceptance length: %.2f, Accepted throughput: %.2f tokens/s, Drafted throughput: %.2f tokens/s, Accepted: %d tokens, Drafted: %d tokens, Per-position acceptance rate: %s, Avg Draft acceptance rate: %.1f%%",
			length, perSecond(s.AcceptedTokens), perSecond(s.DraftTokens), s.AcceptedTokens, s.DraftTokens, perPos, rate)
	case v.AtLeast("0.8.5"):
		line.Text = fmt.Sprintf("SpecDecoding metrics: Draft acceptance rate: %.1f%%, Mean acceptance length: %.2f, Accepted: %d tokens, Drafted: %d tokens, Per-position acceptance rate: %s",
			rate, length, s.AcceptedTokens, s.DraftTokens, perPos)
	default:
		line.Text = fmt.Sprintf("SpecDecoding metrics: Draft acceptance rate: %.1f%%, Accepted: %d tokens, Drafted: %d tokens",
			rate, s.AcceptedTokens, s.DraftTokens)
	}
	return line, true
}

// AccessLine is the HTTP server's line of one request.
func AccessLine(remote, method, target string, status int, reason string) LogLine {
	return LogLine{Phase: PhaseServing, Proc: Process{Role: APIServer}, Text: fmt.Sprintf("INFO:     %s - \"%s %s HTTP/1.1\" %d %s", remote, method, target, status, reason)}
}
