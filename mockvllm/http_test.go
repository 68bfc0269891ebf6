package mockvllm

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"
	"github.com/tidwall/gjson"

	"github.com/glm46/glm46/mockvllm/engine"
	"github.com/glm46/glm46/mockvllm/tokenizer"
)

const chatBody = `{"model":"zai-org/GLM-4.6","messages":[{"role":"user","content":"Say something about the harbour in winter."}],"max_tokens":40,"ignore_eos":true,"temperature":0`

func TestRoutes(t *testing.T) {
	o := quick("--served-model-name", "glm", "--api-key", "secret")
	o.Pace = fast
	_, s := newServer(t, o)
	auth := []string{"Authorization", "Bearer secret"}
	for _, c := range []struct {
		name, method, path, body string
		header                   []string
		status                   int
		want                     string // a JSON path and its value, or a part of the body
	}{
		{"health", "GET", "/health", "", nil, 200, ""},
		{"ping", "POST", "/ping", "", nil, 200, ""},
		{"version", "GET", "/version", "", nil, 200, "version=0.11.1"},
		{"models", "GET", "/v1/models", "", auth, 200, "data.0.id=glm"},
		{"models limit", "GET", "/v1/models", "", auth, 200, "data.0.max_model_len=32768"},
		{"models root", "GET", "/v1/models", "", auth, 200, "data.0.root=zai-org/GLM-4.6"},
		{"no key", "GET", "/v1/models", "", nil, 401, "error=Unauthorized"},
		{"wrong key", "GET", "/v1/models", "", []string{"Authorization", "Bearer x"}, 401, "error=Unauthorized"},
		{"no key, no route", "GET", "/v1/nothing", "", nil, 401, "error=Unauthorized"},
		{"no key, wrong method", "GET", "/v1/completions", "", nil, 401, "error=Unauthorized"},
		{"metrics need no key", "GET", "/metrics", "", nil, 200, "vllm:num_requests_running"},
		{"metrics slash", "GET", "/metrics/", "", nil, 200, "vllm:num_requests_running"},
		{"load", "GET", "/load", "", nil, 200, "server_load=0"},
		{"unknown", "GET", "/nothing", "", nil, 404, "error.message=Not Found"},
		{"wrong method", "GET", "/v1/completions", "", auth, 405, "Method Not Allowed"},
		{"dev route", "POST", "/reset_prefix_cache", "", nil, 404, "Not Found"},
		{"tokenize", "POST", "/tokenize", `{"prompt":"the harbour"}`, nil, 200, "max_model_len=32768"},
		{"tokenize strings", "POST", "/tokenize", `{"prompt":"the people","return_token_strs":true}`, nil, 200, `token_strs.1= people`},
		{"tokenize chat", "POST", "/tokenize", `{"messages":[{"role":"user","content":"people"}]}`, nil, 200, "count=7"},
		{"tokenize nothing", "POST", "/tokenize", `{}`, nil, 400, "Field required"},
		{"unknown model", "POST", "/v1/completions", `{"model":"other","prompt":"x"}`, auth, 404, "error.type=NotFoundError"},
		{"n", "POST", "/v1/completions", `{"prompt":"x","n":2}`, auth, 400, "one choice"},
		{"prompts", "POST", "/v1/completions", `{"prompt":["the people","y"],"max_tokens":3}`, auth, 200, "choices.1.index=1"},
		{"no prompts", "POST", "/v1/completions", `{"prompt":[]}`, auth, 400, "cannot be empty"},
		{"an empty prompt", "POST", "/v1/completions", `{"prompt":["x",""]}`, auth, 400, "cannot be empty"},
		{"mixed prompts", "POST", "/v1/completions", `{"prompt":["x",7]}`, auth, 400, "valid string"},
		{"top_logprobs alone", "POST", "/v1/chat/completions", `{"messages":[{"role":"user","content":"x"}],"top_logprobs":2}`, auth, 400, "`logprobs` must be set to true"},
		{"logprobs below 0", "POST", "/v1/completions", `{"prompt":"x","logprobs":-2}`, auth, 400, "must be a positive value"},
		{"too many logprobs", "POST", "/v1/completions", `{"prompt":"x","logprobs":21}`, auth, 400, "Requested sample logprobs of 21, which is greater than max allowed: 20"},
		{"no prompt", "POST", "/v1/completions", `{"model":"glm"}`, auth, 400, "Field required"},
		{"no messages", "POST", "/v1/chat/completions", `{"model":"glm"}`, auth, 400, "'messages'"},
		{"empty prompt", "POST", "/v1/completions", `{"prompt":""}`, auth, 400, "cannot be empty"},
		{"not JSON", "POST", "/v1/completions", `{"prompt":`, auth, 400, "JSON decode error"},
		{"no object", "POST", "/v1/completions", `[1]`, auth, 400, "valid dictionary"},
		{"field type", "POST", "/v1/completions", `{"prompt":"x","max_tokens":"many"}`, auth, 400, "valid integer"},
		{"media type", "POST", "/v1/completions", `{"prompt":"x"}`, append([]string{"Content-Type", "text/plain"}, auth...), 400, "Unsupported Media Type"},
		{"max_tokens", "POST", "/v1/completions", `{"prompt":"x","max_tokens":0}`, auth, 400, "max_tokens must be at least 1"},
		{"min_tokens", "POST", "/v1/completions", `{"prompt":"x","max_tokens":3,"min_tokens":4}`, auth, 400, "min_tokens must be less"},
		{"temperature", "POST", "/v1/completions", `{"prompt":"x","temperature":-1}`, auth, 400, "temperature must be non-negative, got -1"},
		{"stream options", "POST", "/v1/completions", `{"prompt":"x","stream_options":{"include_usage":true}}`, auth, 400, "Stream options"},
		{"token ids", "POST", "/v1/completions", `{"prompt":[5,6,7],"max_tokens":2}`, auth, 200, "usage.prompt_tokens=3"},
		{"token id lists", "POST", "/v1/completions", `{"prompt":[[5,6,7,8]],"max_tokens":2}`, auth, 200, "usage.prompt_tokens=4"},
		{"token out of range", "POST", "/v1/completions", `{"prompt":[5,999999]}`, auth, 400, "out of vocabulary"},
		{"default length", "POST", "/v1/completions", `{"prompt":"x","ignore_eos":true}`, auth, 200, "usage.completion_tokens=16"},
		{"too long", "POST", "/v1/completions", `{"prompt":"x","max_tokens":40000}`, auth, 400, "maximum context length"},
		{"nulls", "POST", "/v1/completions", `{"prompt":"x","max_tokens":3,"ignore_eos":true,"stop":null,"seed":null,"stream_options":null,"stream":null}`, auth, 200, "choices.0.finish_reason=length"},
		{"parts", "POST", "/v1/chat/completions", `{"messages":[{"role":"user","content":[{"type":"text","text":"people"}]}],"max_tokens":1}`, auth, 200, "usage.prompt_tokens=7"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := call(t, s.Client(), c.method, s.URL+c.path, c.body, c.header...)
			if a.status != c.status {
				t.Fatalf("status %d, want %d: %s", a.status, c.status, a.body)
			}
			if path, value, ok := strings.Cut(c.want, "="); ok {
				if got := gjson.Get(a.body, path).String(); got != value {
					t.Errorf("%s = %q, want %q in %s", path, got, value, a.body)
				}
			} else if !strings.Contains(a.body, c.want) {
				t.Errorf("body %s, want %q in it", a.body, c.want)
			}
		})
	}
}

func TestTokenizeRoundTrip(t *testing.T) {
	o := quick()
	_, s := newServer(t, o)
	text := "func main() {\n\tfmt.Println(\"h\u00e4 \u4e2d\")\n}"
	body := fmt.Sprintf(`{"prompt":%q}`, text)
	a := call(t, s.Client(), "POST", s.URL+"/tokenize", body)
	require.EqualValues(t, tokenizer.Count(text), gjson.Get(a.body, "count").Int())
	a = call(t, s.Client(), "POST", s.URL+"/detokenize", `{"tokens":`+gjson.Get(a.body, "tokens").Raw+`}`)
	require.Equal(t, text, gjson.Get(a.body, "prompt").String())
}

// roads are the ways text takes to a client: they must not differ in what it
// says.
func roads(t *testing.T, args ...string) map[string]func(body string, chat bool) parsed {
	t.Helper()
	ask := func(s string, c *http.Client, stream bool, body string, chat bool) parsed {
		path := map[bool]string{true: "/v1/chat/completions", false: "/v1/completions"}[chat]
		if stream {
			return parseStream(t, call(t, c, "POST", s+path, body+`,"stream":true,"stream_options":{"include_usage":true}}`).body)
		}
		a := call(t, c, "POST", s+path, body+"}")
		r := gjson.Parse(a.body)
		p := parsed{
			text:      r.Get("choices.0.message.content").String() + r.Get("choices.0.text").String(),
			reasoning: r.Get("choices.0.message.reasoning").String(),
			finish:    r.Get("choices.0.finish_reason").String(), stop: r.Get("choices.0.stop_reason").Value(), done: true,
			usage: &usageJSON{
				PromptTokens: int(r.Get("usage.prompt_tokens").Int()), CompletionTokens: int(r.Get("usage.completion_tokens").Int()),
				TotalTokens: int(r.Get("usage.total_tokens").Int()),
			},
		}
		return p
	}
	out := map[string]func(string, bool) parsed{}
	for name, pace := range map[string]*Pace{"engine": nil, "paced": {TTFT: time.Millisecond, ITL: 20 * time.Microsecond}, "unpaced": fast} {
		o := quick(args...)
		o.Pace, o.Speed = pace, 1000
		m := startMock(t, o)
		for _, direct := range []bool{true, false} {
			s := serve(t, m, direct)
			out[fmt.Sprintf("%s, direct=%t", name, direct)] = func(body string, chat bool) parsed { return ask(s.URL, s.Client(), true, body, chat) }
			if direct {
				out[name+", whole"] = func(body string, chat bool) parsed { return ask(s.URL, s.Client(), false, body, chat) }
			}
		}
	}
	return out
}

func TestEveryRoadSaysTheSame(t *testing.T) {
	all := roads(t, "--reasoning-parser", "glm45")
	for _, c := range []struct {
		name, body string
		chat       bool
		finish     string
		stop       any
		check      func(t *testing.T, p parsed)
	}{
		{"chat", chatBody, true, "length", nil, func(t *testing.T, p parsed) {
			if p.usage.CompletionTokens != 40 || p.reasoning == "" || p.text == "" {
				t.Errorf("usage %+v, reasoning %q, text %q", p.usage, p.reasoning, p.text)
			}
		}},
		{"no thinking", chatBody + `,"chat_template_kwargs":{"enable_thinking":false}`, true, "length", nil, func(t *testing.T, p parsed) {
			if p.reasoning != "" {
				t.Errorf("reasoning %q", p.reasoning)
			}
		}},
		{"completion", `{"prompt":"Once upon a time","max_tokens":300,"ignore_eos":true,"temperature":0`, false, "length", nil, func(t *testing.T, p parsed) {
			if got := tokenizer.Count(p.text); p.usage.CompletionTokens != 300 || got != 300 {
				t.Errorf("usage %+v, text has %d tokens", p.usage, got)
			}
		}},
		{"natural end", `{"prompt":"Once upon a time there","max_tokens":3000,"temperature":0`, false, "stop", float64(tokenizer.User), func(t *testing.T, p parsed) {
			if n := p.usage.CompletionTokens; n < 64 || n > 2049 {
				t.Errorf("ends after %d tokens", n)
			}
		}},
		{"stop string", `{"prompt":"Once upon a time","max_tokens":300,"ignore_eos":true,"temperature":0,"stop":["nothing like it","."]`, false, "stop", ".", func(t *testing.T, p parsed) {
			if strings.Contains(p.text, ".") || p.text == "" {
				t.Errorf("text %q", p.text)
			}
		}},
		{"stop string kept", `{"prompt":"Once upon a time","max_tokens":300,"ignore_eos":true,"temperature":0,"stop":".","include_stop_str_in_output":true`, false, "stop", ".", func(t *testing.T, p parsed) {
			if !strings.HasSuffix(p.text, ".") {
				t.Errorf("text %q", p.text)
			}
		}},
		{"stop string late", `{"prompt":"Once upon a time","max_tokens":300,"min_tokens":50,"ignore_eos":true,"temperature":0,"stop":"."`, false, "stop", ".", func(t *testing.T, p parsed) {
			if p.usage.CompletionTokens <= 50 {
				t.Errorf("stopped after %d tokens", p.usage.CompletionTokens)
			}
		}},
		{"stop token", `{"prompt":"Once upon a time","max_tokens":300,"ignore_eos":true,"temperature":0,"stop_token_ids":[` + fmt.Sprint(tokenizer.Encode(".")[0]) + `]`, false, "stop", float64(tokenizer.Encode(".")[0]), nil},
		{"echo", `{"prompt":"Once upon","max_tokens":5,"ignore_eos":true,"temperature":0,"echo":true`, false, "length", nil, func(t *testing.T, p parsed) {
			if !strings.HasPrefix(p.text, "Once upon") || p.usage.CompletionTokens != 5 {
				t.Errorf("text %q, usage %+v", p.text, p.usage)
			}
		}},
		{"cut characters", `{"prompt":"` + strings.Repeat("龘靐齉 ", 40) + `","max_tokens":700,"ignore_eos":true,"temperature":0`, false, "length", nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var first parsed
			var firstName string
			for name, ask := range all {
				p := ask(c.body, c.chat)
				if p.finish != c.finish || fmt.Sprint(p.stop) != fmt.Sprint(c.stop) || !p.done || len(p.garbage) > 0 {
					t.Errorf("%s: finish %q stop %v done %t garbage %q, want %q %v", name, p.finish, p.stop, p.done, p.garbage, c.finish, c.stop)
				}
				if p.usage == nil || p.usage.TotalTokens != p.usage.PromptTokens+p.usage.CompletionTokens {
					t.Fatalf("%s: usage %+v", name, p.usage)
				}
				if c.check != nil {
					c.check(t, p)
				}
				if firstName == "" {
					first, firstName = p, name
					continue
				}
				if p.text != first.text || p.reasoning != first.reasoning || p.usage.CompletionTokens != first.usage.CompletionTokens {
					t.Errorf("%s says\n%q (%d)\n%s says\n%q (%d)", name, p.text, p.usage.CompletionTokens, firstName, first.text, first.usage.CompletionTokens)
				}
			}
		})
	}
}

// Written past net/http, an answer must leave the connection in order: the next
// request on it is answered too.
func TestConnectionIsReused(t *testing.T) {
	for _, pace := range []*Pace{nil, fast} {
		o := quick()
		o.Pace, o.Speed = pace, 1000
		_, s := newServer(t, o)
		c, err := net.Dial("tcp", s.Listener.Addr().String())
		require.NoError(t, err)
		defer c.Close()
		r := bufio.NewReader(c)
		for i := range 5 {
			body := chatBody + `,"stream":true}`
			fmt.Fprintf(c, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
			resp, err := http.ReadResponse(r, nil)
			require.NoError(t, err)
			if got := fmt.Sprint(resp.TransferEncoding); got != "[chunked]" {
				t.Errorf("transfer encoding %s", got)
			}
			b, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			if p := parseStream(t, string(b)); !p.done || p.finish != "length" {
				t.Fatalf("answer %d: %+v", i, p)
			}
		}
	}
}

func TestOldClient(t *testing.T) {
	o := quick()
	o.Speed = 1000
	_, s := newServer(t, o)
	c, err := net.Dial("tcp", s.Listener.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	body := chatBody + `,"stream":true}`
	fmt.Fprintf(c, "POST /v1/chat/completions HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	if p := parseStream(t, string(b)); !p.done || strings.Contains(string(b), "\r") {
		t.Errorf("HTTP/1.0 answer: %q", b)
	}
}

func TestStreamShape(t *testing.T) {
	o := quick("--enable-prompt-tokens-details", "--enable-request-id-headers")
	o.Speed = 1000
	_, s := newServer(t, o)
	ask := func(options string) (parsed, answer) {
		a := call(t, s.Client(), "POST", s.URL+"/v1/chat/completions", chatBody+`,"stream":true`+options+`}`, "X-Request-Id", "my-id")
		return parseStream(t, a.body), a
	}
	p, a := ask("")
	if p.usage != nil || len(p.chunks) != 41 || p.role != 1 {
		t.Errorf("%d chunks, %d roles, usage %+v; want 41, 1, none", len(p.chunks), p.role, p.usage)
	}
	if got := a.header.Get("Content-Type"); got != "text/event-stream; charset=utf-8" {
		t.Errorf("content type %q", got)
	}
	if a.header.Get("X-Request-Id") != "my-id" || !strings.Contains(a.body, `"id":"chatcmpl-my-id"`) {
		t.Errorf("request id: header %q", a.header.Get("X-Request-Id"))
	}
	p, _ = ask(`,"stream_options":{"include_usage":true,"continuous_usage_stats":true}`)
	for i, c := range p.chunks {
		want := min(i, 40)
		if c.Usage == nil || c.Usage.CompletionTokens != want {
			t.Fatalf("chunk %d: usage %+v, want %d", i, c.Usage, want)
		}
	}
	if p.usage.Details == nil {
		t.Error("no prompt_tokens_details")
	}
	p, _ = ask(`,"stream_options":{"continuous_usage_stats":true}`)
	if p.usage != nil {
		t.Error("continuous usage without include_usage")
	}
}

// Source: docs/vllm.md section 3.3, --stream-interval.
// Several prompts are choices of one answer, each as if it had come alone.
func TestSeveralPrompts(t *testing.T) {
	prompts := []string{"the people", "a list of everything", "winter"}
	for name, pace := range map[string]*Pace{"engine": nil, "paced": {TTFT: time.Millisecond, ITL: 20 * time.Microsecond}, "unpaced": fast} {
		t.Run(name, func(t *testing.T) {
			truth := &timedLog{begun: time.Now()}
			o := quick("--enable-prompt-tokens-details")
			o.Pace, o.Speed, o.Truth = pace, 1000, truth
			_, s := newServer(t, o)
			ask := func(prompt, more string) string {
				return call(t, s.Client(), "POST", s.URL+"/v1/completions", `{"prompt":`+prompt+`,"max_tokens":9,"ignore_eos":true,"temperature":0`+more+`}`, "X-Request-Id", "r").body
			}
			var want []string
			promptTokens := 0
			for _, p := range prompts {
				a := gjson.Parse(ask(fmt.Sprintf("%q", p), ""))
				want = append(want, a.Get("choices.0.text").String())
				promptTokens += int(a.Get("usage.prompt_tokens").Int())
			}
			list := `["the people","a list of everything","winter"]`
			whole := gjson.Parse(ask(list, ""))
			if whole.Get("id").String() != "cmpl-r" || whole.Get("choices.#").Int() != 3 {
				t.Errorf("answer %s", whole.Raw)
			}
			usage := fmt.Sprintf("%d 27 %d", promptTokens, promptTokens+27)
			if u := whole.Get("usage"); fmt.Sprintf("%d %d %d", u.Get("prompt_tokens").Int(), u.Get("completion_tokens").Int(), u.Get("total_tokens").Int()) != usage {
				t.Errorf("usage %s, want %s", u.Raw, usage)
			}
			p := parseStream(t, ask(list, `,"stream":true,"stream_options":{"include_usage":true}`))
			text := make([]string, 3)
			ends := make([]int, 3)
			for _, c := range p.chunks {
				for _, ch := range c.Choices {
					text[ch.Index] += *ch.Text
					if ch.FinishReason != nil {
						ends[ch.Index]++
					}
				}
			}
			if got := fmt.Sprintf("%d %d %d", p.usage.PromptTokens, p.usage.CompletionTokens, p.usage.TotalTokens); got != usage || !p.done || fmt.Sprint(ends) != "[1 1 1]" {
				t.Errorf("stream: usage %s, done %t, ends %v", got, p.done, ends)
			}
			for i := range want {
				if got := whole.Get(fmt.Sprintf("choices.%d.text", i)).String(); got != want[i] || text[i] != want[i] {
					t.Errorf("choice %d: whole %q, streamed %q, want %q", i, got, text[i], want[i])
				}
			}
			ids := map[string]int{}
			for _, l := range truth.lines {
				ids[gjson.Get(l, "request_id").String()] += int(gjson.Get(l, "tokens.#").Int())
			}
			for _, id := range []string{"cmpl-r-0", "cmpl-r-1", "cmpl-r-2"} {
				if ids[id] != 18 {
					t.Errorf("truth of %s: %d tokens, want 18", id, ids[id])
				}
			}
		})
	}
}

func TestSeveralPromptsEndWithTheirClient(t *testing.T) {
	o := quick()
	o.Pace = &Pace{TTFT: time.Millisecond, ITL: time.Hour}
	m, s := newServer(t, o)
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, "POST", s.URL+"/v1/completions", strings.NewReader(`{"prompt":["a","b"],"stream":true}`))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/json")
	resp, err := s.Client().Do(r)
	require.NoError(t, err)
	_, err = bufio.NewReader(resp.Body).ReadString('\n')
	require.NoError(t, err)
	cancel()
	resp.Body.Close()
	for range 1000 {
		if st := m.Stats(); st.Running == 0 && st.Finished[engine.FinishAbort] == 2 {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Errorf("not aborted: %+v", m.Stats())
}

func TestLogprobs(t *testing.T) {
	_, s := newServer(t, func() Options { o := quick(); o.Pace = fast; return o }())
	ask := func(path, body string) string {
		return call(t, s.Client(), "POST", s.URL+path, body+`,"max_tokens":5,"ignore_eos":true,"temperature":0}`).body
	}
	const prompt, chat = `{"prompt":"the people"`, `{"messages":[{"role":"user","content":"the people"}]`
	whole := gjson.Get(ask("/v1/completions", prompt+`,"logprobs":3`), "choices.0")
	l := whole.Get("logprobs")
	text := ""
	for i, tok := range l.Get("tokens").Array() {
		if got := l.Get(fmt.Sprintf("text_offset.%d", i)).Int(); int(got) != len(text) {
			t.Errorf("token %d at %d, want %d", i, got, len(text))
		}
		text += tok.String()
		top := l.Get(fmt.Sprintf("top_logprobs.%d", i)).Map()
		if p := l.Get(fmt.Sprintf("token_logprobs.%d", i)).Float(); len(top) != 3 || top[tok.String()].Float() != p || !(p < 0 && p > -1) {
			t.Errorf("token %d, %q: %v of %v", i, tok.String(), p, top)
		}
		sum := 0.0
		for _, p := range top {
			sum += math.Exp(p.Float())
		}
		if sum > 1.0001 {
			t.Errorf("probabilities sum to %v", sum)
		}
	}
	if text != whole.Get("text").String() || l.Get("tokens.#").Int() != 5 {
		t.Errorf("tokens %q, text %q", text, whole.Get("text"))
	}
	var streamed []string
	for _, line := range strings.Split(ask("/v1/completions", prompt+`,"logprobs":3,"stream":true,"return_token_ids":true`), "\n") {
		for _, p := range gjson.Get(strings.TrimPrefix(line, "data: "), "choices.0.logprobs.token_logprobs").Array() {
			streamed = append(streamed, p.Raw)
		}
		if n := gjson.Get(strings.TrimPrefix(line, "data: "), "choices.0.token_ids.#").Int(); strings.Contains(line, "choices") && n != 1 {
			t.Errorf("token ids in %s", line)
		}
	}
	if got := "[" + strings.Join(streamed, ",") + "]"; got != l.Get("token_logprobs").Raw {
		t.Errorf("streamed %s, whole %s", got, l.Get("token_logprobs").Raw)
	}
	echo := gjson.Get(ask("/v1/completions", prompt+`,"logprobs":0,"echo":true`), "choices.0")
	if n := echo.Get("logprobs.tokens.#").Int(); n != 7 || echo.Get("logprobs.token_logprobs.0").Type != gjson.Null || !strings.HasPrefix(echo.Get("text").String(), "the people") {
		t.Errorf("echo: %s", echo.Raw)
	}
	c := gjson.Get(ask("/v1/chat/completions", chat+`,"logprobs":true,"top_logprobs":2`), "choices.0")
	text = ""
	for _, tok := range c.Get("logprobs.content").Array() {
		text += tok.Get("token").String()
		if tok.Get("top_logprobs.#").Int() != 2 || tok.Get("top_logprobs.0.token").String() != tok.Get("token").String() || tok.Get("bytes.#").Int() != int64(len(tok.Get("token").String())) {
			t.Errorf("token %s", tok.Raw)
		}
	}
	if text != c.Get("message.content").String() {
		t.Errorf("tokens %q, text %s", text, c.Raw)
	}
	if a := ask("/v1/chat/completions", chat); !strings.Contains(a, `"logprobs":null`) {
		t.Errorf("not asked for: %s", a)
	}
}

func TestStreamInterval(t *testing.T) {
	o := quick("--stream-interval", "8")
	o.Speed = 1000
	_, s := newServer(t, o)
	a := call(t, s.Client(), "POST", s.URL+"/v1/completions", `{"prompt":"x","max_tokens":40,"ignore_eos":true,"stream":true,"stream_options":{"include_usage":true,"continuous_usage_stats":true}}`)
	p := parseStream(t, a.body)
	var got []int
	for _, c := range p.chunks {
		got = append(got, c.Usage.CompletionTokens)
	}
	if fmt.Sprint(got) != "[1 9 17 25 33 40 40]" || tokenizer.Count(p.text) != 40 {
		t.Errorf("tokens after each event: %v; text of %d", got, tokenizer.Count(p.text))
	}
}

// A request that a stop string ends counts as stopped, with its times.
func TestStopStringIsMeasured(t *testing.T) {
	o := quick()
	o.Speed = 1000
	m, s := newServer(t, o)
	call(t, s.Client(), "POST", s.URL+"/v1/completions", `{"prompt":"x","max_tokens":100,"ignore_eos":true,"stop":"."}`)
	for range 1000 {
		if m.Stats().Running == 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	a := call(t, s.Client(), "GET", s.URL+"/metrics", "")
	for _, line := range []string{
		`vllm:request_success_total{engine="0",finished_reason="stop",model_name="zai-org/GLM-4.6"} 1.0`,
		`vllm:request_success_total{engine="0",finished_reason="abort",model_name="zai-org/GLM-4.6"} 0.0`,
		`vllm:e2e_request_latency_seconds_count{engine="0",model_name="zai-org/GLM-4.6"} 1.0`,
	} {
		if !strings.Contains(a.body, line) {
			t.Errorf("no %s", line)
		}
	}
}

func TestSpeculationBursts(t *testing.T) {
	o := quick("--speculative-config", `{"method":"ngram","num_speculative_tokens":4,"prompt_lookup_max":4,"prompt_lookup_min":2}`)
	o.Speed, o.RepetitionSet, o.Repetition = 1000, true, 1
	m, s := newServer(t, o)
	prompt := strings.Repeat("The people of the village keep a list of everything that went wrong. ", 20)
	a := call(t, s.Client(), "POST", s.URL+"/v1/completions", fmt.Sprintf(`{"prompt":%q,"max_tokens":400,"ignore_eos":true,"temperature":0,"stream":true,"stream_options":{"include_usage":true}}`, prompt))
	p := parseStream(t, a.body)
	st := m.Stats()
	if p.usage.CompletionTokens != 400 || st.AcceptedTokens == 0 || len(p.chunks) > 399 {
		t.Errorf("%d tokens in %d chunks, %d accepted", p.usage.CompletionTokens, len(p.chunks), st.AcceptedTokens)
	}
	if got := int64(len(p.chunks)-1) + st.AcceptedTokens; got < 400 || got > 404 {
		t.Errorf("%d chunks and %d accepted drafts do not make 400 tokens", len(p.chunks)-1, st.AcceptedTokens)
	}
}

func TestPrefixCache(t *testing.T) {
	o := quick("--enable-prompt-tokens-details")
	o.Speed, o.Environ = 1000, []string{"VLLM_SERVER_DEV_MODE=1"}
	_, s := newServer(t, o)
	prompt := strings.Repeat("The people of the village keep a list. ", 30)
	ask := func(salt string) int {
		a := call(t, s.Client(), "POST", s.URL+"/v1/completions", fmt.Sprintf(`{"prompt":%q,"max_tokens":2,"ignore_eos":true%s}`, prompt, salt))
		return int(gjson.Get(a.body, "usage.prompt_tokens_details.cached_tokens").Int())
	}
	n := (tokenizer.Count(prompt) - 1) / 16 * 16
	for _, c := range []struct {
		name, salt string
		want       int
	}{{"first", "", 0}, {"again", "", n}, {"other salt", `,"cache_salt":"x"`, 0}, {"other salt again", `,"cache_salt":"x"`, n}} {
		if got := ask(c.salt); got != c.want {
			t.Errorf("%s: %d cached tokens, want %d", c.name, got, c.want)
		}
	}
	if a := call(t, s.Client(), "POST", s.URL+"/reset_prefix_cache", ""); a.status != 200 {
		t.Errorf("reset: %d", a.status)
	}
	if got := ask(""); got != 0 {
		t.Errorf("after the reset: %d cached tokens", got)
	}
	if a := call(t, s.Client(), "GET", s.URL+"/server_info?config_format=json", ""); gjson.Get(a.body, "vllm_config.cache_config.cache_dtype").String() != "auto" {
		t.Errorf("server_info: %s", a.body)
	}
}

func TestMetricsParseAndCount(t *testing.T) {
	for _, version := range []string{"0.8.2", "0.10.0", "0.11.1", "0.14.0", "0.22.0", "0.27.0"} {
		for _, pace := range []*Pace{nil, fast, {ITL: time.Microsecond}} {
			o := quick("--speculative-config", `{"method":"ngram","num_speculative_tokens":3,"prompt_lookup_max":4,"prompt_lookup_min":2}`)
			o.Version, o.Speed, o.Pace = version, 1000, pace
			_, s := newServer(t, o)
			for range 3 {
				call(t, s.Client(), "POST", s.URL+"/v1/completions", `{"prompt":"one two three","max_tokens":20,"ignore_eos":true,"stream":true}`)
			}
			a := call(t, s.Client(), "GET", s.URL+"/metrics", "")
			p := expfmt.NewTextParser(model.LegacyValidation)
			f, err := p.TextToMetricFamilies(strings.NewReader(a.body))
			require.NoError(t, err, version)
			value := func(name string) float64 {
				if f[name] == nil {
					t.Fatalf("%s: no %s", version, name)
				}
				sum := 0.0
				for _, m := range f[name].Metric {
					sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
				}
				return sum
			}
			n := float64(3 * tokenizer.Count("one two three"))
			for name, want := range map[string]float64{
				"vllm:prompt_tokens_total": n, "vllm:generation_tokens_total": 60, "vllm:request_success_total": 3,
				"vllm:request_prompt_tokens": 3, "vllm:e2e_request_latency_seconds": 3, "vllm:num_requests_running": 0,
			} {
				if got := value(name); got != want {
					t.Errorf("%s, pace %v: %s = %v, want %v", version, pace, name, got, want)
				}
			}
			if value("glm46_mock_token_lateness_seconds") != 60 {
				t.Errorf("%s: lateness of %v tokens", version, value("glm46_mock_token_lateness_seconds"))
			}
			if value("http_requests_total") != 3 {
				t.Errorf("%s: %v HTTP requests", version, value("http_requests_total"))
			}
		}
	}
}

// A client that leaves takes its request along: blocks are free again.
func TestAbortOnDisconnect(t *testing.T) {
	for _, stream := range []string{"true", "false"} {
		for _, direct := range []bool{true, false} {
			m := startMock(t, quick())
			s := serve(t, m, direct)
			c, err := net.Dial("tcp", s.Listener.Addr().String())
			require.NoError(t, err)
			body := `{"prompt":"one two three","max_tokens":30000,"ignore_eos":true,"stream":` + stream + `}`
			fmt.Fprintf(c, "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
			wait := func(what string, ok func() bool) {
				for range 2000 {
					if ok() {
						return
					}
					time.Sleep(time.Millisecond)
				}
				t.Fatalf("stream=%s direct=%t: %s does not come: %+v", stream, direct, what, m.Stats())
			}
			wait("running", func() bool { return m.Stats().GenerationTokens > 1 })
			c.Close()
			wait("abort", func() bool {
				st := m.Stats()
				return st.Running == 0 && st.FreeBlocks == st.UsableBlocks && m.streams.Load() == 0
			})
			m.meter.mu.Lock()
			if n := m.meter.replicas[0].finished[3]; n != 1 {
				t.Errorf("stream=%s: %d aborts counted", stream, n)
			}
			m.meter.mu.Unlock()
		}
	}
}
