package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/syntax"

	"github.com/glm46/glm46/datasets"
	"github.com/glm46/glm46/harness"
	"github.com/glm46/glm46/harness/experiment"
	"github.com/glm46/glm46/harness/fold"
	"github.com/glm46/glm46/harness/launch"
	"github.com/glm46/glm46/harness/load"
	"github.com/glm46/glm46/harness/measure"
	"github.com/glm46/glm46/harness/node"
	"github.com/glm46/glm46/harness/report"
	"github.com/glm46/glm46/harness/result"
	"github.com/glm46/glm46/mockvllm/vllm"
)

// runFlags are all flags of run, each also read from GLM46_ and its name.
func runFlags() []cli.Flag {
	flags := append(selectionFlags(), loadFlags()...)
	flags = append(flags,
		&cli.StringFlag{Name: flagData, Usage: "`DIR` of the data sets", Value: datasets.DefaultDir, Category: categoryPlaces},
		&cli.StringFlag{Name: flagResults, Usage: "`DIR` for the results", Value: defaultResultsDir, Category: categoryPlaces},
		&cli.StringFlag{Name: flagModel, Usage: "model `PATH` or name instead of the plan's; a folder runs offline", Category: categoryServer},
		&cli.StringFlag{Name: "vllm", Usage: "the `CMD` line that starts vllm, for example in a container", Value: "vllm", Category: categoryServer},
		&cli.StringFlag{Name: flagVLLMVersion, Usage: usageVLLMVersion + "; default: the installed one is asked", Category: categoryServer},
		&cli.DurationFlag{Name: "start-timeout", Usage: "longest start-up", Value: harness.DefaultStartTimeout, Category: categoryServer},
		&cli.BoolFlag{Name: "prefetch", Usage: "read the weights into the page cache before the first start, where memory holds them", Category: categoryServer},
		&cli.BoolFlag{Name: "lenient", Usage: "go on where the engine does not run what was asked; the result is not valid", Category: categoryServer},
		&cli.IntFlag{Name: "starts", Usage: "server starts for each configuration", Value: 1, Category: categoryMisc},
		&cli.StringFlag{Name: flagWalltime, Usage: "time limit from now on, `HH:MM:SS` or 90m; also " + variableWalltimeS + " (seconds)", Category: categoryMisc},
		&cli.BoolFlag{Name: flagShakedown, Usage: "only a short trial of the baseline: start, effective configuration, one stream, stop", Category: categoryMisc},
		&cli.BoolFlag{Name: flagNoShakedown, Usage: "run --all without the record of a shakedown", Category: categoryMisc},
		&cli.BoolFlag{Name: "again", Usage: "measure also what the results hold already", Category: categoryMisc},
		&cli.BoolFlag{Name: "dry-run", Usage: "check the request and print the vllm command lines; touch nothing", Category: categoryMisc},
		&cli.DurationFlag{Name: "timeout", Usage: "longest request; default: 3 x what a token may take at most, at least 1h", Category: categoryLoad},
		&cli.DurationFlag{Name: "idle-timeout", Usage: "longest silence of a stream", Category: categoryLoad},
		&cli.BoolFlag{Name: "natural-stop", Usage: "let answers end where the model ends them", Category: categoryLoad},
		&cli.StringFlag{Name: "endpoint", Usage: "`chat|completions` instead of what each sample asks for", Category: categoryLoad},
		&cli.BoolFlag{Name: "no-certificate", Usage: "do not calibrate the client before each level", Category: categoryLoad},
		&cli.StringFlag{Name: "quality", Usage: "`auto|on|off`: check the server's answers before the levels; auto: not a mock's", Value: string(harness.QualityAuto), Category: categoryLoad},
		&cli.BoolFlag{Name: "mock", Usage: "start the built-in mock instead of vllm", Category: categoryMock},
		&cli.Float64Flag{Name: "mock-speed", Usage: "the mock's time runs `X` times faster", Value: 1, Category: categoryMock},
		&cli.Uint64Flag{Name: "mock-seed", Usage: "seed of the mock's text", Category: categoryMock},
		&cli.StringFlag{Name: "mock-scenario", Usage: "failures for the mock to play, `FILE` (docs/mock.md)", Category: categoryMock},
		&cli.StringFlag{Name: "data-from", Usage: "text files below `DIR` to make a missing data set from; default: Go's source tree", Category: categoryMock},
		jsonFlag(),
	)
	return flags
}

func variableOf(flag string) string {
	return environmentPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// knownGLM46Variables are all variables with our prefix that mean something.
func knownGLM46Variables() []string {
	names := []string{variableWalltimeS}
	for _, flag := range runFlags() {
		names = append(names, variableOf(flag.Names()[0]))
	}
	return append(names, jobVariables...)
}

// jobVariables are set by generated job scripts for themselves and for their
// readers; then the server's mark, and flags of the mock (docs/mock.md) that run
// does not have itself.
var jobVariables = []string{variableOutcome, variableJobFolder, "GLM46_RESUBMITTED", "GLM46_LONG", "GLM46_SERVER_TOKEN",
	"GLM46_MOCK_VERSION", "GLM46_MOCK_STARTUP", "GLM46_MOCK_TTFT", "GLM46_MOCK_ITL", "GLM46_MOCK_TRUTH", "GLM46_MOCK_PROFILE",
	"GLM46_MOCK_REPETITION", "GLM46_MOCK_NOISE"}

func runCommand(env Environment) *cli.Command {
	return &cli.Command{
		Name:  "run",
		Usage: "measure cells here: start vllm, check it, load it, judge the result, stop it, record",
		Description: `Which cell: --exp, --group, --all, or EXP_NAME and the other variables of the
job interface (docs/pbs.md). Every flag is also read from GLM46_ and its name
(GLM46_MOCK=1, GLM46_MOCK_SPEED=200). The same command continues what a
walltime or a signal cut off.

Examples:
   glm46 run --exp 5B --mock --mock-speed 100
   glm46 run --exp 1A,1B --starts 3 --walltime 08:00:00
   glm46 run --exp 3A --set MAX_MODEL_LEN=65536 --dry-run
   EXP_NAME=5B_kv_bf16 KV_CACHE_DTYPE=auto glm46 run --model /scratch/GLM-4.6`,
		Flags: runFlags(),
		Action: func(c *cli.Context) error {
			err := noArguments(c)
			if err == nil {
				err = run(c, env)
			}
			writeOutcome(env, err)
			removeJobFolder(env)
			return err
		},
	}
}

func run(c *cli.Context, env Environment) error {
	began := time.Now()
	plan, err := loadPlan(c)
	if err != nil {
		return err
	}
	cells, err := runCells(c, env, plan)
	if err != nil {
		return err
	}
	options, err := campaignOptions(c, env, plan, cells)
	if err != nil {
		return err
	}
	if c.Bool("dry-run") {
		if err := checkTimes(c, env, options); err != nil {
			return err
		}
		return dryRun(c, env, options)
	}
	if err := askShakedown(c, options); err != nil {
		return err
	}
	ctx, release := signalContext(c.Context)
	defer release()
	if err := setDeadline(ctx, c, options, began); err != nil {
		return err
	}
	if err := launch.BecomeSubreaper(); err != nil {
		fmt.Fprintf(env.Stderr, "glm46: %v; processes that lose their parent may be missed\n", err)
	}
	printer := newPrinter(env.Stderr, isTerminal(env.Stderr))
	options.Observer = printer
	outcome, err := harness.Run(ctx, *options)
	printer.done()
	if err != nil {
		var version *harness.VersionError
		switch {
		case errors.As(err, &version):
			return exitWith(exitPreflight, err, `without vLLM, --mock measures the built-in model of it`)
		case ctx.Err() != nil:
			return exitWith(exitInterrupted, fmt.Errorf("stopped by %w", context.Cause(ctx)))
		}
		return err
	}
	return printOutcome(c, env, plan, options, outcome)
}

// runCells gives the cells that flags and environment ask for.
func runCells(c *cli.Context, env Environment, plan *experiment.Plan) ([]experiment.Cell, error) {
	r, err := request(c, env)
	if err != nil {
		return nil, err
	}
	if c.Bool(flagShakedown) {
		return shakedownCells(plan, r)
	}
	if len(r.Experiments) == 0 && r.Group == 0 && !r.All {
		if name, ok := env.Lookup(experiment.VarExpName); !ok || name == "" {
			return nil, usage(errors.New("which cells? give --exp, --group or --all, or set EXP_NAME"), hintListShowsCells)
		}
	}
	return resolve(plan, r)
}

// campaignOptions turns flags into the options of a campaign.
func campaignOptions(c *cli.Context, env Environment, plan *experiment.Plan, cells []experiment.Cell) (*harness.Options, error) {
	server, err := commandWords(c.String("vllm"))
	if err != nil {
		return nil, err
	}
	if c.Int("starts") <= 0 {
		return nil, usage(fmt.Errorf("--starts %d: want a whole number above 0", c.Int("starts")))
	}
	endpoint := c.String("endpoint")
	if endpoint != "" {
		if err := oneOf("endpoint", endpoint, string(measure.EndpointChat), string(measure.EndpointCompletions)); err != nil {
			return nil, err
		}
	}
	if err := oneOf("quality", c.String("quality"), string(harness.QualityAuto), string(harness.QualityOn), string(harness.QualityOff)); err != nil {
		return nil, err
	}
	system := node.Host()
	system.Environ = env.Environ
	o := &harness.Options{
		Plan: plan, Cells: cells, Model: c.String(flagModel), Server: server,
		DataDir: c.String(flagData), DataFrom: c.String("data-from"), ResultsDir: c.String(flagResults),
		Starts: c.Int("starts"), Again: c.Bool("again") || c.Bool(flagShakedown), StartTimeout: c.Duration("start-timeout"),
		Limits:   load.Limits{Total: c.Duration("timeout"), Idle: c.Duration("idle-timeout"), IdleExplicit: c.IsSet("idle-timeout")},
		Prefetch: c.Bool("prefetch"), Lenient: c.Bool("lenient"), NaturalStop: c.Bool("natural-stop"), Endpoint: measure.Endpoint(endpoint),
		NoCertificate: c.Bool("no-certificate"), Quality: harness.QualityMode(c.String("quality")), System: system, Environ: env.Environ, ToolVersion: buildVersion(),
	}
	if c.String(flagVLLMVersion) != "" {
		version, err := vllmVersion(c, "")
		if err != nil {
			return nil, err
		}
		o.Version = &version
	}
	if !(c.Float64("mock-speed") > 0) || math.IsInf(c.Float64("mock-speed"), 0) {
		return nil, usage(fmt.Errorf("--mock-speed %v: want a number above 0", c.Float64("mock-speed")))
	}
	mock := c.Bool("mock")
	if !mock && isOurselves(server[0]) {
		fmt.Fprintf(env.Stderr, "glm46: %s is this program: it is the mock that is measured\n", server[0])
		mock = true
	}
	if !mock {
		for _, name := range []string{"mock-scenario", "data-from"} {
			if c.String(name) != "" {
				return nil, usage(fmt.Errorf("--%s is for --mock only", name))
			}
		}
		return o, nil
	}
	if from := o.DataFrom; from != "" {
		if info, err := os.Stat(from); err != nil || !info.IsDir() {
			return nil, usage(fmt.Errorf("--data-from %q: no such folder", from))
		}
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program, to start it as the mock: %w", err)
	}
	o.Mock = &harness.MockOptions{Executable: self, Speed: c.Float64("mock-speed"), Seed: c.Uint64("mock-seed")}
	if path := c.String("mock-scenario"); path != "" {
		if _, err := os.Stat(path); err != nil {
			return nil, usage(fmt.Errorf("--mock-scenario: %w", err))
		}
		o.Mock.Args = append(o.Mock.Args, "--mock-scenario", path)
	}
	return o, nil
}

// commandWords splits --vllm into words as a shell would, without running one:
// quotes and backslashes hold, "\$" is a dollar sign, and what a shell would expand
// is refused.
func commandWords(line string) ([]string, error) {
	var words []*syntax.Word
	for word, err := range syntax.NewParser(syntax.Variant(syntax.LangBash)).WordsSeq(strings.NewReader(line)) {
		if err != nil {
			return nil, usage(fmt.Errorf("--vllm %q: %w", line, err))
		}
		words = append(words, word)
	}
	for _, word := range words {
		syntax.Walk(word, func(node syntax.Node) bool {
			switch node.(type) {
			case nil, *syntax.Word, *syntax.Lit, *syntax.SglQuoted, *syntax.DblQuoted:
			default:
				words = nil
				return false
			}
			return true
		})
		if words == nil {
			return nil, usage(fmt.Errorf("--vllm %q: variables and commands are not expanded here; write the words out, and \\$ for a dollar sign", line))
		}
	}
	fields, err := expand.Fields(&expand.Config{Env: expand.ListEnviron()}, words...)
	if err != nil {
		return nil, usage(fmt.Errorf("--vllm %q: %w", line, err))
	}
	if len(fields) == 0 {
		return nil, usage(errors.New("--vllm: empty command"))
	}
	return fields, nil
}

// signalContext ends with a cause that names the signal.
func signalContext(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	finished := make(chan struct{})
	go func() {
		select {
		case s := <-signals:
			cancel(errors.New(signalName(s)))
		case <-finished:
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(finished)
		cancel(nil)
	}
}

func signalName(s os.Signal) string {
	switch s {
	case os.Interrupt:
		return "SIGINT"
	case syscall.SIGTERM:
		return "SIGTERM"
	case syscall.SIGHUP:
		return "SIGHUP"
	}
	return s.String()
}

// Part of a walltime that is kept free to stop the server and write records.
const (
	marginShare   = 20 // a twentieth of the limit
	longestMargin = 2 * time.Minute
	leastMargin   = 2 * time.Second
)

func setDeadline(ctx context.Context, c *cli.Context, o *harness.Options, began time.Time) error {
	var flag time.Duration
	if text := c.String(flagWalltime); text != "" {
		var err error
		if flag, err = parseWalltime(text); err != nil {
			return usage(fmt.Errorf("--%s: %w", flagWalltime, err))
		}
	}
	limit, ok, err := o.System.WalltimeDeadline(ctx, flag, began)
	switch {
	case err != nil && errors.Is(err, node.ErrNoQstat):
		return nil
	case err != nil:
		return usage(err)
	case !ok:
		return nil
	}
	o.Deadline = limit.Deadline
	o.Margin = min(max(time.Until(limit.Deadline)/marginShare, leastMargin), longestMargin)
	return nil
}

// parseWalltime reads HH:MM:SS as PBS has it, or a Go duration.
func parseWalltime(text string) (time.Duration, error) {
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return d, nil
	}
	d, err := node.ParsePBSDuration(text)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("%q: want HH:MM:SS or a duration such as 90m", text)
	}
	return d, nil
}

// checkTimes refuses what setDeadline would, without asking the batch system.
func checkTimes(c *cli.Context, env Environment, o *harness.Options) error {
	if text := c.String(flagWalltime); text != "" {
		if _, err := parseWalltime(text); err != nil {
			return usage(fmt.Errorf("--%s: %w", flagWalltime, err))
		}
	}
	if value, ok := env.Lookup(variableWalltimeS); ok && value != "" {
		if _, _, err := o.System.WalltimeDeadline(c.Context, 0, time.Now()); err != nil {
			return usage(err)
		}
	}
	return nil
}

// dryCell is what run --dry-run --json says of a cell.
type dryCell struct {
	ID         string   `json:"id"`
	Argv       []string `json:"argv"`
	Accepted   bool     `json:"accepted"`
	Reason     string   `json:"reason"`
	EngineText string   `json:"engine_text,omitempty"`
}

// dryRun prints one shell-quoted command line a cell, and nothing else on
// stdout; refusals go to stderr in words.
func dryRun(c *cli.Context, env Environment, o *harness.Options) error {
	version := vllm.MustVersion(vllm.DefaultVersion)
	if o.Version != nil {
		version = *o.Version
	}
	model := o.Model
	if model == "" {
		model = o.Plan.Model
	}
	var cells []dryCell
	refused := 0
	for _, cell := range o.Cells {
		argv, refusal := cell.Argv(version, model, harness.MemoryCheck)
		dry := dryCell{ID: cell.Label(), Argv: append(slices.Clone(o.Server), argv...), Accepted: refusal == nil}
		if refusal != nil {
			refused++
			dry.Reason, dry.EngineText = refusal.Reason, refusal.EngineText
			fmt.Fprint(env.Stderr, fold.Under(cell.Label()+": ", fmt.Sprintf("vLLM %s refuses this: %s", version, refusal.Reason), foldWidth(env.Stderr)))
		}
		cells = append(cells, dry)
		if c.Bool(flagJSON) {
			continue
		}
		line, err := shellLine(dry.Argv)
		if err != nil {
			return usage(err)
		}
		fmt.Fprintln(env.Stdout, line)
	}
	if c.Bool(flagJSON) {
		if err := printJSON(env.Stdout, map[string]any{"vllm_version": version.String(), "cells": cells}); err != nil {
			return err
		}
	}
	if refused == len(o.Cells) {
		return exitWith(exitEngine, nil)
	}
	return nil
}

func shellLine(argv []string) (string, error) {
	words := make([]string, len(argv))
	for i, word := range argv {
		quoted, err := syntax.Quote(word, syntax.LangPOSIX)
		if err != nil {
			return "", fmt.Errorf("%q cannot be quoted for a shell: %w", word, err)
		}
		words[i] = quoted
	}
	return strings.Join(words, " "), nil
}

// cellJSON is what run --json says of a cell.
type cellJSON struct {
	ID         string   `json:"id"`
	Status     string   `json:"status"`
	Reason     string   `json:"reason,omitempty"`
	EngineText string   `json:"engine_text,omitempty"`
	Reused     bool     `json:"reused,omitempty"`
	Dirs       []string `json:"dirs"`
}

// printOutcome prints verdicts and the plan's table, and gives the exit code.
func printOutcome(c *cli.Context, env Environment, plan *experiment.Plan, o *harness.Options, outcome *harness.Outcome) error {
	built, err := outcomeReport(plan, o, outcome)
	if err != nil {
		return err
	}
	if c.Bool(flagJSON) {
		cells := []cellJSON{}
		for _, cell := range outcome.Cells {
			cells = append(cells, cellJSON{ID: cell.Cell.Label(), Status: string(cell.State), Reason: cell.Reason, EngineText: cell.EngineText, Reused: cell.Reused, Dirs: append([]string{}, cell.Dirs...)})
		}
		if err := printJSON(env.Stdout, map[string]any{"exit_code": outcome.Code, "cells": cells, "report": built}); err != nil {
			return err
		}
	} else {
		printVerdicts(env.Stdout, outcome)
		if len(built.Rows) > 0 {
			fmt.Fprintln(env.Stdout)
			fmt.Fprint(env.Stdout, built.Terminal())
		}
	}
	if outcome.Code == 0 {
		return nil
	}
	return exitWith(outcome.Code, outcomeError(outcome), outcomeHints(outcome)...)
}

// outcomeReport builds the table of the cells that were asked for, from disk.
func outcomeReport(plan *experiment.Plan, o *harness.Options, outcome *harness.Outcome) (*report.Report, error) {
	var starts []result.StartResult
	seen := map[string]bool{}
	for _, cell := range outcome.Cells {
		for _, dir := range cell.Dirs {
			if seen[dir] {
				continue
			}
			seen[dir] = true
			start, err := result.ReadStart(dir)
			if err != nil {
				return nil, err
			}
			starts = append(starts, start)
		}
	}
	if all, err := result.ReadAll(o.ResultsDir); err == nil {
		starts = result.JudgeQuality(starts, all)
	}
	return report.Build(o.Cells, starts, report.Options{Title: plan.Name, Created: time.Now().UTC()}), nil
}

func printVerdicts(w io.Writer, outcome *harness.Outcome) {
	for _, cell := range outcome.Cells {
		line := fmt.Sprintf("%s: %s", cell.Cell.Label(), cell.State)
		if cell.State == result.StateIncomplete {
			line = cell.Cell.Label() + ": not measured"
		}
		if cell.Reused {
			line += ", already measured"
		}
		if cell.Reason != "" {
			line += ": " + cell.Reason
		}
		fmt.Fprint(w, fold.Under("", line, foldWidth(w)))
		if cell.EngineText != "" && cell.EngineText != cell.Reason {
			fmt.Fprint(w, fold.Under("  vLLM says: ", cell.EngineText, foldWidth(w)))
		}
	}
}

func outcomeError(outcome *harness.Outcome) error {
	switch outcome.Code {
	case exitNotValid:
		return errors.New("finished, but a result is not valid")
	case exitEngine:
		return errors.New("the engine refused the configuration, failed to start or died")
	case exitInterrupted:
		return fmt.Errorf("stopped by %s; what was measured is kept", orUnknown(outcome.Why))
	case exitPreflight, exitDataSet:
		if outcome.Code == exitDataSet && outcome.Why == "" {
			return errors.New("a cell's data set does not go with its settings; see above")
		}
		return errors.New(orUnknown(outcome.Why))
	}
	return errors.New("a cell could not be measured; see above")
}

func outcomeHints(outcome *harness.Outcome) []string {
	switch outcome.Code {
	case exitInterrupted:
		return []string{"the same command goes on where this one stopped"}
	case exitNotValid:
		return []string{"docs/metrics.md explains every code"}
	}
	return nil
}

func orUnknown(why string) string {
	if why == "" {
		return "an unknown cause"
	}
	return why
}
