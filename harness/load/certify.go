package load

import (
	"context"
	"errors"
	"time"

	"github.com/glm46/glm46/harness/measure"
)

// Shape is the load that a certificate is made for.
type Shape struct {
	Streams int
	// TokensPerSecond a stream, in wall time.
	TokensPerSecond float64
	EventBytes      int
	Duration        time.Duration // default 3 s in all
}

// Certify runs the load shape against an in-process server and tells what the
// client adds. It takes a few seconds.
func Certify(ctx context.Context, shape Shape) (*measure.Certificate, error) {
	return nil, errors.New("load: not implemented yet")
}
