package load

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/glm46/glm46/harness/measure"
)

// TestPeerChild is a server in a process of its own; it does nothing unless
// asked to.
func TestPeerChild(t *testing.T) {
	gap, err := time.ParseDuration(os.Getenv("GLM46_TEST_PEER_GAP"))
	if err != nil {
		t.Skip("only as a child of a benchmark")
	}
	p, err := startPeer(300, gap, false)
	require.NoError(t, err)
	fmt.Println("url " + p.url())
	_, _ = io.Copy(io.Discard, os.Stdin) // until the parent ends
	p.close()
}

// peerProcess starts a server whose memory and CPU are not the client's.
func peerProcess(tb testing.TB, gap time.Duration) string {
	tb.Helper()
	child := exec.Command(os.Args[0], "-test.run", "^TestPeerChild$", "-test.v")
	child.Env = append(os.Environ(), "GLM46_TEST_PEER_GAP="+gap.String())
	in, err := child.StdinPipe()
	require.NoError(tb, err)
	out, err := child.StdoutPipe()
	require.NoError(tb, err)
	require.NoError(tb, child.Start())
	tb.Cleanup(func() {
		in.Close()
		_ = child.Wait()
	})
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if url, ok := strings.CutPrefix(lines.Text(), "url "); ok {
			go func() { _, _ = io.Copy(io.Discard, out) }()
			return url
		}
	}
	tb.Fatal("the server said no address")
	return ""
}

// discard is a Recorder that keeps nothing.
type discard struct{}

func (discard) Record(*measure.Record) error { return nil }
func (discard) Flush() error                 { return nil }

// BenchmarkMemory reports the client's memory a stream while 512 run, early and
// ten times later in their life.
func BenchmarkMemory(b *testing.B) {
	const streams = 512
	used := func() float64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapInuse + m.StackInuse)
	}
	for b.Loop() {
		url := peerProcess(b, 2*ms)
		set := samples(streams, 6000)
		prompt := strings.Repeat("word ", 6100)
		for i := range set {
			set[i].Prompt = prompt
		}
		before := used()
		ctx, cancel := context.WithCancel(b.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, err := Run(ctx, Target{BaseURL: url, Model: "m"}, Spec{Level: "c512", Concurrency: streams, Samples: set, Warmup: WarmupSpec{Skip: true}}, discard{}, nil)
			require.NoError(b, err)
		}()
		time.Sleep(2 * time.Second)
		early := used()
		time.Sleep(8 * time.Second)
		late := used()
		cancel()
		start := time.Now()
		<-done
		b.Log("the end took", time.Since(start))
		b.ReportMetric((early-before)/streams/1024, "KiB/stream-early")
		b.ReportMetric((late-before)/streams/1024, "KiB/stream-late")
	}
}
