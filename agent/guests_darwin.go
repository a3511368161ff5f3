package agent

import (
	"errors"
	"net"
	"syscall"
)

// servesGuests says that nobody can come in to attempts on this system.
const servesGuests = false

var errNoGuests = errors.New("nobody can come in to jobs on this system")

func (*inside) startProcess(string, []string, *syscall.ProcAttr) (*guest, error) {
	return nil, errNoGuests
}

func (*wholeNode) startProcess(string, []string, *syscall.ProcAttr) (*guest, error) {
	return nil, errNoGuests
}

func dialAs(*syscall.Credential, int) (net.Conn, error) { return nil, errNoGuests }
