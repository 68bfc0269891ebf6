package vllm

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Mismatch is a setting that the server did not apply as asked.
type Mismatch struct {
	// Setting is the flag's long name without dashes, such as "kv-cache-dtype".
	Setting, Wanted, Got string
	// Source says where the effective value was read.
	Source string
}

// String says it in words.
func (m Mismatch) String() string {
	return fmt.Sprintf("%s: asked for %s, the server has %s (%s)", m.Setting, m.Wanted, m.Got, m.Source)
}

var specText1 = regexp.MustCompile(`method='([^']*)'.*num_spec_tokens=(\d+)`)

// effective compares one configuration with one log.
type effective struct {
	want EngineConfig
	got  LogFacts
	out  []Mismatch
}

const (
	fromEngineLine = "engine-config line of the log"
	fromArgsLine   = "arguments line of the log"
	fromLog        = "log"
)

// CheckEffective compares what was asked with what the log says. Settings of
// which the log says nothing are not compared; a log without an engine-config
// line is compared by what else it says. The order is fixed.
//
// What the user asked counts, also where the version is known to override it:
// chunked prefill turned off on 0.8.0 to 0.11.0 is a mismatch.
func CheckEffective(wanted EngineConfig, got LogFacts) []Mismatch {
	e := &effective{want: wanted, got: got}
	e.version()
	e.engineLine()
	e.argsLine()
	e.elsewhere()
	return e.out
}

func (e *effective) add(setting, want, got, source string) {
	e.out = append(e.out, Mismatch{Setting: setting, Wanted: want, Got: got, Source: source})
}

func (e *effective) version() {
	if v := e.got.Version; !v.IsZero() && !e.want.Version.IsZero() && v.Compare(e.want.Version) != 0 {
		e.add("vllm-version", e.want.Version.String(), v.String(), fromLog)
	}
}

// line compares one field of the engine-config line if it is there.
func (e *effective) line(setting, want string, same func(want, got string) bool, keys ...string) {
	for _, k := range keys {
		got, ok := e.got.EngineConfig[k]
		if !ok {
			continue
		}
		if !same(want, got) {
			e.add(setting, want, got, fromEngineLine)
		}
		return
	}
}

func equal(a, b string) bool { return a == b }

func (e *effective) engineLine() {
	c := e.want
	e.line("model", c.Model, equal, "model")
	e.line("served-model-name", c.ServedName, func(w, g string) bool {
		return g == w || strings.HasPrefix(g, "['"+w+"'")
	}, "served_model_name")
	e.line("dtype", c.Dtype, func(w, g string) bool { return strings.TrimPrefix(g, "torch.") == w }, "dtype")
	if c.MaxModelLen > 0 {
		e.line("max-model-len", strconv.Itoa(c.MaxModelLen), equal, "max_seq_len", "max_model_len")
	}
	e.line("tensor-parallel-size", strconv.Itoa(c.TensorParallelSize), equal, "tensor_parallel_size")
	e.line("pipeline-parallel-size", strconv.Itoa(c.PipelineParallelSize), equal, "pipeline_parallel_size")
	e.line("data-parallel-size", strconv.Itoa(c.DataParallelSize), equal, "data_parallel_size")
	e.line("decode-context-parallel-size", strconv.Itoa(c.DecodeContextParallelSize), equal, "decode_context_parallel_size")
	e.line("trust-remote-code", pyBool(c.TrustRemoteCode), equal, "trust_remote_code")
	e.line("enforce-eager", pyBool(c.EnforceEager), equal, "enforce_eager")
	e.line("kv-cache-dtype", c.KVCacheDtype, func(w, g string) bool { return kvDtype(w) == kvDtype(g) }, "kv_cache_dtype")
	if c.Quantization != "" {
		e.line("quantization", c.Quantization, equal, "quantization")
	}
	e.line("enable-prefix-caching", pyBool(c.EnablePrefixCaching), equal, "enable_prefix_caching")
	chunked := c.EnableChunkedPrefill
	if asked := c.Args.EnableChunkedPrefill; asked != nil {
		chunked = *asked
	}
	e.line("enable-chunked-prefill", pyBool(chunked), equal, "enable_chunked_prefill", "chunked_prefill_enabled")
	e.line("speculative-config", specWords(c.Spec), func(w, g string) bool { return w == specWordsOf(g) }, "speculative_config")
}

// kvDtype makes spellings of one type equal.
func kvDtype(s string) string {
	if s == "fp8_e4m3" {
		return "fp8"
	}
	return strings.TrimPrefix(s, "torch.")
}

// specWords is a speculation as it is compared: method and tokens.
func specWords(s *SpecConfig) string {
	if s == nil {
		return "None"
	}
	return fmt.Sprintf("%s, %d tokens", s.Method, s.NumSpeculativeTokens)
}

func specWordsOf(got string) string {
	m := specText1.FindStringSubmatch(got)
	if m == nil {
		return got
	}
	method := m[1]
	if strings.HasSuffix(method, "_mtp") {
		method = "mtp" // older names of the same method
	}
	return method + ", " + m[2] + " tokens"
}

// argsLine compares settings that only the arguments line shows.
func (e *effective) argsLine() {
	if e.got.NonDefaultArgs == nil {
		return
	}
	c := e.want
	number := func(setting, key string, want float64, given bool) {
		got, ok := e.got.NonDefaultArgs[key]
		if !ok || got == "None" {
			if given && !ok {
				e.add(setting, pyNumber(want), "its default", fromArgsLine)
			}
			return
		}
		if x, err := pyFloat(got); err != nil || x != want {
			e.add(setting, pyNumber(want), got, fromArgsLine)
		}
	}
	given := func(flag, def string) bool { return c.Args.Set[flag] && c.Args.Values[flag] != def }
	f, _ := LookupFlag(c.Version, "--gpu-memory-utilization")
	number("gpu-memory-utilization", "gpu_memory_utilization", c.GPUMemoryUtilization, given(f.Name, f.DefaultText))
	if c.MaxNumBatchedTokensExplicit {
		number("max-num-batched-tokens", "max_num_batched_tokens", float64(c.MaxNumBatchedTokens), true)
	}
	if c.Args.Set["--max-num-seqs"] {
		number("max-num-seqs", "max_num_seqs", float64(c.MaxNumSeqs), true)
	}
}

// elsewhere compares what other lines show.
func (e *effective) elsewhere() {
	c := e.want
	if e.got.ExpertParallel && !c.EnableExpertParallel {
		e.add("enable-expert-parallel", "False", "True", fromLog)
	}
	// Since 0.10.2 the workers' names tell; before, silence says nothing.
	if c.EnableExpertParallel && !e.got.ExpertParallel && e.got.Started && c.Version.AtLeast("0.10.2") && c.workers() > 1 {
		e.add("enable-expert-parallel", "True", "False", "workers' names in the log")
	}
	if a := e.got.AsyncScheduling; a != nil && *a != c.AsyncScheduling {
		e.add("async-scheduling", pyBool(c.AsyncScheduling), pyBool(*a), fromLog)
	}
	if n := e.got.ChunkedPrefillBudget; n > 0 && c.EnableChunkedPrefill && n != c.MaxNumBatchedTokens {
		e.add("max-num-batched-tokens", strconv.Itoa(c.MaxNumBatchedTokens), strconv.Itoa(n), fromLog)
	}
	if n := e.got.MaxConcurrencyTokens; n > 0 && c.MaxModelLen > 0 && n != c.MaxModelLen && e.got.EngineConfig == nil {
		e.add("max-model-len", strconv.Itoa(c.MaxModelLen), strconv.Itoa(n), "concurrency line of the log")
	}
	if c.EnforceEager && e.got.GraphCaptureSeconds > 0 && e.got.EngineConfig == nil {
		e.add("enforce-eager", "True", "graphs were captured", fromLog)
	}
}
