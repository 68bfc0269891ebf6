package vllm

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func parse(t *testing.T, version, line string) (ServeArgs, error) {
	t.Helper()
	return ParseServeArgs(MustVersion(version), strings.Fields(line))
}

func TestParseServeArgs(t *testing.T) {
	a, err := parse(t, "0.11.1", `zai-org/GLM-4.6 --tensor_parallel_size=8 -dcp 2 --enable-expert-parallel --max-model-len 32K
		--max-num-batched-tokens 8k --no-enable-prefix-caching --kv-cache-dtype fp8 --gpu-memory-util 0.95 --served-model-name a b
		--speculative-config.method ngram --speculative_config.num_speculative_tokens 4 --api-key k1 k2 --port=8123 --enforce-eager`)
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintln(a.Model, a.TensorParallelSize, a.DecodeContextParallelSize, a.EnableExpertParallel, a.MaxModelLen, a.MaxNumBatchedTokens,
		*a.EnablePrefixCaching, a.KVCacheDtype, a.GPUMemoryUtilization, a.ServedModelNames, a.Values["--speculative-config"], a.APIKeys, a.Port, a.EnforceEager)
	want := `zai-org/GLM-4.6 8 2 true 32768 8000 false fp8 0.95 [a b] {"method":"ngram","num_speculative_tokens":4} [k1 k2] 8123 true` + "\n"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if !a.Set["--max-model-len"] || a.Set["--dtype"] {
		t.Errorf("Set = %v", a.Set)
	}
}

func TestParseErrors(t *testing.T) {
	for _, c := range []struct {
		version, line string
		class         Class
		want          string // the last line
	}{
		{"0.11.1", "m --context-parallel-size 8", ClassUnknownFlag, "vllm: error: unrecognized arguments: --context-parallel-size 8"},
		{"0.11.1", "--context-parallel-size 8 m", ClassUnknownFlag, "vllm: error: unrecognized arguments: --context-parallel-size m"},
		{"0.10.0", "m --decode-context-parallel-size 2", ClassUnknownFlag, "vllm: error: unrecognized arguments: --decode-context-parallel-size 2"},
		{"0.8.3", "m --speculative-model [ngram] --num-speculative-tokens 4", ClassUnknownFlag, "vllm: error: unrecognized arguments: --speculative-model [ngram] --num-speculative-tokens 4"},
		{"0.18.0", "m --swap-space 4", ClassUnknownFlag, "vllm: error: unrecognized arguments: --swap-space 4"},
		{"0.18.0", "m --disable-log-requests", ClassUnknownFlag, "vllm: error: unrecognized arguments: --disable-log-requests"},
		{"0.8.1", "m --speculative-config {}", ClassUnknownFlag, "vllm: error: unrecognized arguments: --speculative-config {}"},
		{"0.11.1", "m --max-model-len", ClassUsage, "vllm serve: error: argument --max-model-len: expected one argument"},
		{"0.11.1", "m --max-model-len abc", ClassUsage, "vllm serve: error: argument --max-model-len: invalid human_readable_int value: 'abc'"},
		{"0.11.1", "m --max-model-len 1.5K", ClassUsage, "vllm serve: error: argument --max-model-len: Decimals are not allowed with binary suffixes like K. Did you mean to use 1.5k instead?"},
		{"0.8.2", "m --max-model-len 32k", ClassUsage, "vllm serve: error: argument --max-model-len: invalid int value: '32k'"},
		{"0.11.1", "m -tp x", ClassUsage, "vllm serve: error: argument --tensor-parallel-size/-tp: invalid int value: 'x'"},
		{"0.11.1", "m --gpu-memory-utilization x", ClassUsage, "vllm serve: error: argument --gpu-memory-utilization: invalid float value: 'x'"},
		{"0.11.1", "m --scheduling-policy lifo", ClassUsage, "vllm serve: error: argument --scheduling-policy: invalid choice: 'lifo' (choose from 'fcfs', 'priority')"},
		{"0.11.1", "m --enforce-eager=yes", ClassUsage, "vllm serve: error: argument --enforce-eager: ignored explicit argument 'yes'"},
		{"0.11.1", "m --max-num 4", ClassUsage, "vllm serve: error: ambiguous option: --max-num could match --max-num-batched-tokens, --max-num-partial-prefills, --max-num-seqs"},
		{"0.11.1", "m x y", ClassUnknownFlag, "vllm: error: unrecognized arguments: x y"},
		{"0.11.1", "m -tp8", ClassUnknownFlag, "vllm: error: unrecognized arguments: -tp8"},
		{"0.8.2", "m --no-enforce-eager", ClassUnknownFlag, "vllm: error: unrecognized arguments: --no-enforce-eager"},
		{"0.11.1", "m --speculative-config {bad", ClassUsage, "vllm serve: error: argument --speculative-config: Value {bad cannot be converted to <function loads at 0x7f8f7f1e5bc0>."},
		{"0.11.1", "m --served-model-name", ClassUsage, "vllm serve: error: argument --served-model-name: expected at least one argument"},
	} {
		_, err := parse(t, c.version, c.line)
		var u *UsageError
		if !errors.As(err, &u) {
			t.Errorf("%s %q: %v, want a usage error", c.version, c.line, err)
			continue
		}
		lines := strings.Split(strings.TrimSuffix(u.Text, "\n"), "\n")
		if got := lines[len(lines)-1]; got != c.want || u.Class != c.class || u.ExitCode != 2 || !strings.HasPrefix(u.Text, "usage: vllm") {
			t.Errorf("%s %q:\n got %s (%s, exit %d)\nwant %s (%s, exit 2)", c.version, c.line, got, u.Class, u.ExitCode, c.want, c.class)
		}
		if Classify(u.Text, PhaseBoot) != c.class {
			t.Errorf("%s %q: Classify gives %s", c.version, c.line, Classify(u.Text, PhaseBoot))
		}
	}
}

func TestParseForms(t *testing.T) {
	for _, c := range []struct{ version, line, flag, want string }{
		{"0.11.1", "m --max-model-len=25.6k", "--max-model-len", "25600"},
		{"0.16.0", "m --max-model-len auto", "--max-model-len", "-1"},
		{"0.16.0", "m --max-model-len -1", "--max-model-len", "-1"},
		{"0.12.0", "m -O3", "--optimization-level", "3"},
		{"0.12.0", "m -O 1", "--optimization-level", "1"},
		{"0.11.1", "m -O3", "--compilation-config", `{"level":3}`},
		{"0.11.1", "m -O.level 2", "--compilation-config", `{"level":2}`},
		{"0.11.1", "m --compilation-config.pass_config.x true --compilation-config {\"level\":0}", "--compilation-config", `{"level":0,"pass_config":{"x":true}}`},
		{"0.11.1", "m --hf-overrides.list+ 1,b", "--hf-overrides", `{"list":[1,"b"]}`},
		{"0.8.2", "m --enable-chunked-prefill=False", "--enable-chunked-prefill", "false"},
		{"0.8.2", "m --no-enable-chunked-prefill", "--enable-chunked-prefill", "false"},
		{"0.11.1", "m --seed -3", "--seed", "-3"},
		{"0.22.0", "m --spec-method ngram", "--spec-method", "ngram"},
		{"0.11.1", "--port 9 m", "--port", "9"},
	} {
		a, err := parse(t, c.version, c.line)
		if err != nil {
			t.Errorf("%s %q: %v", c.version, c.line, err)
			continue
		}
		if got := a.Values[c.flag]; got != c.want || a.Model != "m" {
			t.Errorf("%s %q: %s = %q, want %q; model %q", c.version, c.line, c.flag, got, c.want, a.Model)
		}
	}
}

func TestDeprecatedFlagWarns(t *testing.T) {
	a, err := parse(t, "0.11.1", "m --disable-log-requests")
	if err != nil || !slices.Equal(a.Warnings, []string{"argument 'disable_log_requests' is deprecated"}) || a.LogRequests {
		t.Errorf("warnings %q, log requests %t, %v", a.Warnings, a.LogRequests, err)
	}
	for version, want := range map[string]bool{"0.10.0": true, "0.10.1": false} {
		if a, _ := parse(t, version, "m"); a.LogRequests != want {
			t.Errorf("%s: requests logged: %t, want %t", version, a.LogRequests, want)
		}
	}
}

func TestHumanInt(t *testing.T) {
	for in, want := range map[string]int{"32k": 32000, "32K": 32768, "1m": 1e6, "1M": 1 << 20, "25.6k": 25600, "2g": 2e9, "1T": 1 << 40, "7": 7, " 8 ": 8, "-1": -1, "1_000": 1000} {
		if got, err := HumanInt(in); err != nil || got != want {
			t.Errorf("HumanInt(%q) = %d, %v, want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "k", "1.5K", "1e3", "32kb", "0x10", "9999999999T", "99999999999999999999", "1__0", "k1"} {
		if got, err := HumanInt(in); err == nil {
			t.Errorf("HumanInt(%q) = %d, want an error", in, got)
		}
	}
}

// Order of flags and spelling do not matter.
func TestParseIsOrderFree(t *testing.T) {
	pairs := [][]string{
		{"--tensor-parallel-size", "8"}, {"--max-model-len", "32768"}, {"--enforce-eager"}, {"--kv-cache-dtype", "fp8"},
		{"--enable-expert-parallel"}, {"--no-enable-prefix-caching"}, {"--speculative-config", `{"method":"ngram","num_speculative_tokens":2}`},
	}
	rapid.Check(t, func(t *rapid.T) {
		v := MustVersion(rapid.SampledFrom([]string{"0.11.1", "0.14.0", "0.22.0", "0.27.0"}).Draw(t, "version"))
		order := rapid.Permutation(pairs).Draw(t, "order")
		at := rapid.IntRange(0, len(order)).Draw(t, "model at")
		var argv []string
		for i, p := range order {
			if i == at {
				argv = append(argv, "m")
			}
			if len(p) == 2 && rapid.Bool().Draw(t, "joined") {
				argv = append(argv, strings.ReplaceAll(p[0][2:], "-", "_"))
				argv[len(argv)-1] = "--" + argv[len(argv)-1] + "=" + p[1]
				continue
			}
			argv = append(argv, p...)
		}
		if at == len(order) {
			argv = append(argv, "m")
		}
		got, err := ParseServeArgs(v, argv)
		if err != nil {
			t.Fatalf("%q: %v", argv, err)
		}
		base := []string{"m"}
		for _, p := range pairs {
			base = append(base, p...)
		}
		want, err := ParseServeArgs(v, base)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%q\n got %+v\nwant %+v", argv, got, want)
		}
	})
}

func FuzzParseServeArgs(f *testing.F) {
	f.Add("0.11.1", "m\x00--tensor-parallel-size\x008")
	f.Add("0.8.2", "m\x00--speculative-model\x00[ngram]\x00--num-speculative-tokens\x002")
	f.Add("0.27.0", "--speculative-config.method\x00mtp\x00-O3\x00--\x00m")
	f.Add("0.22.0", "--max-model-len\x00auto\x00--x=1\x00-\x00--")
	f.Add("0.14.0", "m\x00--hf-overrides.a+\x001,2\x00--hf-overrides\x00{\"a\":null}")
	f.Fuzz(func(t *testing.T, version, joined string) {
		v, err := ParseVersion(version)
		if err != nil {
			v = MustVersion(DefaultVersion)
		}
		a, err := ParseServeArgs(v, strings.Split(joined, "\x00"))
		if err != nil {
			var u *UsageError
			if !errors.As(err, &u) || u.ExitCode != 2 || u.Text == "" {
				t.Fatalf("%q: not a usage error: %v", joined, err)
			}
			return
		}
		NonDefaultArgs(a)
		c, err := a.Resolve(v, GLM46())
		if err != nil {
			var r *RefusalError
			if !errors.As(err, &r) || r.Text == "" || r.Class == ClassNone {
				t.Fatalf("%q: not a refusal: %v", joined, err)
			}
			RefusalLines(v, c, r, 1)
			return
		}
		if c.MaxNumSeqs < 1 || c.MaxNumBatchedTokens < c.MaxNumSeqs || c.MaxModelLen == 0 || c.Dtype == "" {
			t.Fatalf("%q: bad configuration %+v", joined, c)
		}
	})
}

func FuzzHumanInt(f *testing.F) {
	for _, s := range []string{"32k", "32K", "1.5m", "9T", "-1", "1_0", "999999999999G"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := HumanInt(s); err == nil && strings.ContainsAny(s, "kKmMgGtT") && n < 0 {
			t.Fatalf("HumanInt(%q) = %d", s, n)
		}
	})
}
