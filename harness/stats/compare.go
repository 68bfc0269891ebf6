package stats

// Verdict of a comparison against the baseline.
type Verdict string

// The four verdicts.
const (
	Better     Verdict = "better"
	Worse      Verdict = "worse"
	Equivalent Verdict = "equivalent"
	Undecided  Verdict = "undecided"
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
