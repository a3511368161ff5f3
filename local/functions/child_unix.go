//go:build unix

package functions

import (
	"os"
	"syscall"
)

// attributes give the handler a process group of its own, so that an interrupt at
// the terminal reaches the host only. When the host is killed the handler lives on,
// as in the cloud, until it notices that its parent is gone.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// kill ends the handler and what it has started, at once.
func kill(p *os.Process) {
	_ = syscall.Kill(-p.Pid, syscall.SIGKILL)
	_ = p.Kill()
}

// terminate asks the handler to end.
func terminate(p *os.Process) error { return p.Signal(syscall.SIGTERM) }
