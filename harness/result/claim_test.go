package result

import (
	"encoding/json"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestClaim(t *testing.T) {
	dir := t.TempDir()
	c, err := Acquire(dir, "key", ClaimOptions{JobID: "7.srv"})
	require.NoError(t, err)
	var held *HeldError
	_, err = Acquire(dir, "key", ClaimOptions{})
	require.ErrorAs(t, err, &held)
	if held.Owner.JobID != "7.srv" || held.Owner.PID != os.Getpid() {
		t.Errorf("holder: %+v", held.Owner)
	}
	other, err := Acquire(dir, "other", ClaimOptions{})
	require.NoError(t, err, "another name")
	other.Release()
	require.NoError(t, c.Check())
	c.Release()
	c.Release()
	require.ErrorIs(t, c.Check(), ErrClaimLost)
	d, err := Acquire(dir, "key", ClaimOptions{})
	require.NoError(t, err, "given up")
	d.Release()
}

// Of many that want it at once, one has it.
func TestClaimRace(t *testing.T) {
	for range 20 {
		dir := t.TempDir()
		var won atomic.Int32
		var wg sync.WaitGroup
		claims := make([]*Claim, 8)
		for i := range claims {
			wg.Go(func() {
				if c, err := Acquire(dir, "key", ClaimOptions{}); err == nil {
					won.Add(1)
					claims[i] = c
				}
			})
		}
		wg.Wait()
		for _, c := range claims {
			if c != nil {
				c.Release()
			}
		}
		if won.Load() != 1 {
			t.Fatalf("%d won", won.Load())
		}
	}
}

// forge puts a claim of somebody else into dir, last touched age ago.
func forge(t *testing.T, dir string, change func(*Owner), age time.Duration) {
	t.Helper()
	o, err := self("8.srv")
	require.NoError(t, err)
	change(&o)
	b, err := json.Marshal(o)
	require.NoError(t, err)
	path := claimFile(dir, "key", 1)
	require.NoError(t, os.WriteFile(path, b, 0o666))
	then := time.Now().Add(-age)
	require.NoError(t, os.Chtimes(path, then, then))
}

func TestWhoseClaimMayBeTaken(t *testing.T) {
	dead := exec.Command("true")
	require.NoError(t, dead.Run())
	for _, c := range []struct {
		name   string
		change func(*Owner)
		age    time.Duration
		taken  bool
	}{
		{"another node, fresh", func(o *Owner) { o.Host, o.BootID = "node7", "b" }, time.Minute, false},
		{"another node, silent for long", func(o *Owner) { o.Host, o.BootID = "node7", "b" }, time.Hour, true},
		{"this node, its process is gone", func(o *Owner) { o.PID = dead.Process.Pid }, 0, true},
		{"this node, the number was given anew", func(o *Owner) { o.StartTicks++ }, 0, true},
		{"this node before it was started anew", func(o *Owner) { o.BootID = "before" }, 0, true},
		{"a container of this node", func(o *Owner) { o.PIDNamespace, o.PID = "pid:[1]", dead.Process.Pid }, 0, false},
		{"a living process here", func(o *Owner) {}, time.Minute, false},
		{"the same job id on another node", func(o *Owner) { o.Host = "node7" }, 0, false},
		{"released", func(o *Owner) { o.Host, o.Released = "node7", true }, 0, true},
	} {
		dir := t.TempDir()
		forge(t, dir, c.change, c.age)
		_, live, err := Holder(dir, "key", 0)
		require.NoError(t, err)
		if live == c.taken {
			t.Errorf("%s: live %v", c.name, live)
		}
		got, err := Acquire(dir, "key", ClaimOptions{JobID: "8.srv"})
		if (err == nil) != c.taken {
			t.Errorf("%s: taken %v, want %v", c.name, err == nil, c.taken)
		}
		if err == nil {
			got.Release()
		}
	}
}

// A holder that was silent for too long finds out before it writes again.
func TestLostClaim(t *testing.T) {
	results := t.TempDir()
	s := create(t, results, sample("x", "8k"))
	l, err := s.Level(run("c1"))
	require.NoError(t, err)
	// As if this process had been stopped for an hour: its claim is an hour old.
	old := time.Now().Add(-time.Hour)
	require.NoError(t, os.Chtimes(claimFile(s.Dir(), "owner", 1), old, old))
	thief, err := Acquire(s.Dir(), "owner", ClaimOptions{})
	require.NoError(t, err)
	defer thief.Release()
	require.ErrorIs(t, s.Update(func(*StartJSON) {}), ErrClaimLost)
	require.ErrorIs(t, l.Finish(run("c1")), ErrClaimLost)
	_, err = s.Level(run("c2"))
	require.ErrorIs(t, err, ErrClaimLost)
	s.Abandon()
	require.NoError(t, thief.Check(), "the old holder's end harms nobody")
}

func TestHeartbeat(t *testing.T) {
	dir := t.TempDir()
	c, err := Acquire(dir, "key", ClaimOptions{Heartbeat: 5 * time.Millisecond})
	require.NoError(t, err)
	defer c.Release()
	old := time.Now().Add(-time.Hour)
	path := claimFile(dir, "key", 1)
	require.NoError(t, os.Chtimes(path, old, old))
	for range 2000 {
		if st, err := os.Stat(path); err == nil && time.Since(st.ModTime()) < 30*time.Minute {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Error("no sign of life")
}

func TestClaimThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	path := claimFile(dir, "key", 3)
	require.NoError(t, os.WriteFile(path, []byte("{"), 0o666))
	var held *HeldError
	_, err := Acquire(dir, "key", ClaimOptions{})
	require.ErrorAs(t, err, &held, "somebody may just be writing it")
	old := time.Now().Add(-time.Hour)
	require.NoError(t, os.Chtimes(path, old, old))
	c, err := Acquire(dir, "key", ClaimOptions{})
	require.NoError(t, err)
	c.Release()
}
