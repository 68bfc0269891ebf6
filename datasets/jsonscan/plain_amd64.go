package jsonscan

import "golang.org/x/sys/cpu"

var useAVX2 = cpu.X86.HasAVX2

// plainAVX2 is plain for n bytes at p, on processors with AVX2. It looks at 64
// bytes at a time; slashes is not 0 if what it passed has a backslash.
//
//go:noescape
func plainAVX2(p *byte, n int) (plain int, slashes uint64)

// plain returns how many bytes of b are, for certain, inside a string that is
// valid up to there: no closing quote, no control character, and no escape but
// those of two bytes; none of these is cut. It may return less than there are.
func plain(b []byte) (n, flags int) {
	if !useAVX2 || len(b) < 64 {
		return 0, 0
	}
	n, slashes := plainAVX2(&b[0], len(b))
	if slashes != 0 && n > 0 {
		flags = escaped
	}
	return n, flags
}
