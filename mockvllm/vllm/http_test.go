package vllm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestErrorBodies(t *testing.T) {
	for _, c := range []struct{ version, want string }{
		{"0.10.0", `{"object":"error","message":"a \"b\" <c>","type":"BadRequestError","param":null,"code":400}`},
		{"0.10.1", `{"error":{"message":"a \"b\" <c>","type":"BadRequestError","param":null,"code":400}}`},
		{"0.27.0", `{"error":{"message":"a \"b\" <c>","type":"BadRequestError","param":null,"code":400}}`},
	} {
		if got := string(ErrorBody(MustVersion(c.version), 400, ErrTypeBadRequest, `a "b" <c>`, "")); got != c.want {
			t.Errorf("%s: %s", c.version, got)
		}
	}
	if got := string(ErrorEvents(MustVersion("0.11.1"), 500, ErrTypeInternal, EngineDeadMessage)); !strings.HasPrefix(got, `data: {"error":{"message":"EngineCore`) || !strings.HasSuffix(got, "}}\n\ndata: [DONE]\n\n") {
		t.Errorf("%q", got)
	}
}

func TestContextLength(t *testing.T) {
	for _, c := range []struct {
		version            string
		limit, prompt, max int
		message, param     string
	}{
		{"0.11.1", 32768, 40000, -1, "This model's maximum context length is 32768 tokens. However, your request has 40000 input tokens. Please reduce the length of the input messages.", ""},
		{"0.19.0", 32768, 40000, 5, "This model's maximum context length is 32768 tokens. However, your request has 40000 input tokens. Please reduce the length of the input messages.", ""},
		{"0.11.1", 32768, 32000, 1000, "'max_tokens' or 'max_completion_tokens' is too large: 1000. This model's maximum context length is 32768 tokens and your request has 32000 input tokens (1000 > 32768 - 32000).", ""},
		{"0.10.0", 32768, 32000, 1000, "This model's maximum context length is 32768 tokens. However, you requested 33000 tokens (32000 in the messages, 1000 in the completion). Please reduce the length of the messages or completion.", ""},
		{"0.19.0", 32768, 32000, 1000, "This model's maximum context length is 32768 tokens. However, you requested 1000 output tokens and your prompt contains 32000 input tokens, for a total of 33000 tokens (32000 + 1000 = 33000 > 32768). Please reduce the length of the input prompt or the number of requested output tokens.", ""},
		{"0.27.0", 32768, 32000, 1000, "This model's maximum context length is 32768 tokens. However, you requested 1000 output tokens and your prompt contains at least 31769 input tokens, for a total of at least 32769 tokens. Please reduce the length of the input prompt or the number of requested output tokens.", "input_tokens"},
		{"0.27.0", 32768, 5, 40000, "This model's maximum context length is 32768 tokens. However, you requested 40000 output tokens and your prompt contains 5 input tokens, for a total of 40005 tokens. Please reduce the length of the input prompt or the number of requested output tokens.", "input_tokens"},
	} {
		message, param, ok := ContextLengthError(MustVersion(c.version), c.limit, c.prompt, c.max)
		if ok || message != c.message || param != c.param {
			t.Errorf("%s %d+%d: %t\n got %s (%s)\nwant %s (%s)", c.version, c.prompt, c.max, ok, message, param, c.message, c.param)
		}
	}
}

// In every version, what fits is taken and what does not names the limit.
func TestContextLengthProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := genVersion().Draw(t, "version")
		limit := rapid.IntRange(1, 300000).Draw(t, "limit")
		prompt := rapid.IntRange(1, 400000).Draw(t, "prompt")
		ask := rapid.IntRange(-1, 400000).Draw(t, "ask")
		message, _, ok := ContextLengthError(v, limit, prompt, ask)
		if want := prompt < limit && prompt+max(0, ask) <= limit; ok != want {
			t.Fatalf("%s: %d + %d of %d: ok %t", v, prompt, ask, limit, ok)
		}
		if !ok && !strings.Contains(message, fmt.Sprintf("maximum context length is %d tokens", limit)) {
			t.Fatalf("%s: %s", v, message)
		}
	})
}

// streamOf builds a whole stream as the mock sends it.
func streamOf(v Version, chat bool, f StreamFrames) string {
	var b []byte
	b = append(b, f.Role...)
	if chat {
		b = f.Reasoning.Append(b, []byte(`"think"`))
	}
	b = f.Text.Append(b, []byte(`" hi"`))
	b = f.AppendWithUsage(b, f.Text.Append(nil, []byte(`" }]"`)), Usage{PromptTokens: 7, CompletionTokens: 2})
	b = f.Last.AppendLast(b, []byte(`" end"`), `"length"`, "null")
	b = f.LastReasoning.AppendLast(b, []byte(`"late"`), `"stop"`, `"\n\n"`)
	b = f.AppendUsage(b, Usage{PromptTokens: 7, CompletionTokens: 4, CachedTokens: 16, Details: true})
	return string(b) + Done
}

func TestFrames(t *testing.T) {
	for _, v := range KnownVersions() {
		c := mustResolve(t, v.String(), planArgs)
		var b strings.Builder
		for _, chat := range []bool{true, false} {
			head := FrameHead{ID: "cmpl-0123", Created: 1763900000, Model: c.ServedName, Chat: chat, Fingerprint: Fingerprint(v, c)}
			f := NewStreamFrames(v, head)
			text := streamOf(v, chat, f)
			for _, event := range strings.Split(strings.TrimSuffix(text, "\n\n"), "\n\n") {
				data, ok := strings.CutPrefix(event, "data: ")
				if !ok || (data != "[DONE]" && !json.Valid([]byte(data))) {
					t.Errorf("%s: bad event %q", v, event)
				}
			}
			b.WriteString(text)
			answer := Answer{FrameHead: head, Choices: []Choice{{Text: "done", FinishReason: "stop"}}, Usage: Usage{PromptTokens: 7, CompletionTokens: 4}}
			if chat {
				answer.Choices[0].Reasoning = "because"
			}
			body := AnswerBody(v, answer)
			if !json.Valid(body) {
				t.Errorf("%s: %s", v, body)
			}
			b.Write(append(body, '\n', '\n'))
		}
		b.Write(append(ModelsBody(c, 1763900000, func(int) string { return "00ff" }), '\n'))
		golden(t, fmt.Sprintf("frames/%s.txt", v), b.String())
	}
}

func TestReasoningFieldsByVersion(t *testing.T) {
	for s, want := range map[string]string{"0.8.2": "[reasoning_content]", "0.11.0": "[reasoning_content]", "0.11.1": "[reasoning reasoning_content]", "0.15.0": "[reasoning reasoning_content]", "0.16.0": "[reasoning]", "0.27.0": "[reasoning]"} {
		if got := fmt.Sprint(ReasoningFields(MustVersion(s))); got != want {
			t.Errorf("%s: %s, want %s", s, got, want)
		}
	}
}

// A frame carries any text, in the field that the version uses, and nothing
// else of the frame changes.
func TestFramesCarryText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := genVersion().Draw(t, "version")
		chat := rapid.Bool().Draw(t, "chat")
		text := rapid.String().Draw(t, "text")
		f := NewStreamFrames(v, FrameHead{ID: rapid.String().Draw(t, "id"), Model: rapid.String().Draw(t, "model"), Chat: chat})
		quoted := AppendJSONString(nil, text)
		for _, event := range [][]byte{
			f.Text.Append(nil, quoted), f.Last.AppendLast(nil, quoted, `"stop"`, "null"),
			f.AppendWithUsage(nil, f.Text.Append(nil, quoted), Usage{PromptTokens: 3}),
			f.AppendWithUsage(nil, f.Last.AppendLast(nil, quoted, `"stop"`, "null"), Usage{PromptTokens: 3}),
		} {
			var got struct {
				Choices []struct {
					Text  *string
					Delta struct{ Content *string }
				}
				Usage *struct {
					PromptTokens int `json:"prompt_tokens"`
				}
			}
			data := bytes.TrimSuffix(bytes.TrimPrefix(event, []byte("data: ")), []byte("\n\n"))
			if err := json.Unmarshal(data, &got); err != nil {
				t.Fatalf("%s: %v", event, err)
			}
			p := got.Choices[0].Text
			if chat {
				p = got.Choices[0].Delta.Content
			}
			if p == nil || *p != strings.ToValidUTF8(text, "\uFFFD") {
				t.Fatalf("%s: carries %v, want %q", event, p, text)
			}
		}
	})
}

func TestFramesDoNotAllocate(t *testing.T) {
	f := NewStreamFrames(MustVersion("0.11.1"), FrameHead{ID: "chatcmpl-1", Model: "m", Chat: true})
	buf, text := make([]byte, 0, 4096), []byte(`" token"`)
	u := Usage{PromptTokens: 6100, CompletionTokens: 12}
	if n := testing.AllocsPerRun(100, func() {
		buf = f.Text.Append(buf[:0], text)
		buf = f.Last.AppendLast(buf, text, `"length"`, "null")
		buf = f.AppendUsage(buf, u)
	}); n > 0 {
		t.Errorf("%v allocations a token", n)
	}
}

func TestMetricFamilies(t *testing.T) {
	for _, v := range KnownVersions() {
		args := strings.Fields("m -tp 8 --max-model-len 32768")
		spec, _ := SpecArgs(v, "ngram", "", 2, 0, 0)
		c, err := ResolveArgv(v, append(args, spec...), GLM46())
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		seen := map[string]bool{}
		for _, f := range append(Families(v, c), HTTPFamilies()...) {
			if seen[f.Name] || f.Help == "" || (f.Type == Histogram) != (len(f.Buckets) > 0) || !slices.IsSorted(f.Buckets) {
				t.Errorf("%s: bad family %+v", v, f)
			}
			seen[f.Name] = true
			fmt.Fprintf(&b, "%s %s %v %v\n", f.Wire(), f.Type, f.Labels, f.Buckets)
		}
		for _, l := range CacheConfigLabels(c, 1234, 0) {
			fmt.Fprintf(&b, "%s=%q\n", l.Name, l.Value)
		}
		golden(t, fmt.Sprintf("metrics/%s.txt", v), b.String())
	}
}

// Presence of metrics by release: docs/vllm.md section 4.
func TestMetricPresence(t *testing.T) {
	for _, p := range []struct{ name, since, until string }{
		{MetricRunning, "", ""}, {MetricKVUsage, "0.9.2", ""}, {MetricKVUsageOld, "", "0.11.0"},
		{MetricPrefixQueries, "0.9.2", ""}, {MetricPrefixQueriesOld, "", "0.11.0"},
		{MetricITL, "0.10.2", ""}, {MetricITLOld, "", "0.12.0"}, {MetricRequestTPOT, "0.11.0", ""},
		{MetricPromptBySource, "0.16.0", ""}, {MetricPromptCached, "0.16.0", ""}, {MetricWaitingByReason, "0.20.0", ""}, {MetricIterationTokens, "", ""},
	} {
		for _, s := range sweep {
			v := MustVersion(s)
			got := slices.ContainsFunc(Families(v, EngineConfig{Version: v, MaxModelLen: 100}), func(f MetricFamily) bool { return f.Name == p.name })
			if want := (p.since == "" || v.AtLeast(p.since)) && (p.until == "" || !v.AtLeast(p.until)); got != want {
				t.Errorf("%s %s: %t, want %t", s, p.name, got, want)
			}
		}
	}
	v := MustVersion("0.11.1")
	for _, f := range Families(v, EngineConfig{Version: v, MaxModelLen: 100}) {
		if strings.Contains(f.Name, "spec_decode") {
			t.Errorf("%s without speculation", f.Name)
		}
	}
	if got := (MetricFamily{Name: "vllm:iteration_tokens_total", Type: Histogram}); got.Wire() != "vllm:iteration_tokens_total" || got.Created() != "vllm:iteration_tokens_created" {
		t.Errorf("%s, %s", got.Wire(), got.Created())
	}
	if got := fmt.Sprint(tokenBuckets(32768)); got != "[1 2 5 10 20 50 100 200 500 1000 2000 5000 10000 20000]" {
		t.Error(got)
	}
}

// Exact texts of start-up refusals that need memory figures.
func TestMemoryRefusalTexts(t *testing.T) {
	for _, c := range []struct {
		e     *RefusalError
		class Class
		want  string
	}{
		{RefuseKVTooSmall(MustVersion("0.11.1"), 202752, 35.57, 10, 57008), ClassKVTooSmall, "To serve at least one request with the models's max seq len (202752), (35.57 GiB KV cache is needed, which is larger than the available KV cache memory (10.00 GiB). Based on the available memory, the estimated maximum model length is 57008. Try increasing `gpu_memory_utilization` or decreasing `max_model_len` when initializing the engine."},
		{RefuseKVTooSmall(MustVersion("0.8.2"), 202752, 35.57, 10, 57008), ClassKVTooSmall, "To serve at least one request with the models's max seq len (202752), (35.57 GiB KV cache is needed, which is larger than the available KV cache memory (10.00 GiB). Try increasing `gpu_memory_utilization` or decreasing `max_model_len` when initializing the engine."},
		{RefuseKVTooSmall(MustVersion("0.27.0"), 202752, 35.57, 10, 0), ClassKVTooSmall, "To serve at least one request with the model's max seq len (202752), (35.57 GiB KV cache is needed, which is larger than the available KV cache memory (10.00 GiB). Try increasing `gpu_memory_utilization` or decreasing `max_model_len` when initializing the engine. See https://docs.vllm.ai/en/latest/configuration/conserving_memory/ for more details."},
		{RefuseNoKVMemory(MustVersion("0.11.1")), ClassNoKVMemory, "No available memory for the cache blocks. Try increasing `gpu_memory_utilization` when initializing the engine."},
		{RefuseGPUBusy(MustVersion("0.11.1"), 0, 61.2, 139.81, 0.9), ClassGPUBusy, "Free memory on device (61.2/139.81 GiB) on startup is less than desired GPU memory utilization (0.9, 125.83 GiB). Decrease GPU memory utilization or reduce GPU memory used by other processes."},
		{RefuseGPUBusy(MustVersion("0.22.0"), 3, 61.2, 139.81, 0.92), ClassGPUBusy, "Free memory on device cuda:3 (61.2/139.81 GiB) on startup is less than desired GPU memory utilization (0.92, 128.63 GiB). Decrease GPU memory utilization or reduce GPU memory used by other processes."},
	} {
		if c.e.Text != c.want || c.e.Class != c.class || Classify(c.e.Text, PhaseProfile) != c.class || c.e.Reason == "" {
			t.Errorf("got  %s (%s)\nwant %s (%s)", c.e.Text, c.e.Class, c.want, c.class)
		}
	}
}

func FuzzAppendJSONString(f *testing.F) {
	f.Add("a\"b\\\n\u2028<&>\xff")
	f.Fuzz(func(t *testing.T, s string) {
		var back string
		if err := json.Unmarshal(AppendJSONString(nil, s), &back); err != nil || back != strings.ToValidUTF8(s, "\uFFFD") && strings.ToValidUTF8(s, "") == s {
			t.Fatalf("%q: %q, %v", s, back, err)
		}
	})
}

func BenchmarkScanLine(b *testing.B) {
	v := MustVersion("0.11.1")
	c, _ := ResolveArgv(v, strings.Fields(planArgs), GLM46())
	lines := strings.Split(renderAll(v, c, StartupLines(v, c, testFacts())), "\n")
	var s LogScanner
	i := 0
	for b.Loop() {
		s.Line(lines[i%len(lines)])
		i++
	}
}
