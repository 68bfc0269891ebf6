package harness

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/glm46/glm46/datasets"
	"github.com/glm46/glm46/harness/experiment"
	"github.com/glm46/glm46/harness/load"
	"github.com/glm46/glm46/harness/measure"
	"github.com/glm46/glm46/harness/result"
)

const (
	// slowestStep bounds the time of one token for request limits: an eager step
	// of a full batch. Source: docs/timing-model.md, 112 ms of launches a step.
	slowestStep = 150 * time.Millisecond
	// limitFactor and leastLimit are the default of a request's total limit.
	// Source: docs/metrics.md, failure classes.
	limitFactor = 3
	leastLimit  = time.Hour
)

// levelInfo is the load of a level as records hold it.
func levelInfo(level experiment.Level) measure.LevelInfo {
	info := measure.LevelInfo{
		Name: level.Name, Arrival: string(load.Closed), Concurrency: level.Concurrency, Requests: level.Requests,
		OutputTokens: level.OutputTokens, Auto: level.Auto,
	}
	if level.RequestRate > 0 {
		info.Arrival, info.RequestRate = string(load.Poisson), level.RequestRate
	}
	return info
}

// subset gives the samples that a job uses.
func (j *job) subset() []datasets.Sample { return j.set.Subset(j.cell().Settings.NumSamples) }

// requests is the number of main requests of a level.
func (c *campaign) requests(j *job, level experiment.Level) int {
	have := j.cell().Settings.NumSamples
	if j.set != nil {
		have = len(j.subset())
	}
	if level.Requests > 0 {
		return min(level.Requests, have)
	}
	return have
}

// level runs one level and writes its folder. An interrupted level is a result
// (not valid), not an error.
func (c *campaign) level(ctx context.Context, j *job, srv *server, level experiment.Level) (*measure.RunJSON, error) {
	if level.Auto {
		level = c.autoLevel(j, srv, level)
	}
	if run, ok := c.takeOver(j, level); ok {
		return run, nil
	}
	samples, capped, err := c.samples(ctx, j, srv, level)
	if err != nil {
		return nil, err
	}
	spec := c.spec(j, level, samples)
	run := measure.IncompleteRun()
	run.Level = levelInfo(level)
	run.Level.Requests, run.Level.Seed = len(samples), spec.Seed
	c.describe(run, j, srv)
	folder, err := j.start.Level(run)
	if err != nil {
		return nil, err
	}
	lines, err := measure.CreateLines(folder.Path(result.RequestsFile))
	if err != nil {
		return nil, err
	}
	if err := c.takeOverRecords(j, level, &spec, lines); err != nil {
		return nil, errors.Join(err, lines.Close())
	}
	if srv.telemetry != nil {
		spec.Series = srv.telemetry.series
	}
	if !c.o.NoCertificate {
		spec.Certificate = c.certify(ctx, c.shape(level, samples))
	}
	label := j.cell().Label()
	out, err := load.Run(ctx, srv.target, spec, lines, func(p load.Progress) { c.observer.Progress(label, p) })
	if err := errors.Join(err, lines.Close()); err != nil {
		return nil, err
	}
	records, err := measure.OpenRecords(folder.Path(result.RequestsFile))
	if err != nil {
		return nil, err
	}
	usage, each := usageDifference(samples)
	gpu, gpus, energy := c.gpuFacts(srv.telemetry, out.Clock)
	finished, err := load.Finish(srv.target, spec, out, records, load.FinishInput{GPU: gpu, OutputCapped: capped, ConfigMismatches: c.lenientMismatches(j),
		Quality: qualityVerdict(j.start.JSON().Quality), Each: each})
	if err != nil {
		return nil, err
	}
	if slices.Contains(finished.Validity.Labels, measure.LabelMock) {
		gpus, energy = nil, nil // what GPUs do meanwhile has nothing to do with it
	}
	finished.GPU, finished.Energy = gpus, energy
	if energy != nil && finished.Metrics.CompletionTokens > 0 {
		energy.JoulesPerOutputToken = energy.TotalGPUEnergyJ / float64(finished.Metrics.CompletionTokens)
	}
	// Finish describes the load it was given; the plan's words stay.
	info := run.Level
	info.Burstiness, info.NaturalStop = finished.Level.Burstiness, finished.Level.NaturalStop
	finished.Level = info
	c.describe(finished, j, srv)
	finished.Dataset.PromptCounts = c.levelCounts(j, usage)
	return finished, folder.Finish(finished)
}

func (c *campaign) lenientMismatches(j *job) []string {
	var out []string
	for _, d := range j.start.JSON().EffectiveDiff {
		out = append(out, fmt.Sprintf("%s: wanted %s, runs %s", d.Setting, d.Wanted, d.Got))
	}
	return out
}

// describe fills in what run.json says about cell, server and data.
func (c *campaign) describe(run *measure.RunJSON, j *job, srv *server) {
	cell, s := j.cell(), j.start.JSON()
	run.Experiment = &measure.ExperimentInfo{
		Name: cell.ExpName, Cell: cell.ID, Experiment: cell.Experiment, Group: cell.Group, Config: cell.Config, Base: cell.Base,
		Modified: cell.Modified, ConfigHash: cell.ConfigHash, ResumeKey: j.resumeKey, StartID: s.StartID, Settings: settingsMap(cell),
	}
	run.ModelID, run.TokenizerID = c.model, c.model
	if c.o.Mock != nil {
		seed := c.o.Mock.Seed
		run.MockSpeed, run.MockSeed = c.o.Mock.Speed, &seed
	}
	run.Server = &measure.ServerInfo{Version: s.VLLMVersion, Args: s.Argv, Env: s.Environment, EffectiveConfig: s.Effective, URL: srv.target.BaseURL}
	for _, d := range s.EffectiveDiff {
		run.Server.EffectiveDiff = append(run.Server.EffectiveDiff, d.Setting)
	}
	if s.Server != nil {
		run.Server.KVTokens, run.Server.ModelMemoryGiB = s.Server.KVTokens, s.Server.ModelMemoryGiB
		run.Server.StartupPhasesS = map[string]float64{}
		for _, p := range s.Server.StartupPhases {
			run.Server.StartupPhasesS[p.Name] = p.Seconds
		}
	}
	if p := s.Scheduler; p != nil {
		run.Scheduler = &measure.SchedulerInfo{Kind: p.Kind, JobID: p.JobID, Queue: p.Queue, Node: p.Node}
		if !c.o.Deadline.IsZero() {
			left := time.Until(c.o.Deadline).Seconds()
			run.Scheduler.WalltimeLeftS = &left
		}
	}
	run.Dataset = &measure.DatasetInfo{Name: j.set.Name, SHA256: j.set.SHA256, Samples: len(j.subset()), PromptCounts: j.counts}
}

// spec is the load of a level.
func (c *campaign) spec(j *job, level experiment.Level, samples []load.Sample) load.Spec {
	s := load.Spec{
		Level: level.Name, Concurrency: level.Concurrency, Samples: samples, NaturalStop: c.o.NaturalStop, Limits: c.o.Limits, SLO: c.o.SLO,
		// Arrival times are part of the configuration: every cell and every start
		// sees the same. The salt is not: it keeps caches apart.
		Seed: seedOf(j.cell().Dataset, level.Name), Salt: hash(j.start.JSON().StartID, level.Name),
	}
	if level.RequestRate > 0 {
		s.Arrival = load.Arrival{Process: load.Poisson, RatePerSecond: level.RequestRate}
	}
	if s.Limits.Total <= 0 {
		longest := 0
		for _, sample := range samples {
			longest = max(longest, sample.TargetTokens)
		}
		s.Limits.Total = max(leastLimit, limitFactor*time.Duration(longest)*slowestStep)
	}
	if c.o.Mock != nil {
		s.Mock, s.MockSpeed = true, c.o.Mock.Speed
	}
	share := 0.0
	if j.cell().Settings.EnablePrefixCaching {
		used := make([]datasets.Sample, 0, len(samples))
		all := j.subset()
		used = append(used, all[:len(samples)]...)
		share = datasets.SharedPrefixShare(used, nil)
	}
	s.ExpectedPrefixShare = &share
	return s
}

func hash(parts ...string) string {
	sum := sha256.New()
	for _, part := range parts {
		fmt.Fprintf(sum, "%q ", part)
	}
	return hex.EncodeToString(sum.Sum(nil)[:16])
}

func seedOf(parts ...string) uint64 {
	sum := sha256.Sum256([]byte(hash(parts...)))
	// 53 bits: run.json is read by programs whose numbers are doubles.
	return binary.LittleEndian.Uint64(sum[:8]) >> 11
}

func noTarget(j *job, id string) error {
	return &datasets.InvalidError{Faults: []datasets.Fault{{
		File: j.set.Path, Field: "target_tokens", Code: "no_target", What: "sample " + id + " has no target length", Do: "give --max-tokens",
	}}}
}

// checkTargets finds samples without a length to ask for, before a server is
// started for them.
func (c *campaign) checkTargets(j *job) error {
	if j.cell().Settings.MaxTokens > 0 {
		return nil
	}
	for _, level := range j.cell().Levels {
		if level.OutputTokens > 0 {
			continue
		}
		for _, s := range j.subset()[:c.requests(j, level)] {
			if s.TargetTokens <= 0 {
				return noTarget(j, s.ID)
			}
		}
	}
	return nil
}

// samples are the requests of a level, with targets cut to what fits. capped
// counts those that were cut.
func (c *campaign) samples(ctx context.Context, j *job, srv *server, level experiment.Level) (out []load.Sample, capped int, err error) {
	cell := j.cell()
	limit := srv.maxModelLen
	if limit <= 0 {
		limit = cell.Settings.MaxModelLen
	}
	for i, s := range j.subset()[:c.requests(j, level)] {
		target := s.TargetTokens
		if level.OutputTokens > 0 {
			target = level.OutputTokens
		}
		if most := cell.Settings.MaxTokens; most > 0 && (target <= 0 || target > most) {
			target = most
		}
		if target <= 0 {
			return nil, 0, noTarget(j, s.ID)
		}
		sample := load.Sample{ID: s.ID, Prompt: s.Prompt, Messages: s.Messages, Tools: s.Tools, PromptTokens: s.PromptTokens, TargetTokens: target, Seed: i}
		room, err := srv.room(ctx, sample, limit)
		if err != nil {
			return nil, 0, err
		}
		if room < target {
			if room < 1 {
				return nil, 0, &datasets.InvalidError{Faults: []datasets.Fault{{
					File: j.set.Path, Field: "prompt", Code: "too_long", What: fmt.Sprintf("sample %s: the prompt alone does not fit max-model-len %d", s.ID, limit),
					Do: "leave it out or raise MAX_MODEL_LEN",
				}}}
			}
			sample.TargetTokens, sample.Capped = room, true
			capped++
		}
		out = append(out, sample)
	}
	return out, capped, nil
}

// autoLevel is the closed loop that the KV cache holds at once.
func (c *campaign) autoLevel(j *job, srv *server, level experiment.Level) experiment.Level {
	var tokens int64
	samples := j.subset()
	for _, s := range samples {
		target := s.TargetTokens
		if most := j.cell().Settings.MaxTokens; most > 0 && (target <= 0 || target > most) {
			target = most
		}
		tokens += int64(s.PromptTokens + target)
	}
	streams := 1
	if tokens > 0 {
		streams = max(1, int(srv.facts.KVTokens*int64(len(samples))/tokens))
	}
	level.Concurrency = min(streams, len(samples))
	level.Name = result.LevelName(level.Concurrency, 0)
	return level
}

// certificateRate is the pace of a stream that a certificate is made at, in
// tokens/s: some six times the 8.69 that were published for one stream, so that
// no configuration is expected to outrun it. Source: docs/timing-model.md.
const certificateRate = 50

// shape is the load of a level as the client's certificate sees it. Where
// nothing bounds the requests in flight, they are as many as arrive while one
// is answered.
func (c *campaign) shape(level experiment.Level, samples []load.Sample) load.Shape {
	streams := level.Concurrency
	if streams <= 0 {
		tokens := 0
		for _, s := range samples {
			tokens += s.TargetTokens
		}
		streams = int(level.RequestRate * float64(tokens) / float64(max(1, len(samples))) / certificateRate)
	}
	shape := load.Shape{Streams: max(1, min(streams, len(samples))), TokensPerSecond: certificateRate, EventBytes: 220}
	if c.o.Mock != nil {
		// A mock run is a rehearsal: a second tells what it must know.
		shape.Duration = time.Second
		shape.TokensPerSecond *= c.o.Mock.Speed
	}
	return shape
}

// certify measures what the client can do at a load shape, once for each.
func (c *campaign) certify(ctx context.Context, shape load.Shape) *measure.Certificate {
	if known := c.certificates[shape]; known != nil {
		return known
	}
	certificate, err := load.Certify(ctx, shape)
	if err != nil {
		if ctx.Err() == nil {
			c.observer.Note("", "the client could not be calibrated: "+err.Error())
		}
		return nil
	}
	if c.certificates == nil {
		c.certificates = map[load.Shape]*measure.Certificate{}
	}
	c.certificates[shape] = certificate
	return certificate
}

// takeOver copies a level that an interrupted start had finished, so that the
// new start's folder is whole by itself.
func (c *campaign) takeOver(j *job, level experiment.Level) (*measure.RunJSON, bool) {
	for _, start := range j.before {
		if before, ok := start.Level(level.Name); ok && before.Finished() && before.Run.Validity.OK {
			return c.takeOverFrom(j, level, start, before)
		}
	}
	return nil, false
}

func (c *campaign) takeOverFrom(j *job, level experiment.Level, start result.StartResult, before result.LevelResult) (*measure.RunJSON, bool) {
	run := before.Run
	const measuredOn = "measured on start "
	if !strings.HasPrefix(run.Validity.Details[string(measure.LabelResumed)], measuredOn) {
		addLabel(&run.Validity, measure.LabelResumed, measuredOn+start.StartID)
	}
	folder, err := j.start.Level(&run)
	if err != nil {
		return nil, false
	}
	records, err := measure.OpenRecords(before.Dir + "/" + result.RequestsFile)
	if err == nil {
		err = copyRecords(folder.Path(result.RequestsFile), records, nil)
	}
	if err == nil {
		err = folder.Finish(&run)
	}
	if err != nil {
		c.observer.Note(j.cell().Label(), fmt.Sprintf("level %s of start %s could not be taken over: %v", level.Name, start.StartID, err))
		return nil, false
	}
	c.observer.Note(j.cell().Label(), fmt.Sprintf("level %s was finished on start %s; going on after it", level.Name, start.StartID))
	return &run, true
}

func addLabel(v *measure.Validity, label measure.Label, detail string) {
	v.Labels = append(append([]measure.Label{}, v.Labels...), label)
	details := map[string]string{string(label): detail}
	for k, text := range v.Details {
		if k != string(label) {
			details[k] = text
		}
	}
	v.Details = details
}

func copyRecords(path string, records measure.Source, keep func(*measure.Record) bool) (err error) {
	lines, err := measure.CreateLines(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lines.Close()) }()
	return appendRecords(lines, records(), keep)
}

func appendRecords(lines *measure.LineWriter, records iter.Seq2[*measure.Record, error], keep func(*measure.Record) bool) error {
	for r, err := range records {
		if err != nil {
			return err
		}
		if keep != nil && !keep(r) {
			continue
		}
		if err := lines.Record(r); err != nil {
			return err
		}
	}
	return nil
}

// takeOverRecords starts a level with what an interrupted segment of it had
// finished: those samples are not sent again. Of several starts the one counts that
// came furthest: a later one may have been cut before it had copied what there was.
func (c *campaign) takeOverRecords(j *job, level experiment.Level, spec *load.Spec, lines *measure.LineWriter) error {
	var from string
	var best measure.Source
	most := 0
	for _, start := range j.before {
		before, ok := start.Level(level.Name)
		if !ok {
			continue
		}
		records, err := measure.OpenRecords(before.Dir + "/" + result.RequestsFile)
		if err != nil {
			continue // cut before its first record
		}
		n := 0
		for r, err := range records() {
			if err == nil && finishedMain(r) {
				n++
			}
		}
		if n > most {
			from, best, most = start.StartID, records, n
		}
	}
	if best == nil {
		return nil
	}
	spec.Done = map[string]bool{}
	last := 0
	err := appendRecords(lines, best(), func(r *measure.Record) bool {
		if !finishedMain(r) {
			return false
		}
		spec.Done[r.SampleID] = true
		last = max(last, r.Segment)
		return true
	})
	if err != nil {
		return fmt.Errorf("take over the records of start %s: %w", from, err)
	}
	spec.Segment = last + 1
	c.observer.Note(j.cell().Label(), fmt.Sprintf("level %s: %d requests were finished on start %s; going on after them", level.Name, len(spec.Done), from))
	return nil
}

func finishedMain(r *measure.Record) bool {
	return r.Phase == measure.PhaseMain && r.Outcome == measure.OK
}
