package model

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/glm46/glm46/mockvllm/engine"
	"github.com/glm46/glm46/mockvllm/vllm"
)

// Options are what a profile and an engine configuration leave open.
type Options struct {
	// WarmPageCache and WarmCompileCache shorten the start-up.
	WarmPageCache, WarmCompileCache bool
	// TunedMoE uses tiles tuned for the hardware instead of the fallback.
	TunedMoE bool
	// Noise multiplies every step by exp(s N(0,1)); s comes from the profile.
	Noise bool
	// Seed of the noise and of drawn acceptance.
	Seed uint64
	// Acceptance replaces the profile's for the method in use when not nil.
	Acceptance *engine.Acceptance
	// DrawNGram draws the acceptance of ngram drafts from the profile, instead of
	// looking drafts up in the text: for predictions, which have no text.
	DrawNGram bool
}

// Model is a profile under one engine configuration. It is an engine.StepTimer.
type Model struct {
	profile *Profile
	cfg     vllm.EngineConfig
	opt     Options

	fp8    bool
	eager  bool
	moe    Table // of the placement in use, penalty applied
	reduce Table
	padded []int // by tokens: the capture size they run at

	kvBytes     float64 // per token, layer and GPU
	kvGiB       float64
	blocks      int
	maxModelLen int
	acceptance  *engine.Acceptance
	frontEnd    engine.FrontEnd
	sigma       float64

	memo     memoKey
	memoCost decodeCost
}

// New checks that the configuration fits the memory and derives all figures.
//
// It fails with *vllm.RefusalError where vLLM would refuse to start, and with
// *UnsupportedError where the profile has no numbers for the configuration.
func New(p *Profile, c vllm.EngineConfig, o Options) (*Model, error) {
	m := &Model{
		profile: p, cfg: c, opt: o,
		fp8:   strings.HasPrefix(c.KVCacheDtype, "fp8"),
		eager: c.EnforceEager || c.CUDAGraphMode == "NONE" && !c.Compile,
	}
	if err := m.refuseMemory(); err != nil {
		return nil, err
	}
	if text := m.unsupported(); text != "" {
		return nil, &UnsupportedError{p.Name, text}
	}
	if err := m.size(); err != nil {
		return nil, err
	}
	m.prepare()
	return m, nil
}

// UnsupportedError is a configuration that the profile cannot time.
type UnsupportedError struct{ Profile, Text string }

func (e *UnsupportedError) Error() string { return "model: profile " + e.Profile + ": " + e.Text }

// gpus is the number of GPUs that share the weights.
func (m *Model) gpus() int {
	return max(1, m.cfg.TensorParallelSize) * max(1, m.cfg.PipelineParallelSize)
}

// refuseMemory refuses weights that do not fit: they shrink with the number of
// GPUs that share them. With expert parallelism replicas share the expert layers;
// a profile of another number of replicas has no numbers for that.
func (m *Model) refuseMemory() error {
	p := m.profile
	shared := max(1, m.cfg.DataParallelSize) != p.Shape.replicas() && m.cfg.EnableExpertParallel
	if shared || m.cfg.Quantization != "" {
		return nil // unsupported says so
	}
	need := m.ModelMemoryGiB()
	if need+p.Memory.OverheadGiB <= p.Memory.GPUGiB {
		return nil
	}
	return &vllm.RefusalError{
		Class: vllm.ClassOOMLoad, Rule: "weights_fit", Kind: "torch.OutOfMemoryError", ExitCode: 1,
		Text: vllm.OutOfMemoryText(0, need/float64(p.Shape.Layers)/2, p.Memory.GPUGiB, 0.2),
		Reason: fmt.Sprintf("the weights need %.1f GiB on each of %d GPUs of %.2f GiB; raise --tensor-parallel-size",
			need, m.gpus(), p.Memory.GPUGiB),
	}
}

// unsupported says what the profile has no numbers for, "" if it has all.
func (m *Model) unsupported() string {
	c, s := m.cfg, m.profile.Shape
	switch {
	case max(1, c.TensorParallelSize) != s.TensorParallelSize || c.PipelineParallelSize > 1 ||
		max(1, c.DataParallelSize) != s.replicas() || c.DecodeContextParallelSize > 1:
		return fmt.Sprintf("it is for tensor parallel %d and data parallel %d, not for tensor %d, pipeline %d, data %d, decode context %d; give a profile of that split",
			s.TensorParallelSize, s.replicas(), max(1, c.TensorParallelSize), max(1, c.PipelineParallelSize), max(1, c.DataParallelSize), max(1, c.DecodeContextParallelSize))
	case c.Quantization != "":
		return fmt.Sprintf("it has no times for quantization %q; give a profile of those weights", c.Quantization)
	case c.Dtype == "float32":
		return "it has no times for dtype float32; give a profile of those weights"
	case c.Spec != nil && c.Spec.Method != engine.SpecNGram && c.Spec.Method != engine.SpecMTP:
		return fmt.Sprintf("it has no times for speculation by %q; use ngram or mtp", c.Spec.Method)
	case c.EnableExpertParallel && s.Experts == 0:
		return "the model has no experts to run in parallel"
	case s.replicas() > 1 && !c.EnableExpertParallel:
		return "it is for replicas that share experts; use --enable-expert-parallel"
	}
	return ""
}

// size derives the KV capacity.
//
// Source: docs/timing-model.md, KV capacity.
func (m *Model) size() error {
	p, c := m.profile, m.cfg
	heads := (p.Shape.KVHeads + p.Shape.TensorParallelSize - 1) / p.Shape.TensorParallelSize
	m.kvBytes = 2 * float64(heads*p.Shape.HeadDim) * p.Memory.KVElementBytes.of(m.fp8)
	activation := max(p.Memory.ActivationMinGiB, p.Memory.ActivationGiBPerToken*float64(c.MaxNumBatchedTokens))
	m.kvGiB = p.Memory.GPUGiB*c.GPUMemoryUtilization - m.ModelMemoryGiB() - p.Memory.OverheadGiB - activation
	if m.captures() && vllm.CUDAGraphMemoryCounted(c.Version) {
		m.kvGiB -= p.Memory.GraphsGiB
	}
	if c.KVCacheMemoryBytes > 0 {
		m.kvGiB = float64(c.KVCacheMemoryBytes) / (1 << 30)
	}
	page := m.pageBytes()
	m.blocks = int(math.Floor(m.kvGiB * (1 << 30) / page))
	if m.blocks <= 0 {
		return vllm.RefuseNoKVMemory(c.Version)
	}
	if c.NumGPUBlocksOverride > 0 {
		m.blocks = c.NumGPUBlocksOverride
	}
	m.maxModelLen = c.MaxModelLen
	if m.maxModelLen < 0 {
		m.maxModelLen = min(p.Shape.MaxPositionEmbeddings, m.KVTokens())
	}
	if need := m.blocksOf(m.maxModelLen); need > m.blocks {
		return vllm.RefuseKVTooSmall(c.Version, m.maxModelLen, float64(need)*page/(1<<30),
			float64(m.blocks)*page/(1<<30), m.KVTokens())
	}
	return nil
}

func (m *Model) blockTokens() int {
	if m.cfg.BlockSize > 0 {
		return m.cfg.BlockSize
	}
	return engine.DefaultBlockTokens
}

func (m *Model) blocksOf(tokens int) int {
	return (tokens + m.blockTokens() - 1) / m.blockTokens()
}

// pageBytes is the size of a KV block over all layers of one GPU.
func (m *Model) pageBytes() float64 {
	return m.kvBytes * float64(m.profile.Shape.Layers*m.blockTokens())
}

func (m *Model) captures() bool { return !m.eager && len(m.cfg.CaptureSizes) > 0 }

// prepare picks the tables of this configuration.
func (m *Model) prepare() {
	p := m.profile
	fallback, tuned := p.MoE.NoEPFallback, p.MoE.NoEPTuned
	if m.cfg.EnableExpertParallel {
		fallback, tuned = p.MoE.EPFallback, p.MoE.EPTuned
	}
	penalty := p.MoE.Penalty
	if m.opt.TunedMoE {
		penalty = 0
	}
	m.moe = blend(fallback, tuned, penalty)
	m.reduce, m.sigma = p.AllReduce.Graph, p.Noise.Graph
	if m.eager {
		m.reduce, m.sigma = p.AllReduce.Eager, p.Noise.Eager
	}
	if !m.opt.Noise {
		m.sigma = 0
	}
	if m.captures() {
		sizes := m.cfg.CaptureSizes
		m.padded = make([]int, sizes[len(sizes)-1]+1)
		for t, i := 0, 0; t < len(m.padded); t++ {
			if t > sizes[i] {
				i++
			}
			m.padded[t] = sizes[i]
		}
	}
	m.acceptance = m.acceptanceOf()
	f := p.FrontEnd
	m.frontEnd = engine.FrontEnd{
		TokenizePerToken: microseconds(f.TokenizerPerToken), EventLoopWork: microseconds(f.EventLoop),
		DeliveryPerChunk: microseconds(f.DeliveryPerChunk), DeliveryDelay: microseconds(f.DeliveryDelay),
	}
}

// blend is tuned + penalty x (fallback - tuned), on the nodes of both.
func blend(fallback, tuned Table, penalty float64) Table {
	switch penalty {
	case 1:
		return fallback
	case 0:
		return tuned
	}
	var out Table
	i, j := 0, 0
	for i < len(fallback) || j < len(tuned) {
		var x float64
		switch {
		case j == len(tuned) || i < len(fallback) && fallback[i][0] <= tuned[j][0]:
			x = fallback[i][0]
		default:
			x = tuned[j][0]
		}
		for i < len(fallback) && fallback[i][0] <= x {
			i++
		}
		for j < len(tuned) && tuned[j][0] <= x {
			j++
		}
		low, high := tuned.at(x), fallback.at(x)
		out = append(out, [2]float64{x, low + penalty*(high-low)})
	}
	return out
}

func (m *Model) acceptanceOf() *engine.Acceptance {
	spec, s := m.cfg.Spec, m.profile.Speculation
	switch {
	case spec == nil || m.opt.Acceptance != nil:
		return m.opt.Acceptance
	case spec.Method == engine.SpecMTP:
		return &engine.Acceptance{DraftProbability: s.MTPDraftProbability, Cumulative: s.MTPAcceptance}
	case m.opt.DrawNGram:
		return &engine.Acceptance{DraftProbability: s.NGramDraftProbability, Cumulative: s.NGramAcceptance}
	}
	return nil
}

func microseconds(us float64) time.Duration {
	return time.Duration(math.Round(us * float64(time.Microsecond)))
}

// Profile is what the model was made from.
func (m *Model) Profile() *Profile { return m.profile }

// KVBlocks is the number of KV blocks, the null block included.
func (m *Model) KVBlocks() int { return m.blocks }

// KVTokens is KVBlocks x block size, as vLLM logs it.
func (m *Model) KVTokens() int { return m.blocks * m.blockTokens() }

// MaxModelLen is the longest request in tokens (fitted to memory if asked for).
func (m *Model) MaxModelLen() int { return m.maxModelLen }

// MaxConcurrency is how many requests of MaxModelLen the KV cache holds.
func (m *Model) MaxConcurrency() float64 {
	return float64(m.blocks) / float64(m.blocksOf(m.maxModelLen))
}

// ModelMemoryGiB is the weights' memory on one GPU, the draft layer included.
func (m *Model) ModelMemoryGiB() float64 {
	p := m.profile
	gib := p.Memory.WeightsGiB
	if m.cfg.Spec != nil && m.cfg.Spec.Method == engine.SpecMTP {
		gib += p.Memory.MTPGiB
	}
	return gib * float64(p.Shape.TensorParallelSize) / float64(m.gpus())
}

// KVMemoryGiB is the memory left for the KV cache on one GPU.
func (m *Model) KVMemoryGiB() float64 { return m.kvGiB }

// GPUMemoryGiB is the memory of one GPU.
func (m *Model) GPUMemoryGiB() float64 { return m.profile.Memory.GPUGiB }

// GraphMemoryGiB is what captured graphs take on one GPU; 0 when eager.
func (m *Model) GraphMemoryGiB() float64 {
	if !m.captures() {
		return 0
	}
	return m.profile.Memory.GraphsGiB
}

// CaptureSizes are the batch sizes of the CUDA graphs, ascending; nil when eager.
func (m *Model) CaptureSizes() []int {
	if !m.captures() {
		return nil
	}
	return m.cfg.CaptureSizes
}

// Phases of a start.
const (
	PhaseLoad    = "load"
	PhaseCompile = "compile"
	PhaseProfile = "profile"
	PhaseCapture = "capture"
)

// Phase is a part of the start-up.
type Phase struct {
	Name     string
	Duration time.Duration
}

// Startup gives the phases of a start in order: load, compile, profile (with
// the KV cache), capture. Eager starts have no compile and no capture.
//
// Source: docs/timing-model.md, start-up.
func (m *Model) Startup() []Phase {
	s := m.profile.Startup
	load := s.LoadNoEPSeconds
	if m.cfg.EnableExpertParallel {
		load = s.LoadEPSeconds
	}
	if m.opt.WarmPageCache {
		load = s.LoadPageCacheSeconds
	}
	phases := []Phase{{PhaseLoad, seconds(load)}}
	if !m.eager {
		compile := s.CompileSeconds
		if m.opt.WarmCompileCache {
			compile = s.CompileCachedSeconds
		}
		phases = append(phases, Phase{PhaseCompile, seconds(compile)})
	}
	phases = append(phases, Phase{PhaseProfile, seconds(s.ProfileSeconds)})
	if n := len(m.CaptureSizes()); n > 0 {
		phases = append(phases, Phase{PhaseCapture, seconds(float64(n) * s.CaptureSecondsPerSize)})
	}
	return phases
}

func seconds(s float64) time.Duration { return time.Duration(math.Round(s * float64(time.Second))) }

// StartupTotal is the sum of Startup.
func (m *Model) StartupTotal() time.Duration {
	var sum time.Duration
	for _, p := range m.Startup() {
		sum += p.Duration
	}
	return sum
}

// FrontEnd gives the costs of the API process.
func (m *Model) FrontEnd() engine.FrontEnd { return m.frontEnd }

// Engine gives the scheduler's configuration.
func (m *Model) Engine() engine.Config {
	c, v := m.cfg, m.cfg.Version
	cfg := engine.Config{
		BlockTokens: m.blockTokens(), NumBlocks: m.blocks,
		MaxNumSeqs: c.MaxNumSeqs, MaxNumBatchedTokens: c.MaxNumBatchedTokens, MaxModelLen: m.maxModelLen,
		ChunkedPrefill: c.EnableChunkedPrefill, PrefixCaching: c.EnablePrefixCaching, ReserveFullISL: c.ReserveFullISL,
		// Source: docs/timing-model.md, scheduler by version.
		SkipOversizedWaiting:    !v.AtLeast("0.12.0"),
		IgnorePreemptedLookups:  v.AtLeast("0.10.2"),
		ReuseUnhashedFirst:      v.AtLeast("0.25.0"),
		CountLookupsOnAdmission: v.AtLeast("0.26.0"),
		Spec:                    m.spec(),
	}
	if c.SchedulingPolicy == engine.PolicyPriority {
		cfg.Policy = engine.PolicyPriority
	}
	for _, id := range c.Shape.EOSTokenIDs {
		cfg.EOS = append(cfg.EOS, int32(id))
	}
	return cfg
}

func (m *Model) spec() engine.Spec {
	s := m.cfg.Spec
	if s == nil {
		return engine.Spec{}
	}
	out := engine.Spec{
		Method: s.Method, Tokens: s.NumSpeculativeTokens, LookupMin: s.PromptLookupMin, LookupMax: s.PromptLookupMax,
		Acceptance: m.acceptance, Seed: m.opt.Seed,
	}
	if s.Method == engine.SpecMTP {
		out.LookaheadTokens, out.DropLastHitBlock = s.NumSpeculativeTokens, true
	}
	return out
}

// Sim gives the configuration of an engine with this model's front end.
func (m *Model) Sim() engine.SimConfig {
	return engine.SimConfig{Engine: m.Engine(), FrontEnd: m.FrontEnd(), Replicas: m.profile.Shape.replicas()}
}
