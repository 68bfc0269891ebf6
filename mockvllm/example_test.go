package mockvllm_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/glm46/glm46/mockvllm"
)

// A mock in a test: an http.Handler behind httptest, at a fixed pace.
func Example() {
	m, err := mockvllm.New(mockvllm.Options{
		Args: []string{"zai-org/GLM-4.6", "--tensor-parallel-size", "8", "--max-model-len", "32k"},
		Pace: &mockvllm.Pace{TTFT: 5 * time.Millisecond, ITL: time.Millisecond},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer m.Close()
	if err := m.Start(context.Background()); err != nil {
		fmt.Println(err)
		return
	}
	s := httptest.NewServer(m)
	defer s.Close()

	resp, err := s.Client().Post(s.URL+"/v1/chat/completions", "application/json", strings.NewReader(
		`{"messages":[{"role":"user","content":"hello"}],"max_tokens":3,"ignore_eos":true,"stream":true}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	events := 0
	for sc := bufio.NewScanner(resp.Body); sc.Scan(); {
		if strings.HasPrefix(sc.Text(), "data: ") {
			events++
		}
	}
	fmt.Println(resp.Status, events, "events") // role, three tokens, [DONE]
	// Output: 200 OK 5 events
}

// A stream that breaks in the middle, for the tests of a client.
func ExampleParseScenario() {
	s, err := mockvllm.ParseScenario("broken.yaml", []byte(`
version: 1
requests:
- match: {every: 2}
  at_token: 2
  cut: true
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	m, err := mockvllm.New(mockvllm.Options{
		Args: []string{"zai-org/GLM-4.6", "--tensor-parallel-size", "8"}, Pace: &mockvllm.Pace{}, Scenario: s,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer m.Close()
	if err := m.Start(context.Background()); err != nil {
		fmt.Println(err)
		return
	}
	srv := httptest.NewServer(m)
	defer srv.Close()
	for range 2 {
		resp, err := srv.Client().Post(srv.URL+"/v1/completions", "application/json", strings.NewReader(
			`{"prompt":"hello","max_tokens":4,"ignore_eos":true,"stream":true}`))
		if err != nil {
			fmt.Println(err)
			return
		}
		sc := bufio.NewScanner(resp.Body)
		for sc.Scan() {
		}
		fmt.Println(sc.Err())
		resp.Body.Close()
	}
	// Output:
	// unexpected EOF
	// <nil>
}
