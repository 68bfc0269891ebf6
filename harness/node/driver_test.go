package node

import (
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// On a machine with GPUs the real driver is asked: fields, forms, and that the
// sampler's lines come as they are written, not in blocks.
func TestRealDriver(t *testing.T) {
	if _, err := exec.LookPath("nvidia-smi"); err != nil {
		t.Skip("no nvidia-smi here: only recordings were tested")
	}
	sys := Host()
	gpus, err := QueryGPUs(t.Context(), sys)
	require.NoError(t, err)
	require.NotEmpty(t, gpus)
	for _, g := range gpus {
		if g.UUID == "" || g.TotalMiB == 0 || g.Driver == "" || g.ComputeMode == "" {
			t.Errorf("%+v", g)
		}
	}
	apps, err := QueryApps(t.Context(), sys)
	require.NoError(t, err)
	t.Logf("%d GPUs, %d processes: %+v", len(gpus), len(apps), gpus[0])
	var sink lines
	s, err := StartSampler(t.Context(), sys, []int{gpus[0].Index}, &sink)
	require.NoError(t, err)
	begun := time.Now()
	for len(s.Between(begun, begun.Add(time.Hour))) < 3 {
		if time.Since(begun) > 30*time.Second {
			t.Error("no three samples in 30 s: are they held back in blocks?")
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	require.NoError(t, s.Stop())
	samples := s.Between(begun, begun.Add(time.Hour))
	for i, x := range samples {
		t.Logf("%+v", x)
		if i > 0 && x.UnixNS-samples[i-1].UnixNS < int64(SampleInterval)/2 {
			t.Error("two samples were read at once: they are held back")
		}
	}
}
