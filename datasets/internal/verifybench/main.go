// Command verifybench is what datasets/peers.sh measures.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/glm46/glm46/datasets"
	"github.com/glm46/glm46/datasets/expand"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "verifybench:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 3 && args[0] == "gen":
		_, err := datasets.Generate(context.Background(), datasets.GenOptions{Dataset: "64k", Samples: 500, Dir: args[1], From: args[2]})
		return err
	case len(args) == 3 && args[0] == "verify":
		return repeat(args[1], func() error {
			rep, err := datasets.Verify(context.Background(), args[2:], datasets.VerifyOptions{})
			if err == nil && !rep.OK() {
				err = fmt.Errorf("not valid: %v", rep.Files[0].Faults)
			}
			return err
		})
	case len(args) == 3 && args[0] == "expand":
		return repeat(args[1], func() error {
			f, err := os.Open(args[2])
			if err != nil {
				return err
			}
			defer f.Close()
			r, err := expand.NewReader(f, expand.Limits{})
			if err != nil {
				return err
			}
			defer r.Close()
			_, err = io.Copy(io.Discard, r)
			return err
		})
	}
	return fmt.Errorf("usage: verifybench gen DIR FROM | verify TIMES FILE | expand TIMES FILE")
}

func repeat(times string, fn func() error) error {
	n, err := strconv.Atoi(times)
	for i := 0; i < n && err == nil; i++ {
		err = fn()
	}
	return err
}
