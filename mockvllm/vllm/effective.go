package vllm

// Mismatch is a setting that the server did not apply as asked.
type Mismatch struct {
	// Setting is the flag's long name without dashes, such as "kv-cache-dtype".
	Setting, Wanted, Got string
	// Source says where the effective value was read.
	Source string
}

// CheckEffective compares what was asked with what the log says. Settings of
// which the log says nothing are not compared.
func CheckEffective(wanted EngineConfig, got LogFacts) []Mismatch { return nil }
