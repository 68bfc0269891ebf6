//go:build !amd64

package jsonscan

// plain knows nothing on this processor.
func plain([]byte) (n, flags int) { return 0, 0 }
