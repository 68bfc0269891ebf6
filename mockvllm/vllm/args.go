package vllm

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// ServeArgs is what `vllm serve MODEL --flags...` was given. Fields hold the
// version's default where a flag was not given; Set says which were.
//
// A field of 0 or "" stands for "chosen by the engine" (see [ServeArgs.Resolve]).
type ServeArgs struct {
	Version Version

	// Model as given; "" when none was (vLLM then serves its own small default).
	Model            string
	ServedModelNames []string
	Tokenizer        string
	Host             string // "" is all interfaces
	Port             int
	UDS              string
	APIKeys          []string
	RootPath         string

	TensorParallelSize         int
	PipelineParallelSize       int
	DataParallelSize           int
	DecodeContextParallelSize  int
	PrefillContextParallelSize int
	EnableExpertParallel       bool

	EnforceEager         bool
	TrustRemoteCode      bool
	Dtype                string
	Quantization         string
	LoadFormat           string
	DownloadDir          string
	Revision             string
	Seed                 *int
	KVCacheDtype         string
	GPUMemoryUtilization float64
	KVCacheMemoryBytes   int64
	SwapSpaceGiB         float64
	BlockSize            int
	NumGPUBlocksOverride int

	// MaxModelLen: 0 is the model's own, -1 what fits into memory ("auto").
	MaxModelLen         int
	MaxNumSeqs          int
	MaxNumBatchedTokens int
	// Three-valued switches: nil is the version's default.
	EnablePrefixCaching  *bool
	EnableChunkedPrefill *bool
	AsyncScheduling      *bool
	// ReserveFullISL is --scheduler-reserve-full-isl.
	ReserveFullISL            *bool
	SchedulingPolicy          string
	StreamInterval            int
	PerformanceMode           string
	LongPrefillTokenThreshold int
	Watermark                 float64

	// Speculative is --speculative-config, or what the older separate flags
	// amount to; nil when none was given.
	Speculative map[string]any
	// CompilationConfig is --compilation-config, nil when not given.
	CompilationConfig map[string]any
	// OptimizationLevel is -O; -1 when not given.
	OptimizationLevel         int
	CaptureSizes              []int
	MaxCaptureSize            int
	MaxLogprobs               int
	GenerationConfig          string
	ReasoningParser           string
	ToolCallParser            string
	EnableAutoToolChoice      bool
	ChatTemplate              string
	HFOverrides               map[string]any
	EnablePromptTokensDetails bool
	EnableRequestIDHeaders    bool
	ForceIncludeUsage         bool
	EnableServerLoadTracking  bool
	DisableUvicornAccessLog   bool
	UvicornLogLevel           string
	DisableLogStats           bool
	// LogRequests: requests are logged (default on before 0.10.1, off since).
	LogRequests        bool
	DisableFrontendMP  bool
	ReturnTokensAsIDs  bool
	CustomAllReduceOff bool
	ShutdownTimeoutS   int
	FingerprintMode    string

	// Set holds the long name of every flag that was given.
	Set map[string]bool
	// Values holds the text of every flag that was given, by long name; lists
	// joined by one blank, dotted JSON as one object, switches "true" or "false".
	Values map[string]string
	// Warnings are log lines the parser writes (deprecated flags).
	Warnings []string

	json  map[string]map[string]any
	lists map[string][]string
}

// UsageError is a command line that vLLM's parser refuses, before any model
// work.
type UsageError struct {
	// Text is what vLLM writes to stderr, usage lines included.
	Text string
	// Message is the last line's part after "error: ".
	Message string
	// Flags are the unknown or faulty flags, as given.
	Flags []string
	// Class is ClassUnknownFlag or ClassUsage.
	Class Class
	// ExitCode is always 2.
	ExitCode int
}

func (e *UsageError) Error() string { return e.Message }

// usageText is the usage line of the sub-parser, and of the parser above it,
// which reports what the sub-parser left over.
// Source: docs/vllm.md section 1.2.
func usageText(v Version, sub bool) (usage, prog string) {
	if sub {
		return "usage: vllm serve [model_tag] [options]\n", "vllm serve"
	}
	commands := "{chat,complete,serve}"
	switch {
	case v.AtLeast("0.18.0"):
		commands = "{chat,complete,serve,launch,bench,collect-env,run-batch}"
	case v.AtLeast("0.9.0"):
		commands = "{chat,complete,serve,bench,collect-env,run-batch}"
	case v.AtLeast("0.8.5"):
		commands = "{chat,complete,serve,bench}"
	}
	return "usage: vllm [-h] [-v] " + commands + " ...\n", "vllm"
}

// usageError is an error of the sub-parser about one flag.
func usageError(v Version, flag, format string, args ...any) *UsageError {
	e := &UsageError{Message: fmt.Sprintf(format, args...), Flags: []string{flag}, Class: ClassUsage, ExitCode: 2}
	usage, prog := usageText(v, true)
	e.Text = usage + prog + ": error: " + e.Message + "\n"
	return e
}

// unrecognized is the error of the parser above about arguments left over.
func unrecognized(v Version, extras []string) *UsageError {
	e := &UsageError{
		Message: "unrecognized arguments: " + strings.Join(extras, " "), Class: ClassUnknownFlag, ExitCode: 2,
	}
	for _, x := range extras {
		if strings.HasPrefix(x, "-") {
			name, _, _ := strings.Cut(x, "=")
			e.Flags = append(e.Flags, name)
		}
	}
	usage, prog := usageText(v, false)
	e.Text = usage + prog + ": error: " + e.Message + "\n"
	return e
}

// ParseServeArgs reads what follows "vllm serve" as version v does: unique
// prefixes of flags, "_" for "-", --x=y, --no-x, dotted JSON, k and K suffixes.
//
// Flags may stand before or after the model. A flag given twice: the last one
// holds, but JSON parts add up. It fails with a *UsageError.
// Source: docs/vllm.md section 1.2; Python's argparse.
func ParseServeArgs(v Version, argv []string) (ServeArgs, error) {
	p := argParser{version: v, options: map[string]option{}}
	p.args = newServeArgs(v)
	for _, f := range flagTable() {
		if !f.In(v) {
			continue
		}
		f := f.resolved(v)
		for _, n := range append([]string{f.Name}, f.Aliases...) {
			p.options[n] = option{flag: f}
		}
		if n := f.Negative(v); n != "" {
			p.options[n] = option{flag: f, negative: true}
		}
	}
	if err := p.parse(p.normalize(argv)); err != nil {
		return ServeArgs{}, err
	}
	if err := p.args.fill(); err != nil {
		return ServeArgs{}, err
	}
	return p.args, nil
}

func newServeArgs(v Version) ServeArgs {
	return ServeArgs{
		Version: v, Port: 8000, TensorParallelSize: 1, PipelineParallelSize: 1, DataParallelSize: 1,
		DecodeContextParallelSize: 1, PrefillContextParallelSize: 1,
		Dtype: "auto", LoadFormat: "auto", KVCacheDtype: "auto",
		GPUMemoryUtilization: DefaultGPUMemoryUtilization(v), SwapSpaceGiB: 4,
		SchedulingPolicy: "fcfs", StreamInterval: 1, PerformanceMode: "balanced",
		OptimizationLevel: -1, MaxLogprobs: 20, GenerationConfig: "auto", UvicornLogLevel: "info",
		LogRequests: !v.AtLeast("0.10.1"),
		Set:         map[string]bool{}, Values: map[string]string{},
		json: map[string]map[string]any{}, lists: map[string][]string{},
	}
}

// option is one spelling of a flag.
type option struct {
	flag     Flag
	negative bool
}

type argParser struct {
	version Version
	options map[string]option
	args    ServeArgs
}

// normalize does what vLLM's parser does before argparse sees the arguments:
// "_" becomes "-" in the flag's name up to the first dot, and -O takes its
// level without a blank.
func (p *argParser) normalize(argv []string) []string {
	out := make([]string, 0, len(argv))
	for i := 0; i < len(argv); i++ {
		a := argv[i]
		switch {
		case a == "--":
			return append(out, argv[i:]...)
		case strings.HasPrefix(a, "--"):
			name, value, hasValue := strings.Cut(a, "=")
			key, dotted, hasDot := strings.Cut(name, ".")
			key = strings.ReplaceAll(key, "_", "-")
			if hasDot {
				key += "." + dotted
			}
			if hasValue {
				key += "=" + value
			}
			out = append(out, key)
		case strings.HasPrefix(a, "-O") && len(a) > 2 && a[2] != '.' && isDigits(strings.TrimPrefix(a[2:], "=")):
			out = append(out, "-O="+strings.TrimPrefix(a[2:], "="))
		default:
			out = append(out, a)
		}
	}
	return out
}

func isDigits(s string) bool {
	for _, c := range s {
		if c < '0' || c > '9' {
			return false
		}
	}
	return s != ""
}

var negativeNumber = regexp.MustCompile(`^-\d+$|^-\d*\.\d+$`)

// parse walks the arguments as argparse's sub-parser does.
func (p *argParser) parse(argv []string) error {
	var extras []string
	for i := 0; i < len(argv); {
		a := argv[i]
		if a == "--" {
			for _, rest := range argv[i+1:] {
				extras = p.positional(rest, extras)
			}
			break
		}
		if !p.isOption(a) {
			extras = p.positional(a, extras)
			i++
			continue
		}
		opt, spelled, value, hasValue, err := p.find(a)
		if err != nil {
			return err
		}
		i++
		if opt == nil {
			extras = append(extras, a)
			continue
		}
		values := []string{value}
		if !hasValue {
			n := i
			for n < len(argv) && argv[n] != "--" && !p.isOption(argv[n]) {
				n++
			}
			values, err = p.take(*opt, argv[i:n])
			if err != nil {
				return err
			}
			i += len(values)
		}
		if err := p.set(*opt, spelled, values, hasValue); err != nil {
			return err
		}
	}
	if len(extras) > 0 {
		return unrecognized(p.version, extras)
	}
	return nil
}

// positional takes the model; a second one is left over.
func (p *argParser) positional(a string, extras []string) []string {
	if p.args.Set["model_tag"] {
		return append(extras, a)
	}
	p.args.Set["model_tag"] = true
	p.args.Model = a
	return extras
}

// isOption reports whether argparse takes a as a flag rather than a value.
func (p *argParser) isOption(a string) bool {
	if len(a) < 2 || a[0] != '-' {
		return false
	}
	if _, ok := p.options[a]; ok {
		return true
	}
	if negativeNumber.MatchString(a) {
		return false
	}
	name, _, _ := strings.Cut(a, "=")
	return !strings.Contains(name, " ")
}

// find gives the option that a spells; nil if none does. spelled is the dotted
// name as written for JSON parts ("--speculative-config.method").
func (p *argParser) find(a string) (opt *option, spelled, value string, hasValue bool, err error) {
	name, value, hasValue := strings.Cut(a, "=")
	if o, ok := p.options[name]; ok {
		return &o, name, value, hasValue, nil
	}
	if base, part, dotted := strings.Cut(name, "."); dotted && part != "" {
		o, full, err := p.lookup(base)
		if err != nil || o == nil || o.flag.Kind != FlagJSON {
			return nil, "", "", false, err
		}
		return o, full + "." + part, value, hasValue, nil
	}
	o, full, err := p.lookup(name)
	return o, full, value, hasValue, err
}

// lookup resolves a name or a unique beginning of a long name.
func (p *argParser) lookup(name string) (*option, string, error) {
	if o, ok := p.options[name]; ok {
		return &o, name, nil
	}
	if !strings.HasPrefix(name, "--") || len(name) < 3 {
		return nil, "", nil
	}
	var hits []string
	for n := range p.options {
		if strings.HasPrefix(n, name) {
			hits = append(hits, n)
		}
	}
	switch len(hits) {
	case 0:
		return nil, "", nil
	case 1:
		o := p.options[hits[0]]
		return &o, hits[0], nil
	}
	sortStrings(hits)
	return nil, "", usageError(p.version, name, "ambiguous option: %s could match %s", name, strings.Join(hits, ", "))
}

// take gives the values that follow an option without "=".
func (p *argParser) take(o option, follow []string) ([]string, error) {
	switch o.flag.Kind {
	case FlagSwitch:
		return nil, nil
	case FlagBool:
		return nil, nil
	case FlagList:
		if len(follow) == 0 {
			return nil, usageError(p.version, o.flag.Name, "argument %s: expected at least one argument", spellings(o.flag))
		}
		return follow, nil
	}
	if len(follow) == 0 {
		return nil, usageError(p.version, o.flag.Name, "argument %s: expected one argument", spellings(o.flag))
	}
	return follow[:1], nil
}

// spellings names a flag as argparse's messages do.
func spellings(f Flag) string {
	return strings.Join(append([]string{f.Name}, f.Aliases...), "/")
}

// set stores a flag's values after checking their form.
func (p *argParser) set(o option, spelled string, values []string, explicit bool) error {
	f, a := o.flag, &p.args
	bad := func(format string, args ...any) error {
		return usageError(p.version, f.Name, "argument %s: %s", spellings(f), fmt.Sprintf(format, args...))
	}
	text := strings.Join(values, " ")
	switch f.Kind {
	case FlagSwitch, FlagBool:
		on := !o.negative
		if explicit {
			// Before 0.9 chunked prefill took "=False" beside its bare form.
			if f.Name != "--enable-chunked-prefill" || o.negative || p.version.AtLeast("0.9.0") {
				return bad("ignored explicit argument %s", pyQuote(text))
			}
			switch strings.ToLower(text) {
			case "true":
			case "false":
				on = false
			default:
				return bad("Invalid boolean value: %s. Expected 'true' or 'false'.", text)
			}
		}
		text = strconv.FormatBool(on)
	case FlagInt:
		n, err := pyInt(text)
		if err != nil {
			return bad("invalid int value: %s", pyQuote(text))
		}
		text = strconv.Itoa(n)
	case FlagFloat:
		if _, err := pyFloat(text); err != nil {
			return bad("invalid float value: %s", pyQuote(text))
		}
	case FlagHumanInt:
		if f.Name == "--max-model-len" && p.version.AtLeast("0.16.0") && (text == "auto" || text == "-1") {
			text = "-1"
			break
		}
		n, err := HumanInt(text)
		if err != nil {
			if m := humanSuffix.FindStringSubmatch(strings.TrimSpace(text)); m != nil {
				return bad("Decimals are not allowed with binary suffixes like %s. Did you mean to use %s%s instead?", m[2], m[1], strings.ToLower(m[2]))
			}
			return bad("invalid human_readable_int value: %s", pyQuote(text))
		}
		text = strconv.Itoa(n)
	case FlagChoice:
		if !containsString(f.Choices, text) {
			quoted := make([]string, len(f.Choices))
			for i, c := range f.Choices {
				quoted[i] = pyQuote(c)
			}
			return bad("invalid choice: %s (choose from %s)", pyQuote(text), strings.Join(quoted, ", "))
		}
	case FlagJSON:
		if fault := p.setJSON(f, spelled, text); fault != "" {
			return bad("%s", fault)
		}
		a.Set[f.Name] = true
		return nil
	case FlagAppend:
		a.lists[f.Name] = append(a.lists[f.Name], values...)
		text = strings.Join(a.lists[f.Name], " ")
	case FlagList:
		a.lists[f.Name] = values
	}
	a.Set[f.Name] = true
	a.Values[f.Name] = text
	if f.Deprecated {
		a.Warnings = append(a.Warnings, fmt.Sprintf("argument '%s' is deprecated", strings.ReplaceAll(strings.TrimPrefix(f.Name, "--"), "-", "_")))
	}
	return nil
}

var (
	humanPattern = regexp.MustCompile(`^(\d+(?:\.\d+)?)([kKmMgGtT])$`)
	humanSuffix  = regexp.MustCompile(`^(\d+\.\d+)([KMGT])$`)
	plainInt     = regexp.MustCompile(`^[+-]?\d+(?:_\d+)*$`)
)

// HumanInt reads a whole number with an optional suffix: k, m, g, t are powers
// of 1000 and may follow a decimal fraction, K, M, G, T are powers of 1024 and
// may not.
//
// It fails on other text, on fractions before a power of 1024, and above 2^62.
// Source: vLLM 0.11.1, vllm/engine/arg_utils.py human_readable_int.
func HumanInt(s string) (int, error) {
	t := strings.TrimSpace(s)
	m := humanPattern.FindStringSubmatch(t)
	if m == nil {
		return pyInt(t)
	}
	power := strings.Index("kmgt", strings.ToLower(m[2])) + 1
	if m[2] != strings.ToLower(m[2]) {
		n, err := strconv.ParseInt(m[1], 10, 64)
		if err != nil || n > (1<<62)>>(10*power) {
			return 0, fmt.Errorf("%q: want a whole number before %s", s, m[2])
		}
		return int(n << (10 * power)), nil
	}
	x, err := strconv.ParseFloat(m[1], 64)
	x *= math.Pow10(3 * power)
	if err != nil || x > 1<<62 {
		return 0, fmt.Errorf("%q: too large", s)
	}
	return int(x), nil // Python's int() truncates too
}

// pyInt reads an integer as Python's int() does, within 64 bits.
func pyInt(s string) (int, error) {
	t := strings.TrimSpace(s)
	if !plainInt.MatchString(t) {
		return 0, fmt.Errorf("%q: not a whole number", s)
	}
	n, err := strconv.ParseInt(strings.ReplaceAll(strings.TrimPrefix(t, "+"), "_", ""), 10, 64)
	return int(n), err
}

// pyFloat reads a finite or infinite number as Python's float() does.
func pyFloat(s string) (float64, error) {
	t := strings.TrimSpace(s)
	if strings.ContainsAny(t, "xXpP_") {
		return 0, fmt.Errorf("%q: not a number", s)
	}
	return strconv.ParseFloat(t, 64)
}

// pyQuote writes a text as Python's repr() does for plain text.
func pyQuote(s string) string {
	q := "'"
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		q = `"`
	}
	var b strings.Builder
	b.WriteString(q)
	for _, r := range s {
		switch {
		case r == '\\', string(r) == q:
			b.WriteString(`\` + string(r))
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < 0x20 || r == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String() + q
}

func containsString(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}
