package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tidwall/gjson"
)

// model is the name that all clients send; the mock answers to it.
const model = "zai-org/GLM-4.6"

// The tokenizer's name and commit in Hugging Face's cache; offline, aiperf takes
// none from a folder.
const (
	tokenizerName   = "peers/bytes"
	tokenizerCommit = "0000000000000000000000000000000000000001"
)

// load is what every client is told to do: requests to /v1/completions, streamed,
// a fixed number in flight, each with its own prompt and a forced length.
type load struct {
	name        string
	concurrency int
	requests    int
	tokens      int // of each answer, one an event
	ttft, itl   time.Duration
}

var loads = map[string]load{
	"paced":   {name: "paced", concurrency: 64, requests: 64, tokens: 512, ttft: 100 * time.Millisecond, itl: 20 * time.Millisecond},
	"unpaced": {name: "unpaced", concurrency: 64, requests: 1024, tokens: 512, ttft: 100 * time.Millisecond},
}

// tiny is the same with next to no events: what a client costs by itself, with
// its imports, its connections and its report.
func (l load) tiny() load {
	l.name, l.requests, l.tokens = l.name+"-tiny", l.concurrency, 2
	return l
}

// job is one run of one client.
type job struct {
	*bench
	load
	url string
	dir string // of this run: inputs, logs, results
}

func (j job) python(tool string) string {
	return filepath.Join(j.tools, tool, "bin", "python")
}

func (j job) script(tool string) string { return filepath.Join(j.tools, tool, "bin", tool) }

func (j job) path(name string) string { return filepath.Join(j.dir, name) }

// claims are a tool's own figures of its main requests, in milliseconds. TPOT is
// time per output token after the first, whatever the tool calls it; its name
// for it stands beside the client.
type claims struct {
	Requests int     `json:"requests"`
	TTFT     float64 `json:"ttft_mean_ms"`
	TPOT     float64 `json:"tpot_mean_ms"`
}

// client is one load generator.
type client struct {
	name         string
	calls        string // what it calls TTFT and TPOT
	distribution string // its name on PyPI and of its environment; empty: glm46
	prepare      func(job) error
	command      func(job) []string
	read         func(job) (claims, error)
	// exits are exit codes besides 0 that come with a whole result.
	exits []int
	// tinyOnly is for what costs the same under any load.
	tinyOnly bool
}

// withCertificate is glm46 as it runs by default: it first measures itself.
const withCertificate = "glm46+certificate"

var clients = []client{
	{
		name: "glm46", calls: "`mean_ttft_ms`, `mean_tpot_ms`", exits: []int{3},
		prepare: glm46Data,
		command: func(j job) []string { return append(glm46Command(j), "--no-certificate") },
		read:    glm46Result,
	},
	{
		name: withCertificate, exits: []int{3}, tinyOnly: true,
		prepare: glm46Data, command: glm46Command, read: glm46Result,
	},
	{
		name: "vllm", distribution: "vllm", calls: "`mean_ttft_ms`, `mean_tpot_ms`",
		prepare: func(j job) error {
			return writeLines(j.path("prompts.jsonl"), j.load, func(_ int, prompt string) any {
				return map[string]any{"prompt": prompt}
			})
		},
		command: func(j job) []string {
			return []string{
				j.python("vllm"), j.shim, "--backend", "openai", "--base-url", j.url, "--endpoint", "/v1/completions",
				"--model", model, "--tokenizer", j.tokenizer(), "--dataset-name", "custom", "--dataset-path", j.path("prompts.jsonl"),
				"--skip-chat-template", "--disable-shuffle", "--custom-output-len", strconv.Itoa(j.tokens),
				"--num-prompts", strconv.Itoa(j.requests), "--max-concurrency", strconv.Itoa(j.concurrency), "--ignore-eos",
				"--ready-check-timeout-sec", "0", "--disable-tqdm", "--save-result", "--result-dir", j.dir, "--result-filename", "result.json",
			}
		},
		read: func(j job) (claims, error) {
			return readClaims(j.dir, "result.json", "completed", "mean_ttft_ms", "mean_tpot_ms")
		},
	},
	{
		name: "guidellm", distribution: "guidellm", calls: "`time_to_first_token_ms`, `inter_token_latency_ms`",
		prepare: func(j job) error {
			err := writeLines(j.path("prompts.jsonl"), j.load, func(_ int, prompt string) any {
				return map[string]any{"prompt": prompt, "output_tokens_count": j.tokens}
			})
			if err != nil {
				return err
			}
			return writeJSON(j.path("scenario.json"), map[string]any{"spec": map[string]any{
				"backend":     map[string]any{"kind": "openai_http", "target": j.url, "model": model, "request_format": "/v1/completions"},
				"profile":     map[string]any{"kind": "concurrent", "streams": []int{j.concurrency}},
				"constraints": []any{map[string]any{"kind": "max_requests", "count": j.requests}},
				"tokenizer":   map[string]any{"kind": "huggingface_auto", "model": j.tokenizer()},
				"data":        []any{map[string]any{"kind": "json_file", "path": j.path("prompts.jsonl")}},
				"outputs":     []any{map[string]any{"kind": "json", "path": j.path("result.json")}},
			}})
		},
		command: func(j job) []string {
			return []string{j.script("guidellm"), "run", "--config", j.path("scenario.json"), "--disable-console"}
		},
		read: func(j job) (claims, error) {
			const metrics = "benchmarks.0.metrics."
			return readClaims(j.dir, "result.json", metrics+"request_totals.successful",
				metrics+"time_to_first_token_ms.successful.mean", metrics+"inter_token_latency_ms.successful.mean")
		},
	},
	{
		name: "aiperf", distribution: "aiperf", calls: "`time_to_first_token`, `inter_token_latency`",
		prepare: func(j job) error {
			return writeLines(j.path("prompts.jsonl"), j.load, func(_ int, prompt string) any {
				return map[string]any{"text": prompt}
			})
		},
		command: func(j job) []string {
			return []string{
				j.script("aiperf"), "profile", "--model-names", model, "--url", j.url, "--endpoint-type", "completions", "--streaming",
				"--tokenizer", tokenizerName, "--use-server-token-count", "--input-file", j.path("prompts.jsonl"), "--custom-dataset-type", "single_turn",
				"--request-count", strconv.Itoa(j.requests), "--concurrency", strconv.Itoa(j.concurrency),
				"--extra-inputs", fmt.Sprintf(`{"max_tokens":%d,"min_tokens":%d,"ignore_eos":true}`, j.tokens, j.tokens),
				"--ui-type", "none", "--no-gpu-telemetry", "--no-server-metrics", "--artifact-dir", j.dir,
			}
		},
		read: func(j job) (claims, error) {
			return readClaims(j.dir, "profile_export_aiperf.json", "request_count.avg", "time_to_first_token.avg", "inter_token_latency.avg")
		},
	},
	{
		name: "inference-perf", distribution: "inference-perf", calls: "`time_to_first_token`, `time_per_output_token`",
		prepare: func(j job) error {
			// The answer's length is that of the recorded one, by a tokenizer with one token a byte.
			answer := strings.Repeat("a", j.tokens)
			var set []any
			for _, prompt := range prompts(j.load) {
				set = append(set, map[string]any{"conversations": []any{
					map[string]any{"from": "human", "value": prompt}, map[string]any{"from": "gpt", "value": answer},
				}})
			}
			if err := writeJSON(j.path("prompts.json"), set); err != nil {
				return err
			}
			return writeJSON(j.path("config.yml"), map[string]any{ // JSON is YAML
				"api":  map[string]any{"type": "completion", "streaming": true},
				"data": map[string]any{"type": "shareGPT", "path": j.path("prompts.json")},
				"load": map[string]any{
					"type": "concurrent", "base_seed": 1,
					"stages": []any{map[string]any{"num_requests": j.requests, "concurrency_level": j.concurrency}},
				},
				"server":    map[string]any{"type": "vllm", "model_name": model, "base_url": j.url, "ignore_eos": true},
				"tokenizer": map[string]any{"pretrained_model_name_or_path": j.tokenizer()},
				"report":    map[string]any{"request_lifecycle": map[string]any{"use_server_output_tokens": true}},
				"storage":   map[string]any{"local_storage": map[string]any{"path": j.path("reports")}},
			})
		},
		command: func(j job) []string {
			return []string{j.script("inference-perf"), "--config_file", j.path("config.yml")}
		},
		read: func(j job) (claims, error) {
			c, err := readClaims(j.path("reports"), "summary_lifecycle_metrics.json", "successes.count",
				"successes.latency.time_to_first_token.mean", "successes.latency.time_per_output_token.mean")
			c.TTFT, c.TPOT = 1e3*c.TTFT, 1e3*c.TPOT // it writes seconds
			return c, err
		},
	},
}

func indexOf(name string) int {
	return slices.IndexFunc(clients, func(c client) bool { return c.name == name })
}

func glm46Data(j job) error {
	return writeLines(j.path("prompts.jsonl"), j.load, func(i int, prompt string) any {
		return map[string]any{"id": fmt.Sprintf("p%04d", i), "prompt": prompt, "target_tokens": j.tokens}
	})
}

func glm46Command(j job) []string {
	return []string{
		j.glm46, "bench", "--url", j.url, "--model", model, "--data", j.path("prompts.jsonl"), "--results", j.path("results"),
		"--concurrency", strconv.Itoa(j.concurrency), "--json",
	}
}

func glm46Result(j job) (claims, error) {
	return readClaims(j.path("results"), "run.json", "completed", "mean_ttft_ms", "mean_tpot_ms")
}

// readClaims takes a tool's figures from its result file below dir, each by its
// path in the JSON.
func readClaims(dir, file, requests, ttft, tpot string) (claims, error) {
	data, err := found(dir, file)
	r := gjson.ParseBytes(data)
	return claims{int(r.Get(requests).Int()), r.Get(ttft).Float(), r.Get(tpot).Float()}, err
}

// prompts are the same for every client and run: distinct, about 400 bytes each.
func prompts(l load) []string {
	words := strings.Fields("the a of to and in model server token cache batch prefill decode queue latency stream " +
		"measure load client request answer kernel memory block layer expert route weight bandwidth node job step")
	random := rand.New(rand.NewPCG(46, 0))
	out := make([]string, l.requests)
	for i := range out {
		var s strings.Builder
		fmt.Fprintf(&s, "Request %d:", i)
		for s.Len() < 400 {
			s.WriteByte(' ')
			s.WriteString(words[random.IntN(len(words))])
		}
		out[i] = s.String()
	}
	return out
}

func writeLines(path string, l load, line func(i int, prompt string) any) error {
	var s strings.Builder
	encoder := json.NewEncoder(&s)
	for i, prompt := range prompts(l) {
		if err := encoder.Encode(line(i, prompt)); err != nil {
			return err
		}
	}
	return os.WriteFile(path, []byte(s.String()), 0o644)
}

func writeJSON(path string, value any) error {
	data, err := json.MarshalIndent(value, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}

// vocabulary has one token a byte, by GPT-2's printable stand-ins for bytes.
func vocabulary() map[string]int {
	vocab := map[string]int{}
	next := rune(256)
	for b := range 256 {
		r := rune(b)
		if b < '!' || b > '~' && b < 0xa1 || b == 0xad {
			r = next
			next++
		}
		vocab[string(r)] = b
	}
	return vocab
}

// writeTokenizer writes a tokenizer with one token a byte in the form that
// Python's transformers reads: the tools insist on one, and the model's own
// would have to be fetched. The server's counts decide, where a tool can use them.
func writeTokenizer(dir string) error {
	const end = "<|endoftext|>"
	byteLevel := map[string]any{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}
	refs := filepath.Join(dir, "..", "..", "refs")
	err := errors.Join(os.MkdirAll(dir, 0o755), os.MkdirAll(refs, 0o755), os.WriteFile(filepath.Join(refs, "main"), []byte(tokenizerCommit), 0o644))
	if err != nil {
		return err
	}
	err = writeJSON(filepath.Join(dir, "tokenizer.json"), map[string]any{
		"version": "1.0", "truncation": nil, "padding": nil, "normalizer": nil, "post_processor": nil,
		"pre_tokenizer": byteLevel, "decoder": byteLevel,
		"added_tokens": []any{map[string]any{
			"id": 256, "content": end, "special": true, "normalized": false, "single_word": false, "lstrip": false, "rstrip": false,
		}},
		"model": map[string]any{
			"type": "BPE", "dropout": nil, "unk_token": nil, "continuing_subword_prefix": nil, "end_of_word_suffix": nil,
			"fuse_unk": false, "byte_fallback": false, "vocab": vocabulary(), "merges": []any{},
		},
	})
	if err != nil {
		return err
	}
	return writeJSON(filepath.Join(dir, "tokenizer_config.json"), map[string]any{
		"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": end, "model_max_length": 131072,
	})
}
