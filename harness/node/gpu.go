package node

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

// GPU is one device as the driver describes it before a run.
//
// Source: nvidia-smi --query-gpu and --query-remapped-rows, recorded with
// driver 580.159.04 (testdata).
type GPU struct {
	Index         int     `json:"index"`
	UUID          string  `json:"uuid"`
	Name          string  `json:"name"`
	Driver        string  `json:"driver,omitempty"`
	VBIOS         string  `json:"vbios,omitempty"`
	ComputeMode   string  `json:"compute_mode,omitempty"`
	MIGMode       string  `json:"mig_mode,omitempty"`
	Persistence   string  `json:"persistence_mode,omitempty"`
	TotalMiB      float64 `json:"memory_total_mib"`
	UsedMiB       float64 `json:"memory_used_mib"`
	MaxSMClockMHz float64 `json:"clocks_max_sm_mhz,omitempty"`
	PowerCapWatts float64 `json:"power_limit_watts,omitempty"`
	// UncorrectedECC counts the uncorrected errors since the driver was loaded;
	// nil where the device does not say.
	UncorrectedECC *int64 `json:"ecc_uncorrected,omitempty"`
	// RemapPending and RemapFailure are "Yes", "No" or "" (unknown).
	RemapPending string `json:"remap_pending,omitempty"`
	RemapFailure string `json:"remap_failure,omitempty"`
}

// ComputeApp is a process that holds a GPU.
type ComputeApp struct {
	UUID    string  `json:"gpu_uuid"`
	PID     int     `json:"pid"`
	Name    string  `json:"name,omitempty"`
	UsedMiB float64 `json:"used_mib"`
	// User is the owner's name where /proc shows it.
	User string `json:"user,omitempty"`
}

const (
	gpuFields   = "index,uuid,name,driver_version,vbios_version,compute_mode,mig.mode.current,persistence_mode,memory.total,memory.used,ecc.errors.uncorrected.volatile.total,clocks.max.sm,power.limit"
	remapFields = "gpu_uuid,remapped_rows.pending,remapped_rows.failure"
	appFields   = "gpu_uuid,pid,process_name,used_memory"
	csvFormat   = "--format=csv,noheader,nounits"
)

// SampleFields are the columns of the sampler, in order; the last one is
// called clocks_throttle_reasons.active by drivers before 535.
const SampleFields = "timestamp,index,power.draw,temperature.gpu,temperature.memory,clocks.sm,clocks.mem,utilization.gpu,memory.used,clocks_event_reasons.active"

// SMIError says that nvidia-smi could not answer.
type SMIError struct {
	Query  string
	Exit   int
	Text   string // the tool's own words, first line
	Hint   string
	Reason error // nil where the tool ran and refused
}

func (e *SMIError) Error() string {
	query, _, _ := strings.Cut(e.Query, "=")
	if e.Reason != nil {
		return fmt.Sprintf("nvidia-smi %s: %v; %s", query, e.Reason, e.Hint)
	}
	return fmt.Sprintf("nvidia-smi %s: %s (exit %d); %s", query, e.Text, e.Exit, e.Hint)
}

func (e *SMIError) Unwrap() error { return e.Reason }

// refusedField says whether the driver does not know a field of the query.
func (e *SMIError) refusedField() bool { return strings.Contains(e.Text, "is not a valid field") }

func (s *System) smi(ctx context.Context, args ...string) ([]byte, error) {
	o, err := s.run(ctx, "nvidia-smi", args...)
	if err == nil && o.Exit == 0 {
		return o.Stdout, nil
	}
	text := firstLine(append(append([]byte{}, o.Stdout...), o.Stderr...))
	e := &SMIError{Query: strings.Join(args, " "), Exit: o.Exit, Text: text, Reason: err,
		Hint: `run "nvidia-smi" by hand on this node`}
	if errors.Is(err, context.DeadlineExceeded) {
		e.Hint = "the driver hangs: report this node to the site and run elsewhere"
	}
	if errors.Is(err, exec.ErrNotFound) {
		e.Reason, e.Hint = exec.ErrNotFound, "no NVIDIA driver is on this node's PATH"
	}
	return nil, e
}

func firstLine(b []byte) string {
	line, _, _ := bytes.Cut(bytes.TrimSpace(b), []byte("\n"))
	if len(line) > 300 {
		line = line[:300]
	}
	return strings.TrimSpace(strings.ToValidUTF8(string(line), "?"))
}

// QueryGPUs asks the driver for every GPU, ordered by index.
//
// A driver that does not know the remapped rows leaves those fields empty. The
// error is an [*SMIError] where nvidia-smi is missing, fails or hangs.
func QueryGPUs(ctx context.Context, sys *System) ([]GPU, error) {
	out, err := sys.smi(ctx, "--query-gpu="+gpuFields, csvFormat)
	if err != nil {
		return nil, err
	}
	gpus, err := ParseGPUs(out)
	if err != nil {
		return nil, err
	}
	if out, err := sys.smi(ctx, "--query-remapped-rows="+remapFields, "--format=csv,noheader"); err == nil {
		if err := applyRemapped(gpus, out); err != nil {
			return nil, err
		}
	}
	return gpus, nil
}

// QueryApps asks which processes hold a GPU. Not to be called while a level
// runs: the query takes a driver lock (docs/node.md, GPU checks).
func QueryApps(ctx context.Context, sys *System) ([]ComputeApp, error) {
	out, err := sys.smi(ctx, "--query-compute-apps="+appFields, csvFormat)
	if err != nil {
		return nil, err
	}
	apps, err := ParseApps(out)
	if err != nil {
		return nil, err
	}
	for i := range apps {
		apps[i].User = sys.processOwner(apps[i].PID)
	}
	return apps, nil
}

// processOwner names the owner of a process, "" where /proc does not show it
// (a container, or hidepid).
func (s *System) processOwner(pid int) string {
	status := s.readString(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(status) {
		if rest, ok := strings.CutPrefix(line, "Uid:"); ok {
			f := strings.Fields(rest)
			if len(f) == 0 {
				return ""
			}
			uid, err := strconv.Atoi(f[0])
			if err != nil {
				return ""
			}
			if s.UserName != nil {
				if name := s.UserName(uid); name != "" {
					return name
				}
			}
			return "uid " + f[0]
		}
	}
	return ""
}

// rows reads nvidia-smi's CSV: fields parted by a comma and a space, never
// quoted, empty lines allowed.
func rows(what string, b []byte, columns int) ([][]string, error) {
	r := csv.NewReader(bytes.NewReader(b))
	r.TrimLeadingSpace = true
	r.LazyQuotes = true
	r.FieldsPerRecord = -1
	var out [][]string
	for {
		rec, err := r.Read()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("nvidia-smi %s: %w", what, err)
		}
		if len(rec) != columns {
			return nil, fmt.Errorf("nvidia-smi %s: want %d columns, got %q; the driver answered something else than was asked", what, columns, strings.Join(rec, ", "))
		}
		for i := range rec {
			rec[i] = strings.TrimSpace(rec[i])
		}
		out = append(out, rec)
	}
}

// missing says whether a field holds no value: "[N/A]", "N/A", "[Not
// Supported]", "[Unknown Error]", "[GPU is lost]", "[Insufficient Permissions]".
func missing(field string) bool {
	return field == "" || field == "N/A" || strings.HasPrefix(field, "[")
}

// number reads a number, with or without the unit that older drivers print in
// spite of nounits. ok is false where there is no value.
func number(field string) (v float64, ok bool) {
	if missing(field) {
		return 0, false
	}
	f := strings.Fields(field)[0]
	v, err := strconv.ParseFloat(f, 64)
	if err != nil || v != v || v > 1e18 || v < -1e18 {
		return 0, false
	}
	return v, true
}

func text(field string) string {
	if missing(field) {
		return ""
	}
	return strings.ToValidUTF8(field, "?")
}

// ParseGPUs reads the answer to the query for [GPU], one line a device. Fields
// without a value stay empty; a line without a usable index or UUID is an error.
func ParseGPUs(b []byte) ([]GPU, error) {
	recs, err := rows("--query-gpu", b, strings.Count(gpuFields, ",")+1)
	if err != nil {
		return nil, err
	}
	gpus := make([]GPU, 0, len(recs))
	for _, r := range recs {
		index, err := strconv.Atoi(r[0])
		if err != nil || index < 0 || missing(r[1]) {
			return nil, fmt.Errorf("nvidia-smi --query-gpu: want an index and a UUID, got %q, %q; is a GPU lost? see nvidia-smi -q", r[0], r[1])
		}
		g := GPU{Index: index, UUID: text(r[1]), Name: text(r[2]), Driver: text(r[3]), VBIOS: text(r[4]),
			ComputeMode: text(r[5]), MIGMode: text(r[6]), Persistence: text(r[7])}
		g.TotalMiB, _ = number(r[8])
		g.UsedMiB, _ = number(r[9])
		if n, ok := number(r[10]); ok {
			ecc := int64(n)
			g.UncorrectedECC = &ecc
		}
		g.MaxSMClockMHz, _ = number(r[11])
		g.PowerCapWatts, _ = number(r[12])
		gpus = append(gpus, g)
	}
	slices.SortStableFunc(gpus, func(a, b GPU) int { return a.Index - b.Index })
	return gpus, nil
}

// applyRemapped adds the remapped rows, by UUID.
func applyRemapped(gpus []GPU, b []byte) error {
	recs, err := rows("--query-remapped-rows", b, strings.Count(remapFields, ",")+1)
	if err != nil {
		return err
	}
	for _, r := range recs {
		for i := range gpus {
			if gpus[i].UUID == r[0] {
				gpus[i].RemapPending, gpus[i].RemapFailure = text(r[1]), text(r[2])
			}
		}
	}
	return nil
}

// ParseApps reads the answer to the query for [ComputeApp]. A process name may
// hold commas, so the first two and the last column are taken from the ends.
func ParseApps(b []byte) ([]ComputeApp, error) {
	var apps []ComputeApp
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		f := strings.Split(line, ",")
		if len(f) < 3 {
			return nil, fmt.Errorf("nvidia-smi --query-compute-apps: want UUID, pid, name and memory, got %q", line)
		}
		pid, err := strconv.Atoi(strings.TrimSpace(f[1]))
		if err != nil {
			return nil, fmt.Errorf("nvidia-smi --query-compute-apps: want a pid, got %q in %q", strings.TrimSpace(f[1]), line)
		}
		a := ComputeApp{UUID: text(strings.TrimSpace(f[0])), PID: pid,
			Name: text(strings.TrimSpace(strings.Join(f[2:len(f)-1], ",")))}
		a.UsedMiB, _ = number(strings.TrimSpace(f[len(f)-1]))
		apps = append(apps, a)
	}
	return apps, nil
}

// Throttle is the set of reasons that hold a GPU's clocks down.
//
// Source: nvml.h, nvmlClocksEventReasons*.
type Throttle uint64

// Reasons of [Throttle].
const (
	ThrottleIdle             Throttle = 0x1
	ThrottleAppClocks        Throttle = 0x2
	ThrottlePowerCap         Throttle = 0x4
	ThrottleHardware         Throttle = 0x8
	ThrottleSyncBoost        Throttle = 0x10
	ThrottleSoftwareThermal  Throttle = 0x20
	ThrottleHardwareThermal  Throttle = 0x40
	ThrottleHardwarePowerCut Throttle = 0x80
	ThrottleDisplayClocks    Throttle = 0x100
)

// ThrottleInvalidating are the reasons that make figures unusable when they
// last: hardware slowdown, hardware or software thermal slowdown, power brake.
// Source: docs/metrics.md, verdict gpu_throttled.
const ThrottleInvalidating = ThrottleHardware | ThrottleSoftwareThermal | ThrottleHardwareThermal | ThrottleHardwarePowerCut

var throttleNames = []string{"idle", "application_clocks", "power_cap", "hardware_slowdown", "sync_boost",
	"software_thermal", "hardware_thermal", "power_brake", "display_clocks"}

// Names lists the reasons in words, lowest bit first; an unknown bit as hex.
func (t Throttle) Names() []string {
	var names []string
	for rest := uint64(t); rest != 0; rest &= rest - 1 {
		bit := bits.TrailingZeros64(rest)
		if bit < len(throttleNames) {
			names = append(names, throttleNames[bit])
		} else {
			names = append(names, fmt.Sprintf("0x%x", uint64(1)<<bit))
		}
	}
	return names
}

// Sample is one GPU at one moment, as the driver saw it.
type Sample struct {
	// UnixNS is when we read the line, by our wall clock; Driver is the
	// driver's own time stamp, in the node's local time without zone.
	UnixNS     int64    `json:"unix_ns"`
	Driver     string   `json:"driver_time,omitempty"`
	Index      int      `json:"index"`
	PowerWatts float64  `json:"power_watts"`
	TempC      float64  `json:"temp_c"`
	MemTempC   float64  `json:"mem_temp_c,omitempty"`
	SMMHz      float64  `json:"sm_mhz"`
	MemMHz     float64  `json:"mem_mhz"`
	UtilPct    float64  `json:"util_pct"`
	UsedMiB    float64  `json:"used_mib"`
	Throttle   Throttle `json:"throttle"`
	// Missing names the columns that had no value ("power.draw").
	Missing []string `json:"missing,omitempty"`
}

var sampleColumns = strings.Split(SampleFields, ",")

// ParseSample reads one line of the sampler. at is when the line was read.
func ParseSample(line string, at time.Time) (Sample, error) {
	f := strings.Split(line, ",")
	if len(f) != len(sampleColumns) {
		return Sample{}, fmt.Errorf("nvidia-smi sample: want %d columns, got %q", len(sampleColumns), line)
	}
	for i := range f {
		f[i] = strings.TrimSpace(f[i])
	}
	index, err := strconv.Atoi(f[1])
	if err != nil || index < 0 {
		return Sample{}, fmt.Errorf("nvidia-smi sample: want a GPU index, got %q in %q", f[1], line)
	}
	s := Sample{UnixNS: at.UnixNano(), Driver: text(f[0]), Index: index}
	for i, into := range []*float64{2: &s.PowerWatts, 3: &s.TempC, 4: &s.MemTempC, 5: &s.SMMHz, 6: &s.MemMHz, 7: &s.UtilPct, 8: &s.UsedMiB} {
		if into == nil {
			continue
		}
		v, ok := number(f[i])
		if !ok {
			s.Missing = append(s.Missing, sampleColumns[i])
		}
		*into = v
	}
	mask, err := strconv.ParseUint(strings.TrimPrefix(f[9], "0x"), 16, 64)
	if err != nil {
		s.Missing = append(s.Missing, sampleColumns[9])
	}
	s.Throttle = Throttle(mask)
	return s, nil
}
