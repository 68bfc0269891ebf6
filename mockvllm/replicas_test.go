package mockvllm

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Two replicas behind one server: requests are spread, and log and metrics tell the
// engines apart.
func TestReplicasServe(t *testing.T) {
	log := &timedLog{begun: time.Now()}
	m, err := New(Options{
		Args:  []string{testModel, "-tp", "4", "--data-parallel-size", "2", "--enable-expert-parallel", "--max-model-len", "32768"},
		Speed: 10000, Log: log,
	})
	require.NoError(t, err)
	require.NoError(t, m.Start(t.Context()))
	t.Cleanup(func() { m.Close() })
	s := serve(t, m, true)
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			a, err := callErr(t.Context(), s.Client(), "POST", s.URL+"/v1/completions", fmt.Sprintf(`{"prompt":"the people %d","max_tokens":50,"ignore_eos":true}`, i))
			if err != nil || a.status != 200 {
				t.Errorf("%v %d %s", err, a.status, a.body)
			}
		})
	}
	wg.Wait()
	st := m.Stats()
	if len(st.Replicas) != 2 || st.GenerationTokens != 300 || st.Replicas[0].GenerationTokens == 0 || st.Replicas[1].GenerationTokens == 0 {
		t.Errorf("stats %+v", st)
	}
	metrics := call(t, s.Client(), "GET", s.URL+"/metrics", "").body
	for i, r := range st.Replicas {
		for _, want := range []string{
			fmt.Sprintf(`vllm:generation_tokens_total{engine="%d",model_name="%s"} %d.0`, i, testModel, r.GenerationTokens),
			fmt.Sprintf(`vllm:request_generation_tokens_count{engine="%d",model_name="%s"} %d.0`, i, testModel, r.GenerationTokens/50),
			fmt.Sprintf(`,engine="%d",gpu_memory_utilization=`, i),
		} {
			if strings.Count(metrics, want) != 1 {
				t.Errorf("%d times %q in\n%s", strings.Count(metrics, want), want, metrics)
			}
		}
	}
	if n := strings.Count(metrics, "# TYPE vllm:generation_tokens_total "); n != 1 {
		t.Errorf("%d heads of one family", n)
	}
	for _, want := range []string{
		"(EngineCore_DP0 pid=", "(EngineCore_DP1 pid=", "(Worker_DP1_TP3_EP7 pid=", "rank 7 in world size 8 is assigned as DP rank 1, PP rank 0, TP rank 3, EP rank 7",
		"[EP Rank 7/8] Expert parallelism is enabled. Expert placement strategy: linear. Local/global number of experts: 20/160.",
	} {
		if log.count(want) == 0 {
			t.Errorf("no line with %q", want)
		}
	}
}
