package mockvllm

import (
	"bytes"
	"strconv"
	"time"

	"github.com/glm46/glm46/mockvllm/engine"
	"github.com/glm46/glm46/mockvllm/tokenizer"
	"github.com/glm46/glm46/mockvllm/vllm"
)

// stream is one request on its way through the mock, and the text it gets.
//
// The handler makes it and waits for done; between submit and done it belongs to
// the driver, which turns emissions into text and events.
type stream struct {
	id      uint64
	req     engine.Request
	gen     *generation
	head    vllm.FrameHead
	frames  *vllm.StreamFrames // nil when not streamed
	version vllm.Version
	arrived time.Time
	// details: cached_tokens are told.
	details bool
	// reasoning is the number of tokens, from the first, that are thinking.
	reasoning int

	// interval is --stream-interval: tokens that gather for one event, after the
	// first. gathered holds them meanwhile.
	interval int
	gathered []int32

	// scripted is a scenario's text; nil: the mock's own.
	scripted []int32
	text     tokenizer.Stream
	token    []byte // JSON string of the text of one event
	// held is text that may turn out to be the beginning of a stop string.
	held []byte
	// body and thought collect the text when not streamed.
	body, thought []byte
	// lead is an echoed prompt, in front of the first text.
	lead []byte
	// all collects the tokens when not streamed, where they are told of; offset
	// is the characters told of so far.
	all    []int32
	offset int
	// part: one of several choices. Who puts the answer together ends it.
	part bool

	tokens     int // given to the client so far
	cached     int
	stopReason string // JSON
	finish     engine.FinishReason
	stopped    bool          // by a stop string or stop token: later emissions are dropped
	lastDue    time.Duration // of the last chunk; the arrival before the first
	replica    int           // of the engine, once it has said so

	out sink // nil when not streamed
	// framed: the events are HTTP chunks already.
	framed bool
	fault  *fault       // nil without a scenario
	truth  *truthRecord // nil when none is kept
	// pending collects the events of one wake-up, marks where they end; queued
	// says the stream is in the driver's list of those to flush.
	pending []byte
	marks   []mark
	queued  bool
	ended   bool          // nothing more comes
	counted bool          // in the metrics
	done    chan struct{} // closed by the driver when it has let go
	err     *failure      // why it ended without a finish, if so
}

// mark is an event in pending: where it ends, and the tokens it carries.
type mark struct {
	end, first, tokens int
	due                time.Time
}

// failure ends a request by an error of the server.
type failure struct {
	status  int
	typ     string
	message string
}

var finishJSON = [...]string{
	engine.FinishNone: "null", engine.FinishLength: `"length"`, engine.FinishStop: `"stop"`, engine.FinishAbort: `"abort"`,
}

// accept takes an emission in: appends its events to pending, or its text to the
// body. It reports whether the request has ended before its engine noticed, by a
// stop string or stop token.
func (s *stream) accept(em *engine.Emission) (stop bool) {
	if s.stopped || em.Finish == engine.FinishAbort {
		return false
	}
	if s.scripted != nil {
		own := *em
		own.TokenIDs = s.scripted[min(em.First, len(s.scripted)):min(em.First+em.Tokens, len(s.scripted))]
		em = &own
	}
	if em.First == 0 {
		s.cached = em.CachedTokens
		if s.frames != nil && s.frames.Role != nil && em.Tokens > 0 {
			role := s.frames.Role
			if s.gen.tokenIDs {
				role = s.withPromptIDs(role)
			}
			s.event(role)
		}
		if s.gen.echo && !s.gen.chat {
			s.lead = s.promptText()
		}
	}
	if s.interval > 1 && s.frames != nil {
		if s.gathered = append(s.gathered, em.TokenIDs...); em.First > 0 && em.Finish == engine.FinishNone && len(s.gathered) < s.interval {
			return false
		}
		all := *em
		all.First, all.Tokens, all.TokenIDs = s.tokens, len(s.gathered), s.gathered
		s.gathered = s.gathered[:0]
		em = &all
	}
	if s.reasoning > em.First && s.reasoning < em.First+em.Tokens {
		// One event cannot carry both kinds of text.
		split := s.reasoning - em.First
		a, b := *em, *em
		a.Tokens, a.TokenIDs, a.Finish = split, em.TokenIDs[:split], engine.FinishNone
		b.First, b.Tokens, b.TokenIDs = s.reasoning, em.Tokens-split, em.TokenIDs[split:]
		s.acceptPart(&a)
		return s.acceptPart(&b)
	}
	return s.acceptPart(em)
}

func (s *stream) acceptPart(em *engine.Emission) (stop bool) {
	ids, finish := em.TokenIDs, em.Finish
	if len(s.gen.stopIDs) > 0 {
		for i, id := range ids {
			if s.tokens+i+1 >= s.gen.MinTokens && contains(s.gen.stopIDs, id) {
				ids, finish, stop = ids[:i+1], engine.FinishStop, finish == engine.FinishNone
				s.stopReason = strconv.Itoa(int(id))
				break
			}
		}
	}
	thinking := em.First < s.reasoning
	first, echo := s.tokens, len(s.lead) > 0
	switch {
	case len(s.gen.stop) > 0:
		shown, stopped := s.hold(ids, &finish)
		stop = stop || stopped && em.Finish == engine.FinishNone
		if s.frames == nil {
			s.collected(thinking, append(append(*s.collector(thinking), s.lead...), s.held[:shown]...))
		} else {
			s.token = tokenizer.AppendJSON(append(s.token[:0], '"'), s.lead)
			s.token = append(tokenizer.AppendJSON(s.token, s.held[:shown]), '"')
		}
		s.held = append(s.held[:0], s.held[shown:]...)
	case s.frames == nil:
		to := append(*s.collector(thinking), s.lead...)
		s.tokens += len(ids)
		for _, id := range ids {
			to = s.text.Append(to, id)
		}
		if finish != engine.FinishNone {
			to = s.text.Flush(to)
		}
		s.collected(thinking, to)
	default:
		s.token = append(s.token[:0], '"')
		if echo {
			s.token = tokenizer.AppendJSON(s.token, s.lead)
		}
		s.tokens += len(ids)
		for _, id := range ids {
			s.appendToken(id)
		}
		if finish != engine.FinishNone {
			s.token = tokenizer.AppendJSON(s.token, s.text.Flush(nil))
		}
		s.token = append(s.token, '"')
	}
	if finish == engine.FinishStop && s.stopReason == "" && len(ids) > 0 && ids[len(ids)-1] != tokenizer.EndOfText {
		// The other end-of-sequence ids are stop tokens to vLLM.
		s.stopReason = strconv.Itoa(int(ids[len(ids)-1]))
	}
	s.lead = nil
	if s.frames != nil {
		s.textEvent(thinking, finish, ids, first, echo)
	} else if s.annotated() {
		s.all = append(s.all, ids...)
	}
	if finish != engine.FinishNone {
		s.finish = finish
		s.end()
	}
	s.stopped = s.stopped || stop
	return stop
}

func contains(ids []int32, id int32) bool {
	for _, x := range ids {
		if x == id {
			return true
		}
	}
	return false
}

// appendToken appends the text of one token to s.token, as inside of a JSON
// string.
func (s *stream) appendToken(id int32) {
	if s.text.Clean() {
		if text, whole := tokenizer.JSON(id); whole {
			s.token = append(s.token, text...)
			return
		}
	}
	var raw [64]byte
	s.token = tokenizer.AppendJSON(s.token, s.text.Append(raw[:0], id))
}

// hold is the road of requests with stop strings: text is held back as long as
// it may be the beginning of one. It adds the tokens' text to held and tells how
// many bytes of it may be shown, and whether a stop string was found.
//
// Source: vLLM 0.11.1, vllm/v1/engine/detokenizer.py.
func (s *stream) hold(ids []int32, finish *engine.FinishReason) (shown int, stopped bool) {
	longest := 0
	for _, x := range s.gen.stop {
		longest = max(longest, len(x))
	}
	for _, id := range ids {
		s.tokens++
		from := max(0, len(s.held)-longest+1)
		s.held = s.text.Append(s.held, id)
		if s.tokens <= s.gen.MinTokens {
			continue
		}
		if at, which := firstStop(s.held, from, s.gen.stop); at >= 0 {
			*finish = engine.FinishStop
			s.stopReason = string(vllm.AppendJSONString(nil, s.gen.stop[which]))
			if s.gen.includeStop {
				at += len(s.gen.stop[which])
			}
			s.held = s.held[:at]
			return at, true
		}
	}
	switch {
	case *finish != engine.FinishNone:
		s.held = s.text.Flush(s.held)
		return len(s.held), false
	case s.gen.includeStop:
		return len(s.held), false
	}
	return runeStart(s.held, max(0, len(s.held)-longest+1)), false
}

// runeStart moves n back to the beginning of a character.
func runeStart(b []byte, n int) int {
	for n > 0 && n < len(b) && b[n]&0xc0 == 0x80 {
		n--
	}
	return n
}

// firstStop finds the earliest stop string in text from an offset on.
func firstStop(text []byte, from int, stops []string) (at, which int) {
	at = -1
	for i, x := range stops {
		if j := bytes.Index(text[from:], []byte(x)); j >= 0 && (at < 0 || from+j < at) {
			at, which = from+j, i
		}
	}
	return at, which
}

// collector is where the text of an answer that is not streamed gathers.
func (s *stream) collector(thinking bool) *[]byte {
	if thinking {
		return &s.thought
	}
	return &s.body
}

func (s *stream) collected(thinking bool, text []byte) { *s.collector(thinking) = text }

func (s *stream) hidesUsage() bool { return s.fault != nil && s.fault.Usage == "missing" }

// toldTokens is what the final usage says.
func (s *stream) toldTokens() int {
	if s.fault != nil && s.fault.Usage == "wrong" {
		return s.tokens + 1
	}
	return s.tokens
}

func (s *stream) usage(completion int) vllm.Usage {
	return vllm.Usage{
		PromptTokens: len(s.req.Prompt), CompletionTokens: completion, CachedTokens: s.cached, Details: s.details,
	}
}

// textEvent appends the event that carries s.token, the text of ids at output
// positions from on, and of the prompt before them if that is echoed.
func (s *stream) textEvent(thinking bool, finish engine.FinishReason, ids []int32, from int, echo bool) {
	f := s.frames
	start := s.open()
	switch {
	case finish == engine.FinishNone && thinking:
		s.pending = f.Reasoning.Append(s.pending, s.token)
	case finish == engine.FinishNone:
		s.pending = f.Text.Append(s.pending, s.token)
	case thinking:
		s.pending = f.LastReasoning.AppendLast(s.pending, s.token, finishJSON[finish], s.stopJSON())
	default:
		s.pending = f.Last.AppendLast(s.pending, s.token, finishJSON[finish], s.stopJSON())
	}
	if s.annotated() {
		s.annotate(start, ids, from, echo)
	}
	s.close(start, s.tokens)
}

func (s *stream) stopJSON() string {
	if s.stopReason == "" {
		return "null"
	}
	return s.stopReason
}

// chunkHead is the room before an event for the size of its HTTP chunk: four
// hexadecimal digits, CR, LF.
const chunkHead = 6

// open begins an event in pending, as an HTTP chunk where the mock writes those
// itself, and gives where its data starts.
func (s *stream) open() int {
	if s.framed {
		s.pending = append(s.pending, "0000\r\n"...)
	}
	return len(s.pending)
}

// close ends the chunk whose event begins at start, putting the running usage in
// where it was asked for.
func (s *stream) close(start, completion int) {
	if s.gen.continuousUsage && s.gen.includeUsage && !s.hidesUsage() {
		n := len(s.pending)
		s.pending = s.frames.AppendWithUsage(s.pending, s.pending[start:n], s.usage(completion))
		s.pending = append(s.pending[:start], s.pending[n:]...)
	}
	s.seal(start)
}

// seal ends what open began.
func (s *stream) seal(start int) {
	if s.framed {
		s.pending = closeChunk(s.pending, start)
	}
}

// closeChunk writes the size of the chunk whose data begins at start.
func closeChunk(b []byte, start int) []byte {
	const digits = "0123456789abcdef"
	n := len(b) - start
	if n > 0xffff {
		// Longer sizes do not fit the room: split.
		rest := append([]byte(nil), b[start+0xffff:]...)
		b = closeChunk(b[:start+0xffff], start)
		b = append(b, "0000\r\n"...)
		at := len(b)
		return closeChunk(append(b, rest...), at)
	}
	h := b[start-chunkHead:]
	h[0], h[1], h[2], h[3] = digits[n>>12&15], digits[n>>8&15], digits[n>>4&15], digits[n&15]
	return append(b, '\r', '\n')
}

// event appends a whole event.
func (s *stream) event(e []byte) {
	start := s.open()
	s.pending = append(s.pending, e...)
	s.close(start, s.tokens)
}

// end appends what follows the last token.
func (s *stream) end() {
	if s.frames == nil || s.part {
		return
	}
	if s.gen.includeUsage && !s.hidesUsage() {
		start := s.open()
		s.pending = s.frames.AppendUsage(s.pending, s.usage(s.toldTokens()))
		s.seal(start)
	}
	start := s.open()
	s.pending = append(s.pending, vllm.Done...)
	s.seal(start)
}

// fail ends the request by an error; a stream says it in an event.
func (s *stream) fail(f failure) {
	s.err = &f
	s.stopped = true
	if s.frames != nil && !s.part {
		start := s.open()
		s.pending = append(s.pending, vllm.ErrorEvents(s.version, f.status, f.typ, f.message)...)
		s.seal(start)
	}
}

// promptText gives the prompt back.
func (s *stream) promptText() []byte {
	var st tokenizer.Stream
	var text []byte
	for _, id := range s.req.Prompt {
		text = st.Append(text, id)
	}
	return st.Flush(text)
}

// choice is what an answer that is not streamed says of this stream.
func (s *stream) choice() vllm.Choice {
	c := vllm.Choice{Text: string(s.body), Reasoning: string(s.thought), FinishReason: s.finish.String(), StopReason: s.stopReason}
	echo := s.gen.echo && !s.gen.chat
	if s.gen.logprobs {
		c.Logprobs = string(s.appendLogprobs(nil, s.all, 0, echo))
	}
	if s.gen.tokenIDs {
		c.TokenIDs, c.PromptTokenIDs = string(appendIDs(nil, s.all)), string(appendIDs(nil, s.req.Prompt))
	}
	return c
}

// answer is the body of an answer that is not streamed.
func (s *stream) answer() []byte {
	return vllm.AnswerBody(s.version, vllm.Answer{FrameHead: s.head, Choices: []vllm.Choice{s.choice()}, Usage: s.usage(s.toldTokens())})
}
