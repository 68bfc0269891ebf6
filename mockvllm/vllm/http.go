package vllm

import (
	"fmt"
	"net/http"
	"strconv"
)

// Error types of HTTP answers.
const (
	ErrTypeBadRequest  = "BadRequestError"
	ErrTypeNotFound    = "NotFoundError"
	ErrTypeInternal    = "InternalServerError"
	ErrTypeValidation  = "Bad Request"
	ErrTypeRoute       = "Not Found"
	ErrTypeUnsupported = "NotImplementedError"
)

// EngineDeadMessage is the message of a 500 after the engine's death.
const EngineDeadMessage = "EngineCore encountered an issue. See stack trace (above) for the root cause."

// DefaultCompletionTokens is max_tokens of a completion that names none; a chat
// gets what is left of the context.
//
// Source: docs/vllm.md section 3.2.
const DefaultCompletionTokens = 16

// ErrorBody is the JSON of an HTTP error in version v; param "" is null. An
// object under "error" since 0.10.1, flat before.
//
// Source: docs/vllm.md section 3.5.
func ErrorBody(v Version, status int, typ, message, param string) []byte {
	p := "null"
	if param != "" {
		p = quoteJSON(param)
	}
	if v.AtLeast("0.10.1") {
		return fmt.Appendf(nil, `{"error":{"message":%s,"type":%s,"param":%s,"code":%d}}`, quoteJSON(message), quoteJSON(typ), p, status)
	}
	return fmt.Appendf(nil, `{"object":"error","message":%s,"type":%s,"param":%s,"code":%d}`, quoteJSON(message), quoteJSON(typ), p, status)
}

// ErrorEvents is what a stream carries when its request fails after it began:
// the error as an event, then [DONE].
func ErrorEvents(v Version, status int, typ, message string) []byte {
	out := append([]byte("data: "), ErrorBody(v, status, typ, message, "")...)
	return append(out, "\n\n"+Done...)
}

// UnauthorizedBody answers a request with a wrong key: a string, not an object.
func UnauthorizedBody() []byte { return []byte(`{"error":"Unauthorized"}`) }

// RouteNotFoundBody answers a path that does not exist.
func RouteNotFoundBody(v Version) []byte {
	return ErrorBody(v, http.StatusNotFound, ErrTypeRoute, "Not Found", "")
}

// ModelNotFound is the 404's message and param.
func ModelNotFound(v Version, model string) (message, param string) {
	if v.AtLeast("0.14.0") {
		param = "model"
	}
	return fmt.Sprintf("The model `%s` does not exist.", model), param
}

// ContextLengthError checks prompt and output against max_model_len.
//
// maxTokens is what the request asked for, negative if nothing; a completion
// that names none asks for DefaultCompletionTokens. ok is true if it fits; else
// message and param are the 400's. Every text holds "maximum context length".
//
// Source: docs/vllm.md section 3.5.
func ContextLengthError(v Version, maxModelLen, promptTokens, maxTokens int) (message, param string, ok bool) {
	asked := max(0, maxTokens)
	if promptTokens < maxModelLen && asked <= maxModelLen-promptTokens {
		return "", "", true
	}
	total := promptTokens + asked
	start := fmt.Sprintf("This model's maximum context length is %d tokens.", maxModelLen)
	const reduce = "Please reduce the length of the input prompt or the number of requested output tokens."
	switch {
	case v.AtLeast("0.20.0"):
		// The prompt is tokenized only up to one token too many.
		least, shown := "", promptTokens
		if room := maxModelLen - asked; room >= 0 && promptTokens > room {
			least, shown = "at least ", room+1
		}
		return fmt.Sprintf("%s However, you requested %d output tokens and your prompt contains %s%d input tokens, for a total of %s%d tokens. %s",
			start, asked, least, shown, least, shown+asked, reduce), "input_tokens", false
	case !v.AtLeast("0.11.0"):
		if maxTokens < 0 {
			return fmt.Sprintf("%s However, you requested %d tokens in the messages, Please reduce the length of the messages.", start, promptTokens), "", false
		}
		return fmt.Sprintf("%s However, you requested %d tokens (%d in the messages, %d in the completion). Please reduce the length of the messages or completion.",
			start, total, promptTokens, asked), "", false
	case promptTokens >= maxModelLen:
		return fmt.Sprintf("%s However, your request has %d input tokens. Please reduce the length of the input messages.", start, promptTokens), "", false
	case v.AtLeast("0.17.0"):
		return fmt.Sprintf("%s However, you requested %d output tokens and your prompt contains %d input tokens, for a total of %d tokens (%d + %d = %d > %d). %s",
			start, asked, promptTokens, total, promptTokens, asked, total, maxModelLen, reduce), "", false
	}
	return fmt.Sprintf("'max_tokens' or 'max_completion_tokens' is too large: %d. This model's maximum context length is %d tokens and your request has %d input tokens (%d > %d - %d).",
		asked, maxModelLen, promptTokens, asked, maxModelLen, promptTokens), "", false
}

// ModelsBody is the answer to GET /v1/models: one entry a served name.
// permissionID gives the random part of entry i's permission id.
//
// Source: docs/vllm.md section 3.1.
func ModelsBody(c EngineConfig, created int64, permissionID func(i int) string) []byte {
	b := []byte(`{"object":"list","data":[`)
	for i, name := range c.ServedNames {
		if i > 0 {
			b = append(b, ',')
		}
		b = fmt.Appendf(b, `{"id":%s,"object":"model","created":%d,"owned_by":"vllm","root":%s,"parent":null,"max_model_len":%d,"permission":[{"id":%s,"object":"model_permission","created":%d,"allow_create_engine":false,"allow_sampling":true,"allow_logprobs":true,"allow_search_indices":false,"allow_view":true,"allow_fine_tuning":false,"organization":"*","group":null,"is_blocking":false}]}`,
			quoteJSON(name), created, quoteJSON(c.Model), c.MaxModelLen, quoteJSON("modelperm-"+permissionID(i)), created)
	}
	return append(b, "]}"...)
}

// VersionBody is the answer to GET /version.
func VersionBody(v Version) []byte { return []byte(`{"version":` + quoteJSON(v.String()) + `}`) }

// LoadBody is the answer to GET /load.
func LoadBody(n int) []byte { return []byte(`{"server_load":` + strconv.Itoa(n) + `}`) }

// Route of the server.
type Route struct {
	Path    string
	Methods []string
	// Dev routes exist only with VLLM_SERVER_DEV_MODE=1.
	Dev bool
}

// Routes lists the routes of version v that the start-up log names, in its
// order. Routes of endpoints that a text model does not serve are left out.
//
// Source: docs/vllm.md section 3.1.
func Routes(v Version) []Route {
	get, post := []string{"GET"}, []string{"POST"}
	out := []Route{
		{Path: "/openapi.json", Methods: []string{"GET", "HEAD"}}, {Path: "/docs", Methods: []string{"GET", "HEAD"}},
		{Path: "/docs/oauth2-redirect", Methods: []string{"GET", "HEAD"}}, {Path: "/redoc", Methods: []string{"GET", "HEAD"}},
		{Path: "/health", Methods: get}, {Path: "/load", Methods: get},
		{Path: "/ping", Methods: post}, {Path: "/ping", Methods: get},
		{Path: "/tokenize", Methods: post}, {Path: "/detokenize", Methods: post},
		{Path: "/v1/models", Methods: get}, {Path: "/version", Methods: get},
	}
	if v.AtLeast("0.10.0") {
		out = append(out, Route{Path: "/v1/responses", Methods: post})
	}
	out = append(out,
		Route{Path: "/v1/chat/completions", Methods: post}, Route{Path: "/v1/completions", Methods: post},
		Route{Path: "/invocations", Methods: post}, Route{Path: "/metrics", Methods: get},
		Route{Path: "/server_info", Methods: get, Dev: true}, Route{Path: "/reset_prefix_cache", Methods: post, Dev: true},
		Route{Path: "/sleep", Methods: post, Dev: true}, Route{Path: "/wake_up", Methods: post, Dev: true},
		Route{Path: "/is_sleeping", Methods: get, Dev: true},
	)
	return out
}

// PrefixResetLine is what POST /reset_prefix_cache logs: that it worked, or that
// blocks were in use and nothing happened. The answer is 200 either way.
//
// Source: vLLM 0.11.1, vllm/v1/core/block_pool.py reset_prefix_cache.
func PrefixResetLine(v Version, ok bool) LogLine {
	l := LogLine{
		Phase: PhaseServing, Level: "INFO", Source: "block_pool.py:378", Proc: Process{Role: EngineCore},
		Text: "Successfully reset prefix cache",
	}
	if !ok {
		l.Level, l.Source = "WARNING", "block_pool.py:363"
		l.Text = "Failed to reset prefix cache because some blocks (1) are not freed yet"
	}
	return l
}

// ServerInfoBody is the answer to GET /server_info (dev mode): the engine's
// configuration as one text, or as an object under config_format=json, which
// 0.11.1 and later know. Of the object only what the text holds is here.
//
// Source: vLLM 0.11.1, vllm/entrypoints/openai/api_server.py show_server_info.
func ServerInfoBody(c EngineConfig, asJSON bool) []byte {
	if !asJSON || !c.Version.AtLeast("0.11.1") {
		return append(AppendJSONString([]byte(`{"vllm_config":`), EngineConfigText(c)), '}')
	}
	b := []byte(`{"vllm_config":{"model_config":{"model":`)
	b = AppendJSONString(b, c.Model)
	b = fmt.Appendf(b, `,"dtype":"torch.%s","max_model_len":%d,"enforce_eager":%t,"trust_remote_code":%t}`, c.Dtype, c.MaxModelLen, c.EnforceEager, c.TrustRemoteCode)
	b = fmt.Appendf(b, `,"cache_config":{"block_size":%d,"gpu_memory_utilization":%s,"cache_dtype":%s,"enable_prefix_caching":%t}`,
		c.BlockSize, strconv.FormatFloat(c.GPUMemoryUtilization, 'g', -1, 64), quoteJSON(c.KVCacheDtype), c.EnablePrefixCaching)
	b = fmt.Appendf(b, `,"parallel_config":{"tensor_parallel_size":%d,"pipeline_parallel_size":%d,"data_parallel_size":%d,"decode_context_parallel_size":%d,"enable_expert_parallel":%t}`,
		c.TensorParallelSize, c.PipelineParallelSize, c.DataParallelSize, c.DecodeContextParallelSize, c.EnableExpertParallel)
	b = fmt.Appendf(b, `,"scheduler_config":{"max_num_batched_tokens":%d,"max_num_seqs":%d,"max_model_len":%d,"enable_chunked_prefill":%t,"async_scheduling":%t}`,
		c.MaxNumBatchedTokens, c.MaxNumSeqs, c.MaxModelLen, c.EnableChunkedPrefill, c.AsyncScheduling)
	spec := "null"
	if c.Spec != nil {
		spec = fmt.Sprintf(`{"method":%s,"num_speculative_tokens":%d}`, quoteJSON(c.Spec.Method), c.Spec.NumSpeculativeTokens)
	}
	return append(b, `,"speculative_config":`+spec+`}}`...)
}
