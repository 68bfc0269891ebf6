package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// output is a log that may be read while it is written.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

const modelName = "zai-org/GLM-4.6"

func serveArgs(more ...string) []string {
	return append([]string{"serve", modelName, "--tensor-parallel-size", "8"}, more...)
}

func TestRefusals(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.yaml")
	require.NoError(t, os.WriteFile(bad, []byte("version: 1\nstart:\n  fail: x\n"), 0o644))
	flag := filepath.Join(dir, "flag.yaml")
	require.NoError(t, os.WriteFile(flag, []byte("version: 1\nstart: {unknown_flag: --max-model-len}\n"), 0o644))
	for _, c := range []struct {
		name string
		args []string
		env  []string
		code int
		want string // in stdout or stderr
	}{
		{"version", []string{"--version"}, nil, 0, "0.11.1\n"},
		{"version chosen", []string{"--version", "--mock-version", "0.8.2"}, nil, 0, "0.8.2\n"},
		{"version from the environment", []string{"--version"}, []string{"GLM46_MOCK_VERSION=0.14.0"}, 0, "0.14.0\n"},
		{"help", serveArgs("--help"), nil, 0, "--mock-scenario"},
		{"nothing", nil, nil, 2, "serve MODEL"},
		{"unknown flag", serveArgs("--context-parallel-size", "8"), nil, 2, "vllm: error: unrecognized arguments: --context-parallel-size 8"},
		{"flag gone", serveArgs("--swap-space", "4", "--mock-version", "0.22.0"), nil, 2, "unrecognized arguments: --swap-space"},
		{"context parallel", serveArgs("--decode-context-parallel-size", "2"), nil, 1, "tensor parallel size 8 must be greater than total num kv heads 8"},
		{"too long", serveArgs("--max-model-len", "300000"), nil, 1, "User-specified max_model_len (300000) is greater"},
		{"no room", serveArgs("--gpu-memory-utilization", "0.5"), nil, 1, "No available memory for the cache blocks"},
		{"KV too small", serveArgs("--gpu-memory-utilization", "0.66"), nil, 1, "To serve at least one request"},
		{"port", serveArgs("--port", "99999"), nil, 2, "argument --port: invalid value 99999: want 0 to 65535"},
		{"port below 0", serveArgs("--port=-1"), nil, 2, "argument --port: invalid value -1"},
		{"mock flag", serveArgs("--mock-sped", "2"), nil, 2, "unknown flag --mock-sped"},
		{"speed", serveArgs("--mock-speed", "fast"), nil, 2, "--mock-speed: want a number"},
		{"speed of nothing", serveArgs("--mock-speed"), nil, 2, "argument --mock-speed"},
		{"startup", serveArgs("--mock-startup=slow"), nil, 2, "none or model"},
		{"pace", serveArgs("--mock-itl=20"), nil, 2, "a duration such as 20ms"},
		{"mock version", serveArgs("--mock-version", "new"), nil, 2, "--mock-version"},
		{"scenario missing", serveArgs("--mock-scenario", filepath.Join(dir, "none")), nil, 2, "no such file"},
		{"scenario wrong", serveArgs("--mock-scenario", bad), nil, 2, "bad.yaml:3:9: start.fail"},
		{"scenario flag", serveArgs("--mock-scenario", flag), nil, 2, "unrecognized arguments: --max-model-len"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out, errs output
			ctx, cancel := context.WithCancel(t.Context())
			cancel() // what starts after all stops at once
			args := c.args
			if len(args) > 0 && args[0] == "serve" {
				args = append([]string{"serve", "--port", "0"}, args[1:]...)
			}
			code := Main(ctx, Options{Args: args, Stdout: &out, Stderr: &errs, Environ: c.env})
			if code != c.code || !strings.Contains(out.String()+errs.String(), c.want) {
				t.Errorf("exit %d, want %d with %q in\n%s\n%s", code, c.code, c.want, out.String(), errs.String())
			}
		})
	}
}

func freePort(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

func TestLife(t *testing.T) {
	port := freePort(t)
	var out, errs output
	ctx, cancel := context.WithCancel(t.Context())
	code := make(chan int, 1)
	go func() {
		code <- Main(ctx, Options{Args: serveArgs("--port", port, "--mock-startup", "model", "--mock-speed", "1000"), Stdout: &out, Stderr: &errs})
	}()
	url := "http://127.0.0.1:" + port
	refused := false
	begun := time.Now()
	for {
		resp, err := http.Get(url + "/health")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode != 200 {
				t.Errorf("health: %d", resp.StatusCode)
			}
			break
		}
		refused = refused || errors.Is(err, syscall.ECONNREFUSED)
		if time.Since(begun) > 20*time.Second {
			t.Fatalf("not healthy: %v\n%s", err, out.String())
		}
		time.Sleep(2 * time.Millisecond)
	}
	if !refused || time.Since(begun) < 300*time.Millisecond {
		t.Errorf("was refused: %t; healthy after %v, want 475 s / 1000 or more", refused, time.Since(begun))
	}
	// A second server on the port fails as vLLM does.
	var out2, errs2 output
	if c := Main(t.Context(), Options{Args: serveArgs("--port", port), Stdout: &out2, Stderr: &errs2}); c != 1 || !strings.Contains(errs2.String(), "Address already in use") {
		t.Errorf("second server: exit %d, %s", c, errs2.String())
	}
	// Stopped while a stream is open: the stream breaks, the process ends well.
	resp, err := http.Post(url+"/v1/completions", "application/json", strings.NewReader(`{"prompt":"x","max_tokens":32000,"ignore_eos":true,"stream":true}`))
	require.NoError(t, err)
	cancel()
	select {
	case c := <-code:
		if c != 0 {
			t.Errorf("exit %d after a clean stop", c)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("does not stop")
	}
	if _, err := new(bytes.Buffer).ReadFrom(resp.Body); err == nil {
		t.Error("the open stream ended well")
	}
	resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	order := []string{"non-default args", "Initializing a V1 LLM engine (v0.11.1)", "Model loading took", "GPU KV cache size", "Starting vLLM API server 0 on http://0.0.0.0:" + port}
	at := 0
	for _, part := range order {
		i := strings.Index(out.String()[at:], part)
		if i < 0 {
			t.Fatalf("no %q after byte %d of\n%s", part, at, out.String())
		}
		at += i
	}
	if !strings.Contains(errs.String(), "Application startup complete.") || !strings.Contains(errs.String(), "Application shutdown complete.") {
		t.Errorf("uvicorn's lines: %s", errs.String())
	}
}

func TestDeathEndsTheProcess(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "death.yaml")
	require.NoError(t, os.WriteFile(file, []byte("version: 1\nevents:\n- {after: 100ms, die: oom_run}\n"), 0o644))
	var out, errs output
	code := Main(t.Context(), Options{Args: serveArgs("--port", "0", "--mock-scenario", file), Stdout: &out, Stderr: &errs})
	if code != 1 || !strings.Contains(out.String()+errs.String(), "EngineDeadError") {
		t.Errorf("exit %d\n%s", code, errs.String())
	}
}

func TestSIGTERM(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		truth := filepath.Join(t.TempDir(), "truth.jsonl")
		c := startChild(t, "mock", nil, "--mock-truth", truth)
		resp, err := http.Post(fmt.Sprintf("http://%s/v1/completions", c.addr), "application/json", strings.NewReader(`{"prompt":"x","max_tokens":32000,"ignore_eos":true,"stream":true}`))
		require.NoError(t, err)
		require.NoError(t, c.cmd.Process.Signal(sig))
		if err := c.cmd.Wait(); err != nil {
			t.Errorf("%v: %v", sig, err)
		}
		resp.Body.Close()
		http.DefaultClient.CloseIdleConnections()
	}
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	ctx, cancel := context.WithCancel(t.Context())
	var out, errs output
	code := make(chan int, 1)
	go func() { code <- Main(ctx, Options{Args: serveArgs("--uds", path), Stdout: &out, Stderr: &errs}) }()
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}}
	defer tr.CloseIdleConnections()
	ok := false
	for range 2000 {
		if resp, err := (&http.Client{Transport: tr}).Get("http://x/health"); err == nil {
			ok = resp.StatusCode == 200
			resp.Body.Close()
			break
		}
		time.Sleep(2 * time.Millisecond)
	}
	cancel()
	if c := <-code; c != 0 || !ok {
		t.Errorf("exit %d, healthy %t: %s", c, ok, errs.String())
	}
}
