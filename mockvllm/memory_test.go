package mockvllm

import (
	"fmt"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// What the mock holds does not grow with the requests it has answered. The KV
// blocks, of which there are few here, are all in use after the first thousand.
// GLM46_LONG=1 takes 100,000 requests instead of 10,000.
func TestMemoryDoesNotGrow(t *testing.T) {
	total := 10_000
	if os.Getenv("GLM46_LONG") == "1" {
		total = 100_000
	}
	for _, pace := range []*Pace{nil, {ITL: 1}, fast} {
		o := quick("--num-gpu-blocks-override", "2100")
		o.Speed, o.Pace = 1e6, pace
		m := startMock(t, o)
		answered := 0
		ask := func(n int) {
			var wg sync.WaitGroup
			for w := range 8 {
				wg.Go(func() {
					for i := w; i < n; i += 8 {
						body := fmt.Sprintf(`{"prompt":"request %d has %s","max_tokens":5,"ignore_eos":true,"stream":%t}`, answered+i, strings.Repeat("a prompt of its own ", 5), i%2 == 0)
						r := httptest.NewRequest("POST", "/v1/completions", strings.NewReader(body))
						r.Header.Set("Content-Type", "application/json")
						w := httptest.NewRecorder()
						m.ServeHTTP(w, r)
						if w.Code != 200 || i%2 == 0 && !strings.HasSuffix(w.Body.String(), "[DONE]\n\n") {
							t.Errorf("request %d: %d %s", i, w.Code, w.Body)
							return
						}
					}
				})
			}
			wg.Wait()
			answered += n
		}
		heap := func() uint64 {
			runtime.GC()
			runtime.GC()
			var s runtime.MemStats
			runtime.ReadMemStats(&s)
			return s.HeapAlloc
		}
		ask(1000)
		before := heap()
		ask(total - 1000)
		after := heap()
		t.Logf("pace %v: %d KiB after 1000 requests, %d KiB after %d", pace, before>>10, after>>10, total)
		if after > before+256<<10 {
			t.Errorf("pace %v: the heap grew from %d to %d bytes", pace, before, after)
		}
		require.Zero(t, m.streams.Load())
	}
}
