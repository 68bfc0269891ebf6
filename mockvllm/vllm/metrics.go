package vllm

import (
	"strconv"
	"strings"
)

// MetricType as Prometheus names it.
type MetricType string

const (
	Counter   MetricType = "counter"
	Gauge     MetricType = "gauge"
	Histogram MetricType = "histogram"
)

// Names of the metrics that others act on, as declared: on the wire counters
// carry "_total" (MetricFamily.Wire).
//
// Source: docs/vllm.md section 4.
const (
	MetricRunning             = "vllm:num_requests_running"
	MetricWaiting             = "vllm:num_requests_waiting"
	MetricWaitingByReason     = "vllm:num_requests_waiting_by_reason"
	MetricKVUsage             = "vllm:kv_cache_usage_perc"
	MetricKVUsageOld          = "vllm:gpu_cache_usage_perc"
	MetricPrefixQueries       = "vllm:prefix_cache_queries"
	MetricPrefixHits          = "vllm:prefix_cache_hits"
	MetricPrefixQueriesOld    = "vllm:gpu_prefix_cache_queries"
	MetricPrefixHitsOld       = "vllm:gpu_prefix_cache_hits"
	MetricPreemptions         = "vllm:num_preemptions"
	MetricPromptTokens        = "vllm:prompt_tokens"
	MetricGenerationTokens    = "vllm:generation_tokens"
	MetricPromptBySource      = "vllm:prompt_tokens_by_source"
	MetricPromptCached        = "vllm:prompt_tokens_cached"
	MetricSuccess             = "vllm:request_success"
	MetricSpecDrafts          = "vllm:spec_decode_num_drafts"
	MetricSpecDraftTokens     = "vllm:spec_decode_num_draft_tokens"
	MetricSpecAccepted        = "vllm:spec_decode_num_accepted_tokens"
	MetricSpecAcceptedPerPos  = "vllm:spec_decode_num_accepted_tokens_per_pos"
	MetricTTFT                = "vllm:time_to_first_token_seconds"
	MetricITL                 = "vllm:inter_token_latency_seconds"
	MetricITLOld              = "vllm:time_per_output_token_seconds"
	MetricRequestTPOT         = "vllm:request_time_per_output_token_seconds"
	MetricE2E                 = "vllm:e2e_request_latency_seconds"
	MetricQueueTime           = "vllm:request_queue_time_seconds"
	MetricPrefillTime         = "vllm:request_prefill_time_seconds"
	MetricDecodeTime          = "vllm:request_decode_time_seconds"
	MetricInferenceTime       = "vllm:request_inference_time_seconds"
	MetricIterationTokens     = "vllm:iteration_tokens_total"
	MetricRequestPrompt       = "vllm:request_prompt_tokens"
	MetricRequestGeneration   = "vllm:request_generation_tokens"
	MetricRequestMaxGenerated = "vllm:request_max_num_generation_tokens"
	MetricRequestMaxTokens    = "vllm:request_params_max_tokens"
	MetricRequestN            = "vllm:request_params_n"
	MetricCacheConfig         = "vllm:cache_config_info"

	MetricHTTPRequests      = "http_requests"
	MetricHTTPRequestSize   = "http_request_size_bytes"
	MetricHTTPResponseSize  = "http_response_size_bytes"
	MetricHTTPDurationHighR = "http_request_duration_highr_seconds"
	MetricHTTPDuration      = "http_request_duration_seconds"
)

// MetricFamily is one family of GET /metrics. Name is as declared in vLLM.
type MetricFamily struct {
	Name   string
	Type   MetricType
	Help   string
	Labels []string // in order of declaration
	// Buckets are upper bounds without +Inf.
	Buckets []float64
}

// Wire is the family's name on the HELP and TYPE lines: Python's client adds
// "_total" to counters there too.
func (f MetricFamily) Wire() string {
	if f.Type == Counter && !strings.HasSuffix(f.Name, "_total") {
		return f.Name + "_total"
	}
	return f.Name
}

// Created is the name of the gauge with the family's creation time, "" for
// gauges, which have none.
func (f MetricFamily) Created() string {
	if f.Type == Gauge {
		return ""
	}
	return strings.TrimSuffix(f.Name, "_total") + "_created"
}

// Label is one label of a sample.
type Label struct{ Name, Value string }

// Bucket bounds of docs/vllm.md section 4, in seconds or tokens.
var (
	ttftBuckets      = []float64{.001, .005, .01, .02, .04, .06, .08, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560}
	itlBuckets       = []float64{.01, .025, .05, .075, .1, .15, .2, .3, .4, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80}
	latencyBuckets   = []float64{.3, .5, .8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680}
	iterationBuckets = []float64{1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384}
	nBuckets         = []float64{1, 2, 5, 10, 20}
	httpHighR        = []float64{.01, .025, .05, .075, .1, .25, .5, .75, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 7.5, 10, 30, 60}
	httpLowR         = []float64{.1, .5, 1}
)

// tokenBuckets is vLLM's 1-2-5 series up to limit.
func tokenBuckets(limit int) []float64 {
	var out []float64
	for power := 1; power <= limit; power *= 10 {
		for _, m := range []int{1, 2, 5} {
			if power*m <= limit {
				out = append(out, float64(power*m))
			}
		}
	}
	return out
}

// familyRow places a family in releases.
type familyRow struct {
	name, when, help string
	typ              MetricType
	labels           []string
	buckets          []float64
	spec             bool // only with speculation
}

// Families lists what version v exports under that configuration, in order of
// declaration. All but the last have the labels model_name and engine ("0")
// first; vllm:cache_config_info has the labels of CacheConfigLabels.
//
// Source: docs/vllm.md section 4.
func Families(v Version, c EngineConfig) []MetricFamily {
	tokens := tokenBuckets(max(1, c.MaxModelLen))
	rows := []familyRow{
		{MetricRunning, "", "Number of requests in model execution batches.", Gauge, nil, nil, false},
		{MetricWaiting, "", "Number of requests waiting to be processed.", Gauge, nil, nil, false},
		{MetricWaitingByReason, "0.20.0-", "Number of waiting requests by reason.", Gauge, []string{"reason"}, nil, false},
		{MetricKVUsageOld, "-0.11.0", "GPU KV-cache usage. 1 means 100 percent usage.", Gauge, nil, nil, false},
		{MetricPrefixQueriesOld, "-0.11.0", "GPU prefix cache queries, in terms of number of queried tokens.", Counter, nil, nil, false},
		{MetricPrefixHitsOld, "-0.11.0", "GPU prefix cache hits, in terms of number of cached tokens.", Counter, nil, nil, false},
		{MetricKVUsage, "0.9.2-", "KV-cache usage. 1 means 100 percent usage.", Gauge, nil, nil, false},
		{MetricPrefixQueries, "0.9.2-", "Prefix cache queries, in terms of number of queried tokens.", Counter, nil, nil, false},
		{MetricPrefixHits, "0.9.2-", "Prefix cache hits, in terms of number of cached tokens.", Counter, nil, nil, false},
		{MetricPreemptions, "", "Cumulative number of preemption from the engine.", Counter, nil, nil, false},
		{MetricPromptTokens, "", "Number of prefill tokens processed.", Counter, nil, nil, false},
		{MetricPromptBySource, "0.16.0-", "Number of prompt tokens by source.", Counter, []string{"source"}, nil, false},
		{MetricPromptCached, "0.16.0-", "Number of cached prompt tokens (local + external).", Counter, nil, nil, false},
		{MetricGenerationTokens, "", "Number of generation tokens processed.", Counter, nil, nil, false},
		{MetricSuccess, "", "Count of successfully processed requests.", Counter, []string{"finished_reason"}, nil, false},
		{MetricRequestPrompt, "", "Number of prefill tokens processed.", Histogram, nil, tokens, false},
		{MetricRequestGeneration, "", "Number of generation tokens processed.", Histogram, nil, tokens, false},
		{MetricIterationTokens, "", "Histogram of number of tokens per engine_step.", Histogram, nil, iterationBuckets, false},
		{MetricRequestMaxGenerated, "", "Histogram of maximum number of requested generation tokens.", Histogram, nil, tokens, false},
		{MetricRequestN, "", "Histogram of the n request parameter.", Histogram, nil, nBuckets, false},
		{MetricRequestMaxTokens, "", "Histogram of the max_tokens request parameter.", Histogram, nil, tokens, false},
		{MetricTTFT, "", "Histogram of time to first token in seconds.", Histogram, nil, ttftBuckets, false},
		{MetricITLOld, "-0.12.0", "Histogram of time per output token in seconds.", Histogram, nil, itlBuckets, false},
		{MetricITL, "0.10.2-", "Histogram of inter-token latency in seconds.", Histogram, nil, itlBuckets, false},
		{MetricRequestTPOT, "0.11.0-", "Histogram of time_per_output_token_seconds per request.", Histogram, nil, itlBuckets, false},
		{MetricE2E, "", "Histogram of e2e request latency in seconds.", Histogram, nil, latencyBuckets, false},
		{MetricQueueTime, "", "Histogram of time spent in WAITING phase for request.", Histogram, nil, latencyBuckets, false},
		{MetricInferenceTime, "", "Histogram of time spent in RUNNING phase for request.", Histogram, nil, latencyBuckets, false},
		{MetricPrefillTime, "", "Histogram of time spent in PREFILL phase for request.", Histogram, nil, latencyBuckets, false},
		{MetricDecodeTime, "", "Histogram of time spent in DECODE phase for request.", Histogram, nil, latencyBuckets, false},
		{MetricSpecDrafts, "0.8.5-", "Number of spec decoding drafts.", Counter, nil, nil, true},
		{MetricSpecDraftTokens, "", "Number of draft tokens.", Counter, nil, nil, true},
		{MetricSpecAccepted, "", "Number of accepted tokens.", Counter, nil, nil, true},
		{MetricSpecAcceptedPerPos, "0.8.5-", "Accepted tokens per draft position.", Counter, []string{"position"}, nil, true},
	}
	var out []MetricFamily
	for _, r := range rows {
		since, until, _ := strings.Cut(r.when, "-")
		if (since != "" && !v.AtLeast(since)) || (until != "" && v.AtLeast(until)) || (r.spec && c.Spec == nil) {
			continue
		}
		out = append(out, MetricFamily{
			Name: r.name, Type: r.typ, Help: r.help, Buckets: r.buckets,
			Labels: append([]string{"model_name", "engine"}, r.labels...),
		})
	}
	info := MetricFamily{Name: MetricCacheConfig, Type: Gauge, Help: "Information of the LLMEngine CacheConfig"}
	for _, l := range CacheConfigLabels(c, 0, 0) {
		info.Labels = append(info.Labels, l.Name)
	}
	return append(out, info)
}

// HTTPFamilies lists what the HTTP layer exports in every version
// (prometheus-fastapi-instrumentator).
func HTTPFamilies() []MetricFamily {
	return []MetricFamily{
		{Name: MetricHTTPRequests, Type: Counter, Help: "Total number of requests by method, status and handler.", Labels: []string{"handler", "method", "status"}},
		{Name: MetricHTTPRequestSize, Type: "summary", Help: "Content length of incoming requests by handler. Only value of header is respected. Otherwise ignored. No percentile calculated. ", Labels: []string{"handler"}},
		{Name: MetricHTTPResponseSize, Type: "summary", Help: "Content length of outgoing responses by handler. Only value of header is respected. Otherwise ignored. No percentile calculated. ", Labels: []string{"handler"}},
		{Name: MetricHTTPDurationHighR, Type: Histogram, Help: "Latency with many buckets but no API specific labels. Made for more accurate percentile calculations. ", Buckets: httpHighR},
		{Name: MetricHTTPDuration, Type: Histogram, Help: "Latency with only few buckets by handler. Made to be only used if aggregation by handler is important. ", Labels: []string{"handler", "method"}, Buckets: httpLowR},
	}
}

// CacheConfigLabels gives the labels of vllm:cache_config_info: every field of
// the cache configuration as Python prints it, and the engine.
//
// Source: docs/vllm.md section 4; fields of vllm/config/cache.py.
func CacheConfigLabels(c EngineConfig, numGPUBlocks, replica int) []Label {
	v := c.Version
	none := func(n int) string {
		if n == 0 {
			return "None"
		}
		return strconv.Itoa(n)
	}
	out := []Label{
		{"block_size", strconv.Itoa(c.BlockSize)},
		{"cache_dtype", c.KVCacheDtype},
		{"calculate_kv_scales", "False"},
		{"cpu_offload_gb", "0"},
		{"enable_prefix_caching", pyBool(c.EnablePrefixCaching)},
		{"gpu_memory_utilization", pyFloatText(c.GPUMemoryUtilization)},
		{"is_attention_free", "False"},
	}
	if v.AtLeast("0.10.2") {
		kvBytes := "None"
		if c.KVCacheMemoryBytes > 0 {
			kvBytes = strconv.FormatInt(c.KVCacheMemoryBytes, 10)
		}
		out = append(out, Label{"kv_cache_memory_bytes", kvBytes})
	}
	if v.AtLeast("0.11.1") {
		out = append(out, Label{"kv_offloading_backend", "None"}, Label{"kv_offloading_size", "None"})
	}
	if v.AtLeast("0.10.1") {
		out = append(out, Label{"kv_sharing_fast_prefill", "False"}, Label{"mamba_cache_dtype", "auto"}, Label{"mamba_ssm_cache_dtype", "auto"})
	}
	out = append(out,
		Label{"num_cpu_blocks", "None"}, Label{"num_gpu_blocks", strconv.Itoa(numGPUBlocks)},
		Label{"num_gpu_blocks_override", none(c.NumGPUBlocksOverride)},
	)
	if v.AtLeast("0.8.3") {
		algo := "builtin"
		if v.AtLeast("0.10.2") {
			algo = "sha256"
		}
		if s := c.Args.Values["--prefix-caching-hash-algo"]; s != "" {
			algo = s
		}
		out = append(out, Label{"prefix_caching_hash_algo", algo})
	}
	out = append(out, Label{"sliding_window", "None"})
	if !v.AtLeast("0.18.0") {
		out = append(out, Label{"swap_space", pyNumber(c.SwapSpaceGiB)}, Label{"swap_space_bytes", strconv.FormatFloat(c.SwapSpaceGiB*(1<<30), 'f', 0, 64)})
	}
	if v.AtLeast("0.27.0") {
		concurrency := 0.0
		if n := c.MaxModelLen; n > 0 && c.BlockSize > 0 {
			concurrency = float64(numGPUBlocks) / float64((n+c.BlockSize-1)/c.BlockSize)
		}
		out = append(out,
			Label{"kv_cache_size_tokens", strconv.Itoa(numGPUBlocks * c.BlockSize)},
			Label{"kv_cache_max_concurrency", strconv.FormatFloat(concurrency, 'f', 2, 64)},
		)
	}
	return append(out, Label{"engine", strconv.Itoa(replica)})
}

func pyBool(b bool) string {
	if b {
		return "True"
	}
	return "False"
}

// pyNumber writes a float that was given without a fraction as Python's int.
func pyNumber(x float64) string { return strconv.FormatFloat(x, 'f', -1, 64) }
