package tokenizer

import (
	_ "embed"
	"strings"
	"sync"
)

//go:embed words.txt
var wordList string

// moreWords are further pieces, by frequency in this project's own sources and
// generated texts in all their languages: so that a prompt has about as many
// tokens here as an estimate of GLM-4.6's tokenizer gives it (docs/mock.md).
//
//go:embed more.txt
var moreWords string

// Special tokens of GLM-4.6 and their ids.
//
// Source: docs/vllm.md section 7 (eos_token_id); the others follow the order of
// added tokens in GLM-4 tokenizers and only have to be distinct here.
const (
	EndOfText   int32 = 151329
	GMask       int32 = 151331
	StartOfText int32 = 151333
	System      int32 = 151335
	User        int32 = 151336
	Assistant   int32 = 151337
	Observation int32 = 151338
	ThinkBegin  int32 = 151350
	ThinkEnd    int32 = 151351
)

// FirstSpecial is the lowest id of a special token; all below are text.
const FirstSpecial = EndOfText

// Size is the size of GLM-4.6's vocabulary, padding included. Ids from Words to
// FirstSpecial are not in use here.
//
// Source: docs/vllm.md section 7.
const Size = 151552

var specials = []struct {
	id   int32
	text string
}{
	{EndOfText, "<|endoftext|>"}, {GMask, "[gMASK]"}, {StartOfText, "<sop>"},
	{System, "<|system|>"}, {User, "<|user|>"}, {Assistant, "<|assistant|>"},
	{Observation, "<|observation|>"}, {ThinkBegin, "<think>"}, {ThinkEnd, "</think>"},
}

// vocabulary is built once, on first use.
type vocabulary struct {
	pieces []string // by id, without the specials
	// json[offsets[id]:offsets[id+1]] is piece id as the inside of a JSON
	// string; empty for pieces that are no whole UTF-8 text.
	json    []byte
	offsets []uint32
	whole   []bool // valid UTF-8 on its own
	trie    trie
	kinds   map[string][]string // the word list by section
	ids     map[string]int32
}

var vocab = sync.OnceValue(build)

// Warm builds all tables now instead of on first use (some 20 to 40 ms).
func Warm() { words() }

func build() *vocabulary {
	v := &vocabulary{kinds: parseWords(wordList), ids: make(map[string]int32, 1<<15)}
	v.pieces = make([]string, 0, 1<<15)
	add := func(s string) {
		if _, ok := v.ids[s]; !ok {
			v.ids[s] = int32(len(v.pieces))
			v.pieces = append(v.pieces, s)
		}
	}
	for b := range 256 {
		add(string([]byte{byte(b)}))
	}
	addSpaces(add)
	addPunctuation(add)
	addNumbers(add)
	addWords(v.kinds, add)
	addFragments(v.kinds, add)
	addCJK(v.kinds, add)
	addMore(add)
	v.finish()
	return v
}

// parseWords reads sections of blank-separated words; # begins a comment line.
func parseWords(text string) map[string][]string {
	kinds := map[string][]string{}
	kind := ""
	for line := range strings.SplitSeq(text, "\n") {
		switch {
		case line == "" || line[0] == '#':
		case line[0] == '[':
			kind = strings.Trim(line, "[]")
		default:
			kinds[kind] = append(kinds[kind], strings.Fields(line)...)
		}
	}
	return kinds
}

// Runs of white space as program text has them: indentation by blanks or tabs,
// alone and after a line end.
func addSpaces(add func(string)) {
	for n := 1; n <= 32; n++ {
		add(strings.Repeat(" ", n))
	}
	for n := 1; n <= 8; n++ {
		add(strings.Repeat("\t", n))
		add("\n" + strings.Repeat("\t", n))
		add("\n\n" + strings.Repeat("\t", n))
		add("\n" + strings.Repeat(" ", n*2))
		add("\n" + strings.Repeat(" ", n*4))
		for _, after := range []string{"}", ")", "//", "if", "return", "for", "case", "self", "_", "\""} {
			add("\n" + strings.Repeat("\t", n-1) + after)
			add("\n" + strings.Repeat(" ", n*4) + after)
		}
	}
	for after := range strings.FieldsSeq("// func type import def class # - * var const package") {
		add("\n\n" + after)
		add("\n" + after)
	}
	for n := 1; n <= 4; n++ {
		add(strings.Repeat("\n", n))
		add("\r\n" + strings.Repeat("\t", n-1))
	}
}

// Pairs and triples of punctuation that are common in prose, Markdown and
// program text. None ends in a blank or a line end: what follows a sentence
// keeps its own token.
func addPunctuation(add func(string)) {
	for p := range strings.FieldsSeq(`
		() (); () { ()) ), ); ). ): )) ))) [] []( ]) ], ]; }} }) }, }; {} {{ {" {' ["
		"] ["  "" "' "; ", "). "), ") ") ": ." ," ?" !" '' '' '. ', '; ') ': '] ...  .. :: := == != <= >= => -> <- -- ++ += -= *= /= %= &= |= ^=
		}, ){ "} "}, "), "); ")) )( ]( }; {{" {" 0x 0x0 0x1 0b 1e (0 (1 [2 ,0 0, 1, 0) 1) 0, 0} 1} 0; .0 .1 %w %q %x %p \\n" \\x \\u \\n \\t \\r '\\ uint uintptr uint16 int8 int16
		&& || << >> // /// /* */ /** ** *** ## ### #### --- ---- ==== ==== ___ __ ~~ @@ $$ %% %d %s %v %w \n \t \" \\ ./ ../ :// </ /> "> '> =" =' ("
		(' (& (* (! .( .[ [: :] [] [0 [1 [i [j (i (s (n (p (r (t (x (c (b (f (err (a */ _, ,_ .* .+ *. &x *p !! ?? ?. ?: @param`) {
		add(p)
	}
	for p := range strings.FieldsSeq(`= == != := <= >= < > + - * / % & && | || ! ( (" { {" [ [" " ' // /* -> => <- += -= ... . : ; , # ## @ $ ~ ^ ? &{ []  {} () -- --- | "/ './ 'a`) {
		add(" " + p)
	}
	for _, p := range []string{") {", "() {", " = 0", " = 1", " := 0", " == 0", " != nil", " == nil", " := range", "}, {", ", err", "), ", "if err", "\", \"", ": \"", "++ {", " 0x", " uint", " %v", " %d", " %s", " %q", "0, 0", " // "} {
		add(strings.TrimSuffix(p, " "))
	}
}

func addNumbers(add func(string)) {
	const digits = "0123456789"
	for i := range 10 {
		add(digits[i : i+1])
		add(" " + digits[i:i+1])
		for j := range 10 {
			add(string([]byte{digits[i], digits[j]}))
			for k := range 10 {
				add(string([]byte{digits[i], digits[j], digits[k]}))
			}
		}
	}
}

// addWords adds every word bare, after a blank, and capitalised both ways, and
// the usual inflections of nouns, verbs and adjectives. The inflections follow
// spelling rules only; a wrong one ("gooder") is a piece that never matches.
func addWords(kinds map[string][]string, add func(string)) {
	all := func(w string) {
		add(w)
		add(" " + w)
		c := capital(w)
		add(c)
		add(" " + c)
	}
	for _, kind := range []string{"det", "conj", "prep", "pron", "aux", "adv", "adj", "noun", "verb", "code"} {
		for _, w := range kinds[kind] {
			all(w)
		}
	}
	for _, w := range kinds["noun"] {
		all(plural(w))
	}
	for _, w := range kinds["verb"] {
		for _, f := range []string{plural(w), past(w), gerund(w)} {
			all(f)
		}
		add(" " + agent(w))
		add(" " + plural(agent(w)))
	}
	for _, w := range kinds["adj"] {
		add(" " + adverb(w))
		add(adverb(w))
		add(" " + comparative(w))
	}
	for _, kind := range []string{"det", "prep", "conj", "aux", "noun", "verb", "code"} {
		for _, w := range kinds[kind] {
			add(strings.ToUpper(w))
			add("_" + w)
		}
	}
	for w := range strings.FieldsSeq("'s 't 'll 're 've 'd 'm n't s' I'm") {
		add(w)
	}
}

// addMore adds the further pieces: words bare, after a blank and capitalised,
// runs of other scripts as they are.
func addMore(add func(string)) {
	for w := range strings.FieldsSeq(moreWords) {
		add(w)
		if w[0] < 0x80 || strings.ContainsAny(w, "abcdefghijklmnopqrstuvwxyz") {
			add(" " + w)
			add(capital(w))
			add(" " + capital(w))
		}
	}
}

// addFragments adds the pieces that rarer words are put together from: affixes
// and short runs of letters.
func addFragments(kinds map[string][]string, add func(string)) {
	for _, w := range kinds["prefix"] {
		add(w)
		add(" " + w)
		add(capital(w))
		add(" " + capital(w))
	}
	for _, w := range kinds["suffix"] {
		add(w)
	}
	const letters, vowels, consonants = "abcdefghijklmnopqrstuvwxyz", "aeiouy", "bcdfghjklmnpqrstvwxyz"
	for _, a := range letters {
		add(" " + string(a))
		add(" " + strings.ToUpper(string(a)))
		add("." + string(a))
		add("_" + string(a))
		for _, b := range letters {
			ab := string(a) + string(b)
			add(ab)
			add(" " + ab)
			add(strings.ToUpper(string(a)) + string(b))
			add(strings.ToUpper(ab))
		}
	}
	for _, c := range consonants {
		for _, v := range vowels {
			for _, d := range "bcdfgklmnprstvwx" {
				add(string([]rune{c, v, d}))
				add(" " + string([]rune{c, v, d}))
			}
		}
	}
	for _, v := range vowels {
		for _, c := range consonants {
			for _, w := range "aeiou" {
				add(string([]rune{v, c, w}))
			}
			for _, d := range "cdfghklmnprst" {
				add(string([]rune{v, c, d}))
			}
		}
		for _, w := range vowels {
			for _, c := range "cdfgklmnprstv" {
				add(string([]rune{v, w, c}))
			}
		}
	}
	for cluster := range strings.FieldsSeq("bl br ch cl cr dr fl fr gl gr ph pl pr qu sc sh sk sl sm sn sp st sw th tr tw wh wr scr str spr thr chr") {
		for _, v := range vowels {
			add(cluster + string(v))
			add(" " + cluster + string(v))
		}
	}
}

// addCJK adds common Chinese characters, full-width punctuation, and the first
// two bytes of all others, so that a rarer character costs two tokens.
func addCJK(kinds map[string][]string, add func(string)) {
	for _, s := range kinds["cjk"] {
		for _, r := range s {
			add(string(r))
		}
	}
	for _, r := range "，。、；：？！（）“”‘’《》—…" {
		add(string(r))
	}
	for lead := 0xe3; lead <= 0xe9; lead++ {
		for next := 0x80; next <= 0xbf; next++ {
			add(string([]byte{byte(lead), byte(next)}))
		}
	}
}

func capital(w string) string { return strings.ToUpper(w[:1]) + w[1:] }

func endsIn(w, letters string) bool { return strings.IndexByte(letters, w[len(w)-1]) >= 0 }

func plural(w string) string {
	switch n := len(w); {
	case endsIn(w, "sxz") || strings.HasSuffix(w, "ch") || strings.HasSuffix(w, "sh"):
		return w + "es"
	case n > 2 && w[n-1] == 'y' && strings.IndexByte("aeiou", w[n-2]) < 0:
		return w[:n-1] + "ies"
	}
	return w + "s"
}

// doubled gives w with its last consonant doubled where English does so in short
// words (stop, stopped).
func doubled(w string) string {
	n := len(w)
	if n >= 3 && n <= 4 && endsIn(w, "bdgmnprt") && strings.IndexByte("aeiou", w[n-2]) >= 0 && strings.IndexByte("aeiou", w[n-3]) < 0 {
		return w + w[n-1:]
	}
	return w
}

func past(w string) string {
	n := len(w)
	switch {
	case w[n-1] == 'e':
		return w + "d"
	case n > 2 && w[n-1] == 'y' && strings.IndexByte("aeiou", w[n-2]) < 0:
		return w[:n-1] + "ied"
	}
	return doubled(w) + "ed"
}

func gerund(w string) string {
	if n := len(w); n > 2 && w[n-1] == 'e' && w[n-2] != 'e' {
		return w[:n-1] + "ing"
	}
	return doubled(w) + "ing"
}

func agent(w string) string {
	if endsIn(w, "e") {
		return w + "r"
	}
	return doubled(w) + "er"
}

func adverb(w string) string {
	n := len(w)
	switch {
	case w[n-1] == 'y':
		return w[:n-1] + "ily"
	case strings.HasSuffix(w, "le"):
		return w[:n-1] + "y"
	case strings.HasSuffix(w, "ic"):
		return w + "ally"
	}
	return w + "ly"
}

func comparative(w string) string {
	if endsIn(w, "y") {
		return w[:len(w)-1] + "ier"
	}
	return agent(w)
}
