package load

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestOffsetsStatistics(t *testing.T) {
	// Mean gap 1/rate; standard deviation 1/rate for Poisson, 0 for constant,
	// 1/(rate sqrt(shape)) for gamma.
	for _, tt := range []struct {
		arrival Arrival
		std     float64
	}{
		{Arrival{Process: Poisson, RatePerSecond: 50}, 0.02},
		{Arrival{Process: Constant, RatePerSecond: 50}, 0},
		{Arrival{Process: Gamma, RatePerSecond: 50, Burstiness: 0.25}, 0.04},
		{Arrival{Process: Gamma, RatePerSecond: 50, Burstiness: 4}, 0.01},
		{Arrival{Process: Gamma, RatePerSecond: 50}, 0.02},
	} {
		const n = 100_000
		offsets, err := tt.arrival.Offsets(n, 7)
		require.NoError(t, err)
		sum, squares, last := 0.0, 0.0, time.Duration(0)
		for _, o := range offsets {
			gap := (o - last).Seconds()
			last = o
			sum += gap
			squares += gap * gap
		}
		mean := sum / n
		std := math.Sqrt(max(0, squares/n-mean*mean))
		if math.Abs(mean-0.02) > 0.0006 || math.Abs(std-tt.std) > 0.02*tt.std+1e-6 {
			t.Errorf("%+v: gaps of %v +- %v s, want 0.02 +- %v", tt.arrival, mean, std, tt.std)
		}
	}
}

func TestOffsetsRamp(t *testing.T) {
	for _, strategy := range []string{"linear", "exponential"} {
		offsets, err := Arrival{Process: Constant, Ramp: &Ramp{Strategy: strategy, StartPerSecond: 1, EndPerSecond: 100}}.Offsets(101, 0)
		require.NoError(t, err)
		require.Equal(t, time.Second, offsets[0])
		require.InDelta(t, 0.01, (offsets[100] - offsets[99]).Seconds(), 1e-6)
		middle := map[string]float64{"linear": 1 / 50.5, "exponential": 0.1}[strategy]
		require.InDelta(t, middle, (offsets[50] - offsets[49]).Seconds(), 1e-4)
	}
}

func TestOffsetsProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := Arrival{
			Process:       rapid.SampledFrom([]Process{Poisson, Constant, Gamma}).Draw(t, "process"),
			RatePerSecond: rapid.Float64Range(0.001, 1e5).Draw(t, "rate"),
			Burstiness:    rapid.Float64Range(0, 10).Draw(t, "burstiness"),
		}
		n := rapid.IntRange(0, 200).Draw(t, "n")
		seed := rapid.Uint64().Draw(t, "seed")
		one, err := a.Offsets(n, seed)
		if err != nil {
			t.Fatal(err)
		}
		two, err := a.Offsets(n, seed)
		if err != nil || !slices.Equal(one, two) || len(one) != n || !slices.IsSorted(one) || n > 0 && one[0] < 0 {
			t.Fatalf("%v: %v, %v", err, one, two)
		}
	})
}

func TestOffsetsRefuse(t *testing.T) {
	for _, a := range []Arrival{
		{}, {Process: Closed}, {Process: "x", RatePerSecond: 1}, {Process: Poisson}, {Process: Poisson, RatePerSecond: -1}, {Process: Poisson, RatePerSecond: math.NaN()},
		{Process: Poisson, RatePerSecond: math.Inf(1)}, {Process: Gamma, RatePerSecond: 1, Burstiness: -1}, {Process: Constant, RatePerSecond: 1e-300},
		{Process: Constant, Ramp: &Ramp{Strategy: "cubic", StartPerSecond: 1, EndPerSecond: 2}}, {Process: Constant, Ramp: &Ramp{Strategy: "linear", StartPerSecond: 0, EndPerSecond: 2}},
	} {
		if _, err := a.Offsets(3, 0); err == nil {
			t.Errorf("%+v was accepted", a)
		}
	}
}
