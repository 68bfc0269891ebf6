package pbstest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/glm46/glm46/pbsgen/pbs"
)

// Config says what the site is like. The zero value is OpenPBS as it comes, with one
// node of 8 GPUs.
type Config struct {
	// Dir holds spool, home directory and undelivered logs. Empty: a new temporary
	// folder, removed by Close.
	Dir string
	// ServerName is the part of a job id behind the dot. Empty: "pbstest".
	ServerName string
	// Nodes is how many jobs run at once, each on a whole node. 0: one.
	Nodes int
	// NodeGPUs, NodeCores and NodeMemory are what one node has. 0: 8, 192, 2 TB.
	NodeGPUs, NodeCores int
	NodeMemoryBytes     int64
	// Resources are the site's own resources ("filesystems"); others are refused.
	Resources []string
	// Queues by name; nil: "workq" without limits. DefaultQueue is the one for jobs
	// that name none; empty: the first by name.
	Queues       map[string]Queue
	DefaultQueue string
	// NoHistory forgets jobs at their end, so that later dependencies do not know
	// them.
	NoHistory bool

	// Second is how long a second of a walltime lasts; 0: a second. Poll intervals
	// and the kill delay shrink alike.
	Second time.Duration
	// MinPoll, PollStep and MaxPoll say when the walltime is looked at, KillDelay how
	// long a job may live after SIGTERM. 0: 10 s, 6 s, 120 s and 10 s, as shipped.
	MinPoll, PollStep, MaxPoll, KillDelay time.Duration
	// Late replaces the polls: SIGTERM comes so long after the walltime, in seconds
	// as Second counts them.
	Late func(jobID string) time.Duration

	// NodeEnv is added to the environment of every job, as a site's hooks do.
	NodeEnv []string
	// Profile is the text of ~/.bash_profile; the commands of InstallCommands are
	// found before it.
	Profile string
}

// Queue is one queue's limits.
type Queue struct {
	// MaxWalltime refuses longer jobs; DefaultWalltime is for jobs that ask for none.
	MaxWalltime, DefaultWalltime time.Duration
	Disabled                     bool
}

// Server is the stand-in. All methods may be called at the same time.
type Server struct {
	config  Config
	ownsDir bool
	home    string

	mu       sync.Mutex
	changed  *sync.Cond
	jobs     map[string]*job
	order    []*job
	sequence int
	busy     int // nodes in use
	closing  bool
	commands string

	running sync.WaitGroup
	socket  *listener
}

// Start makes a server. Close ends it, and every process of its jobs.
func Start(config Config) (*Server, error) {
	s := &Server{config: config.withDefaults(), jobs: map[string]*job{}}
	s.changed = sync.NewCond(&s.mu)
	if s.config.Dir == "" {
		dir, err := os.MkdirTemp("", "pbstest")
		if err != nil {
			return nil, err
		}
		s.config.Dir, s.ownsDir = dir, true
	}
	dir, err := filepath.Abs(s.config.Dir)
	if err != nil {
		return nil, err
	}
	s.config.Dir = dir
	s.home = filepath.Join(dir, "home")
	for _, sub := range []string{"home", "spool", "undelivered", "tmp", "aux"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, err
		}
	}
	return s, s.writeProfile()
}

func (c Config) withDefaults() Config {
	if c.ServerName == "" {
		c.ServerName = "pbstest"
	}
	c.Nodes = max(c.Nodes, 1)
	if c.NodeGPUs == 0 {
		c.NodeGPUs = 8
	}
	if c.NodeCores == 0 {
		c.NodeCores = 192
	}
	if c.NodeMemoryBytes == 0 {
		c.NodeMemoryBytes = 2 << 40
	}
	if c.Queues == nil {
		c.Queues = map[string]Queue{"workq": {}}
	}
	if c.DefaultQueue == "" {
		c.DefaultQueue = slices.Min(slices.Collect(maps.Keys(c.Queues)))
	}
	for _, d := range []struct {
		value *time.Duration
		usual time.Duration
	}{
		{&c.Second, time.Second}, {&c.MinPoll, 10 * time.Second}, {&c.PollStep, 6 * time.Second},
		{&c.MaxPoll, 120 * time.Second}, {&c.KillDelay, 10 * time.Second},
	} {
		if *d.value == 0 {
			*d.value = d.usual
		}
	}
	return c
}

// real is how long a duration of PBS's clock takes here.
func (s *Server) real(d time.Duration) time.Duration {
	return time.Duration(d.Seconds() * float64(s.config.Second))
}

// Home is the home directory of all jobs.
func (s *Server) Home() string { return s.home }

// Undelivered is where logs go that cannot be delivered.
func (s *Server) Undelivered() string { return filepath.Join(s.config.Dir, "undelivered") }

func (s *Server) writeProfile() error {
	text := s.config.Profile
	if s.commands != "" {
		text = fmt.Sprintf("PATH=%s:$PATH\n%s", s.commands, text)
	}
	return os.WriteFile(filepath.Join(s.home, ".bash_profile"), []byte(text), 0o600)
}

// Close deletes all jobs, kills what is left of them, also outside their sessions,
// and waits until nothing of them runs.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closing = true
	jobs := slices.Clone(s.order)
	s.mu.Unlock()
	for _, j := range jobs {
		s.kill(j)
	}
	s.running.Wait()
	for _, j := range jobs {
		for _, p := range s.outside(j) {
			_ = p.kill()
		}
	}
	var err error
	if s.socket != nil {
		err = s.socket.close()
	}
	if s.ownsDir {
		err = errors.Join(err, os.RemoveAll(s.config.Dir))
	}
	return err
}

// Status is what the server knows of a job.
type Status struct {
	ID, Name, Queue string
	// State is the letter of qstat: Q, H, R, E, F; B for a running array, X for an
	// ended sub-job.
	State string
	// ExitStatus is PBS's, nil where the job never ran.
	ExitStatus *int
	Substate   int
	RunCount   int
	Comment    string
	// Walltime is the limit, in the server's seconds; Started is zero before the
	// first run.
	Walltime time.Duration
	Started  time.Time
	// Index is the sub-job's, -1 otherwise.
	Index int
	Hold  string
	// OutputPath is where the log goes, ErrorPath the errors; empty if joined.
	OutputPath, ErrorPath string
	// Variables are what the job got by -v and -V, and PBS_O_*.
	Variables []pbs.Variable
	Job       *pbs.Job
}

// Job gives the status of one job, by id with or without the server's name.
func (s *Server) Job(id string) (Status, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j := s.find(id)
	if j == nil {
		return Status{}, false
	}
	return j.status(), true
}

// Jobs gives the status of all jobs and sub-jobs, in order of submission.
func (s *Server) Jobs() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Status
	for _, j := range s.order {
		list = append(list, j.status())
	}
	return list
}

// Wait waits until the jobs have ended; without ids, until all have. A held job that
// nothing will release is waited for until ctx ends.
func (s *Server) Wait(ctx context.Context, ids ...string) error {
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.changed.Broadcast()
	})
	defer stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.allEnded(ids) {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("jobs have not ended: %w", err)
		}
		s.changed.Wait()
	}
	return nil
}

// WaitState waits until a job is in one of the states ("R").
func (s *Server) WaitState(ctx context.Context, id string, states ...string) error {
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.changed.Broadcast()
	})
	defer stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		j := s.find(id)
		if j == nil {
			return fmt.Errorf("unknown job %s", id)
		}
		if slices.Contains(states, j.state) {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("job %s is in state %s: %w", id, j.state, err)
		}
		s.changed.Wait()
	}
}

func (s *Server) allEnded(ids []string) bool {
	for _, j := range s.order {
		if !j.ended() && (len(ids) == 0 || slices.ContainsFunc(ids, func(id string) bool { return s.find(id) == j })) {
			return false
		}
	}
	return true
}
