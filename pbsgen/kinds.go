package pbsgen

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/glm46/glm46/pbsgen/pbs"
)

// Runner returns the general runner: what is measured comes from the environment,
// as in qsub -v 'EXP_NAME=2B_no_ep,ENABLE_EP=no,NUM_SAMPLES=100'. cells only choose
// an automatic walltime: that of the longest.
//
// It fails with a *ProfileError or a *MissingError where the profile does not do.
func Runner(o Options, cells ...Cell) ([]byte, error) {
	longest := 0.0
	for _, c := range cells {
		longest = max(longest, c.Hours)
	}
	about := []string{
		"Measures the experiment that the environment names, on one node:",
		"",
		"  qsub -v 'EXP_NAME=2B_no_ep,ENABLE_EP=no,NUM_SAMPLES=100' " + o.shown(),
		"  GLM46_MOCK=1 EXP_NAME=2B_no_ep ENABLE_EP=no bash " + o.shown() + "   (here, without GPU)",
		"",
		"Variables (glm46 list --parameters explains them; only EXP_NAME is needed):",
	}
	about = append(about, wrapWords(EnvironmentNames, 72, ",")...)
	about = append(about,
		"and GLM46_NAME for every flag --name of \"glm46 run\": GLM46_RESULTS, GLM46_MODEL, ...",
		"qsub -v breaks values with quotes, commas or backslashes: put such settings, one",
		"NAME=VALUE a line, into a file and pass GLM46_SET=@FILE; free vLLM arguments",
		"belong into a plan file, GLM46_PLAN=FILE.",
	)
	if list := o.Profile.variableList(); list != "" {
		about = append(about, "A -v on the command line replaces the one below: repeat "+list+" in yours.")
	}
	return o.render(kind{
		title: "GLM-4.6 vLLM experiments: general runner", about: append(about, o.footer()...),
		name: "glm46", hours: longest, pass: true,
	})
}

// Job returns the script of one job that measures cells one after the other.
func Job(o Options, cells []Cell) ([]byte, error) {
	if err := checkCells(cells); err != nil {
		return nil, err
	}
	name := jobName(cells[0].ID)
	if len(cells) > 1 && sameExperiment(cells) {
		name = jobName(experimentOf(cells[0].ID))
	}
	about := append([]string{"Measures on one node:", ""}, describe(cells)...)
	about = append(about, "", "  qsub "+o.shown())
	return o.render(kind{
		title: "GLM-4.6 vLLM experiments: " + strings.Join(ids(cells), ", "), about: append(about, o.footer()...),
		name: name, run: []string{"--exp", strings.Join(ids(cells), ",")}, hours: hours(cells),
	})
}

// Array returns a job array: one sub-job per unique configuration of cells. Cells
// that the engine refuses need no node of their own and go with the first sub-job.
// The walltime is that of the longest sub-job.
//
// It fails where fewer than two sub-jobs are left, since PBS refuses such an array,
// and where resubmission is asked for, since one sub-job cannot be submitted.
func Array(o Options, cells []Cell) ([]byte, error) {
	if err := checkCells(cells); err != nil {
		return nil, err
	}
	if o.Resubmit > 0 {
		return nil, errors.New("a sub-job of an array cannot submit itself again: submit the array again, or use a chain (--all --walltime)")
	}
	subs, longest := subJobs(cells)
	if len(subs) < 2 {
		return nil, errors.New("an array needs at least two configurations (PBS refuses one of one): leave --array out")
	}
	about := []string{"A job array: one sub-job per configuration, which are", ""}
	for _, s := range subs {
		about = append(about, strings.TrimRight(fmt.Sprintf("  %2d  %-24s %s", s.Index, s.Exp, s.Note), " "))
	}
	about = append(about, "", "  qsub "+o.shown())
	about = append(about, "Sub-jobs share the results folder; submitting again measures only what is missing.")
	return o.render(kind{
		title: "GLM-4.6 vLLM experiments: job array", about: append(about, o.footer()...),
		name: "glm46_array", subJobs: subs, hours: longest,
	})
}

// subJobs groups cells by configuration, and gives the hours of the longest.
func subJobs(cells []Cell) ([]subJob, float64) {
	var subs []subJob
	var refused []string
	longest := 0.0
	for _, group := range configurations(cells) {
		first := group[0]
		if first.Refused != "" {
			refused = append(refused, ids(group)...)
			continue
		}
		s := subJob{Index: len(subs), Exp: first.ID}
		if len(group) > 1 {
			s.Note = "also " + strings.Join(ids(group[1:]), ", ")
		}
		subs = append(subs, s)
		longest = max(longest, first.Hours)
	}
	if len(subs) > 0 && refused != nil {
		subs[0].Exp += "," + strings.Join(refused, ",")
		note := "records that the engine refuses " + strings.Join(refused, ", ")
		if subs[0].Note != "" {
			note = subs[0].Note + "; " + note
		}
		subs[0].Note = note
	}
	return subs, longest
}

// ChainJob is one job of a chain.
type ChainJob struct {
	// Cells are those planned for this job; its script continues those of the jobs
	// before it first.
	Cells []Cell
	// Hours is their predicted time, without safety factor.
	Hours float64
	// Spare marks a job for what the others leave.
	Spare  bool
	Script []byte
}

// Chain packs cells into as few jobs of the walltime as fit, by predicted hours, and
// adds spare jobs. Each job first continues what the jobs before it left, so that a
// job cut short costs time but no cell. o.Path is the folder of the scripts. Only the
// last job submits itself again, where o.Resubmit says so.
func Chain(o Options, cells []Cell) ([]ChainJob, error) {
	if err := checkCells(cells); err != nil {
		return nil, err
	}
	full, err := o.complete()
	if err != nil {
		return nil, err
	}
	limit, _ := full.limit(hours(cells))
	limit = full.Profile.bounded(limit)
	capacity := (limit - fixedMargin).Hours() / full.SafetyFactor
	var jobs []ChainJob
	for _, share := range Pack(cells, capacity) {
		jobs = append(jobs, ChainJob{Cells: share, Hours: hours(share)})
	}
	spares := o.Spares
	if spares == 0 {
		spares = DefaultSpares
	}
	for range max(spares, 0) {
		jobs = append(jobs, ChainJob{Spare: true})
	}
	var before []Cell
	for i := range jobs {
		job := o
		job.Path = chainPath(o.Path, i)
		if i < len(jobs)-1 {
			job.Resubmit = 0 // the next job goes on anyway
		}
		before = append(before, jobs[i].Cells...)
		if jobs[i].Script, err = job.chainScript(jobs, i, before, kind{limit: limit}); err != nil {
			return nil, err
		}
	}
	return jobs, nil
}

func (o Options) chainScript(jobs []ChainJob, i int, all []Cell, k kind) ([]byte, error) {
	k.title = fmt.Sprintf("GLM-4.6 vLLM experiments: job %d of %d of a chain", i+1, len(jobs))
	k.name = fmt.Sprintf("glm46_chain_%02d", i+1)
	k.run = []string{"--exp", strings.Join(ids(all), ",")}
	if jobs[i].Spare {
		k.about = append(k.about, "Measures what the jobs before it left; ends within seconds if that is nothing.")
	} else {
		k.about = append([]string{"Continues what the jobs before it left, then measures:", ""}, describe(jobs[i].Cells)...)
	}
	k.about = append(k.about, "", "Submit the whole chain with", "  bash "+o.beside("submit.sh"), "Each job waits for the one before.")
	k.about = append(k.about, o.footer()...)
	return o.render(k)
}

func chainPath(dir string, i int) string {
	return filepath.Join(dir, fmt.Sprintf("job_%02d.pbs", i+1))
}

// Shakedown returns a 20-minute job that starts the baseline, reads back its
// configuration, measures one stream, stops it and looks for leftovers.
func Shakedown(o Options) ([]byte, error) {
	if o.Resubmit > 0 {
		return nil, errors.New("the shakedown does not resubmit itself: it is there to be looked at")
	}
	about := []string{
		"A first short job, so that the first mistake does not cost a night: starts the",
		"baseline, compares its configuration with the one asked for, measures one stream,",
		"stops it, and checks that nothing is left. \"glm46 run --all\" asks for its record.",
		"",
		"  qsub " + o.shown(),
	}
	return o.render(kind{
		title: "GLM-4.6 vLLM experiments: shakedown", about: append(about, o.footer()...),
		name: "glm46_shakedown", run: []string{"--shakedown"}, limit: ShakedownWalltime,
	})
}

// footer ends every header.
func (o Options) footer() []string {
	profile := orElse(o.Profile.Name, "generic")
	lines := []string{
		"",
		"Needs " + orElse(o.Binary, filepath.Join(o.Root, "glm46")) + ", the data sets (glm46 datasets gen), vLLM and the model;",
		"asks PBS for what the #PBS lines say.",
		"Results: " + orElse(o.Profile.Results, filepath.Join(o.Root, "results")) + ", or GLM46_RESULTS. Log (readable while the job",
		"runs) and outcome: " + o.withDefaultLogs() + "/ (PBS's exit status of a killed job says nothing).",
		"Exit status: 0 valid; 2 usage; 3 a result is not valid; 4 the engine refused or died;",
		"5 stopped by walltime or signal, submit again to go on; 6 node; 7 data set; 1 our fault.",
		"With another walltime on the command line pass its seconds too:",
		"  qsub -l walltime=4:00:00 -v 'GLM46_WALLTIME_S=14400,...'",
	}
	if o.Resubmit > 0 {
		lines = append(lines, fmt.Sprintf("Submits itself again, at most %d times, when its walltime stopped it (resubmissions= below).", o.Resubmit))
	}
	return append(lines,
		"",
		"Written by \"glm46 gen-pbs\" for site profile "+profile+". Edit it freely, then:",
		"  glm46 gen-pbs --check "+o.shown(),
	)
}

func (o Options) withDefaultLogs() string {
	o.Profile = o.Profile.withDefaults()
	return o.logs()
}

// shown is the script's path as the user types it, from the project's folder.
func (o Options) shown() string {
	path := orElse(o.Path, orElse(o.shownAs, RunnerPath))
	if inside, err := filepath.Rel(o.Root, path); filepath.IsAbs(path) && err == nil && filepath.IsLocal(inside) {
		path = inside
	}
	word, err := shellWord(path)
	if err != nil {
		return path // render refuses such a path
	}
	return word
}

// beside is the shown path of a file in the script's folder.
func (o Options) beside(name string) string {
	o.Path = filepath.Join(filepath.Dir(o.Path), name)
	return o.shown()
}

// submission is what the template of submit.sh needs.
type submission struct {
	Title, Path, Root, Logs string
	Scripts                 []string
	Chained                 bool
}

// SubmitScript returns submit.sh for scripts, relative to Root or absolute. o.Path is
// its own path. chained makes each job wait for the one before it.
func SubmitScript(o Options, scripts []string, chained bool) ([]byte, error) {
	if len(scripts) == 0 {
		return nil, errors.New("submit.sh: no scripts")
	}
	full, err := o.complete()
	if err != nil {
		return nil, err
	}
	title := fmt.Sprintf("Submits %d jobs, each on its own.", len(scripts))
	if chained {
		title = fmt.Sprintf("Submits a chain of %d jobs: each begins when the one before has ended.", len(scripts))
	}
	for i, s := range scripts {
		if strings.HasPrefix(s, "-") {
			scripts = slices.Clone(scripts)
			scripts[i] = "./" + s
		}
	}
	return execute("submit", submission{Title: title, Path: o.shown(), Root: full.Root, Logs: full.logs(), Scripts: scripts, Chained: chained})
}

func checkCells(cells []Cell) error {
	if len(cells) == 0 {
		return errors.New("no cells to measure")
	}
	for _, c := range cells {
		if c.ID == "" || strings.ContainsFunc(c.ID, notCellRune) || strings.HasPrefix(c.ID, "-") {
			return fmt.Errorf("cell %q: an id has letters, digits, '.', '_', '-' and '/' only", c.ID)
		}
		if !(c.Hours >= 0 && c.Hours <= maxHours) {
			return fmt.Errorf("cell %s: %g hours cannot be", c.ID, c.Hours)
		}
	}
	return nil
}

// maxHours is a year: more is a mistake, and would overflow a duration.
const maxHours = 366 * 24

func notCellRune(r rune) bool {
	return r != '/' && pbs.CheckName(string(r)) != nil
}

func ids(cells []Cell) []string {
	list := make([]string, len(cells))
	for i, c := range cells {
		list[i] = c.ID
	}
	return list
}

// hours is the predicted time of cells; those of one configuration count once.
func hours(cells []Cell) float64 {
	sum := 0.0
	for _, group := range configurations(cells) {
		if group[0].Refused == "" {
			sum += group[0].Hours
		}
	}
	return sum
}

// configurations groups cells that are measured once, in order of first appearance.
func configurations(cells []Cell) [][]Cell {
	var groups [][]Cell
	at := map[string]int{}
	for _, c := range cells {
		key := orElse(c.ConfigHash, "id "+c.ID)
		i, ok := at[key]
		if !ok {
			i = len(groups)
			at[key] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], c)
	}
	return groups
}

func experimentOf(id string) string {
	experiment, _, _ := strings.Cut(id, "/")
	return experiment
}

func sameExperiment(cells []Cell) bool {
	return !slices.ContainsFunc(cells, func(c Cell) bool { return experimentOf(c.ID) != experimentOf(cells[0].ID) })
}

// describe gives one line a cell, with what differs from the baseline below it.
func describe(cells []Cell) []string {
	var lines []string
	for _, c := range cells {
		line := "  " + orElse(c.Title, c.ID)
		if c.Hours > 0 && c.Refused == "" {
			line += fmt.Sprintf("  (about %.1f h)", c.Hours)
		}
		lines = append(lines, line)
		if c.Refused != "" {
			for _, line := range wrapWords(strings.Fields("the engine refuses this: "+c.Refused), 68, "") {
				lines = append(lines, "    "+line)
			}
		}
		for _, s := range wrapWords(c.Settings, 68, ",") {
			lines = append(lines, "    "+s)
		}
	}
	return lines
}

// wrapWords fills lines of at most width with words, each but the last followed by
// the separator.
func wrapWords(words []string, width int, separator string) []string {
	var lines []string
	line := ""
	for i, w := range words {
		if i < len(words)-1 {
			w += separator
		}
		if line != "" && len(line)+1+len(w) > width {
			lines = append(lines, "  "+line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += w
	}
	if line == "" {
		return lines
	}
	return append(lines, "  "+line)
}
