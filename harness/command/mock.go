package command

import (
	"context"

	"github.com/urfave/cli/v2"

	"github.com/glm46/glm46/mockvllm/server"
)

func mockCommand(env Environment) *cli.Command {
	return &cli.Command{
		Name:  "mock",
		Usage: "a mock vllm whose tokens come out of a model of 8 x H200",
		Subcommands: []*cli.Command{{
			Name:      "serve",
			Usage:     "answer like `vllm serve`, with vLLM's own flags and the mock's (docs/mock.md)",
			ArgsUsage: "MODEL [vLLM's flags] [--mock-version X] [--mock-speed X] [--mock-seed N] [--mock-startup none|model] [--mock-ttft D --mock-itl D] [--mock-scenario FILE] [--mock-truth FILE]",
			Description: `Examples:
   glm46 mock serve zai-org/GLM-4.6 --tensor-parallel-size 8 --port 8000
   glm46 mock serve zai-org/GLM-4.6 --enforce-eager --mock-version 0.14.0 --mock-speed 10
   ln -s "$(command -v glm46)" vllm && ./vllm serve zai-org/GLM-4.6`,
			SkipFlagParsing: true,
			Action: func(c *cli.Context) error {
				args := c.Args().Slice()
				if len(args) == 1 && (args[0] == "--help" || args[0] == "-h") {
					return cli.ShowSubcommandHelp(c)
				}
				code := server.Main(context.Background(), server.Options{
					Args: append([]string{"serve"}, args...), Stdout: env.Stdout, Stderr: env.Stderr, Environ: env.Environ,
				})
				if code != 0 {
					return exitWith(code, nil)
				}
				return nil
			},
		}},
	}
}
