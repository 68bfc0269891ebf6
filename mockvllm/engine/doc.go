// Package engine is the core of a vLLM V1 server without a GPU: the scheduler,
// the KV blocks with their prefix cache, speculation, and the front end that
// stands before them.
//
// It is a state machine: time is a [time.Duration] since start that the caller
// passes in, and effects are returned as values. There is no clock, goroutine,
// file or global random source here, so the same inputs and seed give the same
// schedule, to the byte.
//
// Read [Sim] first: it is what drivers use. [Engine] is the scheduler alone.
// How long a step takes is not decided here: [StepTimer] says it, and package
// model has one. What the tokens are is [TokenSource]'s matter.
//
// Source of the rules: docs/timing-model.md, and docs/vllm.md section 5 (the
// scheduler of vLLM V1 as read at 0.11.1 and later).
package engine
