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
		Y, Width     float64
		Valid        bool
	}
	type chart struct {
		Title  string
		Height float64
		Bars   []bar
	}
	type line struct {
		Cells []string
		Class string
	}
	doc := struct {
		Title, Created string
		Header         []string
		Rows           []line
		Baseline       *Baseline
		BaselineRows   [][]string
		Charts         []chart
		Legend         []string
		Unreadable     []string
	}{Title: r.Title, Header: r.header(), Baseline: r.Baseline, Legend: r.legend(), Unreadable: r.Unreadable}
	if doc.Title == "" {
		doc.Title = "Results"
	}
	if r.Created != nil {
		doc.Created = r.Created.Format("2006-01-02 15:04:05 UTC")
	}
	if r.Baseline != nil {
		doc.BaselineRows = r.Baseline.table()
	}
	for _, row := range r.Rows {
		class := "other"
		switch row.Status.Kind {
		case "valid", "refused", StatusPending:
			class = row.Status.Kind
		}
		doc.Rows = append(doc.Rows, line{Cells: r.cells(row), Class: class})
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
				Y: float64(len(c.Bars)) * 22, Width: 480 * max(l.OutputThroughput, 0) / top, Valid: l.Valid})
		}
		c.Height = float64(len(c.Bars)) * 22
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
body{font:15px/1.45 system-ui,sans-serif;margin:2em auto;max-width:75em;padding:0 1em;color:#222;background:#fff}
table{border-collapse:collapse;margin:1em 0}th,td{border:1px solid #ccc;padding:.25em .6em;text-align:left;vertical-align:top}
th{background:#f2f2f2}tr.pending td{color:#777}tr.other td:nth-child(6){color:#a40000}tr.refused td:nth-child(6){color:#7a5200}
tr.valid td:nth-child(6){color:#146c2e}svg text{font:13px system-ui,sans-serif;fill:#222}.b{fill:#4878a8}.n{fill:#bbb}
@media (prefers-color-scheme:dark){body{background:#181818;color:#ddd}th{background:#2a2a2a}th,td{border-color:#444}svg text{fill:#ddd}
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
<table>
<tr>{{range .Header}}<th>{{.}}</th>{{end}}</tr>
{{- range .Rows}}
<tr class="{{.Class}}">{{range .Cells}}<td>{{.}}</td>{{end}}</tr>
{{- end}}
</table>
<ul>
{{- range .Legend}}
<li>{{.}}</li>
{{- end}}
</ul>
{{- range .Charts}}
<h2>{{.Title}}</h2>
<svg role="img" aria-label="{{.Title}}" width="860" height="{{.Height}}">
{{- range .Bars}}
<text x="0" y="{{.Y}}" dy="15">{{.Label}}</text><rect class="{{if .Valid}}b{{else}}n{{end}}" x="260" y="{{.Y}}" width="{{printf "%.1f" .Width}}" height="18"/><text x="750" y="{{.Y}}" dy="15">{{.Value}}</text>
{{- end}}
</svg>
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
