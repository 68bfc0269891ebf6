package tokenize

import (
	"unicode"
	"unicode/utf8"

	"github.com/dlclark/regexp2/v2"
)

// step cuts a piece of text into smaller ones: by next, which returns the
// length of the first piece of a text that is not empty, or by a pattern.
type step struct {
	next    func(string) int
	pattern *regexp2.Regexp
}

// patternStep returns the step for a pattern of tokenizer.json. byHand says
// that the pattern leaves nothing out.
func patternStep(pattern string) (s step, byHand bool, err error) {
	switch pattern {
	case patternCL100K:
		return step{next: func(s string) int { return nextCL100K(s, 3) }}, true, nil
	case patternQwen:
		return step{next: func(s string) int { return nextCL100K(s, 1) }}, true, nil
	case patternGPT2:
		return step{next: nextGPT2}, true, nil
	}
	re, err := regexp2.Compile(pattern)
	if err != nil {
		return step{}, false, err
	}
	return step{pattern: re}, false, nil
}

// digitsStep cuts numbers out, each on its own or in runs.
func digitsStep(individual bool) step {
	return step{next: func(s string) int {
		r, n := utf8.DecodeRuneInString(s)
		first := unicode.IsNumber(r)
		if first && individual {
			return n
		}
		for i, r := range s {
			if unicode.IsNumber(r) != first {
				return i
			}
		}
		return len(s)
	}}
}

// cut calls fn for each piece of text, in order.
func (s *step) cut(text string, fn func(string)) {
	if s.pattern == nil {
		for len(text) > 0 {
			n := s.next(text)
			fn(text[:n])
			text = text[n:]
		}
		return
	}
	at := 0
	m, err := s.pattern.FindStringMatch(text)
	for err == nil && m != nil {
		start, n := m.ByteRange()
		if start > at {
			fn(text[at:start])
		}
		if n > 0 {
			fn(text[start : start+n])
		}
		at = start + n
		m, err = s.pattern.FindNextMatch(m)
	}
	if at < len(text) {
		fn(text[at:])
	}
}
