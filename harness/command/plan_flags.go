package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/glm46/glm46/harness/experiment"
	"github.com/glm46/glm46/harness/experiment/planfile"
	"github.com/glm46/glm46/mockvllm/vllm"
)

// Names of flags that several commands share.
const (
	flagPlan           = "plan"
	flagExp            = "exp"
	flagGroup          = "group"
	flagAll            = "all"
	flagAdded          = "added"
	flagDataset        = "dataset"
	flagBase           = "base"
	flagSet            = "set"
	flagNumSamples     = "num-samples"
	flagMaxTokens      = "max-tokens"
	flagConcurrency    = "concurrency"
	flagRequestRate    = "request-rate"
	flagVLLMVersion    = "vllm-version"
	flagModel          = "model"
	flagData           = "data"
	flagResults        = "results"
	flagJSON           = "json"
	flagWalltime       = "walltime"
	defaultResultsDir  = "results"
	environmentPrefix  = "GLM46_"
	variableWalltimeS  = "GLM46_WALLTIME_S"
	usageVLLMVersion   = "vLLM version that decides flags, log forms and refusals"
	usageJSON          = "print one JSON document on stdout"
	categorySelection  = "Which cells:"
	categoryLoad       = "The load:"
	categoryPlaces     = "Files and places:"
	categoryServer     = "The server:"
	categoryMock       = "The mock:"
	categoryMisc       = "Conduct of the run:"
	hintListShowsCells = `"glm46 list" shows the cells`
)

func jsonFlag() cli.Flag { return &cli.BoolFlag{Name: flagJSON, Usage: usageJSON} }

// selectionFlags choose cells and change their settings.
func selectionFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: flagPlan, Usage: "plan `FILE` (YAML, docs/plan-schema.md); default: the embedded plan of GLM-4.6", Category: categorySelection},
		&cli.StringSliceFlag{Name: flagExp, Usage: "experiments or cells, `ID[,ID]`: 5B, 3A, 3A/64k", Category: categorySelection},
		&cli.IntFlag{Name: flagGroup, Usage: "all cells of group `N`", Category: categorySelection},
		&cli.BoolFlag{Name: flagAll, Usage: "all cells of the plan", Category: categorySelection},
		&cli.BoolFlag{Name: flagAdded, Usage: "the cells marked \"added\" as well", Category: categorySelection},
		&cli.StringFlag{Name: flagDataset, Usage: "only or instead the data set `NAME`: 8k, 64k", Category: categorySelection},
		&cli.StringFlag{Name: flagBase, Usage: "baseline that experiments vary from: `eager|compiled`", Category: categorySelection},
		&cli.StringSliceFlag{Name: flagSet, Usage: "a setting, `NAME=VALUE`, or @FILE with one a line; stronger than the environment", Category: categorySelection},
	}
}

// loadFlags replace the load of the cells.
func loadFlags() []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{Name: flagNumSamples, Usage: "use `N` samples of the data set", Category: categoryLoad},
		&cli.IntFlag{Name: flagMaxTokens, Usage: "cap every target at `N` tokens", Category: categoryLoad},
		&cli.StringFlag{Name: flagConcurrency, Usage: "closed loops at `N[,N]|auto` streams instead of the plan's levels", Category: categoryLoad},
		&cli.Float64Flag{Name: flagRequestRate, Usage: "an open loop at `R` requests/s instead of the plan's levels", Category: categoryLoad},
	}
}

// loadPlan reads --plan, or gives the embedded plan.
func loadPlan(c *cli.Context) (*experiment.Plan, error) {
	path := c.String(flagPlan)
	if path == "" {
		return experiment.Default(), nil
	}
	plan, err := planfile.Load(path)
	if err != nil {
		return nil, usage(err, "docs/plan-schema.md describes the file")
	}
	return plan, nil
}

// request collects the flags that select and change cells.
func request(c *cli.Context, env Environment) (experiment.Request, error) {
	for _, name := range []string{flagNumSamples, flagMaxTokens, flagGroup} {
		if c.IsSet(name) && c.Int(name) <= 0 {
			return experiment.Request{}, usage(fmt.Errorf("--%s %d: want a whole number above 0", name, c.Int(name)))
		}
	}
	if c.IsSet(flagRequestRate) && !(c.Float64(flagRequestRate) > 0) {
		return experiment.Request{}, usage(fmt.Errorf("--%s %v: want requests/s above 0", flagRequestRate, c.Float64(flagRequestRate)))
	}
	settings, err := settingLines(c.StringSlice(flagSet))
	if err != nil {
		return experiment.Request{}, err
	}
	return experiment.Request{
		Experiments: c.StringSlice(flagExp),
		Group:       c.Int(flagGroup),
		All:         c.Bool(flagAll),
		Added:       c.Bool(flagAdded),
		Dataset:     c.String(flagDataset),
		Base:        c.String(flagBase),
		Set:         settings,
		NumSamples:  c.Int(flagNumSamples),
		MaxTokens:   c.Int(flagMaxTokens),
		Concurrency: c.String(flagConcurrency),
		RequestRate: c.Float64(flagRequestRate),
		Lookup:      env.Lookup,
		Environ:     env.Environ,
		KnownGLM46:  knownGLM46Variables(),
	}, nil
}

// settingLines replaces @FILE by the settings in it, one NAME=VALUE a line; blank
// lines and lines that begin with # are passed over. It is the way in for values
// that "qsub -v" breaks.
func settingLines(given []string) ([]string, error) {
	const longest = 1 << 20
	var out []string
	for _, entry := range given {
		path, isFile := strings.CutPrefix(entry, "@")
		if !isFile {
			out = append(out, entry)
			continue
		}
		file, err := os.Open(path)
		if err != nil {
			return nil, usage(fmt.Errorf("--%s %s: %w", flagSet, entry, err))
		}
		data, err := io.ReadAll(io.LimitReader(file, longest))
		file.Close()
		if err != nil {
			return nil, usage(fmt.Errorf("--%s %s: %w", flagSet, entry, err))
		}
		for line := range strings.Lines(string(data)) {
			line = strings.TrimSpace(line)
			if line != "" && !strings.HasPrefix(line, "#") {
				out = append(out, line)
			}
		}
	}
	return out, nil
}

// resolve gives the cells that flags and environment ask for.
func resolve(plan *experiment.Plan, r experiment.Request) ([]experiment.Cell, error) {
	cells, err := plan.Resolve(r)
	if err != nil {
		return nil, asUsage(err)
	}
	return cells, nil
}

// asUsage gives usage errors of the libraries their exit code.
func asUsage(err error) error {
	var wrong *experiment.UsageError
	if errors.As(err, &wrong) {
		return usage(err, hintListShowsCells)
	}
	return err
}

// vllmVersion reads --vllm-version; empty gives the fallback.
func vllmVersion(c *cli.Context, fallback string) (vllm.Version, error) {
	text := c.String(flagVLLMVersion)
	if text == "" {
		text = fallback
	}
	version, err := vllm.ParseVersion(text)
	if err != nil {
		return vllm.Version{}, usage(fmt.Errorf("--%s: %w", flagVLLMVersion, err))
	}
	return version, nil
}

// noArguments refuses stray arguments, which are mostly misspelt flags.
func noArguments(c *cli.Context) error {
	if !c.Args().Present() {
		return nil
	}
	hint := fmt.Sprintf("see \"%s --help\"", c.Command.HelpName)
	return usage(fmt.Errorf("unexpected argument %q", c.Args().First()), hint)
}

func printJSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v)
}

func nearestOf(name string, candidates []string) []string {
	return experiment.Nearest(name, candidates)
}

func oneOf(flag, value string, allowed ...string) error {
	for _, a := range allowed {
		if value == a {
			return nil
		}
	}
	return usage(fmt.Errorf("--%s %q: want one of %s", flag, value, strings.Join(allowed, ", ")))
}
