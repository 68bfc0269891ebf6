package vllm

import (
	"fmt"
	"strconv"
)

// ChunkedPrefillHonoured reports whether --no-enable-chunked-prefill has an
// effect in version v. From 0.8.0 to 0.11.0 the engine silently turns it on.
//
// Source: docs/vllm.md section 1.6.
func ChunkedPrefillHonoured(v Version) bool { return !(v.AtLeast("0.8.0") && !v.AtLeast("0.11.1")) }

// ContextParallelFlag gives the flag that splits the context of decodes over
// ranks in version v, and whether there is one. "--context-parallel-size" never
// existed in any release. Where there is none, the name is the one that came
// later, and the version refuses it as an unknown flag (RefuseContextParallel).
//
// Source: docs/vllm.md section 1.1.
func ContextParallelFlag(v Version) (string, bool) {
	return "--decode-context-parallel-size", v.AtLeast("0.10.2")
}

// defaultLookup is the n-gram length used when none is given.
// Source: docs/vllm.md section 1.9.
const defaultLookup = 5

// SpecArgs gives the arguments that ask version v for speculative decoding.
//
// method is "ngram", "mtp" or "draft_model" (then model is the draft's path); k
// is the number of draft tokens, at least 1; lookupMin and lookupMax bound the
// n-gram length, 0 for the engine's default (5 and 5). Until 0.8.2 these are
// separate flags, later one JSON object. The old flags have no default for the
// n-gram length, so they always carry one.
//
// It fails with a *RefusalError where the version cannot do it for GLM-4.6, and
// gives the arguments nevertheless, so that they can be shown.
// Source: docs/vllm.md section 1.9.
func SpecArgs(v Version, method, model string, k, lookupMin, lookupMax int) ([]string, error) {
	if !v.AtLeast("0.8.3") {
		return oldSpecArgs(v, method, model, k, lookupMin, lookupMax)
	}
	var body string
	switch method {
	case "ngram":
		body = fmt.Sprintf(`{"method":"ngram","num_speculative_tokens":%d`, k)
		if lookupMax > 0 {
			body += fmt.Sprintf(`,"prompt_lookup_max":%d`, lookupMax)
		}
		if lookupMin > 0 {
			body += fmt.Sprintf(`,"prompt_lookup_min":%d`, lookupMin)
		}
		body += "}"
	case "mtp":
		body = fmt.Sprintf(`{"method":%s,"num_speculative_tokens":%d}`, strconv.Quote(mtpMethod(v)), k)
	case "draft_model":
		// No method: the engine takes a model without a method for a draft.
		body = fmt.Sprintf(`{"model":%s,"num_speculative_tokens":%d}`, compactJSON(model), k)
	default:
		return nil, refuse("spec_method", "ValueError", "", "the methods are ngram, mtp and draft_model", "unknown speculative method %q", method)
	}
	args := []string{"--speculative-config", body}
	if k < 1 {
		return args, refuseSpecTokens(k)
	}
	if method == "mtp" {
		if e := refuseMTP(v, GLM46()); e != nil {
			return args, e
		}
	}
	if method == "draft_model" {
		if e := refuseDraft(v); e != nil {
			return args, e
		}
	}
	return args, nil
}

// oldSpecArgs spells speculation for releases before 0.8.3.
func oldSpecArgs(v Version, method, model string, k, lookupMin, lookupMax int) ([]string, error) {
	tokens := []string{"--num-speculative-tokens", strconv.Itoa(k)}
	switch method {
	case "ngram":
		// One given value stands for both, as in later releases.
		switch {
		case lookupMax <= 0 && lookupMin <= 0:
			lookupMin, lookupMax = defaultLookup, defaultLookup
		case lookupMax <= 0:
			lookupMax = lookupMin
		case lookupMin <= 0:
			lookupMin = lookupMax
		}
		args := append([]string{"--speculative-model", "[ngram]"}, tokens...)
		args = append(args, "--ngram-prompt-lookup-max", strconv.Itoa(lookupMax), "--ngram-prompt-lookup-min", strconv.Itoa(lookupMin))
		if k < 1 {
			return args, refuseSpecTokens(k)
		}
		return args, nil
	case "draft_model":
		args := append([]string{"--speculative-model", model}, tokens...)
		if k < 1 {
			return args, refuseSpecTokens(k)
		}
		return args, nil
	case "mtp":
		return tokens, refuseMTP(v, GLM46())
	}
	return nil, refuse("spec_method", "ValueError", "", "the methods are ngram, mtp and draft_model", "unknown speculative method %q", method)
}

// mtpMethod is what version v calls GLM-4.6's multi-token prediction.
func mtpMethod(v Version) string {
	if v.AtLeast("0.10.0") && !v.AtLeast("0.11.0") {
		return "glm4_moe_mtp"
	}
	return "mtp"
}

func refuseSpecTokens(k int) *RefusalError {
	return refuse("spec_tokens", "ValueError", "SpeculativeConfig", "at least one draft token is needed",
		"Expected num_speculative_tokens to be greater than zero (%d).", k)
}

// refuseMTP says why version v cannot run the model's MTP layer; nil if it can.
// Source: docs/vllm.md section 1.9.
func refuseMTP(v Version, m ModelShape) *RefusalError {
	if !v.AtLeast("0.10.0") || !m.HasMTP {
		return refuse("mtp_unknown", "ValueError", "SpeculativeConfig",
			fmt.Sprintf("vLLM %s does not know the MTP layer of %s (0.10.0 was the first, and its checkpoint loads since 0.11.1)", v, m.Name),
			"num_speculative_tokens was provided but without speculative model.")
	}
	if !v.AtLeast("0.11.1") {
		e := refuse("mtp_weights", "ValueError", "",
			fmt.Sprintf("vLLM %s cannot load the MTP weights of the GLM-4.6 checkpoint; use 0.11.1 or later", v),
			"Following weights were not initialized from checkpoint: {'model.embed_tokens.weight', 'model.layers.%d.shared_head.head.weight'}", m.Layers)
		e.AfterLoad = true
		return e
	}
	return nil
}

// refuseDraft says why version v cannot run a separate draft model; nil if it
// can. The V1 engine had none until about 0.15.
func refuseDraft(v Version) *RefusalError {
	if v.AtLeast("0.10.0") && !v.AtLeast("0.15.0") {
		return refuse("draft_model", "NotImplementedError", "SpeculativeConfig",
			fmt.Sprintf("vLLM %s has no draft models; use ngram or mtp, or 0.15.0 or later", v),
			"Speculative decoding with draft model is not supported yet. Please consider using other speculative decoding methods such as ngram, medusa, eagle, or deepseek_mtp.")
	}
	return nil
}

// DefaultGPUMemoryUtilization is 0.9 before 0.21 and 0.92 since.
//
// Source: docs/vllm.md section 1.8.
func DefaultGPUMemoryUtilization(v Version) float64 {
	if v.AtLeast("0.21.0") {
		return 0.92
	}
	return 0.9
}

// AsyncSchedulingDefault reports whether scheduling overlaps the GPU's step by
// default (since 0.14).
//
// Source: docs/vllm.md section 1.1.
func AsyncSchedulingDefault(v Version) bool { return v.AtLeast("0.14.0") }

// CUDAGraphMemoryCounted reports whether the memory of CUDA graphs is estimated
// and subtracted before the KV cache is sized (since 0.21).
//
// Source: docs/vllm.md section 1.8.
func CUDAGraphMemoryCounted(v Version) bool { return v.AtLeast("0.21.0") }

// ReserveFullISLDefault reports whether a waiting request is admitted only when
// its whole prompt fits the free KV blocks.
//
// Source: docs/vllm.md section 5, fact 7.
func ReserveFullISLDefault(v Version) bool { return v.AtLeast("0.19.0") }

// StrictFCFS reports whether, with chunked prefill off, the scheduler stops at
// a waiting request that does not fit the budget; before it tried later ones.
// The change lies between 0.11.1 and HEAD and is not dated: HEAD's behaviour is
// assumed from 0.27 on.
//
// Source: docs/vllm.md section 5, fact 4.
func StrictFCFS(v Version) bool { return v.AtLeast("0.27.0") }

// PrefixQueriesOnAdmission reports whether prefix-cache lookups are counted only
// when the request is admitted; before, every lookup counted. Not dated: see
// StrictFCFS.
//
// Source: docs/vllm.md section 5, fact 8.
func PrefixQueriesOnAdmission(v Version) bool { return v.AtLeast("0.27.0") }

// ModelSupported reports whether version v has the model's architecture.
// Glm4MoeForCausalLM came with 0.10.0; before, a real server would refuse it.
//
// Source: docs/vllm.md section 1.9.
func ModelSupported(v Version, m ModelShape) bool {
	return m.Architecture != "Glm4MoeForCausalLM" || v.AtLeast("0.10.0")
}
