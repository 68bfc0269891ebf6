// Package server is the process around the mock: the whole of
// `vllm serve MODEL --flags`, with its log on stdout, its listening socket, its
// signals and its exit codes.
//
// It holds nothing that a test could want without a process; that is package
// mockvllm.
package server

import (
	"context"
	"fmt"
	"io"
)

// Options of a process.
type Options struct {
	// Args is what follows "vllm" or "glm46 mock": "serve", MODEL, flags; or
	// "--version".
	Args []string
	// Stdout and Stderr receive the log as vLLM splits it.
	Stdout, Stderr io.Writer
	// Environ is the environment, NAME=VALUE; nil is an empty one.
	Environ []string
}

// Main runs the process until ctx ends, SIGTERM or SIGINT arrives, or the
// engine dies, and returns the exit code: 0 after a clean stop, 2 for a usage
// error with vLLM's text, 1 for a refusal or a death.
func Main(ctx context.Context, o Options) int {
	fmt.Fprintln(o.Stderr, "vllm: not built yet")
	return 1
}
