package agent

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// toDisk writes the file's data to the disk.
func toDisk(f *os.File) error { return f.Sync() }

// machineBoot names this boot of the machine; "" when it is not known.
func machineBoot() string {
	id, _ := unix.Sysctl("kern.bootsessionuuid")
	return id
}

// seclude does nothing here: the system shows a process's environment to its
// own user.
func seclude() {}

// processAttr starts a process in a session and group of its own. Nothing ends
// it with the agent here; the next start of the agent does.
func processAttr(as *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true, Credential: as}
}

// awaitEnd does nothing here: waiting without reaping is not to be had.
func awaitEnd(int) {}

// birthOf is the start time of a process; "" when it is gone.
func birthOf(pid int) string {
	p, err := unix.SysctlKinfoProc("kern.proc.pid", pid)
	if err != nil || int(p.Proc.P_pid) != pid {
		return ""
	}
	return fmt.Sprintf("%d.%06d", p.Proc.P_starttime.Sec, p.Proc.P_starttime.Usec)
}

// stray lists the living processes of the attempts' process groups, while the
// attempt's own process lives. Without it the group's number may be somebody
// else's by now, and is not trusted.
func stray(attempts map[string]process) []int {
	const zombie = 5
	var found []int
	for _, p := range attempts {
		if p.PID <= 1 {
			continue
		}
		if birth := birthOf(p.PID); birth == "" || birth != p.Birth {
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
