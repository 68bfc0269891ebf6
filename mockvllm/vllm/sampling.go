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
	// Logprobs are asked for, with those of the TopLogprobs likeliest tokens.
	Chat, Logprobs bool
	TopLogprobs    int
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
	number := func(format string, x float64) string { return fmt.Sprintf(format, pyFloatText(x)) }
	switch {
	case s.StreamOptionsWithoutStream:
		return "Stream options can only be defined when `stream=True`."
	case s.TopLogprobs < 0 && s.Chat && !(s.TopLogprobs == -1 && v.AtLeast("0.11.0")):
		return "`top_logprobs` must be a positive value."
	case s.Chat && s.TopLogprobs != 0 && !s.Logprobs:
		return "when using `top_logprobs`, `logprobs` must be set to true."
	case s.TopLogprobs < 0 && !s.Chat && !(s.TopLogprobs == -1 && v.AtLeast("0.11.0")):
		return "`logprobs` must be a positive value."
	case s.N < 1:
		return fmt.Sprintf("n must be at least 1, got %d.", s.N)
	case s.Presence < -2 || s.Presence > 2:
		return number("presence_penalty must be in [-2, 2], got %s.", s.Presence)
	case s.Frequency < -2 || s.Frequency > 2:
		return number("frequency_penalty must be in [-2, 2], got %s.", s.Frequency)
	case s.Repetition <= 0:
		return number("repetition_penalty must be greater than zero, got %s.", s.Repetition)
	case s.Temperature < 0:
		return number("temperature must be non-negative, got %s.", s.Temperature)
	case !(s.TopP > 0 && s.TopP <= 1):
		return number("top_p must be in (0, 1], got %s.", s.TopP)
	case s.TopK < -1 && v.AtLeast("0.9.0"):
		return fmt.Sprintf("top_k must be 0 (disable), or at least 1, got %d.", s.TopK)
	case s.TopK < -1:
		return fmt.Sprintf("top_k must be -1 (disable), or at least 1, got %d.", s.TopK)
	case !(s.MinP >= 0 && s.MinP <= 1):
		return number("min_p must be in [0, 1], got %s.", s.MinP)
	case s.MaxTokens == 0:
		return "max_tokens must be at least 1, got 0."
	case s.MinTokens < 0:
		return fmt.Sprintf("min_tokens must be greater than or equal to 0, got %d.", s.MinTokens)
	case s.MaxTokens >= 0 && s.MinTokens > s.MaxTokens:
		return fmt.Sprintf("min_tokens must be less than or equal to max_tokens=%d, got %d.", s.MaxTokens, s.MinTokens)
	case s.EmptyStop:
		return "stop cannot contain an empty string."
	}
	return ""
}

// LogprobsError is the message of the 400 for more log-probabilities than
// --max-logprobs allows; "" if they are allowed. -1 asks for the whole
// vocabulary, and allows it as a maximum.
//
// Source: vLLM 0.11.1, vllm/v1/engine/processor.py _validate_logprobs.
func LogprobsError(c EngineConfig, asked int) string {
	most := c.MaxLogprobs
	if asked == -1 {
		asked = c.Shape.VocabSize
	}
	if most == -1 || asked <= most {
		return ""
	}
	return fmt.Sprintf("Requested sample logprobs of %d, which is greater than max allowed: %d", asked, most)
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
