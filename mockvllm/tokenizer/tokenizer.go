package tokenizer

import (
	"strings"
	"unicode/utf8"
)

// finish derives the tables that encoding and streaming use.
func (v *vocabulary) finish() {
	entries := make([]entry, 0, len(v.pieces)+len(specials))
	v.offsets = make([]uint32, 1, len(v.pieces)+1)
	v.whole = make([]bool, len(v.pieces))
	for id, p := range v.pieces {
		entries = append(entries, entry{p, int32(id)})
		if utf8.ValidString(p) {
			v.whole[id] = true
			v.json = AppendJSON(v.json, p)
		}
		v.offsets = append(v.offsets, uint32(len(v.json)))
	}
	for _, s := range specials {
		entries = append(entries, entry{s.text, s.id})
	}
	v.trie = newTrie(entries)
}

// Encode cuts text into tokens, longest match first. Any bytes are accepted, and
// Decode gives them back.
func Encode(text string) []int32 {
	return AppendTokens(make([]int32, 0, len(text)/4+8), text)
}

// AppendTokens appends the tokens of text to ids.
func AppendTokens(ids []int32, text string) []int32 {
	t := vocab().trie
	for len(text) > 0 {
		id, n := t.longest(text)
		ids = append(ids, id)
		text = text[n:]
	}
	return ids
}

// Count is the number of tokens of text.
func Count(text string) int {
	t := vocab().trie
	count := 0
	for len(text) > 0 {
		_, n := t.longest(text)
		text = text[n:]
		count++
	}
	return count
}

// Words is the number of ids that stand for text; they begin at 0.
func Words() int { return len(vocab().pieces) }

// Piece gives the bytes of one token; "" for ids that stand for nothing.
// Special tokens give their markup.
func Piece(id int32) string {
	v := vocab()
	if id >= 0 && int(id) < len(v.pieces) {
		return v.pieces[id]
	}
	if id >= FirstSpecial {
		for _, s := range specials {
			if s.id == id {
				return s.text
			}
		}
	}
	return ""
}

// Decode puts tokens back together, special tokens included as markup.
func Decode(ids []int32) string {
	var b strings.Builder
	b.Grow(len(ids) * 5)
	for _, id := range ids {
		b.WriteString(Piece(id))
	}
	return b.String()
}

// JSON gives a token as the inside of a JSON string; ok is false if the token is
// no whole UTF-8 text by itself (then [Stream] is needed). Special tokens are
// empty, as with vLLM's skip_special_tokens.
func JSON(id int32) (text []byte, ok bool) {
	v := vocab()
	if id < 0 || int(id) >= len(v.pieces) {
		return nil, true
	}
	return v.json[v.offsets[id]:v.offsets[id+1]:v.offsets[id+1]], v.whole[id]
}

// Stream turns tokens into text as they come: bytes of a character wait until it
// is whole, and what is no UTF-8 becomes U+FFFD. The zero value is ready.
type Stream struct {
	pending [utf8.UTFMax]byte
	n       int
}

// Clean reports whether no bytes wait: then JSON may be used for the next token.
func (s *Stream) Clean() bool { return s.n == 0 }

// Append appends the text that the token completes. Special tokens are left out.
func (s *Stream) Append(dst []byte, id int32) []byte {
	if id >= FirstSpecial {
		return dst
	}
	p := Piece(id)
	if s.n == 0 && utf8.ValidString(p) {
		return append(dst, p...)
	}
	for i := range len(p) {
		dst = s.appendByte(dst, p[i])
	}
	return dst
}

func (s *Stream) appendByte(dst []byte, c byte) []byte {
	s.pending[s.n] = c
	s.n++
	for s.n > 0 && utf8.FullRune(s.pending[:s.n]) {
		r, size := utf8.DecodeRune(s.pending[:s.n])
		dst = utf8.AppendRune(dst, r) // RuneError is U+FFFD
		copy(s.pending[:], s.pending[size:s.n])
		s.n -= size
	}
	return dst
}

// Flush appends what is left at the end of a text.
func (s *Stream) Flush(dst []byte) []byte {
	if s.n > 0 {
		dst = utf8.AppendRune(dst, utf8.RuneError)
		s.n = 0
	}
	return dst
}

const hex = "0123456789abcdef"

// AppendJSON appends valid UTF-8 text as the inside of a JSON string, escaped as
// pydantic does: only what JSON demands.
func AppendJSON[T string | []byte](dst []byte, text T) []byte {
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c >= 0x20:
			dst = append(dst, c)
		case c == '\n':
			dst = append(dst, '\\', 'n')
		case c == '\t':
			dst = append(dst, '\\', 't')
		case c == '\r':
			dst = append(dst, '\\', 'r')
		case c == '\b':
			dst = append(dst, '\\', 'b')
		case c == '\f':
			dst = append(dst, '\\', 'f')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	return dst
}
