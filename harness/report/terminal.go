package report

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// terminalWidth is what a job's log and a plain terminal show.
const terminalWidth = 80

// Terminal gives the results table for a terminal or a job's log, in lines of at
// most 80 columns: one line a row with its figures, then indented what does not
// fit there (a long status, labels, notes).
func (r *Report) Terminal() string {
	levels := r.Levels
	// Exp, Config, Data, TPS, Latency, Status leave room for three levels.
	rows := [][]string{{"Exp", "Config", "Data", "TPS", "Latency"}}
	for _, l := range levels {
		rows[0] = append(rows[0], l+" tok/s")
	}
	rows[0] = append(rows[0], "Status")
	var more [][]string
	for _, row := range r.Rows {
		c := []string{clip(row.Exp, 12), clip(oneLine(row.Config), 12), clip(row.Dataset, 8), figure(row.TPS, 2), latency(row.LatencySeconds)}
		for _, l := range levels {
			c = append(c, row.throughput(l))
		}
		kind := row.Status.Kind
		var below []string
		if s := oneLine(row.Status.String()); s != kind {
			if strings.HasPrefix(s, kind+" ") && !strings.Contains(s, "(") {
				kind = s
			} else {
				below = append(below, s)
			}
		}
		c = append(c, kind)
		if s := row.remarks(); s != "" {
			below = append(below, s)
		}
		rows = append(rows, c)
		more = append(more, below)
	}
	width := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, c := range row {
			width[i] = max(width[i], utf8.RuneCountInString(c))
		}
	}
	var b strings.Builder
	for i, row := range rows {
		var line strings.Builder
		for j, c := range row {
			pad := strings.Repeat(" ", width[j]-utf8.RuneCountInString(c))
			switch {
			case j >= 3 && j < len(row)-1: // figures stand right
				line.WriteString(pad + c)
			case j == len(row)-1:
				line.WriteString(c)
			default:
				line.WriteString(c + pad)
			}
			if j < len(row)-1 {
				line.WriteString("  ")
			}
		}
		for _, part := range wrap(strings.TrimRight(line.String(), " "), terminalWidth, "    ") {
			b.WriteString(part + "\n")
		}
		if i > 0 {
			for _, s := range more[i-1] {
				for _, part := range wrap("    "+s, terminalWidth, "    ") {
					b.WriteString(part + "\n")
				}
			}
		}
	}
	return b.String()
}

func clip(s string, n int) string {
	s = oneLine(s)
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	r := []rune(s)
	return string(r[:n-1]) + "…"
}

// wrap breaks a line at blanks so that no part is longer than width; parts after
// the first begin with indent.
func wrap(s string, width int, indent string) []string {
	var out []string
	for utf8.RuneCountInString(s) > width {
		r := []rune(s)
		cut := width
		for cut > len(indent)+1 && r[cut] != ' ' {
			cut--
		}
		if cut <= len(indent)+1 { // no blank: break the word
			cut = width
		}
		out = append(out, strings.TrimRight(string(r[:cut]), " "))
		s = indent + strings.TrimLeft(string(r[cut:]), " ")
	}
	return append(out, s)
}

// Lines gives one sentence a row, for logs: "5B kv=bf16 8k: TPS 8.70, ...".
func (r *Report) Lines() []string {
	var out []string
	for _, row := range r.Rows {
		s := fmt.Sprintf("%s %s %s: %s", row.Exp, oneLine(row.Config), row.Dataset, oneLine(row.Status.String()))
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
