package predict

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/glm46/glm46/harness/fold"
)

// Text renders the report as a Markdown table with notes. Where that is wider
// than width columns, for a terminal, the table is a narrow one and the notes are
// folded; 0: it is never too wide.
func (r *Report) Text(width int) string {
	rows := [][]string{{"Exp", "Config", "Base", "Level", "KV tokens", "TTFT ms", "TPOT ms", "TPS", "Output tok/s", "vs base", "Preempt.", "Hours"}}
	var notes []string
	noted := map[string]bool{}
	note := func(text string) {
		if text != "" && !noted[text] {
			noted[text] = true
			notes = append(notes, text)
		}
	}
	for _, e := range r.Cells {
		rows = append(rows, e.row())
		switch {
		case e.Refused != "":
			note(e.name() + " is refused: " + e.Refused)
		case e.Unknown != "":
			note(e.name() + " is not predicted: " + e.Unknown)
		case e.Assumed != "":
			note(e.name() + " assumes: " + e.Assumed)
		}
		if e.OutputCapped {
			note(e.name() + ": outputs are cut to what max-model-len leaves: less work than the baseline's")
		}
	}
	var b strings.Builder
	line := func(prefix, format string, args ...any) {
		b.WriteString(fold.Under(prefix, fmt.Sprintf(format, args...), width))
	}
	line("", "Predicted for vLLM %s from profile %s; distinct prompts, no noise.", r.VLLMVersion, r.Profile)
	b.WriteString("\n")
	if widths := columnWidths(rows); width > 0 && tableWidth(widths) > width {
		r.narrow(&b)
	} else {
		table(&b, rows, widths)
	}
	b.WriteString("\n")
	t := r.Totals
	line("", "%d cells, %d configurations, %d refused. %d server starts, %.1f hours in all.", t.Cells, t.Configurations, t.Refused, t.Starts, t.Hours)
	line("", "\"~\": differs from the baseline by less than %.1f %%, which these starts do not tell from noise (spread of starts taken as %.1f %%).",
		100*t.ResolutionShare, 100*t.Spread)
	for _, n := range notes {
		line("- ", "%s", n)
	}
	for i, j := range t.Jobs {
		long := ""
		if j.TooLong {
			long = ", longer than the walltime: continued in a further job"
		}
		line("- ", "job %d: %.1f h, %s%s", i+1, j.Hours, strings.Join(j.Cells, " "), long)
	}
	return b.String()
}

func (e *Entry) name() string {
	if e.Modified {
		return e.ID + "*"
	}
	return e.ID
}

func (e *Entry) row() []string {
	row := []string{e.name(), e.Config, e.Base, e.Level, "-", "-", "-", "-", "-", "-", "-", "-"}
	if e.KVTokens != nil {
		row[4] = fmt.Sprint(*e.KVTokens)
	}
	if e.OutputThroughput == nil {
		if e.Refused != "" {
			row[8] = "refused"
		}
		return row
	}
	row[5], row[6] = fmt.Sprintf("%.0f", *e.TTFTMs), fmt.Sprintf("%.1f", *e.TPOTMs)
	row[7], row[8] = fmt.Sprintf("%.2f", *e.TPS), fmt.Sprintf("%.1f", *e.OutputThroughput)
	row[10], row[11] = fmt.Sprint(*e.Preemptions), fmt.Sprintf("%.2f", *e.Hours)
	if e.VsBaseline != nil {
		row[9] = fmt.Sprintf("%.2fx", *e.VsBaseline)
		if !*e.Distinguishable {
			row[9] += " ~"
		}
	}
	return row
}

// narrow writes what fits into 80 columns: a line a cell with its KV cache, then
// one a level.
func (r *Report) narrow(b *strings.Builder) {
	fmt.Fprintf(b, "  %-6s %8s %8s %8s %9s %9s %9s %6s\n", "Level", "TTFT ms", "TPOT ms", "TPS", "out tok/s", "vs base", "preempted", "hours")
	head := ""
	for _, e := range r.Cells {
		row := e.row()
		this := row[0] + " " + row[1] + ", " + row[2] + " baseline"
		if row[4] != "-" {
			this += ", KV cache " + row[4] + " tokens"
		}
		switch {
		case e.Refused != "":
			this += ": refused"
		case e.OutputThroughput == nil:
			this += ": not predicted"
		}
		if this != head {
			head = this
			b.WriteString(head + "\n")
		}
		if e.OutputThroughput == nil {
			continue
		}
		fmt.Fprintf(b, "  %-6s %8s %8s %8s %9s %9s %9s %6s\n", row[3], row[5], row[6], row[7], row[8], row[9], row[10], row[11])
	}
}

func columnWidths(rows [][]string) []int {
	widths := make([]int, len(rows[0]))
	for _, r := range rows {
		for i, c := range r {
			widths[i] = max(widths[i], utf8.RuneCountInString(c))
		}
	}
	return widths
}

// tableWidth is that of a Markdown table with these columns.
func tableWidth(widths []int) int {
	total := len("|")
	for _, w := range widths {
		total += w + len("|  ")
	}
	return total
}

// table writes rows as a Markdown table with aligned columns; numbers, from the
// fifth column on, to the right.
func table(b *strings.Builder, rows [][]string, widths []int) {
	const firstNumber = 4
	for n, r := range rows {
		for i, c := range r {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c))
			if i >= firstNumber {
				fmt.Fprintf(b, "| %s%s ", pad, c)
			} else {
				fmt.Fprintf(b, "| %s%s ", c, pad)
			}
		}
		b.WriteString("|\n")
		if n > 0 {
			continue
		}
		for i, w := range widths {
			if i >= firstNumber {
				b.WriteString("|" + strings.Repeat("-", w+1) + ":")
			} else {
				b.WriteString("|" + strings.Repeat("-", w+2))
			}
		}
		b.WriteString("|\n")
	}
}
