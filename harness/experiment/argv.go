package experiment

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/glm46/glm46/mockvllm/vllm"
)

// Refusal says that a version of vLLM does not run a cell as asked. It is a
// result, not a failure of ours.
type Refusal struct {
	// Class as in mockvllm/vllm, or ClassOverridden or ClassNotInVersion.
	Class vllm.Class
	// Reason in plain words; no flag stands in it.
	Reason string
	// EngineText is what the engine says, exactly; "" where it says nothing.
	EngineText string
}

func (r *Refusal) Error() string { return r.Reason }

// Classes of refusals that are ours and not the engine's.
const (
	// ClassOverridden: the engine would run, with another setting than asked.
	ClassOverridden vllm.Class = "overridden"
	// ClassNotInVersion: the version has not yet, or no longer, what is asked.
	ClassNotInVersion vllm.Class = "not_in_version"
)

// A Check refuses configurations for reasons outside of this package, such as
// memory: it fails with a *vllm.RefusalError. Any other error means that it
// cannot tell (a split that it has no numbers for) and refuses nothing.
type Check func(vllm.EngineConfig) error

// Lookup lengths of ngram speculation. They are vLLM's own defaults where
// neither is given; said explicitly, all versions draft alike (before 0.8.3
// the maximum has no default).
// Source: docs/vllm.md section 1.9.
const (
	ngramLookupMin = 5
	ngramLookupMax = 5
)

// Argv gives the arguments after "vllm": "serve", the model, flags. model ""
// is the plan's. They are complete also where the version refuses the cell.
//
// The refusal is nil where vLLM v accepts the cell. checks run last.
func (c Cell) Argv(v vllm.Version, model string, checks ...Check) ([]string, *Refusal) {
	if model == "" {
		model = c.model
	}
	argv, refusal := c.arguments(v, model)
	if err := CheckModel(model); err != nil {
		return argv, &Refusal{Class: vllm.ClassUsage, Reason: err.Error()}
	}
	if refusal != nil {
		return argv, refusal
	}
	config, refusal := c.accept(v, argv)
	if refusal != nil {
		return argv, refusal
	}
	for _, check := range checks {
		var refused *vllm.RefusalError
		if errors.As(check(config), &refused) {
			return argv, engineRefusal(refused)
		}
	}
	return argv, nil
}

// EngineConfig is what vLLM v would run with, every default filled in.
func (c Cell) EngineConfig(v vllm.Version, model string) (vllm.EngineConfig, *Refusal) {
	argv, refusal := c.Argv(v, model)
	if refusal != nil {
		return vllm.EngineConfig{}, refusal
	}
	return c.accept(v, argv)
}

// arguments writes the argument list. The refusal is for what no argument of
// that version can say.
func (c Cell) arguments(v vllm.Version, model string) ([]string, *Refusal) {
	s := c.Settings
	argv := []string{"serve", model, "--tensor-parallel-size", strconv.Itoa(s.TensorParallelSize)}
	if s.EnableEP {
		argv = append(argv, "--enable-expert-parallel")
	}
	if s.EnforceEager {
		argv = append(argv, "--enforce-eager")
	}
	argv = append(argv,
		"--dtype", s.Dtype,
		"--kv-cache-dtype", s.KVCacheDtype,
		"--gpu-memory-utilization", formatDecimal(s.GPUMemoryUtilization),
		"--max-model-len", strconv.Itoa(s.MaxModelLen),
		onOff("enable-chunked-prefill", s.EnableChunkedPrefill),
		onOff("enable-prefix-caching", s.EnablePrefixCaching),
		"--trust-remote-code",
	)
	var refusal *Refusal
	if c.since != (vllm.Version{}) && v.Compare(c.since) < 0 {
		why := orText(c.sinceWhy, "what this experiment is about")
		refusal = &Refusal{Class: ClassNotInVersion, Reason: fmt.Sprintf("vLLM %s is too old for this: %s came with %s", v, why, c.since)}
	}
	if s.ContextParallelSize > 1 {
		flag, has := vllm.ContextParallelFlag(v)
		argv = append(argv, flag, strconv.Itoa(s.ContextParallelSize))
		if !has && refusal == nil {
			refusal = c.noContextParallel(v, argv)
		}
	}
	if s.SwapSpaceGiB != nil {
		if vllm.HasFlag(v, "--swap-space") {
			argv = append(argv, "--swap-space", formatDecimal(*s.SwapSpaceGiB))
		} else if refusal == nil {
			refusal = &Refusal{Class: ClassNotInVersion, Reason: fmt.Sprintf(
				"vLLM %s has no swap space (the flag is gone since 0.18, and had no effect since 0.8.0: a preempted request is computed again); unset %s", v, VarSwapSpace)}
		}
	}
	spec, r := c.speculation(v)
	argv = append(argv, spec...)
	if refusal == nil {
		refusal = r
	}
	return append(argv, c.VLLMArgs...), refusal
}

func onOff(name string, on bool) string {
	if on {
		return "--" + name
	}
	return "--no-" + name
}

// noContextParallel puts the reason that counts first: a newer version would
// refuse the cell as well where the model has enough KV heads.
func (c Cell) noContextParallel(v vllm.Version, argv []string) *Refusal {
	reason := fmt.Sprintf("vLLM %s has no context parallelism (it came with 0.10.2)", v)
	if heads := c.shape.KVHeads; heads > 0 && c.Settings.TensorParallelSize <= heads {
		reason += fmt.Sprintf("; newer versions refuse it too, since it needs more tensor-parallel ranks (%d here) than the model has KV heads (%d)",
			c.Settings.TensorParallelSize, heads)
	}
	refusal := &Refusal{Class: vllm.ClassUnknownFlag, Reason: reason}
	var usage *vllm.UsageError
	if _, err := vllm.ParseServeArgs(v, argv[1:]); errors.As(err, &usage) {
		refusal.EngineText = usage.Message
	}
	return refusal
}

// speculation gives the arguments of speculative decoding, in the version's
// way: a pair of flags up to 0.8.2, one JSON object since 0.8.3.
func (c Cell) speculation(v vllm.Version) ([]string, *Refusal) {
	s := c.Settings
	if !s.EnableMTP {
		return nil, nil
	}
	method, lookupMin, lookupMax := s.MTPMethod, 0, 0
	switch {
	case s.SpeculativeModel != "":
		method = "draft_model"
	case method == "ngram":
		lookupMin, lookupMax = ngramLookupMin, ngramLookupMax
	}
	argv, err := vllm.SpecArgs(v, method, s.SpeculativeModel, s.MTPNumTokens, lookupMin, lookupMax)
	if err == nil {
		return argv, nil
	}
	if len(argv) == 0 || method == "mtp" && !v.AtLeast("0.8.3") {
		// The version cannot do it; what one would write is still shown. The pair
		// of flags cannot name MTP.
		argv = []string{"--speculative-config", fmt.Sprintf(`{"method":%q,"num_speculative_tokens":%d}`, method, s.MTPNumTokens)}
	}
	return argv, engineRefusal(err)
}

// accept takes the road that the mock takes: parse as that version does, then
// resolve. A setting that is silently replaced is a refusal: what would be
// measured is not what was asked for.
func (c Cell) accept(v vllm.Version, argv []string) (vllm.EngineConfig, *Refusal) {
	config, err := vllm.ResolveArgv(v, argv[1:], c.shape)
	if err != nil {
		return config, engineRefusal(err)
	}
	if len(config.Overrides) > 0 {
		o := config.Overrides[0]
		what := strings.ReplaceAll(strings.TrimPrefix(strings.TrimLeft(o.Flag, "-"), "enable-"), "-", " ")
		return config, &Refusal{
			Class: ClassOverridden,
			Reason: plainWords(fmt.Sprintf("vLLM %s overrides %s without a word: asked for %s, it runs with %s (%s), so nothing would be compared",
				v, what, o.Asked, o.Got, o.Why)),
		}
	}
	return config, nil
}

// engineRefusal turns the engine's errors into a refusal.
func engineRefusal(err error) *Refusal {
	var usage *vllm.UsageError
	var refused *vllm.RefusalError
	switch {
	case errors.As(err, &refused):
		reason := refused.Reason
		if reason == "" {
			reason = refused.Text
		}
		return &Refusal{Class: refused.Class, Reason: plainWords(reason), EngineText: refused.Text}
	case errors.As(err, &usage):
		reason := "the engine does not take these arguments: " + usage.Message
		if usage.Class == vllm.ClassUnknownFlag && len(usage.Flags) > 0 {
			reason = "this version does not know " + strings.Join(usage.Flags, ", ")
		}
		return &Refusal{Class: usage.Class, Reason: plainWords(reason), EngineText: usage.Message}
	}
	return &Refusal{Class: vllm.ClassConfigRefused, Reason: plainWords(err.Error())}
}

var flagPattern = regexp.MustCompile("(^|[^A-Za-z0-9-])--?([A-Za-z][A-Za-z0-9-]*)")

// plainWords takes the dashes off flags: the output of a dry run holds flags in
// argument lists only.
func plainWords(s string) string { return flagPattern.ReplaceAllString(s, "$1$2") }
