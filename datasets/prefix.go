package datasets

import (
	"encoding/binary"
	"hash/maphash"
	"math"
	"math/bits"
)

// blockBytes stands for a block of BlockTokens where there is no tokenizer:
// about 4 bytes a token.
const blockBytes = 4 * BlockTokens

// maxSparseBlocks is how many blocks a prefixIndex keeps while streaming (4
// MiB): about 5,000 samples that share nothing. Prompts beyond that are
// compared with those before, and the report says from which on.
const maxSparseBlocks = 1 << 18

// tokenEncoder is a TokenCounter that can also name the tokens.
type tokenEncoder interface {
	EncodeTokens(dst []int32, text string) []int32
}

// prefixIndex plays an unlimited prefix cache: it remembers the blocks of every
// prompt, each hashed together with all before it, as vLLM does.
//
// Of a prompt that shares nothing with an earlier one it keeps some blocks
// only, ever further apart: the second prompt of a group that shares a prefix
// is then short by up to an eighth of what it shares, the third and all others
// are right. dense keeps all, for sets that are in memory anyway.
type prefixIndex struct {
	seed    maphash.Seed
	secret  [blockBytes / 8]uint64
	dense   bool
	blocks  hashTable
	encoder tokenEncoder // nil: blocks of bytes
	ids     []int32
	buf     []byte
	chain   []uint64 // of the prompt at hand
	whole   uint64   // hash of all of it (blocks of bytes only)

	prompts   int64   // run through
	forgot    int64   // the first of them whose blocks were not all kept, or 0
	tokens    int64   // of all prompts
	hitTokens float64 // of those, served by earlier prompts
}

func newPrefixIndex(counter TokenCounter, dense bool) *prefixIndex {
	p := &prefixIndex{seed: maphash.MakeSeed(), dense: dense, blocks: hashTable{limit: maxSparseBlocks, keysOnly: true}}
	if dense {
		p.blocks.limit = math.MaxInt
	}
	p.encoder, _ = counter.(tokenEncoder)
	for i := range p.secret {
		p.secret[i] = maphash.Comparable(p.seed, i) | 1
	}
	return p
}

// afterBlock returns the next block that is kept of a prompt that shares
// nothing: the first eight, then steps of an eighth.
func afterBlock(k int) int { return k + 1 + k/8 }

// hits looks the chain of the prompt at hand up, keeps it, and returns how many
// of its blocks earlier prompts have.
func (p *prefixIndex) hits() int {
	n := 0
	for n < len(p.chain) && p.blocks.has(p.chain[n]) {
		n++
	}
	for k := 0; k < len(p.chain); k = afterBlock(k) {
		if k > n && p.blocks.has(p.chain[k]) {
			n = k + 1
		}
	}
	step := afterBlock
	if p.dense || n > 0 {
		step = func(k int) int { return k + 1 }
	}
	for k := 0; k < len(p.chain); k = step(k) {
		if !p.blocks.put(p.chain[k], 0) && !p.blocks.has(p.chain[k]) {
			if p.forgot == 0 {
				p.forgot = p.prompts
			}
			break
		}
	}
	return n
}

// share is the share of tokens served, 0 to 1.
func (p *prefixIndex) share() float64 {
	if p.tokens == 0 {
		return 0
	}
	return p.hitTokens / float64(p.tokens)
}

// addSample runs a prompt that is in memory through the cache, in the form in
// which a file holds it, so that Verify finds the same share.
func (p *prefixIndex) addSample(text string, chat bool, tokens int64) {
	if p.encoder != nil || chat {
		p.add([]byte(text), tokens)
		return
	}
	p.add(appendEscaped(nil, []byte(text)), tokens)
}

// add runs one prompt of so many tokens through the cache.
func (p *prefixIndex) add(text []byte, tokens int64) {
	p.prompts++
	if len(text) == 0 || tokens <= 0 {
		return
	}
	p.tokens += tokens
	if p.encoder != nil {
		p.addTokens(text, tokens)
		return
	}
	p.chain = p.chain[:0]
	last, i := uint64(0), 0
	for ; i+blockBytes < len(text); i += blockBytes { // never the last token
		last = p.mixBlock(last, text[i:i+blockBytes])
		p.chain = append(p.chain, last)
	}
	p.whole = mix(last ^ maphash.Bytes(p.seed, text[i:]))
	p.hitTokens += float64(tokens) * float64(p.hits()*blockBytes) / float64(len(text))
}

func (p *prefixIndex) addTokens(text []byte, tokens int64) {
	p.ids = p.encoder.EncodeTokens(p.ids[:0], string(text))
	p.chain = p.chain[:0]
	last := uint64(0)
	for i := 0; i+BlockTokens < len(p.ids); i += BlockTokens {
		p.buf = p.buf[:0]
		for _, id := range p.ids[i : i+BlockTokens] {
			p.buf = append(p.buf, byte(id), byte(id>>8), byte(id>>16), byte(id>>24))
		}
		last = mix(last ^ maphash.Bytes(p.seed, p.buf))
		p.chain = append(p.chain, last)
	}
	p.hitTokens += float64(tokens) * float64(p.hits()*BlockTokens) / float64(max(len(p.ids), 1))
}

// mixBlock hashes a block of blockBytes after a chain: products of 16 bytes
// with secrets of this process, as wyhash makes them. Only the last step waits
// for the block before. A general hash takes several times as long for so few
// bytes.
func (p *prefixIndex) mixBlock(chain uint64, b []byte) uint64 {
	_ = b[blockBytes-1]
	for i := range blockBytes / 16 {
		hi, lo := bits.Mul64(binary.LittleEndian.Uint64(b[16*i:])^p.secret[2*i], binary.LittleEndian.Uint64(b[16*i+8:])^p.secret[2*i+1])
		chain += hi ^ lo
	}
	return mix(chain)
}

func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// hashTable maps 64-bit hashes to small numbers, up to limit of them: open
// addressing, since a Go map takes three times the memory. Two different
// things share a hash with a chance below 1e-7 at a million entries.
type hashTable struct {
	keys  []uint64 // 0: free
	vals  []uint32
	n     int
	limit int
	// keysOnly saves the numbers: all are 0.
	keysOnly bool
}

func (t *hashTable) find(key uint64) int {
	mask := uint64(len(t.keys) - 1)
	i := key & mask
	for t.keys[i] != 0 && t.keys[i] != key {
		i = (i + 1) & mask
	}
	return int(i)
}

func fixKey(key uint64) uint64 { return max(key, 1) }

func (t *hashTable) has(key uint64) bool {
	_, ok := t.get(key)
	return ok
}

func (t *hashTable) get(key uint64) (uint32, bool) {
	if t.n == 0 {
		return 0, false
	}
	i := t.find(fixKey(key))
	if t.keysOnly {
		return 0, t.keys[i] != 0
	}
	return t.vals[i], t.keys[i] != 0
}

// put adds a key that is not there yet; false if the table is full.
func (t *hashTable) put(key uint64, val uint32) bool {
	if t.n >= t.limit {
		return false
	}
	if 4*(t.n+1) > 3*len(t.keys) {
		t.grow()
	}
	i := t.find(fixKey(key))
	if t.keys[i] == 0 {
		t.n++
	}
	t.keys[i] = fixKey(key)
	if !t.keysOnly {
		t.vals[i] = val
	}
	return true
}

func (t *hashTable) grow() {
	old := *t
	size := max(2*len(old.keys), 256)
	t.keys = make([]uint64, size)
	if !t.keysOnly {
		t.vals = make([]uint32, size)
	}
	for i, k := range old.keys {
		if k == 0 {
			continue
		}
		j := t.find(k)
		t.keys[j] = k
		if !t.keysOnly {
			t.vals[j] = old.vals[i]
		}
	}
}
