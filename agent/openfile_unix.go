//go:build unix

package agent

import (
	"os"

	"golang.org/x/sys/unix"

	"dsvmpools/agent/startfault"
)

// openFileAt opens a regular file below a directory, for writing, and makes it when it
// is not there. No other name may lead to it.
func openFileAt(dir *os.File, name string, flags int, perm uint32) (*os.File, error) {
	fd, err := retry(func() (int, error) {
		return unix.Openat(int(dir.Fd()), name, flags|unix.O_WRONLY|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, perm)
	})
	switch {
	case startfault.Is(err, unix.ELOOP, unix.EMLINK, unix.ENXIO, unix.EISDIR, unix.EOPNOTSUPP):
		return nil, obstacleFault(name, "file")
	case err != nil:
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	var at unix.Stat_t
	if err := unix.Fstat(fd, &at); err != nil {
		unix.Close(fd)
		return nil, &os.PathError{Op: "stat", Path: name, Err: err}
	}
	if at.Mode&unix.S_IFMT != unix.S_IFREG || at.Nlink > 1 {
		unix.Close(fd)
		return nil, obstacleFault(name, "file")
	}
	// A process that gets the file need not know how it was opened.
	if err := unix.SetNonblock(fd, false); err != nil {
		unix.Close(fd)
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// checkFileAt checks that a file below a directory, which is made later, is not there or can
// be opened by openFileAt.
func checkFileAt(dir *os.File, name string) error {
	var at unix.Stat_t
	err := unix.Fstatat(int(dir.Fd()), name, &at, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case err == unix.ENOENT:
		return nil
	case err != nil:
		return &os.PathError{Op: "stat", Path: name, Err: err}
	case at.Mode&unix.S_IFMT != unix.S_IFREG || at.Nlink > 1:
		return obstacleFault(name, "file")
	}
	return nil
}

// openDirAt makes a directory below another, when it is not there, and opens it.
func openDirAt(dir *os.File, name string, perm uint32) (*os.File, error) {
	if err := unix.Mkdirat(int(dir.Fd()), name, perm); err != nil && err != unix.EEXIST {
		return nil, &os.PathError{Op: "mkdir", Path: name, Err: err}
	}
	return openExistingDirAt(dir, name)
}

// openExistingDirAt opens a directory below another.
func openExistingDirAt(dir *os.File, name string) (*os.File, error) {
	fd, err := retry(func() (int, error) {
		return unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	switch {
	case startfault.Is(err, unix.ENOTDIR, unix.ELOOP, unix.EMLINK):
		return nil, obstacleFault(name, "directory")
	case err != nil:
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// retry makes a call again that a signal has ended.
func retry(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if err != unix.EINTR {
			return n, err
		}
	}
}

// giveDescriptor gives what an open file's number stands for to the owner, or leaves it.
func (o owner) giveDescriptor(fd int) error {
	if o.uid < 0 {
		return nil
	}
	return unix.Fchown(fd, o.uid, o.gid)
}

// removeFileAt removes a file below a directory.
func removeFileAt(dir *os.File, name string) error { return unix.Unlinkat(int(dir.Fd()), name, 0) }

// renameFileAt gives a file below a directory another name, and replaces what has it.
func renameFileAt(dir *os.File, from, to string) error {
	return unix.Renameat(int(dir.Fd()), from, int(dir.Fd()), to)
}
