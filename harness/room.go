package harness

import (
	"context"

	"github.com/glm46/glm46/harness/load"
)

const (
	// estimateDoubt is how far an estimated token count may be off before the
	// server is asked. Source: docs/datasets.md, "Token estimate".
	estimateDoubt = 1.25
	// templateDoubt is what a chat template may add to a prompt, where it was not
	// measured or is less.
	templateDoubt = 64
)

// room is the longest answer that fits beside the sample's prompt. Only where
// the estimate leaves a doubt the server's own tokenizer is asked.
func (s *server) room(ctx context.Context, sample load.Sample, maxModelLen int) (int, error) {
	if maxModelLen <= 0 {
		return sample.TargetTokens, nil
	}
	worst := int(float64(sample.PromptTokens)*estimateDoubt) + max(templateDoubt, s.templateTokens)
	if sample.PromptTokens > 0 && worst+sample.TargetTokens <= maxModelLen {
		return sample.TargetTokens, nil
	}
	count, err := s.tokenize(ctx, s.question(sample))
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	if err != nil { // a server need not have it
		count = worst
	}
	return min(sample.TargetTokens, maxModelLen-count), nil
}
