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

// All tokens in one event: no time between tokens is known, which is not 0 ms.
func TestLevelDoneWithoutTPOT(t *testing.T) {
	var out bytes.Buffer
	run := &measure.RunJSON{}
	run.Metrics.Requests, run.Metrics.Completed = 6, 6
	run.Metrics.TPOT.N = 6
	newPrinter(&out, false).LevelDone("8C", run)
	if got := out.String(); !strings.Contains(got, "TPOT p50 unknown") {
		t.Errorf("got %q", got)
	}
}

func TestPrintLatencies(t *testing.T) {
	run := &measure.RunJSON{Level: measure.LevelInfo{Name: "r10", Arrival: "poisson"}}
	m := &run.Metrics
	m.Completed, m.TooFew = 40, []string{"p99_ttft_ms"}
	d := func(mean float64) measure.Distribution {
		return measure.Distribution{N: 40, Mean: mean, Median: mean + 1, P50: mean + 1, P90: mean + 2, P99: mean + 3}
	}
	m.TTFT, m.TTFTFromSchedule, m.TPOT, m.ITL, m.E2EL, m.E2ELIncludingClientQueue = d(50), d(1050), d(20), d(40), d(500), d(1500)
	m.TokensPerEvent = 2
	want := `r10, ms                                   mean        p50        p90        p99
TTFT                                      50.0       51.0       52.0          -
TTFT from the schedule                  1050.0     1051.0     1052.0     1053.0
TPOT                                      20.0       21.0       22.0       23.0
inter-chunk latency, 2.00 tokens          40.0       41.0       42.0       43.0
E2E latency                              500.0      501.0      502.0      503.0
E2E latency from the schedule           1500.0     1501.0     1502.0     1503.0
`
	var out bytes.Buffer
	printLatencies(&out, run)
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
	// A closed loop has no schedule; where tokens came at once there is no TPOT.
	run.Level.Arrival, m.TPOT = "closed", measure.Distribution{N: 40}
	out.Reset()
	printLatencies(&out, run)
	if got := out.String(); strings.Contains(got, "schedule") || !strings.Contains(got, "TPOT                                         -          -") {
		t.Errorf("got\n%s", got)
	}
}
