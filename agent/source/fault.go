package source

import (
	"errors"
	"strings"

	"dsvmpools/agent/startfault"
	"dsvmpools/shared/job"
)

// causeOf returns the cause of an error of fetching: the job's, unless the node's
// disk has no room, or the node has no room for a process.
func causeOf(err error) job.Cause {
	var git *gitError
	switch {
	case startfault.IsExhausted(err):
		return job.CauseNoProcess
	case startfault.IsFull(err):
		return job.CauseDisk
	case errors.As(err, &git) && git.reportsFullDisk():
		return job.CauseDisk
	case errors.As(err, &git) && git.reportsNoProcess():
		return job.CauseNoProcess
	}
	return job.CauseSource
}

// details is all that is known of an error.
func details(err error) string {
	var git *gitError
	if errors.As(err, &git) && git.words != "" {
		return strings.TrimSpace(strings.TrimSuffix(err.Error(), git.Error()) + "git says:\n" + git.words)
	}
	return err.Error()
}

// reportsFullDisk and reportsNoProcess read what git says about the node, in the words
// of the C library.
func (e *gitError) reportsFullDisk() bool {
	return e.contains("No space left on device", "Disk quota exceeded", "Read-only file system")
}

func (e *gitError) reportsNoProcess() bool {
	return e.contains("Resource temporarily unavailable", "Cannot allocate memory", "Too many open files", "Cannot fork")
}

// contains looks for texts in what git says, but not in what the server says: git
// writes "remote:" before that.
func (e *gitError) contains(texts ...string) bool {
	for line := range strings.Lines(e.words) {
		if strings.HasPrefix(strings.TrimSpace(line), "remote:") {
			continue
		}
		for _, words := range texts {
			if strings.Contains(line, words) {
				return true
			}
		}
	}
	return false
}
