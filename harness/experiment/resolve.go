package experiment

// Request is what a user asks for. The zero value asks for nothing, which is a
// usage error.
type Request struct {
	// Experiments are ids of experiments or cells (--exp, split at commas or
	// not): "3A" is all its data sets, "3A/64k" one. They replace EXP_NAME.
	Experiments []string
	// Group is --group, 0: none. All is --all: every cell of the plan.
	Group int
	All   bool
	// Added lets Group and All take the added cells too.
	Added bool
	// Dataset is --dataset, "" for none: like --set DATASET_TYPE.
	Dataset string
	// Base is --base: "", "eager" or "compiled".
	Base string
	// Set are --set NAME=VALUE; the last of a name wins.
	Set []string
	// NumSamples and MaxTokens are the flags of that name, 0 for none.
	NumSamples, MaxTokens int
	// Concurrency is --concurrency: "", "N[,N]" or "auto".
	Concurrency string
	// RequestRate is --request-rate in requests/s, 0 for none.
	RequestRate float64
	// Lookup reads the environment's variables; nil: Environ is used.
	Lookup func(name string) (string, bool)
	// Environ is the environment as "NAME=VALUE". It is searched for misspelt
	// variables; nil: not.
	Environ []string
	// KnownGLM46 are the GLM46_* variables that exist; nil: not checked.
	KnownGLM46 []string
}

// Resolve gives the cells that r asks for, in the plan's order, each once.
//
// --set wins over the environment, the environment over the experiment. It
// fails with a *UsageError.
func (p *Plan) Resolve(r Request) ([]Cell, error) { return nil, errStub }

// CheckEnvironment looks for variables that are probably misspelt: names within
// two edits of a known one, and GLM46_* names that do not exist. environ holds
// "NAME=VALUE"; knownGLM46 the names that exist, nil to leave those alone.
//
// It fails with a *UsageError that holds the nearest names.
func CheckEnvironment(environ []string, knownGLM46 []string) error { return errStub }
