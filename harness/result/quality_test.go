package result

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/glm46/glm46/harness/measure"
	"github.com/glm46/glm46/harness/quality"
)

// judged writes a finished start with answers: right of ten are right.
func judged(t *testing.T, results, name, kv string, right int, at time.Time) {
	t.Helper()
	raw := quality.Raw{ProbeSHA256: "p"}
	for i := range 10 {
		raw.Answers = append(raw.Answers, quality.Answer{ID: string(rune('a' + i)), Right: i < right})
	}
	settings := map[string]string{"KV_CACHE_DTYPE": kv, "ENABLE_MTP": "no"}
	s, err := Create(results, StartJSON{Kind: "run", Experiment: Experiment{ID: name, Name: name}, Dataset: Dataset{Name: "8k"},
		Settings: settings, VLLMVersion: "0.11.1"}, CreateOptions{Now: at})
	require.NoError(t, err)
	require.NoError(t, s.WriteQuality(raw))
	require.NoError(t, s.Update(func(j *StartJSON) {
		record := quality.Judge(raw)
		record.IsReference = IsReference(settings)
		j.Quality = &record
	}))
	run := measure.IncompleteRun()
	run.Level.Name = "c1"
	level, err := s.Level(run)
	require.NoError(t, err)
	run.Validity = measure.Validity{OK: true, Reasons: []measure.Reason{}, Labels: []measure.Label{}}
	require.NoError(t, level.Finish(run))
	require.NoError(t, s.Finish(measure.Validity{Labels: []measure.Label{}}, at.Add(time.Hour)))
}

// TestJudgeQualityAfterwards: the reference may be measured after what it judges.
func TestJudgeQualityAfterwards(t *testing.T) {
	dir := t.TempDir()
	began := time.Date(2026, 11, 28, 8, 0, 0, 0, time.UTC)
	judged(t, dir, "1A", "fp8", 9, began)                    // one lost: chance
	judged(t, dir, "1B", "fp8", 8, began.Add(time.Hour))     // right enough by itself
	judged(t, dir, "5B", "auto", 10, began.Add(2*time.Hour)) // the reference
	all, err := ReadAll(dir)
	require.NoError(t, err)
	// Five of ten lost is no chance: break one more record than the test allows.
	all[1].Start.Quality.ProbeSHA256 = "other"
	got := JudgeQuality(all, all)
	require.Equal(t, StateValid, got[0].State())
	require.Equal(t, "5B", got[0].Start.Quality.Reference.Experiment)
	require.Equal(t, 1, got[0].Start.Quality.Reference.Lost)
	require.Nil(t, got[1].Start.Quality.Reference, "another probe is not compared")
	require.Nil(t, got[2].Start.Quality.Reference, "the reference is not compared with itself")
	require.Nil(t, all[0].Start.Quality.Reference, "what was read stays as it is")
}

func TestJudgeQualityDegrades(t *testing.T) {
	dir := t.TempDir()
	began := time.Date(2026, 11, 28, 8, 0, 0, 0, time.UTC)
	judged(t, dir, "5B", "auto", 10, began)
	judged(t, dir, "8B", "fp8", 10, began.Add(time.Hour))
	all, err := ReadAll(dir)
	require.NoError(t, err)
	raw, err := ReadQuality(all[1].Dir)
	require.NoError(t, err)
	for i := range 5 {
		raw.Answers[i].Right = false
	}
	require.NoError(t, writeJSON(all[1].Dir+"/"+QualityFile, raw))
	got := JudgeQuality(all, all)
	require.Equal(t, StateNotValid, got[1].State())
	require.Equal(t, []measure.Reason{measure.ReasonQualityDegraded}, got[1].Start.Validity.Reasons)
	require.Contains(t, got[1].Start.Validity.Details["quality_degraded"], "5 items that the reference 5B answers are wrong here")
	require.False(t, got[1].Levels[0].Run.Validity.OK)
	require.True(t, all[1].Levels[0].Run.Validity.OK, "what was read stays as it is")
	require.Equal(t, StateValid, got[0].State())
}
