// Package mockvllm is a mock of `vllm serve` for GLM-4.6 on eight H200 GPUs:
// the HTTP face, the wall-clock and virtual-time drivers of the engine, the
// failure scenarios and the truth file.
//
// Every token comes out of a step of a real scheduler (package engine) whose
// duration package model computes; the facts of vLLM (flags, log lines,
// metrics, error bodies, frames) come from package vllm, by version. Read
// options.go first, then wall.go (who wakes when) and http.go (the routes).
//
// The package does not own a process: arguments, signals, the listening socket
// and exit codes are package server's. A [Mock] is an [http.Handler] and can be
// imported in other people's tests, also inside testing/synctest.
package mockvllm
