package tokenize

import (
	"strings"

	"golang.org/x/text/unicode/norm"
)

// state is what encoding needs beside the tokenizer: room, and a memory of
// pieces that were merged before.
type state struct {
	symbols []symbol
	queue   []candidate
	ids     []int32
	cache   map[string]cached
	store   []int32 // ids of the cache's entries
}

// cached are the tokens of a piece: state.store[at:at+n].
type cached struct{ at, n int32 }

// Sizes of the cache: about 4 MiB when it is full.
const (
	cacheEntries   = 1 << 15
	cachePiece     = 24 // bytes of the longest piece that is kept
	cacheStoreSize = 1 << 17
)

func newState() *state {
	return &state{cache: make(map[string]cached, 1<<12)}
}

// CountTokens returns the number of tokens of text, special tokens that stand
// in it included, those that a template adds not.
func (t *Tokenizer) CountTokens(text string) int {
	s := t.states.Get().(*state)
	n := 0
	t.pieces(text, func(piece string, id int32) {
		if id >= 0 {
			n++
			return
		}
		n += len(t.piece(s, piece))
	})
	t.states.Put(s)
	return n
}

// EncodeTokens appends the tokens of text to dst.
func (t *Tokenizer) EncodeTokens(dst []int32, text string) []int32 {
	s := t.states.Get().(*state)
	t.pieces(text, func(piece string, id int32) {
		if id >= 0 {
			dst = append(dst, id)
			return
		}
		dst = append(dst, t.piece(s, piece)...)
	})
	t.states.Put(s)
	return dst
}

// pieces calls fn for each piece that is merged on its own, and for each added
// token with its id (else id is -1).
func (t *Tokenizer) pieces(text string, fn func(piece string, id int32)) {
	text = strings.ToValidUTF8(text, "\uFFFD")
	t.raw.each(text, func(part string, id int32) {
		if id >= 0 {
			fn("", id)
			return
		}
		if t.nfc && !norm.NFC.IsNormalString(part) {
			part = norm.NFC.String(part)
		}
		t.normalized.each(part, func(part string, id int32) {
			if id >= 0 {
				fn("", id)
				return
			}
			if t.prefixSpace && !strings.HasPrefix(part, " ") {
				part = " " + part
			}
			t.cut(0, part, fn)
		})
	})
}

// cut runs the steps from number i on.
func (t *Tokenizer) cut(i int, text string, fn func(string, int32)) {
	switch {
	case i == len(t.steps):
		fn(text, -1)
	case i == len(t.steps)-1 && t.steps[i].pattern == nil:
		next := t.steps[i].next
		for len(text) > 0 {
			n := next(text)
			fn(text[:n], -1)
			text = text[n:]
		}
	default:
		t.steps[i].cut(text, func(part string) { t.cut(i+1, part, fn) })
	}
}

// piece returns the tokens of one piece; they hold until the next call.
func (t *Tokenizer) piece(s *state, piece string) []int32 {
	if len(piece) > cachePiece {
		s.ids = t.model.encode(s.ids[:0], s, piece)
		return s.ids
	}
	if c, ok := s.cache[piece]; ok {
		return s.store[c.at : c.at+c.n]
	}
	s.ids = t.model.encode(s.ids[:0], s, piece)
	if len(s.cache) == cacheEntries || len(s.store)+len(s.ids) > cacheStoreSize {
		clear(s.cache)
		s.store = s.store[:0]
	}
	s.cache[strings.Clone(piece)] = cached{int32(len(s.store)), int32(len(s.ids))}
	s.store = append(s.store, s.ids...)
	return s.ids
}
