package command

import "strings"

func joined(names []string) string { return strings.Join(names, ", ") }
