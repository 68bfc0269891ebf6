package vllm

import (
	"slices"
	"strings"
	"testing"
)

// presence is docs/vllm.md section 1.1: the first release with a flag and the
// first without it.
var presence = []struct{ flag, since, until string }{
	{"--enforce-eager", "", ""}, {"--max-model-len", "", ""}, {"--kv-cache-dtype", "", ""}, {"--enable-prefix-caching", "", ""},
	{"--enable-chunked-prefill", "", ""}, {"--gpu-memory-utilization", "", ""}, {"--max-num-seqs", "", ""}, {"--max-num-batched-tokens", "", ""},
	{"--trust-remote-code", "", ""}, {"--dtype", "", ""}, {"--load-format", "", ""}, {"--tokenizer", "", ""}, {"--served-model-name", "", ""},
	{"--api-key", "", ""}, {"--host", "", ""}, {"--port", "", ""}, {"--seed", "", ""}, {"--generation-config", "", ""}, {"--block-size", "", ""},
	{"--num-gpu-blocks-override", "", ""}, {"--disable-log-stats", "", ""}, {"--compilation-config", "", ""}, {"--tool-call-parser", "", ""},
	{"--enable-auto-tool-choice", "", ""}, {"--enable-prompt-tokens-details", "", ""}, {"--enable-request-id-headers", "", ""},
	{"--disable-custom-all-reduce", "", ""}, {"--scheduling-policy", "", ""}, {"--uvicorn-log-level", "", ""},
	{"--enable-expert-parallel", "0.8.0", ""},
	{"--decode-context-parallel-size", "0.10.2", ""}, {"-dcp", "0.10.2", ""},
	{"--prefill-context-parallel-size", "0.12.0", ""}, {"-pcp", "0.12.0", ""},
	{"--speculative-model", "", "0.8.3"}, {"--num-speculative-tokens", "", "0.8.3"},
	{"--ngram-prompt-lookup-max", "", "0.8.3"}, {"--ngram-prompt-lookup-min", "", "0.8.3"},
	{"--speculative-config", "0.8.2", ""},
	{"--spec-method", "0.22.0", ""}, {"--spec-model", "0.22.0", ""}, {"--spec-tokens", "0.22.0", ""},
	{"--swap-space", "", "0.18.0"},
	{"--disable-log-requests", "", "0.18.0"}, {"--enable-log-requests", "0.10.1", ""},
	{"--async-scheduling", "0.10.0", ""}, {"--kv-cache-memory-bytes", "0.10.2", ""}, {"--optimization-level", "0.12.0", ""},
	{"--cuda-graph-sizes", "0.9.0", "0.13.0"}, {"--cudagraph-capture-sizes", "0.11.1", ""}, {"--max-cudagraph-capture-size", "0.11.1", ""},
	{"--max-seq-len-to-capture", "", "0.11.0"}, {"--num-scheduler-steps", "", "0.10.2"}, {"--use-v2-block-manager", "", "0.10.0"},
	{"--stream-interval", "0.11.1", ""}, {"--kv-offloading-size", "0.11.1", ""}, {"--performance-mode", "0.17.0", ""}, {"--moe-backend", "0.17.0", ""},
	{"--attention-backend", "0.13.0", ""}, {"--shutdown-timeout", "0.19.0", ""}, {"--scheduler-reserve-full-isl", "0.19.0", ""},
	{"--watermark", "0.24.0", ""}, {"--prefill-schedule-interval", "0.24.0", ""}, {"--max-num-scheduled-tokens", "0.26.0", ""},
	{"--max-num-partial-prefills", "0.7.0", "0.25.0"},
	{"--reasoning-parser", "0.7.0", ""}, {"--enable-reasoning", "0.7.0", "0.10.0"},
	{"--enable-force-include-usage", "0.9.0", ""},
}

var sweep = []string{
	"0.6.6.post1", "0.7.3", "0.8.0", "0.8.1", "0.8.2", "0.8.3", "0.8.5", "0.9.2", "0.10.0", "0.10.1", "0.10.2", "0.11.0", "0.11.1", "0.12.0", "0.13.0",
	"0.14.0", "0.15.0", "0.16.0", "0.17.0", "0.18.0", "0.19.0", "0.20.0", "0.21.0", "0.22.0", "0.23.0", "0.24.0", "0.25.0", "0.26.0", "0.27.0",
}

func TestFlagPresence(t *testing.T) {
	for _, p := range presence {
		for _, s := range sweep {
			v := MustVersion(s)
			want := (p.since == "" || v.AtLeast(p.since)) && (p.until == "" || !v.AtLeast(p.until))
			if got := HasFlag(v, p.flag); got != want {
				t.Errorf("HasFlag(%s, %s) = %t, want %t", s, p.flag, got, want)
			}
		}
	}
	for _, s := range sweep {
		if HasFlag(MustVersion(s), "--context-parallel-size") {
			t.Errorf("%s: --context-parallel-size never existed", s)
		}
	}
}

func TestFlagTableIsSound(t *testing.T) {
	for _, s := range sweep {
		v := MustVersion(s)
		seen := map[string]string{}
		for _, f := range Flags(v) {
			if f.Kind < FlagSwitch || f.Kind > FlagAppend || f.Help == "" || !strings.HasPrefix(f.Name, "--") {
				t.Errorf("%s %s: incomplete entry %+v", s, f.Name, f)
			}
			if f.Kind == FlagChoice && !slices.Contains(f.Choices, f.DefaultText) && f.Name != "--distributed-executor-backend" && f.Name != "--safetensors-load-strategy" {
				t.Errorf("%s %s: default %q is no choice", s, f.Name, f.DefaultText)
			}
			for _, n := range append([]string{f.Name, f.Negative(v)}, f.Aliases...) {
				if n == "" {
					continue
				}
				if other, ok := seen[n]; ok {
					t.Errorf("%s: %s stands for %s and %s", s, n, other, f.Name)
				}
				seen[n] = f.Name
			}
		}
	}
}

func TestFlagDefaults(t *testing.T) {
	for _, c := range []struct{ version, flag, want string }{
		{"0.20.0", "--gpu-memory-utilization", "0.9"}, {"0.21.0", "--gpu-memory-utilization", "0.92"},
		{"0.13.0", "--async-scheduling", "false"}, {"0.14.0", "--async-scheduling", "true"},
		{"0.7.3", "--enable-prefix-caching", "false"}, {"0.8.0", "--enable-prefix-caching", "true"},
		{"0.11.1", "--block-size", "16"}, {"0.7.3", "--max-num-seqs", "256"},
	} {
		f, ok := LookupFlag(MustVersion(c.version), c.flag)
		if !ok || f.DefaultText != c.want {
			t.Errorf("%s %s: default %q, want %q", c.version, c.flag, f.DefaultText, c.want)
		}
	}
	for _, s := range sweep {
		v := MustVersion(s)
		f, _ := LookupFlag(v, "--gpu-memory-utilization")
		if x, err := pyFloat(f.DefaultText); err != nil || x != DefaultGPUMemoryUtilization(v) {
			t.Errorf("%s: the table says %s, DefaultGPUMemoryUtilization %v", s, f.DefaultText, DefaultGPUMemoryUtilization(v))
		}
		if f, ok := LookupFlag(v, "--async-scheduling"); ok && (f.DefaultText == "true") != AsyncSchedulingDefault(v) {
			t.Errorf("%s: the table and AsyncSchedulingDefault differ", s)
		}
	}
}
