package measure

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/bits"
)

// Delta is what one event of a completion stream says, as far as measuring
// needs it. Byte slices point into the event.
type Delta struct {
	// Content, Reasoning, Tool: the event carries text of that kind.
	Content, Reasoning, Tool bool
	// HasChoice: the list of choices is not empty, as it is in a last event with
	// nothing but usage.
	HasChoice bool
	// FinishReason is empty until the server gives one.
	FinishReason []byte
	// HasUsage: the event carried a usage object.
	HasUsage                       bool
	PromptTokens, CompletionTokens int
	// CachedTokens is -1 where the server does not tell.
	CachedTokens int
	// Error is the JSON value of an error event, nil otherwise.
	Error []byte
}

// HasText reports whether the event carries generated text of any kind.
func (d *Delta) HasText() bool { return d.Content || d.Reasoning || d.Tool }

// EventError is an event whose data are not the JSON object they should be.
type EventError struct {
	Offset int
	What   string
}

func (e *EventError) Error() string {
	return fmt.Sprintf("event data: byte %d: %s", e.Offset, e.What)
}

// ParseEvent reads one event's data: a chunk of /v1/completions or
// /v1/chat/completions. It checks the whole of the JSON and allocates nothing
// unless it fails or a key is written with escapes.
//
// Text counts from any of text, content, refusal, reasoning, reasoning_content
// and tool_calls of any choice, when it is not empty.
func ParseEvent(data []byte, d *Delta) error { return parseEvent(data, d, nil) }

// parseEvent also notes the shape of the event, where asked to.
func parseEvent(data []byte, d *Delta, shape *shape) error {
	*d = Delta{CachedTokens: -1}
	p := parser{b: data, shape: shape}
	p.space()
	if p.peek() != '{' {
		return p.fail("want an object")
	}
	flat := false // {"object":"error", ...}, vLLM before 0.10.1
	for key, more := p.open('{'); more; key, more = p.next() {
		switch string(key) {
		case "choices":
			p.choices(d)
		case "usage":
			p.usage(d)
		case "error":
			start := p.i
			p.skip(0)
			if value := p.b[start:min(p.i, len(p.b))]; string(value) != "null" {
				d.Error = value
			}
		case "object":
			s, ok := p.text()
			flat = flat || ok && string(s) == "error"
		default:
			p.skip(0)
		}
	}
	p.space()
	if p.err == "" && p.i < len(p.b) {
		return p.fail("more after the object")
	}
	if p.err != "" {
		return p.fail(p.err)
	}
	if flat && d.Error == nil {
		d.Error = data
	}
	return nil
}

func (p *parser) choices(d *Delta) {
	if p.peek() != '[' {
		p.skip(0)
		return
	}
	p.i++
	p.space()
	if p.peek() == ']' {
		p.i++
		return
	}
	for p.err == "" {
		p.space()
		d.HasChoice = true
		if p.peek() == '{' {
			p.choice(d)
		} else {
			p.skip(0)
		}
		p.space()
		switch p.peek() {
		case ',':
			p.i++
		case ']':
			p.i++
			return
		default:
			p.bad("want , or ] in choices")
		}
	}
}

func (p *parser) choice(d *Delta) {
	for key, more := p.open('{'); more; key, more = p.next() {
		switch string(key) {
		case "text":
			d.Content = p.filled(holeContent) || d.Content
		case "delta":
			if p.peek() != '{' {
				p.skip(0)
				continue
			}
			p.delta(d)
		case "finish_reason":
			if s, ok := p.text(); ok && len(s) > 0 {
				d.FinishReason = s
			}
		default:
			p.skip(0)
		}
	}
}

func (p *parser) delta(d *Delta) {
	for key, more := p.open('{'); more; key, more = p.next() {
		switch string(key) {
		case "content", "refusal":
			d.Content = p.filled(holeContent) || d.Content
		case "reasoning", "reasoning_content":
			d.Reasoning = p.filled(holeReasoning) || d.Reasoning
		case "tool_calls":
			d.Tool = p.filled(holeTool) || d.Tool
		default:
			p.skip(0)
		}
	}
}

func (p *parser) usage(d *Delta) {
	if p.peek() != '{' {
		p.skip(0)
		return
	}
	d.HasUsage = true
	for key, more := p.open('{'); more; key, more = p.next() {
		switch string(key) {
		case "prompt_tokens":
			d.PromptTokens = p.count(holePrompt, d.PromptTokens)
		case "completion_tokens":
			d.CompletionTokens = p.count(holeCompletion, d.CompletionTokens)
		case "total_tokens":
			p.count(holeTotal, 0)
		case "prompt_tokens_details":
			if p.peek() != '{' {
				p.skip(0)
				continue
			}
			for key, more := p.open('{'); more; key, more = p.next() {
				if string(key) == "cached_tokens" {
					d.CachedTokens = p.count(holeCached, d.CachedTokens)
				} else {
					p.skip(0)
				}
			}
		default:
			p.skip(0)
		}
	}
}

// parser walks over JSON once, checking it as encoding/json does. The first
// fault ends the walk.
type parser struct {
	b     []byte
	i     int
	err   string
	shape *shape // takes note of what may differ from event to event; or nil
	// depth of objects that open and next walk is at most 5, by their callers.
}

func (p *parser) fail(what string) error { return &EventError{Offset: min(p.i, len(p.b)), What: what} }

func (p *parser) bad(what string) {
	if p.err == "" {
		p.err = what
	}
}

// peek is the byte at hand, 0 at the end.
func (p *parser) peek() byte {
	if p.i < len(p.b) {
		return p.b[p.i]
	}
	return 0
}

func (p *parser) space() {
	for p.i < len(p.b) {
		switch p.b[p.i] {
		case ' ', '\t', '\n', '\r':
			p.i++
		default:
			return
		}
	}
}

// open enters an object and returns its first key, with the value at hand.
func (p *parser) open(byte) ([]byte, bool) {
	p.i++
	p.space()
	if p.peek() == '}' {
		p.i++
		return nil, false
	}
	return p.key()
}

// next goes on to the following key of an object.
func (p *parser) next() ([]byte, bool) {
	if p.err != "" {
		return nil, false
	}
	p.space()
	switch p.peek() {
	case ',':
		p.i++
		p.space()
		return p.key()
	case '}':
		p.i++
	default:
		p.bad("want , or } in an object")
	}
	return nil, false
}

func (p *parser) key() ([]byte, bool) {
	key, ok := p.text()
	if !ok {
		p.bad("want a key")
		return nil, false
	}
	p.space()
	if p.peek() != ':' {
		p.bad("want :")
		return nil, false
	}
	p.i++
	p.space()
	return key, true
}

// text reads a string and returns its bytes; of another value it returns false
// after skipping it. Only a string with escapes is decoded.
func (p *parser) text() ([]byte, bool) {
	if p.peek() != '"' {
		p.skip(0)
		return nil, false
	}
	start := p.i
	escaped := p.str()
	if p.err != "" {
		return nil, false
	}
	if escaped {
		var s string
		if json.Unmarshal(p.b[start:p.i], &s) != nil {
			p.bad("bad string")
			return nil, false
		}
		return []byte(s), true
	}
	return p.b[start+1 : p.i-1], true
}

// filled skips a value and reports whether it is a string or an array that is
// not empty.
func (p *parser) filled(kind holeKind) bool {
	start := p.i
	c := p.peek()
	p.skip(0)
	switch {
	case p.err != "":
		return false
	case c == '"':
		p.shape.hole(kind, start, p.i)
		return p.i-start > 2
	case c == '[':
		q := parser{b: p.b[start:p.i], i: 1}
		q.space()
		full := q.peek() != ']'
		if full {
			p.shape.constant(kind)
		}
		return full
	}
	return false
}

// count reads a whole number that fits 31 bits; other values leave old.
func (p *parser) count(kind holeKind, old int) int {
	start := p.i
	p.skip(0)
	if p.err != "" {
		return old
	}
	n := 0
	for _, c := range p.b[start:p.i] {
		if c < '0' || c > '9' {
			return old
		}
		if n = n*10 + int(c-'0'); n > math.MaxInt32 {
			p.shape.give()
			return old
		}
	}
	p.shape.hole(kind, start, p.i)
	return n
}

const maxDepth = 1000

// skip goes over one value.
func (p *parser) skip(depth int) {
	if p.err != "" {
		return
	}
	switch c := p.peek(); {
	case c == '"':
		p.str()
	case c == '{':
		if depth > maxDepth {
			p.bad("nested too deeply")
			return
		}
		for _, more := p.open('{'); more; _, more = p.next() {
			p.skip(depth + 1)
		}
	case c == '[':
		if depth > maxDepth {
			p.bad("nested too deeply")
			return
		}
		p.array(depth)
	case c == '-' || c >= '0' && c <= '9':
		p.number()
	case c == 't':
		p.word("true")
	case c == 'f':
		p.word("false")
	case c == 'n':
		p.word("null")
	case p.i >= len(p.b):
		p.bad("the data end inside a value")
	default:
		p.bad("want a value")
	}
}

func (p *parser) array(depth int) {
	p.i++
	p.space()
	if p.peek() == ']' {
		p.i++
		return
	}
	for p.err == "" {
		p.space()
		p.skip(depth + 1)
		p.space()
		switch p.peek() {
		case ',':
			p.i++
		case ']':
			if p.err == "" {
				p.i++
			}
			return
		default:
			p.bad("want , or ] in an array")
		}
	}
}

func (p *parser) word(w string) {
	if len(p.b)-p.i < len(w) || string(p.b[p.i:p.i+len(w)]) != w {
		p.bad("want " + w)
		return
	}
	p.i += len(w)
}

func (p *parser) number() {
	if p.peek() == '-' {
		p.i++
	}
	switch {
	case p.peek() == '0':
		p.i++
	case !p.digits():
		p.bad("want a digit")
		return
	}
	if p.peek() == '.' {
		p.i++
		if !p.digits() {
			p.bad("want a digit behind the point")
			return
		}
	}
	if c := p.peek(); c == 'e' || c == 'E' {
		p.i++
		if c := p.peek(); c == '+' || c == '-' {
			p.i++
		}
		if !p.digits() {
			p.bad("want a digit in the exponent")
		}
	}
}

func (p *parser) digits() bool {
	start := p.i
	for p.i < len(p.b) && p.b[p.i] >= '0' && p.b[p.i] <= '9' {
		p.i++
	}
	return p.i > start
}

// str goes over a string, at hand its opening quote, and reports whether it
// holds escapes.
func (p *parser) str() (escaped bool) {
	i := p.i + 1
	b := p.b
	for {
		// Eight bytes at a time up to the first quote, backslash or control byte.
		for i+8 <= len(b) {
			if n := special(binary.LittleEndian.Uint64(b[i:])); n < 8 {
				i += n
				break
			}
			i += 8
		}
		if i >= len(b) {
			p.i = i
			p.bad("the data end inside a string")
			return escaped
		}
		switch c := b[i]; {
		case c == '"':
			p.i = i + 1
			return escaped
		case c == '\\':
			escaped = true
			n := escape(b[i:])
			if n == 0 {
				p.i = i
				p.bad("bad escape")
				return escaped
			}
			i += n
		case c < ' ':
			p.i = i
			p.bad("control byte in a string")
			return escaped
		default:
			i++
		}
	}
}

// special is the index of the first byte of x that ends a run of plain string
// bytes: a quote, a backslash or a control byte; 8 where there is none.
func special(x uint64) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	quote := x ^ ones*'"'
	slash := x ^ ones*'\\'
	m := (quote - ones) & ^quote
	m |= (slash - ones) & ^slash
	m |= (x - ones*' ') & ^x
	return bits.TrailingZeros64(m&highs) / 8
}

// escape is the length of the escape at the start of b, 0 if it is none.
func escape(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if len(b) < 6 {
			return 0
		}
		for _, c := range b[2:6] {
			if (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'f') {
				return 0
			}
		}
		return 6
	}
	return 0
}
