package harness

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/glm46/glm46/mockvllm/vllm"
)

// VersionError says that the server's program did not tell its version.
type VersionError struct {
	Command []string
	Err     error
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("%s --version: %v; load vLLM's module or environment, name its command with --vllm, or give --vllm-version",
		strings.Join(e.Command, " "), e.Err)
}

func (e *VersionError) Unwrap() error { return e.Err }

// versionTimeout is for an import of torch from a cold parallel file system.
const versionTimeout = 3 * time.Minute

var versionLine = regexp.MustCompile(`(?m)^(?:vllm\s+)?v?(\d+\.\d+\S*)\s*$`)

// findVersion takes the version asked for, the mock's default, or asks vllm.
// Where there is no vllm it is the default version, so that what is cheaper to
// see, a refusal or a missing data set, is said before the node's checks, which
// come last and find that vllm is missing.
func (c *campaign) findVersion(ctx context.Context) (vllm.Version, error) {
	if c.o.Version != nil {
		return *c.o.Version, nil
	}
	if c.o.Mock != nil {
		return vllm.MustVersion(vllm.DefaultVersion), nil
	}
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	command := append(slices.Clone(c.o.Server), "--version")
	out, err := c.o.System.Runner.Run(ctx, command[0], command[1:]...)
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		version := vllm.MustVersion(vllm.DefaultVersion)
		c.observer.Note("", fmt.Sprintf("%s: not found; refusals are those of vLLM %s (--vllm-version names another)", command[0], version))
		return version, nil
	}
	if err != nil {
		return vllm.Version{}, &VersionError{Command: c.o.Server, Err: err}
	}
	match := versionLine.FindSubmatch(out.Stdout)
	if out.Exit != 0 || match == nil {
		return vllm.Version{}, &VersionError{Command: c.o.Server, Err: fmt.Errorf("exit %d, it said %q", out.Exit, firstLine(out.Stdout, out.Stderr))}
	}
	version, err := vllm.ParseVersion(string(match[1]))
	if err != nil {
		return vllm.Version{}, &VersionError{Command: c.o.Server, Err: err}
	}
	return version, nil
}

func firstLine(texts ...[]byte) string {
	const longest = 200
	for _, text := range texts {
		if line, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n"); line != "" {
			return line[:min(len(line), longest)]
		}
	}
	return ""
}
