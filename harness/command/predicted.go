package command

import (
	"github.com/glm46/glm46/harness/experiment"
	"github.com/glm46/glm46/mockvllm/vllm"
)

func predictedHours(plan *experiment.Plan, cells []experiment.Cell, version vllm.Version) map[string]float64 {
	return nil
}
