package predict

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Markdown renders the report as a table with notes, for terminals and files.
func (r *Report) Markdown() string {
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
	fmt.Fprintf(&b, "Predicted for vLLM %s from profile %s; distinct prompts, no noise.\n\n", r.VLLMVersion, r.Profile)
	table(&b, rows)
	t := r.Totals
	fmt.Fprintf(&b, "\n%d cells, %d configurations, %d refused. %d server starts, %.1f hours in all.\n", t.Cells, t.Configurations, t.Refused, t.Starts, t.Hours)
	fmt.Fprintf(&b, "\"~\": differs from the baseline by less than %.1f %%, which these starts do not tell from noise (spread of starts taken as %.1f %%).\n",
		100*t.ResolutionShare, 100*t.Spread)
	for _, n := range notes {
		fmt.Fprintf(&b, "- %s\n", n)
	}
	for i, j := range t.Jobs {
		long := ""
		if j.TooLong {
			long = ", longer than the walltime: continued in a further job"
		}
		fmt.Fprintf(&b, "- job %d: %.1f h, %s%s\n", i+1, j.Hours, strings.Join(j.Cells, " "), long)
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

// table writes rows as a Markdown table with aligned columns; numbers, from the
// fifth column on, to the right.
func table(b *strings.Builder, rows [][]string) {
	widths := make([]int, len(rows[0]))
	for _, r := range rows {
		for i, c := range r {
			widths[i] = max(widths[i], utf8.RuneCountInString(c))
		}
	}
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
