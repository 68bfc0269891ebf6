package harness

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/glm46/glm46/datasets"
	"github.com/glm46/glm46/harness/experiment"
	"github.com/glm46/glm46/harness/launch"
	"github.com/glm46/glm46/harness/load"
	"github.com/glm46/glm46/harness/measure"
	"github.com/glm46/glm46/harness/node"
	"github.com/glm46/glm46/harness/result"
	"github.com/glm46/glm46/mockvllm/vllm"
)

// stopGrace is how long the API server may take to end its engine and workers
// before its process group is signalled.
// Source: docs/node.md, stopping vLLM: 5 to 15 s as read.
const stopGrace = 30 * time.Second

// server is a running server with what levels need to know of it.
type server struct {
	process *launch.Process
	target  load.Target
	// maxModelLen as served, tokens.
	maxModelLen int
	// templateTokens are what the chat template was seen to add at most.
	templateTokens int
	facts          vllm.LogFacts
	// telemetry of the start.
	telemetry *telemetry
}

// ended says that the server's process is gone; a server of others never is.
func (s *server) ended() bool {
	if s.process == nil {
		return false
	}
	select {
	case <-s.process.Done():
		return true
	default:
		return false
	}
}

// startJSON is what is known of a start before it begins.
func (c *campaign) startJSON(j *job) result.StartJSON {
	cell := j.cell()
	scheduler := c.o.System.PBS()
	s := result.StartJSON{
		Kind: "run", ToolVersion: c.o.ToolVersion,
		Experiment: result.Experiment{
			ID: cell.ID, Name: cell.ExpName, Group: cell.Group, Config: cell.Config, Notes: cell.Notes,
			Modified: cell.Modified, Added: cell.Added, Base: cell.Base, SameAs: cell.SameAs, Start: j.number,
		},
		Dataset:    result.Dataset{Name: cell.Dataset},
		Settings:   settingsMap(cell),
		ConfigHash: cell.ConfigHash, ResumeKey: j.resumeKey,
		Model: c.model, ModelFingerprint: c.print, VLLMVersion: c.version.String(),
		Argv:      launch.DisplayArgv(append([]string{"vllm"}, j.argv...)),
		Scheduler: &scheduler,
	}
	if cell.Custom {
		s.Experiment.ID = ""
	}
	for _, level := range cell.Levels {
		s.Levels = append(s.Levels, levelInfo(level))
	}
	if j.set != nil {
		s.Dataset.Path, s.Dataset.SHA256, s.Dataset.ContentSHA256, s.Dataset.Samples = j.set.Path, j.set.SHA256, j.set.ContentSHA256, len(j.set.Samples)
		if m := j.set.Manifest; m != nil && m.Generator != nil {
			s.Dataset.Origin = m.Generator.Source
		}
	}
	if c.node != nil {
		s.Node, s.GPUs = &c.node.Info, c.node.GPUs
	}
	if c.o.Mock != nil {
		s.Mock = &result.Mock{Version: c.version.String(), Seed: c.o.Mock.Seed, Speed: c.o.Mock.Speed}
	}
	if len(j.before) > 0 {
		s.Continues = j.before[0].StartID
	}
	return s
}

func settingsMap(cell experiment.Cell) map[string]string {
	out := map[string]string{}
	for _, v := range cell.Settings.Vars() {
		out[v.Name] = v.Value
	}
	return out
}

// measure is the life of one server: start it, check it, run the levels of its
// jobs, stop it, and finish the records, whatever happens in between.
func (c *campaign) measure(ctx context.Context, jobs []*job) {
	for i, j := range jobs {
		record := c.startJSON(j)
		if i > 0 {
			record.SharesServer = relative(c.o.ResultsDir, jobs[0].start.Dir())
		}
		start, err := result.Create(c.o.ResultsDir, record, result.CreateOptions{JobID: c.o.System.PBS().JobID})
		if err != nil {
			c.fail(jobs, fmt.Errorf("record the start: %w", err))
			return
		}
		j.start = start
		defer start.Abandon()
	}
	label := jobs[0].cell().Label()
	c.observer.Note(label, "results in "+jobs[0].start.Dir())
	c.prefetch(ctx, jobs)
	srv, err := c.launch(ctx, jobs[0])
	if err != nil {
		c.failedStart(ctx, jobs, err)
		return
	}
	stopped := false
	stop := func() {
		if stopped {
			return
		}
		stopped = true
		c.stopProcess(ctx, jobs, srv.process)
		if err := srv.telemetry.close(); err != nil {
			c.observer.Note(label, "telemetry: "+err.Error())
		}
		c.cleanUp(ctx, jobs[0], srv.telemetry)
	}
	defer stop()
	if !c.checkEffective(jobs, srv) {
		return
	}
	c.checkQuality(ctx, jobs, srv)
	phase := ""
	if ctx.Err() != nil {
		phase = "checking the answers"
	}
	for _, j := range jobs {
		c.runLevels(ctx, j, srv)
		if ctx.Err() != nil {
			// Records first: after a batch system's SIGTERM there are seconds left.
			c.finishInterrupted(ctx, j, phase)
		}
	}
	stop()
	for _, j := range jobs {
		c.finish(j)
	}
}

// prefetch reads the weights before the first start of the campaign, and says in its
// records what that took: its start-up is shorter than that of a start without.
func (c *campaign) prefetch(ctx context.Context, jobs []*job) {
	if !c.o.Prefetch || c.o.Mock != nil || c.prefetched {
		return
	}
	c.prefetched = true
	label := jobs[0].cell().Label()
	if info, err := os.Stat(c.model); err != nil || !info.IsDir() {
		c.observer.Note(label, "the weights are not read beforehand: "+c.model+" is no folder here")
		return
	}
	c.observer.Note(label, "reading the weights into the page cache")
	read, err := node.Prefetch(ctx, c.model, c.o.System.Collect().PageCacheRoom())
	text := "weights read before the start: " + read.String()
	if err != nil {
		text = "the weights were not read beforehand: " + err.Error()
	}
	c.observer.Note(label, text)
	for _, j := range jobs {
		if err := j.start.Update(func(s *result.StartJSON) { s.Notes = append(s.Notes, text) }); err != nil {
			c.observer.Note(label, err.Error())
		}
	}
}

func relative(base, path string) string {
	rel, err := filepath.Rel(base, path)
	if err != nil {
		return path
	}
	return rel
}

// launch starts the server of a job and waits until it serves.
func (c *campaign) launch(ctx context.Context, j *job) (*server, error) {
	port, err := launch.FreePort()
	if err != nil {
		return nil, err
	}
	unique, err := launch.UniqueName(filepath.Base(c.model))
	if err != nil {
		return nil, err
	}
	argv := c.command(j, port, unique)
	environ, changes := launch.ServerEnv(c.o.Environ, c.serverEnv(j))
	if err := j.start.Update(func(s *result.StartJSON) {
		s.Argv, s.Environment = launch.DisplayArgv(argv), launch.RecordEnv(environ)
	}); err != nil {
		return nil, err
	}
	if c.o.Mock == nil {
		for _, line := range launch.DescribeChanges(changes) {
			c.observer.Note(j.cell().Label(), "environment of the server: "+line)
		}
	}
	c.observer.Note(j.cell().Label(), "starting the server (vLLM "+c.version.String()+c.mockRemark()+")")
	process, err := launch.Start(ctx, launch.Command{Argv: argv, Env: environ, LogPath: j.start.LogPath()})
	if err != nil {
		return nil, err
	}
	url := "http://127.0.0.1:" + strconv.Itoa(port)
	last := vllm.PhaseBoot
	facts, err := process.WaitReady(ctx, launch.ReadyOptions{
		URL: url, ServedName: unique, Timeout: c.o.StartTimeout, MemoryKills: launch.MemoryKills, Poll: c.poll(),
		Report: func(p launch.StartProgress) {
			if c.o.Mock != nil && p.Phase == last {
				return
			}
			last = p.Phase
			c.observer.Note(j.cell().Label(), startProgress(p))
		},
	})
	if err != nil {
		c.stopProcess(ctx, []*job{j}, process)
		return nil, err
	}
	served := process.Served()
	if err := j.start.Update(func(s *result.StartJSON) {
		s.Server = serverRecord(facts, served, process.Phases(), j.wanted)
		s.Effective = facts.EngineConfig
	}); err != nil {
		c.stopProcess(ctx, []*job{j}, process)
		return nil, err
	}
	c.observer.Note(j.cell().Label(), fmt.Sprintf("healthy after %s; KV cache %d tokens", seconds(served.Seconds), facts.KVTokens))
	series, err := c.startTelemetry(ctx, j)
	if err != nil {
		c.stopProcess(ctx, []*job{j}, process)
		return nil, err
	}
	version := served.Version
	if version == "" {
		version = c.version.String()
	}
	target := load.Target{BaseURL: url, Model: unique, Features: load.FeaturesOf(version), Endpoint: c.o.Endpoint, Done: process.Done()}
	return &server{process: process, target: target, maxModelLen: served.MaxModelLen, facts: facts, telemetry: series}, nil
}

func (c *campaign) mockRemark() string {
	if c.o.Mock == nil {
		return ""
	}
	return fmt.Sprintf(", the mock at speed %g", c.o.Mock.Speed)
}

// poll is the time between two looks at /health: short for a mock, whose whole
// start-up may take a second.
func (c *campaign) poll() time.Duration {
	if c.o.Mock != nil {
		return 20 * time.Millisecond
	}
	return 0
}

// command is the whole command line of the server.
func (c *campaign) command(j *job, port int, unique string) []string {
	var argv []string
	if c.o.Mock != nil {
		argv = []string{c.o.Mock.Executable, "mock"}
	} else {
		argv = slices.Clone(c.o.Server)
	}
	argv = append(argv, j.argv...)
	argv = append(argv, "--host", "127.0.0.1", "--port", strconv.Itoa(port), "--served-model-name", unique)
	if m := c.o.Mock; m != nil {
		argv = append(argv, "--mock-version", c.version.String(), "--mock-speed", strconv.FormatFloat(m.Speed, 'g', -1, 64),
			"--mock-seed", strconv.FormatUint(m.Seed, 10), "--mock-startup", "model")
		argv = append(argv, m.Args...)
	}
	return argv
}

func (c *campaign) serverEnv(j *job) launch.EnvOptions {
	o := launch.EnvOptions{Host: c.o.System.Hostname}
	for _, v := range j.cell().ServerEnv {
		o.Extra = append(o.Extra, v.Name+"="+v.Value)
	}
	if c.o.Mock != nil {
		return o
	}
	if c.node != nil {
		o.CUDAVisible, o.CUDAVisibleSet = c.node.Visible.Value, c.node.Visible.Set
	}
	if info, err := os.Stat(c.model); err == nil && info.IsDir() {
		o.Offline = true
	}
	return o
}

func startProgress(p launch.StartProgress) string {
	text := fmt.Sprintf("start-up: %s, %s", p.Phase, seconds(p.Elapsed.Seconds()))
	if p.Total > 0 {
		text += fmt.Sprintf(", %d of %d", p.Done, p.Total)
	}
	return text
}

func seconds(s float64) string {
	const enough = 100
	if s < enough {
		return fmt.Sprintf("%.1f s", s)
	}
	return fmt.Sprintf("%.0f s", s)
}

func serverRecord(facts vllm.LogFacts, served launch.Served, phases []launch.PhaseSpan, wanted vllm.EngineConfig) *result.Server {
	s := &result.Server{
		Version: served.Version, KVTokens: facts.KVTokens, KVCacheGiB: facts.KVCacheMemoryGiB, ModelMemoryGiB: facts.ModelMemoryGiB,
		MaxConcurrency: facts.MaxConcurrency, MaxNumSeqs: wanted.MaxNumSeqs, MaxNumBatchedTokens: wanted.MaxNumBatchedTokens,
		StartupSeconds: served.Seconds,
	}
	for i, span := range phases {
		end := time.Duration(served.Seconds * float64(time.Second))
		if i+1 < len(phases) {
			end = phases[i+1].At
		}
		if end > span.At {
			s.StartupPhases = append(s.StartupPhases, result.Phase{Name: span.Phase.String(), Seconds: (end - span.At).Seconds()})
		}
	}
	return s
}

// checkEffective compares what the engine runs with what was asked for. It
// returns whether the levels may run.
func (c *campaign) checkEffective(jobs []*job, srv *server) bool {
	// The name is this start's own, and checked by WaitReady.
	wanted := jobs[0].wanted
	wanted.ServedName, wanted.ServedNames = srv.target.Model, []string{srv.target.Model}
	mismatches := vllm.CheckEffective(wanted, srv.facts)
	if len(mismatches) == 0 {
		return true
	}
	var differences []result.Difference
	text := ""
	for _, m := range mismatches {
		differences = append(differences, result.Difference{Setting: m.Setting, Wanted: m.Wanted, Got: m.Got, Source: m.Source})
		text += fmt.Sprintf("; %s: wanted %s, runs %s (%s)", m.Setting, m.Wanted, m.Got, m.Source)
	}
	text = text[2:]
	for _, j := range jobs {
		c.observer.Note(j.cell().Label(), "the engine does not run what was asked: "+text)
		if err := j.start.Update(func(s *result.StartJSON) { s.EffectiveDiff = differences }); err != nil {
			c.observer.Note(j.cell().Label(), err.Error())
		}
	}
	if c.o.Lenient {
		return true
	}
	for _, j := range jobs {
		c.finishWith(j, result.StateNotValid, codeNotValid, text, measure.Validity{
			Reasons: []measure.Reason{measure.ReasonEffectiveConfigMismatch},
			Details: map[string]string{string(measure.ReasonEffectiveConfigMismatch): text},
		})
	}
	return false
}

// runLevels runs the levels of one job, cheapest first, as far as ctx lasts.
func (c *campaign) runLevels(ctx context.Context, j *job, srv *server) {
	c.checkCounts(ctx, j, srv)
	for _, level := range j.cell().Levels {
		if ctx.Err() != nil || j.finished {
			return
		}
		run, err := c.level(ctx, j, srv, level)
		if err != nil {
			c.observer.Note(j.cell().Label(), fmt.Sprintf("level %s: %v", level.Name, err))
			code := codeInternal
			var invalid *datasets.InvalidError
			if errors.As(err, &invalid) {
				code = codeDataSet
			}
			// Nobody interrupted it, and the server did not die.
			c.finishWith(j, result.StateIncomplete, code, err.Error(), measure.Validity{
				Reasons: []measure.Reason{result.ReasonError},
				Details: map[string]string{string(result.ReasonError): fmt.Sprintf("level %s: %v", level.Name, err)},
			})
			return
		}
		j.levels = append(j.levels, run)
		c.observer.LevelDone(j.cell().Label(), run)
		if srv.ended() && ctx.Err() == nil {
			c.died(j, srv)
			return
		}
	}
}

// died finishes a job whose server ended while it was measured.
func (c *campaign) died(j *job, srv *server) {
	failure := srv.process.Failure()
	why := fmt.Sprintf("the server ended while it was measured: %s (%s)", failure.Class, failure.Exit)
	c.observer.Note(j.cell().Label(), why)
	if err := j.start.Update(func(s *result.StartJSON) { s.Failed = failedRecord(failure) }); err != nil {
		c.observer.Note(j.cell().Label(), err.Error())
	}
	c.finishWith(j, result.StateFailed, codeEngine, why, measure.Validity{
		Reasons: []measure.Reason{result.ReasonServerDied, measure.ReasonInterrupted},
		Details: map[string]string{string(result.ReasonServerDied): why},
	})
}

func failedRecord(f *launch.FailedStart) *result.Failed {
	return &result.Failed{Class: string(f.Class), Phase: f.Phase.String(), Lines: f.Lines, Exit: f.Exit.String(), Seconds: f.Elapsed.Seconds()}
}

// failedStart finishes jobs whose server did not come up.
func (c *campaign) failedStart(ctx context.Context, jobs []*job, err error) {
	if ctx.Err() != nil {
		for _, j := range jobs {
			c.finishInterrupted(ctx, j, "starting the server")
		}
		return
	}
	var failure *launch.FailedStart
	if !errors.As(err, &failure) {
		c.fail(jobs, err)
		return
	}
	state, code := result.StateFailed, codeEngine
	reason := result.ReasonFailedStart
	if failure.Refused() {
		state, reason = result.StateRefused, result.ReasonRefused
	}
	for _, j := range jobs {
		c.observer.Note(j.cell().Label(), failure.Error())
		if err := j.start.Update(func(s *result.StartJSON) {
			s.Failed = failedRecord(failure)
			if failure.Refused() {
				s.Refused = &result.Refused{Class: string(failure.Class), Reason: failure.Error(), EngineText: firstOf(failure.Lines)}
			}
		}); err != nil {
			c.observer.Note(j.cell().Label(), err.Error())
		}
		c.finishWith(j, state, code, failure.Error(), measure.Validity{
			Reasons: []measure.Reason{reason}, Details: map[string]string{string(reason): failure.Error()},
		})
		c.settle(j.configuration, func(o *CellOutcome) { o.EngineText = firstOf(failure.Lines) })
	}
}

func firstOf(lines []string) string {
	if len(lines) == 0 {
		return ""
	}
	return lines[0]
}

// fail finishes jobs that a fault of ours or of the file system ended.
func (c *campaign) fail(jobs []*job, err error) {
	for _, j := range jobs {
		c.observer.Note(j.cell().Label(), err.Error())
		if j.start == nil {
			c.settle(j.configuration, func(o *CellOutcome) { o.Reason, o.code = err.Error(), codeInternal })
			continue
		}
		c.finishWith(j, result.StateFailed, codeInternal, err.Error(), measure.Validity{
			Reasons: []measure.Reason{result.ReasonFailedStart}, Details: map[string]string{string(result.ReasonFailedStart): err.Error()},
		})
	}
}

// stopProcess ends the server and records what it took.
func (c *campaign) stopProcess(ctx context.Context, jobs []*job, process *launch.Process) {
	var report launch.StopReport
	if ctx.Err() != nil {
		report = process.StopShort(context.WithoutCancel(ctx))
	} else {
		report = process.Stop(context.WithoutCancel(ctx), stopGrace)
	}
	for _, left := range report.Left {
		c.observer.Note(jobs[0].cell().Label(), "a process of the server could not be ended: "+left)
	}
	for _, j := range jobs {
		if j.finished {
			continue
		}
		if err := j.start.Update(func(s *result.StartJSON) {
			s.Stop = &result.Stop{Steps: report.Steps, Seconds: report.Took.Seconds(), Left: report.Left}
			if s.Server != nil {
				s.Server.LogSHA256 = fileSHA256(jobs[0].start.LogPath())
			}
		}); err != nil {
			c.observer.Note(j.cell().Label(), err.Error())
		}
	}
}

func fileSHA256(path string) string {
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer file.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return ""
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// finish closes the record of a job whose levels all ran.
func (c *campaign) finish(j *job) {
	if j.finished {
		return
	}
	v := measure.Validity{OK: true, Labels: []measure.Label{}, Details: map[string]string{}}
	for _, run := range j.levels {
		for _, reason := range run.Validity.Reasons {
			if !slices.Contains(v.Reasons, reason) {
				v.Reasons = append(v.Reasons, reason)
			}
			v.Details[string(reason)] = joinDetail(v.Details[string(reason)], run.Level.Name, run.Validity.Details[string(reason)])
		}
		for _, label := range run.Validity.Labels {
			if !slices.Contains(v.Labels, label) {
				v.Labels = append(v.Labels, label)
			}
		}
	}
	if len(v.Reasons) == 0 {
		c.finishWith(j, result.StateValid, codeOK, "", v)
		return
	}
	v.OK = false
	c.finishWith(j, result.StateNotValid, codeNotValid, joinReasons(v), v)
}

func joinDetail(before, level, detail string) string {
	text := level + ": " + detail
	if before == "" {
		return text
	}
	return before + "; " + text
}

// finishInterrupted closes the record of a job that ctx ended.
func (c *campaign) finishInterrupted(ctx context.Context, j *job, phase string) {
	if j.finished || j.start == nil {
		return
	}
	why := cause(ctx)
	c.outcome.Why = why
	done, total := c.progress(j)
	if err := j.start.Update(func(s *result.StartJSON) {
		s.Progress = &result.Progress{Phase: phase, Done: done, Total: total, Why: why}
		if n := len(j.levels); n > 0 {
			s.Progress.Level = j.levels[n-1].Level.Name
		}
	}); err != nil {
		c.observer.Note(j.cell().Label(), err.Error())
	}
	text := fmt.Sprintf("interrupted by %s, %d of %d requests done", why, done, total)
	c.finishWith(j, result.StateInterrupted, codeInterrupted, text, measure.Validity{
		Reasons: []measure.Reason{measure.ReasonInterrupted}, Details: map[string]string{string(measure.ReasonInterrupted): text},
	})
}

// progress counts requests over all levels of a job.
func (c *campaign) progress(j *job) (done, total int) {
	for _, run := range j.levels {
		done += run.Metrics.Completed
	}
	for _, level := range j.cell().Levels {
		total += c.requests(j, level)
	}
	return done, total
}

// finishWith closes a job's record with a verdict and settles its cells.
func (c *campaign) finishWith(j *job, state result.State, code int, why string, v measure.Validity) {
	if j.finished {
		return
	}
	j.finished = true
	if v.Labels == nil {
		v.Labels = []measure.Label{}
	}
	if c.o.Mock != nil && !slices.Contains(v.Labels, measure.LabelMock) {
		v.Labels = append(v.Labels, measure.LabelMock)
	}
	if err := j.start.Finish(v, time.Now()); err != nil {
		c.observer.Note(j.cell().Label(), "the record could not be finished: "+err.Error())
		code, why = codeInternal, err.Error()
	}
	c.settle(j.configuration, func(o *CellOutcome) {
		o.State, o.Reason, o.code = state, why, code
		o.Dirs = append(o.Dirs, j.start.Dir())
	})
}
