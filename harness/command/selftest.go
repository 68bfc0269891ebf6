package command

import (
	"errors"
	"fmt"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/glm46/glm46/harness/fold"
	"github.com/glm46/glm46/harness/launch"
	"github.com/glm46/glm46/harness/selftest"
)

func selftestCommand(env Environment) *cli.Command {
	return &cli.Command{
		Name:  "selftest",
		Usage: "the whole pipeline against the mock: every printed figure beside the mock's ground truth, every failure played; exit 3 if a check fails",
		Description: `No GPU, no network but loopback, under a minute on two cores. A check is a line:
"ok" or "FAIL", its name, what was found. Tolerances are in docs/selftest.md.

Examples:
   glm46 selftest
   glm46 selftest --json > selftest.json
   glm46 selftest --keep /tmp/selftest --only pace`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "keep", Usage: "write into `DIR` and leave everything there: results, server logs, truth files"},
			&cli.StringFlag{Name: "only", Usage: "only the checks whose names begin with `NAME`"},
			jsonFlag(),
		},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			self, err := os.Executable()
			if err != nil {
				return fmt.Errorf("find this program, to start it as the mock: %w", err)
			}
			ctx, release := signalContext(c.Context)
			defer release()
			// A process that loses its parent comes to us, and is seen at the end.
			if err := launch.BecomeSubreaper(); err != nil {
				fmt.Fprintf(env.Stderr, "glm46: %v; processes that lose their parent may be missed\n", err)
			}
			o := selftest.Options{Executable: self, Dir: c.String("keep"), Only: c.String("only")}
			if !c.Bool(flagJSON) {
				o.Report = func(check selftest.Check) { fmt.Fprint(env.Stdout, fold.Line(checkLine(check), foldWidth(env.Stdout))) }
			}
			result, err := selftest.Run(ctx, o)
			switch {
			case ctx.Err() != nil:
				return exitWith(exitInterrupted, fmt.Errorf("stopped by %w", err))
			case err != nil:
				return err
			case len(result.Checks) == 0:
				return usage(fmt.Errorf("--only %q: no check has a name that begins so", o.Only))
			}
			if c.Bool(flagJSON) {
				if err := printJSON(env.Stdout, result); err != nil {
					return err
				}
			} else {
				fmt.Fprintf(env.Stdout, "%d checks in %.1f s, %d failed\n", len(result.Checks), result.Seconds, result.Failed())
			}
			if !result.OK {
				hint := "docs/selftest.md says what each check does"
				if o.Dir == "" {
					hint += "; --keep DIR leaves results and logs to look at"
				}
				return exitWith(exitNotValid, errors.New("a check failed: this build or this machine cannot be trusted to measure"), hint)
			}
			return nil
		},
	}
}

// checkLine is a check as a line of text.
func checkLine(c selftest.Check) string {
	word := "ok  "
	if !c.OK {
		word = "FAIL"
	}
	line := fmt.Sprintf("%s %-24s %s", word, c.Name, printable(c.Detail))
	if c.Seconds >= 0.1 {
		line += fmt.Sprintf(" (%.1f s)", c.Seconds)
	}
	return line
}
