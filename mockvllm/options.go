package mockvllm

import (
	"io"
	"time"

	"github.com/glm46/glm46/mockvllm/model"
	"github.com/glm46/glm46/mockvllm/tokenizer"
)

// Startup says how long the mock takes to become healthy.
type Startup string

const (
	// StartupNone is ready at once (the default).
	StartupNone Startup = "none"
	// StartupModel takes the time the model gives for loading, compiling and
	// capturing, divided by the speed.
	StartupModel Startup = "model"
)

// Pace replaces the timing model: token k (from 0) of a request is due at its
// arrival + TTFT + k x ITL, each request on its own. Both zero: as fast as the
// mock can. Pace is divided by Options.Speed like all model time.
type Pace struct {
	TTFT time.Duration
	ITL  time.Duration
}

// Options configure a mock. The zero value, with Args naming a model, is
// vLLM's default version at speed 1, ready at once, with no failures.
type Options struct {
	// Args is what follows "vllm serve": the model and vLLM's own flags.
	Args []string
	// Version is the vLLM version to imitate; empty is vllm.DefaultVersion.
	Version string
	// Speed divides all model time; 0 is 1.
	Speed float64
	// Seed of the generated text and of noise.
	Seed uint64
	// Startup; empty is StartupNone.
	Startup Startup
	// Pace replaces the timing model when not nil.
	Pace *Pace
	// Scenario of failures; nil is none.
	Scenario *Scenario
	// Truth receives one JSON line a request when not nil (docs/mock.md).
	// Calls are serialised; the writer is not closed.
	Truth io.Writer
	// Log receives the server's log lines as vLLM writes them to stdout, and
	// ErrorLog those it writes to stderr. nil: dropped.
	Log, ErrorLog io.Writer
	// Environ holds NAME=VALUE pairs vLLM would see, such as
	// VLLM_SERVER_DEV_MODE=1 or VLLM_API_KEY. The process environment is not
	// read.
	Environ []string
	// Profile is other hardware or another model; nil is GLM-4.6 on H200.
	Profile *model.Profile
	// Noise multiplies every step by exp(s N(0,1)), s from the profile.
	Noise bool
	// Repetition is the share of the text that is copied from prompt and output
	// when RepetitionSet; else tokenizer.DefaultRepetition.
	Repetition    float64
	RepetitionSet bool
	// PID in the log; 0 is the process's own.
	PID int
	// Port in the log, where it is not the one of Args; 0: that.
	Port int
}

func (o Options) repetition() float64 {
	if o.RepetitionSet {
		return o.Repetition
	}
	return tokenizer.DefaultRepetition
}
