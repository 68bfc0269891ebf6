package stats

import (
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

func TestDunnettCritical(t *testing.T) {
	// Dunnett, New tables for multiple comparisons with a control, Biometrics 20
	// (1964), two-sided, 5 %.
	for _, tt := range []struct {
		k    int
		df   float64
		want float64
	}{
		{1, 10, 2.23}, {2, 10, 2.57}, {3, 10, 2.76}, {4, 10, 2.89}, {5, 10, 2.99},
		{1, 20, 2.09}, {2, 20, 2.38}, {3, 20, 2.54}, {4, 20, 2.65}, {5, 20, 2.73},
		{2, math.Inf(1), 2.21}, {5, math.Inf(1), 2.51}, {2, 5, 3.03},
	} {
		if got := DunnettCritical(tt.k, tt.df, math.Sqrt(0.5), 0.95); math.Abs(got-tt.want) > 0.006 {
			t.Errorf("k=%d df=%v: got %.4f, want %.2f", tt.k, tt.df, got, tt.want)
		}
	}
}

func TestWelchInterval(t *testing.T) {
	// R: t.test(c(27.5,21.0,19.0,23.6,17.0,17.9), c(27.1,22.0,20.8,23.4,23.4,23.5))
	a := []float64{27.5, 21.0, 19.0, 23.6, 17.0, 17.9}
	b := []float64{27.1, 22.0, 20.8, 23.4, 23.4, 23.5}
	se, df := welch(a, b)
	got := WelchInterval(a, b, 0.95)
	half := TQuantile(0.975, df) * se
	d := 23.3666666667 - 21.0
	if math.Abs(got.Low-(d-half)) > 1e-6 || math.Abs(got.High-(d+half)) > 1e-6 {
		t.Errorf("got %v", got)
	}
	// By hand: variances 15.724 and 4.48267 of six values each.
	if math.Abs(se-1.835151) > 1e-5 || math.Abs(df-7.6366) > 1e-3 {
		t.Errorf("se %v, df %v", se, df)
	}
}

func TestCompareVerdicts(t *testing.T) {
	for _, tt := range []struct {
		name        string
		base, other []float64
		higher      bool
		want        Verdict
		needsMore   bool
		pooled      float64
		pooledDF    int
	}{
		{"clearly faster", []float64{100, 101, 99}, []float64{120, 121, 119}, true, Better, false, 0, 0},
		{"clearly slower", []float64{100, 101, 99}, []float64{80, 81, 79}, true, Worse, false, 0, 0},
		{"shorter latency", []float64{100, 101, 99}, []float64{80, 81, 79}, false, Better, false, 0, 0},
		{"longer latency", []float64{100, 101, 99}, []float64{120, 121, 119}, false, Worse, false, 0, 0},
		{"the same", []float64{100, 100.2, 99.8, 100.1}, []float64{100.1, 99.9, 100.2, 100}, true, Equivalent, false, 0, 0},
		{"real, but too small to matter", []float64{100, 100.01, 99.99}, []float64{101, 101.01, 100.99}, true, Equivalent, false, 0, 0},
		{"noise", []float64{100, 110, 90}, []float64{104, 114, 95}, true, Undecided, true, 0, 0},
		{"one start each", []float64{100}, []float64{150}, true, Undecided, true, 0, 0},
		{"one start each, spread known", []float64{100}, []float64{150}, true, Better, false, 1e-4, 10},
		{"nothing", nil, []float64{150}, true, Undecided, false, 0, 0},
		{"not positive", []float64{0, 1}, []float64{150, 151}, true, Undecided, false, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := Compare(CompareInput{Baseline: tt.base, Other: tt.other, HigherIsBetter: tt.higher, PooledVariance: tt.pooled, PooledDF: tt.pooledDF, HoursPerStart: 2})
			if r.Verdict != tt.want || (r.StartsNeeded > 0) != tt.needsMore {
				t.Errorf("got %s, %d starts needed: %+v", r.Verdict, r.StartsNeeded, r)
			}
			if tt.needsMore && r.HoursNeeded <= 0 {
				t.Errorf("no price for %d starts", r.StartsNeeded)
			}
		})
	}
}

// TestCompareHolds its promise: with no difference, at most 5 % of comparisons
// call a winner, and with spread 1.5 % and 3 starts intervals are as wide as
// HalfWidth says.
func TestCompareHolds(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	const trials, spread = 600, 0.015
	wrong, width := 0, 0.0
	for range trials {
		draw := func() []float64 {
			v := make([]float64, 3)
			for i := range v {
				v[i] = 100 * math.Exp(spread*rng.NormFloat64())
			}
			return v
		}
		r := Compare(CompareInput{Baseline: draw(), Other: draw(), Margin: 1e-9})
		if r.Verdict == Better || r.Verdict == Worse {
			wrong++
		}
		width += r.HalfWidth
	}
	if share := float64(wrong) / trials; share > 0.065 {
		t.Errorf("%.1f %% of equal pairs got a winner", 100*share)
	}
	want := HalfWidth(3, spread, 1, 0.95)
	if got := width / trials; math.Abs(got-want) > 0.35*want {
		t.Errorf("half width %v on the mean, HalfWidth says %v", got, want)
	}
}

func TestHalfWidthAndPower(t *testing.T) {
	if got := HalfWidth(1, 0.015, 1, 0.95); !math.IsInf(got, 1) {
		t.Errorf("one start: %v", got)
	}
	// t(0.975, 4) = 2.776: exp(2.776 * 0.015 * sqrt(2/3)) - 1.
	if got := HalfWidth(3, 0.015, 1, 0.95); math.Abs(got-0.034589) > 1e-4 {
		t.Errorf("three starts: %v", got)
	}
	if a, b := Power(0.05, 0.015, 3, 1, 0.95), Power(0.05, 0.015, 6, 1, 0.95); a <= 0.5 || b <= a || b > 1 {
		t.Errorf("power of 3 and 6 starts: %v, %v", a, b)
	}
}

func TestCompareSymmetric(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.Float64Range(1, 1000), 2, 5)
		a, b := values.Draw(t, "a"), values.Draw(t, "b")
		x := Compare(CompareInput{Baseline: a, Other: b, HigherIsBetter: true, Margin: 0.03})
		y := Compare(CompareInput{Baseline: b, Other: a, HigherIsBetter: true, Margin: 0.03})
		if math.Abs(x.Ratio*y.Ratio-1) > 1e-9 || math.Abs(x.Low*y.High-1) > 1e-9 {
			t.Fatalf("%+v and %+v do not mirror each other", x, y)
		}
		if x.Verdict == Better && y.Verdict != Worse {
			t.Fatalf("%s one way, %s the other", x.Verdict, y.Verdict)
		}
		if !(x.Low <= x.Ratio && x.Ratio <= x.High) {
			t.Fatalf("ratio outside its interval: %+v", x)
		}
	})
}

func TestWithinStart(t *testing.T) {
	a := []float64{10, 20, 30, 40}
	b := []float64{11, 22, 33, 44}
	r := WithinStart(a, b, true, 0.95)
	if r.Verdict != Undecided || math.Abs(r.Ratio-1.1) > 1e-12 || r.HalfWidth > 1e-9 {
		t.Errorf("pairs: %+v", r)
	}
	if r = WithinStart(a, b, false, 0.95); r.HalfWidth < 0.5 {
		t.Errorf("blocks ignore what pairs share: %+v", r)
	}
}
