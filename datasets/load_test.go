package datasets

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

var ctx = context.Background()

// forms are the ways in which the same two samples may lie on disk.
var forms = map[string]struct {
	name   string
	data   []byte
	format string
}{
	"jsonl":             {"s.jsonl", []byte(two), "JSON Lines, prompts"},
	"no last newline":   {"s.jsonl", []byte(strings.TrimSpace(two)), "JSON Lines, prompts"},
	"crlf, blank lines": {"s.jsonl", []byte("\r\n" + strings.ReplaceAll(two, "\n", "\r\n\r\n")), "JSON, prompts"},
	"zstd":              {"s.jsonl.zst", zst([]byte(two)), "zstd, JSON Lines, prompts"},
	"zstd frames":       {"s.jsonl.zst", append(zst([]byte(two[:30])), append(unhex("502a4d1803000000010203"), zst([]byte(two[30:]))...)...), "zstd, JSON Lines, prompts"},
	"zstd, wrong name":  {"s.json.gz", zst([]byte(two)), "zstd, JSON Lines, prompts"},
	"gzip":              {"s.jsonl.gz", gz([]byte(two)), "gzip, JSON Lines, prompts"},
	"gzip members":      {"s.jsonl.gz", append(gz([]byte(two[:30])), gz([]byte(two[30:]))...), "gzip, JSON Lines, prompts"},
	"xz":                {"s.jsonl.xz", xzed([]byte(two)), "xz, JSON Lines, prompts"},
	"gzip in zstd":      {"s", zst(gz([]byte(two))), "zstd, gzip, JSON Lines, prompts"},
	"array":             {"s.json", []byte("[" + strings.ReplaceAll(strings.TrimSpace(two), "\n", ",") + "]"), "JSON array, prompts"},
	"array over lines":  {"s.json", []byte("[\n" + strings.ReplaceAll(strings.TrimSpace(two), "\n", " ,\n\n") + "\n]\n"), "JSON array, prompts"},
	"pretty objects":    {"s.json", []byte(strings.ReplaceAll(two, `","`, "\",\n  \"")), "JSON, prompts"},
	"tar":               {"s.tar", tarOf("x/", "", "x/a.jsonl", two), "tar, JSON Lines, prompts"},
	"tar.zst of gz":     {"s.tar.zst", zst(tarOf("a.json.gz", string(gz([]byte(strings.Split(two, "\n")[0]))), "b.json", strings.Split(two, "\n")[1])), "zstd, tar, gzip, JSON Lines, prompts"},
	"text":              {"s.txt", []byte("First \"prompt\".\nIt has two lines.\n---\nÜber Pumpen: 泵站\t😀\n"), `plain text separated by "---"`},
	"text, ids":         {"s.txt", []byte("First \"prompt\".\nIt has two lines.\n<|endoftext|>\nÜber Pumpen: 泵站\t😀\n"), `plain text separated by "<|endoftext|>"`},
	"batch": {"s.jsonl", []byte(`{"custom_id":"a","method":"POST","url":"/v1/completions","body":{"model":"m","prompt":"First \"prompt\".\nIt has two lines.","max_tokens":100}}` + "\n" +
		`{"custom_id":"b","method":"POST","url":"/v1/completions","body":{"model":"m","prompt":"Über Pumpen: 泵站\t😀","max_tokens":200}}` + "\n"), "JSON Lines, OpenAI batch requests"},
	"vllm custom": {"s.jsonl", []byte(`{"prompt":"First \"prompt\".\nIt has two lines.","output_tokens":100}` + "\n" + `{"prompt":"Über Pumpen: 泵站\t😀","output_tokens":200}`), "JSON Lines, prompts"},
	"escaped":     {"s.jsonl", []byte(`{"id":"a","pro\u006dpt":"First \u0022prompt\".\u000aIt has two lines.","target_tokens":1e2}` + "\n" + `{"id":"b","prompt":"\u00dcber Pumpen: \u6cf5\u7ad9\t\ud83d\ude00","target_tokens":200.0}`), "JSON Lines, prompts"},
}

const two = `{"id":"a","prompt":"First \"prompt\".\nIt has two lines.","target_tokens":100}
{"id":"b","prompt":"Über Pumpen: 泵站\t😀","target_tokens":200}
`

func TestEveryForm(t *testing.T) {
	for name, tt := range forms {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), tt.name)
			writeFile(t, path, tt.data)
			set, err := Load(ctx, path, "", LoadOptions{})
			require.NoError(t, err)
			if set.Format != tt.format {
				t.Errorf("recognised %q, want %q", set.Format, tt.format)
			}
			require.Len(t, set.Samples, 2)
			for i, want := range []string{"First \"prompt\".\nIt has two lines.", "Über Pumpen: 泵站\t😀"} {
				s := set.Samples[i]
				if s.Prompt != want || s.Messages != nil {
					t.Errorf("sample %d: prompt %q, want %q", i, s.Prompt, want)
				}
				if s.PromptTokens < 5 || !s.PromptTokensEstimated {
					t.Errorf("sample %d: %d tokens, estimated %v", i, s.PromptTokens, s.PromptTokensEstimated)
				}
				if !strings.HasPrefix(tt.format, "plain") && s.TargetTokens != 100*(i+1) {
					t.Errorf("sample %d: target %d", i, s.TargetTokens)
				}
			}
			rep, err := Verify(ctx, []string{path}, VerifyOptions{})
			require.NoError(t, err)
			// Verify says it only where it comes for nothing.
			content := rep.Files[0].ContentSHA256
			if !rep.OK() || rep.Files[0].SHA256 != set.SHA256 || content != "" && content != set.ContentSHA256 || set.ContentSHA256 == "" {
				t.Errorf("Verify and Load disagree: %+v", rep.Files[0])
			}
		})
	}
}

func TestBzip2(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.jsonl.bz2")
	writeFile(t, path, append(append([]byte{}, bz2Hello...), bz2Hello...))
	set, err := Load(ctx, path, "", LoadOptions{})
	require.NoError(t, err)
	require.Len(t, set.Samples, 2)
	if set.Samples[1].Prompt != "hello bzip2" || set.Format != "bzip2, JSON Lines, prompts" {
		t.Errorf("got %q, %s", set.Samples[1].Prompt, set.Format)
	}
	if w := set.Warnings[0]; w.Code != "identical" {
		t.Errorf("identical prompts: %v", set.Warnings)
	}
}

func TestChatForms(t *testing.T) {
	tests := []struct {
		name, line     string
		messages       string
		tools          string
		target         int
		estimated      bool
		warning        string
		text           string
		idIsLineNumber bool
	}{
		{name: "messages", line: `{"id":"x","messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"Hi <b>"}],"target_tokens":7}`,
			messages: `[{"role":"system","content":"Be brief."},{"role":"user","content":"Hi <b>"}]`, target: 7, text: "system\nBe brief.\nuser\nHi <b>\n"},
		{name: "tools", line: `{"id":"x","tools":[{"type":"function","function":{"name":"f"}}],"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"1","content":"42"}],"max_tokens":9}`,
			messages: `[{"role":"user","content":"Hi"},{"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"1","content":"42"}]`,
			tools:    `[{"type":"function","function":{"name":"f"}}]`, target: 9},
		{name: "recorded answer", line: `{"id":"x","messages":[ {"role":"user","content":"Hi"} , {"role":"assistant","content":"Hello, how can I help you today?"} ]}`,
			messages: `[ {"role":"user","content":"Hi"}]`, target: 9, estimated: true},
		{name: "prefilled answer", line: `{"id":"x","messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"Sure,"}],"target_tokens":3}`,
			messages: `[{"role":"user","content":"Hi"},{"role":"assistant","content":"Sure,"}]`, target: 3},
		{name: "parts", line: `{"id":"x","messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}],"target_tokens":3}`,
			messages: `[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}]`, target: 3, text: "user\nab\n"},
		{name: "batch", line: `{"custom_id":"x","method":"POST","url":"/v1/chat/completions","body":{"messages":[{"role":"user","content":"Hi"}],"max_completion_tokens":5}}`,
			messages: `[{"role":"user","content":"Hi"}]`, target: 5},
		{name: "sharegpt", line: `{"id":"x","conversations":[{"from":"system","value":"S"},{"from":"gpt","value":"early"},{"from":"human","value":"Hi <b>"},{"from":"gpt","value":"Hello, how can I help you today?"},{"from":"human","value":"more"}]}`,
			messages: `[{"content":"S","role":"system"},{"content":"Hi <b>","role":"user"}]`, target: 9, estimated: true, warning: "turns_dropped"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s.jsonl")
			writeFile(t, path, []byte(tt.line+"\n"))
			set, err := Load(ctx, path, "", LoadOptions{})
			require.NoError(t, err)
			require.Len(t, set.Samples, 1)
			s := set.Samples[0]
			if string(s.Messages) != tt.messages || string(s.Tools) != tt.tools || s.Prompt != "" {
				t.Errorf("messages %s\nwant     %s\ntools %s", s.Messages, tt.messages, s.Tools)
			}
			if !json.Valid(s.Messages) {
				t.Errorf("messages are not JSON: %s", s.Messages)
			}
			if s.ID != "x" || s.TargetTokens != tt.target || s.TargetTokensEstimated != tt.estimated {
				t.Errorf("id %q target %d estimated %v, want %d %v", s.ID, s.TargetTokens, s.TargetTokensEstimated, tt.target, tt.estimated)
			}
			if tt.text != "" && s.Text() != tt.text {
				t.Errorf("text %q, want %q", s.Text(), tt.text)
			}
			if tt.warning != "" && (len(set.Warnings) == 0 || set.Warnings[0].Code != tt.warning) {
				t.Errorf("warnings %v, want %s", set.Warnings, tt.warning)
			}
		})
	}
}

func TestFolderOfSamples(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "b.txt"), []byte("Text with\n---\na line.\n"))
	writeFile(t, filepath.Join(dir, "a.json"), []byte("{\n \"prompt\": \"one\",\n \"target_tokens\": 5\n}\n"))
	writeFile(t, filepath.Join(dir, "c.json.zst"), zst([]byte(`{"id":"third","prompt":"three"}`)))
	writeFile(t, filepath.Join(dir, "README.md"), []byte("not a sample"))
	set, err := Load(ctx, dir, "8k", LoadOptions{})
	require.NoError(t, err)
	var got []string
	for _, s := range set.Samples {
		got = append(got, s.ID+"="+s.Prompt)
	}
	if want := "a=one|b=Text with\n---\na line.|third=three"; strings.Join(got, "|") != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if set.Name != "8k" || !strings.HasPrefix(set.Format, "folder of 3 files") {
		t.Errorf("name %q format %q", set.Name, set.Format)
	}
	// The same folder as a set inside a folder of sets.
	home := t.TempDir()
	require.NoError(t, os.Rename(dir, filepath.Join(home, "64k")))
	again, err := Load(ctx, home, "64k", LoadOptions{})
	require.NoError(t, err)
	if again.SHA256 != set.SHA256 || len(again.Samples) != 3 {
		t.Errorf("another hash or count: %d samples", len(again.Samples))
	}
}

func TestFolderOfSetsChoosesTheRightFile(t *testing.T) {
	dir := t.TempDir()
	for _, f := range []string{"8k.jsonl", "64k.jsonl.gz", "8k.json"} {
		data := []byte(good)
		if strings.HasSuffix(f, "gz") {
			data = gz(data)
		}
		writeFile(t, filepath.Join(dir, f), data)
	}
	set, err := Load(ctx, dir, "8k", LoadOptions{})
	require.NoError(t, err)
	if filepath.Base(set.Path) != "8k.jsonl" || set.Warnings[0].Code == "" {
		t.Errorf("path %s, warnings %v", set.Path, set.Warnings)
	}
	var invalid *InvalidError
	if _, err := Load(ctx, dir, "", LoadOptions{}); !errors.As(err, &invalid) {
		t.Errorf("two sets and no name: %v", err)
	}
	var missing *NotFoundError
	if _, err := Load(ctx, dir, "16k", LoadOptions{}); !errors.As(err, &missing) {
		t.Errorf("no such set: %v", err)
	}
	if _, err := Load(ctx, dir, "../x", LoadOptions{}); !errors.As(err, &missing) {
		t.Errorf("a name that leaves the folder: %v", err)
	}
	_, err = Load(ctx, filepath.Join(dir, "no where"), "8k", LoadOptions{})
	if !errors.As(err, &missing) || missing.Command != "glm46 datasets gen --dataset 8k -o '"+filepath.Join(dir, "no where")+"'" {
		t.Errorf("no such folder: %v", err)
	}
	rep, err := Verify(ctx, []string{dir}, VerifyOptions{})
	require.NoError(t, err)
	if len(rep.Files) != 3 || !rep.OK() {
		t.Errorf("%d sets in the folder, ok %v", len(rep.Files), rep.OK())
	}
	if _, err := Verify(ctx, []string{filepath.Join(dir, "none.jsonl")}, VerifyOptions{}); !errors.As(err, &missing) {
		t.Errorf("no such file: %v", err)
	}
}

func TestOtherFaultsOfFolders(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, ManifestFileName), []byte(manifestFor("gone.jsonl", sha(good), 1)))
	rep, err := Verify(ctx, []string{dir}, VerifyOptions{})
	require.NoError(t, err)
	if rep.OK() || rep.Files[0].Faults[0].Code != "missing" {
		t.Errorf("a file that only the manifest knows: %+v", rep.Files)
	}
	rep, err = Verify(ctx, []string{"/dev/null"}, VerifyOptions{})
	require.NoError(t, err)
	if rep.OK() || rep.Files[0].Faults[0].Code != "file" {
		t.Errorf("a device: %+v", rep.Files)
	}
	rep, err = Verify(ctx, []string{t.TempDir()}, VerifyOptions{})
	require.NoError(t, err)
	if rep.OK() {
		t.Error("an empty folder is no data set")
	}
}

// All faults up to the limit are listed, the others counted.
func TestFaultLimit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.jsonl")
	writeFile(t, path, []byte(strings.Repeat(`{"prompt":""}`+"\n", 30)))
	_, err := Load(ctx, path, "", LoadOptions{MaxFaults: 10})
	var invalid *InvalidError
	require.ErrorAs(t, err, &invalid)
	if len(invalid.Faults) != 10 || invalid.More != 20 || !strings.HasSuffix(err.Error(), "and 20 more") {
		t.Errorf("%d listed, %d more", len(invalid.Faults), invalid.More)
	}
}

func TestWarnings(t *testing.T) {
	var b strings.Builder
	shared := strings.Repeat("The same beginning for everyone, said at length. ", 60)
	for i := range 20 {
		fmt.Fprintf(&b, `{"id":"%d","prompt":"%s and then %d","prompt_tokens":600,"target_tokens":700}`+"\n", i, shared, i)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "8k.jsonl")
	writeFile(t, path, []byte(b.String()))
	rep, err := Verify(ctx, []string{path}, VerifyOptions{Fits: map[string][]Fit{"8k": {{"4A", 1000}, {"tiny", 500}}, "": {{"all", 4096}}}})
	require.NoError(t, err)
	r := rep.Files[0]
	codes := map[string]string{}
	for _, w := range r.Warnings {
		codes[w.Code+w.Field] = w.String()
	}
	for _, want := range []string{"shared_prefixprompt", "nameprompt_tokens, target_tokens", "does_not_fittarget_tokens"} {
		if codes[want] == "" {
			t.Errorf("no warning %s in %v", want, codes)
		}
	}
	if r.SharedPrefixShare < 0.9 || r.SharedPrefixShare > 0.95 {
		t.Errorf("shared prefix %v, want 19/20 of almost all", r.SharedPrefixShare)
	}
	want := []FitReport{
		{Name: "4A", MaxModelLen: 1000, Capped: 20, WorstOverTokens: 300, IDs: []string{"0", "1", "2", "3", "4"}},
		{Name: "tiny", MaxModelLen: 500, Impossible: 20, WorstOverTokens: 800, IDs: []string{"0", "1", "2", "3", "4"}},
		{Name: "all", MaxModelLen: 4096},
	}
	require.Equal(t, want, r.Fits)
}

// The subset of a larger number contains that of a smaller one, and every part
// of the range is represented.
func TestSubset(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 60).Draw(t, "samples")
		set := &Set{}
		for i := range n {
			set.Samples = append(set.Samples, Sample{ID: fmt.Sprint(i), Kind: fmt.Sprint(i % 3), PromptTokens: rapid.IntRange(1, 9000).Draw(t, "tokens")})
		}
		inSmaller := map[string]bool{}
		for k := 1; k <= n; k++ {
			now := map[string]bool{}
			last := -1
			for _, s := range set.Subset(k) {
				now[s.ID] = true
				var at int
				fmt.Sscan(s.ID, &at)
				if at <= last {
					t.Fatalf("subset of %d is not in the order of the file", k)
				}
				last = at
			}
			if len(now) != k {
				t.Fatalf("subset of %d has %d samples", k, len(now))
			}
			for id := range inSmaller {
				if !now[id] {
					t.Fatalf("subset of %d lacks %s of the smaller one", k, id)
				}
			}
			inSmaller = now
		}
	})
}

func TestSubsetIsStratified(t *testing.T) {
	set := &Set{}
	for i := range 100 {
		set.Samples = append(set.Samples, Sample{ID: fmt.Sprint(i), Kind: fmt.Sprint(i % 4), PromptTokens: 5000 + 37*i%1000})
	}
	mean := func(s []Sample) (m float64) {
		for _, x := range s {
			m += float64(x.PromptTokens) / float64(len(s))
		}
		return m
	}
	all := mean(set.Samples)
	for _, n := range []int{10, 25, 50} {
		sub := set.Subset(n)
		kinds := map[string]int{}
		for _, s := range sub {
			kinds[s.Kind]++
		}
		for k, c := range kinds {
			if c < n/4-1 || c > n/4+2 {
				t.Errorf("subset of %d has %d of kind %s", n, c, k)
			}
		}
		if m := mean(sub); m < 0.97*all || m > 1.03*all {
			t.Errorf("subset of %d has mean %.0f, the set %.0f", n, m, all)
		}
	}
}

// What is written comes back exactly, whatever the text.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		prompts := rapid.SliceOfN(rapid.StringMatching(`[a-z"\\\n\t/<&é泵😀\x01]{0,40}[a-z]`), 1, 8).Draw(t, "prompts")
		html := rapid.Bool().Draw(t, "escape HTML")
		var b strings.Builder
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(html)
		for i, p := range prompts {
			enc.Encode(map[string]any{"id": i, "prompt": p, "target_tokens": i + 1})
		}
		dir, err := os.MkdirTemp("", "roundtrip")
		require.NoError(t, err)
		defer os.RemoveAll(dir)
		path := filepath.Join(dir, "s.jsonl.zst")
		require.NoError(t, os.WriteFile(path, zst([]byte(b.String()), zstd.WithEncoderCRC(rapid.Bool().Draw(t, "crc"))), 0o666))
		set, err := Load(ctx, path, "", LoadOptions{})
		require.NoError(t, err)
		require.Len(t, set.Samples, len(prompts))
		same := map[string]bool{}
		for i, s := range set.Samples {
			if s.Prompt != prompts[i] || s.TargetTokens != i+1 || s.ID != fmt.Sprint(i) || s.Line != i+1 {
				t.Fatalf("sample %d came back as %+v", i, s)
			}
			same[s.Prompt] = true
		}
		if set.identical != len(prompts)-len(same) {
			t.Fatalf("%d identical prompts found, there are %d", set.identical, len(prompts)-len(same))
		}
	})
}

func TestInfo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mine.jsonl")
	var b strings.Builder
	for i := range 40 {
		fmt.Fprintf(&b, `{"id":"%d","prompt":"%d: what is this?","prompt_tokens":%d,"target_tokens":256}`+"\n", i, i, 5+i%13)
	}
	writeFile(t, path, []byte(b.String()))
	set, err := Load(ctx, path, "", LoadOptions{})
	require.NoError(t, err)
	info := set.Info()
	info.Path = "mine.jsonl"
	compareGolden(t, "info.golden", info.Text()+PlanTable([]*Info{info}))
	sum := int64(0)
	for _, h := range info.PromptTokens.Histogram {
		sum += h.Count
	}
	if sum != 40 {
		t.Errorf("the histogram counts %d of 40", sum)
	}
	if _, err := json.Marshal(info); err != nil {
		t.Error(err)
	}
}

func TestCancelledLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.jsonl")
	writeFile(t, path, []byte(good))
	c, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := Load(c, path, "", LoadOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
