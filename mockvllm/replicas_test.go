package mockvllm

import (
	"bufio"
	"context"
	"net/http"
	"strings"
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
		Speed: 10, Log: log,
	})
	require.NoError(t, err)
	require.NoError(t, m.Start(t.Context()))
	t.Cleanup(func() { m.Close() })
	s := serve(t, m, true)
	// The first one keeps its replica busy, so the second goes to the other.
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	r, err := http.NewRequestWithContext(ctx, "POST", s.URL+"/v1/completions", strings.NewReader(`{"prompt":"the people","max_tokens":30000,"ignore_eos":true,"stream":true}`))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/json")
	resp, err := s.Client().Do(r)
	require.NoError(t, err)
	defer resp.Body.Close()
	_, err = bufio.NewReader(resp.Body).ReadString('\n')
	require.NoError(t, err)
	a := call(t, s.Client(), "POST", s.URL+"/v1/completions", `{"prompt":"winter","max_tokens":50,"ignore_eos":true}`)
	require.Equal(t, 200, a.status, a.body)
	metrics := call(t, s.Client(), "GET", s.URL+"/metrics", "").body
	for _, want := range []string{
		`vllm:num_requests_running{engine="0",model_name="zai-org/GLM-4.6"} 1.0`, `vllm:num_requests_running{engine="1",model_name="zai-org/GLM-4.6"} 0.0`,
		`vllm:generation_tokens_total{engine="1",model_name="zai-org/GLM-4.6"} 50.0`,
		`vllm:request_generation_tokens_count{engine="0",model_name="zai-org/GLM-4.6"} 0.0`, `vllm:request_generation_tokens_count{engine="1",model_name="zai-org/GLM-4.6"} 1.0`,
		`,engine="0",gpu_memory_utilization=`, `,engine="1",gpu_memory_utilization=`, "# TYPE vllm:generation_tokens_total ",
	} {
		if n := strings.Count(metrics, want); n != 1 {
			t.Errorf("%d times %q in\n%s", n, want, metrics)
		}
	}
	if st := m.Stats(); len(st.Replicas) != 2 || st.Replicas[1].GenerationTokens != 50 || st.Replicas[0].Running != 1 {
		t.Errorf("stats %+v", st)
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
