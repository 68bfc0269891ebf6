// Package poll reads many sockets on one thread, each event with the moment at
// which the kernel received it.
//
// A goroutine for each stream costs a wake-up for each event, several times of
// what reading it costs, and stamps it when its turn comes. Here one thread
// waits for all sockets (epoll), and the stamp is the kernel's own
// (SO_TIMESTAMPNS, which TCP has since Linux 4.14): it is taken when the segment
// arrives, so it does not depend on how busy the reader is.
//
// Linux on amd64 and arm64; elsewhere New says errors.ErrUnsupported, and
// callers use package net.
package poll

import (
	"math"
	"time"

	"github.com/glm46/glm46/harness/stats"
)

// Forever is no limit for a wait.
const Forever = time.Duration(math.MaxInt64)

// Lags counts how long bytes lay in their socket before they were read.
type Lags struct {
	counts    [64 << (lagBuckets + 1)]int64
	total     int64
	unstamped int64
}

// lagBuckets are an eighth of their values wide.
const lagBuckets = stats.LogBuckets(3)

func (l *Lags) add(d time.Duration) {
	l.counts[lagBuckets.Of(int64(max(d, 0)))]++
	l.total++
}

// Count of reads that had a stamp.
func (l *Lags) Count() int64 { return l.total }

// Unstamped reads.
func (l *Lags) Unstamped() int64 { return l.unstamped }

// Percentile q, 0 to 1, to an eighth of its value; 0 without reads.
func (l *Lags) Percentile(q float64) time.Duration {
	rank := min(int64(q*float64(l.total)), l.total-1)
	for i, n := range l.counts {
		if rank -= n; rank < 0 {
			return time.Duration(lagBuckets.Middle(int32(i)))
		}
	}
	return 0
}
