package pbs

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// Prefix begins a directive.
const Prefix = "#PBS"

// Directive is one directive of a script.
type Directive struct {
	// Line is its first line in the file, from 1.
	Line int
	// Text is what follows the prefix, continuation lines joined.
	Text string
}

// Script is a job script as qsub sees it.
type Script struct {
	// Directives are those that count, in order.
	Directives []Directive
	// Stop is the line at which scanning stopped: the first that is neither blank
	// nor a comment. 0 if the file ends before.
	Stop int
	// Ignored are lines after Stop that look like directives.
	Ignored []Directive
}

// Scan finds the directives of a script.
//
// A directive is a line whose first non-blank characters are the prefix; case
// matters; a trailing backslash continues it. Scanning stops at the first line
// that is neither blank nor begins with '#', or that has ':' in column 1. Nothing
// checks what follows the prefix: "#PBS_NOTE" is a directive and a bad one.
//
// It fails with a *Refusal for a line that ends in CR LF.
//
// Source: docs/pbs.md, directives.
func Scan(script []byte) (Script, error) {
	if bytes.Contains(script, []byte("\r\n")) {
		line := 1 + bytes.Count(script[:bytes.Index(script, []byte("\r\n"))], []byte("\n"))
		return Script{}, &Refusal{Text: "qsub: script contains cr, lf", Exit: ExitFault, Line: line}
	}
	var found Script
	lines := strings.Split(string(script), "\n")
	for i := 0; i < len(lines); i++ {
		number, line := i+1, lines[i]
		if found.Stop == 0 && endsDirectives(line) {
			found.Stop = number
		}
		text, ok := strings.CutPrefix(strings.TrimLeft(line, " \t"), Prefix)
		if !ok {
			continue
		}
		for strings.HasSuffix(text, `\`) && i+1 < len(lines) {
			i++
			text = strings.TrimSuffix(text, `\`) + lines[i]
		}
		directive := Directive{Line: number, Text: text}
		switch {
		case strings.TrimSpace(text) == "":
		case found.Stop == 0:
			found.Directives = append(found.Directives, directive)
		default:
			found.Ignored = append(found.Ignored, directive)
		}
	}
	return found, nil
}

func endsDirectives(line string) bool {
	if strings.HasPrefix(line, ":") {
		return true
	}
	line = strings.TrimSpace(line)
	return line != "" && !strings.HasPrefix(line, "#")
}

// Words splits the text of a directive: whitespace separates, '...' and "..."
// quote, a backslash takes the next character as it is. An unfinished quote ends
// with the line.
func Words(text string) []string {
	var words []string
	var word strings.Builder
	inWord := false
	var quote byte
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word.WriteByte(c)
		case c == '\'' || c == '"':
			quote, inWord = c, true
		case c == '\\' && i+1 < len(text):
			i++
			word.WriteByte(text[i])
			inWord = true
		case c == ' ' || c == '\t':
			if inWord {
				words = append(words, word.String())
				word.Reset()
				inWord = false
			}
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	if inWord {
		words = append(words, word.String())
	}
	return words
}

// Quote writes a word so that Words gives it back: bare where nothing in it is
// special, else in single quotes, or in double quotes where it holds a single one.
// It reports false for a word that no directive can hold: one with a line break
// or another control character, with both kinds of quote, with a trailing
// backslash, or that is not UTF-8.
func Quote(word string) (string, bool) {
	for i := 0; i < len(word); i++ {
		if word[i] < ' ' || word[i] == 0x7f {
			return "", false
		}
	}
	if strings.HasSuffix(word, `\`) || !utf8.ValidString(word) {
		return "", false
	}
	if word != "" && !strings.ContainsAny(word, " '\"\\") {
		return word, true
	}
	if !strings.Contains(word, "'") {
		return "'" + word + "'", true
	}
	if !strings.Contains(word, `"`) {
		return `"` + word + `"`, true
	}
	return "", false
}
