package mockvllm

import (
	"bytes"
	"math"
	"strconv"

	"github.com/glm46/glm46/mockvllm/tokenizer"
	"github.com/glm46/glm46/mockvllm/vllm"
)

// logprobsOf gives tokens at output positions from on with log-probabilities that
// are made up but always the same: the token itself is the likeliest, the others
// share what it leaves, each half of the one before.
func (s *stream) logprobsOf(ids []int32, from int) []vllm.TokenLogprob {
	out := make([]vllm.TokenLogprob, len(ids))
	most := s.gen.TopLogprobs
	if most < 0 {
		most = tokenizer.Words()
	}
	for i, id := range ids {
		state := s.req.Seed + uint64(int64(from+i))*0x9e3779b97f4a7c15
		state = (state ^ state>>31) * 0xd6e8feb86659fd93
		left := 0.001 + 0.6*float64(state>>40)/(1<<24)
		t := &out[i]
		t.Token, t.Logprob = tokenizer.Piece(id), roundLogprob(math.Log1p(-left))
		for j := range most {
			if j == 0 {
				t.Top = append(t.Top, vllm.TokenLogprob{Token: t.Token, Logprob: t.Logprob})
				continue
			}
			left /= 2
			other := int32((state + uint64(j)) % uint64(tokenizer.Words()-1))
			if other >= id {
				other++ // not the token itself
			}
			t.Top = append(t.Top, vllm.TokenLogprob{Token: tokenizer.Piece(other), Logprob: roundLogprob(math.Log(left))})
		}
	}
	return out
}

// roundLogprob keeps what a float32 holds.
func roundLogprob(x float64) float64 { return math.Round(x*1e6) / 1e6 }

// promptLogprobs are those of an echoed prompt: nothing comes before its first
// token.
func (s *stream) promptLogprobs() []vllm.TokenLogprob {
	out := s.logprobsOf(s.req.Prompt, -len(s.req.Prompt))
	out[0].Logprob, out[0].Top = math.NaN(), nil
	return out
}

// appendLogprobs appends the "logprobs" of a choice for tokens at output
// positions from on, after those of an echoed prompt.
func (s *stream) appendLogprobs(dst []byte, ids []int32, from int, echo bool) []byte {
	list := s.logprobsOf(ids, from)
	if echo {
		list = append(s.promptLogprobs(), list...)
	}
	if s.gen.chat {
		return vllm.AppendChatLogprobs(dst, list)
	}
	dst, s.offset = vllm.AppendCompletionLogprobs(dst, list, s.offset)
	return dst
}

// annotated reports whether events say more of tokens than their text.
func (s *stream) annotated() bool { return s.gen.logprobs || s.gen.tokenIDs }

var (
	nullLogprobs       = []byte(`"logprobs":null`)
	nullTokenIDs       = []byte(`,"token_ids":null`)
	nullPromptTokenIDs = []byte(`"prompt_token_ids":null`)
)

// annotate puts log-probabilities and token ids into the event that begins at
// start. Quotes in the event's text are escaped, so a name with bare ones is the
// field.
func (s *stream) annotate(start int, ids []int32, from int, echo bool) {
	event := s.pending[start:]
	if s.gen.logprobs {
		event = bytes.Replace(event, nullLogprobs, s.appendLogprobs([]byte(`"logprobs":`), ids, from, echo), 1)
	}
	if s.gen.tokenIDs {
		list := []byte(`,"token_ids":`)
		if echo {
			ids = append(append([]int32(nil), s.req.Prompt...), ids...)
		}
		event = bytes.Replace(event, nullTokenIDs, appendIDs(list, ids), 1)
		if from == 0 && !s.gen.chat {
			event = s.withPromptIDs(event)
		}
	}
	s.pending = append(s.pending[:start], event...)
}

func (s *stream) withPromptIDs(event []byte) []byte {
	return bytes.Replace(event, nullPromptTokenIDs, appendIDs([]byte(`"prompt_token_ids":`), s.req.Prompt), 1)
}

func appendIDs(dst []byte, ids []int32) []byte {
	dst = append(dst, '[')
	for i, id := range ids {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = strconv.AppendInt(dst, int64(id), 10)
	}
	return append(dst, ']')
}
