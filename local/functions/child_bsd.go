//go:build unix && !linux

package functions

import "syscall"

// attributes give the handler a process group of its own, so that an interrupt
// at the terminal reaches the host only. The handler learns of the host's sudden
// death by the end of its standard input, if it looks.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
