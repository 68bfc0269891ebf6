package selftest

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"slices"

	"github.com/tidwall/gjson"
)

// truth is what the mock wrote down about one request, in wall time
// (docs/mock.md, truth file).
type truth struct {
	id      string
	arrival int64 // unix ns
	prompt  int   // tokens
	// tokens in order: when each was due, and when it was given to the socket.
	due, written []int64
	end          string
}

// readTruth reads a truth file by request id.
func readTruth(path string) (map[string]truth, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	out := map[string]truth{}
	for n, line := range bytes.Split(bytes.TrimSpace(data), []byte("\n")) {
		if len(line) == 0 {
			continue
		}
		if !gjson.ValidBytes(line) {
			return nil, fmt.Errorf("%s:%d: not JSON", path, n+1)
		}
		v := gjson.ParseBytes(line)
		t := truth{id: v.Get("request_id").Str, arrival: v.Get("arrival_unix_ns").Int(), prompt: int(v.Get("prompt_tokens").Int()), end: v.Get("end").Str}
		v.Get("tokens").ForEach(func(_, token gjson.Result) bool {
			t.due = append(t.due, token.Get("due_unix_ns").Int())
			t.written = append(t.written, token.Get("written_unix_ns").Int())
			return true
		})
		if _, twice := out[t.id]; twice {
			return nil, fmt.Errorf("%s:%d: request %s a second time", path, n+1, t.id)
		}
		out[t.id] = t
	}
	return out, nil
}

// chunks gives the times of the chunks that the tokens went out in: tokens of
// one chunk are due together.
func (t truth) chunks() []int64 {
	var out []int64
	for i, w := range t.written {
		if i == 0 || t.due[i] != t.due[i-1] {
			out = append(out, w)
		}
	}
	return out
}

func (t truth) first() int64 { return t.written[0] }
func (t truth) last() int64  { return t.written[len(t.written)-1] }

// lifetimes are the times of finished requests, however they were observed: in
// nanoseconds of wall time on one clock.
type lifetime struct {
	sent, first, last, end int64
	prompt, tokens         int
	chunks                 []int64
}

// lifetime as the mock saw it: sent when it arrived, ended with its last token.
func (t truth) lifetime() lifetime {
	return lifetime{sent: t.arrival, first: t.first(), last: t.last(), end: t.last(), prompt: t.prompt, tokens: len(t.written), chunks: t.chunks()}
}

// summary is the figures of a level by the formulas of docs/metrics.md, from
// lifetimes alone. It stands here a second time on purpose: package measure is
// what is tested.
type summary map[string]float64

// summarize computes run.json's keys; speed scales times back.
func summarize(all []lifetime, speed float64) summary {
	s := summary{}
	var ttft, tpot, itl, itlToken, e2el, tps []float64
	var promptTokens, tokens, chunks int
	start, end := int64(math.MaxInt64), int64(0)
	ms := func(ns int64) float64 { return float64(ns) / 1e6 * speed }
	for _, l := range all {
		e2e := ms(l.last - l.sent)
		ttft = append(ttft, ms(l.first-l.sent))
		e2el = append(e2el, e2e)
		tps = append(tps, float64(l.tokens)/(e2e/1e3))
		if l.tokens > 1 {
			tpot = append(tpot, ms(l.last-l.first)/float64(l.tokens-1))
		}
		for i := 1; i < len(l.chunks); i++ {
			itl = append(itl, ms(l.chunks[i]-l.chunks[i-1]))
			itlToken = append(itlToken, ms(l.chunks[i]-l.chunks[i-1]))
		}
		for range l.tokens - len(l.chunks) {
			itlToken = append(itlToken, 0)
		}
		promptTokens += l.prompt
		tokens += l.tokens
		chunks += len(l.chunks)
		start, end = min(start, l.sent), max(end, l.end)
	}
	s.distribution("ttft_ms", ttft)
	s.distribution("tpot_ms", tpot)
	s.distribution("itl_ms", itl)
	s.distribution("itl_token_ms", itlToken)
	s.distribution("e2el_ms", e2el)
	s.distribution("tps", tps)
	s["tps"] = s["mean_tps"]
	s["latency"] = s["mean_e2el_ms"] / 1e3
	s["completed"] = float64(len(all))
	s["total_input_tokens"], s["total_output_tokens"] = float64(promptTokens), float64(tokens)
	s["token_events"] = float64(chunks)
	if len(all) == 0 {
		return s
	}
	s["tokens_per_event"] = float64(tokens) / float64(chunks)
	s["mean_prompt_tokens"] = float64(promptTokens) / float64(len(all))
	s["mean_completion_tokens"] = float64(tokens) / float64(len(all))
	seconds := float64(end-start) / 1e9 * speed
	s["duration"] = seconds
	s["request_throughput"] = float64(len(all)) / seconds
	s["output_throughput"] = float64(tokens) / seconds
	s["total_token_throughput"] = float64(promptTokens+tokens) / seconds
	return s
}

func (s summary) distribution(name string, values []float64) {
	n := float64(len(values))
	if n == 0 {
		return
	}
	slices.Sort(values)
	sum, squares := 0.0, 0.0
	for _, v := range values {
		sum += v
	}
	mean := sum / n
	for _, v := range values {
		squares += (v - mean) * (v - mean)
	}
	s["mean_"+name], s["std_"+name] = mean, math.Sqrt(squares/n)
	for _, q := range []struct {
		key string
		q   float64
	}{{"median", .5}, {"p50", .5}, {"p90", .9}, {"p95", .95}, {"p99", .99}, {"p99.9", .999}} {
		at := q.q * (n - 1)
		low := math.Floor(at)
		v := values[int(low)]
		if int(low)+1 < len(values) {
			v += (at - low) * (values[int(low)+1] - v)
		}
		s[q.key+"_"+name] = v
	}
}

// Tolerances against the truth, as docs/selftest.md states them.
const (
	// relative is far from the faults that must show at the paced levels' 4 to 28
	// tokens: a TPOT divided by n tokens instead of n-1 gaps is 9 % off and more, a
	// throughput without each request's last token 6 %, a rate of one stream taken
	// over all requests 7 %.
	relative = 0.03
	// slackMS of wall time is what a request may spend between the mock's clock
	// readings and ours: two sockets and two wake-ups.
	slackMS = 2.0
	// busyMS is the mean distance of both sides' clock readings from which on the
	// machine is too busy to tell a wrong formula from a late reading: with the
	// slack it is 6 % of a TPOT at 14 tokens 30 ms apart.
	busyMS = 10.0
)

// noise is how far our clock readings of a level's requests were from the mock's
// readings of the same moments: what the machine adds to any figure, in
// milliseconds of wall time. It cannot hide a wrong formula, which changes no
// reading; a wrong reading shows in the records.
type noise struct {
	mean, most float64
	// mock is the mean lateness of the mock itself, for predictions.
	mock float64
}

// of compares the requests of the main phase; begun is the zero of their clock.
func (n *noise) of(records []record, truths map[string]truth, begun int64) {
	for _, r := range records {
		t := truths[r.id]
		d := max(abs(float64(begun+r.first-t.first())), abs(float64(begun+r.last-t.last())), abs(float64(t.arrival-begun-r.sent))) / 1e6
		n.mean += d / float64(len(records))
		n.most = max(n.most, d)
		n.mock += float64(max(t.first()-t.due[0], t.last()-t.due[len(t.due)-1], 0)) / 1e6 / float64(len(records))
	}
}

// truthKeys are the figures that are compared with the truth, with the
// difference that noise alone may make; counts must be equal. Percentiles near
// the end of a distribution are those of the machine's disturbances: they are
// compared with the records instead.
var truthKeys = []struct {
	key   string
	slack func(l *level, value float64) float64
}{
	{"mean_ttft_ms", whole}, {"median_ttft_ms", whole},
	{"mean_e2el_ms", whole}, {"median_e2el_ms", whole}, {"latency", inSeconds},
	{"mean_tpot_ms", perToken}, {"median_tpot_ms", perToken}, {"mean_itl_ms", perEvent}, {"mean_itl_token_ms", perToken},
	{"tps", perRequest}, {"mean_tps", perRequest}, {"median_tps", perRequest},
	{"duration", ofLevel}, {"request_throughput", ofLevel}, {"output_throughput", ofLevel}, {"total_token_throughput", ofLevel},
	{"completed", exact}, {"total_input_tokens", exact}, {"total_output_tokens", exact}, {"token_events", exact}, {"tokens_per_event", exact},
	{"mean_prompt_tokens", exact}, {"mean_completion_tokens", exact},
}

// A time of a request, in the server's milliseconds.
func whole(l *level, _ float64) float64 { return (slackMS + 2*l.noise.mean) * l.speed }

func inSeconds(l *level, _ float64) float64 { return whole(l, 0) / 1e3 }

// A time of a request over its gaps.
func perToken(l *level, _ float64) float64 {
	return whole(l, 0) / max(1, l.want["mean_completion_tokens"]-1)
}

func perEvent(l *level, _ float64) float64 {
	return whole(l, 0) / max(1, l.want["token_events"]/l.want["completed"]-1)
}

// A rate of one request.
func perRequest(l *level, value float64) float64 { return value * whole(l, 0) / l.want["mean_e2el_ms"] }

// The level's length, or a rate over it, which its first and last request decide.
func ofLevel(l *level, value float64) float64 {
	return value * 2 * l.noise.most * l.speed / 1e3 / l.want["duration"]
}

func exact(*level, float64) float64 { return -1 }

// againstTruth compares figures that somebody shows of a level with the truth.
// get gives a figure by its key, and whether it is shown at all; rounding is half
// a unit of its last digit, 0 for figures in full.
func (l *level) againstTruth(prefix string, get func(key string) (got, rounding float64, ok bool)) []Figure {
	var out []Figure
	for _, k := range truthKeys {
		got, rounding, ok := get(k.key)
		if !ok {
			continue
		}
		f := Figure{Name: prefix + " " + k.key, Got: got, Truth: l.want[k.key]}
		if slack := k.slack(l, f.Truth); slack >= 0 {
			f.Allowed = max(relative*abs(f.Truth), slack)
		} else {
			f.Allowed = 1e-9 * abs(f.Truth) // a quotient of whole numbers
		}
		f.Allowed += rounding
		out = append(out, f)
	}
	return out
}
