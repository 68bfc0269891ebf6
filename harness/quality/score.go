package quality

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"
)

// Raw is quality.json: all that the server said, from which every figure of a
// [Record] can be computed again.
type Raw struct {
	ProbeSHA256 string   `json:"probe_sha256"`
	Answers     []Answer `json:"answers"`
	Texts       []Scores `json:"texts"`
}

// Answer is the server's to one item.
type Answer struct {
	ID   string `json:"id"`
	Text string `json:"text"`
	// Right: it is the item's answer. Error: there was none, and why.
	Right bool   `json:"right"`
	Error string `json:"error,omitempty"`
}

// Scores of one text: one value for every token but the first.
type Scores struct {
	// Top is the token that the server found most likely at each position.
	Top []int `json:"top,omitempty"`
	// LogProbs are those of the text's own tokens, in nats.
	LogProbs []float64 `json:"logprobs_nats,omitempty"`
	// Error: the server did not score it, and why.
	Error string `json:"error,omitempty"`
}

// AnswerRequest is the body that asks for an item's answer. No log probabilities
// are asked for: with them engines put speculation off (vllm-project/vllm#34497).
func AnswerRequest(model string, it Item) ([]byte, error) {
	return json.Marshal(map[string]any{"model": model, "prompt": it.Prompt, "max_tokens": it.MaxTokens,
		"temperature": 0, "top_p": 1, "seed": 0, "stop": []string{it.Stop}})
}

// ScoreRequest is the body that asks for a text's scores.
//
// prompt_logprobs is vLLM's own field, in all versions since 0.5.5
// (vllm-project/vllm#7453), never on a stream.
func ScoreRequest(model, text string) ([]byte, error) {
	return json.Marshal(map[string]any{"model": model, "prompt": text, "max_tokens": 1,
		"temperature": 0, "top_p": 1, "seed": 0, "prompt_logprobs": 1})
}

// ParseAnswer reads the response to an [AnswerRequest] of status 200.
func ParseAnswer(it Item, body []byte) Answer {
	a := Answer{ID: it.ID}
	text := gjson.GetBytes(body, "choices.0.text")
	if !gjson.ValidBytes(body) || text.Type != gjson.String {
		a.Error = "the response has no choices[0].text"
		return a
	}
	a.Text = strings.Clone(text.Str)
	shown, _, _ := strings.Cut(a.Text, it.Stop)
	a.Right = strings.TrimSpace(shown) == it.Want
	return a
}

// ErrNoScores says that the server answered and told no log probabilities of the
// prompt.
var ErrNoScores = errors.New("the response has no prompt_logprobs")

// ParseScores reads the response to a [ScoreRequest] of status 200.
//
// Each position but the first holds the text's own token and, where that is
// another, the most likely one, keyed by token id:
// {"123": {"logprob": -1.5, "rank": 4, "decoded_token": " a"}, ...}.
func ParseScores(body []byte) (Scores, error) {
	var s Scores
	positions := gjson.GetBytes(body, "choices.0.prompt_logprobs")
	if !gjson.ValidBytes(body) || !positions.IsArray() {
		return Scores{}, ErrNoScores
	}
	for i, position := range positions.Array() {
		if i == 0 && position.Type == gjson.Null {
			continue // nothing comes before the first token
		}
		top, own, err := parsePosition(position)
		if err != nil {
			return Scores{}, fmt.Errorf("prompt_logprobs[%d]: %w", i, err)
		}
		s.Top, s.LogProbs = append(s.Top, top), append(s.LogProbs, own)
	}
	if len(s.Top) == 0 {
		return Scores{}, ErrNoScores
	}
	return s, nil
}

func parsePosition(position gjson.Result) (top int, own float64, err error) {
	const leastRank = 1
	lowest, highest := -1.0, -1.0
	position.ForEach(func(key, value gjson.Result) bool {
		id, e := strconv.Atoi(key.Str)
		logprob, rank := value.Get("logprob"), value.Get("rank")
		if e != nil || logprob.Type != gjson.Number || rank.Type != gjson.Number || !(logprob.Num <= 0) || rank.Num < leastRank {
			err = fmt.Errorf("want a token id with a logprob of at most 0 and a rank from 1, got %.60q: %.80s", key.Str, value.Raw)
			return false
		}
		// The best rank is the server's own choice, the worst the text's token.
		if lowest < 0 || rank.Num < lowest {
			lowest, top = rank.Num, id
		}
		if rank.Num > highest {
			highest, own = rank.Num, logprob.Num
		}
		return true
	})
	if err == nil && lowest < 0 {
		err = errors.New("no token")
	}
	return top, own, err
}
