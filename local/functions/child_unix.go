//go:build unix

package functions

import (
	"os"
	"syscall"
)

// kill ends the handler and what it has started, at once.
func kill(p *os.Process) {
	_ = syscall.Kill(-p.Pid, syscall.SIGKILL)
	_ = p.Kill()
}

// terminate asks the handler to end.
func terminate(p *os.Process) error { return p.Signal(syscall.SIGTERM) }
