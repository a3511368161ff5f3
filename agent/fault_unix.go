//go:build unix

package agent

import (
	"syscall"

	"dsvmpools/agent/process"
)

// Errors of starting a program, by what they mean.
var (
	tooLong   = []syscall.Errno{syscall.E2BIG}
	noProgram = []syscall.Errno{syscall.ENOEXEC, syscall.EINVAL}
	denied    = []syscall.Errno{syscall.EACCES, syscall.EPERM}
	missing   = []syscall.Errno{syscall.ENOENT, syscall.ENOTDIR}
)

// canUseDir tries whether a process of the job's user can begin in the attempt's
// directory, with a program that is on every system.
func (s *launch) canUseDir() bool {
	attr := s.attr
	attr.Env = nil
	pid, err := syscall.ForkExec("/bin/sh", []string{"sh", "-c", ":"}, &attr)
	if err != nil {
		return false
	}
	var status syscall.WaitStatus
	process.Reap(pid, &status)
	return true
}
