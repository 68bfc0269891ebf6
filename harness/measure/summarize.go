package measure

import (
	"cmp"
	"fmt"
	"iter"
	"math"
	"slices"
	"time"

	"github.com/glm46/glm46/harness/stats"
)

// PercentileSamples are the fewest samples at which a percentile is shown: there
// the largest value lies above the true quantile with 95 % probability.
var PercentileSamples = []struct {
	Name    string
	Q       float64
	Samples int
}{
	{"p90", 90, 29},
	{"p95", 95, 59},
	{"p99", 99, 299},
	{"p99.9", 99.9, 2995},
}

// maxArrayGaps bounds vLLM's itls array in run.json.
const maxArrayGaps = 100_000

// request is what Summarize keeps of a main request between its passes.
type request struct {
	segment                                          int
	begin, intended, sent, first, content, last, end time.Duration
	lag                                              time.Duration
	tokens, events, prompt                           int
	outcome                                          Class
	detail                                           string
	gaps                                             []float64
}

// Summarize computes the metrics of a level from its records alone. It reads
// src twice and keeps some 200 bytes a request, whatever the length of streams.
//
// Source of every formula: docs/metrics.md.
func Summarize(src Source, opt SummaryOptions) (*Metrics, error) {
	s := summary{opt: opt, scale: opt.MockSpeed, metrics: &Metrics{
		FailuresByClass: map[Class]int{},
		FailureExamples: map[Class]string{},
		FinishReasons:   map[string]int{},
		Segments:        1,
	}}
	if s.scale < 1 {
		s.scale = 1
	}
	src = remember(src)
	for r, err := range src() {
		if err != nil {
			return nil, err
		}
		s.first(r)
	}
	slices.SortStableFunc(s.requests, func(a, b *request) int {
		return cmp.Or(cmp.Compare(a.segment, b.segment), cmp.Compare(a.sent, b.sent), cmp.Compare(a.intended, b.intended))
	})
	s.segments()
	for r, err := range src() {
		if err != nil {
			return nil, err
		}
		s.second(r)
	}
	return s.finish(), nil
}

// rememberedEvents bounds the records that are remembered, to some 64 MiB: an
// event takes 16 bytes, and a record without its events as much as 32 of them.
const (
	rememberedEvents = 4 << 20
	recordWeight     = 32
)

// remember is src, read only once where its records are not too many: reading
// them costs more than all that is computed from them.
func remember(src Source) Source {
	var (
		records  []*Record
		events   int
		complete bool
	)
	return func() iter.Seq2[*Record, error] {
		if complete {
			return Records(records)()
		}
		return func(yield func(*Record, error) bool) {
			records, events = nil, 0
			for r, err := range src() {
				if events += recordWeight; err == nil {
					events += len(r.Events)
				}
				if events > rememberedEvents {
					records = nil
				} else if err == nil {
					own := *r
					own.Events = slices.Clone(r.Events)
					records = append(records, &own)
				}
				if !yield(r, err) || err != nil {
					return
				}
			}
			complete = events <= rememberedEvents
		}
	}
}

type summary struct {
	opt       SummaryOptions
	scale     float64
	metrics   *Metrics
	requests  []*request
	itl       stats.Collector
	zeros     int64 // tokens that came together with another one
	bytes     int64
	allEvents int64
	arrayGaps int
	parts     []segment
	newest    int // segment seen so far
}

// segment is one uninterrupted part of a level, with a clock of its own.
type segment struct {
	requests           []*request
	firstSend, lastEnd time.Duration
	sends              bool
	window             Window
	// seconds holds tokens by whole second since the first send.
	seconds                    map[int64]float64
	windowTokens, windowPrompt float64
}

var sourceWeakness = map[TokenSource]int{TokensFromContinuousUsage: 1, TokensFromUsage: 2, TokensFromNone: 3}

// first sees every record once and gathers all but what needs the window.
func (s *summary) first(r *Record) {
	m := s.metrics
	if s.opt.Each != nil {
		s.opt.Each(r)
	}
	if r.Segment > s.newest {
		// Only the last segment's requests went to the server that is asked for
		// its counters.
		s.newest, m.All, m.CountedPromptTokens = r.Segment, TokenTotals{}, 0
	}
	if r.Segment == s.newest {
		s.count(r)
	}
	if r.Phase != PhaseMain {
		m.WarmupRequests++
		return
	}
	q := &request{
		segment: r.Segment, begin: r.Intended, intended: r.Intended, sent: r.Sent,
		lag: r.Lag(), first: r.FirstToken, content: r.FirstContent, last: r.LastToken, end: r.End,
		tokens: r.CompletionTokens, events: len(r.Events), prompt: r.PromptTokens, outcome: r.Outcome,
	}
	if s.opt.OpenLoop {
		q.begin = r.Sent
	}
	s.requests = append(s.requests, q)
	m.Segments = max(m.Segments, r.Segment+1)
	s.bytes += r.EventBytes
	s.allEvents += int64(r.EventCount)
	m.Requests++
	if r.FinishReason != "" {
		m.FinishReasons[r.FinishReason]++
	}
	if r.LengthForced && (r.Outcome == OK || r.Outcome == WrongLength) {
		m.LengthForced++
		if r.FinishReason != "length" || r.CompletionTokens != r.RequestedTokens {
			m.LengthMismatches++
		}
	}
	switch r.Outcome {
	case OK:
		m.Completed++
		if sourceWeakness[r.TokenSource] > sourceWeakness[m.TokenSource] {
			m.TokenSource = r.TokenSource
		}
	case Cancelled:
		m.Cancelled++
	default:
		m.Failed++
		m.FailuresByClass[r.Outcome]++
		if _, ok := m.FailureExamples[r.Outcome]; !ok {
			m.FailureExamples[r.Outcome] = r.Detail
		}
	}
	if r.Outcome != OK {
		q.detail = r.Detail
		if q.detail == "" {
			q.detail = string(r.Outcome)
		}
		return
	}
	m.PromptTokens += int64(r.PromptTokens)
	if r.Segment == s.newest {
		m.CountedPromptTokens += int64(r.PromptTokens)
	}
	m.CompletionTokens += int64(r.CompletionTokens)
	m.TokenEvents += int64(len(r.Events))
	if r.CachedTokens != nil {
		if m.CachedTokens == nil {
			m.CachedTokens = new(int64)
		}
		*m.CachedTokens += int64(*r.CachedTokens)
	}
	keep := s.arrayGaps+len(r.Events) <= maxArrayGaps
	s.arrayGaps += len(r.Events)
	for i := 1; i < len(r.Events); i++ {
		gap := s.scaled(r.Events[i].At - r.Events[i-1].At)
		s.itl.Add(int64(gap))
		if keep {
			q.gaps = append(q.gaps, gap/1e9)
		}
	}
	s.zeros += int64(max(0, r.CompletionTokens-len(r.Events)))
}

// count adds a record to the totals of its segment.
func (s *summary) count(r *Record) {
	all := &s.metrics.All
	all.Requests++
	if r.Outcome == OK {
		all.OK++
	}
	all.PromptTokens += int64(r.PromptTokens)
	all.CompletionTokens += int64(r.CompletionTokens)
}

// scaled is a duration of the records in the server's time, in nanoseconds.
func (s *summary) scaled(d time.Duration) float64 { return float64(d) * s.scale }

// segments finds first sends, last completions and steady windows.
func (s *summary) segments() {
	s.parts = make([]segment, s.metrics.Segments)
	for _, q := range s.requests {
		p := &s.parts[q.segment]
		p.requests = append(p.requests, q)
		if q.sent > 0 && (!p.sends || q.sent < p.firstSend) {
			p.sends, p.firstSend = true, q.sent
		}
		if q.outcome == OK {
			p.lastEnd = max(p.lastEnd, q.end)
		}
	}
	for i := range s.parts {
		p := &s.parts[i]
		p.window = steadyWindow(p.requests)
		p.seconds = map[int64]float64{}
		p.window.Segment = i
		for _, q := range p.requests {
			if q.outcome == OK && q.end > p.window.Start && q.end <= p.window.End {
				p.window.Completions++
			}
		}
	}
}

// second sees every record again and counts tokens by time.
func (s *summary) second(r *Record) {
	if r.Phase != PhaseMain {
		return
	}
	p := &s.parts[r.Segment]
	told := 0
	for _, e := range r.Events {
		told += e.Tokens
	}
	// Where events do not tell their tokens, each carries its share of them.
	weight := 1.0
	if told > 0 && r.CompletionTokens > 0 {
		weight = float64(r.CompletionTokens) / float64(told)
	}
	for _, e := range r.Events {
		n := weight * float64(e.Tokens)
		if e.At > p.window.Start && e.At <= p.window.End {
			p.windowTokens += n
		}
		p.seconds[int64(math.Floor(s.scaled(e.At-p.firstSend)/1e9))] += n
	}
	if r.Outcome == OK && r.FirstToken > p.window.Start && r.FirstToken <= p.window.End {
		p.windowPrompt += float64(r.PromptTokens)
	}
}

func (s *summary) finish() *Metrics {
	m := s.metrics
	s.rates()
	s.latencies()
	if m.TokenEvents > 0 {
		m.TokensPerEvent = float64(m.CompletionTokens) / float64(m.TokenEvents)
	}
	if s.allEvents > 0 {
		m.MeanEventBytes = float64(s.bytes) / float64(s.allEvents)
	}
	s.arrays()
	return m
}

// rates of the level come from segments at full concurrency: in a level that
// was never resumed that is all of it.
func (s *summary) rates() {
	m := s.metrics
	peak := 0
	for _, p := range s.parts {
		peak = max(peak, p.window.PeakInFlight)
	}
	m.MaxConcurrentRequests = peak
	var (
		full                               float64 // seconds of segments at full concurrency, scaled
		completed, prompt, tokens, good    float64
		window, windowTokens, windowPrompt float64
		completions, inFlight              float64
		wall                               float64
	)
	for i := range s.parts {
		p := &s.parts[i]
		if !p.sends {
			continue
		}
		length := max(0, s.scaled(p.lastEnd-p.firstSend)/1e9)
		m.DurationSeconds += length
		wall += length / s.scale
		if float64(p.window.PeakInFlight) < steadyShare*float64(peak) {
			continue
		}
		full += length
		for _, q := range p.requests {
			if q.outcome != OK {
				continue
			}
			completed++
			prompt += float64(q.prompt)
			tokens += float64(q.tokens)
			if s.meets(q) {
				good++
			}
		}
		for _, n := range p.seconds {
			m.MaxOutputTokensPerSecond = max(m.MaxOutputTokensPerSecond, n)
		}
		w := &p.window
		length = s.scaled(w.End-w.Start) / 1e9
		window += length
		windowTokens += p.windowTokens
		windowPrompt += p.windowPrompt
		completions += float64(w.Completions)
		inFlight += w.MeanInFlight * length
		if w.End-w.Start > m.Window.End-m.Window.Start {
			m.Window = *w
			m.Window.StartS = s.scaled(w.Start-p.firstSend) / 1e9
			m.Window.EndS = s.scaled(w.End-p.firstSend) / 1e9
		}
	}
	m.Window.Method = "in_flight_95"
	if full > 0 {
		m.RequestThroughput = completed / full
		m.OutputThroughput = tokens / full
		m.TotalTokenThroughput = (prompt + tokens) / full
		if s.opt.SLO != (SLO{}) {
			rate := good / full
			m.RequestGoodput = &rate
		}
		m.Window.Share = min(1, window/full)
	}
	if window > 0 {
		m.Window.Tokens = windowTokens
		m.Window.Completions = int(completions)
		m.Window.MeanInFlight = inFlight / window
		m.SteadyOutputThroughput = windowTokens / window
		m.Window.SteadyOutputThroughput = m.SteadyOutputThroughput
		m.Window.SteadyRequestsPerS = completions / window
		m.Window.SteadyTotalThroughput = (windowTokens + windowPrompt) / window
	}
	if wall > 0 {
		m.EventsPerSecond = float64(s.allEvents) / wall
	}
}

// meets tells whether a request keeps every objective asked for. As in vLLM, a
// request of one token has a TPOT of 0.
func (s *summary) meets(q *request) bool {
	slo := s.opt.SLO
	tpot := 0.0
	if q.tokens > 1 {
		tpot = s.scaled(q.last-q.first) / float64(q.tokens-1)
	}
	return (slo.TTFT == 0 || s.scaled(q.first-q.sent) <= float64(slo.TTFT)) &&
		(slo.TPOT == 0 || tpot <= float64(slo.TPOT)) &&
		(slo.E2E == 0 || s.scaled(q.last-q.sent) <= float64(slo.E2E))
}

func (s *summary) latencies() {
	m := s.metrics
	var ttft, ttfc, schedule, tpot, e2e, queue, e2eQueue, tps, lag []float64
	for _, q := range s.requests {
		if q.sent > 0 {
			lag = append(lag, float64(q.lag)/1e6)
		}
		if q.outcome != OK {
			continue
		}
		ms := func(d time.Duration) float64 { return s.scaled(d) / 1e6 }
		ttft = append(ttft, ms(q.first-q.sent))
		schedule = append(schedule, ms(q.first-q.intended))
		e2e = append(e2e, ms(q.last-q.sent))
		queue = append(queue, ms(max(0, q.sent-q.intended)))
		e2eQueue = append(e2eQueue, ms(q.last-q.intended))
		if q.content > 0 {
			ttfc = append(ttfc, ms(q.content-q.sent))
		}
		if q.tokens > 1 {
			tpot = append(tpot, ms(q.last-q.first)/float64(q.tokens-1))
		}
		if q.last > q.sent {
			tps = append(tps, float64(q.tokens)/(ms(q.last-q.sent)/1e3))
		}
	}
	m.TTFT = m.describe("ttft", ttft)
	m.TTFTFromSchedule = m.describe("ttft_from_schedule", schedule)
	m.TTFC = m.describe("ttfc", ttfc)
	m.TPOT = m.describe("tpot", tpot)
	m.E2EL = m.describe("e2el", e2e)
	m.ClientQueueTime = m.describe("client_queue_time", queue)
	m.E2ELIncludingClientQueue = m.describe("e2el_including_client_queue", e2eQueue)
	m.TPS = m.describe("tps", tps)
	m.LatencySeconds = m.E2EL.Mean / 1e3
	m.ITL = m.describeGaps("itl", &s.itl)
	m.ITLToken = m.describeGaps("itl_token", s.itl.WithZeros(s.zeros))
	slices.Sort(lag)
	m.SendLagP50MS = stats.Percentile(lag, 50)
	m.SendLagP99MS = stats.Percentile(lag, 99)
	m.SendLagMaxMS = stats.Percentile(lag, 100)
}

// describe values in order of sending.
func (m *Metrics) describe(stem string, values []float64) Distribution {
	m.tooFew(stem, len(values))
	if len(values) == 0 {
		return Distribution{Method: "none"}
	}
	interval := stats.BatchMeansInterval(values, 0.95)
	sorted := slices.Sorted(slices.Values(values))
	median := stats.QuantileInterval(sorted, 0.5, 0.95)
	return Distribution{
		N: len(values), Mean: stats.Mean(values), Median: stats.Percentile(sorted, 50),
		Std: stats.PopulationStd(values), SampleStd: stats.SampleStd(values),
		Min: sorted[0], Max: sorted[len(sorted)-1],
		P50: stats.Percentile(sorted, 50), P90: stats.Percentile(sorted, 90), P95: stats.Percentile(sorted, 95),
		P99: stats.Percentile(sorted, 99), P999: stats.Percentile(sorted, 99.9),
		MeanLow: interval.Low, MeanHigh: interval.High, Method: interval.Method,
		MedianLow: median.Low, MedianHigh: median.High,
	}
}

// describeGaps, in milliseconds. Gaps of one stream follow each other and those
// of many streams share engine steps: no interval is given for them.
func (m *Metrics) describeGaps(stem string, c *stats.Collector) Distribution {
	n := int(c.N())
	m.tooFew(stem, n)
	q := func(p float64) float64 { return c.Percentile(p) / 1e6 }
	mean, median := c.Mean()/1e6, q(50)
	return Distribution{
		N: n, Mean: mean, Median: median, Std: c.Std() / 1e6, SampleStd: c.SampleStd() / 1e6,
		Min: c.Min() / 1e6, Max: c.Max() / 1e6,
		P50: median, P90: q(90), P95: q(95), P99: q(99), P999: q(99.9),
		MeanLow: mean, MeanHigh: mean, MedianLow: median, MedianHigh: median, Method: "none",
	}
}

// unit is the end of a flat key: all stems but tps are in milliseconds.
func unit(stem string) string {
	if stem == "tps" {
		return ""
	}
	return "_ms"
}

func (m *Metrics) tooFew(stem string, n int) {
	for _, p := range PercentileSamples {
		if n < p.Samples {
			m.TooFew = append(m.TooFew, fmt.Sprintf("%s_%s%s", p.Name, stem, unit(stem)))
		}
	}
}

func (s *summary) arrays() {
	a := &s.metrics.Arrays
	n := len(s.requests)
	*a = Arrays{
		InputLens: make([]int, n), OutputLens: make([]int, n), TTFTs: make([]float64, n), ITLs: make([][]float64, n),
		Latencies: make([]float64, n), StartTimes: make([]float64, n), QueueTimes: make([]float64, n), Errors: make([]string, n),
	}
	for i, q := range s.requests {
		a.InputLens[i] = q.prompt
		a.ITLs[i] = []float64{}
		if q.sent > 0 {
			a.StartTimes[i] = s.scaled(q.sent-s.parts[q.segment].firstSend) / 1e9
			a.QueueTimes[i] = max(0, s.scaled(q.sent-q.intended)/1e9)
		}
		if q.outcome != OK {
			a.Errors[i] = q.detail
			continue
		}
		a.OutputLens[i] = q.tokens
		a.TTFTs[i] = s.scaled(q.first-q.sent) / 1e9
		a.Latencies[i] = s.scaled(q.last-q.sent) / 1e9
		if s.arrayGaps <= maxArrayGaps && q.gaps != nil {
			a.ITLs[i] = q.gaps
		}
	}
}

// steadyShare of the peak of requests in flight bounds the steady window.
const steadyShare = 0.95

// steadyWindow is the longest span in which requests in flight stay at
// steadyShare of their peak or above. A slot of a closed loop is in flight from
// the moment it became free, so that the refill between two of its requests
// does not end the window.
func steadyWindow(requests []*request) Window {
	type change struct {
		at    time.Duration
		delta int
	}
	changes := make([]change, 0, 2*len(requests))
	for _, q := range requests {
		if q.end > q.begin && q.sent > 0 {
			changes = append(changes, change{q.begin, 1}, change{q.end, -1})
		}
	}
	slices.SortFunc(changes, func(a, b change) int { return cmp.Compare(a.at, b.at) })
	// Changes of one instant count together: one request's end is the next
	// one's beginning.
	steps := changes[:0]
	for _, c := range changes {
		if n := len(steps); n > 0 && steps[n-1].at == c.at {
			steps[n-1].delta += c.delta
		} else {
			steps = append(steps, c)
		}
	}
	peak, n := 0, 0
	for _, c := range steps {
		n += c.delta
		peak = max(peak, n)
	}
	w := Window{Method: "in_flight_95", PeakInFlight: peak}
	least := int(math.Ceil(steadyShare*float64(peak) - 1e-9))
	var (
		start time.Duration
		area  float64
		open  bool
		last  time.Duration
	)
	n = 0
	for _, c := range steps {
		if open {
			area += float64(n) * float64(c.at-last)
		}
		last = c.at
		n += c.delta
		switch {
		case !open && n >= least && n > 0:
			open, start, area = true, c.at, 0
		case open && n < least:
			open = false
			if c.at-start > w.End-w.Start {
				w.Start, w.End, w.MeanInFlight = start, c.at, area/float64(c.at-start)
			}
		}
	}
	return w
}
