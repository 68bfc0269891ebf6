package result

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Defaults of [ClaimOptions]. A parallel file system can stall a healthy writer
// for minutes, so a claim goes stale late.
const (
	ClaimHeartbeat = 20 * time.Second
	ClaimStale     = 5 * time.Minute
)

// Owner says who holds a claim. A PBS job id is not enough: a requeued job keeps
// its id while the old processes may still be running on a lost node.
type Owner struct {
	Host   string `json:"host"`
	BootID string `json:"boot_id,omitempty"`
	// PIDNamespace tells containers of one host apart.
	PIDNamespace string `json:"pid_namespace,omitempty"`
	PID          int    `json:"pid"`
	// StartTicks is the process's start, in clock ticks since boot.
	StartTicks uint64    `json:"start_ticks,omitempty"`
	JobID      string    `json:"job_id,omitempty"`
	Nonce      string    `json:"nonce"`
	Since      time.Time `json:"since"`
	Released   bool      `json:"released,omitempty"`
}

// HeldError says that somebody else holds a claim.
type HeldError struct {
	Path  string
	Owner Owner
	// Age is how long ago the holder gave a sign of life.
	Age time.Duration
}

func (e *HeldError) Error() string {
	who := fmt.Sprintf("process %d on %s", e.Owner.PID, e.Owner.Host)
	if e.Owner.JobID != "" {
		who += ", job " + e.Owner.JobID
	}
	return fmt.Sprintf("%s is held by %s (last sign of life %s ago); wait for it, or end that job", e.Path, who, e.Age.Round(time.Second))
}

// ErrClaimLost says that another process took a claim over, since this one gave
// no sign of life for long. What was written stays; nothing more may be.
var ErrClaimLost = errors.New("results: another process has taken over this record, since this one gave no sign of life; nothing more is written to it")

// ClaimOptions are the times of a claim. Zero values take the defaults.
type ClaimOptions struct {
	JobID            string
	Heartbeat, Stale time.Duration
}

func (o *ClaimOptions) defaults() {
	if o.Heartbeat <= 0 {
		o.Heartbeat = ClaimHeartbeat
	}
	if o.Stale <= 0 {
		o.Stale = ClaimStale
	}
}

// Claim is an exclusive right to something in a shared directory, held by
// files ".<name>.claim.<epoch>". Whoever creates the next epoch's file has it;
// link(2) lets one creator win on NFS and Lustre as well. The holder touches its
// file now and then. A file that was not touched for long, or whose process is
// gone from this host, may be succeeded by the next epoch. The old holder sees
// that at its next [Claim.Check], before it writes.
type Claim struct {
	mu    sync.Mutex
	dir   string
	name  string
	epoch int
	me    Owner

	stop chan struct{}
	done chan struct{}
	once sync.Once
}

func claimFile(dir, name string, epoch int) string {
	return filepath.Join(dir, "."+name+".claim."+strconv.Itoa(epoch))
}

// Acquire claims name in dir, which exists. It fails with a [*HeldError] where
// another process holds the claim, and does not wait.
func Acquire(dir, name string, o ClaimOptions) (*Claim, error) {
	o.defaults()
	me, err := self(o.JobID)
	if err != nil {
		return nil, err
	}
	for range 16 {
		epoch, holder, age, err := lastEpoch(dir, name)
		if err != nil {
			return nil, err
		}
		if epoch > 0 && !claimable(holder, age, o.Stale) {
			return nil, &HeldError{Path: filepath.Join(dir, name), Owner: holder, Age: age}
		}
		won, err := createClaim(dir, name, epoch+1, me)
		if err != nil {
			return nil, fmt.Errorf("results: claim %s in %s: %w", name, dir, err)
		}
		if !won {
			continue
		}
		for old := 1; old <= epoch; old++ {
			os.Remove(claimFile(dir, name, old))
		}
		c := &Claim{dir: dir, name: name, epoch: epoch + 1, me: me, stop: make(chan struct{}), done: make(chan struct{})}
		go c.beat(o.Heartbeat)
		return c, nil
	}
	return nil, fmt.Errorf("results: claim %s in %s: others were quicker, again and again; try once more", name, dir)
}

// Holder says who holds name in dir now; ok is false where nobody does.
func Holder(dir, name string, stale time.Duration) (owner Owner, ok bool, err error) {
	if stale <= 0 {
		stale = ClaimStale
	}
	epoch, owner, age, err := lastEpoch(dir, name)
	if err != nil || epoch == 0 {
		return Owner{}, false, err
	}
	return owner, !claimable(owner, age, stale), nil
}

// lastEpoch reads the newest claim file; epoch 0 means that there is none.
func lastEpoch(dir, name string) (epoch int, holder Owner, age time.Duration, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, Owner{}, 0, err
	}
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), "."+name+".claim.")
		if n, err := strconv.Atoi(rest); ok && err == nil && n > epoch {
			epoch = n
		}
	}
	if epoch == 0 {
		return 0, Owner{}, 0, nil
	}
	path := claimFile(dir, name, epoch)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) { // succeeded by the next epoch meanwhile
		return lastEpoch(dir, name)
	}
	if err != nil {
		return 0, Owner{}, 0, err
	}
	// A file that cannot be read is somebody's: only its age counts.
	_ = json.Unmarshal(b, &holder)
	age, err = ageOf(dir, path)
	return epoch, holder, age, err
}

// ageOf compares a file's time with that of a new file beside it, so that the
// clocks of two nodes need not agree.
func ageOf(dir, path string) (time.Duration, error) {
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	now := time.Now()
	if f, err := os.CreateTemp(dir, ".clock-*"); err == nil {
		if p, err := f.Stat(); err == nil {
			now = p.ModTime()
		}
		f.Close()
		os.Remove(f.Name())
	}
	return max(now.Sub(st.ModTime()), 0), nil
}

// claimable says whether a claim may be succeeded.
func claimable(o Owner, age, stale time.Duration) bool {
	if o.Released || age >= stale {
		return true
	}
	here, err := self("")
	if err != nil || o.BootID == "" || o.Host != here.Host {
		return false
	}
	if o.BootID != here.BootID {
		return true // the node was started anew
	}
	if o.PIDNamespace != here.PIDNamespace || o.PID <= 0 {
		return false // its number means nothing here
	}
	ticks, alive := processStart(o.PID)
	return !alive || ticks != o.StartTicks
}

func createClaim(dir, name string, epoch int, me Owner) (won bool, err error) {
	b, err := json.Marshal(me)
	if err != nil {
		return false, err
	}
	f, err := os.CreateTemp(dir, "."+name+".new-*")
	if err != nil {
		return false, err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(append(b, '\n'))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return false, err
	}
	target := claimFile(dir, name, epoch)
	err = os.Link(f.Name(), target)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, fs.ErrExist):
		return false, nil
	case !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.ENOTSUP) && !errors.Is(err, unix.ENOSYS):
		return false, err
	}
	// A file system without hard links: an exclusive create is atomic too, only
	// its content comes a moment later.
	g, err := os.OpenFile(target, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	_, err = g.Write(b)
	return true, errors.Join(err, g.Close())
}

// Check says whether this process still holds the claim: nil or [ErrClaimLost].
func (c *Claim) Check() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	epoch, holder, _, err := lastEpoch(c.dir, c.name)
	if err != nil {
		return err
	}
	if epoch != c.epoch || holder.Nonce != c.me.Nonce || holder.Released {
		return ErrClaimLost
	}
	return nil
}

// Release gives the claim up. A second call does nothing.
func (c *Claim) Release() {
	c.once.Do(func() {
		close(c.stop)
		<-c.done
		if c.Check() != nil {
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		me := c.me
		me.Released = true
		b, err := json.Marshal(me)
		if err == nil {
			// Not removed: an old holder that wakes up late must find that it
			// is not the last.
			_ = writeWhole(claimFile(c.dir, c.name, c.epoch), append(b, '\n'))
		}
	})
}

// moved follows a folder that was renamed with the claim in it.
func (c *Claim) moved(dir string) {
	c.mu.Lock()
	c.dir = dir
	c.mu.Unlock()
}

func (c *Claim) beat(every time.Duration) {
	defer close(c.done)
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-c.stop:
			return
		case <-t.C:
			c.mu.Lock()
			path := claimFile(c.dir, c.name, c.epoch)
			c.mu.Unlock()
			// The server's clock, not ours, where the file system has one.
			now := unix.Timespec{Nsec: unix.UTIME_NOW}
			_ = unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{now, now}, 0)
		}
	}
}

// self describes this process.
func self(job string) (Owner, error) {
	host, err := os.Hostname()
	if err != nil {
		return Owner{}, err
	}
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		return Owner{}, err
	}
	o := Owner{Host: host, PID: os.Getpid(), JobID: job, Nonce: hex.EncodeToString(b[:]), Since: time.Now().UTC()}
	if id, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
		o.BootID = strings.TrimSpace(string(id))
	}
	o.PIDNamespace, _ = os.Readlink("/proc/self/ns/pid")
	o.StartTicks, _ = processStart(o.PID)
	return o, nil
}

// processStart reads a process's start in ticks since boot (field 22 of
// /proc/PID/stat; see proc(5)). alive is false where there is none, or where
// it is only waiting to be reaped.
func processStart(pid int) (ticks uint64, alive bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, false
	}
	// The command's name, in brackets, may hold anything: count from its end.
	s := string(b)
	f := strings.Fields(s[strings.LastIndexByte(s, ')')+1:])
	if len(f) < 20 {
		return 0, false
	}
	ticks, err = strconv.ParseUint(f[19], 10, 64)
	return ticks, err == nil && !slices.Contains([]string{"Z", "X"}, f[0])
}

// umask reads the process's file mode mask without changing it.
func umask() os.FileMode {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0o022
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "Umask:"); ok {
			if n, err := strconv.ParseUint(strings.TrimSpace(v), 8, 32); err == nil {
				return os.FileMode(n)
			}
		}
	}
	return 0o022
}
