package model

import (
	"math"
	"time"

	"github.com/glm46/glm46/mockvllm/engine"
)

// Step is the duration of a step.
//
// Source: docs/timing-model.md, step duration.
func (m *Model) Step(s *engine.StepShape) time.Duration {
	us := m.Detail(s).StepMicroseconds
	if m.sigma > 0 {
		us *= math.Exp(m.sigma * normal(m.opt.Seed, uint64(s.Index)))
	}
	return microseconds(us)
}

// StepDetail is where the time of a step goes, in microseconds.
type StepDetail struct {
	GPUMicroseconds, FloorMicroseconds, HostMicroseconds, StepMicroseconds float64
}

// Detail explains a step, without noise.
func (m *Model) Detail(s *engine.StepShape) StepDetail {
	if len(s.Chunks) > 0 {
		c := m.cost(s)
		return m.assemble(s, c, m.decodeAttention(s)+m.chunkAttention(s.Chunks))
	}
	key := memoKey{s.Decodes, s.DecodeTokens, s.LogitRows, s.Sampled, s.OtherTokens, s.UniformDecode, s.Sampling}
	if key != m.memo {
		m.memo, m.memoCost = key, m.cost(s)
	}
	return m.assemble(s, m.memoCost, m.decodeAttention(s))
}

// memoKey is what the cost of a step without prefill depends on, but for the
// context: batches that decode step after step are priced once.
type memoKey struct {
	decodes, tokens, rows, sampled, others int
	uniform                                bool
	sampling                               engine.Sampling
}

// decodeCost is the part of a step that does not depend on contexts.
type decodeCost struct {
	layer float64 // a layer without attention
	rest  float64 // everything outside of the layers' common part
	floor float64
}

// cost prices all of a step but attention and the ngram proposer.
func (m *Model) cost(s *engine.StepShape) decodeCost {
	p := m.profile
	t := s.DecodeTokens
	for _, c := range s.Chunks {
		t += c.Tokens
	}
	x, launch := m.padding(t, s)
	experts := float64(p.Shape.Layers - p.Shape.DenseLayers)
	c := decodeCost{
		layer: m.dense(float64(x)) + p.AllReduce.PerLayer*m.reduce.at(float64(x)),
		rest: experts*m.moe.at(float64(t+s.OtherTokens)) -
			float64(p.Shape.DenseLayers)*(p.Dense.DenseLayerSaving+p.Dense.DenseLayerSavingPerToken*float64(x)) +
			m.head(float64(s.LogitRows)) + m.sample(s.Sampling, float64(s.LogitRows)),
		floor: float64(p.Shape.Layers) * launch,
	}
	if m.cfg.Spec != nil && m.cfg.Spec.Method == engine.SpecMTP && s.Sampled > 0 {
		k := float64(m.cfg.Spec.NumSpeculativeTokens)
		c.rest += k * m.draft(float64(s.Sampled))
		c.floor += k * launch
	}
	return c
}

// padding gives the tokens a step runs with and its launch floor per layer.
func (m *Model) padding(t int, s *engine.StepShape) (x int, launch float64) {
	l := m.profile.Launch
	switch {
	case m.eager:
		return t, l.Eager
	case t >= len(m.padded):
		return t, l.Uncaptured
	case s.UniformDecode && m.cfg.CUDAGraphMode != "PIECEWISE":
		return m.padded[t], l.FullGraph
	}
	return m.padded[t], l.Piecewise
}

func (m *Model) dense(x float64) float64 {
	d := m.profile.Dense
	if x > float64(d.SmallLimitTokens) {
		return d.Scale * d.Table.at(x)
	}
	us := d.SmallBase + d.SmallPerToken*x
	if x > 1 {
		us += d.SmallBatch
	}
	return d.Scale * us
}

func (m *Model) decodeAttention(s *engine.StepShape) float64 {
	if s.Decodes == 0 {
		return 0
	}
	a := m.profile.Attention.Decode.of(m.fp8)
	mean := float64(s.ContextTokens) / float64(s.Decodes)
	us := a.Base + m.kvBytes*float64(s.ContextTokens)/a.KVBytesPerUS
	if mean > a.Log2FromTokens {
		us += a.Log2 * math.Log2(mean/a.Log2FromTokens)
	}
	return us
}

func (m *Model) chunkAttention(chunks []engine.Chunk) float64 {
	a, s := m.profile.Attention, m.profile.Shape
	// Two matrix products, a multiplication and an addition each.
	flops := 4 * float64(s.QueryHeads) / float64(s.TensorParallelSize) * float64(s.HeadDim)
	var tokens, us float64
	for _, c := range chunks {
		q, before := float64(c.Tokens), float64(c.Computed)
		tokens += q
		us += flops * (q*before + q*(q+1)/2) / (a.PrefillTFLOPS.capped(q) * 1e6)
	}
	return us + a.PrefillBase + a.PrefillRamp*min(1, tokens/a.PrefillRampTokens)
}

func (m *Model) head(rows float64) float64 {
	h := m.profile.Head
	return max(h.Base+h.PerRow*rows, h.LeastPerRow*rows) + h.GatherPerRow*rows
}

func (m *Model) sample(kind engine.Sampling, rows float64) float64 {
	s := m.profile.Sampling
	cost := [...]PerRow{engine.SampleGreedy: s.Greedy, engine.SampleTemperature: s.Temperature, engine.SampleTopP: s.TopP}[kind]
	return cost.Base + cost.PerRow*rows
}

// draft is one token of the multi-token-prediction layer for r requests.
func (m *Model) draft(r float64) float64 {
	s := m.profile.Speculation
	return m.dense(r) + s.MTPAttention + m.profile.AllReduce.PerLayer*m.reduce.at(r) + m.moe.at(r) +
		s.MTPHead + s.MTPHeadPerRow*r + s.MTPSample
}

// assemble puts GPU, launch floor and host together.
func (m *Model) assemble(s *engine.StepShape, c decodeCost, attention float64) StepDetail {
	h := m.profile.Host
	d := StepDetail{
		GPUMicroseconds:   float64(m.profile.Shape.Layers)*(c.layer+attention) + c.rest,
		FloorMicroseconds: c.floor,
		HostMicroseconds:  h.Step + h.PerRequest*float64(s.Decodes+len(s.Chunks)),
	}
	if m.cfg.Spec != nil && m.cfg.Spec.Method == engine.SpecNGram {
		sp := m.profile.Speculation
		d.HostMicroseconds += sp.NGramPerRequest*float64(s.Sampled) + sp.NGramPerContextToken*float64(s.ProposerContextTokens)
	}
	exec := max(d.GPUMicroseconds, d.FloorMicroseconds)
	if m.cfg.AsyncScheduling {
		d.StepMicroseconds = max(exec, d.HostMicroseconds) + h.AsyncStep
	} else {
		d.StepMicroseconds = exec + d.HostMicroseconds
	}
	return d
}

// normal draws N(0,1) for step i of a seed (Box and Muller 1958, with the
// finaliser of SplitMix64 as the source).
func normal(seed, i uint64) float64 {
	u := unit(mix(seed ^ mix(2*i)))
	v := unit(mix(seed ^ mix(2*i+1)))
	return math.Sqrt(-2*math.Log(1-u)) * math.Cos(2*math.Pi*v)
}

func unit(x uint64) float64 { return float64(x>>11) / (1 << 53) }

func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
