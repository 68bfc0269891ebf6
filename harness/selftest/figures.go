package selftest

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"github.com/glm46/glm46/harness"
	"github.com/glm46/glm46/harness/experiment"
	"github.com/glm46/glm46/mockvllm"
	"github.com/glm46/glm46/mockvllm/model"
	"github.com/glm46/glm46/mockvllm/vllm"
)

// attempts bound how often a measurement is repeated whose figures are off. What
// the machine did to one of them it does not do to all; a wrong formula does.
const attempts = 3

// measureAgain tries until the figures agree, at most attempts times, and keeps the
// last try's findings.
func measureAgain(ctx context.Context, t *tally, try func(n int, t *tally)) {
	for n := range attempts {
		found := &tally{name: t.name}
		try(n, found)
		if found.bad() && n+1 < attempts && ctx.Err() == nil {
			t.notes = append(t.notes, fmt.Sprintf("measured again, since try %d was off (%s)", n+1, found.first()))
			continue
		}
		found.notes = append(found.notes, t.notes...)
		*t = *found
		return
	}
}

// paceCampaign runs the selftest's own plan against a mock that gives every
// token at a known time: at speed 1, a request's tokens fall due 150 ms after it
// came and every 30 ms from then on.
func paceCampaign(ctx context.Context, w *world, t *tally) {
	measureAgain(ctx, t, func(n int, t *tally) {
		m, err := w.run(ctx, campaign{
			dir: "pace/" + strconv.Itoa(n+1), plan: w.plan(ctx), request: experiment.Request{Experiments: []string{"T1", "T2"}},
			speed: 1, args: []string{"--mock-ttft", "150ms", "--mock-itl", "30ms"},
			change: func(o *harness.Options) { o.NoCertificate = n > 0 },
		})
		if t.err(err, "campaign") || t.err(m.read(), "read the results") {
			return
		}
		m.checkOutcome(t)
		for _, c := range m.outcome.Cells {
			argv := startJSON(c).Get("argv").String()
			for _, flag := range []string{`"example/selftest-moe"`, `"--tensor-parallel-size","4"`, `"--seed","7"`} {
				if !strings.Contains(argv, flag) {
					t.fail("%s: the server was started without %s: %s", c.Cell.ID, flag, argv)
				}
			}
		}
		w.views(ctx, t, m, []string{"--plan", w.path("plan.yaml")}, []string{"--exp", "T1,T2"})
	})
}

// plan is the selftest's own plan.
func (w *world) plan(ctx context.Context) *experiment.Plan {
	if err := w.prepare(ctx); err != nil {
		return nil
	}
	return w.own
}

func startJSON(c harness.CellOutcome) gjson.Result {
	if len(c.Dirs) == 0 {
		return gjson.Result{}
	}
	data, err := os.ReadFile(filepath.Join(c.Dirs[len(c.Dirs)-1], "start.json"))
	if err != nil {
		return gjson.Result{}
	}
	return gjson.Parse(gjson.GetBytes(data, "@ugly").Raw)
}

// views compares everything that shows the figures of a campaign with the truth:
// run.json, the records, the reports, and the tables as they are printed.
func (w *world) views(ctx context.Context, t *tally, m *measurement, planArgs, cellArgs []string) {
	files, records, counts, reports, tables := t.part("run.json"), t.part("records"), t.part("counts"), t.part("reports"), t.part("tables")
	seen := 0
	for _, label := range sortedKeys(m.levels) {
		for _, l := range m.levels[label] {
			if len(l.main()) == 0 {
				files.fail("%s %s: no request of the main phase finished", label, l.name)
				continue
			}
			files.add(l.figures()...)
			l.checkRecords(records)
			l.checkCounts(counts)
			seen += len(l.records)
		}
	}
	if want(counts, "requests in the mock's truth file", len(m.truths), seen) {
		counts.note("%d requests, warm-up included", seen)
	}

	report := func(format string) (string, bool) {
		args := append([]string{"report", m.results, "--measured", "--format", format}, planArgs...)
		code, stdout, stderr, err := w.exec(ctx, nil, args...)
		if reports.err(err, "report") || !want(reports, "exit code of report --format "+format, code, 0) {
			reports.note("%s", stderr)
			return "", false
		}
		return stdout, true
	}
	if text, ok := report("json"); ok {
		for label, levels := range m.levels {
			checkReportJSON(reports, gjson.Parse(text), label, levels)
		}
	}
	if text, ok := report("csv"); ok {
		for label, levels := range m.levels {
			checkCSV(reports, text, label, levels)
		}
	}
	if text, ok := report("md"); ok {
		table := markdownTable(text)
		for label, levels := range m.levels {
			checkPrinted(tables, "report", table, label, levels)
		}
	}
	if m.outcome.Code != 0 {
		tables.note("the table of run was not looked at: the results are not valid, so run would measure again")
		return
	}
	// The same run finds its results and prints them.
	args := slices.Concat([]string{"run", "--mock", "--mock-speed", fmt.Sprint(m.options.Mock.Speed), "--mock-seed", strconv.Itoa(mockSeed),
		"--data", w.path(dataDir), "--results", m.results}, planArgs, cellArgs)
	code, stdout, stderr, err := w.exec(ctx, nil, args...)
	if tables.err(err, "run a second time") {
		return
	}
	if code != 0 || !strings.Contains(stderr, "already measured") {
		tables.fail("the same run a second time: exit code %d, and not \"already measured\": %s", code, stderr)
		return
	}
	table := terminalTable(stdout)
	for label, levels := range m.levels {
		checkPrinted(tables, "run", table, label, levels)
	}
}

// modelSpeed of the mock in the checks of the timing model: fast enough to be
// quick, slow enough for 2 ms of wall time to be little.
const modelSpeed = 20

// modelCampaign runs a cell of the plan against the timing model.
func modelCampaign(ctx context.Context, w *world, t *tally) {
	measureAgain(ctx, t, func(n int, t *tally) {
		plan := experiment.Default()
		m, err := w.run(ctx, campaign{
			dir: "model/" + strconv.Itoa(n+1), plan: plan,
			request: experiment.Request{Experiments: []string{"5B"}, NumSamples: realSamples, MaxTokens: realTokens}, speed: modelSpeed,
		})
		if t.err(err, "campaign") || t.err(m.read(), "read the results") {
			return
		}
		m.checkOutcome(t)
		start := startJSON(m.outcome.Cells[0])
		if engine, err := modelOf(m.outcome.Cells[0].Cell, plan.Model); !t.err(err, "the cell's model") {
			predictModel(t.part("predict"), engine, m.levels["5B*"])
			t.add(
				Figure{Name: "kv_tokens of start.json", Got: start.Get("server.kv_tokens").Num, Truth: float64(engine.KVTokens())},
				// vLLM logs it with two digits.
				Figure{Name: "model_memory_gib of start.json", Got: start.Get("server.model_memory_gib").Num, Truth: engine.ModelMemoryGiB(), Allowed: 0.01},
				Figure{Name: "max_concurrency of start.json", Got: start.Get("server.max_concurrency").Num, Truth: engine.MaxConcurrency(), Allowed: 0.01},
			)
		}
		w.views(ctx, t, m, nil, []string{"--exp", "5B", "--num-samples", strconv.Itoa(realSamples), "--max-tokens", strconv.Itoa(realTokens)})
	})
}

// modelOf is the timing model that the mock runs a cell by.
func modelOf(cell experiment.Cell, name string) (*model.Model, error) {
	version := vllm.MustVersion(vllm.DefaultVersion)
	argv, refusal := cell.Argv(version, name)
	if refusal != nil {
		return nil, fmt.Errorf("refused: %s", refusal.Reason)
	}
	config, err := vllm.ResolveArgv(version, argv[1:], cell.Shape())
	if err != nil {
		return nil, err
	}
	return model.New(model.BuiltIn(config), config, model.Options{Seed: mockSeed})
}

// slack finds a figure's share in truthKeys.
func slack(key string) func(*level, float64) float64 {
	for _, k := range truthKeys {
		if k.key == key {
			return k.slack
		}
	}
	return exact
}

// predictTolerance is what prediction and measurement may differ by: the
// prediction knows no sockets and no prompt text.
const predictTolerance = 0.05

// predictModel plays levels in virtual time and compares them with what was
// measured on the wall.
func predictModel(t *tally, engine *model.Model, levels []*level) {
	for _, l := range levels {
		predicted, err := predictLevel(engine, l)
		if t.err(err, l.name) {
			continue
		}
		// The mock's own lateness is in the measurement, too.
		late := *l
		late.noise.mean += l.noise.mock
		late.noise.most += l.noise.mock
		for _, key := range []string{"mean_ttft_ms", "mean_tpot_ms", "mean_itl_ms", "mean_e2el_ms", "tps", "output_throughput"} {
			f := Figure{Name: l.name + " " + key + " against its prediction", Got: l.run.Get(key).Num, Truth: predicted[key]}
			f.Allowed = max(predictTolerance*abs(f.Truth), slack(key)(&late, f.Truth))
			if key == "mean_ttft_ms" && l.name != "c1" {
				// Whoever comes a moment later waits for one step more.
				f.Allowed += predicted["mean_itl_ms"]
			}
			t.add(f)
		}
	}
}

// predictLevel plays a level's requests, warm-up first, in a closed loop in
// virtual time.
func predictLevel(m *model.Model, l *level) (summary, error) {
	records := slices.Clone(l.records)
	slices.SortFunc(records, func(a, b record) int { return sequence(a.id) - sequence(b.id) })
	slots := min(int(l.run.Get("max_concurrency").Int()), len(l.main()))
	run := mockvllm.VirtualRun{Engine: m.Sim(), Timer: m, MaxConcurrency: slots}
	for i, r := range records {
		// The first wave is spread over 1 ms a token, at most 1 s; the others wait
		// for a slot.
		wave := min(time.Second, realTokens*time.Millisecond)
		q := mockvllm.VirtualRequest{PromptTokens: r.prompt, OutputTokens: r.requested, At: wave * time.Duration(min(i, slots)) / time.Duration(slots)}
		run.Requests = append(run.Requests, q)
	}
	result, err := mockvllm.RunVirtual(run)
	if err != nil {
		return nil, err
	}
	var main []lifetime
	for i, r := range records {
		if r.phase != "main" {
			continue
		}
		times := result.Times(i)
		life := lifetime{sent: int64(times.Arrived), first: int64(times.FirstDue), last: int64(times.LastDue), end: int64(times.LastDue), prompt: r.prompt, tokens: times.OutputTokens}
		result.Chunks(i, func(due time.Duration, _ int) bool {
			life.chunks = append(life.chunks, int64(due))
			return true
		})
		main = append(main, life)
	}
	return summarize(main, 1), nil
}

// sequence is the number of a request in its level, from its id.
func sequence(id string) int {
	n, _ := strconv.Atoi(id[strings.LastIndex(id, "-")+1:])
	return n
}

// burstCampaign runs speculation, where several tokens come in one event: TPOT
// counts tokens, ITL events.
func burstCampaign(ctx context.Context, w *world, t *tally) {
	measureAgain(ctx, t, func(n int, t *tally) {
		m, err := w.run(ctx, campaign{
			dir: "burst/" + strconv.Itoa(n+1), plan: experiment.Default(),
			request: experiment.Request{Experiments: []string{"8C"}, NumSamples: 6, MaxTokens: realTokens, Concurrency: "1,3"},
			speed:   modelSpeed, args: []string{"--mock-repetition", "0.95"},
		})
		if t.err(err, "campaign") || t.err(m.read(), "read the results") {
			return
		}
		m.checkOutcome(t)
		for _, l := range m.levels["8C*"] {
			if l.want["tokens_per_event"] < 1.2 || l.want["mean_itl_ms"] < 1.15*l.want["mean_tpot_ms"] {
				t.fail("%s: the mock gave %.2f tokens an event: no bursts to look at", l.name, l.want["tokens_per_event"])
			}
			t.note("%s: %.2f tokens an event", l.name, l.want["tokens_per_event"])
			if rate := l.run.Get("spec_decode_acceptance_length").Num; rate <= 1 || rate > 5 {
				t.fail("%s: spec_decode_acceptance_length is %v", l.name, rate)
			}
		}
		w.views(ctx, t, m, nil, []string{"--exp", "8C", "--num-samples", "6", "--max-tokens", strconv.Itoa(realTokens), "--concurrency", "1,3"})
	})
}

// benchOpenLoop measures a mock that runs in this process, as a server of
// others: an open loop at more requests a second than two at a time allow, so
// that the moment planned and the moment of sending are far apart.
func benchOpenLoop(ctx context.Context, w *world, t *tally) {
	if t.err(w.prepare(ctx), "prepare") {
		return
	}
	measureAgain(ctx, t, func(n int, t *tally) {
		dir := w.path("bench", strconv.Itoa(n+1))
		if t.err(os.MkdirAll(dir, 0o777), "bench") {
			return
		}
		path := filepath.Join(dir, "truth.jsonl")
		file, err := os.Create(path)
		if t.err(err, "truth file") {
			return
		}
		defer file.Close()
		url, stop, err := serve(ctx, mockvllm.Options{
			Args: []string{"zai-org/GLM-4.6", "--tensor-parallel-size", "8"}, Pace: &mockvllm.Pace{TTFT: 60 * time.Millisecond, ITL: 10 * time.Millisecond}, Truth: file,
		})
		if t.err(err, "start a mock in process") {
			return
		}
		defer stop()
		outcome, err := harness.Bench(ctx, harness.BenchOptions{
			URL: url, Data: w.path(dataDir, "short.jsonl"), NumSamples: 12, RequestRate: 60, Concurrency: 2,
			ResultsDir: filepath.Join(dir, "results"), NoCertificate: true, ToolVersion: "selftest",
		})
		if t.err(err, "bench") {
			return
		}
		stop()
		truths, err := readTruth(path)
		if t.err(err, "truth file") || len(outcome.Cells[0].Dirs) == 0 {
			return
		}
		l, err := readLevel(outcome.Cells[0].Dirs[0], "r60", truths, 1)
		if t.err(err, "read the results") {
			return
		}
		t.add(l.figures()...)
		l.checkRecords(t)
		var lag, schedule float64
		main := l.main()
		for _, r := range main {
			lag += float64(r.sent-r.intended) / 1e6 / float64(len(main))
			schedule += float64(r.first-r.intended) / 1e6 / float64(len(main))
		}
		if lag < 10*slackMS {
			t.fail("requests were sent %.1f ms late on average: nothing tells TTFT from its schedule's", lag)
		}
		t.add(Figure{Name: "r60 mean_ttft_from_schedule_ms", Got: l.run.Get("mean_ttft_from_schedule_ms").Num, Truth: l.want["mean_ttft_ms"] + lag, Allowed: relative * schedule})
		t.note("requests were sent %.0f ms after their time, TTFT does not hold it", lag)
	})
}

// serve runs a mock in this process on a loopback port.
func serve(ctx context.Context, o mockvllm.Options) (url string, stop func(), err error) {
	m, err := mockvllm.NewPrecise(o)
	if err != nil {
		return "", nil, err
	}
	if err := m.Start(ctx); err != nil {
		return "", nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		m.Close()
		return "", nil, err
	}
	srv := m.HTTPServer()
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	done := false
	return "http://" + l.Addr().String(), func() {
		if done {
			return
		}
		done = true
		_ = m.Close()
		_ = srv.Close()
		<-served
	}, nil
}
