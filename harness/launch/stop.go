package launch

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Times of [Process.Stop]. Source: docs/node.md, stopping a server: vLLM needs
// 5 to 15 s to end its engine and workers.
const (
	// StopGrace is what the server gets after its SIGTERM.
	StopGrace = 30 * time.Second
	// groupGrace is what its group gets after SIGTERM.
	groupGrace = 10 * time.Second
	// killGrace is how long the kernel may take to end killed processes.
	killGrace = 10 * time.Second
	// ShortStop bounds [Process.StopShort]: PBS kills 10 s after its SIGTERM.
	ShortStop = 8 * time.Second

	watchStarting = 2 * time.Second
	watchServing  = 15 * time.Second
)

// StopReport says what it took to end a server.
type StopReport struct {
	// Steps are the signals sent, in order: "SIGTERM server", "SIGTERM group",
	// "SIGKILL rest". Empty where everything had ended by itself.
	Steps []string
	// Took is from the call to the end.
	Took time.Duration
	// Processes is how many processes the server was seen to consist of.
	Processes int
	// Left are processes that could not be ended ("1234 VLLM::Worker_TP0").
	// A process in the kernel (state D) may take long to go.
	Left []string
	// Exit is how the first process ended.
	Exit Exit
}

// Clean says that nothing is left.
func (r StopReport) Clean() bool { return len(r.Left) == 0 }

// snapshot remembers the server's processes and returns the living ones. Dead
// ones that are ours to collect are collected.
func (p *Process) snapshot() []stat {
	all := processes()
	me := os.Getpid()
	p.mu.Lock()
	defer p.mu.Unlock()
	var alive []stat
	for _, s := range family(all, p.pid, p.start, p.seen, me, func(pid int) bool { return hasToken(pid, p.token) }) {
		p.seen[s.pid] = s.start
		switch {
		case !s.dead():
			alive = append(alive, s)
		case s.pid != p.pid && s.ppid == me:
			reap(s.pid)
		}
	}
	slices.SortFunc(alive, func(a, b stat) int { return a.pid - b.pid })
	return alive
}

// watch remembers descendants now and then, while their ancestry still shows.
func (p *Process) watch() {
	defer close(p.watchDone)
	every := watchStarting
	for {
		p.snapshot()
		t := time.NewTimer(every)
		select {
		case <-p.watchStop:
			t.Stop()
			return
		case <-p.ready:
			every = watchServing
			select {
			case <-p.watchStop:
				t.Stop()
				return
			case <-t.C:
			}
		case <-t.C:
		}
		t.Stop()
	}
}

// Stop ends the server: SIGTERM to its first process; after grace, SIGTERM to
// its group; after a third of that (at most 10 s), SIGKILL to everything that
// was ever seen of it. It returns when nothing is left, or when what is left
// does not die. When ctx ends, the next step comes at once. grace 0 means
// [StopGrace]. A second call gives the first one's report.
func (p *Process) Stop(ctx context.Context, grace time.Duration) StopReport {
	if grace <= 0 {
		grace = StopGrace
	}
	return p.stop(ctx, grace, min(grace/3, groupGrace), killGrace)
}

// StopShort is Stop within [ShortStop] in all, for after our own SIGTERM.
func (p *Process) StopShort(ctx context.Context) StopReport {
	return p.stop(ctx, 5*time.Second, time.Second, 2*time.Second)
}

// Kill ends the server at once, without a chance to end in order.
func (p *Process) Kill() StopReport {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return p.stop(ctx, 0, 0, killGrace)
}

func (p *Process) stop(ctx context.Context, grace, group, kill time.Duration) StopReport {
	p.stopping.Lock()
	defer p.stopping.Unlock()
	if p.stopped != nil {
		return *p.stopped
	}
	begun := time.Now()
	var r StopReport
	close(p.watchStop)
	<-p.watchDone
	alive := p.snapshot()

	step := func(name string, wait time.Duration, send func(alive []stat)) {
		if len(alive) == 0 {
			return
		}
		r.Steps = append(r.Steps, name)
		send(alive)
		alive = p.waitGone(ctx, wait, name == "SIGTERM server")
	}
	if _, ended := p.Exit(); !ended {
		step("SIGTERM server", grace, func([]stat) { _ = signalExactly(p.pid, p.start, unix.SIGTERM) })
	} else {
		// The first process is gone and took nothing along: those left are
		// given the group's time, not the server's.
		alive = p.waitGone(ctx, 0, false)
	}
	step("SIGTERM group", group, func(alive []stat) { signalAll(alive, unix.SIGTERM) })
	// What is killed may have forked meanwhile: look again until nothing is new.
	for round := 0; len(alive) > 0 && round < 5; round++ {
		if round == 0 {
			r.Steps = append(r.Steps, "SIGKILL rest")
		}
		signalAll(alive, unix.SIGKILL)
		alive = p.waitGone(context.WithoutCancel(ctx), kill/5, false)
	}
	for _, s := range alive {
		r.Left = append(r.Left, fmt.Sprintf("%d %s (state %c)", s.pid, s.name, s.state))
	}
	p.closeLog()
	p.mu.Lock()
	r.Processes = len(p.seen)
	p.mu.Unlock()
	if e, ok := p.Exit(); ok {
		r.Exit = e
	} else {
		r.Exit = Exit{Running: true}
	}
	r.Took = time.Since(begun)
	p.stopped = &r
	return r
}

func signalAll(list []stat, sig unix.Signal) {
	for _, s := range list {
		_ = signalExactly(s.pid, s.start, sig)
	}
}

// waitGone waits until the server's processes are gone, for at most d or until
// ctx ends, and returns those that are not. With rootOnly it also returns
// shortly after the first process has ended: those that outlive it will not go.
func (p *Process) waitGone(ctx context.Context, d time.Duration, rootOnly bool) []stat {
	deadline := time.NewTimer(d)
	defer deadline.Stop()
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	exited := p.exited
	var orphanTime <-chan time.Time
	for {
		alive := p.snapshot()
		if len(alive) == 0 {
			// All are dead. Once the first one has been collected, the others
			// come to us and can be collected at the next look.
			select {
			case <-p.exited:
			case <-time.After(killGrace):
			}
			return p.snapshot()
		}
		select {
		case <-ctx.Done():
			return p.snapshot()
		case <-deadline.C:
			return p.snapshot()
		case <-exited:
			exited = nil
			if rootOnly {
				t := time.NewTimer(orphanGrace)
				defer t.Stop()
				orphanTime = t.C
			}
		case <-orphanTime:
			return p.snapshot()
		case <-poll.C:
		}
	}
}

// orphanGrace is what workers get to notice that their parent has ended in
// order. Source: docs/node.md: workers end within 4 s of the engine's end.
const orphanGrace = 4 * time.Second

// closeLog lets the log's reader come to the end. A process that could not be
// ended, or that nobody knows of, may hold the pipe open for ever: it is given up
// once nothing has come for a while.
func (p *Process) closeLog() {
	t := time.NewTicker(2 * time.Second)
	defer t.Stop()
	last := p.progressed.Load()
	for given := false; ; {
		select {
		case <-p.read:
			p.out.Close()
			return
		case <-t.C:
			if now := p.progressed.Load(); now != last {
				last = now
			} else if !given {
				given = true
				_ = p.out.SetReadDeadline(time.Now())
			}
		}
	}
}
