package report

import (
	"fmt"
	"html/template"
	"io"
)

// html writes one file that needs nothing else: no script, no network, no
// outside font. The policy in it forbids what a text might smuggle in.
func (r *Report) html(w io.Writer) error {
	type bar struct {
		Label, Value string
		Percent      float64 // of the longest
		Valid        bool
	}
	type chart struct {
		Title string
		Bars  []bar
	}
	type cell struct {
		Name, Text string
		// Class is "n" for a number, "e" where there is nothing, "w" for prose.
		Class string
	}
	type line struct {
		Cells []cell
		Class string
	}
	doc := struct {
		Title, Created string
		Header         []cell
		Rows           []line
		Baseline       *Baseline
		BaselineRows   [][]string
		Charts         []chart
		Legend         []string
		Unreadable     []string
	}{Title: r.Title, Baseline: r.Baseline, Legend: r.legend(), Unreadable: r.Unreadable}
	if doc.Title == "" {
		doc.Title = "Results"
	}
	if r.Created != nil {
		doc.Created = r.Created.Format("2006-01-02 15:04:05 UTC")
	}
	if r.Baseline != nil {
		doc.BaselineRows = r.Baseline.table()
	}
	header := r.header()
	classOf := func(i int) string {
		switch header[i] {
		case "Exp", "Config", "Dataset":
			return ""
		case "Status", "Notes":
			return "w"
		}
		return "n"
	}
	for i, name := range header {
		doc.Header = append(doc.Header, cell{Text: name, Class: classOf(i)})
	}
	for _, row := range r.Rows {
		class := "other"
		switch row.Status.Kind {
		case "valid", "refused", StatusPending:
			class = row.Status.Kind
		}
		l := line{Class: class}
		for i, text := range r.cells(row) {
			c := cell{header[i], text, classOf(i)}
			if text == "-" {
				c.Class += " e"
			}
			l.Cells = append(l.Cells, c)
		}
		doc.Rows = append(doc.Rows, l)
	}
	levels := append([]string{FirstLevel}, r.Levels...)
	for _, name := range levels {
		// One chart a level: figures of different levels share no axis.
		c := chart{Title: fmt.Sprintf("Level %s: output tokens per second", name)}
		top := 0.0
		for _, row := range r.Rows {
			if l, ok := row.Level(name); ok && l.Completed > 0 {
				top = max(top, l.OutputThroughput)
			}
		}
		for _, row := range r.Rows {
			l, ok := row.Level(name)
			if !ok || l.Completed == 0 || !(top > 0) {
				continue
			}
			c.Bars = append(c.Bars, bar{Label: row.Exp + " " + row.Config + " " + row.Dataset, Value: row.throughput(name),
				Percent: 100 * max(l.OutputThroughput, 0) / top, Valid: l.Valid})
		}
		if len(c.Bars) > 0 {
			doc.Charts = append(doc.Charts, c)
		}
	}
	return page.Execute(w, doc)
}

var page = template.Must(template.New("page").Parse(`<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{.Title}}</title>
<style>
body{font:15px/1.45 system-ui,sans-serif;margin:2em auto;max-width:90em;padding:0 1em;color:#222;background:#fff}
table{border-collapse:collapse;margin:1em 0}th,td{border:1px solid #ccc;padding:.25em .6em;text-align:left;vertical-align:top}
th{background:#f2f2f2}.n{text-align:right}td.n{white-space:nowrap}
.rows td.w{min-width:9em}.rows td:nth-child(7){min-width:17em}.rows td:first-child,.rows td:nth-child(2){white-space:nowrap}.wide{overflow-x:auto}
tr.pending td{color:#767676}tr.other td:nth-child(6){color:#a40000}tr.refused td:nth-child(6){color:#7a5200}
tr.valid td:nth-child(6){color:#146c2e}
.chart div{display:grid;grid-template-columns:16em 1fr 6em;gap:0 .6em;align-items:center}.chart .v{text-align:right}
.chart i{display:block;height:1.1em;background:#4878a8;margin:.15em 0}.chart i.x{background:#bbb}
@media (max-width:50em){
.rows thead{display:none}.rows,.rows tbody,.rows tr{display:block}.rows tr{border:1px solid #ccc;margin:0 0 .8em}
.rows td{display:grid;grid-template-columns:7em 1fr;border:0;text-align:left;white-space:normal!important;min-width:0!important}
.rows td::before{content:attr(data-name);color:#767676}.rows td.e{display:none}
.rows td:first-child{background:#f2f2f2;font-weight:bold}
.chart div{grid-template-columns:1fr 5em;margin-bottom:.5em}.chart .l{grid-column:1/3}
}
@media (prefers-color-scheme:dark){body{background:#181818;color:#ddd}th,.rows td:first-child{background:#2a2a2a}
table th,table td,.rows tr{border-color:#444}tr.pending td,.rows td::before{color:#999}
tr.other td:nth-child(6){color:#ff8a80}tr.refused td:nth-child(6){color:#e0b060}tr.valid td:nth-child(6){color:#7fd08f}}
</style>
</head>
<body>
<h1>{{.Title}}</h1>
{{- if .Created}}
<p>Written {{.Created}}.</p>
{{- end}}
{{- with .Baseline}}
<h2>Baseline Configuration ({{.Exp}})</h2>
<table>
<tr><th>Metric</th><th>Published</th><th>Measured</th></tr>
{{- range $.BaselineRows}}
<tr>{{range .}}<td>{{.}}</td>{{end}}</tr>
{{- end}}
</table>
{{- range .Notes}}
<p>{{.}}</p>
{{- end}}
{{- end}}
<h2>Experiment Results Table</h2>
<div class="wide"><table class="rows">
<thead><tr>{{range .Header}}<th class="{{.Class}}">{{.Text}}</th>{{end}}</tr></thead>
<tbody>
{{- range .Rows}}
<tr class="{{.Class}}">{{range .Cells}}<td class="{{.Class}}" data-name="{{.Name}}">{{.Text}}</td>{{end}}</tr>
{{- end}}
</tbody></table></div>
<ul>
{{- range .Legend}}
<li>{{.}}</li>
{{- end}}
</ul>
{{- range .Charts}}
<h2>{{.Title}}</h2>
<div class="chart">
{{- range .Bars}}
<div><span class="l">{{.Label}}</span><span><i{{if not .Valid}} class="x"{{end}} style="width:{{printf "%.1f" .Percent}}%"></i></span><span class="v">{{.Value}}</span></div>
{{- end}}
</div>
{{- end}}
{{- if .Unreadable}}
<h2>Not readable</h2>
<ul>
{{- range .Unreadable}}
<li>{{.}}</li>
{{- end}}
</ul>
{{- end}}
</body>
</html>
`))
