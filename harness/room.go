package harness

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/glm46/glm46/harness/load"
)

const (
	// estimateDoubt is how far an estimated token count may be off before the
	// server is asked. Source: docs/datasets.md, "Token estimate".
	estimateDoubt = 1.25
	// templateTokens are what a chat template may add to a prompt.
	templateTokens  = 64
	tokenizeTimeout = 60 * time.Second
)

// room is the longest answer that fits beside the sample's prompt. Only where
// the estimate leaves a doubt the server's own tokenizer is asked.
func (s *server) room(ctx context.Context, sample load.Sample, maxModelLen int) (int, error) {
	if maxModelLen <= 0 {
		return sample.TargetTokens, nil
	}
	if worst := int(float64(sample.PromptTokens)*estimateDoubt) + templateTokens; sample.PromptTokens > 0 && worst+sample.TargetTokens <= maxModelLen {
		return sample.TargetTokens, nil
	}
	count, ok, err := s.tokenize(ctx, sample)
	if err != nil {
		return 0, err
	}
	if !ok {
		count = int(float64(sample.PromptTokens)*estimateDoubt) + templateTokens
	}
	return min(sample.TargetTokens, maxModelLen-count), nil
}

// tokenize asks the server how many tokens a prompt has; ok is false where it
// does not answer such questions.
func (s *server) tokenize(ctx context.Context, sample load.Sample) (count int, ok bool, err error) {
	body := map[string]any{"model": s.target.Model}
	if sample.Messages != nil {
		body["messages"] = sample.Messages
	} else {
		body["prompt"] = sample.Prompt
	}
	data, err := json.Marshal(body)
	if err != nil {
		return 0, false, fmt.Errorf("sample %s: %w", sample.ID, err)
	}
	ctx, cancel := context.WithTimeout(ctx, tokenizeTimeout)
	defer cancel()
	status, answer, err := s.post(ctx, "/tokenize", data)
	if err != nil {
		return 0, false, fmt.Errorf("ask the server for the tokens of sample %s: %w", sample.ID, err)
	}
	var parsed struct {
		Count int `json:"count"`
	}
	if status != http.StatusOK || json.Unmarshal(answer, &parsed) != nil || parsed.Count <= 0 {
		return 0, false, nil
	}
	return parsed.Count, true, nil
}
