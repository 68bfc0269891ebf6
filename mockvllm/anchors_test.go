package mockvllm

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestShareGPTAnchor is the second row of docs/timing-model.md, "Anchors": the
// published run at concurrency 4. The lengths there are a guess, drawn here with
// seeds of our own, so the model's figures come back within a few per cent; the
// tolerances are four standard errors over seeds.
func TestShareGPTAnchor(t *testing.T) {
	m := glmModel(t)
	const seeds, n = 5, 400
	var tpot, ttft, itl, throughput []float64
	prompts, outputs := 0.0, 0.0
	for seed := range uint64(seeds) {
		rng := rand.New(rand.NewPCG(seed, 7))
		draw := func(median, sigma float64) int {
			for {
				if x := math.Round(median * math.Exp(sigma*rng.NormFloat64())); x >= 4 && x <= 1024 {
					return int(x)
				}
			}
		}
		reqs := make([]VirtualRequest, n)
		for i := range reqs {
			p, o := draw(207, 2), draw(155, 1.1)
			prompts, outputs = prompts+float64(p), outputs+float64(o)
			reqs[i] = VirtualRequest{PromptTokens: p + 6, OutputTokens: o}
		}
		res := runModel(t, m, VirtualRun{Requests: reqs, MaxConcurrency: 4})
		tokens, last := 0, 0.0
		gaps, gapSum := n, 0.0 // the role chunk adds a gap of 0 a request
		for i := range n {
			x := res.Times(i)
			ttft = append(ttft, us(x.FirstDue-x.Arrived)/1e3)
			if x.OutputTokens > 1 {
				tpot = append(tpot, us(x.LastDue-x.FirstDue)/1e3/float64(x.OutputTokens-1))
			}
			tokens += x.OutputTokens
			last = max(last, x.LastDue.Seconds())
		}
		for _, g := range res.Gaps() {
			gaps += g.Count
			gapSum += us(g.Length) / 1e3 * float64(g.Count)
		}
		itl = append(itl, gapSum/float64(gaps))
		throughput = append(throughput, float64(tokens)/last)
	}
	t.Logf("mean lengths %.0f and %.0f", prompts/seeds/n, outputs/seeds/n)
	for _, c := range []struct {
		name                 string
		got, want, tolerance float64
	}{
		{"TPOT mean ms", mean(tpot), 18.11, 0.01},
		{"TPOT median ms", median(tpot), 18.08, 0.01},
		{"ITL mean ms", mean(itl), 18.01, 0.01},
		{"TTFT mean ms", mean(ttft), 63.73, 0.06},
		{"TTFT median ms", median(ttft), 60.56, 0.06},
		{"output tok/s", mean(throughput), 214.96, 0.02},
	} {
		t.Logf("%s: %.2f, model %.2f", c.name, c.got, c.want)
		if math.Abs(c.got/c.want-1) > c.tolerance {
			t.Errorf("%s: %.3f, want %.2f +-%.0f %%", c.name, c.got, c.want, 100*c.tolerance)
		}
	}
}

func mean(v []float64) float64 {
	sum := 0.0
	for _, x := range v {
		sum += x
	}
	return sum / float64(len(v))
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}
