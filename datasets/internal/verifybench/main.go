// Command verifybench is what datasets/peers.sh measures.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/glm46/glm46/datasets"
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
	case len(args) == 2 && args[0] == "verify":
		rep, err := datasets.Verify(context.Background(), args[1:], datasets.VerifyOptions{})
		if err == nil && !rep.OK() {
			err = fmt.Errorf("not valid: %v", rep.Files[0].Faults)
		}
		return err
	}
	return fmt.Errorf("usage: verifybench gen DIR FROM | verify FILE")
}
