package stats

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestPercentileAsNumpy(t *testing.T) {
	// numpy.percentile(v, q), numpy 2.1.
	v := []float64{1, 2, 4, 8, 16}
	for _, tt := range []struct{ q, want float64 }{{0, 1}, {25, 2}, {50, 4}, {90, 12.8}, {95, 14.4}, {99, 15.68}, {99.9, 15.968}, {100, 16}} {
		if got := Percentile(v, tt.q); math.Abs(got-tt.want) > 1e-12 {
			t.Errorf("p%v: got %v, want %v", tt.q, got, tt.want)
		}
	}
	if got := Percentile(nil, 50); got != 0 {
		t.Errorf("nothing: got %v", got)
	}
	if got := Percentile([]float64{7}, 99); got != 7 {
		t.Errorf("one value: got %v", got)
	}
}

func TestQuantileRanks(t *testing.T) {
	for _, tt := range []struct {
		n         int
		q         float64
		low, high int
		ok        bool
	}{{5, 0.5, 0, 0, false}, {6, 0.5, 0, 5, true}, {10, 0.5, 1, 8, true}, {100, 0.5, 39, 60, true}, {29, 0.9, 0, 0, false}} {
		low, high, ok := QuantileRanks(tt.n, tt.q, 0.95)
		if ok != tt.ok || ok && (low != tt.low || high != tt.high) {
			t.Errorf("n=%d q=%v: got %d..%d %v, want %d..%d %v", tt.n, tt.q, low, high, ok, tt.low, tt.high, tt.ok)
		}
	}
}

func TestMeanInterval(t *testing.T) {
	// scipy.stats.t.interval(0.95, 4, loc=3, scale=scipy.stats.sem([1,2,3,4,5]))
	got := MeanInterval([]float64{1, 2, 3, 4, 5}, 0.95)
	if math.Abs(got.Low-1.036756838522439) > 1e-9 || math.Abs(got.High-4.963243161477561) > 1e-9 {
		t.Errorf("got %v", got)
	}
	if got := MeanInterval([]float64{3}, 0.95); got.Low != 3 || got.High != 3 || got.Method != "none" {
		t.Errorf("one value: %v", got)
	}
}

func TestBatchMeansSeesCorrelation(t *testing.T) {
	// A slow wave: neighbours are alike, so independent-sample intervals are far
	// too narrow.
	values := make([]float64, 2000)
	for i := range values {
		values[i] = 100 + math.Sin(float64(i)/200)
	}
	plain, batch := MeanInterval(values, 0.95), BatchMeansInterval(values, 0.95)
	if batch.High-batch.Low < 4*(plain.High-plain.Low) {
		t.Errorf("batch means %v are hardly wider than %v", batch, plain)
	}
}

func TestCollectorEqualsPlain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.SampledFrom([]int{0, 5}).Draw(t, "limit")
		values := rapid.SliceOf(rapid.Int64Range(0, 1e12)).Draw(t, "values")
		c := Collector{limit: limit}
		plain := make([]float64, 0, len(values))
		for _, v := range values {
			c.Add(v)
			plain = append(plain, float64(v))
		}
		extra := rapid.Int64Range(0, 5).Draw(t, "zeros")
		view := c.WithZeros(extra)
		for range extra {
			plain = append(plain, 0)
		}
		slices.Sort(plain)
		for _, q := range []float64{0, 10, 50, 90, 99, 100} {
			got, want := view.Percentile(q), Percentile(plain, q)
			// Bucket middles are off by 0.006 % at most.
			tolerance := 1e-9 * want
			if !view.Exact() {
				tolerance = 7e-5 * (plain[len(plain)-1] + 1)
			}
			if math.Abs(got-want) > tolerance {
				t.Fatalf("p%v: got %v, want %v", q, got, want)
			}
		}
		near := func(name string, got, want float64) {
			if math.Abs(got-want) > 1e-6*(math.Abs(want)+1) {
				t.Fatalf("%s: got %v, want %v", name, got, want)
			}
		}
		near("n", float64(view.N()), float64(len(plain)))
		near("mean", view.Mean(), Mean(plain))
		near("std", view.Std(), PopulationStd(plain))
		near("sample std", view.SampleStd(), SampleStd(plain))
		if len(plain) > 0 {
			near("min", view.Min(), plain[0])
			near("max", view.Max(), plain[len(plain)-1])
		}
	})
}

func TestBucketsAreNarrow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.Int64Range(1, 1<<50).Draw(t, "v")
		if got := fine.Middle(fine.Of(v)); math.Abs(got-float64(v)) > 6.2e-5*float64(v) {
			t.Fatalf("%d in a bucket around %v", v, got)
		}
	})
}
