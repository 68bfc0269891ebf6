package tokenizer

import "slices"

// trie is a double array: node s has the child base[s]+c for byte c if that
// cell's check is s. It walks a byte with two loads.
type trie struct{ cells []cell }

type cell struct {
	base  int32
	check int32 // parent node + 1; 0: free
	id    int32 // token that ends here + 1; 0: none
}

// entry is a key of the trie and its token.
type entry struct {
	key string
	id  int32
}

// newTrie builds the trie over keys that are distinct and not empty.
func newTrie(entries []entry) trie {
	slices.SortFunc(entries, func(a, b entry) int {
		if a.key < b.key {
			return -1
		}
		return 1
	})
	b := builder{cells: make([]cell, 1, 1<<18), firstFree: 1}
	b.grow(512)
	b.cells[0].check = -1
	b.insert(0, entries, 0)
	last := len(b.cells)
	for last > 1 && b.cells[last-1].check == 0 {
		last--
	}
	// A walk may look 255 cells beyond a base.
	b.grow(last + 256)
	return trie{cells: b.cells[:last+256]}
}

type builder struct {
	cells     []cell
	firstFree int
}

func (b *builder) grow(n int) {
	for len(b.cells) < n {
		b.cells = append(b.cells, make([]cell, max(4096, n-len(b.cells)))...)
	}
}

// insert places the children of node, which share depth bytes.
func (b *builder) insert(node int, entries []entry, depth int) {
	if len(entries) > 0 && len(entries[0].key) == depth {
		b.cells[node].id = entries[0].id + 1
		entries = entries[1:]
	}
	if len(entries) == 0 {
		return
	}
	var bytes []byte
	var starts []int
	for i, e := range entries {
		if c := e.key[depth]; len(bytes) == 0 || c != bytes[len(bytes)-1] {
			bytes, starts = append(bytes, c), append(starts, i)
		}
	}
	base := b.place(bytes)
	b.cells[node].base = int32(base)
	for _, c := range bytes {
		b.cells[base+int(c)].check = int32(node) + 1
	}
	starts = append(starts, len(entries))
	for i, c := range bytes {
		b.insert(base+int(c), entries[starts[i]:starts[i+1]], depth+1)
	}
}

// place finds a base at which all bytes fall on free cells.
func (b *builder) place(bytes []byte) int {
	for b.cells[b.firstFree].check != 0 {
		b.firstFree++
		b.grow(b.firstFree + 512)
	}
	at := b.firstFree
	if len(bytes) > 4 {
		// Wide nodes seldom fit into gaps: begin where it is emptier.
		at = max(at, len(b.cells)-4608)
	}
	for ; ; at++ {
		b.grow(at + 512)
		if b.cells[at].check != 0 {
			continue
		}
		base := at - int(bytes[0])
		if base < 1 {
			continue
		}
		ok := true
		for _, c := range bytes[1:] {
			if b.cells[base+int(c)].check != 0 {
				ok = false
				break
			}
		}
		if ok {
			return base
		}
	}
}

// longest gives the token of the longest key that s begins with, and its length.
// Every byte is a key, so for a non-empty s there is one.
func (t trie) longest(s string) (id int32, n int) {
	node := int32(0)
	cells := t.cells
	for i := 0; i < len(s); i++ {
		next := cells[node].base + int32(s[i])
		if cells[next].check != node+1 {
			break
		}
		node = next
		if e := cells[node].id; e != 0 {
			id, n = e-1, i+1
		}
	}
	return id, n
}
