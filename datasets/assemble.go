package datasets

import (
	"strings"
	"unicode/utf8"
)

// passages is a source of text for one prompt.
type passages interface {
	// Header begins the prompt; label is the prompt's own.
	Header(label string) string
	// Next returns the next passage, which ends with an empty line; "" means
	// that there is none.
	Next() string
	// Closing ends the prompt.
	Closing() string
}

// assemble puts a prompt of target tokens together: prefix (may be empty),
// header, passages, closing. The last passage is cut between words; exact says
// that count is a tokenizer, so that the last few tokens are worth words of
// their own.
func assemble(prefix string, src passages, label string, target int, count func(string) int, exact bool) string {
	var text strings.Builder
	text.WriteString(prefix + src.Header(label))
	closing := src.Closing()
	// Counts of passages do not quite add up to that of the whole: rounds of
	// estimates, tokens across a border. So count the whole, and go on.
	for range 4 {
		need := target - count(text.String()+closing)
		if need <= target/200 {
			break
		}
		for need > 0 {
			p := src.Next()
			if p == "" {
				break
			}
			n := count(p)
			if n > need {
				p, n = cutTo(p, need, count), need
			}
			text.WriteString(p)
			need -= n
		}
	}
	if !exact {
		return text.String() + closing
	}
	return settle(text.String(), closing, target, count)
}

// cutTo returns the beginning of s, up to the end of a word, that counts at
// most n tokens with the empty line that it then ends with.
func cutTo(s string, n int, count func(string) int) string {
	s = strings.TrimRight(s, "\n")
	lo, hi := 0, len(s) // s[:lo] fits
	for hi-lo > 1 {
		mid := wordEnd(s, (lo+hi)/2)
		if mid >= hi {
			mid = wordEnd(s, lo+1)
			if mid >= hi {
				break
			}
		}
		if count(s[:mid])+1 <= n {
			lo = mid
		} else {
			hi = mid
		}
	}
	if lo == 0 {
		return ""
	}
	return s[:lo] + "\n\n"
}

// wordEnd returns the first place from i on where a word or, in writing
// without spaces, a character ends.
func wordEnd(s string, i int) int {
	for i < len(s) && !utf8.RuneStart(s[i]) {
		i++
	}
	for i < len(s) && s[i] < utf8.RuneSelf && s[i] != ' ' && s[i] != '\n' {
		i++
	}
	return i
}

// fillers are words that are one token in every vocabulary that knows English.
var fillers = []string{" and", " so", " on", " that", " is", " all", " the", " as"}

// settle makes text + closing count exactly target, by short words at the end
// of text or by leaving out its last words.
func settle(text, closing string, target int, count func(string) int) string {
	text = strings.TrimRight(text, "\n")
	base, tail := text, ""
	const gap = "\n\n"
	for try := range 64 {
		d := target - count(base+tail+gap+closing)
		switch {
		case d == 0:
			return base + tail + gap + closing
		case d > 0:
			for i := range d {
				tail += fillers[(try+i)%len(fillers)]
			}
		case tail != "":
			tail = tail[:strings.LastIndexByte(tail, ' ')]
		default:
			if i := strings.LastIndexAny(base, " \n"); i > 0 {
				base = strings.TrimRight(base[:i], " \n")
			}
		}
	}
	return base + tail + gap + closing
}
