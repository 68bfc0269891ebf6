package load

import (
	"fmt"
	"math"
	"net"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/glm46/glm46/harness/measure"
)

// clientStats watches the client itself over a run.
type clientStats struct {
	start time.Time
	cpu   time.Duration
	gc    []uint64
}

func startClientStats() *clientStats {
	counts, _ := gcPauses()
	return &clientStats{start: time.Now(), cpu: cpuTime(), gc: counts}
}

// stop gives the figures since start. SendLag and EventsPerSecond come from the
// records.
func (s *clientStats) stop() measure.ClientStats {
	c := measure.ClientStats{Cores: runtime.GOMAXPROCS(0)}
	if wall := time.Since(s.start); wall > 0 {
		c.CPUShare = (cpuTime() - s.cpu).Seconds() / wall.Seconds() / float64(c.Cores)
	}
	counts, buckets := gcPauses()
	for i := len(counts) - 1; i >= 0; i-- {
		if i < len(s.gc) && counts[i] == s.gc[i] || counts[i] == 0 {
			continue
		}
		// The upper bound of the longest pause's bucket.
		bound := buckets[i+1]
		if math.IsInf(bound, 1) {
			bound = buckets[i]
		}
		c.MaxGCPauseMS = 1e3 * bound
		break
	}
	return c
}

// otherFiles is what the process has open besides its streams, generously: its
// own files, the server's logs, /metrics, and connections that are being closed.
const otherFiles = 64

// enoughFiles refuses a load whose connections cannot all be open: its requests
// would fail one after the other as if the server refused them.
func enoughFiles(streams int, limit uint64) error {
	if need := uint64(streams) + otherFiles; need > limit {
		return fmt.Errorf("load: %d requests in flight need some %d open files, and this process may have %d; raise the limit (ulimit -Hn, LimitNOFILE of the PBS daemon) or lower the concurrency", streams, need, limit)
	}
	return nil
}

// openFiles is how many files the process may have open.
func openFiles() uint64 {
	var r syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r) != nil {
		return math.MaxUint64
	}
	return r.Cur
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func gcPauses() ([]uint64, []float64) {
	sample := []metrics.Sample{{Name: "/sched/pauses/total/gc:seconds"}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindFloat64Histogram {
		return nil, nil
	}
	h := sample[0].Value.Float64Histogram()
	return slices.Clone(h.Counts), h.Buckets
}

// probe measures how long bytes wait between a socket and their timestamp while
// the load runs: it sends itself a byte over loopback now and then.
type probe struct {
	quit, done chan struct{}
	once       sync.Once
	lags       []time.Duration
}

const probeEvery = 20 * time.Millisecond

// startProbe starts one; a probe that is not wanted or cannot run gives no
// figures.
func startProbe(wanted bool) *probe {
	p := &probe{quit: make(chan struct{}), done: make(chan struct{})}
	if !wanted {
		close(p.done)
		return p
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		close(p.done)
		return p
	}
	out, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		l.Close()
		close(p.done)
		return p
	}
	in, err := l.Accept()
	l.Close()
	if err != nil {
		out.Close()
		close(p.done)
		return p
	}
	written := make(chan time.Time, 1)
	go func() {
		defer out.Close()
		ticker := time.NewTicker(probeEvery)
		defer ticker.Stop()
		for {
			select {
			case <-p.quit:
				return
			case <-ticker.C:
			}
			now := time.Now()
			written <- now
			if _, err := out.Write([]byte{0}); err != nil {
				return
			}
		}
	}()
	go func() {
		defer close(p.done)
		defer in.Close()
		var b [1]byte
		for {
			if _, err := in.Read(b[:]); err != nil {
				return
			}
			now := time.Now()
			p.lags = append(p.lags, now.Sub(<-written))
			if len(p.lags) > 1<<16 {
				p.lags = append(p.lags[:0], p.lags[len(p.lags)/2:]...)
			}
		}
	}()
	return p
}

// stop ends the probe and gives median and p99 in milliseconds.
func (p *probe) stop() (p50, p99 *float64) {
	p.once.Do(func() { close(p.quit) })
	<-p.done
	if len(p.lags) == 0 {
		return nil, nil
	}
	slices.Sort(p.lags)
	at := func(q float64) *float64 {
		ms := p.lags[int(q*float64(len(p.lags)-1))].Seconds() * 1e3
		return &ms
	}
	return at(0.5), at(0.99)
}

// gcHeadroom is what may be allocated between two garbage collections while the
// load runs. Of the client's small heap one would come with every 4 MiB, and take
// a tenth of its processor time.
const gcHeadroom = 32 << 20

// relaxGC makes collections rarer, unless GOGC says what is wanted, until the
// function it returns is called.
func relaxGC() (restore func()) {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindUint64 {
		return func() {}
	}
	const usual = 100
	percent := int(max(usual, 100*gcHeadroom/max(1<<20, sample[0].Value.Uint64())))
	old := debug.SetGCPercent(percent)
	if old != usual {
		debug.SetGCPercent(old)
	}
	return func() { debug.SetGCPercent(old) }
}
