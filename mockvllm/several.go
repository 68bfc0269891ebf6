package mockvllm

import (
	"net/http"
	"time"

	"github.com/glm46/glm46/mockvllm/engine"
	"github.com/glm46/glm46/mockvllm/vllm"
)

// serveSeveral answers a completion of several prompts: each is a request of the
// engine, and choice number i of the one answer.
//
// Source: vLLM 0.11.1, vllm/entrypoints/openai/serving_completion.py.
func (m *Mock) serveSeveral(x *exchange, all []*stream) {
	if all[0].frames == nil {
		m.serveSeveralWhole(x, all)
		return
	}
	x.beginStream()
	if m.unpaced() {
		for _, s := range all {
			m.blast(x, s)
		}
	} else {
		m.pumpSeveral(x, all)
	}
	first := all[0]
	if f := first.fault; f != nil && f.end == "error" {
		return // it has said so
	}
	var failed *failure
	for _, s := range all {
		if s.cut() {
			panic(http.ErrAbortHandler)
		}
		if s.err != nil && failed == nil {
			failed = s.err
		}
	}
	var tail []byte
	switch {
	case failed != nil:
		tail = vllm.ErrorEvents(m.version, failed.status, failed.typ, failed.message)
	case first.gen.includeUsage && !first.hidesUsage():
		tail = append(first.frames.AppendUsage(nil, usageOfAll(all, first.cached)), vllm.Done...)
	default:
		tail = []byte(vllm.Done)
	}
	out := &pumpOutput{m: m, x: x, s: first, flush: http.NewResponseController(x.w)}
	if first.fault != nil {
		out.write(tail, []mark{{end: len(tail)}})
		return
	}
	out.send(tail)
}

// usageOfAll sums over the choices.
func usageOfAll(all []*stream, cached int) vllm.Usage {
	sum := vllm.Usage{CachedTokens: cached, Details: all[0].details}
	for _, s := range all {
		u := s.usage(s.toldTokens())
		sum.PromptTokens += u.PromptTokens
		sum.CompletionTokens += u.CompletionTokens
	}
	return sum
}

// submitAll hands the streams to the driver; all of them end, or none was taken.
func (m *Mock) submitAll(all []*stream) {
	for i, s := range all {
		if !m.submit(s) {
			waitAll(all[:i]) // the driver has let go of them
			panic(http.ErrAbortHandler)
		}
	}
}

func waitAll(all []*stream) {
	for _, s := range all {
		<-s.done
	}
}

func (m *Mock) abortAll(all []*stream) {
	for _, s := range all {
		m.driver.post(message{abort: s})
	}
	waitAll(all)
}

// pumpSeveral writes the events of all streams as they come.
func (m *Mock) pumpSeveral(x *exchange, all []*stream) {
	wake := make(chan struct{}, 1)
	sinks, outs := make([]*queueSink, len(all)), make([]*pumpOutput, len(all))
	for i, s := range all {
		sinks[i] = &queueSink{wake: wake}
		s.out = sinks[i]
		outs[i] = &pumpOutput{m: m, x: x, s: s, flush: http.NewResponseController(x.w)}
	}
	m.submitAll(all)
	ended := make(chan struct{})
	go func() {
		waitAll(all)
		close(ended)
	}()
	var buf []byte
	var marks []mark
	for last := false; !last; {
		select {
		case <-wake:
		case <-ended:
			last = true
		case <-x.r.Context().Done():
			m.abortAll(all)
			<-ended
			return
		}
		for i, k := range sinks {
			if buf, marks = k.take(buf, marks); len(buf) > 0 && !outs[i].write(buf, marks) {
				m.abortAll(all)
				<-ended
				return
			}
		}
	}
}

func (m *Mock) serveSeveralWhole(x *exchange, all []*stream) {
	if m.unpaced() {
		for _, s := range all {
			m.blast(x, s)
		}
	} else {
		m.submitAll(all)
		for _, s := range all {
			m.await(x, s)
		}
	}
	if m.wholeFault(x, all[0]) {
		all[0].finish = engine.FinishNone
	}
	choices := make([]vllm.Choice, len(all))
	for i, s := range all {
		switch {
		case s.err != nil:
			x.fail(s.err.status, s.err.typ, s.err.message, "")
			return
		case s.finish == engine.FinishNone:
			panic(http.ErrAbortHandler)
		}
		choices[i] = s.choice()
	}
	x.json(http.StatusOK, vllm.AnswerBody(m.version, vllm.Answer{
		FrameHead: all[0].head, Choices: choices, Usage: usageOfAll(all, all[len(all)-1].cached),
	}))
	now := time.Now()
	for _, s := range all {
		if s.truth != nil {
			s.truth.wrote(s.marks, now)
		}
	}
}
