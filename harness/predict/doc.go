// Package predict answers before a GPU is used: it plays cells of the plan, or
// any workload, against the mock's engine in virtual time, on the road that the
// mock takes (settings, argv, configuration, engine).
//
// Read workload.go for one workload under `vllm serve` flags, cells.go for the
// plan. The package prints nothing and reads no files.
package predict
