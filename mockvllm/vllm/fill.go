package vllm

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
)

func sortStrings(s []string) { slices.Sort(s) }

// maxJSONDepth bounds dotted names: --x.a.b.c nests one object a dot.
const maxJSONDepth = 32

// setJSON takes a whole object or one dotted part. Later parts win over earlier
// ones key by key, as vLLM merges them. fault is the parser's message, "" if all
// is well.
func (p *argParser) setJSON(f Flag, spelled, text string) (fault string) {
	a := &p.args
	into := a.json[f.Name]
	if into == nil {
		into = map[string]any{}
		a.json[f.Name] = into
	}
	path := ""
	if i := strings.IndexByte(spelled, '.'); i >= 0 {
		path = spelled[i+1:]
	}
	// -O 3 and --compilation-config 3 are levels until 0.12.
	if path == "" && f.Name == "--compilation-config" && isDigits(text) {
		into["level"] = jsonNumber(text)
		a.Values[f.Name] = compactJSON(into)
		return ""
	}
	if path == "" {
		obj, err := parseObject(text)
		if err != nil {
			return fmt.Sprintf("Value %s cannot be converted to <function loads at 0x7f8f7f1e5bc0>.", text)
		}
		mergeInto(into, obj)
		a.Values[f.Name] = compactJSON(into)
		return ""
	}
	keys := strings.Split(path, ".")
	if len(keys) > maxJSONDepth {
		return fmt.Sprintf("more than %d parts in %s", maxJSONDepth, spelled)
	}
	for _, k := range keys[:len(keys)-1] {
		next, ok := into[k].(map[string]any)
		if !ok {
			next = map[string]any{}
			into[k] = next
		}
		into = next
	}
	last := keys[len(keys)-1]
	if name, list := strings.CutSuffix(last, "+"); list {
		old, _ := into[name].([]any)
		for _, part := range strings.Split(text, ",") {
			old = append(old, looseJSON(part))
		}
		into[name] = old
	} else {
		into[last] = looseJSON(text)
	}
	a.Values[f.Name] = compactJSON(a.json[f.Name])
	return ""
}

// parseObject reads one JSON object.
func parseObject(text string) (map[string]any, error) {
	var out map[string]any
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&out); err != nil {
		return nil, err
	}
	if out == nil {
		return nil, errors.New("null")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one value")
	}
	return out, nil
}

// looseJSON reads a dotted value: JSON if it is, else the text itself.
func looseJSON(text string) any {
	var v any
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return text
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return text
	}
	return v
}

func jsonNumber(text string) json.Number { return json.Number(text) }

func mergeInto(dst, src map[string]any) {
	for k, v := range src {
		old, ok1 := dst[k].(map[string]any)
		add, ok2 := v.(map[string]any)
		if ok1 && ok2 {
			mergeInto(old, add)
			continue
		}
		dst[k] = v
	}
}

// compactJSON writes keys sorted, so that equal objects are equal texts.
func compactJSON(v any) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return ""
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// fill sets the typed fields from Values, whose forms are checked already.
func (a *ServeArgs) fill() error {
	str := func(name string, to *string) {
		if s, ok := a.Values[name]; ok {
			*to = s
		}
	}
	num := func(name string, to *int) {
		if s, ok := a.Values[name]; ok {
			*to, _ = strconv.Atoi(s)
		}
	}
	float := func(name string, to *float64) {
		if s, ok := a.Values[name]; ok {
			*to, _ = pyFloat(s)
		}
	}
	on := func(name string, to *bool) {
		if s, ok := a.Values[name]; ok {
			*to = s == "true"
		}
	}
	tri := func(name string, to **bool) {
		if s, ok := a.Values[name]; ok {
			b := s == "true"
			*to = &b
		}
	}
	if a.Model == "" {
		str("--model", &a.Model)
	} else if a.Set["--model"] && a.Values["--model"] != a.Model {
		a.Warnings = append(a.Warnings, "With `vllm serve`, you should provide the model as a positional argument or in a config file instead of via the `--model` option. The `--model` option will be removed in a future version.")
	}
	str("--tokenizer", &a.Tokenizer)
	str("--host", &a.Host)
	num("--port", &a.Port)
	str("--uds", &a.UDS)
	str("--root-path", &a.RootPath)
	a.ServedModelNames = slices.Clone(a.lists["--served-model-name"])
	a.APIKeys = slices.Clone(a.lists["--api-key"])
	if key := a.Values["--api-key"]; len(a.APIKeys) == 0 && key != "" {
		a.APIKeys = []string{key}
	}

	num("--tensor-parallel-size", &a.TensorParallelSize)
	num("--pipeline-parallel-size", &a.PipelineParallelSize)
	num("--data-parallel-size", &a.DataParallelSize)
	num("--decode-context-parallel-size", &a.DecodeContextParallelSize)
	num("--prefill-context-parallel-size", &a.PrefillContextParallelSize)
	on("--enable-expert-parallel", &a.EnableExpertParallel)
	on("--enforce-eager", &a.EnforceEager)
	on("--trust-remote-code", &a.TrustRemoteCode)
	str("--dtype", &a.Dtype)
	str("--quantization", &a.Quantization)
	str("--load-format", &a.LoadFormat)
	str("--download-dir", &a.DownloadDir)
	str("--revision", &a.Revision)
	if a.Set["--seed"] {
		var seed int
		num("--seed", &seed)
		a.Seed = &seed
	}
	str("--kv-cache-dtype", &a.KVCacheDtype)
	float("--gpu-memory-utilization", &a.GPUMemoryUtilization)
	var kvBytes int
	num("--kv-cache-memory-bytes", &kvBytes)
	a.KVCacheMemoryBytes = int64(kvBytes)
	float("--swap-space", &a.SwapSpaceGiB)
	num("--block-size", &a.BlockSize)
	num("--num-gpu-blocks-override", &a.NumGPUBlocksOverride)
	num("--max-model-len", &a.MaxModelLen)
	num("--max-num-seqs", &a.MaxNumSeqs)
	num("--max-num-batched-tokens", &a.MaxNumBatchedTokens)
	tri("--enable-prefix-caching", &a.EnablePrefixCaching)
	tri("--enable-chunked-prefill", &a.EnableChunkedPrefill)
	tri("--async-scheduling", &a.AsyncScheduling)
	tri("--scheduler-reserve-full-isl", &a.ReserveFullISL)
	str("--scheduling-policy", &a.SchedulingPolicy)
	num("--stream-interval", &a.StreamInterval)
	str("--performance-mode", &a.PerformanceMode)
	num("--long-prefill-token-threshold", &a.LongPrefillTokenThreshold)
	float("--watermark", &a.Watermark)
	num("--optimization-level", &a.OptimizationLevel)
	num("--max-cudagraph-capture-size", &a.MaxCaptureSize)
	num("--max-logprobs", &a.MaxLogprobs)
	str("--generation-config", &a.GenerationConfig)
	str("--reasoning-parser", &a.ReasoningParser)
	str("--tool-call-parser", &a.ToolCallParser)
	on("--enable-auto-tool-choice", &a.EnableAutoToolChoice)
	str("--chat-template", &a.ChatTemplate)
	a.HFOverrides = maps.Clone(a.json["--hf-overrides"])
	a.CompilationConfig = maps.Clone(a.json["--compilation-config"])
	on("--enable-prompt-tokens-details", &a.EnablePromptTokensDetails)
	on("--enable-request-id-headers", &a.EnableRequestIDHeaders)
	on("--enable-force-include-usage", &a.ForceIncludeUsage)
	on("--enable-server-load-tracking", &a.EnableServerLoadTracking)
	on("--disable-uvicorn-access-log", &a.DisableUvicornAccessLog)
	str("--uvicorn-log-level", &a.UvicornLogLevel)
	on("--disable-log-stats", &a.DisableLogStats)
	on("--enable-log-requests", &a.LogRequests)
	if s, ok := a.Values["--disable-log-requests"]; ok {
		a.LogRequests = s != "true"
	}
	on("--disable-frontend-multiprocessing", &a.DisableFrontendMP)
	on("--return-tokens-as-token-ids", &a.ReturnTokensAsIDs)
	on("--disable-custom-all-reduce", &a.CustomAllReduceOff)
	num("--shutdown-timeout", &a.ShutdownTimeoutS)
	str("--fingerprint-mode", &a.FingerprintMode)
	a.fillSpeculative()
	return a.fillSizes()
}

// fillSizes reads the lists of capture sizes.
func (a *ServeArgs) fillSizes() error {
	for _, name := range []string{"--cuda-graph-sizes", "--cudagraph-capture-sizes"} {
		for _, s := range a.lists[name] {
			n, err := pyInt(s)
			if err != nil {
				return usageError(a.Version, name, "argument %s: invalid int value: %s", name, pyQuote(s))
			}
			a.CaptureSizes = append(a.CaptureSizes, n)
		}
	}
	return nil
}

// fillSpeculative joins the JSON, its short forms and the flags of old.
func (a *ServeArgs) fillSpeculative() {
	spec := maps.Clone(a.json["--speculative-config"])
	put := func(flag, key string, number bool) {
		s, ok := a.Values[flag]
		if !ok {
			return
		}
		if spec == nil {
			spec = map[string]any{}
		}
		if number {
			spec[key] = jsonNumber(s)
		} else {
			spec[key] = s
		}
	}
	put("--spec-method", "method", false)
	put("--spec-model", "model", false)
	put("--spec-tokens", "num_speculative_tokens", true)
	put("--speculative-model", "model", false)
	put("--num-speculative-tokens", "num_speculative_tokens", true)
	put("--ngram-prompt-lookup-max", "prompt_lookup_max", true)
	put("--ngram-prompt-lookup-min", "prompt_lookup_min", true)
	a.Speculative = spec
}
