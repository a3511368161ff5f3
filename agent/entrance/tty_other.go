//go:build unix && !linux

package entrance

import (
	"errors"
	"os"
)

// tty is a terminal. There is none here.
type tty struct{ master, slave *os.File }

func openTTY() (*tty, error) {
	return nil, errors.New("there are no terminals for visitors on this system")
}

func (*tty) resize(_, _ uint32) {}

func (*tty) close() {}

// available is not known here.
func available(*os.File) int { return 0 }
