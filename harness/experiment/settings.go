package experiment

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Settings are what a cell asks of the engine and of the load, resolved. The
// zero value is not valid: start from a plan's baseline.
//
// As JSON it is an object of variable names and strings, as in an environment;
// unset variables are absent.
type Settings struct {
	EnforceEager         bool
	EnableEP             bool
	ContextParallelSize  int // ranks; 1: off
	MaxModelLen          int // tokens
	KVCacheDtype         string
	EnablePrefixCaching  bool
	EnableChunkedPrefill bool
	// EnableMTP turns speculation on, by any method: the plan's name for it.
	EnableMTP bool
	// MTPNumTokens is the number of draft tokens; 0 without speculation.
	MTPNumTokens int
	// MTPMethod is "ngram" or "mtp"; "ngram" without speculation.
	MTPMethod string
	// SpeculativeModel is a draft model's path, "" for none. "[ngram]" is kept
	// as the method, not here.
	SpeculativeModel string
	// NumSamples of the data set are used.
	NumSamples int
	// MaxTokens caps every target; 0: no cap.
	MaxTokens            int
	GPUMemoryUtilization float64 // share of GPU memory, 0 to 1
	// SwapSpaceGiB per GPU; nil: not asked for.
	SwapSpaceGiB       *float64
	TensorParallelSize int
	Dtype              string
}

// Names of the variables of the job interface.
const (
	VarExpName              = "EXP_NAME"
	VarEnforceEager         = "ENFORCE_EAGER"
	VarEnableEP             = "ENABLE_EP"
	VarContextParallelSize  = "CONTEXT_PARALLEL_SIZE"
	VarMaxModelLen          = "MAX_MODEL_LEN"
	VarKVCacheDtype         = "KV_CACHE_DTYPE"
	VarEnablePrefixCaching  = "ENABLE_PREFIX_CACHING"
	VarEnableChunkedPrefill = "ENABLE_CHUNKED_PREFILL"
	VarEnableMTP            = "ENABLE_MTP"
	VarMTPNumTokens         = "MTP_NUM_TOKENS"
	VarMTPMethod            = "MTP_METHOD"
	VarSpeculativeModel     = "SPECULATIVE_MODEL"
	VarDatasetType          = "DATASET_TYPE"
	VarNumSamples           = "NUM_SAMPLES"
	VarMaxTokens            = "MAX_TOKENS"
	VarGPUMemoryUtilization = "GPU_MEMORY_UTILIZATION"
	VarSwapSpace            = "SWAP_SPACE"
	VarTensorParallelSize   = "TENSOR_PARALLEL_SIZE"
	VarDtype                = "DTYPE"
)

// A variable is one row of the job interface, in the order of the table.
type variable struct {
	name   string
	values string // what it takes, for messages
	flag   string // the vllm serve flag, for the parameter reference
	// parse sets the field, or says what is wrong with the value.
	parse func(s *Settings, value string) error
	// format gives the value back; false: unset.
	format func(s *Settings) (string, bool)
	// server: the server process depends on it.
	server bool
}

// Bounds of counts. They are far above anything real; they keep sums of tokens
// inside an int and a typing error from asking for a million-sample run.
const (
	maxCount       = 1_000_000
	maxTokens      = 100_000_000
	maxSwapGiB     = 1_000_000
	maxConcurrency = 100_000
)

// variables is the job interface but for EXP_NAME and DATASET_TYPE, which
// choose the cell and are no field of Settings.
var variables = []variable{
	yesNo(VarEnforceEager, "--enforce-eager", func(s *Settings) *bool { return &s.EnforceEager }),
	yesNo(VarEnableEP, "--enable-expert-parallel", func(s *Settings) *bool { return &s.EnableEP }),
	oneOfInts(VarContextParallelSize, "--decode-context-parallel-size", func(s *Settings) *int { return &s.ContextParallelSize }),
	{
		name: VarMaxModelLen, values: "a whole number of tokens, or 32k (32,000), or 32K (32,768)", flag: "--max-model-len", server: true,
		parse: func(s *Settings, v string) error {
			n, err := parseTokens(v)
			s.MaxModelLen = n
			return err
		},
		format: func(s *Settings) (string, bool) { return strconv.Itoa(s.MaxModelLen), true },
	},
	oneOf(VarKVCacheDtype, "--kv-cache-dtype", []string{"fp8", "auto"}, func(s *Settings) *string { return &s.KVCacheDtype }),
	yesNo(VarEnablePrefixCaching, "--enable-prefix-caching", func(s *Settings) *bool { return &s.EnablePrefixCaching }),
	yesNo(VarEnableChunkedPrefill, "--enable-chunked-prefill", func(s *Settings) *bool { return &s.EnableChunkedPrefill }),
	yesNo(VarEnableMTP, "--speculative-config", func(s *Settings) *bool { return &s.EnableMTP }),
	{
		name: VarMTPNumTokens, values: "1 to 8", flag: "--speculative-config", server: true,
		parse: func(s *Settings, v string) (err error) {
			s.MTPNumTokens, err = parseInt(v, 1, 8)
			return err
		},
		format: func(s *Settings) (string, bool) { return strconv.Itoa(s.MTPNumTokens), s.MTPNumTokens != 0 },
	},
	{
		name: VarMTPMethod, values: "ngram or mtp", flag: "--speculative-config", server: true,
		parse: func(s *Settings, v string) error {
			return oneOf(VarMTPMethod, "", []string{"ngram", "mtp"}, func(s *Settings) *string { return &s.MTPMethod }).parse(s, v)
		},
		format: func(s *Settings) (string, bool) { return s.MTPMethod, s.EnableMTP },
	},
	{
		name: VarSpeculativeModel, values: "[ngram] or the path of a draft model", flag: "--speculative-config", server: true,
		parse: func(s *Settings, v string) error {
			if err := checkDraftModel(v); err != nil {
				return err
			}
			s.SpeculativeModel = v
			return nil
		},
		format: func(s *Settings) (string, bool) { return s.SpeculativeModel, s.SpeculativeModel != "" },
	},
	{
		name: VarNumSamples, values: "a whole number, 1 or more",
		parse: func(s *Settings, v string) (err error) {
			s.NumSamples, err = parseInt(v, 1, maxCount)
			return err
		},
		format: func(s *Settings) (string, bool) { return strconv.Itoa(s.NumSamples), true },
	},
	{
		name: VarMaxTokens, values: "a whole number, 1 or more",
		parse: func(s *Settings, v string) (err error) {
			s.MaxTokens, err = parseInt(v, 1, maxTokens)
			return err
		},
		format: func(s *Settings) (string, bool) { return strconv.Itoa(s.MaxTokens), s.MaxTokens != 0 },
	},
	{
		name: VarGPUMemoryUtilization, values: "above 0, at most 1", flag: "--gpu-memory-utilization", server: true,
		parse: func(s *Settings, v string) (err error) {
			s.GPUMemoryUtilization, err = parseDecimal(v)
			if err == nil && (s.GPUMemoryUtilization <= 0 || s.GPUMemoryUtilization > 1) {
				err = errValue
			}
			return err
		},
		format: func(s *Settings) (string, bool) { return formatDecimal(s.GPUMemoryUtilization), true },
	},
	{
		name: VarSwapSpace, values: "GiB, 0 or more", flag: "--swap-space", server: true,
		parse: func(s *Settings, v string) error {
			gib, err := parseDecimal(v)
			if err == nil && gib > maxSwapGiB {
				err = errValue
			}
			s.SwapSpaceGiB = &gib
			return err
		},
		format: func(s *Settings) (string, bool) {
			if s.SwapSpaceGiB == nil {
				return "", false
			}
			return formatDecimal(*s.SwapSpaceGiB), true
		},
	},
	oneOfInts(VarTensorParallelSize, "--tensor-parallel-size", func(s *Settings) *int { return &s.TensorParallelSize }),
	oneOf(VarDtype, "--dtype", []string{"auto", "bfloat16", "float16"}, func(s *Settings) *string { return &s.Dtype }),
}

// errValue: the value is none of those that the variable takes.
var errValue = fmt.Errorf("not such a value")

func yesNo(name, flag string, field func(*Settings) *bool) variable {
	return variable{
		name: name, values: "yes or no", flag: flag, server: true,
		parse: func(s *Settings, v string) error {
			if v != "yes" && v != "no" {
				return errValue
			}
			*field(s) = v == "yes"
			return nil
		},
		format: func(s *Settings) (string, bool) {
			if *field(s) {
				return "yes", true
			}
			return "no", true
		},
	}
}

func oneOf(name, flag string, values []string, field func(*Settings) *string) variable {
	return variable{
		name: name, values: orList(values), flag: flag, server: true,
		parse: func(s *Settings, v string) error {
			if !slices.Contains(values, v) {
				return errValue
			}
			*field(s) = v
			return nil
		},
		format: func(s *Settings) (string, bool) { return *field(s), true },
	}
}

// oneOfInts takes the parallel sizes that one node of 8 GPUs has.
func oneOfInts(name, flag string, field func(*Settings) *int) variable {
	values := []string{"1", "2", "4", "8"}
	return variable{
		name: name, values: orList(values), flag: flag, server: true,
		parse: func(s *Settings, v string) error {
			if !slices.Contains(values, v) {
				return errValue
			}
			*field(s) = int(v[0] - '0')
			return nil
		},
		format: func(s *Settings) (string, bool) { return strconv.Itoa(*field(s)), true },
	}
}

func orList(values []string) string {
	last := len(values) - 1
	if last < 1 {
		return strings.Join(values, "")
	}
	return strings.Join(values[:last], ", ") + " or " + values[last]
}

// parseInt reads plain digits between least and most: no sign, blank,
// underscore or exponent.
func parseInt(v string, least, most int) (int, error) {
	if v == "" || len(v) > 12 || strings.Trim(v, "0123456789") != "" {
		return 0, errValue
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < least || n > most {
		return 0, errValue
	}
	return n, nil
}

// parseTokens reads a number of tokens, with vLLM's suffixes: k and m count in
// thousands, K and M in 1,024s.
//
// Source: vLLM's human_readable_int (vllm/engine/arg_utils.py); docs/plan-schema.md.
func parseTokens(v string) (int, error) {
	unit := 1
	switch {
	case strings.HasSuffix(v, "k"):
		unit = 1000
	case strings.HasSuffix(v, "K"):
		unit = 1 << 10
	case strings.HasSuffix(v, "m"):
		unit = 1000 * 1000
	case strings.HasSuffix(v, "M"):
		unit = 1 << 20
	}
	if unit != 1 {
		v = v[:len(v)-1]
	}
	n, err := parseInt(v, 1, maxTokens/unit)
	return n * unit, err
}

// parseDecimal reads digits with at most one point: no sign, exponent,
// infinity or hexadecimal form.
func parseDecimal(v string) (float64, error) {
	if v == "" || len(v) > 20 || strings.Trim(v, "0123456789.") != "" {
		return 0, errValue
	}
	f, err := strconv.ParseFloat(v, 64)
	if err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
		return 0, errValue
	}
	return f, nil
}

func formatDecimal(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// checkDraftModel refuses what is no path or model name: it becomes an argument
// of its own, so a leading dash would be read as a flag.
func checkDraftModel(v string) error {
	if v == "[ngram]" {
		return nil
	}
	if v == "" || len(v) > 1024 || v[0] == '-' || v[0] == '[' || v != strings.TrimSpace(v) {
		return errValue
	}
	for _, r := range v {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+=@: ", r)) {
			return errValue
		}
	}
	return nil
}

func lookupVariable(name string) (variable, bool) {
	for _, v := range variables {
		if v.name == name {
			return v, true
		}
	}
	return variable{}, false
}

// Variables are the names of the job interface, in the order of its table.
func Variables() []string {
	names := []string{VarExpName}
	for _, v := range variables {
		if v.name == VarNumSamples {
			names = append(names, VarDatasetType)
		}
		names = append(names, v.name)
	}
	return names
}

// Set gives one variable a value. It fails with a *UsageError that names the
// variable and what it takes; then s is not changed. EXP_NAME and DATASET_TYPE
// are no settings and fail too.
func (s *Settings) Set(name, value string) error {
	v, ok := lookupVariable(name)
	if !ok {
		return &UsageError{What: fmt.Sprintf("unknown variable %s", quote(name)), Nearest: Nearest(name, Variables())}
	}
	changed := *s
	if err := v.parse(&changed, value); err != nil {
		hint := ""
		if value == "" {
			hint = "; leave it unset for the experiment's own value"
		}
		return usagef("%s: want %s, got %s%s", name, v.values, quote(value), hint)
	}
	*s = changed
	return nil
}

// Vars gives the settings as variables, in the order of the table; unset ones
// are left out. Setting them all on any Settings gives s back.
func (s Settings) Vars() []EnvVar {
	var out []EnvVar
	for _, v := range variables {
		if value, ok := v.format(&s); ok {
			out = append(out, EnvVar{v.name, value})
		}
	}
	return out
}

// MarshalJSON writes an object of variable names and string values.
func (s Settings) MarshalJSON() ([]byte, error) {
	var b strings.Builder
	b.WriteByte('{')
	for i, v := range s.Vars() {
		if i > 0 {
			b.WriteByte(',')
		}
		value, err := json.Marshal(v.Value)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "%q:%s", v.Name, value)
	}
	b.WriteByte('}')
	return []byte(b.String()), nil
}

// UnmarshalJSON reads what MarshalJSON wrote. Names that this version does not
// know fail, since a setting that is not understood must not be dropped.
func (s *Settings) UnmarshalJSON(data []byte) error {
	var m map[string]string
	if err := json.Unmarshal(data, &m); err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	out := Settings{MTPMethod: "ngram"}
	for _, v := range variables {
		if value, ok := m[v.name]; ok {
			if err := out.Set(v.name, value); err != nil {
				return fmt.Errorf("settings: %w", err)
			}
			delete(m, v.name)
		}
	}
	for name := range m {
		return fmt.Errorf("settings: unknown variable %s", quote(name))
	}
	*s = out
	return nil
}

// normalize brings settings that mean the same into one form, so that they
// hash the same, and refuses combinations that mean nothing.
func (s Settings) normalize() (Settings, error) {
	if !s.EnableMTP {
		s.MTPNumTokens, s.MTPMethod, s.SpeculativeModel = 0, "ngram", ""
		return s, nil
	}
	if s.MTPNumTokens == 0 {
		return s, usagef("%s=yes needs %s (1 to 8)", VarEnableMTP, VarMTPNumTokens)
	}
	if s.SpeculativeModel != "" && s.MTPMethod == "mtp" {
		return s, usagef("%s does not go with %s=mtp, which drafts with the model's own layer; unset one of them", VarSpeculativeModel, VarMTPMethod)
	}
	if s.SpeculativeModel == "[ngram]" {
		s.SpeculativeModel = ""
	}
	return s, nil
}
