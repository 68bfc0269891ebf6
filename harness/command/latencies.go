package command

import (
	"fmt"
	"io"
	"slices"

	"github.com/glm46/glm46/harness/load"
	"github.com/glm46/glm46/harness/measure"
)

// latencyRow is one quantity of a level; stem is its key in run.json.
type latencyRow struct {
	name, stem string
	d          measure.Distribution
}

// latencyRows of a level. In an open loop every latency stands twice, from the
// send and from the schedule: what waited behind the cap shows in the second.
func latencyRows(run *measure.RunJSON) []latencyRow {
	m := &run.Metrics
	open := run.Level.Arrival != string(load.Closed)
	rows := []latencyRow{{"TTFT", "ttft", m.TTFT}}
	if open {
		rows = append(rows, latencyRow{"TTFT from the schedule", "ttft_from_schedule", m.TTFTFromSchedule})
	}
	if m.TTFC.N > 0 && m.TTFC.Mean != m.TTFT.Mean {
		rows = append(rows, latencyRow{"TTFC, without reasoning", "ttfc", m.TTFC})
	}
	rows = append(rows, latencyRow{"TPOT", "tpot", m.TPOT})
	gaps := "ITL"
	if m.TokensPerEvent > 1.01 {
		gaps = fmt.Sprintf("inter-chunk latency, %.2f tokens", m.TokensPerEvent)
	}
	rows = append(rows, latencyRow{gaps, "itl", m.ITL}, latencyRow{"E2E latency", "e2el", m.E2EL})
	if open {
		rows = append(rows, latencyRow{"E2E latency from the schedule", "e2el_including_client_queue", m.E2ELIncludingClientQueue})
	}
	return rows
}

// printLatencies writes the latencies of a level in milliseconds. What is not
// known, and a percentile of too few values, is shown as "-".
// of too few values is not shown.
func printLatencies(w io.Writer, run *measure.RunJSON) {
	m := &run.Metrics
	if m.Completed == 0 {
		return
	}
	line := func(name string, cells ...any) {
		fmt.Fprintf(w, "%-35s%11v%11v%11v%11v\n", append([]any{name}, cells...)...)
	}
	line(run.Level.Name+", ms", "mean", "p50", "p90", "p99")
	for _, row := range latencyRows(run) {
		if row.d.N == 0 || row.stem == "tpot" && !tpotKnown(m) {
			line(row.name, "-", "-", "-", "-")
			continue
		}
		shown := func(name string, value float64) string {
			if slices.Contains(m.TooFew, name+"_"+row.stem+"_ms") {
				return "-"
			}
			return fmt.Sprintf("%.1f", value)
		}
		line(row.name, shown("mean", row.d.Mean), shown("p50", row.d.P50), shown("p90", row.d.P90), shown("p99", row.d.P99))
	}
}

// tpotKnown is false where at least half of the requests came in one piece, or
// had one token: there is no time between tokens to tell.
func tpotKnown(m *measure.Metrics) bool { return m.TPOT.Median > 0 }
