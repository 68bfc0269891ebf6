// Package result keeps what a run measured: one folder a server start, with one
// folder a level in it, as docs/results.md describes.
//
// Nothing is ever overwritten or half written. A start's folder appears whole,
// with a start.json that says "incomplete"; a level's folder likewise with its
// run.json; both files are replaced whole when they are finished. So a crash at
// any instant leaves a complete record or one that says that it is not. Several
// jobs may share one RESULTS directory on a parallel file system: every start
// has its own folder, and a [Claim] says who writes where.
//
// Read store.go first, then start.go (what start.json holds) and claim.go. The
// package judges nothing and computes no metric.
package result

import (
	"time"

	"github.com/glm46/glm46/harness/measure"
	"github.com/glm46/glm46/harness/node"
	"github.com/glm46/glm46/harness/quality"
)

// SchemaVersion is the version of start.json. Readers ignore fields that they
// do not know; a field that changes its meaning raises the version.
const SchemaVersion = 1

// Reasons of a start's validity beside those of package measure.
const (
	// ReasonRefused says that the engine does not run this configuration.
	ReasonRefused measure.Reason = "engine_refused"
	// ReasonFailedStart says that the server did not start, ReasonServerDied
	// that it ended while it was being measured.
	ReasonFailedStart measure.Reason = "failed_start"
	ReasonServerDied  measure.Reason = "server_died"
	// ReasonError says that an error of the program or of its surroundings ended a
	// level: records that cannot be written, a sample that does not fit.
	ReasonError measure.Reason = "error"
	// ReasonNotStarted says that the walltime left did not suffice.
	ReasonNotStarted measure.Reason = "not_started_walltime"
)

// StartJSON is start.json: one life of a server. Absent means not applicable.
type StartJSON struct {
	SchemaVersion int `json:"glm46_schema_version"`
	// Kind is "run", or "bench" where the server was not ours.
	Kind        string `json:"kind"`
	StartID     string `json:"start_id"`
	ToolVersion string `json:"tool_version,omitempty"`
	// Created and Finished are wall-clock instants (RFC 3339, UTC).
	Created  time.Time  `json:"created"`
	Finished *time.Time `json:"finished,omitempty"`
	// Continues is the start id of the interrupted start that this one continues.
	Continues string `json:"continues,omitempty"`
	// SharesServer is the folder, relative to RESULTS, of the start whose server
	// this one was measured on as well; its log is there.
	SharesServer string `json:"shares_server,omitempty"`

	Experiment Experiment          `json:"experiment"`
	Dataset    Dataset             `json:"dataset"`
	Levels     []measure.LevelInfo `json:"levels"`
	Settings   map[string]string   `json:"settings,omitempty"`
	ConfigHash string              `json:"config_hash,omitempty"`
	ResumeKey  string              `json:"resume_key,omitempty"`

	Model            string `json:"model,omitempty"`
	ModelFingerprint string `json:"model_fingerprint,omitempty"`
	// Argv starts with the program. Secrets are out of it and of Environment.
	Argv        []string          `json:"argv,omitempty"`
	Environment map[string]string `json:"environment,omitempty"`
	VLLMVersion string            `json:"vllm_version,omitempty"`
	Mock        *Mock             `json:"mock,omitempty"`

	// Effective is the engine's resolved configuration, by vLLM's names, and
	// EffectiveDiff where it differs from what was asked for.
	Effective     map[string]string `json:"effective_config,omitempty"`
	EffectiveDiff []Difference      `json:"effective_diff,omitempty"`
	Server        *Server           `json:"server,omitempty"`
	// Quality says whether the server answers rightly; nil: not reached.
	Quality *quality.Record `json:"quality,omitempty"`

	Node      *node.Info      `json:"node,omitempty"`
	GPUs      []node.GPU      `json:"gpus,omitempty"`
	Scheduler *node.Scheduler `json:"scheduler,omitempty"`

	Refused  *Refused         `json:"refused,omitempty"`
	Failed   *Failed          `json:"failed,omitempty"`
	Stop     *Stop            `json:"stop,omitempty"`
	Validity measure.Validity `json:"validity"`
	Progress *Progress        `json:"progress,omitempty"`
	// Notes are remarks for the reader, in words.
	Notes []string `json:"notes,omitempty"`
}

// Experiment says which cell of which plan was measured, as the plan has it.
type Experiment struct {
	// ID is the cell's ("5B", "3A/8k"), "" for a custom experiment; Name is
	// EXP_NAME, the folder's name.
	ID     string `json:"id,omitempty"`
	Name   string `json:"name"`
	Group  int    `json:"group,omitempty"`
	Config string `json:"config,omitempty"`
	Notes  string `json:"notes,omitempty"`
	// Modified says that settings differ from the cell's: shown as "5B*".
	Modified bool     `json:"modified,omitempty"`
	Added    bool     `json:"added,omitempty"`
	Base     string   `json:"base,omitempty"`
	SameAs   []string `json:"same_as,omitempty"`
	// Start is this start's number among --starts, from 1.
	Start int `json:"start,omitempty"`
}

// Dataset says which samples were offered.
type Dataset struct {
	Name          string `json:"name"`
	Path          string `json:"path,omitempty"`
	SHA256        string `json:"sha256,omitempty"`
	ContentSHA256 string `json:"content_sha256,omitempty"`
	Samples       int    `json:"samples,omitempty"`
	// Origin says where its text comes from, where the manifest knows.
	Origin string `json:"origin,omitempty"`
	// PromptCounts compares its token counts with the server's tokenizer; absent
	// until the server was asked.
	PromptCounts *measure.PromptCounts `json:"prompt_counts,omitempty"`
}

// Mock says that the server was the mock, and which.
type Mock struct {
	Version string  `json:"version,omitempty"`
	Seed    uint64  `json:"seed"`
	Speed   float64 `json:"speed"`
}

// Server is what a server said of itself, from its log and its endpoints.
type Server struct {
	Version             string  `json:"version,omitempty"`
	KVTokens            int64   `json:"kv_tokens,omitempty"`
	KVCacheGiB          float64 `json:"kv_cache_gib,omitempty"`
	ModelMemoryGiB      float64 `json:"model_memory_gib,omitempty"`
	MaxConcurrency      float64 `json:"max_concurrency,omitempty"`
	MaxNumSeqs          int     `json:"max_num_seqs,omitempty"`
	MaxNumBatchedTokens int     `json:"max_num_batched_tokens,omitempty"`
	// StartupSeconds runs from the process's start to its first healthy answer.
	StartupSeconds float64 `json:"startup_s,omitempty"`
	StartupPhases  []Phase `json:"startup_phases,omitempty"`
	LogSHA256      string  `json:"log_sha256,omitempty"`
}

// Phase is a stretch of a start-up.
type Phase struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
}

// Difference is a setting that the engine did not take as asked.
type Difference struct {
	Setting string `json:"setting"`
	Wanted  string `json:"wanted"`
	Got     string `json:"got"`
	// Source says where it was read: "log", "cache_config_info", ...
	Source string `json:"source,omitempty"`
}

// Refused says that the engine does not run this configuration. That is a
// result of the cell, not a fault of the run.
type Refused struct {
	Class string `json:"class"`
	// Reason says it in plain words, EngineText in the engine's.
	Reason     string `json:"reason"`
	EngineText string `json:"engine_text,omitempty"`
	// KnownBefore says that no server was started, since the version is known
	// to refuse it.
	KnownBefore bool `json:"known_before,omitempty"`
}

// Failed says how a server failed to start or died.
type Failed struct {
	Class string `json:"class"`
	Phase string `json:"phase,omitempty"`
	// Lines are the log lines that show the cause, the first error first.
	Lines []string `json:"lines,omitempty"`
	// Exit describes the end of the process: "exit 1", "signal killed".
	Exit    string  `json:"exit,omitempty"`
	Seconds float64 `json:"seconds,omitempty"`
}

// Stop says what it took to end the server's processes.
type Stop struct {
	// Steps are the signals sent, in order: "SIGTERM server", "SIGKILL group".
	Steps   []string `json:"steps,omitempty"`
	Seconds float64  `json:"seconds"`
	// Left lists processes that could not be ended: pid and name.
	Left []string `json:"left,omitempty"`
}

// Progress says how far an unfinished start came.
type Progress struct {
	Phase string `json:"phase,omitempty"`
	Level string `json:"level,omitempty"`
	// Done of Total requests over all levels.
	Done  int `json:"done"`
	Total int `json:"total"`
	// Why says what ended it: "SIGTERM", "walltime", ...
	Why string `json:"why,omitempty"`
}
