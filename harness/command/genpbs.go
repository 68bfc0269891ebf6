package command

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/glm46/glm46/harness"
	"github.com/glm46/glm46/harness/experiment"
	"github.com/glm46/glm46/mockvllm/vllm"
	"github.com/glm46/glm46/pbsgen"
)

func genPBSCommand(env Environment) *cli.Command {
	return &cli.Command{
		Name:  "gen-pbs",
		Usage: "write PBS job scripts: the general runner, jobs, an array, a chain, a shakedown",
		Description: `Examples:
   glm46 gen-pbs                                       experiments/exp_runner.pbs
   qsub -v 'EXP_NAME=5B_kv_bf16,KV_CACHE_DTYPE=auto,NUM_SAMPLES=100' experiments/exp_runner.pbs
   glm46 gen-pbs --exp 1B,2B --profile hopper --walltime 08:00:00
   glm46 gen-pbs --all --array --simultaneous 4 --profile site.yaml
   glm46 gen-pbs --all --walltime 24:00:00             a chain of jobs and submit.sh
   glm46 gen-pbs --check experiments/exp_runner.pbs`,
		Flags: append(selectionFlags(),
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "`PATH` of the script or folder; - for stdout"},
			&cli.BoolFlag{Name: "array", Usage: "with --all: one job array, a sub-job for each configuration"},
			&cli.BoolFlag{Name: "shakedown", Usage: "a short job: start, effective configuration, one stream, stop"},
			&cli.StringFlag{Name: "profile", Usage: "site profile: a `FILE` or one of " + joined(pbsgen.PresetNames())},
			&cli.StringFlag{Name: flagWalltime, Usage: "`auto|HH:MM:SS`"},
			&cli.IntFlag{Name: "simultaneous", Usage: "sub-jobs of an array that run at once; 0: no bound"},
			&cli.IntFlag{Name: "resubmit", Usage: "how often a job that its walltime stopped submits itself again"},
			&cli.BoolFlag{Name: "interactive", Usage: "ask for what the profile leaves open"},
			&cli.StringFlag{Name: "check", Usage: "explain what is wrong with the script `FILE`, and write nothing"},
			&cli.StringFlag{Name: flagVLLMVersion, Usage: usageVLLMVersion, Value: vllm.DefaultVersion},
		),
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			if path := c.String("check"); path != "" {
				return checkScript(env, path)
			}
			return genPBS(c, env)
		},
	}
}

func checkScript(env Environment, path string) error {
	findings, err := pbsgen.Check(path)
	if err != nil {
		return usage(err)
	}
	bad := false
	for _, finding := range findings {
		fmt.Fprintln(env.Stdout, finding.String())
		bad = bad || finding.Level == pbsgen.Error
	}
	if bad {
		return exitWith(exitNotValid, fmt.Errorf("%s: not fit to submit", path))
	}
	if len(findings) == 0 {
		fmt.Fprintf(env.Stdout, "%s: nothing to remark\n", path)
	}
	return nil
}

func genPBS(c *cli.Context, env Environment) error {
	r, err := pbsRequest(c, env)
	if err != nil {
		return err
	}
	output, err := pbsgen.Generate(*r)
	if err != nil {
		return pbsError(err)
	}
	for _, file := range output.Files {
		if err := keepOld(env, file); err != nil {
			return err
		}
	}
	if err := output.Write(env.Stdout); err != nil {
		return err
	}
	for _, file := range output.Files {
		if file.Path != pbsgen.Stdout {
			fmt.Fprintf(env.Stderr, "wrote %s\n", file.Path)
		}
	}
	for _, note := range output.Notes {
		fmt.Fprintln(env.Stderr, note)
	}
	return nil
}

// keepOld sets a script aside that is to be replaced by another text: it may have
// been edited, as its first lines invite to.
func keepOld(env Environment, file pbsgen.File) error {
	if file.Path == pbsgen.Stdout {
		return nil
	}
	before, err := os.ReadFile(file.Path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && bytes.Equal(before, file.Data) {
		return nil
	}
	if err != nil {
		return err
	}
	old := file.Path + "." + time.Now().UTC().Format("20060102T150405.000") + ".old"
	if err := renameio.WriteFile(old, before, file.Mode); err != nil {
		return fmt.Errorf("keep the script that is there: %w", err)
	}
	fmt.Fprintf(env.Stderr, "kept the script that was there as %s\n", old)
	return nil
}

// pbsError gives errors of the generator their exit code.
func pbsError(err error) error {
	var (
		wrong   *pbsgen.UsageError
		profile *pbsgen.ProfileError
		missing *pbsgen.MissingError
	)
	if errors.As(err, &wrong) || errors.As(err, &profile) || errors.As(err, &missing) {
		return usage(err, "docs/pbs.md describes scripts and profiles")
	}
	return err
}

func pbsRequest(c *cli.Context, env Environment) (*pbsgen.Request, error) {
	root, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	binary, err := os.Executable()
	if err != nil {
		return nil, err
	}
	// "go run" builds into a folder that is gone when the job starts.
	if strings.HasPrefix(binary, os.TempDir()+string(filepath.Separator)) || strings.Contains(binary, "/go-build") {
		binary = filepath.Join(root, "glm46")
	}
	walltime, err := pbsgen.ParseWalltime(c.String(flagWalltime))
	if err != nil {
		return nil, usage(fmt.Errorf("--%s: %w", flagWalltime, err))
	}
	r := &pbsgen.Request{
		Options: pbsgen.Options{Root: root, Binary: binary, Walltime: walltime, Resubmit: c.Int("resubmit"), Simultaneous: c.Int("simultaneous")},
		Out:     c.String("output"), Exp: len(c.StringSlice(flagExp)) > 0, All: c.Bool(flagAll), Array: c.Bool("array"), Shakedown: c.Bool("shakedown"),
	}
	if r.Resubmit < 0 || r.Simultaneous < 0 {
		return nil, usage(errors.New("--resubmit and --simultaneous: want 0 or more"))
	}
	if path := c.String(flagPlan); path != "" {
		if r.Plan, err = filepath.Abs(path); err != nil {
			return nil, err
		}
	}
	for _, name := range []string{flagBase, flagDataset} {
		if value := c.String(name); value != "" {
			r.RunArgs = append(r.RunArgs, "--"+name, value)
		}
	}
	for _, set := range c.StringSlice(flagSet) {
		r.RunArgs = append(r.RunArgs, "--"+flagSet, set)
	}
	if c.Bool(flagAdded) {
		r.RunArgs = append(r.RunArgs, "--"+flagAdded)
	}
	if err := pbsProfile(c, env, r); err != nil {
		return nil, err
	}
	return r, pbsCells(c, r)
}

// pbsProfile loads the site's profile, or asks for it.
func pbsProfile(c *cli.Context, env Environment, r *pbsgen.Request) error {
	name := c.String("profile")
	if c.Bool("interactive") {
		in, ok := env.Stdin.(*os.File)
		if !ok || !term.IsTerminal(int(in.Fd())) {
			return usage(errors.New("--interactive needs a terminal"), "write a site profile instead: docs/pbs.md")
		}
		profile, text, err := pbsgen.Ask(env.Stdin, env.Stderr, name)
		if err != nil {
			return pbsError(err)
		}
		const file, readable = "site.yaml", 0o644
		if _, err := os.Stat(file); err != nil {
			if err := renameio.WriteFile(file, text, readable); err != nil {
				return err
			}
			fmt.Fprintf(env.Stderr, "kept your answers in %s; next time: --profile %s\n", file, file)
		}
		r.Profile = profile
		return nil
	}
	if name == "" {
		name = "generic"
	}
	profile, err := pbsgen.LoadProfile(name)
	if err != nil {
		return usage(err, "docs/pbs.md describes profiles")
	}
	r.Profile = profile
	return nil
}

// pbsCells resolves the cells that the jobs are for.
func pbsCells(c *cli.Context, r *pbsgen.Request) error {
	plan, err := loadPlan(c)
	if err != nil {
		return err
	}
	version, err := vllmVersion(c, vllm.DefaultVersion)
	if err != nil {
		return err
	}
	selection := experiment.Request{
		Experiments: c.StringSlice(flagExp), Group: c.Int(flagGroup), All: c.Bool(flagAll), Added: c.Bool(flagAdded),
		Dataset: c.String(flagDataset), Base: c.String(flagBase), Set: c.StringSlice(flagSet), Lookup: noEnvironment,
	}
	if len(selection.Experiments) == 0 && selection.Group == 0 {
		selection.All = true
	}
	if selection.Group != 0 {
		r.Exp = true
	}
	cells, err := resolve(plan, selection)
	if err != nil {
		return err
	}
	hours := predictedHours(plan, cells, version)
	for _, cell := range cells {
		entry := pbsgen.Cell{ID: cell.ID, Title: fmt.Sprintf("%s: %s, %s", cell.Label(), cell.Config, cell.Dataset), ConfigHash: cell.ConfigHash, Hours: hours[cell.ID]}
		for _, d := range cell.Differs {
			entry.Settings = append(entry.Settings, d.Name+"="+d.Value)
		}
		if _, refusal := cell.Argv(version, "", harness.MemoryCheck); refusal != nil {
			entry.Refused = refusal.Reason
		}
		r.Cells = append(r.Cells, entry)
	}
	return nil
}
