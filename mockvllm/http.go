package mockvllm

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tidwall/gjson"

	"github.com/glm46/glm46/mockvllm/engine"
	"github.com/glm46/glm46/mockvllm/tokenizer"
	"github.com/glm46/glm46/mockvllm/vllm"
)

// maxBodyBytes bounds a request's body.
const maxBodyBytes = 64 << 20

// exchange is one HTTP request and what was answered.
type exchange struct {
	m       *Mock
	w       http.ResponseWriter
	r       *http.Request
	begun   time.Time
	handler string // path of the route, "" if there is none
	status  int
	sent    int64
}

// connKey finds the connection in a request's context.
type connKey struct{}

// ConnContext goes into http.Server.ConnContext. It is optional: with it the
// mock writes streams straight to the connection's socket, many streams of one
// step from few goroutines; without it each stream costs a goroutine's wake-up.
func (m *Mock) ConnContext(ctx context.Context, c net.Conn) context.Context {
	if _, ok := c.(interface{ SetNoDelay(bool) error }); !ok {
		return ctx // a pipe, TLS, or somebody's wrapper
	}
	return context.WithValue(ctx, connKey{}, c)
}

// HTTPServer gives a server for the mock with vLLM's keep-alive time; the caller
// serves a listener with it and closes it.
//
// Source: vLLM 0.11.1, VLLM_HTTP_TIMEOUT_KEEP_ALIVE, 5 s.
func (m *Mock) HTTPServer() *http.Server {
	return &http.Server{Handler: m, ConnContext: m.ConnContext, IdleTimeout: 5 * time.Second, ErrorLog: discardLog}
}

type route struct {
	method string
	path   string
	serve  func(*Mock, *exchange)
	dev    bool
}

var routes = []route{
	{"GET", "/health", (*Mock).serveHealth, false},
	{"GET", "/ping", (*Mock).serveHealth, false},
	{"POST", "/ping", (*Mock).serveHealth, false},
	{"GET", "/version", (*Mock).serveVersion, false},
	{"GET", "/v1/models", (*Mock).serveModels, false},
	{"GET", "/metrics", (*Mock).serveMetrics, false},
	{"GET", "/metrics/", (*Mock).serveMetrics, false},
	{"GET", "/load", (*Mock).serveLoad, false},
	{"POST", "/tokenize", (*Mock).serveTokenize, false},
	{"POST", "/detokenize", (*Mock).serveDetokenize, false},
	{"POST", "/v1/completions", (*Mock).serveCompletion, false},
	{"POST", "/v1/chat/completions", (*Mock).serveChat, false},
	{"POST", "/reset_prefix_cache", (*Mock).serveReset, true},
	{"GET", "/server_info", (*Mock).serveInfo, true},
}

// ServeHTTP answers one request as `vllm serve` does.
func (m *Mock) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{m: m, w: w, r: r, begun: time.Now()}
	defer func() {
		if x.status == 0 {
			return // cut by a scenario
		}
		m.meter.exchangeDone(x.handler, r.Method, x.status, r.ContentLength, x.sent, time.Since(x.begun))
	}()
	w.Header().Set("Server", "uvicorn")
	m.route(x)
}

func (m *Mock) route(x *exchange) {
	if !m.started.Load() {
		x.plain(http.StatusServiceUnavailable, nil)
		return
	}
	path, allowed := x.r.URL.Path, ""
	if strings.HasPrefix(path, "/v1") && !m.authorized(x.r) {
		// Before it looks whether there is such a route, as vLLM's middleware does.
		x.handler = "none"
		if slices.ContainsFunc(routes, func(rt route) bool { return rt.path == path }) {
			x.handler = path
		}
		x.json(http.StatusUnauthorized, vllm.UnauthorizedBody())
		return
	}
	for _, rt := range routes {
		if rt.path != path || rt.dev && !m.devMode {
			continue
		}
		if rt.method != x.r.Method {
			allowed = rt.method
			continue
		}
		x.handler = rt.path
		rt.serve(m, x)
		return
	}
	x.handler = "none"
	if allowed != "" {
		x.w.Header().Set("Allow", allowed)
		x.json(http.StatusMethodNotAllowed, vllm.ErrorBody(m.version, http.StatusMethodNotAllowed, "Method Not Allowed", "Method Not Allowed", ""))
		return
	}
	x.json(http.StatusNotFound, vllm.RouteNotFoundBody(m.version))
}

func (m *Mock) authorized(r *http.Request) bool {
	if len(m.keys) == 0 {
		return true
	}
	scheme, got, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	ok := 0
	for _, k := range m.keys {
		ok |= subtle.ConstantTimeCompare([]byte(got), []byte(k))
	}
	return strings.EqualFold(scheme, "bearer") && ok == 1
}

// json answers with a JSON body.
func (x *exchange) json(status int, body []byte) {
	x.w.Header().Set("Content-Type", "application/json")
	x.plain(status, body)
}

// plain answers with a body whose type the caller has set.
func (x *exchange) plain(status int, body []byte) {
	x.w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	x.begin(status)
	n, _ := x.w.Write(body)
	x.sent += int64(n)
}

// begin sends the status and logs the exchange, as uvicorn does at that moment.
func (x *exchange) begin(status int) {
	x.status = status
	x.m.logAccess(x.r, status)
	x.w.WriteHeader(status)
}

func (x *exchange) fail(status int, typ, message, param string) {
	x.json(status, vllm.ErrorBody(x.m.version, status, typ, message, param))
}

func (x *exchange) refuse(b *badRequest) { x.fail(http.StatusBadRequest, b.typ, b.message, b.param) }

func (x *exchange) dead() {
	x.fail(http.StatusInternalServerError, vllm.ErrTypeInternal, vllm.EngineDeadMessage, "")
}

func (m *Mock) serveHealth(x *exchange) {
	if m.isDead() || m.neverHealthy() {
		x.plain(http.StatusServiceUnavailable, nil)
		return
	}
	x.plain(http.StatusOK, nil)
}

func (m *Mock) serveVersion(x *exchange) { x.json(http.StatusOK, vllm.VersionBody(m.version)) }

func (m *Mock) serveModels(x *exchange) {
	x.json(http.StatusOK, vllm.ModelsBody(m.cfg, x.begun.Unix(), func(int) string { return randomID() }))
}

// serveLoad counts requests for text only where the server was told to.
func (m *Mock) serveLoad(x *exchange) {
	n := 0
	if m.cfg.EnableServerLoadTracking {
		n = int(m.streams.Load())
	}
	x.json(http.StatusOK, vllm.LoadBody(n))
}

func (m *Mock) serveReset(x *exchange) {
	ok := false
	m.driver.do(func() { ok = m.driver.core.resetPrefixCache() })
	if ok && m.resetFails() {
		ok = false
	}
	m.log(vllm.PrefixResetLine(m.version, ok))
	x.plain(http.StatusOK, nil)
}

// serveInfo gives the effective configuration.
func (m *Mock) serveInfo(x *exchange) {
	x.json(http.StatusOK, vllm.ServerInfoBody(m.cfg, x.r.URL.Query().Get("config_format") == "json"))
}

var bodies = sync.Pool{New: func() any { return new([]byte) }}

// readBody reads the body into a buffer that is given back by the returned
// function.
func (x *exchange) readBody() (body []byte, release func(), ok bool) {
	if t, _, _ := strings.Cut(x.r.Header.Get("Content-Type"), ";"); strings.TrimSpace(strings.ToLower(t)) != "application/json" {
		x.fail(http.StatusBadRequest, vllm.ErrTypeValidation, "["+strconv.Quote(vllm.MediaTypeMessage)+"]", "")
		return nil, nil, false
	}
	p := bodies.Get().(*[]byte)
	b := (*p)[:0]
	if n := x.r.ContentLength; n > int64(cap(b)) && n <= maxBodyBytes {
		b = make([]byte, 0, n+1)
	}
	limited := http.MaxBytesReader(x.w, x.r.Body, maxBodyBytes)
	for {
		if len(b) == cap(b) {
			b = slices.Grow(b, max(4096, len(b)))
		}
		n, err := limited.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if err == io.EOF {
			break
		}
		if err != nil {
			var large *http.MaxBytesError
			if errors.As(err, &large) {
				x.fail(http.StatusRequestEntityTooLarge, vllm.ErrTypeBadRequest, fmt.Sprintf("request body is larger than %d bytes", maxBodyBytes), "")
			}
			return nil, nil, false
		}
	}
	return b, func() {
		if cap(b) <= 1<<20 {
			*p = b[:0]
			bodies.Put(p)
		}
	}, true
}

// serveTokenize counts as the mock's tokenizer does.
func (m *Mock) serveTokenize(x *exchange) {
	body, release, ok := x.readBody()
	if !ok {
		return
	}
	defer release()
	root, bad := parseBody(body)
	if bad != nil {
		x.refuse(bad)
		return
	}
	if name := root.Get("model"); name.Type == gjson.String && !m.serves(name.Str) {
		x.noModel(name.Str)
		return
	}
	var ids []int32
	if msgs := root.Get("messages"); msgs.Exists() {
		noThinking := root.Get("chat_template_kwargs.enable_thinking").Type == gjson.False
		ids, bad = chatTokens(msgs, root.Get("tools"), noThinking, root.Get("add_generation_prompt").Type != gjson.False)
	} else if p := root.Get("prompt"); p.Type == gjson.String {
		ids = tokenizer.Encode(p.Str)
	} else {
		bad = invalid(&vllm.FieldError{Type: "missing", Loc: []string{"TokenizeCompletionRequest", "prompt"}, Message: "Field required"})
	}
	if bad != nil {
		x.refuse(bad)
		return
	}
	out := fmt.Appendf(make([]byte, 0, len(ids)*7+96), `{"count":%d,"max_model_len":%d,"tokens":[`, len(ids), m.maxModelLen)
	for i, id := range ids {
		if i > 0 {
			out = append(out, ',')
		}
		out = strconv.AppendInt(out, int64(id), 10)
	}
	out = append(out, `],"token_strs":`...)
	if root.Get("return_token_strs").Type == gjson.True {
		out = append(out, '[')
		for i, id := range ids {
			if i > 0 {
				out = append(out, ',')
			}
			out = vllm.AppendJSONString(out, tokenizer.Piece(id))
		}
		out = append(out, "]}"...)
	} else {
		out = append(out, "null}"...)
	}
	x.json(http.StatusOK, out)
}

func (m *Mock) serveDetokenize(x *exchange) {
	body, release, ok := x.readBody()
	if !ok {
		return
	}
	defer release()
	root, bad := parseBody(body)
	if bad != nil {
		x.refuse(bad)
		return
	}
	tokens := root.Get("tokens")
	if !tokens.IsArray() {
		x.refuse(invalid(&vllm.FieldError{Type: "missing", Loc: []string{"tokens"}, Message: "Field required"}))
		return
	}
	ids, bad := promptIDs(tokens)
	if bad != nil {
		x.refuse(bad)
		return
	}
	out := append(vllm.AppendJSONString([]byte(`{"prompt":`), tokenizer.Decode(ids)), '}')
	x.json(http.StatusOK, out)
}

func (m *Mock) serves(name string) bool { return slices.Contains(m.cfg.ServedNames, name) }

func (x *exchange) noModel(name string) {
	message, param := vllm.ModelNotFound(x.m.version, name)
	x.fail(http.StatusNotFound, vllm.ErrTypeNotFound, message, param)
}

func (m *Mock) serveCompletion(x *exchange) { m.generate(x, false) }
func (m *Mock) serveChat(x *exchange)       { m.generate(x, true) }

// generate answers a completion or a chat.
func (m *Mock) generate(x *exchange, chat bool) {
	body, release, ok := x.readBody()
	if !ok {
		return
	}
	arrived := time.Now()
	// In a burst of requests no more are prepared at once than there are
	// processors: else the driver would queue behind all of them.
	m.preparing <- struct{}{}
	g, bad := parseGeneration(m.version, body, chat)
	<-m.preparing
	release()
	if bad != nil {
		x.refuse(bad)
		return
	}
	if g.model != "" && !m.serves(g.model) {
		x.noModel(g.model)
		return
	}
	if g.N != 1 {
		x.fail(http.StatusBadRequest, vllm.ErrTypeBadRequest, fmt.Sprintf("the mock answers one choice a prompt: n is %d", g.N), "n")
		return
	}
	if g.logprobs {
		if message := vllm.LogprobsError(m.cfg, g.TopLogprobs); message != "" {
			x.fail(http.StatusBadRequest, vllm.ErrTypeBadRequest, message, "")
			return
		}
	}
	if m.isDead() {
		x.dead()
		return
	}
	asked := g.MaxTokens
	if !chat && asked < 0 {
		asked = vllm.DefaultCompletionTokens
	}
	for _, p := range g.prompts {
		if message, param, fits := vllm.ContextLengthError(m.version, m.maxModelLen, len(p), asked); !fits {
			x.fail(http.StatusBadRequest, vllm.ErrTypeBadRequest, message, param)
			return
		}
	}
	all := m.newStreams(x, g, arrived, asked)
	m.streams.Add(1)
	defer m.streams.Add(-1)
	defer func() {
		for _, s := range all {
			m.finishTruth(s)
		}
	}()
	switch s := all[0]; {
	case m.scenario != nil && m.applyRules(x, s):
	case len(all) > 1:
		m.serveSeveral(x, all)
	case s.frames == nil:
		m.serveWhole(x, s)
	default:
		m.serveStream(x, s)
	}
}

// newStreams makes the streams of a request: one for each prompt.
func (m *Mock) newStreams(x *exchange, g *generation, arrived time.Time, asked int) []*stream {
	name := x.r.Header.Get("X-Request-Id")
	if name == "" {
		name = g.requestID
	}
	if name == "" {
		name = randomID()
	}
	if m.cfg.EnableRequestIDHeaders {
		x.w.Header().Set("X-Request-Id", name)
	}
	if m.cfg.ForceIncludeUsage {
		g.includeUsage, g.continuousUsage = true, true
	}
	all := make([]*stream, len(g.prompts))
	for i := range all {
		all[i] = m.newStream(g, name, i, arrived, asked)
	}
	return all
}

// newStream makes the stream of a request's prompt number i.
func (m *Mock) newStream(g *generation, name string, i int, arrived time.Time, maxTokens int) *stream {
	prefix := "cmpl-"
	if g.chat {
		prefix = "chatcmpl-"
	}
	if maxTokens < 0 {
		maxTokens = m.maxModelLen - len(g.prompts[i])
	}
	s := &stream{
		id: m.ids.Add(1), gen: g, version: m.version, arrived: arrived, details: m.cfg.EnablePromptTokensDetails,
		interval: m.cfg.StreamInterval, done: make(chan struct{}), part: len(g.prompts) > 1,
		head: vllm.FrameHead{ID: prefix + name, Created: arrived.Unix(), Model: m.answerName(g.model), Chat: g.chat, Fingerprint: m.fingerprint, Index: i},
	}
	s.req = engine.Request{
		ID: s.id, Prompt: g.prompts[i], CacheSalt: g.cacheSalt, MaxTokens: maxTokens, MinTokens: g.MinTokens, IgnoreEOS: g.ignoreEOS,
		Temperature: g.Temperature, TopP: g.TopP, Priority: g.priority,
		Seed: m.textSeed(g, g.prompts[i], s.id),
	}
	if g.stream {
		f := vllm.NewStreamFrames(m.version, s.head)
		s.frames = &f
	}
	if g.chat && m.cfg.ReasoningParser != "" && !g.noThinking {
		s.reasoning = thinkingTokens(s.req.Seed, maxTokens)
	}
	if m.truth != nil {
		s.truth = &truthRecord{}
	}
	return s
}

// thinkingTokens is how many of the first tokens are thinking: 32 to 159, at
// most half of what may be said. A choice of ours: the shape of an answer, not
// its measure.
func thinkingTokens(seed uint64, maxTokens int) int {
	return min(32+int(seed>>17%128), max(1, maxTokens/2))
}

// answerName is the model name in an answer.
func (m *Mock) answerName(asked string) string {
	if asked != "" {
		return asked
	}
	return m.cfg.ServedName
}

// textSeed decides the text: the same prompt gets the same answer at
// temperature 0 or under the same seed.
func (m *Mock) textSeed(g *generation, prompt []int32, id uint64) uint64 {
	h := uint64(14695981039346656037)
	for _, t := range prompt {
		h = (h ^ uint64(uint32(t))) * 1099511628211
	}
	if g.Temperature > 0 {
		if g.hasSeed {
			h ^= uint64(g.seed) * 0x9e3779b97f4a7c15
		} else {
			h ^= id * 0xd6e8feb86659fd93
		}
	}
	return h
}

func randomID() string {
	const digits = "0123456789abcdef"
	var b [32]byte
	hi, lo := rand.Uint64(), rand.Uint64()
	for i := range 16 {
		b[i], b[16+i] = digits[hi>>(4*i)&15], digits[lo>>(4*i)&15]
	}
	return string(b[:])
}

// beginStream sends the head of a streamed answer.
func (x *exchange) beginStream() {
	x.w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	x.begin(http.StatusOK)
	_ = http.NewResponseController(x.w).Flush()
}

// serveStream runs a request and streams its answer.
func (m *Mock) serveStream(x *exchange, s *stream) {
	x.beginStream()
	if m.unpaced() {
		m.blast(x, s)
	} else if k := m.socketOf(x, s); k != nil {
		s.framed, s.out = true, k
		if !m.submit(s) {
			panic(http.ErrAbortHandler)
		}
		m.await(x, s)
		k.drain()
	} else {
		k := newQueueSink()
		s.out = k
		if !m.submit(s) {
			panic(http.ErrAbortHandler)
		}
		m.pump(x, s, k)
	}
	if s.cut() {
		panic(http.ErrAbortHandler)
	}
}

// cut reports whether the body is to end without its terminator: the server was
// closed, the client is gone, or the scenario says so.
func (s *stream) cut() bool {
	if s.fault != nil && s.fault.end != "" {
		return s.fault.end != "error"
	}
	return s.err == nil && s.finish == engine.FinishNone
}

// socketOf gives a sink on the connection's socket, nil if the stream has to go
// through net/http.
func (m *Mock) socketOf(x *exchange, s *stream) *connSink {
	if s.fault != nil || !x.r.ProtoAtLeast(1, 1) || x.r.ProtoMajor != 1 {
		return nil
	}
	c, _ := x.r.Context().Value(connKey{}).(net.Conn)
	if c == nil {
		return nil
	}
	return newConnSink(c, &m.late)
}

func (m *Mock) submit(s *stream) bool { return m.driver.post(message{submit: s}) }

// await waits for the driver to let the stream go; if the client leaves, it is
// told.
func (m *Mock) await(x *exchange, s *stream) {
	select {
	case <-s.done:
	case <-x.r.Context().Done():
		m.driver.post(message{abort: s})
		<-s.done
	}
}

// pump writes a stream's events through net/http.
func (m *Mock) pump(x *exchange, s *stream, k *queueSink) {
	out := &pumpOutput{m: m, x: x, s: s, flush: http.NewResponseController(x.w)}
	var buf []byte
	var marks []mark
	for ended := false; !ended; {
		select {
		case <-k.wake:
		case <-s.done:
			ended = true
		case <-x.r.Context().Done():
			m.driver.post(message{abort: s})
			<-s.done
			return
		}
		buf, marks = k.take(buf, marks)
		if len(buf) > 0 && !out.write(buf, marks) {
			m.driver.post(message{abort: s})
			<-s.done
			return
		}
	}
}

// serveWhole answers without streaming.
func (m *Mock) serveWhole(x *exchange, s *stream) {
	if m.unpaced() {
		m.blast(x, s)
	} else {
		if !m.submit(s) {
			panic(http.ErrAbortHandler)
		}
		m.await(x, s)
	}
	if m.wholeFault(x, s) {
		s.finish = engine.FinishNone
	}
	switch {
	case s.err != nil:
		x.fail(s.err.status, s.err.typ, s.err.message, "")
	case s.finish == engine.FinishNone:
		panic(http.ErrAbortHandler)
	default:
		x.json(http.StatusOK, s.answer())
		if s.truth != nil {
			s.truth.wrote(s.marks, time.Now())
		}
	}
}

// finishTruth writes the stream's line of the truth file.
func (m *Mock) finishTruth(s *stream) {
	if m.truth == nil {
		return
	}
	end := s.finish.String()
	switch {
	case s.fault != nil && s.fault.end != "":
		end = s.fault.end
	case s.err != nil:
		end = "error"
	case end == "":
		end = "abort"
	}
	id := s.head.ID
	if s.part {
		// As vLLM names the requests of one body in its engine.
		id += "-" + strconv.Itoa(s.head.Index)
	}
	m.truth.write(id, s.arrived, len(s.req.Prompt), s.truth, end)
}

// blastBytes is how much text gathers before it is written, when the mock is as
// fast as it can: large enough that a write's cost is shared by some 120 tokens,
// small enough to keep 64 streams moving together.
const blastBytes = 32 << 10

// blast writes a whole answer as fast as the client takes it, from the handler's
// goroutine.
func (m *Mock) blast(x *exchange, s *stream) {
	due := s.arrived.Add(time.Duration(float64(m.pace.TTFT) / m.speed))
	if d := time.Until(due); d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-x.r.Context().Done():
			m.blasted(s, engine.FinishAbort, due)
			return
		}
	}
	end := m.maxModelLen - len(s.req.Prompt)
	if s.req.MaxTokens > 0 {
		end = min(end, s.req.MaxTokens)
	}
	w := &blastOutput{m: m, x: x, s: s, due: due}
	w.open()
	ids := make([]int32, 1)
	em := engine.Emission{Request: &s.req, ID: s.id, Tokens: 1, TokenIDs: ids}
	for pos := 0; pos < end && em.Finish == engine.FinishNone; pos++ {
		ids[0] = m.text.Token(&s.req, pos)
		em.First = pos
		switch {
		case !s.gen.ignoreEOS && pos >= s.gen.MinTokens && ids[0] >= tokenizer.FirstSpecial && slices.Contains(m.eos, ids[0]):
			em.Finish = engine.FinishStop
		case pos == end-1:
			em.Finish = engine.FinishLength
		}
		if s.accept(&em) {
			em.Finish = engine.FinishStop
		}
		if s.frames == nil && s.truth != nil {
			s.marks = append(s.marks, mark{tokens: 1, due: due})
		}
		if em.Finish != engine.FinishNone {
			m.blasted(s, em.Finish, due)
		}
		if s.frames != nil && (len(s.pending) >= blastBytes || s.fault != nil || em.Finish != engine.FinishNone) && !w.write() {
			if em.Finish == engine.FinishNone {
				m.blasted(s, engine.FinishAbort, due)
			}
			return
		}
	}
}

// blasted counts a request that went past the driver.
func (m *Mock) blasted(s *stream, why engine.FinishReason, due time.Time) {
	m.blastPrompt.Add(int64(len(s.req.Prompt)))
	m.blastTokens.Add(int64(s.tokens))
	at := time.Duration(float64(due.Sub(s.arrived)) * m.speed)
	m.meter.end(s, why, &engine.RequestTimes{FirstToken: at, LastToken: at, FirstDue: at, LastDue: at})
}

// blastOutput writes large pieces: one HTTP chunk each on a socket.
type blastOutput struct {
	m       *Mock
	x       *exchange
	s       *stream
	due     time.Time
	conn    net.Conn
	written int // tokens
}

func (o *blastOutput) open() {
	if k := o.m.socketOf(o.x, o.s); k != nil {
		o.conn = k.conn
	}
	o.reset()
}

func (o *blastOutput) reset() {
	o.s.pending = o.s.pending[:0]
	if o.conn != nil {
		o.s.pending = append(o.s.pending, "0000\r\n"...)
	}
}

func (o *blastOutput) write() bool {
	s := o.s
	if s.fault != nil {
		p := &pumpOutput{m: o.m, x: o.x, s: s, flush: http.NewResponseController(o.x.w)}
		ok := p.write(s.pending, []mark{{end: len(s.pending), first: o.written, tokens: s.tokens - o.written, due: o.due}})
		o.written = s.tokens
		o.reset()
		return ok
	}
	var err error
	if o.conn != nil {
		s.pending = closeChunk(s.pending, chunkHead)
		_, err = o.conn.Write(s.pending)
	} else {
		_, err = o.x.w.Write(s.pending)
		if err == nil {
			err = http.NewResponseController(o.x.w).Flush()
		}
	}
	now := time.Now()
	marks := [1]mark{{tokens: s.tokens - o.written, due: o.due}}
	o.m.late.observe(marks[:], now)
	if s.truth != nil {
		s.truth.wrote(marks[:], now)
	}
	o.written = s.tokens
	o.reset()
	return err == nil
}
