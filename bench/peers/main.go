// Command peers runs glm46's load client and Python load generators against the
// same mock server with the same load, and says what each of them costs and how
// close its figures are to what the server did. `bash bench/peers/run.sh`
// installs the others and starts it; docs/performance.md has what came out.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

func run() error {
	var b bench
	var only, loadNames, resultsPath string
	var rounds, from int
	var reportOnly bool
	flag.StringVar(&b.glm46, "glm46", "", "the glm46 binary: client and mock server")
	flag.StringVar(&b.tools, "tools", "", "folder with one virtual environment a tool")
	flag.StringVar(&b.shim, "vllm-client", "", "vllm_client.py")
	flag.StringVar(&resultsPath, "results", "", "file of measurements, one JSON line each; appended to")
	flag.IntVar(&rounds, "rounds", 3, "rounds; each runs every client once, in rotated order")
	flag.IntVar(&from, "first-round", 0, "number of the first round, which rotates the order")
	flag.StringVar(&loadNames, "loads", "paced,unpaced", "loads to run")
	flag.StringVar(&only, "clients", "", "clients to run, comma-separated; default: all")
	flag.DurationVar(&b.limit, "limit", 2*time.Minute, "longest run of one client")
	flag.BoolVar(&b.keep, "keep", false, "keep the folder of inputs, logs and results")
	flag.BoolVar(&reportOnly, "report", false, "measure nothing, print the tables of what -results holds")
	flag.Parse()
	if resultsPath == "" || (!reportOnly && (b.glm46 == "" || b.tools == "" || b.shim == "")) {
		return errors.New("-results is needed, and to measure -glm46, -tools and -vllm-client; bench/peers/run.sh gives all of them")
	}
	var fault error
	if !reportOnly {
		fault = measureAll(&b, strings.Split(loadNames, ","), only, from, rounds, resultsPath)
	}
	rows, err := readResults(resultsPath)
	if err != nil {
		return errors.Join(fault, err)
	}
	printReport(os.Stdout, rows)
	return fault
}

// measureAll runs the rounds and appends each measurement as soon as it is there.
func measureAll(b *bench, loadNames []string, only string, from, rounds int, path string) (err error) {
	// A tool's workers that outlive it come to this process, which ends and counts them.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become the reaper of the tools' children: %w", err)
	}
	if b.dir, err = os.MkdirTemp("", "peers-"); err != nil {
		return err
	}
	if b.keep {
		fmt.Fprintln(os.Stderr, "inputs, logs and results in", b.dir)
	} else {
		defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	}
	if err := writeTokenizer(b.tokenizer()); err != nil {
		return err
	}
	chosen, err := choose(only)
	if err != nil {
		return err
	}
	out, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	var faults []error
	for round := from; round < from+rounds; round++ {
		for _, name := range loadNames {
			l, ok := loads[name]
			if !ok {
				return fmt.Errorf("no load %q; there are paced and unpaced", name)
			}
			for i := range chosen {
				c := chosen[(i+round)%len(chosen)]
				runs := []load{l.tiny(), l}
				if c.tinyOnly {
					runs = runs[:1]
				}
				for _, l := range runs {
					row, err := b.measure(c, l)
					if err != nil {
						// The others are measured all the same.
						faults = append(faults, fmt.Errorf("round %d, %s, load %s: %w", round, c.name, l.name, err))
						fmt.Fprintln(os.Stderr, faults[len(faults)-1])
						break
					}
					fmt.Fprintf(os.Stderr, "round %d %-15s %-13s %6.2f s wall %7.3f s CPU %7d events\n",
						round, c.name, l.name, row.WallS, row.CPUS, row.Events)
					if row.Claims.Requests != l.requests {
						fmt.Fprintf(os.Stderr, "  it counts %d of the %d requests, all of which the server finished\n", row.Claims.Requests, l.requests)
					}
					line, err := json.Marshal(row)
					if err != nil {
						return err
					}
					if _, err := out.Write(append(line, '\n')); err != nil {
						return err
					}
				}
			}
		}
	}
	return errors.Join(faults...)
}

func choose(only string) ([]client, error) {
	if only == "" {
		return clients, nil
	}
	var chosen []client
	for _, name := range strings.Split(only, ",") {
		i := indexOf(name)
		if i < 0 {
			return nil, fmt.Errorf("no client %q", name)
		}
		chosen = append(chosen, clients[i])
	}
	return chosen, nil
}

func readResults(path string) ([]measurement, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var rows []measurement
	for i, line := range strings.Split(strings.TrimSpace(string(data)), "\n") {
		var row measurement
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			return nil, fmt.Errorf("%s, line %d: %w", path, i+1, err)
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// found is the first file below dir with this name, read whole.
func found(dir, name string) ([]byte, error) {
	var path string
	err := filepath.WalkDir(dir, func(p string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if match, _ := filepath.Match(name, entry.Name()); match && !entry.IsDir() {
			path = p
			return fs.SkipAll
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if path == "" {
		return nil, fmt.Errorf("no file %s below %s", name, dir)
	}
	return os.ReadFile(path)
}
