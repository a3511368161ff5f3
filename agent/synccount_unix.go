//go:build unix

package agent

import (
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// shareSyncCount has the count kept in the first 8 bytes of a file, for programs that
// measure. Several agents may count in one file.
func shareSyncCount(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("DSVM_SYNC_COUNT cannot be opened: %w", err)
	}
	defer f.Close()
	size := os.Getpagesize()
	if err := f.Truncate(int64(size)); err != nil {
		return fmt.Errorf("DSVM_SYNC_COUNT cannot be made %d bytes long: %w", size, err)
	}
	page, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("DSVM_SYNC_COUNT cannot be mapped: %w", err)
	}
	syncCount.Store((*atomic.Int64)(unsafe.Pointer(&page[0])))
	return nil
}
