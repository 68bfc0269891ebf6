package selftest

import (
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/tidwall/gjson"
)

// record is what the harness kept of one request, read back without its own
// packages.
type record struct {
	id, sample, phase, outcome string
	requested                  int
	segment                    int
	intended                   int64
	lifetime
	// at are the events' times, and counts their tokens.
	counts []int
}

// readLines reads a zstd file of JSON lines.
func readLines(path string) ([]gjson.Result, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	defer dec.Close()
	plain, err := dec.DecodeAll(data, nil)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var out []gjson.Result
	for _, line := range bytes.Split(bytes.TrimSpace(plain), []byte("\n")) {
		if len(line) == 0 {
			continue
		}
		if !gjson.ValidBytes(line) {
			return nil, fmt.Errorf("%s:%d: not JSON", path, len(out)+1)
		}
		out = append(out, gjson.ParseBytes(line))
	}
	return out, nil
}

// readRecords reads a level's requests.jsonl.zst.
func readRecords(level string) ([]record, error) {
	lines, err := readLines(filepath.Join(level, "requests.jsonl.zst"))
	if err != nil {
		return nil, err
	}
	var out []record
	for _, v := range lines {
		r := record{
			id: v.Get("request_id").Str, sample: v.Get("sample_id").Str, phase: v.Get("phase").Str, outcome: v.Get("outcome").Str,
			requested: int(v.Get("requested_tokens").Int()), segment: int(v.Get("segment").Int()), intended: v.Get("intended_ns").Int(),
			lifetime: lifetime{
				sent: v.Get("sent_ns").Int(), first: v.Get("first_token_ns").Int(), last: v.Get("last_token_ns").Int(), end: v.Get("end_ns").Int(),
				prompt: int(v.Get("prompt_tokens").Int()), tokens: int(v.Get("completion_tokens").Int()),
			},
		}
		v.Get("events").ForEach(func(_, e gjson.Result) bool {
			r.chunks = append(r.chunks, e.Get("0").Int())
			r.counts = append(r.counts, int(e.Get("1").Int()))
			return true
		})
		out = append(out, r)
	}
	return out, nil
}

// level is one level's folder beside what the mock knows of it.
type level struct {
	name    string
	dir     string
	run     gjson.Result // run.json
	records []record
	// truths of all its requests, and of those of the main phase, by request id
	// as the client has it.
	truths map[string]truth
	want   summary
	noise  noise
	speed  float64
}

// main are the records of the main phase that ended well.
func (l *level) main() []record {
	return slices.DeleteFunc(slices.Clone(l.records), func(r record) bool { return r.phase != "main" || r.outcome != "ok" })
}

// readLevel reads a level back and sets the truth beside it.
func readLevel(start, name string, truths map[string]truth, speed float64) (*level, error) {
	l := &level{name: name, dir: filepath.Join(start, name), truths: map[string]truth{}, speed: speed}
	data, err := os.ReadFile(filepath.Join(l.dir, "run.json"))
	if err != nil {
		return nil, err
	}
	if !gjson.ValidBytes(data) {
		return nil, fmt.Errorf("%s: run.json is not JSON", l.dir)
	}
	l.run = gjson.ParseBytes(data)
	if l.records, err = readRecords(l.dir); err != nil {
		return nil, err
	}
	var main []lifetime
	for _, r := range l.records {
		t, ok := findTruth(truths, r.id)
		if !ok && len(r.chunks) > 0 {
			return nil, fmt.Errorf("%s: the mock knows of no request %s", l.dir, r.id)
		}
		l.truths[r.id] = t
		if r.phase == "main" && r.outcome == "ok" {
			if len(t.written) == 0 {
				return nil, fmt.Errorf("%s: request %s is ok here, but the mock wrote no token", l.dir, r.id)
			}
			main = append(main, t.lifetime())
		}
	}
	l.want = summarize(main, speed)
	l.noise.of(l.main(), l.truths, l.run.Get("clock.start_unix_ns").Int())
	return l, nil
}

// findTruth finds a request by the id that its client gave it: the server puts
// a kind before it.
func findTruth(truths map[string]truth, id string) (truth, bool) {
	for _, prefix := range []string{"cmpl-", "chatcmpl-", ""} {
		if t, ok := truths[prefix+id]; ok {
			return t, true
		}
	}
	return truth{}, false
}

// figures compares run.json's flat keys with the truth.
func (l *level) figures() []Figure {
	return l.againstTruth(l.name, func(key string) (float64, float64, bool) {
		switch key {
		case "mean_prompt_tokens", "mean_completion_tokens":
			return 0, 0, false // the report's own
		}
		v := l.run.Get(gjsonKey(key))
		if !v.Exists() {
			return absent, 0, true
		}
		return v.Num, 0, true
	})
}

// absent stands for a figure that is not there; no figure of ours is negative.
const absent = -1.0

func gjsonKey(key string) string { return strings.ReplaceAll(key, ".", `\.`) }

// checkRecords compares each request's record with the mock's line of it, and
// run.json with the records, from which it must follow exactly.
func (l *level) checkRecords(t *tally) {
	start := l.run.Get("clock.start_unix_ns").Int()
	var late []float64
	for _, r := range l.records {
		truth := l.truths[r.id]
		if r.outcome != "ok" {
			t.fail("%s: request %s: %s", l.name, r.id, r.outcome)
			continue
		}
		if r.tokens != len(truth.written) || r.prompt != truth.prompt {
			t.fail("%s: request %s: %d prompt and %d output tokens, by the mock %d and %d", l.name, r.id, r.prompt, r.tokens, truth.prompt, len(truth.written))
		}
		told := 0
		for _, n := range r.counts {
			told += n
		}
		if len(r.chunks) == 0 || r.first != r.chunks[0] || r.last != r.chunks[len(r.chunks)-1] || r.end < r.last || r.sent < r.intended {
			t.fail("%s: request %s: intended, sent, first token, last token, end at %d, %d, %d, %d, %d ns do not fit its %d events", l.name, r.id, r.intended, r.sent, r.first, r.last, r.end, len(r.chunks))
			continue
		}
		chunks := truth.chunks()
		if told != r.tokens || len(r.chunks) != len(chunks) {
			t.fail("%s: request %s: %d tokens in %d events, by the mock %d in %d", l.name, r.id, told, len(r.chunks), len(truth.written), len(chunks))
			continue
		}
		for i, at := range r.chunks {
			late = append(late, float64(start+at-chunks[i])/1e6)
		}
	}
	slices.Sort(late)
	if n := len(late); n > 0 {
		// Half of the events on time say that both clocks agree; the rest is the
		// machine's business.
		t.add(Figure{Name: l.name + " median time from the mock's write to our timestamp, ms", Got: late[n/2], Truth: 0, Allowed: slackMS})
		t.note("%s: events read %.2f ms (p50), %.2f ms (p99) after the mock wrote them", l.name, late[n/2], late[min(n-1, n*99/100)])
	}
	if l.noise.mean > busyMS {
		t.fail("%s: our clock readings of a request are %.1f ms from the mock's on average (limit %g ms): times are taken wrongly, or this machine is too busy to check figures", l.name, l.noise.mean, busyMS)
	}
	var main []lifetime
	for _, r := range l.main() {
		main = append(main, r.lifetime)
	}
	again := summarize(main, l.speed)
	delete(again, "mean_prompt_tokens")
	delete(again, "mean_completion_tokens")
	for _, key := range sortedKeys(again) {
		v := l.run.Get(gjsonKey(key))
		got := v.Num
		if !v.Exists() {
			got = absent
		}
		// run.json follows from the records by arithmetic alone.
		t.add(Figure{Name: l.name + " " + key + " from the records", Got: got, Truth: again[key], Allowed: 1e-6*abs(again[key]) + 1e-9})
	}
}

// checkCounts compares whole numbers: requests and tokens of the level in
// run.json, in the server's counters and in the mock's truth.
func (l *level) checkCounts(t *tally) {
	var prompt, output, main int
	for _, r := range l.records {
		truth := l.truths[r.id]
		prompt += truth.prompt
		output += len(truth.written)
		if r.phase == "main" {
			main++
		}
	}
	for _, c := range []struct {
		key  string
		want int
	}{
		{"tokens.server_counter.requests", len(l.records)}, {"tokens.server_counter.prompt_tokens", prompt},
		{"tokens.server_counter.generation_tokens", output}, {"tokens.client.requests", len(l.records)},
		{"tokens.client.prompt_tokens", prompt}, {"tokens.client.completion_tokens", output},
		{"requests", main}, {"num_prompts", main}, {"failed", 0}, {"cancelled", 0},
	} {
		v := l.run.Get(c.key)
		got := v.Num
		if !v.Exists() {
			got = absent
		}
		t.add(Figure{Name: l.name + " " + c.key, Got: got, Truth: float64(c.want)})
	}
}

// checkVerdict wants a valid level. What only says that this machine is busy is
// let through: it is a fault of the place, not of the program.
func (l *level) checkVerdict(t *tally) {
	for _, reason := range l.run.Get("validity.reasons").Array() {
		text := reason.Str + ": " + l.run.Get("validity.details."+reason.Str).Str
		if slices.Contains(machineReasons, reason.Str) {
			t.note("%s: this machine is busy: %s", l.name, text)
			continue
		}
		t.fail("%s is not valid: %s", l.name, text)
	}
}

// machineReasons are verdicts about the machine, not about server or program.
var machineReasons = []string{"client_saturated", "clock_stepped"}

// program runs glm46 and returns its exit code, stdout and stderr.
func (w *world) exec(ctx context.Context, environ []string, args ...string) (code int, stdout, stderr string, err error) {
	cmd := exec.CommandContext(ctx, w.program, args...)
	cmd.Dir, cmd.Env = w.dir, append(slices.Clone(w.environ), environ...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	if cmd.ProcessState != nil && cmd.ProcessState.Exited() {
		return cmd.ProcessState.ExitCode(), out.String(), errs.String(), nil
	}
	return -1, out.String(), errs.String(), fmt.Errorf("glm46 %s: %w\n%s", strings.Join(args, " "), err, errs.String())
}

// printed is a table as the program prints it: rows by their first column.
type printed struct {
	header []string
	rows   map[string][]string
}

func (p printed) cell(row, column string) (string, bool) {
	i := slices.Index(p.header, column)
	cells, ok := p.rows[row]
	if i < 0 || !ok || i >= len(cells) {
		return "", false
	}
	return cells[i], true
}

// markdownTable reads the table whose header begins with "Exp".
func markdownTable(text string) printed {
	p := printed{rows: map[string][]string{}}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") {
			if len(p.rows) > 0 {
				break
			}
			continue
		}
		var cells []string
		for _, c := range strings.Split(strings.Trim(line, "|"), "|") {
			cells = append(cells, strings.TrimSpace(c))
		}
		switch {
		case cells[0] == "Exp":
			p.header = cells
		case p.header != nil && !strings.HasPrefix(cells[0], "---"):
			p.rows[cells[0]] = cells
		}
	}
	return p
}

// terminalTable reads the table that run prints at its end: columns parted by
// two blanks or more.
func terminalTable(text string) printed {
	p := printed{rows: map[string][]string{}}
	for line := range strings.Lines(text) {
		var cells []string
		for _, c := range strings.Split(strings.TrimRight(line, "\n"), "  ") {
			if c = strings.TrimSpace(c); c != "" {
				cells = append(cells, c)
			}
		}
		switch {
		case len(cells) > 3 && cells[0] == "Exp":
			p.header = cells
		case p.header != nil && len(cells) == len(p.header):
			p.rows[cells[0]] = cells
		}
	}
	return p
}

// number reads a printed figure: "8.69", "58.9s", "28.9 !". rounding is half a
// unit of its last digit.
func number(text string) (v, rounding float64, ok bool) {
	text = strings.TrimSuffix(strings.TrimSuffix(strings.TrimSpace(text), " !"), "s")
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0, 0, false
	}
	rounding = 0.5
	if _, decimals, found := strings.Cut(text, "."); found {
		for range decimals {
			rounding /= 10
		}
	}
	return v, rounding, true
}

// checkPrinted compares the figures of a printed table: TPS and latency of
// level c1, output throughput of the others.
func checkPrinted(t *tally, what string, p printed, row string, levels []*level) {
	if _, ok := p.rows[row]; !ok {
		t.fail("%s: no row %s", what, row)
		return
	}
	for _, l := range levels {
		columns := map[string]string{l.name + " tok/s": "output_throughput"}
		if l.name == "c1" {
			columns = map[string]string{"TPS": "tps", "Latency": "latency"}
		}
		for column, key := range columns {
			text, ok := p.cell(row, column)
			if !ok {
				t.fail("%s: row %s has no column %q", what, row, column)
				continue
			}
			v, rounding, ok := number(text)
			if !ok {
				t.fail("%s: row %s, column %s: %q is no figure", what, row, column, text)
				continue
			}
			t.add(l.againstTruth(fmt.Sprintf("%s %s %s", what, row, l.name), func(k string) (float64, float64, bool) {
				return v, rounding, k == key
			})...)
		}
	}
}

// reportKeys names the figures of a level in the report's JSON and CSV.
var reportKeys = []struct{ key, json, csv string }{
	{"tps", "tps", "tps"}, {"latency", "latency_s", "latency_s"}, {"output_throughput", "output_throughput", "output_throughput_tok_s"},
	{"mean_ttft_ms", "mean_ttft_ms", "mean_ttft_ms"}, {"mean_tpot_ms", "mean_tpot_ms", "mean_tpot_ms"},
	{"mean_prompt_tokens", "mean_prompt_tokens", "mean_prompt_tokens"}, {"mean_completion_tokens", "mean_completion_tokens", "mean_completion_tokens"},
	{"completed", "completed", "completed"},
}

// checkReportJSON compares a row of the JSON report.
func checkReportJSON(t *tally, report gjson.Result, row string, levels []*level) {
	r := report.Get(`rows.#(exp=="` + row + `")`)
	if !r.Exists() {
		t.fail("json: no row %s", row)
		return
	}
	for _, l := range levels {
		have := r.Get(`levels.#(name=="` + l.name + `")`)
		t.add(l.againstTruth("json "+row+" "+l.name, func(key string) (float64, float64, bool) {
			for _, k := range reportKeys {
				if k.key == key {
					v := have.Get(k.json)
					if !v.Exists() {
						return absent, 0, true
					}
					return v.Num, 0, true
				}
			}
			return 0, 0, false
		})...)
		if l.name == "c1" {
			t.add(l.againstTruth("json "+row+" (row)", func(key string) (float64, float64, bool) {
				switch key {
				case "tps":
					return r.Get("tps").Num, 0, true
				case "latency":
					return r.Get("latency_s").Num, 0, true
				}
				return 0, 0, false
			})...)
		}
	}
}

// checkCSV compares the lines of the CSV report that belong to a row.
func checkCSV(t *tally, text, row string, levels []*level) {
	lines, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if t.err(err, "csv") || len(lines) == 0 {
		return
	}
	column := func(line []string, name string) string {
		if i := slices.Index(lines[0], name); i >= 0 {
			return line[i]
		}
		return ""
	}
	for _, l := range levels {
		at := slices.IndexFunc(lines, func(line []string) bool {
			return column(line, "exp") == row && column(line, "level") == l.name
		})
		if at < 0 {
			t.fail("csv: no line for %s, level %s", row, l.name)
			continue
		}
		t.add(l.againstTruth("csv "+row+" "+l.name, func(key string) (float64, float64, bool) {
			for _, k := range reportKeys {
				if k.key == key {
					v, err := strconv.ParseFloat(column(lines[at], k.csv), 64)
					if err != nil {
						v = absent
					}
					return v, 0, true
				}
			}
			return 0, 0, false
		})...)
	}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
