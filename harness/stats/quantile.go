package stats

import (
	"math"
	"math/bits"
	"slices"
)

// Percentile of sorted values by linear interpolation between order statistics
// (numpy's default, Hyndman and Fan's type 7): q is 0 to 100. An empty slice
// gives 0.
func Percentile(sorted []float64, q float64) float64 {
	return percentile(int64(len(sorted)), q, func(i int64) float64 { return sorted[i] })
}

func percentile(n int64, q float64, at func(int64) float64) float64 {
	if n == 0 {
		return 0
	}
	rank := float64(n-1) * min(max(q, 0), 100) / 100
	low := int64(math.Floor(rank))
	high := min(low+1, n-1)
	a, b := at(low), at(high)
	// numpy's lerp: from the nearer end, so that both ends come out exactly.
	t := rank - float64(low)
	if t >= 0.5 {
		return b - (b-a)*(1-t)
	}
	return a + (b-a)*t
}

// ExactValues is how many values a Collector keeps before it turns to buckets.
const ExactValues = 1 << 22

// fine buckets are at most 2^-13 = 0.012 % wide, so that a value taken from the
// middle of one is off by at most 0.006 %.
const fine = LogBuckets(13)

// Collector gathers durations in nanoseconds for percentiles: exactly up to
// ExactValues of them, from then on in buckets of 0.012 %, so that memory does
// not grow with the length of a run. The zero value is ready.
type Collector struct {
	zeros  int64
	values []int64
	sorted bool
	limit  int
	bucket map[int32]int64
	keys   []int32

	n        int64 // without zeros
	mean, m2 float64
	min, max int64
}

// Add one value; negative ones count as 0.
func (c *Collector) Add(ns int64) {
	if ns <= 0 {
		c.zeros++
		return
	}
	c.n++
	d := float64(ns) - c.mean
	c.mean += d / float64(c.n)
	c.m2 += d * (float64(ns) - c.mean)
	if c.n == 1 || ns < c.min {
		c.min = ns
	}
	c.max = max(c.max, ns)
	c.sorted = false
	if c.bucket != nil {
		c.bucket[fine.Of(ns)]++
		return
	}
	c.values = append(c.values, ns)
	limit := c.limit
	if limit == 0 {
		limit = ExactValues
	}
	if len(c.values) > limit {
		c.bucket = make(map[int32]int64)
		for _, v := range c.values {
			c.bucket[fine.Of(v)]++
		}
		c.values = nil
	}
}

// AddZeros adds n values of 0.
func (c *Collector) AddZeros(n int64) { c.zeros += max(0, n) }

// N is the number of values, zeros included.
func (c *Collector) N() int64 { return c.n + c.zeros }

// Exact reports whether percentiles are exact.
func (c *Collector) Exact() bool { return c.bucket == nil }

// WithZeros is a view of c with n more zeros; it shares c's values.
func (c *Collector) WithZeros(n int64) *Collector {
	c.sort()
	view := *c
	view.zeros += max(0, n)
	return &view
}

// Mean of all values in nanoseconds, 0 when empty.
func (c *Collector) Mean() float64 {
	if c.N() == 0 {
		return 0
	}
	return c.mean * float64(c.n) / float64(c.N())
}

// Std is the population standard deviation, SampleStd divides by N-1.
func (c *Collector) Std() float64 {
	if c.N() == 0 {
		return 0
	}
	return math.Sqrt(c.squares() / float64(c.N()))
}

// SampleStd is the sample standard deviation, 0 below two values.
func (c *Collector) SampleStd() float64 {
	if c.N() < 2 {
		return 0
	}
	return math.Sqrt(c.squares() / float64(c.N()-1))
}

// squares about the mean of zeros and values together.
func (c *Collector) squares() float64 {
	n, z := float64(c.n), float64(c.zeros)
	return c.m2 + c.mean*c.mean*n*z/(n+z)
}

// Min and Max of all values.
func (c *Collector) Min() float64 {
	if c.zeros > 0 {
		return 0
	}
	return float64(c.min)
}

// Max of all values.
func (c *Collector) Max() float64 { return float64(c.max) }

// Percentile as the function of that name.
func (c *Collector) Percentile(q float64) float64 {
	c.sort()
	if c.bucket == nil {
		return percentile(c.N(), q, func(i int64) float64 {
			if i < c.zeros {
				return 0
			}
			return float64(c.values[i-c.zeros])
		})
	}
	return percentile(c.N(), q, c.ranked)
}

// ranked is the i-th smallest value as its bucket tells it.
func (c *Collector) ranked(i int64) float64 {
	i -= c.zeros
	if i < 0 {
		return 0
	}
	for _, k := range c.keys {
		if i -= c.bucket[k]; i < 0 {
			return min(max(fine.Middle(k), float64(c.min)), float64(c.max))
		}
	}
	return float64(c.max)
}

func (c *Collector) sort() {
	if c.sorted {
		return
	}
	c.sorted = true
	slices.Sort(c.values)
	c.keys = c.keys[:0]
	for k := range c.bucket {
		c.keys = append(c.keys, k)
	}
	slices.Sort(c.keys)
}

// LogBuckets numbers values of 0 and above by buckets that grow with them, with so
// many bits of mantissa: above 2^LogBuckets a bucket is at most 2^-LogBuckets of its
// values wide, below it holds one value.
type LogBuckets int

// Of gives the bucket of a value, less than 64 << (b + 1).
func (b LogBuckets) Of(v int64) int32 {
	shift := max(0, bits.Len64(uint64(v))-1-int(b))
	return int32(shift)<<(b+1) | int32(v>>shift)
}

// Middle gives the value in the middle of a bucket.
func (b LogBuckets) Middle(k int32) float64 {
	shift := k >> (b + 1)
	low := float64(int64(k&(1<<(b+1)-1)) << shift)
	return low + float64(int64(1)<<shift-1)/2
}
