package launch

import (
	"bytes"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// stat is the part of /proc/PID/stat that tells processes apart.
// Source: proc(5).
type stat struct {
	pid, ppid, pgid, session int
	start                    uint64 // ticks since boot
	state                    byte
	threads                  int
	name                     string
}

// dead says that nothing of the process runs any more. A first thread that has
// ended ('Z') while others go on is no end: they still hold the GPU.
func (s stat) dead() bool {
	return s.state == 'X' || s.state == 'x' || s.state == 'Z' && s.threads <= 1
}

// parseStat reads /proc/PID/stat. The name is in brackets and may hold anything,
// brackets and blanks too: vLLM renames its processes.
func parseStat(b []byte) (stat, bool) {
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 1 || end < open {
		return stat{}, false
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b[:open])))
	if err != nil {
		return stat{}, false
	}
	f := strings.Fields(string(b[end+1:]))
	if len(f) < 20 || len(f[0]) != 1 {
		return stat{}, false
	}
	s := stat{pid: pid, state: f[0][0], name: string(b[open+1 : end])}
	for i, into := range []*int{1: &s.ppid, 2: &s.pgid, 3: &s.session, 17: &s.threads} {
		if into == nil {
			continue
		}
		if *into, err = strconv.Atoi(f[i]); err != nil {
			return stat{}, false
		}
	}
	if s.start, err = strconv.ParseUint(f[19], 10, 64); err != nil {
		return stat{}, false
	}
	return s, true
}

func readStat(pid int) (stat, bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return stat{}, false
	}
	return parseStat(b)
}

// processes reads all processes of the machine that /proc shows.
func processes() map[int]stat {
	all := map[int]stat{}
	d, err := os.Open("/proc")
	if err != nil {
		return all
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if s, ok := readStat(pid); ok {
			all[pid] = s
		}
	}
	return all
}

// hasToken says whether a process carries the server's mark in its environment.
// A program that renames itself may have overwritten it, so this only adds to
// what ancestry finds.
func hasToken(pid int, token string) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return false
	}
	want := tokenVariable + "=" + token
	return bytes.HasPrefix(b, []byte(want)) || bytes.Contains(b, []byte("\x00"+want))
}

// family picks from all the processes that belong to a server: its first
// process, descendants of it or of those seen before, its process group, and
// orphans of ours that carry its mark.
//
// all, seen and marked come from outside, so that the choice is pure. me is our
// pid: our other children are none of the server's.
func family(all map[int]stat, root int, rootStart uint64, seen map[int]uint64, me int, marked func(pid int) bool) []stat {
	member := make(map[int]bool, len(seen)+8)
	for pid, s := range all {
		known, ok := seen[pid]
		switch {
		case pid == me:
		case ok && known == s.start:
			member[pid] = true
		case pid == root && s.start == rootStart:
			member[pid] = true
		case s.pgid == root && s.start >= rootStart:
			member[pid] = true
		case s.ppid == me || s.ppid == 1:
			if s.start >= rootStart && marked(pid) {
				member[pid] = true
			}
		}
	}
	for grown := true; grown; {
		grown = false
		for pid, s := range all {
			if !member[pid] && pid != me && member[s.ppid] {
				member[pid], grown = true, true
			}
		}
	}
	out := make([]stat, 0, len(member))
	for pid := range member {
		out = append(out, all[pid])
	}
	return out
}

// signalExactly signals a process only if it is still the one with that start
// time: a number may have been given to another process meanwhile.
func signalExactly(pid int, start uint64, sig unix.Signal) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ENOSYS || err == unix.EPERM { // Linux before 5.3, or a sandbox
		if s, ok := readStat(pid); !ok || s.start != start {
			return unix.ESRCH
		}
		return unix.Kill(pid, sig)
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if s, ok := readStat(pid); !ok || s.start != start {
		return unix.ESRCH
	}
	return unix.PidfdSendSignal(fd, sig, nil, 0)
}

// reap collects a dead child of ours that no exec.Cmd waits for (an orphan that
// came to us). It never blocks.
func reap(pid int) {
	var ws unix.WaitStatus
	_, _ = unix.Wait4(pid, &ws, unix.WNOHANG, nil)
}
