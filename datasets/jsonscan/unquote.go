package jsonscan

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"
)

// Unquote appends the text of a string to dst. raw is a span's Raw, quotes
// included. ok is false if the string names half of a surrogate pair, which is
// no character: it becomes U+FFFD.
func Unquote(dst, raw []byte) (text []byte, ok bool) {
	raw, ok = raw[1:len(raw)-1], true
	for {
		i := bytes.IndexByte(raw, '\\')
		if i < 0 {
			return append(dst, raw...), ok
		}
		dst = append(dst, raw[:i]...)
		c := raw[i+1]
		raw = raw[i+2:]
		switch c {
		case 'n':
			c = '\n'
		case 't':
			c = '\t'
		case 'r':
			c = '\r'
		case 'b':
			c = '\b'
		case 'f':
			c = '\f'
		case 'u':
			r := hex4(raw)
			raw = raw[4:]
			if utf16.IsSurrogate(r) {
				pair := rune(utf8.RuneError)
				if len(raw) >= 6 && raw[0] == '\\' && raw[1] == 'u' {
					pair = utf16.DecodeRune(r, hex4(raw[2:]))
				}
				if pair == utf8.RuneError {
					ok = false
				} else {
					raw = raw[6:]
				}
				r = pair
			}
			dst = utf8.AppendRune(dst, r)
			continue
		}
		dst = append(dst, c)
	}
}

func hex4(b []byte) rune {
	return rune(hex(b[0])<<12 | hex(b[1])<<8 | hex(b[2])<<4 | hex(b[3]))
}

// Text returns the text of a string span; other kinds give their raw text.
func (s Span) Text() string {
	if s.Kind != String {
		return string(s.Raw)
	}
	if !s.Escaped {
		return string(s.Raw[1 : len(s.Raw)-1])
	}
	text, _ := Unquote(make([]byte, 0, len(s.Raw)), s.Raw)
	return string(text)
}
