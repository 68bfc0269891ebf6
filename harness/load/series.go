package load

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/glm46/glm46/harness/measure"
)

// scraper asks the server for its metrics and health, beside the load and on
// connections of its own.
type scraper struct {
	base   string
	client http.Client
}

// scrapeTimeout is far above what a page takes, and below a sampling interval's
// worth of patience.
const scrapeTimeout = 5 * time.Second

func newScraper(a address, dial func(ctx context.Context, network, addr string) (net.Conn, error)) *scraper {
	scheme := "http"
	if a.tls != nil {
		scheme = "https"
	}
	return &scraper{
		base: scheme + "://" + a.header + a.prefix,
		client: http.Client{
			Transport: &http.Transport{
				Proxy: nil, DialContext: dial, TLSClientConfig: a.tls.Clone(), DisableCompression: true,
				MaxIdleConns: 2, IdleConnTimeout: poolAge, ResponseHeaderTimeout: scrapeTimeout,
			},
			Timeout:       scrapeTimeout,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

func (s *scraper) close() { s.client.CloseIdleConnections() }

func (s *scraper) get(ctx context.Context, path string, read func(io.Reader) error) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.base+path, nil)
	if err != nil {
		return 0, err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK && read != nil {
		return resp.StatusCode, read(resp.Body)
	}
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
	return resp.StatusCode, nil
}

// counters of the server now; nil where it serves none of vLLM's.
func (s *scraper) counters(ctx context.Context, c clock) (*measure.Counters, error) {
	var out *measure.Counters
	status, err := s.get(ctx, "/metrics", func(r io.Reader) error {
		var err error
		out, err = measure.ParseCounters(r, c.now())
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case status != http.StatusOK:
		return nil, fmt.Errorf("/metrics: HTTP %d", status)
	case len(out.Has) == 0:
		return nil, nil
	}
	return out, nil
}

// health is the status of /health.
func (s *scraper) health(ctx context.Context) (int, error) { return s.get(ctx, "/health", nil) }

// Limits of the series.
const (
	scrapeEvery = time.Second // of the server's time
	// leastScrape is the shortest interval of wall time: a page costs a
	// millisecond or two on either side.
	leastScrape = 250 * time.Millisecond
	keptSamples = 4096
	// fullKV is the usage at which a waiting request is taken to wait for blocks,
	// where the server does not say what it waits for.
	fullKV = 0.90
)

// series samples the server until ctx ends. level is the level's own context.
func (r *runner) series(ctx, level context.Context) {
	if r.out.Before == nil {
		return // the server has no counters
	}
	every := r.spec.ScrapeEvery
	if every <= 0 {
		every = max(leastScrape, r.scaled(scrapeEvery))
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	stride, skip := 1, 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if level.Err() != nil {
			return
		}
		c, err := r.scrape.counters(ctx, r.clock)
		if err != nil || c == nil {
			continue
		}
		r.mu.Lock()
		s := measure.ServerSample{Level: r.spec.Level, Phase: measure.PhaseWarmup, At: c.At, InFlight: len(r.active), Counters: *c}
		if r.handed && c.At > time.Duration(r.out.Clock.HandOverNS) {
			s.Phase = measure.PhaseMain
		}
		r.mu.Unlock()
		if r.spec.Series != nil {
			r.spec.Series(s)
		}
		if s.Phase != measure.PhaseMain {
			continue
		}
		r.out.note(&s)
		if skip++; skip >= stride {
			skip = 0
			r.out.Samples = append(r.out.Samples, s)
		}
		if len(r.out.Samples) >= keptSamples {
			keep := r.out.Samples[:0]
			for i, s := range r.out.Samples {
				if i%2 == 0 {
					keep = append(keep, s)
				}
			}
			r.out.Samples = keep
			stride *= 2
		}
	}
}

// note folds a sample of the main phase into the facts of the series.
func (o *Outcome) note(s *measure.ServerSample) {
	f := &o.Series
	f.Samples++
	f.KVUsageMax = max(f.KVUsageMax, s.KVUsage)
	f.WaitingMax = max(f.WaitingMax, s.Waiting)
	f.RunningMax = max(f.RunningMax, s.Running)
	switch {
	case s.WaitingFull != nil:
		if *s.WaitingFull > 0 && s.KVUsage >= fullKV {
			f.KVBoundSamples++
		}
	case s.Waiting > 0 && s.KVUsage >= fullKV:
		f.KVBoundSamples++
	}
}

// Patience with counters that a server writes a little behind its answers.
const (
	settleEvery = 100 * time.Millisecond
	settleLimit = 3 * time.Second
)

// after reads the counters behind the last response, and again while they do
// not yet add up to what the client saw.
func (r *runner) after(level context.Context) {
	out := r.out
	if out.Before == nil || out.ServerDead {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(level), settleLimit+scrapeTimeout)
	defer cancel()
	until := r.clock.now() + settleLimit
	if level.Err() != nil {
		until = 0 // once: there is little time left
	}
	for {
		c, err := r.scrape.counters(ctx, r.clock)
		if err == nil && c != nil {
			out.After = c
			verdict, _ := measure.CountersCheck(r.totals, out.Before, c)
			if verdict == "equal" || verdict == measure.NotChecked {
				break
			}
		}
		if r.clock.now() >= until || !r.clock.sleep(ctx, r.clock.now()+settleEvery) {
			break
		}
	}
	if out.After == nil {
		return
	}
	base := out.HandOver
	if base == nil {
		base = out.Before
	}
	out.Series.Preemptions = out.After.Preemptions - base.Preemptions
	out.SpecDecode = measure.SpecDecodeBetween(base, out.After)
}
