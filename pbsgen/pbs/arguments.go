package pbs

import (
	"fmt"
	"strings"
)

// Setting is one option as given: a letter and its value.
type Setting struct {
	Option byte
	Value  string
	// Line is the directive's line; 0 on the command line.
	Line int
}

// withValue and bare are the options of qsub. Source: docs/pbs.md, options.
const (
	withValue = "aAcCejJklmMNopPqrRSuvW"
	bare      = "fGhIVXz"
)

// ParseArguments splits words into options and what follows them, as qsub does:
// "-N name" and "-Nname" are the same, "--" ends the options, "-" is no option.
//
// It fails with a *Refusal for an option that qsub does not have.
func ParseArguments(words []string) (settings []Setting, rest []string, err error) {
	for i := 0; i < len(words); i++ {
		word := words[i]
		if word == "--" {
			return settings, words[i:], nil
		}
		if len(word) < 2 || word[0] != '-' {
			return settings, words[i:], nil
		}
		for j := 1; j < len(word); j++ {
			option := word[j]
			if strings.IndexByte(bare, option) >= 0 {
				settings = append(settings, Setting{Option: option})
				continue
			}
			if strings.IndexByte(withValue, option) < 0 {
				return nil, nil, &Refusal{Text: fmt.Sprintf("qsub: invalid option -- '%c'", option), Exit: ExitUsage}
			}
			value := word[j+1:]
			if value == "" {
				i++
				if i == len(words) {
					return nil, nil, &Refusal{Text: fmt.Sprintf("qsub: option requires an argument -- '%c'", option), Exit: ExitUsage}
				}
				value = words[i]
			}
			settings = append(settings, Setting{Option: option, Value: value})
			break
		}
	}
	return settings, nil, nil
}

// DirectiveSettings reads the options of one directive.
//
// It fails with a *Refusal for an unknown option and for any word that is not an
// option, which is what a trailing comment is to qsub.
func DirectiveSettings(d Directive) ([]Setting, error) {
	settings, rest, err := ParseArguments(Words(d.Text))
	if err != nil || len(rest) > 0 {
		text := ""
		if err != nil {
			text = err.Error() + "\n"
		}
		return nil, &Refusal{Text: text + "qsub: directive error:" + d.Text + " ", Exit: ExitFault, Line: d.Line}
	}
	for i := range settings {
		settings[i].Line = d.Line
	}
	return settings, nil
}
