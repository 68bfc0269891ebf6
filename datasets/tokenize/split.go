package tokenize

import (
	"unicode"
	"unicode/utf8"
)

// Patterns of the pre-tokenizers that are written out by hand below, as they
// stand in tokenizer.json. Any other pattern is run by a regular expression
// engine, many times slower.
const (
	// patternCL100K is what GLM-4.6 and Llama 3 use.
	patternCL100K = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	// patternQwen differs in taking digits one by one.
	patternQwen = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	// patternGPT2 is what "ByteLevel" means with use_regex.
	patternGPT2 = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
)

// class sorts characters as the patterns do.
type class uint8

const (
	classOther   class = iota // neither of the below: punctuation, marks, symbols
	classLetter               // \p{L}
	classNumber               // \p{N}
	classSpace                // \s but CR and LF
	classNewline              // CR, LF
)

func isSpace(c class) bool { return c >= classSpace }

var asciiClass = func() (t [128]class) {
	for c := range t {
		r := rune(c)
		switch {
		case r == '\r' || r == '\n':
			t[c] = classNewline
		case unicode.IsSpace(r):
			t[c] = classSpace
		case unicode.IsLetter(r):
			t[c] = classLetter
		case unicode.IsNumber(r):
			t[c] = classNumber
		}
	}
	return t
}()

// classAt returns the class and length of the character at s[i:]; i < len(s).
func classAt(s string, i int) (class, int) {
	if c := s[i]; c < utf8.RuneSelf {
		return asciiClass[c], 1
	}
	return classWide(s[i:])
}

func classWide(s string) (class, int) {
	r, n := utf8.DecodeRuneInString(s)
	switch {
	case r >= 0x4E00 && r <= 0x9FFF, r >= 0xAC00 && r <= 0xD7A3:
		return classLetter, n
	case unicode.IsLetter(r):
		return classLetter, n
	case unicode.IsNumber(r):
		return classNumber, n
	case unicode.IsSpace(r):
		return classSpace, n
	}
	return classOther, n
}

// endOf returns the end of the run of characters of class want from i on.
func endOf(s string, i int, want class) int {
	for i < len(s) {
		c, n := classAt(s, i)
		if c != want {
			break
		}
		i += n
	}
	return i
}

// contraction returns the length of an English contraction at the apostrophe
// s[0], or 0. With fold, capitals count, and the long s as an s.
func contraction(s string, fold bool) int {
	if len(s) < 2 {
		return 0
	}
	lower := func(c byte) byte {
		if fold && c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		return c
	}
	a, b := lower(s[1]), byte(0)
	if len(s) > 2 {
		b = lower(s[2])
	}
	switch {
	case a == 's' || a == 't' || a == 'm' || a == 'd':
		return 2
	case a == 'r' && b == 'e', a == 'v' && b == 'e', a == 'l' && b == 'l':
		return 3
	case fold && a == 0xC5 && len(s) > 2 && s[2] == 0xBF: // U+017F
		return 3
	}
	return 0
}

// nextCL100K returns the length of the first piece of s by patternCL100K,
// with at most maxDigits numbers a piece. s is not empty.
func nextCL100K(s string, maxDigits int) int {
	first, n := classAt(s, 0)
	if first == classLetter {
		return endOf(s, n, classLetter)
	}
	if s[0] == '\'' {
		if k := contraction(s, true); k > 0 {
			return k
		}
	}
	if first == classNumber {
		for k := 1; k < maxDigits && n < len(s); k++ {
			c, m := classAt(s, n)
			if c != classNumber {
				break
			}
			n += m
		}
		return n
	}
	next := class(255)
	if n < len(s) {
		next, _ = classAt(s, n)
	}
	if first != classNewline && next == classLetter {
		return endOf(s, n, classLetter)
	}
	if first == classOther || (s[0] == ' ' && next == classOther) {
		end := endOf(s, n, classOther)
		for end < len(s) && asciiNewline(s[end]) {
			end++
		}
		return end
	}
	return spacePiece(s)
}

func asciiNewline(c byte) bool { return c == '\n' || c == '\r' }

// spacePiece returns the length of the first piece of the white space that s
// begins with: up to its last line break if it has one; else all of it but the
// character that belongs to what follows.
func spacePiece(s string) int {
	end, last, newline := 0, 0, 0
	for end < len(s) {
		c, n := classAt(s, end)
		if !isSpace(c) {
			break
		}
		last = end
		end += n
		if c == classNewline {
			newline = end
		}
	}
	switch {
	case newline > 0:
		return newline
	case end == len(s) || last == 0:
		return end
	}
	return last
}

// nextGPT2 returns the length of the first piece of s by patternGPT2.
func nextGPT2(s string) int {
	if s[0] == '\'' {
		if k := contraction(s, false); k > 0 {
			return k
		}
	}
	at := 0
	if s[0] == ' ' && len(s) > 1 {
		at = 1
	}
	c, n := classAt(s, at)
	if !isSpace(c) {
		return endOf(s, at+n, c)
	}
	end, last := 0, 0
	for end < len(s) {
		c, n := classAt(s, end)
		if !isSpace(c) {
			break
		}
		last = end
		end += n
	}
	if end == len(s) || last == 0 {
		return end
	}
	return last
}
