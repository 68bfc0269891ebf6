package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/glm46/glm46/datasets"
	"github.com/glm46/glm46/harness/experiment"
	"github.com/glm46/glm46/harness/fold"
)

func datasetsCommand(env Environment) *cli.Command {
	return &cli.Command{
		Name:  "datasets",
		Usage: "write, validate and describe data sets",
		Subcommands: []*cli.Command{
			datasetsGenCommand(env),
			datasetsVerifyCommand(env),
			datasetsInfoCommand(env),
		},
	}
}

// dataSetError gives errors of package datasets their exit code.
func dataSetError(err error) error {
	var (
		invalid  *datasets.InvalidError
		notFound *datasets.NotFoundError
		exists   *datasets.ExistsError
	)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &invalid):
		return exitWith(exitDataSet, err)
	case errors.As(err, &notFound):
		return exitWith(exitDataSet, err)
	case errors.As(err, &exists):
		return exitWith(exitDataSet, err)
	case errors.Is(err, context.Canceled):
		return exitWith(exitInterrupted, err)
	}
	return err
}

func datasetsGenCommand(env Environment) *cli.Command {
	return &cli.Command{
		Name:  "gen",
		Usage: "write the plan's data sets: synthetic text, or from your own text files",
		Description: `Examples:
   glm46 datasets gen --dataset all
   glm46 datasets gen --dataset 8k --samples 100 -o storage/samples/glm46_benchmark
   glm46 datasets gen --dataset 64k --from "$(go env GOROOT)/src"
   glm46 datasets gen --dataset 8k --kind repeat -o /tmp/repeat`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: flagDataset, Usage: "`8k|64k|all`", Value: "all"},
			&cli.IntFlag{Name: "samples", Usage: "number of samples", Value: 100},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "`DIR` to write into", Value: datasets.DefaultDir},
			&cli.Uint64Flag{Name: "seed", Usage: "same options and seed, same bytes", Value: 1},
			&cli.StringFlag{Name: "from", Usage: "make the prompts from the text files below `DIR`"},
			&cli.StringFlag{Name: "kind", Usage: "kind of synthetic text: " + joined(datasets.Kinds())},
			&cli.IntFlag{Name: "prompt-tokens", Usage: "length of a prompt instead of the set's"},
			&cli.IntFlag{Name: "target-tokens", Usage: "length of an answer instead of the set's"},
			&cli.Float64Flag{Name: "shared-prefix", Usage: "share of each prompt, 0 to 1, that it has in common with others"},
			&cli.IntFlag{Name: "prefix-groups", Usage: "number of groups that share a prefix", Value: 1},
			&cli.Float64Flag{Name: "self-repetition", Usage: "share of passages that repeat an earlier one of the prompt; negative: the kind's default", Value: -1},
			&cli.StringFlag{Name: "tokenizer", Usage: "count tokens exactly with this tokenizer.json, or the model folder that holds it"},
			jsonFlag(),
		},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			names := []string{c.String(flagDataset)}
			if names[0] == "all" {
				names = []string{"8k", "64k"}
			} else if err := oneOf(flagDataset, names[0], "8k", "64k", "all"); err != nil {
				return err
			}
			if c.Int("samples") <= 0 {
				return usage(fmt.Errorf("--samples %d: want a whole number above 0", c.Int("samples")))
			}
			if kind := c.String("kind"); kind != "" {
				if err := oneOf("kind", kind, datasets.Kinds()...); err != nil {
					return err
				}
			}
			for _, name := range []string{"shared-prefix", "self-repetition"} {
				if share := c.Float64(name); share > 1 || (name == "shared-prefix" && share < 0) {
					return usage(fmt.Errorf("--%s %v: want a share from 0 to 1", name, share))
				}
			}
			if from := c.String("from"); from != "" {
				if info, err := os.Stat(from); err != nil || !info.IsDir() {
					return usage(fmt.Errorf("--from %q: no such folder", from))
				}
			}
			counter, err := tokenCounter(c.String("tokenizer"))
			if err != nil {
				return err
			}
			var results []*datasets.Result
			for _, name := range names {
				options := datasets.GenOptions{
					Dataset: name, Samples: c.Int("samples"), Dir: c.String("output"), Seed: c.Uint64("seed"),
					From: c.String("from"), Kind: c.String("kind"),
					PromptTokens: c.Int("prompt-tokens"), TargetTokens: c.Int("target-tokens"),
					SharedPrefixShare: c.Float64("shared-prefix"), PrefixGroups: c.Int("prefix-groups"),
					SelfRepetition: c.Float64("self-repetition"), Tokenizer: counter,
				}
				result, err := datasets.Generate(c.Context, options)
				if err != nil {
					return dataSetError(err)
				}
				results = append(results, result)
				if c.Bool(flagJSON) {
					continue
				}
				what := "wrote"
				if result.Unchanged {
					what = "unchanged"
				}
				fmt.Fprintf(env.Stdout, "%s %s: %d samples, %s prompt tokens on average, target %s\n", what, result.Path,
					result.Manifest.Samples, datasets.Thousands(int64(result.Manifest.PromptTokens.Mean)), datasets.Thousands(int64(result.Manifest.TargetTokens.Mean)))
				for _, note := range result.Notes {
					fmt.Fprintf(env.Stderr, "note: %s\n", note)
				}
			}
			if c.Bool(flagJSON) {
				return printJSON(env.Stdout, map[string]any{"sets": results})
			}
			return nil
		},
	}
}

// tokenCounter loads --tokenizer; empty gives nil, which is the estimate.
func tokenCounter(path string) (datasets.TokenCounter, error) {
	if path == "" {
		return nil, nil
	}
	counter, err := datasets.OpenTokenizer(path)
	if err != nil {
		return nil, usage(fmt.Errorf("--tokenizer: %w", err))
	}
	return counter, nil
}

func datasetsVerifyCommand(env Environment) *cli.Command {
	return &cli.Command{
		Name:      "verify",
		Usage:     "expand and validate data sets; exit 7 with every fault",
		ArgsUsage: "PATH...",
		Description: `Examples:
   glm46 datasets verify storage/samples/glm46_benchmark
   glm46 datasets verify samples.jsonl.gz sharegpt.json --json`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "tokenizer", Usage: "count tokens exactly with this tokenizer.json, or the model folder that holds it"},
			&cli.IntFlag{Name: "max-faults", Usage: "list at most `N` faults a file", Value: 100},
			jsonFlag(),
		},
		Action: func(c *cli.Context) error {
			paths := c.Args().Slice()
			if len(paths) == 0 {
				return usage(errors.New("datasets verify: which files or folders?"), `for example "glm46 datasets verify `+datasets.DefaultDir+`"`)
			}
			counter, err := tokenCounter(c.String("tokenizer"))
			if err != nil {
				return err
			}
			options := datasets.VerifyOptions{LoadOptions: datasets.LoadOptions{Tokenizer: counter, MaxFaults: c.Int("max-faults")}, Fits: planFits()}
			report, err := datasets.Verify(c.Context, paths, options)
			if err != nil {
				return dataSetError(err)
			}
			if c.Bool(flagJSON) {
				if err := printJSON(env.Stdout, report); err != nil {
					return err
				}
			} else {
				printVerification(env.Stdout, report)
			}
			if !report.OK() {
				return exitWith(exitDataSet, errors.New("not valid: see the faults above"))
			}
			return nil
		},
	}
}

// planFits are the context lengths of the embedded plan's cells, by data set.
func planFits() map[string][]datasets.Fit {
	plan := experiment.Default()
	cells, err := plan.Resolve(experiment.Request{All: true, Lookup: func(string) (string, bool) { return "", false }})
	if err != nil {
		return nil
	}
	fits := map[string][]datasets.Fit{}
	for _, configuration := range experiment.Configurations(cells) {
		cell := configuration.Cell
		fits[cell.Dataset] = append(fits[cell.Dataset], datasets.Fit{Name: cell.ID, MaxModelLen: cell.Settings.MaxModelLen})
	}
	return fits
}

func datasetsInfoCommand(env Environment) *cli.Command {
	return &cli.Command{
		Name:      "info",
		Usage:     "describe data sets: counts, tokens, hashes, shared prefixes",
		ArgsUsage: "[DIR|FILE ...]",
		Description: `Examples:
   glm46 datasets info                     the plan's table of the sets in ` + datasets.DefaultDir + `
   glm46 datasets info samples.jsonl.zst --json`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "tokenizer", Usage: "count tokens exactly with this tokenizer.json, or the model folder that holds it"},
			jsonFlag(),
		},
		Action: func(c *cli.Context) error {
			paths := c.Args().Slice()
			if len(paths) == 0 {
				paths = []string{datasets.DefaultDir}
			}
			counter, err := tokenCounter(c.String("tokenizer"))
			if err != nil {
				return err
			}
			infos, err := describeSets(c.Context, paths, datasets.LoadOptions{Tokenizer: counter})
			if err != nil {
				return dataSetError(err)
			}
			if c.Bool(flagJSON) {
				return printJSON(env.Stdout, map[string]any{"sets": infos})
			}
			fmt.Fprintln(env.Stdout, datasets.PlanTable(infos))
			for _, info := range infos {
				for line := range strings.SplitSeq(info.Text(), "\n") {
					fmt.Fprint(env.Stdout, fold.Line(line, foldWidth(env.Stdout)))
				}
			}
			return nil
		},
	}
}

// describeSets loads files, and of folders the plan's sets that lie in them.
func describeSets(ctx context.Context, paths []string, o datasets.LoadOptions) ([]*datasets.Info, error) {
	var infos []*datasets.Info
	for _, path := range paths {
		found := false
		for _, spec := range datasets.Specs() {
			set, err := datasets.Load(ctx, path, spec.Name, o)
			var missing *datasets.NotFoundError
			if errors.As(err, &missing) {
				continue
			}
			if err != nil {
				return nil, err
			}
			found = true
			infos = append(infos, set.Info())
			if info, err := os.Stat(path); err != nil || !info.IsDir() {
				break
			}
		}
		if found {
			continue
		}
		set, err := datasets.Load(ctx, path, "", o)
		if err != nil {
			return nil, err
		}
		infos = append(infos, set.Info())
	}
	return infos, nil
}

// printVerification prints a verdict a file, then its faults and warnings.
func printVerification(w io.Writer, report *datasets.Report) {
	for _, file := range report.Files {
		verdict := "ok"
		if len(file.Faults) > 0 {
			verdict = "NOT VALID"
		}
		if file.Format != "" { // something was read
			verdict += fmt.Sprintf(" (%s, %s samples, %s bytes expanded)", file.Format, datasets.Thousands(file.Samples), datasets.Thousands(file.ContentBytes))
		}
		fmt.Fprintf(w, "%s: %s\n", file.Path, verdict)
		for _, fault := range file.Faults {
			fmt.Fprintf(w, "  fault: %s\n", printable(fault.String()))
		}
		if file.MoreFaults > 0 {
			fmt.Fprintf(w, "  and %d more faults\n", file.MoreFaults)
		}
		for _, warning := range file.Warnings {
			fmt.Fprintf(w, "  warning: %s\n", printable(warning.String()))
		}
		if file.MoreWarnings > 0 {
			fmt.Fprintf(w, "  and %d more warnings\n", file.MoreWarnings)
		}
		for _, fit := range file.Fits {
			if fit.Capped+fit.Impossible > 0 {
				fmt.Fprintf(w, "  %s: %d samples do not fit max-model-len %s with their full target (worst: %s tokens over), %d not at all\n",
					fit.Name, fit.Capped+fit.Impossible, datasets.Thousands(int64(fit.MaxModelLen)), datasets.Thousands(fit.WorstOverTokens), fit.Impossible)
			}
		}
	}
}
