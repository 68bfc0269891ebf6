package selftest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"

	"github.com/glm46/glm46/harness/result"
	"github.com/glm46/glm46/pbsgen"
)

// pbsScripts makes the scripts of all presets, which must parse as bash and pass
// the generator's own check.
func pbsScripts(_ context.Context, w *world, t *tally) {
	cells := []pbsgen.Cell{{ID: "1A", Title: "1A: baseline, 8k", ConfigHash: "a", Hours: 1}, {ID: "5B", Title: "5B: kv=bf16, 8k", ConfigHash: "b", Hours: 2}}
	made := 0
	root := w.path("a project")
	for _, dir := range []string{"logs", "experiments"} {
		if t.err(os.MkdirAll(filepath.Join(root, dir), 0o777), "project") {
			return
		}
	}
	for _, preset := range pbsgen.PresetNames() {
		profile, err := pbsgen.LoadProfile(preset)
		if t.err(err, preset) {
			continue
		}
		o := pbsgen.Options{Root: root, Binary: w.program, Profile: profile}
		for _, kind := range []struct {
			name string
			make func() ([]byte, error)
		}{
			{"runner", func() ([]byte, error) { return pbsgen.Runner(o, cells...) }},
			{"job", func() ([]byte, error) { return pbsgen.Job(o, cells) }},
			{"array", func() ([]byte, error) { return pbsgen.Array(o, cells) }},
			{"shakedown", func() ([]byte, error) { return pbsgen.Shakedown(o) }},
		} {
			name := preset + " " + kind.name
			script, err := kind.make()
			var missing *pbsgen.MissingError
			if errors.As(err, &missing) {
				continue // the site wants what only its user knows
			}
			if t.err(err, name) {
				continue
			}
			made++
			if _, err := syntax.NewParser(syntax.Variant(syntax.LangBash)).Parse(bytes.NewReader(script), name); err != nil {
				t.fail("%s is no bash script: %v", name, err)
			}
			for _, f := range pbsgen.CheckScript(name, script) {
				if f.Level == pbsgen.Error {
					t.fail("%s: %s", name, f)
				}
			}
		}
	}
	if made == 0 {
		t.fail("no preset gave a script")
	}
	t.note("%d scripts parse as bash and pass their own check", made)
}

// pbsJob runs the general runner as a job would, with the mock as vllm.
func pbsJob(ctx context.Context, w *world, t *tally) {
	if t.err(w.prepare(ctx), "prepare") {
		return
	}
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.note("not run: there is no bash here")
		return
	}
	root := w.path("pbs job")
	if t.err(os.MkdirAll(root, 0o777), "project") {
		return
	}
	script, err := pbsgen.Runner(pbsgen.Options{Root: root, Binary: w.program})
	path := filepath.Join(root, "exp_runner.pbs")
	if t.err(err, "runner") || t.err(os.WriteFile(path, script, 0o666), "runner") {
		return
	}
	for n, job := range []struct {
		line string
		code int
	}{
		{"EXP_NAME=$(touch x)", 2},
		{"EXP_NAME=3B_dcp2,CONTEXT_PARALLEL_SIZE=2,MAX_MODEL_LEN=131072,DATASET_TYPE=64k", 4},
		{"EXP_NAME=6B_no_prefix_cache,ENABLE_PREFIX_CACHING=no,NUM_SAMPLES=4,MAX_TOKENS=24", 0},
	} {
		cmd := exec.CommandContext(ctx, bash, path)
		cmd.Dir = root
		cmd.Env = slices.Concat(w.environ, strings.Split(job.line, ","), []string{
			fmt.Sprintf("PBS_JOBID=%d.selftest", n), "PBS_O_WORKDIR=" + root, "PBS_ENVIRONMENT=PBS_BATCH", "TMPDIR=" + root,
			"GLM46_MOCK=1", "GLM46_MOCK_SPEED=200", "GLM46_NO_CERTIFICATE=1", "GLM46_DATA=" + w.path(dataDir),
		})
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState == nil {
			t.fail("%s: %v", job.line, err)
			return
		}
		if !want(t, job.line+": exit code", cmd.ProcessState.ExitCode(), job.code) {
			t.fail("%s", out)
		}
	}
	starts, err := result.ReadAll(filepath.Join(root, "results"))
	if t.err(err, "results of the jobs") {
		return
	}
	for _, s := range starts {
		if s.ExpName == "6B_no_prefix_cache" {
			want(t, "state of 6B", s.State(), result.StateValid)
			if s.Start.Scheduler == nil || s.Start.Scheduler.JobID != "2.selftest" {
				t.fail("start.json does not name the job: %+v", s.Start.Scheduler)
			}
		}
	}
	t.note("the runner gives exit codes 2, 4 and 0, and the job's id stands in the record")
}
