package disk

import (
	"os"
	"syscall"

	"go.etcd.io/bbolt"
)

// releasePages gives back the pages of the file that were read: they count as memory of
// this process. They stay in the cache of the system, and come back when they are read
// again, also by those who read them now. Nobody may write the tree meanwhile.
func releasePages(b *bbolt.DB) {
	info, err := os.Stat(b.Path())
	if err != nil {
		return
	}
	size := min(info.Size(), mapped)
	_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, b.Info().Data, uintptr(size), syscall.MADV_DONTNEED) // it is a hint
}
