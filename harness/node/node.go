// Package node looks at the machine that a benchmark runs on: its GPUs, its
// memory, disks, limits and ports, and the PBS job around it.
//
// It answers three questions. Is this node fit for a run ([Doctor], [Preflight])?
// What is it, for the record ([Collect])? What did its GPUs do meanwhile
// ([StartSampler])? Read check.go first, then gpu.go.
//
// Everything outside (programs, files, environment, clock) comes in through
// [System], so that tests run on recordings. The package starts no server and
// changes no setting of a GPU.
package node

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/user"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// CommandTimeout bounds one call of nvidia-smi or qstat. A driver in trouble
// makes nvidia-smi hang for minutes, and a preflight must say so instead.
const CommandTimeout = 30 * time.Second

// Output is what a finished program left behind.
type Output struct {
	Stdout, Stderr []byte
	// Exit is the exit status; -1 where a signal ended the program.
	Exit int
}

// Runner runs programs. A program that ran and failed is no error: its status
// is in Output. The error says that it could not be run, or did not end.
type Runner interface {
	Run(ctx context.Context, name string, args ...string) (Output, error)
	// Stream starts a program that writes lines until it is stopped. stop ends
	// it and waits for its end; closing the reader alone does not.
	Stream(ctx context.Context, name string, args ...string) (out io.ReadCloser, stop func() error, err error)
}

// Disk is the room of one file system, in bytes.
type Disk struct {
	FreeBytes  uint64 `json:"free_bytes"`
	TotalBytes uint64 `json:"total_bytes"`
	// Type is the file system's name ("lustre", "nfs", "tmpfs"), "" where unknown.
	Type string `json:"type,omitempty"`
}

// Limit is a resource limit. Unlimited is [Unlimited].
type Limit struct {
	Soft uint64 `json:"soft"`
	Hard uint64 `json:"hard"`
}

// Unlimited is the value of a limit that is none (RLIM_INFINITY).
const Unlimited = ^uint64(0)

// System is the machine as this package sees it. [Host] gives the real one.
type System struct {
	Runner Runner
	// Files is the file system from the root on: paths without the leading "/".
	Files fs.FS
	// Environ is the environment of this process ("NAME=VALUE").
	Environ  []string
	Hostname string
	// UID is the user's number; only what belongs to it is ever removed.
	UID int
	// UserName gives a user's name for a number; it may be nil.
	UserName func(uid int) string
	// CPUs is the number of processors in this process's affinity mask.
	CPUs int
	// Disk gives the room at a path, TryWrite whether a file can be made and
	// removed in a directory (made if missing), Limit a resource limit
	// ("nofile", "memlock"), Listen whether a loopback port is free (0: any).
	Disk     func(path string) (Disk, error)
	TryWrite func(dir string) error
	Limit    func(name string) (Limit, error)
	Listen   func(port int) error
	LookPath func(name string) (string, error)
	Now      func() time.Time
}

// Getenv returns the last value of a variable and whether it is set.
func (s *System) Getenv(name string) (string, bool) {
	for i := len(s.Environ) - 1; i >= 0; i-- {
		if v, ok := strings.CutPrefix(s.Environ[i], name+"="); ok {
			return v, true
		}
	}
	return "", false
}

func (s *System) env(name string) string {
	v, _ := s.Getenv(name)
	return v
}

// readFile reads a file by absolute path.
func (s *System) readFile(path string) ([]byte, error) {
	return fs.ReadFile(s.Files, rel(path))
}

func (s *System) readString(path string) string {
	b, err := s.readFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// rel turns an absolute path into one for [System.Files].
func rel(path string) string {
	p := strings.Trim(path, "/")
	if p == "" {
		return "."
	}
	return p
}

// run calls a program with [CommandTimeout].
func (s *System) run(ctx context.Context, name string, args ...string) (Output, error) {
	ctx, cancel := context.WithTimeout(ctx, CommandTimeout)
	defer cancel()
	return s.Runner.Run(ctx, name, args...)
}

// Host returns the machine that this process runs on.
func Host() *System {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return &System{
		Runner:   execRunner{},
		Files:    os.DirFS("/"),
		Environ:  os.Environ(),
		Hostname: host,
		UID:      os.Getuid(),
		UserName: userName,
		CPUs:     runtime.NumCPU(),
		Disk:     hostDisk,
		TryWrite: tryWrite,
		Limit:    hostLimit,
		Listen:   tryListen,
		LookPath: exec.LookPath,
		Now:      time.Now,
	}
}

func userName(uid int) string {
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return ""
	}
	return u.Username
}

// fileSystems names the types that matter for a start-up (loading weights,
// locks). Source: linux/magic.h and the file systems' own sources.
var fileSystems = map[int64]string{
	unix.NFS_SUPER_MAGIC:       "nfs",
	unix.TMPFS_MAGIC:           "tmpfs",
	unix.EXT4_SUPER_MAGIC:      "ext4",
	unix.XFS_SUPER_MAGIC:       "xfs",
	unix.BTRFS_SUPER_MAGIC:     "btrfs",
	unix.OVERLAYFS_SUPER_MAGIC: "overlay",
	0x0BD00BD0:                 "lustre",
	0x47504653:                 "gpfs",
	0x19830326:                 "beegfs",
	0x65735546:                 "fuse",
	0x2fc12fc1:                 "zfs",
}

func hostDisk(path string) (Disk, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return Disk{}, &fs.PathError{Op: "statfs", Path: path, Err: err}
	}
	size := uint64(st.Bsize)
	return Disk{
		FreeBytes:  st.Bavail * size,
		TotalBytes: st.Blocks * size,
		Type:       fileSystems[int64(st.Type)],
	}, nil
}

// tryWrite makes dir if needed, then makes, fills and removes a file in it: a
// full quota often lets a file be made but not filled.
func tryWrite(dir string) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".glm46-write-test-*")
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, 64<<10))
	return errors.Join(err, f.Sync(), f.Close(), os.Remove(f.Name()))
}

func hostLimit(name string) (Limit, error) {
	which, ok := map[string]int{"nofile": unix.RLIMIT_NOFILE, "memlock": unix.RLIMIT_MEMLOCK, "nproc": unix.RLIMIT_NPROC}[name]
	if !ok {
		return Limit{}, errors.New("unknown limit " + name)
	}
	var r unix.Rlimit
	if err := unix.Getrlimit(which, &r); err != nil {
		return Limit{}, err
	}
	return Limit{Soft: r.Cur, Hard: r.Max}, nil
}

func tryListen(port int) error {
	l, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return err
	}
	return l.Close()
}

// execRunner runs programs of this machine, without a shell.
type execRunner struct{}

func (execRunner) Run(ctx context.Context, name string, args ...string) (Output, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = 2 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// The whole group: a wrapper script's own children must not outlive us.
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	var out, errOut limitedBuffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	o := Output{Stdout: out.b, Stderr: errOut.b}
	if cmd.ProcessState != nil {
		o.Exit = cmd.ProcessState.ExitCode()
	}
	if ctx.Err() != nil {
		return o, context.Cause(ctx)
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return o, nil
	}
	return o, err
}

func (execRunner) Stream(ctx context.Context, name string, args ...string) (io.ReadCloser, func() error, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = w, w
	// Its own process group: a Ctrl-C meant for us must not end the telemetry
	// before we have stopped the server it describes.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}

	started := make(chan error, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		// The death signal is tied to the thread that forks: keep that thread
		// until the child has ended (golang/go#27505).
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		w.Close()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		<-done
		r.Close()
		return nil, nil, err
	}
	stop := func() error {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-done:
		case <-time.After(2 * time.Second):
			_ = cmd.Process.Kill()
			<-done
		}
		return nil
	}
	return r, stop, nil
}

// limitedBuffer keeps the first 4 MiB of a program's output: more than any
// query gives, and an end to one that runs wild.
type limitedBuffer struct{ b []byte }

func (l *limitedBuffer) Write(p []byte) (int, error) {
	const limit = 4 << 20
	if room := limit - len(l.b); room > 0 {
		l.b = append(l.b, p[:min(room, len(p))]...)
	}
	return len(p), nil
}
