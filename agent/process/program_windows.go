package process

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/windows"

	"dsvmpools/agent/startfault"
	"dsvmpools/shared/job"
)

// Path is where programs of jobs are looked up, unless the job's env says otherwise. The agent's
// own PATH stays with the agent.
var Path = systemPath(os.Getenv("SystemRoot"))

func systemPath(root string) string {
	if root == "" {
		root = `C:\Windows`
	}
	return strings.Join([]string{root + `\system32`, root, root + `\System32\Wbem`, root + `\System32\WindowsPowerShell\v1.0`}, ";")
}

// suffixes of programs. Others, such as .bat, are started by an interpreter that reads its
// arguments in a way of its own: a job names the interpreter.
var suffixes = []string{".exe", ".com"}

// LookUp finds a program: in the absolute directories of path, or, with a slash or a backslash in
// its name, from the directory that the process starts in. The suffix .exe may be left out. The
// error is a startfault.Fault.
func LookUp(name, path, dir string) (string, error) {
	if strings.ContainsAny(name, `/\:`) {
		file := name
		if !filepath.IsAbs(file) {
			file = filepath.Join(dir, file)
		}
		return findProgram(name, file)
	}
	var worst error
	for _, place := range filepath.SplitList(path) {
		if !filepath.IsAbs(place) {
			continue
		}
		file, err := findProgram(name, filepath.Join(place, name))
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
		"the program %q was not found in the job's PATH; install it on the node or write its whole path", startfault.Clip(name))
}

// findProgram finds the file of a program, or says why there is none.
func findProgram(name, file string) (string, error) {
	names := []string{file}
	has := strings.ToLower(filepath.Ext(file))
	if !slices.Contains(suffixes, has) {
		names = nil
		for _, suffix := range suffixes {
			names = append(names, file+suffix)
		}
	}
	quoted := startfault.Clip(name)
	for _, candidate := range names {
		at, err := os.Stat(candidate)
		switch {
		case err == nil && at.Mode().IsRegular():
			return candidate, nil
		case err == nil:
			return "", startfault.New(job.CauseNotExecutable, "the program %q is not a file", quoted)
		case !errors.Is(err, os.ErrNotExist) && !errors.Is(err, windows.ERROR_DIRECTORY):
			return "", startfault.New(startfault.OfPath(err, job.CauseNotExecutable),
				"the program %q cannot be looked at on the node: %w", quoted, startfault.Innermost(err))
		}
	}
	if at, err := os.Stat(file); err == nil && at.Mode().IsRegular() {
		return "", startfault.New(job.CauseNotExecutable,
			`the program %q is no .exe; name its interpreter before it, such as ["cmd", "/c", %q]`, quoted, quoted)
	}
	return "", startfault.New(job.CauseNoProgram, "the program %q does not exist on the node", quoted)
}
