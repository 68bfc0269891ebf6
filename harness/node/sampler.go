package node

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"sync"
	"time"
)

// SampleInterval is the sampler's period.
const SampleInterval = time.Second

// Sink takes samples, one JSON line each; measure.LineWriter is one.
type Sink interface {
	Line(v any) error
}

// Sampler reads the GPUs' telemetry from one long-lived nvidia-smi while a
// server runs. A process a sample would disturb what is measured.
type Sampler struct {
	sys  *System
	sink Sink
	out  io.ReadCloser
	end  func() error
	done chan struct{}

	mu      sync.Mutex
	samples []Sample
	err     error
	bad     int
	once    sync.Once
}

// StartSampler starts the sampler for the GPUs given by ordinal; none means all.
// Every sample goes to sink, which may be nil. The caller calls [Sampler.Stop].
//
// Drivers before 535 do not know clocks_event_reasons: its old name is then
// used. It fails with an [*SMIError] where nvidia-smi cannot be run.
func StartSampler(ctx context.Context, sys *System, ordinals []int, sink Sink) (*Sampler, error) {
	fields := SampleFields
	ask := func(fields string) []string {
		args := []string{"--query-gpu=" + fields, csvFormat}
		if len(ordinals) > 0 {
			ids := make([]string, len(ordinals))
			for i, o := range ordinals {
				ids[i] = fmt.Sprint(o)
			}
			args = append(args, "--id="+strings.Join(ids, ","))
		}
		return args
	}
	if _, err := sys.smi(ctx, ask(fields)...); err != nil {
		var refused *SMIError
		if !errors.As(err, &refused) || !refused.refusedField() {
			return nil, err
		}
		fields = strings.Replace(fields, "clocks_event_reasons", "clocks_throttle_reasons", 1)
		if _, err := sys.smi(ctx, ask(fields)...); err != nil {
			return nil, err
		}
	}
	args := append(ask(fields), "-lms", fmt.Sprint(SampleInterval.Milliseconds()))
	out, stop, err := sys.Runner.Stream(ctx, "nvidia-smi", args...)
	if err != nil {
		return nil, &SMIError{Query: strings.Join(args, " "), Reason: err, Hint: `run "nvidia-smi" by hand on this node`}
	}
	s := &Sampler{sys: sys, sink: sink, out: out, end: stop, done: make(chan struct{})}
	go s.read()
	return s, nil
}

func (s *Sampler) read() {
	defer close(s.done)
	lines := bufio.NewScanner(s.out)
	lines.Buffer(make([]byte, 4<<10), 64<<10)
	for lines.Scan() {
		if strings.TrimSpace(lines.Text()) == "" {
			continue
		}
		sample, err := ParseSample(lines.Text(), s.sys.Now())
		s.mu.Lock()
		if err != nil {
			// A driver that loses a GPU says so here, once a second.
			s.bad++
			if s.err == nil {
				s.err = err
			}
			s.mu.Unlock()
			continue
		}
		s.samples = append(s.samples, sample)
		s.mu.Unlock()
		if s.sink != nil {
			if err := s.sink.Line(sample); err != nil {
				s.mu.Lock()
				if s.err == nil {
					s.err = err
				}
				s.mu.Unlock()
			}
		}
	}
	if err := lines.Err(); err != nil {
		s.mu.Lock()
		if s.err == nil {
			s.err = err
		}
		s.mu.Unlock()
	}
}

// Stop ends nvidia-smi and waits for the last line. The error is the first
// fault of the series; the samples before it are good.
func (s *Sampler) Stop() error {
	s.once.Do(func() {
		_ = s.end()
		s.out.Close()
		<-s.done
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bad > 0 {
		return fmt.Errorf("GPU telemetry: %d lines not understood, the first: %w", s.bad, s.err)
	}
	if s.err != nil && !errors.Is(s.err, io.ErrClosedPipe) {
		return fmt.Errorf("GPU telemetry: %w", s.err)
	}
	return nil
}

// Between returns the samples read in [from, to], by our clock.
func (s *Sampler) Between(from, to time.Time) []Sample {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Sample
	for _, x := range s.samples {
		if x.UnixNS >= from.UnixNano() && x.UnixNS <= to.UnixNano() {
			out = append(out, x)
		}
	}
	return out
}

// Usage condenses the samples of one GPU over a stretch of time.
type Usage struct {
	Index   int
	Samples int
	// Means and extremes over the samples that had a value; 0 where none had.
	PowerMeanWatts, PowerMaxWatts float64
	// EnergyJoules is the power integrated over the samples' times.
	EnergyJoules               float64
	TempMaxC                   float64
	SMClockMeanMHz, SMClockMin float64
	MemClockMeanMHz            float64
	UtilisationMean            float64 // 0 to 1
	UsedMaxMiB                 float64
	// Shares of samples by reason, 0 to 1; idle is left out.
	Throttle map[string]float64
}

// Summarize condenses samples by GPU, ordered by index.
func Summarize(samples []Sample) []Usage {
	byGPU := map[int][]Sample{}
	for _, s := range samples {
		byGPU[s.Index] = append(byGPU[s.Index], s)
	}
	var out []Usage
	for index, list := range byGPU {
		slices.SortStableFunc(list, func(a, b Sample) int { return int(min(max(a.UnixNS-b.UnixNS, -1), 1)) })
		out = append(out, summarizeOne(index, list))
	}
	slices.SortFunc(out, func(a, b Usage) int { return a.Index - b.Index })
	return out
}

func summarizeOne(index int, list []Sample) Usage {
	u := Usage{Index: index, Samples: len(list), Throttle: map[string]float64{}}
	mean := func(column string, value func(Sample) float64) (mean, low, high float64) {
		n := 0
		low, high = math.Inf(1), math.Inf(-1)
		for _, s := range list {
			if slices.Contains(s.Missing, column) {
				continue
			}
			v := value(s)
			mean += v
			low, high = min(low, v), max(high, v)
			n++
		}
		if n == 0 {
			return 0, 0, 0
		}
		return mean / float64(n), low, high
	}
	u.PowerMeanWatts, _, u.PowerMaxWatts = mean("power.draw", func(s Sample) float64 { return s.PowerWatts })
	_, _, u.TempMaxC = mean("temperature.gpu", func(s Sample) float64 { return s.TempC })
	u.SMClockMeanMHz, u.SMClockMin, _ = mean("clocks.sm", func(s Sample) float64 { return s.SMMHz })
	u.MemClockMeanMHz, _, _ = mean("clocks.mem", func(s Sample) float64 { return s.MemMHz })
	util, _, _ := mean("utilization.gpu", func(s Sample) float64 { return s.UtilPct })
	u.UtilisationMean = util / 100
	_, _, u.UsedMaxMiB = mean("memory.used", func(s Sample) float64 { return s.UsedMiB })
	for i := 1; i < len(list); i++ {
		a, b := list[i-1], list[i]
		if slices.Contains(a.Missing, "power.draw") || slices.Contains(b.Missing, "power.draw") {
			continue
		}
		u.EnergyJoules += (a.PowerWatts + b.PowerWatts) / 2 * float64(b.UnixNS-a.UnixNS) / 1e9
	}
	for _, s := range list {
		for _, name := range (s.Throttle &^ ThrottleIdle).Names() {
			u.Throttle[name] += 1 / float64(len(list))
		}
	}
	return u
}

// ThrottledShares gives the shares of samples, 0 to 1, in which any GPU was held
// down by a reason of [ThrottleInvalidating], and by the power cap. A sample is
// one GPU at one moment.
func ThrottledShares(samples []Sample) (throttled, powerCapped float64) {
	if len(samples) == 0 {
		return 0, 0
	}
	for _, s := range samples {
		if s.Throttle&ThrottleInvalidating != 0 {
			throttled++
		}
		if s.Throttle&ThrottlePowerCap != 0 {
			powerCapped++
		}
	}
	n := float64(len(samples))
	return throttled / n, powerCapped / n
}
