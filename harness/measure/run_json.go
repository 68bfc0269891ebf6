package measure

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/tidwall/gjson"
)

// stems are the distributions of a level by JSON stem: vLLM's own first.
func (m *Metrics) stems() []struct {
	stem string
	d    *Distribution
} {
	return []struct {
		stem string
		d    *Distribution
	}{
		{"ttft", &m.TTFT},
		{"tpot", &m.TPOT},
		{"itl", &m.ITL},
		{"e2el", &m.E2EL},
		{"client_queue_time", &m.ClientQueueTime},
		{"e2el_including_client_queue", &m.E2ELIncludingClientQueue},
		{"ttft_from_schedule", &m.TTFTFromSchedule},
		{"ttfc", &m.TTFC},
		{"itl_token", &m.ITLToken},
		{"tps", &m.TPS},
	}
}

// parts of a distribution by the prefix of its flat keys.
func (d *Distribution) parts() []struct {
	prefix string
	v      *float64
} {
	return []struct {
		prefix string
		v      *float64
	}{
		{"mean", &d.Mean}, {"median", &d.Median}, {"std", &d.Std},
		{"p50", &d.P50}, {"p90", &d.P90}, {"p95", &d.P95}, {"p99", &d.P99}, {"p99.9", &d.P999},
	}
}

// figure is one flat number of run.json.
type figure struct {
	key string
	f   *float64
	i   *int
	n   *int64
}

// figures are the flat keys that are plain numbers.
func (m *Metrics) figures() []figure {
	return []figure{
		{key: "duration", f: &m.DurationSeconds},
		{key: "completed", i: &m.Completed},
		{key: "failed", i: &m.Failed},
		{key: "total_input_tokens", n: &m.PromptTokens},
		{key: "total_output_tokens", n: &m.CompletionTokens},
		{key: "request_throughput", f: &m.RequestThroughput},
		{key: "output_throughput", f: &m.OutputThroughput},
		{key: "total_token_throughput", f: &m.TotalTokenThroughput},
		{key: "max_output_tokens_per_s", f: &m.MaxOutputTokensPerSecond},
		{key: "max_concurrent_requests", i: &m.MaxConcurrentRequests},
		{key: "steady_output_throughput", f: &m.SteadyOutputThroughput},
		{key: "tokens_per_event", f: &m.TokensPerEvent},
		{key: "latency", f: &m.LatencySeconds},
		{key: "requests", i: &m.Requests},
		{key: "cancelled", i: &m.Cancelled},
		{key: "length_forced", i: &m.LengthForced},
		{key: "length_mismatches", i: &m.LengthMismatches},
		{key: "token_events", n: &m.TokenEvents},
		{key: "events_per_s", f: &m.EventsPerSecond},
	}
}

// arrays are vLLM's per-request arrays. Generated texts are not kept; the key
// holds empty strings, as many as there are requests.
func (m *Metrics) arrayFields() []struct {
	key string
	v   any
} {
	a := &m.Arrays
	return []struct {
		key string
		v   any
	}{
		{"input_lens", &a.InputLens}, {"output_lens", &a.OutputLens}, {"ttfts", &a.TTFTs}, {"itls", &a.ITLs},
		{"latencies", &a.Latencies}, {"start_times", &a.StartTimes}, {"queue_times", &a.QueueTimes}, {"errors", &a.Errors},
	}
}

// plainRun has RunJSON's fields without its methods.
type plainRun RunJSON

// MarshalJSON writes the flat keys between vLLM's identity and our objects.
func (r *RunJSON) MarshalJSON() ([]byte, error) {
	whole, err := json.Marshal((*plainRun)(r))
	if err != nil {
		return nil, fmt.Errorf("run.json: %w", err)
	}
	// The key is ours and stands unescaped once: a string value that holds it has
	// its quotes escaped.
	at := bytes.Index(whole, []byte(`"glm46_schema_version":`))
	flat, err := r.flat()
	if err != nil {
		return nil, fmt.Errorf("run.json: %w", err)
	}
	out := make([]byte, 0, len(whole)+len(flat))
	out = append(out, whole[:at]...)
	out = append(out, flat...)
	return append(out, whole[at:]...), nil
}

// flat are the keys made of Metrics, each with a comma behind it.
func (r *RunJSON) flat() ([]byte, error) {
	m := &r.Metrics
	var b []byte
	number := func(key string, v float64) {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			v = 0 // vLLM's empty mean
		}
		b = strconv.AppendQuote(b, key)
		b = append(b, ':')
		text, _ := json.Marshal(v)
		b = append(append(b, text...), ',')
	}
	value := func(key string, v any) error {
		text, err := json.Marshal(v)
		b = strconv.AppendQuote(b, key)
		b = append(append(append(b, ':'), text...), ',')
		return err
	}
	for _, f := range m.figures() {
		switch {
		case f.f != nil:
			number(f.key, *f.f)
		case f.i != nil:
			number(f.key, float64(*f.i))
		default:
			b = append(strconv.AppendInt(append(strconv.AppendQuote(b, f.key), ':'), *f.n, 10), ',')
		}
	}
	if err := value("request_goodput", m.RequestGoodput); err != nil {
		return nil, err
	}
	number("rtfx", 0) // vLLM's real-time factor of audio
	for _, s := range m.stems() {
		for _, p := range s.d.parts() {
			number(p.prefix+"_"+s.stem+unit(s.stem), *p.v)
		}
	}
	number("tps", m.TPS.Mean)
	if s := r.SpecDecode; s != nil {
		number("spec_decode_acceptance_rate", 100*s.AcceptanceRate)
		number("spec_decode_acceptance_length", s.AcceptanceLength)
		number("spec_decode_num_drafts", s.Drafts)
		number("spec_decode_draft_tokens", s.DraftTokens)
		number("spec_decode_accepted_tokens", s.AcceptedTokens)
		shares := s.PerPositionShares
		if shares == nil {
			shares = []float64{}
		}
		if err := value("spec_decode_per_position_acceptance_rates", shares); err != nil {
			return nil, err
		}
	}
	for _, a := range m.arrayFields() {
		if err := value(a.key, a.v); err != nil {
			return nil, err
		}
	}
	return b, value("generated_texts", make([]string, len(m.Arrays.InputLens)))
}

// UnmarshalJSON reads what MarshalJSON wrote; keys that it does not know are
// ignored, absent ones leave zeros.
func (r *RunJSON) UnmarshalJSON(b []byte) error { return r.unmarshal(b, true) }

// ParseRun reads a run.json but for its arrays of single requests: they are most
// of the file, and only vLLM's own readers want them.
func ParseRun(b []byte) (RunJSON, error) {
	var r RunJSON
	return r, r.unmarshal(b, false)
}

func (r *RunJSON) unmarshal(b []byte, arrays bool) error {
	*r = RunJSON{}
	if !gjson.ValidBytes(b) || !gjson.ParseBytes(b).IsObject() {
		var object map[string]json.RawMessage
		return fmt.Errorf("run.json: %w", cmp.Or(json.Unmarshal(b, &object), errors.New("not an object")))
	}
	m := &r.Metrics
	large := map[string]bool{"generated_texts": true}
	for _, a := range m.arrayFields() {
		large[a.key] = true
	}
	// Objects are decoded from a copy without the arrays.
	flat := map[string]string{}
	small := []byte{'{'}
	gjson.ParseBytes(b).ForEach(func(key, value gjson.Result) bool {
		flat[key.Str] = value.Raw
		if !large[key.Str] {
			if len(small) > 1 {
				small = append(small, ',')
			}
			small = append(append(append(small, key.Raw...), ':'), value.Raw...)
		}
		return true
	})
	if err := json.Unmarshal(append(small, '}'), (*plainRun)(r)); err != nil {
		return fmt.Errorf("run.json: %w", err)
	}
	var fault error
	read := func(key string, v any) {
		raw, ok := flat[key]
		if !ok || raw == "null" {
			return
		}
		if err := json.Unmarshal([]byte(raw), v); err != nil && fault == nil {
			fault = fmt.Errorf("run.json: %s: %w", key, err)
		}
	}
	for _, f := range m.figures() {
		switch {
		case f.f != nil:
			read(f.key, f.f)
		case f.i != nil:
			read(f.key, f.i)
		default:
			read(f.key, f.n)
		}
	}
	read("request_goodput", &m.RequestGoodput)
	if arrays {
		for _, a := range m.arrayFields() {
			read(a.key, a.v)
		}
	}
	for _, s := range m.stems() {
		for _, p := range s.d.parts() {
			read(p.prefix+"_"+s.stem+unit(s.stem), p.v)
		}
	}
	r.restore()
	return fault
}

// restore fills what Metrics shares with our objects.
func (r *RunJSON) restore() {
	m := &r.Metrics
	m.Segments = 1
	if r.Window != nil {
		m.Window = *r.Window
	}
	if r.Failures != nil {
		m.FailuresByClass, m.FailureExamples = r.Failures.ByClass, r.Failures.Examples
	}
	m.FinishReasons = r.FinishReasons
	if r.Tokens != nil {
		m.All, m.CachedTokens = r.Tokens.Client, r.Tokens.CachedTokens
	}
	if r.Client != nil {
		m.SendLagP50MS, m.SendLagP99MS = r.Client.SendLagP50MS, r.Client.SendLagP99MS
	}
	if r.Stats == nil {
		return
	}
	m.TooFew = r.Stats.TooFew
	for _, s := range m.stems() {
		block := r.Stats.Metrics[s.stem]
		s.d.N, s.d.Min, s.d.Max, s.d.SampleStd = block.N, block.Min, block.Max, block.SampleStd
		s.d.MeanLow, s.d.MeanHigh, s.d.Method = block.MeanLow, block.MeanHigh, block.Method
		s.d.MedianLow, s.d.MedianHigh = block.MedianLow, block.MedianHigh
	}
}

// SetMetrics fills the flat keys and the objects that follow from records.
func (r *RunJSON) SetMetrics(m *Metrics) {
	r.Metrics = *m
	window := m.Window
	r.Window = &window
	r.FinishReasons = m.FinishReasons
	r.Failures = &Failures{ByClass: m.FailuresByClass, Examples: m.FailureExamples}
	if m.TTFC.N > 0 {
		r.FirstContent = &FirstContent{Mean: m.TTFC.Mean, P50: m.TTFC.P50, P99: m.TTFC.P99}
	}
	r.Stats = &StatsInfo{NStarts: 1, NRuns: 1, TooFew: m.TooFew, Metrics: map[string]StatBlock{}}
	for _, s := range r.Metrics.stems() {
		r.Stats.Metrics[s.stem] = StatBlock{
			N: s.d.N, Min: s.d.Min, Max: s.d.Max, SampleStd: s.d.SampleStd,
			MeanLow: s.d.MeanLow, MeanHigh: s.d.MeanHigh, Method: s.d.Method,
			MedianLow: s.d.MedianLow, MedianHigh: s.d.MedianHigh,
		}
	}
	if r.Stats.TooFew == nil {
		r.Stats.TooFew = []string{}
	}
}
