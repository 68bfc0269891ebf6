package vllm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"strconv"
)

// Usage is the usage object of an answer.
type Usage struct {
	PromptTokens, CompletionTokens int
	CachedTokens                   int
	// Details: prompt_tokens_details is shown (--enable-prompt-tokens-details).
	Details bool
}

// AppendJSON appends the object as streams carry it; a non-stream answer also
// shows prompt_tokens_details as null without Details (full).
//
// Source: docs/vllm.md section 3.3.
func (u Usage) AppendJSON(dst []byte, full bool) []byte {
	dst = append(dst, `{"prompt_tokens":`...)
	dst = strconv.AppendInt(dst, int64(u.PromptTokens), 10)
	dst = append(dst, `,"total_tokens":`...)
	dst = strconv.AppendInt(dst, int64(u.PromptTokens)+int64(u.CompletionTokens), 10)
	dst = append(dst, `,"completion_tokens":`...)
	dst = strconv.AppendInt(dst, int64(u.CompletionTokens), 10)
	switch {
	case u.Details:
		dst = append(dst, `,"prompt_tokens_details":{"cached_tokens":`...)
		dst = strconv.AppendInt(dst, int64(u.CachedTokens), 10)
		dst = append(dst, '}')
	case full:
		dst = append(dst, `,"prompt_tokens_details":null`...)
	}
	return append(dst, '}')
}

// FrameHead are the parts of a stream that stay the same.
type FrameHead struct {
	// ID with its prefix: "chatcmpl-..." or "cmpl-...".
	ID      string
	Created int64 // seconds since 1970
	Model   string
	Chat    bool
	// Fingerprint is system_fingerprint ("" where the version has none; see
	// Fingerprint).
	Fingerprint string
	// Index of the choice.
	Index int
}

// TextFrame holds the parts of one event around its text: Prefix, the JSON
// string (with its quotes), Suffix. Where Middle is not nil, the version writes
// the text twice: Prefix, string, Middle, string, Suffix. Events are complete
// with "data: " and the blank line.
type TextFrame struct{ Prefix, Middle, Suffix []byte }

// Append appends the event that carries text, a JSON string with its quotes.
func (f *TextFrame) Append(dst, text []byte) []byte {
	dst = append(dst, f.Prefix...)
	dst = append(dst, text...)
	if f.Middle != nil {
		dst = append(dst, f.Middle...)
		dst = append(dst, text...)
	}
	return append(dst, f.Suffix...)
}

// LastFrame is the event that ends a choice: a TextFrame whose Suffix stops
// before the value of finish_reason, then that value (`"stop"` or `"length"`
// with quotes), Stop, the value of stop_reason (`null`, a string or a number),
// and End.
type LastFrame struct {
	TextFrame
	Stop, End []byte
}

// AppendLast appends the ending event. finish is the JSON of finish_reason and
// stop that of stop_reason.
func (f *LastFrame) AppendLast(dst, text []byte, finish, stop string) []byte {
	dst = f.Append(dst, text)
	dst = append(dst, finish...)
	dst = append(dst, f.Stop...)
	dst = append(dst, stop...)
	return append(dst, f.End...)
}

// StreamFrames are the pre-encoded parts of one stream's events.
type StreamFrames struct {
	// Role is the whole first event of a chat; nil for completions.
	Role []byte
	// Text carries generated text, Reasoning text inside of the thinking of a
	// model with a reasoning parser (chat only).
	Text, Reasoning TextFrame
	// Last and LastReasoning end the choice.
	Last, LastReasoning LastFrame
	// usageOpen starts the event that carries the usage.
	usageOpen []byte
	chat      bool
}

// Done is the last event of every stream.
const Done = "data: [DONE]\n\n"

// frameStyle is how a version writes frames.
// Source: docs/vllm.md section 3.3.
type frameStyle struct {
	tokenIDs       bool // token_ids and prompt_token_ids exist
	promptText     bool // prompt_text exists
	reasoning      bool // field reasoning
	reasoningOld   bool // field reasoning_content
	alwaysOldNull  bool // reasoning_content null in every delta
	fingerprint    bool
	emptyToolCalls bool // tool_calls [] in messages
	wideMessage    bool // refusal, annotations, audio, function_call
}

func styleOf(v Version) frameStyle {
	return frameStyle{
		tokenIDs:       v.AtLeast("0.10.1"),
		promptText:     v.AtLeast("0.27.0"),
		reasoning:      v.AtLeast("0.11.1"),
		reasoningOld:   !v.AtLeast("0.16.0"),
		alwaysOldNull:  v.AtLeast("0.11.1") && !v.AtLeast("0.16.0"),
		fingerprint:    v.AtLeast("0.21.0"),
		emptyToolCalls: !v.AtLeast("0.25.0"),
		wideMessage:    v.AtLeast("0.10.1"),
	}
}

// ReasoningFields names the delta fields that carry thinking in version v:
// "reasoning_content", both, or "reasoning".
//
// Source: docs/vllm.md section 3.3.
func ReasoningFields(v Version) []string {
	s := styleOf(v)
	var out []string
	if s.reasoning {
		out = append(out, "reasoning")
	}
	if s.reasoningOld {
		out = append(out, "reasoning_content")
	}
	return out
}

// Fingerprint is the system_fingerprint of version v, "" where it is null. The
// last part is a hash of ours: vLLM's own was not read.
//
// Source: docs/vllm.md section 3.3.
func Fingerprint(v Version, c EngineConfig) string {
	if !styleOf(v).fingerprint || c.Args.FingerprintMode == "none" {
		return ""
	}
	h := fnv.New32a()
	fmt.Fprintf(h, "%s|%s|%s|%d|%d", v, c.Model, c.Dtype, c.TensorParallelSize, c.DataParallelSize)
	out := "vllm-" + v.String()
	if c.TensorParallelSize > 1 {
		out += fmt.Sprintf("-tp%d", c.TensorParallelSize)
	}
	if c.DataParallelSize > 1 {
		out += fmt.Sprintf("-dp%d", c.DataParallelSize)
	}
	if c.EnableExpertParallel {
		out += "-ep"
	}
	return fmt.Sprintf("%s-%08x", out, h.Sum32())
}

// NewStreamFrames builds the parts of a stream's events for version v.
func NewStreamFrames(v Version, h FrameHead) StreamFrames {
	if h.Chat {
		return chatFrames(v, h)
	}
	return completionFrames(v, h)
}

// head gives the fields before "choices".
func (h FrameHead) head(object string) string {
	return fmt.Sprintf(`{"id":%s,"object":%s,"created":%d,"model":%s,"choices":[`, quoteJSON(h.ID), quoteJSON(object), h.Created, quoteJSON(h.Model))
}

func chatFrames(v Version, h FrameHead) StreamFrames {
	s := styleOf(v)
	open := "data: " + h.head("chat.completion.chunk")
	role := open + `{"index":0,"delta":{"role":"assistant","content":""`
	if s.alwaysOldNull {
		role += `,"reasoning_content":null`
	}
	role += `},"logprobs":null,"finish_reason":null}]`
	if s.tokenIDs {
		role += `,"prompt_token_ids":null`
	}
	if s.promptText {
		role += `,"prompt_text":null`
	}
	role += "}\n\n"

	content := TextFrame{Prefix: []byte(open + `{"index":0,"delta":{"content":`)}
	after := ""
	if s.alwaysOldNull {
		after = `,"reasoning_content":null`
	}
	thinking := TextFrame{Prefix: []byte(open + `{"index":0,"delta":{"` + ReasoningFields(v)[0] + `":`)}
	if s.reasoning && s.reasoningOld {
		thinking.Middle = []byte(`,"reasoning_content":`)
	}
	mid := `},"logprobs":null,"finish_reason":`
	ids := ""
	if s.tokenIDs {
		ids = `,"token_ids":null`
	}
	end := ids + "}]}\n\n"
	last := ids + "}]"
	if h.Fingerprint != "" {
		last += `,"system_fingerprint":` + quoteJSON(h.Fingerprint)
	}
	last += "}\n\n"
	build := func(t TextFrame, after string) (TextFrame, LastFrame) {
		plain := TextFrame{Prefix: t.Prefix, Middle: t.Middle, Suffix: []byte(after + mid + "null" + end)}
		ending := LastFrame{
			TextFrame: TextFrame{Prefix: t.Prefix, Middle: t.Middle, Suffix: []byte(after + mid)},
			Stop:      []byte(`,"stop_reason":`), End: []byte(last),
		}
		return plain, ending
	}
	f := StreamFrames{Role: []byte(role), usageOpen: []byte(open + `],"usage":`), chat: true}
	f.Text, f.Last = build(content, after)
	f.Reasoning, f.LastReasoning = build(thinking, "")
	return f
}

func completionFrames(v Version, h FrameHead) StreamFrames {
	s := styleOf(v)
	open := "data: " + h.head("text_completion")
	ids := ""
	if s.tokenIDs {
		ids = `,"prompt_token_ids":null,"token_ids":null`
	}
	print := ""
	if h.Fingerprint != "" {
		print = `,"system_fingerprint":` + quoteJSON(h.Fingerprint)
	}
	prefix := []byte(open + `{"index":` + strconv.Itoa(h.Index) + `,"text":`)
	mid := `,"logprobs":null,"finish_reason":`
	f := StreamFrames{
		Text: TextFrame{Prefix: prefix, Suffix: []byte(mid + `null,"stop_reason":null` + ids + `}],"usage":null}` + "\n\n")},
		Last: LastFrame{
			TextFrame: TextFrame{Prefix: prefix, Suffix: []byte(mid)},
			Stop:      []byte(`,"stop_reason":`), End: []byte(ids + `}]` + print + `,"usage":null}` + "\n\n"),
		},
		usageOpen: []byte(open + `],"usage":`),
	}
	f.Reasoning, f.LastReasoning = f.Text, f.Last
	return f
}

// AppendUsage appends the event that carries the usage alone, its choices
// empty.
func (f *StreamFrames) AppendUsage(dst []byte, u Usage) []byte {
	dst = append(dst, f.usageOpen...)
	dst = u.AppendJSON(dst, false)
	return append(dst, "}\n\n"...)
}

var (
	choicesEnd = []byte("}]")
	usageNull  = []byte(`,"usage":null}` + "\n\n")
)

// AppendWithUsage appends event, one whole event of this stream, with the usage
// put in: continuous_usage_stats.
func (f *StreamFrames) AppendWithUsage(dst, event []byte, u Usage) []byte {
	if !f.chat {
		dst = append(dst, bytes.TrimSuffix(event, usageNull)...)
		dst = append(dst, `,"usage":`...)
		dst = u.AppendJSON(dst, false)
		return append(dst, "}\n\n"...)
	}
	// The text of a chunk may hold "}]" too; its last one ends the choices,
	// because nothing after them holds a bracket.
	i := bytes.LastIndex(event, choicesEnd)
	if i < 0 {
		return append(dst, event...)
	}
	i += len(choicesEnd)
	dst = append(dst, event[:i]...)
	dst = append(dst, `,"usage":`...)
	dst = u.AppendJSON(dst, false)
	return append(dst, event[i:]...)
}

// Answer is what a non-stream answer says.
type Answer struct {
	FrameHead
	// Choices has one, or several of a completion.
	Choices []Choice
	Usage   Usage
}

// Choice of an answer. What is JSON and empty is null.
type Choice struct {
	Text string
	// Reasoning is the thinking of a chat, "" if none.
	Reasoning string
	// FinishReason "stop", "length" or "abort".
	FinishReason string
	// JSON: stop_reason, logprobs, and where asked for the ids of the tokens.
	StopReason, Logprobs, TokenIDs, PromptTokenIDs string
}

func orNull(json string) string {
	if json == "" {
		return "null"
	}
	return json
}

// AnswerBody is the JSON of a non-stream answer of version v, nulls included.
//
// Source: docs/vllm.md section 3.4.
func AnswerBody(v Version, a Answer) []byte {
	s := styleOf(v)
	var b bytes.Buffer
	object := "text_completion"
	if a.Chat {
		object = "chat.completion"
	}
	b.WriteString(a.head(object))
	promptIDs := "null" // of a chat: it has one choice
	for i, c := range a.Choices {
		if i > 0 {
			b.WriteByte(',')
		}
		promptIDs = orNull(c.PromptTokenIDs)
		if a.Chat {
			b.WriteString(`{"index":0,"message":` + chatMessage(s, c))
		} else {
			fmt.Fprintf(&b, `{"index":%d,"text":%s`, i, quoteJSON(c.Text))
		}
		fmt.Fprintf(&b, `,"logprobs":%s,"finish_reason":%s,"stop_reason":%s`, orNull(c.Logprobs), quoteJSON(c.FinishReason), orNull(c.StopReason))
		if s.tokenIDs {
			b.WriteString(`,"token_ids":` + orNull(c.TokenIDs))
		}
		if !a.Chat {
			b.WriteString(`,"prompt_logprobs":null`)
			if s.tokenIDs {
				b.WriteString(`,"prompt_token_ids":` + promptIDs)
			}
		}
		b.WriteByte('}')
	}
	b.WriteByte(']')
	if s.tokenIDs {
		print := "null"
		if a.Fingerprint != "" {
			print = quoteJSON(a.Fingerprint)
		}
		b.WriteString(`,"service_tier":null,"system_fingerprint":` + print)
	}
	b.WriteString(`,"usage":`)
	b.Write(a.Usage.AppendJSON(nil, true))
	if a.Chat {
		b.WriteString(`,"prompt_logprobs":null`)
		if s.tokenIDs {
			b.WriteString(`,"prompt_token_ids":` + promptIDs)
		}
		if s.promptText {
			b.WriteString(`,"prompt_text":null`)
		}
	}
	if v.AtLeast("0.9.0") {
		b.WriteString(`,"kv_transfer_params":null`)
	}
	b.WriteString("}")
	return b.Bytes()
}

// chatMessage is the message object of a chat answer.
func chatMessage(s frameStyle, a Choice) string {
	reasoning := "null"
	if a.Reasoning != "" {
		reasoning = quoteJSON(a.Reasoning)
	}
	content := quoteJSON(a.Text)
	if a.Text == "" && a.Reasoning != "" {
		content = "null"
	}
	if !s.wideMessage {
		return `{"role":"assistant","reasoning_content":` + reasoning + `,"content":` + content + `,"tool_calls":[]}`
	}
	m := `{"role":"assistant","content":` + content + `,"refusal":null,"annotations":null,"audio":null,"function_call":null`
	if s.emptyToolCalls {
		m += `,"tool_calls":[]`
	}
	if s.reasoning {
		m += `,"reasoning":` + reasoning
	}
	if s.reasoningOld {
		m += `,"reasoning_content":` + reasoning
	}
	return m + "}"
}

// quoteJSON writes a JSON string as vLLM does: no HTML escapes.
func quoteJSON(s string) string { return string(AppendJSONString(nil, s)) }

// AppendJSONString appends s as a JSON string with quotes. Only what JSON
// demands is escaped; invalid UTF-8 becomes U+FFFD.
func AppendJSONString(dst []byte, s string) []byte {
	plain := true
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < 0x20 || c >= 0x7f || c == '"' || c == '\\' {
			plain = false
			break
		}
	}
	if plain {
		dst = append(dst, '"')
		dst = append(dst, s...)
		return append(dst, '"')
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string cannot fail
	return append(dst, bytes.TrimSuffix(b.Bytes(), []byte("\n"))...)
}
