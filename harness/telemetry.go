package harness

import (
	"context"
	"errors"
	"time"

	"github.com/glm46/glm46/harness/measure"
	"github.com/glm46/glm46/harness/node"
	"github.com/glm46/glm46/harness/result"
)

const (
	mibPerGiB = 1024
	// gpuFreeLimit is how long the driver may take to free the memory of a
	// stopped server. Source: docs/node.md, stopping a server.
	gpuFreeLimit = 2 * time.Minute
)

// telemetry is the series of one start: the server's metrics and the GPUs.
type telemetry struct {
	metrics *measure.LineWriter
	gpus    *measure.LineWriter
	sampler *node.Sampler
	began   time.Time
	// fault is the first line that could not be written.
	fault error
}

// startTelemetry opens the series. Without GPUs there is no GPU series.
func (c *campaign) startTelemetry(ctx context.Context, j *job) (*telemetry, error) {
	t := &telemetry{began: time.Now()}
	var err error
	if t.metrics, err = measure.CreateLines(j.start.Path(result.MetricsFile)); err != nil {
		return nil, err
	}
	ordinals := c.ordinals()
	if len(ordinals) == 0 {
		return t, nil
	}
	if t.gpus, err = measure.CreateLines(j.start.Path(result.GPUFile)); err != nil {
		return nil, errors.Join(err, t.metrics.Close())
	}
	if t.sampler, err = node.StartSampler(context.WithoutCancel(ctx), c.o.System, ordinals, t.gpus); err != nil {
		// The measurement is good without it, but poorer: that must be said.
		c.observer.Note(j.cell().Label(), "no GPU telemetry: "+err.Error())
		t.sampler = nil
	}
	return t, nil
}

// series takes a sample of the server's metrics.
func (t *telemetry) series(s measure.ServerSample) {
	if err := t.metrics.Line(s); err != nil && t.fault == nil {
		t.fault = err
	}
}

// close ends the series.
func (t *telemetry) close() error {
	err := t.fault
	if t.sampler != nil {
		err = errors.Join(err, t.sampler.Stop())
	}
	if t.gpus != nil {
		err = errors.Join(err, t.gpus.Close())
	}
	return errors.Join(err, t.metrics.Close())
}

// gpuFacts condenses the GPU series over the main phase of a level.
func (c *campaign) gpuFacts(t *telemetry, clock measure.Clock) (*measure.GPUFacts, []measure.GPUInfo, *measure.EnergyInfo) {
	if t == nil || t.sampler == nil {
		return nil, nil, nil
	}
	from := time.Unix(0, clock.StartUnixNS+clock.HandOverNS)
	to := time.Unix(0, clock.EndUnixNS)
	samples := t.sampler.Between(from, to)
	facts := &measure.GPUFacts{Samples: len(samples)}
	facts.ThrottledShare, facts.PowerCappedShare = node.ThrottledShares(samples)
	var infos []measure.GPUInfo
	energy := &measure.EnergyInfo{}
	for _, u := range node.Summarize(samples) {
		info := measure.GPUInfo{
			SMClockMeanMHz: u.SMClockMeanMHz, SMClockMinMHz: u.SMClockMin, MemClockMeanMHz: u.MemClockMeanMHz,
			PowerMeanWatts: u.PowerMeanWatts, PowerMaxWatts: u.PowerMaxWatts, EnergyJoules: u.EnergyJoules,
			TemperatureMaxC: u.TempMaxC, UtilisationMean: u.UtilisationMean, MemoryMaxGiB: u.UsedMaxMiB / mibPerGiB,
			ThrottleShares: u.Throttle, Samples: u.Samples,
		}
		for _, g := range c.node.GPUs {
			if g.Index == u.Index {
				info.UUID, info.Name, info.Driver = g.UUID, g.Name, g.Driver
				if g.UncorrectedECC != nil {
					info.ECCUncorrected = *g.UncorrectedECC
				}
			}
		}
		infos = append(infos, info)
		energy.TotalGPUEnergyJ += u.EnergyJoules
		energy.AvgTotalGPUPowerW += u.PowerMeanWatts
	}
	return facts, infos, energy
}

// cleanUp waits until the GPUs are free again and removes what a killed server
// left in shared memory.
func (c *campaign) cleanUp(ctx context.Context, j *job, t *telemetry) {
	ordinals := c.ordinals()
	if len(ordinals) == 0 || ctx.Err() != nil {
		return
	}
	if err := node.WaitFree(ctx, c.o.System, ordinals, gpuFreeLimit); err != nil {
		c.observer.Note(j.cell().Label(), err.Error())
	}
	removed, err := node.CleanShm("/dev/shm", c.o.System.UID, t.began)
	if err != nil {
		c.observer.Note(j.cell().Label(), "clean /dev/shm: "+err.Error())
	}
	for _, name := range removed {
		c.observer.Note(j.cell().Label(), "removed /dev/shm/"+name)
	}
}
