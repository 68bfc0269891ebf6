package gen

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// Every kind in every language gives text without leftovers of templates.
func TestTextIsWhole(t *testing.T) {
	for _, lang := range Languages() {
		for _, kind := range Kinds() {
			p := NewPrompt(1, "test", 0, Options{Kind: kind, Language: lang, SelfRepetition: 0.1})
			text := p.Header("00001-abcd")
			for range 200 {
				s := p.Next()
				if !strings.HasSuffix(s, "\n\n") || s == "\n\n" {
					t.Fatalf("%s %s: a passage does not end with an empty line: %q", kind, lang, s)
				}
				text += s
			}
			text += p.Closing()
			if !utf8.ValidString(text) {
				t.Errorf("%s %s: not UTF-8", kind, lang)
			}
			for _, slot := range []string{"{S}", "{V}", "{P}", "{T}", "{A}", "{N}", "{M}", "{I}", "%!", "\x00"} {
				if strings.Contains(text, slot) {
					i := strings.Index(text, slot)
					t.Errorf("%s %s: %q is left in %q", kind, lang, slot, text[max(0, i-60):min(len(text), i+60)])
				}
			}
		}
	}
}

func TestSameSeedSameText(t *testing.T) {
	write := func(seed, index uint64) string {
		p := NewPrompt(seed, "x", index, Options{Kind: Agent, Language: "en"})
		return p.Header("l") + p.Next() + p.Next() + p.Next() + p.Closing()
	}
	if first, again := write(1, 2), write(1, 2); first != again {
		t.Error("the same seed gave another text")
	}
	if write(1, 2) == write(1, 3) || write(1, 2) == write(2, 2) {
		t.Error("another seed or index gave the same text")
	}
}

func TestRandStaysTheSame(t *testing.T) {
	r := NewRand(42, "purpose", 7)
	got := []int{r.IntN(1000), r.IntN(1000), r.Between(5, 9), int(1000 * r.Float64())}
	want := []int{271, 681, 9, 222}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("got %v, want %v: data sets of a seed would change", got, want)
		}
	}
}

func TestRandIsEven(t *testing.T) {
	r := NewRand(1, "even", 0)
	var n [10]int
	for range 100_000 {
		n[r.IntN(10)]++
	}
	for d, c := range n {
		if c < 9_500 || c > 10_500 {
			t.Errorf("%d came %d times of 100,000", d, c)
		}
	}
}
