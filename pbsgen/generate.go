package pbsgen

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"github.com/glm46/glm46/pbsgen/pbs"
)

// Where scripts go when -o does not say, below Root.
const (
	RunnerPath    = "experiments/exp_runner.pbs"
	ArrayPath     = "experiments/exp_array.pbs"
	ShakedownPath = "experiments/exp_shakedown.pbs"
	ChainDir      = "experiments/chain"
	JobDir        = "experiments"
)

// Stdout stands for standard output in Request.Out and File.Path.
const Stdout = "-"

// Generate does what the flags of "glm46 gen-pbs" ask for; it writes nothing.
//
// It fails with a *UsageError for flags that do not go together.
func Generate(r Request) (*Output, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	full, err := r.Options.complete()
	if err != nil {
		return nil, err
	}
	out := &Output{Dirs: []string{full.logs()}}
	switch {
	case r.Shakedown:
		err = r.single(out, ShakedownPath, func(o Options) ([]byte, error) { return Shakedown(o) })
	case r.All && r.Array:
		err = r.single(out, ArrayPath, func(o Options) ([]byte, error) { return Array(o, r.Cells) })
	case r.All:
		err = r.chain(out)
	case r.Exp:
		err = r.jobs(out)
	default:
		err = r.single(out, RunnerPath, func(o Options) ([]byte, error) { return Runner(o, r.Cells...) })
	}
	if err != nil {
		return nil, err
	}
	out.Notes = append(out.Notes, r.notes(full)...)
	return out, nil
}

// UsageError says that flags do not go together: exit status 2.
type UsageError struct{ Text string }

func (e *UsageError) Error() string { return e.Text }

func (r Request) check() error {
	kinds := 0
	for _, given := range []bool{r.Exp, r.All, r.Shakedown} {
		if given {
			kinds++
		}
	}
	switch {
	case kinds > 1:
		return &UsageError{"give one of --exp, --all and --shakedown"}
	case r.Array && !r.All:
		return &UsageError{"--array needs --all"}
	case (r.Exp || r.All) && len(r.Cells) == 0:
		return &UsageError{"no cells to write jobs for"}
	case r.Array && r.Resubmit > 0:
		return &UsageError{"--resubmit does not go with --array: submit the array again, or use a chain (--all --walltime)"}
	case r.Shakedown && r.Resubmit > 0:
		return &UsageError{"--resubmit does not go with --shakedown"}
	}
	return nil
}

// place is the absolute path of a script; -o wins.
func (r Request) place(usual string) string {
	path := orElse(r.Out, usual)
	if path == Stdout || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(r.Root, path)
}

func (r Request) single(out *Output, usual string, script func(Options) ([]byte, error)) error {
	o := r.Options
	o.Path = r.place(usual)
	if o.Path == Stdout {
		o.Path, o.shownAs = "", usual
	} else if isDir(o.Path) {
		o.Path = filepath.Join(o.Path, filepath.Base(usual))
	}
	data, err := script(o)
	if err != nil {
		return err
	}
	out.Files = append(out.Files, File{orElse(o.Path, Stdout), data, 0o755})
	if o.Path != "" {
		out.Notes = append(out.Notes, "submit it with: qsub "+o.shown())
	}
	return nil
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// jobs writes one script per experiment, and submit.sh where there are several.
func (r Request) jobs(out *Output) error {
	var experiments [][]Cell
	at := map[string]int{}
	for _, c := range r.Cells {
		key := experimentOf(c.ID)
		i, ok := at[key]
		if !ok {
			i = len(experiments)
			at[key] = i
			experiments = append(experiments, nil)
		}
		experiments[i] = append(experiments[i], c)
	}
	if len(experiments) == 1 {
		cells := experiments[0]
		return r.single(out, filepath.Join(JobDir, jobFile(cells)), func(o Options) ([]byte, error) { return Job(o, cells) })
	}
	dir := r.place(JobDir)
	if dir == Stdout {
		return &UsageError{"several jobs do not fit standard output: name one experiment, or a folder with -o"}
	}
	var scripts []string
	for _, cells := range experiments {
		o := r.Options
		o.Path = filepath.Join(dir, jobFile(cells))
		data, err := Job(o, cells)
		if err != nil {
			return err
		}
		out.Files = append(out.Files, File{o.Path, data, 0o755})
		scripts = append(scripts, o.Path)
	}
	return r.submit(out, dir, scripts, false)
}

// jobFile is the script's file name, which is safe as a path and as a job name.
func jobFile(cells []Cell) string {
	return strings.TrimPrefix(jobName(experimentOf(cells[0].ID)), "glm46_") + ".pbs"
}

func (r Request) chain(out *Output) error {
	dir := r.place(ChainDir)
	if dir == Stdout {
		return &UsageError{"a chain has several files: name a folder with -o, or use --array"}
	}
	o := r.Options
	o.Path = dir
	jobs, err := Chain(o, r.Cells)
	if err != nil {
		return err
	}
	var scripts []string
	for i, job := range jobs {
		path := chainPath(dir, i)
		out.Files = append(out.Files, File{path, job.Script, 0o755})
		scripts = append(scripts, path)
		what := fmt.Sprintf("%s: %s, %.1f h predicted", filepath.Base(path), strings.Join(ids(job.Cells), ", "), job.Hours)
		if job.Spare {
			what = filepath.Base(path) + ": what the others leave"
		}
		out.Notes = append(out.Notes, what)
	}
	return r.submit(out, dir, scripts, true)
}

func (r Request) submit(out *Output, dir string, scripts []string, chained bool) error {
	o := r.Options
	o.Path = filepath.Join(dir, "submit.sh")
	for i, s := range scripts {
		if inside, err := filepath.Rel(o.Root, s); err == nil && filepath.IsLocal(inside) {
			scripts[i] = inside
		}
	}
	data, err := SubmitScript(o, scripts, chained)
	if err != nil {
		return err
	}
	out.Files = append(out.Files, File{o.Path, data, 0o755})
	out.Notes = append(out.Notes, "submit them with: bash "+o.shown())
	return nil
}

// notes says which limits were hit.
func (r Request) notes(o Options) []string {
	var notes []string
	most, err := pbs.ParseWalltime(o.Profile.Walltime.Max)
	if err == nil && o.Walltime.Limit > most {
		notes = append(notes, fmt.Sprintf("walltime %s is above the site's limit: the jobs ask for %s", pbs.FormatWalltime(o.Walltime.Limit), pbs.FormatWalltime(most)))
	}
	unknown := 0
	for _, c := range r.Cells {
		limit := o.Profile.bounded(o.jobLimit(r.Cells))
		if c.Refused == "" && c.Hours > 0 && predicted(c.Hours, 1) > limit {
			notes = append(notes, fmt.Sprintf("%s is predicted to take %.1f h, more than one job of %s: submit it again until it is done, it goes on where it stopped", c.ID, c.Hours, pbs.FormatWalltime(limit)))
		}
		if c.Hours == 0 && c.Refused == "" {
			unknown++
		}
	}
	if o.Walltime.Auto && unknown > 0 {
		notes = append(notes, fmt.Sprintf("no predicted time for %d cells: they count as nothing in the walltime", unknown))
	}
	if o.Simultaneous > 0 && r.Array && !o.Profile.arrayLimit() {
		notes = append(notes, "this site's PBS cannot limit the sub-jobs of an array: all may run at once")
	}
	if strings.ContainsAny(o.logs(), ":^") {
		notes = append(notes, "PBS cannot write logs into "+o.logs()+" (colon or ^): they appear in the folder of qsub")
	}
	return notes
}

func (o Options) jobLimit(cells []Cell) (limit time.Duration) {
	limit, _ = o.limit(hours(cells))
	return limit
}

// Write makes the folders and writes all files, each whole or not at all. A script
// that differs from the one to be written is kept as NAME.old, since it may have
// been edited. Text for standard output goes to stdout.
func (o *Output) Write(stdout io.Writer) error {
	for _, f := range o.Files {
		if f.Path == Stdout {
			if _, err := stdout.Write(f.Data); err != nil {
				return err
			}
			continue
		}
		if err := writeFile(f); err != nil {
			return err
		}
	}
	for _, dir := range o.Dirs {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make the folder of the job logs: %w", err)
		}
	}
	return nil
}

func writeFile(f File) error {
	if err := os.MkdirAll(filepath.Dir(f.Path), 0o755); err != nil {
		return fmt.Errorf("write job script: %w", err)
	}
	old, err := os.ReadFile(f.Path)
	switch {
	case err == nil && !bytes.Equal(old, f.Data):
		if err := renameio.WriteFile(f.Path+".old", old, 0o644); err != nil {
			return fmt.Errorf("keep the script that was there: %w", err)
		}
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("write job script: %w", err)
	}
	if err := renameio.WriteFile(f.Path, f.Data, f.Mode); err != nil {
		return fmt.Errorf("write job script: %w", err)
	}
	return nil
}
