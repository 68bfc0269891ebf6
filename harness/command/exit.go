package command

import (
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
)

// Exit codes, the same for all commands (README, "Exit codes").
const (
	exitInternal     = 1
	exitUsage        = 2
	exitNotValid     = 3
	exitEngine       = 4
	exitInterrupted  = 5
	exitPreflight    = 6
	exitDataSet      = 7
	exitSlower       = 8
	hintSeeHelpOfAll = `"glm46 --help" shows all commands`
)

// ExitError carries the exit code of a command with what there is to say.
type ExitError struct {
	Code int
	// Err is printed when not nil.
	Err error
	// Hints say what to do next, one line each.
	Hints []string
}

func (e *ExitError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit %d", e.Code)
	}
	return e.Err.Error()
}

func (e *ExitError) Unwrap() error { return e.Err }

func usage(err error, hints ...string) error {
	return &ExitError{Code: exitUsage, Err: err, Hints: hints}
}

func exitWith(code int, err error, hints ...string) error {
	return &ExitError{Code: code, Err: err, Hints: hints}
}

func usageError(c *cli.Context, err error, _ bool) error {
	text := err.Error()
	var hints []string
	if name, ok := strings.CutPrefix(text, "flag provided but not defined: -"); ok {
		err = fmt.Errorf("unknown flag --%s", strings.TrimLeft(name, "-"))
		if c.Command != nil {
			if near := nearestOf(strings.TrimLeft(name, "-"), flagNames(c.Command.Flags)); len(near) > 0 {
				hints = append(hints, "did you mean --"+strings.Join(near, " or --")+"?")
			}
		}
	}
	if c.Command != nil && c.Command.Name != "" && c.Command.Name != c.App.Name {
		hints = append(hints, fmt.Sprintf("see \"%s --help\"", c.Command.HelpName))
	} else {
		hints = append(hints, hintSeeHelpOfAll)
	}
	return usage(err, hints...)
}

func unknownCommand(app *cli.App, name string) error {
	var names []string
	for _, command := range app.Commands {
		names = append(names, command.Name)
	}
	var hints []string
	if near := nearestOf(name, names); len(near) > 0 {
		hints = append(hints, "did you mean "+strings.Join(near, " or ")+"?")
	}
	return usage(fmt.Errorf("unknown command %q; one of %s", name, strings.Join(names, ", ")), hints...)
}

// classify gives an error that carries no exit code of ours its code: that of the
// command-line library, else the one of an internal error.
func classify(err error) *ExitError {
	var coder cli.ExitCoder
	if errors.As(err, &coder) {
		return &ExitError{Code: coder.ExitCode(), Err: err}
	}
	return &ExitError{Code: exitInternal, Err: err}
}
