// Command compare checks the tokenizer against recorded output of the
// reference implementation, and measures both:
//
//	bash datasets/tokenize/compare/run.sh
//
// It reads pairs of files from a folder, NAME.json (a tokenizer.json) and
// NAME.strings.jsonl (one {"text", "ids"} a line, by compare.py), and exits 1
// if an id differs.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/glm46/glm46/datasets/tokenize"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: compare FOLDER")
		os.Exit(2)
	}
	bad, err := run(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
	if bad > 0 {
		os.Exit(1)
	}
}

func run(dir string) (bad int, err error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.strings.jsonl"))
	if err != nil || len(files) == 0 {
		return 0, fmt.Errorf("no *.strings.jsonl in %s: run compare.py first", dir)
	}
	for _, f := range files {
		name := strings.TrimSuffix(f, ".strings.jsonl")
		n, err := compare(name)
		if err != nil {
			return bad, err
		}
		bad += n
	}
	return bad, nil
}

// recorded is one string with the reference's ids.
type recorded struct {
	Text string  `json:"text"`
	IDs  []int32 `json:"ids"`
}

func compare(name string) (bad int, err error) {
	t, err := tokenize.Load(name + ".json")
	if err != nil {
		fmt.Printf("%-16s skipped: %v\n", filepath.Base(name), err)
		return 0, nil
	}
	f, err := os.Open(name + ".strings.jsonl")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 1<<26)
	n, tokens := 0, 0
	var got []int32
	for sc.Scan() {
		var r recorded
		if err := json.Unmarshal(sc.Bytes(), &r); err != nil {
			return bad, fmt.Errorf("%s: %w", name, err)
		}
		n++
		tokens += len(r.IDs)
		got = t.EncodeTokens(got[:0], r.Text)
		if !slices.Equal(got, r.IDs) || t.CountTokens(r.Text) != len(r.IDs) {
			if bad++; bad <= 5 {
				fmt.Printf("%s: %q\n  got  %v\n  want %v\n", filepath.Base(name), clip(r.Text), got[:min(len(got), 40)], r.IDs[:min(len(r.IDs), 40)])
			}
		}
	}
	if err := sc.Err(); err != nil {
		return bad, err
	}
	fmt.Printf("%-16s %d strings, %d tokens, %d differ; %s\n", filepath.Base(name), n, tokens, bad, speed(t, dirOf(name)))
	return bad, nil
}

func clip(s string) string {
	if len(s) > 200 {
		return s[:200]
	}
	return s
}

func dirOf(name string) string { return filepath.Dir(name) }

// speed measures on corpus.txt, as compare.py does.
func speed(t *tokenize.Tokenizer, dir string) string {
	data, err := os.ReadFile(filepath.Join(dir, "corpus.txt"))
	if err != nil {
		return "no corpus.txt"
	}
	text := string(data)
	t.CountTokens(text)
	var times []time.Duration
	for range 5 {
		start := time.Now()
		for i := 0; i < len(text); i += 50_000 {
			t.CountTokens(text[i:min(i+50_000, len(text))])
		}
		times = append(times, time.Since(start))
	}
	slices.Sort(times)
	return fmt.Sprintf("%.1f MB/s on one core (median of 5)", float64(len(text))/1e6/times[2].Seconds())
}
