package harness

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/glm46/glm46/datasets"
	"github.com/glm46/glm46/harness/experiment"
	"github.com/glm46/glm46/harness/load"
	"github.com/glm46/glm46/harness/measure"
	"github.com/glm46/glm46/harness/node"
	"github.com/glm46/glm46/harness/result"
	"github.com/glm46/glm46/mockvllm/model"
	"github.com/glm46/glm46/mockvllm/vllm"
)

// Reasons why a context of a campaign ended. Whoever cancels with a cause of its
// own (a signal) is quoted by its text.
var errWalltime = errors.New("walltime")

// campaign is one call of Run.
type campaign struct {
	o        Options
	observer Observer
	version  vllm.Version
	model    string
	print    string // fingerprint of the model
	sets     map[string]*datasets.Set
	// tokenizer of the model's folder, read with the first data set; nil: none.
	tokenizer *datasets.Tokenizer
	outcome   *Outcome
	// byID finds the outcomes of all cells of a configuration.
	byID map[string][]int
	// node is what the preflight found; nil before it.
	node *node.State
	// certificates of the client by load shape: it is the same client on the same
	// node for every cell.
	certificates map[load.Shape]*measure.Certificate
	// prefetched says that the weights were read, or cannot be.
	prefetched bool
}

// job is one configuration on one start of a server.
type job struct {
	configuration experiment.Configuration
	set           *datasets.Set
	argv          []string // after "vllm"
	wanted        vllm.EngineConfig
	resumeKey     string
	// number of this start among Options.Starts, from 1.
	number int
	// before are the interrupted starts that this one continues, the newest first.
	before []result.StartResult

	start    *result.Start
	levels   []*measure.RunJSON
	finished bool
	// counts of the data set's prompts against the server's; saidCounts: a
	// difference between them was printed.
	counts     *measure.PromptCounts
	saidCounts bool
}

func (j *job) cell() experiment.Cell { return j.configuration.Cell }

// Run measures cells, in this order of checks, cheapest first: refusals known
// for the version, data sets, node, then for each server start: start-up,
// effective configuration, levels, stop, record.
//
// A refused or failed cell is an outcome, not an error, and so is an end by ctx
// (walltime, a signal): what was measured is kept, and the same call continues
// it. The error is for what no cell can be blamed for.
func Run(ctx context.Context, o Options) (*Outcome, error) {
	c, err := newCampaign(ctx, o)
	if err != nil && c != nil && ctx.Err() != nil {
		// Ended while vllm was asked for its version: that leaves a record too.
		if err := c.interruptedBefore(ctx, &job{configuration: experiment.Configurations(o.Cells)[0]}); err != nil {
			return nil, err
		}
		c.outcome.Code = exitCode(c.outcome.Cells)
		return c.outcome, nil
	}
	if err != nil {
		return nil, err
	}
	if !c.o.Deadline.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadlineCause(ctx, c.o.Deadline.Add(-c.o.Margin), errWalltime)
		defer cancel()
	}
	open := c.refuseKnown(experiment.Configurations(c.o.Cells))
	if len(open) > 0 {
		if err := c.prepareAndMeasure(ctx, open); err != nil {
			return nil, err
		}
	}
	c.judgeAgain()
	c.outcome.Code = exitCode(c.outcome.Cells)
	return c.outcome, nil
}

// newCampaign fills in defaults and asks for the version. Where only the version is
// missing the campaign is there beside the error.
func newCampaign(ctx context.Context, o Options) (*campaign, error) {
	if o.Plan == nil || len(o.Cells) == 0 {
		return nil, errors.New("campaign: no cells to measure")
	}
	if o.System == nil {
		o.System = node.Host()
	}
	if o.Environ == nil {
		o.Environ = o.System.Environ
	}
	if o.Starts <= 0 {
		o.Starts = 1
	}
	if o.StartTimeout <= 0 {
		o.StartTimeout = DefaultStartTimeout
	}
	if o.Observer == nil {
		o.Observer = silent{}
	}
	if len(o.Server) == 0 {
		o.Server = []string{"vllm"}
	}
	if o.Mock != nil && o.Mock.Speed <= 0 {
		o.Mock.Speed = 1
	}
	c := &campaign{o: o, observer: o.Observer, sets: map[string]*datasets.Set{}, outcome: &Outcome{}, byID: map[string][]int{}}
	c.model = o.Model
	if c.model == "" {
		c.model = o.Plan.Model
	}
	for i, cell := range o.Cells {
		c.outcome.Cells = append(c.outcome.Cells, CellOutcome{Cell: cell, State: result.StateIncomplete, code: codeInternal})
		c.byID[cell.ConfigHash] = append(c.byID[cell.ConfigHash], i)
	}
	var err error
	if c.version, err = c.findVersion(ctx); err != nil {
		return c, err
	}
	if o.Mock != nil {
		c.print = "mock"
	} else if c.print, err = modelFingerprint(c.model); err != nil {
		return nil, err
	}
	return c, nil
}

// settle writes what came of a configuration to all its cells.
func (c *campaign) settle(configuration experiment.Configuration, change func(*CellOutcome)) {
	for _, i := range c.byID[configuration.Cell.ConfigHash] {
		change(&c.outcome.Cells[i])
	}
}

// refuseKnown records the configurations that the version is known to refuse
// and returns the others.
func (c *campaign) refuseKnown(configurations []experiment.Configuration) []*job {
	var open []*job
	for _, configuration := range configurations {
		cell := configuration.Cell
		argv, refusal := cell.Argv(c.version, c.model, MemoryCheck)
		if refusal == nil {
			wanted, err := vllm.ResolveArgv(c.version, argv[1:], cell.Shape())
			if err == nil {
				open = append(open, &job{configuration: configuration, argv: argv, wanted: wanted})
				continue
			}
			refusal = &experiment.Refusal{Class: vllm.ClassConfigRefused, Reason: err.Error()}
		}
		c.observer.Note(cell.Label(), fmt.Sprintf("vLLM %s refuses this: %s", c.version, refusal.Reason))
		dir, err := c.recordRefusal(configuration, argv, refusal)
		if err != nil {
			c.observer.Note(cell.Label(), "the refusal could not be recorded: "+err.Error())
		}
		c.settle(configuration, func(o *CellOutcome) {
			o.State, o.Reason, o.EngineText, o.KnownBefore, o.code = result.StateRefused, refusal.Reason, refusal.EngineText, true, codeEngine
			if dir != "" {
				o.Dirs = append(o.Dirs, dir)
			}
		})
	}
	return open
}

// MemoryCheck refuses what the memory of the GPUs cannot hold, by the model of
// docs/timing-model.md. Models and GPUs other than those it knows pass.
func MemoryCheck(config vllm.EngineConfig) error {
	if config.Shape.Name != vllm.GLM46().Name || config.TensorParallelSize*max(1, config.DataParallelSize) != 8 || config.TensorParallelSize != 8 {
		return nil
	}
	_, err := model.New(model.BuiltIn(config), config, model.Options{})
	var refusal *vllm.RefusalError
	if errors.As(err, &refusal) {
		return refusal
	}
	return nil
}

// recordRefusal leaves a record of a refusal, once for each set of facts.
func (c *campaign) recordRefusal(configuration experiment.Configuration, argv []string, refusal *experiment.Refusal) (string, error) {
	cell := configuration.Cell
	key := experiment.ResumeKey(cell, "", c.print, c.version.String(), c.mockFacts())
	if all, err := result.ReadAll(c.o.ResultsDir); err == nil {
		for _, r := range all {
			if r.Start.ResumeKey == key && r.Start.Refused != nil && r.Start.Refused.KnownBefore {
				return r.Dir, nil
			}
		}
	}
	record := c.startJSON(&job{configuration: configuration, argv: argv, resumeKey: key})
	start, err := result.Create(c.o.ResultsDir, record, result.CreateOptions{JobID: c.o.System.PBS().JobID})
	if err != nil {
		return "", err
	}
	defer start.Abandon()
	if err := start.Update(func(s *result.StartJSON) {
		s.Refused = &result.Refused{Class: string(refusal.Class), Reason: refusal.Reason, EngineText: refusal.EngineText, KnownBefore: true}
	}); err != nil {
		return "", err
	}
	return start.Dir(), start.Finish(measure.Validity{
		Reasons: []measure.Reason{result.ReasonRefused}, Labels: []measure.Label{},
		Details: map[string]string{string(result.ReasonRefused): refusal.Reason},
	}, time.Now())
}

// prepareAndMeasure loads data, checks the node, and goes through the starts.
func (c *campaign) prepareAndMeasure(ctx context.Context, open []*job) error {
	var prepareErr error
	prepareCode := codeOK
	for _, j := range open {
		if j.set, prepareErr = c.dataSet(ctx, j.cell().Dataset); prepareErr == nil {
			prepareErr = c.checkTargets(j)
		}
		if prepareErr != nil {
			prepareCode = codeDataSet
			break
		}
	}
	if prepareErr == nil {
		if prepareErr = c.preflight(ctx); prepareErr != nil {
			prepareCode = codePreflight
		}
	}
	if prepareErr != nil {
		if ctx.Err() != nil {
			return c.interruptedBefore(ctx, open[0])
		}
		for _, j := range open {
			c.settle(j.configuration, func(o *CellOutcome) { o.Reason, o.code = prepareErr.Error(), prepareCode })
		}
		c.outcome.Why = prepareErr.Error()
		return nil
	}
	for round := range c.o.Starts {
		// Jobs that one server can serve share a start.
		starts := experiment.GroupBy(c.pending(open, round+1), func(j *job) string { return j.cell().ServerHash })
		if round%2 == 1 {
			// A B B A: drift over the job hits all configurations alike.
			slices.Reverse(starts)
		}
		if !c.round(ctx, starts) {
			return nil
		}
	}
	return nil
}

// pending gives a job to every configuration whose start of that number is not
// in the results yet, and settles the others.
func (c *campaign) pending(open []*job, number int) []*job {
	all, err := result.ReadAll(c.o.ResultsDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.observer.Note("", err.Error()+"; nothing in it is continued")
	}
	var out []*job
	for _, j := range open {
		next := *j
		foreign := func(r result.StartResult) bool { return !serves(r, j.cell()) }
		next.number, next.before = number, nil
		next.resumeKey = experiment.ResumeKey(j.cell(), j.set.SHA256, c.print, c.version.String(), c.mockFacts())
		if !c.o.Again {
			if finished := slices.DeleteFunc(result.Finished(all, next.resumeKey), foreign); len(finished) >= number {
				// Newest first: start number n is the n-th from the end.
				have := finished[len(finished)-number]
				c.observer.Note(j.cell().Label(), fmt.Sprintf("already measured: %s (--again measures anew)", have.Dir))
				c.settle(j.configuration, func(o *CellOutcome) {
					o.State, o.Reused, o.code = result.StateValid, true, codeOK
					o.Dirs = append(o.Dirs, have.Dir)
				})
				continue
			}
			next.before = slices.DeleteFunc(result.Resumable(all, next.resumeKey), func(r result.StartResult) bool {
				// With several starts each goes on with its own.
				return foreign(r) || max(r.Start.Experiment.Start, 1) != number
			})
		}
		out = append(out, &next)
	}
	return out
}

// serves says whether a start with the same resume key may stand for a cell: among
// cells of the plan any, for a custom experiment only one of its own name, which
// is how it is found in reports.
func serves(r result.StartResult, cell experiment.Cell) bool {
	if cell.Custom || r.Start.Experiment.ID == "" {
		return r.ExpName == cell.ExpName
	}
	return true
}

// cause says in a word why a context ended.
func cause(ctx context.Context) string {
	err := context.Cause(ctx)
	if err == nil {
		return ""
	}
	return err.Error()
}

// interruptedBefore leaves a record for an end that came before any start.
func (c *campaign) interruptedBefore(ctx context.Context, first *job) error {
	j := *first
	j.number = 1
	start, err := result.Create(c.o.ResultsDir, c.startJSON(&j), result.CreateOptions{JobID: c.o.System.PBS().JobID})
	if err != nil {
		return err
	}
	j.start = start
	defer start.Abandon()
	c.finishInterrupted(ctx, &j, "before the start")
	c.notStarted(ctx, nil)
	return nil
}

// notStarted settles everything that an early end left over.
func (c *campaign) notStarted(ctx context.Context, rest [][]*job) {
	why := cause(ctx)
	c.outcome.Why = why
	for _, jobs := range rest {
		c.skip(jobs, "not started: "+why)
	}
	for i := range c.outcome.Cells {
		if o := &c.outcome.Cells[i]; o.code == codeInternal && o.Reason == "" {
			o.Reason, o.code = "not started: "+why, codeInterrupted
		}
	}
}

func (c *campaign) skip(jobs []*job, why string) {
	for _, j := range jobs {
		c.settle(j.configuration, func(o *CellOutcome) {
			if len(o.Dirs) == 0 || o.code == codeOK {
				o.Reason, o.code = why, codeInterrupted
			}
		})
	}
}

// tooLittleTime says why a start is not worth its GPU time any more; "" if it is.
func (c *campaign) tooLittleTime(jobs []*job) string {
	if c.o.Deadline.IsZero() {
		return ""
	}
	left := time.Until(c.o.Deadline.Add(-c.o.Margin))
	need := c.startup(jobs[0])
	if left > need {
		return ""
	}
	return fmt.Sprintf("not started: %s of walltime are left and the start-up alone takes about %s; the next job goes on here",
		left.Round(time.Second), need.Round(time.Second))
}

// startup predicts the start-up of a server; 0 where the model is unknown.
func (c *campaign) startup(j *job) time.Duration {
	m, err := model.New(model.BuiltIn(j.wanted), j.wanted, model.Options{})
	if err != nil {
		return 0
	}
	total := m.StartupTotal()
	if c.o.Mock != nil {
		total = time.Duration(float64(total) / c.o.Mock.Speed)
	}
	return total
}

func (c *campaign) mockFacts() *experiment.MockFacts {
	if c.o.Mock == nil {
		return nil
	}
	return &experiment.MockFacts{Version: c.version.String(), Seed: int64(c.o.Mock.Seed), Speed: c.o.Mock.Speed}
}

// joinReasons lists reasons of a verdict for a person.
func joinReasons(v measure.Validity) string {
	texts := make([]string, 0, len(v.Reasons))
	for _, reason := range v.Reasons {
		text := string(reason)
		if detail := v.Details[string(reason)]; detail != "" {
			text += " (" + detail + ")"
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, "; ")
}
