package launch

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// fakeMode makes the test binary a fake server (or one of its workers) when it
// is set: what it does is the list of words in it.
const fakeMode = "GLM46_TEST_FAKE"

func TestMain(m *testing.M) {
	if mode := os.Getenv(fakeMode); mode != "" {
		os.Exit(fake(strings.Fields(mode), os.Args[1:]))
	}
	// Orphans of killed servers come to this process, as in a real run.
	if err := BecomeSubreaper(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// floodLines of 120 letters are more than the pipe and two reads hold.
const floodLines = 10000

// fake plays a server. Words: "deaf" ignores SIGTERM; "workers=N" starts N
// workers, "deafworkers" makes them ignore SIGTERM; "daemon" starts a worker
// that left family, group and session; "orphan" one whose parent ends at once;
// "serve=NAME" answers HTTP on the port in the arguments; "sick" answers 503;
// "late=D" answers only after D; "print=FILE" prints a file; "exit=N" ends;
// "kill" ends by SIGKILL; "flood" prints a lot; "pids=FILE" notes every pid.
func fake(words, args []string) int {
	has := func(w string) bool {
		for _, x := range words {
			if x == w {
				return true
			}
		}
		return false
	}
	value := func(name string) string {
		for _, x := range words {
			if v, ok := strings.CutPrefix(x, name+"="); ok {
				return v
			}
		}
		return ""
	}
	terminate := make(chan os.Signal, 1)
	if has("deaf") {
		signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	} else {
		signal.Notify(terminate, syscall.SIGTERM)
	}
	if dir := value("pids"); dir != "" {
		name := filepath.Join(dir, strconv.Itoa(os.Getpid()))
		if err := os.WriteFile(name+".tmp", nil, 0o666); err == nil {
			os.Rename(name+".tmp", name)
		}
	}
	start := func(mode string, attr *syscall.SysProcAttr) {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), fakeMode+"="+mode)
		cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = os.Stdout, os.Stderr, attr
		if err := cmd.Start(); err != nil {
			fmt.Println("fake:", err)
		}
	}
	pids := ""
	if v := value("pids"); v != "" {
		pids = " pids=" + v
	}
	worker := "wait" + pids
	if has("deafworkers") {
		worker += " deaf"
	}
	if n, _ := strconv.Atoi(value("workers")); n > 0 {
		for range n {
			start(worker, nil)
		}
	}
	if has("daemon") {
		// A worker in a session of its own whose parent ends: only the mark in
		// its environment, or being seen in time, still tells whose it is.
		start("begetdaemon"+pids, nil)
	}
	if has("begetdaemon") {
		start("deaf wait"+pids, &syscall.SysProcAttr{Setsid: true})
		return 0
	}
	if f := value("print"); f != "" {
		b, err := os.ReadFile(f)
		if err != nil {
			fmt.Println(err)
			return 9
		}
		os.Stdout.Write(b)
	}
	if has("flood") {
		line := strings.Repeat("x", 120) + "\n"
		for range floodLines {
			fmt.Print(line)
		}
		fmt.Print(strings.Repeat("y", 200<<10) + "\n")
		fmt.Fprint(os.Stderr, "no newline at the end")
	}
	if has("kill") {
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	if v := value("exit"); v != "" {
		n, _ := strconv.Atoi(v)
		return n
	}
	if v := value("late"); v != "" {
		d, _ := time.ParseDuration(v)
		time.Sleep(d)
	}
	if name := value("serve"); name != "" || has("sick") {
		mux := http.NewServeMux()
		mux.HandleFunc("/health", func(w http.ResponseWriter, _ *http.Request) {
			if has("sick") {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		})
		mux.HandleFunc("/version", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"version":"0.11.1"}`) })
		mux.HandleFunc("/v1/models", func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"object":"list","data":[{"id":%q,"object":"model","max_model_len":32768}]}`, name)
		})
		l, err := net.Listen("tcp", "127.0.0.1:"+args[0])
		if err != nil {
			fmt.Println(err)
			return 1
		}
		go http.Serve(l, mux)
	}
	select {
	case <-terminate:
		return 0
	case <-time.After(2 * time.Minute): // never left behind by a broken test
		return 3
	}
}
