//go:build unix

package disk

import (
	"os/exec"
	"syscall"
)

// separate gives the command a process group of its own: Ctrl-C in a terminal ends this
// process, and not a check that it waits for.
func separate(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
