package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/glm46/glm46/harness/launch"
	"github.com/glm46/glm46/harness/measure"
	"github.com/glm46/glm46/harness/quality"
	"github.com/glm46/glm46/harness/result"
)

// QualityMode says when a server's answers are checked before the levels.
type QualityMode string

// The modes.
const (
	// QualityAuto checks every engine; a mock has no model whose answers could be
	// right, and is not checked.
	QualityAuto QualityMode = "auto"
	// QualityOn checks the mock, too: a scenario can script its answers.
	QualityOn  QualityMode = "on"
	QualityOff QualityMode = "off"
)

const (
	// qualityLimit bounds the whole check: an engine that needs longer is measured
	// without. Source: docs/metrics.md, quality; about half a minute is expected.
	qualityLimit = 5 * time.Minute
	// qualityStreams are items in flight at a time, the same on every server:
	// results of kernels depend on the batch.
	qualityStreams = 8
)

// checkQuality asks whether the server answers rightly and records it for all
// jobs that it serves. The first start with a right answer in all of the results
// whose configuration is a reference is what others are compared with.
func (c *campaign) checkQuality(ctx context.Context, jobs []*job, srv *server) {
	label := jobs[0].cell().Label()
	var raw quality.Raw
	record := quality.Skipped("--quality off")
	switch {
	case c.o.Quality == QualityOff:
	case c.o.Mock != nil && c.o.Quality != QualityOn:
		record = quality.Skipped("the mock has no model; --quality on checks the answers of a scenario")
	default:
		began := time.Now()
		raw = srv.probe(ctx)
		if ctx.Err() != nil {
			return
		}
		record = quality.Judge(raw)
		record.Seconds = time.Since(began).Seconds()
		record.IsReference = result.IsReference(settingsMap(jobs[0].cell()))
		if !record.IsReference {
			record = c.againstReference(jobs[0], record, raw)
		}
		c.observer.Note(label, "quality: "+record.String())
	}
	for _, j := range jobs {
		if len(raw.Answers) > 0 {
			if err := j.start.WriteQuality(raw); err != nil {
				c.observer.Note(j.cell().Label(), err.Error())
			}
		}
		if err := j.start.Update(func(s *result.StartJSON) { s.Quality = &record }); err != nil {
			c.observer.Note(j.cell().Label(), err.Error())
		}
	}
}

func (c *campaign) againstReference(j *job, record quality.Record, raw quality.Raw) quality.Record {
	all, err := result.ReadAll(c.o.ResultsDir)
	if err != nil {
		return record
	}
	reference, ok := result.Reference(all, j.start.JSON(), record.ProbeSHA256)
	if !ok {
		return record
	}
	theirs, err := result.ReadQuality(reference.Dir)
	if err != nil {
		c.observer.Note(j.cell().Label(), "the reference's answers cannot be read: "+err.Error())
		return record
	}
	return record.Against(raw, theirs, reference.StartID, reference.Label())
}

// judgeAgain applies a reference that was measured after the starts it judges.
func (c *campaign) judgeAgain() {
	all, err := result.ReadAll(c.o.ResultsDir)
	if err != nil {
		return
	}
	judged := map[string]result.StartResult{}
	for _, r := range result.JudgeQuality(all, all) {
		judged[r.Dir] = r
	}
	for i := range c.outcome.Cells {
		o := &c.outcome.Cells[i]
		if o.State != result.StateValid || len(o.Dirs) == 0 {
			continue
		}
		if r, ok := judged[o.Dirs[len(o.Dirs)-1]]; ok && r.State() == result.StateNotValid {
			o.State, o.Reason, o.code = result.StateNotValid, joinReasons(r.Start.Validity), codeNotValid
		}
	}
}

// qualityVerdict is what a level's verdict says of the check.
func qualityVerdict(record *quality.Record) measure.Quality {
	switch {
	case record == nil:
		return measure.Quality{NotChecked: "no check was made on this server"}
	case record.Status == quality.NotChecked:
		return measure.Quality{NotChecked: record.Detail}
	case record.Status == quality.Degraded:
		return measure.Quality{Degraded: record.Detail}
	}
	return measure.Quality{}
}

// probe asks the server all items and texts. What it does not answer says why.
func (s *server) probe(ctx context.Context) quality.Raw {
	ctx, cancel := context.WithTimeout(ctx, qualityLimit)
	defer cancel()
	raw := quality.Raw{ProbeSHA256: quality.ProbeSHA256()}
	items := quality.Items(s.maxModelLen)
	raw.Answers = make([]quality.Answer, len(items))
	var wait sync.WaitGroup
	slots := make(chan struct{}, qualityStreams)
	for i, it := range items {
		slots <- struct{}{}
		wait.Go(func() {
			defer func() { <-slots }()
			raw.Answers[i] = s.answer(ctx, it)
		})
	}
	wait.Wait()
	for _, text := range quality.Texts() {
		scores, err := s.score(ctx, text)
		if err != nil {
			scores.Error = err.Error()
		}
		raw.Texts = append(raw.Texts, scores)
		if err != nil {
			break // a server that scores no text scores none
		}
	}
	return raw
}

func (s *server) answer(ctx context.Context, it quality.Item) quality.Answer {
	body, err := quality.AnswerRequest(s.target.Model, it)
	if err == nil {
		body, err = s.complete(ctx, body)
	}
	if err != nil {
		return quality.Answer{ID: it.ID, Error: err.Error()}
	}
	return quality.ParseAnswer(it, body)
}

func (s *server) score(ctx context.Context, text string) (quality.Scores, error) {
	body, err := quality.ScoreRequest(s.target.Model, text)
	if err == nil {
		body, err = s.complete(ctx, body)
	}
	if err != nil {
		return quality.Scores{}, err
	}
	return quality.ParseScores(body)
}

// complete posts one completion that is not streamed.
func (s *server) complete(ctx context.Context, body []byte) ([]byte, error) {
	status, answer, err := s.post(ctx, "/v1/completions", body)
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		const shown = 200
		return nil, fmt.Errorf("the server answers %d: %s", status, bytes.TrimSpace(answer[:min(shown, len(answer))]))
	}
	return answer, nil
}

// post sends one JSON body and reads the whole answer.
func (s *server) post(ctx context.Context, path string, body []byte) (status int, answer []byte, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.target.BaseURL+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	if s.target.APIKey != "" {
		request.Header.Set("Authorization", "Bearer "+s.target.APIKey)
	}
	transport := &http.Transport{DisableKeepAlives: true} // a server of others may be anywhere
	if s.process != nil {
		transport = launch.LoopbackTransport()
	}
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	const most = 64 << 20
	answer, err = io.ReadAll(io.LimitReader(response.Body, most+1))
	if err == nil && len(answer) > most {
		err = errors.New("the answer is larger than 64 MiB")
	}
	return response.StatusCode, answer, err
}
