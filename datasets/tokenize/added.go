package tokenize

import (
	"sort"
	"strings"
	"unicode"
	"unicode/utf8"
)

// added is a token that is looked for in the text itself, such as <|user|>.
type added struct {
	content                string
	id                     int32
	single, lstrip, rstrip bool
}

// addedSet finds the leftmost of its tokens, the longest of those.
type addedSet struct {
	byFirst [256][]added
	any     bool
}

func (s *addedSet) add(a added) {
	s.byFirst[a.content[0]] = append(s.byFirst[a.content[0]], a)
	s.any = true
}

func (s *addedSet) finish() {
	for _, list := range s.byFirst {
		sort.SliceStable(list, func(i, j int) bool { return len(list[i].content) > len(list[j].content) })
	}
}

// each cuts text at the added tokens: fn gets the text between them, or the id
// of one (then text is ""; else id is -1).
func (s *addedSet) each(text string, fn func(text string, id int32)) {
	if !s.any {
		if text != "" {
			fn(text, -1)
		}
		return
	}
	from := 0 // of what was not handed out yet
	for i := 0; i < len(text); {
		list := s.byFirst[text[i]]
		if list == nil {
			i++
			continue
		}
		a := longest(list, text[i:])
		if a == nil {
			i++
			continue
		}
		start, end := i, i+len(a.content)
		i = end
		if a.single && (endsWithWord(text[:start]) || startsWithWord(text[end:])) {
			continue
		}
		if a.lstrip {
			start = max(len(strings.TrimRightFunc(text[:start], unicode.IsSpace)), from)
		}
		if a.rstrip {
			end = len(text) - len(strings.TrimLeftFunc(text[end:], unicode.IsSpace))
			i = end
		}
		if from < start {
			fn(text[from:start], -1)
		}
		fn("", a.id)
		from = end
	}
	if from < len(text) {
		fn(text[from:], -1)
	}
}

func longest(list []added, text string) *added {
	for i := range list {
		if strings.HasPrefix(text, list[i].content) {
			return &list[i]
		}
	}
	return nil
}

// isWord is \w: letters, marks, decimal numbers and connectors.
func isWord(r rune) bool {
	return unicode.In(r, unicode.L, unicode.M, unicode.Nd, unicode.Nl, unicode.Pc, unicode.Other_Alphabetic, unicode.Join_Control)
}

func endsWithWord(s string) bool {
	r, n := utf8.DecodeLastRuneInString(s)
	return n > 0 && isWord(r)
}

func startsWithWord(s string) bool {
	r, n := utf8.DecodeRuneInString(s)
	return n > 0 && isWord(r)
}
