package measure

import "bytes"

// EventParser reads the events of one stream as ParseEvent does, with the same
// results and errors. Events of a stream differ only in their text and in the
// counts of their usage: it remembers the event before, compares what stands
// between these, and reads only these again. Anything else goes to ParseEvent.
// The zero value is ready.
type EventParser struct {
	shape shape
	known bool
	base  Delta // of the event before, without what stands in the holes
}

// Reset forgets the event before, as a new stream begins.
func (e *EventParser) Reset() { e.known = false }

// Parse reads one event's data; see ParseEvent.
func (e *EventParser) Parse(data []byte, d *Delta) error {
	if e.known && e.again(data, d) {
		return nil
	}
	e.shape.reset(len(data))
	err := parseEvent(data, d, &e.shape)
	// What points into the event, and rare events, are not remembered.
	e.known = err == nil && e.shape.good && d.FinishReason == nil && d.Error == nil
	if e.known {
		e.shape.seen = append(e.shape.seen[:0], data...)
		e.base = *d
		e.base.Content, e.base.Reasoning, e.base.Tool = e.shape.filled[holeContent], e.shape.filled[holeReasoning], e.shape.filled[holeTool]
	}
	return err
}

// again reads an event that has the shape of the one before; false if it does
// not have it, with d undefined.
func (e *EventParser) again(data []byte, d *Delta) bool {
	s := &e.shape
	*d = e.base
	p := parser{b: data}
	from := 0
	for i := range s.holes[:s.n] {
		h := &s.holes[i]
		between := s.seen[from:h.from]
		if !bytes.HasPrefix(data[p.i:], between) {
			return false
		}
		p.i += len(between)
		from = h.to
		if h.kind <= holeTool {
			if p.peek() != '"' {
				return false
			}
			start := p.i
			p.str()
			if p.err != "" {
				return false
			}
			if p.i-start > 2 {
				switch h.kind {
				case holeContent:
					d.Content = true
				case holeReasoning:
					d.Reasoning = true
				default:
					d.Tool = true
				}
			}
			continue
		}
		n, start := 0, p.i
		for p.i < len(data) && data[p.i]-'0' <= 9 {
			n = n*10 + int(data[p.i]-'0')
			p.i++
		}
		if digits := p.i - start; digits < 1 || digits > countDigits || digits > 1 && data[start] == '0' {
			return false
		}
		switch h.kind {
		case holePrompt:
			d.PromptTokens = n
		case holeCompletion:
			d.CompletionTokens = n
		case holeCached:
			d.CachedTokens = n
		}
	}
	return bytes.Equal(data[p.i:], s.seen[from:])
}

// holeKind says what stands in a hole: a string of one of three kinds, or a
// count.
type holeKind uint8

const (
	holeContent holeKind = iota
	holeReasoning
	holeTool
	holePrompt
	holeCompletion
	holeCached
	holeTotal
)

// hole is a value that may differ between two events of one shape.
type hole struct {
	kind     holeKind
	from, to int
}

const (
	// maxHoles holds two choices with all kinds of text and usage.
	maxHoles = 12
	// maxShapeBytes bounds what is remembered of a stream: longer events are
	// rare, and comparing them saves little.
	maxShapeBytes = 4 << 10
	// countDigits of a count in a hole never exceed 31 bits.
	countDigits = 9
)

// shape is what an event consists of: its bytes, and the holes in them in order.
type shape struct {
	seen  []byte
	holes [maxHoles]hole
	n     int
	// filled tells the kinds of text that the event has outside of holes.
	filled [3]bool
	good   bool
}

func (s *shape) reset(size int) {
	s.n, s.filled, s.good = 0, [3]bool{}, size <= maxShapeBytes
}

// hole takes note of a value; of a nil shape nothing is asked.
func (s *shape) hole(kind holeKind, from, to int) {
	switch {
	case s == nil:
	case s.n == maxHoles:
		s.good = false
	default:
		s.holes[s.n] = hole{kind, from, to}
		s.n++
	}
}

// constant takes note of text that is no string, so that no hole is for it.
func (s *shape) constant(kind holeKind) {
	if s != nil {
		s.filled[kind] = true
	}
}

// give up: the event holds what a hole cannot stand for.
func (s *shape) give() {
	if s != nil {
		s.good = false
	}
}
