package functions

import "syscall"

// attributes have the handler die with the host, whatever ends the host, and
// give it a process group of its own, so that an interrupt at the terminal
// reaches the host only, which then ends the handler in its own way.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
