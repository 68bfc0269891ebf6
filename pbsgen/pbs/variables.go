package pbs

import "strings"

// Variable is one environment variable.
type Variable struct{ Name, Value string }

var errVariables = Refusal{Text: "qsub: cannot send environment with the job", Exit: ExitFault}

// ParseVariables reads the argument of -v as qsub does. lookup is qsub's
// environment, for names without a value.
//
// It splits at commas that are neither quoted nor after a backslash; a name goes
// up to the first '='; quotes are then removed, quotes inside the other kind
// become backslashes, and backslashes are doubled: values with quotes or
// backslashes do not arrive as they were. SafeValue says which do.
//
// It fails with a *Refusal for an unfinished quote, an empty name, and a name
// without value that is not in the environment.
//
// Source: docs/pbs.md, -v and -V.
func ParseVariables(text string, lookup func(string) (string, bool)) ([]Variable, error) {
	items, ok := splitVariables(text)
	if !ok {
		refusal := errVariables
		return nil, &refusal
	}
	var list []Variable
	for _, item := range items {
		name, raw, hasValue := strings.Cut(item, "=")
		name = strings.Trim(name, " ")
		value, fine := "", name != ""
		if fine && hasValue {
			value, fine = unquoteValue(strings.Trim(raw, " "))
		} else if fine {
			if value, fine = lookup(unquoteName(name)); fine {
				name = unquoteName(name)
				value, fine = environmentValue(value)
			}
		}
		if !fine {
			refusal := errVariables
			return nil, &refusal
		}
		list = setVariable(list, Variable{name, value})
	}
	return list, nil
}

// SafeValue reports whether a value given as NAME=VALUE to -v arrives unchanged:
// no quote, backslash or comma, no space at its ends.
func SafeValue(value string) bool {
	return !strings.ContainsAny(value, `'"\,`) && strings.Trim(value, " ") == value
}

func setVariable(list []Variable, v Variable) []Variable {
	for i := range list {
		if list[i].Name == v.Name {
			list[i].Value = v.Value
			return list
		}
	}
	return append(list, v)
}

// splitVariables splits at bare commas. One comma may end the list.
func splitVariables(text string) ([]string, bool) {
	var items []string
	start := 0
	var quote byte
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '\'' || c == '"':
			quote = c
		case c == '\\' && i+1 < len(text) && text[i+1] == ',':
			i++
		case c == ',':
			items = append(items, text[start:i])
			start = i + 1
		}
	}
	if quote != 0 {
		return nil, false
	}
	if start < len(text) || len(items) == 0 {
		items = append(items, text[start:])
	}
	return items, true
}

// unquoteValue reports false where quotes of one kind inside the other also hold
// a comma: qsub loses its place there.
func unquoteValue(raw string) (string, bool) {
	var value strings.Builder
	var quote byte
	innerQuote, quotedComma := false, false
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '\'' || c == '"'):
			quote = c
		case c == '\'' || c == '"':
			innerQuote = true
			value.WriteByte('\\')
		case c == '\\' && quote == 0 && i+1 < len(raw) && raw[i+1] == ',':
			i++
			value.WriteByte(',')
		case c == '\\':
			value.WriteString(`\\`)
		default:
			quotedComma = quotedComma || c == ',' && quote != 0
			value.WriteByte(c)
		}
	}
	return value.String(), quote == 0 && (!innerQuote || !quotedComma)
}

func unquoteName(name string) string {
	return strings.NewReplacer(`"`, "", `'`, "").Replace(name)
}

// environmentValue is what becomes of a value that -v takes from the environment:
// quotes turn into backslashes, and an odd one is refused.
func environmentValue(value string) (string, bool) {
	if strings.Count(value, `"`)%2 != 0 || strings.Count(value, `'`)%2 != 0 {
		return "", false
	}
	return strings.NewReplacer(`"`, `\`, `'`, `\`).Replace(value), true
}
