package pbsgen

import (
	"fmt"
	"math"
	"time"

	"github.com/glm46/glm46/pbsgen/pbs"
)

const (
	// fixedMargin is added to every predicted time: the job's own start, the
	// check of node and data, and stopping in good order 120 s before the limit.
	fixedMargin = 10 * time.Minute
	// walltimeGrain rounds automatic walltimes up to what people write.
	walltimeGrain = 5 * time.Minute
)

// limit chooses the walltime of a job that is predicted to need hours; the text
// says where it came from.
func (o Options) limit(hours float64) (time.Duration, string) {
	usual := o.Profile.usual()
	switch {
	case o.Walltime.Limit > 0 && !o.Walltime.Auto:
		return o.Walltime.Limit, "as asked"
	case hours > 0 && o.Walltime.Auto:
		return predicted(hours, o.SafetyFactor), fmt.Sprintf("%.1f h predicted x %g", hours, o.SafetyFactor)
	default:
		return usual, "usual for the site"
	}
}

// predicted is hours with the safety factor and the fixed margin, rounded up.
func predicted(hours, factor float64) time.Duration {
	need := time.Duration(hours*factor*float64(time.Hour)) + fixedMargin
	return time.Duration(math.Ceil(float64(need)/float64(walltimeGrain))) * walltimeGrain
}

func (p Profile) usual() time.Duration {
	if limit, err := pbs.ParseWalltime(p.Walltime.Default); err == nil {
		return limit
	}
	return p.bounded(DefaultWalltime)
}

// bounded keeps a limit below the queue's, and whole seconds.
func (p Profile) bounded(limit time.Duration) time.Duration {
	if most, err := pbs.ParseWalltime(p.Walltime.Max); err == nil && limit > most {
		return most
	}
	return limit.Round(time.Second)
}
