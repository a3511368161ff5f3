//go:build unix

package startfault

import "syscall"

// Errors of the system, by what they mean.
var (
	exhausted   = []syscall.Errno{syscall.EAGAIN, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE}
	unreachable = []syscall.Errno{syscall.EIO, syscall.ESTALE, syscall.ENOTCONN, syscall.EHOSTDOWN, syscall.EHOSTUNREACH, syscall.ETIMEDOUT,
		syscall.ECONNABORTED, syscall.ECONNRESET, syscall.ENODEV}
	full = []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS}
)
