package model

import (
	"errors"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/glm46/glm46/mockvllm/engine"
	"github.com/glm46/glm46/mockvllm/vllm"
)

// serve resolves `vllm serve MODEL flags...` and builds the model.
func serve(t testing.TB, o Options, flags ...string) *Model {
	t.Helper()
	m, err := tryServe(vllm.DefaultVersion, o, flags...)
	require.NoError(t, err)
	return m
}

func tryServe(version string, o Options, flags ...string) (*Model, error) {
	return tryProfile(GLM46H200(), version, o, flags...)
}

func tryProfile(p *Profile, version string, o Options, flags ...string) (*Model, error) {
	argv := append([]string{"zai-org/GLM-4.6", "-tp", "8"}, flags...)
	c, err := vllm.ResolveArgv(vllm.MustVersion(version), argv, vllm.GLM46())
	if err != nil {
		return nil, err
	}
	return New(p, c, o)
}

const (
	baseLen = "--max-model-len=32768"
	util95  = "--gpu-memory-utilization=0.95"
	ep      = "--enable-expert-parallel"
	fp8     = "--kv-cache-dtype=fp8"
	eager   = "--enforce-eager"
	ngram4  = `--speculative-config={"method":"ngram","num_speculative_tokens":4,"prompt_lookup_max":4,"prompt_lookup_min":2}`
)

// TestWorkedExamples holds the steps of docs/timing-model.md, "Worked examples":
// 0.1 us is the rounding of the printed figures.
func TestWorkedExamples(t *testing.T) {
	full := []engine.Chunk{{Tokens: 8192}}
	late := []engine.Chunk{{Tokens: 8192, Computed: 32768}}
	mixed := []engine.Chunk{{Tokens: 2000}}
	for _, c := range []struct {
		name             string
		flags            []string
		shape            engine.StepShape
		gpu, floor, step float64
	}{
		{"1 one decode", nil, decodes(1, 1, 7168), 12206.3, 73.6, 15160.7},
		{"2 padded to 16", nil, decodes(13, 13, 26000), 21222.1, 73.6, 24229.3},
		{"3 EP, fp8 KV", []string{ep, fp8}, decodes(64, 64, 524288), 46256.4, 73.6, 49488.0},
		{"4 as 3 without EP, bf16 KV", nil, decodes(64, 64, 524288), 42216.1, 73.6, 45447.7},
		{"5 above the capture sizes", nil, decodes(600, 600, 240000), 59562.6, 27600.0, 65152.6},
		{"6 full prefill chunk", nil, prefill(0, 0, full), 414248.5, 27600.0, 417202.9},
		{"7 mixed", nil, prefill(10, 50000, mixed), 111245.8, 27600.0, 114244.2},
		{"8 eager, EP, fp8 KV", []string{eager, ep, fp8}, decodes(1, 1, 6400), 15770.6, 111688.0, 114642.4},
		{"9 eager, late chunk", []string{eager, ep, fp8}, prefill(0, 0, late), 649681.8, 111688.0, 652636.2},
		{"10 ngram", []string{ngram4}, engine.StepShape{
			Decodes: 8, DecodeTokens: 28, ContextTokens: 80000, LogitRows: 28, Sampled: 8, ProposerContextTokens: 80000,
		}, 28169.8, 11040.0, 31355.0},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := serve(t, Options{}, append(c.flags, baseLen, util95)...)
			d := m.Detail(&c.shape)
			near(t, "gpu", d.GPUMicroseconds, c.gpu, 0.1)
			near(t, "floor", d.FloorMicroseconds, c.floor, 0.1)
			near(t, "step", d.StepMicroseconds, c.step, 0.1)
			near(t, "Step", float64(m.Step(&c.shape))/1e3, c.step, 0.1)
		})
	}
}

func decodes(n, tokens int, context int64) engine.StepShape {
	return engine.StepShape{
		Decodes: n, DecodeTokens: tokens, ContextTokens: context, LogitRows: tokens, Sampled: n,
		ProposerContextTokens: context, UniformDecode: tokens == n,
	}
}

func prefill(n int, context int64, chunks []engine.Chunk) engine.StepShape {
	s := decodes(n, n, context)
	s.Chunks, s.LogitRows, s.UniformDecode = chunks, n+len(chunks), false
	return s
}

func near(t testing.TB, what string, got, want, tolerance float64) {
	t.Helper()
	if math.Abs(got-want) > tolerance || math.IsNaN(got) {
		t.Errorf("%s: got %.4f, want %.4f +-%g", what, got, want, tolerance)
	}
}

// TestKVCapacity is the table of docs/timing-model.md, "KV capacity".
func TestKVCapacity(t *testing.T) {
	for _, c := range []struct {
		flags       []string
		tokens      int
		concurrency float64
	}{
		{[]string{util95, baseLen}, 1042176, 31.805},
		{[]string{util95, baseLen, fp8}, 2084352, 63.609},
		{[]string{util95, baseLen, fp8, "--no-enable-chunked-prefill"}, 1966384, 60.009},
		{[]string{util95, fp8, "--max-model-len=131072"}, 2084352, 15.902},
		{[]string{"--gpu-memory-utilization=0.90", "--max-model-len=202752"}, 882832, 4.354},
	} {
		m := serve(t, Options{}, c.flags...)
		if m.KVTokens() != c.tokens {
			t.Errorf("%v: %d tokens, want %d", c.flags, m.KVTokens(), c.tokens)
		}
		near(t, strings.Join(c.flags, " "), m.MaxConcurrency(), c.concurrency, 0.0005)
	}
}

func TestGraphMemoryIsCountedSince021(t *testing.T) {
	before, err := tryServe("0.20.0", Options{}, util95, baseLen)
	require.NoError(t, err)
	after, err := tryServe("0.22.0", Options{}, util95, baseLen)
	require.NoError(t, err)
	near(t, "GiB", before.KVMemoryGiB()-after.KVMemoryGiB(), 1.0, 1e-9)
	eagerToo, err := tryServe("0.22.0", Options{}, util95, baseLen, eager)
	require.NoError(t, err)
	if got, want := eagerToo.KVTokens(), before.KVTokens(); got != want {
		t.Errorf("eager: %d KV tokens, want %d", got, want)
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name, version string
		flags         []string
		class         vllm.Class
		text          string
	}{
		{"context parallel", "0.11.1", []string{"-dcp", "2"}, vllm.ClassConfigRefused, "must be greater than total num kv heads"},
		{"longer than the model", "0.11.1", []string{"--max-model-len=202753"}, vllm.ClassConfigRefused, "max_model_len (202753)"},
		{"one request does not fit", "0.11.1", []string{"--gpu-memory-utilization=0.63", "--max-model-len=202752"}, vllm.ClassKVTooSmall, "202752"},
		{"no room", "0.11.1", []string{"--gpu-memory-utilization=0.6"}, vllm.ClassNoKVMemory, "No available memory for the cache blocks"},
		{"budget below the length", "0.11.1", []string{"--no-enable-chunked-prefill", "--max-num-batched-tokens=8192", baseLen}, vllm.ClassConfigRefused, "smaller than max_model_len"},
		{"budget below the seats", "0.11.1", []string{"--max-num-batched-tokens=512", "--max-num-seqs=1024", baseLen}, vllm.ClassConfigRefused, "greater than or equal to max_num_seqs"},
		{"weights on four GPUs", "0.11.1", []string{"-tp", "4"}, vllm.ClassOOMLoad, "CUDA out of memory"},
		{"few blocks asked for", "0.11.1", []string{"--num-gpu-blocks-override=100", baseLen}, vllm.ClassKVTooSmall, "32768"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := tryServe(c.version, Options{}, c.flags...)
			var r *vllm.RefusalError
			require.ErrorAs(t, err, &r)
			if r.Class != c.class || !strings.Contains(r.Text, c.text) || r.ExitCode != 1 {
				t.Errorf("class %q, exit %d, text %q; want class %q and %q", r.Class, r.ExitCode, r.Text, c.class, c.text)
			}
		})
	}
	_, err := tryServe("0.11.1", Options{}, "--context-parallel-size", "8")
	var usage *vllm.UsageError
	require.ErrorAs(t, err, &usage)
	if usage.ExitCode != 2 {
		t.Errorf("unknown flag: exit %d, want 2", usage.ExitCode)
	}
}

func TestUnsupported(t *testing.T) {
	for _, flags := range [][]string{
		{"-dp", "2", "-tp", "4", ep},
		{"-tp", "16"},
		{"--dtype=float32"},
	} {
		_, err := tryServe("0.11.1", Options{}, flags...)
		var u *UnsupportedError
		if !errors.As(err, &u) {
			t.Errorf("%v: got %v, want an UnsupportedError", flags, err)
		}
	}
}

// Two replicas of half the GPUs: the figures of docs/timing-model.md, "Replicas".
func TestReplicas(t *testing.T) {
	c, err := vllm.ResolveArgv(vllm.MustVersion("0.11.1"), []string{"zai-org/GLM-4.6", "-tp", "4", "-dp", "2", ep, fp8, eager, util95, "--max-model-len=131072"}, vllm.GLM46())
	require.NoError(t, err)
	m, err := New(BuiltIn(c), c, Options{})
	require.NoError(t, err)
	// 139.81 x 0.95 - 86.5 - 2.5 - 2 GiB in blocks of 16 tokens, 92 layers, two heads.
	gib := 139.81*0.95 - 86.5 - 2.5 - 2
	if want := int(math.Floor(gib*(1<<30)/(512*92*16))) * 16; m.KVTokens() != want {
		t.Errorf("%d KV tokens, want %d", m.KVTokens(), want)
	}
	if n := m.Sim().Replicas; n != 2 {
		t.Errorf("%d replicas", n)
	}
	// The experts see the tokens of both: 8 here and 8 there are 16.
	s := decodes(8, 8, 8*8192)
	alone := m.Detail(&s).GPUMicroseconds
	s.OtherTokens = 8
	near(t, "experts of both", m.Detail(&s).GPUMicroseconds-alone, 89*(183.6-135.6), 1e-6)
	layer := 1.2*(61.3+7.12+0.137*8) + 7.11 + 1.08*3 + 512*8*8192/3.507e6 + 3*(21+15.0*2/19)
	near(t, "gpu", alone, 92*layer+89*135.6-3*(12+0.0138*8)+108+0.148*8+0.76*8+100+0.7*8, 1e-6)
	near(t, "step", m.Detail(&s).StepMicroseconds, 92*1214+2950+4.4*8, 1e-6)

	plain, err := vllm.ResolveArgv(vllm.MustVersion("0.11.1"), []string{"zai-org/GLM-4.6", "-tp", "4", "-dp", "2"}, vllm.GLM46())
	require.NoError(t, err)
	_, err = New(BuiltIn(plain), plain, Options{})
	var r *vllm.RefusalError
	if !errors.As(err, &r) || r.Class != vllm.ClassOOMLoad {
		t.Errorf("without expert parallelism every replica holds all weights: %v", err)
	}
}

func TestStartup(t *testing.T) {
	for _, c := range []struct {
		options Options
		flags   []string
		want    time.Duration
	}{
		{Options{}, []string{ep, eager}, 175 * time.Second},
		{Options{}, nil, (310+120+20)*time.Second + 51*time.Second/2},
		{Options{WarmPageCache: true, WarmCompileCache: true}, []string{ep}, (20+40+20)*time.Second + 51*time.Second/2},
	} {
		if got := serve(t, c.options, c.flags...).StartupTotal(); got != c.want {
			t.Errorf("%v %+v: %v, want %v", c.flags, c.options, got, c.want)
		}
	}
}

func TestAsyncSchedulingHidesTheHost(t *testing.T) {
	step := func(version string) float64 {
		m, err := tryServe(version, Options{}, util95, baseLen)
		require.NoError(t, err)
		s := decodes(1, 1, 7168)
		return m.Detail(&s).StepMicroseconds
	}
	near(t, "0.14", step("0.14.0"), 12206.3+300, 0.1)
	near(t, "0.13", step("0.13.0"), 15160.7, 0.1)
}

func TestMTPStep(t *testing.T) {
	m := serve(t, Options{}, `--speculative-config={"method":"mtp","num_speculative_tokens":2}`, baseLen, util95)
	plain := serve(t, Options{}, baseLen, util95)
	s := decodes(4, 12, 4000)
	s.UniformDecode = true
	// One draft token: dense(4), attention, two all-reduces, experts, head, sampling.
	draft := 1.2*(51.26+7.12+0.137*4) + 6.40 + 2*(5.1+1.8*3/7) + 72.5 + 54 + 0.074*4 + 100
	near(t, "gpu", m.Detail(&s).GPUMicroseconds-plain.Detail(&s).GPUMicroseconds, 2*draft, 1e-6)
	near(t, "floor", m.Detail(&s).FloorMicroseconds, 94*0.8, 1e-9)
	near(t, "model memory", m.ModelMemoryGiB(), 83.5, 1e-9)
}

func TestTunedTilesAndPenalty(t *testing.T) {
	s := decodes(8, 8, 8000)
	fallback, tuned := serve(t, Options{}), serve(t, Options{TunedMoE: true})
	near(t, "tuned", fallback.Detail(&s).GPUMicroseconds-tuned.Detail(&s).GPUMicroseconds, 89*(100.1-95.6), 1e-6)
	p := GLM46H200()
	p.MoE.Penalty = 0.5
	half, err := tryProfile(p, "0.11.1", Options{})
	require.NoError(t, err)
	near(t, "half", fallback.Detail(&s).GPUMicroseconds-half.Detail(&s).GPUMicroseconds, 89*(100.1-95.6)/2, 1e-6)
	both := blend(Table{{1, 10}, {20, 20}, {21, 40}}, Table{{1, 0}, {10, 10}}, 0.5)
	for _, x := range []float64{0, 1, 5, 10, 20, 20.5, 21, 30} {
		want := (Table{{1, 10}, {20, 20}, {21, 40}}.at(x) + Table{{1, 0}, {10, 10}}.at(x)) / 2
		near(t, "blend", both.at(x), want, 1e-9)
	}
}

func TestSamplingCosts(t *testing.T) {
	m := serve(t, Options{})
	s := decodes(10, 10, 10000)
	cost := map[engine.Sampling]float64{}
	for _, k := range []engine.Sampling{engine.SampleGreedy, engine.SampleTemperature, engine.SampleTopP} {
		s.Sampling = k
		cost[k] = m.Detail(&s).GPUMicroseconds
	}
	near(t, "temperature", cost[engine.SampleTemperature]-cost[engine.SampleGreedy], 150+15-107, 1e-6)
	near(t, "top_p", cost[engine.SampleTopP]-cost[engine.SampleGreedy], 240+200-107, 1e-6)
}

func TestNoiseIsSeeded(t *testing.T) {
	a, b := serve(t, Options{Noise: true, Seed: 1}), serve(t, Options{Noise: true, Seed: 1})
	other := serve(t, Options{Noise: true, Seed: 2})
	exact := serve(t, Options{})
	var sum, sq float64
	differs := false
	const n = 4000
	for i := range n {
		s := decodes(4, 4, 4000)
		s.Index = int64(i)
		got := a.Step(&s)
		if got != b.Step(&s) {
			t.Fatalf("step %d differs under one seed", i)
		}
		differs = differs || got != other.Step(&s)
		l := math.Log(float64(got) / float64(exact.Step(&s)))
		sum, sq = sum+l, sq+l*l
	}
	if !differs {
		t.Error("seeds 1 and 2 give the same noise")
	}
	near(t, "mean", sum/n, 0, 0.001)                // 4 standard errors: 0.01 / sqrt(4000) x 6
	near(t, "sigma", math.Sqrt(sq/n), 0.01, 0.0005) // standard error 0.0001
}

func TestProfileRoundTripAndFaults(t *testing.T) {
	_, err := ParseProfile("p.json", GLM46H200JSON())
	require.NoError(t, err)
	text := string(GLM46H200JSON())
	for _, c := range []struct{ from, to, want string }{
		{`"layers": 92,`, ``, "shape.layers: missing"},
		{`"layers": 92,`, `"layers": 92, "layer": 3,`, "shape.layer: no such coefficient"},
		{`"layers": 92,`, `"layers": "92",`, "layers"},
		{`"gpu_gib": 139.81`, `"gpu_gib": -1`, "memory.gpu_gib: -1"},
		{`[[256, 230], [512, 250]`, `[[512, 230], [256, 250]`, "does not rise"},
		{`"launch.full_graph_us_per_layer": "M",`, ``, "sources: nothing for launch.full_graph_us_per_layer"},
		{`"name": "glm`, `"name": glm`, "not JSON"},
	} {
		require.Contains(t, text, c.from)
		_, err := ParseProfile("p.json", []byte(strings.Replace(text, c.from, c.to, 1)))
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "p.json") {
			t.Errorf("%s -> %s: error %v, want %q", c.from, c.to, err, c.want)
		}
	}
	_, err = ParseProfile("p.json", append(GLM46H200JSON(), '{', '}'))
	require.ErrorContains(t, err, "text after")
	_, err = ParseProfile("p.json", []byte("[]"))
	require.ErrorContains(t, err, "want an object")
}

// TestOtherProfile loads another model on other hardware: data, not code.
func TestOtherProfile(t *testing.T) {
	data, err := os.ReadFile("testdata/dense-two-gpus.json")
	require.NoError(t, err)
	p, err := ParseProfile("dense-two-gpus.json", data)
	require.NoError(t, err)
	shape := vllm.ModelShape{
		Name: "example/dense", Architecture: "LlamaForCausalLM", MaxPositionEmbeddings: 32768, Layers: 32,
		HiddenSize: 4096, AttentionHeads: 32, KVHeads: 8, HeadDim: 128, VocabSize: 128256, Dtype: "bfloat16",
	}
	c, err := vllm.ResolveArgv(vllm.MustVersion("0.11.1"), []string{"example/dense", "-tp", "2"}, shape)
	require.NoError(t, err)
	m, err := New(p, c, Options{})
	require.NoError(t, err)
	// 4 KV heads a GPU x 128 x 2 bytes x 2: 2048 bytes a token and layer.
	blocks := int(math.Floor((79.1*0.9 - 7.5 - 2 - 1.14688) * (1 << 30) / (2048 * 32 * 16)))
	if m.KVBlocks() != blocks {
		t.Errorf("%d blocks, want %d", m.KVBlocks(), blocks)
	}
	s := decodes(1, 1, 1024)
	// dense 20 + 0.1, attention 5 + 2048 x 1024 / 3e6, one reduction of 4 a layer.
	layer := 20.1 + 5 + 2048*1024/3e6 + 2*4.0
	near(t, "gpu", m.Detail(&s).GPUMicroseconds, 32*layer+(30+0.05)+0.5+(50+1), 1e-6)
}

func BenchmarkStepDecode(b *testing.B) {
	m := serve(b, Options{}, baseLen, util95)
	s := decodes(100, 100, 700000)
	b.ReportAllocs()
	for b.Loop() {
		s.ContextTokens += 100
		m.Step(&s)
	}
}

func BenchmarkStepMixed(b *testing.B) {
	m := serve(b, Options{}, baseLen, util95)
	s := prefill(100, 700000, []engine.Chunk{{Tokens: 2000}, {Tokens: 3000}})
	b.ReportAllocs()
	for b.Loop() {
		s.ContextTokens += 100
		m.Step(&s)
	}
}

func FuzzParseProfile(f *testing.F) {
	f.Add(GLM46H200JSON())
	f.Add([]byte(`{"name":"x"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := ParseProfile("p.json", data)
		if err != nil {
			return
		}
		c, err := vllm.ResolveArgv(vllm.MustVersion("0.11.1"), []string{"m", "-tp", "8"}, vllm.GLM46())
		if err != nil {
			t.Fatal(err)
		}
		m, err := New(p, c, Options{})
		if err != nil {
			return
		}
		s := decodes(3, 3, 3000)
		if d := m.Detail(&s); math.IsNaN(d.StepMicroseconds) || d.StepMicroseconds < 0 {
			t.Errorf("a profile that parses gives a step of %v us", d.StepMicroseconds)
		}
	})
}
