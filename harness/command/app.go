// Package command is the command line of glm46: one file a command, which
// turns flags into calls and results into text. It decides nothing that a
// library could decide.
//
// Read app.go first (how a command line becomes an exit code), then run.go.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/glm46/glm46/mockvllm/server"
)

// Environment is everything of the process that commands see, so that tests
// can give another.
type Environment struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Environ holds NAME=VALUE pairs.
	Environ []string
}

// OSEnvironment is the environment of this process.
func OSEnvironment() Environment {
	return Environment{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Environ: os.Environ()}
}

// Lookup returns the value of a variable, and whether it is set.
func (e Environment) Lookup(name string) (string, bool) {
	// The last entry wins, as in os.Environ of a shell's child.
	for i := len(e.Environ) - 1; i >= 0; i-- {
		if value, ok := strings.CutPrefix(e.Environ[i], name+"="); ok {
			return value, true
		}
	}
	return "", false
}

// Main runs the command line and returns its exit code (README, "Exit codes").
// args[0] is the program's own name: a link named vllm makes it the mock.
func Main(args []string, env Environment) int {
	if filepath.Base(args[0]) == "vllm" {
		return server.Main(context.Background(), server.Options{
			Args: args[1:], Stdout: env.Stdout, Stderr: env.Stderr, Environ: env.Environ,
		})
	}
	app := newApp(env)
	args, err := addVariables(permuteArguments(app, args), env)
	if err == nil {
		err = app.Run(args)
	}
	if err == nil {
		return 0
	}
	return printError(env.Stderr, err)
}

// printError prints an error the way all commands do and returns its exit code.
func printError(stderr io.Writer, err error) int {
	var exit *ExitError
	if !errors.As(err, &exit) {
		exit = classify(err)
	}
	if exit.Err != nil && exit.Err.Error() != "" {
		fmt.Fprint(stderr, folded("glm46: error: ", exit.Err.Error(), stderr))
	}
	for _, hint := range exit.Hints {
		fmt.Fprint(stderr, folded("hint: ", hint, stderr))
	}
	return exit.Code
}

func newApp(env Environment) *cli.App {
	app := &cli.App{
		Name:            "glm46",
		Usage:           "which vLLM configuration serves GLM-4.6 best on one node, with numbers to stand on",
		Version:         buildVersion(),
		Writer:          &helpWriter{w: env.Stdout, width: terminalWidth(env.Stdout)},
		ErrWriter:       env.Stderr,
		HideHelpCommand: true,
		// Values of --set may hold commas; ids of --exp are split by the plan.
		DisableSliceFlagSeparator: true,
		Commands: []*cli.Command{
			listCommand(env),
			runCommand(env),
			benchCommand(env),
			planCommand(env),
			genPBSCommand(env),
			selftestCommand(env),
			mockCommand(env),
			datasetsCommand(env),
			reportCommand(env),
			compareCommand(env),
			doctorCommand(env),
		},
		OnUsageError: usageError,
		// Errors become exit codes in Main, not in the middle of the library.
		ExitErrHandler: func(*cli.Context, error) {},
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return unknownCommand(c.App, c.Args().First())
			}
			return cli.ShowAppHelp(c)
		},
	}
	for _, command := range app.Commands {
		prepare(command)
	}
	return app
}

// prepare gives a command and its children the habits of all commands.
func prepare(command *cli.Command) {
	command.OnUsageError = usageError
	command.HideHelpCommand = true
	for _, child := range command.Subcommands {
		prepare(child)
	}
	if len(command.Subcommands) > 0 && command.Action == nil {
		names := make([]string, 0, len(command.Subcommands))
		for _, child := range command.Subcommands {
			names = append(names, child.Name)
		}
		command.Action = func(c *cli.Context) error {
			if !c.Args().Present() {
				return usage(fmt.Errorf("%s: which one? one of %s", command.Name, strings.Join(names, ", ")))
			}
			return usage(fmt.Errorf("%s: unknown command %q; one of %s", command.Name, c.Args().First(), strings.Join(names, ", ")))
		}
	}
}

// buildVersion is the module's version, or the commit, or "devel".
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	version := info.Main.Version
	var revision, modified string
	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.revision":
			revision = setting.Value
		case "vcs.modified":
			if setting.Value == "true" {
				modified = "+dirty"
			}
		}
	}
	if (version == "" || version == "(devel)") && len(revision) >= 12 {
		version = "devel-" + revision[:12] + modified
	}
	if version == "" || version == "(devel)" {
		version = "devel"
	}
	return fmt.Sprintf("%s (%s)", version, info.GoVersion)
}
