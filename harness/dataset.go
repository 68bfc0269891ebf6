package harness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/glm46/glm46/datasets"
)

// dataSet loads a data set. With the mock a missing one is made first.
func (c *campaign) dataSet(ctx context.Context, name string) (*datasets.Set, error) {
	if set, ok := c.sets[name]; ok {
		return set, nil
	}
	var options datasets.LoadOptions
	if len(c.sets) == 0 {
		c.tokenizer = c.modelTokenizer()
	}
	if c.tokenizer != nil {
		options.Tokenizer = c.tokenizer
	}
	set, err := datasets.Load(ctx, c.o.DataDir, name, options)
	var missing *datasets.NotFoundError
	if errors.As(err, &missing) {
		if c.o.Mock == nil {
			if missing.Command == "" {
				missing.Command = fmt.Sprintf("glm46 datasets gen --dataset %s -o %s", name, c.o.DataDir)
			}
			return nil, err
		}
		if err := c.makeDataSet(ctx, name); err != nil {
			return nil, err
		}
		set, err = datasets.Load(ctx, c.o.DataDir, name, options)
	}
	if err != nil {
		return nil, err
	}
	noteWarnings(c.observer, set)
	c.sets[name] = set
	return set, nil
}

// noteWarnings says what makes a data set worse, once when it is loaded.
func noteWarnings(observer Observer, set *datasets.Set) {
	for _, warning := range set.Warnings {
		observer.Note("", "data set "+set.Name+": "+warning.String())
	}
}

// makeDataSet writes a missing data set for the mock, from real text where
// there is some, and says from which.
func (c *campaign) makeDataSet(ctx context.Context, name string) error {
	from, what := c.o.DataFrom, "the text files below "+c.o.DataFrom
	if from == "" {
		if from = goSourceTree(ctx); from != "" {
			what = "Go's source tree, " + from
		} else {
			what = "synthetic text, since there is no Go source tree here"
		}
	}
	c.observer.Note("", fmt.Sprintf("data set %s is not in %s: making it from %s", name, c.o.DataDir, what))
	made, err := datasets.Generate(ctx, datasets.GenOptions{Dataset: name, Dir: c.o.DataDir, From: from, Seed: 1, SelfRepetition: -1})
	if err != nil {
		return fmt.Errorf("make data set %s: %w", name, err)
	}
	for _, note := range made.Notes {
		c.observer.Note("", "data set "+name+": "+note)
	}
	return nil
}

// goSourceTree is the folder of Go's own sources, or "" without Go.
func goSourceTree(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return ""
	}
	dir := filepath.Join(strings.TrimSpace(string(out)), "src")
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return ""
	}
	return dir
}
