package node

import (
	"math"
	"path"
	"strconv"
	"strings"
)

// Collect describes the node from /proc and /sys. What cannot be read is left
// out.
func (s *System) Collect() Info {
	i := Info{Hostname: s.Hostname, CPUs: s.CPUs,
		Kernel:        s.readString("/proc/sys/kernel/osrelease"),
		BootID:        s.readString("/proc/sys/kernel/random/boot_id"),
		OMPNumThreads: s.env("OMP_NUM_THREADS"),
		CUDAVisible:   s.env("CUDA_VISIBLE_DEVICES")}
	for line := range strings.Lines(s.readString("/proc/cpuinfo")) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			i.CPUModel = strings.TrimSpace(value)
			break
		}
	}
	i.MemTotalBytes, i.MemAvailableBytes = parseMeminfo(s.readString("/proc/meminfo"))
	i.MemLimitBytes = s.memoryLimit()
	i.CPUQuota = s.cpuQuota()
	return i
}

// parseMeminfo reads MemTotal and MemAvailable, which are in kB (1,024 bytes).
func parseMeminfo(text string) (total, available uint64) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		v, err := strconv.ParseUint(f[1], 10, 53)
		if err != nil {
			continue
		}
		switch f[0] {
		case "MemTotal:":
			total = v << 10
		case "MemAvailable:":
			available = v << 10
		}
	}
	return total, available
}

// cgroupFolders lists the folders of this process's cgroup that may hold a
// limit of the controller, the innermost first, up to the root: an outer limit
// binds as well. unified says that it is cgroup v2.
func (s *System) cgroupFolders(controller string) (dirs []string, unified bool) {
	for line := range strings.Lines(s.readString("/proc/self/cgroup")) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		var base string
		switch {
		case f[0] == "0" && f[1] == "":
			base = "/sys/fs/cgroup"
		case containsWord(f[1], controller):
			base = "/sys/fs/cgroup/" + controller
			dirs = nil
		default:
			continue
		}
		if base == "/sys/fs/cgroup" && len(dirs) > 0 {
			continue // the v1 controller was found already
		}
		unified = base == "/sys/fs/cgroup"
		for p := path.Clean("/" + f[2]); ; p = path.Dir(p) {
			dirs = append(dirs, path.Join(base, p))
			if p == "/" {
				break
			}
		}
		if !unified {
			return dirs, false
		}
	}
	return dirs, unified
}

func containsWord(list, word string) bool {
	for w := range strings.SplitSeq(list, ",") {
		if w == word {
			return true
		}
	}
	return false
}

// memoryLimit is the tightest memory limit of this process's cgroups, in bytes;
// 0 for none.
func (s *System) memoryLimit() uint64 {
	dirs, unified := s.cgroupFolders("memory")
	file := "memory.limit_in_bytes"
	if unified {
		file = "memory.max"
	}
	var limit uint64
	for _, d := range dirs {
		v, err := strconv.ParseUint(s.readString(d+"/"+file), 10, 64)
		// cgroup v1 writes "no limit" as the largest multiple of a page.
		if err != nil || v >= math.MaxInt64/2 {
			continue
		}
		if limit == 0 || v < limit {
			limit = v
		}
	}
	return limit
}

// cpuQuota is the tightest CPU quota of this process's cgroups, in CPUs; 0 for
// none.
func (s *System) cpuQuota() float64 {
	dirs, unified := s.cgroupFolders("cpu")
	var quota float64
	for _, d := range dirs {
		var q, period string
		if unified {
			q, period, _ = strings.Cut(s.readString(d+"/cpu.max"), " ")
		} else {
			q, period = s.readString(d+"/cpu.cfs_quota_us"), s.readString(d+"/cpu.cfs_period_us")
		}
		a, errA := strconv.ParseFloat(q, 64)
		b, errB := strconv.ParseFloat(period, 64)
		if errA != nil || errB != nil || !(a > 0) || !(b > 0) {
			continue
		}
		if v := a / b; quota == 0 || v < quota {
			quota = v
		}
	}
	return quota
}
