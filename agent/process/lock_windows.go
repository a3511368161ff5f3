package process

import (
	"os"
	"syscall"

	"golang.org/x/sys/windows"
)

// User is whom a process runs as, where it is not the agent's own user.
type User struct {
	Token windows.Token // a primary one, of a login
}

// StartAttr is what a process is started with.
type StartAttr struct {
	Dir   string
	Env   []string  // NAME=value
	Files []uintptr // handles of standard input, output and error
	Sys   *syscall.SysProcAttr
}

// Attr starts a process as a user; nil = as the agent's own one. What holds it is its Job.
func Attr(as *User) *syscall.SysProcAttr {
	if as == nil {
		return &syscall.SysProcAttr{}
	}
	return &syscall.SysProcAttr{Token: syscall.Token(as.Token)}
}

// NumbersOf has no numbers of a user here.
func NumbersOf(*User) (uid, gid int) { return -1, -1 }

// ErrLocked is the error of TryLock where another process has the lock.
const ErrLocked = windows.ERROR_LOCK_VIOLATION

// Flags of opening a file, which have no counterpart: a path leads to no pipe, and links are seen to
// by os.Root.
const (
	OpenAtOnce = 0
	OpenNoLink = 0
)

// IsPrivate reports whether the user who owns a file is the only one who may read or write it. Its
// rights are not looked at here, so that no file counts as private.
func IsPrivate(os.FileInfo) bool { return false }

// TryLock locks an open file, for this process alone or shared with others. The system ends the
// lock with the process. The locked byte lies beyond what anybody writes.
func TryLock(f *os.File, shared bool) error {
	how := uint32(windows.LOCKFILE_FAIL_IMMEDIATELY)
	if !shared {
		how |= windows.LOCKFILE_EXCLUSIVE_LOCK
	}
	const beyond = 1 << 30
	return windows.LockFileEx(windows.Handle(f.Fd()), how, 0, 1, 0, &windows.Overlapped{OffsetHigh: beyond})
}

// Apart starts a process that outlives this one, without a console.
func Apart() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: windows.CREATE_NEW_PROCESS_GROUP | windows.DETACHED_PROCESS}
}

// KillGroup kills a process. What it has started ends with the agent.
func KillGroup(p *os.Process) error { return p.Kill() }
