package load

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/glm46/glm46/harness/measure"
)

// Rules of the warm-up. Source: docs/metrics.md, warm-up.
const (
	warmupTokens      = 64
	warmupPerSlot     = 2
	warmupLimit       = 10 * time.Minute
	steadyWindow      = 5 * time.Second        // in the server's time
	leastSteadyWindow = 200 * time.Millisecond // of wall time
	steadyChange      = 0.05
	// steadyGaps of one batch size in each window make its medians comparable.
	steadyGaps = 8
	// steadyMemory bounds the gaps kept; beyond it every second one is dropped.
	steadyMemory = 1 << 14
)

// steadiness decides when a warm-up is steady: the median gap between token
// events in the last two windows differs by at most steadyChange at equal
// batch. Gaps are compared only with gaps at the same number of decoding
// streams, to 10 %, and only pure decode with pure decode and steps mixed with
// prefill with such steps: what is left is the engine.
type steadiness struct {
	mu     sync.Mutex
	window time.Duration // wall time
	from   time.Duration // since when every slot is at work; 0: not yet
	gaps   []stepGap
	stride int
	skip   int
}

type stepGap struct {
	at, gap time.Duration
	batch   int32
}

func newSteadiness(speed float64) *steadiness {
	return &steadiness{window: max(leastSteadyWindow, time.Duration(float64(steadyWindow)/speed)), stride: 1}
}

// batchKey folds decoding streams into classes 10 % wide, and whether others
// are prefilling.
func batchKey(decoding, prefilling int64) int32 {
	key := int32(decoding)
	if decoding > 8 {
		key = 8 + int32(math.Round(10*math.Log(float64(decoding)/8)))
	}
	key *= 2
	if prefilling > 0 {
		key++
	}
	return key
}

// full marks the moment from which every slot is at work.
func (s *steadiness) full(at time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.from == 0 {
		s.from = max(1, at)
	}
}

func (s *steadiness) gap(at, gap time.Duration, batch int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.skip++; s.skip < s.stride {
		return
	}
	s.skip = 0
	s.gaps = append(s.gaps, stepGap{at, gap, batch})
	if len(s.gaps) < steadyMemory {
		return
	}
	keep := s.gaps[:0]
	for i, g := range s.gaps {
		if g.at > at-2*s.window && i%2 == 0 {
			keep = append(keep, g)
		}
	}
	s.gaps = keep
	s.stride *= 2
}

// state of the warm-up now. ok is false while there are no two comparable
// windows; reason says so in words.
func (s *steadiness) state(now time.Duration) (first, second, change float64, ok bool, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.from == 0 || now-s.from < 2*s.window {
		return 0, 0, 0, false, fmt.Sprintf("the warm-up ended before two windows of %v at full concurrency", s.window)
	}
	type pair struct{ old, new []float64 }
	byBatch := map[int32]*pair{}
	for _, g := range s.gaps {
		if g.at <= now-2*s.window || g.at > now {
			continue
		}
		p := byBatch[g.batch]
		if p == nil {
			p = &pair{}
			byBatch[g.batch] = p
		}
		if g.at <= now-s.window {
			p.old = append(p.old, float64(g.gap))
		} else {
			p.new = append(p.new, float64(g.gap))
		}
	}
	weight := 0.0
	for _, p := range byBatch {
		n := min(len(p.old), len(p.new))
		if n < steadyGaps {
			continue
		}
		first += float64(n) * median(p.old)
		second += float64(n) * median(p.new)
		weight += float64(n)
	}
	if weight == 0 || first == 0 {
		return 0, 0, 0, false, "the last two windows of the warm-up had no batch size in common"
	}
	first, second = first/weight, second/weight
	return first, second, math.Abs(second/first - 1), true, ""
}

// median of values, which it sorts.
func median(values []float64) float64 {
	slices.Sort(values)
	n := len(values)
	if n%2 == 1 {
		return values[n/2]
	}
	return (values[n/2-1] + values[n/2]) / 2
}

// report fills the warm-up's figures at the hand-over.
func (s *steadiness) report(now time.Duration, w *measure.Warmup) {
	first, second, change, ok, reason := s.state(now)
	w.DurationS = now.Seconds()
	if !ok {
		w.TooFew, w.Reason = true, reason
		return
	}
	w.WindowTPOTMS = []float64{first / 1e6, second / 1e6}
	w.Change = change
	w.Steady = change <= steadyChange
	if !w.Steady {
		w.Reason = fmt.Sprintf("the step gap changed from %.3f to %.3f ms (%.1f %%) between the last two windows", first/1e6, second/1e6, 100*change)
	}
}
