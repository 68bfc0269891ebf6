// Package gen writes the text of generated data sets: prompts that have the
// shape of real long-context work, from a seed, without any text of others.
//
// Read first: [Options.Write]. The parts of sentences are in lang.go, source
// code in code.go, what a prompt is put together from in prompt.go.
//
// It is pure, and it does not try to make sense beyond a sentence.
package gen

import (
	"fmt"
	"strings"
)

// Kinds of prompts.
const (
	CodeReview = "code-review"
	Documents  = "documents"
	Agent      = "agent"
	Retrieval  = "retrieval"
)

// Kinds lists the kinds of prompts in the order in which they take turns.
func Kinds() []string { return []string{CodeReview, Documents, Agent, Retrieval} }

// Options say what prompts are like.
type Options struct {
	// Kind is one of Kinds.
	Kind string
	// Language is one of Languages.
	Language string
	// SelfRepetition is the share of passages, 0 to 1, that repeat an earlier
	// one of the prompt word for word.
	SelfRepetition float64
}

// DefaultSelfRepetition returns the share of passages that repeat an earlier
// one. Source: docs/datasets.md, "Self-repetition".
func DefaultSelfRepetition(kind string) float64 {
	switch kind {
	case CodeReview:
		return 0.05
	case Agent:
		return 0.08
	case Retrieval:
		return 0.03
	}
	return 0.02
}

// Prompt is a prompt that is being written.
type Prompt struct {
	r       *Rand
	o       Options
	v       *voice
	c       *coder
	past    []string // passages so far, for repeating
	pending []string // passages that must come next
	n       int      // passages so far
	section int
}

// NewPrompt begins a prompt. Same arguments, same text.
func NewPrompt(seed uint64, purpose string, index uint64, o Options) *Prompt {
	r := NewRand(seed, purpose, index)
	lang := lookup(o.Language)
	if lang == nil {
		lang = english
	}
	return &Prompt{r: r, o: o, v: newVoice(r, lang), c: newCoder(r)}
}

// Header returns the first lines. label makes them this prompt's own from the
// first few tokens on, so that two prompts share no prefix by accident.
func (p *Prompt) Header(label string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s\n\n", p.v.lang.request, label)
	p.v.paragraph(&b, p.r.Between(2, 3))
	return b.String()
}

// Next returns the next passage: a paragraph, list, file, turn and so on.
func (p *Prompt) Next() string {
	if len(p.pending) > 0 {
		s := p.pending[0]
		p.pending = p.pending[1:]
		return s
	}
	if len(p.past) > 2 && p.r.Chance(p.o.SelfRepetition) {
		return Pick(p.r, p.v.lang.repeats) + "\n\n" + Pick(p.r, p.past)
	}
	var s string
	switch p.o.Kind {
	case CodeReview:
		s = p.codePassage()
	case Agent:
		s = p.turn()
	case Retrieval:
		s = p.retrieved()
	default:
		s = p.documentPassage()
	}
	p.n++
	p.past = append(p.past, s)
	return s
}

// Closing returns what is asked for, in the end.
func (p *Prompt) Closing() string {
	var b strings.Builder
	b.WriteString("---\n\n" + p.v.lang.question + ": ")
	p.v.fill(&b, Pick(p.r, p.v.lang.questions))
	b.WriteString(p.v.lang.space + Pick(p.r, p.v.lang.tasks) + "\n")
	return b.String()
}

func (p *Prompt) documentPassage() string {
	var b strings.Builder
	if p.n%14 == 0 {
		fmt.Fprintf(&b, "# %s %d: %s, %s\n\n", p.v.lang.document, p.n/14+1, Pick(p.r, p.v.ids), Pick(p.r, p.v.names))
		p.section = 0
	}
	if p.r.Chance(0.25) {
		p.section++
		p.v.heading(&b, 2, p.section)
	}
	switch {
	case p.r.Chance(0.12):
		p.v.list(&b)
	case p.r.Chance(0.05):
		p.v.table(&b)
	default:
		p.v.paragraph(&b, p.r.Between(2, 7))
	}
	return b.String()
}

func (p *Prompt) codePassage() string {
	var b strings.Builder
	switch {
	case p.r.Chance(0.5):
		f := p.c.file()
		fmt.Fprintf(&b, "`%s`:\n\n```%s\n%s```\n\n", f.path, f.lang, f.text)
		if p.r.Chance(0.6) {
			p.pending = append(p.pending, "```diff\n"+p.c.diff(f)+"```\n\n")
		}
	case p.r.Chance(0.15):
		b.WriteString("```\n" + p.c.log(p.r.Between(5, 20)) + "```\n\n")
	case p.r.Chance(0.2):
		p.v.list(&b)
	default:
		fmt.Fprintf(&b, "> %s, `%s`:\n\n", Pick(p.r, p.v.names), p.c.camel())
		p.v.paragraph(&b, p.r.Between(1, 4))
	}
	return b.String()
}

func (p *Prompt) turn() string {
	var b strings.Builder
	switch p.n % 4 {
	case 0:
		fmt.Fprintf(&b, "## %s\n\n", p.v.lang.user)
		p.v.paragraph(&b, p.r.Between(1, 3))
	case 1:
		fmt.Fprintf(&b, "## %s\n\n", p.v.lang.assistant)
		p.v.paragraph(&b, p.r.Between(1, 3))
		b.WriteString("```json\n" + p.c.call() + "\n```\n\n")
	case 2:
		fmt.Fprintf(&b, "## %s\n\n", p.v.lang.tool)
		switch p.r.IntN(3) {
		case 0:
			b.WriteString("```\n" + p.c.log(p.r.Between(8, 30)) + "```\n\n")
		case 1:
			f := p.c.file()
			fmt.Fprintf(&b, "```%s\n%s```\n\n", f.lang, f.text)
		case 2:
			p.v.table(&b)
		}
	case 3:
		fmt.Fprintf(&b, "## %s\n\n", p.v.lang.assistant)
		if p.r.Chance(0.4) {
			p.v.list(&b)
		} else {
			p.v.paragraph(&b, p.r.Between(2, 5))
		}
	}
	return b.String()
}

func (p *Prompt) retrieved() string {
	var b strings.Builder
	fmt.Fprintf(&b, "[%d] %s, %s (score %d.%02d)\n", p.n+1, p.v.lang.excerpt, Pick(p.r, p.v.ids), 0, p.r.Between(30, 99))
	if p.r.Chance(0.1) {
		p.v.table(&b)
	} else {
		p.v.paragraph(&b, p.r.Between(3, 8))
	}
	return b.String()
}

// RepeatParagraph returns the paragraph that --kind repeat repeats: about
// tokens long by count.
func RepeatParagraph(seed uint64, tokens int, count func(string) int) string {
	r := NewRand(seed, "repeat", 0)
	v := newVoice(r, english)
	var b strings.Builder
	for {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		v.sentence(&b)
		if count(b.String()) >= tokens {
			return b.String() + "\n\n"
		}
	}
}

// RepeatTopic returns the line at the end of a prompt of --kind repeat; index
// makes it the prompt's own.
func RepeatTopic(seed uint64, index uint64) string {
	r := NewRand(seed, "repeat topic", index)
	v := newVoice(r, english)
	var b strings.Builder
	fmt.Fprintf(&b, "Write a detailed essay about topic %d: ", index+1)
	b.WriteString(Pick(r, v.subjects) + " and " + Pick(r, v.subjects) + ", as " + Pick(r, v.names) + " saw it.\n")
	return b.String()
}
