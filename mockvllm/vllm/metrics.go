package vllm

// MetricType as Prometheus names it.
type MetricType string

const (
	Counter   MetricType = "counter"
	Gauge     MetricType = "gauge"
	Histogram MetricType = "histogram"
)

// MetricFamily is one family of GET /metrics. Name is on the wire's TYPE line
// (counters without "_total", which their samples carry).
type MetricFamily struct {
	Name   string
	Type   MetricType
	Help   string
	Labels []string // in order of declaration
	// Buckets are upper bounds without +Inf.
	Buckets []float64
}

// Label is one label of a sample.
type Label struct{ Name, Value string }

// Families lists what version v exports under that configuration, in order of
// declaration.
func Families(v Version, c EngineConfig) []MetricFamily { return nil }

// CacheConfigLabels gives the labels of vllm:cache_config_info.
func CacheConfigLabels(c EngineConfig, numGPUBlocks int) []Label { return nil }
