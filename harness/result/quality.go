package result

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/glm46/glm46/harness/experiment"
	"github.com/glm46/glm46/harness/measure"
	"github.com/glm46/glm46/harness/quality"
)

// WriteQuality writes quality.json, all that the server said in its check.
func (s *Start) WriteQuality(raw quality.Raw) error {
	b, err := json.Marshal(raw)
	if err != nil {
		return err
	}
	if err := s.claim.Check(); err != nil {
		return err
	}
	return writeWhole(s.Path(QualityFile), append(b, '\n'))
}

// ReadQuality reads a start's quality.json.
func ReadQuality(dir string) (quality.Raw, error) {
	var raw quality.Raw
	b, err := readSmall(filepath.Join(dir, QualityFile))
	if err == nil {
		err = json.Unmarshal(b, &raw)
	}
	if err != nil {
		return quality.Raw{}, fmt.Errorf("%s: %w", filepath.Join(dir, QualityFile), err)
	}
	return raw, nil
}

// IsReference says whether these settings are a reference configuration: KV
// cache in the model's own type, no speculation (docs/metrics.md, quality).
func IsReference(settings map[string]string) bool {
	return settings[experiment.VarKVCacheDtype] == "auto" && settings[experiment.VarEnableMTP] == "no" && settings[experiment.VarSpeculativeModel] == ""
}

// Reference finds the newest start in all whose answers a start is judged by:
// a reference configuration of the same model, version and mock that passed the
// same probe. ok is false where there is none.
func Reference(all []StartResult, s StartJSON, probe string) (reference StartResult, ok bool) {
	for _, r := range all {
		q := r.Start.Quality
		switch {
		case r.Err != nil || q == nil || q.Status != quality.Passed || q.ProbeSHA256 != probe || !IsReference(r.Start.Settings),
			r.StartID == s.StartID, r.Start.Kind != s.Kind, r.Start.ModelFingerprint != s.ModelFingerprint, r.Start.VLLMVersion != s.VLLMVersion,
			(r.Start.Mock == nil) != (s.Mock == nil):
			continue
		}
		if !ok || r.Start.Created.After(reference.Start.Created) {
			reference, ok = r, true
		}
	}
	return reference, ok
}

// JudgeQuality judges starts that were measured before there was a reference by
// one in all, and says so in their validity as it is returned; nothing is
// written. Starts without a check stay as they are.
func JudgeQuality(starts, all []StartResult) []StartResult {
	starts = slices.Clone(starts)
	for i := range starts {
		s := &starts[i]
		q := s.Start.Quality
		if s.Err != nil || q == nil || q.Status == quality.NotChecked || q.IsReference || q.Reference != nil {
			continue
		}
		reference, ok := Reference(all, s.Start, q.ProbeSHA256)
		if !ok {
			continue
		}
		own, err := ReadQuality(s.Dir)
		if err != nil {
			continue
		}
		theirs, err := ReadQuality(reference.Dir)
		if err != nil {
			continue
		}
		judged := q.Against(own, theirs, reference.StartID, reference.Label())
		s.Start.Quality = &judged
		if judged.Status != quality.Degraded {
			continue
		}
		if !has(s.Start.Validity, measure.ReasonIncomplete) {
			degrade(&s.Start.Validity, judged.Detail)
		}
		s.Levels = slices.Clone(s.Levels)
		for k := range s.Levels {
			if s.Levels[k].Finished() {
				degrade(&s.Levels[k].Run.Validity, judged.Detail)
			}
		}
	}
	return starts
}

// degrade adds the reason to a verdict, without touching the one that others hold.
func degrade(v *measure.Validity, why string) {
	if has(*v, measure.ReasonQualityDegraded) {
		return
	}
	details := map[string]string{}
	for k, text := range v.Details {
		details[k] = text
	}
	details[string(measure.ReasonQualityDegraded)] = why
	v.OK, v.Reasons, v.Details = false, append(slices.Clone(v.Reasons), measure.ReasonQualityDegraded), details
}

// Label is the cell's id, with a star where settings differ from it, or EXP_NAME.
func (r StartResult) Label() string {
	switch e := r.Start.Experiment; {
	case e.ID == "":
		return r.ExpName
	case e.Modified:
		return e.ID + "*"
	default:
		return e.ID
	}
}
