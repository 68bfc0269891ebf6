package vllm

// Usage is the usage object of an answer.
type Usage struct {
	PromptTokens, CompletionTokens int
	CachedTokens                   int
	// Details: prompt_tokens_details is shown.
	Details bool
}

// FrameHead are the parts of a stream that stay the same.
type FrameHead struct {
	ID      string
	Created int64
	Model   string
	Chat    bool
	// Reasoning: the text goes into the reasoning field of version v.
	Reasoning bool
}

// StreamFrames are the pre-encoded parts of one stream's events, each complete
// with "data: " and the blank line, except where a text goes in between.
type StreamFrames struct {
	// Role is the whole first event of a chat; empty for completions.
	Role []byte
	// Prefix + JSON string (with quotes) + Suffix is one token event.
	Prefix, Suffix []byte
	// ReasoningPrefix/Suffix carry reasoning text (chat with a parser).
	ReasoningPrefix, ReasoningSuffix []byte
	// LastPrefix + JSON string + LastMiddle + JSON finish_reason + LastSuffix
	// is the event that ends the choice.
	LastPrefix, LastMiddle, LastSuffix []byte
}

// Done is the last event of every stream.
const Done = "data: [DONE]\n\n"

// NewStreamFrames builds the parts for version v.
func NewStreamFrames(v Version, h FrameHead) StreamFrames { return StreamFrames{} }
