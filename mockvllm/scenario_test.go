package mockvllm

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tidwall/gjson"

	"github.com/glm46/glm46/mockvllm/engine"
	"github.com/glm46/glm46/mockvllm/tokenizer"
	"github.com/glm46/glm46/mockvllm/vllm"
)

func scenario(t testing.TB, text string) *Scenario {
	t.Helper()
	s, err := ParseScenario("test.yaml", []byte("version: 1\n"+text))
	require.NoError(t, err)
	return s
}

func TestScenarioFaultsNameTheirPlace(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"version", "version: 2", "s.yaml:1:10: version: want 1, got 2"},
		{"none", "seed: 3", "version: want 1, got 0"},
		{"syntax", "version: 1\nstart: {fail: oom_load", "s.yaml:2:"},
		{"unknown field", "version: 1\nstart:\n  fails: x", "s.yaml:3:3: unknown field \"fails\""},
		{"type", "version: 1\nrequests:\n- status: many", "s.yaml:3:11: "},
		{"class", "version: 1\nstart:\n  fail: oom", "s.yaml:3:9: start.fail: unknown class \"oom\"; want one of oom_load"},
		{"phase", "version: 1\nstart:\n  hang: loading", "s.yaml:3:9: start.hang: unknown phase \"loading\"; want one of boot"},
		{"two starts", "version: 1\nstart:\n  hang: load\n  fail: oom_load", "start: want exactly one of"},
		{"status", "version: 1\nrequests:\n- status: 200", "s.yaml:3:11: requests[0].status: want 400 to 599, got 200"},
		{"idle rule", "version: 1\nrequests:\n- status: 500\n- match: {index: [1]}", "requests[1]: the rule does nothing"},
		{"two ends", "version: 1\nrequests:\n- {status: 500, cut: true}", "at most one of"},
		{"stall", "version: 1\nrequests:\n- stall: soon", "s.yaml:3:10: requests[0].stall: want a duration"},
		{"usage", "version: 1\nrequests:\n- usage: none", "want missing or wrong"},
		{"drip", "version: 1\nrequests:\n- drip: {bytes: 0, every: 1s}", "requests[0].drip: want bytes"},
		{"share", "version: 1\nrequests:\n- {cut: true, match: {share: 2}}", "want 0 to 1, got 2"},
		{"event", "version: 1\nevents:\n- after: 1s", "exactly one of die, slow, reset_fails"},
		{"effective", "version: 1\neffective:\n  kv_dtype: fp8", "s.yaml:3:13: effective.kv_dtype: unknown setting; want one of async_scheduling"},
		{"effective type", "version: 1\neffective:\n  enforce_eager: maybe", "want true or false, got maybe"},
		{"effective number", "version: 1\neffective:\n  max_model_len: -4", "want a whole number"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ParseScenario("s.yaml", []byte(c.text))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q in it", err, c.want)
			}
			var e *ScenarioError
			if !errors.As(err, &e) || e.Line < 1 {
				t.Errorf("error %#v is no *ScenarioError with a line", err)
			}
		})
	}
	_, err := ParseScenario("s.yaml", []byte("version: 3\nrequests:\n- status: 1\n- usage: x"))
	if got := strings.Count(err.Error(), "s.yaml:"); got != 3 {
		t.Errorf("%d faults reported, want all 3: %v", got, err)
	}
	if _, err := ParseScenario("s.json", []byte(`{"version": 1, "requests": [{"status": 503, "match": {"index": [0]}}]}`)); err != nil {
		t.Errorf("JSON: %v", err)
	}
}

// withRule gives a server whose requests all meet the rule. paces: the road.
func withRule(t *testing.T, pace *Pace, rule string) (*Mock, string, *http.Client) {
	o := quick()
	o.Pace, o.Speed = pace, 1000
	o.Scenario = scenario(t, "requests:\n- "+rule)
	m, s := newServer(t, o)
	return m, s.URL, s.Client()
}

func TestRequestFaults(t *testing.T) {
	const plain = `{"prompt":"one two three","max_tokens":20,"ignore_eos":true,"temperature":0`
	const streamed = plain + `,"stream":true,"stream_options":{"include_usage":true}}`
	for name, pace := range map[string]*Pace{"engine": nil, "paced": {ITL: time.Microsecond}, "unpaced": fast} {
		t.Run(name, func(t *testing.T) {
			ask := func(rule, body string) (parsed, answer, error) {
				_, url, c := withRule(t, pace, rule)
				a, err := callErr(t.Context(), c, "POST", url+"/v1/completions", body)
				if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && a.body == "" {
					return parsed{}, a, err
				}
				return parseStream(t, a.body), a, err
			}
			p, a, err := ask(`{status: 503, message: "busy now"}`, streamed)
			if a.status != 503 || gjson.Get(a.body, "error.message").String() != "busy now" || err != nil {
				t.Errorf("status: %d %s %v", a.status, a.body, err)
			}
			p, _, err = ask(`{at_token: 5, cut: true}`, streamed)
			if !errors.Is(err, io.ErrUnexpectedEOF) || len(p.chunks) != 5 || p.done {
				t.Errorf("cut: %d chunks, done %t, %v", len(p.chunks), p.done, err)
			}
			p, _, err = ask(`{at_token: 5, reset: true}`, streamed)
			if err == nil || p.done {
				t.Errorf("reset: %v, done %t", err, p.done)
			}
			p, _, err = ask(`{at_token: 5, error: true, message: "gone wrong"}`, streamed)
			if err != nil || len(p.chunks) != 6 || p.err != "gone wrong" || !p.done {
				t.Errorf("error event: %d chunks, %q, done %t, %v", len(p.chunks), p.err, p.done, err)
			}
			p, _, _ = ask(`{at_token: 5, garbage: "data: {not json"}`, streamed)
			if len(p.garbage) != 1 || len(p.chunks) != 21 || !p.done {
				t.Errorf("garbage: %q, %d chunks, done %t", p.garbage, len(p.chunks), p.done)
			}
			p, _, _ = ask(`{usage: missing}`, streamed)
			if p.usage != nil || !p.done {
				t.Errorf("usage missing: %+v", p.usage)
			}
			p, _, _ = ask(`{usage: wrong}`, streamed)
			if p.usage == nil || p.usage.CompletionTokens != 21 {
				t.Errorf("usage wrong: %+v", p.usage)
			}
			p, _, _ = ask(`{length: -3}`, streamed)
			if p.usage.CompletionTokens != 17 || p.finish != "length" {
				t.Errorf("length: %+v %s", p.usage, p.finish)
			}
			p, _, err = ask(`{no_done: true}`, streamed)
			if p.done || err != nil || p.finish != "length" {
				t.Errorf("no_done: done %t, %v", p.done, err)
			}
			p, _, _ = ask(`{drip: {bytes: 100, every: 10us}}`, streamed)
			if len(p.chunks) != 21 || !p.done {
				t.Errorf("drip: %d chunks", len(p.chunks))
			}
			begun := time.Now()
			p, _, _ = ask(`{at_token: 3, stall: 30ms}`, streamed)
			if d := time.Since(begun); d < 30*time.Millisecond || len(p.chunks) != 21 {
				t.Errorf("stall: %v, %d chunks", d, len(p.chunks))
			}
			// Not streamed.
			_, a, _ = ask(`{usage: wrong}`, plain+"}")
			if n := gjson.Get(a.body, "usage.completion_tokens").Int(); n != 21 {
				t.Errorf("whole, usage wrong: %d", n)
			}
			_, a, _ = ask(`{error: true, message: "no"}`, plain+"}")
			if a.status != 500 || gjson.Get(a.body, "error.message").String() != "no" {
				t.Errorf("whole, error: %d %s", a.status, a.body)
			}
			if _, _, err = ask(`{cut: true}`, plain+"}"); err == nil {
				t.Error("whole, cut: no error")
			}
		})
	}
}

// Every request for text has its line, however it ended.
func TestTruthOfAClientThatLeftEarly(t *testing.T) {
	truth := &timedLog{begun: time.Now()}
	o := quick()
	o.Truth = truth
	o.Scenario = scenario(t, "requests:\n- delay: 1h")
	_, s := newServer(t, o)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := callErr(ctx, s.Client(), "POST", s.URL+"/v1/completions", `{"prompt":"x"}`, "X-Request-Id", "left")
	require.Error(t, err)
	for range 1000 {
		if truth.count(`"request_id":"cmpl-left"`) == 1 && truth.count(`"tokens":[],"end":"abort"`) == 1 {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Errorf("truth: %q", truth.lines)
}

func TestResetIsATCPReset(t *testing.T) {
	_, url, _ := withRule(t, nil, `{at_token: 2, reset: true}`)
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	require.NoError(t, err)
	defer c.Close()
	body := `{"prompt":"x","max_tokens":9,"ignore_eos":true,"stream":true}`
	fmt.Fprintf(c, "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	_, err = io.Copy(io.Discard, bufio.NewReader(c))
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read ends with %v, want a reset", err)
	}
}

func TestRulesMatch(t *testing.T) {
	s := scenario(t, `seed: 5
requests:
- {match: {index: [1, 3]}, status: 501}
- {match: {from: 10, to: 20, every: 5}, status: 502}
- {match: {endpoint: chat, request_id: slow}, status: 503}
- {match: {share: 0.3, stream: true, from: 100}, status: 504}
- {match: {min_prompt_tokens: 50}, status: 505}
`)
	status := func(index int, g *generation, id string) int {
		if r := s.rule(index, g, id); r != nil {
			return r.Status
		}
		return 0
	}
	plain, chat := &generation{prompts: [][]int32{make([]int32, 5)}}, &generation{chat: true}
	for _, c := range []struct {
		index int
		g     *generation
		id    string
		want  int
	}{
		{0, plain, "", 0}, {1, plain, "", 501}, {3, plain, "", 501}, {10, plain, "", 502}, {12, plain, "", 0}, {20, plain, "", 502}, {25, plain, "", 0},
		{0, chat, "slow-1", 503}, {0, plain, "slow-1", 0}, {0, chat, "x", 0}, {0, &generation{prompts: [][]int32{make([]int32, 60)}}, "", 505},
	} {
		if got := status(c.index, c.g, c.id); got != c.want {
			t.Errorf("request %d, %q: %d, want %d", c.index, c.id, got, c.want)
		}
	}
	hits := 0
	for i := 100; i < 2100; i++ {
		if status(i, &generation{stream: true}, "") == 504 {
			hits++
		}
	}
	if hits < 500 || hits > 700 {
		t.Errorf("a share of 0.3 matched %d of 2000", hits)
	}
}

func TestStartFaults(t *testing.T) {
	start := func(t *testing.T, text string) (*Mock, *timedLog, error) {
		o := quick()
		log := &timedLog{begun: time.Now()}
		o.Log, o.ErrorLog, o.Scenario = log, log, scenario(t, text)
		m, err := New(o)
		if err != nil {
			return nil, log, err
		}
		t.Cleanup(func() { m.Close() })
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		return m, log, m.Start(ctx)
	}
	_, _, err := start(t, "start: {unknown_flag: --context-parallel-size}")
	var usage *vllm.UsageError
	if !errors.As(err, &usage) || usage.ExitCode != 2 || !strings.Contains(usage.Text, "unrecognized arguments: --context-parallel-size") {
		t.Errorf("unknown flag: %v", err)
	}
	for _, c := range []struct {
		text, line, before string
		class              vllm.Class
	}{
		{"{fail: oom_load}", "torch.OutOfMemoryError: CUDA out of memory", "Loading weights took", vllm.ClassOOMLoad},
		{"{fail: oom_load, phase: profile}", "torch.OutOfMemoryError: CUDA out of memory", "Available KV cache memory", vllm.ClassOOMLoad},
		{"{fail: oom_capture}", "CUDA out of memory", "Graph capturing finished", vllm.ClassOOMCapture},
		{"{fail: kv_too_small}", "To serve at least one request", "GPU KV cache size", vllm.ClassKVTooSmall},
		{"{fail: weights_missing}", "Cannot find any model weights", "Loading weights took", vllm.ClassWeightsMissing},
		{"{fail: port_in_use}", "Address already in use", "Starting vLLM API server", vllm.ClassPortInUse},
		{"{fail: nccl, message: my own text}", "my own text", "Starting to load model", vllm.ClassNCCL},
	} {
		_, log, err := start(t, "start: "+c.text)
		var e *StartError
		if !errors.As(err, &e) || e.ExitCode != 1 || e.Class != c.class {
			t.Errorf("%s: %v", c.text, err)
		}
		if _, ok := log.first(c.line); !ok {
			t.Errorf("%s: no line with %q", c.text, c.line)
		}
		if _, ok := log.first(c.before); ok {
			t.Errorf("%s: has got beyond %q", c.text, c.before)
		}
		if _, ok := log.first("Application startup complete"); ok {
			t.Errorf("%s: says that it started", c.text)
		}
	}
	// Wherever in the phase the memory runs out, its log says that it was capturing.
	for _, at := range []string{"0", "0.2", "0.5", "0.7", "1"} {
		_, log, _ := start(t, "start: {fail: oom_capture, at: "+at+"}")
		scanner := vllm.LogScanner{}
		for _, l := range log.lines {
			for _, line := range strings.Split(strings.TrimSuffix(l, "\n"), "\n") {
				scanner.Line(line)
			}
		}
		if got := scanner.Facts().RootCause.Class; got != vllm.ClassOOMCapture {
			t.Errorf("oom_capture at %s reads as %s", at, got)
		}
	}
	_, log, err := start(t, "start: {hang: capture}")
	if _, ok := log.first("GPU KV cache size"); err == nil || !ok {
		t.Errorf("hang: %v", err)
	}
	_, _, err = start(t, "start: {die: load}")
	var e *StartError
	if !errors.As(err, &e) || e.ExitCode != 137 {
		t.Errorf("die: %v", err)
	}
	m, _, err := start(t, "start: {never_healthy: true}")
	require.NoError(t, err)
	s := serve(t, m, true)
	if a := call(t, s.Client(), "GET", s.URL+"/health", ""); a.status != 503 {
		t.Errorf("never healthy: %d", a.status)
	}
}

func TestEngineDeath(t *testing.T) {
	tokenizer.Warm()
	synctest.Test(t, func(t *testing.T) {
		o := quick()
		log := &timedLog{begun: time.Now()}
		o.Log, o.ErrorLog = log, log
		o.Scenario = scenario(t, "events:\n- {after: 10s, die: oom_run}")
		m, err := New(o)
		require.NoError(t, err)
		require.NoError(t, m.Start(t.Context()))
		c, stop := servePipe(m)
		defer stop()
		begun := time.Now()
		whole := make(chan answer, 1)
		go func() {
			a, _ := callErr(t.Context(), c, "POST", "http://mock/v1/completions", `{"prompt":"x","max_tokens":30000,"ignore_eos":true}`)
			whole <- a
		}()
		a := call(t, c, "POST", "http://mock/v1/completions", `{"prompt":"x","max_tokens":30000,"ignore_eos":true,"stream":true}`)
		p := parseStream(t, a.body)
		if time.Since(begun) != 10*time.Second || p.err != vllm.EngineDeadMessage || !p.done || p.finish != "" {
			t.Errorf("stream: after %v, error %q, done %t", time.Since(begun), p.err, p.done)
		}
		if w := <-whole; w.status != 500 || gjson.Get(w.body, "error.message").String() != vllm.EngineDeadMessage {
			t.Errorf("whole: %d %s", w.status, w.body)
		}
		<-m.Dead()
		if a := call(t, c, "GET", "http://mock/health", ""); a.status != 503 {
			t.Errorf("health after the death: %d", a.status)
		}
		if a := call(t, c, "POST", "http://mock/v1/completions", `{"prompt":"x"}`); a.status != 500 {
			t.Errorf("request after the death: %d", a.status)
		}
		if _, ok := log.first("EngineDeadError"); !ok {
			t.Error("no EngineDeadError in the log")
		}
		if _, ok := log.first("torch.OutOfMemoryError"); !ok {
			t.Error("no cause in the log")
		}
	})
}

func TestSlowdown(t *testing.T) {
	tokenizer.Warm()
	took := func(events string) (d time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			o := quick("--enforce-eager")
			if events != "" {
				o.Scenario = scenario(t, events)
			}
			m, err := New(o)
			require.NoError(t, err)
			require.NoError(t, m.Start(t.Context()))
			c, stop := servePipe(m)
			defer stop()
			begun := time.Now()
			call(t, c, "POST", "http://mock/v1/completions", `{"prompt":"x","max_tokens":100,"ignore_eos":true}`)
			d = time.Since(begun)
		})
		return d
	}
	plain := took("")
	if got := took("events:\n- {after: 0s, slow: 3}").Seconds() / plain.Seconds(); got < 2.9 || got > 3 {
		t.Errorf("slow: 3 took %.2f times as long", got)
	}
	// Two seconds at half the speed cost one second.
	if got := took("events:\n- {after: 3s, slow: 2, for: 2s}") - plain; got < 900*time.Millisecond || got > 1200*time.Millisecond {
		t.Errorf("a slow time of 2 s cost %v", got)
	}
}

// A folder of tuned tiles makes the experts faster, where the version reads it.
func TestTunedTiles(t *testing.T) {
	for _, c := range []struct {
		version, folder string
		tuned           bool
	}{{"0.11.1", "/tiles", true}, {"0.11.1", "", false}, {"0.10.1", "/tiles", false}} {
		log := &timedLog{begun: time.Now()}
		o := quick()
		o.Version, o.Log, o.Environ = c.version, log, []string{"VLLM_TUNED_CONFIG_FOLDER=" + c.folder}
		m := startMock(t, o)
		step := m.Model().Step(&engine.StepShape{Decodes: 8, DecodeTokens: 8, ContextTokens: 8000, LogitRows: 8, Sampled: 8, UniformDecode: true})
		plain := startMock(t, quick()).Model().Step(&engine.StepShape{Decodes: 8, DecodeTokens: 8, ContextTokens: 8000, LogitRows: 8, Sampled: 8, UniformDecode: true})
		want := time.Duration(0)
		if c.tuned {
			want = time.Duration(math.Round(89 * (100.1 - 95.6) * 1000)) // docs/timing-model.md, table of experts at 8 tokens
		}
		if got := plain - step; got < want-time.Microsecond || got > want+time.Microsecond {
			t.Errorf("%+v: %v faster, want %v", c, got, want)
		}
		if got := log.count("Using default MoE config") == 0; got != c.tuned {
			t.Errorf("%+v: no warning: %t", c, got)
		}
		if got := log.count("Using configuration from /tiles/E=160,N=192,device_name=NVIDIA_H200.json for MoE layer.") > 0; got != c.tuned {
			t.Errorf("%+v: names the file: %t", c, got)
		}
	}
}

func TestContradictionAndFailingReset(t *testing.T) {
	o := quick("--kv-cache-dtype", "fp8")
	log := &timedLog{begun: time.Now()}
	o.Log, o.Environ = log, []string{"VLLM_SERVER_DEV_MODE=1"}
	o.Scenario = scenario(t, "effective: {kv_cache_dtype: auto, enable_prefix_caching: false}\nevents:\n- {after: 0s, reset_fails: true}")
	_, s := newServer(t, o)
	for _, part := range []string{"kv_cache_dtype=auto", "'kv_cache_dtype': 'fp8'", "enable_prefix_caching=False"} {
		if _, ok := log.first(part); !ok {
			t.Errorf("no %s in the log", part)
		}
	}
	if a := call(t, s.Client(), "GET", s.URL+"/metrics", ""); !strings.Contains(a.body, `cache_dtype="auto"`) {
		t.Error("cache_config_info does not show the effective type")
	}
	time.Sleep(20 * time.Millisecond)
	call(t, s.Client(), "POST", s.URL+"/reset_prefix_cache", "")
	if _, ok := log.first("Failed to reset prefix cache"); !ok {
		t.Error("the reset did not report failure")
	}
}

// The scenarios of the documentation are right.
func TestDocumentedScenarios(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join("..", "docs", "mock.md"))
	if err != nil {
		t.Skip("docs/mock.md is not here")
	}
	n := 0
	for part := range bytes.SplitSeq(doc, []byte("```yaml\n")) {
		text, _, ok := bytes.Cut(part, []byte("\n```"))
		if !ok || !bytes.HasPrefix(text, []byte("version: 1")) {
			continue
		}
		n++
		if _, err := ParseScenario("mock.md", text); err != nil {
			t.Errorf("%v in\n%s", err, text)
		}
	}
	if n == 0 {
		t.Error("docs/mock.md shows no scenario")
	}
}

func FuzzScenario(f *testing.F) {
	for _, s := range []string{
		"version: 1", "version: 1\nstart: {fail: oom_load}", "version: 1\nrequests:\n- {match: {index: [1]}, cut: true}",
		`{"version":1,"events":[{"after":"1s","slow":2}]}`, "version: 1\neffective: {max_model_len: 5}", "a: &a [*a]", "- ? : !",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		sc, err := ParseScenario("f", []byte(s))
		if err == nil {
			sc.rule(3, &generation{}, "x")
			sc.startFailure(vllm.PhaseLoad, 0.5, true)
			sc.slowPeriods()
			var c vllm.EngineConfig
			sc.contradict(&c)
		}
	})
}

func FuzzBody(f *testing.F) {
	for _, s := range []string{
		chatBody + "}", `{"prompt":"x"}`, `{"prompt":[1,2]}`, `{"prompt":[[1],[2]]}`, `{"messages":[{"role":"user","content":[{"text":"x"}]}]}`,
		`{"prompt":1e400}`, `{"prompt":["a",1]}`, `{"stop":["a",""],"prompt":"x"}`, `{"seed":-9.5,"prompt":"x"}`, `[]`, `{"messages":{"a":1}}`, "\xff",
	} {
		f.Add([]byte(s), true)
		f.Add([]byte(s), false)
	}
	v := vllm.MustVersion(vllm.DefaultVersion)
	f.Fuzz(func(t *testing.T, b []byte, chat bool) {
		g, bad := parseGeneration(v, bytes.Clone(b), chat)
		if (g == nil) == (bad == nil) {
			t.Fatal("want either a request or a refusal")
		}
		if g != nil {
			if len(g.prompts) == 0 {
				t.Fatal("no prompt")
			}
			for _, p := range g.prompts {
				if len(p) == 0 {
					t.Fatal("an empty prompt")
				}
			}
		}
		if bad != nil && bad.message == "" {
			t.Fatal("a refusal without words")
		}
	})
}

func TestScriptedAnswer(t *testing.T) {
	_, url, client := withRule(t, nil, `{match: {prompt_ends: "31 + 11 ="}, answer: " 42\n"}`)
	ask := func(prompt string, stream bool) string {
		body := fmt.Sprintf(`{"model":"zai-org/GLM-4.6","prompt":%q,"max_tokens":16,"stop":["\n"],"temperature":0,"stream":%v}`, prompt, stream)
		resp, err := client.Post(url+"/v1/completions", "application/json", strings.NewReader(body))
		require.NoError(t, err)
		defer resp.Body.Close()
		all, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return string(all)
	}
	got := ask("1 + 1 = 2\n31 + 11 =", false)
	if text := gjson.Get(got, "choices.0.text").Str; text != " 42" || gjson.Get(got, "choices.0.finish_reason").Str != "stop" {
		t.Errorf("answer %q", got)
	}
	streamed := ""
	for line := range strings.SplitSeq(ask("31 + 11 =", true), "\n") {
		streamed += gjson.Get(strings.TrimPrefix(line, "data: "), "choices.0.text").Str
	}
	if streamed != " 42" {
		t.Errorf("streamed %q", streamed)
	}
	if got := ask("31 + 12 =", false); gjson.Get(got, "choices.0.text").Str == " 42" {
		t.Errorf("another prompt is answered %q", got)
	}
}
