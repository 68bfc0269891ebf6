package stats

import (
	"fmt"
	"math"
	"sort"

	"gonum.org/v1/gonum/integrate/quad"
	"gonum.org/v1/gonum/stat/distuv"
)

// Verdict of a comparison against the baseline.
type Verdict string

// The four verdicts.
const (
	Better     Verdict = "better"
	Worse      Verdict = "worse"
	Equivalent Verdict = "equivalent"
	Undecided  Verdict = "undecided"
)

// Defaults of a comparison. Source: docs/metrics.md, comparing.
const (
	DefaultMargin     = 0.03
	DefaultConfidence = 0.95
	// mostStarts is where the search for the starts that would decide ends.
	mostStarts = 200
)

// CompareInput is one metric of two configurations: one value for each server
// start, the unit of replication.
type CompareInput struct {
	Baseline, Other []float64 // > 0
	// HigherIsBetter: throughput; false for latencies.
	HigherIsBetter bool
	// Margin of equivalence, a share (default 0.03); Confidence default 0.95.
	Margin, Confidence float64
	// Comparisons against the same baseline made together (Dunnett), default 1.
	Comparisons int
	// PooledVariance of the logarithms over starts and its degrees of freedom,
	// from PoolLogVariance over all configurations; 0 df: these two only.
	PooledVariance float64
	PooledDF       int
	// HoursPerStart prices what would decide an undecided comparison.
	HoursPerStart float64
}

// CompareResult is the ratio Other / Baseline with its interval and verdict.
type CompareResult struct {
	Ratio, Low, High float64
	// HalfWidth is the interval's, as a share, that these starts can achieve.
	// +Inf where there is no interval.
	HalfWidth float64
	Verdict   Verdict
	// StartsNeeded (each side) and HoursNeeded would decide; 0 when decided or
	// unknown.
	StartsNeeded int
	HoursNeeded  float64
	DF           float64
	Method       string
	// Warnings name doubts, each with what would remove it.
	Warnings []string
}

// Compare gives the verdict on Other against Baseline.
//
// The logarithms of the values are compared, so that the result is a ratio: its
// interval is exp(d -+ c s sqrt(1/n0 + 1/n1)), with s the standard deviation
// from start to start and c Dunnett's critical value for Comparisons (Student's
// t for one). s is pooled over configurations where PooledDF is given, else
// Welch's.
//
// Equivalent: the interval at 2 Confidence - 1 lies within the margin, which is
// two one-sided tests. Better or worse: the interval at Confidence leaves out
// 1. In this order, so that a difference too small to matter is no winner.
func Compare(in CompareInput) CompareResult {
	in = in.withDefaults()
	n0, n1 := len(in.Baseline), len(in.Other)
	none := CompareResult{Verdict: Undecided, HalfWidth: math.Inf(1), Method: "none"}
	if n0 == 0 || n1 == 0 {
		none.Warnings = append(none.Warnings, "a side without results: measure it")
		return none
	}
	a, okA := logs(in.Baseline)
	b, okB := logs(in.Other)
	if !okA || !okB {
		none.Warnings = append(none.Warnings, "a value that is not more than 0 has no ratio")
		return none
	}
	d := Mean(b) - Mean(a)
	r := CompareResult{Ratio: math.Exp(d), Verdict: Undecided, Method: "none"}
	r.Low, r.High, r.HalfWidth = math.NaN(), math.NaN(), math.Inf(1)
	se, df, method := in.standardError(a, b)
	if method == "none" {
		r.Warnings = append(r.Warnings, "one start a side tells nothing about other starts: need >= 2 starts of a configuration for an interval")
		r.StartsNeeded = 2
		r.HoursNeeded = in.HoursPerStart * float64(max(0, 2-n0)+max(0, 2-n1))
		return r
	}
	r.DF, r.Method = df, method
	lambda := math.Sqrt(float64(n1) / float64(n0+n1))
	c := DunnettCritical(in.Comparisons, df, lambda, in.Confidence)
	tost := DunnettCritical(in.Comparisons, df, lambda, 2*in.Confidence-1)
	r.Low, r.High = math.Exp(d-c*se), math.Exp(d+c*se)
	r.HalfWidth = math.Expm1(c * se)
	if se == 0 {
		r.Warnings = append(r.Warnings, "all starts gave the same value: real starts differ, so this interval says too much")
	}
	r.Verdict = in.decide(d, c*se, tost*se)
	if r.Verdict == Undecided {
		r.StartsNeeded = in.startsNeeded(d, se/math.Sqrt(1/float64(n0)+1/float64(n1)), df)
		if r.StartsNeeded > 0 {
			r.HoursNeeded = in.HoursPerStart * float64(max(0, r.StartsNeeded-n0)+max(0, r.StartsNeeded-n1))
		} else {
			r.Warnings = append(r.Warnings, fmt.Sprintf("not decided with %d starts a side either: the difference lies on the margin; choose another --margin", mostStarts))
		}
	}
	return r
}

func (in CompareInput) withDefaults() CompareInput {
	if in.Margin <= 0 || in.Margin >= 1 {
		in.Margin = DefaultMargin
	}
	if in.Confidence <= 0.5 || in.Confidence >= 1 {
		in.Confidence = DefaultConfidence
	}
	in.Comparisons = max(1, in.Comparisons)
	return in
}

// decide by the difference of logarithms and the half widths of both intervals.
func (in CompareInput) decide(d, half, tost float64) Verdict {
	switch {
	case d-tost >= math.Log1p(-in.Margin) && d+tost <= math.Log1p(in.Margin):
		return Equivalent
	case d-half > 0 && in.HigherIsBetter, d+half < 0 && !in.HigherIsBetter:
		return Better
	case d-half > 0, d+half < 0:
		return Worse
	}
	return Undecided
}

func (in CompareInput) standardError(a, b []float64) (se, df float64, method string) {
	n0, n1 := float64(len(a)), float64(len(b))
	if in.PooledDF > 0 {
		return math.Sqrt(in.PooledVariance * (1/n0 + 1/n1)), float64(in.PooledDF), "pooled over configurations, log scale"
	}
	if len(a) < 2 && len(b) < 2 {
		return 0, 0, "none"
	}
	if len(a) < 2 || len(b) < 2 {
		// One side's spread stands for both.
		variance, df := PoolLogVariance([][]float64{exps(a), exps(b)})
		return math.Sqrt(variance * (1/n0 + 1/n1)), float64(df), "spread of one side, log scale"
	}
	se, df = welch(a, b)
	return se, df, "Welch, log scale"
}

func exps(values []float64) []float64 {
	out := make([]float64, len(values))
	for i, v := range values {
		out[i] = math.Exp(v)
	}
	return out
}

// welch is the standard error of a difference of means and its degrees of
// freedom (Welch and Satterthwaite).
func welch(a, b []float64) (se, df float64) {
	n0, n1 := float64(len(a)), float64(len(b))
	va, vb := squares(a)/(n0-1)/n0, squares(b)/(n1-1)/n1
	if va+vb == 0 {
		return 0, n0 + n1 - 2
	}
	return math.Sqrt(va + vb), (va + vb) * (va + vb) / (va*va/(n0-1) + vb*vb/(n1-1))
}

// WelchInterval of mean(b) - mean(a), of independent values.
func WelchInterval(a, b []float64, confidence float64) Interval {
	d := Mean(b) - Mean(a)
	if len(a) < 2 || len(b) < 2 {
		return Interval{d, d, "none"}
	}
	se, df := welch(a, b)
	half := TQuantile((1+confidence)/2, df) * se
	return Interval{d - half, d + half, "welch"}
}

// startsNeeded is the least number of starts a side that would decide if the
// difference and the spread sigma stayed as they are; 0 if mostStarts do not.
func (in CompareInput) startsNeeded(d, sigma, df float64) int {
	have := min(len(in.Baseline), len(in.Other))
	decided := func(n int) bool {
		more := df + 2*float64(n-have)
		se := sigma * math.Sqrt(2/float64(n))
		c := DunnettCritical(in.Comparisons, more, math.Sqrt(0.5), in.Confidence)
		tost := DunnettCritical(in.Comparisons, more, math.Sqrt(0.5), 2*in.Confidence-1)
		return in.decide(d, c*se, tost*se) != Undecided
	}
	// More starts only narrow both intervals, so that the search can halve.
	least := max(2, have+1)
	n := least + sort.Search(mostStarts-least+1, func(i int) bool { return decided(least + i) })
	if n > mostStarts {
		return 0
	}
	return n
}

func logs(values []float64) ([]float64, bool) {
	out := make([]float64, len(values))
	for i, v := range values {
		if !(v > 0) || math.IsInf(v, 0) {
			return nil, false
		}
		out[i] = math.Log(v)
	}
	return out, true
}

// PoolLogVariance pools the variance of the logarithms within groups: one group
// for each configuration, one value for each start. df is 0 where no group has
// two values.
func PoolLogVariance(groups [][]float64) (variance float64, df int) {
	sum := 0.0
	for _, g := range groups {
		l, ok := logs(g)
		if !ok || len(l) < 2 {
			continue
		}
		sum += squares(l)
		df += len(l) - 1
	}
	if df == 0 {
		return 0, 0
	}
	return sum / float64(df), df
}

// HalfWidth is the half width, as a share, of the interval that starts a side
// achieve when starts spread by spread (standard deviation as a share) and
// comparisons configurations stand against one baseline: what cannot be told
// apart is smaller. +Inf below two starts.
func HalfWidth(starts int, spread float64, comparisons int, confidence float64) float64 {
	if starts < 2 {
		return math.Inf(1)
	}
	comparisons = max(1, comparisons)
	df := float64((comparisons + 1) * (starts - 1))
	c := DunnettCritical(comparisons, df, math.Sqrt(0.5), confidence)
	return math.Expm1(c * spread * math.Sqrt(2/float64(starts)))
}

// Power is the chance to find a ratio of 1 + effect with those starts a side;
// the normal approximation to the non-central t, good to some 2 %.
func Power(effect, spread float64, starts, comparisons int, confidence float64) float64 {
	if starts < 2 || spread <= 0 {
		return 0
	}
	comparisons = max(1, comparisons)
	df := float64((comparisons + 1) * (starts - 1))
	c := DunnettCritical(comparisons, df, math.Sqrt(0.5), confidence)
	shift := math.Abs(math.Log1p(effect)) / (spread * math.Sqrt(2/float64(starts)))
	return distuv.UnitNormal.CDF(shift-c) + distuv.UnitNormal.CDF(-shift-c)
}

// DunnettCritical is the two-sided critical value for k comparisons with one
// control: P(max |T_i| <= c) = confidence, with df degrees of freedom and T_i
// correlated by lambda^2, lambda = sqrt(n_i / (n_0 + n_i)). For k = 1 it is
// Student's.
//
// Source: Dunnett, A multiple comparison procedure for comparing several
// treatments with a control, JASA 50 (1955), by numerical integration over the
// common part of the T_i and over the spread.
func DunnettCritical(k int, df, lambda, confidence float64) float64 {
	if k <= 1 {
		return TQuantile((1+confidence)/2, df)
	}
	// Between one comparison's value and Bonferroni's.
	low := TQuantile((1+confidence)/2, df)
	high := TQuantile(1-(1-confidence)/(2*float64(k)), df)
	for range 60 {
		c := (low + high) / 2
		if high-low < 1e-7*high {
			break
		}
		if dunnettCDF(c, k, df, lambda) < confidence {
			low = c
		} else {
			high = c
		}
	}
	return (low + high) / 2
}

func dunnettCDF(c float64, k int, df, lambda float64) float64 {
	rest := math.Sqrt(1 - lambda*lambda)
	phi := distuv.UnitNormal
	given := func(s float64) float64 {
		return quad.Fixed(func(z float64) float64 {
			p := phi.CDF((lambda*z+c*s)/rest) - phi.CDF((lambda*z-c*s)/rest)
			return phi.Prob(z) * math.Pow(p, float64(k))
		}, -8, 8, 80, quad.Legendre{}, 0)
	}
	if math.IsInf(df, 1) || df > 1e6 {
		return given(1)
	}
	chi := distuv.ChiSquared{K: df}
	lowS, highS := math.Sqrt(chi.Quantile(1e-9)/df), math.Sqrt(chi.Quantile(1-1e-9)/df)
	return quad.Fixed(func(s float64) float64 {
		return 2 * df * s * chi.Prob(df*s*s) * given(s)
	}, lowS, highS, 60, quad.Legendre{}, 0)
}

// WithinStart compares two series of one start each: by pairs where both lists
// belong to the same samples in the same order (paired, level 1), else by their
// blocks in time. Such an interval says nothing about other starts: the verdict
// is always undecided.
func WithinStart(baseline, other []float64, paired bool, confidence float64) CompareResult {
	r := CompareResult{Verdict: Undecided, HalfWidth: math.Inf(1), Method: "none", Low: math.NaN(), High: math.NaN()}
	r.Warnings = []string{"within one start: decides nothing across starts; measure more starts"}
	a, okA := logs(baseline)
	b, okB := logs(other)
	if !okA || !okB || len(a) == 0 || len(b) == 0 {
		return r
	}
	var interval Interval
	switch {
	case paired && len(a) == len(b):
		diff := make([]float64, len(a))
		for i := range a {
			diff[i] = b[i] - a[i]
		}
		interval = MeanInterval(diff, confidence)
		r.Ratio, r.Method, r.DF = math.Exp(Mean(diff)), "pairs of samples, within one start", float64(len(a)-1)
	default:
		interval = WelchInterval(blocks(a), blocks(b), confidence)
		r.Ratio, r.Method = math.Exp(Mean(b)-Mean(a)), "blocks of time, within one start"
	}
	if interval.Method == "none" {
		r.Method = "none"
		return r
	}
	r.Low, r.High = math.Exp(interval.Low), math.Exp(interval.High)
	r.HalfWidth = math.Expm1((interval.High - interval.Low) / 2)
	return r
}

// blocks are the means of up to Batches stretches of time.
func blocks(values []float64) []float64 {
	n := min(Batches, len(values)/2)
	if n < 2 {
		return values
	}
	out := make([]float64, n)
	for i := range out {
		out[i] = Mean(values[i*len(values)/n : (i+1)*len(values)/n])
	}
	return out
}
