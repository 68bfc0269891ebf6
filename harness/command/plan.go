package command

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/glm46/glm46/datasets"
	"github.com/glm46/glm46/harness/experiment"
	"github.com/glm46/glm46/harness/predict"
	"github.com/glm46/glm46/mockvllm/model"
	"github.com/glm46/glm46/mockvllm/vllm"
)

func planCommand(env Environment) *cli.Command {
	return &cli.Command{
		Name:  "plan",
		Usage: "predict without a GPU: capacity, latencies, throughput, hours, what can be told apart",
		Description: `Examples:
   glm46 plan --all                                  every cell of the plan
   glm46 plan --exp 1A,1B --starts 5 --json
   glm46 plan --all --base both --walltime 24:00:00  and pack the cells into jobs
   glm46 plan --workload w.json --serve '--enforce-eager --kv-cache-dtype fp8' --json

A workload file: {"requests": [{"prompt_tokens": 8000, "output_tokens": 1000,
"at_s": 0}], "max_concurrency": null} (docs/timing-model.md).`,
		Flags: append(append(selectionFlags(), loadFlags()...),
			&cli.IntFlag{Name: "starts", Usage: "server starts for each configuration", Value: predict.DefaultStarts},
			&cli.Float64Flag{Name: "spread", Usage: "assumed start-to-start spread, a `SHARE`", Value: predict.DefaultSpread},
			&cli.StringFlag{Name: flagWalltime, Usage: "pack the cells into jobs of `HH:MM:SS`"},
			&cli.StringFlag{Name: flagVLLMVersion, Usage: usageVLLMVersion, Value: vllm.DefaultVersion},
			&cli.StringFlag{Name: "workload", Usage: "predict the requests of `FILE` instead of cells; - is stdin"},
			&cli.StringFlag{Name: "serve", Usage: "`FLAGS` of vllm serve for --workload; what is not given takes vLLM's default"},
			&cli.StringFlag{Name: "gpu-profile", Usage: "model and hardware as a JSON `FILE` (docs/timing-model.md)"},
			&cli.StringFlag{Name: flagData, Usage: "`DIR` of the data sets whose lengths to use; default: the plan's averages"},
			jsonFlag(),
		),
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			version, err := vllmVersion(c, vllm.DefaultVersion)
			if err != nil {
				return err
			}
			profile, err := gpuProfile(c.String("gpu-profile"))
			if err != nil {
				return err
			}
			if c.String("workload") != "" {
				return planWorkload(c, env, version, profile)
			}
			if c.String("serve") != "" {
				return usage(errors.New("--serve goes with --workload"))
			}
			return planCells(c, env, version, profile)
		},
	}
}

// gpuProfile reads a profile; empty is the built-in one.
func gpuProfile(path string) (*model.Profile, error) {
	if path == "" {
		return nil, nil
	}
	data, err := readLimited(path)
	if err != nil {
		return nil, usage(fmt.Errorf("--gpu-profile: %w", err))
	}
	profile, err := model.ParseProfile(path, data)
	if err != nil {
		return nil, usage(err)
	}
	return profile, nil
}

// readLimited reads a file that a person or a program wrote for us; "-" is stdin.
func readLimited(path string) ([]byte, error) {
	const limit = 256 << 20
	file := os.Stdin
	if path != "-" {
		var err error
		if file, err = os.Open(path); err != nil {
			return nil, err
		}
		defer file.Close()
	}
	data, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err != nil {
		return nil, err
	}
	if len(data) > limit {
		return nil, fmt.Errorf("%s: longer than %d MiB", path, limit>>20)
	}
	return data, nil
}

func planWorkload(c *cli.Context, env Environment, version vllm.Version, profile *model.Profile) error {
	path := c.String("workload")
	data, err := readLimited(path)
	if err != nil {
		return usage(fmt.Errorf("--workload: %w", err))
	}
	workload, err := predict.ParseWorkload(path, data)
	if err != nil {
		return usage(err, "docs/timing-model.md describes workload files")
	}
	predicted, err := predict.Workload(workload, c.String("serve"), predict.WorkloadOptions{Version: version, Profile: profile})
	if err != nil {
		return workloadError(err)
	}
	if c.Bool(flagJSON) {
		return printJSON(env.Stdout, predicted)
	}
	printWorkload(env.Stdout, predicted)
	return nil
}

func printWorkload(w io.Writer, r *predict.WorkloadResult) {
	fmt.Fprintf(w, "KV cache          %s tokens\n", datasets.Thousands(int64(r.KVTokens)))
	fmt.Fprintf(w, "duration          %.2f s, %s steps, %s preemptions\n", r.DurationS, datasets.Thousands(r.Steps), datasets.Thousands(r.Preemptions))
	fmt.Fprintf(w, "output            %.1f tokens/s\n", r.OutputThroughput)
	fmt.Fprintf(w, "prompt and output %.1f tokens/s\n\n", r.TotalTokenThroughput)
	fmt.Fprintf(w, "%-6s %12s %12s %12s\n", "ms", "mean", "median", "p99")
	for _, row := range []struct {
		name              string
		mean, median, p99 float64
	}{
		{"TTFT", r.MeanTTFTMs, r.MedianTTFTMs, r.P99TTFTMs},
		{"TPOT", r.MeanTPOTMs, r.MedianTPOTMs, r.P99TPOTMs},
		{"ITL", r.MeanITLMs, r.MedianITLMs, r.P99ITLMs},
		{"E2E", r.MeanE2ELMs, r.MedianE2ELMs, r.P99E2ELMs},
	} {
		fmt.Fprintf(w, "%-6s %12.2f %12.2f %12.2f\n", row.name, row.mean, row.median, row.p99)
	}
}

// workloadError gives the refusals of a workload their exit codes: the engine's
// is 4, as for run.
func workloadError(err error) error {
	var (
		fault   *predict.WorkloadError
		flags   *vllm.UsageError
		missing *model.UnsupportedError
	)
	switch {
	case errors.As(err, &flags):
		return usage(fmt.Errorf("--serve: %s", flags.Text))
	case errors.As(err, &fault), errors.As(err, &missing):
		return usage(err)
	case predict.IsRefusal(err):
		return exitWith(exitEngine, fmt.Errorf("the engine refuses this: %w", err))
	}
	return err
}

func planCells(c *cli.Context, env Environment, version vllm.Version, profile *model.Profile) error {
	plan, err := loadPlan(c)
	if err != nil {
		return err
	}
	r, err := request(c, env)
	if err != nil {
		return err
	}
	if len(r.Experiments) == 0 && r.Group == 0 {
		if name, ok := env.Lookup(experiment.VarExpName); r.All || !ok || name == "" {
			r.All = true
			r.Lookup, r.Environ = noEnvironment, nil
		}
	}
	o := predict.CellOptions{Version: version, Starts: c.Int("starts"), Spread: c.Float64("spread"), Profile: profile}
	if o.Starts <= 0 || !(o.Spread > 0) {
		return usage(errors.New("--starts and --spread: want numbers above 0"))
	}
	switch base := r.Base; base {
	case "both":
		r.Base, o.Bases = "", []string{"eager", "compiled"}
	case "":
	default:
		o.Bases = []string{base}
	}
	if text := c.String(flagWalltime); text != "" {
		if o.Walltime, err = parseWalltime(text); err != nil {
			return usage(fmt.Errorf("--%s: %w", flagWalltime, err))
		}
	}
	if dir := c.String(flagData); dir != "" {
		o.Lengths = setLengths(c, dir)
	}
	predicted, err := predict.Cells(plan, r, o)
	if err != nil {
		return asUsage(err)
	}
	if c.Bool(flagJSON) {
		return printJSON(env.Stdout, predicted)
	}
	_, err = fmt.Fprint(env.Stdout, predicted.Text(foldWidth(env.Stdout)))
	return err
}

// setLengths gives the lengths of the samples in a folder of data sets.
func setLengths(c *cli.Context, dir string) func(string) []predict.Length {
	return func(name string) []predict.Length {
		set, err := datasets.Load(c.Context, dir, name, datasets.LoadOptions{})
		if err != nil {
			return nil
		}
		out := make([]predict.Length, 0, len(set.Samples))
		for _, sample := range set.Samples {
			out = append(out, predict.Length{Prompt: sample.PromptTokens, Target: sample.TargetTokens})
		}
		return out
	}
}
