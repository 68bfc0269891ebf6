package report

import (
	"bytes"
	"cmp"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/glm46/glm46/harness/fold"
	"github.com/glm46/glm46/harness/measure"
)

// Format names a way to write a report.
type Format string

// The formats.
const (
	Markdown Format = "md"
	JSON     Format = "json"
	CSV      Format = "csv"
	HTML     Format = "html"
	// Text is the table for terminals, 80 columns wide.
	Text Format = "text"
)

// Formats lists the names of all formats, the default first.
func Formats() []string {
	return []string{string(Markdown), string(HTML), string(CSV), string(JSON), string(Text)}
}

// A FormatError says that a format is not known.
type FormatError struct{ Name string }

func (e *FormatError) Error() string {
	return fmt.Sprintf("format %q: want one of %s", e.Name, strings.Join(Formats(), ", "))
}

// Write writes the report in a format; it fails with a [*FormatError], or where
// w does.
func (r *Report) Write(w io.Writer, f Format) error {
	var b bytes.Buffer
	switch f {
	case Markdown, "":
		r.markdown(&b)
	case JSON:
		enc := json.NewEncoder(&b)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		if err := enc.Encode(r); err != nil {
			return err
		}
	case CSV:
		if err := r.csv(&b); err != nil {
			return err
		}
	case Text:
		r.text(&b)
	case HTML:
		if err := r.html(&b); err != nil {
			return err
		}
	default:
		return &FormatError{string(f)}
	}
	_, err := w.Write(b.Bytes())
	return err
}

// figure prints a number with so many digits, "-" where there is none.
func figure(v *float64, digits int) string {
	if v == nil {
		return "-"
	}
	return strconv.FormatFloat(*v, 'f', digits, 64)
}

// latency prints seconds as the plan does ("58.9s").
func latency(v *float64) string {
	if v == nil {
		return "-"
	}
	return figure(v, 1) + "s"
}

// throughput prints a level's output throughput; "!" marks a level that is not
// valid. "-" where it was not measured.
func (r Row) throughput(level string) string {
	l, ok := r.Level(level)
	if !ok || l.Completed == 0 {
		return "-"
	}
	s := strconv.FormatFloat(l.OutputThroughput, 'f', 1, 64)
	if !l.Valid {
		s += " !"
	}
	return s
}

// distorted says that a mock ran faster than this machine could follow.
func (r Row) distorted() bool {
	has := func(l measure.Label) bool { return slices.Contains(r.Labels, string(l)) }
	return has(measure.LabelSpedUp) && (has(measure.LabelMockLate) || has(measure.Label(measure.ReasonClientSaturated)))
}

// remarks joins labels, equal cells and notes.
func (r Row) remarks() string {
	var parts []string
	if r.distorted() {
		parts = append(parts, distortedRemark)
	}
	if len(r.Labels) > 0 {
		parts = append(parts, strings.Join(r.Labels, ", "))
	}
	if len(r.SameAs) > 0 {
		parts = append(parts, "= "+strings.Join(r.SameAs, " = "))
	}
	parts = append(parts, r.Notes...)
	return strings.Join(parts, "; ")
}

// distortedRemark says what the labels of a distorted row mean.
const distortedRemark = "this machine did not keep up with the --mock-speed: times are upper bounds, rates lower bounds"

// header names the columns of the results table.
func (r *Report) header() []string {
	h := []string{"Exp", "Config", "Dataset", "TPS", "Latency", "Status", "Notes"}
	for _, l := range r.Levels {
		h = append(h, l+" tok/s")
	}
	return h
}

// cells gives a row's columns, as header names them.
func (r *Report) cells(row Row) []string {
	c := []string{row.Exp, row.Config, row.Dataset, figure(row.TPS, 2), latency(row.LatencySeconds), row.Status.String(), row.remarks()}
	for _, l := range r.Levels {
		c = append(c, row.throughput(l))
	}
	for i := range c {
		c[i] = oneLine(c[i])
		if c[i] == "" {
			c[i] = "-"
		}
	}
	return c
}

// legend explains the table's columns and marks.
func (r *Report) legend() []string {
	out := []string{"TPS (tokens/s of one stream) and latency: level c1. c16: 16 requests at a time; r2.5: 2.5 requests offered a second; tok/s: output tokens per second of the whole level."}
	if slices.ContainsFunc(r.Rows, func(row Row) bool { return strings.HasSuffix(row.Exp, "*") }) {
		out = append(out, "*: settings differ from the plan's cell.")
	}
	if slices.ContainsFunc(r.Rows, func(row Row) bool {
		return slices.ContainsFunc(row.Levels, func(l Level) bool { return !l.Valid && l.Completed > 0 })
	}) {
		out = append(out, "!: this level is not valid.")
	}
	if slices.ContainsFunc(r.Rows, func(row Row) bool { return len(row.SameAs) > 0 }) {
		out = append(out, "Cells joined by = are one configuration, measured once.")
	}
	if slices.ContainsFunc(r.Rows, func(row Row) bool { return slices.Contains(row.Labels, "mock") }) {
		out = append(out, "mock: figures of the mock server, not of GPUs.")
	}
	return out
}

// text is what markdown writes, without its marks and in 80 columns.
func (r *Report) text(b *bytes.Buffer) {
	line := func(prefix, s string) { b.WriteString(fold.Under(prefix, s, terminalWidth)) }
	line("", cmp.Or(r.Title, "Results"))
	b.WriteString("\n")
	if r.Baseline != nil {
		line("", "Baseline "+r.Baseline.Exp)
		for _, row := range append([][]string{{"", "published", "measured"}}, r.Baseline.table()...) {
			fmt.Fprintf(b, "  %-18s %16s %16s\n", row[0], row[1], row[2])
		}
		for _, n := range r.Baseline.Notes {
			line("  ", n)
		}
		b.WriteString("\n")
	}
	b.WriteString(r.Terminal())
	b.WriteString("\n")
	for _, l := range r.legend() {
		line("- ", l)
	}
	for _, u := range r.Unreadable {
		line("not readable: ", u)
	}
}

func (r *Report) markdown(b *bytes.Buffer) {
	fmt.Fprintf(b, "# %s\n", mdText(cmp.Or(r.Title, "Results")))
	if r.Created != nil {
		fmt.Fprintf(b, "\nWritten %s.\n", r.Created.Format("2006-01-02 15:04:05 UTC"))
	}
	if r.Baseline != nil {
		fmt.Fprintf(b, "\n## Baseline Configuration (%s)\n\n", mdText(r.Baseline.Exp))
		mdTable(b, []string{"Metric", "Published", "Measured"}, r.Baseline.table())
		for _, n := range r.Baseline.Notes {
			fmt.Fprintf(b, "\n%s\n", mdText(n))
		}
	}
	fmt.Fprint(b, "\n## Experiment Results Table\n\n")
	var rows [][]string
	for _, row := range r.Rows {
		rows = append(rows, r.cells(row))
	}
	mdTable(b, r.header(), rows)
	fmt.Fprintln(b)
	for _, l := range r.legend() {
		fmt.Fprintf(b, "- %s\n", mdText(l))
	}
	if len(r.Unreadable) > 0 {
		fmt.Fprint(b, "\n## Not readable\n\n")
		for _, u := range r.Unreadable {
			fmt.Fprintf(b, "- %s\n", mdText(u))
		}
	}
}

// table gives the baseline's lines: metric, published, measured.
func (b *Baseline) table() [][]string {
	var rows [][]string
	for _, l := range b.Rows {
		show := func(v *float64) string {
			s := figure(v, l.Digits)
			if v != nil && l.Unit != "" {
				s += " " + l.Unit
			}
			return s
		}
		rows = append(rows, []string{l.Metric, show(l.Published), show(l.Measured)})
	}
	return rows
}

func mdTable(b *bytes.Buffer, header []string, rows [][]string) {
	line := func(cells []string) {
		b.WriteString("|")
		for _, c := range cells {
			b.WriteString(" " + mdText(c) + " |")
		}
		b.WriteString("\n")
	}
	line(header)
	b.WriteString("|" + strings.Repeat("---|", len(header)) + "\n")
	for _, r := range rows {
		line(r)
	}
}

// mdText escapes what Markdown, or the HTML in it, would act upon, and leaves
// the rest readable as it is: "5B*" and "failed_requests" need no escape.
func mdText(s string) string {
	var b strings.Builder
	r := []rune(s)
	at := func(i int) rune {
		if i < 0 || i >= len(r) {
			return ' '
		}
		return r[i]
	}
	word := func(c rune) bool { return unicode.IsLetter(c) || unicode.IsDigit(c) }
	for i, c := range r {
		switch c {
		case '<':
			b.WriteString("&lt;")
			continue
		case '>':
			b.WriteString("&gt;")
			continue
		case '&':
			b.WriteString("&amp;")
			continue
		case '\\', '|', '`', '[', ']', '~':
			b.WriteByte('\\')
		case '*': // opens emphasis unless a blank follows
			if !unicode.IsSpace(at(i + 1)) {
				b.WriteByte('\\')
			}
		case '_': // does so only at the edge of a word
			if !(word(at(i-1)) && word(at(i+1))) && !unicode.IsSpace(at(i+1)) {
				b.WriteByte('\\')
			}
		case '#': // makes a heading at the beginning
			if i == 0 {
				b.WriteByte('\\')
			}
		}
		b.WriteRune(c)
	}
	return b.String()
}

// csvHeader names the columns of the CSV file: one line a row and level. The
// units are in the names; a reader takes columns by name, new ones come at the
// end.
var csvHeader = []string{"exp", "config", "dataset", "status", "codes", "level", "tps", "latency_s", "output_throughput_tok_s",
	"steady_output_throughput_tok_s", "mean_ttft_ms", "mean_tpot_ms", "mean_prompt_tokens", "mean_completion_tokens",
	"completed", "requests", "level_valid", "labels", "starts", "vllm_version", "node", "same_as", "notes"}

func (r *Report) csv(b *bytes.Buffer) error {
	w := csv.NewWriter(b)
	if err := w.Write(csvHeader); err != nil {
		return err
	}
	num := func(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
	for _, row := range r.Rows {
		head := []string{row.Exp, row.Config, row.Dataset, row.Status.String(), strings.Join(row.Status.Codes, " ")}
		tail := []string{strings.Join(row.Labels, " "), strconv.Itoa(row.Starts), row.VLLMVersion, row.Node, strings.Join(row.SameAs, " "), strings.Join(row.Notes, "; ")}
		levels := row.Levels
		if len(levels) == 0 {
			levels = []Level{{}}
		}
		for _, l := range levels {
			middle := make([]string, 12)
			middle[0] = l.Name
			if l.Name != "" {
				middle = []string{l.Name, num(l.TPS), num(l.LatencySeconds), num(l.OutputThroughput), num(l.SteadyThroughput),
					num(l.MeanTTFTms), num(l.MeanTPOTms), num(l.PromptTokens), num(l.CompletionTokens),
					strconv.Itoa(l.Completed), strconv.Itoa(l.Requests), strconv.FormatBool(l.Valid)}
			}
			line := slices.Concat(head, middle, tail)
			for i, c := range line {
				line[i] = csvText(c)
			}
			if err := w.Write(line); err != nil {
				return err
			}
		}
	}
	w.Flush()
	return w.Error()
}

// csvText keeps a spreadsheet from taking a text for a formula.
func csvText(s string) string {
	s = oneLine(s)
	if s != "" && strings.ContainsRune("=+-@", rune(s[0])) {
		if _, err := strconv.ParseFloat(s, 64); err != nil {
			return "'" + s
		}
	}
	return s
}
