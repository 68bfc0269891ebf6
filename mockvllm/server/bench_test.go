package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/glm46/glm46/harness/poll"
)

// The test binary is also the servers that the benchmarks measure: as processes
// of their own, so that CPU time and memory are theirs alone.
func roleMain() (code int, ok bool) {
	switch os.Getenv("GLM46_BENCH_ROLE") {
	case "mock":
		if path := os.Getenv("GLM46_BENCH_PROFILE"); path != "" {
			f, err := os.Create(path)
			if err == nil && pprof.StartCPUProfile(f) == nil {
				defer pprof.StopCPUProfile()
			}
		}
		return Main(context.Background(), Options{Args: os.Args[1:], Stdout: io.Discard, Stderr: os.Stderr, Environ: os.Environ()}), true
	case "bare":
		return bareMain(), true
	case "floor":
		return floorMain(), true
	}
	return 0, false
}

// bareEvent is as long as a chat chunk of the mock.
const bareEvent = `data: {"id":"chatcmpl-00000000000000000000000000000000","object":"chat.completion.chunk","created":1700000000,"model":"zai-org/GLM-4.6","choices":[{"index":0,"delta":{"content":" server","reasoning_content":null},"logprobs":null,"finish_reason":null,"token_ids":null}]}` + "\n\n"

// bareMain is the floor: net/http writing one constant event, flushed per event
// when paced (BARE_ITL), by net/http's own buffer when not.
func bareMain() int {
	itl, _ := time.ParseDuration(os.Getenv("BARE_ITL"))
	http.HandleFunc("/health", func(http.ResponseWriter, *http.Request) {})
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		n, _ := strconv.Atoi(r.Header.Get("Tokens"))
		w.Header().Set("Content-Type", "text/event-stream")
		w.WriteHeader(200)
		f := http.NewResponseController(w)
		_ = f.Flush()
		event := []byte(bareEvent)
		due := time.Now()
		for range n {
			if itl > 0 {
				due = due.Add(itl)
				time.Sleep(time.Until(due))
			}
			if _, err := w.Write(event); err != nil {
				return
			}
			if itl > 0 {
				_ = f.Flush()
			}
		}
		_, _ = io.WriteString(w, "data: [DONE]\n\n")
	})
	return map[bool]int{true: 0, false: 1}[http.ListenAndServe("127.0.0.1:"+os.Getenv("BARE_PORT"), nil) == nil]
}

// floorMain is what the kernel costs: one goroutine that sends a constant event
// to every connection each 20 ms, 13 sockets at a time, and does nothing else.
func floorMain() int {
	l, err := net.Listen("tcp", "127.0.0.1:"+os.Getenv("BARE_PORT"))
	if err != nil {
		return 1
	}
	type conn struct {
		net.Conn
		raw  syscall.RawConn
		left int
		due  time.Time
	}
	arrived := make(chan *conn, 1024)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				r, err := http.ReadRequest(bufio.NewReader(c))
				if err != nil || r.Method == "GET" {
					_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
					c.Close()
					return
				}
				n, _ := strconv.Atoi(r.Header.Get("Tokens"))
				raw, _ := c.(*net.TCPConn).SyscallConn()
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
				arrived <- &conn{c, raw, n, time.Now().Add(20 * time.Millisecond)}
			}()
		}
	}()
	event := fmt.Appendf(nil, "%x\r\n%s\r\n", len(bareEvent), bareEvent)
	var open []*conn
	send := func(fd uintptr) { _, _ = syscall.Write(int(fd), event) }
	for tick := time.Now(); ; {
		tick = tick.Add(500 * time.Microsecond)
		time.Sleep(time.Until(tick))
		for len(arrived) > 0 {
			open = append(open, <-arrived)
		}
		keep := open[:0]
		for _, c := range open {
			if c.due.Before(tick) {
				_ = c.raw.Control(send)
				c.due = c.due.Add(20 * time.Millisecond)
				if c.left--; c.left == 0 {
					_, _ = io.WriteString(c, "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
					c.Close()
					continue
				}
			}
			keep = append(keep, c)
		}
		open = keep
	}
}

type child struct {
	cmd  *exec.Cmd
	addr string
}

func startChild(tb testing.TB, role string, env []string, args ...string) *child {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(tb, err)
	addr := l.Addr().String()
	_, port, _ := net.SplitHostPort(addr)
	l.Close()
	if role == "mock" {
		args = append([]string{"serve", "zai-org/GLM-4.6", "--tensor-parallel-size", "8", "--port", port, "--disable-uvicorn-access-log"}, args...)
	}
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), append(env, "GLM46_BENCH_ROLE="+role, "BARE_PORT="+port)...)
	cmd.Stderr = io.Discard
	require.NoError(tb, cmd.Start())
	c := &child{cmd, addr}
	tb.Cleanup(func() { c.stop() })
	for range 500 {
		if resp, err := http.Get("http://" + addr + "/health"); err == nil {
			resp.Body.Close()
			if resp.StatusCode == 200 {
				return c
			}
		}
		time.Sleep(2 * time.Millisecond)
	}
	tb.Fatal("the server does not become healthy")
	return nil
}

func (c *child) stop() {
	if c.cmd.ProcessState == nil {
		_ = c.cmd.Process.Signal(syscall.SIGTERM)
		_ = c.cmd.Wait()
	}
}

// cpu is the process's CPU time so far.
func (c *child) cpu(tb testing.TB) time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.cmd.Process.Pid))
	require.NoError(tb, err)
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	if os.Getenv("GLM46_BENCH_SPLIT") != "" {
		tb.Logf("user %d0 ms, system %d0 ms", user, system)
	}
	return time.Duration(user+system) * 10 * time.Millisecond
}

func (c *child) rssKiB(tb testing.TB) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	require.NoError(tb, err)
	for _, l := range strings.Split(string(b), "\n") {
		if rest, ok := strings.CutPrefix(l, "VmRSS:"); ok {
			n, _ := strconv.Atoi(strings.Fields(rest)[0])
			return n
		}
	}
	return 0
}

// streamRequest is a chat request on the wire.
func streamRequest(id string, tokens int) []byte {
	body := fmt.Sprintf(`{"model":"zai-org/GLM-4.6","messages":[{"role":"user","content":%q}],"max_tokens":%d,"min_tokens":%d,"ignore_eos":true,"stream":true,"temperature":0}`,
		strings.Repeat("word and ", 48), tokens, tokens)
	return fmt.Appendf(nil, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTokens: %d\r\nX-Request-Id: %s\r\nContent-Length: %d\r\n\r\n%s", tokens, id, len(body), body)
}

// readStream reads one answer and gives the number of token events. at, if not
// nil, is called with the time of every read and the events so far.
func readStream(c io.Reader, at func(time.Time, int)) (int, error) {
	buf := make([]byte, 32<<10)
	var tail []byte
	events := 0
	for {
		n, err := c.Read(buf)
		now := time.Now()
		if err != nil {
			return events, err
		}
		b := buf[:n]
		if len(tail) > 0 {
			b = append(tail, b...)
		}
		events += bytes.Count(b, []byte(`"finish_reason":`))
		if at != nil {
			at(now, events)
		}
		if bytes.Contains(b, []byte("[DONE]")) {
			for !bytes.HasSuffix(b, []byte("0\r\n\r\n")) {
				n, err := c.Read(buf)
				if err != nil {
					return events, err
				}
				b = append(b[:len(b):len(b)], buf[:n]...)
			}
			return events, nil
		}
		// Keep what may be the beginning of a mark.
		keep := min(len(b), 17)
		cut := b[len(b)-keep:]
		if i := bytes.LastIndexByte(cut, '"'); i >= 0 && !bytes.Contains(cut, []byte(`"finish_reason":`)) {
			tail = append(tail[:0:0], cut...)
			events -= bytes.Count(tail, []byte(`"finish_reason":`))
		} else {
			tail = nil
		}
	}
}

// seen is when the events of one stream arrived at the client's socket, by the
// kernel's stamp, and when its client had read them.
type seen struct{ arrived, read []time.Time }

// pacedStreams reads n streams of that many tokens on one thread, begun together.
func pacedStreams(tb testing.TB, addr string, n, tokens int) (out []seen, total int) {
	start := time.Now()
	p, err := poll.New(start)
	require.NoError(tb, err)
	defer p.Close()
	out = make([]seen, n)
	sockets := make([]*poll.Socket, n)
	for i := range sockets {
		c, err := net.Dial("tcp", addr)
		require.NoError(tb, err)
		sockets[i], err = p.Take(c.(*net.TCPConn))
		require.NoError(tb, err)
		defer sockets[i].Close()
	}
	var wg sync.WaitGroup
	for i, socket := range sockets {
		wg.Go(func() {
			p.Do(func(t *poll.Task) {
				defer socket.Release()
				if err := socket.Write(t, streamRequest(fmt.Sprintf("r%d", i), tokens), nil, poll.Forever); err != nil {
					tb.Error(err)
					return
				}
				s := &out[i]
				s.arrived, s.read = make([]time.Time, 0, tokens+1), make([]time.Time, 0, tokens+1)
				var arrived time.Duration
				_, err := readStream(readerFunc(func(b []byte) (n int, err error) {
					n, arrived, err = socket.Read(t, b, poll.Forever)
					return n, err
				}), func(now time.Time, events int) {
					for len(s.read) < events {
						s.arrived, s.read = append(s.arrived, start.Add(arrived)), append(s.read, now)
					}
				})
				if err != nil {
					tb.Error(err)
				}
			})
		})
	}
	wg.Wait()
	for _, s := range out {
		total += len(s.read)
	}
	return out, total
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

func streams(tb testing.TB, addr string, n, tokens int, spread time.Duration) (total int, wall time.Duration) {
	conns := make([]net.Conn, n)
	for i := range conns {
		c, err := net.Dial("tcp", addr)
		require.NoError(tb, err)
		defer c.Close()
		conns[i] = c
	}
	var wg sync.WaitGroup
	counts := make([]int, n)
	begun := time.Now()
	for i, c := range conns {
		if spread > 0 {
			time.Sleep(time.Until(begun.Add(spread * time.Duration(i) / time.Duration(n))))
		}
		wg.Go(func() {
			if _, err := c.Write(streamRequest(fmt.Sprintf("r%d", i), tokens)); err != nil {
				tb.Error(err)
				return
			}
			var err error
			if counts[i], err = readStream(c, nil); err != nil {
				tb.Error(err)
			}
		})
	}
	wg.Wait()
	wall = time.Since(begun)
	for _, k := range counts {
		total += k
	}
	return total, wall
}

// BenchmarkUnpaced: 64 streams of 512 tokens, as fast as the mock can, client on
// the same cores; and the same from net/http with one constant event.
func BenchmarkUnpaced(b *testing.B) {
	const n, tokens = 64, 512
	for _, role := range []string{"mock", "bare"} {
		b.Run(role, func(b *testing.B) {
			c := startChild(b, role, nil, map[string][]string{"mock": {"--mock-ttft", "0", "--mock-itl", "0"}}[role]...)
			streams(b, c.addr, n, tokens, 0) // warm
			cpu := c.cpu(b)
			var total int
			var wall time.Duration
			for b.Loop() {
				k, w := streams(b, c.addr, n, tokens, 0)
				total, wall = total+k, wall+w
			}
			b.ReportMetric(float64(total)/wall.Seconds(), "tokens/s")
			b.ReportMetric(float64((c.cpu(b)-cpu).Microseconds())/float64(total), "server-us/token")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func percentile(x []time.Duration, p float64) float64 {
	if len(x) == 0 {
		return 0
	}
	slices.Sort(x)
	return float64(x[int(p*float64(len(x)-1))].Microseconds()) / 1000
}

// samples collects figures of repeated runs; their medians are reported.
type samples map[string][]float64

func (s samples) add(name string, x float64) { s[name] = append(s[name], x) }

func (s samples) report(b *testing.B) {
	for name, x := range s {
		slices.Sort(x)
		b.ReportMetric((x[(len(x)-1)/2]+x[len(x)/2])/2, name)
	}
	b.ReportMetric(0, "ns/op")
}

// BenchmarkPaced: 512 streams of 256 tokens at 20 ms: how late tokens reach a
// client on the same cores, and what they cost the server. Every round measures
// the mock and its yardsticks one after the other: the machine's mood is the same
// for all. Of floor and bare tokens are late against their stream's first one.
func BenchmarkPaced(b *testing.B) {
	const n, tokens, itl = 512, 256, 20 * time.Millisecond
	out := samples{}
	truth := filepath.Join(b.TempDir(), "truth.jsonl")
	pace := []string{"--mock-ttft", "20ms", "--mock-itl", "20ms"}
	servers := map[string]*child{
		"mock":     startChild(b, "mock", nil, append(pace, "--mock-truth", truth)...),
		"no-truth": startChild(b, "mock", nil, pace...), // the cost alone: nobody keeps a file
		"floor":    startChild(b, "floor", nil),
		"bare":     startChild(b, "bare", []string{"BARE_ITL=20ms"}),
	}
	for b.Loop() {
		for _, role := range []string{"mock", "no-truth", "floor", "bare"} {
			c := servers[role]
			cpu := c.cpu(b)
			events, total := pacedStreams(b, c.addr, n, tokens)
			switch cost := float64((c.cpu(b) - cpu).Microseconds()) / float64(total); role {
			case "mock":
				out.truthful(b, truth, events)
			case "no-truth":
				out.add("mock-us/token", cost)
			default:
				var late []time.Duration
				for _, s := range events {
					for k, t := range s.read {
						late = append(late, t.Sub(s.read[0].Add(time.Duration(k)*itl)))
					}
				}
				out.add(role+"-us/token", cost)
				out.add(role+"-p50-ms", percentile(late, 0.5))
				out.add(role+"-p99-ms", percentile(late, 0.99))
			}
		}
	}
	out.report(b)
}

type truthLine struct {
	ID     string `json:"request_id"`
	Tokens []struct {
		N       int   `json:"n"`
		Due     int64 `json:"due_unix_ns"`
		Written int64 `json:"written_unix_ns"`
	} `json:"tokens"`
	End string `json:"end"`
}

func readTruth(tb testing.TB, path string) map[string]truthLine {
	f, err := os.Open(path)
	require.NoError(tb, err)
	defer f.Close()
	out := map[string]truthLine{}
	for sc := bufio.NewReader(f); ; {
		line, err := sc.ReadBytes('\n')
		if err != nil {
			return out
		}
		var t truthLine
		require.NoError(tb, json.Unmarshal(line, &t))
		out[t.ID] = t
	}
}

// truthful adds how late tokens were against the truth file: handed to the
// kernel, and read by the client.
func (s samples) truthful(b *testing.B, truth string, events []seen) {
	time.Sleep(50 * time.Millisecond) // the last lines
	lines := readTruth(b, truth)
	require.NoError(b, os.Truncate(truth, 0)) // it is appended to
	var atServer, arrived, atClient, zeroth, first, last []time.Duration
	for i, event := range events {
		t := lines[fmt.Sprintf("chatcmpl-r%d", i)]
		// The role chunk is an event of its own, and comes with the first token.
		if len(event.read) != len(t.Tokens)+1 {
			b.Fatalf("stream %d: %d events, %d tokens", i, len(event.read), len(t.Tokens))
		}
		for k, tok := range t.Tokens {
			atServer = append(atServer, time.Duration(tok.Written-tok.Due))
			arrived = append(arrived, time.Duration(event.arrived[k+1].UnixNano()-tok.Due))
			late := time.Duration(event.read[k+1].UnixNano() - tok.Due)
			atClient = append(atClient, late)
			switch {
			case k < 16:
				first = append(first, late)
			case k >= len(t.Tokens)-16:
				last = append(last, late)
			}
			if k == 0 {
				zeroth = append(zeroth, late)
			}
		}
	}
	s.add("written-p50-ms", percentile(atServer, 0.5))
	s.add("written-p99-ms", percentile(atServer, 0.99))
	s.add("arrived-p50-ms", percentile(arrived, 0.5))
	s.add("arrived-p99-ms", percentile(arrived, 0.99))
	s.add("late-p50-ms", percentile(atClient, 0.5))
	s.add("late-p99-ms", percentile(atClient, 0.99))
	s.add("token0-p99-ms", percentile(zeroth, 0.99))
	s.add("first16-p99-ms", percentile(first, 0.99))
	s.add("last16-p99-ms", percentile(last, 0.99))
}

// BenchmarkMemory: resident memory a stream with 5,000 streams open. Every
// measurement has a process of its own: one that has served keeps its heap.
func BenchmarkMemory(b *testing.B) {
	const n, tokens = 5000, 40
	measure := func(b *testing.B, role string, env []string, args ...string) float64 {
		c := startChild(b, role, env, args...)
		defer c.stop()
		streams(b, c.addr, 64, 4, 0)
		before := c.rssKiB(b)
		peak := make(chan int, 1)
		stop := make(chan struct{})
		go func() {
			most := 0
			for {
				select {
				case <-stop:
					peak <- most
					return
				case <-time.After(20 * time.Millisecond):
					most = max(most, c.rssKiB(b))
				}
			}
		}()
		streams(b, c.addr, n, tokens, 2*time.Second)
		close(stop)
		return float64(<-peak-before) / n
	}
	out := samples{}
	for b.Loop() {
		out.add("paced-KiB/stream", measure(b, "mock", nil, "--mock-ttft", "200ms", "--mock-itl", "100ms", "--max-model-len", "131072"))
		out.add("engine-KiB/stream", measure(b, "mock", nil, "--max-model-len", "131072", "--max-num-seqs", "8000", "--max-num-batched-tokens", "16384"))
		out.add("bare-KiB/stream", measure(b, "bare", []string{"BARE_ITL=100ms"}))
	}
	out.report(b)
}

// BenchmarkHealthy: from starting the process to the first 200 of /health.
func BenchmarkHealthy(b *testing.B) {
	var all []time.Duration
	for b.Loop() {
		begun := time.Now()
		c := startChild(b, "mock", nil)
		all = append(all, time.Since(begun))
		c.stop()
	}
	b.ReportMetric(percentile(all, 0.5), "healthy-ms")
	b.ReportMetric(0, "ns/op")
}
