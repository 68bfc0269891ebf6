package load

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestCertify(t *testing.T) {
	cert, err := Certify(t.Context(), Shape{Streams: 16, TokensPerSecond: 50, Duration: 900 * time.Millisecond})
	require.NoError(t, err)
	t.Logf("%+v", *cert)
	require.Positive(t, cert.EventsPerSecond)
	require.Positive(t, cert.AddedTTFTP99MS)
	require.Positive(t, cert.AddedITLP99MS)
}

// BenchmarkClient is the whole client against a server that writes constant
// events one by one, both on the machine's cores.
func BenchmarkClient(b *testing.B) {
	var best float64
	for b.Loop() {
		cert, err := Certify(b.Context(), Shape{Streams: 64, TokensPerSecond: 50, Duration: 3 * time.Second})
		require.NoError(b, err)
		best = max(best, cert.EventsPerSecond)
	}
	b.ReportMetric(best, "events/s")
}
