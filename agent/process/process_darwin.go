package process

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// Attr starts a process in a session and a group of its own. On macOS it does not
// end with the agent; the next start of the agent ends it.
func Attr(as *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true, Credential: as}
}

// BirthOf is the start time of a process; "" = there is no such process.
func BirthOf(pid int) string {
	p, err := unix.SysctlKinfoProc("kern.proc.pid", pid)
	if err != nil || int(p.Proc.P_pid) != pid {
		return ""
	}
	return fmt.Sprintf("%d.%06d", p.Proc.P_starttime.Sec, p.Proc.P_starttime.Usec)
}

// Find lists the living processes of the attempts' process groups, while the
// attempt's own process lives. Without it the group's number may be another's by
// now, and is not trusted.
func Find(attempts map[string]Process) []int {
	const zombie = 5
	var found []int
	for _, p := range attempts {
		if p.PID <= 1 {
			continue
		}
		if birth := BirthOf(p.PID); birth == "" || birth != p.Birth {
			continue
		}
		members, err := unix.SysctlKinfoProcSlice("kern.proc.pgrp", p.PID)
		if err != nil {
			continue
		}
		for _, m := range members {
			if m.Proc.P_stat != zombie {
				found = append(found, int(m.Proc.P_pid))
			}
		}
	}
	return found
}

// KillAll finds nothing on macOS: the system does not show a process's environment,
// and without a journal nothing else names one.
func KillAll(string) bool { return true }
