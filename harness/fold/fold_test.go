package fold

import (
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestFolded(t *testing.T) {
	for _, c := range []struct{ name, got, want string }{
		{"fits", Under("note: ", "short", 20), "note: short\n"},
		{"hangs", Under("ok    gpus   ", "one two three four five six seven", 40), "ok    gpus   one two three four five six\n             seven\n"},
		{"not folded", Under("a ", strings.Repeat("b ", 50), 0), "a " + strings.TrimRight(strings.Repeat("b ", 50), " ") + "\n"},
		{"long prefix", Under("   --a-very-long-flag VALUE  ", "what it is good for", 40), "   --a-very-long-flag VALUE  what it is\n       good for\n"},
		{"columns", Line("   --json     print one JSON document on stdout", 40), "   --json     print one JSON document on\n              stdout\n"},
		{"plain line", Line("   glm46 plan - predict without a GPU: everything", 40), "   glm46 plan - predict without a GPU:\n       everything\n"},
		{"long word", Line("   --x  "+strings.Repeat("y", 40), 40), "   --x  " + strings.Repeat("y", 40) + "\n"},
	} {
		if c.got != c.want {
			t.Errorf("%s:\n%q, want\n%q", c.name, c.got, c.want)
		}
	}
}

func TestNothingIsLost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.StringMatching(`[a-zäö ]{0,300}`).Draw(t, "s")
		letters := func(s string) string { return strings.Join(strings.Fields(s), "") }
		for _, parts := range [][]string{Cut(s, 40), Lines(s, 40)} {
			if got := letters(strings.Join(parts, " ")); got != letters(s) {
				t.Fatalf("letters lost: %q of %q", got, s)
			}
		}
		for _, line := range Cut(s, 40) {
			if utf8.RuneCountInString(line) > 40 {
				t.Fatalf("%q is too long", line)
			}
		}
		for _, out := range []string{Under("  x: ", s, 40), Line(s, 40)} {
			if letters(strings.TrimPrefix(strings.ReplaceAll(out, "x:", ""), "")) != letters(strings.ReplaceAll(s, "x:", "")) {
				t.Fatalf("letters lost: %q of %q", out, s)
			}
		}
	})
}
