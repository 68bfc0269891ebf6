// Package selftest walks the whole pipeline against the mock: plan, data set,
// server start, load, verdict, records, report, interruption, job script. Every
// figure that a user could read is compared with what the mock wrote down about
// itself (its truth file), by arithmetic of this package's own, so that a fault
// anywhere between socket and table shows.
//
// Read steps.go first (the list of checks), then truth.go (what a level must
// give, from the truth alone) and views.go (what it gave, read back from
// run.json, records, reports and printed tables without the packages that wrote
// them).
//
// The package prints nothing: each check goes to Options.Report. It needs no
// GPU and no network but loopback.
package selftest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"time"
)

// Options of a selftest. Executable is required.
type Options struct {
	// Executable is the glm46 program: it is started as mock, as report and as
	// run, so that what is tested is what is used.
	Executable string
	// Dir keeps everything that is written; "": a temporary folder that is
	// removed at the end.
	Dir string
	// Only runs the checks whose names begin with it; "": all.
	Only string
	// Report is told of each check when it is done, one at a time; nil: nobody.
	Report func(Check)
}

// Check is one thing that was looked at.
type Check struct {
	// Name is "group/what": "pace/run.json".
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	// Detail says what was found, in a line; of a failed check, what is wrong.
	Detail string `json:"detail"`
	// Seconds that the check took; 0 where another check's work was looked at.
	Seconds float64 `json:"seconds"`
	// Figures that were compared, if any.
	Figures []Figure `json:"figures,omitempty"`
}

// Figure is one number of ours beside the mock's ground truth.
type Figure struct {
	// Name says which number of which level: "c8 mean_tpot_ms".
	Name string `json:"name"`
	// Got is ours, Truth what it should be, in the unit that Name has.
	Got   float64 `json:"got"`
	Truth float64 `json:"truth"`
	// Allowed is the largest difference that passes.
	Allowed float64 `json:"allowed"`
}

// OK says whether the figure is within its tolerance. A figure that is not a
// number never is.
func (f Figure) OK() bool {
	d := f.Got - f.Truth
	return d <= f.Allowed && d >= -f.Allowed
}

func (f Figure) String() string {
	off := ""
	if f.Truth != 0 {
		off = fmt.Sprintf(", %+.2f %%", 100*(f.Got/f.Truth-1))
	}
	return fmt.Sprintf("%s is %.6g, by the mock's truth %.6g (allowed +-%.3g%s)", f.Name, f.Got, f.Truth, f.Allowed, off)
}

// Result is what came of a selftest.
type Result struct {
	OK      bool    `json:"ok"`
	Checks  []Check `json:"checks"`
	Seconds float64 `json:"seconds"`
	// Dir is where the files are, if they were kept.
	Dir string `json:"dir,omitempty"`
}

// Failed counts the checks that failed.
func (r *Result) Failed() int {
	n := 0
	for _, c := range r.Checks {
		if !c.OK {
			n++
		}
	}
	return n
}

// Run goes through all checks and returns what they found; a failed check is no
// error. It fails where there is nowhere to write, or where ctx ends.
func Run(ctx context.Context, o Options) (*Result, error) {
	if o.Executable == "" {
		return nil, errors.New("selftest: no program to test")
	}
	began := time.Now()
	dir := o.Dir
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "glm46-selftest-"); err != nil {
			return nil, fmt.Errorf("selftest: %w; set TMPDIR to a folder that can be written", err)
		}
		defer os.RemoveAll(dir)
	} else if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, fmt.Errorf("selftest: %w", err)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("selftest: %w", err)
	}
	w := &world{program: o.Executable, dir: dir, before: observeProcess(), environ: cleanEnviron(os.Environ())}
	r := &Result{OK: true, Checks: []Check{}, Dir: o.Dir}
	var mu sync.Mutex
	report := func(c Check) {
		mu.Lock()
		defer mu.Unlock()
		r.Checks = append(r.Checks, c)
		r.OK = r.OK && c.OK
		if o.Report != nil {
			o.Report(c)
		}
	}
	for _, g := range groups() {
		g.play(ctx, w, o.Only, report)
		if ctx.Err() != nil {
			return r, context.Cause(ctx)
		}
	}
	r.Seconds = time.Since(began).Seconds()
	return r, nil
}

// group is a list of steps of which some run at a time.
type group struct {
	// beside is how many run at once; 1 where figures depend on time.
	beside int
	steps  []step
}

// step does some work and looks at what came of it: one or more checks.
type step struct {
	name string
	// limit ends the step's context.
	limit time.Duration
	do    func(ctx context.Context, w *world, t *tally)
}

// asked says whether the step is among those to run: all whose names begin with
// only, and the step of which only names a part.
func (s step) asked(only string) bool {
	return strings.HasPrefix(s.name, only) || strings.HasPrefix(only, s.name+"/")
}

func (g group) play(ctx context.Context, w *world, only string, report func(Check)) {
	slots := make(chan struct{}, g.beside)
	var running sync.WaitGroup
	defer running.Wait()
	for _, s := range g.steps {
		if !s.asked(only) {
			continue
		}
		slots <- struct{}{}
		if ctx.Err() != nil {
			return
		}
		running.Go(func() {
			defer func() { <-slots }()
			for _, c := range s.checks(ctx, w) {
				report(c)
			}
		})
	}
}

// checks runs the step.
func (s step) checks(parent context.Context, w *world) []Check {
	began := time.Now()
	ctx, cancel := context.WithTimeoutCause(parent, s.limit, fmt.Errorf("not done after %v", s.limit))
	defer cancel()
	t := &tally{}
	func() {
		defer func() {
			if r := recover(); r != nil {
				t.fail("panic: %v\n%s", r, debug.Stack())
			}
		}()
		s.do(ctx, w, t)
	}()
	if parent.Err() == nil && ctx.Err() != nil {
		t.fail("%v", context.Cause(ctx))
	}
	out := []Check{t.check(s.name)}
	out[0].Seconds = time.Since(began).Seconds()
	for _, part := range t.parts {
		out = append(out, part.check(s.name+"/"+part.name))
	}
	return out
}

// tally gathers what a step finds.
type tally struct {
	name    string
	faults  []string
	notes   []string
	figures []Figure
	parts   []*tally
}

// part is a check of its own for something that the step looks at.
func (t *tally) part(name string) *tally {
	p := &tally{name: name}
	t.parts = append(t.parts, p)
	return p
}

// fail notes a fault.
func (t *tally) fail(format string, args ...any) {
	t.faults = append(t.faults, fmt.Sprintf(format, args...))
}

// note says what was found.
func (t *tally) note(format string, args ...any) {
	t.notes = append(t.notes, fmt.Sprintf(format, args...))
}

// err notes err as a fault, and says whether there is one.
func (t *tally) err(err error, doing string) bool {
	if err == nil {
		return false
	}
	t.fail("%s: %v", doing, err)
	return true
}

// want compares two values that must be equal.
func want[T comparable](t *tally, what string, got, want T) bool {
	if got == want {
		return true
	}
	t.fail("%s: got %v, want %v", what, got, want)
	return false
}

// add compares figures.
func (t *tally) add(figures ...Figure) { t.figures = append(t.figures, figures...) }

// bad reports whether anything is wrong so far.
func (t *tally) bad() bool {
	if len(t.faults) > 0 {
		return true
	}
	for _, f := range t.figures {
		if !f.OK() {
			return true
		}
	}
	for _, p := range t.parts {
		if p.bad() {
			return true
		}
	}
	return false
}

// first is what is wrong first; "" if nothing is.
func (t *tally) first() string {
	for _, part := range append([]*tally{t}, t.parts...) {
		if c := part.check(""); !c.OK {
			text, _, _ := strings.Cut(c.Detail, "; ")
			return text
		}
	}
	return ""
}

const shownFaults = 4

// check sums up.
func (t *tally) check(name string) Check {
	faults := t.faults
	worst := Figure{}
	for _, f := range t.figures {
		if !f.OK() {
			faults = append(faults, f.String())
		}
		if f.share() > worst.share() {
			worst = f
		}
	}
	c := Check{Name: name, OK: len(faults) == 0, Figures: t.figures}
	if !c.OK {
		shown := faults
		if len(shown) > shownFaults {
			shown = append(append([]string{}, shown[:shownFaults]...), fmt.Sprintf("and %d more", len(faults)-shownFaults))
		}
		c.Detail = strings.Join(shown, "; ")
		return c
	}
	notes := t.notes
	if n := len(t.figures); n > 0 {
		text := fmt.Sprintf("%d figures agree with the mock's truth", n)
		if n == 1 {
			text = "1 figure agrees with the mock's truth"
		}
		if worst.share() > 0 && worst.Truth != 0 {
			text += fmt.Sprintf("; the worst, %s, by %+.2f %% (allowed %.2f %%)", worst.Name, 100*(worst.Got/worst.Truth-1), 100*worst.Allowed/abs(worst.Truth))
		}
		notes = append(notes, text)
	}
	c.Detail = strings.Join(notes, "; ")
	return c
}

// share of the tolerance that is used up.
func (f Figure) share() float64 {
	if f.Allowed <= 0 {
		return 0
	}
	return abs(f.Got-f.Truth) / f.Allowed
}

func abs(x float64) float64 {
	if x < 0 {
		return -x
	}
	return x
}
