package quality

import (
	"fmt"
	"math"

	"github.com/glm46/glm46/harness/stats"
)

// Limits of the judgement. They are chosen, not measured: wide enough for what
// another order of additions and a calibrated 8-bit KV cache do, far from what a
// wrong kernel, scale or acceptance rule does. Source: docs/metrics.md, quality.
const (
	// LeastRight is the share of items that a server must answer rightly.
	LeastRight = 0.75
	// LeastAgreement is the share of positions at which it must choose the same
	// token as the reference.
	LeastAgreement = 0.95
	// MostLoss is by how much the log likelihood may be below the reference's, in
	// nats a token, beyond what chance explains (95 %, over texts).
	MostLoss = 0.02
	// mostUnanswered is the share of items without an answer above which there is
	// nothing to judge.
	mostUnanswered = 0.25
	// signLevel is the level of the sign test on items that only one of two
	// servers answered rightly.
	signLevel  = 0.05
	lossLevel  = 0.90 // two-sided, so 95 % on one side
	fewestText = 2    // texts for an interval
	shownWrong = 5    // wrong answers quoted
	shownChars = 60
)

// Status of a check.
type Status string

// The statuses.
const (
	Passed     Status = "passed"
	Degraded   Status = "degraded"
	NotChecked Status = "not_checked"
)

// Record is "quality" in start.json.
type Record struct {
	Status Status `json:"status"`
	// Detail says why it was not checked, or in what it failed.
	Detail      string  `json:"detail,omitempty"`
	ProbeSHA256 string  `json:"probe_sha256,omitempty"`
	Seconds     float64 `json:"seconds,omitempty"`
	// Items were asked and answered, Right of them rightly; Wrong quotes some.
	Items int      `json:"items"`
	Right int      `json:"right"`
	Wrong []string `json:"wrong,omitempty"`
	// Unanswered items, and why the first had no answer.
	Unanswered int `json:"unanswered,omitempty"`
	// Positions scored; MeanLogProb is their mean, nats a token.
	Positions   int      `json:"positions,omitempty"`
	MeanLogProb *float64 `json:"mean_logprob_nats,omitempty"`
	// TextsNotChecked says why texts were not scored.
	TextsNotChecked string `json:"texts_not_checked,omitempty"`
	// IsReference: it is a reference configuration itself.
	IsReference bool        `json:"is_reference,omitempty"`
	Reference   *Comparison `json:"reference,omitempty"`
}

// Comparison is with the reference configuration.
type Comparison struct {
	// StartID and Experiment of the reference.
	StartID    string `json:"start_id"`
	Experiment string `json:"experiment,omitempty"`
	// Lost items were right there and are wrong here, Gained the other way round.
	Lost   int `json:"lost"`
	Gained int `json:"gained"`
	// Positions compared; Agreement is the share with the same most likely token.
	Positions int      `json:"positions,omitempty"`
	Agreement *float64 `json:"agreement,omitempty"`
	// LogProbChange is the mean of here - there, nats a token: negative is worse.
	// Low and High are its interval over texts (90 %).
	LogProbChange *float64 `json:"logprob_change_nats,omitempty"`
	Low           *float64 `json:"logprob_change_low,omitempty"`
	High          *float64 `json:"logprob_change_high,omitempty"`
}

// Skipped is the record of a check that was not made.
func Skipped(why string) Record { return Record{Status: NotChecked, Detail: why} }

// Judge makes the record of one probe without a reference.
func Judge(raw Raw) Record {
	r := Record{Status: Passed, ProbeSHA256: raw.ProbeSHA256}
	why := ""
	for _, a := range raw.Answers {
		switch {
		case a.Error != "":
			if r.Unanswered++; why == "" {
				why = a.Error
			}
		case a.Right:
			r.Items, r.Right = r.Items+1, r.Right+1
		default:
			if r.Items++; len(r.Wrong) < shownWrong {
				r.Wrong = append(r.Wrong, fmt.Sprintf("%s: %s", a.ID, clip(a.Text)))
			}
		}
	}
	var sum float64
	for _, s := range raw.Texts {
		if s.Error != "" && r.TextsNotChecked == "" {
			r.TextsNotChecked = s.Error
		}
		r.Positions += len(s.LogProbs)
		for _, x := range s.LogProbs {
			sum += x
		}
	}
	if r.Positions > 0 {
		mean := sum / float64(r.Positions)
		r.MeanLogProb = &mean
	}
	asked := r.Items + r.Unanswered
	switch {
	case asked == 0:
		r.Status, r.Detail = NotChecked, "no item fits into max-model-len"
	case float64(r.Unanswered) > mostUnanswered*float64(asked):
		r.Status, r.Detail = NotChecked, fmt.Sprintf("%d of %d items were not answered: %s", r.Unanswered, asked, why)
	case float64(r.Right) < LeastRight*float64(r.Items):
		r.fail("%d of %d items answered rightly, fewer than %g %%; first of the wrong, %s", r.Right, r.Items, 100*LeastRight, r.Wrong[0])
	}
	return r
}

func clip(s string) string {
	if r := []rune(s); len(r) > shownChars {
		s = string(r[:shownChars]) + "..."
	}
	return fmt.Sprintf("%q", s)
}

// fail adds a reason.
func (r *Record) fail(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if r.Status == Degraded {
		text = r.Detail + "; " + text
	}
	r.Status, r.Detail = Degraded, text
}

// Against judges the same probe beside that of a reference. What was not checked
// by itself stays so; another probe is not compared.
func (r Record) Against(raw, reference Raw, startID, experiment string) Record {
	if r.Status == NotChecked || raw.ProbeSHA256 != reference.ProbeSHA256 {
		return r
	}
	c := Comparison{StartID: startID, Experiment: experiment}
	there := map[string]Answer{}
	for _, a := range reference.Answers {
		there[a.ID] = a
	}
	for _, a := range raw.Answers {
		b, ok := there[a.ID]
		switch {
		case !ok || a.Error != "" || b.Error != "" || a.Right == b.Right:
		case b.Right:
			c.Lost++
		default:
			c.Gained++
		}
	}
	same, changes := 0, []float64{}
	var sum float64
	for i, s := range raw.Texts {
		if i >= len(reference.Texts) || len(s.Top) == 0 || len(s.Top) != len(reference.Texts[i].Top) || len(s.LogProbs) != len(reference.Texts[i].LogProbs) {
			continue
		}
		change := 0.0
		for k := range s.Top {
			if s.Top[k] == reference.Texts[i].Top[k] {
				same++
			}
			change += s.LogProbs[k] - reference.Texts[i].LogProbs[k]
		}
		c.Positions += len(s.Top)
		sum += change
		changes = append(changes, change/float64(len(s.Top)))
	}
	r.Reference = &c
	if c.Positions > 0 {
		agreement, mean := float64(same)/float64(c.Positions), sum/float64(c.Positions)
		c.Agreement, c.LogProbChange = &agreement, &mean
		if len(changes) >= fewestText {
			interval := stats.MeanInterval(changes, lossLevel)
			c.Low, c.High = &interval.Low, &interval.High
		}
	}
	r.judgeAgainst(c)
	return r
}

func (r *Record) judgeAgainst(c Comparison) {
	if c.Lost > c.Gained && signTest(c.Lost, c.Lost+c.Gained) < signLevel {
		r.fail("%d items that the reference %s answers are wrong here, %d the other way round", c.Lost, c.Experiment, c.Gained)
	}
	if c.Agreement != nil && *c.Agreement < LeastAgreement {
		r.fail("chooses the token of the reference %s at %.1f %% of %d positions, less than %g %%", c.Experiment, 100**c.Agreement, c.Positions, 100*LeastAgreement)
	}
	if c.High != nil && *c.High < -MostLoss {
		r.fail("log likelihood %.3f nats a token below the reference %s (90 %% interval %.3f to %.3f), more than %g", -*c.LogProbChange, c.Experiment, *c.Low, *c.High, MostLoss)
	}
}

// signTest is the probability of at least so many heads in n throws of a coin.
func signTest(heads, n int) float64 {
	p := 0.0
	for k := heads; k <= n; k++ {
		lg := func(x int) float64 { v, _ := math.Lgamma(float64(x + 1)); return v }
		p += math.Exp(lg(n) - lg(k) - lg(n-k) - float64(n)*math.Ln2)
	}
	return p
}

// String says the record in a line, for logs and tables.
func (r Record) String() string {
	if r.Status == NotChecked {
		return "not checked: " + r.Detail
	}
	text := fmt.Sprintf("%s, %d of %d items right", r.Status, r.Right, r.Items)
	switch c := r.Reference; {
	case r.IsReference:
		text += ", is the reference"
	case c != nil && c.Agreement != nil:
		text += fmt.Sprintf(", %.1f %% of tokens as the reference %s, log likelihood %+.3f nats a token", 100**c.Agreement, c.Experiment, *c.LogProbChange)
	case c != nil:
		text += ", texts not scored"
	default:
		text += ", no reference yet"
	}
	return text
}
