package server

import (
	"fmt"
	"io"
	"os"

	"github.com/glm46/glm46/mockvllm"
	"github.com/glm46/glm46/mockvllm/model"
	"github.com/glm46/glm46/mockvllm/vllm"
)

// maxFileBytes bounds scenario and profile files.
const maxFileBytes = 4 << 20

// files reads scenario and profile and opens the truth file.
func (f mockFlags) files(mo mockvllm.Options) (mockvllm.Options, func(), error) {
	none := func() {}
	if f.scenario != "" {
		data, err := readFile(f.scenario)
		if err != nil {
			return mo, none, fmt.Errorf("argument --mock-scenario: %w", err)
		}
		if mo.Scenario, err = mockvllm.ParseScenario(f.scenario, data); err != nil {
			return mo, none, fmt.Errorf("argument --mock-scenario: %w", err)
		}
	}
	if f.profile != "" {
		data, err := readFile(f.profile)
		if err != nil {
			return mo, none, fmt.Errorf("argument --mock-profile: %w", err)
		}
		if mo.Profile, err = model.ParseProfile(f.profile, data); err != nil {
			return mo, none, fmt.Errorf("argument --mock-profile: %w", err)
		}
	}
	if f.truth == "" {
		return mo, none, nil
	}
	// Lines of an earlier life of the server stay: a restart continues the file.
	file, err := os.OpenFile(f.truth, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return mo, none, fmt.Errorf("argument --mock-truth: %w", err)
	}
	mo.Truth = file
	return mo, func() { _ = file.Close() }, nil
}

func readFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxFileBytes+1))
	if err == nil && len(data) > maxFileBytes {
		err = fmt.Errorf("%s: larger than %d bytes", path, maxFileBytes)
	}
	return data, err
}

// printHelp lists the flags.
func printHelp(w io.Writer, v vllm.Version) {
	fmt.Fprintf(w, "usage: vllm serve [model_tag] [options]\n\nA mock of vLLM %s. vLLM's flags:\n", v)
	for _, f := range vllm.Flags(v) {
		fmt.Fprintf(w, "  %s\n", f.Name)
	}
	fmt.Fprint(w, `
The mock's flags (docs/mock.md), also read from GLM46_MOCK_VERSION and so on:
  --mock-version X        vLLM release to imitate (`+vllm.DefaultVersion+`)
  --mock-speed X          divide all model time by X (1)
  --mock-seed N           seed of text and noise (0)
  --mock-startup none|model   ready at once, or after the model's time (none)
  --mock-ttft D --mock-itl D  token k is due at arrival + ttft + k x itl; both 0: as fast as possible
  --mock-scenario FILE    failures
  --mock-truth FILE       one JSON line a request: when each token was due and written
  --mock-profile FILE     other hardware or another model
  --mock-repetition X     share of the text that repeats (0.5)
  --mock-noise BOOL       noise on step times (false)
`)
}
