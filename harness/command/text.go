package command

import (
	"strconv"
	"strings"
)

func joined(names []string) string { return strings.Join(names, ", ") }

// thousands writes a count with commas: 1,042,176.
func thousands(n int64) string {
	digits := strconv.FormatInt(n, 10)
	start := len(digits) % 3
	if n < 0 {
		start = (len(digits)-1)%3 + 1
	}
	var b strings.Builder
	for i, r := range digits {
		if i > 0 && (i-start)%3 == 0 && digits[i-1] != '-' {
			b.WriteByte(',')
		}
		b.WriteRune(r)
	}
	return b.String()
}
