package datasets

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/glm46/glm46/datasets/jsonscan"
)

// form is the shape of a record.
type form uint8

const (
	formPrompt form = iota + 1
	formMessages
	formShareGPT
	formBatch
	formText
	formCount
)

func (f form) String() string {
	return [...]string{"", "prompts", "chat messages", "ShareGPT conversations", "OpenAI batch requests", "plain text"}[f]
}

// record is one sample as it stands in its file. It is filled anew for each
// sample; its spans point into the file's buffer.
type record struct {
	form                             form
	id                               string
	prompt, messages, tools, kind    jsonscan.Span
	promptTokens, targetTokens       int64 // 0: missing
	promptEstimated, targetEstimated bool
	promptCounted                    bool   // by the tokenizer given
	answer                           []byte // text whose length is the target, or nil
	text                             []byte // of plain text
	droppedTurns                     int

	fields fields
	buf    []byte
}

// fields are the members of a record that mean something.
type fields struct {
	id, customID, prompt, messages, conversations, body, url, tools, kind          jsonscan.Span
	promptTokens, promptEstimated, targetTokens, outputTokens, maxTokens, maxCompl jsonscan.Span
	twice                                                                          string // a name that came twice
	keys                                                                           []string
}

func (f *fields) slot(key string) *jsonscan.Span {
	switch key {
	case `"id"`:
		return &f.id
	case `"custom_id"`:
		return &f.customID
	case `"prompt"`:
		return &f.prompt
	case `"messages"`:
		return &f.messages
	case `"conversations"`:
		return &f.conversations
	case `"body"`:
		return &f.body
	case `"url"`:
		return &f.url
	case `"tools"`:
		return &f.tools
	case `"kind"`:
		return &f.kind
	case `"prompt_tokens"`:
		return &f.promptTokens
	case `"prompt_tokens_estimated"`:
		return &f.promptEstimated
	case `"target_tokens"`:
		return &f.targetTokens
	case `"output_tokens"`:
		return &f.outputTokens
	case `"max_tokens"`:
		return &f.maxTokens
	case `"max_completion_tokens"`:
		return &f.maxCompl
	}
	return nil
}

// maxKeys is how many unknown names are kept for a message.
const maxKeys = 8

func (f *fields) member(key, value jsonscan.Span) {
	raw := key.Raw
	if key.Escaped {
		raw = strconv.AppendQuote(nil, key.Text())
	}
	slot := f.slot(string(raw))
	switch {
	case slot == nil:
		if len(f.keys) < maxKeys {
			f.keys = append(f.keys, clip(key.Text(), 40))
		}
	case slot.Kind != jsonscan.None:
		if f.twice == "" {
			f.twice = key.Text()
		}
		*slot = value
	default:
		*slot = value
	}
}

func (f *fields) reset() {
	keys := f.keys[:0]
	*f = fields{keys: keys}
}

// problem is a fault of a record whose place is not known yet.
type problem struct{ field, code, what, do string }

// problems is a sink for them.
type problems func(problem)

// interpret takes the members of a record apart, which are in r.fields. It
// returns false if the record is of no use.
func (r *record) interpret(depth int, report problems) bool {
	f := &r.fields
	ok := true
	fail := func(field, code, what, do string) { report(problem{field, code, what, do}); ok = false }
	if f.twice != "" {
		fail(f.twice, "field_twice", "the name occurs twice in one record", "leave one of them")
	}
	r.form, r.id, r.promptTokens, r.targetTokens = 0, "", 0, 0
	r.prompt, r.messages, r.tools = f.prompt, f.messages, f.tools
	r.promptEstimated, r.targetEstimated, r.promptCounted, r.answer, r.text, r.droppedTurns = false, false, false, nil, nil, 0
	r.kind = f.kind
	idField, id := "id", f.id
	prefix := ""
	if f.body.Kind != jsonscan.None {
		// An OpenAI batch line: the request is in "body".
		idField, id, prefix = "custom_id", f.customID, "body."
		if f.body.Kind != jsonscan.ObjectKind {
			fail("body", "type", "want an object, got "+f.body.Kind.String(), "write one request a line, as the batch API takes it")
			return false
		}
		if u := f.url.Text(); f.url.Kind == jsonscan.String && !strings.HasSuffix(u, "/chat/completions") && !strings.HasSuffix(u, "/completions") {
			fail("url", "endpoint", fmt.Sprintf("%.60q is not a completions endpoint", u), "only /v1/completions and /v1/chat/completions can be measured")
			return false
		}
		body := f.body.Raw
		f.reset()
		jsonscan.Object(body, 0, depth, f.member) // was checked as part of the record
		r.prompt, r.messages, r.tools, r.kind = f.prompt, f.messages, f.tools, f.kind
		r.form = formBatch
		if f.twice != "" {
			fail("body."+f.twice, "field_twice", "the name occurs twice in one record", "leave one of them")
		}
	}
	ok = r.takeID(idField, id, report) && ok
	ok = r.takeCounts(prefix, report) && ok
	return r.takeText(prefix, depth, report) && ok
}

func (r *record) takeID(field string, id jsonscan.Span, report problems) bool {
	switch id.Kind {
	case jsonscan.None, jsonscan.Null:
		return true
	case jsonscan.String:
		if len(id.Raw) == 2 {
			report(problem{field, "id", "is empty", "leave it out, or give each sample an id of its own"})
			return false
		}
		if len(id.Raw) > 1026 {
			report(problem{field, "id", fmt.Sprintf("is %d bytes long (limit 1024)", len(id.Raw)-2), "use a shorter id"})
			return false
		}
		r.id = id.Text()
		return true
	case jsonscan.Number:
		r.id = string(id.Raw)
		return true
	}
	report(problem{field, "type", "want a string, got " + id.Kind.String(), "write the id in double quotes"})
	return false
}

func (r *record) takeCounts(prefix string, report problems) bool {
	f := &r.fields
	ok := true
	count := func(name string, v jsonscan.Span, least int64) int64 {
		if v.Kind == jsonscan.None || v.Kind == jsonscan.Null {
			return 0
		}
		n, what, code := wholeNumber(v)
		if what == "" && n < least {
			what, code = fmt.Sprintf("want at least %d, got %d", least, n), "count"
		}
		if what != "" {
			report(problem{prefix + name, code, what, "correct the number, or leave the field out"})
			ok = false
			return 0
		}
		return n
	}
	r.promptTokens = count("prompt_tokens", f.promptTokens, 0)
	r.promptEstimated = f.promptEstimated.Kind == jsonscan.Bool && f.promptEstimated.Raw[0] == 't'
	// The set's own name for the target wins, then vLLM's, then the request's.
	for _, t := range [...]struct {
		name string
		v    jsonscan.Span
	}{{"target_tokens", f.targetTokens}, {"output_tokens", f.outputTokens}, {"max_completion_tokens", f.maxCompl}, {"max_tokens", f.maxTokens}} {
		if n := count(t.name, t.v, 1); r.targetTokens == 0 {
			r.targetTokens = n
		}
	}
	return ok
}

// maxTokens is more than any model's context.
const maxTokens = 1 << 30

// wholeNumber reads a count. what says, in words, why it is none.
func wholeNumber(v jsonscan.Span) (n int64, what, code string) {
	if v.Kind != jsonscan.Number {
		got := v.Kind.String()
		if v.Kind == jsonscan.String {
			got = fmt.Sprintf("the string %s", clip(string(v.Raw), 30))
		}
		return 0, "want a whole number, got " + got, "type"
	}
	n, err := strconv.ParseInt(string(v.Raw), 10, 64)
	if err != nil {
		x, ferr := strconv.ParseFloat(string(v.Raw), 64)
		if ferr != nil || math.Abs(x) > maxTokens {
			return 0, "is out of range: " + clip(string(v.Raw), 30), "count"
		}
		if x != math.Trunc(x) {
			return 0, "want a whole number, got " + clip(string(v.Raw), 30), "count"
		}
		n = int64(x)
	}
	switch {
	case n < 0:
		return 0, fmt.Sprintf("is negative: %d", n), "count"
	case n > maxTokens:
		return 0, fmt.Sprintf("is out of range: %d", n), "count"
	}
	return n, "", ""
}

// takeText finds the text of a record and checks it.
func (r *record) takeText(prefix string, depth int, report problems) bool {
	f := &r.fields
	has := func(s jsonscan.Span) bool { return s.Kind != jsonscan.None && s.Kind != jsonscan.Null }
	forms := 0
	for _, s := range []jsonscan.Span{f.prompt, f.messages, f.conversations} {
		if has(s) {
			forms++
		}
	}
	switch {
	case forms > 1:
		report(problem{prefix + "prompt", "ambiguous", `a record has one of "prompt", "messages" and "conversations", this has several`, "leave the one that is to be sent"})
		return false
	case forms == 0:
		report(r.noText(prefix))
		return false
	case has(f.prompt):
		if r.form == 0 {
			r.form = formPrompt
		}
		return r.checkPrompt(prefix+"prompt", report)
	case has(f.messages):
		if r.form == 0 {
			r.form = formMessages
		}
		return r.checkMessages(prefix+"messages", depth, report)
	}
	r.form = formShareGPT
	return r.checkShareGPT(depth, report)
}

func (r *record) noText(prefix string) problem {
	f := &r.fields
	p := problem{field: prefix + "prompt", code: "no_prompt", what: `is missing: a record needs "prompt", "messages" or "conversations"`,
		do: "see docs/datasets.md for the forms that are read"}
	if f.prompt.Kind == jsonscan.Null || f.messages.Kind == jsonscan.Null {
		p.what = "is null"
		return p
	}
	if len(f.keys) > 0 {
		p.what += "; it has " + quoteList(f.keys)
	}
	for _, k := range f.keys {
		for _, want := range []string{"prompt", "messages", "conversations"} {
			if nearWord(strings.ToLower(k), want) {
				p.do = fmt.Sprintf("rename %q to %q", k, want)
			}
		}
	}
	return p
}

func quoteList(words []string) string {
	q := make([]string, len(words))
	for i, w := range words {
		q[i] = strconv.Quote(w)
	}
	return strings.Join(q, ", ")
}

// nearWord says whether got is want with one or two letters wrong.
func nearWord(got, want string) bool {
	if len(got) < 4 || len(got) > len(want)+2 {
		return false
	}
	prev := make([]int, len(want)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := range len(got) {
		diag := prev[0]
		prev[0] = i + 1
		for j := range len(want) {
			d := diag
			if got[i] != want[j] {
				d = min(diag, prev[j], prev[j+1]) + 1
			}
			diag, prev[j+1] = prev[j+1], d
		}
	}
	return prev[len(want)] <= 2
}

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "..."
}

// blank says whether the text of a string span is empty or white space.
func blank(s jsonscan.Span) bool {
	raw := s.Raw[1 : len(s.Raw)-1]
	for i := 0; i < len(raw); i++ {
		switch raw[i] {
		case ' ', '\t':
		case '\\':
			if i++; raw[i] != 'n' && raw[i] != 't' && raw[i] != 'r' && raw[i] != 'f' {
				return s.Unusual && strings.TrimSpace(s.Text()) == ""
			}
		default:
			return raw[i] >= 0x80 && strings.TrimSpace(s.Text()) == ""
		}
	}
	return true
}

// halfPair says whether a string names half of a surrogate pair.
func (r *record) halfPair(s jsonscan.Span) bool {
	if !s.Unusual || !(bytes.Contains(s.Raw, []byte(`\ud`)) || bytes.Contains(s.Raw, []byte(`\uD`))) {
		return false
	}
	var ok bool
	r.buf, ok = jsonscan.Unquote(r.buf[:0], s.Raw)
	return !ok
}

func (r *record) checkString(field string, s jsonscan.Span, report problems) bool {
	if r.halfPair(s) {
		report(problem{field, "surrogate", `holds half of a surrogate pair (\ud800 to \udfff), which is no character`, "write the text as UTF-8; it was cut in the middle of a character"})
		return false
	}
	return true
}

func (r *record) checkPrompt(field string, report problems) bool {
	switch {
	case r.prompt.Kind == jsonscan.Array:
		report(problem{field, "type", "want a string, got an array", "write one prompt a record; token ids cannot be used"})
		return false
	case r.prompt.Kind != jsonscan.String:
		report(problem{field, "type", "want a string, got " + r.prompt.Kind.String(), "write the prompt in double quotes"})
		return false
	case blank(r.prompt):
		report(problem{field, "empty_prompt", "is empty", "remove the sample, or give it a prompt"})
		return false
	}
	return r.checkString(field, r.prompt, report)
}

// message is one turn of a chat.
type message struct {
	role, content, toolCalls jsonscan.Span
}

func (r *record) checkMessages(field string, depth int, report problems) bool {
	if r.messages.Kind != jsonscan.Array {
		report(problem{field, "type", "want an array, got " + r.messages.Kind.String(), "write the turns as an array of objects with role and content"})
		return false
	}
	ok, n, said := true, 0, false
	var last message
	lastStart := 0
	jsonscan.Elements(r.messages.Raw, 0, depth, func(m jsonscan.Span) {
		at := fmt.Sprintf("%s[%d]", field, n)
		n++
		if m.Kind != jsonscan.ObjectKind {
			report(problem{at, "type", "want an object, got " + m.Kind.String(), "a turn is an object with role and content"})
			ok = false
			return
		}
		last = message{}
		lastStart = m.At
		jsonscan.Object(m.Raw, 0, depth, func(k, v jsonscan.Span) {
			switch string(k.Raw) {
			case `"role"`:
				last.role = v
			case `"content"`:
				last.content = v
			case `"tool_calls"`:
				last.toolCalls = v
			}
		})
		text, good := r.checkTurn(at, last, depth, report)
		said, ok = said || text, ok && good
	})
	switch {
	case !ok:
		return false
	case n == 0 || !said:
		report(problem{field, "empty_prompt", "holds no text", "remove the sample, or give it a turn with content"})
		return false
	}
	if r.tools.Kind != jsonscan.None && r.tools.Kind != jsonscan.Null && r.tools.Kind != jsonscan.Array {
		report(problem{strings.TrimSuffix(field, "messages") + "tools", "type", "want an array, got " + r.tools.Kind.String(), "write tools as the chat API takes them"})
		return false
	}
	// A recorded answer at the end is no part of the prompt.
	if last.role.Text() == "assistant" && r.targetTokens == 0 && n > 1 && last.content.Kind == jsonscan.String && !blank(last.content) {
		r.answer = last.content.Raw
		cut := bytes.TrimRight(r.messages.Raw[:lastStart], " \t\r\n,")
		r.messages.Raw = append(append(make([]byte, 0, len(cut)+1), cut...), ']')
	}
	return true
}

var roles = []string{"system", "user", "assistant", "tool", "developer", "function"}

// checkTurn checks one turn; text says whether it holds any.
func (r *record) checkTurn(at string, m message, depth int, report problems) (text, ok bool) {
	if m.role.Kind != jsonscan.String {
		what := "is missing"
		if m.role.Kind != jsonscan.None {
			what = "want a string, got " + m.role.Kind.String()
		}
		report(problem{at + ".role", "role", what, "want one of " + strings.Join(roles, ", ")})
		return false, false
	}
	role := m.role.Text()
	if !contains(roles, role) {
		report(problem{at + ".role", "role", fmt.Sprintf("unknown role %.40q", role), "want one of " + strings.Join(roles, ", ")})
		return false, false
	}
	hasCalls := m.toolCalls.Kind == jsonscan.Array && len(m.toolCalls.Raw) > 2
	if m.toolCalls.Kind != jsonscan.None && m.toolCalls.Kind != jsonscan.Null && m.toolCalls.Kind != jsonscan.Array {
		report(problem{at + ".tool_calls", "type", "want an array, got " + m.toolCalls.Kind.String(), "write tool calls as the chat API takes them"})
		return false, false
	}
	switch m.content.Kind {
	case jsonscan.String:
		return !blank(m.content) || hasCalls, r.checkString(at+".content", m.content, report)
	case jsonscan.Array:
		return r.checkParts(at+".content", m.content, depth, report)
	case jsonscan.None, jsonscan.Null:
		if role == "assistant" && hasCalls {
			return true, true
		}
		report(problem{at + ".content", "type", "is missing", "every turn but an assistant's tool call has a content"})
		return false, false
	}
	report(problem{at + ".content", "type", "want a string or an array of parts, got " + m.content.Kind.String(), "write the text in double quotes"})
	return false, false
}

// checkParts checks a content that is an array of parts.
func (r *record) checkParts(at string, content jsonscan.Span, depth int, report problems) (text, ok bool) {
	ok = true
	n := 0
	jsonscan.Elements(content.Raw, 0, depth, func(part jsonscan.Span) {
		field := fmt.Sprintf("%s[%d]", at, n)
		n++
		var typ, txt jsonscan.Span
		if part.Kind == jsonscan.ObjectKind {
			jsonscan.Object(part.Raw, 0, depth, func(k, v jsonscan.Span) {
				switch string(k.Raw) {
				case `"type"`:
					typ = v
				case `"text"`:
					txt = v
				}
			})
		}
		switch {
		case typ.Kind != jsonscan.String || typ.Text() != "text":
			report(problem{field, "part", fmt.Sprintf("want a part of type \"text\", got %s", clip(string(part.Raw), 60)), "the model reads text only: leave other parts out"})
			ok = false
		case txt.Kind != jsonscan.String:
			report(problem{field + ".text", "type", "want a string, got " + txt.Kind.String(), "write the text in double quotes"})
			ok = false
		default:
			text = text || !blank(txt)
			ok = r.checkString(field+".text", txt, report) && ok
		}
	})
	return text, ok
}

// shareGPTRoles are the names that "from" takes, and what they are in a chat.
var shareGPTRoles = map[string]string{
	"system": "system", "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant",
	"chatgpt": "assistant", "bard": "assistant", "bing": "assistant", "tool": "tool", "observation": "tool", "function_call": "assistant",
}

// checkShareGPT takes the first question and its answer, as vLLM's benchmark
// does, with a system turn before them if there is one.
func (r *record) checkShareGPT(depth int, report problems) bool {
	conv := r.fields.conversations
	if conv.Kind != jsonscan.Array {
		report(problem{"conversations", "type", "want an array, got " + conv.Kind.String(), "write the turns as an array of objects with from and value"})
		return false
	}
	var out []map[string]string
	ok, n, state := true, 0, 0 // state: 0 before the question, 1 after it, 2 after the answer
	jsonscan.Elements(conv.Raw, 0, depth, func(turn jsonscan.Span) {
		at := fmt.Sprintf("conversations[%d]", n)
		n++
		if state == 2 {
			r.droppedTurns++
			return
		}
		var from, value jsonscan.Span
		if turn.Kind == jsonscan.ObjectKind {
			jsonscan.Object(turn.Raw, 0, depth, func(k, v jsonscan.Span) {
				switch string(k.Raw) {
				case `"from"`, `"role"`:
					from = v
				case `"value"`, `"content"`:
					value = v
				}
			})
		}
		role := shareGPTRoles[from.Text()]
		switch {
		case turn.Kind != jsonscan.ObjectKind:
			report(problem{at, "type", "want an object, got " + turn.Kind.String(), "a turn is an object with from and value"})
			ok = false
		case from.Kind != jsonscan.String || role == "":
			report(problem{at + ".from", "role", fmt.Sprintf("unknown speaker %s", clip(string(from.Raw), 40)), "want system, human or gpt"})
			ok = false
		case value.Kind != jsonscan.String:
			report(problem{at + ".value", "type", "want a string, got " + value.Kind.String(), "write the text in double quotes"})
			ok = false
		case !r.checkString(at+".value", value, report):
			ok = false
		case state == 0 && role == "system":
			out = append(out, map[string]string{"role": role, "content": value.Text()})
		case state == 0 && role == "user":
			if blank(value) {
				report(problem{at + ".value", "empty_prompt", "is empty", "remove the sample, or give it a question"})
				ok = false
			}
			out = append(out, map[string]string{"role": role, "content": value.Text()})
			state = 1
		case state == 1 && role == "assistant":
			r.answer = value.Raw
			state = 2
		case state == 0:
			r.droppedTurns++ // an answer without a question before it
		}
	})
	switch {
	case !ok:
		return false
	case state == 0:
		report(problem{"conversations", "empty_prompt", "has no question (a turn from \"human\")", "remove the sample"})
		return false
	}
	var raw bytes.Buffer
	enc := json.NewEncoder(&raw)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(out); err != nil {
		report(problem{"conversations", "json", err.Error(), ""})
		return false
	}
	r.messages = jsonscan.Span{Kind: jsonscan.Array, Raw: bytes.TrimSpace(raw.Bytes())}
	return true
}
