package predict

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/glm46/glm46/mockvllm/engine"
	"github.com/glm46/glm46/mockvllm/vllm"
)

func predict(t *testing.T, file, serve, version string) (*WorkloadResult, error) {
	t.Helper()
	w, err := ParseWorkload("w.json", []byte(file))
	require.NoError(t, err)
	return Workload(w, serve, WorkloadOptions{Version: vllm.MustVersion(version)})
}

const oneRequest = `{"requests": [{"prompt_tokens": 10000, "output_tokens": 4}]}`

func TestWorkload(t *testing.T) {
	r, err := predict(t, oneRequest, "--max-model-len 32768 --gpu-memory-utilization 0.95", "0.11.1")
	require.NoError(t, err)
	near := func(what string, got, want float64) {
		if math.Abs(got-want) > 0.0002 {
			t.Errorf("%s: %.4f, want %.4f", what, got, want)
		}
	}
	// docs/timing-model.md, "Worked examples": 552,953.1 us with the front end; the
	// last token is 45,719.4 us after the first.
	near("ttft", r.MeanTTFTMs, 552.9531)
	near("e2el", r.P99E2ELMs, 552.9531+45.7194)
	near("tpot", r.MedianTPOTMs, 45.7194/3)
	near("itl", r.MeanITLMs, 45.7194/3)
	near("duration", r.DurationS, 0.5986725)
	near("throughput", r.OutputThroughput, 4/r.DurationS)
	near("total", r.TotalTokenThroughput, 10004/r.DurationS)
	if r.KVTokens != 1042176 || r.Steps != 5 || r.Preemptions != 0 {
		t.Errorf("kv_tokens %d, steps %d, preemptions %d", r.KVTokens, r.Steps, r.Preemptions)
	}
}

// TestWorkloadKeys: the document has these keys and no others.
func TestWorkloadKeys(t *testing.T) {
	r, err := predict(t, `{"requests": [{"prompt_tokens": 5, "output_tokens": 1}], "max_concurrency": null}`, "", "0.11.1")
	require.NoError(t, err)
	data, err := json.Marshal(r)
	require.NoError(t, err)
	var keys map[string]float64
	require.NoError(t, json.Unmarshal(data, &keys))
	want := []string{"kv_tokens", "duration_s", "output_throughput", "total_token_throughput", "preemptions", "steps"}
	for _, a := range []string{"mean", "median", "p99"} {
		for _, b := range []string{"ttft", "tpot", "itl", "e2el"} {
			want = append(want, a+"_"+b+"_ms")
		}
	}
	for _, k := range want {
		if _, ok := keys[k]; !ok {
			t.Errorf("key %s is missing", k)
		}
		delete(keys, k)
	}
	if len(keys) > 0 {
		t.Errorf("more keys: %v", keys)
	}
}

// TestDefaultsAreTheVersions: flags not given take vLLM's defaults.
func TestDefaultsAreTheVersions(t *testing.T) {
	for version, want := range map[string]int{"0.11.1": 882832, "0.14.0": 882832, "0.22.0": 923776} {
		r, err := predict(t, oneRequest, "", version)
		require.NoError(t, err)
		if r.KVTokens != want {
			t.Errorf("%s: %d KV tokens, want %d", version, r.KVTokens, want)
		}
	}
	before, err := predict(t, oneRequest, "", "0.11.1")
	require.NoError(t, err)
	async, err := predict(t, oneRequest, "", "0.14.0")
	require.NoError(t, err)
	if d := before.MeanTPOTMs - async.MeanTPOTMs; math.Abs(d-2.6544) > 1e-4 {
		t.Errorf("asynchronous scheduling saves %.4f ms a step, want 2950 + 4.4 - 300 us", d)
	}
}

func TestWorkloadRefusals(t *testing.T) {
	_, err := predict(t, oneRequest, "--context-parallel-size 8", "0.11.1")
	var usage *vllm.UsageError
	require.ErrorAs(t, err, &usage)
	for _, flags := range []string{"-tp 8 -dcp 2", "--max-model-len 300000", "-tp 4", "--gpu-memory-utilization 0.5"} {
		_, err = predict(t, oneRequest, flags, "0.11.1")
		if !IsRefusal(err) {
			t.Errorf("%s: %v, want a refusal", flags, err)
		}
	}
	_, err = predict(t, oneRequest, "--max-model-len 10000", "0.11.1")
	var request *engine.RequestError
	require.ErrorAs(t, err, &request)
	var fault *WorkloadError
	require.ErrorAs(t, err, &fault)
	require.ErrorContains(t, err, "requests[0]")
}

func TestSpeculationHelpsByItsAcceptance(t *testing.T) {
	const flags = `--speculative-config {"method":"ngram","num_speculative_tokens":4}`
	file := func(p, a string) string {
		return `{"requests": [{"prompt_tokens": 1000, "output_tokens": 400}], "draft_probability": ` + p + `, "acceptance": [` + a + `]}`
	}
	never, err := predict(t, file("0", "0.5"), flags, "0.11.1")
	require.NoError(t, err)
	always, err := predict(t, file("1", "1,1,1,1"), flags, "0.11.1")
	require.NoError(t, err)
	if always.Steps != 81 || never.Steps != 400 { // one prefill step, then 5 tokens a step
		t.Errorf("steps %d and %d, want 81 and 400", always.Steps, never.Steps)
	}
}

func TestParseWorkloadFaults(t *testing.T) {
	for text, want := range map[string]string{
		`{`:                "w.json",
		`{"requests": []}`: "1 to",
		`{"requests": [{"prompt_tokens": 0, "output_tokens": 1}]}`:                           "requests[0].prompt_tokens",
		`{"requests": [{"prompt_tokens": 1, "output_tokens": 0}]}`:                           "requests[0].output_tokens",
		`{"requests": [{"prompt_tokens": 1, "output_tokens": 1, "at_s": -1}]}`:               "requests[0].at_s",
		`{"requests": [{"prompt_tokens": 1, "output_tokens": 1, "at": 1}]}`:                  `"at"`,
		`{"requests": [{"prompt_tokens": 1, "output_tokens": 1}], "max_concurrency": 0}`:     "max_concurrency",
		`{"requests": [{"prompt_tokens": 1.5, "output_tokens": 1}]}`:                         "prompt_tokens",
		`{"requests": [{"prompt_tokens": 1, "output_tokens": 1}]} {}`:                        "text after",
		`{"requests": [{"prompt_tokens": 1, "output_tokens": 1}], "acceptance": [0.5, 0.6]}`: "acceptance[1]",
		`{"requests": [{"prompt_tokens": 1, "output_tokens": 1}], "draft_probability": 2}`:   "draft_probability",
		`{"requests": [{"prompt_tokens": 999999999999, "output_tokens": 1}]}`:                "prompt_tokens",
	} {
		_, err := ParseWorkload("w.json", []byte(text))
		var fault *WorkloadError
		if !errors.As(err, &fault) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestSplitFlags(t *testing.T) {
	for _, c := range []struct {
		text string
		want []string
	}{
		{`--a 1 --b='x y'`, []string{"--a", "1", "--b=x y"}},
		{`--speculative-config {"method": "ngram", "x": "it's"} --c`, []string{"--speculative-config", `{"method": "ngram", "x": "it's"}`, "--c"}},
		{`--s='{"a": 1}' --t={"b":"$HOME"}`, []string{`--s={"a": 1}`, `--t={"b":"$HOME"}`}},
		{`--s "{\"a\": 1}"`, []string{"--s", `{"a": 1}`}},
		{``, nil},
		{`zai-org/GLM-4.6 --x`, []string{"zai-org/GLM-4.6", "--x"}},
	} {
		got, err := SplitFlags(c.text)
		require.NoError(t, err)
		if len(got)+len(c.want) > 0 {
			require.Equal(t, c.want, got)
		}
	}
	for _, bad := range []string{`--a 'x`, `--a $(touch x)`, "--a `id`"} {
		_, err := SplitFlags(bad)
		require.Error(t, err, bad)
	}
}

func FuzzParseWorkload(f *testing.F) {
	f.Add([]byte(oneRequest))
	f.Add([]byte(`{"requests": [{"prompt_tokens": 8, "output_tokens": 10, "at_s": 0.5}, {"prompt_tokens": 1, "output_tokens": 1}], "max_concurrency": 1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		w, err := ParseWorkload("w.json", data)
		if err != nil {
			return
		}
		tokens := 0
		for _, r := range w.Requests {
			if tokens += r.PromptTokens + r.OutputTokens; tokens > 20000 {
				return // bounded time
			}
		}
		r, err := Workload(w, "--max-model-len 32768", WorkloadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if r.DurationS <= 0 || math.IsNaN(r.MeanITLMs) || r.MeanE2ELMs < r.MeanTTFTMs {
			t.Errorf("%s: %+v", data, r)
		}
	})
}

func FuzzSplitFlags(f *testing.F) {
	f.Add(`--a 1 --b='x y' {"c": 1}`)
	f.Fuzz(func(t *testing.T, text string) {
		SplitFlags(text)
	})
}

// TestPercentiles compares with values written out.
func TestPercentiles(t *testing.T) {
	values := []weighted{{3, 2}, {1, 1}, {2, 3}}
	got := triple(values) // 1 2 2 2 3 3
	want := Triple{MeanMs: 13.0 / 6, MedianMs: 2, P99Ms: 3}
	if math.Abs(got.MeanMs-want.MeanMs) > 1e-12 || got.MedianMs != want.MedianMs || math.Abs(got.P99Ms-want.P99Ms) > 1e-12 {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := triple([]weighted{{1, 1}, {2, 1}}).P99Ms; math.Abs(got-1.99) > 1e-12 {
		t.Errorf("p99 of 1 and 2: %v", got)
	}
}

// TestReference compares with figures of a second implementation: a step-by-step
// program written from docs/timing-model.md alone, in another language, which
// shares no code and no idea of blocks or batches with this one. Times there are
// not rounded to nanoseconds.
func TestReference(t *testing.T) {
	data, err := os.ReadFile("testdata/reference.json")
	require.NoError(t, err)
	var cases []struct {
		Serve    string
		Workload json.RawMessage
		Want     map[string]float64
	}
	require.NoError(t, json.Unmarshal(data, &cases))
	preemptions := int64(0)
	for i, c := range cases {
		r, err := predict(t, string(c.Workload), c.Serve, "0.11.1")
		require.NoError(t, err)
		preemptions += r.Preemptions
		data, err := json.Marshal(r)
		require.NoError(t, err)
		var got map[string]float64
		require.NoError(t, json.Unmarshal(data, &got))
		for key, want := range c.Want {
			if math.Abs(got[key]-want) > 1e-6*math.Abs(want) {
				t.Errorf("case %d, %s: %s %v, want %v", i, c.Serve, key, got[key], want)
			}
		}
	}
	if len(cases) < 10 || preemptions < 40 {
		t.Errorf("%d cases with %d preemptions do not show much", len(cases), preemptions)
	}
}
