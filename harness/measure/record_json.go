package measure

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"
)

// MarshalJSON writes the pairs.
func (e Events) MarshalJSON() ([]byte, error) { return e.append(nil), nil }

func (e Events) append(b []byte) []byte {
	b = append(b, '[')
	for i, event := range e {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '[')
		b = strconv.AppendInt(b, int64(event.At), 10)
		if event.Tokens == 1 { // nearly always
			b = append(b, ",1]"...)
			continue
		}
		b = append(b, ',')
		b = strconv.AppendInt(b, int64(event.Tokens), 10)
		b = append(b, ']')
	}
	return append(b, ']')
}

// UnmarshalJSON reads the pairs. It checks that time does not go back and that
// every event holds a token.
func (e *Events) UnmarshalJSON(b []byte) error {
	*e = (*e)[:0]
	if string(b) == "null" {
		return nil
	}
	p := parser{b: b}
	if err := e.read(&p); err != nil {
		return err
	}
	p.space()
	if p.i < len(b) {
		return fmt.Errorf("events: more behind the list")
	}
	return nil
}

// read a list of pairs.
func (e *Events) read(p *parser) error {
	p.space()
	if p.peek() != '[' {
		return fmt.Errorf("events: want a list of [ns, tokens]")
	}
	p.i++
	p.space()
	if p.peek() == ']' {
		p.i++
		return nil
	}
	var last time.Duration
	for {
		var event Event
		p.expect('[')
		event.At = time.Duration(p.integer())
		p.expect(',')
		event.Tokens = int(p.integer())
		p.expect(']')
		if p.err != "" {
			return fmt.Errorf("events: event %d: %s", len(*e), p.err)
		}
		if event.At < last || event.Tokens < 1 {
			return fmt.Errorf("events: event %d: [%d, %d] after %d ns: time goes back or no token", len(*e), event.At, event.Tokens, last)
		}
		last = event.At
		*e = append(*e, event)
		p.space()
		switch p.peek() {
		case ',':
			p.i++
		case ']':
			p.i++
			return nil
		default:
			return fmt.Errorf("events: event %d: want , or ]", len(*e))
		}
	}
}

func (p *parser) expect(c byte) {
	p.space()
	if p.peek() != c {
		p.bad("want " + string(rune(c)))
		return
	}
	p.i++
}

func (p *parser) integer() int64 {
	p.space()
	n, start := int64(0), p.i
	for p.i < len(p.b) && p.b[p.i] >= '0' && p.b[p.i] <= '9' {
		digit := int64(p.b[p.i] - '0')
		if n > (math.MaxInt64-digit)/10 {
			p.bad("a number beyond 64 bits")
			return 0
		}
		n = n*10 + digit
		p.i++
	}
	if p.i == start || p.b[start] == '0' && p.i > start+1 {
		p.bad("want a whole number")
	}
	return n
}

// plainRecord has Record's fields without its methods.
type plainRecord Record

// AppendJSON appends the record as one line, without the line end.
func (r *Record) AppendJSON(b []byte) ([]byte, error) {
	// Events are written by hand: encoding/json would go over them three times.
	head := plainRecord(*r)
	head.Events = nil
	line, err := json.Marshal(head)
	if err != nil {
		return b, fmt.Errorf("record %q: %w", r.SampleID, err)
	}
	// "events" is the last field, and null marshals as [] through Events.
	b = append(b, line[:len(line)-len("[]}")]...)
	return append(r.Events.append(b), '}'), nil
}

const eventsField = `,"events":`

// ParseRecord reads one line of requests.jsonl.zst into r, whose Events are
// reused. Fields that it does not know are ignored.
func ParseRecord(line []byte, r *Record) error {
	events := r.Events[:0]
	// encoding/json would go over the events three times. They are the last field
	// as we write it; inside of a JSON string nothing looks like its name.
	if head, list, ok := bytes.Cut(line, []byte(eventsField)); ok {
		list, object := bytes.CutSuffix(list, []byte("}"))
		if object && events.UnmarshalJSON(list) == nil {
			*r = Record{}
			if err := json.Unmarshal(append(head[:len(head):len(head)], '}'), (*plainRecord)(r)); err != nil {
				return err
			}
			r.Events = events
			return r.validate()
		}
	}
	*r = Record{Events: events[:0]}
	if err := json.Unmarshal(line, (*plainRecord)(r)); err != nil {
		return err
	}
	return r.validate()
}

// validate refuses what no client of ours writes.
func (r *Record) validate() error {
	switch {
	case r.Phase != PhaseWarmup && r.Phase != PhaseMain:
		return fmt.Errorf("phase %q: want warmup or main", r.Phase)
	case r.Outcome == "":
		return fmt.Errorf("no outcome")
	case r.Intended < 0 || r.Slot < 0 || r.Sent < 0 || r.FirstToken < 0 || r.FirstContent < 0 || r.LastToken < 0 || r.End < 0:
		return fmt.Errorf("a negative time")
	case r.PromptTokens < 0 || r.CompletionTokens < 0 || r.RequestedTokens < 0:
		return fmt.Errorf("a negative count of tokens")
	case r.Outcome == OK && (r.Sent == 0 || r.FirstToken < r.Sent || r.LastToken < r.FirstToken || r.End < r.LastToken || r.CompletionTokens < 1 || len(r.Events) == 0):
		return fmt.Errorf("outcome ok, but sent %d, first token %d, last token %d, end %d ns, %d tokens in %d events do not follow each other",
			r.Sent, r.FirstToken, r.LastToken, r.End, r.CompletionTokens, len(r.Events))
	}
	return nil
}
