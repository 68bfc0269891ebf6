package command

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/glm46/glm46/harness"
	"github.com/glm46/glm46/harness/experiment"
	"github.com/glm46/glm46/mockvllm/vllm"
)

func listCommand(env Environment) *cli.Command {
	const flagParameters = "parameters"
	flags := append(selectionFlags(), loadFlags()...)
	return &cli.Command{
		Name:  "list",
		Usage: "the cells of the plan: settings, exact vllm arguments, what a version refuses and why",
		Description: `Examples:
   glm46 list                                    all cells, for vLLM ` + vllm.DefaultVersion + `
   glm46 list --exp 3B --vllm-version 0.14.0     one cell, for another version
   glm46 list --added --json                     everything, as one JSON document
   glm46 list --results results                  with the state of each cell
   glm46 list --parameters                       the plan's parameter reference`,
		Flags: append(flags,
			&cli.StringFlag{Name: flagVLLMVersion, Usage: usageVLLMVersion, Value: vllm.DefaultVersion, Category: categoryServer},
			&cli.StringFlag{Name: flagModel, Usage: "model `PATH` or name instead of the plan's", Category: categoryServer},
			&cli.StringFlag{Name: flagResults, Usage: "show the state of each cell from the results in `DIR`", Category: categoryPlaces},
			&cli.BoolFlag{Name: flagParameters, Usage: "the parameter reference, with defaults by version"},
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
			if c.Bool(flagParameters) {
				if c.Bool(flagJSON) {
					return printJSON(env.Stdout, map[string]any{"vllm_version": version.String(), "parameters": experiment.Parameters(version)})
				}
				_, err := fmt.Fprint(env.Stdout, experiment.ParametersText(version, terminalWidth(env.Stdout)))
				return err
			}
			plan, err := loadPlan(c)
			if err != nil {
				return err
			}
			r, err := request(c, env)
			if err != nil {
				return err
			}
			// A list is of the plan, not of the environment of this shell: only a
			// cell asked for by flag takes settings from there.
			if len(r.Experiments) == 0 && r.Group == 0 {
				r.All = true
				r.Lookup, r.Environ = noEnvironment, nil
			}
			cells, err := resolve(plan, r)
			if err != nil {
				return err
			}
			options := experiment.ListOptions{Version: version, Model: c.String(flagModel), Width: terminalWidth(env.Stdout), Checks: []experiment.Check{harness.MemoryCheck}}
			if dir := c.String(flagResults); dir != "" {
				if options.States, err = cellStates(dir, cells); err != nil {
					return err
				}
			}
			list := plan.NewList(cells, options)
			if c.Bool(flagJSON) {
				return printJSON(env.Stdout, list)
			}
			_, err = fmt.Fprint(env.Stdout, list.Text(options))
			return err
		},
	}
}
