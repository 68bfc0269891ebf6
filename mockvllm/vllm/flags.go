package vllm

import (
	"slices"
	"strings"
	"sync"
)

// FlagKind says how a flag takes its value.
type FlagKind int

const (
	// FlagSwitch takes no value and has no negative form.
	FlagSwitch FlagKind = iota
	// FlagBool is --x or --no-x.
	FlagBool
	// FlagString, FlagInt, FlagFloat take one value.
	FlagString
	FlagInt
	FlagFloat
	// FlagHumanInt takes one whole number that may carry a suffix: 32k is
	// 32000, 32K is 32768 (HumanInt).
	FlagHumanInt
	// FlagChoice takes one of Choices.
	FlagChoice
	// FlagJSON takes a JSON object, or dotted parts: --x.key value.
	FlagJSON
	// FlagList takes one or more values; FlagAppend one value each time.
	FlagList
	FlagAppend
)

// String gives the kind as `list --parameters` prints it.
func (k FlagKind) String() string {
	names := [...]string{"switch", "bool", "text", "int", "float", "int (k, K, m, M...)", "choice", "json", "list", "repeated"}
	if k < 0 || int(k) >= len(names) {
		return "unknown"
	}
	return names[k]
}

// Flag is one option of `vllm serve`.
type Flag struct {
	// Name is the long form, such as "--max-model-len".
	Name string
	// Aliases are other spellings, such as "-tp".
	Aliases []string
	Kind    FlagKind
	// Choices of a FlagChoice.
	Choices []string
	// Since is the first release that has the flag, Until the first that does
	// not; zero is open.
	Since, Until Version
	// DefaultText is the default in the asked version, in plain words where it
	// depends on something. Filled in by Flags and LookupFlag.
	DefaultText string
	// Deprecated: taken with a warning, without effect.
	Deprecated bool
	// Help says in our words what it does.
	Help string

	defaults []versionText
	// negSince is the first release with --no-x (zero: always).
	negSince Version
	// humanSince is the first release that takes suffixes (zero: always).
	humanSince Version
}

// versionText is a text that holds from a release on.
type versionText struct {
	since Version
	text  string
}

// DefaultFor gives the default in version v, as text; "" means chosen by the
// engine.
func (f Flag) DefaultFor(v Version) string {
	out := ""
	for _, d := range f.defaults {
		if d.since.IsZero() || v.Compare(d.since) >= 0 {
			out = d.text
		}
	}
	return out
}

// In reports whether version v has the flag.
func (f Flag) In(v Version) bool { return v.within(f.Since, f.Until) }

// Negative gives the flag's "--no-..." spelling in version v, "" if it has
// none.
func (f Flag) Negative(v Version) string {
	if f.Kind != FlagBool || !v.within(f.negSince, Version{}) {
		return ""
	}
	return "--no-" + strings.TrimPrefix(f.Name, "--")
}

// kindFor is the kind in version v: some booleans were switches at first, and
// suffixed numbers plain ones.
func (f Flag) kindFor(v Version) FlagKind {
	switch {
	case f.Kind == FlagBool && !v.within(f.negSince, Version{}):
		return FlagSwitch
	case f.Kind == FlagHumanInt && !v.within(f.humanSince, Version{}):
		return FlagInt
	}
	return f.Kind
}

// resolved is f as version v has it.
func (f Flag) resolved(v Version) Flag {
	f.DefaultText = f.DefaultFor(v)
	f.Kind = f.kindFor(v)
	f.Aliases = slices.Clone(f.Aliases)
	f.Choices = slices.Clone(f.Choices)
	return f
}

// Flags lists the options of `vllm serve` in version v, sorted by name.
func Flags(v Version) []Flag {
	var out []Flag
	for _, f := range flagTable() {
		if f.In(v) {
			out = append(out, f.resolved(v))
		}
	}
	return out
}

// AllFlags lists the options of every version, sorted by name. DefaultText is
// empty: ask DefaultFor.
func AllFlags() []Flag { return slices.Clone(flagTable()) }

// LookupFlag finds an option of version v by its long name or an alias, as
// written ("--max-model-len", "-tp"); no abbreviation.
func LookupFlag(v Version, name string) (Flag, bool) {
	for _, f := range flagTable() {
		if f.In(v) && (f.Name == name || slices.Contains(f.Aliases, name)) {
			return f.resolved(v), true
		}
	}
	return Flag{}, false
}

// HasFlag reports whether version v knows the flag of that long name or alias.
func HasFlag(v Version, name string) bool {
	_, ok := LookupFlag(v, name)
	return ok
}

// flagRow is a line of the table: name and aliases parted by blanks; kind, with
// choices after ":" or the first release of the negative form after "@"; the
// releases "since-until"; the defaults "text" or "text;release=text".
type flagRow struct{ names, kind, when, def, help string }

var flagTable = sync.OnceValue(func() []Flag {
	out := make([]Flag, 0, len(flagRows))
	for _, r := range flagRows {
		out = append(out, r.flag())
	}
	slices.SortStableFunc(out, func(a, b Flag) int { return strings.Compare(a.Name, b.Name) })
	return out
})

func (r flagRow) flag() Flag {
	names := strings.Fields(r.names)
	f := Flag{Name: names[0], Aliases: names[1:], Help: r.help}
	kind, choices, _ := strings.Cut(r.kind, ":")
	kind, from, _ := strings.Cut(kind, "@")
	if k, dead := strings.CutPrefix(kind, "!"); dead {
		kind, f.Deprecated = k, true
	}
	f.Kind = map[string]FlagKind{
		"switch": FlagSwitch, "bool": FlagBool, "str": FlagString, "int": FlagInt, "float": FlagFloat,
		"human": FlagHumanInt, "choice": FlagChoice, "json": FlagJSON, "list": FlagList, "append": FlagAppend,
	}[kind]
	if choices != "" {
		f.Choices = strings.Split(choices, ",")
	}
	if from != "" {
		if f.Kind == FlagHumanInt {
			f.humanSince = MustVersion(from)
		} else {
			f.negSince = MustVersion(from)
		}
	}
	since, until, _ := strings.Cut(r.when, "-")
	if since != "" {
		f.Since = MustVersion(since)
	}
	if until != "" {
		f.Until = MustVersion(until)
	}
	for _, d := range strings.Split(r.def, ";") {
		var t versionText
		if at, text, ok := strings.Cut(d, "="); ok && versionPattern.MatchString(at) {
			t = versionText{MustVersion(at), text}
		} else {
			t = versionText{text: d}
		}
		f.defaults = append(f.defaults, t)
	}
	return f
}

// flagRows is the table of flags. Releases are those of docs/vllm.md section
// 1.1 where it names the flag; the rest of the list is there so that a command
// line written for a real server is taken, and its releases may be off by one
// or two (docs/vllm.md, "How sure"). Booleans became --x / --no-x pairs when
// the flags were generated from the configuration classes, about 0.9.0; those
// of the front end about 0.10.0.
var flagRows = []flagRow{
	// Front end: vllm/entrypoints/openai/cli_args.py.
	{"--host", "str", "", "all interfaces", "address to listen on"},
	{"--port", "int", "", "8000", "port to listen on"},
	{"--uds", "str", "0.10.2", "", "Unix socket to listen on instead"},
	{"--config", "str", "", "", "YAML file of arguments"},
	{"--api-key", "str", "-0.10.2", "", "key that clients must send"},
	{"--api-key", "list", "0.10.2", "", "keys that clients must send"},
	{"--uvicorn-log-level", "choice:critical,debug,error,info,trace,warning", "", "info", "log level of the HTTP server"},
	{"--disable-uvicorn-access-log", "bool@0.10.0", "", "false", "no access log"},
	{"--disable-access-log-for-endpoints", "str", "0.15.0", "", "paths without access log"},
	{"--allow-credentials", "bool@0.10.0", "", "false", "CORS"},
	{"--allowed-origins", "str", "", "[\"*\"]", "CORS"},
	{"--allowed-methods", "str", "", "[\"*\"]", "CORS"},
	{"--allowed-headers", "str", "", "[\"*\"]", "CORS"},
	{"--lora-modules", "list", "", "", "adapters to serve"},
	{"--prompt-adapters", "list", "-0.10.1", "", "prompt adapters to serve"},
	{"--chat-template", "str", "", "the model's", "chat template"},
	{"--chat-template-content-format", "choice:auto,openai,string", "", "auto", "form of message contents in the template"},
	{"--trust-request-chat-template", "bool", "0.10.2", "false", "take templates from requests"},
	{"--default-chat-template-kwargs", "json", "0.14.0", "", "template arguments of every request"},
	{"--response-role", "str", "", "assistant", "role name in answers"},
	{"--ssl-keyfile", "str", "", "", "TLS"},
	{"--ssl-certfile", "str", "", "", "TLS"},
	{"--ssl-ca-certs", "str", "", "", "TLS"},
	{"--enable-ssl-refresh", "bool@0.10.0", "0.8.0", "false", "TLS"},
	{"--ssl-cert-reqs", "int", "", "0", "TLS"},
	{"--ssl-ciphers", "str", "0.14.0", "", "TLS"},
	{"--root-path", "str", "", "", "path prefix behind a proxy"},
	{"--middleware", "append", "", "", "ASGI middleware"},
	{"--return-tokens-as-token-ids", "bool@0.10.0", "", "false", "token names as ids in logprobs"},
	{"--disable-frontend-multiprocessing", "bool@0.10.0", "", "false", "front end in the engine's process"},
	{"--enable-request-id-headers", "bool@0.10.0", "", "false", "echo X-Request-Id"},
	{"--enable-auto-tool-choice", "bool@0.10.0", "", "false", "let the model choose tools"},
	{"--exclude-tools-when-tool-choice-none", "bool", "0.10.1", "false", "leave tools out of the prompt"},
	{"--tool-call-parser", "str", "", "", "parser of tool calls (glm45 since 0.10.0)"},
	{"--tool-parser-plugin", "str", "", "", "parser to load"},
	{"--tool-server", "str", "0.10.1", "", "demo tools"},
	{"--log-config-file", "str", "0.10.2", "", "logging configuration"},
	{"--max-log-len", "int", "", "unlimited", "characters of a logged prompt"},
	{"--disable-fastapi-docs", "bool@0.10.0", "", "false", "no documentation routes"},
	{"--enable-prompt-tokens-details", "bool@0.10.0", "", "false", "cached tokens in usage"},
	{"--enable-server-load-tracking", "bool@0.10.0", "0.8.0", "false", "count requests for GET /load"},
	{"--enable-force-include-usage", "bool@0.10.0", "0.9.0", "false", "usage in every stream"},
	{"--enable-tokenizer-info-endpoint", "bool", "0.10.1", "false", "GET /tokenizer_info"},
	{"--enable-log-outputs", "bool", "0.10.2", "false", "log answers"},
	{"--enable-log-deltas", "bool", "0.13.0", "true", "log the pieces of streams"},
	{"--log-error-stack", "bool", "0.11.1", "false", "stack traces of failed requests"},
	{"--h11-max-incomplete-event-size", "int", "0.10.1", "4194304", "HTTP header limit, bytes"},
	{"--h11-max-header-count", "int", "0.10.1", "256", "HTTP header limit"},
	{"--tokens-only", "bool", "0.12.0", "false", "token-id interface only"},
	{"--enable-offline-docs", "bool", "0.15.0", "false", "documentation without network"},
	{"--headless", "bool@0.10.0", "0.9.0", "false", "engine without API server"},
	{"--api-server-count -asc", "int", "0.9.0", "1", "API server processes"},
	{"--data-parallel-start-rank -dpr", "int", "0.9.0", "", "first rank of this node"},
	{"--shutdown-timeout", "int", "0.19.0", "0", "seconds for running requests at stop"},
	{"--fingerprint-mode", "choice:full,hash,custom,none", "0.21.0", "full", "system_fingerprint of answers"},
	{"--fingerprint-value", "str", "0.21.0", "", "system_fingerprint in mode custom"},
	{"--enable-log-requests", "bool", "0.10.1", "false", "log every request"},
	{"--disable-log-requests", "!bool@0.10.1", "-0.18.0", "false;0.10.1=true", "log no requests (on by default before 0.10.1)"},
	{"--disable-log-stats", "bool@0.12.0", "", "false", "no periodic statistics, no metrics"},
	{"--aggregate-engine-logging", "bool@0.14.0", "0.12.0", "false", "one statistics line for all engines"},

	// Model: vllm/config/model.py.
	{"--model", "str", "", "", "model name or path (deprecated in serve: give it as first argument)"},
	{"--task", "choice:auto,classify,draft,embed,embedding,generate,reward,score,transcription", "-0.14.0", "auto", "what the model is for"},
	{"--runner", "choice:auto,draft,generate,pooling", "0.10.1", "auto", "kind of model runner"},
	{"--convert", "choice:auto,classify,embed,none,reward", "0.10.1", "auto", "adapter on the model"},
	{"--tokenizer", "str", "", "the model's", "tokenizer name or path"},
	{"--tokenizer-mode", "str", "", "auto", "kind of tokenizer"},
	{"--trust-remote-code", "bool@0.9.0", "", "false", "run code that comes with the model"},
	{"--dtype", "choice:auto,bfloat16,float,float16,float32,half", "", "auto", "type of weights and activations"},
	{"--seed", "int", "", "none;0.11.0=0", "random seed"},
	{"--hf-config-path", "str", "0.8.5", "", "where config.json is"},
	{"--allowed-local-media-path", "str", "", "", "local files that requests may name"},
	{"--allowed-media-domains", "list", "0.11.1", "", "hosts that requests may name"},
	{"--revision", "str", "", "", "model revision"},
	{"--code-revision", "str", "", "", "code revision"},
	{"--tokenizer-revision", "str", "", "", "tokenizer revision"},
	{"--rope-scaling", "json", "-0.12.0", "", "RoPE"},
	{"--rope-theta", "float", "-0.12.0", "", "RoPE"},
	{"--max-model-len", "human@0.8.4", "", "the model's own", "longest request, prompt and output, in tokens"},
	{"--quantization -q", "str", "", "the model's own", "weight quantization"},
	{"--allow-deprecated-quantization", "bool", "0.15.0", "false", "take old methods"},
	{"--enforce-eager", "bool@0.9.0", "", "false", "no torch.compile, no CUDA graphs"},
	{"--enable-return-routed-experts", "bool", "0.14.0", "false", "routing in answers"},
	{"--max-seq-len-to-capture", "int", "-0.11.0", "8192", "longest sequence in a CUDA graph (V0)"},
	{"--max-logprobs", "int", "", "20", "most log probabilities of a request"},
	{"--logprobs-mode", "choice:processed_logits,processed_logprobs,raw_logits,raw_logprobs", "0.10.0", "raw_logprobs", "which log probabilities"},
	{"--disable-sliding-window", "bool@0.9.0", "", "false", "full attention only"},
	{"--disable-cascade-attn", "bool@0.9.0", "0.8.5", "false;0.14.0=true", "no cascade attention"},
	{"--skip-tokenizer-init", "bool@0.9.0", "", "false", "no tokenizer"},
	{"--enable-prompt-embeds", "bool", "0.9.0", "false", "embeddings as prompts"},
	{"--served-model-name", "list", "", "the model as given", "ids that the API shows"},
	{"--use-async-output-proc", "bool", "-0.9.0", "true", "V0"},
	{"--disable-async-output-proc", "switch", "-0.11.0", "false", "V0"},
	{"--config-format", "str", "", "auto", "form of the model's configuration"},
	{"--hf-token", "str", "0.8.3", "", "hub token"},
	{"--hf-overrides", "json", "", "{}", "changes to config.json"},
	{"--override-neuron-config", "json", "-0.11.0", "", "other hardware"},
	{"--override-pooler-config", "json", "-0.14.0", "", "pooling models"},
	{"--pooler-config", "json", "0.11.1", "", "pooling models"},
	{"--logits-processor-pattern", "str", "-0.17.0", "", "processors that requests may name"},
	{"--logits-processors", "list", "0.10.1", "", "processors to load"},
	{"--generation-config", "str", "", "auto", "sampling defaults: the model's (auto) or vLLM's (vllm)"},
	{"--override-generation-config", "json", "", "{}", "changes to them"},
	{"--enable-sleep-mode", "bool@0.9.0", "0.7.0", "false", "sleep mode"},
	{"--model-impl", "str", "0.7.0", "auto", "which implementation of the model"},
	{"--override-attention-dtype", "str", "0.10.0", "", "ROCm"},
	{"--io-processor-plugin", "str", "0.11.0", "", "plug-in"},
	{"--renderer-num-workers", "int", "0.18.0", "1", "threads of the chat renderer"},

	// Loading: vllm/config/load.py.
	{"--load-format", "str", "", "auto", "form of the weights; dummy: random ones"},
	{"--download-dir", "str", "", "", "where weights are kept"},
	{"--safetensors-load-strategy", "choice:eager,lazy,prefetch,torchao", "0.11.0", "lazy", "how shards are read (prefetch since 0.18)"},
	{"--model-loader-extra-config", "json", "", "{}", "loader's options"},
	{"--ignore-patterns", "list", "", "", "files not to load"},
	{"--use-tqdm-on-load", "bool@0.9.0", "0.8.3", "true", "progress bar"},
	{"--pt-load-map-location", "str", "0.9.0", "cpu", "where to load to"},
	{"--qlora-adapter-name-or-path", "str", "-0.10.1", "", "QLoRA"},

	// Decoding, structured outputs, reasoning.
	{"--guided-decoding-backend", "str", "-0.12.0", "auto", "structured outputs"},
	{"--guided-decoding-disable-fallback", "bool", "0.9.0-0.12.0", "false", "structured outputs"},
	{"--guided-decoding-disable-any-whitespace", "bool", "0.9.0-0.12.0", "false", "structured outputs"},
	{"--guided-decoding-disable-additional-properties", "bool", "0.9.0-0.12.0", "false", "structured outputs"},
	{"--structured-outputs-config", "json", "0.11.0", "", "structured outputs"},
	{"--enable-reasoning", "bool@0.9.0", "0.7.0-0.10.0", "false", "needed beside --reasoning-parser then"},
	{"--reasoning-parser", "str", "0.7.0", "", "parser of thinking (glm45 since 0.10.0)"},
	{"--reasoning-parser-plugin", "str", "0.13.0", "", "parser to load"},
	{"--reasoning-config", "json", "0.18.0", "", "thinking budget"},

	// Parallelism: vllm/config/parallel.py.
	{"--distributed-executor-backend", "choice:external_launcher,mp,ray,uni", "", "mp on one node", "how workers are started"},
	{"--pipeline-parallel-size -pp", "int", "", "1", "pipeline stages"},
	{"--tensor-parallel-size -tp", "int", "", "1", "GPUs that share every layer"},
	{"--decode-context-parallel-size -dcp", "int", "0.10.2", "1", "ranks that share a request's KV cache in decode"},
	{"--prefill-context-parallel-size -pcp", "int", "0.12.0", "1", "ranks that share a prompt in prefill"},
	{"--dcp-kv-cache-interleave-size", "int", "0.12.0", "1", "context parallelism"},
	{"--cp-kv-cache-interleave-size", "int", "0.12.0", "1", "context parallelism"},
	{"--dcp-comm-backend", "str", "0.17.0", "ag_rs", "context parallelism"},
	{"--data-parallel-size -dp", "int", "0.8.0", "1", "replicas of the engine"},
	{"--data-parallel-rank -dpn", "int", "0.9.2", "", "rank of this replica"},
	{"--data-parallel-size-local -dpl", "int", "0.8.5", "", "replicas on this node"},
	{"--data-parallel-address -dpa", "str", "0.8.5", "", "head node"},
	{"--data-parallel-rpc-port -dpp", "int", "0.8.5", "", "head node's port"},
	{"--data-parallel-backend -dpb", "str", "0.9.0", "mp", "how replicas are started"},
	{"--data-parallel-hybrid-lb -dph", "bool", "0.10.0", "false", "who balances"},
	{"--data-parallel-external-lb -dpe", "bool", "0.11.1", "false", "who balances"},
	{"--enable-expert-parallel -ep", "bool@0.9.0", "0.8.0", "false", "whole experts on ranks instead of slices of all"},
	{"--all2all-backend", "str", "0.11.0", "allgather_reducescatter", "expert parallelism with data parallelism"},
	{"--enable-ep-weight-filter", "bool", "0.18.0", "false", "read own experts only"},
	{"--enable-dbo", "bool", "0.10.2", "false", "dual batch overlap"},
	{"--ubatch-size", "int", "0.14.0", "0", "dual batch overlap"},
	{"--dbo-decode-token-threshold", "int", "0.10.2", "32", "dual batch overlap"},
	{"--dbo-prefill-token-threshold", "int", "0.11.0", "512", "dual batch overlap"},
	{"--disable-nccl-for-dp-synchronization", "bool", "0.11.1", "false", "data parallelism"},
	{"--enable-eplb", "bool", "0.9.2", "false", "move experts by load"},
	{"--eplb-config", "json", "0.10.2", "", "move experts by load"},
	{"--num-redundant-experts", "int", "0.9.2-0.12.0", "0", "copies of hot experts"},
	{"--eplb-window-size", "int", "0.9.2-0.12.0", "1000", "move experts by load"},
	{"--eplb-step-interval", "int", "0.9.2-0.12.0", "3000", "move experts by load"},
	{"--eplb-log-balancedness", "bool", "0.9.2-0.12.0", "false", "move experts by load"},
	{"--expert-placement-strategy", "choice:linear,round_robin", "0.11.0", "linear", "which experts a rank gets"},
	{"--max-parallel-loading-workers", "int", "", "", "workers that load at once"},
	{"--ray-workers-use-nsight", "bool@0.9.0", "", "false", "profiling"},
	{"--disable-custom-all-reduce", "bool@0.9.0", "", "false", "NCCL only"},
	{"--worker-cls", "str", "", "auto", "worker class"},
	{"--worker-extension-cls", "str", "0.8.0", "", "worker extension"},
	{"--enable-multimodal-encoder-data-parallel", "bool", "0.10.0-0.12.0", "false", "multimodal models"},
	{"--nnodes -n", "int", "0.12.0", "1", "nodes"},
	{"--node-rank -r", "int", "0.12.0", "0", "this node"},
	{"--master-addr", "str", "0.12.0", "127.0.0.1", "head node"},
	{"--master-port", "int", "0.12.0", "29501", "head node's port"},
	{"--numa-bind", "bool", "0.20.0", "false", "bind workers to memory nodes"},

	// KV cache: vllm/config/cache.py.
	{"--block-size", "int", "", "16", "tokens of a KV block"},
	{"--gpu-memory-utilization", "float", "", "0.9;0.21.0=0.92", "share of GPU memory that the engine may use"},
	{"--kv-cache-memory-bytes", "human", "0.10.2", "", "KV cache of a GPU, instead of what is left"},
	{"--swap-space", "float", "-0.18.0", "4", "GiB of CPU memory; without effect since the V1 engine"},
	{"--kv-cache-dtype", "choice:auto,bfloat16,fp8,fp8_ds_mla,fp8_e4m3,fp8_e5m2,fp8_inc", "", "auto", "type of the KV cache"},
	{"--num-gpu-blocks-override", "int", "", "", "KV blocks, instead of what fits"},
	{"--enable-prefix-caching", "bool", "", "false;0.8.0=true", "keep KV blocks for equal prompt starts"},
	{"--prefix-caching-hash-algo", "str", "0.8.3", "builtin;0.10.2=sha256", "hash of the prefix cache"},
	{"--cpu-offload-gb", "float", "", "0", "GiB of weights kept in CPU memory"},
	{"--calculate-kv-scales", "bool@0.9.0", "0.7.0", "false", "fp8 KV scales while running"},
	{"--kv-sharing-fast-prefill", "bool", "0.10.1", "false", "models that share KV"},
	{"--mamba-cache-dtype", "str", "0.10.1", "auto", "Mamba models"},
	{"--mamba-ssm-cache-dtype", "str", "0.10.1", "auto", "Mamba models"},
	{"--mamba-block-size", "int", "0.11.1", "", "Mamba models"},
	{"--mamba-cache-mode", "str", "0.15.0", "none", "Mamba models"},
	{"--kv-offloading-size", "float", "0.11.1", "", "GiB of CPU memory for KV blocks"},
	{"--kv-offloading-backend", "str", "0.11.1", "", "who offloads"},
	{"--kv-cache-dtype-skip-layers", "list", "0.19.0", "", "layers kept in the model's type"},
	{"--use-v2-block-manager", "switch", "-0.10.0", "true", "V0"},
	{"--num-lookahead-slots", "int", "-0.11.0", "0", "V0"},
	{"--preemption-mode", "str", "-0.11.0", "", "V0"},

	// Multimodal.
	{"--limit-mm-per-prompt", "str", "", "", "multimodal models"},
	{"--enable-mm-embeds", "bool", "0.12.0", "false", "multimodal models"},
	{"--media-io-kwargs", "json", "0.10.0", "", "multimodal models"},
	{"--mm-processor-kwargs", "json", "", "", "multimodal models"},
	{"--disable-mm-preprocessor-cache", "bool@0.9.0", "-0.12.0", "false", "multimodal models"},
	{"--mm-processor-cache-gb", "float", "0.10.1", "4", "multimodal models"},
	{"--mm-processor-cache-type", "str", "0.11.0", "lru", "multimodal models"},
	{"--mm-shm-cache-max-object-size-mb", "int", "0.11.0", "128", "multimodal models"},
	{"--mm-encoder-only", "bool", "0.12.0", "false", "multimodal models"},
	{"--mm-encoder-tp-mode", "str", "0.10.1", "weights", "multimodal models"},
	{"--mm-encoder-attn-backend", "str", "0.12.0", "", "multimodal models"},
	{"--interleave-mm-strings", "bool", "0.10.1", "false", "multimodal models"},
	{"--skip-mm-profiling", "bool", "0.10.1", "false", "multimodal models"},
	{"--video-pruning-rate", "float", "0.11.1", "", "multimodal models"},
	{"--language-model-only", "bool", "0.15.0", "false", "multimodal models"},

	// LoRA.
	{"--enable-lora", "bool@0.9.0", "", "false", "adapters"},
	{"--enable-lora-bias", "bool@0.9.0", "-0.12.0", "false", "adapters"},
	{"--max-loras", "int", "", "1", "adapters"},
	{"--max-lora-rank", "int", "", "16", "adapters"},
	{"--lora-extra-vocab-size", "int", "-0.12.0", "256", "adapters"},
	{"--lora-dtype", "str", "", "auto", "adapters"},
	{"--long-lora-scaling-factors", "list", "-0.10.0", "", "adapters"},
	{"--max-cpu-loras", "int", "", "", "adapters"},
	{"--fully-sharded-loras", "bool@0.9.0", "", "false", "adapters"},
	{"--default-mm-loras", "json", "0.10.0", "", "adapters"},
	{"--enable-tower-connector-lora", "bool", "0.14.0", "false", "adapters"},
	{"--specialize-active-lora", "bool", "0.16.0", "false", "adapters"},
	{"--enable-prompt-adapter", "bool@0.9.0", "-0.10.1", "false", "prompt adapters"},
	{"--max-prompt-adapters", "int", "-0.10.1", "1", "prompt adapters"},
	{"--max-prompt-adapter-token", "int", "-0.10.1", "0", "prompt adapters"},

	// Observability.
	{"--show-hidden-metrics-for-version", "str", "0.8.0", "", "metrics that this release hides"},
	{"--otlp-traces-endpoint", "str", "", "", "tracing"},
	{"--collect-detailed-traces", "str", "", "", "tracing"},
	{"--kv-cache-metrics", "bool", "0.12.0", "false", "block residency metrics"},
	{"--kv-cache-metrics-sample", "float", "0.12.0", "0.01", "block residency metrics"},
	{"--cudagraph-metrics", "bool", "0.12.0", "false", "graph metrics"},
	{"--enable-layerwise-nvtx-tracing", "bool", "0.14.0", "false", "profiling"},
	{"--enable-mfu-metrics", "bool", "0.14.0", "false", "model FLOP utilization"},
	{"--enable-logging-iteration-details", "bool", "0.15.0", "false", "a line each step"},
	{"--profiler-config", "json", "0.13.0", "", "profiling"},

	// Scheduler: vllm/config/scheduler.py.
	{"--max-num-batched-tokens", "human@0.9.0", "", "8192 (H100, H200)", "token budget of a step"},
	{"--max-num-seqs", "int", "", "256;0.8.0=1024 (H100, H200)", "requests running at once"},
	{"--max-num-scheduled-tokens", "int", "0.26.0", "", "tokens scheduled in a step"},
	{"--max-num-partial-prefills", "int", "0.7.0-0.25.0", "1", "prompts in progress (must be 1 on V1)"},
	{"--max-long-partial-prefills", "int", "0.7.0-0.25.0", "1", "long prompts in progress"},
	{"--long-prefill-token-threshold", "int", "0.7.0", "0", "longest chunk of a prompt, 0: the budget"},
	{"--num-scheduler-steps", "int", "-0.10.2", "1", "V0"},
	{"--multi-step-stream-outputs", "bool@0.9.0", "-0.10.2", "true", "V0"},
	{"--scheduler-delay-factor", "float", "-0.11.0", "0", "V0"},
	{"--scheduling-policy", "choice:fcfs,priority", "", "fcfs", "order of waiting requests"},
	{"--enable-chunked-prefill", "bool", "", "true", "split prompts over steps; cannot be turned off from 0.8.0 to 0.11.0"},
	{"--disable-chunked-mm-input", "bool@0.9.0", "0.8.3", "false", "multimodal models"},
	{"--scheduler-cls", "str", "0.7.0", "", "scheduler class"},
	{"--disable-hybrid-kv-cache-manager", "bool", "0.9.2", "false", "hybrid models"},
	{"--async-scheduling", "bool", "0.10.0", "false;0.14.0=true", "schedule the next step while the GPU works"},
	{"--stream-interval", "int", "0.11.1", "1", "tokens between two chunks of a stream"},
	{"--performance-mode", "choice:balanced,interactivity,throughput", "0.17.0", "balanced", "bundle of defaults"},
	{"--scheduler-reserve-full-isl", "bool", "0.19.0", "true", "admit only if the whole prompt fits the KV cache"},
	{"--watermark", "float", "0.24.0", "0", "share of KV blocks kept free at admission"},
	{"--prefill-schedule-interval", "int", "0.24.0", "1", "steps between prefills"},

	// Speculation, compilation, the rest: vllm/config.
	{"--speculative-config", "json", "0.8.2", "", "speculative decoding"},
	{"--spec-method", "str", "0.22.0", "", "short for speculative-config.method"},
	{"--spec-model", "str", "0.22.0", "", "short for speculative-config.model"},
	{"--spec-tokens", "int", "0.22.0", "", "short for speculative-config.num_speculative_tokens"},
	{"--speculative-model", "str", "-0.8.3", "", "draft model, or [ngram]"},
	{"--num-speculative-tokens", "int", "-0.8.3", "", "draft tokens of a step"},
	{"--ngram-prompt-lookup-max", "int", "-0.8.3", "", "longest n-gram looked up"},
	{"--ngram-prompt-lookup-min", "int", "-0.8.3", "", "shortest n-gram looked up"},
	{"--speculative-model-quantization", "str", "-0.8.3", "", "draft model"},
	{"--speculative-draft-tensor-parallel-size -spec-draft-tp", "int", "-0.8.3", "", "draft model"},
	{"--speculative-disable-mqa-scorer", "switch", "-0.8.3", "false", "draft model"},
	{"--speculative-max-model-len", "int", "-0.8.3", "", "draft model"},
	{"--speculative-disable-by-batch-size", "int", "-0.8.3", "", "no speculation above that batch"},
	{"--spec-decoding-acceptance-method", "str", "-0.8.3", "rejection_sampler", "acceptance"},
	{"--typical-acceptance-sampler-posterior-threshold", "float", "-0.8.3", "", "acceptance"},
	{"--typical-acceptance-sampler-posterior-alpha", "float", "-0.8.3", "", "acceptance"},
	{"--disable-logprobs-during-spec-decoding", "str", "-0.8.3", "", "acceptance"},
	{"--compilation-config -cc", "json", "0.12.0", "", "torch.compile and CUDA graphs"},
	{"--compilation-config -O", "json", "-0.12.0", "", "torch.compile and CUDA graphs; -O N is the compilation level"},
	{"--optimization-level -O", "int", "0.12.0", "2", "0 none, 1 compile and piecewise graphs, 2 and 3 full graphs too"},
	{"--cuda-graph-sizes", "list", "0.9.0-0.13.0", "", "CUDA graph batch sizes"},
	{"--cudagraph-capture-sizes", "list", "0.11.1", "", "CUDA graph batch sizes"},
	{"--max-cudagraph-capture-size", "int", "0.11.1", "512", "largest CUDA graph batch"},
	{"--full-cuda-graph", "bool", "0.9.0-0.11.0", "false", "whole-model graphs"},
	{"--attention-backend", "str", "0.13.0", "", "attention kernels"},
	{"--attention-config -ac", "json", "0.13.0", "", "attention kernels"},
	{"--moe-backend", "str", "0.17.0", "auto", "expert kernels"},
	{"--linear-backend", "str", "0.24.0", "auto", "linear kernels"},
	{"--kernel-config", "json", "0.16.0", "", "kernels"},
	{"--kv-transfer-config", "json", "", "", "KV transfer"},
	{"--kv-events-config", "json", "0.8.5", "", "KV events"},
	{"--ec-transfer-config", "json", "0.12.0", "", "encoder transfer"},
	{"--additional-config", "json", "0.8.0", "", "plug-ins"},
	{"--weight-transfer-config", "json", "0.16.0", "", "weight transfer"},
	{"--offload-config", "json", "0.18.0", "", "weight offload"},
	{"--device", "str", "-0.10.2", "auto", "device kind"},
	{"--tokenizer-pool-size", "int", "-0.10.0", "0", "V0"},
	{"--tokenizer-pool-type", "str", "-0.10.0", "ray", "V0"},
	{"--tokenizer-pool-extra-config", "json", "-0.10.0", "", "V0"},
}
