// Package experiment holds the experiment plan: what is measured, under which
// settings, at which load, and how that becomes a `vllm serve` command line.
//
// A [Plan] is a YAML file (docs/plan-schema.md); [Default] is the embedded plan
// of GLM-4.6 on 8 x H200 (glm46.yaml). [Plan.Resolve] turns what a user asks
// for (flags, environment, --set) into [Cell]s; [Cell.Argv] gives the exact
// argument list for a vLLM version, and says what that version refuses.
//
// Read first: plan.go (the types), settings.go (the variables), resolve.go
// (precedence), argv.go (the command line and refusals).
//
// The package is pure: no files, clock, environment or goroutines. It starts
// nothing and measures nothing. It takes what it says about vLLM from
// mockvllm/vllm, so that the mock and the harness agree on one description.
package experiment
