package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Scheduler is the batch job around this process, for the record.
type Scheduler struct {
	// Kind is "pbs", or "none" where there is no job.
	Kind  string `json:"kind"`
	JobID string `json:"job_id,omitempty"`
	Name  string `json:"job_name,omitempty"`
	Queue string `json:"queue,omitempty"`
	Node  string `json:"node,omitempty"`
	// WalltimeLeftSeconds is what was left when this was read; nil: unknown.
	WalltimeLeftSeconds *float64 `json:"walltime_left_s,omitempty"`
	// WalltimeSource says where that came from: "flag", "GLM46_WALLTIME_S", "qstat".
	WalltimeSource string `json:"walltime_source,omitempty"`
	ArrayIndex     string `json:"array_index,omitempty"`
	// Rerun is how often the job was started before; 0 the first time. A rerun
	// keeps its job id, so nothing may be keyed by that alone.
	Rerun int `json:"rerun,omitempty"`
}

// PBS reads the job from the environment; Kind is "none" outside a job.
// Source: docs/node.md, the job around a run.
func (s *System) PBS() Scheduler {
	id := s.env("PBS_JOBID")
	if id == "" {
		return Scheduler{Kind: "none", Node: s.Hostname}
	}
	return Scheduler{Kind: "pbs", JobID: id, Name: s.env("PBS_JOBNAME"), Queue: s.env("PBS_QUEUE"),
		Node: s.Hostname, ArrayIndex: s.env("PBS_ARRAY_INDEX")}
}

// Walltime is the end of the job, as an instant.
type Walltime struct {
	Deadline time.Time
	Source   string
}

// WalltimeVariable holds the job's walltime in whole seconds, counted from the
// start of the script; generated scripts export it, since PBS does not.
const WalltimeVariable = "GLM46_WALLTIME_S"

// WalltimeDeadline finds the moment at which the job ends, from the first
// source that knows it: flag (counted from started), then GLM46_WALLTIME_S
// (counted from started too, which is later than the script's start by what the
// script did before: a generated script counts that itself), then qstat.
//
// ok is false where there is no limit or nobody knows it. The error says that
// a source is there but cannot be used.
func (s *System) WalltimeDeadline(ctx context.Context, flag time.Duration, started time.Time) (w Walltime, ok bool, err error) {
	if flag > 0 {
		return Walltime{started.Add(flag), "flag"}, true, nil
	}
	if v, set := s.Getenv(WalltimeVariable); set && v != "" {
		secs, err := strconv.ParseInt(v, 10, 64)
		if err != nil || secs <= 0 || secs > math.MaxInt64/int64(time.Second) {
			return Walltime{}, false, fmt.Errorf("%s: want whole seconds above 0, got %q; set it to the job's walltime in seconds", WalltimeVariable, v)
		}
		return Walltime{started.Add(time.Duration(secs) * time.Second), WalltimeVariable}, true, nil
	}
	id := s.env("PBS_JOBID")
	if id == "" {
		return Walltime{}, false, nil
	}
	job, err := s.Qstat(ctx, id)
	if err != nil {
		return Walltime{}, false, err
	}
	if job.Walltime <= 0 || job.Started.IsZero() {
		return Walltime{}, false, nil
	}
	return Walltime{job.Started.Add(job.Walltime), "qstat"}, true, nil
}

// QstatJob is what PBS says of a running job.
type QstatJob struct {
	ID       string
	State    string // "R" while it runs
	Queue    string
	ExecHost string
	// Walltime is the limit; 0: none given. Started is zero while PBS has not
	// written it yet (just after the start).
	Walltime time.Duration
	Started  time.Time
	// RunCount is 1 in the first run.
	RunCount int
	Select   string // Resource_List.select
	Memory   string // Resource_List.mem
}

// ErrNoQstat says that PBS could not be asked: no client tool on this node, no
// such job, or no server. The walltime is then unknown, which is no fault.
var ErrNoQstat = errors.New("qstat did not answer")

// Qstat asks PBS for one job. It fails with [ErrNoQstat] wrapped.
func (s *System) Qstat(ctx context.Context, id string) (QstatJob, error) {
	o, err := s.run(ctx, "qstat", "-f", "-F", "json", id)
	if err != nil {
		return QstatJob{}, fmt.Errorf("%w: %w; give --walltime or set %s", ErrNoQstat, err, WalltimeVariable)
	}
	if o.Exit != 0 {
		return QstatJob{}, fmt.Errorf("%w: exit %d: %s; give --walltime or set %s", ErrNoQstat, o.Exit, firstLine(o.Stderr), WalltimeVariable)
	}
	return ParseQstat(o.Stdout, id, time.Local)
}

// ParseQstat reads `qstat -f -F json ID`. zone is the zone of the client that
// printed it: PBS writes local times without one.
//
// Source: docs/node.md, the job around a run (OpenPBS 23.06.06).
func ParseQstat(b []byte, id string, zone *time.Location) (QstatJob, error) {
	var doc struct {
		Jobs map[string]struct {
			State    looseText    `json:"job_state"`
			Queue    looseText    `json:"queue"`
			ExecHost looseText    `json:"exec_host"`
			Started  looseText    `json:"stime"`
			RunCount looseText    `json:"run_count"`
			List     resourceList `json:"Resource_List"`
		} `json:"Jobs"`
	}
	if err := json.Unmarshal(b, &doc); err != nil {
		return QstatJob{}, fmt.Errorf("%w: its JSON cannot be read: %w", ErrNoQstat, err)
	}
	for name, j := range doc.Jobs {
		if !sameJob(name, id) {
			continue
		}
		job := QstatJob{ID: name, State: string(j.State), Queue: string(j.Queue), ExecHost: string(j.ExecHost),
			Select: string(j.List.Select), Memory: string(j.List.Mem)}
		job.RunCount, _ = strconv.Atoi(string(j.RunCount))
		if j.List.Walltime != "" {
			d, err := ParsePBSDuration(string(j.List.Walltime))
			if err != nil {
				return QstatJob{}, fmt.Errorf("%w: %w", ErrNoQstat, err)
			}
			job.Walltime = d
		}
		if j.Started != "" {
			t, err := time.ParseInLocation(time.ANSIC, string(j.Started), zone)
			if err != nil {
				return QstatJob{}, fmt.Errorf("%w: stime: want a ctime date, got %q", ErrNoQstat, string(j.Started))
			}
			job.Started = t
		}
		return job, nil
	}
	return QstatJob{}, fmt.Errorf("%w: no job %q in its answer; is the job over?", ErrNoQstat, id)
}

// sameJob compares job ids, of which either may lack the server's domain.
func sameJob(a, b string) bool {
	seqA, _, _ := strings.Cut(a, ".")
	seqB, _, _ := strings.Cut(b, ".")
	return seqA != "" && seqA == seqB
}

// looseText takes a JSON string or number as text: PBS prints number-like strings
// as numbers.
type looseText string

func (t *looseText) UnmarshalJSON(b []byte) error {
	var s string
	if json.Unmarshal(b, &s) == nil {
		*t = looseText(s)
		return nil
	}
	var n json.Number
	if json.Unmarshal(b, &n) == nil {
		*t = looseText(n.String())
	}
	return nil
}

type resourceList struct {
	Walltime looseText `json:"walltime"`
	Select   looseText `json:"select"`
	Mem      looseText `json:"mem"`
}

// ParsePBSDuration reads PBS's [[HH:]MM:]SS with an optional fraction, as in
// "01:00:00", "90:00" or "3600".
func ParsePBSDuration(s string) (time.Duration, error) {
	bad := fmt.Errorf("walltime: want [[HH:]MM:]SS, got %q", s)
	whole, _, _ := strings.Cut(s, ".")
	parts := strings.Split(whole, ":")
	if len(parts) > 3 {
		return 0, bad
	}
	var secs int64
	for _, p := range parts {
		n, err := strconv.ParseUint(p, 10, 32)
		if err != nil {
			return 0, bad
		}
		secs = secs*60 + int64(n)
	}
	if secs > math.MaxInt64/int64(time.Second) {
		return 0, bad
	}
	return time.Duration(secs) * time.Second, nil
}

// VisibleGPUs is what CUDA_VISIBLE_DEVICES leaves to this process.
type VisibleGPUs struct {
	// Set says whether the variable is set; set and empty means: no GPU.
	Set bool
	// Ordinals are the driver's indices, in the variable's order.
	Ordinals []int
	// Translated says that the variable held UUIDs.
	Translated bool
	// Value is what the server is to be given.
	Value string
}

// Visible resolves CUDA_VISIBLE_DEVICES against the driver's list. PBS's
// cgroups hook sets UUIDs, on which vLLM before about 0.24 fails with "invalid
// literal for int()" (vllm-project/vllm#13815, #45026), so they are translated
// to ordinals. UUIDs may be shortened as CUDA allows ("GPU-11111111").
//
// It fails where an entry names no GPU of this node, or a MIG slice.
func (s *System) Visible(gpus []GPU) (VisibleGPUs, error) {
	value, set := s.Getenv("CUDA_VISIBLE_DEVICES")
	v := VisibleGPUs{Set: set, Value: value}
	if !set {
		for _, g := range gpus {
			v.Ordinals = append(v.Ordinals, g.Index)
		}
		return v, nil
	}
	if strings.TrimSpace(value) == "" {
		return v, nil
	}
	var out []string
	for _, item := range strings.Split(value, ",") {
		item = strings.TrimSpace(item)
		if strings.HasPrefix(item, "MIG-") {
			return v, fmt.Errorf("CUDA_VISIBLE_DEVICES names the MIG slice %q; ask for whole GPUs (vLLM needs them for tensor parallelism)", item)
		}
		index, matches := -1, 0
		for _, g := range gpus {
			switch {
			case item == strconv.Itoa(g.Index):
				index, matches = g.Index, matches+1
			case strings.HasPrefix(item, "GPU-") && strings.HasPrefix(g.UUID, item):
				index, matches, v.Translated = g.Index, matches+1, true
			}
		}
		if matches != 1 {
			return v, fmt.Errorf("CUDA_VISIBLE_DEVICES: %q names %d of this node's %d GPUs; compare with nvidia-smi -L", item, matches, len(gpus))
		}
		for _, seen := range v.Ordinals {
			if seen == index {
				return v, fmt.Errorf("CUDA_VISIBLE_DEVICES names GPU %d twice in %q; name each GPU once", index, value)
			}
		}
		v.Ordinals = append(v.Ordinals, index)
		out = append(out, strconv.Itoa(index))
	}
	v.Value = strings.Join(out, ",")
	return v, nil
}
