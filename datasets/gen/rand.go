package gen

import "math/bits"

// Rand is a stream of random numbers that stays the same over Go versions:
// SplitMix64. The zero value is seed 0.
type Rand struct{ state uint64 }

// NewRand returns the stream of a seed and a purpose. Streams of other
// purposes are independent: one purpose may draw more without moving another.
func NewRand(seed uint64, purpose string, index uint64) *Rand {
	r := &Rand{state: seed}
	h := r.Uint64()
	for i := 0; i < len(purpose); i++ {
		h = (h ^ uint64(purpose[i])) * 0x100000001b3
	}
	r.state = h + index*0xd1342543de82ef95
	r.Uint64()
	return r
}

// Uint64 returns the next number.
func (r *Rand) Uint64() uint64 {
	r.state += 0x9e3779b97f4a7c15
	z := r.state
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// IntN returns a number from 0 to n-1; n > 0.
func (r *Rand) IntN(n int) int {
	hi, _ := bits.Mul64(r.Uint64(), uint64(n))
	return int(hi)
}

// Between returns a number from lo to hi, both included.
func (r *Rand) Between(lo, hi int) int { return lo + r.IntN(hi-lo+1) }

// Float64 returns a number in [0, 1).
func (r *Rand) Float64() float64 { return float64(r.Uint64()>>11) / (1 << 53) }

// Chance is true with probability p.
func (r *Rand) Chance(p float64) bool { return r.Float64() < p }

// Pick returns one of the choices, all equally likely.
func Pick[T any](r *Rand, from []T) T { return from[r.IntN(len(from))] }

// PickZipf returns one of the choices, the earlier ones more often: about as
// the words of a text are distributed.
func PickZipf[T any](r *Rand, from []T) T {
	u := r.Float64()
	return from[int(u*u*float64(len(from)))]
}

// Shuffle puts the elements in random order.
func Shuffle[T any](r *Rand, s []T) {
	for i := len(s) - 1; i > 0; i-- {
		j := r.IntN(i + 1)
		s[i], s[j] = s[j], s[i]
	}
}
