package datasets

import (
	"encoding/json"
	"strings"

	"github.com/glm46/glm46/datasets/jsonscan"
)

// appendContent appends what a model reads of a message's content: a string,
// or the texts of an array of parts.
func appendContent(dst []byte, content jsonscan.Span) []byte {
	switch content.Kind {
	case jsonscan.String:
		dst, _ = jsonscan.Unquote(dst, content.Raw)
	case jsonscan.Array:
		jsonscan.Elements(content.Raw, 0, textDepth, func(part jsonscan.Span) {
			if part.Kind != jsonscan.ObjectKind {
				return
			}
			jsonscan.Object(part.Raw, 0, textDepth, func(k, v jsonscan.Span) {
				if string(k.Raw) == `"text"` && v.Kind == jsonscan.String {
					dst, _ = jsonscan.Unquote(dst, v.Raw)
				}
			})
		})
	}
	return dst
}

// textDepth is enough for what was checked before.
const textDepth = 1 << 20

// appendMessages appends what a model reads of a chat: tools, then for each
// turn role, content and tool calls. It is the text that tokens are counted
// on; what a chat template adds is not in it.
func appendMessages(dst, messages, tools []byte) []byte {
	if len(tools) > 0 && tools[0] == '[' {
		dst = append(dst, tools...)
		dst = append(dst, '\n')
	}
	if len(messages) == 0 || messages[0] != '[' {
		return dst
	}
	jsonscan.Elements(messages, 0, textDepth, func(m jsonscan.Span) {
		if m.Kind != jsonscan.ObjectKind {
			return
		}
		var t message
		jsonscan.Object(m.Raw, 0, textDepth, func(k, v jsonscan.Span) {
			switch string(k.Raw) {
			case `"role"`:
				t.role = v
			case `"content"`:
				t.content = v
			case `"tool_calls"`:
				t.toolCalls = v
			}
		})
		dst = append(dst, t.role.Text()...)
		dst = append(dst, '\n')
		dst = appendContent(dst, t.content)
		dst = append(dst, '\n')
		if t.toolCalls.Kind == jsonscan.Array {
			dst = append(append(dst, t.toolCalls.Raw...), '\n')
		}
	})
	return dst
}

func messagesText(messages, tools json.RawMessage) string {
	return string(appendMessages(nil, messages, tools))
}

// canonical returns text that is equal for equal prompts and different for
// different ones. Strings without unusual escapes are written in one way only,
// so their raw text will do, which saves copying most of a file.
func (r *record) canonical() []byte {
	switch {
	case r.text != nil:
		r.buf = appendEscaped(r.buf[:0], r.text)
		return r.buf
	case r.prompt.Kind == jsonscan.String && r.messages.Kind != jsonscan.Array:
		raw := r.prompt.Raw[1 : len(r.prompt.Raw)-1]
		if !r.prompt.Unusual {
			return raw
		}
		plain, _ := jsonscan.Unquote(make([]byte, 0, len(raw)), r.prompt.Raw)
		r.buf = appendEscaped(r.buf[:0], plain)
		return r.buf
	}
	r.buf = appendMessages(r.buf[:0], r.messages.Raw, r.tools.Raw)
	return r.buf
}

// plain returns the text that tokens are counted on. It holds until the next
// call of a method of r.
func (r *record) plain() []byte {
	switch {
	case r.text != nil:
		return r.text
	case r.messages.Kind == jsonscan.Array:
		r.buf = appendMessages(r.buf[:0], r.messages.Raw, r.tools.Raw)
		return r.buf
	}
	r.buf, _ = jsonscan.Unquote(r.buf[:0], r.prompt.Raw)
	return r.buf
}

// appendEscaped appends text as the inside of a JSON string in its shortest
// form.
func appendEscaped(dst, text []byte) []byte {
	const digits = "0123456789abcdef"
	for _, c := range text {
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c >= 0x20:
			dst = append(dst, c)
		case strings.IndexByte("\n\t\r\b\f", c) >= 0:
			dst = append(dst, '\\', map[byte]byte{'\n': 'n', '\t': 't', '\r': 'r', '\b': 'b', '\f': 'f'}[c])
		default:
			dst = append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		}
	}
	return dst
}
