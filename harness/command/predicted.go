package command

import (
	"github.com/glm46/glm46/harness/experiment"
	"github.com/glm46/glm46/harness/predict"
	"github.com/glm46/glm46/mockvllm/vllm"
)

// predictedHours predicts the hours of one start of each cell, by id.
func predictedHours(plan *experiment.Plan, cells []experiment.Cell, version vllm.Version) map[string]float64 {
	return predict.Hours(plan, cells, predict.CellOptions{Version: version})
}
