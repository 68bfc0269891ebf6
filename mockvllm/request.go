package mockvllm

import (
	"math"
	"strconv"
	"unicode/utf8"
	"unsafe"

	"github.com/tidwall/gjson"

	"github.com/glm46/glm46/mockvllm/tokenizer"
	"github.com/glm46/glm46/mockvllm/vllm"
)

// generation is a request for text as read from its body. Fields that vLLM
// knows and that change nothing here are checked for their type and dropped.
type generation struct {
	chat  bool
	model string
	// prompts holds one, or several of a completion.
	prompts [][]int32
	vllm.SamplingValues
	seed    int64
	hasSeed bool

	stream, includeUsage, continuousUsage bool

	ignoreEOS   bool
	stop        []string
	stopIDs     []int32
	includeStop bool
	echo        bool
	cacheSalt   string
	requestID   string
	priority    int
	noThinking  bool
	truncate    int
	// logprobs: every token comes with its log-probability and those of the
	// TopLogprobs likeliest.
	logprobs bool
	tokenIDs bool

	messages, tools, rawPrompt gjson.Result
	hasPrompt                  bool
}

// badRequest is an answer of status 400.
type badRequest struct{ typ, message, param string }

func (e *badRequest) Error() string { return e.message }

func refusal(message string) *badRequest {
	return &badRequest{typ: vllm.ErrTypeBadRequest, message: message}
}

func invalid(e *vllm.FieldError) *badRequest {
	return &badRequest{typ: vllm.ErrTypeValidation, message: e.Error()}
}

// parseGeneration reads the body of a completion or a chat. Nothing in the
// result refers to the body, which may be used again.
func parseGeneration(v vllm.Version, body []byte, chat bool) (*generation, *badRequest) {
	g := &generation{chat: chat, SamplingValues: vllm.DefaultSamplingValues()}
	root, bad := parseBody(body)
	if bad != nil {
		return nil, bad
	}
	var f fields
	streamOptions := false
	root.ForEach(func(key, val gjson.Result) bool {
		if val.Type == gjson.Null {
			return true
		}
		switch name := key.Str; name {
		case "model":
			g.model = f.text(name, val)
		case "prompt":
			g.rawPrompt, g.hasPrompt = val, true
		case "messages":
			g.messages = val
		case "tools":
			g.tools = val
		case "stream":
			g.stream = f.boolean(name, val)
		case "stream_options":
			streamOptions = true
			if !val.IsObject() {
				f.fail(name, "model_attributes_type", "Input should be a valid dictionary or object to extract fields from")
				return false
			}
			val.ForEach(func(k, o gjson.Result) bool {
				if o.Type == gjson.Null {
					return true
				}
				switch k.Str {
				case "include_usage":
					g.includeUsage = f.boolean(name, o)
				case "continuous_usage_stats":
					g.continuousUsage = f.boolean(name, o)
				}
				return true
			})
		case "max_tokens":
			if g.MaxTokens < 0 {
				g.MaxTokens = f.count(name, val)
			}
		case "max_completion_tokens":
			if chat {
				g.MaxTokens = f.count(name, val)
			}
		case "min_tokens":
			g.MinTokens = f.integer(name, val)
		case "n":
			g.N = f.integer(name, val)
		case "temperature":
			g.Temperature = f.number(name, val)
		case "top_p":
			g.TopP = f.number(name, val)
		case "min_p":
			g.MinP = f.number(name, val)
		case "top_k":
			g.TopK = f.integer(name, val)
		case "presence_penalty":
			g.Presence = f.number(name, val)
		case "frequency_penalty":
			g.Frequency = f.number(name, val)
		case "repetition_penalty":
			g.Repetition = f.number(name, val)
		case "seed":
			g.seed, g.hasSeed = int64(f.integer(name, val)), true
		case "ignore_eos":
			g.ignoreEOS = f.boolean(name, val)
		case "stop":
			g.stop = f.texts(name, val)
		case "stop_token_ids":
			g.stopIDs = f.ids(name, val)
		case "include_stop_str_in_output":
			g.includeStop = f.boolean(name, val)
		case "echo":
			g.echo = f.boolean(name, val)
		case "cache_salt":
			if g.cacheSalt = f.text(name, val); g.cacheSalt == "" {
				f.fail(name, "value_error", "Value error, Parameter 'cache_salt' must be a non-empty string if provided.")
			}
		case "request_id":
			g.requestID = f.text(name, val)
		case "priority":
			g.priority = f.integer(name, val)
		case "truncate_prompt_tokens":
			g.truncate = f.integer(name, val)
		case "chat_template_kwargs":
			g.noThinking = val.Get("enable_thinking").Type == gjson.False
		case "logprobs":
			if chat {
				g.logprobs = f.boolean(name, val)
			} else {
				g.logprobs, g.TopLogprobs = true, f.integer(name, val)
			}
		case "top_logprobs":
			if chat {
				g.TopLogprobs = f.integer(name, val)
			}
		case "return_token_ids":
			g.tokenIDs = f.boolean(name, val)
		}
		return f.err == nil
	})
	if f.err != nil {
		return nil, invalid(f.err)
	}
	g.StreamOptionsWithoutStream = streamOptions && !g.stream
	g.Chat, g.Logprobs = chat, g.logprobs
	for _, s := range g.stop {
		if s == "" {
			g.EmptyStop = true
		}
	}
	if msg := vllm.SamplingError(v, g.SamplingValues); msg != "" {
		return nil, refusal(msg)
	}
	if bad := g.tokenize(); bad != nil {
		return nil, bad
	}
	g.rawPrompt, g.messages, g.tools = gjson.Result{}, gjson.Result{}, gjson.Result{}
	return g, nil
}

// parseBody checks that the body is one JSON object.
func parseBody(body []byte) (gjson.Result, *badRequest) {
	if !gjson.ValidBytes(body) || !utf8.Valid(body) {
		return gjson.Result{}, invalid(&vllm.FieldError{
			Type: "json_invalid", Loc: []string{"0"}, Message: "JSON decode error", Context: "Expecting value",
		})
	}
	// The strings inside are copied before the body is reused.
	root := gjson.Parse(unsafe.String(unsafe.SliceData(body), len(body)))
	if !root.IsObject() {
		return gjson.Result{}, invalid(&vllm.FieldError{
			Type: "model_attributes_type", Message: "Input should be a valid dictionary or object to extract fields from",
		})
	}
	return root, nil
}

// tokenize turns prompt or messages into token ids.
func (g *generation) tokenize() *badRequest {
	if g.chat {
		if !g.messages.Exists() {
			return invalid(&vllm.FieldError{Type: "missing", Loc: []string{"messages"}, Message: "Field required"})
		}
		ids, bad := chatTokens(g.messages, g.tools, g.noThinking, true)
		if bad != nil {
			return bad
		}
		return g.add(ids)
	}
	if !g.hasPrompt {
		return invalid(&vllm.FieldError{Type: "missing", Loc: []string{"prompt"}, Message: "Field required"})
	}
	p := g.rawPrompt
	if !p.IsArray() || p.Get("0").Type == gjson.Number {
		return g.addPrompt(p)
	}
	var bad *badRequest
	p.ForEach(func(_, one gjson.Result) bool {
		bad = g.addPrompt(one)
		return bad == nil
	})
	if bad == nil && len(g.prompts) == 0 {
		bad = refusal(vllm.EmptyPromptMessage)
	}
	return bad
}

// addPrompt takes one prompt, a string or a list of token ids.
func (g *generation) addPrompt(p gjson.Result) *badRequest {
	switch {
	case p.Type == gjson.String:
		return g.add(tokenizer.Encode(p.Str))
	case p.IsArray():
		ids, bad := promptIDs(p)
		if bad != nil {
			return bad
		}
		return g.add(ids)
	}
	return invalid(&vllm.FieldError{Type: "string_type", Loc: []string{"prompt", "str"}, Message: "Input should be a valid string"})
}

// add keeps a prompt, or the end of one that is to be truncated, and refuses
// none.
func (g *generation) add(ids []int32) *badRequest {
	if n := g.truncate; n > 0 && len(ids) > n {
		ids = append([]int32(nil), ids[len(ids)-n:]...)
	}
	if len(ids) == 0 {
		return refusal(vllm.EmptyPromptMessage)
	}
	g.prompts = append(g.prompts, ids)
	return nil
}

// promptTokens sums over the prompts.
func (g *generation) promptTokens() int {
	n := 0
	for _, p := range g.prompts {
		n += len(p)
	}
	return n
}

func promptIDs(p gjson.Result) ([]int32, *badRequest) {
	var bad *badRequest
	ids := make([]int32, 0, len(p.Raw)/5+1)
	p.ForEach(func(_, val gjson.Result) bool {
		id := val.Num
		switch {
		case val.Type != gjson.Number || id != math.Trunc(id):
			bad = invalid(&vllm.FieldError{Type: "int_type", Loc: []string{"prompt", "list[int]"}, Message: "Input should be a valid integer"})
		case id < 0 || id >= tokenizer.Size:
			bad = refusal(vllm.TokenOutOfVocabularyMessage(int(max(min(id, 1e15), -1e15))))
		}
		ids = append(ids, int32(max(min(id, math.MaxInt32), 0)))
		return bad == nil
	})
	return ids, bad
}

// chatTokens renders messages by the form of GLM's chat template, which costs
// six tokens around a single user message.
//
// Source: docs/timing-model.md section 9 (6 template tokens).
func chatTokens(messages, tools gjson.Result, noThinking, addPrompt bool) ([]int32, *badRequest) {
	if !messages.IsArray() {
		return nil, invalid(&vllm.FieldError{Type: "list_type", Loc: []string{"messages"}, Message: "Input should be a valid list"})
	}
	newline := tokenizer.Encode("\n")
	ids := make([]int32, 0, len(messages.Raw)/4+16)
	ids = append(ids, tokenizer.GMask, tokenizer.StartOfText)
	turn := func(role int32) { ids = append(append(ids, role), newline...) }
	if tools.IsArray() {
		turn(tokenizer.System)
		ids = tokenizer.AppendTokens(ids, tools.Raw)
	}
	var bad *badRequest
	index := 0
	messages.ForEach(func(_, m gjson.Result) bool {
		role := m.Get("role")
		if !m.IsObject() || role.Type != gjson.String {
			bad = invalid(&vllm.FieldError{Type: "missing", Loc: []string{"messages", strconv.Itoa(index), "role"}, Message: "Field required"})
			return false
		}
		index++
		switch role.Str {
		case "user":
			turn(tokenizer.User)
		case "assistant":
			turn(tokenizer.Assistant)
		case "tool":
			turn(tokenizer.Observation)
		default: // system, developer
			turn(tokenizer.System)
		}
		ids, bad = appendContent(ids, m.Get("content"), index-1)
		if calls := m.Get("tool_calls"); calls.IsArray() {
			ids = tokenizer.AppendTokens(ids, calls.Raw)
		}
		if role.Str == "user" && noThinking {
			ids = tokenizer.AppendTokens(ids, "/nothink")
		}
		return bad == nil
	})
	if addPrompt {
		turn(tokenizer.Assistant)
		if noThinking {
			ids = append(ids, tokenizer.ThinkBegin, tokenizer.ThinkEnd)
		}
	}
	return ids, bad
}

// appendContent appends the tokens of a message's text, a string or a list of
// text parts.
func appendContent(ids []int32, c gjson.Result, index int) ([]int32, *badRequest) {
	loc := []string{"messages", strconv.Itoa(index), "content"}
	switch {
	case c.Type == gjson.Null:
		return ids, nil
	case c.Type == gjson.String:
		return tokenizer.AppendTokens(ids, c.Str), nil
	case c.IsArray():
		var bad *badRequest
		c.ForEach(func(_, part gjson.Result) bool {
			switch t := part.Get("text"); {
			case part.Type == gjson.String:
				ids = tokenizer.AppendTokens(ids, part.Str)
			case t.Type == gjson.String:
				ids = tokenizer.AppendTokens(ids, t.Str)
			default:
				bad = refusal("only text parts are supported by this model")
			}
			return bad == nil
		})
		return ids, bad
	}
	return ids, invalid(&vllm.FieldError{Type: "string_type", Loc: loc, Message: "Input should be a valid string"})
}

// fields reads values as pydantic does in its lax mode and keeps the first fault.
type fields struct{ err *vllm.FieldError }

func (f *fields) fail(name, typ, message string) {
	if f.err == nil {
		f.err = &vllm.FieldError{Type: typ, Loc: []string{name}, Message: message}
	}
}

func (f *fields) text(name string, v gjson.Result) string {
	if v.Type != gjson.String {
		f.fail(name, "string_type", "Input should be a valid string")
		return ""
	}
	return cloneString(v.Str)
}

// cloneString frees a string from the body it points into.
func cloneString(s string) string { return string([]byte(s)) }

func (f *fields) boolean(name string, v gjson.Result) bool {
	switch v.Type {
	case gjson.True:
		return true
	case gjson.False:
		return false
	case gjson.Number:
		if v.Num == 0 || v.Num == 1 {
			return v.Num == 1
		}
	case gjson.String:
		switch v.Str {
		case "true", "True", "1", "on", "yes":
			return true
		case "false", "False", "0", "off", "no":
			return false
		}
	}
	f.fail(name, "bool_parsing", "Input should be a valid boolean, unable to interpret input")
	return false
}

func (f *fields) integer(name string, v gjson.Result) int {
	n, ok := v.Num, v.Type == gjson.Number
	if v.Type == gjson.String {
		i, err := strconv.ParseInt(v.Str, 10, 64)
		n, ok = float64(i), err == nil
	}
	switch {
	case !ok:
		f.fail(name, "int_type", "Input should be a valid integer")
	case n != math.Trunc(n):
		f.fail(name, "int_from_float", "Input should be a valid integer, got a number with a fractional part")
	case math.Abs(n) > 1<<53:
		f.fail(name, "less_than_equal", "Input should be less than or equal to 9223372036854775807")
	default:
		return int(n)
	}
	return 0
}

// count is an integer of which negative values mean 0, so that they are refused.
func (f *fields) count(name string, v gjson.Result) int { return max(0, f.integer(name, v)) }

func (f *fields) number(name string, v gjson.Result) float64 {
	switch v.Type {
	case gjson.Number:
		return v.Num
	case gjson.String:
		if x, err := strconv.ParseFloat(v.Str, 64); err == nil {
			return x
		}
	}
	f.fail(name, "float_type", "Input should be a valid number")
	return 0
}

func (f *fields) texts(name string, v gjson.Result) []string {
	if v.Type == gjson.String {
		return []string{cloneString(v.Str)}
	}
	if !v.IsArray() {
		f.fail(name, "list_type", "Input should be a valid list")
		return nil
	}
	var out []string
	v.ForEach(func(_, s gjson.Result) bool {
		out = append(out, f.text(name, s))
		return f.err == nil
	})
	return out
}

func (f *fields) ids(name string, v gjson.Result) []int32 {
	if !v.IsArray() {
		f.fail(name, "list_type", "Input should be a valid list")
		return nil
	}
	var out []int32
	v.ForEach(func(_, s gjson.Result) bool {
		out = append(out, int32(max(min(f.integer(name, s), math.MaxInt32), -1)))
		return f.err == nil
	})
	return out
}
