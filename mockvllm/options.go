package mockvllm

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"time"
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
	// ProfilePath names a JSON profile of other hardware or another model;
	// empty is GLM-4.6 on H200 (docs/mock.md).
	ProfilePath string
}

// errNotBuilt is returned until the drivers are wired.
var errNotBuilt = errors.New("mockvllm: not built yet")

// Mock is a mock vLLM server: an [http.Handler] with a life.
//
// New gives one that is not started; every route but those answered by a
// starting server is refused until Start has returned.
type Mock struct{}

// New parses the arguments and resolves the engine configuration.
//
// It fails with *vllm.UsageError (exit code 2) for what vLLM's parser refuses,
// and *vllm.RefusalError (exit code 1) for what its engine refuses.
func New(o Options) (*Mock, error) { return nil, errNotBuilt }

// Start runs the start-up phases and returns when the mock is healthy.
// It fails when a scenario says so or ctx ends.
func (m *Mock) Start(ctx context.Context) error { return errNotBuilt }

// Close aborts what runs, ends the goroutines of the mock and waits for them.
func (m *Mock) Close() error { return nil }

// Dead is closed when the engine has died by scenario; nil error before.
func (m *Mock) Dead() <-chan struct{} { return nil }

// ServeHTTP answers one request as `vllm serve` does.
func (m *Mock) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	http.Error(w, errNotBuilt.Error(), http.StatusServiceUnavailable)
}

// ConnContext goes into http.Server.ConnContext. It is optional: with it the
// mock writes streams straight to the connection, many streams of one step
// from few goroutines; without it each stream costs a goroutine wake-up.
func (m *Mock) ConnContext(ctx context.Context, c net.Conn) context.Context { return ctx }

// Scenario is a script of failures (docs/mock.md).
type Scenario struct{}

// ParseScenario reads a scenario. name stands in errors, which carry line and
// column of the fault.
func ParseScenario(name string, data []byte) (*Scenario, error) { return nil, errNotBuilt }
