package gen

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// voice writes the prose of one prompt: a language narrowed to a few subjects,
// names and identifiers that come back, as they do in a real text.
type voice struct {
	r        *Rand
	lang     *language
	subjects []string
	names    []string
	ids      []string
}

func newVoice(r *Rand, lang *language) *voice {
	v := &voice{r: r, lang: lang}
	v.subjects = append(v.subjects, lang.subjects...)
	Shuffle(r, v.subjects)
	if n := len(v.subjects) * 2 / 3; n > 8 {
		v.subjects = v.subjects[:n]
	}
	for range r.Between(4, 9) {
		v.names = append(v.names, surname(r))
	}
	for range r.Between(8, 16) {
		v.ids = append(v.ids, itemID(r))
	}
	return v
}

var (
	nameStarts = []string{"Bel", "Cor", "Dan", "El", "Far", "Gor", "Hal", "Ist", "Jor", "Kal", "Lin", "Mor", "Nev", "Or", "Pel", "Quen", "Ros", "Sal", "Tor", "Ul", "Ver", "Wen", "Yar", "Zem"}
	nameMiddle = []string{"a", "e", "i", "o", "an", "en", "ir", "ol", "ar", "um"}
	nameEnds   = []string{"dal", "berg", "ton", "vic", "mann", "rez", "lova", "sen", "gard", "wick", "not", "ston", "ley", "ski", "reau"}
	idHeads    = []string{"KR", "TN", "AX", "Q", "DL", "PV", "RB", "MS", "HT", "WG"}
)

func surname(r *Rand) string {
	s := Pick(r, nameStarts)
	if r.Chance(0.6) {
		s += Pick(r, nameMiddle)
	}
	return s + Pick(r, nameEnds)
}

func itemID(r *Rand) string {
	return Pick(r, idHeads) + "-" + strconv.Itoa(r.Between(100, 9999))
}

// number writes numbers of several sizes, small ones more often.
func (v *voice) number() string {
	switch v.r.IntN(5) {
	case 0, 1:
		return strconv.Itoa(v.r.Between(2, 60))
	case 2:
		return strconv.Itoa(v.r.Between(61, 999))
	case 3:
		return strconv.Itoa(v.r.Between(1, 90)) + "." + strconv.Itoa(v.r.IntN(10))
	}
	return strconv.Itoa(v.r.Between(1000, 48000))
}

// subject is a noun phrase, now and then with an adjective or something after
// it.
func (v *voice) subject() string {
	s := PickZipf(v.r, v.subjects)
	if article, rest, ok := strings.Cut(s, " "); ok && len(v.lang.adjectives) > 0 && article == "the" && v.r.Chance(0.45) {
		s = article + " " + PickZipf(v.r, v.lang.adjectives) + " " + rest
	}
	if v.r.Chance(0.35) {
		var b strings.Builder
		v.put(&b, Pick(v.r, v.lang.modifiers))
		s += b.String()
	}
	return s
}

// put writes a phrase with its slots filled.
func (v *voice) put(b *strings.Builder, phrase string) {
	for {
		i := strings.IndexByte(phrase, '{')
		if i < 0 {
			b.WriteString(phrase)
			return
		}
		b.WriteString(phrase[:i])
		switch phrase[i+1] {
		case 'N':
			b.WriteString(v.number())
		case 'M':
			b.WriteString(PickZipf(v.r, v.names))
		case 'I':
			b.WriteString(PickZipf(v.r, v.ids))
		}
		phrase = phrase[i+3:]
	}
}

// sentence writes one sentence, capitalised.
func (v *voice) sentence(b *strings.Builder) { v.fill(b, Pick(v.r, v.lang.frames)) }

// fill writes a frame with its slots filled; the first letter becomes a capital.
func (v *voice) fill(b *strings.Builder, frame string) {
	first := true
	put := func(s string) {
		if first && s != "" {
			r, n := utf8.DecodeRuneInString(s)
			b.WriteRune(unicode.ToUpper(r))
			s = s[n:]
			first = false
		}
		b.WriteString(s)
	}
	for {
		i := strings.IndexByte(frame, '{')
		if i < 0 {
			put(frame)
			return
		}
		put(frame[:i])
		switch frame[i+1] {
		case 'S':
			put(v.subject())
		case 'V':
			put(Pick(v.r, v.lang.verbs))
		case 'P':
			put(Pick(v.r, v.lang.places))
		case 'T':
			s := Pick(v.r, v.lang.times)
			put(s)
		case 'A':
			put(Pick(v.r, v.lang.asides))
		case 'N':
			put(v.number())
		case 'M':
			put(PickZipf(v.r, v.names))
		case 'I':
			put(PickZipf(v.r, v.ids))
		}
		frame = frame[i+3:]
	}
}

// paragraph writes n sentences and an empty line.
func (v *voice) paragraph(b *strings.Builder, n int) {
	for i := range n {
		if i > 0 {
			b.WriteString(v.lang.space)
		}
		v.sentence(b)
	}
	b.WriteString("\n\n")
}

// list writes items, numbered or not.
func (v *voice) list(b *strings.Builder) {
	numbered := v.r.Chance(0.4)
	for i := range v.r.Between(3, 8) {
		if numbered {
			b.WriteString(strconv.Itoa(i+1) + ". ")
		} else {
			b.WriteString("- ")
		}
		if v.r.Chance(0.3) {
			b.WriteString("**" + PickZipf(v.r, v.ids) + "**: ")
		}
		v.sentence(b)
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
}

// table writes a small Markdown table.
func (v *voice) table(b *strings.Builder) {
	cols := v.r.Between(3, 5)
	b.WriteString("| id |")
	for range cols - 1 {
		b.WriteString(" " + PickZipf(v.r, columns) + " |")
	}
	b.WriteString("\n|" + strings.Repeat("---|", cols) + "\n")
	for range v.r.Between(4, 10) {
		b.WriteString("| " + Pick(v.r, v.ids) + " |")
		for range cols - 1 {
			b.WriteString(" " + v.number() + " |")
		}
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
}

var columns = []string{"count", "mean", "share", "2019", "2020", "2021", "2022", "max", "min", "days", "cost", "kWh", "m3", "samples", "rank", "delta"}

// heading writes a heading of the given depth.
func (v *voice) heading(b *strings.Builder, depth int, n int) {
	b.WriteString(strings.Repeat("#", depth) + " ")
	if n > 0 {
		b.WriteString(strconv.Itoa(n) + ". ")
	}
	b.WriteString(Pick(v.r, v.lang.headings))
	if v.r.Chance(0.5) {
		b.WriteString(" (" + Pick(v.r, v.ids) + ")")
	}
	b.WriteString("\n\n")
}
