package client

import (
	"errors"

	"golang.org/x/sys/windows"
)

// refused reports what the system calls a refused connection beside
// ECONNREFUSED.
func refused(err error) bool { return errors.Is(err, windows.WSAECONNREFUSED) }
