package functions

import "syscall"

// childAttr has the handler die with the host, and keeps the terminal's Ctrl-C
// to the host.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
