package functions

import (
	"errors"
	"os"
	"syscall"
)

// attributes keep an interrupt at the console from the handler.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}

func kill(p *os.Process) { _ = p.Kill() }

// terminate is not possible: Windows has no request to end.
func terminate(*os.Process) error { return errors.ErrUnsupported }
