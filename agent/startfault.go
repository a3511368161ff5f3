//go:build unix

package agent

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"dsvmpools/shared/job"
	"dsvmpools/shared/patience"
)

// startFault is why an attempt cannot start: a sentence for the job's owner, and
// the cause, which says whose fault it is. It is made where the cause is known.
type startFault struct {
	cause job.Cause
	error
}

func (f startFault) Unwrap() error { return f.error }

func because(cause job.Cause, format string, args ...any) error {
	return startFault{cause, fmt.Errorf(format, args...)}
}

// known is the cause that an error carries, else the one that guess finds.
func known(err error, guess func(error) job.Cause) job.Cause {
	var f startFault
	if errors.As(err, &f) {
		return f.cause
	}
	return guess(err)
}

// causeOf is the cause of a failed start. What was not told is the node's: every
// way in which a job's document can be wrong has its own sentence.
func causeOf(err error) job.Cause { return known(err, onNode) }

// is reports whether an error is one of these of the system.
func is(err error, of ...unix.Errno) bool {
	for _, e := range of {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// spent reports whether the system has no room for another process or file.
func spent(err error) bool {
	return is(err, unix.EAGAIN, unix.ENOMEM, unix.EMFILE, unix.ENFILE)
}

// unreachable reports whether a file system has stopped to answer, or answers
// only with errors: a share that went away, a disk that is dying.
func unreachable(err error) bool {
	return is(err, unix.EIO, unix.ESTALE, unix.ENOTCONN, unix.EHOSTDOWN, unix.EHOSTUNREACH, unix.ETIMEDOUT, unix.ECONNABORTED, unix.ECONNRESET, unix.ENODEV) ||
		errors.Is(err, patience.ErrTooLong) || errors.Is(err, patience.ErrTooMany)
}

// full reports whether a file system takes no more.
func full(err error) bool { return is(err, unix.ENOSPC, unix.EDQUOT, unix.EROFS) }

// onShare is the cause of an error of a call on the share, where it is not known
// to be the job's. Full and read-only are the share's own: another node may have
// it mounted otherwise, and nothing that the job could change is wrong.
func onShare(err error) job.Cause {
	if spent(err) {
		return job.CauseNoProcess
	}
	return job.CauseShare
}

// onNode is the cause of an error of a call on the node's own disk.
func onNode(err error) job.Cause {
	switch {
	case spent(err):
		return job.CauseNoProcess
	case full(err):
		return job.CauseDisk
	case errors.Is(err, patience.ErrTooLong), errors.Is(err, patience.ErrTooMany):
		return job.CauseShare
	}
	return job.CauseScratch
}

// ofPath is the cause of an error over a path that the job has named: the job's,
// unless the file system or the node is at fault.
func ofPath(err error, jobs job.Cause) job.Cause {
	switch {
	case spent(err):
		return job.CauseNoProcess
	case unreachable(err):
		return job.CauseShare
	}
	return jobs
}

// ofSource is the cause of an error of fetching a source: the job's, unless the
// node's disk has no room for what comes.
func ofSource(err error) job.Cause {
	var said *gitError
	switch {
	case spent(err):
		return job.CauseNoProcess
	case full(err):
		return job.CauseDisk
	case errors.As(err, &said) && said.diskFull():
		return job.CauseDisk
	case errors.As(err, &said) && said.noProcess():
		return job.CauseNoProcess
	}
	return job.CauseSource
}

// diskFull and noProcess read what git says of the node, as the C library words
// it. What the other end says comes with "remote:" before it.
func (e *gitError) diskFull() bool {
	return e.says("No space left on device", "Disk quota exceeded", "Read-only file system")
}

func (e *gitError) noProcess() bool {
	return e.says("Resource temporarily unavailable", "Cannot allocate memory", "Too many open files", "Cannot fork")
}

func (e *gitError) says(texts ...string) bool {
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

// errStartLate is a start that took too long: the share, or the node, hangs.
func errStartLate(within time.Duration) error {
	return because(job.CauseShare, "the node could not start it within %s: its share or its disk does not answer", job.Duration(within))
}

// failed explains why the process of a prepared attempt did not come to be.
func (s *launch) failed(err error) error {
	name := clip(s.argv[0])
	switch {
	case errors.As(err, new(startFault)):
		return err
	case is(err, unix.E2BIG):
		return because(job.CauseDocument, "the command and its environment are too long for the system; put long lists into files")
	case spent(err), is(err, unix.EBUSY): // busy is what a control group can be, and no program
		return because(job.CauseNoProcess, "the node can make no process: %w", err)
	case unreachable(err):
		return because(job.CauseShare, "the program %q cannot be read: %w", name, err)
	case is(err, unix.ENOEXEC, unix.EINVAL):
		return because(job.CauseNotExecutable, "the program %q is not one that this node can run; a script needs a first line like #!/bin/sh", name)
	}
	if !s.dirUsable() {
		if !s.named {
			return because(job.CauseShare, "the attempt's directory on the share cannot be used by the user that jobs run as: %w", err)
		}
		return because(job.CauseNoWorkdir, "the workdir may not be used by the user that jobs run as, or is gone: %w", err)
	}
	switch {
	case is(err, unix.EACCES, unix.EPERM):
		return because(job.CauseNotExecutable, "the program %q may not be run by the user that jobs run as", name)
	case is(err, unix.ENOENT, unix.ENOTDIR):
		return because(job.CauseNoProgram, "the program %q is gone, or the interpreter of its first line is not on the node", name)
	}
	return because(job.CauseNotExecutable, "the program %q cannot be started: %w", name, err)
}

// dirUsable tries whether a process of the job's user can begin in the attempt's
// directory, with a program that is on every system.
func (s *launch) dirUsable() bool {
	attr := s.attr
	attr.Env = nil
	pid, err := syscall.ForkExec("/bin/sh", []string{"sh", "-c", ":"}, &attr)
	if err != nil {
		return false
	}
	var status syscall.WaitStatus
	reap(pid, &status)
	return true
}
