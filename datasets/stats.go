package datasets

import (
	"slices"
	"sort"
)

// maxKept bounds the values that statsBuilder keeps for its quantiles (1 MiB).
const maxKept = 1 << 18

// statsBuilder gathers TokenStats in bounded memory: beyond maxKept values the
// quantiles and the histogram come from every second, fourth ... value.
type statsBuilder struct {
	count, missing, estimated, total, min, max int64
	kept                                       []uint32
	stride, skip                               int64
}

// add takes one figure; 0 or less means that it is missing.
func (b *statsBuilder) add(n int64, estimated bool) {
	if n <= 0 {
		b.missing++
		return
	}
	if b.count == 0 || n < b.min {
		b.min = n
	}
	b.max = max(b.max, n)
	b.count++
	b.total += n
	if estimated {
		b.estimated++
	}
	if b.stride == 0 {
		b.stride = 1
	}
	if b.skip > 0 {
		b.skip--
		return
	}
	b.skip = b.stride - 1
	if len(b.kept) == maxKept {
		for i := range maxKept / 2 {
			b.kept[i] = b.kept[2*i]
		}
		b.kept = b.kept[:maxKept/2]
		b.stride *= 2
		b.skip = b.stride - 1
	}
	b.kept = append(b.kept, uint32(min(n, 1<<32-1)))
}

func (b *statsBuilder) stats() TokenStats {
	s := TokenStats{Count: b.count, Missing: b.missing, Estimated: b.estimated, Total: b.total, Min: b.min, Max: b.max}
	if b.count == 0 {
		return s
	}
	s.Mean = float64(b.total) / float64(b.count)
	sorted := slices.Clone(b.kept)
	slices.Sort(sorted)
	// Nearest rank: the smallest value that at least the share has.
	rank := func(percent int) int64 { return int64(sorted[max((len(sorted)*percent+99)/100-1, 0)]) }
	s.P50, s.P90 = rank(50), rank(90)
	s.Histogram = histogram(sorted, b.min, b.max)
	if b.stride > 1 {
		for i := range s.Histogram {
			s.Histogram[i].Count *= b.stride
		}
	}
	return s
}

// histogramBuckets is about how many buckets a histogram has.
const histogramBuckets = 10

// histogram counts sorted values in buckets of equal, round width.
func histogram(sorted []uint32, lo, hi int64) []Bucket {
	width := roundWidth((hi - lo) / histogramBuckets)
	var out []Bucket
	for from := lo / width * width; from <= hi; from += width {
		a := sort.Search(len(sorted), func(i int) bool { return int64(sorted[i]) >= from })
		b := sort.Search(len(sorted), func(i int) bool { return int64(sorted[i]) >= from+width })
		out = append(out, Bucket{From: from, To: from + width - 1, Count: int64(b - a)})
	}
	return out
}

// roundWidth returns the smallest of 1, 2, 5, 10, 20 ... above n.
func roundWidth(n int64) int64 {
	for p := int64(1); ; p *= 10 {
		for _, m := range []int64{1, 2, 5} {
			if m*p > n {
				return m * p
			}
		}
	}
}
