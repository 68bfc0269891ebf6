package harness

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// modelFingerprint identifies a model without reading its 700 GB of weights: the
// content of the small files that describe it, names and sizes of the shards.
// A name that is no folder here stands for itself: its files are the server's
// business.
func modelFingerprint(model string) (string, error) {
	info, err := os.Stat(model)
	if err != nil || !info.IsDir() {
		return "name:" + model, nil
	}
	entries, err := os.ReadDir(model)
	if err != nil {
		return "", fmt.Errorf("model %s: %w", model, err)
	}
	described := []string{"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "model.safetensors.index.json"}
	sum := sha256.New()
	for _, entry := range entries {
		path := filepath.Join(model, entry.Name())
		switch {
		case slices.Contains(described, entry.Name()):
			file, err := os.Open(path)
			if err != nil {
				return "", fmt.Errorf("model %s: %w", model, err)
			}
			fmt.Fprintf(sum, "%q ", entry.Name())
			_, err = io.Copy(sum, file)
			file.Close()
			if err != nil {
				return "", fmt.Errorf("model %s: %w", path, err)
			}
		case filepath.Ext(path) == ".safetensors":
			// Through the link: a hub snapshot holds links to blobs.
			shard, err := os.Stat(path)
			if err != nil {
				return "", fmt.Errorf("model %s: %w", model, err)
			}
			fmt.Fprintf(sum, "%q %d ", entry.Name(), shard.Size())
		}
	}
	return "sha256:" + hex.EncodeToString(sum.Sum(nil)), nil
}
