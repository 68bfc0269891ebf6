package command

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
)

// addVariables gives the flags of run that are not on the command line the value
// of their variable, GLM46_ and the flag's name, so that one job script serves
// every case. An empty variable counts as unset.
func addVariables(args []string, env Environment) ([]string, error) {
	const command = "run"
	if len(args) < 2 || args[1] != command {
		return args, nil
	}
	given := args[2:]
	var added []string
	for _, flag := range runFlags() {
		name := flag.Names()[0]
		value, ok := env.Lookup(variableOf(name))
		if !ok || value == "" || isGiven(given, flag.Names()) {
			continue
		}
		if err := checkVariable(flag, value); err != nil {
			return nil, usage(fmt.Errorf("%s: %w", variableOf(name), err))
		}
		added = append(added, "--"+name+"="+value)
	}
	return slices.Concat(args[:2], added, given), nil
}

func isGiven(args, names []string) bool {
	return slices.ContainsFunc(args, func(arg string) bool {
		name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		return strings.HasPrefix(arg, "-") && slices.Contains(names, name)
	})
}

// checkVariable refuses what the flag's parser would refuse, in words that name
// the variable.
func checkVariable(flag cli.Flag, value string) error {
	var err error
	want := ""
	switch flag.(type) {
	case *cli.BoolFlag:
		want = "1, 0, true or false"
		_, err = strconv.ParseBool(value)
	case *cli.IntFlag:
		want = "a whole number"
		_, err = strconv.Atoi(value)
	case *cli.Uint64Flag:
		want = "a whole number of 0 or more"
		_, err = strconv.ParseUint(value, 0, 64)
	case *cli.Float64Flag:
		want = "a number"
		_, err = strconv.ParseFloat(value, 64)
	case *cli.DurationFlag:
		want = "a duration such as 90m"
		_, err = time.ParseDuration(value)
	}
	if err != nil {
		return fmt.Errorf("%.60q: want %s", value, want)
	}
	return nil
}
