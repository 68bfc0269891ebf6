package mockvllm

import (
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/glm46/glm46/mockvllm/engine"
	"github.com/glm46/glm46/mockvllm/tokenizer"
	"github.com/glm46/glm46/mockvllm/vllm"
)

// BenchmarkEncode is the cost of turning one token into its event, without the
// write. It must not allocate.
func BenchmarkEncode(b *testing.B) {
	v := vllm.MustVersion(vllm.DefaultVersion)
	for _, usage := range []bool{false, true} {
		name := map[bool]string{false: "plain", true: "continuous-usage"}[usage]
		b.Run(name, func(b *testing.B) {
			f := vllm.NewStreamFrames(v, vllm.FrameHead{ID: "chatcmpl-0123456789abcdef", Created: 1, Model: "zai-org/GLM-4.6", Chat: true})
			s := &stream{version: v, frames: &f, framed: true, gen: &generation{chat: true, includeUsage: usage, continuousUsage: usage}}
			s.req = engine.Request{IgnoreEOS: true, Prompt: tokenizer.Encode("hello")}
			text := textSource{tokenizer.Text{Repetition: 0.3}}
			ids := make([]int32, 1)
			pos := 0
			b.ReportAllocs()
			for b.Loop() {
				ids[0] = text.Token(&s.req, pos)
				em := engine.Emission{Request: &s.req, First: pos, Tokens: 1, TokenIDs: ids}
				s.accept(&em)
				s.pending = s.pending[:0]
				pos++
			}
		})
	}
}

// BenchmarkDriver is the cost of a token on the driver's side with everything
// but the socket: pace, text, encoding, metrics.
func BenchmarkDriver(b *testing.B) {
	const n = 512
	m, err := New(Options{Args: []string{"zai-org/GLM-4.6", "--tensor-parallel-size", "8"}, Pace: &Pace{ITL: time.Millisecond}})
	if err != nil {
		b.Fatal(err)
	}
	defer m.Close()
	f := vllm.NewStreamFrames(m.version, vllm.FrameHead{ID: "chatcmpl-0123456789abcdef", Model: "zai-org/GLM-4.6", Chat: true})
	d := m.driver
	d.helpers = newHelpers(0)
	d.epoch = time.Now()
	for i := range n {
		s := &stream{id: uint64(i), version: m.version, frames: &f, framed: true, gen: &generation{chat: true}, arrived: d.epoch, done: make(chan struct{}), out: nullSink{}}
		s.req = engine.Request{ID: s.id, IgnoreEOS: true, Prompt: []int32{1, 2, 3}, MaxTokens: 1 << 40}
		d.submit(s)
	}
	now := time.Duration(0)
	tokens := 0
	b.ReportAllocs()
	for b.Loop() {
		now += time.Millisecond
		d.out = d.core.advance(now, d.out[:0])
		tokens += len(d.out)
		d.deliver()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(tokens), "ns/token")
	d.helpers.close()
}

type nullSink struct{}

func (nullSink) flush(s *stream) { s.pending, s.marks = s.pending[:0], s.marks[:0] }
func (nullSink) drain()          {}

// BenchmarkPrepare is the cost of reading a chat request of 200 KB and of 400
// bytes, up to the stream that is handed to the driver.
func BenchmarkPrepare(b *testing.B) {
	m, err := New(Options{Args: []string{"zai-org/GLM-4.6", "--tensor-parallel-size", "8"}})
	if err != nil {
		b.Fatal(err)
	}
	defer m.Close()
	for _, n := range []int{400, 200_000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			body := []byte(`{"messages":[{"role":"user","content":"` + strings.Repeat("The people of the village. ", n/27) + `"}],"max_tokens":5,"stream":true}`)
			r := httptest.NewRequest("POST", "/v1/chat/completions", nil)
			x := &exchange{m: m, r: r}
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				g, bad := parseGeneration(m.version, body, true)
				if bad != nil {
					b.Fatal(bad)
				}
				m.newStreams(x, g, time.Time{}, 5)
			}
		})
	}
}
