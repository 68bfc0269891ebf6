package pbs

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// maxWalltimeSeconds keeps the sum of a walltime's parts inside time.Duration.
const maxWalltimeSeconds = 1 << 32

// ParseWalltime reads a walltime as PBS does: SS, MM:SS or HH:MM:SS, where any
// part may exceed 59 and fractions of a second round up.
//
// It fails for what qsub refuses: units ("24h"), more than three parts, negative
// numbers; and for the empty text and 0, which qsub takes and then ignores.
//
// Source: docs/pbs.md, walltime.
func ParseWalltime(text string) (time.Duration, error) {
	parts := strings.Split(text, ":")
	if len(parts) > 3 {
		return 0, fmt.Errorf("walltime %q: want SS, MM:SS or HH:MM:SS", text)
	}
	var seconds uint64
	for i, part := range parts {
		value, err := walltimePart(part, i == len(parts)-1)
		if err != nil {
			return 0, fmt.Errorf("walltime %q: %w", text, err)
		}
		seconds = seconds*60 + value
		if seconds > maxWalltimeSeconds {
			return 0, fmt.Errorf("walltime %q: too long", text)
		}
	}
	if seconds == 0 {
		return 0, fmt.Errorf("walltime %q: PBS ignores a walltime of nothing", text)
	}
	return time.Duration(seconds) * time.Second, nil
}

func walltimePart(part string, last bool) (uint64, error) {
	whole, fraction, hasFraction := strings.Cut(part, ".")
	if hasFraction && !last {
		return 0, fmt.Errorf("only seconds may have a fraction")
	}
	if whole == "" || strings.Trim(whole, "0123456789") != "" || strings.Trim(fraction, "0123456789") != "" {
		return 0, fmt.Errorf("%q is not a whole number; PBS knows no units, 24 hours are 24:00:00", part)
	}
	value, err := strconv.ParseUint(whole, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%q is too large", part)
	}
	if strings.Trim(fraction, "0") != "" {
		value++
	}
	return value, nil
}

// FormatWalltime gives HH:MM:SS, as qstat shows it: hours may exceed 24. Parts of
// a second round up.
func FormatWalltime(limit time.Duration) string {
	seconds := int64(math.Ceil(limit.Seconds()))
	return fmt.Sprintf("%02d:%02d:%02d", seconds/3600, seconds/60%60, seconds%60)
}
