package mockvllm

import (
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/glm46/glm46/mockvllm/tokenizer"
	"github.com/glm46/glm46/mockvllm/vllm"
)

// Scenario is a script of failures. Its file form is YAML (JSON is YAML too);
// the schema is in docs/mock.md.
type Scenario struct {
	// Version of the schema: 1.
	Version int `yaml:"version"`
	// Seed of the rules that match by share.
	Seed uint64 `yaml:"seed"`
	// Start is how the start fails, if it does.
	Start *StartFault `yaml:"start"`
	// Effective replaces settings of the engine, whatever the flags say.
	Effective map[string]any `yaml:"effective"`
	// Requests are rules for requests for text; the first that matches applies.
	Requests []Rule `yaml:"requests"`
	// Events happen at a time.
	Events []Event `yaml:"events"`
}

// StartFault is how a start fails. Exactly one of UnknownFlag, Fail, Hang, Die
// and NeverHealthy is set.
type StartFault struct {
	// UnknownFlag is a flag that the parser does not know: exit code 2.
	UnknownFlag string `yaml:"unknown_flag"`
	// Fail is a class of package vllm: its lines, then exit code 1.
	Fail string `yaml:"fail"`
	// Hang is the phase in which nothing happens any more.
	Hang string `yaml:"hang"`
	// Die is the phase in which the process ends without a word, by signal 9.
	Die string `yaml:"die"`
	// NeverHealthy listens, but GET /health says 503 for ever.
	NeverHealthy bool `yaml:"never_healthy"`
	// Phase and At (share of the phase, 0 to 1) of Fail, Hang and Die.
	Phase string  `yaml:"phase"`
	At    float64 `yaml:"at"`
	// Message replaces the first error's text.
	Message string `yaml:"message"`
}

// Match says which requests a rule is for: all conditions given must hold.
// Requests for text are counted from 0 in order of arrival.
type Match struct {
	Index []int `yaml:"index"`
	From  int   `yaml:"from"`
	To    *int  `yaml:"to"`
	// Every k-th request from From on.
	Every int `yaml:"every"`
	// Share of requests, 0 to 1, drawn from the scenario's seed.
	Share *float64 `yaml:"share"`
	// Endpoint is "chat" or "completions".
	Endpoint string `yaml:"endpoint"`
	Stream   *bool  `yaml:"stream"`
	// RequestID is the beginning of X-Request-Id.
	RequestID string `yaml:"request_id"`
	// MinPromptTokens of the prompt.
	MinPromptTokens int `yaml:"min_prompt_tokens"`
	// PromptEnds is the end of the prompt's text.
	PromptEnds string `yaml:"prompt_ends"`
}

// Rule is what happens to the requests that match.
type Rule struct {
	Match Match `yaml:"match"`
	// Delay before the answer begins.
	Delay time.Duration `yaml:"delay"`
	// Status answers with an HTTP error instead.
	Status  int    `yaml:"status"`
	Type    string `yaml:"type"`
	Message string `yaml:"message"`
	// AtToken is the token (from 0) before which Stall, Cut, Reset, Error and
	// Garbage happen.
	AtToken int `yaml:"at_token"`
	// Stall for that long; "forever" until the client leaves.
	Stall string `yaml:"stall"`
	// Cut ends the connection, Reset with a TCP reset.
	Cut   bool `yaml:"cut"`
	Reset bool `yaml:"reset"`
	// Error is an error event, then [DONE].
	Error bool `yaml:"error"`
	// Garbage is sent as a line of its own.
	Garbage *string `yaml:"garbage"`
	// Usage is "missing" or "wrong" (one completion token too many).
	Usage string `yaml:"usage"`
	// Answer is the text given instead of the mock's own, as far as the request
	// lets it be that long.
	Answer string `yaml:"answer"`
	// Length is added to the number of tokens asked for.
	Length int `yaml:"length"`
	// NoDone leaves [DONE] out.
	NoDone bool `yaml:"no_done"`
	// Drip writes the stream in small pieces.
	Drip *Drip `yaml:"drip"`

	stall time.Duration
}

// Drip is a slow connection.
type Drip struct {
	Bytes int           `yaml:"bytes"`
	Every time.Duration `yaml:"every"`
}

// Event happens After the start, in model time.
type Event struct {
	After time.Duration `yaml:"after"`
	// Die is the class of the engine's death: vLLM's lines, errors to all
	// requests, then the process ends.
	Die     string `yaml:"die"`
	Message string `yaml:"message"`
	// Slow multiplies the duration of steps, For that long (0: for ever).
	Slow float64       `yaml:"slow"`
	For  time.Duration `yaml:"for"`
	// ResetFails makes POST /reset_prefix_cache report failure from then on.
	ResetFails bool `yaml:"reset_fails"`
}

// ScenarioError is a fault of a scenario file.
type ScenarioError struct {
	File         string
	Line, Column int
	Text         string
}

func (e *ScenarioError) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Text)
}

// forever stands for a stall without end.
const forever = time.Duration(1<<63 - 1)

// ParseScenario reads a scenario. name stands in errors, which are
// *ScenarioError with the line and column of the fault; all faults of meaning
// are reported, joined.
func ParseScenario(name string, data []byte) (*Scenario, error) {
	if len(data) > 1<<20 {
		return nil, &ScenarioError{name, 1, 1, "larger than 1 MiB; a scenario is a short script"}
	}
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		return nil, scenarioError(name, err)
	}
	s := &Scenario{}
	if err := yaml.UnmarshalWithOptions(data, s, yaml.Strict()); err != nil {
		return nil, scenarioError(name, err)
	}
	c := scenarioCheck{name: name, file: file}
	c.all(s)
	return s, errors.Join(c.faults...)
}

func scenarioError(name string, err error) error {
	e := &ScenarioError{File: name, Line: 1, Column: 1, Text: err.Error()}
	var y yaml.Error
	if errors.As(err, &y) {
		e.Text = strings.ToLower(y.GetMessage()[:min(1, len(y.GetMessage()))]) + y.GetMessage()[min(1, len(y.GetMessage())):]
		if t := y.GetToken(); t != nil && t.Position != nil {
			e.Line, e.Column = t.Position.Line, t.Position.Column
		}
	}
	return e
}

// scenarioCheck finds faults of meaning and where they stand.
type scenarioCheck struct {
	name   string
	file   *ast.File
	faults []error
}

func (c *scenarioCheck) fault(path, format string, args ...any) {
	e := &ScenarioError{File: c.name, Line: 1, Column: 1, Text: strings.TrimPrefix(path, "$.") + ": " + fmt.Sprintf(format, args...)}
	for p := path; p != "$" && p != ""; p = parentPath(p) {
		if yp, err := yaml.PathString(p); err == nil {
			if n, err := yp.FilterFile(c.file); err == nil && n != nil && n.GetToken() != nil {
				e.Line, e.Column = n.GetToken().Position.Line, n.GetToken().Position.Column
				break
			}
		}
	}
	c.faults = append(c.faults, e)
}

func parentPath(p string) string {
	if i := strings.LastIndexAny(p, ".["); i > 0 {
		return p[:i]
	}
	return ""
}

func (c *scenarioCheck) all(s *Scenario) {
	if s.Version != 1 {
		c.fault("$.version", "want 1, got %d", s.Version)
	}
	if s.Start != nil {
		c.start(s.Start)
	}
	for name, value := range s.Effective {
		if msg := contradictOne(&vllm.EngineConfig{}, name, value); msg != "" {
			c.fault("$.effective."+name, "%s", msg)
		}
	}
	for i := range s.Requests {
		c.rule(fmt.Sprintf("$.requests[%d]", i), &s.Requests[i])
	}
	for i := range s.Events {
		c.event(fmt.Sprintf("$.events[%d]", i), &s.Events[i])
	}
}

var scenarioPhases = []string{"boot", "init", "load", "compile", "profile", "capture", "ready"}

func (c *scenarioCheck) phase(path, name string) {
	if !slices.Contains(scenarioPhases, name) {
		c.fault(path, "unknown phase %q; want one of %s", name, strings.Join(scenarioPhases, ", "))
	}
}

// scenarioClasses are the failures that can be played.
var scenarioClasses = []vllm.Class{
	vllm.ClassOOMLoad, vllm.ClassOOMCapture, vllm.ClassOOMRun, vllm.ClassKVTooSmall, vllm.ClassNoKVMemory, vllm.ClassGPUBusy,
	vllm.ClassGPUFault, vllm.ClassNoGPU, vllm.ClassGPUUUID, vllm.ClassWeightsMissing, vllm.ClassModelUnknown, vllm.ClassHubOffline,
	vllm.ClassPortInUse, vllm.ClassShm, vllm.ClassDisk, vllm.ClassStaleFile, vllm.ClassNCCL, vllm.ClassHang, vllm.ClassHostMemory,
	vllm.ClassStartFailed,
}

func (c *scenarioCheck) class(path, name string) {
	if !slices.Contains(scenarioClasses, vllm.Class(name)) {
		names := make([]string, len(scenarioClasses))
		for i, x := range scenarioClasses {
			names[i] = string(x)
		}
		c.fault(path, "unknown class %q; want one of %s", name, strings.Join(names, ", "))
	}
}

func (c *scenarioCheck) start(s *StartFault) {
	kinds := 0
	for _, on := range []bool{s.UnknownFlag != "", s.Fail != "", s.Hang != "", s.Die != "", s.NeverHealthy} {
		if on {
			kinds++
		}
	}
	if kinds != 1 {
		c.fault("$.start", "want exactly one of unknown_flag, fail, hang, die, never_healthy; got %d", kinds)
	}
	if s.UnknownFlag != "" && !strings.HasPrefix(s.UnknownFlag, "--") {
		c.fault("$.start.unknown_flag", "want a flag that begins with --, got %q", s.UnknownFlag)
	}
	if s.Fail != "" {
		c.class("$.start.fail", s.Fail)
	}
	for name, p := range map[string]string{"hang": s.Hang, "die": s.Die, "phase": s.Phase} {
		if p != "" {
			c.phase("$.start."+name, p)
		}
	}
	if !(s.At >= 0 && s.At <= 1) {
		c.fault("$.start.at", "want 0 to 1, got %v", s.At)
	}
}

func (c *scenarioCheck) rule(path string, r *Rule) {
	m := r.Match
	if m.Endpoint != "" && m.Endpoint != "chat" && m.Endpoint != "completions" {
		c.fault(path+".match.endpoint", "want chat or completions, got %q", m.Endpoint)
	}
	if m.Share != nil && !(*m.Share >= 0 && *m.Share <= 1) {
		c.fault(path+".match.share", "want 0 to 1, got %v", *m.Share)
	}
	if m.Every < 0 || m.From < 0 {
		c.fault(path+".match", "want no negative numbers")
	}
	if r.Status != 0 && (r.Status < 400 || r.Status > 599) {
		c.fault(path+".status", "want 400 to 599, got %d", r.Status)
	}
	if r.Delay < 0 {
		c.fault(path+".delay", "want no negative time, got %v", r.Delay)
	}
	if r.AtToken < 0 {
		c.fault(path+".at_token", "want 0 or more, got %d", r.AtToken)
	}
	switch r.Stall {
	case "":
	case "forever":
		r.stall = forever
	default:
		d, err := time.ParseDuration(r.Stall)
		if err != nil || d <= 0 {
			c.fault(path+".stall", "want a duration such as 2s, or forever, got %q", r.Stall)
		}
		r.stall = d
	}
	if r.Usage != "" && r.Usage != "missing" && r.Usage != "wrong" {
		c.fault(path+".usage", "want missing or wrong, got %q", r.Usage)
	}
	if r.Drip != nil && (r.Drip.Bytes < 1 || r.Drip.Every <= 0) {
		c.fault(path+".drip", "want bytes of 1 or more and a positive time in every, got %d and %v", r.Drip.Bytes, r.Drip.Every)
	}
	ends := 0
	for _, on := range []bool{r.Cut, r.Reset, r.Error, r.Status != 0} {
		if on {
			ends++
		}
	}
	if ends > 1 {
		c.fault(path, "want at most one of status, cut, reset, error")
	}
	if !r.does() {
		c.fault(path, "the rule does nothing; give it delay, status, stall, cut, reset, error, garbage, usage, answer, length, no_done or drip")
	}
}

func (r *Rule) does() bool {
	return r.Delay > 0 || r.Answer != "" || r.Status != 0 || r.Stall != "" || r.Cut || r.Reset || r.Error || r.Garbage != nil ||
		r.Usage != "" || r.Length != 0 || r.NoDone || r.Drip != nil
}

func (c *scenarioCheck) event(path string, e *Event) {
	if e.After < 0 || e.For < 0 {
		c.fault(path+".after", "want no negative time")
	}
	kinds := 0
	for _, on := range []bool{e.Die != "", e.Slow != 0, e.ResetFails} {
		if on {
			kinds++
		}
	}
	if kinds != 1 {
		c.fault(path, "want exactly one of die, slow, reset_fails; got %d", kinds)
	}
	if e.Die != "" {
		c.class(path+".die", e.Die)
	}
	if e.Slow < 0 || e.Slow > 1e6 {
		c.fault(path+".slow", "want a factor above 0 and at most 1000000, got %v", e.Slow)
	}
}

// matches reports whether a rule is for request number index.
func (r *Rule) matches(seed uint64, index int, g *generation, requestID string) bool {
	m := &r.Match
	switch {
	case len(m.Index) > 0 && !slices.Contains(m.Index, index),
		index < m.From, m.To != nil && index > *m.To,
		m.Every > 0 && (index-m.From)%m.Every != 0,
		m.Share != nil && draw(seed, index) >= *m.Share,
		m.Endpoint == "chat" && !g.chat, m.Endpoint == "completions" && g.chat,
		m.Stream != nil && *m.Stream != g.stream,
		!strings.HasPrefix(requestID, m.RequestID),
		g.promptTokens() < m.MinPromptTokens,
		m.PromptEnds != "" && !slices.ContainsFunc(g.prompts, func(p []int32) bool { return endsWith(p, m.PromptEnds) }):
		return false
	}
	return true
}

// endsWith reports whether the text of these tokens ends so.
func endsWith(ids []int32, text string) bool {
	// A token has a byte at least.
	ids = ids[max(0, len(ids)-len(text)):]
	var b []byte
	var s tokenizer.Stream
	for _, id := range ids {
		b = s.Append(b, id)
	}
	return strings.HasSuffix(string(s.Flush(b)), text)
}

// draw gives a number from 0 to 1 that only seed and index decide.
func draw(seed uint64, index int) float64 {
	hi, lo := bits.Mul64(seed^uint64(index+1)*0x9e3779b97f4a7c15, 0xd6e8feb86659fd93)
	hi, lo = bits.Mul64(hi^lo, 0xd6e8feb86659fd93)
	return float64((hi^lo)>>11) / (1 << 53)
}

// rule finds what happens to a request; nil for nothing.
func (s *Scenario) rule(index int, g *generation, requestID string) *Rule {
	for i := range s.Requests {
		if s.Requests[i].matches(s.Seed, index, g, requestID) {
			return &s.Requests[i]
		}
	}
	return nil
}

// usageError is the parser's refusal of a flag that it should know; nil if the
// scenario has none.
func (s *Scenario) usageError(v vllm.Version) error {
	if s == nil || s.Start == nil || s.Start.UnknownFlag == "" {
		return nil
	}
	// No release has a flag of this name, so the parser says what it says of
	// one; the name is then put right.
	const stand = "--glm46-no-such-flag"
	_, err := vllm.ParseServeArgs(v, []string{"model", stand})
	var u *vllm.UsageError
	if !errors.As(err, &u) {
		return err
	}
	e := *u
	e.Text = strings.ReplaceAll(u.Text, stand, s.Start.UnknownFlag)
	e.Message = strings.ReplaceAll(u.Message, stand, s.Start.UnknownFlag)
	e.Flags = []string{s.Start.UnknownFlag}
	return &e
}

// startFailure gives the fault that happens at this line of the start-up log;
// nil if none does.
func (s *Scenario) startFailure(phase vllm.Phase, at float64, last bool) *StartFault {
	if s == nil || s.Start == nil || s.Start.NeverHealthy || s.Start.UnknownFlag != "" {
		return nil
	}
	want := s.Start.phase()
	if phase > want || phase == want && at >= s.Start.At || last {
		return s.Start
	}
	return nil
}

// phase is where the fault happens.
func (f *StartFault) phase() vllm.Phase {
	name := f.Phase
	for _, n := range []string{f.Hang, f.Die} {
		if n != "" {
			name = n
		}
	}
	if name != "" {
		return vllm.Phase(slices.Index(scenarioPhases, name))
	}
	switch vllm.Class(f.Fail) {
	case vllm.ClassWeightsMissing, vllm.ClassOOMLoad, vllm.ClassHang, vllm.ClassHostMemory, vllm.ClassDisk:
		return vllm.PhaseLoad
	case vllm.ClassOOMCapture:
		return vllm.PhaseCapture
	case vllm.ClassKVTooSmall, vllm.ClassNoKVMemory:
		return vllm.PhaseProfile
	case vllm.ClassPortInUse:
		return vllm.PhaseReady
	case vllm.ClassGPUBusy, vllm.ClassNCCL, vllm.ClassShm, vllm.ClassGPUFault:
		return vllm.PhaseInit
	}
	return vllm.PhaseBoot
}

// contradict applies the effective settings that no flag asked for.
func (s *Scenario) contradict(c *vllm.EngineConfig) {
	if s == nil {
		return
	}
	for name, value := range s.Effective {
		contradictOne(c, name, value)
	}
}

// contradictOne sets one field; the answer is what is wrong with it.
func contradictOne(c *vllm.EngineConfig, name string, value any) string {
	bools := map[string]*bool{
		"enforce_eager": &c.EnforceEager, "enable_expert_parallel": &c.EnableExpertParallel,
		"enable_prefix_caching": &c.EnablePrefixCaching, "enable_chunked_prefill": &c.EnableChunkedPrefill,
		"async_scheduling": &c.AsyncScheduling, "trust_remote_code": &c.TrustRemoteCode,
	}
	ints := map[string]*int{
		"max_model_len": &c.MaxModelLen, "max_num_seqs": &c.MaxNumSeqs, "max_num_batched_tokens": &c.MaxNumBatchedTokens,
		"tensor_parallel_size": &c.TensorParallelSize, "block_size": &c.BlockSize,
	}
	texts := map[string]*string{"kv_cache_dtype": &c.KVCacheDtype, "dtype": &c.Dtype}
	if p := bools[name]; p != nil {
		b, ok := value.(bool)
		if !ok {
			return fmt.Sprintf("want true or false, got %v", value)
		}
		*p = b
		return ""
	}
	if p := ints[name]; p != nil {
		n, err := strconv.Atoi(fmt.Sprint(value))
		if err != nil || n < 1 {
			return fmt.Sprintf("want a whole number of 1 or more, got %v", value)
		}
		*p = n
		return ""
	}
	if p := texts[name]; p != nil {
		t, ok := value.(string)
		if !ok || t == "" {
			return fmt.Sprintf("want a text, got %v", value)
		}
		*p = t
		return ""
	}
	if name == "gpu_memory_utilization" {
		x, err := strconv.ParseFloat(fmt.Sprint(value), 64)
		if err != nil || !(x > 0 && x <= 1) {
			return fmt.Sprintf("want above 0 and at most 1, got %v", value)
		}
		c.GPUMemoryUtilization = x
		return ""
	}
	known := []string{"gpu_memory_utilization"}
	for n := range bools {
		known = append(known, n)
	}
	for n := range ints {
		known = append(known, n)
	}
	for n := range texts {
		known = append(known, n)
	}
	slices.Sort(known)
	return "unknown setting; want one of " + strings.Join(known, ", ")
}
