package entrance

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// tty is a terminal.
type tty struct{ master, slave *os.File }

// openTTY opens a new terminal.
func openTTY() (*tty, error) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	number := 0
	err = control(master, func(fd int) error {
		if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
			return err
		}
		var err error
		number, err = unix.IoctlGetInt(fd, unix.TIOCGPTN)
		return err
	})
	if err != nil {
		master.Close()
		return nil, fmt.Errorf("a terminal cannot be made: %w", err)
	}
	slave, err := os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		master.Close()
		return nil, err
	}
	return &tty{master, slave}, nil
}

// resize tells the programs of a terminal how large it is.
func (t *tty) resize(columns, rows uint32) {
	size := &unix.Winsize{Col: uint16(min(columns, largestTTY)), Row: uint16(min(rows, largestTTY))} //nolint:gosec // bounded
	_ = control(t.master, func(fd int) error { return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, size) })
}

func (t *tty) close() {
	if t != nil {
		t.master.Close()
		t.slave.Close()
	}
}

// control calls with the number of a file, which stays as it is: File.Fd would have its reads
// block for ever.
func control(f *os.File, call func(fd int) error) error {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := c.Control(func(fd uintptr) { failed = call(int(fd)) }); err != nil {
		return err
	}
	return failed
}

// available is how many bytes can be read at once.
func available(f *os.File) (n int) {
	_ = control(f, func(fd int) (err error) {
		n, err = unix.IoctlGetInt(fd, unix.TIOCINQ)
		return err
	})
	return max(n, 0)
}
