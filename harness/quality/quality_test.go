package quality

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestProbeStaysTheSame: scores of two releases are compared only where the
// probe is the same, so a change of it must be meant.
func TestProbeStaysTheSame(t *testing.T) {
	const want = "fd6efd51cdf6c64c35982df33c5c070090899418bf3fb6e3870955577f1236b9"
	if got := ProbeSHA256(); got != want {
		t.Errorf("the probe is %s, was %s: results before and after cannot be compared", got, want)
	}
}

func TestItemsHaveRightAnswers(t *testing.T) {
	seen := map[string]bool{}
	for _, it := range Items(0) {
		if seen[it.ID] || it.Want == "" || strings.Contains(it.Want, it.Stop) {
			t.Errorf("%s: twice, or its answer %q is none", it.ID, it.Want)
		}
		seen[it.ID] = true
		kind, _, _ := strings.Cut(it.ID, "-")
		last := it.Prompt[strings.LastIndex(strings.TrimRight(it.Prompt, "\n"), "\n")+1:]
		switch kind {
		case "sum":
			var x, y int
			_, err := fmt.Sscanf(last, "%d + %d =", &x, &y)
			require.NoError(t, err)
			require.Equal(t, strconv.Itoa(x+y), it.Want)
		case "sort":
			given := strings.Fields(it.Prompt[strings.LastIndex(it.Prompt, "numbers:")+len("numbers:") : strings.LastIndex(it.Prompt, "\n")])
			slices.Sort(given) // of two digits each
			require.Equal(t, strings.Join(given, " "), it.Want)
		case "copy":
			require.Contains(t, it.Prompt, it.Want)
		case "lookup", "long":
			name := regexp.MustCompile(`code of (\S+)\?\nAnswer:$`).FindStringSubmatch(it.Prompt)
			require.Len(t, name, 2, it.Prompt[len(it.Prompt)-200:])
			require.Equal(t, 1, strings.Count(it.Prompt, "The code of "+name[1]+" is "))
			require.Contains(t, it.Prompt, "The code of "+name[1]+" is "+it.Want+".\n")
		default:
			t.Errorf("unknown kind %s", it.ID)
		}
	}
	require.Len(t, Items(0), 22)
	require.Len(t, Items(2048), 18, "long lists do not fit")
	require.Empty(t, Items(8))
	for i, text := range Texts() {
		if len(text) < 200 || len(text) > 700 || strings.Contains(text, "---") {
			t.Errorf("text %d has %d bytes", i, len(text))
		}
	}
}

func TestParseAnswer(t *testing.T) {
	it := Item{ID: "sum-0", Want: "42", Stop: "\n"}
	for _, c := range []struct {
		body  string
		right bool
		fault string
	}{
		{`{"choices":[{"text":" 42"}]}`, true, ""},
		{`{"choices":[{"text":" 42\n31 + 1 = 32"}]}`, true, ""},
		{`{"choices":[{"text":" 421"}]}`, false, ""},
		{`{"choices":[{"text":""}]}`, false, ""},
		{`{"choices":[]}`, false, "no choices"},
		{`{"choices":[{"text":null}]}`, false, "no choices"},
		{`{"choices":[{"text":" 42"`, false, "no choices"},
	} {
		if a := ParseAnswer(it, []byte(c.body)); a.Right != c.right || (a.Error == "") != (c.fault == "") || !strings.Contains(a.Error, c.fault) {
			t.Errorf("%s: %+v", c.body, a)
		}
	}
}

func TestParseScores(t *testing.T) {
	body := func(positions string) []byte {
		return []byte(`{"choices":[{"text":"x","prompt_logprobs":` + positions + `}]}`)
	}
	got, err := ParseScores(body(`[null,
		{"7":{"logprob":-2.5,"rank":4,"decoded_token":" a"},"9":{"logprob":-0.25,"rank":1,"decoded_token":" b"}},
		{"3":{"logprob":0,"rank":1,"decoded_token":" c"}},
		{"5":{"logprob":-1,"rank":1},"6":{"logprob":-1,"rank":1}}]`))
	require.NoError(t, err)
	require.Equal(t, Scores{Top: []int{9, 3, 5}, LogProbs: []float64{-2.5, 0, -1}}, got)
	for _, none := range []string{`null`, `[]`, `[null]`, `7`} {
		_, err := ParseScores(body(none))
		require.ErrorIs(t, err, ErrNoScores, none)
	}
	for _, bad := range []string{`[null,null]`, `[null,{}]`, `[null,{"x":{"logprob":-1,"rank":1}}]`, `[null,{"1":{"logprob":0.5,"rank":1}}]`,
		`[null,{"1":{"logprob":-1,"rank":0}}]`, `[null,{"1":{"logprob":"-1","rank":1}}]`, `[null,{"1":7}]`} {
		_, err := ParseScores(body(bad))
		if err == nil || errors.Is(err, ErrNoScores) || !strings.Contains(err.Error(), "prompt_logprobs[1]") {
			t.Errorf("%s: error %v does not name the position", bad, err)
		}
	}
}

func FuzzParseScores(f *testing.F) {
	f.Add([]byte(`{"choices":[{"prompt_logprobs":[null,{"7":{"logprob":-2.5,"rank":4},"9":{"logprob":-0.25,"rank":1}}]}]}`))
	f.Add([]byte(`{"choices":[{"prompt_logprobs":[null,{"7":{"logprob":-1e999,"rank":1}}]}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		s, err := ParseScores(body)
		if err == nil && (len(s.Top) == 0 || len(s.Top) != len(s.LogProbs)) {
			t.Errorf("%q: %+v", body, s)
		}
	})
}

// probe makes answers of which the first wrong are wrong, and scores of ten
// texts, as far as the arguments say.
func probe(wrong, unanswered, otherTop int, shift func(text int) float64) Raw {
	raw := Raw{ProbeSHA256: "p"}
	for i := range 20 {
		a := Answer{ID: fmt.Sprintf("sum-%d", i), Text: "41", Right: i >= wrong}
		if i >= 20-unanswered {
			a = Answer{ID: a.ID, Error: "the server answers 500"}
		}
		raw.Answers = append(raw.Answers, a)
	}
	for text := range 10 {
		var s Scores
		for k := range 20 {
			s.Top, s.LogProbs = append(s.Top, k), append(s.LogProbs, -1+shift(text))
			if otherTop > 0 {
				s.Top[k], otherTop = -1, otherTop-1
			}
		}
		raw.Texts = append(raw.Texts, s)
	}
	return raw
}

func flat(int) float64 { return 0 }

func TestJudge(t *testing.T) {
	for _, c := range []struct {
		name   string
		raw    Raw
		status Status
		detail string
	}{
		{"all right", probe(0, 0, 0, flat), Passed, ""},
		{"three quarters", probe(5, 0, 0, flat), Passed, ""},
		{"fewer", probe(6, 0, 0, flat), Degraded, `14 of 20 items answered rightly, fewer than 75 %; first of the wrong, sum-0: "41"`},
		{"a few unanswered", probe(0, 5, 0, flat), Passed, ""},
		{"many unanswered", probe(0, 6, 0, flat), NotChecked, "6 of 20 items were not answered: the server answers 500"},
		{"nothing fits", Raw{}, NotChecked, "no item fits"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if r := Judge(c.raw); r.Status != c.status || !strings.Contains(r.Detail, c.detail) {
				t.Errorf("%+v, want %s with %q", r, c.status, c.detail)
			}
		})
	}
	r := Judge(probe(0, 0, 0, func(text int) float64 { return -float64(text) }))
	require.Equal(t, 200, r.Positions)
	require.InDelta(t, -5.5, *r.MeanLogProb, 1e-9)
}

func TestAgainst(t *testing.T) {
	reference := probe(0, 0, 0, flat)
	for _, c := range []struct {
		name   string
		raw    Raw
		status Status
		detail string
	}{
		{"the same", probe(0, 0, 0, flat), Passed, ""},
		{"four lost may be chance", probe(4, 0, 0, flat), Passed, ""},
		{"five lost are not", probe(5, 0, 0, flat), Degraded, "5 items that the reference 5B answers are wrong here, 0 the other way"},
		{"95 % of tokens", probe(0, 0, 10, flat), Passed, ""},
		{"fewer", probe(0, 0, 11, flat), Degraded, "at 94.5 % of 200 positions, less than 95 %"},
		{"a small loss everywhere", probe(0, 0, 0, func(int) float64 { return -0.019 }), Passed, ""},
		{"a large loss everywhere", probe(0, 0, 0, func(int) float64 { return -0.03 }), Degraded, "0.030 nats a token below the reference 5B"},
		{"a large loss in one text", probe(0, 0, 0, func(text int) float64 {
			if text == 0 {
				return -0.9
			}
			return 0
		}), Passed, ""},
		{"a gain", probe(0, 0, 0, func(int) float64 { return 0.5 }), Passed, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := Judge(c.raw).Against(c.raw, reference, "s1", "5B")
			if r.Status != c.status || !strings.Contains(r.Detail, c.detail) || r.Reference == nil || r.Reference.StartID != "s1" {
				t.Errorf("%+v, want %s with %q", r, c.status, c.detail)
			}
		})
	}
	other := reference
	other.ProbeSHA256 = "q"
	require.Nil(t, Judge(reference).Against(reference, other, "s1", "5B").Reference, "another probe")
	unscored := probe(0, 0, 0, flat)
	unscored.Texts = []Scores{{Error: ErrNoScores.Error()}}
	r := Judge(unscored).Against(unscored, reference, "s1", "5B")
	require.Equal(t, Passed, r.Status)
	require.Nil(t, r.Reference.Agreement)
	require.Equal(t, ErrNoScores.Error(), r.TextsNotChecked)
}

func TestSignTest(t *testing.T) {
	for _, c := range []struct {
		heads, n int
		want     float64
	}{{5, 5, 1.0 / 32}, {4, 4, 1.0 / 16}, {6, 7, 8.0 / 128}, {0, 3, 1}} {
		require.InDelta(t, c.want, signTest(c.heads, c.n), 1e-12)
	}
}
