package mockvllm

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/glm46/glm46/mockvllm/tokenizer"
)

type truthJSON struct {
	RequestID    string `json:"request_id"`
	Arrival      int64  `json:"arrival_unix_ns"`
	PromptTokens int    `json:"prompt_tokens"`
	Tokens       []struct {
		N       int   `json:"n"`
		Due     int64 `json:"due_unix_ns"`
		Written int64 `json:"written_unix_ns"`
	} `json:"tokens"`
	End string `json:"end"`
}

func truthOf(t testing.TB, b []byte) map[string]truthJSON {
	t.Helper()
	out := map[string]truthJSON{}
	for line := range bytes.Lines(b) {
		var j truthJSON
		require.NoError(t, json.Unmarshal(line, &j))
		out[j.RequestID] = j
	}
	return out
}

// Token k is due at arrival + TTFT + k x ITL, to the nanosecond, and reaches the
// client then: the error does not grow.
func TestPaceIsExact(t *testing.T) {
	tokenizer.Warm()
	synctest.Test(t, func(t *testing.T) {
		const n, tokens = 20, 300
		pace := Pace{TTFT: 130 * time.Millisecond, ITL: 20 * time.Millisecond}
		var truth bytes.Buffer
		o := quick()
		o.Pace, o.Truth = &pace, &truth
		m, err := New(o)
		require.NoError(t, err)
		require.NoError(t, m.Start(t.Context()))
		c, stop := servePipe(m)
		seen := make([][]time.Time, n)
		sent := make([]time.Time, n)
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 7 * time.Millisecond)
				sent[i] = time.Now()
				body := fmt.Sprintf(`{"prompt":"x","max_tokens":%d,"ignore_eos":true,"stream":true}`, tokens)
				resp, err := c.Post("http://mock/v1/completions", "application/json", strings.NewReader(body))
				if err != nil {
					t.Error(err)
					return
				}
				defer resp.Body.Close()
				sc := bufio.NewScanner(resp.Body)
				for sc.Scan() {
					if strings.Contains(sc.Text(), `"finish_reason"`) {
						seen[i] = append(seen[i], time.Now())
					}
				}
			})
		}
		wg.Wait()
		stop()
		for i := range n {
			require.Len(t, seen[i], tokens)
			for k, at := range seen[i] {
				if want := sent[i].Add(pace.TTFT + time.Duration(k)*pace.ITL); !at.Equal(want) {
					t.Fatalf("stream %d, token %d: seen %v, want %v", i, k, at, want)
				}
			}
		}
		lines := truthOf(t, truth.Bytes())
		require.Len(t, lines, n)
		for id, l := range lines {
			for k, tok := range l.Tokens {
				if want := l.Arrival + int64(pace.TTFT) + int64(k)*int64(pace.ITL); tok.N != k || tok.Due != want || tok.Written != want {
					t.Fatalf("%s, token %d: %+v, want %d", id, k, tok, want)
				}
			}
		}
	})
}

// The wall driver behind HTTP and the virtual driver give the same schedule for
// the same arrivals, at any speed. Source: the engine's clock never follows the
// driver's.
func TestWallAndVirtualSchedulesAreEqual(t *testing.T) {
	tokenizer.Warm()
	n, span := 64, 10*time.Second
	if os.Getenv("GLM46_LONG") == "1" {
		n, span = 20000, time.Hour
	}
	rng := rand.New(rand.NewPCG(7, 11))
	var reqs []VirtualRequest
	var bodies []string
	at := time.Duration(0)
	for range n {
		at += time.Duration(rng.Int64N(2 * int64(span) / int64(n)))
		prompt := make([]int32, 50+rng.IntN(3000))
		ids := make([]string, len(prompt))
		for i := range prompt {
			prompt[i] = int32(rng.IntN(20000))
			ids[i] = fmt.Sprint(prompt[i])
		}
		r := VirtualRequest{At: at, Prompt: prompt, OutputTokens: 1 + rng.IntN(300)}
		reqs = append(reqs, r)
		bodies = append(bodies, fmt.Sprintf(`{"prompt":[%s],"max_tokens":%d,"ignore_eos":true,"temperature":0,"stream":true}`, strings.Join(ids, ","), r.OutputTokens))
	}
	synctest.Test(t, func(t *testing.T) {
		var truth bytes.Buffer
		o := quick("--enable-expert-parallel", "--kv-cache-dtype", "fp8", "--gpu-memory-utilization", "0.95", "--num-gpu-blocks-override", "400", "--max-model-len", "4096")
		o.Truth = &truth
		m, err := New(o)
		require.NoError(t, err)
		require.NoError(t, m.Start(t.Context()))
		epoch := m.driver.epoch
		c, stop := servePipe(m)
		var wg sync.WaitGroup
		for i, r := range reqs {
			wg.Go(func() {
				time.Sleep(time.Until(epoch.Add(r.At)))
				a := call(t, c, "POST", "http://mock/v1/completions", bodies[i], "X-Request-Id", fmt.Sprint(i))
				if a.status != 200 {
					t.Errorf("request %d: %d %s", i, a.status, a.body)
				}
			})
		}
		wg.Wait()
		st := m.Stats()
		stop()

		sim := m.model.Sim()
		res, err := RunVirtual(VirtualRun{Engine: sim, Timer: m.model, Requests: reqs})
		require.NoError(t, err)
		lines := truthOf(t, truth.Bytes())
		for i := range reqs {
			l := lines[fmt.Sprintf("cmpl-%d", i)]
			k := 0
			res.Chunks(i, func(due time.Duration, tokens int) bool {
				for range tokens {
					if k >= len(l.Tokens) {
						t.Fatalf("request %d: %d tokens on the wall", i, len(l.Tokens))
					}
					if got := time.Duration(l.Tokens[k].Due - epoch.UnixNano()); got != due {
						t.Fatalf("request %d, token %d: due at %v on the wall, %v in virtual time", i, k, got, due)
					}
					k++
				}
				return true
			})
			if k != len(l.Tokens) {
				t.Fatalf("request %d: %d tokens in virtual time, %d on the wall", i, k, len(l.Tokens))
			}
		}
		if st.Steps != res.Stats.Steps || st.Preemptions != res.Stats.Preemptions || st.PrefixHits != res.Stats.PrefixHits {
			t.Errorf("wall %+v, virtual %+v", st, res.Stats)
		}
		if st.Preemptions == 0 {
			t.Error("nothing was preempted: the test shows less than it should")
		}
		t.Logf("%d requests, %d steps, %d preemptions, %d tokens", n, st.Steps, st.Preemptions, st.GenerationTokens)
	})
}

// Start-up takes the model's time over the speed, and the log comes in order.
func TestStartupTakesTheModelsTime(t *testing.T) {
	for _, speed := range []float64{1, 10} {
		synctest.Test(t, func(t *testing.T) {
			o := quick()
			o.Startup, o.Speed = StartupModel, speed
			log := &timedLog{begun: time.Now()}
			o.Log = log
			m, err := New(o)
			require.NoError(t, err)
			c, stop := servePipe(m)
			defer stop()
			done := make(chan error, 1)
			go func() { done <- m.Start(t.Context()) }()
			time.Sleep(time.Second)
			if a := call(t, c, "GET", "http://mock/health", ""); a.status != 503 {
				t.Errorf("health while starting: %d", a.status)
			}
			require.NoError(t, <-done)
			if a := call(t, c, "GET", "http://mock/health", ""); a.status != 200 {
				t.Errorf("health after the start: %d", a.status)
			}
			want := time.Duration(float64(m.Model().StartupTotal()) / speed)
			if got := time.Since(log.begun); got < want-time.Millisecond || got > want+time.Millisecond {
				t.Errorf("start took %v, want %v", got, want)
			}
			for _, part := range []string{"Loading weights took", "Model loading took 82.6000 GiB", "GPU KV cache size: ", "Graph capturing finished", "Starting vLLM API server"} {
				if _, ok := log.first(part); !ok {
					t.Errorf("no line with %q", part)
				}
			}
			a, _ := log.first("Model loading took")
			b, _ := log.first("GPU KV cache size")
			g, _ := log.first("Graph capturing finished")
			if !(a > want/2 && a < b && b <= g && g <= want+time.Millisecond) {
				t.Errorf("model at %v, KV cache at %v, graphs at %v of %v", a, b, g, want)
			}
		})
	}
}

// timedLog keeps lines with their time.
type timedLog struct {
	mu    sync.Mutex
	begun time.Time
	lines []string
	at    []time.Duration
}

func (l *timedLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(b))
	l.at = append(l.at, time.Since(l.begun))
	return len(b), nil
}

func (l *timedLog) first(part string) (time.Duration, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, s := range l.lines {
		if strings.Contains(s, part) {
			return l.at[i], true
		}
	}
	return 0, false
}

func (l *timedLog) count(part string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, s := range l.lines {
		if strings.Contains(s, part) {
			n++
		}
	}
	return n
}

// A statistics line comes every ten seconds of model time while there is
// traffic, and its rate is in model time.
func TestPeriodicLines(t *testing.T) {
	tokenizer.Warm()
	synctest.Test(t, func(t *testing.T) {
		o := quick("--enforce-eager")
		o.Speed = 2
		log := &timedLog{begun: time.Now()}
		o.Log = log
		m, err := New(o)
		require.NoError(t, err)
		require.NoError(t, m.Start(t.Context()))
		c, stop := servePipe(m)
		// 500 tokens at some 115 ms are 57 s of model time, 29 s here.
		call(t, c, "POST", "http://mock/v1/completions", `{"prompt":"x","max_tokens":500,"ignore_eos":true}`)
		stop()
		if got := log.count("Engine 000: Avg prompt throughput"); got != 5 {
			t.Errorf("%d lines, want 5", got)
		}
		if log.count("Avg generation throughput: 8.7 tokens/s") == 0 {
			t.Errorf("no line with 8.7 tokens/s: %q", log.lines[len(log.lines)-2:])
		}
	})
}

// Without requests of its own the driver sleeps; requests after a long pause are
// as exact as the first.
func TestLongPause(t *testing.T) {
	tokenizer.Warm()
	synctest.Test(t, func(t *testing.T) {
		m, err := New(quick())
		require.NoError(t, err)
		require.NoError(t, m.Start(t.Context()))
		c, stop := servePipe(m)
		var first time.Duration
		for range 3 {
			begun := time.Now()
			call(t, c, "POST", "http://mock/v1/completions", `{"prompt":"x y z","max_tokens":10,"ignore_eos":true,"cache_salt":"`+fmt.Sprint(begun.UnixNano())+`"}`)
			took := time.Since(begun)
			if first == 0 {
				first = took
			}
			if took != first {
				t.Errorf("took %v, the first %v", took, first)
			}
			time.Sleep(24 * time.Hour)
		}
		stop()
	})
}
