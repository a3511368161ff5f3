//go:build unix

package process

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"dsvmpools/agent/startfault"
	"dsvmpools/shared/job"
)

// Path is where programs of jobs are looked up, unless the job's env says
// otherwise. The agent's own PATH stays with the agent.
const Path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// LookUp finds a program as a shell does: in the absolute directories of path, or,
// with a slash in its name, from the directory that the process starts in. The
// error is a startfault.Fault.
func LookUp(name, path, dir string) (string, error) {
	if strings.ContainsRune(name, '/') {
		file := name
		if !filepath.IsAbs(file) {
			file = filepath.Join(dir, file)
		}
		return file, checkExecutable(name, file)
	}
	var worst error
	for _, place := range filepath.SplitList(path) {
		file := filepath.Join(place, name)
		if !filepath.IsAbs(place) {
			continue
		}
		err := checkExecutable(name, file)
		if err == nil {
			return file, nil
		}
		if startfault.CauseOf(err, startfault.OnNode) != job.CauseNoProgram && worst == nil {
			worst = err
		}
	}
	if worst != nil {
		return "", worst
	}
	return "", startfault.New(job.CauseNoProgram,
		"the program %q was not found in the job's PATH; install it on the node or write its whole path",
		startfault.Clip(name))
}

// checkExecutable says why a file is no program.
func checkExecutable(name, file string) error {
	quoted := startfault.Clip(name)
	at, err := os.Stat(file)
	switch {
	case errors.Is(err, os.ErrNotExist), startfault.Is(err, unix.ENOTDIR):
		return startfault.New(job.CauseNoProgram, "the program %q does not exist on the node", quoted)
	case err != nil:
		return startfault.New(startfault.OfPath(err, job.CauseNotExecutable),
			"the program %q cannot be looked at on the node: %w", quoted, startfault.Innermost(err))
	case !at.Mode().IsRegular():
		return startfault.New(job.CauseNotExecutable, "the program %q is not a file", quoted)
	case at.Mode()&0o111 == 0:
		return startfault.New(job.CauseNotExecutable, "the program %q is not executable; chmod +x it, or name its interpreter before it", quoted)
	}
	return nil
}
