package pbsgen

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"

	"mvdan.cc/sh/v3/syntax"

	"github.com/glm46/glm46/pbsgen/pbs"
)

// plainWord needs no quotes in any shell.
var plainWord = regexp.MustCompile(`^[A-Za-z0-9_@%+:,./-][A-Za-z0-9_@%+=:,./-]*$`)

// inDoubleQuotes escapes all that is special there.
var inDoubleQuotes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`, "`", "\\`")

// shellWord quotes text as one word for bash. It fails for what no word can hold:
// a zero byte, or text that is not UTF-8.
//
// Text with '$' or a backtick goes into double quotes, escaped: single quotes would
// be as safe, but shellcheck takes them for a mistake (SC2016).
func shellWord(text string) (string, error) {
	if plainWord.MatchString(text) {
		return text, nil
	}
	if strings.ContainsAny(text, "$`") && strings.IndexFunc(text, notPrintable) < 0 {
		return `"` + inDoubleQuotes.Replace(text) + `"`, nil
	}
	quoted, err := syntax.Quote(text, syntax.LangBash)
	if err != nil {
		return "", fmt.Errorf("%q cannot be written in a shell script: %w", text, err)
	}
	return quoted, nil
}

var reference = regexp.MustCompile(`\$\{[A-Za-z_][A-Za-z0-9_]*\}`)

// shellReferences quotes text as one word in which ${NAME} stands for a variable of
// the job; an unset one ends the script (set -u). Nothing else is expanded.
func shellReferences(text string) (string, error) {
	var b strings.Builder
	end := 0
	for _, at := range reference.FindAllStringIndex(text, -1) {
		if err := quoteTo(&b, text[end:at[0]]); err != nil {
			return "", err
		}
		b.WriteString(`"` + text[at[0]:at[1]] + `"`)
		end = at[1]
	}
	if err := quoteTo(&b, text[end:]); err != nil {
		return "", err
	}
	if b.Len() == 0 {
		return "''", nil
	}
	return b.String(), nil
}

func quoteTo(b *strings.Builder, literal string) error {
	if literal == "" {
		return nil
	}
	word, err := shellWord(literal)
	b.WriteString(word)
	return err
}

func notPrintable(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }

// comment makes text fit one comment line: control characters become spaces.
func comment(text string) string {
	return strings.TrimRight(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || r == unicode.ReplacementChar {
			return ' '
		}
		return r
	}, text), " ")
}

// jobName makes a job name of an id: letters, digits, '_', '-' and '.', beginning
// with a letter, which older PBS and TORQUE want.
func jobName(id string) string {
	name := "glm46_" + strings.Map(func(r rune) rune {
		if pbs.CheckName(string(r)) == nil {
			return r
		}
		return '_'
	}, id)
	return name[:min(len(name), maxJobNameBytes)]
}

// maxJobNameBytes stays below 230 to leave qstat readable, and above any id.
const maxJobNameBytes = 80
