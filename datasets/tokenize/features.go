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
	signExtra            // signs beyond the second in a run
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
	featureCount
)

// Add counts the pieces of text.
func (f *Features) Add(text string) {
	for len(text) > 0 {
		n := nextCL100K(text, 3)
		f.piece(text[:n])
		text = text[n:]
	}
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
	ascii := int32(0)
	for _, r := range s {
		switch {
		case r < utf8.RuneSelf:
			if r != '\n' && r != '\r' {
				ascii++
			}
		case r > 0xFFFF:
			f[emoji]++
		default:
			f[cjkSign]++
		}
	}
	if ascii > 0 {
		f[signs]++
	}
	if ascii > 2 {
		f[signExtra] += ascii - 2
	}
}

func (f *Features) word(s string) {
	ascii := int32(0)
	upper, latin, other := false, false, false
	for i, r := range s {
		switch {
		case r < utf8.RuneSelf:
			ascii++
			up := r <= 'Z'
			if up && i > 0 {
				f[caseChange]++
			}
			upper = up
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
	_ = upper
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
	wordShort: 1, wordMiddle: 1.1, wordLong: 1.3, wordVeryLong: 1.6, wordExtra: 0.1,
	caseChange: 0.5, wordAfterSign: 0.5, digits: 1, signs: 1, signExtra: 0.2, spaces: 1,
	latinLetter: 0.4, latinWord: 1.5, otherLetter: 0.5, otherWord: 0.5,
	han: 0.7, kana: 0.8, hangul: 0.9, cjkSign: 1, emoji: 2.5,
}

// Tokens returns the estimate for what was added.
func (f *Features) Tokens() int {
	sum := 0.0
	for i, n := range f {
		sum += weights[i] * float64(n)
	}
	return int(sum + 0.5)
}
