package load

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A plan may want very many requests at one instant: waiting for it does not
// take a descriptor for each.
func TestCrowdedPlan(t *testing.T) {
	r, err := newRunner(Target{BaseURL: "http://127.0.0.1:1", Model: "m"}, Spec{Level: "c1", Concurrency: 1, Samples: samples(1, 1)})
	require.NoError(t, err)
	r.clock = clock{time.Now()}
	const at = 50 * ms
	var group sync.WaitGroup
	for range 1000 {
		group.Go(func() {
			if !r.until(t.Context(), at) || r.clock.now() < at {
				t.Error("did not wait for its instant")
			}
		})
	}
	group.Wait()
	require.Equal(t, maxAlarms, r.alarms.made)
	require.Len(t, r.alarms.free, maxAlarms)
	r.alarms.close()
}
