package experiment

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"
)

// hashFields is a hash over named strings that no choice of values can confuse:
// every part carries its length.
func hashFields(schema string, write func(field func(name string, values ...string))) string {
	h := sha256.New()
	put := func(s string) { fmt.Fprintf(h, "%d:", len(s)); io.WriteString(h, s) }
	put(schema)
	write(func(name string, values ...string) {
		put(name)
		fmt.Fprintf(h, "%d;", len(values))
		for _, v := range values {
			put(v)
		}
	})
	return hex.EncodeToString(h.Sum(nil))
}

// configHash covers settings, free arguments, data-set name and levels.
func (c Cell) configHash() string {
	return hashFields("glm46-config-1", func(field func(string, ...string)) {
		c.hashServer(field)
		for _, v := range variables {
			if value, ok := v.format(&c.Settings); ok && !v.server {
				field(v.name, value)
			}
		}
		field("dataset", c.Dataset)
		for _, l := range c.Levels {
			field("level", l.Name, fmt.Sprint(l.Concurrency), formatDecimal(l.RequestRate),
				fmt.Sprint(l.Requests), fmt.Sprint(l.OutputTokens), fmt.Sprint(l.Auto))
		}
	})[:16]
}

// serverHash covers what the server process gets, the model's path aside.
func (c Cell) serverHash() string {
	return hashFields("glm46-server-1", c.hashServer)[:16]
}

func (c Cell) hashServer(field func(string, ...string)) {
	for _, v := range variables {
		if value, ok := v.format(&c.Settings); ok && v.server {
			field(v.name, value)
		}
	}
	field("vllm_args", c.VLLMArgs...)
	env := slices.Clone(c.ServerEnv)
	slices.SortFunc(env, func(a, b EnvVar) int { return strings.Compare(a.Name, b.Name) })
	for _, e := range env {
		field("server_env", e.Name, e.Value)
	}
}

// MockFacts are what a mock's figures depend on besides its version.
type MockFacts struct {
	Version string
	Seed    int64
	Speed   float64
}

// ResumeKey identifies a measurement: two results may be merged, and one taken
// for done, only if it is equal. It covers the cell's ConfigHash, the data set's
// SHA-256, the model's fingerprint, the vLLM version and, for a mock (nil: a
// real engine), what its figures depend on. 32 hex digits.
func ResumeKey(cell Cell, datasetSHA256, modelFingerprint, vllmVersion string, mock *MockFacts) string {
	return hashFields("glm46-resume-1", func(field func(string, ...string)) {
		field("config_hash", cell.ConfigHash)
		field("dataset_sha256", datasetSHA256)
		field("model", modelFingerprint)
		field("vllm", vllmVersion)
		if mock != nil {
			field("mock", mock.Version, fmt.Sprint(mock.Seed), formatDecimal(mock.Speed))
		}
	})[:32]
}
