package harness

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/glm46/glm46/harness/load"
	"github.com/glm46/glm46/harness/measure"
	"github.com/glm46/glm46/harness/quality"
)

// answering is a server that knows all answers and scores every text of as many
// tokens as it has words.
func answering(t *testing.T, scores bool) *server {
	answers := map[string]string{}
	for _, it := range quality.Items(0) {
		answers[it.Prompt] = it.Want
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			Prompt         string
			Stream         bool
			Temperature    *float64
			PromptLogprobs *int `json:"prompt_logprobs"`
		}
		if json.NewDecoder(r.Body).Decode(&body) != nil || r.URL.Path != "/v1/completions" || body.Stream || body.Temperature == nil || *body.Temperature != 0 {
			http.Error(w, "unexpected", http.StatusBadRequest)
			return
		}
		want, known := answers[body.Prompt]
		switch {
		case known && body.PromptLogprobs == nil:
			fmt.Fprintf(w, `{"choices":[{"text":%q,"prompt_logprobs":null}]}`, " "+want+"\n")
		case !known && body.PromptLogprobs != nil && scores:
			fmt.Fprint(w, `{"choices":[{"text":"x","prompt_logprobs":[null,{"7":{"logprob":-2.5,"rank":4},"9":{"logprob":-0.25,"rank":1}}]}]}`)
		default:
			http.Error(w, `{"error":"prompt_logprobs is not supported"}`, http.StatusBadRequest)
		}
	}))
	t.Cleanup(s.Close)
	return &server{target: load.Target{BaseURL: s.URL, Model: "m"}}
}

func TestProbeOfAServer(t *testing.T) {
	raw := answering(t, true).probe(context.Background())
	record := quality.Judge(raw)
	require.Equal(t, quality.Passed, record.Status)
	require.Equal(t, len(quality.Items(0)), record.Right)
	require.Equal(t, len(quality.Texts()), record.Positions)

	record = quality.Judge(answering(t, false).probe(context.Background()))
	require.Equal(t, quality.Passed, record.Status, "items alone decide where no text is scored")
	require.Contains(t, record.TextsNotChecked, "prompt_logprobs is not supported")

	gone := answering(t, true)
	gone.target.BaseURL = "http://127.0.0.1:1"
	record = quality.Judge(gone.probe(context.Background()))
	require.Equal(t, quality.NotChecked, record.Status)
	require.Equal(t, measure.Quality{NotChecked: record.Detail}, qualityVerdict(&record))
}
