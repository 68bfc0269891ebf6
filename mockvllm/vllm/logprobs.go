package vllm

import (
	"math"
	"strconv"
	"unicode/utf8"
)

// TokenLogprob is a token with its log-probability, and those of the likeliest
// tokens of its place, likeliest first.
type TokenLogprob struct {
	Token string
	// Logprob is the natural logarithm; NaN is null, as of a prompt's first token.
	Logprob float64
	Top     []TokenLogprob
}

// leastLogprob stands for minus infinity, which JSON does not have.
//
// Source: vLLM 0.11.1, vllm/entrypoints/openai/serving_completion.py.
const leastLogprob = -9999.0

func appendLogprob(dst []byte, x float64) []byte {
	if math.IsNaN(x) {
		return append(dst, "null"...)
	}
	n := len(dst)
	dst = strconv.AppendFloat(dst, max(x, leastLogprob), 'f', -1, 64)
	if math.Trunc(x) == x && len(dst) > n {
		dst = append(dst, ".0"...)
	}
	return dst
}

// AppendChatLogprobs appends the "logprobs" of a chat's choice.
//
// Source: vLLM 0.11.1, vllm/entrypoints/openai/protocol.py ChatCompletionLogProbs.
func AppendChatLogprobs(dst []byte, tokens []TokenLogprob) []byte {
	dst = append(dst, `{"content":[`...)
	for i, t := range tokens {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendChatToken(dst, t), `,"top_logprobs":[`...)
		for j, o := range t.Top {
			if j > 0 {
				dst = append(dst, ',')
			}
			dst = append(appendChatToken(dst, o), '}')
		}
		dst = append(dst, "]}"...)
	}
	return append(dst, "]}"...)
}

func appendChatToken(dst []byte, t TokenLogprob) []byte {
	dst = AppendJSONString(append(dst, `{"token":`...), t.Token)
	dst = appendLogprob(append(dst, `,"logprob":`...), t.Logprob)
	dst = append(dst, `,"bytes":[`...)
	for i := range len(t.Token) {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = strconv.AppendInt(dst, int64(t.Token[i]), 10)
	}
	return append(dst, ']')
}

// AppendCompletionLogprobs appends the "logprobs" of a completion's choice.
// offset is the characters before the first token; that after the last one is
// returned.
//
// Source: vLLM 0.11.1, vllm/entrypoints/openai/protocol.py CompletionLogProbs.
func AppendCompletionLogprobs(dst []byte, tokens []TokenLogprob, offset int) ([]byte, int) {
	list := func(name string, item func(dst []byte, t *TokenLogprob) []byte) {
		dst = append(append(dst, name...), '[')
		for i := range tokens {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = item(dst, &tokens[i])
		}
		dst = append(dst, ']')
	}
	list(`{"text_offset":`, func(dst []byte, t *TokenLogprob) []byte {
		dst = strconv.AppendInt(dst, int64(offset), 10)
		offset += utf8.RuneCountInString(t.Token)
		return dst
	})
	list(`,"token_logprobs":`, func(dst []byte, t *TokenLogprob) []byte { return appendLogprob(dst, t.Logprob) })
	list(`,"tokens":`, func(dst []byte, t *TokenLogprob) []byte { return AppendJSONString(dst, t.Token) })
	list(`,"top_logprobs":`, func(dst []byte, t *TokenLogprob) []byte {
		if math.IsNaN(t.Logprob) {
			return append(dst, "null"...)
		}
		// The token itself is always among them.
		dst = AppendJSONString(append(dst, '{'), t.Token)
		dst = appendLogprob(append(dst, ':'), t.Logprob)
		for _, o := range t.Top {
			if o.Token == t.Token {
				continue
			}
			dst = AppendJSONString(append(dst, ','), o.Token)
			dst = appendLogprob(append(dst, ':'), o.Logprob)
		}
		return append(dst, '}')
	})
	return append(dst, '}'), offset
}
