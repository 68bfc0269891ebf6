package load

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/glm46/glm46/harness/measure"
	"github.com/glm46/glm46/harness/stats"
)

// Shape is the load that a certificate is made for.
type Shape struct {
	Streams int
	// TokensPerSecond a stream, in wall time.
	TokensPerSecond float64
	EventBytes      int           // default 300
	PromptBytes     int           // default 1024
	Duration        time.Duration // default 3 s in all
}

// Certify runs the load shape against an in-process server and tells what the
// client adds. It takes a few seconds.
//
// The ceiling is measured for a third of the time, with as many streams and a
// server on the same cores that writes its events one by one as fast as it can.
// For the rest the server keeps the shape's pace. What the client adds to TTFT
// is TTFT less the server's own time from the request's last byte to the write
// of its first event; to ITL, how far a gap differs from the one between the
// writes of its two events.
func Certify(ctx context.Context, shape Shape) (*measure.Certificate, error) {
	if shape.Streams < 1 {
		return nil, fmt.Errorf("load: certificate: %d streams; want at least 1", shape.Streams)
	}
	if shape.Duration <= 0 {
		shape.Duration = 3 * time.Second
	}
	if shape.EventBytes < eventBytesLeast {
		shape.EventBytes = 300
	}
	if shape.PromptBytes <= 0 {
		shape.PromptBytes = 1 << 10
	}
	cert := &measure.Certificate{Streams: shape.Streams, EventBytes: shape.EventBytes}
	start := time.Now()
	if err := ceiling(ctx, shape, cert); err != nil {
		return nil, err
	}
	if err := added(ctx, shape, cert); err != nil {
		return nil, err
	}
	cert.DurationS = time.Since(start).Seconds()
	return cert, nil
}

// kept is a Recorder in memory, without what a certificate does not need.
type kept struct {
	mu      sync.Mutex
	events  int
	records map[string]*measure.Record
}

func (k *kept) Record(r *measure.Record) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.events += r.EventCount
	if k.records != nil {
		c := *r
		c.Events = slices.Clone(r.Events)
		k.records[r.RequestID] = &c
	}
	return nil
}

func (k *kept) Flush() error { return nil }

// against runs the client for a while against a peer and gives its clock.
func against(ctx context.Context, p *peer, shape Shape, requests, tokens int, limit time.Duration, rec Recorder) (clock, error) {
	prompt := strings.Repeat("certify ", shape.PromptBytes/8+1)
	spec := Spec{Level: "certificate", Concurrency: shape.Streams, Salt: "certificate", Warmup: WarmupSpec{Skip: true}}
	spec.Samples = make([]Sample, requests)
	for i := range spec.Samples {
		spec.Samples[i] = Sample{ID: fmt.Sprint(i), Prompt: prompt, Seed: i, TargetTokens: tokens}
	}
	r, err := newRunner(Target{BaseURL: p.url(), Model: "m", Features: Features{ForcedLength: true}}, spec)
	if err != nil {
		return clock{}, err
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if _, err := r.run(limited, rec, nil); err != nil {
		return clock{}, err
	}
	return r.clock, ctx.Err()
}

func ceiling(ctx context.Context, shape Shape, cert *measure.Certificate) error {
	p, err := startPeer(shape.EventBytes, 0, false)
	if err != nil {
		return err
	}
	defer p.close()
	const tokens = 2000
	limit := shape.Duration / 3
	start := time.Now()
	var rec kept
	// More requests than any machine serves in the time: the limit ends it.
	requests := shape.Streams + int(limit.Seconds()*10e6/tokens)
	if _, err := against(ctx, p, shape, requests, tokens, limit, &rec); err != nil {
		return err
	}
	cert.EventsPerSecond = float64(rec.events) / time.Since(start).Seconds()
	return nil
}

func added(ctx context.Context, shape Shape, cert *measure.Certificate) error {
	gap := time.Duration(0)
	if shape.TokensPerSecond > 0 {
		gap = time.Duration(1e9 / shape.TokensPerSecond)
	}
	p, err := startPeer(shape.EventBytes, gap, true)
	if err != nil {
		return err
	}
	defer p.close()
	limit := shape.Duration * 2 / 3
	// Four answers a stream, so that first tokens are counted, too.
	tokens := 2
	if gap > 0 {
		tokens = max(tokens, int(limit/gap)/4)
	}
	rec := kept{records: map[string]*measure.Record{}}
	_, err = against(ctx, p, shape, 4*shape.Streams, tokens, 2*limit, &rec)
	if err != nil {
		return err
	}
	p.close() // nobody writes answers any more
	var ttft, itl []float64
	for id, r := range rec.records {
		a := p.answers[id]
		if a == nil || len(a.written) == 0 || len(r.Events) == 0 {
			continue
		}
		server := a.written[0] - a.received
		ttft = append(ttft, max(0, (r.FirstToken-r.Sent-server).Seconds()*1e3))
		for i := 1; i < min(len(r.Events), len(a.written)); i++ {
			got := r.Events[i].At - r.Events[i-1].At
			itl = append(itl, (got-(a.written[i]-a.written[i-1])).Abs().Seconds()*1e3)
		}
	}
	slices.Sort(ttft)
	slices.Sort(itl)
	cert.AddedTTFTP50MS, cert.AddedTTFTP99MS = stats.Percentile(ttft, 50), stats.Percentile(ttft, 99)
	cert.AddedITLP50MS, cert.AddedITLP99MS = stats.Percentile(itl, 50), stats.Percentile(itl, 99)
	return nil
}
