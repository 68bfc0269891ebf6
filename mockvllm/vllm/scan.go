package vllm

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// LogFacts is what a server's log says. Figures that a worker prints eight
// times are kept once: the smallest KV size, the largest time and memory.
type LogFacts struct {
	// Version as the engine-config line or the banner gives it; zero if neither
	// was seen or it is no release. VersionText is as printed.
	Version     Version
	VersionText string
	// EngineConfig holds the key=value pairs of the engine-config line, values
	// as printed, quotes of plain texts removed.
	EngineConfig map[string]string
	// NonDefaultArgs holds the arguments as the server understood them; nil if
	// it did not say.
	NonDefaultArgs   map[string]string
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
	// CompileCached: graphs came from the compile cache.
	CompileCached     bool
	EngineInitSeconds float64
	// NumGPUBlocks of the cache-config line, 0 if not seen.
	NumGPUBlocks int
	// AsyncScheduling is nil if the log does not say.
	AsyncScheduling *bool
	// ChunkedPrefillBudget of "Chunked prefill is enabled with
	// max_num_batched_tokens=N"; 0 if not seen.
	ChunkedPrefillBudget int
	MoEConfigDefault     bool
	FP8KVScaleDefault    bool
	// ExpertParallel: a line or a process name says that it is on.
	ExpertParallel              bool
	LocalExperts, GlobalExperts int
	ListenURL                   string
	Phase                       Phase
	// ShardsDone and Shards of the loading bar.
	ShardsDone, Shards int
	// CaptureDone and CaptureTotal of the capturing bar.
	CaptureDone, CaptureTotal int
	// Started: the HTTP server said that start-up is complete.
	Started bool
	// BroadcastStalls counts warnings that workers answered nothing for 60 s.
	BroadcastStalls int
	// Stats is the last periodic line.
	Stats *PeriodicStats
	// SpecStats is the last line of speculative decoding.
	SpecStats *SpecLogStats
	// Fatal holds the errors in order of appearance, without repeats, at most
	// 50.
	Fatal []FatalLine
	// RootCause is the first error that explains; else the first; zero if none.
	RootCause FatalLine
	// Warnings are distinct WARNING messages, in order, at most 100.
	Warnings []string
	// Lines counts the lines read.
	Lines int
}

// SpecLogStats is what a line of speculative decoding says. Rates are shares.
type SpecLogStats struct {
	MeanAcceptanceLength, AcceptanceRate float64
	AcceptedTokens, DraftTokens          int64
	PerPosition                          []float64
}

// FatalLine is an error of the log.
type FatalLine struct {
	Class Class
	// Text is the exception and its message, or vLLM's own sentence.
	Text string
	// Echo: it only repeats that something failed elsewhere.
	Echo bool
	// Proc is the process as printed ("Worker_TP0"), "" if none.
	Proc string
	Line int // from 1
}

const (
	maxFatal    = 50
	maxWarnings = 100
	// maxErrorText bounds an error's text; a longer one is cut.
	maxErrorText = 4000
)

// LogScanner reads a server's log line by line. The zero value is ready. It
// holds a bounded amount, however long the log.
//
// Source: docs/vllm.md section 2.
type LogScanner struct {
	facts LogFacts
	// tracebacks says per process that an exception's line is to come.
	tracebacks map[string]bool
	// pending is the process whose ValidationError waits for its detail.
	pending      string
	pendingIndex int
	// dying: the engine said that it fails, so errors count while serving too.
	dying     bool
	fatalSeen map[string]bool
}

var (
	ansiPattern   = regexp.MustCompile("\x1b\\[[0-9;]*[A-Za-z]")
	procPattern   = regexp.MustCompile(`^\(([A-Za-z][^()]*?) pid=(\d+)\)\s?`)
	headerPattern = regexp.MustCompile(`^(DEBUG|INFO|WARNING|ERROR|CRITICAL) (\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?) \[?([\w./<>-]+:\d+)\] ?`)
	// excPattern is the last line of a traceback.
	excPattern = regexp.MustCompile(`^([A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit|Warning|Timeout))(?::\s?(.*))?$`)

	configException = regexp.MustCompile(`^(?:[\w.]*\.)?(?:ValueError|AssertionError|NotImplementedError|ValidationError|TypeError): `)

	versionLine   = regexp.MustCompile(`(?:vLLM (?:API )?server version |█.*version +)(v?\d[\w.+-]*)`)
	engineLine    = regexp.MustCompile(`Initializing an? (?:V[01] )?LLM engine \((v?[\w.+-]+)\) with config: (.*)$`)
	argsLine      = regexp.MustCompile(`^(?:non-default args: \{(.*)\}|args: Namespace\((.*)\))\s*$`)
	weightsLine   = regexp.MustCompile(`Loading weights took ([\d.]+) seconds`)
	modelLine     = regexp.MustCompile(`Model loading took ([\d.]+) (?:GiB|GB)(?: memory)? and ([\d.]+) seconds`)
	oldModelLine  = regexp.MustCompile(`Loading model weights took ([\d.]+) (?:GiB|GB)`)
	shardBar      = regexp.MustCompile(`Loading .*checkpoint shards: +\d+% (?:Completed \| )?.*?(\d+)/(\d+) \[`)
	captureBar    = regexp.MustCompile(`Capturing CUDA graph.*?(\d+)/(\d+) \[`)
	kvMemoryLine  = regexp.MustCompile(`Available KV cache memory: (-?[\d.]+) GiB`)
	kvSizeLine    = regexp.MustCompile(`GPU KV cache size: ([\d,]+) tokens`)
	concurrency   = regexp.MustCompile(`Maximum concurrency for ([\d,]+) tokens per request: ([\d.]+)x`)
	captureLine   = regexp.MustCompile(`Graph capturing finished in ([\d.]+) secs?, took (-?[\d.]+) GiB`)
	compileLine   = regexp.MustCompile(`torch\.compile (?:takes|took) ([\d.]+) s in total`)
	initLine      = regexp.MustCompile(`init engine \(profile, create kv cache, warmup model\) took ([\d.]+) s`)
	asyncLine     = regexp.MustCompile(`Asynchronous scheduling is (enabled|disabled)`)
	chunkedLine   = regexp.MustCompile(`Chunked prefill is enabled with max_num_batched_tokens=(\d+)`)
	expertLine    = regexp.MustCompile(`Expert parallelism is enabled.*?Local/global number of experts: (\d+)/(\d+)`)
	listenLine    = regexp.MustCompile(`Starting vLLM (?:API )?server(?: \d+)? on (\S+)`)
	blocksLine    = regexp.MustCompile(`num_gpu_blocks is: (\d+)`)
	periodicLine  = regexp.MustCompile(`Engine \d+: Avg prompt throughput: ([\d.]+) tokens/s, Avg generation throughput: ([\d.]+) tokens/s, Running: (\d+) reqs, Waiting: (\d+) reqs(?:, Deferred: (\d+) reqs)?(?:, Preemptions: \d+)?, GPU KV cache usage: ([\d.]+)%(?:, Prefix cache hit rate: ([\d.]+)%)?`)
	specPart      = regexp.MustCompile(`(Mean acceptance length|Draft acceptance rate|Avg Draft acceptance rate|Accepted|Drafted): ([\d.]+)`)
	specPositions = regexp.MustCompile(`Per-position acceptance rate: ([\d., ]+?)(?:, [A-Z]|$)`)
)

// phaseMarks are words that show that a phase has begun.
var phaseMarks = []struct {
	text  string
	phase Phase
}{
	{"LLM engine (", PhaseInit}, {"Waiting for init message from front-end", PhaseInit}, {"is assigned as DP rank", PhaseInit},
	{"Starting to load model", PhaseLoad}, {"checkpoint shards", PhaseLoad}, {"Loading weights took", PhaseLoad},
	{"for vLLM's torch.compile", PhaseCompile}, {"Dynamo bytecode transform time", PhaseCompile}, {"Compiling a graph for", PhaseCompile}, {"Directly load the compiled graph", PhaseCompile},
	{"s in total", PhaseProfile}, {"Available KV cache memory", PhaseProfile}, {"GPU KV cache size", PhaseProfile}, {"Memory profiling takes", PhaseProfile},
	{"Capturing CUDA graph", PhaseCapture}, {"Graph capturing finished", PhaseCapture},
	{"init engine (profile", PhaseReady}, {"Starting vLLM ", PhaseReady}, {"Waiting for application startup", PhaseReady},
	{"Application startup complete", PhaseServing},
	{"INFO:     Shutting down", PhaseStopping}, {"Waiting for application shutdown", PhaseStopping}, {"Application shutdown complete", PhaseStopping},
}

// Line takes one line, with or without its end. Carriage returns, colour codes
// and progress bars are understood: what lies between two carriage returns
// counts as a line of its own. It returns the phase after the line.
func (s *LogScanner) Line(text string) Phase {
	text = strings.TrimRight(text, "\r\n")
	if strings.ContainsRune(text, '\r') {
		for _, part := range strings.Split(text, "\r") {
			if part != "" {
				s.one(part)
			}
		}
		return s.facts.Phase
	}
	s.one(text)
	return s.facts.Phase
}

// Facts gives what was read so far; the value shares nothing with the scanner.
func (s *LogScanner) Facts() LogFacts {
	f := s.facts
	f.EngineConfig = maps.Clone(f.EngineConfig)
	f.NonDefaultArgs = maps.Clone(f.NonDefaultArgs)
	f.Fatal = slices.Clone(f.Fatal)
	f.Warnings = slices.Clone(f.Warnings)
	if f.AsyncScheduling != nil {
		on := *f.AsyncScheduling
		f.AsyncScheduling = &on
	}
	if f.Stats != nil {
		stats := *f.Stats
		f.Stats = &stats
	}
	if f.SpecStats != nil {
		spec := *f.SpecStats
		spec.PerPosition = slices.Clone(spec.PerPosition)
		f.SpecStats = &spec
	}
	return f
}

// record is a line taken apart.
type record struct {
	proc, level, source, msg string
}

func splitRecord(line string) record {
	var r record
	if strings.HasPrefix(line, "(") {
		if m := procPattern.FindStringSubmatch(line); m != nil {
			r.proc = clip(m[1], 80)
			line = line[len(m[0]):]
		}
	}
	if m := headerPattern.FindStringSubmatch(line); m != nil {
		r.level, r.source = m[1], m[3]
		line = line[len(m[0]):]
	}
	r.msg = line
	return r
}

func (s *LogScanner) one(line string) {
	s.facts.Lines++
	line = strings.ToValidUTF8(line, "\uFFFD")
	if strings.Contains(line, "\x1b") {
		line = ansiPattern.ReplaceAllString(line, "")
	}
	r := splitRecord(line)
	s.phase(r)
	if strings.Contains(r.proc, "_EP") {
		s.facts.ExpertParallel = true
	}
	if r.level != "ERROR" && r.level != "CRITICAL" {
		s.read(r)
	}
	if r.level == "WARNING" {
		s.warn(r.msg)
	}
	s.errors(r)
}

// phase advances; it never goes back.
func (s *LogScanner) phase(r record) {
	for _, m := range phaseMarks {
		if m.phase <= s.facts.Phase || !strings.Contains(r.msg, m.text) {
			continue
		}
		if m.text == "s in total" && !compileLine.MatchString(r.msg) {
			continue
		}
		s.facts.Phase = m.phase
	}
	if s.facts.Phase == PhaseLoad && modelLine.MatchString(r.msg) && s.facts.EngineConfig["enforce_eager"] == "True" {
		s.facts.Phase = PhaseProfile // nothing is compiled
	}
}

// read takes the facts of one message.
func (s *LogScanner) read(r record) {
	f := &s.facts
	msg := r.msg
	// Each pattern is tried only where its fixed words occur: that is ten times
	// faster than the patterns alone.
	find := func(words string, re *regexp.Regexp) []string {
		if !strings.Contains(msg, words) {
			return nil
		}
		return re.FindStringSubmatch(msg)
	}
	largest := func(words string, re *regexp.Regexp, to ...*float64) {
		if m := find(words, re); m != nil {
			for i, p := range to {
				*p = max(*p, number(m[i+1]))
			}
		}
	}
	if m := find("LLM engine (", engineLine); m != nil {
		s.version(m[1])
		f.EngineConfig = splitPairs(m[2], '=')
	} else if m := find("version ", versionLine); m != nil {
		s.version(m[1])
	}
	if m := find("args: ", argsLine); m != nil {
		if m[2] != "" {
			f.NonDefaultArgs = splitPairs(m[2], '=')
		} else {
			f.NonDefaultArgs = splitPairs(m[1], ':')
		}
	}
	largest("Loading weights took", weightsLine, &f.WeightsSeconds)
	largest("Model loading took", modelLine, &f.ModelMemoryGiB, &f.ModelLoadSeconds)
	largest("Loading model weights took", oldModelLine, &f.ModelMemoryGiB)
	largest("Graph capturing finished", captureLine, &f.GraphCaptureSeconds, &f.GraphCaptureGiB)
	largest("torch.compile t", compileLine, &f.CompileSeconds)
	largest("init engine", initLine, &f.EngineInitSeconds)
	if m := find("Available KV cache memory", kvMemoryLine); m != nil {
		if g := number(m[1]); f.KVCacheMemoryGiB == 0 || g < f.KVCacheMemoryGiB {
			f.KVCacheMemoryGiB = g
		}
	}
	if m := find("GPU KV cache size", kvSizeLine); m != nil {
		if n := whole(m[1]); n > 0 && (f.KVTokens == 0 || n < f.KVTokens) {
			f.KVTokens = n
		}
	}
	if m := find("Maximum concurrency for", concurrency); m != nil {
		f.MaxConcurrencyTokens = int(whole(m[1]))
		if x := number(m[2]); f.MaxConcurrency == 0 || x < f.MaxConcurrency {
			f.MaxConcurrency = x
		}
	}
	if m := find("checkpoint shards", shardBar); m != nil {
		f.ShardsDone, f.Shards = int(whole(m[1])), int(whole(m[2]))
	}
	if m := find("Capturing CUDA graph", captureBar); m != nil {
		f.CaptureDone, f.CaptureTotal = int(whole(m[1])), int(whole(m[2]))
	}
	if m := find("Asynchronous scheduling is", asyncLine); m != nil {
		on := m[1] == "enabled"
		f.AsyncScheduling = &on
	}
	if m := find("Chunked prefill is enabled", chunkedLine); m != nil {
		f.ChunkedPrefillBudget = int(whole(m[1]))
	}
	if m := find("Expert parallelism is enabled", expertLine); m != nil {
		f.ExpertParallel = true
		f.LocalExperts, f.GlobalExperts = int(whole(m[1])), int(whole(m[2]))
	}
	if m := find("Starting vLLM ", listenLine); m != nil {
		f.ListenURL = m[1]
	}
	if m := find("num_gpu_blocks is", blocksLine); m != nil {
		f.NumGPUBlocks = int(whole(m[1]))
	}
	s.readWords(msg)
	if m := find("Avg prompt throughput", periodicLine); m != nil {
		f.Stats = &PeriodicStats{
			PromptTokensPerSecond: number(m[1]), GenerationTokensPerSecond: number(m[2]),
			Running: int(whole(m[3])), Waiting: int(whole(m[4])), Deferred: int(whole(m[5])),
			KVUsage: number(m[6]) / 100, PrefixHitRate: number(m[7]) / 100,
		}
	}
	if strings.HasPrefix(msg, "SpecDecoding metrics: ") {
		f.SpecStats = parseSpecStats(msg)
	}
}

func (s *LogScanner) readWords(msg string) {
	f := &s.facts
	switch {
	case strings.Contains(msg, "Using default MoE config"):
		f.MoEConfigDefault = true
	case strings.Contains(msg, "Using KV cache scaling factor 1.0 for fp8"):
		f.FP8KVScaleDefault = true
	case strings.Contains(msg, "Directly load the compiled graph"):
		f.CompileCached = true
	case strings.Contains(msg, "Application startup complete"):
		f.Started = true
	case strings.Contains(msg, "No available shared memory broadcast block found"):
		f.BroadcastStalls++
	}
}

func (s *LogScanner) version(text string) {
	s.facts.VersionText = strings.TrimPrefix(text, "v")
	if v, err := ParseVersion(text); err == nil {
		s.facts.Version = v
	}
}

func (s *LogScanner) warn(msg string) {
	msg = clip(msg, maxErrorText)
	if len(s.facts.Warnings) < maxWarnings && !slices.Contains(s.facts.Warnings, msg) {
		s.facts.Warnings = append(s.facts.Warnings, msg)
	}
}

// parseSpecStats reads either form of the speculation line.
func parseSpecStats(msg string) *SpecLogStats {
	out := &SpecLogStats{}
	for _, m := range specPart.FindAllStringSubmatch(msg, -1) {
		switch m[1] {
		case "Mean acceptance length":
			out.MeanAcceptanceLength = number(m[2])
		case "Draft acceptance rate", "Avg Draft acceptance rate":
			out.AcceptanceRate = number(m[2]) / 100
		case "Accepted":
			out.AcceptedTokens = whole(m[2])
		case "Drafted":
			out.DraftTokens = whole(m[2])
		}
	}
	if m := specPositions.FindStringSubmatch(msg); m != nil {
		for _, p := range strings.Split(m[1], ",") {
			if p = strings.TrimSpace(p); p != "" {
				out.PerPosition = append(out.PerPosition, number(p))
			}
		}
	}
	return out
}

// errors looks for the line of an error. Tracebacks end in a line with the
// exception at the start of the message; vLLM's own sentences and the parser's
// errors stand alone.
func (s *LogScanner) errors(r record) {
	if s.tracebacks == nil {
		s.tracebacks = map[string]bool{}
		s.fatalSeen = map[string]bool{}
	}
	msg := r.msg
	if s.detail(r) {
		return
	}
	isError := r.level == "ERROR" || r.level == "CRITICAL"
	switch {
	case strings.Contains(msg, "Traceback (most recent call last)"):
		if len(s.tracebacks) < 256 {
			s.tracebacks[r.proc] = true
		}
		return
	case strings.HasPrefix(msg, "vllm serve: error: ") || strings.HasPrefix(msg, "vllm: error: "):
		s.fatal(r, msg, Classify(msg, s.facts.Phase), false)
		return
	case isError && engineTrouble(msg):
		s.dying = true
		s.fatal(r, msg, s.classOf(msg), Classify(msg, s.facts.Phase) != ClassKilled)
		return
	case strings.HasPrefix(msg, "Bus error") || (r.level == "" && strings.HasPrefix(msg, "Killed")):
		class := ClassKilled
		if strings.HasPrefix(msg, "Bus") {
			class = ClassShm
		}
		s.fatal(r, msg, class, false)
		return
	case r.level == "" && strings.Contains(msg, "address already in use"), strings.HasPrefix(msg, "ERROR:") && strings.Contains(msg, "[Errno 98]"):
		s.fatal(r, msg, ClassPortInUse, false)
		return
	}
	if !isError && r.level != "" {
		return
	}
	m := excPattern.FindStringSubmatch(msg)
	if m == nil || strings.HasSuffix(m[1], "Warning") {
		return
	}
	inTraceback := s.tracebacks[r.proc]
	delete(s.tracebacks, r.proc)
	class := Classify(msg, s.facts.Phase)
	// While serving, a request's own failure (a prompt too long) is logged like
	// any other; only the engine's failures count.
	if s.facts.Phase >= PhaseServing && !s.dying && !engineClass(class) && !isEcho(msg) {
		return
	}
	if !inTraceback && class == ClassNone {
		return
	}
	s.fatal(r, msg, s.classOf(msg), isEcho(msg))
	if strings.Contains(m[1], "ValidationError") && !strings.Contains(m[2], ",") {
		s.pending, s.pendingIndex = r.proc, len(s.facts.Fatal)
	}
}

// engineTrouble reports vLLM's own sentences about a failing engine.
func engineTrouble(msg string) bool {
	for _, t := range []string{
		"WorkerProc failed to start.", "WorkerProc hit an exception.", "EngineCore failed to start.", "EngineCore encountered a fatal error.",
		"EngineCore hit an exception", "AsyncLLM output_handler failed.", "died unexpectedly",
	} {
		if strings.Contains(msg, t) {
			return true
		}
	}
	return false
}

// engineClass reports classes that kill an engine wherever they occur.
func engineClass(c Class) bool {
	switch c {
	case ClassOOMRun, ClassGPUFault, ClassNCCL, ClassShm, ClassHostMemory, ClassKilled:
		return true
	}
	return false
}

// classOf is the class of an error that counts.
func (s *LogScanner) classOf(msg string) Class {
	c := Classify(msg, s.facts.Phase)
	switch {
	case c != ClassNone:
		return c
	case s.facts.Phase >= PhaseServing:
		return ClassEngineDead
	case s.facts.Phase == PhaseBoot && configException.MatchString(msg):
		return ClassConfigRefused // nothing but the configuration has been looked at
	}
	return ClassStartFailed
}

// detail adds the second line of a validation error to its first.
func (s *LogScanner) detail(r record) bool {
	if s.pendingIndex == 0 || r.proc != s.pending {
		return false
	}
	i := s.pendingIndex - 1
	s.pendingIndex = 0
	text := strings.TrimSpace(r.msg)
	if i >= len(s.facts.Fatal) || !strings.HasPrefix(r.msg, "  ") && !isIdentifier(text) {
		return false
	}
	if isIdentifier(text) { // the field's name; the message follows
		s.pendingIndex = i + 1
	}
	f := &s.facts.Fatal[i]
	f.Text = clip(f.Text+" "+text, maxErrorText)
	f.Class = s.classOf(f.Text)
	s.root()
	return true
}

func isIdentifier(t string) bool {
	for _, c := range t {
		if c != '_' && c != '.' && !('a' <= c && c <= 'z') && !('0' <= c && c <= '9') {
			return false
		}
	}
	return t != ""
}

// fatal keeps an error once.
func (s *LogScanner) fatal(r record, text string, class Class, echo bool) {
	text = clip(strings.TrimSpace(text), maxErrorText)
	key := sameError(text)
	if s.fatalSeen[key] || len(s.facts.Fatal) >= maxFatal {
		return
	}
	s.fatalSeen[key] = true
	s.facts.Fatal = append(s.facts.Fatal, FatalLine{Class: class, Text: text, Echo: echo, Proc: r.proc, Line: s.facts.Lines})
	s.root()
}

var digits = regexp.MustCompile(`\d+`)

// sameError is the text without its numbers: eight workers say the same of
// eight GPUs.
func sameError(text string) string { return digits.ReplaceAllString(text, "#") }

// root chooses the first error that explains, else the first.
func (s *LogScanner) root() {
	list := s.facts.Fatal
	if len(list) == 0 {
		return
	}
	s.facts.RootCause = list[0]
	for _, f := range list {
		if !f.Echo {
			s.facts.RootCause = f
			return
		}
	}
}

// number reads a figure of the log; what does not fit is 0.
func number(t string) float64 {
	x, err := strconv.ParseFloat(t, 64)
	if err != nil {
		return 0
	}
	return x
}

// whole reads a count with thousands commas.
func whole(t string) int64 {
	n, err := strconv.ParseInt(strings.ReplaceAll(t, ",", ""), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// splitPairs takes "a=1, b=f(2, 3), c='x, y'" apart; sep parts key and value.
// Brackets and quotes protect commas.
func splitPairs(text string, sep byte) map[string]string {
	out := map[string]string{}
	for _, part := range splitTop(text) {
		i := strings.IndexByte(part, sep)
		if i < 0 {
			continue
		}
		key := unquotePy(strings.TrimSpace(part[:i]))
		if key != "" {
			out[key] = unquotePy(strings.TrimSpace(part[i+1:]))
		}
	}
	return out
}

// splitTop splits at commas outside of brackets and quotes.
func splitTop(text string) []string {
	var out []string
	depth, start := 0, 0
	var quote byte
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quote != 0:
			if c == '\\' {
				i++
			} else if c == quote {
				quote = 0
			}
		case c == '\'' || c == '"':
			quote = c
		case c == '(' || c == '[' || c == '{':
			depth++
		case c == ')' || c == ']' || c == '}':
			depth--
		case c == ',' && depth <= 0:
			out = append(out, text[start:i])
			start = i + 1
		}
	}
	return append(out, text[start:])
}

// unquotePy removes the quotes of a plain Python string.
func unquotePy(t string) string {
	if len(t) >= 2 && (t[0] == '\'' || t[0] == '"') && t[len(t)-1] == t[0] {
		inner := t[1 : len(t)-1]
		r := strings.NewReplacer(`\\`, `\`, `\'`, `'`, `\"`, `"`, `\n`, "\n", `\t`, "\t")
		return r.Replace(inner)
	}
	return t
}
