// Package fold breaks text into lines for a terminal of so many columns.
package fold

import (
	"strings"
	"unicode/utf8"
)

// Lines breaks text at blanks into lines of at most width columns. A longer
// word has a line of its own.
func Lines(text string, width int) []string { return lines(text, width, width) }

// lines gives the first line another width than the rest.
func lines(text string, first, rest int) []string {
	var out []string
	line, used, width := "", 0, first
	for word := range strings.SplitSeq(strings.ReplaceAll(text, "\n", " "), " ") {
		n := utf8.RuneCountInString(word)
		if used > 0 && used+1+n > width {
			out = append(out, line)
			line, used, width = "", 0, rest
		}
		if used > 0 {
			line += " "
			used++
		}
		line += word
		used += n
	}
	return append(out, line)
}

// Cut breaks text as [Lines] does, and words that are longer, too.
func Cut(text string, width int) []string {
	var out []string
	for _, line := range Lines(text, width) {
		r := []rune(line)
		for len(r) > width {
			out = append(out, string(r[:width]))
			r = r[width:]
		}
		out = append(out, string(r))
	}
	return out
}

const (
	// leastColumn is the narrowest column that text is folded into; a longer
	// prefix would make every word a line.
	leastColumn = 24
	// hanging is how far the rest of such a text stands in.
	hanging = 4
)

// Under gives prefix and text in one line or more, each ended, the text in a
// column of its own behind prefix. A width of 0 folds nothing.
func Under(prefix, text string, width int) string {
	indent := utf8.RuneCountInString(prefix)
	if width <= 0 || indent+utf8.RuneCountInString(text) <= width {
		return strings.TrimRight(prefix+text, " ") + "\n"
	}
	if width-indent < leastColumn {
		return under(prefix+text, width)
	}
	return hang(prefix, text, indent, width)
}

// under folds a line without columns.
func under(line string, width int) string {
	text := strings.TrimLeft(line, " ")
	lead := line[:len(line)-len(text)]
	return hang(lead, text, len(lead)+hanging, width)
}

// hang folds text behind lead, its further lines indent blanks in.
func hang(lead, text string, indent, width int) string {
	folded := lines(text, width-utf8.RuneCountInString(lead), width-indent)
	for i, line := range folded {
		folded[i] = strings.TrimRight(line, " ") + "\n"
	}
	return lead + strings.Join(folded, strings.Repeat(" ", indent))
}

// Line folds a line that may hold columns: what does not fit goes under the last
// column, which begins behind two blanks or more, else four blanks in.
func Line(line string, width int) string {
	if width <= 0 || utf8.RuneCountInString(line) <= width {
		return line + "\n"
	}
	// A last column begins in the left two thirds.
	at := strings.LastIndex(line[:min(len(line), width*2/3)], "  ") + len("  ")
	if strings.TrimSpace(line[:at]) == "" {
		return under(line, width)
	}
	return Under(line[:at], line[at:], width)
}
