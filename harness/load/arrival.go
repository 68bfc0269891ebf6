package load

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// Offsets plans the arrivals of n requests of an open loop: how long after the
// beginning of the phase each is to be sent, in the server's time. The same
// arrival, n and seed give the same plan. Nothing is rescaled to make the last
// one fall on n/rate, as vLLM does: the rate offered is the rate drawn.
//
// Gaps: poisson exponential, constant 1/rate, gamma with shape Burstiness and
// mean 1/rate. A ramp changes the rate by request: linear a + (b-a) i/(n-1),
// exponential a (b/a)^(i/(n-1)).
func (a Arrival) Offsets(n int, seed uint64) ([]time.Duration, error) {
	if err := a.validate(); err != nil {
		return nil, err
	}
	if a.closed() {
		return nil, fmt.Errorf("load: a closed loop has no planned arrivals")
	}
	rng := rand.New(rand.NewPCG(seed, 0x61727269766c7321))
	offsets := make([]time.Duration, n)
	at := 0.0
	for i := range offsets {
		at += a.gap(rng) / a.rate(i, n)
		if at > math.MaxInt64/2e9 {
			return nil, fmt.Errorf("load: request %d would be sent after more than 100 years; raise the rate of %g/s", i, a.RatePerSecond)
		}
		offsets[i] = time.Duration(math.Round(at * 1e9))
	}
	return offsets, nil
}

func (a Arrival) closed() bool { return a.Process == "" || a.Process == Closed }

// validate reports the first fault of an arrival process.
func (a Arrival) validate() error {
	switch a.Process {
	case "", Closed:
		return nil
	case Poisson, Constant, Gamma:
	default:
		return fmt.Errorf("load: arrival process %q: want closed, poisson, constant or gamma", a.Process)
	}
	if !(a.RatePerSecond > 0) && a.Ramp == nil || math.IsInf(a.RatePerSecond, 0) {
		return fmt.Errorf("load: request rate %g: want more than 0", a.RatePerSecond)
	}
	if a.Burstiness < 0 || math.IsInf(a.Burstiness, 0) || math.IsNaN(a.Burstiness) {
		return fmt.Errorf("load: burstiness %g: want more than 0", a.Burstiness)
	}
	if r := a.Ramp; r != nil {
		if r.Strategy != "linear" && r.Strategy != "exponential" {
			return fmt.Errorf("load: ramp-up strategy %q: want linear or exponential", r.Strategy)
		}
		if !(r.StartPerSecond > 0) || !(r.EndPerSecond > 0) || math.IsInf(r.StartPerSecond+r.EndPerSecond, 0) {
			return fmt.Errorf("load: ramp from %g/s to %g/s: want both more than 0", r.StartPerSecond, r.EndPerSecond)
		}
	}
	return nil
}

// gap before a request at rate 1.
func (a Arrival) gap(rng *rand.Rand) float64 {
	switch a.Process {
	case Constant:
		return 1
	case Gamma:
		shape := a.Burstiness
		if shape == 0 {
			shape = 1
		}
		return gamma(rng, shape) / shape
	}
	return rng.ExpFloat64()
}

func (a Arrival) rate(i, n int) float64 {
	r := a.Ramp
	if r == nil {
		return a.RatePerSecond
	}
	share := 0.0
	if n > 1 {
		share = float64(i) / float64(n-1)
	}
	if r.Strategy == "exponential" {
		return r.StartPerSecond * math.Pow(r.EndPerSecond/r.StartPerSecond, share)
	}
	return r.StartPerSecond + (r.EndPerSecond-r.StartPerSecond)*share
}

// gamma draws from the gamma distribution with that shape and scale 1.
// Source: Marsaglia and Tsang, A simple method for generating gamma variables,
// ACM TOMS 26 (2000), with their boost for shapes below 1.
func gamma(rng *rand.Rand, shape float64) float64 {
	if shape < 1 {
		return gamma(rng, shape+1) * math.Pow(1-rng.Float64(), 1/shape)
	}
	d := shape - 1.0/3
	c := 1 / math.Sqrt(9*d)
	for {
		x := rng.NormFloat64()
		v := 1 + c*x
		if v <= 0 {
			continue
		}
		v = v * v * v
		u := 1 - rng.Float64()
		if math.Log(u) < 0.5*x*x+d-d*v+d*math.Log(v) {
			return d * v
		}
	}
}
