package measure

import (
	"fmt"
	"io"
	"strconv"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/glm46/glm46/mockvllm/vllm"
)

// MetricMockLate is the mock's own histogram of how late tokens were written,
// in seconds of wall time.
const MetricMockLate = "glm46_mock_token_lateness_seconds"

// maxMetricsBytes bounds a page of /metrics; vLLM's has some 100 kB.
const maxMetricsBytes = 16 << 20

// Names of what Counters.Has tells.
const (
	HasRunning     = "running"
	HasWaiting     = "waiting"
	HasKVUsage     = "kv_usage"
	HasPrompt      = "prompt_tokens"
	HasGeneration  = "generation_tokens"
	HasSuccess     = "success"
	HasPreemptions = "preemptions"
	HasPrefix      = "prefix"
	HasSpec        = "spec_decode"
)

// ParseCounters reads a page in Prometheus's text format. Families that it does
// not know are left alone; a page without any of vLLM's gives empty Counters.
func ParseCounters(r io.Reader, at time.Duration) (*Counters, error) {
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(io.LimitReader(r, maxMetricsBytes))
	if err != nil {
		return nil, fmt.Errorf("/metrics: %w", err)
	}
	c := &Counters{At: at, Has: map[string]bool{}}
	// A counter is served with _total, and parsed under that name where the
	// page's TYPE line has it; old names come second.
	sum := func(has string, names ...string) float64 {
		for _, name := range names {
			for _, suffix := range []string{"", "_total"} {
				if f := families[name+suffix]; f != nil {
					c.Has[has] = true
					return total(f)
				}
			}
		}
		return 0
	}
	c.Running = sum(HasRunning, vllm.MetricRunning)
	c.Waiting = sum(HasWaiting, vllm.MetricWaiting)
	c.PromptTokens = sum(HasPrompt, vllm.MetricPromptTokens)
	c.GenerationTokens = sum(HasGeneration, vllm.MetricGenerationTokens)
	c.Preemptions = sum(HasPreemptions, vllm.MetricPreemptions)
	c.PrefixQueries = sum(HasPrefix, vllm.MetricPrefixQueries, vllm.MetricPrefixQueriesOld)
	c.PrefixHits = sum(HasPrefix, vllm.MetricPrefixHits, vllm.MetricPrefixHitsOld)
	c.SpecDrafts = sum(HasSpec, vllm.MetricSpecDrafts)
	c.SpecDraftTokens = sum(HasSpec, vllm.MetricSpecDraftTokens)
	c.SpecAccepted = sum(HasSpec, vllm.MetricSpecAccepted)
	for _, name := range []string{vllm.MetricKVUsage, vllm.MetricKVUsageOld} {
		if f := families[name]; f != nil && !c.Has[HasKVUsage] {
			c.Has[HasKVUsage] = true
			// Each engine of a data-parallel server has its own cache: the fullest counts.
			for _, m := range f.Metric {
				c.KVUsage = max(c.KVUsage, value(m))
			}
		}
	}
	for _, suffix := range []string{"", "_total"} {
		if f := families[vllm.MetricSuccess+suffix]; f != nil {
			c.Has[HasSuccess] = true
			c.Success = map[string]float64{}
			for _, m := range f.Metric {
				c.Success[label(m, "finished_reason")] += value(m)
			}
		}
		if f := families[vllm.MetricSpecAcceptedPerPos+suffix]; f != nil {
			c.SpecPerPosition = perPosition(f)
		}
	}
	if f := families[vllm.MetricWaitingByReason]; f != nil {
		full := 0.0
		for _, m := range f.Metric {
			if label(m, "reason") == "capacity" {
				full += value(m)
			}
		}
		c.WaitingFull = &full
	}
	if f := families[MetricMockLate]; f != nil && len(f.Metric) > 0 && f.Metric[0].Histogram != nil {
		c.MockLate = &Buckets{}
		for _, b := range f.Metric[0].Histogram.Bucket {
			c.MockLate.Bounds = append(c.MockLate.Bounds, b.GetUpperBound())
			c.MockLate.Counts = append(c.MockLate.Counts, float64(b.GetCumulativeCount()))
		}
	}
	if f := families[vllm.MetricCacheConfig]; f != nil && len(f.Metric) > 0 {
		c.CacheConfig = map[string]string{}
		for _, l := range f.Metric[0].Label {
			c.CacheConfig[l.GetName()] = l.GetValue()
		}
	}
	return c, nil
}

func total(f *dto.MetricFamily) float64 {
	sum := 0.0
	for _, m := range f.Metric {
		sum += value(m)
	}
	return sum
}

func value(m *dto.Metric) float64 {
	switch {
	case m.Counter != nil:
		return m.Counter.GetValue()
	case m.Gauge != nil:
		return m.Gauge.GetValue()
	case m.Untyped != nil:
		return m.Untyped.GetValue()
	}
	return 0
}

func label(m *dto.Metric, name string) string {
	for _, l := range m.Label {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

// perPosition sums accepted tokens by draft position, 0 first.
func perPosition(f *dto.MetricFamily) []float64 {
	const most = 64 // no draft is longer
	var out []float64
	for _, m := range f.Metric {
		i, err := strconv.Atoi(label(m, "position"))
		if err != nil || i < 0 || i >= most {
			continue
		}
		for i >= len(out) {
			out = append(out, 0)
		}
		out[i] += value(m)
	}
	return out
}

// SuccessTotal is the number of requests that the server counts as finished,
// aborted ones left out.
func (c *Counters) SuccessTotal() float64 {
	sum := 0.0
	for reason, n := range c.Success {
		if reason != "abort" {
			sum += n
		}
	}
	return sum
}

// Aborted is the number of requests that the server counts as aborted.
func (c *Counters) Aborted() float64 { return c.Success["abort"] }

// SpecDecodeBetween is speculation between two moments; nil where the server
// does not speculate or drafted nothing.
func SpecDecodeBetween(before, after *Counters) *SpecDecodeInfo {
	if before == nil || after == nil || !after.Has[HasSpec] {
		return nil
	}
	s := &SpecDecodeInfo{
		Drafts:         after.SpecDrafts - before.SpecDrafts,
		DraftTokens:    after.SpecDraftTokens - before.SpecDraftTokens,
		AcceptedTokens: after.SpecAccepted - before.SpecAccepted,
	}
	if s.Drafts <= 0 {
		return nil
	}
	if s.DraftTokens > 0 {
		s.AcceptanceRate = s.AcceptedTokens / s.DraftTokens
	}
	s.AcceptanceLength = 1 + s.AcceptedTokens/s.Drafts
	for i, n := range after.SpecPerPosition {
		if i < len(before.SpecPerPosition) {
			n -= before.SpecPerPosition[i]
		}
		s.PerPositionShares = append(s.PerPositionShares, n/s.Drafts)
	}
	return s
}
