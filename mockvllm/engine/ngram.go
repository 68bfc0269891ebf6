package engine

// ngrams finds where the last tokens of a text stood before: for every n-gram
// with a token behind it, the place behind its earliest occurrence. It grows
// with the text, so a look-up costs the same at any length.
//
// Source: docs/vllm.md section 5, fact 10.
type ngrams struct {
	least, most int
	behind      map[uint64]int32 // hash of an n-gram and n: position after it
	indexed     int              // n-grams that end before this position are in
}

func newNgrams(least, most int) *ngrams {
	return &ngrams{least: least, most: most, behind: map[uint64]int32{}}
}

// text is prompt and output as one.
type text struct{ prompt, output []int32 }

func (t text) len() int { return len(t.prompt) + len(t.output) }
func (t text) at(i int) int32 {
	if i < len(t.prompt) {
		return t.prompt[i]
	}
	return t.output[i-len(t.prompt)]
}

// hash of the n tokens that end before end.
func (t text) hash(end, n int) uint64 {
	state := uint64(n)
	for i := end - n; i < end; i++ {
		state = hashToken(state, t.at(i))
	}
	return state
}

func (t text) same(endA, endB, n int) bool {
	for i := 1; i <= n; i++ {
		if t.at(endA-i) != t.at(endB-i) {
			return false
		}
	}
	return true
}

// propose appends up to k tokens that followed the earliest occurrence of the
// longest n-gram that ends the text; none if it never stood before.
func (g *ngrams) propose(t text, k int, out []int32) []int32 {
	total := t.len()
	for ; g.indexed < total; g.indexed++ { // an n-gram at the very end has nothing behind it
		for n := g.least; n <= g.most && n <= g.indexed; n++ {
			key := t.hash(g.indexed, n)
			if _, ok := g.behind[key]; !ok {
				g.behind[key] = int32(g.indexed)
			}
		}
	}
	for n := min(g.most, total); n >= g.least; n-- {
		end, ok := g.behind[t.hash(total, n)]
		if !ok || !t.same(int(end), total, n) {
			continue
		}
		for i := int(end); i < total && len(out) < k; i++ {
			out = append(out, t.at(i))
		}
		return out
	}
	return out
}
