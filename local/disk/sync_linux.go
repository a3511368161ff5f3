package disk

import (
	"errors"
	"os"
	"syscall"
)

// syncData waits until the content of a file is on disk, without its times.
func syncData(f *os.File) error {
	for {
		if err := syscall.Fdatasync(int(f.Fd())); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}
