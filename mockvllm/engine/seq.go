package engine

// state of a sequence in the engine or before it.
type state uint8

const (
	inTokenizer state = iota
	inEventLoop
	waiting
	running
	gone // finished or aborted
)

// seq is a request in flight. tokens counts prompt and output, computed those
// whose keys and values are in blocks (or will be, once the step in flight ends).
type seq struct {
	Request
	times RequestTimes

	uid     uint64 // order of arrival at the engine, never used twice
	prompt  int    // prompt tokens
	maxOut  int    // output tokens at which it ends
	tokens  int
	out     int
	blocks  []int32
	former  []int32 // its blocks before it was preempted (no Prompt)
	hashes  []uint64
	history []int32 // output tokens, if drafts are looked up

	hashState uint64 // chain over tokens
	hashed    int    // tokens in hashState

	computed  int
	scheduled int // in the step in flight
	published int // blocks in the table

	drafts     int // draft tokens to verify in the next step
	draftIDs   []int32
	inFlight   int // drafts in the step in flight
	lookup     *ngrams
	cached     int // prompt tokens from the prefix cache at first admission
	state      state
	prefilling bool
	admitted   bool // at least once
	aborted    bool
	sampling   Sampling
	finish     FinishReason

	home *Engine // its replica

	psTarget float64 // see frontEnd

	spans []span // recorded chunks
	index int    // in Virtual.Requests
}

// remaining is the number of tokens until a length ends the request.
func (s *seq) remaining() int { return s.maxOut - s.out }

// queue is a list of waiting sequences that grows at both ends.
type queue struct {
	items []*seq
	head  int
}

func (q *queue) len() int      { return len(q.items) - q.head }
func (q *queue) at(i int) *seq { return q.items[q.head+i] }
func (q *queue) pushBack(s *seq) {
	if q.head > 64 && q.head > len(q.items)/2 {
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	q.items = append(q.items, s)
}

func (q *queue) pushFront(s *seq) {
	if q.head == 0 {
		const room = 16
		grown := make([]*seq, room+len(q.items), 2*room+2*len(q.items))
		copy(grown[room:], q.items)
		q.items, q.head = grown, room
	}
	q.head--
	q.items[q.head] = s
}

func (q *queue) removeAt(i int) *seq {
	i += q.head
	s := q.items[i]
	if i == q.head {
		q.items[i] = nil
		q.head++
		return s
	}
	copy(q.items[i:], q.items[i+1:])
	q.items[len(q.items)-1] = nil
	q.items = q.items[:len(q.items)-1]
	return s
}

func (q *queue) remove(s *seq) {
	for i := q.head; i < len(q.items); i++ {
		if q.items[i] == s {
			q.removeAt(i - q.head)
			return
		}
	}
}

// insert keeps the queue ordered by less.
func (q *queue) insert(s *seq, less func(a, b *seq) bool) {
	q.pushBack(s)
	for i := len(q.items) - 1; i > q.head && less(s, q.items[i-1]); i-- {
		q.items[i], q.items[i-1] = q.items[i-1], s
	}
}
