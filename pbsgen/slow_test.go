package pbsgen

import (
	"strings"
	"testing"
	"time"
)

// Hostile profiles end soon: the YAML library is quadratic in several ways. The time
// is printed, not asserted.
func TestHostileProfilesEnd(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		strings.Repeat("[", 8<<10), strings.Repeat("{a: ", 2<<10), strings.Repeat("- ", 4<<10), strings.Repeat("a: 1\n", 1<<10),
		"environment: {" + strings.Repeat("A: 1, ", 1<<10) + "}", strings.Repeat("a:\n ", 2<<10), strings.Repeat("&a *a ", 1<<10),
		strings.Repeat("x\n", 4<<10), strings.Repeat("'", 8<<10), strings.Repeat("---\n", 2<<10), strings.Repeat("!!str ", 1<<10),
		"select: |\n" + strings.Repeat("  x\n", 2000), strings.Repeat("? ", 4<<10), strings.Repeat("#\n", 4<<10),
	} {
		began := time.Now()
		_, err := ParseProfile("x.yaml", []byte(text))
		t.Logf("%.10q: %v, %v", text, time.Since(began).Round(time.Millisecond), err != nil)
	}
}
