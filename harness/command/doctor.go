package command

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/glm46/glm46/harness/experiment"
	"github.com/glm46/glm46/harness/fold"
	"github.com/glm46/glm46/harness/node"
)

func doctorCommand(env Environment) *cli.Command {
	return &cli.Command{
		Name:  "doctor",
		Usage: "is this node ready: one line a check, each with what to do; exit 6 if not",
		Description: `Examples:
   glm46 doctor
   glm46 doctor --model /scratch/models/GLM-4.6 --json
   glm46 doctor --mock                            what the mock needs, no GPU`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: flagModel, Usage: "folder of the model, to check its files"},
			&cli.StringFlag{Name: flagResults, Usage: "`DIR` for the results", Value: defaultResultsDir},
			&cli.StringFlag{Name: "vllm", Usage: "the `CMD` line that starts vllm", Value: "vllm"},
			&cli.BoolFlag{Name: "mock", Usage: "check only what a run with --mock needs"},
			jsonFlag(),
		},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			words, err := commandWords(c.String("vllm"))
			if err != nil {
				return err
			}
			system := node.Host()
			system.Environ = env.Environ
			needs := node.Needs{ResultsDir: c.String(flagResults)}
			if !c.Bool("mock") {
				plan := experiment.Default()
				needs.GPUs, needs.ExpectGPU, needs.VLLM = plan.GPUs, plan.GPU, words[0]
				if info, err := os.Stat(c.String(flagModel)); err == nil && info.IsDir() {
					needs.ModelDir = c.String(flagModel)
				} else if c.String(flagModel) != "" && strings.HasPrefix(c.String(flagModel), "/") {
					return usage(fmt.Errorf("--%s %q: no such folder", flagModel, c.String(flagModel)))
				}
			}
			state := node.Doctor(c.Context, system, needs)
			if c.Bool(flagJSON) {
				if err := printJSON(env.Stdout, map[string]any{"ready": state.Err() == nil, "checks": state.Checks}); err != nil {
					return err
				}
			} else {
				for _, check := range state.Checks {
					fmt.Fprint(env.Stdout, fold.Line(printable(check.String()), foldWidth(env.Stdout)))
				}
			}
			if state.Err() != nil {
				return exitWith(exitPreflight, errors.New("this node is not ready: see the lines marked fail"))
			}
			return nil
		},
	}
}
