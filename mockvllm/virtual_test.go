package mockvllm

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/glm46/glm46/mockvllm/engine"
	"github.com/glm46/glm46/mockvllm/model"
	"github.com/glm46/glm46/mockvllm/vllm"
)

func glmModel(t testing.TB, flags ...string) *model.Model {
	t.Helper()
	argv := append([]string{"zai-org/GLM-4.6", "-tp", "8"}, flags...)
	c, err := vllm.ResolveArgv(vllm.MustVersion("0.11.1"), argv, vllm.GLM46())
	require.NoError(t, err)
	m, err := model.New(model.GLM46H200(), c, model.Options{DrawNGram: true})
	require.NoError(t, err)
	return m
}

func runModel(t testing.TB, m *model.Model, r VirtualRun) *VirtualResult {
	t.Helper()
	if r.Engine.Engine.NumBlocks == 0 {
		r.Engine = m.Sim()
	}
	r.Timer = m
	res, err := RunVirtual(r)
	require.NoError(t, err)
	return res
}

func us(d time.Duration) float64 { return float64(d) / 1e3 }

// TestWholeRun is the end of docs/timing-model.md, "Worked examples".
func TestWholeRun(t *testing.T) {
	one := []VirtualRequest{{PromptTokens: 10000, OutputTokens: 4}}
	for _, c := range []struct {
		name        string
		flags       []string
		front       bool
		first, last float64
	}{
		{"bf16", nil, false, 536607.1, 582326.5},
		{"fp8", []string{"--kv-cache-dtype=fp8"}, false, 0, 582374.2},
		{"front end", nil, true, 552953.1, 0},
	} {
		m := glmModel(t, append(c.flags, "--max-model-len=32768", "--gpu-memory-utilization=0.95")...)
		sim := m.Sim()
		if !c.front {
			sim.FrontEnd = engine.FrontEnd{}
		}
		times := runModel(t, m, VirtualRun{Engine: sim, Requests: one}).Times(0)
		for _, v := range []struct{ got, want float64 }{{us(times.FirstDue), c.first}, {us(times.LastDue), c.last}} {
			if v.want != 0 && (v.got < v.want-0.1 || v.got > v.want+0.1) {
				t.Errorf("%s: %.1f us, want %.1f", c.name, v.got, v.want)
			}
		}
	}
}

// TestBaselineAnchor is the published run of the baseline: 58.9 s and 8.69
// tokens/s (docs/timing-model.md, "Anchors").
func TestBaselineAnchor(t *testing.T) {
	m := glmModel(t, "--enforce-eager", "--enable-expert-parallel", "--kv-cache-dtype=fp8", "--gpu-memory-utilization=0.95", "--max-model-len=32768")
	last := runModel(t, m, VirtualRun{Requests: []VirtualRequest{{PromptTokens: 6100, OutputTokens: 512}}}).Times(0).LastDue.Seconds()
	if last < 58.85 || last > 58.93 {
		t.Errorf("latency %.3f s, want 58.89 +-0.04", last)
	}
	if tps := 512 / last; tps < 8.685 || tps > 8.70 {
		t.Errorf("%.3f tokens/s, want 8.69", tps)
	}
}

// TestClosedLoopTakesSlots: with room for one, requests follow each other at the
// instant the last chunk arrives.
func TestClosedLoopTakesSlots(t *testing.T) {
	m := glmModel(t)
	reqs := []VirtualRequest{{PromptTokens: 100, OutputTokens: 5}, {PromptTokens: 200, OutputTokens: 3}, {PromptTokens: 50, OutputTokens: 1, At: 10 * time.Second}}
	res := runModel(t, m, VirtualRun{Requests: reqs, MaxConcurrency: 1})
	if got, want := res.Times(1).Arrived, res.Times(0).LastDue; got != want {
		t.Errorf("second sent at %v, want %v", got, want)
	}
	if got := res.Times(2).Arrived; got != 10*time.Second {
		t.Errorf("third sent at %v, want 10s", got)
	}
}

// TestLeapsEqualSteps: while the batch stays the same steps are taken at once;
// the result is that of taking them one by one.
func TestLeapsEqualSteps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := drawRun(t)
		fast, err := RunVirtual(r)
		require.NoError(t, err)
		r.Plain = true
		plain, err := RunVirtual(r)
		require.NoError(t, err)
		require.Equal(t, dump(plain), dump(fast))
		require.Equal(t, plain.Stats, fast.Stats)
		require.Equal(t, pool(plain.Gaps()), pool(fast.Gaps()))
		require.Equal(t, gapsOf(plain), pool(plain.Gaps()))
	})
}

func drawRun(t *rapid.T) VirtualRun {
	block := rapid.SampledFrom([]int{1, 4, 16}).Draw(t, "block")
	maxLen := rapid.IntRange(20, 200).Draw(t, "max_model_len")
	per := (maxLen + block - 1) / block
	cfg := engine.Config{
		BlockTokens: block, NumBlocks: rapid.IntRange(per+1, 4*per+1).Draw(t, "blocks"), MaxModelLen: maxLen,
		MaxNumSeqs:          rapid.IntRange(1, 12).Draw(t, "max_num_seqs"),
		MaxNumBatchedTokens: rapid.IntRange(1, 64).Draw(t, "budget"),
		ChunkedPrefill:      rapid.Bool().Draw(t, "chunked"), PrefixCaching: rapid.Bool().Draw(t, "prefix"),
		ReserveFullISL: rapid.Bool().Draw(t, "isl"), SkipOversizedWaiting: rapid.Bool().Draw(t, "skip"),
		CountLookupsOnAdmission: rapid.Bool().Draw(t, "count"), IgnorePreemptedLookups: rapid.Bool().Draw(t, "ignore"),
		ReuseUnhashedFirst: rapid.Bool().Draw(t, "front"),
	}
	if !cfg.ChunkedPrefill {
		cfg.MaxNumBatchedTokens += maxLen
	}
	front := engine.FrontEnd{}
	if rapid.Bool().Draw(t, "front end") {
		front = engine.FrontEnd{
			TokenizePerToken: 30 * time.Microsecond, EventLoopWork: 3 * time.Millisecond,
			DeliveryPerChunk: 100 * time.Microsecond, DeliveryDelay: 50 * time.Microsecond,
		}
	}
	fixed := rapid.SampledFrom([]time.Duration{0, time.Millisecond, 300 * time.Microsecond}).Draw(t, "step")
	r := VirtualRun{
		Engine: engine.SimConfig{Engine: cfg, FrontEnd: front},
		Timer: engine.StepTimerFunc(func(s *engine.StepShape) time.Duration {
			d := fixed + time.Duration(s.ContextTokens)*7 + time.Duration(s.LogitRows)*100
			for _, c := range s.Chunks {
				d += time.Duration(c.Tokens) * 1000
			}
			if fixed == 0 {
				return 0
			}
			return d
		}),
		MaxConcurrency: rapid.IntRange(0, 6).Draw(t, "concurrency"),
	}
	n := rapid.IntRange(1, 20).Draw(t, "n")
	for range n {
		q := VirtualRequest{
			At:           time.Duration(rapid.IntRange(0, 30).Draw(t, "at")) * time.Millisecond,
			PromptTokens: rapid.IntRange(1, maxLen-1).Draw(t, "prompt"),
			OutputTokens: rapid.IntRange(1, 150).Draw(t, "output"),
		}
		if rapid.IntRange(0, 5).Draw(t, "text") == 0 {
			q.Prompt = make([]int32, q.PromptTokens) // equal prompts share blocks
		}
		r.Requests = append(r.Requests, q)
	}
	return r
}

func dump(r *VirtualResult) string {
	var out []byte
	for i := range r.Len() {
		out = fmt.Appendf(out, "%d %+v\n", i, r.Times(i))
		r.Chunks(i, func(due time.Duration, n int) bool {
			out = fmt.Appendf(out, " %d:%d", due, n)
			return true
		})
	}
	return string(out)
}

func pool(gaps []Gap) map[time.Duration]int {
	out := map[time.Duration]int{}
	for _, g := range gaps {
		out[g.Length] += g.Count
	}
	return out
}

// gapsOf is Gaps, token by token.
func gapsOf(r *VirtualResult) map[time.Duration]int {
	out := map[time.Duration]int{}
	for i := range r.Len() {
		last := time.Duration(-1)
		r.Chunks(i, func(due time.Duration, _ int) bool {
			if last >= 0 {
				out[due-last]++
			}
			last = due
			return true
		})
	}
	return out
}

// BenchmarkVirtual100 is the speed promise: 100 requests of 6,100 + 8,192 tokens
// at concurrency 100 (docs/performance.md).
func BenchmarkVirtual100(b *testing.B) {
	m := glmModel(b, "--enforce-eager", "--enable-expert-parallel", "--kv-cache-dtype=fp8", "--gpu-memory-utilization=0.95", "--max-model-len=32768")
	reqs := make([]VirtualRequest, 100)
	for i := range reqs {
		reqs[i] = VirtualRequest{PromptTokens: 6100, OutputTokens: 8192}
	}
	b.ReportAllocs()
	for b.Loop() {
		res, err := RunVirtual(VirtualRun{Engine: m.Sim(), Timer: m, Requests: reqs, MaxConcurrency: 100})
		if err != nil {
			b.Fatal(err)
		}
		if res.Stats.GenerationTokens != 819200 {
			b.Fatal(res.Stats)
		}
		res.Gaps()
	}
	b.ReportMetric(819200*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mtokens/s")
}

// TestLongServingIsTheSameLive: 64 streams in a closed loop; a driver that looks
// late and seldom, as on a wall clock, gives the schedule of virtual time. A
// minute of serving, an hour with GLM46_LONG=1.
func TestLongServingIsTheSameLive(t *testing.T) {
	span := time.Minute
	if os.Getenv("GLM46_LONG") == "1" {
		span = time.Hour
	}
	m := glmModel(t, "--enable-expert-parallel", "--gpu-memory-utilization=0.95", "--max-model-len=32768")
	rng := rand.New(rand.NewPCG(1, 2))
	lengths := func() (int, int) { return 100 + rng.IntN(6000), 50 + rng.IntN(1500) }

	// Live: arrivals are what this driver's clients do.
	s, err := engine.NewSim(m.Sim(), m, nil)
	require.NoError(t, err)
	var reqs []VirtualRequest
	live := map[uint64][]time.Duration{}
	submit := func(now time.Duration) {
		p, o := lengths()
		id := uint64(len(reqs))
		require.NoError(t, s.Submit(now, engine.Request{ID: id, PromptTokens: p, MaxTokens: o, IgnoreEOS: true}))
		reqs = append(reqs, VirtualRequest{At: now, PromptTokens: p, OutputTokens: o})
	}
	for range 64 {
		submit(0)
	}
	var out []engine.Emission
	for {
		at, ok := s.Next()
		if !ok {
			break
		}
		now := at + time.Duration(rng.Int64N(int64(3*time.Millisecond)))
		out = s.Advance(now, out[:0])
		for _, e := range out {
			live[e.ID] = append(live[e.ID], e.Due)
			if e.Finish != engine.FinishNone && now < span {
				submit(now) // late: when the driver saw it
			}
		}
	}

	res := runModel(t, m, VirtualRun{Requests: reqs})
	for i := range reqs {
		n := 0
		res.Chunks(i, func(due time.Duration, _ int) bool {
			if got := live[uint64(i)]; n >= len(got) || got[n] != due {
				t.Fatalf("request %d, token %d: due at %v in virtual time", i, n, due)
			}
			n++
			return true
		})
		if n != len(live[uint64(i)]) {
			t.Fatalf("request %d: %d tokens in virtual time, %d live", i, n, len(live[uint64(i)]))
		}
	}
	t.Logf("%d requests, %d tokens", len(reqs), res.Stats.GenerationTokens)
}

func TestSubmitErrorsNameTheRequest(t *testing.T) {
	m := glmModel(t, "--max-model-len=1000")
	_, err := RunVirtual(VirtualRun{Engine: m.Sim(), Timer: m, Requests: []VirtualRequest{{PromptTokens: 5, OutputTokens: 1}, {PromptTokens: 1000, OutputTokens: 1}}})
	var e *engine.RequestError
	require.ErrorAs(t, err, &e)
	require.ErrorContains(t, err, "requests[1]")
}
