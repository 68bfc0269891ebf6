package predict

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"mvdan.cc/sh/v3/shell"

	"github.com/glm46/glm46/mockvllm"
	"github.com/glm46/glm46/mockvllm/engine"
	"github.com/glm46/glm46/mockvllm/model"
	"github.com/glm46/glm46/mockvllm/vllm"
)

// WorkloadRequest is one line of a workload.
type WorkloadRequest struct {
	PromptTokens int `json:"prompt_tokens"`
	OutputTokens int `json:"output_tokens"`
	// AtSeconds is when the client wants to send it.
	AtSeconds float64 `json:"at_s"`
}

// WorkloadFile is a workload: docs/timing-model.md, "Workload files".
type WorkloadFile struct {
	Requests []WorkloadRequest `json:"requests"`
	// MaxConcurrency caps requests in flight at the client; nil: no cap.
	MaxConcurrency *int `json:"max_concurrency"`
	// DraftProbability and Acceptance (cumulative, by position) replace the
	// profile's where the flags ask for speculation.
	DraftProbability *float64  `json:"draft_probability,omitempty"`
	Acceptance       []float64 `json:"acceptance,omitempty"`
}

// Limits of a workload file: what fits memory and a time.Duration.
const (
	MaxWorkloadRequests = 1_000_000
	MaxWorkloadTokens   = 100_000_000
	maxAtSeconds        = 1e9
)

// WorkloadError is a fault of a workload, of its file or of its flags' quoting.
type WorkloadError struct {
	Text string
	// Err is the cause, if another package found it.
	Err error
}

func (e *WorkloadError) Error() string { return e.Text }

func (e *WorkloadError) Unwrap() error { return e.Err }

// WorkloadResult is what `plan --workload --json` prints.
type WorkloadResult struct {
	KVTokens             int     `json:"kv_tokens"`
	DurationS            float64 `json:"duration_s"`
	OutputThroughput     float64 `json:"output_throughput"`
	TotalTokenThroughput float64 `json:"total_token_throughput"`
	MeanTTFTMs           float64 `json:"mean_ttft_ms"`
	MedianTTFTMs         float64 `json:"median_ttft_ms"`
	P99TTFTMs            float64 `json:"p99_ttft_ms"`
	MeanTPOTMs           float64 `json:"mean_tpot_ms"`
	MedianTPOTMs         float64 `json:"median_tpot_ms"`
	P99TPOTMs            float64 `json:"p99_tpot_ms"`
	MeanITLMs            float64 `json:"mean_itl_ms"`
	MedianITLMs          float64 `json:"median_itl_ms"`
	P99ITLMs             float64 `json:"p99_itl_ms"`
	MeanE2ELMs           float64 `json:"mean_e2el_ms"`
	MedianE2ELMs         float64 `json:"median_e2el_ms"`
	P99E2ELMs            float64 `json:"p99_e2el_ms"`
	Preemptions          int64   `json:"preemptions"`
	Steps                int64   `json:"steps"`
}

// ParseWorkload reads a workload. name stands in errors.
//
// It fails with *WorkloadError.
func ParseWorkload(name string, data []byte) (*WorkloadFile, error) {
	fault := func(format string, args ...any) error {
		return &WorkloadError{Text: name + ": " + fmt.Sprintf(format, args...)}
	}
	w := &WorkloadFile{}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(w); err != nil {
		return nil, fault("%v; want {\"requests\": [{\"prompt_tokens\": 8000, \"output_tokens\": 1000, \"at_s\": 0}], \"max_concurrency\": null}", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, fault("text after the object")
	}
	if n := len(w.Requests); n == 0 || n > MaxWorkloadRequests {
		return nil, fault("requests: %d of them; want 1 to %d", n, MaxWorkloadRequests)
	}
	for i, r := range w.Requests {
		switch {
		case r.PromptTokens < 1 || r.PromptTokens > MaxWorkloadTokens:
			return nil, fault("requests[%d].prompt_tokens: %d; want a whole number from 1", i, r.PromptTokens)
		case r.OutputTokens < 1 || r.OutputTokens > MaxWorkloadTokens:
			return nil, fault("requests[%d].output_tokens: %d; want a whole number from 1", i, r.OutputTokens)
		case !(r.AtSeconds >= 0 && r.AtSeconds <= maxAtSeconds):
			return nil, fault("requests[%d].at_s: %v; want seconds from 0", i, r.AtSeconds)
		}
	}
	if c := w.MaxConcurrency; c != nil && *c < 1 {
		return nil, fault("max_concurrency: %d; want 1 or more, or null for no cap", *c)
	}
	if p := w.DraftProbability; p != nil && !(*p >= 0 && *p <= 1) {
		return nil, fault("draft_probability: %v; want 0 to 1", *p)
	}
	last := 1.0
	for i, a := range w.Acceptance {
		if !(a >= 0 && a <= last) {
			return nil, fault("acceptance[%d]: %v; want 0 to 1, not rising", i, a)
		}
		last = a
	}
	return w, nil
}

// WorkloadOptions are what a prediction leaves open.
type WorkloadOptions struct {
	// Version of vLLM; zero: vllm.DefaultVersion.
	Version vllm.Version
	// Profile of the model on its hardware; nil: GLM-4.6 on eight H200. Shape is
	// what vLLM's checks need to know of the model; zero: GLM-4.6.
	Profile *model.Profile
	Shape   vllm.ModelShape
}

// Workload predicts a workload under `vllm serve` flags: a string as a shell
// would read it, with or without the model in front. Flags not given take vLLM's
// defaults for the version; only the tensor-parallel size is then the profile's,
// since the model is on those GPUs. Prompts are distinct, sampling is greedy, the
// front end is on.
//
// It fails with *WorkloadError (also for a prompt that max_model_len does not
// hold), *vllm.UsageError, *vllm.RefusalError or *model.UnsupportedError.
func Workload(w *WorkloadFile, serve string, o WorkloadOptions) (*WorkloadResult, error) {
	argv, err := SplitFlags(serve)
	if err != nil {
		return nil, err
	}
	m, err := o.model(argv, w)
	if err != nil {
		return nil, err
	}
	run := mockvllm.VirtualRun{Engine: m.Sim(), Timer: m, Requests: make([]mockvllm.VirtualRequest, len(w.Requests))}
	for i, r := range w.Requests {
		run.Requests[i] = mockvllm.VirtualRequest{
			At:           time.Duration(r.AtSeconds * float64(time.Second)),
			PromptTokens: r.PromptTokens, OutputTokens: r.OutputTokens,
		}
	}
	if w.MaxConcurrency != nil {
		run.MaxConcurrency = *w.MaxConcurrency
	}
	res, err := mockvllm.RunVirtual(run)
	var refused *engine.RequestError
	switch {
	case errors.As(err, &refused):
		return nil, &WorkloadError{Text: fmt.Sprintf("%v (max_model_len is %d; vLLM answers 400)", err, m.MaxModelLen()), Err: err}
	case err != nil:
		return nil, err
	}
	s := Summarize(res)
	return &WorkloadResult{
		KVTokens: m.KVTokens(), DurationS: s.DurationSeconds,
		OutputThroughput: s.OutputThroughput, TotalTokenThroughput: s.TotalThroughput,
		MeanTTFTMs: s.TTFT.MeanMs, MedianTTFTMs: s.TTFT.MedianMs, P99TTFTMs: s.TTFT.P99Ms,
		MeanTPOTMs: s.TPOT.MeanMs, MedianTPOTMs: s.TPOT.MedianMs, P99TPOTMs: s.TPOT.P99Ms,
		MeanITLMs: s.ITL.MeanMs, MedianITLMs: s.ITL.MedianMs, P99ITLMs: s.ITL.P99Ms,
		MeanE2ELMs: s.E2EL.MeanMs, MedianE2ELMs: s.E2EL.MedianMs, P99E2ELMs: s.E2EL.P99Ms,
		Preemptions: s.Preemptions, Steps: s.Steps,
	}, nil
}

func (o WorkloadOptions) model(argv []string, w *WorkloadFile) (*model.Model, error) {
	if o.Version.IsZero() {
		o.Version = vllm.MustVersion(vllm.DefaultVersion)
	}
	builtIn := o.Profile == nil
	if builtIn {
		o.Profile = model.GLM46H200()
	}
	if o.Shape.Name == "" {
		o.Shape = vllm.GLM46()
	}
	if len(argv) > 0 && argv[0] == "vllm" {
		argv = argv[1:]
	}
	if len(argv) > 0 && argv[0] == "serve" {
		argv = argv[1:]
	}
	if len(argv) == 0 || strings.HasPrefix(argv[0], "-") {
		argv = append([]string{o.Shape.Name}, argv...)
	}
	args, err := vllm.ParseServeArgs(o.Version, argv)
	if err != nil {
		return nil, err
	}
	if !args.Set["--tensor-parallel-size"] {
		args.TensorParallelSize = o.Profile.Shape.TensorParallelSize
	}
	c, err := args.Resolve(o.Version, o.Shape)
	if err != nil {
		return nil, err
	}
	if builtIn {
		o.Profile = model.BuiltIn(c)
	}
	return model.New(o.Profile, c, model.Options{DrawNGram: true, Acceptance: w.acceptance(o.Profile, c)})
}

// acceptance is the workload's own, where it has any.
func (w *WorkloadFile) acceptance(p *model.Profile, c vllm.EngineConfig) *engine.Acceptance {
	if c.Spec == nil || w.DraftProbability == nil && len(w.Acceptance) == 0 {
		return nil
	}
	a := &engine.Acceptance{DraftProbability: p.Speculation.NGramDraftProbability, Cumulative: p.Speculation.NGramAcceptance}
	if c.Spec.Method == engine.SpecMTP {
		a.DraftProbability, a.Cumulative = p.Speculation.MTPDraftProbability, p.Speculation.MTPAcceptance
	}
	if w.DraftProbability != nil {
		a.DraftProbability = *w.DraftProbability
	}
	if len(w.Acceptance) > 0 {
		a.Cumulative = w.Acceptance
	}
	return a
}

// SplitFlags splits flags as a shell does, without expanding anything. JSON
// objects may stand without quotes.
//
// It fails with *WorkloadError.
func SplitFlags(text string) ([]string, error) {
	fields, err := shell.Fields(quoteJSON(text), func(name string) string { return "$" + name })
	if err != nil {
		return nil, &WorkloadError{Text: fmt.Sprintf("flags %q: %v; quote values as in a shell", clip(text), err)}
	}
	return fields, nil
}

// quoteJSON puts quotes around JSON objects that begin a word or follow "=",
// outside of quotes.
func quoteJSON(text string) string {
	var out strings.Builder
	quote := byte(0)
	for i := 0; i < len(text); i++ {
		c := text[i]
		starts := i == 0 || text[i-1] == ' ' || text[i-1] == '=' || text[i-1] == '\t' || text[i-1] == '\n'
		switch {
		case quote == 0 && c == '{' && starts:
			if n := jsonLength(text[i:]); n > 0 {
				out.WriteString("'" + strings.ReplaceAll(text[i:i+n], "'", `'\''`) + "'")
				i += n - 1
				continue
			}
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '\'' || c == '"'):
			quote = c
		case c == '\\' && quote != '\'' && i+1 < len(text):
			out.WriteByte(c)
			i++
			c = text[i]
		}
		out.WriteByte(c)
	}
	return out.String()
}

// jsonLength is the length of the JSON value that text begins with, 0 if none.
func jsonLength(text string) int {
	dec := json.NewDecoder(strings.NewReader(text))
	var v json.RawMessage
	if dec.Decode(&v) != nil {
		return 0
	}
	return int(dec.InputOffset())
}

func clip(s string) string {
	if len(s) > 80 {
		return strings.ToValidUTF8(s[:80], "") + "..."
	}
	return s
}

// IsRefusal reports whether err is the engine's refusal of a configuration.
func IsRefusal(err error) bool {
	var refusal *vllm.RefusalError
	return errors.As(err, &refusal)
}
