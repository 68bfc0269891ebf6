package vllm

// Error types of HTTP answers.
const (
	ErrTypeBadRequest  = "BadRequestError"
	ErrTypeNotFound    = "NotFoundError"
	ErrTypeInternal    = "InternalServerError"
	ErrTypeValidation  = "Bad Request"
	ErrTypeUnsupported = "NotImplementedError"
)

// ErrorBody is the JSON of an HTTP error in version v; param "" is null.
//
// Source: docs/vllm.md section 3.5.
func ErrorBody(v Version, status int, typ, message, param string) []byte { return nil }

// UnauthorizedBody answers a request with a wrong key.
func UnauthorizedBody(v Version) []byte { return []byte(`{"error":"Unauthorized"}`) }

// ContextLengthError checks prompt and output against max_model_len.
// maxTokens is what the request asked for, 0 if nothing. chat says whether the
// request is a chat (messages) or a completion. ok is true if it fits; else
// message and param are the 400's.
func ContextLengthError(v Version, maxModelLen, promptTokens, maxTokens int, chat bool) (message, param string, ok bool) {
	return "", "", true
}

// ModelNotFound is the 404's message and param.
func ModelNotFound(v Version, model string) (message, param string) { return "", "" }

// EngineDeadMessage is the message of a 500 after the engine's death.
const EngineDeadMessage = "EngineCore encountered an issue. See stack trace (above) for the root cause."
