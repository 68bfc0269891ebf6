package node

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"sort"
	"strings"
)

// ModelFolder is what a model's folder holds.
type ModelFolder struct {
	// Shards counts the weight files, WeightsBytes their sizes.
	Shards       int
	WeightsBytes uint64
	// Missing names files that are not there or not whole.
	Missing []string
}

// Model looks at a model's folder (a hub snapshot): configuration, tokenizer,
// and every shard that the index names. A node without a network fails late and
// unclearly when one is missing.
func (s *System) Model(dir string) (ModelFolder, error) {
	var m ModelFolder
	if st, err := fs.Stat(s.Files, rel(dir)); err != nil {
		return m, err
	} else if !st.IsDir() {
		return m, fmt.Errorf("%s is no folder", dir)
	}
	size := func(name string) (int64, bool) {
		// Snapshots link to blobs, so the target counts.
		st, err := fs.Stat(s.Files, rel(path.Join(dir, name)))
		if err != nil || st.IsDir() {
			return 0, false
		}
		return st.Size(), true
	}
	if _, ok := size("config.json"); !ok {
		m.Missing = append(m.Missing, "config.json")
	}
	tokenizer := false
	for _, name := range []string{"tokenizer.json", "tokenizer.model", "tekken.json", "vocab.json"} {
		if _, ok := size(name); ok {
			tokenizer = true
		}
	}
	if !tokenizer {
		m.Missing = append(m.Missing, "tokenizer.json")
	}
	shards := map[string]bool{}
	if b, err := s.readFile(path.Join(dir, "model.safetensors.index.json")); err == nil {
		var index struct {
			WeightMap map[string]string `json:"weight_map"`
		}
		if err := json.Unmarshal(b, &index); err != nil {
			return m, fmt.Errorf("model.safetensors.index.json: %w", err)
		}
		for _, f := range index.WeightMap {
			shards[f] = true
		}
	} else {
		names, err := fs.Glob(s.Files, rel(path.Join(globEscape(dir), "*.safetensors")))
		if err != nil {
			return m, err
		}
		for _, n := range names {
			shards[path.Base(n)] = true
		}
	}
	if len(shards) == 0 {
		m.Missing = append(m.Missing, "*.safetensors")
	}
	names := make([]string, 0, len(shards))
	for f := range shards {
		names = append(names, f)
	}
	sort.Strings(names)
	for _, f := range names {
		// The index is a file like any other: a name that leaves the folder is
		// not followed.
		n, ok := int64(0), false
		if !strings.Contains(f, "/") && f != ".." {
			n, ok = size(f)
		}
		if !ok || n == 0 {
			m.Missing = append(m.Missing, f)
			continue
		}
		m.Shards++
		m.WeightsBytes += uint64(n)
	}
	return m, nil
}

func globEscape(s string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(s)
}

func (c *checker) model() {
	if c.needs.ModelDir == "" {
		return
	}
	m, err := c.sys.Model(c.needs.ModelDir)
	switch {
	case err != nil:
		c.add("model", Fail, err.Error(), "give the model's folder (a hub snapshot) with --model")
	case len(m.Missing) > 0:
		shown := m.Missing
		if len(shown) > 5 {
			shown = append(append([]string{}, shown[:5]...), fmt.Sprintf("and %d more", len(m.Missing)-5))
		}
		c.add("model", Fail, fmt.Sprintf("%s lacks %s", c.needs.ModelDir, strings.Join(shown, ", ")), "download the model again on a node with a network")
	default:
		c.add("model", OK, fmt.Sprintf("%s: %d weight files, %s", c.needs.ModelDir, m.Shards, gib(m.WeightsBytes)), "")
	}
}
