package stats

import (
	"math"
	"sort"

	"gonum.org/v1/gonum/stat/distuv"
)

// Mean of values, 0 when empty.
func Mean(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	// Running mean: no overflow, and equal values give exactly that value.
	mean := 0.0
	for i, v := range values {
		mean += (v - mean) / float64(i+1)
	}
	return mean
}

func squares(values []float64) float64 {
	mean, sum := Mean(values), 0.0
	for _, v := range values {
		sum += (v - mean) * (v - mean)
	}
	return sum
}

// PopulationStd divides by n, as numpy.std does by default.
func PopulationStd(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	return math.Sqrt(squares(values) / float64(len(values)))
}

// SampleStd divides by n-1; 0 below two values.
func SampleStd(values []float64) float64 {
	if len(values) < 2 {
		return 0
	}
	return math.Sqrt(squares(values) / float64(len(values)-1))
}

// Interval with the way it was made. Low == High == the estimate, and Method
// "none", where there is too little to say.
type Interval struct {
	Low, High float64
	Method    string
}

// TQuantile is Student's t at p, with df degrees of freedom.
func TQuantile(p, df float64) float64 {
	if math.IsInf(df, 1) || df > 1e7 {
		return distuv.UnitNormal.Quantile(p)
	}
	return distuv.StudentsT{Mu: 0, Sigma: 1, Nu: df}.Quantile(p)
}

// MeanInterval is Student's interval of the mean of independent values.
func MeanInterval(values []float64, confidence float64) Interval {
	mean := Mean(values)
	n := len(values)
	if n < 2 {
		return Interval{mean, mean, "none"}
	}
	half := TQuantile((1+confidence)/2, float64(n-1)) * SampleStd(values) / math.Sqrt(float64(n))
	return Interval{mean - half, mean + half, "student_t"}
}

// Batches is the number of batches of BatchMeansInterval; fewer make the
// interval wide, more let neighbours correlate (Schmeiser 1982: 10 to 30).
const Batches = 20

// BatchMeansInterval is an interval of the mean of values that follow each
// other in time and are correlated: the means of Batches blocks are nearly
// independent. Below two values a batch it falls back to MeanInterval.
func BatchMeansInterval(values []float64, confidence float64) Interval {
	n := len(values)
	if n < 2*Batches {
		return MeanInterval(values, confidence)
	}
	means := make([]float64, Batches)
	for i := range means {
		means[i] = Mean(values[i*n/Batches : (i+1)*n/Batches])
	}
	mean := Mean(values)
	half := TQuantile((1+confidence)/2, Batches-1) * SampleStd(means) / math.Sqrt(Batches)
	return Interval{mean - half, mean + half, "batch_means"}
}

// QuantileRanks are the 0-based ranks of the order statistics that enclose the
// q-quantile (0 to 1) of a distribution with at least that confidence, whatever
// its shape; ok is false if n values are too few.
func QuantileRanks(n int, q, confidence float64) (low, high int, ok bool) {
	if n < 1 || q <= 0 || q >= 1 {
		return 0, 0, false
	}
	// Ranks from 0: P(quantile < X_(k)) is the chance that at most k values lie
	// below it, the binomial CDF at k. Both tails get half of the rest.
	below := distuv.Binomial{N: float64(n), P: q}
	tail := (1 - confidence) / 2
	low = sort.Search(n, func(k int) bool { return below.CDF(float64(k)) > tail }) - 1
	high = sort.Search(n, func(k int) bool { return 1-below.CDF(float64(k)) <= tail })
	return low, high, low >= 0 && high < n && low <= high
}

// QuantileInterval of sorted values by order statistics.
func QuantileInterval(sorted []float64, q, confidence float64) Interval {
	low, high, ok := QuantileRanks(len(sorted), q, confidence)
	if !ok {
		v := Percentile(sorted, 100*q)
		return Interval{v, v, "none"}
	}
	return Interval{sorted[low], sorted[high], "order_statistics"}
}
