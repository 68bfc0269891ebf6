package mockvllm

import (
	"sync/atomic"
	"time"
)

// latenessBuckets are upper bounds in seconds.
var latenessBuckets = [...]float64{.00005, .0001, .0002, .0005, .001, .0015, .002, .003, .005, .01, .02, .05, .1, .5, 1}

// lateness counts how late tokens were written, in wall time that no speed
// scales. It may be used by several goroutines at once.
type lateness struct {
	buckets [len(latenessBuckets) + 1]atomic.Int64
	sumNS   atomic.Int64
	maxNS   atomic.Int64
}

func (l *lateness) observe(marks []mark, written time.Time) {
	for _, m := range marks {
		if m.tokens == 0 {
			continue
		}
		d := max(0, written.Sub(m.due))
		i := 0
		for i < len(latenessBuckets) && d.Seconds() > latenessBuckets[i] {
			i++
		}
		l.buckets[i].Add(int64(m.tokens))
		l.sumNS.Add(int64(d) * int64(m.tokens))
		for {
			old := l.maxNS.Load()
			if int64(d) <= old || l.maxNS.CompareAndSwap(old, int64(d)) {
				break
			}
		}
	}
}
