package mockvllm

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/glm46/glm46/mockvllm/engine"
	"github.com/glm46/glm46/mockvllm/vllm"
)

// histogram counts observations by bucket.
type histogram struct {
	bounds []float64
	counts []int64 // one more than bounds
	sum    float64
	n      int64
}

func (h *histogram) observe(x float64, times int64) {
	if h == nil || times <= 0 {
		return
	}
	i, _ := slices.BinarySearch(h.bounds, x)
	h.counts[i] += times
	h.sum += x * float64(times)
	h.n += times
}

func (h *histogram) clone() *histogram {
	c := *h
	c.counts = slices.Clone(h.counts)
	return &c
}

// meter holds the metrics that the engine's counters do not.
//
// Durations are wall time: what a clock in a server of that speed would show.
type meter struct {
	families []vllm.MetricFamily
	http     []vllm.MetricFamily
	speed    float64
	created  time.Time

	mu       sync.Mutex
	replicas []replicaMeter
	requests map[httpKey]*httpCount
	highR    *histogram
}

// replicaMeter holds the metrics of one engine: vLLM labels them by it.
type replicaMeter struct {
	hist     map[string]*histogram
	finished [engine.FinishAbort + 1]int64
	// Direct pointers for the road of every token.
	ttft, itl, itlOld *histogram
}

type httpKey struct{ handler, method, status string }

type httpCount struct {
	n                 int64
	inBytes, outBytes int64
	low               *histogram
}

func newMeter(v vllm.Version, c vllm.EngineConfig, speed float64) *meter {
	m := &meter{
		families: vllm.Families(v, c), http: vllm.HTTPFamilies(), speed: speed, created: time.Now(),
		replicas: make([]replicaMeter, max(1, c.DataParallelSize)), requests: map[httpKey]*httpCount{},
	}
	for i := range m.replicas {
		r := &m.replicas[i]
		r.hist = map[string]*histogram{}
		for _, f := range m.families {
			if f.Type == vllm.Histogram {
				r.hist[f.Name] = &histogram{bounds: f.Buckets, counts: make([]int64, len(f.Buckets)+1)}
			}
		}
		r.ttft, r.itl, r.itlOld = r.hist[vllm.MetricTTFT], r.hist[vllm.MetricITL], r.hist[vllm.MetricITLOld]
	}
	for _, f := range m.http {
		if f.Name == vllm.MetricHTTPDurationHighR {
			m.highR = &histogram{bounds: f.Buckets, counts: make([]int64, len(f.Buckets)+1)}
		}
	}
	return m
}

func (m *meter) seconds(d time.Duration) float64 { return d.Seconds() / m.speed }

// emission notes one chunk of a stream.
func (m *meter) emission(s *stream, em *engine.Emission) {
	if em.Tokens == 0 {
		return
	}
	gap := m.seconds(em.Due - s.lastDue)
	s.lastDue, s.replica = em.Due, em.Replica
	r := &m.replicas[em.Replica]
	m.mu.Lock()
	defer m.mu.Unlock()
	if em.First == 0 {
		r.ttft.observe(gap, 1)
		return
	}
	r.itl.observe(gap, 1)
	r.itlOld.observe(gap, 1)
}

// step notes the tokens of an engine step.
func (m *meter) step(i engine.StepInfo) {
	if n := i.PromptTokensDone + i.EmittedTokens; n > 0 {
		m.mu.Lock()
		m.replicas[i.Replica].hist[vllm.MetricIterationTokens].observe(float64(n), 1)
		m.mu.Unlock()
	}
}

// end notes a request that has ended. It counts once, and measures when the times
// are known: a stop string ends a request before its engine knows, and then end
// is called twice.
func (m *meter) end(s *stream, why engine.FinishReason, t *engine.RequestTimes) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := &m.replicas[s.replica]
	if !s.counted {
		s.counted = true
		r.finished[why]++
	}
	if t == nil || why == engine.FinishAbort {
		return
	}
	set := func(name string, x float64) { r.hist[name].observe(x, 1) }
	set(vllm.MetricRequestPrompt, float64(len(s.req.Prompt)))
	set(vllm.MetricRequestGeneration, float64(s.tokens))
	set(vllm.MetricRequestMaxGenerated, float64(s.tokens))
	set(vllm.MetricRequestN, 1)
	if s.req.MaxTokens > 0 {
		set(vllm.MetricRequestMaxTokens, float64(s.req.MaxTokens))
	}
	set(vllm.MetricE2E, m.seconds(t.LastDue-t.Arrived))
	set(vllm.MetricQueueTime, m.seconds(t.Scheduled-t.Queued))
	set(vllm.MetricPrefillTime, m.seconds(t.FirstToken-t.Scheduled))
	set(vllm.MetricDecodeTime, m.seconds(t.LastToken-t.FirstToken))
	set(vllm.MetricInferenceTime, m.seconds(t.LastToken-t.Scheduled))
	if s.tokens > 1 {
		set(vllm.MetricRequestTPOT, m.seconds(t.LastToken-t.FirstToken)/float64(s.tokens-1))
	}
}

// exchangeDone notes an HTTP exchange. Handlers that the instrumentation of vLLM
// leaves out are not counted.
//
// Source: vLLM 0.11.1, vllm/entrypoints/openai/api_server.py, excluded_handlers.
func (m *meter) exchangeDone(handler, method string, status int, in, out int64, d time.Duration) {
	switch handler {
	case "/metrics", "/health", "/load", "/ping", "/version", "/server_info":
		return
	}
	key := httpKey{handler, method, strconv.Itoa(status/100) + "xx"}
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.requests[key]
	if c == nil {
		c = &httpCount{low: &histogram{bounds: []float64{.1, .5, 1}, counts: make([]int64, 4)}}
		m.requests[key] = c
	}
	c.n++
	c.inBytes += max(in, 0)
	c.outBytes += max(out, 0)
	c.low.observe(d.Seconds(), 1)
	m.highR.observe(d.Seconds(), 1)
}

// expose writes what GET /metrics says.
func (m *meter) expose(c vllm.EngineConfig, st engine.Stats, blocks int, late *lateness, streams int64) []byte {
	m.mu.Lock()
	replicas := make([]replicaMeter, len(m.replicas))
	for i, r := range m.replicas {
		replicas[i] = replicaMeter{finished: r.finished, hist: make(map[string]*histogram, len(r.hist))}
		for name, h := range r.hist {
			replicas[i].hist[name] = h.clone()
		}
	}
	m.mu.Unlock()
	stats := st.Replicas
	if stats == nil {
		stats = make([]engine.Stats, len(replicas)) // at a fixed pace there is one
		stats[0] = st
	}

	e := &exposition{created: m.created}
	each := func(do func(i int)) {
		for i := range replicas {
			e.base = []vllm.Label{{Name: "engine", Value: strconv.Itoa(i)}, {Name: "model_name", Value: c.ServedName}}
			do(i)
		}
	}
	for _, f := range m.families {
		e.head(f.Wire(), string(f.Type), f.Help)
		each(func(i int) {
			if f.Type == vllm.Histogram {
				e.buckets(f.Name, replicas[i].hist[f.Name])
				return
			}
			e.samples(f, c, stats[i], replicas[i].finished, blocks, i)
		})
		if created := f.Created(); created != "" {
			e.head(created, "gauge", f.Help)
			each(func(i int) { e.createdSamples(f, created, stats[i]) })
		}
	}
	m.exposeHTTP(e)
	e.own(late, st, streams)
	return e.b
}

// samples writes the samples of a counter or gauge.
func (e *exposition) samples(f vllm.MetricFamily, c vllm.EngineConfig, st engine.Stats, finished [engine.FinishAbort + 1]int64, blocks, replica int) {
	n := f.Wire()
	switch f.Name {
	case vllm.MetricRunning:
		e.sample(n, float64(st.Running))
	case vllm.MetricWaiting:
		e.sample(n, float64(st.Waiting))
	case vllm.MetricWaitingByReason:
		e.sample(n, float64(st.Waiting), vllm.Label{Name: "reason", Value: "capacity"})
		e.sample(n, 0, vllm.Label{Name: "reason", Value: "deferred"})
	case vllm.MetricKVUsage, vllm.MetricKVUsageOld:
		e.sample(n, st.KVUsage)
	case vllm.MetricPrefixQueries, vllm.MetricPrefixQueriesOld:
		e.sample(n, float64(st.PrefixQueries))
	case vllm.MetricPrefixHits, vllm.MetricPrefixHitsOld:
		e.sample(n, float64(st.PrefixHits))
	case vllm.MetricPreemptions:
		e.sample(n, float64(st.Preemptions))
	case vllm.MetricPromptTokens:
		e.sample(n, float64(st.PromptTokens))
	case vllm.MetricGenerationTokens:
		e.sample(n, float64(st.GenerationTokens))
	case vllm.MetricPromptBySource:
		e.sample(n, float64(st.PromptTokens-st.CachedTokens), vllm.Label{Name: "source", Value: "local_compute"})
		e.sample(n, float64(st.CachedTokens), vllm.Label{Name: "source", Value: "local_cache_hit"})
		e.sample(n, 0, vllm.Label{Name: "source", Value: "external_kv_transfer"})
	case vllm.MetricPromptCached:
		e.sample(n, float64(st.CachedTokens))
	case vllm.MetricSuccess:
		for _, r := range []engine.FinishReason{engine.FinishStop, engine.FinishLength, engine.FinishAbort} {
			e.sample(n, float64(finished[r]), vllm.Label{Name: "finished_reason", Value: r.String()})
		}
	case vllm.MetricSpecDrafts:
		e.sample(n, float64(st.Drafts))
	case vllm.MetricSpecDraftTokens:
		e.sample(n, float64(st.DraftTokens))
	case vllm.MetricSpecAccepted:
		e.sample(n, float64(st.AcceptedTokens))
	case vllm.MetricSpecAcceptedPerPos:
		for i, x := range st.AcceptedPerPosition {
			e.sample(n, float64(x), vllm.Label{Name: "position", Value: strconv.Itoa(i)})
		}
	case vllm.MetricCacheConfig:
		e.line(n, 1, vllm.CacheConfigLabels(c, blocks, replica))
	default:
		e.sample(n, 0)
	}
}

func (e *exposition) createdSamples(f vllm.MetricFamily, name string, st engine.Stats) {
	at := float64(e.created.UnixNano()) / 1e9
	switch f.Name {
	case vllm.MetricSuccess:
		for _, r := range []engine.FinishReason{engine.FinishStop, engine.FinishLength, engine.FinishAbort} {
			e.sample(name, at, vllm.Label{Name: "finished_reason", Value: r.String()})
		}
	case vllm.MetricPromptBySource:
		for _, s := range []string{"local_compute", "local_cache_hit", "external_kv_transfer"} {
			e.sample(name, at, vllm.Label{Name: "source", Value: s})
		}
	case vllm.MetricSpecAcceptedPerPos:
		for i := range st.AcceptedPerPosition {
			e.sample(name, at, vllm.Label{Name: "position", Value: strconv.Itoa(i)})
		}
	default:
		e.sample(name, at)
	}
}

// exposeHTTP writes the families of the HTTP layer.
func (m *meter) exposeHTTP(e *exposition) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e.base = nil
	keys := make([]httpKey, 0, len(m.requests))
	for k := range m.requests {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b httpKey) int {
		return strings.Compare(a.handler+a.method+a.status, b.handler+b.method+b.status)
	})
	label := func(name, value string) vllm.Label { return vllm.Label{Name: name, Value: value} }
	for _, f := range m.http {
		if f.Type == vllm.Histogram && f.Name == vllm.MetricHTTPDurationHighR {
			e.histogram(f, m.highR)
			continue
		}
		e.head(f.Wire(), string(f.Type), f.Help)
		for _, k := range keys {
			c := m.requests[k]
			switch f.Name {
			case vllm.MetricHTTPRequests:
				e.sample(f.Wire(), float64(c.n), label("handler", k.handler), label("method", k.method), label("status", k.status))
			case vllm.MetricHTTPRequestSize:
				e.sample(f.Name+"_count", float64(c.n), label("handler", k.handler))
				e.sample(f.Name+"_sum", float64(c.inBytes), label("handler", k.handler))
			case vllm.MetricHTTPResponseSize:
				e.sample(f.Name+"_count", float64(c.n), label("handler", k.handler))
				e.sample(f.Name+"_sum", float64(c.outBytes), label("handler", k.handler))
			case vllm.MetricHTTPDuration:
				e.buckets(f.Name, c.low, label("handler", k.handler), label("method", k.method))
			}
		}
	}
}

// own writes the mock's families, under its own prefix.
func (e *exposition) own(l *lateness, st engine.Stats, streams int64) {
	h := &histogram{bounds: latenessBuckets[:], counts: make([]int64, len(latenessBuckets)+1)}
	for i := range l.buckets {
		h.counts[i] = l.buckets[i].Load()
		h.n += h.counts[i]
	}
	h.sum = float64(l.sumNS.Load()) / 1e9
	const name = "glm46_mock_token_lateness_seconds"
	e.head(name, "histogram", "How much later than due a token was handed to the kernel, in wall time.")
	e.buckets(name, h)
	gauge := func(name, help string, x float64) {
		e.head(name, "gauge", help)
		e.sample(name, x)
	}
	gauge("glm46_mock_token_lateness_max_seconds", "The latest token since start, in wall time.", float64(l.maxNS.Load())/1e9)
	gauge("glm46_mock_streams", "Requests for text that are open.", float64(streams))
	gauge("glm46_mock_front_end_requests", "Requests in the simulated tokenizer or event loop.", float64(st.FrontEnd))
	e.head("glm46_mock_steps_total", "counter", "Engine steps since start.")
	e.sample("glm46_mock_steps_total", float64(st.Steps))
}

// exposition is Prometheus text as Python's client writes it: labels sorted by
// name, floats with a fraction.
type exposition struct {
	b       []byte
	base    []vllm.Label
	created time.Time
	labels  []vllm.Label
}

func (e *exposition) head(name, typ, help string) {
	e.b = append(e.b, "# HELP "+name+" "+strings.NewReplacer(`\`, `\\`, "\n", `\n`).Replace(help)+"\n# TYPE "+name+" "+typ+"\n"...)
}

func (e *exposition) sample(name string, x float64, extra ...vllm.Label) {
	e.labels = append(append(e.labels[:0], e.base...), extra...)
	e.line(name, x, e.labels)
}

func (e *exposition) line(name string, x float64, labels []vllm.Label) {
	e.b = append(e.b, name...)
	if len(labels) > 0 {
		slices.SortFunc(labels, func(a, b vllm.Label) int { return strings.Compare(a.Name, b.Name) })
		for i, l := range labels {
			sep := byte(',')
			if i == 0 {
				sep = '{'
			}
			e.b = append(e.b, sep)
			e.b = append(e.b, l.Name...)
			e.b = append(e.b, '=', '"')
			e.b = append(e.b, labelEscapes.Replace(l.Value)...)
			e.b = append(e.b, '"')
		}
		e.b = append(e.b, '}')
	}
	e.b = append(e.b, ' ')
	e.b = appendPyFloat(e.b, x)
	e.b = append(e.b, '\n')
}

var labelEscapes = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)

func (e *exposition) histogram(f vllm.MetricFamily, h *histogram) {
	e.head(f.Name, "histogram", f.Help)
	e.buckets(f.Name, h)
	e.head(f.Created(), "gauge", f.Help)
	e.sample(f.Created(), float64(e.created.UnixNano())/1e9)
}

func (e *exposition) buckets(name string, h *histogram, extra ...vllm.Label) {
	total := int64(0)
	for i, n := range h.counts {
		total += n
		le := "+Inf"
		if i < len(h.bounds) {
			le = string(appendPyFloat(nil, h.bounds[i]))
		}
		e.sample(name+"_bucket", float64(total), append(extra[:len(extra):len(extra)], vllm.Label{Name: "le", Value: le})...)
	}
	e.sample(name+"_count", float64(h.n), extra...)
	e.sample(name+"_sum", h.sum, extra...)
}

// appendPyFloat writes a number as Python's Prometheus client does: repr(), but
// with an exponent from a million on.
//
// Source: prometheus_client, utils.floatToGoString.
func appendPyFloat(dst []byte, x float64) []byte {
	abs := max(x, -x)
	if abs >= 1e6 {
		s := strconv.FormatFloat(x, 'e', -1, 64)
		return append(dst, s...)
	}
	if abs != 0 && abs < 1e-4 {
		return strconv.AppendFloat(dst, x, 'e', -1, 64)
	}
	n := len(dst)
	dst = strconv.AppendFloat(dst, x, 'f', -1, 64)
	if !slices.Contains(dst[n:], '.') {
		dst = append(dst, ".0"...)
	}
	return dst
}

const metricsContentType = "text/plain; version=0.0.4; charset=utf-8"

func (m *Mock) serveMetrics(x *exchange) {
	st, ok := m.stats()
	if !ok {
		x.plain(http.StatusServiceUnavailable, nil)
		return
	}
	x.w.Header().Set("Content-Type", metricsContentType)
	x.plain(http.StatusOK, m.meter.expose(m.cfg, st, m.blocks, &m.late, m.streams.Load()))
}
