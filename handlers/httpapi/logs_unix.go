//go:build unix

package httpapi

import (
	"io/fs"
	"syscall"
)

// openNoWait keeps the opening of a pipe from waiting for its writer, and that of a
// link from following it.
const openNoWait = syscall.O_NONBLOCK | syscall.O_NOFOLLOW

// otherNames reports whether other names lead to a file: one that a job has linked
// to its own place may be somebody else's.
func otherNames(at fs.FileInfo) bool {
	s, ok := at.Sys().(*syscall.Stat_t)
	return ok && s.Nlink > 1
}
