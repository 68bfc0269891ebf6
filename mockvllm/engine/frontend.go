package engine

import (
	"math"
	"time"
)

// frontEnd is the API process: a tokenizer thread, and the event-loop thread
// that prepares requests and delivers chunks.
//
// The event loop is shared equally by the n requests in it (processor sharing):
// attained is the work each request present since the beginning would have got;
// it grows by 1/n while no delivery holds the thread, and a request leaves once
// it has grown by EventLoopWork since it came. It changes only when something
// happens, so results do not depend on when the caller looks.
//
// Source: docs/timing-model.md, front end.
type frontEnd struct {
	cfg FrontEnd

	tokenizer     []*seq // out of it at times.Tokenized
	tokenizerFree time.Duration

	loop     []*seq // first to leave first, since all have the same work
	inLoop   int    // of those not aborted
	attained float64
	last     time.Duration // attained is as of then

	deliveryFree time.Duration // the thread delivers until then
}

const never = time.Duration(math.MaxInt64)

// arrive puts a request into the tokenizer.
func (f *frontEnd) arrive(now time.Duration, s *seq) {
	s.state = inTokenizer
	s.times.Arrived = now
	f.tokenizerFree = max(f.tokenizerFree, now) + time.Duration(s.prompt)*f.cfg.TokenizePerToken
	s.times.Tokenized = f.tokenizerFree
	f.tokenizer = append(f.tokenizer, s)
}

// next gives the time of the next event.
func (f *frontEnd) next() time.Duration {
	return min(f.nextTokenized(), f.nextQueued())
}

func (f *frontEnd) nextTokenized() time.Duration {
	if len(f.tokenizer) == 0 {
		return never
	}
	return f.tokenizer[0].times.Tokenized
}

func (f *frontEnd) nextQueued() time.Duration {
	f.loop = dropGone(f.loop)
	if len(f.loop) == 0 {
		return never
	}
	left := max(f.loop[0].psTarget-f.attained, 0) * float64(f.inLoop)
	return max(f.last, f.deliveryFree) + time.Duration(math.Ceil(left-1e-3))
}

// dropGone takes aborted requests off the front.
func dropGone(list []*seq) []*seq {
	for len(list) > 0 && list[0].aborted {
		list[0] = nil
		list = list[1:]
	}
	return list
}

// settle brings attained to now.
func (f *frontEnd) settle(now time.Duration) {
	if from := max(f.last, f.deliveryFree); f.inLoop > 0 && now > from {
		f.attained += float64(now-from) / float64(f.inLoop)
	}
	f.last = now
	if f.inLoop == 0 {
		f.attained = 0
	}
}

// step makes the next event happen, at the time of next. It gives the request
// that is now ready for the engine, or nil.
func (f *frontEnd) step() *seq {
	if at := f.nextTokenized(); at < f.nextQueued() {
		s := f.tokenizer[0]
		f.tokenizer[0] = nil
		f.tokenizer = f.tokenizer[1:]
		if s.aborted {
			return nil
		}
		f.settle(at)
		s.state = inEventLoop
		s.psTarget = f.attained + float64(f.cfg.EventLoopWork)
		f.loop = append(f.loop, s)
		f.inLoop++
		return nil
	}
	at := f.nextQueued()
	f.settle(at)
	s := f.loop[0]
	f.loop[0] = nil
	f.loop = f.loop[1:]
	f.inLoop--
	f.attained = max(f.attained, s.psTarget) // rounding must not leave work behind
	s.times.Queued = at
	return s
}

// abort takes a request out. The tokenizer finishes what it was given.
func (f *frontEnd) abort(now time.Duration, s *seq) {
	if s.state == inEventLoop {
		f.settle(now)
		f.inLoop--
	}
}

// deliver occupies the thread with n chunks at the end of a step and gives the
// time when it begins with them.
func (f *frontEnd) deliver(now time.Duration, n int) time.Duration {
	f.settle(now)
	begin := max(f.deliveryFree, now)
	f.deliveryFree = begin + time.Duration(n)*f.cfg.DeliveryPerChunk
	return begin
}

// due gives when the chunk at position i of a delivery reaches the client.
func (f *frontEnd) due(begin time.Duration, i int) time.Duration {
	return begin + time.Duration(i+1)*f.cfg.DeliveryPerChunk + f.cfg.DeliveryDelay
}
