package tokenize

import (
	"fmt"
	"math"
)

// bpe merges the bytes of a piece of text into tokens.
type bpe struct {
	bytes  [256]int32 // token of each byte, -1 if there is none
	merges pairTable
	// whole holds every token of more than one byte by its bytes, for models
	// that take a piece which is a token as it is, without merging.
	whole map[string]int32
}

// noRank is the rank of a pair that does not merge.
const noRank = math.MaxUint32

// merge is what a pair of tokens becomes, and how early.
type merge struct {
	rank uint32
	id   int32
}

// pairTable maps pairs of tokens to merges: open addressing, as a Go map takes
// three times as long to read.
type pairTable struct {
	keys []uint64 // 0: free; a pair is stored plus 1
	vals []merge
	mask uint64
}

func newPairTable(n int) pairTable {
	size := 16
	for size < 2*n {
		size *= 2
	}
	return pairTable{keys: make([]uint64, size), vals: make([]merge, size), mask: uint64(size - 1)}
}

func pairKey(a, b int32) uint64 { return (uint64(uint32(a))<<32 | uint64(uint32(b))) + 1 }

func (p *pairTable) slot(key uint64) uint64 {
	i := (key * 0x9e3779b97f4a7c15) >> 20 & p.mask
	for p.keys[i] != 0 && p.keys[i] != key {
		i = (i + 1) & p.mask
	}
	return i
}

func (p *pairTable) get(a, b int32) merge {
	i := p.slot(pairKey(a, b))
	if p.keys[i] == 0 {
		return merge{rank: noRank}
	}
	return p.vals[i]
}

func (m *bpe) build(vocab map[string]int32, merges []mergePair, ignoreMerges bool) error {
	if len(vocab) == 0 {
		return errNoVocab
	}
	for b, r := range byteChars {
		id, ok := vocab[string(r)]
		if !ok {
			id = -1
		}
		m.bytes[b] = id
	}
	m.merges = newPairTable(len(merges))
	for rank, pair := range merges {
		a, okA := vocab[pair[0]]
		b, okB := vocab[pair[1]]
		id, okID := vocab[pair[0]+pair[1]]
		if !okA || !okB || !okID {
			return fmt.Errorf("not a tokenizer.json: merge %d (%.40q %.40q) is not in the vocabulary", rank, pair[0], pair[1])
		}
		key := pairKey(a, b)
		i := m.merges.slot(key)
		// The last of two equal merges wins, as in a hash map that is filled in
		// order.
		m.merges.keys[i], m.merges.vals[i] = key, merge{uint32(rank), id}
	}
	if !ignoreMerges {
		return nil
	}
	m.whole = make(map[string]int32, len(vocab))
	for token, id := range vocab {
		if raw, ok := rawBytes(token); ok {
			m.whole[raw] = id
		}
	}
	return nil
}

// rawBytes returns the bytes that a token of the vocabulary stands for.
func rawBytes(token string) (string, bool) {
	raw := make([]byte, 0, len(token))
	for _, r := range token {
		b := charByte(r)
		if b < 0 {
			return "", false
		}
		raw = append(raw, byte(b))
	}
	return string(raw), true
}

// symbol is a token that may still merge with the one after it.
type symbol struct {
	id         int32
	prev, next int32 // -1 at the ends
	rank       uint32
	merged     int32 // token that the pair with next becomes
}

// longPiece is the number of bytes from which merging keeps a queue: below it,
// looking through all pairs is faster.
const longPiece = 48

// encode appends the tokens of one piece of text to dst.
func (m *bpe) encode(dst []int32, s *state, piece string) []int32 {
	if m.whole != nil {
		if id, ok := m.whole[piece]; ok {
			return append(dst, id)
		}
	}
	sym := s.symbols[:0]
	for i := range len(piece) {
		id := m.bytes[piece[i]]
		if id < 0 {
			continue // as the reference does without an unknown token
		}
		n := int32(len(sym))
		sym = append(sym, symbol{id: id, prev: n - 1, next: n + 1, rank: noRank})
	}
	s.symbols = sym
	if len(sym) == 0 {
		return dst
	}
	sym[len(sym)-1].next = -1
	for i := range sym[:len(sym)-1] {
		g := m.merges.get(sym[i].id, sym[i+1].id)
		sym[i].rank, sym[i].merged = g.rank, g.id
	}
	if len(sym) < longPiece {
		m.mergeShort(sym)
	} else {
		m.mergeLong(s, sym)
	}
	for i := int32(0); i >= 0; i = sym[i].next {
		dst = append(dst, sym[i].id)
	}
	return dst
}

// join merges symbol i with the one after it.
func (m *bpe) join(sym []symbol, i int32) {
	a := &sym[i]
	gone := a.next
	a.id = a.merged
	a.next = sym[gone].next
	sym[gone].rank, sym[gone].id = noRank, -1
	a.rank = noRank
	if a.next >= 0 {
		sym[a.next].prev = i
		g := m.merges.get(a.id, sym[a.next].id)
		a.rank, a.merged = g.rank, g.id
	}
	if a.prev >= 0 {
		p := &sym[a.prev]
		g := m.merges.get(p.id, a.id)
		p.rank, p.merged = g.rank, g.id
	}
}

// mergeShort merges the pair of the lowest rank, the first of equal ones,
// until none is left.
func (m *bpe) mergeShort(sym []symbol) {
	for {
		best, rank := int32(-1), uint32(noRank)
		for i := int32(0); i >= 0; i = sym[i].next {
			if sym[i].rank < rank {
				best, rank = i, sym[i].rank
			}
		}
		if best < 0 {
			return
		}
		m.join(sym, best)
	}
}

// candidate is a pair in the queue. It is out of date if the symbol at pos has
// another rank by now.
type candidate struct {
	rank uint32
	pos  int32
}

func (c candidate) before(d candidate) bool {
	return c.rank < d.rank || c.rank == d.rank && c.pos < d.pos
}

// mergeLong does the same with a queue: n log n for pieces of any length.
func (m *bpe) mergeLong(s *state, sym []symbol) {
	q := s.queue[:0]
	push := func(i int32) {
		if i < 0 || sym[i].rank == noRank {
			return
		}
		q = append(q, candidate{sym[i].rank, i})
		for k := len(q) - 1; k > 0; {
			up := (k - 1) / 2
			if !q[k].before(q[up]) {
				break
			}
			q[k], q[up] = q[up], q[k]
			k = up
		}
	}
	for i := range sym {
		push(int32(i))
	}
	for len(q) > 0 {
		top := q[0]
		last := len(q) - 1
		q[0] = q[last]
		q = q[:last]
		for k := 0; ; {
			child := 2*k + 1
			if child >= last {
				break
			}
			if child+1 < last && q[child+1].before(q[child]) {
				child++
			}
			if !q[child].before(q[k]) {
				break
			}
			q[k], q[child] = q[child], q[k]
			k = child
		}
		if sym[top.pos].rank != top.rank || sym[top.pos].id < 0 {
			continue
		}
		m.join(sym, top.pos)
		push(top.pos)
		push(sym[top.pos].prev)
	}
	s.queue = q[:0]
}
