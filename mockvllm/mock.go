package mockvllm

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/glm46/glm46/mockvllm/engine"
	"github.com/glm46/glm46/mockvllm/model"
	"github.com/glm46/glm46/mockvllm/tokenizer"
	"github.com/glm46/glm46/mockvllm/vllm"
)

var discardLog = log.New(io.Discard, "", 0)

// Mock is a mock vLLM server: an [http.Handler] with a life.
//
// New gives one that is not started: it answers 503 until Start has returned.
// After Close it aborts what comes.
type Mock struct {
	opt     Options
	version vllm.Version
	cfg     vllm.EngineConfig
	model   *model.Model
	// maxModelLen and blocks are what the memory gives.
	maxModelLen, blocks int
	keys                []string
	devMode             bool
	interval            time.Duration // of periodic lines, model time
	fingerprint         string
	text                textSource
	eos                 []int32
	pace                *Pace
	speed               float64
	scenario            *Scenario
	truth               *truthFile
	pid                 int
	// tunedMoE is the folder of tiles tuned for the hardware, "" if there is none.
	tunedMoE string

	driver *driver
	meter  *meter
	late   lateness
	slow   slowdown

	ids     atomic.Uint64
	streams atomic.Int64
	started atomic.Bool
	// requests counts generations, for the rules of a scenario.
	requests atomic.Int64

	blastPrompt, blastTokens atomic.Int64

	preparing chan struct{} // a seat for each request that is being read

	logMu sync.Mutex

	life      context.Context
	end       context.CancelFunc
	wg        sync.WaitGroup
	closeOnce sync.Once
	deadOnce  sync.Once
	dead      chan struct{}
	badReset  atomic.Bool
}

// StartError is a start that failed, by a scenario or because ctx ended.
type StartError struct {
	Class    vllm.Class
	ExitCode int
	// Text is what the log says last.
	Text string
}

func (e *StartError) Error() string {
	return fmt.Sprintf("start failed (%s): %s", e.Class, e.Text)
}

// New parses the arguments, resolves the engine's configuration and sizes its
// memory.
//
// It fails with *vllm.UsageError (exit code 2) for what vLLM's parser refuses,
// *vllm.RefusalError (exit code 1) for what its engine refuses, and
// *model.UnsupportedError for what the profile has no figures for. On a refusal
// Log has what vLLM would have written.
func New(o Options) (*Mock, error) {
	return newMock(o, func() (waiter, error) { return newTimerWaiter(), nil })
}

// NewPrecise is New for a process that serves real sockets: it waits by the
// kernel's timers, which are exact to 50 us where Go's are rounded to 1 ms. It
// does not work inside testing/synctest.
func NewPrecise(o Options) (*Mock, error) { return newMock(o, newFDWaiter) }

func newMock(o Options, wait func() (waiter, error)) (*Mock, error) {
	if o.Version == "" {
		o.Version = vllm.DefaultVersion
	}
	v, err := vllm.ParseVersion(o.Version)
	if err != nil {
		return nil, err
	}
	switch {
	case o.Speed == 0:
		o.Speed = 1
	case !(o.Speed > 0 && o.Speed <= 1e6):
		return nil, fmt.Errorf("speed %v: want above 0 and at most 1000000", o.Speed)
	case o.Startup != "" && o.Startup != StartupNone && o.Startup != StartupModel:
		return nil, fmt.Errorf("startup %q: want %q or %q", o.Startup, StartupNone, StartupModel)
	case o.Pace != nil && (o.Pace.TTFT < 0 || o.Pace.ITL < 0):
		return nil, fmt.Errorf("pace of %v and %v: want no negative times", o.Pace.TTFT, o.Pace.ITL)
	case !(o.Repetition >= 0 && o.Repetition <= 1):
		return nil, fmt.Errorf("repetition %v: want 0 to 1", o.Repetition)
	}
	args, err := vllm.ParseServeArgs(v, o.Args)
	if err != nil {
		return nil, err
	}
	profile := model.GLM46H200()
	if o.Profile != nil {
		profile = o.Profile
	}
	// A profile is of one tensor-parallel group. A command line that leaves its
	// size open means that one: vLLM's default of 1 could not hold the weights.
	if !args.Set["--tensor-parallel-size"] {
		args.TensorParallelSize = profile.Shape.TensorParallelSize
	}
	glm := strings.Contains(strings.ToLower(args.Model), "glm-4.6")
	if o.Profile == nil && !glm {
		// A model that nobody has measured: GLM-4.6's figures for each GPU stand in
		// for it, on as many GPUs as it asks for.
		profile.Shape.TensorParallelSize = args.TensorParallelSize
	}
	env := environment(o.Environ)
	m := &Mock{
		opt: o, version: v, speed: o.Speed, pace: o.Pace, scenario: o.Scenario, pid: o.PID,
		devMode: env["VLLM_SERVER_DEV_MODE"] == "1", interval: vllm.StatsIntervalDefault,
		keys: args.APIKeys, dead: make(chan struct{}), preparing: make(chan struct{}, runtime.NumCPU()),
		text: textSource{tokenizer.Text{Seed: o.Seed, Repetition: o.repetition(), Stop: true}},
	}
	if m.pid == 0 {
		m.pid = os.Getpid()
	}
	if k := env["VLLM_API_KEY"]; k != "" && len(m.keys) == 0 {
		m.keys = []string{k}
	}
	if s, err := strconv.ParseFloat(env["VLLM_LOG_STATS_INTERVAL"], 64); err == nil && s > 0 && s < 1e6 {
		m.interval = time.Duration(s * float64(time.Second))
	}
	if o.Truth != nil {
		m.truth = &truthFile{w: o.Truth}
	}
	if e := m.scenario.usageError(v); e != nil {
		return nil, e
	}
	m.cfg, err = args.ResolveWith(v, vllm.GLM46(), vllm.ResolveOptions{AllowLongMaxModelLen: env["VLLM_ALLOW_LONG_MAX_MODEL_LEN"] == "1"})
	if err != nil {
		return nil, m.refused(err)
	}
	m.scenario.contradict(&m.cfg)
	if glm && o.Profile == nil {
		profile = model.BuiltIn(m.cfg)
	}
	if v.AtLeast(vllm.TunedConfigFolderSince) {
		m.tunedMoE = env[vllm.TunedConfigFolderEnv]
	}
	m.model, err = model.New(profile, m.cfg, model.Options{Seed: o.Seed, Noise: o.Noise, TunedMoE: m.tunedMoE != ""})
	if err != nil {
		return nil, m.refused(err)
	}
	m.maxModelLen, m.blocks = m.model.MaxModelLen(), m.model.KVBlocks()
	m.cfg.MaxModelLen = m.maxModelLen
	m.fingerprint = vllm.Fingerprint(v, m.cfg)
	m.meter = newMeter(v, m.cfg, m.speed)
	for _, id := range m.cfg.Shape.EOSTokenIDs {
		m.eos = append(m.eos, int32(id))
	}
	c, err := m.newCore()
	if err != nil {
		return nil, err
	}
	w, err := wait()
	if err != nil {
		return nil, err
	}
	m.driver = newDriver(c, w, m.speed)
	m.driver.emitted = m.meter.emission
	m.driver.ended = func(s *stream, em *engine.Emission) {
		why := s.finish
		if why == engine.FinishNone {
			why = em.Finish
		}
		m.meter.end(s, why, em.Times)
	}
	m.life, m.end = context.WithCancel(context.Background())
	return m, nil
}

// newCore makes the engine or what stands in for it.
func (m *Mock) newCore() (core, error) {
	if m.pace != nil {
		return newPaceCore(*m.pace, &m.text, m.eos, m.maxModelLen, m.blocks-1), nil
	}
	cfg := m.model.Sim()
	cfg.Observe = m.meter.step
	m.slow.timer, m.slow.periods = m.model, m.scenario.slowPeriods()
	sim, err := engine.NewSim(cfg, &m.slow, &m.text)
	if err != nil {
		return nil, err
	}
	m.slow.now = sim.Now
	return simCore{sim}, nil
}

// unpaced: tokens have no times of their own; handlers write as fast as they can.
func (m *Mock) unpaced() bool { return m.pace != nil && m.pace.ITL == 0 }

// refused writes a refusal's lines and gives it back.
func (m *Mock) refused(err error) error {
	if r, ok := err.(*vllm.RefusalError); ok {
		m.logAll(vllm.RefusalLines(m.version, m.cfg, r, m.pid))
	}
	return err
}

func environment(pairs []string) map[string]string {
	env := make(map[string]string, len(pairs))
	for _, p := range pairs {
		name, value, _ := strings.Cut(p, "=")
		env[name] = value
	}
	return env
}

// textSource is the tokenizer's text as the engine asks for it.
type textSource struct{ tokenizer.Text }

// Token gives the token at output position pos of r.
func (t *textSource) Token(r *engine.Request, pos int) int32 {
	return t.Text.Token(tokenizer.Source{Prompt: r.Prompt, Seed: r.Seed, MinTokens: r.MinTokens, IgnoreEOS: r.IgnoreEOS}, pos)
}

// Config is the configuration the mock runs with.
func (m *Mock) Config() vllm.EngineConfig { return m.cfg }

// Model is the timing model in use.
func (m *Mock) Model() *model.Model { return m.model }

// Start runs the start-up phases and returns when the mock is healthy.
//
// It fails with *StartError when a scenario says so or ctx ends first. The
// engine's clock begins when it returns.
func (m *Mock) Start(ctx context.Context) error {
	if err := m.startUp(ctx); err != nil {
		return err
	}
	m.meter.created = time.Now()
	m.driver.start()
	m.scheduleEvents()
	if !m.cfg.DisableLogStats && m.opt.Log != nil {
		m.wg.Go(m.logPeriodically)
	}
	m.started.Store(true)
	return nil
}

// Close aborts what runs, ends the goroutines of the mock and waits for them.
// Handlers that still run end soon after.
func (m *Mock) Close() error {
	m.closeOnce.Do(func() {
		m.end()
		if m.started.Load() {
			m.driver.close()
		} else {
			m.driver.wait.Close()
		}
		m.wg.Wait()
	})
	return nil
}

// Dead is closed when the engine has died by a scenario.
func (m *Mock) Dead() <-chan struct{} { return m.dead }

func (m *Mock) isDead() bool {
	select {
	case <-m.dead:
		return true
	default:
		return false
	}
}

// Stats gives the engine's counters; zero when it does not run.
func (m *Mock) Stats() engine.Stats {
	st, _ := m.stats()
	return st
}

func (m *Mock) stats() (engine.Stats, bool) {
	if !m.started.Load() {
		return engine.Stats{}, false
	}
	var st engine.Stats
	if !m.driver.do(func() {
		st = m.driver.core.stats()
	}) {
		return engine.Stats{}, false
	}
	st.PromptTokens += m.blastPrompt.Load()
	st.GenerationTokens += m.blastTokens.Load()
	if m.unpaced() {
		st.Running = int(m.streams.Load())
	}
	return st, true
}

// slowdown is the model with a factor that a scenario may put on it.
type slowdown struct {
	timer   engine.StepTimer
	now     func() time.Duration
	periods []slowPeriod
}

type slowPeriod struct {
	from, to time.Duration // model time; to 0: without end
	factor   float64
}

// Step is the duration of a step.
func (s *slowdown) Step(shape *engine.StepShape) time.Duration {
	d := s.timer.Step(shape)
	for _, p := range s.periods {
		if now := s.now(); now >= p.from && (p.to == 0 || now < p.to) {
			d = time.Duration(float64(d) * p.factor)
		}
	}
	return d
}

// log writes a line as the version does.
func (m *Mock) log(l vllm.LogLine) { m.logAll([]vllm.LogLine{l}) }

func (m *Mock) logAll(lines []vllm.LogLine) {
	if m.opt.Log == nil && m.opt.ErrorLog == nil {
		return
	}
	now := time.Now()
	m.logMu.Lock()
	defer m.logMu.Unlock()
	for _, l := range lines {
		w := m.opt.Log
		if l.Stream == vllm.Stderr {
			w = m.opt.ErrorLog
		}
		if w == nil {
			continue
		}
		if l.Proc.PID == 0 {
			l.Proc.PID = m.pid
			if l.Proc.Role == vllm.EngineCore {
				l.Proc.PID = m.pid + 100
			}
		}
		_, _ = io.WriteString(w, l.Render(m.version, m.cfg, now))
	}
}

// logAccess writes uvicorn's line of a request.
func (m *Mock) logAccess(r *http.Request, status int) {
	if m.opt.Log == nil || m.cfg.DisableAccessLog || m.cfg.Args.UvicornLogLevel != "info" && m.cfg.Args.UvicornLogLevel != "debug" && m.cfg.Args.UvicornLogLevel != "trace" {
		return
	}
	m.log(vllm.AccessLine(r.RemoteAddr, r.Method, r.URL.RequestURI(), status, http.StatusText(status)))
}

// logPeriodically writes the statistics lines: every interval of model time, but
// at most once a second. Rates are per second of model time, as the server that
// is imitated would log them.
func (m *Mock) logPeriodically() {
	every := max(time.Duration(float64(m.interval)/m.speed), min(m.interval, time.Second))
	t := time.NewTicker(every)
	defer t.Stop()
	last, _ := m.stats()
	lastActive := make([]bool, len(replicasOf(last)))
	for {
		select {
		case <-m.life.Done():
			return
		case <-m.dead:
			return
		case <-t.C:
		}
		st, ok := m.stats()
		if !ok {
			return
		}
		seconds := every.Seconds() * m.speed
		now, before := replicasOf(st), replicasOf(last)
		for i := range now {
			lastActive[i] = m.logStats(i, before[i], now[i], seconds, lastActive[i])
		}
		last = st
	}
}

// replicasOf gives the statistics of each replica.
func replicasOf(st engine.Stats) []engine.Stats {
	if st.Replicas != nil {
		return st.Replicas
	}
	return []engine.Stats{st}
}

// logStats writes the lines of one replica; it reports whether that was active.
func (m *Mock) logStats(replica int, last, st engine.Stats, seconds float64, lastActive bool) bool {
	active := st.GenerationTokens > last.GenerationTokens || st.Running+st.Waiting > 0
	if active || lastActive {
		m.log(vllm.PeriodicLine(m.version, vllm.PeriodicStats{
			Engine:                    replica,
			PromptTokensPerSecond:     float64(st.PromptTokens-last.PromptTokens) / seconds,
			GenerationTokensPerSecond: float64(st.GenerationTokens-last.GenerationTokens) / seconds,
			Running:                   st.Running, Waiting: st.Waiting, KVUsage: st.KVUsage,
			PrefixHitRate: hitRate(last, st),
		}))
	}
	if l, ok := vllm.SpecDecodeLine(m.version, vllm.SpecDecodeStats{
		Interval: time.Duration(seconds * float64(time.Second)), NumDrafts: st.Drafts - last.Drafts,
		DraftTokens: st.DraftTokens - last.DraftTokens, AcceptedTokens: st.AcceptedTokens - last.AcceptedTokens,
		AcceptedPerPos: difference(st.AcceptedPerPosition, last.AcceptedPerPosition),
	}); ok {
		m.log(l)
	}
	return active
}

// hitRate is the share of prefix-cache queries that hit since the last line; vLLM
// takes the last 1,000 requests.
func hitRate(last, now engine.Stats) float64 {
	q := now.PrefixQueries - last.PrefixQueries
	if q <= 0 {
		q, last = now.PrefixQueries, engine.Stats{}
	}
	if q <= 0 {
		return 0
	}
	return float64(now.PrefixHits-last.PrefixHits) / float64(q)
}

func difference(a, b []int64) []int64 {
	out := make([]int64, len(a))
	copy(out, a)
	for i := range min(len(a), len(b)) {
		out[i] -= b[i]
	}
	return out
}

// startUp writes the start-up log, taking the model's time where asked.
func (m *Mock) startUp(ctx context.Context) error {
	runtime.Gosched() // lets a test's clock settle on this goroutine
	facts := m.startupFacts()
	lines := vllm.StartupLines(m.version, m.cfg, facts)
	spans := m.spans()
	begun := time.Now()
	var at time.Duration
	for i, l := range lines {
		if e := m.scenario.startFailure(l.Phase, l.At, i == len(lines)-1); e != nil {
			return m.failStart(ctx, e, l.Phase)
		}
		if m.opt.Startup == StartupModel {
			s := spans[l.Phase]
			at = max(at, s.from+time.Duration(l.At*float64(s.length)))
			if err := sleepUntil(ctx, begun.Add(time.Duration(float64(at)/m.speed))); err != nil {
				return &StartError{Class: vllm.ClassKilled, ExitCode: 1, Text: "stopped while starting"}
			}
		}
		m.log(l)
	}
	return nil
}

type span struct{ from, length time.Duration }

// spans gives when the log's phases begin and how long they last, from the
// model's.
func (m *Mock) spans() map[vllm.Phase]span {
	names := map[string]vllm.Phase{
		model.PhaseLoad: vllm.PhaseLoad, model.PhaseCompile: vllm.PhaseCompile,
		model.PhaseProfile: vllm.PhaseProfile, model.PhaseCapture: vllm.PhaseCapture,
	}
	out := map[vllm.Phase]span{}
	var at time.Duration
	for _, p := range m.model.Startup() {
		out[names[p.Name]] = span{at, p.Duration}
		at += p.Duration
	}
	out[vllm.PhaseReady] = span{at, 0}
	out[vllm.PhaseServing] = span{at, 0}
	return out
}

// startupFacts are the numbers of the start-up log, as the model computes them.
func (m *Mock) startupFacts() vllm.StartupFacts {
	f := vllm.StartupFacts{
		PID: m.pid, Host: m.cfg.Args.Host, Port: m.cfg.Args.Port, DevMode: m.devMode,
		ModelMemoryGiB: m.model.ModelMemoryGiB(), CaptureGiB: m.model.GraphMemoryGiB(),
		KVMemoryGiB: m.model.KVMemoryGiB(), KVBlocks: m.model.KVBlocks(), KVTokens: int64(m.model.KVTokens()),
		MaxConcurrency:   m.model.MaxConcurrency(),
		MoEConfigDefault: m.cfg.Shape.Experts > 0 && m.cfg.Quantization == "" && m.tunedMoE == "", MoEConfigFolder: m.tunedMoE,
	}
	if m.opt.Port != 0 {
		f.Port = m.opt.Port
	}
	for _, p := range m.model.Startup() {
		switch p.Name {
		case model.PhaseLoad:
			// Nearly all of it is reading; the rest is making the modules.
			f.WeightsTime, f.LoadTime = p.Duration*97/100, p.Duration
		case model.PhaseCompile:
			f.CompileTime, f.DynamoTime, f.GraphTime = p.Duration, p.Duration*15/100, p.Duration*80/100
			f.EngineInitTime += p.Duration
		case model.PhaseProfile:
			f.ProfileTime = p.Duration
			f.EngineInitTime += p.Duration
		case model.PhaseCapture:
			f.CaptureTime = p.Duration
			f.EngineInitTime += p.Duration
		}
	}
	return f
}

func sleepUntil(ctx context.Context, t time.Time) error {
	d := time.Until(t)
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// LogFailure writes what vLLM writes when a start fails by that class.
func (m *Mock) LogFailure(class vllm.Class) {
	m.logAll(vllm.FailureLines(m.version, m.cfg, class, vllm.FailureFacts{PID: m.pid}))
}

// LogShutdown writes what vLLM writes when it is stopped.
func (m *Mock) LogShutdown() { m.logAll(vllm.ShutdownLines(m.pid)) }
