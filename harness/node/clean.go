package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// WaitFree polls until every GPU given holds at most [MaxUsedMiB], for at most
// limit: the driver frees the memory of dead processes with a delay. It fails,
// naming GPUs and what they hold, where they stay in use.
func WaitFree(ctx context.Context, sys *System, ordinals []int, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		gpus, err := QueryGPUs(ctx, sys)
		if err != nil && ctx.Err() == nil {
			return err
		}
		var busy []string
		for _, g := range gpus {
			for _, o := range ordinals {
				if g.Index == o && g.UsedMiB > MaxUsedMiB {
					busy = append(busy, fmt.Sprintf("GPU %d: %.0f MiB", g.Index, g.UsedMiB))
				}
			}
		}
		if err == nil && len(busy) == 0 {
			return nil
		}
		t := time.NewTimer(2 * time.Second)
		select {
		case <-ctx.Done():
			t.Stop()
			return fmt.Errorf("GPU memory still in use %s after the server's end (%s): %w; see nvidia-smi", limit, strings.Join(busy, ", "), ctx.Err())
		case <-t.C:
		}
	}
}

// shmPrefixes are the names that vLLM and NCCL use in /dev/shm.
// Source: docs/node.md, stopping a server.
var shmPrefixes = []string{"psm_", "vllm_offload_", "nccl-"}

// CleanShm removes what a killed server left in dir (/dev/shm): only files with
// vLLM's and NCCL's names that belong to this user, were made after since, and
// that no process has open or mapped. It returns the names removed.
func CleanShm(dir string, uid int, since time.Time) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var candidates []string
	for _, e := range entries {
		for _, p := range shmPrefixes {
			if strings.HasPrefix(e.Name(), p) && ownedSince(filepath.Join(dir, e.Name()), uid, since) {
				candidates = append(candidates, e.Name())
			}
		}
	}
	if len(candidates) == 0 {
		return nil, nil
	}
	inUse, err := openFiles(dir)
	if err != nil {
		return nil, err
	}
	var removed []string
	var errs []error
	for _, name := range candidates {
		path := filepath.Join(dir, name)
		if inUse[path] {
			continue
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
			continue
		}
		removed = append(removed, name)
	}
	return removed, errors.Join(errs...)
}

func ownedSince(path string, uid int, since time.Time) bool {
	st, err := os.Lstat(path)
	if err != nil || !st.Mode().IsRegular() {
		return false
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	// The change time cannot be set by a program, unlike the modification time.
	return ok && int(sys.Uid) == uid && !time.Unix(sys.Ctim.Unix()).Before(since)
}

// openFiles lists the files in dir that any process we may look at has open or
// mapped. Other users' processes cannot be looked at; they cannot have opened
// files of ours that are 0600, as these are.
func openFiles(dir string) (map[string]bool, error) {
	used := map[string]bool{}
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	prefix := filepath.Clean(dir) + "/"
	for _, p := range procs {
		if _, err := strconv.Atoi(p.Name()); err != nil {
			continue
		}
		fds, _ := os.ReadDir("/proc/" + p.Name() + "/fd")
		for _, fd := range fds {
			if target, err := os.Readlink("/proc/" + p.Name() + "/fd/" + fd.Name()); err == nil && strings.HasPrefix(target, prefix) {
				used[target] = true
			}
		}
		maps, _ := os.ReadFile("/proc/" + p.Name() + "/maps")
		for line := range strings.Lines(string(maps)) {
			if i := strings.Index(line, prefix); i >= 0 {
				used[strings.TrimSpace(line[i:])] = true
			}
		}
	}
	return used, nil
}
