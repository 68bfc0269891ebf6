package tokenize

import "unicode/utf8"

// Features counts the pieces of a text by sort: what the estimate is linear in.
type Features [featureCount]int32

const (
	wordShort     = iota // ASCII word of up to 4 letters, with the character before it
	wordMiddle           // 5 to 8 letters
	wordLong             // 9 to 12 letters
	wordVeryLong         // 13 letters and more
	wordExtra            // letters beyond 8, in all words
	caseChange           // lower to upper inside a word, or capitals after the first
	wordAfterSign        // word that took a sign before it ("_x", ".Name")
	digits               // groups of up to 3 digits
	signs                // runs of signs
	spaces               // pieces of white space
	latinLetter          // letters beyond ASCII below U+0370
	latinWord            // words that have one
	otherLetter          // letters from U+0370 on but those below
	otherWord            // words that begin with one
	han                  // Han characters
	kana                 // Hiragana and Katakana
	hangul               // Hangul syllables
	cjkSign              // signs from U+2000 to U+FFFF in runs
	emoji                // characters beyond U+FFFF that are no letters
	foreignExtra         // as wordExtra, in text with accents, in 1/16
	featureCount
)

// Words of languages with accents cost more than English words of their length,
// also those without an accent: the vocabulary has fewer of them. How many
// accents there are is looked at in blocks of blockBytes; foreignShare of the
// letters is what German has, the language with the fewest.
const (
	blockBytes   = 1 << 10
	foreignShare = 0.015
)

// Add counts the pieces of text.
func (f *Features) Add(text string) {
	var block Features
	size := 0
	for len(text) > 0 {
		n := nextCL100K(text, 3)
		block.piece(text[:n])
		text = text[n:]
		if size += n; size >= blockBytes || len(text) == 0 {
			block.markForeign(size)
			for i, n := range block {
				f[i] += n
			}
			block, size = Features{}, 0
		}
	}
}

func (f *Features) markForeign(size int) {
	if f[latinLetter] == 0 {
		return
	}
	share := min(float64(f[latinLetter])/float64(size)/foreignShare, 1)
	f[foreignExtra] = int32(16 * share * float64(f[wordExtra]))
}

func (f *Features) piece(s string) {
	c, n := classAt(s, 0)
	if n < len(s) && c != classLetter {
		if d, _ := classAt(s, n); d == classLetter {
			if c == classOther {
				f[wordAfterSign]++
				if n > 1 {
					f[cjkSign]++
				}
			}
			f.word(s[n:])
			return
		}
	}
	switch c {
	case classLetter:
		f.word(s)
	case classNumber:
		f[digits]++
	case classOther:
		f.signRun(s)
	case classSpace:
		if n < len(s) {
			if d, _ := classAt(s, n); d == classOther {
				f.signRun(s[n:])
				return
			}
		}
		f[spaces]++
	case classNewline:
		f[spaces]++
	}
}

func (f *Features) signRun(s string) {
	ascii := false
	for _, r := range s {
		switch {
		case r < utf8.RuneSelf:
			ascii = true
		case r > 0xFFFF:
			f[emoji]++
		default:
			f[cjkSign]++
		}
	}
	if ascii {
		f[signs]++
	}
}

func (f *Features) word(s string) {
	ascii := int32(0)
	latin, other := false, false
	for i, r := range s {
		switch {
		case r < utf8.RuneSelf:
			ascii++
			if r <= 'Z' && i > 0 {
				f[caseChange]++
			}
		case r < 0x370:
			latin = true
			f[latinLetter]++
		case r >= 0x4E00 && r <= 0x9FFF, r >= 0x3400 && r <= 0x4DBF, r >= 0x20000 && r <= 0x3FFFF, r == 0x3005:
			f[han]++
		case r >= 0x3040 && r <= 0x30FF:
			f[kana]++
		case r >= 0xAC00 && r <= 0xD7A3:
			f[hangul]++
		default:
			other = true
			f[otherLetter]++
		}
	}
	if other {
		f[otherWord]++
	}
	if latin {
		f[latinWord]++
	}
	if ascii == 0 || latin {
		if latin && ascii > 0 {
			f[wordExtra] += max(0, ascii-8)
		}
		return
	}
	switch {
	case ascii <= 4:
		f[wordShort]++
	case ascii <= 8:
		f[wordMiddle]++
	case ascii <= 12:
		f[wordLong]++
	default:
		f[wordVeryLong]++
	}
	f[wordExtra] += max(0, ascii-8)
}

// weights are tokens a unit of each feature.
// Source: docs/datasets.md, "Token estimate".
var weights = [featureCount]float64{
	wordShort: 0.863, wordMiddle: 1.083, wordLong: 1.323, wordVeryLong: 0.755, wordExtra: 0.262,
	caseChange: 0.086, wordAfterSign: 0.381, digits: 1.191, signs: 1.085, spaces: 1.086,
	latinLetter: 1.074, latinWord: 1.644, otherLetter: 0.106, otherWord: 1.709,
	han: 0.762, kana: 0.901, hangul: 0.892, cjkSign: 1.057, emoji: 2.4, foreignExtra: 0.413 / 16,
}

// Tokens returns the estimate for what was added.
func (f *Features) Tokens() int {
	sum := 0.0
	for i, n := range f {
		sum += weights[i] * float64(n)
	}
	return int(sum + 0.5)
}
