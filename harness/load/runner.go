package load

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/glm46/glm46/harness/measure"
	"github.com/glm46/glm46/harness/poll"
)

// Defaults of a request's limits. Source: docs/metrics.md, failure classes.
const (
	defaultTotal   = time.Hour
	defaultIdle    = 300 * time.Second
	defaultConnect = 10 * time.Second
)

// Pace of the runner's own work, in wall time.
const (
	progressEvery = 250 * time.Millisecond
	flushEvery    = 500 * time.Millisecond
)

// runner is one run of one level.
type runner struct {
	target Target
	spec   Spec
	clock  clock
	limits Limits
	speed  float64
	poller *poll.Poller // nil over a network in memory, and where there is none
	body   body
	addr   address
	pool   *pool
	scrape *scraper
	spill  spill
	stop   context.CancelCauseFunc
	out    *Outcome

	warming    atomic.Bool
	steady     *steadiness
	decoding   atomic.Int64
	prefilling atomic.Int64
	firsts     atomic.Int64 // warm-up requests with a token, or ended
	slots      int

	mu       sync.Mutex
	main     []Sample
	warmMax  int
	warmSent int
	nextMain int
	seq      int
	handed   bool
	active   map[*request]struct{}
	gauge    gauge
	live     live
	totals   measure.TokenTotals

	finished chan *request
	handOver sync.WaitGroup
	alive    aliveness
}

// newRunner checks a spec and fills in the defaults.
func newRunner(target Target, spec Spec) (*runner, error) {
	var faults []error
	addr, err := parseAddress(target.BaseURL, target.TLS)
	if err != nil {
		faults = append(faults, err)
	}
	if err := spec.Arrival.validate(); err != nil {
		faults = append(faults, err)
	}
	if spec.Concurrency < 0 || spec.Arrival.closed() && spec.Concurrency == 0 {
		faults = append(faults, fmt.Errorf("load: concurrency %d: a closed loop needs at least 1", spec.Concurrency))
	}
	if strings.ContainsAny(target.APIKey, "\r\n\x00") {
		faults = append(faults, errors.New("load: the API key holds a line end"))
	}
	r := &runner{target: target, spec: spec, addr: addr, limits: spec.Limits, speed: max(1, spec.MockSpeed)}
	for i, s := range spec.Samples {
		if s.TargetTokens < 1 {
			faults = append(faults, fmt.Errorf("load: sample %q: a target of %d tokens", s.ID, s.TargetTokens))
		}
		if s.Prompt == "" && len(s.Messages) == 0 {
			faults = append(faults, fmt.Errorf("load: sample %q has neither prompt nor messages", s.ID))
		}
		if len(faults) > 10 {
			break
		}
		if !spec.Done[s.ID] {
			r.main = append(r.main, spec.Samples[i])
		}
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	setDefault(&r.limits.Total, defaultTotal)
	setDefault(&r.limits.Idle, defaultIdle)
	setDefault(&r.limits.Connect, defaultConnect)
	setDefault(&r.spec.Warmup.MaxDuration, warmupLimit)
	if r.spec.Warmup.OutputTokens == 0 {
		r.spec.Warmup.OutputTokens = warmupTokens
	}
	r.slots = len(r.main)
	if spec.Concurrency > 0 {
		r.slots = min(r.slots, spec.Concurrency)
	}
	if target.Dial == nil && spec.Arrival.closed() {
		if err := enoughFiles(r.slots, openFiles()); err != nil {
			return nil, err
		}
	}
	r.warmMax = r.spec.Warmup.MaxRequests
	if r.warmMax == 0 {
		r.warmMax = warmupPerSlot * r.slots
		if !spec.Arrival.closed() && spec.Concurrency == 0 {
			// Without a cap nobody knows how many will be in flight: two windows'
			// arrivals, and no more requests than the main phase has.
			r.warmMax = min(r.slots, max(warmupPerSlot, int(math.Ceil(spec.Arrival.rate(0, 1)*2*steadyWindow.Seconds()))))
		}
	}
	r.body = body{
		model: target.Model, features: target.Features, endpoint: target.Endpoint,
		forced: target.Features.ForcedLength && !spec.NaturalStop,
	}
	r.steady = newSteadiness(r.speed)
	r.active = map[*request]struct{}{}
	r.finished = make(chan *request, 256)
	return r, nil
}

func setDefault(d *time.Duration, v time.Duration) {
	if *d <= 0 {
		*d = v
	}
}

// Run does the warm-up and the main phase of one level. It returns an Outcome
// for a level that was cut short, too (ctx cancelled, server dead or hung):
// what was measured is kept. The error is for a spec that cannot be run and for
// a recorder that fails.
func Run(ctx context.Context, target Target, spec Spec, rec Recorder, progress func(Progress)) (*Outcome, error) {
	r, err := newRunner(target, spec)
	if err != nil {
		return nil, err
	}
	return r.run(ctx, rec, progress)
}

// errServerDead and errHung end a level from within.
var (
	errServerDead = errors.New("the server ended")
	errHung       = errors.New("the server hangs")
	errRecorder   = errors.New("records cannot be written")
)

func (r *runner) run(parent context.Context, rec Recorder, progress func(Progress)) (*Outcome, error) {
	ctx, stop := context.WithCancelCause(parent)
	defer stop(nil)
	r.stop = stop
	dial := r.target.Dial
	if dial == nil {
		dial = (&net.Dialer{KeepAlive: 30 * time.Second}).DialContext
	}
	r.scrape = newScraper(r.addr, dial)
	defer r.scrape.close()
	r.clock = clock{time.Now()}
	if r.target.Dial == nil && r.addr.tls == nil {
		if p, err := poll.New(r.clock.start); err == nil {
			r.poller = p
			defer context.AfterFunc(ctx, p.Cancel)()
		}
	}
	r.pool = &pool{clock: r.clock, addr: r.addr, poller: r.poller, dial: dial}
	defer r.pool.close()
	r.out = &Outcome{
		Level: r.spec.Level, Clock: measure.Clock{StartUnixNS: r.clock.start.UnixNano()}, Request: r.body.params(),
	}
	out := r.out
	out.Before, _ = r.scrape.counters(ctx, r.clock)
	defer relaxGC()()
	own := startClientStats()
	probe := startProbe(r.target.Dial == nil && r.poller == nil)

	r.warming.Store(!r.spec.Warmup.Skip)
	if r.spec.Warmup.Skip {
		out.Warmup.Skipped = true
		r.mu.Lock()
		r.handOverLocked(ctx, r.clock.now())
		r.mu.Unlock()
	}
	background, halt := context.WithCancel(context.WithoutCancel(ctx))
	var group sync.WaitGroup
	group.Go(func() { r.tick(background, ctx, progress) })
	group.Go(func() { r.series(background, ctx) })
	written := make(chan error, 1)
	go func() { written <- r.write(rec) }()
	if r.target.Done != nil {
		group.Go(func() {
			select {
			case <-r.target.Done:
				stop(fmt.Errorf("%w: its process is gone", errServerDead))
			case <-background.Done():
			}
		})
	}

	if len(r.main) > 0 {
		if r.spec.Arrival.closed() {
			r.closedLoop(ctx)
		} else {
			r.openLoop(ctx)
		}
	}
	close(r.finished)
	err := <-written
	halt()
	group.Wait()
	r.handOver.Wait()

	out.Client = own.stop()
	out.Client.Timestamps = measure.TimestampsClient
	out.Client.SocketLagP50MS, out.Client.SocketLagP99MS = probe.stop()
	if r.poller != nil {
		// The kernel begins to stamp a moment after the first socket asked.
		if lags := r.poller.Close(); lags.Unstamped() <= lags.Count()/100 && lags.Count() > 0 {
			p50, p99 := lags.Percentile(0.5).Seconds()*1e3, lags.Percentile(0.99).Seconds()*1e3
			out.Client.Timestamps, out.Client.SocketLagP50MS, out.Client.SocketLagP99MS = measure.TimestampsKernel, &p50, &p99
		}
	}
	out.Client.Calibration = r.spec.Certificate
	r.end(ctx, parent)
	r.after(ctx)
	out.Clock.EndUnixNS = time.Now().UnixNano()
	out.Gauge = r.gauge.points
	err = errors.Join(err, r.spill.close())
	if cause := context.Cause(ctx); errors.Is(cause, errRecorder) && err == nil {
		err = cause
	}
	if err != nil {
		return out, fmt.Errorf("load: level %s: %w", r.spec.Level, err)
	}
	return out, nil
}

// end says why the level ended, where it did not by itself.
func (r *runner) end(ctx, parent context.Context) {
	out := r.out
	r.mu.Lock()
	defer r.mu.Unlock()
	out.Done, out.Failed = r.live.done, r.live.failed
	out.Sent = r.nextMain
	out.Warmup.Requests = r.warmSent
	if !r.handed {
		out.Warmup.Reason = "the level ended in the warm-up"
		out.Warmup.TooFew = true
	}
	cause := context.Cause(ctx)
	switch {
	case cause == nil:
	case errors.Is(cause, errServerDead), errors.Is(cause, errHung):
		out.ServerDead, out.EndReason = true, cause.Error()
	case parent.Err() != nil:
		out.Cancelled, out.EndReason = true, context.Cause(parent).Error()
	default:
		out.EndReason = cause.Error()
	}
}

// givenUp names the class of a request that the level's end cut off.
func (r *runner) givenUp(ctx context.Context, class measure.Class, detail string) (measure.Class, string) {
	cause := context.Cause(ctx)
	if errors.Is(cause, errServerDead) || errors.Is(cause, errHung) {
		return measure.ServerDead, fmt.Sprintf("%v (%s)", cause, detail)
	}
	return measure.Cancelled, cause.Error()
}

// closedLoop keeps every slot busy until the samples are used up.
func (r *runner) closedLoop(ctx context.Context) {
	spread := r.firstWave()
	start := r.clock.now()
	var slots sync.WaitGroup
	for i := range r.slots {
		free := start + spread*time.Duration(i)/time.Duration(r.slots)
		slots.Go(func() { r.slot(ctx, free) })
	}
	slots.Wait()
}

// firstWave is the time over which the first requests of a closed loop are
// spread: 1 s of the server's time, less for short outputs, of which it would
// be a large part.
func (r *runner) firstWave() time.Duration {
	longest := 0
	for _, s := range r.main {
		longest = max(longest, s.TargetTokens)
	}
	spread := min(time.Second, time.Duration(longest)*time.Millisecond)
	return time.Duration(float64(spread) / r.speed)
}

func (r *runner) slot(ctx context.Context, free time.Duration) {
	if !r.clock.sleep(ctx, free) {
		return
	}
	for {
		q := r.next(ctx)
		if q == nil {
			return
		}
		q.rec.Intended = free
		free = r.serve(ctx, q, 0)
	}
}

// serve runs a request to its end and returns the moment its slot is free. at
// is when to send it, 0 at once.
func (r *runner) serve(ctx context.Context, q *request, at time.Duration) time.Duration {
	r.begin(q)
	q.do(ctx, at)
	free := q.rec.End
	if r.suspect(ctx, q) {
		free = r.clock.now()
	}
	r.finish(q)
	return free
}

// next gives a slot's next request, nil when there is none. During the warm-up
// it decides on the hand-over, so that no slot ever pauses.
func (r *runner) next(ctx context.Context) *request {
	if ctx.Err() != nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.clock.now()
	if !r.handed && (r.warmSent >= r.warmMax || now > r.spec.Warmup.MaxDuration || r.isSteady(now)) {
		r.handOverLocked(ctx, now)
	}
	if !r.handed {
		return r.warmupLocked()
	}
	return r.mainLocked()
}

func (r *runner) warmupLocked() *request {
	s := &r.main[r.warmSent%len(r.main)]
	// A second pass over the samples has its own salt: warm-up requests never
	// find each other in the cache.
	salt := fmt.Sprintf("%s/warmup-%d", r.spec.Salt, r.warmSent/len(r.main))
	r.warmSent++
	return r.newRequest(s, measure.PhaseWarmup, min(s.TargetTokens, r.spec.Warmup.OutputTokens), salt)
}

func (r *runner) mainLocked() *request {
	if r.nextMain >= len(r.main) {
		return nil
	}
	s := &r.main[r.nextMain]
	r.nextMain++
	return r.newRequest(s, measure.PhaseMain, s.TargetTokens, r.spec.Salt+"/main")
}

func (r *runner) isSteady(now time.Duration) bool {
	_, _, change, ok, _ := r.steady.state(now)
	return ok && change <= steadyChange
}

// handOverLocked begins the main phase.
func (r *runner) handOverLocked(ctx context.Context, now time.Duration) {
	r.handed = true
	r.out.Clock.HandOverNS = int64(now)
	if r.warming.Swap(false) {
		r.steady.report(now, &r.out.Warmup)
	}
	r.out.Warmup.Requests = r.warmSent
	r.live.main(now)
	r.handOver.Go(func() { r.out.HandOver, _ = r.scrape.counters(ctx, r.clock) })
}

func (r *runner) newRequest(s *Sample, phase measure.Phase, tokens int, salt string) *request {
	r.seq++
	hash := sha256.Sum256([]byte(r.spec.Salt))
	return &request{
		r: r, sample: s, salt: saltToken(salt), log: eventLog{spill: &r.spill},
		rec: &measure.Record{
			SampleID: s.ID, RequestID: "glm46-" + hex.EncodeToString(hash[:4]) + "-" + string(phase[:1]) + "-" + strconv.Itoa(r.seq),
			Phase: phase, Level: r.spec.Level, Endpoint: r.body.endpointOf(s), Segment: r.spec.Segment,
			RequestedTokens: tokens, LengthForced: r.body.forced, TokenSource: measure.TokensFromNone,
		},
	}
}

// saltToken of a phase: short, and nothing of it is readable text.
func saltToken(salt string) string {
	sum := sha256.Sum256([]byte(salt))
	return hex.EncodeToString(sum[:16])
}

// head is the request's head.
func (r *runner) head(rec *measure.Record, length int) []byte {
	path := "/v1/completions"
	if rec.Endpoint == measure.EndpointChat {
		path = "/v1/chat/completions"
	}
	b := make([]byte, 0, 512)
	b = append(append(append(append(b, "POST "...), r.addr.prefix...), path...), " HTTP/1.1\r\nHost: "...)
	b = append(b, r.addr.header...)
	b = append(b, "\r\nUser-Agent: glm46\r\nContent-Type: application/json\r\nAccept: text/event-stream\r\nX-Request-Id: "...)
	b = append(b, rec.RequestID...)
	if r.target.APIKey != "" {
		b = append(append(b, "\r\nAuthorization: Bearer "...), r.target.APIKey...)
	}
	b = append(b, "\r\nContent-Length: "...)
	b = strconv.AppendInt(b, int64(length), 10)
	return append(b, "\r\n\r\n"...)
}

// begin puts a request of a closed loop among those in flight, from the moment
// its slot became free, so that slots are counted without gaps. One of an open
// loop is still being prepared.
func (r *runner) begin(q *request) {
	if r.spec.Arrival.closed() {
		r.enter(q, q.rec.Intended)
	}
}

// sent is called when a request was written, or as much of it as could be.
func (r *runner) sent(q *request) {
	r.prefilling.Add(1)
	if !r.spec.Arrival.closed() {
		r.enter(q, q.rec.Sent)
	}
}

func (r *runner) enter(q *request, began time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	q.began = began
	r.active[q] = struct{}{}
	r.gauge.enter(q, r.clock.now())
}

// firstToken is called at the first token of a request.
func (r *runner) firstToken(q *request) {
	r.prefilling.Add(-1)
	r.decoding.Add(1)
	r.atWork(q)
}

// atWork counts warm-up requests until every slot has one under way.
func (r *runner) atWork(q *request) {
	need := int64(r.slots)
	if !r.spec.Arrival.closed() {
		need = 1 // an open loop has no slots to fill
	}
	if q.rec.Phase == measure.PhaseWarmup && r.firsts.Add(1) == need {
		r.steady.full(r.clock.now())
	}
}

func (r *runner) batch() int32 { return batchKey(r.decoding.Load(), r.prefilling.Load()) }

// finish takes a request out of flight and hands its record over.
func (r *runner) finish(q *request) {
	rec := q.rec
	switch {
	case rec.FirstToken > 0:
		r.decoding.Add(-1)
	case rec.Sent > 0:
		r.prefilling.Add(-1)
		r.atWork(q)
	default:
		r.atWork(q)
	}
	r.mu.Lock()
	delete(r.active, q)
	r.gauge.leave(q, r.clock.now())
	r.live.finish(q)
	r.totals.Requests++
	if rec.Outcome == measure.OK {
		r.totals.OK++
	}
	r.totals.PromptTokens += int64(rec.PromptTokens)
	r.totals.CompletionTokens += int64(rec.CompletionTokens)
	r.mu.Unlock()
	r.finished <- q
}

// write hands the records to the recorder, one at a time, and flushes it twice
// a second. After a failure it drains, so that nobody waits for it.
func (r *runner) write(rec Recorder) error {
	ticker := time.NewTicker(flushEvery)
	defer ticker.Stop()
	var (
		events measure.Events
		fault  error
	)
	fail := func(err error) {
		if err != nil && fault == nil {
			fault = fmt.Errorf("%w: %w", errRecorder, err)
			r.stop(fault)
		}
	}
	for {
		select {
		case q, ok := <-r.finished:
			if !ok {
				fail(rec.Flush())
				return fault
			}
			var err error
			if events, err = q.log.read(events[:0]); err != nil {
				fail(err)
			}
			q.rec.Events = events
			if fault == nil {
				fail(rec.Record(q.rec))
			}
			q.rec.Events = nil
			if cap(events) > 1<<17 {
				events = nil
			}
		case <-ticker.C:
			if fault == nil {
				fail(rec.Flush())
			}
		}
	}
}

// lead is how long before its instant a planned request is begun, so that body,
// head and connection are ready when it comes.
const lead = 4 * time.Millisecond

// openLoop sends by plan: the warm-up's arrivals, then the main phase's, whose
// clock begins at the hand-over. A request whose turn comes while the cap is
// reached waits, and keeps the moment it was meant to be sent.
func (r *runner) openLoop(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	// room holds the places under the cap, each as the moment it became free.
	var room chan time.Duration
	if r.spec.Concurrency > 0 {
		room = make(chan time.Duration, r.spec.Concurrency)
		for range r.spec.Concurrency {
			room <- 0
		}
	}
	send := func(intended time.Duration, take func() *request) bool {
		if !r.clock.sleep(ctx, intended-lead) {
			return false
		}
		var slot time.Duration
		if room != nil {
			select {
			case slot = <-room:
			case <-ctx.Done():
				return false
			}
		}
		r.mu.Lock()
		q := take()
		r.mu.Unlock()
		q.rec.Intended = intended
		if slot > intended {
			q.rec.Slot = slot
		}
		running.Go(func() {
			free := r.serve(ctx, q, intended)
			if room != nil {
				room <- free
			}
		})
		return true
	}
	if r.warming.Load() {
		start := r.clock.now()
		offsets, err := r.spec.Arrival.Offsets(r.warmMax, r.spec.Seed^0x7761726d7570)
		if err != nil {
			r.stop(err)
			return
		}
		for _, offset := range offsets {
			intended := start + r.scaled(offset)
			// No warm-up request is sent behind the hand-over.
			if !send(intended, r.warmupLocked) || !r.clock.sleep(ctx, intended) {
				return
			}
			if now := r.clock.now(); now > r.spec.Warmup.MaxDuration || r.isSteady(now) {
				break
			}
		}
	}
	r.mu.Lock()
	if !r.handed {
		r.handOverLocked(ctx, r.clock.now())
	}
	start := time.Duration(r.out.Clock.HandOverNS)
	r.mu.Unlock()
	offsets, err := r.spec.Arrival.Offsets(len(r.main), r.spec.Seed)
	if err != nil {
		r.stop(err)
		return
	}
	for _, offset := range offsets {
		if !send(start+r.scaled(offset), r.mainLocked) {
			return
		}
	}
}

// scaled is a time of the server on the wall.
func (r *runner) scaled(d time.Duration) time.Duration {
	return time.Duration(float64(d) / r.speed)
}
