//go:build unix

package process

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// User is whom a process runs as, where it is not the agent's own user.
type User = syscall.Credential

// StartAttr is what a process is started with.
type StartAttr = syscall.ProcAttr

// NumbersOf are the numbers of a user and its group; < 0 = the agent's own user.
func NumbersOf(u *User) (uid, gid int) {
	if u == nil {
		return -1, -1
	}
	return int(u.Uid), int(u.Gid)
}

// ErrLocked is the error of TryLock where another process has the lock.
const ErrLocked = unix.EWOULDBLOCK

// Flags of opening a file: not to wait for the other end of a pipe, and to follow no link.
const (
	OpenAtOnce = unix.O_NONBLOCK
	OpenNoLink = unix.O_NOFOLLOW
)

// IsPrivate reports whether the user who owns a file is the only one who may read or write it.
func IsPrivate(at os.FileInfo) bool { return at.Mode().Perm()&0o077 == 0 }

// TryLock locks an open file, for this process alone or shared with others. The system ends the
// lock with the last process that has the file open.
func TryLock(f *os.File, shared bool) error {
	how := unix.LOCK_EX
	if shared {
		how = unix.LOCK_SH
	}
	return unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
}

// Apart starts a process that outlives this one, in a session of its own.
func Apart() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// KillGroup kills a process that was started by Attr, and those of its group.
func KillGroup(p *os.Process) error { return unix.Kill(-p.Pid, unix.SIGKILL) }
