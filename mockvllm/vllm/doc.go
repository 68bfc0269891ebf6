// Package vllm holds the facts of vLLM by version: command-line flags and their
// parsing, defaults, refusals and their exact texts, start-up and runtime log
// lines, Prometheus families, HTTP error bodies and streaming frames. It both
// writes and reads them: the mock server writes, the harness reads.
//
// Read version.go and flags.go first, then args.go (argv to [ServeArgs]),
// resolve.go ([ServeArgs] to [EngineConfig] or a refusal), log.go and scan.go
// (start-up log, written and read), http.go and frames.go.
//
// The package is pure: no clock, no goroutine, no file, no environment. It
// knows nothing of memory sizes or step times (package model) nor of schedules
// (package engine). Every number and text names its source; the sources are
// collected in docs/vllm.md.
package vllm
