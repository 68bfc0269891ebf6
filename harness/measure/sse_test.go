package measure

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// timed makes an io.Reader a TimedReader whose clock counts the reads.
type timed struct {
	r     io.Reader
	reads int
}

func (t *timed) ReadTimed(p []byte) (int, time.Duration, error) {
	n, err := t.r.Read(p)
	t.reads++
	return n, time.Duration(t.reads), err
}

func readAll(t testing.TB, r io.Reader) ([]string, error) {
	t.Helper()
	s := NewSSEReader(&timed{r: r})
	var events []string
	for {
		data, _, err := s.Next()
		if err != nil {
			return events, err
		}
		events = append(events, string(data))
	}
}

func TestSSEReader(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		want     []string
		broken   bool
	}{
		{"one", "data: a\n\n", []string{"a"}, false},
		{"no blank", "data:a\n\n", []string{"a"}, false},
		{"two blanks", "data:  a\n\n", []string{" a"}, false},
		{"crlf", "data: a\r\n\r\ndata: b\r\n\r\n", []string{"a", "b"}, false},
		{"mixed ends", "data: a\r\n\ndata: b\n\r\n", []string{"a", "b"}, false},
		{"many lines", "data: a\ndata: b\ndata:\ndata: c\n\n", []string{"a\nb\n\nc"}, false},
		{"comments", ": hi\ndata: a\n: there\n\n:\n\ndata: b\n\n", []string{"a", "b"}, false},
		{"comment between data lines", "data: a\n: x\ndata: b\n\n", []string{"a\nb"}, false},
		{"fields", "event: m\nid: 1\nretry: 5\ndata: a\nid\n\n", []string{"a"}, false},
		{"data without colon", "data\n\ndata\ndata\n\n", []string{"", "\n"}, false},
		{"empty data", "data:\n\n", []string{""}, false},
		{"blank lines", "\n\n\r\ndata: a\n\n\n\n", []string{"a"}, false},
		{"byte order mark", "\xEF\xBB\xBFdata: a\n\n", []string{"a"}, false},
		{"behind done", "data: [DONE]\n\ndata: x\n\n", []string{"[DONE]", "x"}, false},
		{"no last blank line", "data: a\n\ndata: b\n", []string{"a", "b"}, false},
		{"no last line end", "data: a\n\ndata: b", []string{"a"}, false},
		{"done without line end", "data: a\n\ndata: [DONE]", []string{"a", "[DONE]"}, false},
		{"garbage", "data: a\n\nrubbish\n\n", []string{"a"}, true},
		{"html", "<html>\n", nil, true},
		{"empty", "", nil, false},
		{"long", "data: " + strings.Repeat("x", 100_000) + "\n\ndata: y\n\n", []string{strings.Repeat("x", 100_000), "y"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for name, r := range map[string]io.Reader{
				"whole":      strings.NewReader(tt.in),
				"bytes":      iotest.OneByteReader(strings.NewReader(tt.in)),
				"halves":     iotest.HalfReader(strings.NewReader(tt.in)),
				"with error": iotest.DataErrReader(strings.NewReader(tt.in)),
			} {
				got, err := readAll(t, r)
				var broken *SSEError
				if tt.broken != errors.As(err, &broken) || !tt.broken && err != io.EOF {
					t.Errorf("%s: error %v", name, err)
				}
				if len(got) != len(tt.want) {
					t.Fatalf("%s: got %d events %.80q, want %d", name, len(got), got, len(tt.want))
				}
				for i := range got {
					if got[i] != tt.want[i] {
						t.Errorf("%s: event %d: got %.80q, want %.80q", name, i, got[i], tt.want[i])
					}
				}
			}
		})
	}
}

func TestSSEReaderLimit(t *testing.T) {
	fits := "data: " + strings.Repeat("x", MaxEventBytes-8) + "\n\n"
	got, err := readAll(t, strings.NewReader(fits+"data: y\n\n"))
	if len(got) != 2 || err != io.EOF {
		t.Errorf("an event of %d bytes: %d events, %v", len(fits), len(got), err)
	}
	var broken *SSEError
	if _, err := readAll(t, strings.NewReader("data: "+strings.Repeat("x", MaxEventBytes)+"\n\n")); !errors.As(err, &broken) {
		t.Errorf("too long an event: %v", err)
	}
	lines := strings.Repeat("data: "+strings.Repeat("x", 1<<20)+"\n", 17)
	if _, err := readAll(t, strings.NewReader(lines+"\n")); !errors.As(err, &broken) {
		t.Errorf("too long an event in lines: %v", err)
	}
}

func TestSSEReaderTimestamps(t *testing.T) {
	// Three reads: half an event, its end with another one, a last one.
	s := NewSSEReader(&timed{r: io.MultiReader(
		strings.NewReader("data: a"), strings.NewReader("\n\ndata: b\n\n"), strings.NewReader("data: c\n\n"))})
	for _, want := range []time.Duration{2, 2, 3} {
		_, at, err := s.Next()
		require.NoError(t, err)
		if at != want {
			t.Errorf("read number: got %d, want %d", at, want)
		}
	}
}

func TestParseEvent(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		want     Delta
	}{
		{"completion", `{"id":"cmpl-1","choices":[{"index":0,"text":" hi","logprobs":null,"finish_reason":null}]}`, Delta{HasChoice: true, Content: true, CachedTokens: -1}},
		{"role", `{"choices":[{"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":{"prompt_tokens":7,"total_tokens":7,"completion_tokens":0}}`, Delta{HasChoice: true, HasUsage: true, PromptTokens: 7, CachedTokens: -1}},
		{"content", `{"choices":[{"delta":{"content":"x","reasoning_content":null}}]}`, Delta{HasChoice: true, Content: true, CachedTokens: -1}},
		{"reasoning", `{"choices":[{"delta":{"reasoning":"x"}}]}`, Delta{HasChoice: true, Reasoning: true, CachedTokens: -1}},
		{"reasoning_content", `{"choices":[{"delta":{"reasoning_content":"x"}}]}`, Delta{HasChoice: true, Reasoning: true, CachedTokens: -1}},
		{"tool", `{"choices":[{"delta":{"tool_calls":[ {"index":0} ]}}]}`, Delta{HasChoice: true, Tool: true, CachedTokens: -1}},
		{"no tool", `{"choices":[{"delta":{"tool_calls":[ ]}}]}`, Delta{HasChoice: true, CachedTokens: -1}},
		{"finish", `{"choices":[{"delta":{"content":""},"finish_reason":"length"}]}`, Delta{HasChoice: true, FinishReason: []byte("length"), CachedTokens: -1}},
		{"usage", `{"choices":[],"usage":{"prompt_tokens":6100,"total_tokens":14292,"completion_tokens":8192,"prompt_tokens_details":{"cached_tokens":16}}}`, Delta{HasUsage: true, PromptTokens: 6100, CompletionTokens: 8192, CachedTokens: 16}},
		{"null usage", `{"choices":[],"usage":null}`, Delta{CachedTokens: -1}},
		{"error", `{"error":{"message":"boom","code":500}}`, Delta{Error: []byte(`{"message":"boom","code":500}`), CachedTokens: -1}},
		{"null error", `{"error":null,"choices":[]}`, Delta{CachedTokens: -1}},
		{"old error", `{"object":"error","message":"boom"}`, Delta{Error: []byte(`{"object":"error","message":"boom"}`), CachedTokens: -1}},
		{"escaped key", `{"ch\u006fices":[{"text":"x"}]}`, Delta{HasChoice: true, Content: true, CachedTokens: -1}},
		{"blanks", " { \"choices\" : [ { \"text\" : \"x\\n\" } , { } ] } ", Delta{HasChoice: true, Content: true, CachedTokens: -1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var d Delta
			require.NoError(t, ParseEvent([]byte(tt.in), &d))
			require.Equal(t, tt.want, d)
		})
	}
	for _, bad := range []string{
		"", "x", "[]", "null", `{"a"}`, `{"a":}`, `{"a":1,}`, `{"choices":[{"text":"x"}`, `{"a":01}`, `{"a":1.}`, `{"a":"` + "\x01" + `"}`,
		`{"a":"\x"}`, `{"a":tru}`, `{} x`, `{"choices":[1,]}`, `{"a":[1 2]}`, `{"a":"\u12G4"}`, `{"a":` + strings.Repeat("[", 5000),
	} {
		var d Delta
		if err := ParseEvent([]byte(bad), &d); err == nil {
			t.Errorf("%q was accepted", bad)
		} else if json.Valid([]byte(bad)) && bad[0] == '{' {
			t.Errorf("%q is valid, but %v", bad, err)
		}
	}
}

const constantEvent = `data: {"id":"cmpl-5f2f3bd0ab8b4e5b9c57d2b2a1a3f3a5","object":"text_completion","created":1762345678,"model":"zai-org/GLM-4.6","choices":[{"index":0,"text":" word","logprobs":null,"finish_reason":null,"stop_reason":null}],"usage":{"prompt_tokens":6100,"total_tokens":6200,"completion_tokens":100}}` + "\n\n"

// endless repeats the same bytes for ever.
type endless struct {
	b   []byte
	off int
}

func (e *endless) ReadTimed(p []byte) (int, time.Duration, error) {
	n := 0
	for n < len(p) {
		k := copy(p[n:], e.b[e.off:])
		n += k
		e.off = (e.off + k) % len(e.b)
	}
	return n, 0, nil
}

func BenchmarkReadEvents(b *testing.B) {
	s := NewSSEReader(&endless{b: []byte(constantEvent)})
	var d Delta
	var p EventParser
	b.ReportAllocs()
	b.SetBytes(int64(len(constantEvent)))
	for b.Loop() {
		data, _, err := s.Next()
		if err != nil {
			b.Fatal(err)
		}
		if err := p.Parse(data, &d); err != nil || !d.Content || d.CompletionTokens != 100 {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkParseEvent is the parser for events of any shape.
func BenchmarkParseEvent(b *testing.B) {
	event := []byte(strings.TrimSpace(strings.TrimPrefix(constantEvent, "data: ")))
	var d Delta
	b.ReportAllocs()
	b.SetBytes(int64(len(event)))
	for b.Loop() {
		if err := ParseEvent(event, &d); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzSSEReader(f *testing.F) {
	f.Add([]byte("data: a\n\ndata: b\r\ndata: c\r\n\r\n: x\n\ndata: [DONE]"), 3)
	f.Add([]byte(constantEvent), 100)
	f.Add([]byte("data\ndata:x\n\n\xEF\xBB\xBFdata"), 1)
	f.Fuzz(func(t *testing.T, in []byte, size int) {
		// Any split of the bytes gives the same events and the same end.
		whole, wholeErr := readAll(t, bytes.NewReader(in))
		size = max(1, min(size, 1<<12))
		split, splitErr := readAll(t, &chunks{b: in, size: size})
		require.Equal(t, whole, split)
		require.Equal(t, wholeErr == io.EOF, splitErr == io.EOF)
	})
}

type chunks struct {
	b    []byte
	size int
}

func (c *chunks) Read(p []byte) (int, error) {
	if len(c.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.b[:min(c.size, len(c.b))])
	c.b = c.b[n:]
	return n, nil
}

func FuzzParseEvent(f *testing.F) {
	f.Add([]byte(strings.TrimSpace(strings.TrimPrefix(constantEvent, "data: "))))
	f.Add([]byte(`{"choices":[{"delta":{"content":"x\u00e9","tool_calls":[]},"finish_reason":"stop"}],"usage":null}`))
	f.Add([]byte(`{"error":{"message":"m"}}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		var d Delta
		err := ParseEvent(in, &d)
		object := json.Valid(in) && bytes.HasPrefix(bytes.TrimLeft(in, " \t\r\n"), []byte("{"))
		if (err == nil) != object {
			t.Fatalf("valid object: %v, got error %v", object, err)
		}
	})
}

// sameAsParseEvent reads events one behind the other, with a memory and without.
func sameAsParseEvent(t interface{ Fatalf(string, ...any) }, p *EventParser, events ...[]byte) {
	for _, event := range events {
		var want, got Delta
		// The reader's buffer does not keep an event.
		buffer := bytes.Clone(event)
		wantErr, gotErr := ParseEvent(event, &want), p.Parse(buffer, &got)
		if !reflect.DeepEqual(wantErr, gotErr) {
			t.Fatalf("%q: error %v, ParseEvent says %v", event, gotErr, wantErr)
		}
		if wantErr == nil && !reflect.DeepEqual(want, got) {
			t.Fatalf("%q:\n got %+v\nwant %+v", event, got, want)
		}
		for i := range buffer {
			buffer[i] = 'z'
		}
	}
}

// shapes are events of servers in use, and some that nobody should send.
var shapes = []string{
	strings.TrimSpace(strings.TrimPrefix(constantEvent, "data: ")),
	`{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"usage":null}`,
	`{"id":"chatcmpl-1","choices":[{"index":0,"delta":{"reasoning_content":"so","content":null,"tool_calls":[]},"finish_reason":null}],"usage":{"prompt_tokens":7,"total_tokens":9,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":16}}}`,
	`{"choices":[{"delta":{"reasoning":"a\u00e9","reasoning_content":"b"}},{"delta":{"refusal":"no"}},{"text":"x","text":""}]}`,
	`{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"a\""}}]}}]}`,
	`{"choices":[{"delta":{"tool_calls":"odd","content":["odd"]}}],"usage":{"prompt_tokens":1,"prompt_tokens":2147483647,"completion_tokens":2147483648}}`,
	`{"choices":[{"text":"end","finish_reason":"length"}]}`,
	`{"choices":[],"usage":{"prompt_tokens":100,"total_tokens":200,"completion_tokens":100}}`,
	`{"choices":[],"usage":{"prompt_tokens":1e2,"total_tokens":-0,"completion_tokens":0.5}}`,
	`{"object":"error","message":"m"}`, `{"error":{"message":"m"}}`, `{"error":null}`, `{"usage":{}}`, `{}`,
	`{"choices":[{"text":1},{"text":"2"},{"text":"3"},{"text":"4"},{"text":"5"},{"text":"6"},{"text":"7"},{"text":"8"},{"text":"9"},{"text":"10"},{"text":"11"},{"text":"12"},{"text":"13"},{"text":"14"}]}`,
}

// values that a mutation puts in the place of another one.
var values = []string{`""`, `"x"`, `"\n"`, `"\u12g4"`, `"a\"b"`, "\"\x01\"", `null`, `0`, `00`, `7`, `007`, `123456789`, `1234567890`, `2147483648`, `99999999999999999999999`, `-1`, `1.5`, `1e3`, `[]`, `["x"]`, `{}`, `"`, ``, `1 `}

// TestEventParser: whatever came before, an event means the same as without.
func TestEventParser(t *testing.T) {
	value := regexp.MustCompile(`"(?:[^"\\]|\\.)*"|[0-9]+`)
	rapid.Check(t, func(t *rapid.T) {
		var p EventParser
		event := []byte(rapid.SampledFrom(shapes).Draw(t, "shape"))
		for range rapid.IntRange(1, 8).Draw(t, "events") {
			sameAsParseEvent(t, &p, event)
			switch spans := value.FindAllIndex(event, -1); rapid.IntRange(0, 5).Draw(t, "what") {
			case 0:
				event = []byte(rapid.SampledFrom(shapes).Draw(t, "shape"))
			case 1: // any byte
				if len(event) > 0 {
					event = bytes.Clone(event)
					event[rapid.IntRange(0, len(event)-1).Draw(t, "at")] = rapid.Byte().Draw(t, "byte")
				}
			case 2: // cut
				event = event[:rapid.IntRange(0, len(event)).Draw(t, "cut")]
			default: // another value
				if len(spans) > 0 {
					span := spans[rapid.IntRange(0, len(spans)-1).Draw(t, "span")]
					event = slices.Concat(event[:span[0]], []byte(rapid.SampledFrom(values).Draw(t, "value")), event[span[1]:])
				}
			}
		}
	})
}

// TestEventParserRemembers: events of one shape do not go to the full parser.
func TestEventParserRemembers(t *testing.T) {
	var p EventParser
	event := func(text string, n int) []byte {
		return fmt.Appendf(nil, `{"choices":[{"text":%s}],"usage":{"prompt_tokens":7,"total_tokens":%d,"completion_tokens":%d}}`, text, 7+n, n)
	}
	var d Delta
	require.NoError(t, p.Parse(event(`"a"`, 9), &d))
	for n, text := range []string{`" longer"`, `"\n"`, `""`, `"\u00e9"`} {
		require.True(t, p.again(event(text, 10+n), &d), text)
		require.Equal(t, Delta{Content: text != `""`, HasChoice: true, HasUsage: true, PromptTokens: 7, CompletionTokens: 10 + n, CachedTokens: -1}, d)
	}
	require.False(t, p.again(event(`null`, 20), &d))
	p.Reset()
	require.False(t, p.known)
}

// FuzzEventParser: two events, the second one like the first but for one place.
func FuzzEventParser(f *testing.F) {
	for i, s := range shapes {
		f.Add([]byte(s), uint(20*i), uint(1), []byte(values[i]))
	}
	f.Fuzz(func(t *testing.T, first []byte, at, cut uint, put []byte) {
		from := int(at % uint(len(first)+1))
		to := from + int(cut%uint(len(first)-from+1))
		second := slices.Concat(first[:from], put, first[to:])
		var p EventParser
		sameAsParseEvent(t, &p, first, second, first, second)
	})
}
