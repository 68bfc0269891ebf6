package load

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/glm46/glm46/harness/measure"
	"github.com/glm46/glm46/mockvllm"
)

// TestPlanInRealTime runs the levels of the plan at the mock's real speed, in
// virtual time: no check may find fault with a sound server.
func TestPlanInRealTime(t *testing.T) {
	levels := []struct{ concurrency, requests, tokens int }{{1, 3, 128}, {16, 32, 128}}
	if os.Getenv("GLM46_LONG") != "" {
		levels = []struct{ concurrency, requests, tokens int }{{1, 5, 512}, {16, 32, 1024}, {100, 100, 2048}, {4, 100, 128}}
	}
	for _, eager := range []bool{true, false} {
		for _, tt := range levels {
			t.Run(fmt.Sprintf("c%d eager %v", tt.concurrency, eager), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					args := append(mockArgs(), "--gpu-memory-utilization", "0.95")
					if eager {
						args = append(args, "--enforce-eager")
					}
					target := mockInMemory(t, mockvllm.Options{Args: args})
					zero := 0.0
					spec := Spec{Level: "x", Concurrency: tt.concurrency, Mock: true, MockSpeed: 1, Salt: t.Name(), ExpectedPrefixShare: &zero}
					for i := range tt.requests {
						spec.Samples = append(spec.Samples, Sample{
							ID: fmt.Sprint(i), Prompt: fmt.Sprintf("%d %s", i*7919, strings.Repeat(fmt.Sprintf("word %d and ", i), 1500)), Seed: i, TargetTokens: tt.tokens,
						})
					}
					start := time.Now()
					var rec memory
					out, err := Run(t.Context(), target, spec, &rec, nil)
					require.NoError(t, err)
					run, err := Finish(target, spec, out, measure.Records(rec.records), FinishInput{})
					require.NoError(t, err)
					t.Logf("%v of virtual time, TTFT %.0f ms, TPOT %.2f ms, warm-up %+v", time.Since(start), run.Metrics.TTFT.Mean, run.Metrics.TPOT.Mean, *run.Warmup)
					t.Logf("%v %v", run.Validity.Labels, run.Validity.Details)
					require.Empty(t, run.Validity.Reasons)
					require.Equal(t, "equal", run.Tokens.Checked)
				})
			})
		}
	}
}
