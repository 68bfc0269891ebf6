package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"
)

// What a generated job script hands over (docs/pbs.md).
const (
	// variableOutcome names the file for a job's outcome, since PBS reports a
	// killed job by its signal whatever the script's status.
	variableOutcome = "GLM46_OUTCOME"
	// variableJobFolder names the folder that the script made on the node's disk.
	variableJobFolder = "GLM46_JOB_FOLDER"
	// jobFolderPrefix and jobFolderMark tell such a folder from any other.
	jobFolderPrefix = "glm46-"
	jobFolderMark   = ".glm46-job"
)

// writeOutcome leaves the exit code in the job's outcome file, whole.
func writeOutcome(env Environment, err error) {
	path, ok := env.Lookup(variableOutcome)
	if !ok || path == "" {
		return
	}
	code := 0
	if err != nil {
		var exit *ExitError
		if !errors.As(err, &exit) {
			exit = classify(err)
		}
		code = exit.Code
	}
	job, _ := env.Lookup("PBS_JOBID")
	data, err := json.Marshal(struct {
		JobID    string `json:"job_id"`
		State    string `json:"state"`
		ExitCode int    `json:"exit_code"`
	}{job, "ended", code})
	const readable = 0o644
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o777)
	}
	if err == nil {
		err = renameio.WriteFile(path, append(data, '\n'), readable)
	}
	if err != nil {
		fmt.Fprintf(env.Stderr, "glm46: the outcome could not be written: %v\n", err)
	}
}

// removeJobFolder removes the folder that the job script made on the node's disk:
// PBS removes only its own. It must bear the script's mark, and be no link.
func removeJobFolder(env Environment) {
	dir, ok := env.Lookup(variableJobFolder)
	if !ok || dir == "" {
		return
	}
	dir = filepath.Clean(dir)
	info, err := os.Lstat(dir)
	if err != nil || !info.IsDir() || !strings.HasPrefix(filepath.Base(dir), jobFolderPrefix) {
		return
	}
	if mark, err := os.Lstat(filepath.Join(dir, jobFolderMark)); err != nil || !mark.Mode().IsRegular() {
		return
	}
	if os.RemoveAll(dir) == nil {
		return
	}
	// An unpacked image has folders that its owner may not write to.
	_ = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			return os.Chmod(path, 0o700)
		}
		return nil
	})
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintf(env.Stderr, "glm46: the job's folder on this node is left: %v\n", err)
	}
}
