package vllm

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// plan is the first configuration of the experiment plan.
const planArgs = "zai-org/GLM-4.6 --tensor-parallel-size 8 --enable-expert-parallel --enforce-eager --dtype bfloat16 --kv-cache-dtype fp8 --gpu-memory-utilization 0.95 --max-model-len 32768 --enable-chunked-prefill --enable-prefix-caching --trust-remote-code"

func resolve(t *testing.T, version, line string) (EngineConfig, error) {
	t.Helper()
	return ResolveArgv(MustVersion(version), strings.Fields(line), GLM46())
}

func mustResolve(t *testing.T, version, line string) EngineConfig {
	t.Helper()
	c, err := resolve(t, version, line)
	if err != nil {
		t.Fatalf("%s %s: %v", version, line, err)
	}
	return c
}

func TestResolveDefaults(t *testing.T) {
	for _, w := range []struct {
		version                   string
		util                      float64
		async, reserve            bool
		graphs                    string
		sizes                     int
		logRequests, prefix, comp bool
	}{
		{"0.8.2", 0.9, false, false, "PIECEWISE", 67, true, true, true},
		{"0.10.0", 0.9, false, false, "PIECEWISE", 67, true, true, true},
		{"0.11.1", 0.9, false, false, "FULL_AND_PIECEWISE", 51, false, true, true},
		{"0.14.0", 0.9, true, false, "FULL_AND_PIECEWISE", 51, false, true, true},
		{"0.22.0", 0.92, true, true, "FULL_AND_PIECEWISE", 51, false, true, true},
		{"0.27.0", 0.92, true, true, "FULL_AND_PIECEWISE", 51, false, true, true},
	} {
		c := mustResolve(t, w.version, "m -tp 8")
		got := fmt.Sprint(c.GPUMemoryUtilization, c.AsyncScheduling, c.ReserveFullISL, c.CUDAGraphMode, len(c.CaptureSizes), c.EnableLogRequests, c.EnablePrefixCaching, c.Compile,
			c.MaxNumSeqs, c.MaxNumBatchedTokens, c.MaxModelLen, c.BlockSize, c.EnableChunkedPrefill, c.Dtype, c.KVCacheDtype, c.ServedName)
		want := fmt.Sprint(w.util, w.async, w.reserve, w.graphs, w.sizes, w.logRequests, w.prefix, w.comp,
			1024, 8192, 202752, 16, true, "bfloat16", "auto", "m")
		if got != want {
			t.Errorf("%s:\n got %s\nwant %s", w.version, got, want)
		}
	}
}

func TestPlanBaselineResolvesEverywhere(t *testing.T) {
	for _, v := range KnownVersions() {
		c := mustResolve(t, v.String(), planArgs)
		if !c.EnforceEager || c.CaptureSizes != nil || c.Compile || c.CUDAGraphMode != "NONE" || c.KVCacheBytesPerElement() != 1 {
			t.Errorf("%s: eager is not eager: %+v", v, c)
		}
	}
}

// refusals of docs/vllm.md sections 1.3 to 1.10 and of the timing model's list.
func TestRefusals(t *testing.T) {
	const dcpAssert = "tensor parallel size 8 must be greater than total num kv heads 8 when enable decode context parallel for GQA/MQA"
	const dcpValue = "Decode context parallelism for GQA/MQA requires `--tensor-parallel-size` (8) to be greater than the model's total number of KV heads (8). Increase `--tensor-parallel-size` or set `--decode-context-parallel-size 1`."
	const dcpMLA = "DCP requires attention impls to return the softmax lse for decode, but the impl FlashAttentionImpl does not return the softmax lse for decode."
	for _, c := range []struct{ version, line, rule, kind, text string }{
		{"0.10.2", "m -tp 8 -dcp 2", "dcp_mla_only", "AssertionError", dcpMLA},
		{"0.11.0", "m -tp 8 -dcp 4", "dcp_mla_only", "AssertionError", dcpMLA},
		{"0.11.1", "m -tp 8 -dcp 2", "dcp_kv_heads", "AssertionError", dcpAssert},
		{"0.14.0", "m -tp 8 -dcp 4", "dcp_kv_heads", "AssertionError", dcpAssert},
		{"0.22.0", "m -tp 8 -dcp 8", "dcp_kv_heads", "AssertionError", dcpAssert},
		{"0.27.0", "m -tp 8 -dcp 2", "dcp_kv_heads", "ValueError", dcpValue},
		{"0.11.1", "m -tp 8 -dcp 3", "dcp_divides_tp", "ValueError", "tp_size=8 must be divisible bydcp_size=3."},
		{"0.11.1", "m -tp 96 -dcp 16", "dcp_too_large", "AssertionError", "decode context parallel size must less than or equal to (tensor parallel size 96 // total num kv heads 8) = 12, but got 16"},
		{"0.12.0", "m -tp 8 -pcp 2", "pcp", "ValueError", "Prefill context parallelism is not fully supported. Please set prefill_context_parallel_size to 1."},
		{"0.11.1", "m -tp 7", "tp_divides_heads", "ValueError", "Total number of attention heads (96) must be divisible by tensor parallel size (7)."},
		{"0.11.1", "m --max-model-len 202753", "max_model_len", "ValueError", "User-specified max_model_len (202753) is greater than the derived max_model_len (max_position_embeddings=202752 "},
		{"0.8.2", "m --max-model-len 300000", "max_model_len", "ValueError", "User-specified max_model_len (300000) is greater than the derived max_model_len (max_position_embeddings=202752 "},
		{"0.11.1", "m --max-model-len 32768 --no-enable-chunked-prefill --max-num-batched-tokens 8192", "budget_model_len", "ValueError", "max_num_batched_tokens (8192) is smaller than max_model_len (32768). This effectively limits the maximum sequence length to max_num_batched_tokens and makes vLLM reject longer sequences. Please increase max_num_batched_tokens or decrease max_model_len."},
		{"0.11.1", "m --max-num-seqs 512 --max-num-batched-tokens 256", "budget_num_seqs", "ValueError", "max_num_batched_tokens (256) must be greater than or equal to max_num_seqs (512)."},
		{"0.8.2", "m --max-num-batched-tokens 256", "budget_num_seqs", "ValueError", "max_num_batched_tokens (256) must be greater than or equal to max_num_seqs (1024)."},
		{"0.8.2", "m --num-speculative-tokens 2", "spec_without_model", "ValueError", "num_speculative_tokens was provided but without speculative model."},
		{"0.11.1", "m --speculative-config.num_speculative_tokens 2", "spec_without_model", "ValueError", "num_speculative_tokens was provided but without speculative model."},
		{"0.11.1", "m --speculative-config.method ngram --speculative-config.num_speculative_tokens 2 --speculative-config.prompt_lookup_min 4 --speculative-config.prompt_lookup_max 2", "lookup_order", "ValueError", "prompt_lookup_min=4 must be <= prompt_lookup_max=2"},
		{"0.11.1", "m --speculative-config.method ngram", "spec_tokens_missing", "ValueError", "num_speculative_tokens must be provided with speculative model unless the draft model config contains an n_predict parameter."},
		{"0.11.1", "m --speculative-config.method ngram --speculative-config.num_speculative_tokens 0", "spec_tokens", "ValueError", "Expected num_speculative_tokens to be greater than zero (0)."},
		{"0.10.0", "m --speculative-config.method glm4_moe_mtp --speculative-config.num_speculative_tokens 1", "mtp_weights", "ValueError", "Following weights were not initialized from checkpoint: {'model.embed_tokens.weight', 'model.layers.92.shared_head.head.weight'}"},
		{"0.9.2", "m --speculative-config.method mtp --speculative-config.num_speculative_tokens 1", "mtp_unknown", "ValueError", "num_speculative_tokens was provided but without speculative model."},
		{"0.11.1", "m --async-scheduling --speculative-config.method ngram --speculative-config.num_speculative_tokens 2", "async_spec", "ValueError", "Currently, speculative decoding is not supported with async scheduling."},
		{"0.14.0", "m --async-scheduling --speculative-config.method ngram --speculative-config.num_speculative_tokens 2", "async_spec", "ValueError", "Currently, async scheduling is only supported with EAGLE/MTP kind of speculative decoding."},
		{"0.17.1", "m --async-scheduling --speculative-config.method ngram --speculative-config.num_speculative_tokens 2", "async_spec", "ValueError", "Currently, async scheduling is only supported with EAGLE/MTP/Draft Model kind of speculative decoding."},
		{"0.11.1", "m --gpu-memory-utilization 1.5", "gpu_memory_utilization", "ValidationError", "1 validation error for CacheConfig\ngpu_memory_utilization\n  Input should be less than or equal to 1 "},
		{"0.8.2", "m --gpu-memory-utilization 1.5", "gpu_memory_utilization", "ValueError", "GPU memory utilization must be less than 1.0. Got 1.5."},
	} {
		cfg, err := resolve(t, c.version, c.line)
		var r *RefusalError
		if !errors.As(err, &r) {
			t.Errorf("%s %q: %v, want a refusal", c.version, c.line, err)
			continue
		}
		if r.Rule != c.rule || r.Kind != c.kind || !strings.HasPrefix(r.Text, c.text) || r.ExitCode != 1 || r.Class != ClassConfigRefused || r.Reason == "" {
			t.Errorf("%s %q:\n got %s %s: %s (%s, %d, reason %q)\nwant %s %s: %s", c.version, c.line, r.Rule, r.Kind, r.Text, r.Class, r.ExitCode, r.Reason, c.rule, c.kind, c.text)
		}
		// What the mock writes, the harness must recognise.
		var s LogScanner
		for _, l := range RefusalLines(MustVersion(c.version), cfg, r, 7) {
			for _, line := range strings.Split(l.Render(MustVersion(c.version), cfg, noon), "\n") {
				s.Line(line)
			}
		}
		root := s.Facts().RootCause
		first, _, _ := strings.Cut(r.Text, "\n")
		if root.Class != ClassConfigRefused || root.Echo || !strings.Contains(root.Text, strings.TrimSpace(first)) {
			t.Errorf("%s %q: the log is read as %+v", c.version, c.line, root)
		}
	}
}

func TestExpertParallelOnDenseModel(t *testing.T) {
	dense := GLM46()
	dense.Experts = 0
	_, err := ResolveArgv(MustVersion("0.11.1"), strings.Fields("m --enable-expert-parallel"), dense)
	if err == nil || err.Error() != "Number of experts in the model must be greater than 0 when expert parallelism is enabled." {
		t.Error(err)
	}
}

func TestLongModelLenOverride(t *testing.T) {
	a, err := ParseServeArgs(MustVersion("0.11.1"), []string{"m", "--max-model-len", "300000"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := a.ResolveWith(a.Version, GLM46(), ResolveOptions{AllowLongMaxModelLen: true})
	if err != nil || c.MaxModelLen != 300000 || len(c.Warnings) != 1 {
		t.Errorf("%v, %d, %q", err, c.MaxModelLen, c.Warnings)
	}
}

func TestChunkedPrefillByVersion(t *testing.T) {
	for _, s := range sweep {
		if !MustVersion(s).AtLeast("0.8.0") {
			continue
		}
		c := mustResolve(t, s, "m -tp 8 --max-model-len 32768 --no-enable-chunked-prefill")
		honoured := MustVersion(s).AtLeast("0.11.1")
		budget := map[bool]int{true: 32768, false: 8192}[honoured]
		if c.EnableChunkedPrefill == honoured || c.MaxNumBatchedTokens != budget || (len(c.Overrides) > 0) == honoured || ChunkedPrefillHonoured(c.Version) != honoured {
			t.Errorf("%s: chunked %t, budget %d, overrides %v", s, c.EnableChunkedPrefill, c.MaxNumBatchedTokens, c.Overrides)
		}
		warned := slices.ContainsFunc(c.Warnings, func(w string) bool {
			return strings.HasPrefix(w, "This model does not officially support disabling chunked")
		})
		if warned != MustVersion(s).AtLeast("0.12.0") {
			t.Errorf("%s: warned %t", s, warned)
		}
	}
}

func TestBudgets(t *testing.T) {
	for _, c := range []struct {
		version, line string
		budget, seqs  int
	}{
		{"0.11.1", "m --max-num-batched-tokens 512", 512, 512},
		{"0.11.1", "m --max-model-len 4096 --no-enable-chunked-prefill", 8192, 1024},
		{"0.17.0", "m --performance-mode throughput", 16384, 2048},
		{"0.14.0", "m --max-num-seqs 1 --max-model-len 4096", 4096, 1},
		{"0.11.1", "m --max-num-seqs 8", 8192, 8},
	} {
		cfg := mustResolve(t, c.version, c.line)
		if cfg.MaxNumBatchedTokens != c.budget || cfg.MaxNumSeqs != c.seqs {
			t.Errorf("%s %q: budget %d, seqs %d, want %d, %d", c.version, c.line, cfg.MaxNumBatchedTokens, cfg.MaxNumSeqs, c.budget, c.seqs)
		}
	}
}

func TestSpeculationByVersion(t *testing.T) {
	for _, c := range []struct {
		version, method string
		k               int
		argv            string
		refused         string
		async           bool
	}{
		{"0.8.2", "ngram", 2, "--speculative-model [ngram] --num-speculative-tokens 2 --ngram-prompt-lookup-max 5 --ngram-prompt-lookup-min 5", "", false},
		{"0.10.0", "ngram", 2, `--speculative-config {"method":"ngram","num_speculative_tokens":2}`, "", false},
		{"0.11.1", "ngram", 4, `--speculative-config {"method":"ngram","num_speculative_tokens":4}`, "", false},
		{"0.14.0", "ngram", 4, `--speculative-config {"method":"ngram","num_speculative_tokens":4}`, "", false},
		{"0.27.0", "ngram", 4, `--speculative-config {"method":"ngram","num_speculative_tokens":4}`, "", false},
		{"0.8.2", "mtp", 1, "--num-speculative-tokens 1", "mtp_unknown", false},
		{"0.10.0", "mtp", 1, `--speculative-config {"method":"glm4_moe_mtp","num_speculative_tokens":1}`, "mtp_weights", false},
		{"0.11.0", "mtp", 1, `--speculative-config {"method":"mtp","num_speculative_tokens":1}`, "mtp_weights", false},
		{"0.11.1", "mtp", 1, `--speculative-config {"method":"mtp","num_speculative_tokens":1}`, "", false},
		{"0.14.0", "mtp", 2, `--speculative-config {"method":"mtp","num_speculative_tokens":2}`, "", true},
		{"0.11.1", "draft_model", 2, `--speculative-config {"model":"/d","num_speculative_tokens":2}`, "draft_model", false},
		{"0.22.0", "draft_model", 2, `--speculative-config {"model":"/d","num_speculative_tokens":2}`, "", true},
	} {
		v := MustVersion(c.version)
		args, err := SpecArgs(v, c.method, "/d", c.k, 0, 0)
		if got := strings.Join(args, " "); got != c.argv {
			t.Errorf("%s %s: %s, want %s", v, c.method, got, c.argv)
		}
		cfg, rerr := ResolveArgv(v, append([]string{"m", "-tp", "8"}, args...), GLM46())
		for _, e := range []error{err, rerr} {
			var r *RefusalError
			if errors.As(e, &r) != (c.refused != "") || (r != nil && r.Rule != c.refused && c.version != "0.8.2") {
				t.Errorf("%s %s: refusal %v, want %q", v, c.method, e, c.refused)
			}
		}
		if c.refused != "" {
			continue
		}
		if cfg.Spec == nil || cfg.Spec.Method != c.method || cfg.Spec.NumSpeculativeTokens != c.k || cfg.AsyncScheduling != c.async {
			t.Errorf("%s %s: %+v, async %t", v, c.method, cfg.Spec, cfg.AsyncScheduling)
		}
		if c.method == "ngram" && (cfg.Spec.PromptLookupMin != 5 || cfg.Spec.PromptLookupMax != 5) {
			t.Errorf("%s: lookup %+v", v, cfg.Spec)
		}
	}
	if c := mustResolve(t, "0.14.0", "m --speculative-config.method ngram --speculative-config.num_speculative_tokens 2"); !slices.Contains(c.Warnings, "Async scheduling not supported with ngram-based speculative decoding and will be disabled.") {
		t.Errorf("warnings %q", c.Warnings)
	}
}

func TestContextParallelByVersion(t *testing.T) {
	for _, s := range sweep {
		v := MustVersion(s)
		flag, ok := ContextParallelFlag(v)
		if ok != HasFlag(v, flag) {
			t.Errorf("%s: %s, %t", s, flag, ok)
		}
		r := RefuseContextParallel(v, GLM46(), 8, 2)
		if r == nil || r.Reason == "" || (r.Class == ClassUnknownFlag) != (r.ExitCode == 2) || (r.ExitCode == 2) == ok {
			t.Errorf("%s: %+v", s, r)
		}
		if r := RefuseContextParallel(v, GLM46(), 8, 1); r != nil {
			t.Errorf("%s: one rank is refused: %v", s, r)
		}
	}
	if r := RefuseContextParallel(MustVersion("0.11.1"), GLM46(), 16, 2); r != nil {
		t.Errorf("16 ranks over 8 KV heads are refused: %v", r)
	}
}

func TestCaptureSizes(t *testing.T) {
	v := MustVersion("0.11.1")
	got := CaptureSizes(v, 1024, 0, 8192)
	if len(got) != 51 || got[0] != 1 || got[50] != 512 || !slices.IsSorted(got) || slices.Contains(got, 264) {
		t.Errorf("%d sizes: %v", len(got), got)
	}
	for _, c := range []struct {
		seqs, k, budget int
		want            []int
	}{
		{4, 0, 8192, []int{1, 2, 4, 8}}, {1, 0, 8192, []int{1, 2}}, {1, 3, 8192, []int{1, 2, 4, 8}}, {1024, 0, 20, []int{1, 2, 4, 8, 16}},
		{16, 4, 8192, []int{1, 2, 4, 8, 16, 24, 32, 40, 48, 56, 64, 72, 80, 88, 96, 104, 112, 120, 128, 136, 144, 152, 160}},
	} {
		if got := CaptureSizes(v, c.seqs, c.k, c.budget); !slices.Equal(got, c.want) {
			t.Errorf("CaptureSizes(%d, %d, %d) = %v, want %v", c.seqs, c.k, c.budget, got, c.want)
		}
	}
	for _, c := range []struct{ line, want string }{
		{"m --cudagraph-capture-sizes 8 1 4", "[1 4 8]"}, {"m --max-cudagraph-capture-size 16", "[1 2 4 8 16]"},
		{"m --cuda-graph-sizes 8", "[1 2 4 8]"}, {"m --compilation-config.cudagraph_capture_sizes [2,1]", "[1 2]"},
		{"m --enforce-eager", "[]"}, {"m --compilation-config.cudagraph_mode none", "[]"},
	} {
		if got := fmt.Sprint(mustResolve(t, "0.11.1", c.line).CaptureSizes); got != c.want {
			t.Errorf("%s: %s, want %s", c.line, got, c.want)
		}
	}
	if c := mustResolve(t, "0.12.0", "m -O0"); c.Compile || c.CaptureSizes != nil || c.EnforceEager {
		t.Errorf("-O0: %+v", c)
	}
}

func TestCaptureSizesProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := genVersion().Draw(t, "version")
		seqs, k, budget := rapid.IntRange(1, 4096).Draw(t, "seqs"), rapid.IntRange(0, 16).Draw(t, "k"), rapid.IntRange(1, 65536).Draw(t, "budget")
		got := CaptureSizes(v, seqs, k, budget)
		want := min(2*seqs*(1+k), 512, budget)
		if len(got) == 0 || got[0] != 1 || !slices.IsSorted(got) || got[len(got)-1] > want {
			t.Fatalf("%v for limit %d", got, want)
		}
		if len(slices.Compact(slices.Clone(got))) != len(got) {
			t.Fatalf("repeats: %v", got)
		}
	})
}
