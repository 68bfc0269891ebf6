package selftest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// processState is what a process has that others can see: children and sockets
// that listen. Without /proc it is empty.
type processState struct {
	children  map[int]bool
	listening map[string]bool
}

const procDir = "/proc"

// procExists says whether processes can be looked at here.
func procExists() bool {
	_, err := os.Stat(filepath.Join(procDir, "self", "stat"))
	return err == nil
}

func observeProcess() processState {
	s := processState{children: map[int]bool{}, listening: listeningSockets()}
	for _, p := range processes() {
		if p.parent == os.Getpid() {
			s.children[p.pid] = true
		}
	}
	return s
}

// process is one line of the process table.
type process struct {
	pid, parent int
	name, state string
	started     string // ticks since boot: tells a pid from its next owner
}

// processes reads the process table.
func processes() []process {
	paths, _ := filepath.Glob(filepath.Join(procDir, "[0-9]*", "stat"))
	var out []process
	for _, path := range paths {
		if p, ok := readProcess(path); ok {
			out = append(out, p)
		}
	}
	return out
}

func readProcess(path string) (process, bool) {
	data, err := os.ReadFile(path)
	if err != nil {
		return process{}, false // it ended meanwhile
	}
	// The name is in parentheses and may hold any.
	open, shut := bytes.IndexByte(data, '('), bytes.LastIndexByte(data, ')')
	if open < 0 || shut < open {
		return process{}, false
	}
	fields := strings.Fields(string(data[shut+1:]))
	const stateField, parentField, startField = 0, 1, 19
	if len(fields) <= startField {
		return process{}, false
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(data[:open])))
	parent, _ := strconv.Atoi(fields[parentField])
	return process{pid: pid, parent: parent, name: string(data[open+1 : shut]), state: fields[stateField], started: fields[startField]}, true
}

// alive says whether the process is still there, zombies not counted.
func (p process) alive() bool {
	now, ok := readProcess(filepath.Join(procDir, strconv.Itoa(p.pid), "stat"))
	return ok && now.started == p.started && now.state != "Z" && now.state != "X"
}

// descendants are all processes below one.
func descendants(pid int) []process {
	all := processes()
	var out []process
	for grown := map[int]bool{pid: true}; ; {
		n := len(out)
		for _, p := range all {
			if grown[p.parent] && !grown[p.pid] {
				grown[p.pid] = true
				out = append(out, p)
			}
		}
		if len(out) == n {
			return out
		}
	}
}

// processesNaming are processes that have a text in their command line.
func processesNaming(text string) []string {
	paths, _ := filepath.Glob(filepath.Join(procDir, "[0-9]*", "cmdline"))
	var out []string
	for _, path := range paths {
		data, err := os.ReadFile(path)
		pid := filepath.Base(filepath.Dir(path))
		if err == nil && bytes.Contains(data, []byte(text)) && pid != strconv.Itoa(os.Getpid()) {
			out = append(out, pid+" "+string(bytes.ReplaceAll(data, []byte{0}, []byte{' '})))
		}
	}
	return out
}

// listeningSockets are the TCP sockets of this process that listen, by inode.
func listeningSockets() map[string]bool {
	out := map[string]bool{}
	mine := map[string]bool{}
	links, _ := filepath.Glob(filepath.Join(procDir, "self", "fd", "*"))
	for _, link := range links {
		to, err := os.Readlink(link)
		if inode, ok := strings.CutPrefix(to, "socket:["); ok && err == nil {
			mine[strings.TrimSuffix(inode, "]")] = true
		}
	}
	for _, table := range []string{"tcp", "tcp6"} {
		data, err := os.ReadFile(filepath.Join(procDir, "self", "net", table))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(data)) {
			const stateField, inodeField, listens = 3, 9, "0A"
			fields := strings.Fields(line)
			if len(fields) > inodeField && fields[stateField] == listens && mine[fields[inodeField]] {
				out[fields[inodeField]] = true
			}
		}
	}
	return out
}

// leftovers looks for what the checks should have cleaned up: processes of ours
// and sockets that listen.
func leftovers(ctx context.Context, w *world, t *tally) {
	if !procExists() {
		t.note("not checked: there is no /proc here")
		return
	}
	var found []string
	// A process that was ended takes a moment to be gone.
	for range 20 {
		found = w.left()
		if len(found) == 0 {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
	for _, f := range found {
		t.fail("%s", f)
	}
	t.note("no process and no listening socket is left")
}

func (w *world) left() []string {
	var found []string
	for _, p := range processes() {
		if p.parent == os.Getpid() && !w.before.children[p.pid] {
			found = append(found, fmt.Sprintf("child process %d (%s, state %s)", p.pid, p.name, p.state))
		}
	}
	for _, text := range processesNaming(w.dir) {
		found = append(found, "process "+text)
	}
	for inode := range listeningSockets() {
		if !w.before.listening[inode] {
			found = append(found, "a listening socket, inode "+inode)
		}
	}
	return found
}
