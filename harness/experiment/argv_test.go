package experiment

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/glm46/glm46/mockvllm/vllm"
)

var update = flag.Bool("update", false, "rewrite golden files")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.WriteFile(path, got, 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err, "run the test with -update")
	if !bytes.Equal(want, got) {
		t.Errorf("%s differs from what is printed now; see the change with -update and git diff", path)
	}
}

const baselineArgs = "serve zai-org/GLM-4.6 --tensor-parallel-size 8 --enable-expert-parallel --enforce-eager --dtype bfloat16 --kv-cache-dtype fp8" +
	" --gpu-memory-utilization 0.95 --max-model-len 32768 --enable-chunked-prefill --enable-prefix-caching --trust-remote-code"

// TestArgv: the plan's own baseline, flag by flag, and each change to it.
func TestArgv(t *testing.T) {
	for _, c := range []struct{ id, version, old, new string }{
		{"1A", "0.8.2", "", ""},
		{"1A", "0.27.0", "", ""},
		{"1B", "0.11.1", " --enforce-eager", ""},
		{"1C", "0.11.1", " --enforce-eager| --trust-remote-code", "| --trust-remote-code --async-scheduling"},
		{"2B", "0.11.1", " --enable-expert-parallel", ""},
		{"3A/64k", "0.11.1", "32768", "131072"},
		{"3B", "0.14.0", "32768| --trust-remote-code", "131072| --trust-remote-code --decode-context-parallel-size 2"},
		{"3D", "0.11.1", "fp8|32768", "auto|131072"},
		{"3E", "0.11.1", "size 8|32768| --trust-remote-code", "size 4|131072| --trust-remote-code --data-parallel-size 2"},
		{"3F", "0.11.1", "32768| --trust-remote-code", "131072| --trust-remote-code --max-num-batched-tokens 32768"},
		{"5B", "0.11.1", "fp8", "auto"},
		{"6B", "0.11.1", "--enable-prefix-caching", "--no-enable-prefix-caching"},
		{"7B", "0.11.1", "--enable-chunked-prefill", "--no-enable-chunked-prefill"},
		{"8B", "0.8.2", " --trust-remote-code", " --trust-remote-code --speculative-model [ngram] --num-speculative-tokens 2 --ngram-prompt-lookup-max 5 --ngram-prompt-lookup-min 5"},
		{"8C", "0.8.3", " --trust-remote-code", ` --trust-remote-code --speculative-config {"method":"ngram","num_speculative_tokens":4,"prompt_lookup_max":5,"prompt_lookup_min":5}`},
		{"8B", "0.27.0", " --trust-remote-code", ` --trust-remote-code --speculative-config {"method":"ngram","num_speculative_tokens":2,"prompt_lookup_max":5,"prompt_lookup_min":5}`},
		{"8D", "0.11.1", " --trust-remote-code", ` --trust-remote-code --speculative-config {"method":"mtp","num_speculative_tokens":1}`},
		{"8E", "0.10.0", " --trust-remote-code", ` --trust-remote-code --speculative-config {"method":"glm4_moe_mtp","num_speculative_tokens":2}`},
		{"8D", "0.8.2", " --trust-remote-code", ` --trust-remote-code --speculative-config {"method":"mtp","num_speculative_tokens":1}`},
	} {
		t.Run(c.id+"@"+c.version, func(t *testing.T) {
			want := baselineArgs
			for i, old := range strings.Split(c.old, "|") {
				if old != "" {
					require.Contains(t, want, old)
					want = strings.Replace(want, old, strings.Split(c.new, "|")[i], 1)
				}
			}
			argv, _ := resolve(t, Request{Experiments: []string{c.id}})[0].Argv(vllm.MustVersion(c.version), "")
			if got := strings.Join(argv, " "); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
	argv, _ := resolve(t, Request{Experiments: []string{"1A"}, Set: []string{"SWAP_SPACE=4"}})[0].Argv(vllm.MustVersion("0.11.1"), "/m")
	require.Equal(t, strings.Replace(baselineArgs, "zai-org/GLM-4.6", "/m", 1)+" --swap-space 4", strings.Join(argv, " "))
}

// refusedCells are the cells of the default plan that each version refuses.
var refusedCells = map[string]string{
	"0.8.2":  "1C 2C 3B 3C 7B 8D 8E",
	"0.10.0": "2C 3B 3C 7B 8D 8E",
	"0.11.1": "3B 3C",
	"0.14.0": "3B 3C",
	"0.22.0": "3B 3C",
	"0.27.0": "3B 3C",
}

var flagInWords = regexp.MustCompile(`(^|\s|[(` + "`" + `"'])--?[a-z]`)

// TestRefusals: which cells a version refuses, why, and that the arguments of
// every cell are complete all the same and mean what the settings say.
func TestRefusals(t *testing.T) {
	for _, v := range vllm.KnownVersions() {
		var refused []string
		for _, c := range resolve(t, Request{All: true, Added: true}) {
			argv, refusal := c.Argv(v, "")
			checkAlways(t, v, c, argv)
			if refusal == nil {
				checkMeans(t, v, c, argv)
				continue
			}
			refused = append(refused, c.ID)
			if refusal.Class == "" || refusal.Reason == "" || flagInWords.MatchString(refusal.Reason) {
				t.Errorf("%s %s: class %q, reason %q", v, c.ID, refusal.Class, refusal.Reason)
			}
		}
		if got := strings.Join(refused, " "); got != refusedCells[v.String()] {
			t.Errorf("%s refuses %s, want %s", v, got, refusedCells[v.String()])
		}
	}
	for _, c := range []struct{ version, set, class, reason, engine string }{
		{"0.10.0", "CONTEXT_PARALLEL_SIZE=2", "unknown_flag", "vLLM 0.10.0 has no context parallelism (it came with 0.10.2); newer versions refuse it too", "unrecognized arguments: --decode-context-parallel-size 2"},
		{"0.11.1", "CONTEXT_PARALLEL_SIZE=2", "config_refused", "more tensor-parallel ranks than KV heads", "tensor parallel size 8 must be greater than total num kv heads 8 when enable decode context parallel for GQA/MQA"},
		{"0.27.0", "CONTEXT_PARALLEL_SIZE=4", "config_refused", "more tensor-parallel ranks than KV heads", "Decode context parallelism for GQA/MQA requires"},
		{"0.11.0", "ENABLE_CHUNKED_PREFILL=no", "overridden", "overrides chunked prefill without a word: asked for no, it runs with yes", ""},
		{"0.22.0", "SWAP_SPACE=4", "not_in_version", "vLLM 0.22.0 has no swap space (the flag is gone since 0.18", ""},
		{"0.11.1", "MAX_MODEL_LEN=300000", "config_refused", "", "User-specified max_model_len (300000) is greater than the derived max_model_len (max_position_embeddings=202752"},
	} {
		_, refusal := resolve(t, Request{Experiments: []string{"1A"}, Set: []string{c.set}})[0].Argv(vllm.MustVersion(c.version), "")
		if refusal == nil {
			t.Errorf("%s %s: accepted", c.version, c.set)
			continue
		}
		if string(refusal.Class) != c.class || !strings.Contains(refusal.Reason, c.reason) || !strings.HasPrefix(refusal.EngineText, c.engine) {
			t.Errorf("%s %s: got %+v", c.version, c.set, *refusal)
		}
	}
}

func checkAlways(t *testing.T, v vllm.Version, c Cell, argv []string) {
	t.Helper()
	for _, flag := range []string{"--trust-remote-code", "--tensor-parallel-size", "--dtype", "--kv-cache-dtype", "--gpu-memory-utilization", "--max-model-len"} {
		if n := count(argv, flag); n != 1 {
			t.Errorf("%s %s: %s is there %d times", v, c.ID, flag, n)
		}
	}
	if strings.Contains(strings.Join(argv, " "), "max-num-seqs") {
		t.Errorf("%s %s: max-num-seqs in %v", v, c.ID, argv)
	}
}

func count(list []string, want string) int {
	n := 0
	for _, s := range list {
		if s == want {
			n++
		}
	}
	return n
}

// checkMeans reads the arguments back as the version does.
func checkMeans(t *testing.T, v vllm.Version, c Cell, argv []string) {
	t.Helper()
	e, err := vllm.ResolveArgv(v, argv[1:], c.Shape())
	require.NoError(t, err)
	s := c.Settings
	for _, f := range []struct {
		what      string
		got, want any
	}{
		{"TP", e.TensorParallelSize, s.TensorParallelSize}, {"EP", e.EnableExpertParallel, s.EnableEP}, {"eager", e.EnforceEager, s.EnforceEager},
		{"dtype", e.Dtype, s.Dtype}, {"KV dtype", e.KVCacheDtype, s.KVCacheDtype}, {"memory", e.GPUMemoryUtilization, s.GPUMemoryUtilization},
		{"length", e.MaxModelLen, s.MaxModelLen}, {"prefix", e.EnablePrefixCaching, s.EnablePrefixCaching}, {"chunked", e.EnableChunkedPrefill, s.EnableChunkedPrefill},
		{"DCP", e.DecodeContextParallelSize, s.ContextParallelSize}, {"speculation", e.Spec != nil, s.EnableMTP}, {"trust", e.TrustRemoteCode, true},
	} {
		if f.got != f.want {
			t.Errorf("%s %s: %s is %v, want %v", v, c.ID, f.what, f.got, f.want)
		}
	}
	if e.Spec != nil && (e.Spec.Method != s.MTPMethod || e.Spec.NumSpeculativeTokens != s.MTPNumTokens) {
		t.Errorf("%s %s: speculation %+v", v, c.ID, *e.Spec)
	}
}

func TestChecks(t *testing.T) {
	c := resolve(t, Request{Experiments: []string{"5B"}})[0]
	v := vllm.MustVersion(vllm.DefaultVersion)
	asked := 0
	tooSmall := func(e vllm.EngineConfig) error {
		asked = e.MaxModelLen
		return fmt.Errorf("no room: %w", &vllm.RefusalError{Class: vllm.ClassKVTooSmall, Text: "engine text", Reason: "lower `--max-model-len` (-tp 8)"})
	}
	argv, refusal := c.Argv(v, "", func(vllm.EngineConfig) error { return nil }, tooSmall)
	require.Equal(t, &Refusal{vllm.ClassKVTooSmall, "lower `max-model-len` (tp 8)", "engine text"}, refusal)
	require.NotEmpty(t, argv)
	require.Equal(t, 32768, asked)
	_, refusal = c.Argv(v, "", func(vllm.EngineConfig) error { return errors.New("no numbers for this split") })
	require.Nil(t, refusal)
	_, refusal = c.Argv(v, "--host")
	require.Equal(t, vllm.ClassUsage, refusal.Class)
}

// TestList holds the text of every version and the JSON of the default one.
// `go test -run TestList -update` rewrites them.
func TestList(t *testing.T) {
	p := Default()
	for _, v := range vllm.KnownVersions() {
		o := ListOptions{Version: v}
		l := p.NewList(resolve(t, Request{All: true, Added: true}), o)
		text := l.Text(o)
		for _, line := range strings.Split(text, "\n") {
			if len([]rune(line)) > 80 && len(strings.Fields(line)) > 2 {
				t.Errorf("%s: line of %d columns: %s", v, len([]rune(line)), line)
			}
		}
		golden(t, "list_"+v.String()+".txt", []byte(text))
		data, err := json.MarshalIndent(l, "", " ")
		require.NoError(t, err)
		if v.String() == vllm.DefaultVersion {
			golden(t, "list_"+v.String()+".json", append(data, '\n'))
		}
		var doc struct {
			Cells []map[string]any `json:"cells"`
		}
		require.NoError(t, json.Unmarshal(data, &doc))
		require.Len(t, doc.Cells, 29)
		for _, c := range doc.Cells {
			for _, key := range strings.Fields("id experiment group dataset env argv config_hash same_as added accepted reason") {
				if value, ok := c[key]; !ok || value == nil {
					t.Errorf("%s %v: %s is missing", v, c["id"], key)
				}
			}
			if accepted := c["accepted"].(bool); accepted != (c["reason"] == "") {
				t.Errorf("%s %v: accepted %v, reason %q", v, c["id"], accepted, c["reason"])
			}
		}
	}
	modified := ListOptions{States: map[string]string{"5B*": "valid"}, Width: 120, Model: "/m"}
	cells := resolve(t, Request{Environ: []string{"EXP_NAME=5B_x", "MAX_MODEL_LEN=16k"}, Base: "compiled"})
	cells = append(cells, resolve(t, Request{Environ: []string{"EXP_NAME=mine"}, Concurrency: "auto"})...)
	golden(t, "list_modified.txt", []byte(p.NewList(cells, modified).Text(modified)))
}

func TestParameters(t *testing.T) {
	for _, v := range vllm.KnownVersions() {
		byFlag := map[string]Parameter{}
		for _, p := range Parameters(v) {
			byFlag[p.Flag] = p
			require.Len(t, p.Defaults, 6)
		}
		for _, flag := range strings.Fields("--enforce-eager --enable-expert-parallel --context-parallel-size --max-model-len --kv-cache-dtype --enable-prefix-caching " +
			"--enable-chunked-prefill --speculative-model --num-speculative-tokens --gpu-memory-utilization --swap-space") {
			if _, ok := byFlag[flag]; !ok {
				t.Errorf("%s: row of the plan is missing", flag)
			}
		}
		want := "0.9"
		if v.AtLeast("0.21.0") {
			want = "0.92"
		}
		require.Equal(t, want, byFlag["--gpu-memory-utilization"].Default)
		require.Equal(t, !v.AtLeast("0.18.0"), byFlag["--swap-space"].Actual != "", v)
		require.Equal(t, "0.8.2", byFlag["--speculative-model"].Last)
		require.Equal(t, "never", byFlag["--context-parallel-size"].First)
		require.Equal(t, "0.18.0", byFlag["--swap-space"].GoneIn)
	}
	golden(t, "parameters.txt", []byte(ParametersText(vllm.Version{}, 0)))
}

func TestNearest(t *testing.T) {
	for _, c := range []struct {
		name string
		in   []string
		want []string
	}{
		{"5X", []string{"1A", "5A", "5B"}, []string{"5A", "5B"}},
		{"req", []string{"concurrency", "requests"}, []string{"requests"}},
		{"zzzzzzzz", []string{"a", "b"}, nil},
		{strings.Repeat("x", 1000), []string{"x"}, nil},
		{"5b", []string{"5A", "5B"}, []string{"5B"}},
	} {
		if got := Nearest(c.name, c.in); !slices.Equal(got, c.want) {
			t.Errorf("%.20s: got %v, want %v", c.name, got, c.want)
		}
	}
}
