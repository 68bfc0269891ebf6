package harness

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/glm46/glm46/datasets"
	"github.com/glm46/glm46/harness/load"
	"github.com/glm46/glm46/harness/measure"
	"github.com/glm46/glm46/harness/result"
	"github.com/glm46/glm46/mockvllm"
)

// mockServer serves a mock in process; handler, if any, answers /tokenize.
func mockServer(t *testing.T, handler http.HandlerFunc) *httptest.Server {
	m, err := mockvllm.New(mockvllm.Options{Args: []string{"zai-org/GLM-4.6", "--tensor-parallel-size", "8", "--max-model-len", "32768"}, Speed: 1000})
	require.NoError(t, err)
	require.NoError(t, m.Start(t.Context()))
	inner := m.HTTPServer()
	if handler != nil {
		mux := http.NewServeMux()
		mux.HandleFunc("/tokenize", handler)
		mux.Handle("/", inner.Handler)
		inner.Handler = mux
	}
	s := httptest.NewUnstartedServer(nil)
	s.Config = inner
	s.Start()
	t.Cleanup(func() {
		s.Close()
		require.NoError(t, m.Close())
	})
	return s
}

// notes keeps what an Observer is told.
type notes struct {
	silent
	lines []string
}

func (n *notes) Note(_, text string) { n.lines = append(n.lines, text) }

func (n *notes) with(part string) (found []string) {
	for _, l := range n.lines {
		if strings.Contains(l, part) {
			found = append(found, l)
		}
	}
	return found
}

// bench measures lines as a data set on a server, and reads the records back.
func bench(t *testing.T, s *httptest.Server, endpoint measure.Endpoint, lines ...string) (*measure.PromptCounts, *measure.PromptCounts, *notes) {
	dir := t.TempDir()
	data := filepath.Join(dir, "mine.jsonl")
	require.NoError(t, os.WriteFile(data, []byte(strings.Join(lines, "\n")+"\n"), 0o666))
	said := &notes{}
	_, err := Bench(t.Context(), BenchOptions{URL: s.URL, Data: data, Concurrency: 4, ResultsDir: dir, Observer: said, NoCertificate: true, Endpoint: endpoint})
	require.NoError(t, err)
	all, err := result.ReadAll(dir)
	require.NoError(t, err)
	require.Len(t, all, 1)
	require.Len(t, all[0].Levels, 1)
	require.Equal(t, len(lines), all[0].Levels[0].Run.Metrics.Completed, said.lines)
	return all[0].Start.Dataset.PromptCounts, all[0].Levels[0].Run.Dataset.PromptCounts, said
}

// tokens counts as the mock does.
func tokens(t *testing.T, s *httptest.Server, question map[string]any) int {
	srv := &server{target: load.Target{BaseURL: s.URL, Model: "zai-org/GLM-4.6"}}
	n, err := srv.tokenize(t.Context(), question)
	require.NoError(t, err)
	return n
}

func TestCountsAgainstTheServer(t *testing.T) {
	s := mockServer(t, nil)
	text := strings.Repeat("The harbour was empty, and the ships had left. ", 30)
	exact := tokens(t, s, map[string]any{"prompt": text})
	prompt := func(id string, stated int) string {
		return fmt.Sprintf(`{"id":%q,"prompt":%q,"prompt_tokens":%d,"target_tokens":4}`, id, text, stated)
	}
	t.Run("counts that are right", func(t *testing.T) {
		start, run, said := bench(t, s, "", prompt("a", exact), prompt("b", exact))
		require.Equal(t, map[string]int{measure.CountsFile: 2}, start.Sources)
		require.Equal(t, &measure.TokenRange{}, start.Server.SpecialTokens)
		require.Nil(t, start.Server.ChatTemplate)
		require.Zero(t, start.Server.Text.Max)
		require.Equal(t, 2, run.Usage.Samples)
		require.Zero(t, run.Usage.Max)
		require.Empty(t, said.with("prompt tokens than"))
	})
	t.Run("counts that are wrong", func(t *testing.T) {
		start, run, said := bench(t, s, "", prompt("a", exact), prompt("b", exact), prompt("c", exact-40), prompt("d", exact))
		require.Equal(t, 40, start.Server.Text.Max)
		require.Equal(t, measure.CountDifference{Samples: 4, Mean: 10, Max: 40, SampleID: "c", Share: 40 / float64(4*exact-40)}, *run.Usage)
		require.Len(t, said.with("more prompt tokens than"), 1, "once, not for each level")
		require.Contains(t, said.with("more prompt tokens than")[0], "by +40 at most (sample c)")
	})
	t.Run("messages with tools", func(t *testing.T) {
		chat := `[{"role":"system","content":"Be brief."},{"role":"user","content":"` + text + `"}]`
		tools := `[{"type":"function","function":{"name":"list_ships","parameters":{"type":"object"}}}]`
		question := map[string]any{"messages": json.RawMessage(chat), "tools": json.RawMessage(tools)}
		sample := datasets.Sample{Messages: json.RawMessage(chat), Tools: json.RawMessage(tools)}
		bare := tokens(t, s, map[string]any{"prompt": sample.Text()})
		whole := tokens(t, s, question)
		line := func(id, tools string) string {
			return fmt.Sprintf(`{"id":%q,"messages":%s%s,"prompt_tokens":%d,"target_tokens":4}`, id, chat, tools, bare)
		}
		start, run, _ := bench(t, s, "", line("a", `,"tools":`+tools), line("b", `,"tools":`+tools))
		require.Equal(t, &measure.TokenRange{Min: whole - bare, Mean: float64(whole - bare), Max: whole - bare}, start.Server.ChatTemplate)
		require.Nil(t, start.Server.SpecialTokens)
		require.Equal(t, whole-bare, run.Usage.Max, "tools are sent and counted")
		_, without, _ := bench(t, s, "", line("a", ""), line("b", ""))
		require.Less(t, without.Usage.Max, run.Usage.Max)
	})
	t.Run("prompts as chats", func(t *testing.T) {
		start, run, _ := bench(t, s, measure.EndpointChat, prompt("a", exact))
		require.Positive(t, start.Server.ChatTemplate.Min)
		require.Equal(t, start.Server.ChatTemplate.Min, run.Usage.Max)
	})
	t.Run("estimates", func(t *testing.T) {
		start, run, _ := bench(t, s, "", fmt.Sprintf(`{"id":"a","prompt":%q,"target_tokens":4}`, text), prompt("b", exact))
		require.Equal(t, map[string]int{measure.CountsEstimate: 1, measure.CountsFile: 1}, start.Sources)
		require.Equal(t, start.Sources, run.Sources)
	})
}

// A server that cannot count, or says nonsense, is measured all the same.
func TestCountsWithoutTokenize(t *testing.T) {
	for name, tt := range map[string]struct {
		handler http.HandlerFunc
		says    string
	}{
		"missing":    {http.NotFound, "/tokenize answers 404 Not Found"},
		"no JSON":    {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>hello") }, "no JSON with a count"},
		"no count":   {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"tokens":[1,2]}`) }, "which cannot be"},
		"negative":   {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"count":-3}`) }, "which cannot be"},
		"impossible": {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"count":1000000000}`) }, "which cannot be"},
		"cut off": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, `{"count":1`)
		}, "/tokenize: unexpected EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			start, run, said := bench(t, mockServer(t, tt.handler), "", `{"id":"a","prompt":"hello out there, who is it","prompt_tokens":7,"target_tokens":4}`)
			require.Nil(t, start.Server)
			require.Contains(t, start.ServerNot, tt.says)
			require.Equal(t, 1, run.Usage.Samples)
			require.Len(t, said.with("what the server adds to prompts is not known"), 1)
		})
	}
}

// The tokenizer of the model's folder counts what the set only estimates.
func TestCountsWithTheModelsTokenizer(t *testing.T) {
	file, err := os.ReadFile(filepath.Join("..", "datasets", "tokenize", "testdata", "other.json"))
	require.NoError(t, err)
	for name, tt := range map[string]struct {
		tokenizer []byte
		source    string
		said      int
	}{
		"there":         {file, measure.CountsTokenizer, 0},
		"not there":     {nil, measure.CountsEstimate, 0},
		"not supported": {[]byte(`{"model":{"type":"Unigram"}}`), measure.CountsEstimate, 1},
	} {
		t.Run(name, func(t *testing.T) {
			model, data := t.TempDir(), t.TempDir()
			if tt.tokenizer != nil {
				require.NoError(t, os.WriteFile(filepath.Join(model, "tokenizer.json"), tt.tokenizer, 0o666))
			}
			lines := `{"id":"a","prompt":"The harbour was empty","target_tokens":4}` + "\n" + `{"id":"b","prompt":"The ships had left","prompt_tokens":4,"target_tokens":4}` + "\n"
			require.NoError(t, os.WriteFile(filepath.Join(data, "8k.jsonl"), []byte(lines), 0o666))
			said := &notes{}
			c := &campaign{o: Options{DataDir: data}, observer: said, model: model, sets: map[string]*datasets.Set{}}
			set, err := c.dataSet(t.Context(), "8k")
			require.NoError(t, err)
			j := &job{set: set}
			j.configuration.Cell.Settings.NumSamples = 2
			counts := c.promptCounts(j)
			require.Equal(t, map[string]int{tt.source: 1, measure.CountsFile: 1}, counts.Sources)
			require.Len(t, said.with("tokenizer cannot be used"), tt.said)
			require.Equal(t, tt.source == measure.CountsTokenizer, counts.TokenizerSHA256 != "")
			require.Equal(t, tt.source == measure.CountsTokenizer, counts.AddedSpecialTokens != nil)
		})
	}
}

func TestSpreadOfAskedSamples(t *testing.T) {
	var samples []datasets.Sample
	for i := range 9 {
		samples = append(samples, datasets.Sample{ID: fmt.Sprint("p", i), PromptTokens: 100 - i})
	}
	samples = append(samples, datasets.Sample{ID: "m", Messages: json.RawMessage(`[]`)})
	var ids []string
	for _, s := range spread(samples, (&server{}).isChat) {
		ids = append(ids, s.ID)
	}
	require.Equal(t, []string{"p8", "p4", "p0", "m"}, ids)
	require.Empty(t, spread(nil, (&server{}).isChat))
}

func TestTokenizeIsBounded(t *testing.T) {
	s := mockServer(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	srv := &server{target: load.Target{BaseURL: s.URL, Model: "zai-org/GLM-4.6"}}
	_, err := srv.room(ctx, load.Sample{Prompt: "hello", TargetTokens: 10}, 20)
	require.ErrorIs(t, err, context.Canceled)
}
