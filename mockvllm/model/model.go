package model

import (
	"errors"
	"time"

	"github.com/glm46/glm46/mockvllm/engine"
	"github.com/glm46/glm46/mockvllm/vllm"
)

var errNotBuilt = errors.New("model: not built yet")

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
}

// Model is a profile under one engine configuration. It is an engine.StepTimer.
type Model struct{}

// New checks that the configuration fits the memory and derives all figures.
//
// It fails with *vllm.RefusalError where vLLM would refuse to start, and with
// *UnsupportedError where the profile has no numbers for the configuration.
func New(p *Profile, c vllm.EngineConfig, o Options) (*Model, error) { return nil, errNotBuilt }

// UnsupportedError is a configuration that the profile cannot time.
type UnsupportedError struct{ Profile, Text string }

func (e *UnsupportedError) Error() string { return "model: profile " + e.Profile + ": " + e.Text }

// KVBlocks is the number of KV blocks, the null block included.
func (m *Model) KVBlocks() int { return 0 }

// KVTokens is KVBlocks x block size, as vLLM logs it.
func (m *Model) KVTokens() int { return 0 }

// MaxModelLen is the longest request in tokens (fitted to memory if asked for).
func (m *Model) MaxModelLen() int { return 0 }

// MaxConcurrency is how many requests of MaxModelLen the KV cache holds.
func (m *Model) MaxConcurrency() float64 { return 0 }

// ModelMemoryGiB is the weights' memory on one GPU, the draft layer included.
func (m *Model) ModelMemoryGiB() float64 { return 0 }

// KVMemoryGiB is the memory left for the KV cache on one GPU.
func (m *Model) KVMemoryGiB() float64 { return 0 }

// GPUMemoryGiB is the memory of one GPU.
func (m *Model) GPUMemoryGiB() float64 { return 0 }

// GraphMemoryGiB is what captured graphs take on one GPU; 0 when eager.
func (m *Model) GraphMemoryGiB() float64 { return 0 }

// CaptureSizes are the batch sizes of the CUDA graphs, ascending; nil when eager.
func (m *Model) CaptureSizes() []int { return nil }

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
func (m *Model) Startup() []Phase { return nil }

// StartupTotal is the sum of Startup.
func (m *Model) StartupTotal() time.Duration { return 0 }

// FrontEnd gives the costs of the API process.
func (m *Model) FrontEnd() engine.FrontEnd { return engine.FrontEnd{} }

// Engine gives the scheduler's configuration.
func (m *Model) Engine() engine.Config { return engine.Config{} }

// Sim gives the configuration of an engine with this model's front end.
func (m *Model) Sim() engine.SimConfig {
	return engine.SimConfig{Engine: m.Engine(), FrontEnd: m.FrontEnd()}
}

// Step is the duration of a step.
func (m *Model) Step(s *engine.StepShape) time.Duration { return 0 }

// StepDetail is where the time of a step goes, in microseconds.
type StepDetail struct {
	GPUMicroseconds, FloorMicroseconds, HostMicroseconds, StepMicroseconds float64
}

// Detail explains a step, without noise.
func (m *Model) Detail(s *engine.StepShape) StepDetail { return StepDetail{} }
