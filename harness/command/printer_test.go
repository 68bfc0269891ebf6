package command

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/glm46/glm46/harness/load"
	"github.com/glm46/glm46/harness/measure"
)

func TestProgressOnATerminalFitsAndIsErased(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(0, 0).UTC()
	p := &printer{w: &out, terminal: true, width: 80, now: func() time.Time { now = now.Add(time.Second); return now }}
	progress := load.Progress{Level: "c100", Phase: measure.PhaseMain, Done: 9999, Total: 10000, InFlight: 1024, TokensPerSecond: 123456,
		TTFTP50: 99 * time.Second, TPOTP50: 100 * time.Millisecond, Failed: 12345, Left: 100 * time.Hour}
	p.Progress("4C/64k*", progress)
	if n := len(strings.TrimPrefix(out.String(), "\r")); n > 79 {
		t.Errorf("the live line has %d columns: %q", n, out.String())
	}
	out.Reset()
	p.Note("5B", "text\x1b[31m\r\nwith control characters")
	if got := out.String(); strings.Contains(strings.TrimPrefix(got, "\r"), "\x1b") || !strings.HasSuffix(got, "\n") || strings.Count(got, "\n") != 1 {
		t.Errorf("%q", got)
	}
}

func TestProgressInALogIsRare(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(0, 0).UTC()
	p := &printer{w: &out, width: 80, now: func() time.Time { now = now.Add(time.Second); return now }}
	for range 100 {
		p.Progress("5B", load.Progress{Level: "c1", Phase: measure.PhaseMain})
	}
	if n := strings.Count(out.String(), "\n"); n != 4 || strings.Contains(out.String(), "\r") {
		t.Errorf("%d lines in 100 seconds: %q", n, out.String())
	}
}

// Where no request completed there is no latency to print, and none of 0 ms.
func TestLevelDoneWithoutCompletions(t *testing.T) {
	var out bytes.Buffer
	run := &measure.RunJSON{}
	run.Metrics.Requests = 6
	newPrinter(&out, false).LevelDone("1A", run)
	if got := out.String(); !strings.Contains(got, "0 of 6 requests: NOT VALID") || strings.Contains(got, "TTFT") {
		t.Errorf("got %q", got)
	}
}
