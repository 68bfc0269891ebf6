package load

import (
	"context"
	"sync"
	"time"
)

// maxAlarms bounds the file descriptors for alarms: in a denser crowd of planned
// requests the later ones make do with the runtime's timers.
const maxAlarms = 64

// alarms are the alarms of a run. The zero value is ready.
type alarms struct {
	mu   sync.Mutex
	free []*alarm
	made int
}

// get gives an alarm, nil where there is none.
func (p *alarms) get() *alarm {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.free); n > 0 {
		a := p.free[n-1]
		p.free = p.free[:n-1]
		return a
	}
	if p.made == maxAlarms {
		return nil
	}
	a, err := newAlarm()
	if err != nil {
		return nil // no descriptors left: late by a millisecond
	}
	p.made++
	return a
}

func (p *alarms) put(a *alarm) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free = append(p.free, a)
}

func (p *alarms) close() {
	for _, a := range p.free {
		a.close()
	}
}

// sleep until an instant of the run, as exactly as can be; false if ctx ended
// first, which it looks at before the last 2 x lead.
func (p *alarms) sleep(ctx context.Context, c clock, until time.Duration) bool {
	a := p.get()
	if a == nil {
		return c.sleep(ctx, until)
	}
	defer p.put(a)
	if !c.sleep(ctx, until-2*lead) {
		return false
	}
	if left := until - c.now(); left > 0 && a.wait(left) != nil {
		return c.sleep(ctx, until)
	}
	return ctx.Err() == nil
}
