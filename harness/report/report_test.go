package report

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/glm46/glm46/harness/experiment"
	"github.com/glm46/glm46/harness/measure"
	"github.com/glm46/glm46/harness/node"
	"github.com/glm46/glm46/harness/result"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func cells(t testing.TB) []experiment.Cell {
	t.Helper()
	c, err := experiment.Default().Resolve(experiment.Request{All: true, Lookup: func(string) (string, bool) { return "", false }})
	require.NoError(t, err)
	return c
}

func cell(t testing.TB, id string) experiment.Cell {
	t.Helper()
	for _, c := range cells(t) {
		if c.ID == id {
			return c
		}
	}
	t.Fatalf("no cell %s", id)
	return experiment.Cell{}
}

// level makes a level's run.json: n requests, all well, with plausible figures.
func level(name string, concurrency, n int, outputPerSecond, tps float64, v measure.Validity) *measure.RunJSON {
	r := measure.IncompleteRun()
	r.Level = measure.LevelInfo{Name: name, Concurrency: concurrency, Requests: n}
	m := &r.Metrics
	m.Requests, m.Completed = n, n
	m.PromptTokens, m.CompletionTokens = int64(n)*6103, int64(n)*512
	m.OutputThroughput, m.SteadyOutputThroughput = outputPerSecond, outputPerSecond*1.02
	m.TPS = measure.Distribution{N: n, Mean: tps}
	m.LatencySeconds = 512 / tps
	m.TTFT, m.TPOT = measure.Distribution{N: n, Mean: 900}, measure.Distribution{N: n, Mean: 1000 / tps}
	m.E2EL = measure.Distribution{N: n, Mean: 512000 / tps}
	m.DurationSeconds = 100
	r.Validity = v
	return r
}

var good = measure.Validity{OK: true, Reasons: []measure.Reason{}, Labels: []measure.Label{}}

func bad(reasons ...measure.Reason) measure.Validity {
	return measure.Validity{Reasons: reasons, Labels: []measure.Label{}}
}

// store writes starts into a RESULTS folder and reads them back, so that the
// files' forms are part of what is tested.
type store struct {
	t   testing.TB
	dir string
	at  time.Time
}

func newStore(t testing.TB) *store {
	return &store{t: t, dir: t.TempDir(), at: time.Date(2026, 11, 24, 17, 0, 0, 0, time.UTC)}
}

func (s *store) start(c experiment.Cell, change func(*result.StartJSON), v measure.Validity, levels ...*measure.RunJSON) {
	s.t.Helper()
	s.at = s.at.Add(time.Hour)
	j := result.StartJSON{Experiment: result.Experiment{ID: c.ID, Name: c.ExpName, Group: c.Group, Config: c.Config, Modified: c.Modified},
		Dataset: result.Dataset{Name: c.Dataset}, ConfigHash: c.ConfigHash, ResumeKey: "key of " + c.ConfigHash,
		VLLMVersion: "0.11.1", Server: &result.Server{ModelMemoryGiB: 82.14}, Node: &node.Info{Hostname: "node7"}}
	if change != nil {
		change(&j)
	}
	start, err := result.Create(s.dir, j, result.CreateOptions{Now: s.at})
	require.NoError(s.t, err)
	defer start.Abandon()
	for _, r := range levels {
		l, err := start.Level(r)
		require.NoError(s.t, err)
		if !slices.Contains(r.Validity.Reasons, measure.ReasonIncomplete) {
			require.NoError(s.t, l.Finish(r))
		}
	}
	if !slices.Contains(v.Reasons, measure.ReasonIncomplete) {
		require.NoError(s.t, start.Finish(v, s.at))
	}
}

func (s *store) read() []result.StartResult {
	s.t.Helper()
	all, err := result.ReadAll(s.dir)
	require.NoError(s.t, err)
	for i := range all {
		// Ids are random: give them names that golden files can hold.
		all[i].StartID = fmt.Sprintf("start-%d", i+1)
		all[i].Dir = filepath.Join("results", all[i].ExpName, all[i].DatasetName, all[i].StartID)
		if all[i].Err != nil {
			all[i].Err = errors.New(strings.ReplaceAll(all[i].Err.Error(), s.dir, "results"))
		}
	}
	return all
}

func custom(t testing.TB, id, name string) experiment.Cell {
	c := cell(t, id)
	c.ExpName, c.Modified, c.ConfigHash = name, true, "00000000deadbeef"
	return c
}

// everything is a RESULTS folder with every kind of outcome.
func everything(t testing.TB) []result.StartResult {
	s := newStore(t)
	mock := func(j *result.StartJSON) {
		j.Mock = &result.Mock{Version: "0.11.1", Speed: 100}
	}
	sped := good
	sped.Labels = []measure.Label{measure.LabelMock, measure.LabelSpedUp}
	s.start(cell(t, "1A"), nil, good, level("c1", 1, 5, 8.7, 8.69, good), level("c16", 16, 32, 120.4, 8.1, good), level("c100", 100, 100, 512.3, 6.2, good))
	s.start(cell(t, "1A"), nil, good, level("c1", 1, 5, 8.9, 8.89, good), level("c16", 16, 32, 121.4, 8.1, good), level("c100", 100, 100, 514.3, 6.2, good))
	s.start(cell(t, "1B"), nil, bad(measure.ReasonFailedRequests, measure.ReasonLittlesLaw), level("c1", 1, 5, 30, 31.4, good),
		level("c16", 16, 32, 300, 20, bad(measure.ReasonFailedRequests)), level("c100", 100, 100, 900, 10, bad(measure.ReasonLittlesLaw)))
	s.start(cell(t, "3B"), func(j *result.StartJSON) {
		j.Refused = &result.Refused{Class: "config_refused", KnownBefore: true,
			Reason:     "context parallelism needs more tensor-parallel ranks than KV heads",
			EngineText: "tensor parallel size 8 must be greater than total num kv heads 8 when enable decode context parallel for GQA/MQA"}
	}, bad(result.ReasonRefused))
	s.start(cell(t, "2B"), func(j *result.StartJSON) {
		j.Failed = &result.Failed{Class: "oom_load", Phase: "load", Lines: []string{"torch.OutOfMemoryError"}, Exit: "exit 1"}
	}, bad(result.ReasonFailedStart))
	s.start(cell(t, "4A"), func(j *result.StartJSON) { j.Progress = &result.Progress{Done: 77, Total: 137, Why: "SIGTERM"} },
		bad(measure.ReasonInterrupted), level("c1", 1, 5, 8.6, 8.6, good), level("c16", 16, 32, 118, 8, good),
		func() *measure.RunJSON {
			r := level("c100", 100, 40, 480, 6, bad(measure.ReasonInterrupted))
			r.Level.Requests, r.Metrics.Requests, r.Metrics.Cancelled = 100, 100, 60
			return r
		}())
	s.start(cell(t, "5B"), mock, sped, level("c1", 1, 5, 8.65, 8.66, sped), level("c16", 16, 32, 119, 8, sped), level("c100", 100, 100, 498.1, 6, sped))
	s.start(cell(t, "6B"), nil, measure.IncompleteValidity(), level("c1", 1, 0, 0, 0, measure.IncompleteValidity()))
	s.start(cell(t, "4D"), nil, good, level("c1", 1, 3, 8, 8, good), level("c16", 16, 32, 90, 7, good), level("c64", 64, 100, 260, 5, good))
	s.start(custom(t, "5B", "5B_kv_bf16"), func(j *result.StartJSON) { j.Notes = []string{"20 of 100 samples"} }, good, level("c4", 4, 20, 33.3, 8.4, good))
	s.start(experiment.Cell{ExpName: "bench", Dataset: "mine", Config: "gpu7:8000"}, func(j *result.StartJSON) { j.Kind = "bench" }, good, level("r2.5", 0, 20, 44, 9, good))
	late := good
	late.Labels = []measure.Label{measure.LabelMock, measure.LabelSpedUp, measure.LabelMockLate}
	s.start(experiment.Cell{ExpName: "bench", Dataset: "mine", Config: "127.0.0.1:8000"}, func(j *result.StartJSON) { j.Kind = "bench" }, late, level("c1", 1, 5, 4.4, 4.5, late))
	require.NoError(t, os.MkdirAll(filepath.Join(s.dir, "7B", "8k", "x"), 0o777))
	require.NoError(t, os.WriteFile(filepath.Join(s.dir, "7B", "8k", "x", result.StartFile), []byte("{"), 0o666))
	return s.read()
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.WriteFile(path, got, 0o666))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err, "run with -update")
	if !bytes.Equal(want, got) {
		t.Errorf("%s differs (go test -update rewrites it); got:\n%s", name, got)
	}
}

func TestGolden(t *testing.T) {
	p := experiment.Default()
	r := Build(cells(t), everything(t), Options{Title: "GLM-4.6 <results>", Published: p.Published, Created: time.Date(2026, 11, 25, 8, 0, 0, 0, time.UTC)})
	for _, f := range []Format{Markdown, JSON, CSV, HTML} {
		var b bytes.Buffer
		require.NoError(t, r.Write(&b, f))
		golden(t, "report."+string(f), b.Bytes())
	}
	golden(t, "report.txt", []byte(r.Terminal()))
	golden(t, "lines.txt", []byte(strings.Join(r.Lines(), "\n")+"\n"))
	var unknown *FormatError
	require.ErrorAs(t, r.Write(&bytes.Buffer{}, "pdf"), &unknown)
	require.Contains(t, unknown.Error(), "md, html, csv, json")
}

func TestOneRowACell(t *testing.T) {
	all := cells(t)
	r := Build(all, nil, Options{})
	if len(r.Rows) != len(all) || len(all) != 22 {
		t.Fatalf("%d rows for %d cells", len(r.Rows), len(all))
	}
	for i, row := range r.Rows {
		if row.Exp != all[i].ID || row.Status.String() != StatusPending || row.TPS != nil {
			t.Errorf("%+v", row)
		}
	}
	if r := Build(all, nil, Options{Partial: true}); len(r.Rows) != 0 {
		t.Errorf("measured rows only: %d", len(r.Rows))
	}
}

// What one cell measured, its equals show too; nobody else does.
func TestEqualCellsShowTheResult(t *testing.T) {
	s := newStore(t)
	s.start(cell(t, "1A"), nil, good, level("c1", 1, 5, 8.7, 8.69, good))
	var got []string
	for _, row := range Build(cells(t), s.read(), Options{}).Rows {
		if row.TPS != nil {
			got = append(got, row.Exp)
		}
	}
	if want := []string{"1A", "2A", "3A/8k", "4B", "5A", "6A", "7A", "8A"}; !slices.Equal(got, want) {
		t.Errorf("want %q, got %q", want, got)
	}
}

// Figures of other data, another version or another mock are never mixed in.
func TestOnlyLikeStartsAreAveraged(t *testing.T) {
	s := newStore(t)
	c := cell(t, "5B")
	s.start(c, nil, good, level("c1", 1, 5, 10, 10, good))
	s.start(c, func(j *result.StartJSON) { j.ResumeKey = "other version"; j.VLLMVersion = "0.14.0" }, good, level("c1", 1, 5, 50, 50, good))
	s.start(c, nil, bad(measure.ReasonGPUThrottled), level("c1", 1, 5, 1, 1, bad(measure.ReasonGPUThrottled)))
	s.start(c, nil, good, level("c1", 1, 5, 12, 12, good))
	row := Build([]experiment.Cell{c}, s.read(), Options{}).Rows[0]
	if *row.TPS != 11 || row.Starts != 2 || row.VLLMVersion != "0.11.1" || row.Status.Kind != "valid" {
		t.Errorf("%+v, TPS %g", row, *row.TPS)
	}
	notes := strings.Join(row.Notes, "; ")
	for _, want := range []string{"mean of 2 starts", "1 start with other data", "1 more start"} {
		if !strings.Contains(notes, want) {
			t.Errorf("%q does not say %q", notes, want)
		}
	}
}

// A newer start of another version that is not valid hides no valid one.
func TestValidKindsWin(t *testing.T) {
	s := newStore(t)
	c := cell(t, "5B")
	s.start(c, nil, good, level("c1", 1, 5, 10, 10, good))
	s.start(c, func(j *result.StartJSON) { j.ResumeKey = "other" }, bad(measure.ReasonLittlesLaw), level("c1", 1, 5, 50, 50, good))
	if row := Build([]experiment.Cell{c}, s.read(), Options{}).Rows[0]; *row.TPS != 10 || row.Status.Kind != "valid" {
		t.Errorf("%+v", row)
	}
}

func TestAStartWithoutKeyStandsAlone(t *testing.T) {
	s := newStore(t)
	c := cell(t, "5B")
	for _, tps := range []float64{10, 20} {
		s.start(c, func(j *result.StartJSON) { j.ResumeKey = "" }, good, level("c1", 1, 5, tps, tps, good))
	}
	row := Build([]experiment.Cell{c}, s.read(), Options{}).Rows[0]
	if *row.TPS != 20 || row.Starts != 1 {
		t.Errorf("%+v", row)
	}
}

// A finished start is shown rather than the one that it continues.
func TestBetterStartsWin(t *testing.T) {
	c := cell(t, "5B")
	for _, order := range [][]int{{0, 1, 2}, {2, 1, 0}, {1, 2, 0}} {
		s := newStore(t)
		for _, k := range order {
			switch k {
			case 0:
				s.start(c, func(j *result.StartJSON) { j.Progress = &result.Progress{Done: 1, Total: 137} }, bad(measure.ReasonInterrupted))
			case 1:
				s.start(c, nil, good, level("c1", 1, 5, 10, 10, good))
			case 2:
				s.start(c, nil, measure.IncompleteValidity())
			}
		}
		if row := Build([]experiment.Cell{c}, s.read(), Options{}).Rows[0]; row.Status.Kind != "valid" {
			t.Errorf("order %v: %s", order, row.Status)
		}
	}
}

func TestStatusWords(t *testing.T) {
	for want, s := range map[string]Status{
		"valid":                           {Kind: "valid"},
		"not valid (littles_law, x)":      {Kind: "not valid", Codes: []string{"littles_law", "x"}},
		"refused (too long)":              {Kind: "refused", Reason: "too long"},
		"interrupted 40/137":              {Kind: "interrupted", Done: 40, Total: 137},
		"interrupted":                     {Kind: "interrupted"},
		"pending":                         {Kind: StatusPending},
		"failed (oom_load in phase load)": {Kind: "failed", Reason: "oom_load in phase load"},
		"running 3/9":                     {Kind: "running", Done: 3, Total: 9},
	} {
		if s.String() != want {
			t.Errorf("want %q, got %q", want, s)
		}
	}
}

// Levels keep to their columns, whatever rows have which.
func TestLevelsNeverShareAColumn(t *testing.T) {
	r := Build(cells(t), everything(t), Options{})
	header := r.header()
	if want := []string{"c4 tok/s", "c16 tok/s", "c64 tok/s", "c100 tok/s", "r2.5 tok/s"}; !slices.Equal(header[7:], want) {
		t.Fatalf("columns %q", header)
	}
	for _, row := range r.Rows {
		line := r.cells(row)
		for i, name := range r.Levels {
			l, ok := row.Level(name)
			if !ok != (line[7+i] == "-") {
				t.Errorf("%s: %q in column %s", row.Exp, line[7+i], name)
			}
			if ok && !strings.HasPrefix(line[7+i], fmt.Sprintf("%.1f", l.OutputThroughput)) {
				t.Errorf("%s: %q in column %s", row.Exp, line[7+i], name)
			}
		}
		if _, ok := row.Level(FirstLevel); !ok && row.TPS != nil {
			t.Errorf("%s: TPS without level %s", row.Exp, FirstLevel)
		}
	}
}

const hostile = "</td><script>alert(1)</script>|`$(touch x)`\n| x |\x1b[31m\u202e <img src=http://192.0.2.1/x onerror=alert(1)> [l](javascript:alert(1)) =HYPERLINK(\"http://x\")"

func hostileReport(t testing.TB) *Report {
	s := newStore(t)
	s.start(cell(t, "5B"), func(j *result.StartJSON) {
		j.Experiment.Config, j.Experiment.Notes = hostile, hostile
		j.ConfigHash = "other"
		j.Notes = []string{hostile}
		j.VLLMVersion = "=cmd|' /C calc'!A0"
		j.Refused = &result.Refused{Class: hostile, Reason: hostile, EngineText: hostile}
		j.Node.Hostname = hostile
	}, measure.Validity{Reasons: []measure.Reason{hostile}, Labels: []measure.Label{hostile}},
		level("c1", 1, 5, 8, 8, measure.Validity{Reasons: []measure.Reason{hostile}, Labels: []measure.Label{hostile}}))
	starts := s.read()
	starts = append(starts, result.StartResult{Err: errors.New(hostile)})
	return Build(nil, starts, Options{Title: hostile, Published: &experiment.Published{Experiment: "5B", TPS: 1, Notes: hostile}})
}

// Texts from result files are untrusted: they land nowhere as markup, escape
// codes or formulas.
func TestHostileTexts(t *testing.T) {
	r := hostileReport(t)
	var page bytes.Buffer
	require.NoError(t, r.Write(&page, HTML))
	// What is left of tags after taking out those of our own template.
	own := regexp.MustCompile(`</?(!DOCTYPE html|html lang="en"|html|head|meta charset="utf-8"|meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'"|meta name="viewport" content="width=device-width, initial-scale=1"|title|style|body|h1|h2|p|table|tr class="[a-z]+"|tr|th|td|ul|li|div class="wide"|table class="rows"|thead|tbody|th class="[nw]?"|td class="[new ]*" data-name="[A-Za-z0-9./ ]*"|div|div class="chart"|span|span class="[lv]"|i|i( class="x")? style="width:[0-9.]+%")>`)
	rest := own.ReplaceAllString(page.String(), "")
	if strings.ContainsAny(rest, "<>") {
		i := strings.IndexAny(rest, "<>")
		t.Errorf("markup got through: %q", rest[max(0, i-80):min(len(rest), i+80)])
	}
	for _, never := range []string{"\x1b", "\u202e", "onerror=alert(1)>", "<script"} {
		if strings.Contains(page.String(), never) {
			t.Errorf("HTML holds %q", never)
		}
	}
	if m := regexp.MustCompile(`(?i)(src|href|url\(|@import|<link|<script|<iframe)`).FindString(rest); m != "" && strings.Contains(page.String(), "<"+m) {
		t.Errorf("HTML asks for something: %q", m)
	}

	var md bytes.Buffer
	require.NoError(t, r.Write(&md, Markdown))
	if s := md.String(); strings.ContainsAny(s, "<>\x1b") || regexp.MustCompile(`[^\\]\]\(`).MatchString(s) || regexp.MustCompile("[^\\\\]`").MatchString(s) {
		t.Errorf("Markdown:\n%s", s)
	}
	columns := 0
	for line := range strings.Lines(md.String()) {
		if strings.HasPrefix(line, "|") {
			n := len(regexp.MustCompile(`(^|[^\\])\|`).FindAllString(line, -1))
			if n != 4 && columns == 0 || n == 8 {
				columns = n
			}
			if n != 4 && n != columns {
				t.Errorf("%d columns, want %d: %s", n, columns, line)
			}
		}
	}

	var c bytes.Buffer
	require.NoError(t, r.Write(&c, CSV))
	recs, err := csv.NewReader(&c).ReadAll()
	require.NoError(t, err)
	for _, rec := range recs {
		for _, f := range rec {
			if strings.ContainsAny(f, "\n\x1b") || f != "" && strings.ContainsRune("=+-@", rune(f[0])) {
				t.Errorf("CSV field %q", f)
			}
		}
	}

	for line := range strings.Lines(r.Terminal() + strings.Join(r.Lines(), "\n")) {
		if strings.ContainsAny(strings.TrimSuffix(line, "\n"), "\x1b\n\r\x07") {
			t.Errorf("terminal line %q", line)
		}
	}
	var j bytes.Buffer
	require.NoError(t, r.Write(&j, JSON))
	require.True(t, json.Valid(j.Bytes()))
}

// The HTML file stands alone: nothing in it is fetched from anywhere.
func TestHTMLNeedsNoNetwork(t *testing.T) {
	r := Build(cells(t), everything(t), Options{Title: "x"})
	var b bytes.Buffer
	require.NoError(t, r.Write(&b, HTML))
	if m := regexp.MustCompile(`(?i)(https?:|//[a-z]|src=|href=|url\(|@import|<script|<link|<iframe)`).FindString(b.String()); m != "" {
		t.Errorf("the page holds %q", m)
	}
}

func TestTerminalKeepsTo80Columns(t *testing.T) {
	for _, r := range []*Report{Build(cells(t), everything(t), Options{}), hostileReport(t)} {
		for line := range strings.Lines(r.Terminal()) {
			if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > terminalWidth {
				t.Errorf("%d columns: %s", n, line)
			}
		}
	}
}

// TestBenchesAreRowsOfTheirOwn: nothing says that two benches met one server.
func TestBenchesAreRowsOfTheirOwn(t *testing.T) {
	var benches []Row
	for _, row := range Build(cells(t), everything(t), Options{}).Rows {
		if row.Exp == "bench" {
			benches = append(benches, row)
		}
	}
	require.Len(t, benches, 2)
	require.Equal(t, []string{"gpu7:8000", "127.0.0.1:8000"}, []string{benches[0].Config, benches[1].Config})
	require.NotContains(t, benches[0].remarks(), distortedRemark)
	require.Contains(t, benches[1].remarks(), distortedRemark, "mock_late under sped_up")
}

func TestTextFitsATerminal(t *testing.T) {
	for _, r := range []*Report{Build(cells(t), everything(t), Options{Published: experiment.Default().Published}), hostileReport(t)} {
		var b bytes.Buffer
		require.NoError(t, r.Write(&b, Text))
		for line := range strings.Lines(b.String()) {
			if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > terminalWidth {
				t.Errorf("%d columns: %s", n, line)
			}
		}
	}
}

func TestSameInputSameBytes(t *testing.T) {
	starts := everything(t)
	var first []byte
	for range 5 {
		var b bytes.Buffer
		require.NoError(t, Build(cells(t), starts, Options{}).Write(&b, JSON))
		if first == nil {
			first = b.Bytes()
		} else if !bytes.Equal(first, b.Bytes()) {
			t.Fatal("two reports of the same results differ")
		}
	}
}
