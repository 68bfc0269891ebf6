package load

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/glm46/glm46/harness/measure"
)

// gauge integrates the client's main requests in flight over time, apart from
// the records: the two must agree.
type gauge struct {
	in     int
	area   float64 // request-seconds of what has left, and of begins so far
	begun  float64 // sum of begins of those in flight, s
	points []GaugePoint
	stride int
	skip   int
}

// gaugePoints bounds the points kept; beyond it every second one is dropped.
const gaugePoints = 1 << 16

func (g *gauge) enter(q *request, now time.Duration) {
	if q.rec.Phase != measure.PhaseMain {
		return
	}
	g.in++
	g.begun += q.began.Seconds()
	g.point(now)
}

func (g *gauge) leave(q *request, now time.Duration) {
	if q.rec.Phase != measure.PhaseMain || q.began == 0 {
		return
	}
	g.in--
	g.begun -= q.began.Seconds()
	g.area += (q.rec.End - q.began).Seconds()
	g.point(now)
}

// integral of requests in flight up to now.
func (g *gauge) integral(now time.Duration) float64 {
	return g.area + float64(g.in)*now.Seconds() - g.begun
}

func (g *gauge) point(now time.Duration) {
	if g.skip++; g.skip < g.stride {
		return
	}
	g.skip = 0
	g.points = append(g.points, GaugePoint{At: now, InFlight: g.in, Integral: g.integral(now)})
	if len(g.points) < gaugePoints {
		return
	}
	keep := g.points[:0]
	for i, p := range g.points {
		if i%2 == 0 {
			keep = append(keep, p)
		}
	}
	g.points = keep
	g.stride = max(2, 2*g.stride)
}

// recent is how many of the last requests the live medians look at.
const recent = 128

// live is what the progress line shows.
type live struct {
	phase        measure.Phase
	began        time.Duration // of the phase
	done, failed int           // main requests
	warmDone     int
	tokens       int64 // of finished requests, both phases
	mainTokens   int64 // asked for by finished main requests
	ttft, tpot   []time.Duration
	rate         []ratePoint
	stalls       int           // requests that ended by silence
	lastByte     time.Duration // of finished requests
}

type ratePoint struct {
	at     time.Duration
	tokens int64
}

func (l *live) main(now time.Duration) {
	l.phase, l.began = measure.PhaseMain, now
	l.ttft, l.tpot = l.ttft[:0], l.tpot[:0]
}

func (l *live) finish(q *request) {
	rec := q.rec
	l.tokens += q.tokens.Load()
	if q.lastAny.Load() > 0 {
		l.lastByte = max(l.lastByte, time.Duration(q.lastAny.Load()))
	}
	if rec.Outcome == measure.Stalled || rec.Outcome == measure.Timeout {
		l.stalls++
	}
	if rec.Phase == measure.PhaseWarmup {
		l.warmDone++
	} else {
		l.done++
		l.mainTokens += int64(rec.RequestedTokens)
		if rec.Outcome != measure.OK && rec.Outcome != measure.Cancelled {
			l.failed++
		}
	}
	if rec.Outcome != measure.OK || rec.Phase != measure.PhaseMain {
		return
	}
	l.ttft = push(l.ttft, rec.FirstToken-rec.Sent)
	if rec.CompletionTokens > 1 {
		l.tpot = push(l.tpot, (rec.LastToken-rec.FirstToken)/time.Duration(rec.CompletionTokens-1))
	}
}

func push(ring []time.Duration, d time.Duration) []time.Duration {
	if len(ring) >= recent {
		ring = append(ring[:0], ring[len(ring)-recent/2:]...)
	}
	return append(ring, d)
}

func medianDuration(values []time.Duration) time.Duration {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// progressLocked makes the figures of the live line.
func (r *runner) progressLocked(now time.Duration) Progress {
	l := &r.live
	p := Progress{
		Level: r.spec.Level, Phase: measure.PhaseWarmup, Elapsed: now, Done: l.warmDone, Total: r.warmMax,
		InFlight: len(r.active), Failed: l.failed,
	}
	tokens, mainTokens := l.tokens, l.mainTokens
	ttft, tpot := slices.Clone(l.ttft), slices.Clone(l.tpot)
	for q := range r.active {
		n := q.tokens.Load()
		tokens += n
		if q.rec.Phase == measure.PhaseMain {
			mainTokens += n
		}
		// rec.Sent is not looked at: another goroutine writes it.
		if first, last := q.first.Load(), q.last.Load(); n > 1 && last > first {
			tpot = append(tpot, time.Duration(last-first)/time.Duration(n-1))
		}
	}
	l.rate = append(l.rate, ratePoint{now, tokens})
	if len(l.rate) > 12 {
		l.rate = append(l.rate[:0], l.rate[len(l.rate)-12:]...)
	}
	if span := now - l.rate[0].at; span > 0 {
		p.TokensPerSecond = float64(tokens-l.rate[0].tokens) / span.Seconds() / r.speed
	}
	scale := func(d time.Duration) time.Duration { return time.Duration(float64(d) * r.speed) }
	p.TTFTP50, p.TPOTP50 = scale(medianDuration(ttft)), scale(medianDuration(tpot))
	if l.phase != measure.PhaseMain {
		return p
	}
	p.Phase, p.Done, p.Total = measure.PhaseMain, l.done, len(r.main)
	if span := now - l.began; span > 0 {
		p.RequestsPerS = float64(l.done) / span.Seconds() / r.speed
		goal := int64(0)
		for i := range r.main {
			goal += int64(r.main[i].TargetTokens)
		}
		if mainTokens > 0 {
			p.Left = time.Duration(float64(span) * float64(max(0, goal-mainTokens)) / float64(mainTokens))
		}
	}
	return p
}

// tick delivers progress, watches for a hung server and for a stepped clock,
// until ctx ends. level is the context of the level itself.
func (r *runner) tick(ctx, level context.Context, progress func(Progress)) {
	ticker := time.NewTicker(progressEvery)
	defer ticker.Stop()
	var lastStep time.Duration
	for {
		select {
		case <-ctx.Done():
			r.mu.Lock()
			p := r.progressLocked(r.clock.now())
			r.mu.Unlock()
			if progress != nil {
				progress(p)
			}
			return
		case <-ticker.C:
		}
		now := r.clock.now()
		step := r.clock.step()
		r.out.Clock.MaxStepMS = max(r.out.Clock.MaxStepMS, (step-lastStep).Abs().Seconds()*1e3)
		lastStep = step
		r.mu.Lock()
		p := r.progressLocked(now)
		r.gauge.point(now)
		hung := r.hungLocked(now)
		r.mu.Unlock()
		if progress != nil {
			progress(p)
		}
		if hung && level.Err() == nil {
			r.stop(fmt.Errorf("%w: no byte on any of %d streams for twice the idle limit of %v or more", errHung, p.InFlight, r.limits.Idle))
		}
	}
}

// hungLocked tells a server that hangs from one that lost a stream: at least one
// request has ended by silence, others were sent since, and still nothing came
// from any of them for another idle limit.
func (r *runner) hungLocked(now time.Duration) bool {
	patience := 2 * r.limits.Idle
	if r.live.stalls == 0 {
		if !r.limits.IdleExplicit {
			return false
		}
		// Nothing ever came: the wait for first tokens has no idle limit, but who
		// asks for one does not want to wait for ever.
		patience = 10 * r.limits.Idle
	}
	if len(r.active) == 0 {
		return false
	}
	last := r.live.lastByte
	for q := range r.active {
		last = max(last, q.began, time.Duration(q.lastAny.Load()))
	}
	return now-last >= patience
}

// aliveness remembers the last look at the server's health.
type aliveness struct {
	mu   sync.Mutex
	at   time.Duration
	good bool
}

// aliveFor is how long a good look counts.
const aliveFor = 500 * time.Millisecond

// suspect looks at a failure that a dead server could have caused, waits for
// the server's health and renames the failure if the server is dead. It reports
// whether it had to look.
func (r *runner) suspect(ctx context.Context, q *request) bool {
	rec := q.rec
	switch rec.Outcome {
	case measure.ConnectRefused, measure.ConnectTimeout, measure.Reset, measure.Truncated, measure.HTTP5xx:
	default:
		return false
	}
	if ctx.Err() != nil {
		return false
	}
	if why := r.dead(ctx); why != "" {
		r.stop(fmt.Errorf("%w: %s", errServerDead, why))
	}
	if ctx.Err() != nil {
		class, detail := r.givenUp(ctx, rec.Outcome, string(rec.Outcome)+": "+rec.Detail)
		if class == measure.ServerDead {
			rec.Outcome, rec.Detail = class, detail
		}
	}
	return true
}

// dead says why the server is dead, "" if it is not: /health refuses the
// connection or says 503 four times within two seconds.
func (r *runner) dead(ctx context.Context) string {
	r.alive.mu.Lock()
	defer r.alive.mu.Unlock()
	if r.alive.good && r.clock.now()-r.alive.at < aliveFor {
		return ""
	}
	why := ""
	for _, pause := range []time.Duration{0, 200 * time.Millisecond, 600 * time.Millisecond, 1200 * time.Millisecond} {
		if !r.clock.sleep(ctx, r.clock.now()+pause) {
			return ""
		}
		status, err := r.scrape.health(ctx)
		if err != nil {
			if class, _ := dialClass(err); class == measure.ConnectRefused {
				why = "its port refuses connections"
				continue
			}
		} else if status == http.StatusServiceUnavailable {
			why = "/health says 503"
			continue
		}
		r.alive.good, r.alive.at = true, r.clock.now()
		return ""
	}
	return why
}
