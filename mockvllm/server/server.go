// Package server is the process around the mock: the whole of
// `vllm serve MODEL --flags`, with its log, its listening socket, its signals
// and its exit codes.
//
// It holds nothing that a test could want without a process; that is package
// mockvllm.
package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/glm46/glm46/mockvllm"
	"github.com/glm46/glm46/mockvllm/tokenizer"
	"github.com/glm46/glm46/mockvllm/vllm"
)

// Options of a process.
type Options struct {
	// Args is what follows "vllm" or "glm46 mock": "serve", MODEL, flags; or
	// "--version".
	Args []string
	// Stdout and Stderr receive the log as vLLM splits it.
	Stdout, Stderr io.Writer
	// Environ is the environment, NAME=VALUE; nil is an empty one.
	Environ []string
}

// Exit codes. Source: docs/vllm.md sections 1.2 and 2.
const (
	exitUsage   = 2
	exitRefused = 1
)

// Main runs the process until ctx ends, SIGTERM or SIGINT arrives, or the
// engine dies, and returns the exit code: 0 after a clean stop, 2 for a usage
// error with vLLM's text, 1 for a refusal or a death.
func Main(ctx context.Context, o Options) int {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	flags, rest, err := splitFlags(o.Args, o.Environ)
	if err != nil {
		return o.usage(err.Error())
	}
	v, err := vllm.ParseVersion(flags.version)
	if err != nil {
		return o.usage(fmt.Sprintf("argument --mock-version: %v", err))
	}
	switch {
	case len(rest) > 0 && (rest[0] == "--version" || rest[0] == "-v"):
		fmt.Fprintln(o.Stdout, v)
		return 0
	case len(rest) == 0 || rest[0] != "serve":
		return o.usage("the mock knows `serve MODEL [flags]` and `--version`")
	}
	rest = rest[1:]
	for _, a := range rest {
		if a == "--help" || a == "-h" {
			printHelp(o.Stdout, v)
			return 0
		}
	}
	mo, closeFiles, err := flags.options(rest, o)
	if err != nil {
		return o.usage(err.Error())
	}
	defer closeFiles()
	return o.serve(ctx, v, mo)
}

func (o Options) usage(text string) int {
	fmt.Fprintf(o.Stderr, "usage: vllm [-h] [-v] {serve} ...\nvllm: error: %s\n", text)
	return exitUsage
}

// refused says why there is no server; what vLLM would have logged is logged.
func (o Options) refused(err error) int {
	var usage *vllm.UsageError
	var refusal *vllm.RefusalError
	switch {
	case errors.As(err, &usage):
		fmt.Fprint(o.Stderr, usage.Text)
		return usage.ExitCode
	case errors.As(err, &refusal):
		return refusal.ExitCode
	}
	fmt.Fprintf(o.Stderr, "glm46 mock: error: %v\n", err)
	return exitRefused
}

func (o Options) serve(ctx context.Context, v vllm.Version, mo mockvllm.Options) int {
	// Tokens cost no garbage; requests do. A larger heap between collections
	// keeps the collector off the two cores that tests often have.
	debug.SetGCPercent(400)
	// The driver of the engine blocks in its thread until a token is due. One seat
	// more than processors means that it never waits for one behind requests that
	// are being read: the kernel, not Go's queue, decides, and favours who slept.
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
	args, err := vllm.ParseServeArgs(v, mo.Args)
	if err != nil {
		return o.refused(err)
	}
	// vLLM binds its port before the engine starts and listens after.
	sock, bindErr := bind(args)
	var wrongPort *portError
	if errors.As(bindErr, &wrongPort) {
		return o.usage(wrongPort.Error())
	}
	if bindErr == nil {
		defer sock.close()
		mo.Port = sock.port
	}
	m, err := mockvllm.NewPrecise(mo)
	if err != nil {
		return o.refused(err)
	}
	defer m.Close()
	if bindErr != nil {
		if !errors.Is(bindErr, syscall.EADDRINUSE) {
			fmt.Fprintf(o.Stderr, "glm46 mock: error: %v\n", bindErr)
			return exitRefused
		}
		m.LogFailure(vllm.ClassPortInUse)
		return exitRefused
	}
	go tokenizer.Warm()
	if err := m.Start(ctx); err != nil {
		var failed *mockvllm.StartError
		switch {
		case ctx.Err() != nil:
			return 0
		case errors.As(err, &failed):
			return failed.ExitCode
		}
		return o.refused(err)
	}
	l, err := sock.listen()
	if err != nil {
		fmt.Fprintf(o.Stderr, "glm46 mock: error: %v\n", err)
		return exitRefused
	}
	return run(ctx, m, l)
}

// deathGrace is how long a server whose engine has died answers before it stops.
// Source: docs/vllm.md section 3.5 (a watchdog of 5 s, and every failing request).
const deathGrace = 500 * time.Millisecond

func run(ctx context.Context, m *mockvllm.Mock, l net.Listener) int {
	srv := m.HTTPServer()
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(l) }()
	code := 0
	select {
	case <-ctx.Done():
	case <-m.Dead():
		t := time.NewTimer(deathGrace)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
		code = exitRefused
	case err := <-failed:
		failed <- err
		code = exitRefused
	}
	m.LogShutdown()
	_ = srv.Close()
	if err := <-failed; err != nil && !errors.Is(err, http.ErrServerClosed) && code == 0 {
		code = exitRefused
	}
	return code
}

// mockFlags are the mock's own flags, beside vLLM's.
type mockFlags struct {
	version, startup, scenario, truth, profile string
	speed, repetition                          string
	seed, ttft, itl                            string
	noise                                      string
}

// fields gives every flag's place. Each is also read from the environment, as
// GLM46_MOCK_VERSION and so on.
func (f *mockFlags) fields() map[string]*string {
	return map[string]*string{
		"version": &f.version, "speed": &f.speed, "seed": &f.seed, "startup": &f.startup, "ttft": &f.ttft, "itl": &f.itl,
		"scenario": &f.scenario, "truth": &f.truth, "profile": &f.profile, "repetition": &f.repetition, "noise": &f.noise,
	}
}

// splitFlags takes the mock's flags out of the arguments.
func splitFlags(args, environ []string) (mockFlags, []string, error) {
	f := mockFlags{version: vllm.DefaultVersion}
	fields := f.fields()
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		if rest, ok := strings.CutPrefix(name, "GLM46_MOCK_"); ok && value != "" {
			if p := fields[strings.ToLower(rest)]; p != nil {
				*p = value
			}
		}
	}
	var rest []string
	for i := 0; i < len(args); i++ {
		name, value, hasValue := strings.Cut(args[i], "=")
		key, ok := strings.CutPrefix(name, "--mock-")
		if !ok {
			rest = append(rest, args[i])
			continue
		}
		p := fields[key]
		if p == nil {
			return f, nil, fmt.Errorf("unknown flag %s; the mock's flags are --mock-version, -speed, -seed, -startup, -ttft, -itl, -scenario, -truth, -profile, -repetition, -noise (docs/mock.md)", name)
		}
		if !hasValue {
			if i++; i >= len(args) {
				return f, nil, fmt.Errorf("argument %s: expected one argument", name)
			}
			value = args[i]
		}
		*p = value
	}
	return f, rest, nil
}

// options turns the flags into the mock's options. The function returned closes
// the files that were opened.
func (f mockFlags) options(args []string, o Options) (mockvllm.Options, func(), error) {
	none := func() {}
	mo := mockvllm.Options{
		Args: args, Version: f.version, Startup: mockvllm.Startup(f.startup), Log: o.Stdout, ErrorLog: o.Stderr, Environ: o.Environ,
	}
	var err error
	wrong := func(name, value, want string) (mockvllm.Options, func(), error) {
		return mo, none, fmt.Errorf("argument --mock-%s: want %s, got %q", name, want, value)
	}
	if f.speed != "" {
		if mo.Speed, err = strconv.ParseFloat(f.speed, 64); err != nil || !(mo.Speed > 0 && mo.Speed <= 1e6) {
			return wrong("speed", f.speed, "a number above 0 and at most 1000000")
		}
	}
	if f.seed != "" {
		if mo.Seed, err = strconv.ParseUint(f.seed, 10, 64); err != nil {
			return wrong("seed", f.seed, "a whole number of 0 or more")
		}
	}
	if s := mo.Startup; s != "" && s != mockvllm.StartupNone && s != mockvllm.StartupModel {
		return wrong("startup", f.startup, "none or model")
	}
	if f.ttft != "" || f.itl != "" {
		mo.Pace = &mockvllm.Pace{}
		for _, d := range []struct {
			name, value string
			to          *time.Duration
		}{{"ttft", f.ttft, &mo.Pace.TTFT}, {"itl", f.itl, &mo.Pace.ITL}} {
			if d.value == "" || d.value == "0" {
				continue
			}
			if *d.to, err = time.ParseDuration(d.value); err != nil || *d.to < 0 {
				return wrong(d.name, d.value, "a duration such as 20ms")
			}
		}
	}
	if f.repetition != "" {
		mo.RepetitionSet = true
		if mo.Repetition, err = strconv.ParseFloat(f.repetition, 64); err != nil || !(mo.Repetition >= 0 && mo.Repetition <= 1) {
			return wrong("repetition", f.repetition, "a share of 0 to 1")
		}
	}
	if f.noise != "" {
		if mo.Noise, err = strconv.ParseBool(f.noise); err != nil {
			return wrong("noise", f.noise, "true or false")
		}
	}
	return f.files(mo)
}
