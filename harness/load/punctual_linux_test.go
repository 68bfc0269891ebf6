package load

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/glm46/glm46/harness/measure"
	"github.com/glm46/glm46/harness/stats"
	"github.com/glm46/glm46/mockvllm"
)

// lateness is how long after the mock wrote its tokens a reader has them, in
// milliseconds: of first tokens, of gaps (how far they are off), of last tokens
// and of all.
type lateness struct{ first, gap, last, all []float64 }

// add the stamps of one stream, in Unix nanoseconds.
func (l *lateness) add(tb testing.TB, said truth, stamps []int64) {
	require.Len(tb, said.Tokens, len(stamps))
	before := 0.0
	for i, at := range stamps {
		late := float64(at-said.Tokens[i].WrittenUnixNS) / 1e6
		l.all = append(l.all, late)
		if i > 0 {
			l.gap = append(l.gap, max(late-before, before-late))
		}
		before = late
	}
	l.first = append(l.first, l.all[len(l.all)-len(stamps)])
	l.last = append(l.last, before)
}

// figures are median and p99 of each kind, by name.
func (l *lateness) figures() map[string]float64 {
	out := map[string]float64{}
	for name, values := range map[string][]float64{"first": l.first, "gap": l.gap, "last": l.last, "all": l.all} {
		slices.Sort(values)
		out[name+"-p50"], out[name+"-p99"] = stats.Percentile(values, 50), stats.Percentile(values, 99)
	}
	return out
}

// clientLateness runs the client.
func clientLateness(tb testing.TB, target Target, said func() map[string]truth, spec Spec) (*lateness, *measure.RunJSON) {
	tb.Helper()
	var rec memory
	out, err := Run(context.Background(), target, spec, &rec, nil)
	require.NoError(tb, err)
	run, err := Finish(target, spec, out, measure.Records(rec.records), FinishInput{})
	require.NoError(tb, err)
	known, l := said(), &lateness{}
	for _, r := range rec.main() {
		require.Equal(tb, measure.OK, r.Outcome, r.Detail)
		stamps := make([]int64, len(r.Events))
		for i, e := range r.Events {
			stamps[i] = out.Clock.StartUnixNS + int64(e.At)
		}
		l.add(tb, known[r.RequestID], stamps)
	}
	return l, run
}

// bareLateness reads the same streams with goroutines that only read and stamp.
func bareLateness(tb testing.TB, target Target, said func() map[string]truth, spec Spec) *lateness {
	tb.Helper()
	r, err := newRunner(target, spec)
	require.NoError(tb, err)
	start := time.Now()
	stamps := make([][]int64, len(spec.Samples))
	var group sync.WaitGroup
	for i := range spec.Samples {
		s := &spec.Samples[i]
		stamps[i] = make([]int64, 0, s.TargetTokens)
		body, err := r.body.append(nil, s, s.TargetTokens, spec.Salt)
		require.NoError(tb, err)
		head := r.head(&measure.Record{RequestID: fmt.Sprintf("bare-%s-%d", spec.Salt, i), Endpoint: r.body.endpointOf(s)}, len(body))
		wait := r.firstWave() * time.Duration(i) / time.Duration(len(spec.Samples))
		group.Go(func() {
			time.Sleep(wait)
			c, err := net.Dial("tcp", r.addr.host)
			if err != nil {
				return
			}
			defer c.Close()
			if _, err := c.Write(append(head, body...)); err != nil {
				return
			}
			buf := make([]byte, 16<<10)
			for len(stamps[i]) < s.TargetTokens {
				n, err := c.Read(buf)
				at := int64(time.Since(start))
				if err != nil {
					return
				}
				// An event is never split here: the mock writes it at once.
				for range min(bytes.Count(buf[:n], []byte("\n\n")), s.TargetTokens-len(stamps[i])) {
					stamps[i] = append(stamps[i], start.UnixNano()+at)
				}
			}
			for { // to the end, as the mock's truth is written behind it
				if n, err := c.Read(buf); err != nil || bytes.Contains(buf[:n], []byte("[DONE]")) {
					return
				}
			}
		})
	}
	group.Wait()
	known, l := said(), &lateness{}
	for i := range stamps {
		l.add(tb, known[fmt.Sprintf("bare-%s-%d", spec.Salt, i)], stamps[i])
	}
	return l
}

// mockOrder is what a mock in a process of its own is asked for.
type mockOrder struct {
	Args  []string
	Pace  *mockvllm.Pace
	Truth string // file
}

// TestMockChild is the mock of the benchmarks, so that it does not share the
// client's runtime; it does nothing on its own.
func TestMockChild(t *testing.T) {
	text := os.Getenv("GLM46_TEST_MOCK")
	if text == "" {
		t.Skip("only as a child of the benchmarks")
	}
	var order mockOrder
	require.NoError(t, json.Unmarshal([]byte(text), &order))
	file, err := os.Create(order.Truth)
	require.NoError(t, err)
	defer file.Close()
	target := startMock(t, mockvllm.Options{Args: order.Args, Pace: order.Pace, Truth: file})
	fmt.Println(target.BaseURL)
	_, _ = io.Copy(io.Discard, os.Stdin) // to the end of the parent
}

// startMockProcess starts one, and gives its truth as far as it is written.
func startMockProcess(b *testing.B, order mockOrder) (Target, func() map[string]truth) {
	b.Helper()
	order.Truth = filepath.Join(b.TempDir(), "truth.jsonl")
	text, err := json.Marshal(order)
	require.NoError(b, err)
	child := exec.Command(os.Args[0], "-test.run", "^TestMockChild$")
	child.Env = append(os.Environ(), "GLM46_TEST_MOCK="+string(text))
	child.Stderr = os.Stderr
	in, err := child.StdinPipe()
	require.NoError(b, err)
	out, err := child.StdoutPipe()
	require.NoError(b, err)
	require.NoError(b, child.Start())
	b.Cleanup(func() { in.Close(); _ = child.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(b, err)
	go func() { _, _ = io.Copy(io.Discard, out) }()
	target := Target{BaseURL: strings.TrimSpace(line), Model: "zai-org/GLM-4.6", Version: "0.11.1", Features: FeaturesOf("0.11.1")}
	return target, func() map[string]truth {
		time.Sleep(200 * ms) // the mock writes behind the last byte
		raw, err := os.ReadFile(order.Truth)
		require.NoError(b, err)
		return readTruths(b, raw)
	}
}

// punctuality of the client and of a bare reader, in turns, so that both see the
// machine's good and bad moments. It reports medians over the turns.
func punctuality(b *testing.B, order mockOrder, tokens int) {
	const turns = 5
	for b.Loop() {
		target, said := startMockProcess(b, order)
		all := map[string][]float64{}
		for turn := range turns {
			spec := Spec{Level: "c512", Concurrency: 512, Samples: samples(512, tokens), Salt: fmt.Sprint(turn), Warmup: WarmupSpec{Skip: true}}
			bare := bareLateness(b, target, said, spec).figures()
			late, run := clientLateness(b, target, said, spec)
			client := late.figures()
			for name := range client {
				all["client-"+name+"-ms"] = append(all["client-"+name+"-ms"], client[name])
				all["bare-"+name+"-ms"] = append(all["bare-"+name+"-ms"], bare[name])
				all["ratio-"+name] = append(all["ratio-"+name], client[name]/bare[name])
			}
			all["cpu-%"] = append(all["cpu-%"], 100*run.Client.CPUShare)
			all["tpot-ms"] = append(all["tpot-ms"], run.Metrics.TPOT.Median)
		}
		for name, values := range all {
			b.ReportMetric(median(values), name)
		}
	}
}

// BenchmarkPunctuality: 512 streams at 20 ms, spread over the step. What it
// reports is the client's own error: its timestamp less the moment the mock
// wrote the token; and a bare reader's.
func BenchmarkPunctuality(b *testing.B) {
	punctuality(b, mockOrder{Args: mockArgs(), Pace: &mockvllm.Pace{TTFT: 20 * ms, ITL: 20 * ms}}, 100)
}

// BenchmarkPunctualityInStep: 512 streams whose tokens all come in one step of
// the engine.
func BenchmarkPunctualityInStep(b *testing.B) {
	punctuality(b, mockOrder{Args: append(mockArgs(), "--max-num-seqs", "512")}, 40)
}

// BenchmarkOpenLoop: 500 requests a second by plan; what it reports is how late
// they left, and how late a bare sender was at the same time: a process of its
// own that only waits for the instants of such a plan in the kernel.
func BenchmarkOpenLoop(b *testing.B) {
	for b.Loop() {
		target, said := startMockProcess(b, mockOrder{Args: mockArgs(), Pace: &mockvllm.Pace{TTFT: 5 * ms, ITL: 5 * ms}})
		spec := Spec{Level: "r500", Arrival: openLoop500, Samples: samples(2500, 10), Warmup: WarmupSpec{Skip: true}}
		bare := bareSender(b)
		_, run := clientLateness(b, target, said, spec)
		b.ReportMetric(run.Client.SendLagP50MS, "lag-p50-ms")
		b.ReportMetric(run.Client.SendLagP99MS, "lag-p99-ms")
		p50, p99 := bare()
		b.ReportMetric(p50, "bare-p50-ms")
		b.ReportMetric(p99, "bare-p99-ms")
		b.ReportMetric(100*run.Client.CPUShare, "cpu-%")
	}
}

var openLoop500 = Arrival{Process: Poisson, RatePerSecond: 500}

// TestBareSenderChild is the bare sender; it does nothing on its own.
func TestBareSenderChild(t *testing.T) {
	if os.Getenv("GLM46_TEST_BARE") == "" {
		t.Skip("only as a child of BenchmarkOpenLoop")
	}
	offsets, err := openLoop500.Offsets(2500, 1)
	require.NoError(t, err)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	clock := clock{time.Now()}
	var late []float64
	for _, at := range offsets {
		for left := at - clock.now(); left > 0; left = at - clock.now() {
			ts := unix.NsecToTimespec(int64(left))
			_ = unix.Nanosleep(&ts, nil)
		}
		late = append(late, (clock.now()-at).Seconds()*1e3)
	}
	slices.Sort(late)
	fmt.Println(stats.Percentile(late, 50), stats.Percentile(late, 99))
}

// bareSender starts one, which takes five seconds; the function it returns waits
// for it and gives median and p99 of its lateness in milliseconds.
func bareSender(b *testing.B) func() (p50, p99 float64) {
	child := exec.Command(os.Args[0], "-test.run", "^TestBareSenderChild$")
	child.Env = append(os.Environ(), "GLM46_TEST_BARE=1")
	out, err := child.StdoutPipe()
	require.NoError(b, err)
	require.NoError(b, child.Start())
	return func() (p50, p99 float64) {
		_, err := fmt.Fscan(out, &p50, &p99)
		require.NoError(b, err)
		_, _ = io.Copy(io.Discard, out)
		require.NoError(b, child.Wait())
		return p50, p99
	}
}
