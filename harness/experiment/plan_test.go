package experiment

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/glm46/glm46/mockvllm/vllm"
)

// planCells are the 22 cells of the experiment plan, in its order.
var planCells = strings.Fields("1A 1B 2A 2B 3A/8k 3A/64k 3B 3C 4A 4B 4C/8k 4C/64k 4D 5A 5B 6A 6B 7A 7B 8A 8B 8C")

func resolve(t *testing.T, r Request) []Cell {
	t.Helper()
	cells, err := Default().Resolve(r)
	require.NoError(t, err)
	return cells
}

func ids(cells []Cell) []string {
	out := []string{}
	for _, c := range cells {
		out = append(out, c.Label())
	}
	return out
}

func TestDefaultPlan(t *testing.T) {
	p := Default()
	cells := resolve(t, Request{All: true})
	require.Equal(t, planCells, ids(cells))
	if got := len(Configurations(cells)); got != 14 {
		t.Errorf("configurations: got %d, want 14", got)
	}
	servers := map[string]bool{}
	for _, c := range cells {
		servers[c.ServerHash] = true
	}
	if len(servers) != 13 {
		t.Errorf("server starts: got %d, want 13 (4C/8k and 4C/64k share one)", len(servers))
	}
	all := resolve(t, Request{All: true, Added: true})
	var added []string
	for _, c := range all {
		if c.Added {
			added = append(added, c.ID)
			if len(c.SameAs) != 0 {
				t.Errorf("%s: added cell equals %v", c.ID, c.SameAs)
			}
		}
	}
	require.Equal(t, strings.Fields("1C 2C 3D 3E 3F 8D 8E"), added)

	// What the plan says of the model is what the mock's facts say.
	facts := vllm.GLM46()
	for _, c := range []struct {
		what      string
		got, want any
	}{
		{"name", p.Shape.Name, facts.Name},
		{"positions", p.Shape.MaxPositionEmbeddings, facts.MaxPositionEmbeddings},
		{"layers", p.Shape.Layers, facts.Layers},
		{"heads", p.Shape.AttentionHeads, facts.AttentionHeads},
		{"KV heads", p.Shape.KVHeads, facts.KVHeads},
		{"experts", p.Shape.Experts, facts.Experts},
		{"MTP", p.Shape.HasMTP, facts.HasMTP},
		{"dtype", p.Shape.Dtype, facts.Dtype},
		{"published TPS", p.Published.TPS, 8.69},
		{"published latency", p.Published.LatencySeconds, 58.9},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %v, want %v", c.what, c.got, c.want)
		}
	}
}

func TestEqualCells(t *testing.T) {
	groups := [][]string{strings.Fields("1A 2A 3A/8k 4B 5A 6A 7A 8A"), strings.Fields("3A/64k 4D")}
	for _, c := range resolve(t, Request{All: true}) {
		want := []string{}
		for _, g := range groups {
			if slices.Contains(g, c.ID) {
				want = slices.DeleteFunc(slices.Clone(g), func(id string) bool { return id == c.ID })
			}
		}
		require.Equal(t, want, c.SameAs, c.ID)
	}
	// Under the compiled base 1A stays eager, and 1B is what the others vary from.
	compiled := resolve(t, Request{All: true, Base: "compiled"})
	require.Empty(t, compiled[0].SameAs)
	require.True(t, compiled[0].Settings.EnforceEager)
	require.Equal(t, strings.Fields("2A 3A/8k 4B 5A 6A 7A 8A"), compiled[1].SameAs)
	require.Len(t, Configurations(compiled), 14)
	require.Equal(t, resolve(t, Request{All: true})[0].ConfigHash, compiled[0].ConfigHash)
	// Naming the default changes nothing.
	require.Equal(t, hashes(resolve(t, Request{All: true})), hashes(resolve(t, Request{All: true, Base: "eager"})))
}

func hashes(cells []Cell) []string {
	var out []string
	for _, c := range cells {
		out = append(out, c.ConfigHash)
	}
	return out
}

func TestLevels(t *testing.T) {
	want := map[string][]Level{
		"8k":  {{Name: "c1", Concurrency: 1, Requests: 5, OutputTokens: 512}, {Name: "c16", Concurrency: 16, Requests: 32, OutputTokens: 1024}, {Name: "c100", Concurrency: 100}},
		"64k": {{Name: "c1", Concurrency: 1, Requests: 3, OutputTokens: 512}, {Name: "c16", Concurrency: 16, Requests: 32, OutputTokens: 1024}, {Name: "c64", Concurrency: 64}},
	}
	for _, c := range resolve(t, Request{All: true, Added: true}) {
		require.Equal(t, want[c.Dataset], c.Levels, c.ID)
	}
	one := func(r Request) Cell { r.Experiments = []string{"5B"}; return resolve(t, r)[0] }
	require.Equal(t, []Level{{Name: "c8", Concurrency: 8}, {Name: "c32", Concurrency: 32}}, one(Request{Concurrency: "8,32"}).Levels)
	require.Equal(t, []Level{{Name: "auto", Auto: true}}, one(Request{Concurrency: "auto"}).Levels)
	require.Equal(t, []Level{{Name: "r2.5", RequestRate: 2.5}}, one(Request{RequestRate: 2.5}).Levels)
	capped := one(Request{MaxTokens: 600, NumSamples: 4})
	require.Equal(t, []Level{{Name: "c1", Concurrency: 1, Requests: 4, OutputTokens: 512}, {Name: "c16", Concurrency: 16, Requests: 4, OutputTokens: 600}, {Name: "c100", Concurrency: 100}}, capped.Levels)
	require.Equal(t, "5B*", capped.Label())
	// Levels by flag change what is measured (the hash), not the settings (the star).
	other := one(Request{Concurrency: "8"})
	require.Equal(t, "5B", other.Label())
	require.NotEqual(t, one(Request{}).ConfigHash, other.ConfigHash)
	require.Equal(t, []string{"2A", "3A/8k", "4B", "5A", "6A", "7A", "8A"}, resolve(t, Request{Experiments: []string{"1A"}, Concurrency: "8"})[0].SameAs)
}

// TestOtherPlan: another model, four GPUs, experiments of its own.
func TestOtherPlan(t *testing.T) {
	data, err := os.ReadFile("testdata/other.yaml")
	require.NoError(t, err)
	p, err := Parse("other.yaml", data)
	require.NoError(t, err)
	cells, err := p.Resolve(Request{All: true})
	require.NoError(t, err)
	require.Equal(t, []string{"small_batch", "blocks"}, ids(cells))
	require.Equal(t, []Level{{Name: "c4", Concurrency: 4, Requests: 8, OutputTokens: 64}, {Name: "r2.5", RequestRate: 2.5, OutputTokens: 64}}, cells[0].Levels)
	base := "--tensor-parallel-size 4 --dtype bfloat16 --kv-cache-dtype auto --gpu-memory-utilization 0.9 --max-model-len 16384 --enable-chunked-prefill"
	for _, v := range vllm.KnownVersions() {
		argv, refusal := cells[0].Argv(v, "")
		require.Nil(t, refusal, v)
		require.Equal(t, "serve example/small-moe "+base+" --enable-prefix-caching --trust-remote-code --seed 7 --max-num-batched-tokens 2048", strings.Join(argv, " "))
		argv, refusal = cells[1].Argv(v, "/models/small moe")
		require.Nil(t, refusal, v)
		require.Equal(t, "serve /models/small moe "+base+" --no-enable-prefix-caching --trust-remote-code --seed 7 --block-size=32 --disable-log-stats", strings.Join(argv, " "))
	}
	require.Equal(t, []EnvVar{{"VLLM_LOG_STATS_INTERVAL", "1"}}, cells[1].ServerEnv)
	// Its own shape decides: 4 ranks and 2 KV heads can split the context.
	cells, err = p.Resolve(Request{Experiments: []string{"blocks"}, Set: []string{"CONTEXT_PARALLEL_SIZE=2"}})
	require.NoError(t, err)
	_, refusal := cells[0].Argv(vllm.MustVersion("0.14.0"), "")
	require.Nil(t, refusal)
	// Ids with "_" in them: the longest that fits names the experiment.
	cells, err = p.Resolve(Request{Environ: []string{"EXP_NAME=small_batch_2"}})
	require.NoError(t, err)
	require.Equal(t, "small_batch", cells[0].ID)
	longer := strings.Replace(string(data), "      - id: blocks\n", "      - id: small_batch_2\n        datasets: [8k]\n      - id: small\n        datasets: [8k]\n      - id: blocks\n", 1)
	more, err := Parse("longer.yaml", []byte(longer))
	require.NoError(t, err)
	for name, want := range map[string]string{"small_batch_2": "small_batch_2", "small_batch_3": "small_batch", "small_batch_2.x": "small_batch_2", "small-x": "small", "smallest": "smallest"} {
		cells, err = more.Resolve(Request{Environ: []string{"EXP_NAME=" + name}})
		require.NoError(t, err)
		require.Equal(t, want, cells[0].ID)
	}
	_, err = p.Resolve(Request{All: true, Set: []string{"TENSOR_PARALLEL_SIZE=8"}})
	require.ErrorContains(t, err, "more than the plan's 4 GPUs")
}

func TestPlanErrors(t *testing.T) {
	head := "schema: 1\nmodel: m\ngpus: 4\ndatasets:\n  8k:\n    levels: [{concurrency: 1}]\n"
	one := head + "groups:\n  - id: 1\n    title: T\n    experiments:\n      - id: A\n        datasets: [8k]\n"
	_, err := Parse("p.yaml", []byte(one))
	require.NoError(t, err)
	for _, c := range []struct{ name, yaml, want string }{
		{"unknown key", "schema: 1\nmodl: x\n", `p.yaml:2:1: plan: unknown key "modl"; nearest: model`},
		{"missing", "schema: 1\nmodel: x\n", "p.yaml:1:7: plan: gpus is missing"},
		{"syntax", "a: [", "p.yaml:1:4: sequence end token ']' not found"},
		{"twice", "schema: 1\nschema: 1\n", `p.yaml:2:1: mapping key "schema" already defined at [1:1]`},
		{"empty", "# nothing\n", "p.yaml: empty; a plan needs at least model, gpus, datasets and groups"},
		{"two documents", one + "---\na: b\n", "more than one YAML document"},
		{"not a mapping", "- a\n", "p.yaml:1:1: plan: want a mapping (key: value)"},
		{"schema", strings.Replace(one, "schema: 1", "schema: 2", 1), `p.yaml:1:1: schema: want a whole number from 1 to 1, got "2"`},
		{"level", strings.Replace(one, "concurrency: 1", "concurrency: 1, req: 2", 1), `p.yaml:6:31: level: unknown key "req"; nearest: request_rate, requests`},
		{"level kinds", strings.Replace(one, "concurrency: 1", "concurrency: 1, request_rate: 2", 1), "either concurrency (closed loop) or request_rate (open loop)"},
		{"variable", one + "        set: {KV_CACHE_DTYP: fp8}\n", `p.yaml:13:15: set: unknown key "KV_CACHE_DTYP"; nearest: KV_CACHE_DTYPE`},
		{"value", one + "        set: {KV_CACHE_DTYPE: fp4}\n", `p.yaml:13:15: KV_CACHE_DTYPE: want fp8 or auto, got "fp4"`},
		{"boolean", one + "        set: {ENFORCE_EAGER: true}\n", `ENFORCE_EAGER: want yes or no, got "true"`},
		{"no tokens", one + "        set: {ENABLE_MTP: yes}\n", "p.yaml:12:20: ENABLE_MTP=yes needs MTP_NUM_TOKENS (1 to 8)"},
		{"GPUs", one + "        set: {TENSOR_PARALLEL_SIZE: 8}\n", "is more than the plan's 4 GPUs"},
		{"data set", strings.Replace(one, "[8k]", "[8K]", 1), `unknown data set "8K"; nearest: 8k`},
		{"same id", one + "      - id: A\n        datasets: [8k]\n", "p.yaml:13:9: experiment A is there twice"},
		{"same group", one + "  - id: 1\n", "group: id 1 is there twice"},
		{"path in id", strings.Replace(one, "id: A", "id: ../A", 1), "want letters, digits"},
		{"terminal codes", strings.Replace(one, "title: T", `title: "T\x1b[31m"`, 1), "title: holds control characters"},
		{"max-num-seqs", one + "        vllm_args: [--max-num-seqs, '8']\n", "--max-num-seqs may not stand here"},
		{"max_num_seqs=", one + "        vllm_args: ['--max_num_seqs=8']\n", "may not stand here"},
		{"abbreviation", one + "        vllm_args: ['--max-num-se=8']\n", "may not stand here"},
		{"negation", one + "        vllm_args: ['--no-enable-prefix-caching']\n", "say ENABLE_PREFIX_CACHING"},
		{"short", one + "        vllm_args: ['-tp', '2']\n", "set by the plan's own settings"},
		{"secret", one + "        vllm_args: ['--api-key', x]\n", "a plan holds no secrets"},
		{"not a flag", one + "        vllm_args: [8]\n", "the first item is a flag"},
		{"environment", one + "        server_env: {'A B': x}\n", "no name of an environment variable"},
		{"anchors", "schema: &a 1\nmodel: *a\n", "anchors, aliases and tags are not taken"},
		{"model", strings.Replace(one, "model: m", "model: --host", 1), "begins with a dash"},
		{"since", one + "        since: new\n", "want a release such as"},
		{"published", one + "published: {experiment: B}\n", `unknown experiment "B"; nearest: A`},
		{"baseline TP", one + "baseline: {TENSOR_PARALLEL_SIZE: 4}\n", "say tensor_parallel_size at the top"},
		{"odd GPUs", strings.Replace(one, "gpus: 4", "gpus: 3", 1), "TENSOR_PARALLEL_SIZE: want 1, 2, 4 or 8"},
		{"deep", strings.Repeat("[", 40), "nested deeper"},
		{"deep list", strings.Repeat("- ", 400) + "a", "nested deeper"},
		{"not UTF-8", "a: \xff", "not UTF-8"},
		{"several", "schema: 2\nmodl: x\n", "p.yaml:2:1: plan: unknown key \"modl\"; nearest: model\np.yaml:1:1: schema"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse("p.yaml", []byte(c.yaml))
			var usage *UsageError
			if !errors.As(err, &usage) {
				t.Fatalf("got %v, want a *UsageError", err)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("got  %s\nwant %s", err, c.want)
			}
		})
	}
}

// FuzzParse: no plan file crashes us, and what is accepted can be resolved.
func FuzzParse(f *testing.F) {
	f.Add(string(defaultPlan))
	other, err := os.ReadFile("testdata/other.yaml")
	require.NoError(f, err)
	f.Add(string(other))
	f.Add("schema: 1\nmodel: m\ngpus: 1\ndatasets: {8k: {levels: [{concurrency: 1}]}}\ngroups: [{id: 1, experiments: [{id: A, datasets: {8k: {MAX_MODEL_LEN: 4k}}}]}]\n")
	f.Add("a: &x [*x]\n? b\n: |\n  c\n")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Parse("f.yaml", []byte(text))
		if err != nil {
			var usage *UsageError
			if !errors.As(err, &usage) || !strings.HasPrefix(err.Error(), "f.yaml") {
				t.Fatalf("got %v, want a *UsageError that names the file", err)
			}
			return
		}
		cells, err := p.Resolve(Request{All: true, Added: true})
		if err != nil {
			t.Fatalf("accepted plan does not resolve: %v", err)
		}
		for _, c := range cells {
			argv, _ := c.Argv(vllm.MustVersion(vllm.DefaultVersion), "")
			for _, a := range argv {
				if strings.HasPrefix(a, "--max-num-seqs") {
					t.Fatalf("%s: %s", c.ID, a)
				}
			}
		}
	})
}

// TestMappingOrder: the order of keys in a plan file changes no hash.
func TestMappingOrder(t *testing.T) {
	set := []string{"KV_CACHE_DTYPE: auto", "MAX_MODEL_LEN: 16k", "ENABLE_EP: no", "ENABLE_MTP: yes", "MTP_NUM_TOKENS: 3", "SWAP_SPACE: 2"}
	env := []string{"A: x", "B: y", "C: z"}
	hash := func(set, env []string) string {
		p, err := Parse("p.yaml", []byte("schema: 1\nmodel: m\ngpus: 8\ndatasets: {8k: {levels: [{concurrency: 1}]}}\ngroups: [{id: 1, experiments: [{id: A, datasets: [8k], set: {"+
			strings.Join(set, ", ")+"}, server_env: {"+strings.Join(env, ", ")+"}}]}]\n"))
		require.NoError(t, err)
		cells, err := p.Resolve(Request{All: true})
		require.NoError(t, err)
		return cells[0].ConfigHash
	}
	want := hash(set, env)
	rapid.Check(t, func(r *rapid.T) {
		got := hash(rapid.Permutation(set).Draw(r, "set"), rapid.Permutation(env).Draw(r, "env"))
		if got != want {
			r.Fatalf("hash %s, want %s", got, want)
		}
	})
}

// TestSchemaDoc: the description of the plan file names every key and variable,
// with the baseline that a plan starts from.
func TestSchemaDoc(t *testing.T) {
	data, err := os.ReadFile("../../docs/plan-schema.md")
	require.NoError(t, err)
	doc := string(data)
	base := map[string]string{}
	for _, v := range documentedBaseline.Vars() {
		base[v.Name] = v.Value
	}
	base[VarTensorParallelSize], base[VarNumSamples] = "`tensor_parallel_size`", "the data set's"
	for _, name := range Variables() {
		i := strings.Index(doc, "| `"+name+"`")
		if i < 0 && !strings.Contains(doc, "`"+name+"`") {
			t.Errorf("%s is not described", name)
			continue
		}
		line, _, _ := strings.Cut(doc[max(i, 0):], "\n")
		if want, ok := base[name]; ok && !strings.Contains(line, "| "+want+" |") {
			t.Errorf("%s: baseline %s is not in %s", name, want, line)
		}
	}
	for _, list := range [][]string{planKeys, shapeKeys, experimentKeys, foreign} {
		for _, key := range list {
			if !strings.Contains(doc, "`"+key+"`") && !strings.Contains(doc, key+": ") && !strings.Contains(doc, key+":\n") && !strings.Contains(doc, key+":  ") {
				t.Errorf("key %s is not described", key)
			}
		}
	}
}
