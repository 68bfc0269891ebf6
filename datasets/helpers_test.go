package datasets

import (
	"crypto/sha256"
	"encoding/hex"
)

const bz2HelloHex = "425a68393141592653594f4c534600000bd9800010500010101266d41a200022801a347a9faa14d32313131075832999e6716e47ae6a015f8bb9229c284827a629a300"

// newTestSums returns the SHA-256 of a text, in hex.
func newTestSums(s string) (string, int) {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:]), len(s)
}
