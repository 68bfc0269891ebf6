package selftest

import (
	"bytes"
	"context"
	_ "embed" // plan.yaml
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/glm46/glm46/datasets"
	"github.com/glm46/glm46/harness"
	"github.com/glm46/glm46/harness/experiment"
	"github.com/glm46/glm46/harness/load"
	"github.com/glm46/glm46/harness/measure"
	"github.com/glm46/glm46/harness/node"
)

//go:embed plan.yaml
var planFile []byte

// world is what all steps share.
type world struct {
	program string
	dir     string
	environ []string
	before  processState

	setUp    sync.Once
	setUpErr error
	own      *experiment.Plan // plan.yaml
}

// path is a place in the selftest's folder.
func (w *world) path(parts ...string) string {
	return filepath.Join(append([]string{w.dir}, parts...)...)
}

const (
	dataDir = "data"
	// shortSamples and talkSamples are the sizes of the plan's own data sets,
	// realSamples that of the 8k set for the embedded plan.
	shortSamples = 16
	talkSamples  = 8
	realSamples  = 12
	realTokens   = 48
)

// prepare writes what most steps need: data sets and the plan. It does so once.
func (w *world) prepare(ctx context.Context) error {
	w.setUp.Do(func() { w.setUpErr = w.writeFiles(ctx) })
	return w.setUpErr
}

func (w *world) writeFiles(ctx context.Context) error {
	var err error
	if w.own, err = experiment.Parse("plan.yaml", planFile); err != nil {
		return err
	}
	if err := os.MkdirAll(w.path(dataDir), 0o777); err != nil {
		return err
	}
	if _, err := datasets.Generate(ctx, datasets.GenOptions{
		Dataset: "8k", Samples: realSamples, Dir: w.path(dataDir), Seed: 46, PromptTokens: 1500, TargetTokens: realTokens, SelfRepetition: -1,
	}); err != nil {
		return err
	}
	for name, data := range map[string][]byte{
		"plan.yaml":              planFile,
		dataDir + "/short.jsonl": shortSet(), dataDir + "/talk.jsonl": talkSet(),
	} {
		if err := os.WriteFile(w.path(name), data, 0o666); err != nil {
			return err
		}
	}
	return nil
}

// shortLength is the target of a sample of the short set (plan.yaml says why).
func shortLength(i int) int { return 4 + i*11%25 }

// shortSet has prompts of some hundred tokens.
func shortSet() []byte {
	var b bytes.Buffer
	for i := range shortSamples {
		line, _ := json.Marshal(map[string]any{"id": fmt.Sprintf("short-%02d", i), "prompt": prose(i, 90), "target_tokens": shortLength(i)})
		b.Write(append(line, '\n'))
	}
	return b.Bytes()
}

// talkSet has chat messages.
func talkSet() []byte {
	var b bytes.Buffer
	for i := range talkSamples {
		line, _ := json.Marshal(map[string]any{
			"id":            fmt.Sprintf("talk-%02d", i),
			"messages":      []map[string]string{{"role": "user", "content": prose(100+i, 30)}},
			"target_tokens": 12,
		})
		b.Write(append(line, '\n'))
	}
	return b.Bytes()
}

// prose is words in an order that the number decides, different from the first
// word on: prompts share no prefix.
func prose(number, words int) string {
	list := strings.Fields("scheduler cache block token batch prefill decode queue stream budget kernel graph request answer memory layer expert rank step window")
	text := []string{"Case " + strconv.Itoa(number*7919+13) + ":"}
	state := uint64(number)*0x9e3779b97f4a7c15 + 1
	for range words {
		state = state*6364136223846793005 + 1442695040888963407
		text = append(text, list[state>>33%uint64(len(list))])
	}
	return strings.Join(text, " ")
}

// cleanEnviron is an environment without what steers jobs, runs and mocks: the
// selftest is the same wherever it is started.
func cleanEnviron(environ []string) []string {
	drop := append(experiment.Variables(), "PBS_")
	return slices.DeleteFunc(slices.Clone(environ), func(pair string) bool {
		name, _, _ := strings.Cut(pair, "=")
		return strings.HasPrefix(name, "GLM46_") || strings.HasPrefix(name, "PBS_") || strings.HasPrefix(name, "VLLM_") || slices.Contains(drop, name)
	})
}

func noVariables(string) (string, bool) { return "", false }

// campaign is a run to make.
type campaign struct {
	// dir below the selftest's: results, scenario, truth.
	dir  string
	plan *experiment.Plan
	// request chooses the cells.
	request experiment.Request
	// speed of the mock, seed 46; args are its further flags, which win.
	speed    float64
	args     []string
	scenario string
	change   func(*harness.Options)
	// watch is told what happens.
	watch *watcher
}

// measurement is what came of a campaign.
type measurement struct {
	outcome *harness.Outcome
	options harness.Options
	truths  map[string]truth
	notes   []string
	// dir of the results, starts of the first cell's outcome.
	results string
	levels  map[string][]*level // by cell
}

const mockSeed = 46

// run plays a campaign with the program itself as the mock.
func (w *world) run(ctx context.Context, c campaign) (*measurement, error) {
	if err := w.prepare(ctx); err != nil {
		return nil, err
	}
	dir := w.path(c.dir)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	c.request.Lookup = noVariables
	cells, err := c.plan.Resolve(c.request)
	if err != nil {
		return nil, err
	}
	truthPath := filepath.Join(dir, "truth.jsonl")
	args := append([]string{"--mock-truth", truthPath, "--mock-startup", "none"}, c.args...)
	if c.scenario != "" {
		path := filepath.Join(dir, "scenario.yaml")
		if err := os.WriteFile(path, []byte(c.scenario), 0o666); err != nil {
			return nil, err
		}
		args = append(args, "--mock-scenario", path)
	}
	if c.watch == nil {
		c.watch = &watcher{}
	}
	system := node.Host()
	system.Environ = w.environ
	o := harness.Options{
		Plan: c.plan, Cells: cells, Mock: &harness.MockOptions{Executable: w.program, Speed: c.speed, Seed: mockSeed, Args: args},
		DataDir: w.path(dataDir), ResultsDir: filepath.Join(dir, "results"), StartTimeout: 30 * time.Second,
		NoCertificate: true, System: system, Environ: w.environ, ToolVersion: "selftest", Observer: c.watch,
	}
	if c.change != nil {
		c.change(&o)
	}
	m := &measurement{options: o, results: o.ResultsDir, levels: map[string][]*level{}}
	m.outcome, err = harness.Run(ctx, o)
	m.notes = c.watch.notes
	if err != nil {
		return nil, err
	}
	if m.truths, err = readTruth(truthPath); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	return m, nil
}

// read reads all levels of a campaign that ran to its end.
func (m *measurement) read() error {
	for _, c := range m.outcome.Cells {
		for _, l := range c.Cell.Levels {
			if len(c.Dirs) == 0 {
				return fmt.Errorf("%s: no folder of results: %s", c.Cell.Label(), c.Reason)
			}
			level, err := readLevel(c.Dirs[len(c.Dirs)-1], l.Name, m.truths, m.options.Mock.Speed)
			if err != nil {
				return err
			}
			m.levels[c.Cell.Label()] = append(m.levels[c.Cell.Label()], level)
		}
	}
	return nil
}

// checkOutcome wants all cells valid, but for what the machine is to blame for.
func (m *measurement) checkOutcome(t *tally) {
	for _, c := range m.outcome.Cells {
		if len(m.levels[c.Cell.Label()]) == 0 {
			t.fail("%s: %s: %s", c.Cell.Label(), c.State, c.Reason)
			continue
		}
		for _, l := range m.levels[c.Cell.Label()] {
			l.checkVerdict(t)
		}
	}
	t.note("measured: %s", strings.Join(sortedKeys(m.levels), ", "))
	busy := strings.Contains(strings.Join(t.notes, " "), "machine is busy")
	if m.outcome.Code != 0 && !(busy && m.outcome.Code == 3) {
		t.fail("exit code %d instead of 0", m.outcome.Code)
	}
}

// watcher is an Observer that remembers notes and may act on what it sees.
type watcher struct {
	note     func(text string)
	progress func(load.Progress)
	notes    []string
}

func (o *watcher) Note(cell, text string) {
	o.notes = append(o.notes, strings.TrimPrefix(cell+": "+text, ": "))
	if o.note != nil {
		o.note(text)
	}
}

func (o *watcher) Progress(_ string, p load.Progress) {
	if o.progress != nil {
		o.progress(p)
	}
}

func (o *watcher) LevelDone(string, *measure.RunJSON) {}
