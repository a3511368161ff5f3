//go:build unix && !linux

package functions

import "syscall"

// childAttr keeps the terminal's Ctrl-C to the host. The handler learns of the
// host's death by the end of its standard input.
func childAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
