package experiment

import "github.com/glm46/glm46/mockvllm/vllm"

// Refusal says that a version of vLLM does not run a cell as asked. It is a
// result, not a failure of ours.
type Refusal struct {
	// Class as in mockvllm/vllm, or ClassOverridden or ClassTooOld.
	Class vllm.Class
	// Reason in plain words; no flag stands in it.
	Reason string
	// EngineText is what the engine says, exactly; "" where it says nothing.
	EngineText string
}

func (r *Refusal) Error() string { return r.Reason }

// Classes of refusals that are ours and not the engine's.
const (
	// ClassOverridden: the engine would run, with another setting than asked.
	ClassOverridden vllm.Class = "overridden"
	// ClassTooOld: the version has not yet, or no longer, what the cell is about.
	ClassTooOld vllm.Class = "not_in_version"
)

// A Check refuses configurations for reasons outside of this package, such as
// memory; it fails with a *vllm.RefusalError.
type Check func(vllm.EngineConfig) error

// Argv gives the arguments after "vllm": "serve", the model, flags. model ""
// is the plan's. They are complete also where the version refuses the cell.
//
// The refusal is nil where vLLM v accepts the cell. checks run last.
func (c Cell) Argv(v vllm.Version, model string, checks ...Check) ([]string, *Refusal) {
	return nil, &Refusal{Reason: errStub.Error()}
}
