package tokenizer

import (
	"math"
	"sync"
)

// DefaultRepetition is the share of passages that are copied when nothing else
// is asked for. With it n-gram look-up (k = 5, 2 to 4 tokens) finds on a plain
// prompt what is published for mixed chat (docs/mock.md, generated text).
const DefaultRepetition = 0.5

// Text is what the mock says: a pure function of the request's seed, its prompt
// and the position.
//
// It speaks in sentences of 16 tokens. Passages of 64 tokens are, by the share
// Repetition, copies of 64 consecutive tokens of prompt or output, which begin
// at a multiple of 16, with a word in twelve changed; the rest is fresh. Re-encoding fresh text gives the same
// tokens again, so counts of a client that tokenizes hold.
type Text struct {
	// Seed is mixed with the request's.
	Seed uint64
	// Repetition is a share, 0 to 1.
	Repetition float64
	// Stop: unless a request ignores it, its text ends by an end-of-sequence
	// token, after 64 to 2,048 tokens (and not before MinTokens).
	Stop bool
}

// Source is what of a request decides the text.
type Source struct {
	Prompt    []int32
	Seed      uint64
	MinTokens int
	IgnoreEOS bool
}

const (
	sentenceTokens = 16
	passageTokens  = 4 * sentenceTokens
	// paragraphSentences is how many sentences stand between blank lines.
	paragraphSentences = 6
)

// Kinds of words in a sentence.
const (
	slotDet = iota
	slotAdj
	slotNoun
	slotNouns
	slotVerb
	slotAdv
	slotPrep
	slotConj
	slotPron
	slotAux
	slotKinds
	slotComma
	slotStop
)

var sentences = [...][sentenceTokens]uint8{
	{slotDet, slotAdj, slotNouns, slotVerb, slotDet, slotAdj, slotNoun, slotPrep, slotDet, slotNoun, slotComma, slotConj, slotNouns, slotVerb, slotAdv, slotStop},
	{slotPrep, slotDet, slotNoun, slotComma, slotDet, slotAdj, slotNoun, slotAux, slotVerb, slotDet, slotNoun, slotPrep, slotDet, slotAdj, slotNoun, slotStop},
	{slotAdv, slotComma, slotDet, slotNoun, slotPrep, slotDet, slotNoun, slotAux, slotAdv, slotVerb, slotDet, slotNoun, slotConj, slotDet, slotNoun, slotStop},
	{slotNouns, slotConj, slotNouns, slotVerb, slotPrep, slotDet, slotAdj, slotNoun, slotComma, slotPron, slotAux, slotVerb, slotDet, slotAdj, slotNoun, slotStop},
}

// lexicon holds, for every kind, 1,024 tokens drawn by Zipf's law from the word
// list's order, in three spellings.
type lexicon struct {
	mid, start, bare    [slotKinds][1024]int32 // " word", " Word", "Word"
	comma, stop, break2 int32
}

var words = sync.OnceValue(newLexicon)

func newLexicon() *lexicon {
	v := vocab()
	l := &lexicon{comma: v.ids[","], stop: v.ids["."], break2: v.ids["\n\n"]}
	kinds := [slotKinds]string{"det", "adj", "noun", "noun", "verb", "adv", "prep", "conj", "pron", "aux"}
	for k, name := range kinds {
		list := v.kinds[name]
		for i := range 1024 {
			u := (float64(i) + 0.5) / 1024
			w := list[int(math.Pow(float64(len(list)), u))-1]
			if k == slotNouns {
				w = plural(w)
			}
			l.mid[k][i] = v.ids[" "+w]
			l.start[k][i] = v.ids[" "+capital(w)]
			l.bare[k][i] = v.ids[capital(w)]
		}
	}
	return l
}

// mix is the finalizer of splitmix64: every input bit moves every output bit.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// Token gives the token at output position pos, from 0.
func (t *Text) Token(s Source, pos int) int32 {
	seed := mix(t.Seed ^ mix(s.Seed))
	if t.Stop && !s.IgnoreEOS && pos >= t.length(seed, s.MinTokens) {
		return User
	}
	for {
		from, inPrompt, copied := t.origin(seed, s, pos)
		switch {
		case !copied, edited(seed, pos):
			return fresh(seed, pos)
		case !inPrompt:
			pos = from
			continue
		}
		if id := s.Prompt[from]; id < FirstSpecial {
			return id
		}
		return fresh(seed, pos)
	}
}

// length is where the text ends if nothing else ends it.
func (t *Text) length(seed uint64, minTokens int) int {
	return max(minTokens, sentenceTokens*(4+int(mix(seed^0xe05)%125)))
}

// origin says where the token at pos is copied from, if it is.
func (t *Text) origin(seed uint64, s Source, pos int) (from int, inPrompt, copied bool) {
	passage := pos / passageTokens
	prompt := len(s.Prompt) / sentenceTokens
	sources := prompt + passage*(passageTokens/sentenceTokens) - passageTokens/sentenceTokens + 1
	h := mix(seed ^ uint64(passage)<<20 ^ 0xc0)
	if sources <= 0 || float64(h>>40)/(1<<24) >= t.Repetition {
		return 0, false, false
	}
	from = int(h%uint64(sources))*sentenceTokens + pos%passageTokens
	if from < prompt*sentenceTokens {
		return from, true, true
	}
	return from - prompt*sentenceTokens, false, true
}

// edited reports whether a copied token is replaced: one in twelve, inside of
// sentences only, so that their ends stay where they are.
func edited(seed uint64, pos int) bool {
	slot := pos % sentenceTokens
	return slot > 0 && slot < sentenceTokens-2 && mix(seed^uint64(pos)<<8^0xed)%12 == 0
}

// fresh gives a token of new text.
func fresh(seed uint64, pos int) int32 {
	l := words()
	sentence, slot := pos/sentenceTokens, pos%sentenceTokens
	kind := mix(seed ^ uint64(sentence)<<24 ^ 0x5e)
	form := &sentences[kind%uint64(len(sentences))]
	if sentence%paragraphSentences == paragraphSentences-1 {
		form = &sentences[0]
		switch slot {
		case sentenceTokens - 2:
			return l.stop
		case sentenceTokens - 1:
			return l.break2
		}
	}
	switch k := form[slot]; k {
	case slotComma:
		return l.comma
	case slotStop:
		return l.stop
	default:
		i := mix(seed^uint64(pos)<<1) & 1023
		switch {
		case slot > 0:
			return l.mid[k][i]
		case sentence%paragraphSentences == 0:
			return l.bare[k][i]
		}
		return l.start[k][i]
	}
}
