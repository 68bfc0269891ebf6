package experiment

import (
	"fmt"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
)

// UsageError says that what the user asked for is not valid: a flag, an
// environment variable, an experiment or a plan file. Commands exit 2 for it.
type UsageError struct {
	// What happened, where, and what to do; without the nearest names.
	What string
	// Nearest are the valid names closest to the one given, best first.
	Nearest []string
}

func (e *UsageError) Error() string {
	if len(e.Nearest) == 0 {
		return e.What
	}
	return e.What + "; nearest: " + strings.Join(e.Nearest, ", ")
}

func usagef(format string, args ...any) *UsageError {
	return &UsageError{What: fmt.Sprintf(format, args...)}
}

// quote shows a value that a user gave, on one line and not too long: values
// are untrusted and may hold 10 kB or control characters.
func quote(value string) string {
	const most = 64
	if len(value) > most {
		return fmt.Sprintf("%q... (%d bytes)", value[:most], len(value))
	}
	return fmt.Sprintf("%q", value)
}

// Nearest returns the candidates closest to name, best first, at most five:
// those at the smallest distance, if that is at most two edits or half of the
// name's length (case does not count), else those that begin with name. Ties
// keep the order of candidates.
func Nearest(name string, candidates []string) []string {
	if len(name) > 256 {
		return nil
	}
	type scored struct {
		name     string
		distance int
	}
	var all []scored
	lower := strings.ToLower(name)
	for _, c := range candidates {
		all = append(all, scored{c, levenshtein.Distance(lower, strings.ToLower(c), nil)})
	}
	slices.SortStableFunc(all, func(a, b scored) int { return a.distance - b.distance })
	var out []string
	for _, s := range all {
		if len(out) == 5 || s.distance > all[0].distance || s.distance > max(2, len(name)/2) {
			break
		}
		if !slices.Contains(out, s.name) {
			out = append(out, s.name)
		}
	}
	if len(out) == 0 && len(name) > 1 {
		for _, c := range candidates {
			if strings.HasPrefix(strings.ToLower(c), lower) && len(out) < 5 {
				out = append(out, c)
			}
		}
	}
	return out
}
