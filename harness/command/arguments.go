package command

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// permuteArguments moves the flags of the command line before its arguments,
// because the flag parser stops at the first argument and would take
// "report DIR --format md" for three arguments. "--" ends the flags.
func permuteArguments(app *cli.App, args []string) []string {
	if len(args) < 2 {
		return args
	}
	out := []string{args[0]}
	rest := args[1:]
	commands, flags := app.Commands, app.Flags
	for len(rest) > 0 {
		name := rest[0]
		i := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.HasName(name) })
		if i < 0 {
			break
		}
		out = append(out, name)
		rest = rest[1:]
		if commands[i].SkipFlagParsing {
			return append(out, rest...)
		}
		commands, flags = commands[i].Subcommands, commands[i].Flags
	}
	var options, arguments []string
	for i := 0; i < len(rest); i++ {
		arg := rest[i]
		if arg == "--" {
			arguments = append(arguments, rest[i:]...)
			break
		}
		if len(arg) < 2 || arg[0] != '-' {
			arguments = append(arguments, arg)
			continue
		}
		options = append(options, arg)
		if !strings.Contains(arg, "=") && takesValue(flags, strings.TrimLeft(arg, "-")) && i+1 < len(rest) {
			i++
			options = append(options, rest[i])
		}
	}
	out = append(out, options...)
	return append(out, arguments...)
}

func takesValue(flags []cli.Flag, name string) bool {
	for _, flag := range flags {
		if slices.Contains(flag.Names(), name) {
			_, boolean := flag.(*cli.BoolFlag)
			return !boolean
		}
	}
	return false
}

func flagNames(flags []cli.Flag) []string {
	var names []string
	for _, flag := range flags {
		names = append(names, flag.Names()...)
	}
	return names
}
