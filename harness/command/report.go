package command

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/google/renameio/v2"
	"github.com/urfave/cli/v2"

	"github.com/glm46/glm46/harness/experiment"
	"github.com/glm46/glm46/harness/report"
	"github.com/glm46/glm46/harness/result"
)

func reportCommand(env Environment) *cli.Command {
	return &cli.Command{
		Name:      "report",
		Usage:     "results as the plan's tables: Markdown, one HTML file, CSV, JSON",
		ArgsUsage: "DIR",
		Description: `Examples:
   glm46 report results                         Markdown on stdout
   glm46 report results --format html -o report.html
   glm46 report results --json`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "format", Usage: "`md|html|csv|json|text`", DefaultText: "md; text on a terminal"},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "write to `FILE`, whole or not at all; default: stdout"},
			&cli.StringFlag{Name: flagPlan, Usage: "plan `FILE` whose rows to show; default: the embedded plan"},
			&cli.BoolFlag{Name: flagAdded, Usage: "rows of the cells marked \"added\" too, measured or not"},
			&cli.BoolFlag{Name: "measured", Usage: "leave out cells that have no result"},
			&cli.StringFlag{Name: flagBase, Usage: "rows of the plan over this baseline: `eager|compiled`"},
			jsonFlag(),
		},
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return usage(errors.New("report: which results folder?"), `for example "glm46 report `+defaultResultsDir+`"`)
			}
			format := report.Format(c.String("format"))
			path := c.String("output")
			switch {
			case c.Bool(flagJSON):
				format = report.JSON
			case format != "":
			case path == "" && foldWidth(env.Stdout) > 0:
				format = report.Text
			default:
				format = report.Markdown
			}
			if err := oneOf("format", string(format), report.Formats()...); err != nil {
				return err
			}
			plan, err := loadPlan(c)
			if err != nil {
				return err
			}
			cells, err := resolve(plan, experiment.Request{All: true, Added: c.Bool(flagAdded), Base: c.String(flagBase), Lookup: noEnvironment})
			if err != nil {
				return err
			}
			starts, err := readResults(c.Args().First())
			if err != nil {
				return err
			}
			built := report.Build(cells, starts, report.Options{
				Title: plan.Name, Published: plan.Published, Created: time.Now().UTC(), Partial: c.Bool("measured"),
			})
			var text bytes.Buffer
			if err := built.Write(&text, format); err != nil {
				return err
			}
			if path != "" && path != "-" {
				const readable = 0o644
				if err := renameio.WriteFile(path, text.Bytes(), readable); err != nil {
					return fmt.Errorf("write the report: %w", err)
				}
				return nil
			}
			_, err = env.Stdout.Write(text.Bytes())
			return err
		},
	}
}

func noEnvironment(string) (string, bool) { return "", false }

// readResults reads a results folder; one that is not there is a usage error.
func readResults(dir string) ([]result.StartResult, error) {
	starts, err := result.ReadAll(dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid) {
		return nil, usage(err)
	}
	return result.JudgeQuality(starts, starts), err
}

// cellStates gives the state of every cell in words, by its label.
func cellStates(dir string, cells []experiment.Cell) (map[string]string, error) {
	starts, err := readResults(dir)
	if err != nil {
		return nil, err
	}
	states := map[string]string{}
	for _, row := range report.Build(cells, starts, report.Options{}).Rows {
		states[row.Exp] = row.Status.String()
	}
	return states, nil
}
