package vllm_test

import (
	"errors"
	"fmt"

	"github.com/glm46/glm46/mockvllm/vllm"
)

// What a command line means depends on the release.
func ExampleResolveArgv() {
	argv := []string{"zai-org/GLM-4.6", "--tensor-parallel-size", "8", "--max-model-len", "32K", "--no-enable-chunked-prefill"}
	for _, v := range []string{"0.11.0", "0.11.1"} {
		c, err := vllm.ResolveArgv(vllm.MustVersion(v), argv, vllm.GLM46())
		fmt.Println(v, c.EnableChunkedPrefill, c.MaxNumBatchedTokens, c.Overrides, err)
	}
	// Output:
	// 0.11.0 true 8192 [{--enable-chunked-prefill no yes vLLM 0.8.0 to 0.11.0 turn chunked prefill on for every generating model, and this is 0.11.0}] <nil>
	// 0.11.1 false 32768 [] <nil>
}

// Two kinds of refusal: the parser's (exit 2) and the engine's (exit 1).
func ExampleRefusalError() {
	v := vllm.MustVersion("0.11.1")
	_, err := vllm.ResolveArgv(v, []string{"m", "--context-parallel-size", "2"}, vllm.GLM46())
	var usage *vllm.UsageError
	fmt.Println(errors.As(err, &usage), usage.ExitCode, usage)
	_, err = vllm.ResolveArgv(v, []string{"m", "-tp", "8", "-dcp", "2"}, vllm.GLM46())
	var refusal *vllm.RefusalError
	fmt.Println(errors.As(err, &refusal), refusal.ExitCode, refusal)
	// Output:
	// true 2 unrecognized arguments: --context-parallel-size 2
	// true 1 tensor parallel size 8 must be greater than total num kv heads 8 when enable decode context parallel for GQA/MQA
}

func ExampleLogScanner() {
	var s vllm.LogScanner
	s.Line("(EngineCore_DP0 pid=9) INFO 11-24 12:00:00 [kv_cache_utils.py:1229] GPU KV cache size: 1,042,176 tokens")
	s.Line("(Worker_TP1 pid=11) ERROR 11-24 12:00:09 [multiproc_executor.py:743] Traceback (most recent call last):")
	s.Line("(Worker_TP1 pid=11) ERROR 11-24 12:00:09 [multiproc_executor.py:743] torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.00 GiB.")
	s.Line("(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above.")
	f := s.Facts()
	fmt.Println(f.KVTokens, f.Phase, f.RootCause.Class, f.RootCause.Proc)
	// Output: 1042176 profile oom_load Worker_TP1
}

func ExampleSpecArgs() {
	for _, v := range []string{"0.8.2", "0.11.1"} {
		args, err := vllm.SpecArgs(vllm.MustVersion(v), "ngram", "", 2, 0, 0)
		fmt.Println(args, err)
	}
	// Output:
	// [--speculative-model [ngram] --num-speculative-tokens 2 --ngram-prompt-lookup-max 5 --ngram-prompt-lookup-min 5] <nil>
	// [--speculative-config {"method":"ngram","num_speculative_tokens":2}] <nil>
}
