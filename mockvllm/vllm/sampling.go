package vllm

import (
	"fmt"
	"strings"
)

// SamplingValues are the fields of a request that vLLM checks after reading it.
// A field that was not given has the value that is always allowed.
type SamplingValues struct {
	// MaxTokens is negative when not given.
	MaxTokens, MinTokens, N               int
	Temperature, TopP, MinP               float64
	TopK                                  int
	Presence, Frequency, Repetition       float64
	EmptyStop, StreamOptionsWithoutStream bool
}

// DefaultSamplingValues are those of a request that says nothing.
func DefaultSamplingValues() SamplingValues {
	return SamplingValues{MaxTokens: -1, N: 1, Temperature: 1, TopP: 1, Repetition: 1}
}

// SamplingError is the message of the 400 for values out of range, "" if all
// are in it. The first fault in vLLM's order counts.
//
// Source: vLLM 0.11.1, vllm/sampling_params.py SamplingParams._verify_args, and
// vllm/entrypoints/openai/protocol.py for the stream options.
func SamplingError(v Version, s SamplingValues) string {
	topK := "top_k must be 0 (disable), or at least 1, got %d."
	if !v.AtLeast("0.9.0") {
		topK = "top_k must be -1 (disable), or at least 1, got %d."
	}
	checks := []struct {
		bad  bool
		text string
	}{
		{s.StreamOptionsWithoutStream, "Stream options can only be defined when `stream=True`."},
		{s.N < 1, fmt.Sprintf("n must be at least 1, got %d.", s.N)},
		{s.Presence < -2 || s.Presence > 2, fmt.Sprintf("presence_penalty must be in [-2, 2], got %s.", pyFloatText(s.Presence))},
		{s.Frequency < -2 || s.Frequency > 2, fmt.Sprintf("frequency_penalty must be in [-2, 2], got %s.", pyFloatText(s.Frequency))},
		{s.Repetition <= 0, fmt.Sprintf("repetition_penalty must be greater than zero, got %s.", pyFloatText(s.Repetition))},
		{s.Temperature < 0, fmt.Sprintf("temperature must be non-negative, got %s.", pyFloatText(s.Temperature))},
		{!(s.TopP > 0 && s.TopP <= 1), fmt.Sprintf("top_p must be in (0, 1], got %s.", pyFloatText(s.TopP))},
		{s.TopK < -1, fmt.Sprintf(topK, s.TopK)},
		{!(s.MinP >= 0 && s.MinP <= 1), fmt.Sprintf("min_p must be in [0, 1], got %s.", pyFloatText(s.MinP))},
		{s.MaxTokens == 0, "max_tokens must be at least 1, got 0."},
		{s.MinTokens < 0, fmt.Sprintf("min_tokens must be greater than or equal to 0, got %d.", s.MinTokens)},
		{s.MaxTokens >= 0 && s.MinTokens > s.MaxTokens, fmt.Sprintf("min_tokens must be less than or equal to max_tokens=%d, got %d.", s.MaxTokens, s.MinTokens)},
		{s.EmptyStop, "stop cannot contain an empty string."},
	}
	for _, c := range checks {
		if c.bad {
			return c.text
		}
	}
	return ""
}

// Messages of refusals that no version words differently.
//
// Source: vLLM 0.11.1, vllm/entrypoints/openai/serving_engine.py and
// vllm/v1/engine/processor.py.
const (
	EmptyPromptMessage = "The decoder prompt cannot be empty"
	MediaTypeMessage   = "Unsupported Media Type: Only 'application/json' is allowed"
)

// TokenOutOfVocabularyMessage refuses a prompt of token ids.
//
// Source: vLLM 0.11.1, vllm/v1/engine/processor.py.
func TokenOutOfVocabularyMessage(id int) string {
	return fmt.Sprintf("Token id %d is out of vocabulary", id)
}

// FieldError is a body that does not fit the request's schema.
type FieldError struct {
	// Type and Message are pydantic's: "missing", "Field required".
	Type, Message string
	// Loc is the path below "body".
	Loc []string
	// Context is the reason inside of a JSON error.
	Context string
}

func (e *FieldError) Error() string {
	var loc strings.Builder
	for _, l := range e.Loc {
		loc.WriteString(", " + pyQuote(l))
	}
	tail := ""
	if e.Context != "" {
		tail = fmt.Sprintf(", 'input': {}, 'ctx': {'error': %s}", pyQuote(e.Context))
	}
	return fmt.Sprintf("[{'type': %s, 'loc': ('body'%s), 'msg': %s%s}]", pyQuote(e.Type), loc.String(), pyQuote(e.Message), tail)
}
