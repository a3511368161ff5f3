package agent

import (
	"errors"
	"syscall"
	"time"

	"dsvmpools/agent/startfault"
	"dsvmpools/shared/job"
)

// causeOf is the cause of a failed start. An unknown cause is the node's: every
// way in which a job's document can be wrong has its own sentence.
func causeOf(err error) job.Cause { return startfault.CauseOf(err, startfault.OnNode) }

// errStartLate is a start that took too long: the share, or the node, hangs.
func errStartLate(within time.Duration) error {
	return startfault.New(job.CauseShare, "the node could not start it within %s: its share or its disk does not answer", job.Duration(within))
}

// explainFailure explains why the process of a prepared attempt did not come to be.
func (s *launch) explainFailure(err error) error {
	name := startfault.Clip(s.argv[0])
	switch {
	case errors.As(err, new(startfault.Fault)):
		return err
	case startfault.Is(err, tooLong...):
		return startfault.New(job.CauseDocument, "the command and its environment are too long for the system; put long lists into files")
	case startfault.IsExhausted(err), startfault.Is(err, syscall.EBUSY): // busy is what a control group can be, and no program
		return startfault.New(job.CauseNoProcess, "the node can make no process: %w", err)
	case startfault.IsUnreachable(err):
		return startfault.New(job.CauseShare, "the program %q cannot be read: %w", name, err)
	case startfault.Is(err, noProgram...):
		return startfault.New(job.CauseNotExecutable,
			"the program %q is not one that this node can run; a script needs a first line like #!/bin/sh", name)
	}
	if !s.canUseDir() {
		if !s.named {
			return startfault.New(job.CauseShare, "the attempt's directory on the share cannot be used by the user that jobs run as: %w", err)
		}
		return startfault.New(job.CauseNoWorkdir, "the workdir may not be used by the user that jobs run as, or is gone: %w", err)
	}
	switch {
	case startfault.Is(err, denied...):
		return startfault.New(job.CauseNotExecutable, "the program %q may not be run by the user that jobs run as", name)
	case startfault.Is(err, missing...):
		return startfault.New(job.CauseNoProgram, "the program %q is gone, or the interpreter of its first line is not on the node", name)
	}
	return startfault.New(job.CauseNotExecutable, "the program %q cannot be started: %w", name, err)
}
