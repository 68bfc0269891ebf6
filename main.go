// Command glm46 measures which vLLM configuration serves GLM-4.6 best on one node. See README.md.
package main

import (
	"os"

	"github.com/glm46/glm46/harness/command"
)

func main() {
	os.Exit(command.Main(os.Args, command.OSEnvironment()))
}
