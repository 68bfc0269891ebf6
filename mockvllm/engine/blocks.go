package engine

import (
	"math/bits"
	"slices"
)

// none is the end of a list of blocks.
const none int32 = -1

// What a block's content is known as.
const (
	contentUnknown uint8 = iota
	contentShared        // hash is in pool.table: any request may hit it
	contentOwn           // hash is ownKey: only the request that wrote it may
)

// block is one KV block. A block with ref 0 is free, and in a list.
type block struct {
	hash       uint64
	prev, next int32 // neighbours in a free list
	// dup is the next block of the same hash, in order of publication; none after
	// the last. dupPrev is the one before; the first has the last there.
	dup, dupPrev int32
	ref          int32 // requests that use it
	content      uint8
}

// list is a doubly linked list of free blocks.
type list struct{ head, tail int32 }

// pool hands KV blocks out, in vLLM's order: blocks put in front, blocks never
// used, then the block that has been free for longest.
//
// Blocks exist from their first use on, so that an idle engine is small.
//
// Source: docs/vllm.md section 5, facts 5 and 8.
type pool struct {
	blocks []block
	usable int
	free   int
	front  list // freed without content, under reuseUnhashedFirst
	lru    list
	// table finds the first published block of a hash.
	table map[uint64]int32
	// reuseUnhashedFirst: see Config.ReuseUnhashedFirst.
	reuseUnhashedFirst bool
}

func newPool(usable int, reuseUnhashedFirst bool) *pool {
	return &pool{
		usable: usable, free: usable,
		front: list{none, none}, lru: list{none, none},
		table: map[uint64]int32{}, reuseUnhashedFirst: reuseUnhashedFirst,
	}
}

// take hands out the next free block, forgetting what it held. There must be one.
func (p *pool) take() int32 {
	p.free--
	var id int32
	switch {
	case p.front.head != none:
		id = p.front.head
		p.unlink(&p.front, id)
	case len(p.blocks) < p.usable:
		id = int32(len(p.blocks))
		if len(p.blocks) == cap(p.blocks) {
			p.blocks = slices.Grow(p.blocks, min(p.usable-len(p.blocks), max(256, 3*len(p.blocks))))
		}
		p.blocks = append(p.blocks, block{prev: none, next: none, dup: none, dupPrev: none})
	default:
		id = p.lru.head
		p.unlink(&p.lru, id)
		p.forget(id)
	}
	p.blocks[id].ref = 1
	return id
}

// touch takes a block that a prefix hit found.
func (p *pool) touch(id int32) {
	b := &p.blocks[id]
	if b.ref == 0 {
		p.unlink(&p.lru, id) // only blocks without content are in front
		p.free--
	}
	b.ref++
}

// release gives a request's blocks back, last first, so that the tail of a
// prefix is evicted before its head.
func (p *pool) release(ids []int32) {
	after := none // where the next block without content goes in front
	for i := len(ids) - 1; i >= 0; i-- {
		id := ids[i]
		b := &p.blocks[id]
		if b.ref--; b.ref > 0 {
			continue
		}
		p.free++
		if p.reuseUnhashedFirst && b.content == contentUnknown {
			p.insertAfter(&p.front, after, id)
			after = id
			continue
		}
		p.insertAfter(&p.lru, p.lru.tail, id)
	}
}

// insertAfter puts id behind after in l; none is the beginning.
func (p *pool) insertAfter(l *list, after, id int32) {
	next := l.head
	if after != none {
		next = p.blocks[after].next
		p.blocks[after].next = id
	} else {
		l.head = id
	}
	if next != none {
		p.blocks[next].prev = id
	} else {
		l.tail = id
	}
	b := &p.blocks[id]
	b.prev, b.next = after, next
}

func (p *pool) unlink(l *list, id int32) {
	b := &p.blocks[id]
	if b.prev != none {
		p.blocks[b.prev].next = b.next
	} else {
		l.head = b.next
	}
	if b.next != none {
		p.blocks[b.next].prev = b.prev
	} else {
		l.tail = b.prev
	}
	b.prev, b.next = none, none
}

// find gives the block that a hit on hash uses.
func (p *pool) find(hash uint64) (int32, bool) {
	id, ok := p.table[hash]
	return id, ok
}

// publish makes a full block's content known to all requests.
func (p *pool) publish(id int32, hash uint64) {
	b := &p.blocks[id]
	b.hash, b.content, b.dup = hash, contentShared, none
	first, ok := p.table[hash]
	if !ok {
		p.table[hash] = id
		b.dupPrev = id
		return
	}
	head := &p.blocks[first]
	last := head.dupPrev
	p.blocks[last].dup = id
	b.dupPrev, head.dupPrev = last, id
}

// keepOwn marks a full block as content that only its writer can find again.
func (p *pool) keepOwn(id int32, key uint64) {
	b := &p.blocks[id]
	b.hash, b.content = key, contentOwn
}

// holds reports whether id still has the content of keepOwn.
func (p *pool) holds(id int32, key uint64) bool {
	b := &p.blocks[id]
	return b.content == contentOwn && b.hash == key
}

// forget drops a block's content.
func (p *pool) forget(id int32) {
	b := &p.blocks[id]
	if b.content == contentShared {
		p.unpublish(id)
	}
	b.content, b.dup = contentUnknown, none
}

func (p *pool) unpublish(id int32) {
	b := &p.blocks[id]
	first := p.table[b.hash]
	switch {
	case first == id && b.dup == none:
		delete(p.table, b.hash)
	case first == id:
		p.table[b.hash] = b.dup
		p.blocks[b.dup].dupPrev = b.dupPrev
	case b.dup == none:
		p.blocks[first].dupPrev = b.dupPrev
		p.blocks[b.dupPrev].dup = none
	default:
		p.blocks[b.dup].dupPrev = b.dupPrev
		p.blocks[b.dupPrev].dup = b.dup
	}
}

// reset forgets everything; false while a block is in use.
func (p *pool) reset() bool {
	if p.free != p.usable {
		return false
	}
	for i := range p.blocks {
		p.blocks[i].content, p.blocks[i].dup = contentUnknown, none
	}
	clear(p.table)
	return true
}

// ownKey names block index of request uid: content that nobody else has.
func ownKey(uid uint64, index int) uint64 { return uid<<24 | uint64(index) }

// Hashes chain over tokens: the state after a block's last token names the block
// and everything before it. 64 bits make a false hit less likely than 1e-7 in a
// million blocks; vLLM uses SHA-256, of which nothing but equality is seen.
const (
	hashSeed = 0x9e3779b97f4a7c15
	hashMul  = 0xd6e8feb86659fd93
)

// hashToken continues a chain by one token.
func hashToken(state uint64, token int32) uint64 {
	hi, lo := bits.Mul64(state^uint64(uint32(token)), hashMul)
	return (hi ^ lo) + hashSeed
}

// hashText begins a chain under a cache salt.
func hashText(s string) uint64 {
	state := uint64(hashSeed)
	for i := 0; i < len(s); i++ {
		state = hashToken(state, int32(s[i]))
	}
	return state
}

// hashUnknown continues a chain by a token that nobody else has.
func hashUnknown(state, uid uint64) uint64 {
	return hashToken(hashToken(state^uid, int32(uid>>32)), 1<<30)
}
