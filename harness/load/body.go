package load

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"unicode/utf8"

	"github.com/glm46/glm46/harness/measure"
	"github.com/glm46/glm46/mockvllm/vllm"
)

// cacheSaltSince has the request field cache_salt in engine V1.
// Source: vLLM 0.9.0, vllm/entrypoints/openai/protocol.py.
var cacheSaltSince = vllm.MustVersion("0.9.0")

// FeaturesOf gives the features of a vLLM version ("0.11.1"); of an unknown
// server ("", or not a version) those that servers of this API bear or ignore.
func FeaturesOf(version string) Features {
	v, err := vllm.ParseVersion(version)
	if err != nil {
		return Features{ForcedLength: true}
	}
	return Features{
		CacheSalt:       v.Compare(cacheSaltSince) >= 0,
		ContinuousUsage: true,
		ForcedLength:    true,
	}
}

// saltings by name, as run.json has them.
const (
	saltField  = "cache_salt"
	saltPrompt = "prompt_prefix"
)

// body builds requests of one run.
type body struct {
	model    string
	features Features
	forced   bool
	endpoint measure.Endpoint
}

// endpointOf a sample.
func (b *body) endpointOf(s *Sample) measure.Endpoint {
	switch {
	case b.endpoint != "":
		return b.endpoint
	case len(s.Messages) > 0:
		return measure.EndpointChat
	}
	return measure.EndpointCompletions
}

// params are the parameters sent with every request, for the record.
func (b *body) params() measure.RequestParams {
	p := map[string]any{
		"temperature": 0, "top_p": 1, "seed": "index of the sample", "max_tokens": "target of the sample at this level", "stream": true,
		"stream_options": map[string]any{"include_usage": true},
	}
	if b.forced {
		p["ignore_eos"], p["min_tokens"] = true, "max_tokens"
	}
	if b.features.ContinuousUsage {
		p["stream_options"] = map[string]any{"include_usage": true, "continuous_usage_stats": true}
	}
	salting := saltPrompt
	if b.features.CacheSalt {
		salting = saltField
	}
	text, _ := json.Marshal(p) // keys sorted
	sum := sha256.Sum256(text)
	return measure.RequestParams{Params: p, SHA256: hex.EncodeToString(sum[:]), Salting: salting}
}

// append builds the JSON of one request behind dst.
func (b *body) append(dst []byte, s *Sample, tokens int, salt string) ([]byte, error) {
	dst = append(dst, `{"model":`...)
	dst = appendString(dst, b.model)
	prefix := ""
	if !b.features.CacheSalt {
		prefix = salt
	}
	if b.endpointOf(s) == measure.EndpointChat {
		messages, err := b.messages(s, prefix)
		if err != nil {
			return nil, err
		}
		dst = append(append(dst, `,"messages":`...), messages...)
		if len(s.Tools) > 0 {
			// Tools are part of the prompt; calls are not asked for, which vLLM
			// refuses unless it was started with a parser for them.
			// Source: vLLM 0.11.1, OpenAIServingChat.create_chat_completion.
			dst = append(append(append(dst, `,"tools":`...), s.Tools...), `,"tool_choice":"none"`...)
		}
	} else {
		prompt := s.Prompt
		if prompt == "" && len(s.Messages) > 0 {
			return nil, fmt.Errorf("load: sample %q has messages and no prompt: it cannot go to the completions endpoint", s.ID)
		}
		if prefix != "" {
			prompt = saltText(prompt, prefix)
		}
		dst = appendString(append(dst, `,"prompt":`...), prompt)
	}
	dst = strconv.AppendInt(append(dst, `,"max_tokens":`...), int64(tokens), 10)
	if b.forced {
		dst = strconv.AppendInt(append(dst, `,"min_tokens":`...), int64(tokens), 10)
		dst = append(dst, `,"ignore_eos":true`...)
	}
	dst = strconv.AppendInt(append(dst, `,"temperature":0,"top_p":1,"seed":`...), int64(s.Seed), 10)
	dst = append(dst, `,"stream":true,"stream_options":{"include_usage":true`...)
	if b.features.ContinuousUsage {
		dst = append(dst, `,"continuous_usage_stats":true`...)
	}
	dst = append(dst, '}')
	if b.features.CacheSalt && salt != "" {
		dst = appendString(append(dst, `,"cache_salt":`...), salt)
	}
	return append(dst, '}'), nil
}

// messages of a chat request, salted in the first message that has text.
func (b *body) messages(s *Sample, salt string) ([]byte, error) {
	if len(s.Messages) == 0 {
		return appendString([]byte(`[{"role":"user","content":`), saltText(s.Prompt, salt), "}]"), nil
	}
	if salt == "" {
		return s.Messages, nil
	}
	var messages []map[string]json.RawMessage
	if err := json.Unmarshal(s.Messages, &messages); err != nil {
		return nil, fmt.Errorf("load: sample %q: messages: %w", s.ID, err)
	}
	for _, m := range messages {
		if salted, ok := saltContent(m["content"], salt); ok {
			m["content"] = salted
			break
		}
	}
	return json.Marshal(messages)
}

// saltContent salts a message's content: a string, or the first text part.
func saltContent(content json.RawMessage, salt string) (json.RawMessage, bool) {
	var text string
	if json.Unmarshal(content, &text) == nil && text != "" {
		return appendString(nil, saltText(text, salt)), true
	}
	var parts []map[string]json.RawMessage
	if json.Unmarshal(content, &parts) != nil {
		return nil, false
	}
	for _, p := range parts {
		if json.Unmarshal(p["text"], &text) == nil && text != "" {
			p["text"] = appendString(nil, saltText(text, salt))
			out, err := json.Marshal(parts)
			return out, err == nil
		}
	}
	return nil, false
}

// saltedBytes at the beginning of a prompt lie within its first 16 tokens, the
// first block of the prefix cache: no tokenizer gives less than two bytes a
// token on text.
const saltedBytes = 32

// saltText changes letters and digits at the beginning of a prompt, by a
// substitution that the salt seeds: the same text in the same phase becomes the
// same, so that prefixes shared within a phase stay shared, and another phase's
// never. Length in bytes and the kind of every character stay.
func saltText(text, salt string) string {
	if salt == "" || text == "" {
		return text
	}
	sum := sha256.Sum256([]byte(salt))
	rng := rand.New(rand.NewChaCha8(sum))
	lower, upper, digits := rng.Perm(26), rng.Perm(26), rng.Perm(10)
	shift := rune(1 + rng.IntN(500))
	out := make([]byte, 0, len(text))
	changed := false
	for i := 0; i < len(text) && i < saltedBytes; {
		c := text[i]
		switch {
		case c >= 'a' && c <= 'z':
			out = append(out, 'a'+byte(lower[c-'a']))
			changed = true
		case c >= 'A' && c <= 'Z':
			out = append(out, 'A'+byte(upper[c-'A']))
			changed = true
		case c >= '0' && c <= '9':
			out = append(out, '0'+byte(digits[c-'0']))
			changed = true
		case c >= utf8.RuneSelf:
			r, size := utf8.DecodeRuneInString(text[i:])
			const first, count = 0x4E00, 20000 // CJK ideographs, three bytes each
			if r >= first && r < first+count {
				r = first + (r-first+shift)%count
				changed = true
			}
			if r == utf8.RuneError && size == 1 {
				out = append(out, text[i])
			} else {
				out = utf8.AppendRune(out, r)
			}
			i += size
			continue
		default:
			out = append(out, c)
		}
		i++
	}
	if !changed { // no letter to change: a character in front, one longer
		return string(rune('a'+rng.IntN(26))) + text
	}
	return string(append(out, text[len(out):]...))
}

// appendString appends s as a JSON string, and tail behind it.
func appendString(dst []byte, s string, tail ...string) []byte {
	const hexDigits = "0123456789abcdef"
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r != utf8.RuneError || size > 1 {
				i += size
				continue
			}
		}
		dst = append(dst, s[start:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\t':
			dst = append(dst, '\\', 't')
		case '\r':
			dst = append(dst, '\\', 'r')
		default:
			if c >= utf8.RuneSelf { // not UTF-8
				dst = append(dst, `\ufffd`...)
			} else {
				dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			}
		}
		i++
		start = i
	}
	dst = append(append(dst, s[start:]...), '"')
	for _, t := range tail {
		dst = append(dst, t...)
	}
	return dst
}

// excerpt of a body for a detail text: one line, bounded, printable.
func excerpt(b []byte) string {
	const most = 300
	b = bytes.ToValidUTF8(bytes.TrimSpace(b), []byte("?"))
	cut := len(b) > most
	if cut {
		b = bytes.ToValidUTF8(b[:most], nil)
	}
	s := strconv.Quote(string(b))
	s = s[1 : len(s)-1]
	if cut {
		s += "..."
	}
	return s
}
