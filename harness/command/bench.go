package command

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/glm46/glm46/datasets"
	"github.com/glm46/glm46/harness"
	"github.com/glm46/glm46/harness/load"
	"github.com/glm46/glm46/harness/measure"
	"github.com/glm46/glm46/harness/node"
	"github.com/glm46/glm46/harness/report"
	"github.com/glm46/glm46/harness/result"
)

func benchCommand(env Environment) *cli.Command {
	return &cli.Command{
		Name:  "bench",
		Usage: "the same measurement against a server that is already running",
		Description: `Any OpenAI-compatible server; the API key comes from OPENAI_API_KEY.

Examples:
   glm46 bench --url http://127.0.0.1:8000 --concurrency 16
   glm46 bench --url http://node7:8000/v1 --data sharegpt.json --request-rate 2.5 --max-tokens 512 --json`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "url", Usage: "`URL` of the server, with or without /v1"},
			&cli.StringFlag{Name: flagModel, Usage: "model `NAME`; default: the first that the server lists"},
			&cli.StringFlag{Name: flagData, Usage: "samples: a `FILE`, or a folder of data sets", Value: datasets.DefaultDir},
			&cli.StringFlag{Name: flagDataset, Usage: "data set `NAME` in the folder; default: 8k in the default folder, else the only one"},
			&cli.IntFlag{Name: flagNumSamples, Usage: "use `N` samples; default: all of the file"},
			&cli.StringFlag{Name: flagConcurrency, Usage: "closed loop with `N` streams; with --request-rate a cap"},
			&cli.Float64Flag{Name: flagRequestRate, Usage: "open loop at `R` requests/s (Poisson)"},
			&cli.IntFlag{Name: flagMaxTokens, Usage: "cap every target at `N` tokens"},
			&cli.StringFlag{Name: "endpoint", Usage: "`chat|completions` instead of what each sample asks for"},
			&cli.StringFlag{Name: flagResults, Usage: "`DIR` for the results", Value: defaultResultsDir},
			&cli.DurationFlag{Name: "timeout", Usage: "longest request"},
			&cli.DurationFlag{Name: "idle-timeout", Usage: "longest silence of a stream"},
			&cli.BoolFlag{Name: "natural-stop", Usage: "let answers end where the model ends them"},
			&cli.BoolFlag{Name: "no-certificate", Usage: "do not calibrate the client before"},
			jsonFlag(),
		},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			o, err := benchOptions(c, env)
			if err != nil {
				return err
			}
			ctx, release := signalContext(c.Context)
			defer release()
			printer := newPrinter(env.Stderr, isTerminal(env.Stderr))
			o.Observer = printer
			outcome, err := harness.Bench(ctx, *o)
			printer.done()
			var target *harness.TargetError
			switch {
			case err != nil && ctx.Err() != nil:
				return exitWith(exitInterrupted, err)
			case errors.As(err, &target):
				return exitWith(exitPreflight, err)
			case err != nil:
				return dataSetError(err)
			}
			return printBench(c, env, outcome)
		},
	}
}

func benchOptions(c *cli.Context, env Environment) (*harness.BenchOptions, error) {
	target, err := url.Parse(c.String("url"))
	if err != nil || c.String("url") == "" || target.Host == "" || (target.Scheme != "http" && target.Scheme != "https") {
		return nil, usage(fmt.Errorf("--url %q: want http://HOST:PORT", c.String("url")))
	}
	o := &harness.BenchOptions{
		URL: c.String("url"), Model: c.String(flagModel), Data: c.String(flagData), Dataset: c.String(flagDataset),
		ResultsDir: c.String(flagResults), NumSamples: c.Int(flagNumSamples), MaxTokens: c.Int(flagMaxTokens), RequestRate: c.Float64(flagRequestRate),
		Limits:      load.Limits{Total: c.Duration("timeout"), Idle: c.Duration("idle-timeout"), IdleExplicit: c.IsSet("idle-timeout")},
		NaturalStop: c.Bool("natural-stop"), NoCertificate: c.Bool("no-certificate"), System: node.Host(), ToolVersion: buildVersion(),
	}
	o.APIKey, _ = env.Lookup("OPENAI_API_KEY")
	for _, name := range []string{flagNumSamples, flagMaxTokens} {
		if c.IsSet(name) && c.Int(name) <= 0 {
			return nil, usage(fmt.Errorf("--%s %d: want a whole number above 0", name, c.Int(name)))
		}
	}
	if c.IsSet(flagRequestRate) && !(o.RequestRate > 0) {
		return nil, usage(fmt.Errorf("--%s %v: want requests/s above 0", flagRequestRate, o.RequestRate))
	}
	if text := c.String(flagConcurrency); text != "" {
		n, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil || n <= 0 {
			return nil, usage(fmt.Errorf("--%s %q: want one whole number above 0", flagConcurrency, text))
		}
		o.Concurrency = n
	}
	if endpoint := c.String("endpoint"); endpoint != "" {
		if err := oneOf("endpoint", endpoint, string(measure.EndpointChat), string(measure.EndpointCompletions)); err != nil {
			return nil, err
		}
		o.Endpoint = measure.Endpoint(endpoint)
	}
	if o.Dataset == "" && o.Data == datasets.DefaultDir {
		o.Dataset = "8k"
	}
	return o, nil
}

func printBench(c *cli.Context, env Environment, outcome *harness.Outcome) error {
	var starts []result.StartResult
	for _, dir := range outcome.Cells[0].Dirs {
		start, err := result.ReadStart(dir)
		if err != nil {
			return err
		}
		starts = append(starts, start)
	}
	built := report.Build(nil, starts, report.Options{Title: "bench", Created: time.Now().UTC()})
	if c.Bool(flagJSON) {
		runs := []any{}
		for _, start := range starts {
			for _, level := range start.Levels {
				runs = append(runs, level.Raw)
			}
		}
		if err := printJSON(env.Stdout, map[string]any{"exit_code": outcome.Code, "dirs": outcome.Cells[0].Dirs, "runs": runs}); err != nil {
			return err
		}
	} else {
		printVerdicts(env.Stdout, outcome)
		fmt.Fprintln(env.Stdout)
		fmt.Fprint(env.Stdout, built.Terminal())
		for _, start := range starts {
			for _, level := range start.Levels {
				if level.Err == nil {
					fmt.Fprintln(env.Stdout)
					printLatencies(env.Stdout, &level.Run)
				}
			}
		}
	}
	if outcome.Code == 0 {
		return nil
	}
	return exitWith(outcome.Code, outcomeError(outcome), outcomeHints(outcome)...)
}
