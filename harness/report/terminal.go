package report

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/glm46/glm46/harness/fold"
)

// terminalWidth is what a job's log and a plain terminal show.
const terminalWidth = 80

// Terminal gives the results table for a terminal or a job's log, in lines of at
// most 80 columns: one line a row, then indented what does not fit there. The
// levels have columns of their own where those fit, else a line below each row.
func (r *Report) Terminal() string {
	for _, wide := range []bool{true, false} {
		table, below := r.terminalTable(wide)
		if widest(table) <= terminalWidth || !wide {
			return joinTable(table, below)
		}
	}
	return ""
}

// terminalTable gives the table's columns, padded, and the lines below each row;
// wide asks for columns for the levels.
func (r *Report) terminalTable(wide bool) (table []string, below [][]string) {
	header := []string{"Exp", "Config", "Data", "TPS", "Latency"}
	if wide {
		for _, l := range r.Levels {
			header = append(header, l+" tok/s")
		}
	}
	rows := [][]string{append(header, "Status")}
	below = [][]string{nil}
	for _, row := range r.Rows {
		c := []string{clip(row.Exp, 12), clip(row.Config, 18), clip(row.Dataset, 8), figure(row.TPS, 2), latency(row.LatencySeconds)}
		var more, levels []string
		for _, l := range r.Levels {
			if wide {
				c = append(c, row.throughput(l))
			} else if t := row.throughput(l); t != "-" {
				levels = append(levels, l+" "+t)
			}
		}
		if len(levels) > 0 {
			more = append(more, "tok/s: "+strings.Join(levels, ", "))
		}
		status := row.Status.String()
		if strings.Contains(status, "(") { // too long for a column
			more = append(more, strings.Join(append(slices.Clone(row.Status.Codes), row.Status.Reason), " "))
			status = row.Status.Kind
		}
		rows = append(rows, append(c, status))
		if s := row.remarks(); s != "" {
			more = append(more, s)
		}
		below = append(below, more)
	}
	return align(rows), below
}

// align pads columns: figures (from the fourth on) stand right, the last column
// is not padded.
func align(rows [][]string) []string {
	width := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, c := range row {
			width[i] = max(width[i], utf8.RuneCountInString(c))
		}
	}
	var out []string
	for _, row := range rows {
		var line strings.Builder
		for i, c := range row {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(c))
			switch {
			case i == len(row)-1:
				line.WriteString(c)
			case i >= 3:
				line.WriteString(pad + c + "  ")
			default:
				line.WriteString(c + pad + "  ")
			}
		}
		out = append(out, strings.TrimRight(line.String(), " "))
	}
	return out
}

func widest(lines []string) int {
	n := 0
	for _, l := range lines {
		n = max(n, utf8.RuneCountInString(l))
	}
	return n
}

func joinTable(table []string, below [][]string) string {
	const indent = "    "
	var b strings.Builder
	for i, line := range table {
		for k, part := range fold.Cut(line, terminalWidth) {
			if k > 0 {
				part = indent + part
			}
			b.WriteString(part + "\n")
		}
		for _, s := range below[i] {
			for _, part := range fold.Cut(strings.TrimSpace(s), terminalWidth-len(indent)) {
				b.WriteString(indent + part + "\n")
			}
		}
	}
	return b.String()
}

func clip(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	r := []rune(s)
	return string(r[:n-1]) + "…"
}

// Lines gives one sentence a row, for logs: "5B kv=bf16 8k: TPS 8.70, ...".
func (r *Report) Lines() []string {
	var out []string
	for _, row := range r.Rows {
		s := fmt.Sprintf("%s %s %s: %s", row.Exp, row.Config, row.Dataset, row.Status.String())
		if row.TPS != nil {
			s += fmt.Sprintf(", TPS %s, latency %s", figure(row.TPS, 2), latency(row.LatencySeconds))
		}
		for _, l := range r.Levels {
			if t := row.throughput(l); t != "-" {
				s += fmt.Sprintf(", %s %s tok/s", l, t)
			}
		}
		out = append(out, s)
	}
	return out
}
