package command

import (
	"github.com/urfave/cli/v2"
)

func compareCommand(env Environment) *cli.Command  { return &cli.Command{Name: "compare"} }
func planCommand(env Environment) *cli.Command     { return &cli.Command{Name: "plan"} }
func selftestCommand(env Environment) *cli.Command { return &cli.Command{Name: "selftest"} }
