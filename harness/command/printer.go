package command

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/glm46/glm46/harness/fold"
	"github.com/glm46/glm46/harness/load"
	"github.com/glm46/glm46/harness/measure"
)

const (
	// redrawEvery is the pace of the live line on a terminal, logEvery that of
	// progress lines elsewhere: a job's log should stay readable.
	redrawEvery = 200 * time.Millisecond
	logEvery    = 30 * time.Second
)

// printer shows a run while it happens: a live line on a terminal, else one
// line at a time.
type printer struct {
	mu       sync.Mutex
	w        io.Writer
	terminal bool
	width    int
	shown    int // columns of the live line on screen
	last     time.Time
	now      func() time.Time
}

func newPrinter(w io.Writer, terminal bool) *printer {
	return &printer{w: w, terminal: terminal, width: terminalWidth(w), now: time.Now}
}

// Note prints a line.
func (p *printer) Note(cell, text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
	if cell != "" {
		text = cell + ": " + text
	}
	width := 0
	if p.terminal {
		width = p.width
	}
	fmt.Fprint(p.w, fold.Under(p.now().Format(time.TimeOnly)+" ", printable(text), width))
}

// Progress redraws the live line, or prints one now and then.
func (p *printer) Progress(cell string, progress load.Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	every := logEvery
	if p.terminal {
		every = redrawEvery
	}
	if now.Sub(p.last) < every {
		return
	}
	p.last = now
	text := cell + " " + progressText(progress)
	if !p.terminal {
		fmt.Fprintf(p.w, "%s %s\n", now.Format(time.TimeOnly), text)
		return
	}
	if len(text) >= p.width {
		text = text[:p.width-1]
	}
	fmt.Fprintf(p.w, "\r%s%s", text, strings.Repeat(" ", max(0, p.shown-len(text))))
	p.shown = len(text)
}

// LevelDone prints what a level gave.
func (p *printer) LevelDone(cell string, run *measure.RunJSON) {
	m := run.Metrics
	verdict := "valid"
	if !run.Validity.OK {
		verdict = "NOT VALID"
		for _, reason := range run.Validity.Reasons {
			verdict += "; " + string(reason)
			if detail := run.Validity.Details[string(reason)]; detail != "" {
				verdict += ": " + detail
			}
		}
	}
	figures := ""
	if m.Completed > 0 {
		tpot := "unknown"
		if tpotKnown(&m) {
			tpot = milliseconds(m.TPOT.Median)
		}
		figures = fmt.Sprintf(", %.1f tok/s out, TTFT p50 %s, TPOT p50 %s", m.OutputThroughput, milliseconds(m.TTFT.Median), tpot)
	}
	p.Note(cell, fmt.Sprintf("level %s: %d of %d requests%s: %s", run.Level.Name, m.Completed, m.Requests, figures, verdict))
}

// done leaves the cursor on a fresh line.
func (p *printer) done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
}

func (p *printer) erase() {
	if p.shown > 0 {
		fmt.Fprintf(p.w, "\r%s\r", strings.Repeat(" ", p.shown))
		p.shown = 0
	}
}

// progressText fits the live line into 80 columns.
func progressText(p load.Progress) string {
	text := fmt.Sprintf("%s %s %d/%d run %d %.0f tok/s TTFT %s TPOT %s", p.Level, p.Phase, p.Done, p.Total, p.InFlight,
		p.TokensPerSecond, shortDuration(p.TTFTP50), shortDuration(p.TPOTP50))
	if p.Failed > 0 {
		text += fmt.Sprintf(" FAILED %d", p.Failed)
	}
	if p.Left > 0 {
		text += " left " + p.Left.Round(time.Second).String()
	}
	return text
}

func shortDuration(d time.Duration) string {
	switch {
	case d <= 0:
		return "-"
	case d < time.Second:
		return fmt.Sprintf("%.0fms", float64(d)/float64(time.Millisecond))
	}
	return fmt.Sprintf("%.1fs", d.Seconds())
}

func milliseconds(ms float64) string {
	return fmt.Sprintf("%.1f ms", ms)
}

// printable keeps a server's text from moving the cursor or colouring the log.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return ' '
		}
		return r
	}, text)
}
