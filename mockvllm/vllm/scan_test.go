package vllm

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// failureClasses are the classes that a mock can play at start.
var failureClasses = []Class{
	ClassOOMLoad, ClassOOMCapture, ClassKVTooSmall, ClassNoKVMemory, ClassGPUBusy, ClassGPUFault, ClassNoGPU, ClassGPUUUID, ClassWeightsMissing,
	ClassModelUnknown, ClassHubOffline, ClassPortInUse, ClassShm, ClassDisk, ClassStaleFile, ClassHostMemory, ClassNCCL, ClassHang,
}

// A failed start is read as what it is, in every version, with its echoes
// marked as such.
func TestFailuresRoundTrip(t *testing.T) {
	for _, v := range KnownVersions() {
		for _, line := range []string{planArgs, startups[1].line, "m"} {
			c := mustResolve(t, v.String(), line)
			for _, class := range failureClasses {
				var b strings.Builder
				// What comes before: up to the phase where it happens.
				until := map[Class]Phase{ClassOOMCapture: PhaseCapture, ClassKVTooSmall: PhaseProfile, ClassNoKVMemory: PhaseProfile, ClassOOMLoad: PhaseLoad, ClassPortInUse: PhaseReady}[class]
				for _, l := range StartupLines(v, c, testFacts()) {
					if l.Phase < until {
						b.WriteString(l.Render(v, c, noon))
					}
				}
				b.WriteString(renderAll(v, c, FailureLines(v, c, class, FailureFacts{PID: 1, Rank: 2})))
				got := scanText(b.String())
				if got.RootCause.Class != class || got.RootCause.Echo || got.Started {
					t.Errorf("%s %q %s: root cause %+v", v, line, class, got.RootCause)
				}
				for _, f := range got.Fatal {
					if !f.Echo && f.Class != class {
						t.Errorf("%s %s: %+v is no echo", v, class, f)
					}
				}
				if Advice(class) == "" {
					t.Errorf("%s: no advice", class)
				}
			}
		}
	}
}

func TestEngineDeath(t *testing.T) {
	for _, v := range KnownVersions() {
		c := mustResolve(t, v.String(), planArgs)
		for _, class := range []Class{ClassNone, ClassOOMRun, ClassGPUFault, ClassNCCL, ClassKilled, ClassEngineDead} {
			text := renderAll(v, c, StartupLines(v, c, testFacts())) + renderAll(v, c, EngineDeathLines(v, c, class, FailureFacts{PID: 1}))
			got := scanText(text)
			want := class
			if class == ClassNone {
				want = ClassOOMRun
			}
			if got.RootCause.Class != want || got.RootCause.Echo || !got.Started {
				t.Errorf("%s %q: root cause %+v", v, class, got.RootCause)
			}
		}
	}
}

// A request's own error while serving is not the engine's.
func TestRequestErrorsAreNotFatal(t *testing.T) {
	v := MustVersion("0.11.1")
	c := mustResolve(t, "0.11.1", planArgs)
	got := scanText(renderAll(v, c, StartupLines(v, c, testFacts())) + `(APIServer pid=1) ERROR 11-24 12:10:00 [serving_chat.py:257] Error in preprocessing prompt inputs
(APIServer pid=1) ERROR 11-24 12:10:00 [serving_chat.py:257] Traceback (most recent call last):
(APIServer pid=1) ERROR 11-24 12:10:00 [serving_chat.py:257]   File "/x/serving_chat.py", line 236, in create_chat_completion
(APIServer pid=1) ERROR 11-24 12:10:00 [serving_chat.py:257] ValueError: This model's maximum context length is 32768 tokens. However, your request has 40000 input tokens.
(APIServer pid=1) INFO:     127.0.0.1:1234 - "POST /v1/chat/completions HTTP/1.1" 400 Bad Request
(EngineCore_DP0 pid=2) INFO 11-24 12:12:00 [shm_broadcast.py:466] No available shared memory broadcast block found in 60 seconds. This typically happens when some processes are hanging.
`)
	if len(got.Fatal) > 0 || got.BroadcastStalls != 1 || got.Phase != PhaseServing {
		t.Errorf("read as %+v", got)
	}
}

// Forms that servers in the field write and the mock does not: colour, V0-era
// headers without brackets, timestamps in front of the level, TP workers in
// pipelines, figures in one line, single-GPU servers.
func TestLogFormsInTheField(t *testing.T) {
	yes, no := true, false
	for _, c := range []struct {
		name, text string
		check      func(LogFacts) any
		want       any
	}{
		{"colour", "\x1b[1;36m(EngineCore_DP0 pid=1)\x1b[0;0m INFO 11-11 12:21:29 [kv_cache_utils.py:1087] GPU KV cache size: 12,345 tokens",
			func(f LogFacts) any { return f.KVTokens }, int64(12345)},
		{"one line", "(EngineCore pid=1) INFO 08-20 01:02:03 [kv_cache_utils.py:2150] GPU KV cache size: 2,084,352 tokens, Maximum concurrency for 32,768 tokens per request: 63.61x",
			func(f LogFacts) any { return fmt.Sprint(f.KVTokens, f.MaxConcurrencyTokens, f.MaxConcurrency) }, "2084352 32768 63.61"},
		{"no commas", "INFO 01-30 03:19:14 kv_cache_utils.py:398] Maximum concurrency for 2048 tokens per request: 10.79x",
			func(f LogFacts) any { return fmt.Sprint(f.MaxConcurrencyTokens, f.MaxConcurrency) }, "2048 10.79"},
		{"smallest worker", "GPU KV cache size: 900 tokens\nGPU KV cache size: 880 tokens\nGPU KV cache size: 1,000 tokens",
			func(f LogFacts) any { return f.KVTokens }, int64(880)},
		{"model runner v2", "(EngineCore pid=1) INFO 06-02 00:51:40 [model_runner.py:295] Model loading took 7.64 GiB and 32.969258 seconds",
			func(f LogFacts) any { return fmt.Sprint(f.ModelMemoryGiB, f.ModelLoadSeconds) }, "7.64 32.969258"},
		{"before 0.8", "INFO 10-07 22:54:54 model_runner.py:1025] Loading model weights took 67.7229 GB",
			func(f LogFacts) any { return f.ModelMemoryGiB }, 67.7229},
		{"pipeline worker", "(Worker_PP2_TP0_EP0 pid=739) INFO 11-16 03:19:22 [gpu_model_runner.py:3126] Model loading took 52.5 GiB memory and 1101.69 seconds",
			func(f LogFacts) any { return fmt.Sprint(f.ModelMemoryGiB, f.ExpertParallel) }, "52.5 true"},
		{"logo", "(APIServer pid=10) INFO 04-18 20:22:57 [utils.py:299] \u2584\u2584 \u2584\u2588 \u2588 \u2588 \u2588 \u2580\u2584\u2580 \u2588 version 0.19.0",
			func(f LogFacts) any { return f.Version.String() }, "0.19.0"},
		{"no logo", "(APIServer pid=10) INFO 04-18 20:22:57 [utils.py:299] vLLM server version 0.19.0, serving model x/y",
			func(f LogFacts) any { return f.Version.String() }, "0.19.0"},
		{"odd version", "INFO 04-04 16:30:36 [core.py:61] Initializing a V1 LLM engine (v0.8.3.dev244+g8b3a4a17e) with config: model='a', served_model_name=a, x=f(1, b=[2, '3,4'], c={'k': \"v, w\"}), enable_prefix_caching=True",
			func(f LogFacts) any {
				return fmt.Sprint(f.Version, " ", f.EngineConfig["x"], " ", f.EngineConfig["enable_prefix_caching"], " ", f.EngineConfig["model"])
			}, "0.8.3.dev244+g8b3a4a17e f(1, b=[2, '3,4'], c={'k': \"v, w\"}) True a"},
		{"local build", "INFO 11-16 02:57:35 [api_server.py:1977] vLLM API server version 0.11.1rc7.dev218+gf849ee739",
			func(f LogFacts) any { return f.VersionText }, "0.11.1rc7.dev218+gf849ee739"},
		{"before 0.7", "INFO 10-07 22:54:54 llm_engine.py:226] Initializing an LLM engine (v0.6.6.post1) with config: model='a', dtype=torch.bfloat16",
			func(f LogFacts) any { return fmt.Sprint(f.Version, f.Phase, " ", f.EngineConfig["dtype"]) }, "0.6.6.post1 init torch.bfloat16"},
		{"cached graphs", "(Worker_TP3 pid=48397) INFO 10-14 11:34:17 [backends.py:161] Directly load the compiled graph(s) for dynamic shape from the cache, took 6.208 s",
			func(f LogFacts) any { return fmt.Sprint(f.CompileCached, f.Phase) }, "true compile"},
		{"new total", "(Worker_TP0 pid=1) INFO 04-01 10:00:00 [monitor.py:34] torch.compile took 28.77 s in total",
			func(f LogFacts) any { return fmt.Sprint(f.CompileSeconds, f.Phase) }, "28.77 profile"},
		{"eager init", "(EngineCore pid=1) INFO 05-26 21:34:14 [core.py:299] init engine (profile, create kv cache, warmup model) took 13.70 s (compilation: 7.28 s)",
			func(f LogFacts) any { return fmt.Sprint(f.EngineInitSeconds, f.Phase) }, "13.7 ready"},
		{"async on", "INFO 02-02 10:00:00 [vllm.py:600] Asynchronous scheduling is enabled.", func(f LogFacts) any { return *f.AsyncScheduling }, yes},
		{"async off", "INFO 02-02 10:00:00 [vllm.py:600] Asynchronous scheduling is disabled.", func(f LogFacts) any { return *f.AsyncScheduling }, no},
		{"older bars", "Loading safetensors checkpoint shards: 100% 1/1 [00:05<00:00,  5.34s/it]",
			func(f LogFacts) any { return fmt.Sprint(f.ShardsDone, f.Shards, f.Phase) }, "1 1 load"},
		{"bar overwritten", "Capturing CUDA graphs:   0%|  | 0/67 [00:00<?, ?it/s]\rCapturing CUDA graphs: 100%|##| 67/67 [00:14<00:00,  4.71it/s]",
			func(f LogFacts) any { return fmt.Sprint(f.CaptureDone, f.CaptureTotal, f.Phase) }, "67 67 capture"},
		{"blocks", "INFO 06-22 02:55:02 [loggers.py:137] Engine 000: vllm cache_config_info with initialization after num_gpu_blocks is: 15745",
			func(f LogFacts) any { return f.NumGPUBlocks }, 15745},
		{"uuid and its echo", `(APIServer pid=1) ERROR 11-24 09:00:00 [registry.py:700] Error in inspecting model architecture 'Glm4MoeForCausalLM'
(APIServer pid=1) ERROR 11-24 09:00:00 [registry.py:700] Traceback (most recent call last):
(APIServer pid=1) ERROR 11-24 09:00:00 [registry.py:700] ValueError: invalid literal for int() with base 10: 'GPU-8f6c'
(APIServer pid=1) Traceback (most recent call last):
(APIServer pid=1) pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig
(APIServer pid=1)   Value error, Model architectures ['Glm4MoeForCausalLM'] failed to be inspected. Please check the logs for more details.`,
			func(f LogFacts) any { return f.RootCause.Class }, ClassGPUUUID},
		{"validation error", `(APIServer pid=1) Traceback (most recent call last):
(APIServer pid=1) pydantic_core._pydantic_core.ValidationError: 1 validation error for VllmConfig
(APIServer pid=1)   Assertion failed, tensor parallel size 8 must be greater than total num kv heads 8 when enable decode context parallel for GQA/MQA [type=assertion_error]`,
			func(f LogFacts) any {
				return fmt.Sprint(strings.Contains(f.RootCause.Text, "tensor parallel size 8"), " ", f.RootCause.Class)
			}, "true config_refused"},
		{"shell says killed", "Killed", func(f LogFacts) any { return f.RootCause.Class }, ClassKilled},
		{"bus error", "Bus error (core dumped)", func(f LogFacts) any { return f.RootCause.Class }, ClassShm},
		{"port", `ERROR:    [Errno 98] error while attempting to bind on address ('0.0.0.0', 8000): address already in use`,
			func(f LogFacts) any { return f.RootCause.Class }, ClassPortInUse},
		{"a warning about errors", "(APIServer pid=1) WARNING 11-24 09:00:00 [x.py:1] ValueError: CUDA out of memory is possible",
			func(f LogFacts) any { return fmt.Sprint(len(f.Fatal), len(f.Warnings)) }, "0 1"},
		{"stopping", "INFO:     Shutting down", func(f LogFacts) any { return f.Phase }, PhaseStopping},
	} {
		if got := c.check(scanText(c.text)); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

// Eight workers that fail alike are one error; the log of a long run stays
// small.
func TestScannerIsBounded(t *testing.T) {
	var s LogScanner
	for r := range 8 {
		p := fmt.Sprintf("(Worker_TP%d pid=%d) ERROR 11-24 12:00:00 [multiproc_executor.py:743] ", r, r+10)
		for _, m := range []string{"WorkerProc failed to start.", "Traceback (most recent call last):", "torch.OutOfMemoryError: " + OutOfMemoryText(r, 1, 139.8, 0.5+float64(r))} {
			s.Line(p + m)
		}
	}
	if f := s.Facts(); len(f.Fatal) != 2 || f.RootCause.Class != ClassOOMLoad || f.RootCause.Proc != "Worker_TP0" || f.RootCause.Line != 3 {
		t.Errorf("%+v", f.Fatal)
	}
	for i := range 5000 {
		s.Line(fmt.Sprintf("WARNING 11-24 12:00:00 [a.py:1] warning %c%d", 'a'+i%26, i))
		s.Line(fmt.Sprintf("(P%d pid=%d) Traceback (most recent call last):", i, i))
		s.Line(fmt.Sprintf("RuntimeError: CUDA out of memory %c%c", 'a'+i%26, 'a'+i/26%26))
	}
	f := s.Facts()
	if len(f.Warnings) != maxWarnings || len(f.Fatal) > maxFatal || len(s.tracebacks) > 256 {
		t.Errorf("%d warnings, %d errors, %d tracebacks", len(f.Warnings), len(f.Fatal), len(s.tracebacks))
	}
	s.Line(strings.Repeat("x", 1<<20))
}

// Facts shares nothing with the scanner.
func TestFactsAreCopies(t *testing.T) {
	v := MustVersion("0.22.0")
	c := mustResolve(t, "0.22.0", planArgs)
	var s LogScanner
	for _, line := range strings.Split(renderAll(v, c, StartupLines(v, c, testFacts())), "\n") {
		s.Line(line)
	}
	a := s.Facts()
	a.EngineConfig["dtype"] = "changed"
	*a.AsyncScheduling = !*a.AsyncScheduling
	b := s.Facts()
	if b.EngineConfig["dtype"] == "changed" || *b.AsyncScheduling == *a.AsyncScheduling {
		t.Error("a change of the facts reaches the scanner")
	}
}

func TestCheckEffectiveFindsEveryChange(t *testing.T) {
	base := "m -tp 8 --dtype bfloat16 --gpu-memory-utilization 0.95 --max-model-len 32768"
	for _, c := range []struct{ version, wanted, server, setting string }{
		{"0.11.1", base + " --kv-cache-dtype fp8", base, "kv-cache-dtype"},
		{"0.11.1", base, base + " --kv-cache-dtype fp8", "kv-cache-dtype"},
		{"0.11.1", base + " --no-enable-prefix-caching", base, "enable-prefix-caching"},
		{"0.11.1", base + " --no-enable-chunked-prefill", base, "enable-chunked-prefill"},
		{"0.10.0", base + " --no-enable-chunked-prefill", base + " --no-enable-chunked-prefill", "enable-chunked-prefill"},
		{"0.8.2", base + " --no-enable-chunked-prefill", base, "enable-chunked-prefill"},
		{"0.11.1", base + " --enforce-eager", base, "enforce-eager"},
		{"0.11.1", base + " --enable-expert-parallel", base, "enable-expert-parallel"},
		{"0.11.1", base, base + " --enable-expert-parallel", "enable-expert-parallel"},
		{"0.11.1", base, "m -tp 4 --dtype bfloat16 --gpu-memory-utilization 0.95 --max-model-len 32768", "tensor-parallel-size"},
		{"0.11.1", base, "m -tp 8 --dtype half --gpu-memory-utilization 0.95 --max-model-len 32768", "dtype"},
		{"0.11.1", base, "m -tp 8 --dtype bfloat16 --gpu-memory-utilization 0.9 --max-model-len 32768", "gpu-memory-utilization"},
		{"0.11.1", base, "m -tp 8 --dtype bfloat16 --gpu-memory-utilization 0.95 --max-model-len 16384", "max-model-len"},
		{"0.11.1", base + " --trust-remote-code", base, "trust-remote-code"},
		{"0.11.1", base + " --max-num-batched-tokens 4096", base, "max-num-batched-tokens"},
		{"0.11.1", base + " --max-num-seqs 8", base, "max-num-seqs"},
		{"0.11.1", base + " --served-model-name a", base, "served-model-name"},
		{"0.11.1", base + ` --speculative-config {"method":"ngram","num_speculative_tokens":2}`, base, "speculative-config"},
		{"0.11.1", base + ` --speculative-config {"method":"ngram","num_speculative_tokens":2}`, base + ` --speculative-config {"method":"ngram","num_speculative_tokens":4}`, "speculative-config"},
		{"0.22.0", base, base + " --no-async-scheduling", "async-scheduling"},
		{"0.22.0", base + " --data-parallel-size 2", base, "data-parallel-size"},
	} {
		v := MustVersion(c.version)
		wanted, server := mustResolve(t, c.version, c.wanted), mustResolve(t, c.version, c.server)
		got := CheckEffective(wanted, scanText(renderAll(v, server, StartupLines(v, server, testFacts()))))
		found := false
		for _, m := range got {
			found = found || m.Setting == c.setting
			if m.String() == "" || m.Wanted == m.Got {
				t.Errorf("empty mismatch %+v", m)
			}
		}
		if !found || len(got) > 3 {
			t.Errorf("%s %q on %q: %v, want %s", c.version, c.wanted, c.server, got, c.setting)
		}
	}
	wanted := mustResolve(t, "0.14.0", base)
	v := MustVersion("0.11.1")
	server := mustResolve(t, "0.11.1", base)
	if m := CheckEffective(wanted, scanText(renderAll(v, server, StartupLines(v, server, testFacts())))); len(m) != 1 || m[0].Setting != "vllm-version" {
		t.Errorf("another version: %v", m)
	}
	if m := CheckEffective(wanted, LogFacts{}); len(m) > 0 {
		t.Errorf("an empty log: %v", m)
	}
}

// Splitting never loses a pair, whatever the values hold.
func TestSplitPairs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := map[string]string{}
		var parts []string
		for range rapid.IntRange(0, 6).Draw(t, "n") {
			k := rapid.StringMatching(`[a-z_]{1,8}`).Draw(t, "key")
			if _, ok := want[k]; ok {
				continue
			}
			s := rapid.StringMatching(`[ -~]{0,12}`).Draw(t, "value")
			want[k] = s
			parts = append(parts, k+"="+pyQuote(s))
		}
		got := splitPairs(strings.Join(parts, ", "), '=')
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%q: got %q, want %q", parts, got, want)
		}
	})
}

func FuzzLogScanner(f *testing.F) {
	f.Add("(EngineCore_DP0 pid=1) INFO 11-24 12:00:00 [core.py:93] Initializing a V1 LLM engine (v0.11.1) with config: model='a', x=(1,")
	f.Add("\rCapturing CUDA graphs: 1%| 1/2 [\r\x1b[31mERROR 11-24 12:00:00 [a.py:1] Traceback (most recent call last):\nValueError: x")
	f.Add("SpecDecoding metrics: Per-position acceptance rate: 0.1, , Accepted: 9")
	f.Add("pydantic_core._pydantic_core.ValidationError: 1 validation error\nfield\n  Value error, x")
	f.Fuzz(func(t *testing.T, text string) {
		var s LogScanner
		last := PhaseBoot
		for _, line := range strings.Split(text, "\n") {
			p := s.Line(line)
			if p < last {
				t.Fatalf("phase went back from %v to %v", last, p)
			}
			last = p
		}
		got := s.Facts()
		if len(got.Fatal) > maxFatal || len(got.Warnings) > maxWarnings || (len(got.Fatal) > 0) != (got.RootCause.Text != "" || got.RootCause.Class != ClassNone) {
			t.Fatalf("%+v", got)
		}
		CheckEffective(EngineConfig{Version: MustVersion("0.11.1")}, got)
	})
}
