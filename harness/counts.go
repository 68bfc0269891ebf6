package harness

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/glm46/glm46/datasets"
	"github.com/glm46/glm46/harness/load"
	"github.com/glm46/glm46/harness/measure"
	"github.com/glm46/glm46/harness/result"
)

const (
	// tokenizeTimeout bounds one question, countsTimeout all that are asked
	// before the levels.
	tokenizeTimeout = 60 * time.Second
	countsTimeout   = 2 * time.Minute
	// askedSamples are asked for of each sort (prompts, messages): the shortest,
	// the longest, and one in the middle.
	askedSamples = 3
	// estimateTolerance and exactTolerance are how far counts may be off, as a
	// share, before a line is printed: estimates of single texts are off by up to
	// 15 %, counts by a tokenizer not at all.
	// Source: docs/datasets.md, "Token estimate".
	estimateTolerance = 0.15
	exactTolerance    = 0.01
)

// modelTokenizer reads the tokenizer of the model's folder; nil where there is
// none that can be used, which is said only if there is a file. The mock has
// its own tokenizer, whatever the model.
func (c *campaign) modelTokenizer() *datasets.Tokenizer {
	if c.o.Mock != nil {
		return nil
	}
	if info, err := os.Stat(c.model); err != nil || !info.IsDir() {
		return nil
	}
	t, err := datasets.OpenTokenizer(c.model)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			c.observer.Note("", fmt.Sprintf("tokens are estimated: the model's tokenizer cannot be used: %v", err))
		}
		return nil
	}
	return t
}

// promptCounts says where the counts of a job's samples come from.
func (c *campaign) promptCounts(j *job) *measure.PromptCounts {
	p := &measure.PromptCounts{Sources: map[string]int{}, TokenizerSHA256: j.set.Tokenizer.SHA256}
	for _, s := range j.subset() {
		source := measure.CountsFile
		switch {
		case s.PromptTokensEstimated:
			source = measure.CountsEstimate
		case s.PromptTokensCounted:
			source = measure.CountsTokenizer
		case j.set.Manifest != nil:
			source = measure.CountsManifest
		}
		p.Sources[source]++
	}
	if m := j.set.Manifest; p.TokenizerSHA256 == "" && m != nil {
		p.TokenizerSHA256 = m.Tokenizer.SHA256
	}
	if c.tokenizer != nil {
		n := c.tokenizer.AddedSpecialTokens
		p.AddedSpecialTokens = &n
	}
	return p
}

// checkCounts asks the server how many tokens some samples have, with what it
// puts around them and without, and records it beside the data set's counts.
func (c *campaign) checkCounts(ctx context.Context, j *job, srv *server) {
	j.counts = c.promptCounts(j)
	asked, cancel := context.WithTimeout(ctx, countsTimeout)
	defer cancel()
	server, err := srv.serverCounts(asked, j.subset())
	label := j.cell().Label()
	switch {
	case ctx.Err() != nil:
		return
	case err != nil:
		j.counts.ServerNot = err.Error()
		c.observer.Note(label, "what the server adds to prompts is not known: "+err.Error())
	default:
		j.counts.Server = server
		if r := server.ChatTemplate; r != nil {
			srv.templateTokens = r.Max
		}
		c.sayDifference(j, "the server's tokenizer counts", server.Text, 0)
	}
	if err := j.start.Update(func(s *result.StartJSON) { s.Dataset.PromptCounts = j.counts }); err != nil {
		c.observer.Note(label, err.Error())
	}
}

// sayDifference prints, once for a job, that counts are further off than their
// source explains. added is what the server is known to add to each prompt.
func (c *campaign) sayDifference(j *job, who string, d measure.CountDifference, added float64) {
	tolerance, source := exactTolerance, "counted there"
	if j.counts.Sources[measure.CountsEstimate] > 0 {
		tolerance, source = estimateTolerance, "estimated"
	}
	share := d.Share
	if d.Mean != 0 {
		share *= (d.Mean - added) / d.Mean
	}
	if j.saidCounts || math.Abs(share) <= tolerance {
		return
	}
	j.saidCounts = true
	more := "more"
	if share < 0 {
		more = "fewer"
	}
	c.observer.Note(j.cell().Label(), fmt.Sprintf("%s %.1f %% %s prompt tokens than data set %s says (%s), by %+d at most (sample %s): what rests on the set's counts, as its name and what fits max-model-len, is off by as much",
		who, 100*math.Abs(share), more, j.set.Name, source, d.Max, d.SampleID))
}

// usageDifference is what the records that each is called with say of their
// prompts, against the data set.
func usageDifference(samples []load.Sample) (d *measure.CountDifference, each func(*measure.Record)) {
	stated := map[string]int{}
	for _, s := range samples {
		stated[s.ID] = s.PromptTokens
	}
	d = &measure.CountDifference{}
	return d, func(r *measure.Record) {
		if set := stated[r.SampleID]; r.Phase == measure.PhaseMain && r.Outcome == measure.OK && r.PromptTokens > 0 && set > 0 {
			d.Add(r.SampleID, r.PromptTokens, set)
		}
	}
}

// levelCounts are the counts of a finished level, with the difference of its
// usage figures.
func (c *campaign) levelCounts(j *job, usage *measure.CountDifference) *measure.PromptCounts {
	if j.counts == nil {
		return nil
	}
	counts := *j.counts
	if usage.Samples == 0 {
		return &counts
	}
	counts.Usage = usage
	added := 0.0
	if s := counts.Server; s != nil {
		if s.ChatTemplate != nil {
			added = s.ChatTemplate.Mean
		} else if s.SpecialTokens != nil {
			added = s.SpecialTokens.Mean
		}
	}
	c.sayDifference(j, "usage.prompt_tokens has", *usage, added)
	return &counts
}

// serverCounts asks for the counts of a few samples of each sort.
func (s *server) serverCounts(ctx context.Context, samples []datasets.Sample) (*measure.ServerCounts, error) {
	out := &measure.ServerCounts{}
	prompts, chats := 0, 0
	for _, x := range spread(samples, s.isChat) {
		sample := load.Sample{ID: x.ID, Prompt: x.Prompt, Messages: x.Messages, Tools: x.Tools}
		whole, err := s.tokenize(ctx, s.question(sample))
		if err != nil {
			return nil, fmt.Errorf("sample %s: %w", x.ID, err)
		}
		bare, err := s.tokenize(ctx, map[string]any{"prompt": x.Text(), "add_special_tokens": false})
		if err != nil {
			return nil, fmt.Errorf("sample %s: %w", x.ID, err)
		}
		if s.isChat(x) {
			out.ChatTemplate = out.ChatTemplate.Add(chats, whole-bare)
			chats++
		} else {
			out.SpecialTokens = out.SpecialTokens.Add(prompts, whole-bare)
			prompts++
		}
		out.Samples++
		out.Text.Add(x.ID, bare, x.PromptTokens)
	}
	return out, nil
}

// isChat says whether a sample goes to the chat endpoint.
func (s *server) isChat(x datasets.Sample) bool {
	if s.target.Endpoint != "" {
		return s.target.Endpoint == measure.EndpointChat
	}
	return x.Messages != nil
}

// spread picks askedSamples of each sort, over the lengths there are.
func spread(samples []datasets.Sample, isChat func(datasets.Sample) bool) []datasets.Sample {
	var out []datasets.Sample
	for _, chat := range []bool{false, true} {
		var of []datasets.Sample
		for _, x := range samples {
			if isChat(x) == chat {
				of = append(of, x)
			}
		}
		slices.SortStableFunc(of, func(a, b datasets.Sample) int { return a.PromptTokens - b.PromptTokens })
		n := min(askedSamples, len(of))
		for i := range n {
			out = append(out, of[i*(len(of)-1)/max(1, n-1)])
		}
	}
	return out
}

// question is a sample as /tokenize takes it, which adds what the endpoint of
// the sample adds.
func (s *server) question(sample load.Sample) map[string]any {
	if sample.Messages == nil && s.target.Endpoint != measure.EndpointChat {
		return map[string]any{"prompt": sample.Prompt}
	}
	messages := any(sample.Messages)
	if sample.Messages == nil {
		messages = []map[string]string{{"role": "user", "content": sample.Prompt}}
	}
	q := map[string]any{"messages": messages}
	if sample.Tools != nil {
		q["tools"] = sample.Tools
	}
	return q
}

// tokenize asks the server how many tokens a text or chat has. Servers other
// than vLLM need not answer such questions.
func (s *server) tokenize(ctx context.Context, question map[string]any) (int, error) {
	question["model"] = s.target.Model
	body, err := json.Marshal(question)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, tokenizeTimeout)
	defer cancel()
	status, answer, err := s.post(ctx, "/tokenize", body)
	if err != nil {
		return 0, fmt.Errorf("/tokenize: %w", err)
	}
	if status != http.StatusOK {
		return 0, fmt.Errorf("/tokenize answers %d %s", status, http.StatusText(status))
	}
	var parsed struct {
		Count int `json:"count"`
	}
	if err := json.Unmarshal(answer, &parsed); err != nil {
		return 0, fmt.Errorf("/tokenize answers no JSON with a count: %w", err)
	}
	// No text has more tokens than bytes, but for what a template adds.
	if parsed.Count <= 0 || parsed.Count > len(body)+1<<16 {
		return 0, fmt.Errorf("/tokenize counts %d tokens in %d bytes, which cannot be", parsed.Count, len(body))
	}
	return parsed.Count, nil
}
