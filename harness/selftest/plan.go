package selftest

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/glm46/glm46/harness"
	"github.com/glm46/glm46/harness/experiment"
	"github.com/glm46/glm46/mockvllm/vllm"
)

const (
	planCellCount     = 22
	planConfiguration = 14
)

// cellIDs are the plan's cells, in its order.
// Source: README, the plan.
var cellIDs = strings.Fields("1A 1B 2A 2B 3A/8k 3A/64k 3B 3C 4A 4B 4C/8k 4C/64k 4D 5A 5B 6A 6B 7A 7B 8A 8B 8C")

func planCells(_ context.Context, _ *world, t *tally) {
	cells, err := experiment.Default().Resolve(experiment.Request{All: true, Lookup: noVariables})
	if t.err(err, "resolve the plan") {
		return
	}
	var ids []string
	for _, c := range cells {
		ids = append(ids, c.ID)
		if c.Label() != c.ID {
			t.fail("%s: not as the plan has it", c.Label())
		}
	}
	if !slices.Equal(ids, cellIDs) {
		t.fail("cells are %s, want %s", strings.Join(ids, " "), strings.Join(cellIDs, " "))
	}
	want(t, "configurations", len(experiment.Configurations(cells)), planConfiguration)
	t.note("%d cells, %d configurations", len(cells), planConfiguration)
}

// qsubLines are the arguments of qsub -v as the plan writes them, with the cell
// that each names.
var qsubLines = []struct{ line, cell string }{
	{"EXP_NAME=1B_compiled,ENFORCE_EAGER=no,NUM_SAMPLES=100", "1B"},
	{"EXP_NAME=2B_no_ep,ENABLE_EP=no,NUM_SAMPLES=100", "2B"},
	{"EXP_NAME=3B_dcp2,CONTEXT_PARALLEL_SIZE=2,MAX_MODEL_LEN=131072,DATASET_TYPE=64k,NUM_SAMPLES=100", "3B"},
	{"EXP_NAME=3C_dcp4,CONTEXT_PARALLEL_SIZE=4,MAX_MODEL_LEN=131072,DATASET_TYPE=64k,NUM_SAMPLES=100", "3C"},
	{"EXP_NAME=4A_len16k,MAX_MODEL_LEN=16384,NUM_SAMPLES=100", "4A"},
	{"EXP_NAME=4C_len65k,MAX_MODEL_LEN=65536,NUM_SAMPLES=100", "4C/8k"},
	{"EXP_NAME=4D_len131k,MAX_MODEL_LEN=131072,DATASET_TYPE=64k,NUM_SAMPLES=100", "4D"},
	{"EXP_NAME=5B_kv_bf16,KV_CACHE_DTYPE=auto,NUM_SAMPLES=100", "5B"},
	{"EXP_NAME=6B_no_prefix_cache,ENABLE_PREFIX_CACHING=no,NUM_SAMPLES=100", "6B"},
	{"EXP_NAME=7B_no_chunked,ENABLE_CHUNKED_PREFILL=no,NUM_SAMPLES=100", "7B"},
	{"EXP_NAME=8B_mtp2,ENABLE_MTP=yes,MTP_NUM_TOKENS=2,NUM_SAMPLES=100", "8B"},
	{"EXP_NAME=8C_mtp4,ENABLE_MTP=yes,MTP_NUM_TOKENS=4,NUM_SAMPLES=100", "8C"},
}

func planQsub(_ context.Context, _ *world, t *tally) {
	plan := experiment.Default()
	all, err := plan.Resolve(experiment.Request{All: true, Lookup: noVariables})
	if t.err(err, "resolve the plan") {
		return
	}
	for _, q := range qsubLines {
		cells, err := plan.Resolve(experiment.Request{Environ: strings.Split(q.line, ",")})
		if t.err(err, q.line) {
			continue
		}
		if len(cells) != 1 || cells[0].Label() != q.cell {
			t.fail("%s: gives %d cells, the first %s; want %s", q.line, len(cells), cells[0].Label(), q.cell)
			continue
		}
		i := slices.IndexFunc(all, func(c experiment.Cell) bool { return c.ID == q.cell })
		want(t, q.line+": configuration", cells[0].ConfigHash, all[i].ConfigHash)
	}
	for _, value := range []string{"$(touch x)", "../..", strings.Repeat("a", 10_000), "5B\nx", `5B"`, "5B'"} {
		if _, err := plan.Resolve(experiment.Request{Environ: []string{"EXP_NAME=" + value}}); err == nil {
			t.fail("EXP_NAME=%.20q was taken", value)
		}
	}
	t.note("%d qsub lines give their cells, hostile names are refused", len(qsubLines))
}

// refusedBy are the cells that versions refuse: context parallelism in all,
// chunked prefill off where the engine turns it on again, more than one version.
var refusedBy = map[string]string{
	"0.8.2": "3B 3C 7B", "0.10.0": "3B 3C 7B", "0.11.1": "3B 3C", "0.14.0": "3B 3C", "0.22.0": "3B 3C", "0.27.0": "3B 3C",
}

func planRefusals(_ context.Context, _ *world, t *tally) {
	plan := experiment.Default()
	cells, err := plan.Resolve(experiment.Request{All: true, Lookup: noVariables})
	if t.err(err, "resolve the plan") {
		return
	}
	for _, version := range sortedKeys(refusedBy) {
		var refused []string
		for _, c := range cells {
			argv, refusal := c.Argv(vllm.MustVersion(version), plan.Model, harness.MemoryCheck)
			if len(argv) < 3 || argv[0] != "serve" || argv[1] != plan.Model {
				t.fail("vLLM %s, %s: arguments %q", version, c.ID, argv)
			}
			if refusal == nil {
				continue
			}
			refused = append(refused, c.ID)
			if refusal.Reason == "" {
				t.fail("vLLM %s refuses %s without a reason", version, c.ID)
			}
		}
		want(t, "cells that vLLM "+version+" refuses", strings.Join(refused, " "), refusedBy[version])
	}
	swap, err := plan.Resolve(experiment.Request{Experiments: []string{"1A"}, Set: []string{"SWAP_SPACE=4"}, Lookup: noVariables})
	if !t.err(err, "SWAP_SPACE") {
		if _, refusal := swap[0].Argv(vllm.MustVersion("0.27.0"), plan.Model); refusal == nil {
			t.fail("vLLM 0.27.0 takes --swap-space, which it no longer has")
		}
	}
	t.note("%d versions refuse what they must, each with its reason", len(refusedBy))
}

// planCommand looks at the same through the command line.
func planCommand(ctx context.Context, w *world, t *tally) {
	code, stdout, stderr, err := w.exec(ctx, nil, "list", "--json", "--vllm-version", "0.10.0")
	if t.err(err, "list") {
		return
	}
	want(t, "exit code of list", code, 0)
	var list struct {
		Cells []struct {
			ID       string
			Accepted bool
			Reason   string
		}
	}
	if t.err(json.Unmarshal([]byte(stdout), &list), "list --json prints "+stdout+stderr) {
		return
	}
	want(t, "cells of list", len(list.Cells), planCellCount)
	for _, c := range list.Cells {
		refused := slices.Contains(strings.Fields(refusedBy["0.10.0"]), c.ID)
		if c.Accepted == refused || refused && c.Reason == "" {
			t.fail("list: %s: accepted %v, reason %q", c.ID, c.Accepted, c.Reason)
		}
	}
	for _, use := range []struct {
		code int
		says string
		args []string
	}{
		{2, "5A", []string{"run", "--exp", "5X"}},
		{2, "--mock", []string{"run", "--exp", "5B", "--moc"}},
		{4, "", []string{"run", "--exp", "3B", "--mock", "--results", w.path("refused")}},
		{0, "", []string{"run", "--exp", "5B", "--dry-run"}},
		{7, "datasets gen", []string{"run", "--exp", "5B", "--vllm", "true", "--vllm-version", "0.11.1", "--data", w.path("none"), "--results", w.path("none-results")}},
	} {
		line := "glm46 " + strings.Join(use.args, " ")
		code, stdout, stderr, err := w.exec(ctx, nil, use.args...)
		if t.err(err, line) {
			continue
		}
		want(t, "exit code of "+line, code, use.code)
		if !strings.Contains(stdout+stderr, use.says) {
			t.fail("%s: says nothing of %q: %s", line, use.says, stderr)
		}
	}
	t.note("list and run give the plan, exit codes 0, 2, 4 and 7, and the nearest names")
}
