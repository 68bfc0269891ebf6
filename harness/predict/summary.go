package predict

import (
	"slices"
	"time"

	"github.com/glm46/glm46/mockvllm"
)

// Triple is a distribution in milliseconds. Percentiles interpolate linearly, as
// numpy does by default. All are 0 where there are no values.
type Triple struct{ MeanMs, MedianMs, P99Ms float64 }

// Summary holds the metrics of a virtual run.
//
// Source: docs/metrics.md: TTFT, TPOT, E2E from the sending of a request, ITL
// the pooled gaps between its chunks, the role chunk left out.
type Summary struct {
	TTFT, TPOT, ITL, E2EL Triple
	// TPS is the mean over requests of output tokens / E2E, tokens/s.
	TPS float64
	// DurationSeconds is from the first send to the last chunk.
	DurationSeconds                   float64
	OutputThroughput, TotalThroughput float64 // tokens/s
	Preemptions, Steps                int64
	// LongestE2E of a request.
	LongestE2E time.Duration
}

// Summarize computes the metrics of a virtual run.
func Summarize(r *mockvllm.VirtualResult) Summary {
	var s Summary
	var ttft, tpot, e2el []weighted
	var prompt, output int
	first, last := time.Duration(-1), time.Duration(0)
	for i := range r.Len() {
		t := r.Times(i)
		e2e := t.LastDue - t.Arrived
		ttft = append(ttft, weighted{ms(t.FirstDue - t.Arrived), 1})
		e2el = append(e2el, weighted{ms(e2e), 1})
		if t.OutputTokens > 1 {
			tpot = append(tpot, weighted{ms(t.LastDue-t.FirstDue) / float64(t.OutputTokens-1), 1})
		}
		if e2e > 0 {
			s.TPS += float64(t.OutputTokens) / e2e.Seconds()
		}
		prompt += t.PromptTokens
		output += t.OutputTokens
		if first < 0 || t.Arrived < first {
			first = t.Arrived
		}
		last = max(last, t.LastDue)
		s.LongestE2E = max(s.LongestE2E, e2e)
	}
	gaps := r.Gaps()
	itl := make([]weighted, len(gaps))
	for i, g := range gaps {
		itl[i] = weighted{ms(g.Length), g.Count}
	}
	s.TTFT, s.TPOT, s.ITL, s.E2EL = triple(ttft), triple(tpot), triple(itl), triple(e2el)
	if n := r.Len(); n > 0 {
		s.TPS /= float64(n)
		s.DurationSeconds = (last - first).Seconds()
	}
	if s.DurationSeconds > 0 {
		s.OutputThroughput = float64(output) / s.DurationSeconds
		s.TotalThroughput = float64(prompt+output) / s.DurationSeconds
	}
	s.Preemptions, s.Steps = r.Stats.Preemptions, r.Stats.Steps
	return s
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// weighted is a value that occurs n times.
type weighted struct {
	value float64
	n     int
}

func triple(values []weighted) Triple {
	if len(values) == 0 {
		return Triple{}
	}
	slices.SortFunc(values, func(a, b weighted) int {
		switch {
		case a.value < b.value:
			return -1
		case a.value > b.value:
			return 1
		}
		return 0
	})
	var sum float64
	count := 0
	for _, v := range values {
		sum += v.value * float64(v.n)
		count += v.n
	}
	return Triple{sum / float64(count), percentile(values, count, 0.5), percentile(values, count, 0.99)}
}

// percentile of sorted values that occur count times in all.
func percentile(sorted []weighted, count int, q float64) float64 {
	rank := q * float64(count-1)
	low := int(rank)
	a := valueAt(sorted, low)
	b := valueAt(sorted, min(low+1, count-1))
	return a + (b-a)*(rank-float64(low))
}

// valueAt gives the value of a rank, from 0.
func valueAt(sorted []weighted, rank int) float64 {
	for _, v := range sorted {
		if rank < v.n {
			return v.value
		}
		rank -= v.n
	}
	return sorted[len(sorted)-1].value
}
