package experiment

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"mvdan.cc/sh/v3/shell"
	"pgregory.net/rapid"

	"github.com/glm46/glm46/mockvllm/vllm"
)

// qsubLines are the arguments of `qsub -v` that the experiment plan writes, and
// the cell that each names. Their values hold no comma or quote, so that
// splitting at commas is what qsub does.
var qsubLines = []struct{ v, cell, argv string }{
	{"EXP_NAME=1B_compiled,ENFORCE_EAGER=no,NUM_SAMPLES=100", "1B", "-enforce-eager"},
	{"EXP_NAME=2B_no_ep,ENABLE_EP=no,NUM_SAMPLES=100", "2B", "-enable-expert-parallel"},
	{"EXP_NAME=3B_dcp2,CONTEXT_PARALLEL_SIZE=2,MAX_MODEL_LEN=131072,DATASET_TYPE=64k,NUM_SAMPLES=100", "3B", "+decode-context-parallel-size 2"},
	{"EXP_NAME=3C_dcp4,CONTEXT_PARALLEL_SIZE=4,MAX_MODEL_LEN=131072,DATASET_TYPE=64k,NUM_SAMPLES=100", "3C", "+decode-context-parallel-size 4"},
	{"EXP_NAME=4A_len16k,MAX_MODEL_LEN=16384,NUM_SAMPLES=100", "4A", "+max-model-len 16384"},
	{"EXP_NAME=4C_len65k,MAX_MODEL_LEN=65536,NUM_SAMPLES=100", "4C/8k", "+max-model-len 65536"},
	{"EXP_NAME=4D_len131k,MAX_MODEL_LEN=131072,DATASET_TYPE=64k,NUM_SAMPLES=100", "4D", "+max-model-len 131072"},
	{"EXP_NAME=5B_kv_bf16,KV_CACHE_DTYPE=auto,NUM_SAMPLES=100", "5B", "+kv-cache-dtype auto"},
	{"EXP_NAME=6B_no_prefix_cache,ENABLE_PREFIX_CACHING=no,NUM_SAMPLES=100", "6B", "+no-enable-prefix-caching"},
	{"EXP_NAME=7B_no_chunked,ENABLE_CHUNKED_PREFILL=no,NUM_SAMPLES=100", "7B", "+no-enable-chunked-prefill"},
	{"EXP_NAME=8B_mtp2,ENABLE_MTP=yes,MTP_NUM_TOKENS=2,NUM_SAMPLES=100", "8B", "+speculative-config"},
	{"EXP_NAME=8C_mtp4,ENABLE_MTP=yes,MTP_NUM_TOKENS=4,NUM_SAMPLES=100", "8C", "+speculative-config"},
}

func TestQsubLines(t *testing.T) {
	plan := map[string]Cell{}
	for _, c := range resolve(t, Request{All: true}) {
		plan[c.ID] = c
	}
	for _, line := range qsubLines {
		t.Run(line.cell, func(t *testing.T) {
			cells := resolve(t, Request{Environ: append([]string{"PATH=/bin", "RTYPE=rt_HF"}, strings.Split(line.v, ",")...)})
			require.Len(t, cells, 1)
			c := cells[0]
			if c.Label() != line.cell || c.ConfigHash != plan[line.cell].ConfigHash {
				t.Errorf("got %s with hash %s, want %s with %s", c.Label(), c.ConfigHash, line.cell, plan[line.cell].ConfigHash)
			}
			wantName, _, _ := strings.Cut(strings.TrimPrefix(line.v, "EXP_NAME="), ",")
			if c.ExpName != wantName {
				t.Errorf("results folder: got %s, want %s", c.ExpName, wantName)
			}
			argv, _ := c.Argv(vllm.MustVersion(vllm.DefaultVersion), "")
			text := strings.Join(argv, " ")
			if has, want := strings.Contains(text, "--"+line.argv[1:]), line.argv[0] == '+'; has != want {
				t.Errorf("--%s: got %v, want %v in %s", line.argv[1:], has, want, text)
			}
		})
	}
}

func TestSelection(t *testing.T) {
	for _, c := range []struct {
		name string
		r    Request
		want string
	}{
		{"all data sets", Request{Experiments: []string{"3A"}}, "3A/8k 3A/64k"},
		{"one", Request{Experiments: []string{"3A/64k"}}, "3A/64k"},
		{"list in the plan's order", Request{Experiments: []string{"8B,1A", "5B"}}, "1A 5B 8B"},
		{"each once", Request{Experiments: []string{"3A,3A/8k", "3A"}}, "3A/8k 3A/64k"},
		{"exact name of a single cell", Request{Experiments: []string{"5B/8k"}}, "5B"},
		{"group", Request{Group: 4}, "4A 4B 4C/8k 4C/64k 4D"},
		{"group with added", Request{Group: 3, Added: true}, "3A/8k 3A/64k 3B 3C 3D 3E 3F"},
		{"added by name", Request{Experiments: []string{"8E"}}, "8E"},
		{"all of one data set", Request{All: true, Dataset: "64k"}, "3A/64k 3B 3C 4C/64k 4D"},
		{"data set of a list", Request{Experiments: []string{"3A,4C"}, Set: []string{"DATASET_TYPE=8k"}}, "3A/8k 4C/8k"},
		{"flag over environment", Request{Experiments: []string{"3A/64k"}, Environ: []string{"DATASET_TYPE=8k"}}, "3A/64k"},
		{"foreign data set", Request{Experiments: []string{"5B"}, Dataset: "64k"}, "5B/64k*"},
		{"EXP_NAME alone", Request{Environ: []string{"EXP_NAME=5B"}}, "5B"},
		{"EXP_NAME is one cell", Request{Environ: []string{"EXP_NAME=3A"}}, "3A/8k"},
		{"EXP_NAME with data set", Request{Environ: []string{"EXP_NAME=3A-x", "DATASET_TYPE=64k"}}, "3A/64k"},
		{"EXP_NAME with its only data set", Request{Environ: []string{"EXP_NAME=4D.2"}}, "4D"},
		{"custom", Request{Environ: []string{"EXP_NAME=5X_y"}}, "5X_y"},
		{"custom, no separator", Request{Environ: []string{"EXP_NAME=5Bx"}}, "5Bx"},
		{"custom, other case", Request{Environ: []string{"EXP_NAME=5b"}}, "5b"},
		{"--exp replaces any EXP_NAME", Request{Experiments: []string{"5B"}, Environ: []string{"EXP_NAME=$(touch x)"}}, "5B"},
		{"EXP_NAME by --set", Request{Set: []string{"EXP_NAME=2B_x"}, Environ: []string{"EXP_NAME=5B"}}, "2B"},
		{"the last of a name wins", Request{Environ: []string{"EXP_NAME=5B", "EXP_NAME=2B"}}, "2B"},
		{"modified", Request{Environ: []string{"EXP_NAME=5B", "MAX_MODEL_LEN=16384"}}, "5B*"},
		{"same value is no change", Request{Environ: []string{"EXP_NAME=5B", "MAX_MODEL_LEN=32K", "GPU_MEMORY_UTILIZATION=0.950", "SPECULATIVE_MODEL=[ngram]", "ENABLE_MTP=no"}[:4]}, "5B"},
		{"fewer samples", Request{Environ: []string{"EXP_NAME=5B", "NUM_SAMPLES=10"}}, "5B*"},
		{"cap", Request{Experiments: []string{"5B"}, MaxTokens: 100}, "5B*"},
		{"speculation off", Request{Experiments: []string{"8B"}, Set: []string{"ENABLE_MTP=no"}}, "8B*"},
		{"[ngram] is the method", Request{Experiments: []string{"8B"}, Set: []string{"SPECULATIVE_MODEL=[ngram]"}}, "8B"},
	} {
		t.Run(c.name, func(t *testing.T) {
			// SPECULATIVE_MODEL alone is an error of its own; see TestUsageErrors.
			c.r.Environ = slices.DeleteFunc(c.r.Environ, func(e string) bool { return strings.HasPrefix(e, "SPECULATIVE_MODEL") })
			cells, err := Default().Resolve(c.r)
			require.NoError(t, err)
			if got := strings.Join(ids(cells), " "); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestPrecedence(t *testing.T) {
	c := resolve(t, Request{Experiments: []string{"4A"}, Environ: []string{"MAX_MODEL_LEN=8192", "ENABLE_EP=no"}, Set: []string{"MAX_MODEL_LEN=1k", "MAX_MODEL_LEN=32k"}})[0]
	if c.Settings.MaxModelLen != 32000 || c.Settings.EnableEP || !c.Settings.EnforceEager {
		t.Errorf("got %+v", c.Settings)
	}
	require.Equal(t, []EnvVar{{"ENABLE_EP", "no"}, {"MAX_MODEL_LEN", "32000"}}, c.Differs)
	// A modified cell shows which cell of the plan it equals.
	c = resolve(t, Request{Experiments: []string{"5A"}, Set: []string{"KV_CACHE_DTYPE=auto"}})[0]
	require.Equal(t, "5A*", c.Label())
	require.Equal(t, []string{"5B"}, c.SameAs)
	c = resolve(t, Request{Environ: []string{"EXP_NAME=mine", "MAX_MODEL_LEN=16384"}})[0]
	require.Equal(t, []string{"4A"}, c.SameAs)
	require.True(t, c.Custom)
	require.Equal(t, 0, c.Group)
}

func TestUsageErrors(t *testing.T) {
	for _, c := range []struct {
		name string
		r    Request
		want string
	}{
		{"nothing", Request{}, "no experiment: set EXP_NAME"},
		{"empty EXP_NAME", Request{Environ: []string{"EXP_NAME="}}, "no experiment"},
		{"added alone", Request{Added: true}, "no experiment"},
		{"unknown", Request{Experiments: []string{"5X"}}, `unknown experiment "5X"; nearest: 5A, 5B`},
		{"other case", Request{Experiments: []string{"5b"}}, `nearest: 5B`},
		{"cell that is not there", Request{Experiments: []string{"5B/64k"}}, "--exp 5B --dataset 64k makes one"},
		{"unknown data set", Request{Experiments: []string{"3A/16k"}}, "nearest: 3A/8k, 3A/64k"},
		{"empty in a list", Request{Experiments: []string{"5B,,1A"}}, `unknown experiment ""`},
		{"exp and all", Request{Experiments: []string{"5B"}, All: true}, "neither with --group nor with --all"},
		{"group and all", Request{Group: 1, All: true}, "does not go with --all"},
		{"group", Request{Group: 9}, "no such group (it has 1, 2, 3, 4, 5, 6, 7, 8)"},
		{"base", Request{All: true, Base: "eagr"}, "want eager or compiled; nearest: eager"},
		{"set without =", Request{All: true, Set: []string{"ENABLE_EP"}}, "want NAME=VALUE"},
		{"set unknown", Request{All: true, Set: []string{"ENABLE_EPP=no"}}, "nearest: ENABLE_EP"},
		{"contradiction", Request{All: true, Set: []string{"NUM_SAMPLES=5"}, NumSamples: 6}, "contradict each other"},
		{"data set contradiction", Request{Experiments: []string{"3A/64k"}, Dataset: "8k"}, "contradict each other"},
		{"data set", Request{All: true, Dataset: "8K"}, `DATASET_TYPE: want 8k or 64k, got "8K"; nearest: 8k`},
		{"concurrency", Request{All: true, Concurrency: "8,x"}, "want whole numbers from 1 to 100000"},
		{"concurrency 0", Request{All: true, Concurrency: "0"}, "want whole numbers"},
		{"concurrency twice", Request{All: true, Concurrency: "8,8"}, "8 is there twice"},
		{"rate", Request{All: true, RequestRate: -1}, "--request-rate: want requests/s"},
		{"both loops", Request{All: true, RequestRate: 1, Concurrency: "8"}, "does not go with --concurrency"},
		{"samples", Request{All: true, NumSamples: -1}, "NUM_SAMPLES: want a whole number"},
		{"tokens", Request{All: true, MaxTokens: -1}, "MAX_TOKENS: want a whole number"},
		{"MTP without number", Request{Experiments: []string{"5B"}, Set: []string{"ENABLE_MTP=yes"}}, "5B: ENABLE_MTP=yes needs MTP_NUM_TOKENS"},
		{"number without MTP", Request{Experiments: []string{"5B"}, Set: []string{"MTP_NUM_TOKENS=2"}}, "changes nothing without ENABLE_MTP=yes"},
		{"method without MTP", Request{Experiments: []string{"5B"}, Environ: []string{"MTP_METHOD=mtp"}}, "changes nothing without ENABLE_MTP=yes"},
		{"draft with mtp", Request{Experiments: []string{"8D"}, Set: []string{"SPECULATIVE_MODEL=[ngram]"}}, "does not go with MTP_METHOD=mtp"},
		{"misspelt", Request{All: true, Environ: []string{"KV_CACHE_DTPYE=auto"}}, "looks like a misspelt KV_CACHE_DTYPE"},
		{"misspelt, lower case", Request{All: true, Environ: []string{"exp_name=5B"}}, "looks like a misspelt EXP_NAME"},
		{"unknown GLM46", Request{All: true, Environ: []string{"GLM46_MOK=1"}, KnownGLM46: []string{"GLM46_MOCK"}}, `unknown variable "GLM46_MOK"; nearest: GLM46_MOCK`},
		{"misspelt GLM46", Request{All: true, Environ: []string{"GLM_46_MOCK=1"}, KnownGLM46: []string{"GLM46_MOCK"}}, "looks like a misspelt GLM46_MOCK"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cells, err := Default().Resolve(c.r)
			var usage *UsageError
			if !errors.As(err, &usage) {
				t.Fatalf("got %v and %v, want a *UsageError", ids(cells), err)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("got  %s\nwant %s", err, c.want)
			}
		})
	}
}

// TestValues checks every rule of the table of variables.
func TestValues(t *testing.T) {
	for name, c := range map[string]struct{ good, bad string }{
		VarEnforceEager:         {"yes no", "true Yes 1 y on"},
		VarEnableEP:             {"yes no", "false 0"},
		VarContextParallelSize:  {"1 2 4 8", "0 3 16 -1 2.0 02"},
		VarMaxModelLen:          {"1 16384 32k 32K 1m", "0 -1 auto 32kb 1e5 32.5k 3_2 +5 0x10 99999999999999999999 k"},
		VarKVCacheDtype:         {"fp8 auto", "bf16 FP8 fp8_e4m3"},
		VarEnablePrefixCaching:  {"yes no", "maybe"},
		VarEnableChunkedPrefill: {"yes no", "maybe"},
		VarEnableMTP:            {"yes no", "ngram"},
		VarMTPNumTokens:         {"1 8", "0 9 -1 two"},
		VarMTPMethod:            {"ngram mtp", "eagle MTP [ngram]"},
		VarSpeculativeModel:     {"[ngram] /models/draft org/model", "[mtp] --flag $(x) `x` a;b a\nb"},
		VarNumSamples:           {"1 100", "0 -5 all 1e2 10000000"},
		VarMaxTokens:            {"1 512", "0 -1 none"},
		VarGPUMemoryUtilization: {"0.95 1 1.0 .5 0.001", "0 1.01 -0.5 95% 0,95 nan inf 1e-1 ."},
		VarSwapSpace:            {"0 4 0.5", "-1 4GB inf"},
		VarTensorParallelSize:   {"1 2 4 8", "0 3 6 16"},
		VarDtype:                {"auto bfloat16 float16", "float32 bf16"},
	} {
		for _, v := range strings.Split(c.good, " ") {
			s := documentedBaseline
			if err := s.Set(name, v); err != nil {
				t.Errorf("%s=%s: %v", name, v, err)
			}
		}
		for _, v := range append(strings.Split(c.bad, " "), "", " yes", "1 ", "'1'", "\"yes\"") {
			s := documentedBaseline
			err := s.Set(name, v)
			var usage *UsageError
			if !errors.As(err, &usage) || !strings.HasPrefix(err.Error(), name+": want ") {
				t.Errorf("%s=%q: got %v, want a *UsageError", name, v, err)
			}
			require.Equal(t, documentedBaseline, s, "a refused value changes nothing")
		}
	}
	require.Len(t, Variables(), 19)
	for _, c := range []struct {
		text string
		want int
	}{{"32k", 32000}, {"32K", 32768}, {"131072", 131072}} {
		s := documentedBaseline
		require.NoError(t, s.Set(VarMaxModelLen, c.text))
		require.Equal(t, c.want, s.MaxModelLen)
	}
}

func TestHostileExpName(t *testing.T) {
	for _, name := range []string{
		"$(touch x)", "`touch x`", "../..", "..", ".", ".hidden", "-rf", "_x", "a/b", "a b", " a", "a ", "a\nb", "a\n", "\n", "a\x00b", `a"b`, "a'b", `a\b`,
		"a;b", "a|b", "a&b", "a>b", "a*", "a?", "~", "a$b", "a#b", "é", "5B\u200b", strings.Repeat("a", 65), strings.Repeat("a", 10_000), "\x1b[31m", "3A/8k", "a,b", "a=b",
	} {
		for _, r := range []Request{
			{Lookup: func(n string) (string, bool) { return name, n == VarExpName }},
			{Set: []string{"EXP_NAME=" + name}},
			{Experiments: []string{"x" + name}},
		} {
			_, err := Default().Resolve(r)
			var usage *UsageError
			if !errors.As(err, &usage) {
				t.Errorf("%q: got %v, want a *UsageError", name, err)
				continue
			}
			if text := err.Error(); len(text) > 600 || strings.ContainsAny(text, "\n\x00\x1b") {
				t.Errorf("%q: message of %d bytes: %q", name, len(text), text)
			}
		}
	}
	for _, name := range []string{"a", "5B_kv_bf16", "A.b-c_d", strings.Repeat("a", 64)} {
		require.NoError(t, CheckExpName(name))
	}
}

func TestCheckEnvironment(t *testing.T) {
	known := []string{"GLM46_MOCK", "GLM46_MOCK_SPEED", "GLM46_RESULTS"}
	// What a job really has around it.
	usual := strings.Fields(`PATH HOME USER SHELL LANG LC_ALL LC_CTYPE TERM PWD OLDPWD LOGNAME HOSTNAME HOSTTYPE OSTYPE MACHTYPE VENDOR SHLVL TMPDIR EDITOR PAGER
		PBS_JOBID PBS_JOBNAME PBS_O_WORKDIR PBS_NODEFILE PBS_QUEUE PBS_ENVIRONMENT PBS_ARRAY_INDEX NCPUS OMP_NUM_THREADS CUDA_VISIBLE_DEVICES RTYPE USE_SSH
		SLURM_JOB_ID VIRTUAL_ENV CONDA_PREFIX HF_HOME HF_TOKEN VLLM_CACHE_ROOT VLLM_USE_V1 NCCL_DEBUG MODULEPATH LOADEDMODULES LD_LIBRARY_PATH
		http_proxy https_proxy no_proxy DISPLAY XDG_RUNTIME_DIR SSH_TTY MAIL HISTSIZE DATE STATE TYPE APP_NAME ENV_NAME JOB_NAME BASH_FUNC_module%% TOKENS SAMPLES
		MAX_JOBS NUM_GPUS NUM_THREADS DEBUG CI GOPATH GOFLAGS PYTHONPATH MANPATH INFOPATH`)
	var environ []string
	for _, n := range append(usual, Variables()...) {
		environ = append(environ, n+"=x")
	}
	require.NoError(t, CheckEnvironment(append(environ, "GLM46_MOCK=1", "noequals", ""), known))
	require.NoError(t, CheckEnvironment([]string{"GLM46_ANYTHING=1"}, nil))
	for _, name := range []string{"ENFORCE_EAGR", "ENFORCE_EAGER_", "EXPNAME", "EXP_NAMES", "NUM_SAMPLE", "MAXMODEL_LEN", "DTYPES", "GLM46_MOCKS", "GLM46_", "GLM46_PLANS", "DATASETTYPE", "MTP_METHODS"} {
		err := CheckEnvironment(append(slices.Clone(environ), name+"=1"), known)
		var usage *UsageError
		if !errors.As(err, &usage) {
			t.Errorf("%s: got %v, want a *UsageError", name, err)
		}
	}
}

// drawEnviron gives an environment of valid values.
func drawEnviron(r *rapid.T) []string {
	values := map[string][]string{
		VarEnforceEager: {"yes", "no"}, VarEnableEP: {"yes", "no"}, VarContextParallelSize: {"1", "2"}, VarMaxModelLen: {"16384", "32k", "32K"},
		VarKVCacheDtype: {"fp8", "auto"}, VarEnablePrefixCaching: {"yes", "no"}, VarEnableChunkedPrefill: {"yes", "no"},
		VarDatasetType: {"8k", "64k"}, VarNumSamples: {"1", "7", "100"}, VarMaxTokens: {"10", "5000"}, VarGPUMemoryUtilization: {"0.9", "0.95", "1"},
		VarSwapSpace: {"0", "4", "2.5"}, VarTensorParallelSize: {"4", "8"}, VarDtype: {"auto", "bfloat16"},
	}
	var out []string
	for _, name := range Variables() {
		if list, ok := values[name]; ok && rapid.Bool().Draw(r, name) {
			out = append(out, name+"="+rapid.SampledFrom(list).Draw(r, "value"))
		}
	}
	switch rapid.IntRange(0, 3).Draw(r, "speculation") {
	case 1:
		out = append(out, "ENABLE_MTP=yes", "MTP_NUM_TOKENS=3")
	case 2:
		out = append(out, "ENABLE_MTP=yes", "MTP_NUM_TOKENS=1", "MTP_METHOD=ngram", "SPECULATIVE_MODEL=/draft")
	case 3:
		out = append(out, "ENABLE_MTP=no")
	}
	return append(out, "EXP_NAME="+rapid.SampledFrom([]string{"1A", "3A_x", "4C", "5B", "8B.x", "8D", "mine"}).Draw(r, "name"))
}

// TestEnvironmentRoundTrip: a cell's Env and ShortEnv give the cell back.
func TestEnvironmentRoundTrip(t *testing.T) {
	p := Default()
	rapid.Check(t, func(r *rapid.T) {
		base := rapid.SampledFrom([]string{"", "eager", "compiled"}).Draw(r, "base")
		cells, err := p.Resolve(Request{Environ: drawEnviron(r), Base: base})
		var usage *UsageError
		if errors.As(err, &usage) && strings.Contains(err.Error(), "does not go with MTP_METHOD=mtp") {
			return
		}
		if err != nil {
			r.Fatal(err)
		}
		c := cells[0]
		for _, env := range [][]EnvVar{c.Env, c.ShortEnv()} {
			again, err := p.Resolve(Request{Environ: strings.Split(QsubV(env), ",")})
			if err != nil {
				r.Fatalf("%s: %v", QsubV(env), err)
			}
			if again[0].ConfigHash != c.ConfigHash || again[0].ID != c.ID || again[0].ExpName != c.ExpName {
				r.Fatalf("%s gives %s %+v, want %s %+v", QsubV(env), again[0].ID, again[0].Settings, c.ID, c.Settings)
			}
		}
	})
}

// TestSettingsRoundTrip: settings survive JSON, and equal settings hash equal.
func TestSettingsRoundTrip(t *testing.T) {
	p := Default()
	rapid.Check(t, func(r *rapid.T) {
		a, errA := p.Resolve(Request{Environ: drawEnviron(r)})
		b, errB := p.Resolve(Request{Environ: drawEnviron(r)})
		if errA != nil || errB != nil {
			return
		}
		data, err := json.Marshal(a[0].Settings)
		if err != nil {
			r.Fatal(err)
		}
		var back Settings
		if err := json.Unmarshal(data, &back); err != nil {
			r.Fatal(err)
		}
		if !slices.Equal(back.Vars(), a[0].Settings.Vars()) {
			r.Fatalf("%s: got %+v, want %+v", data, back, a[0].Settings)
		}
		same := slices.Equal(a[0].Settings.Vars(), b[0].Settings.Vars()) && a[0].Dataset == b[0].Dataset && slices.Equal(a[0].VLLMArgs, b[0].VLLMArgs)
		if same != (a[0].ConfigHash == b[0].ConfigHash) {
			r.Fatalf("same settings %v, hashes %s and %s", same, a[0].ConfigHash, b[0].ConfigHash)
		}
	})
	for _, text := range []string{`{"ENFORCE_EAGER":"maybe"}`, `{"NOPE":"1"}`, `[]`} {
		var s Settings
		if err := json.Unmarshal([]byte(text), &s); err == nil {
			t.Errorf("%s: accepted", text)
		}
	}
}

func TestResumeKey(t *testing.T) {
	c := resolve(t, Request{Experiments: []string{"5B"}})[0]
	o := resolve(t, Request{Experiments: []string{"1A"}})[0]
	keys := map[string]string{}
	for i, k := range []string{
		ResumeKey(c, "d", "m", "0.11.1", nil), ResumeKey(o, "d", "m", "0.11.1", nil), ResumeKey(c, "e", "m", "0.11.1", nil), ResumeKey(c, "d", "n", "0.11.1", nil),
		ResumeKey(c, "d", "m", "0.14.0", nil), ResumeKey(c, "dm", "", "0.11.1", nil), ResumeKey(c, "d", "m", "0.11.1", &MockFacts{Version: "1", Seed: 1, Speed: 1}),
		ResumeKey(c, "d", "m", "0.11.1", &MockFacts{Version: "1", Seed: 2, Speed: 1}), ResumeKey(c, "d", "m", "0.11.1", &MockFacts{Version: "1", Seed: 1, Speed: 100}),
	} {
		if other, ok := keys[k]; ok || len(k) != 32 {
			t.Errorf("key %d is %s, like %s", i, k, other)
		}
		keys[k] = fmt.Sprint(i)
	}
	require.Equal(t, ResumeKey(c, "d", "m", "v", nil), ResumeKey(resolve(t, Request{Environ: []string{"EXP_NAME=5B_kv_bf16"}})[0], "d", "m", "v", nil))
}

// FuzzEnvironment: whatever a job's environment holds, we refuse it as wrong
// usage or give cells that are safe to name folders and to quote.
func FuzzEnvironment(f *testing.F) {
	for _, line := range qsubLines {
		f.Add(line.v)
	}
	f.Add("EXP_NAME=$(touch x),MAX_MODEL_LEN=32K")
	f.Add("EXP_NAME=8B,ENABLE_MTP=yes,MTP_NUM_TOKENS=2,SPECULATIVE_MODEL=/a b,SWAP_SPACE=4")
	f.Add("EXP_NAME=x,GPU_MEMORY_UTILIZATION=.,DTYPE=")
	p := Default()
	f.Fuzz(func(t *testing.T, v string) {
		cells, err := p.Resolve(Request{Environ: strings.Split(v, ",")})
		if err != nil {
			var usage *UsageError
			if !errors.As(err, &usage) {
				t.Fatalf("got %v, want a *UsageError", err)
			}
			return
		}
		for _, c := range cells {
			if CheckExpName(c.ExpName) != nil {
				t.Fatalf("folder %q", c.ExpName)
			}
			argv, refusal := c.Argv(vllm.MustVersion(vllm.DefaultVersion), "")
			if refusal != nil && (refusal.Reason == "" || strings.Contains(refusal.Reason, "--")) {
				t.Fatalf("reason %q", refusal.Reason)
			}
			fields, err := shell.Fields(ShellCommand(argv), nil)
			if err != nil || !slices.Equal(fields, argv) {
				t.Fatalf("%q is read back as %q (%v)", argv, fields, err)
			}
		}
	})
}
