//go:build unix

package agent

import (
	"errors"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// dirStamp is what of a directory changes whenever something in it, or of it, does.
type dirStamp struct {
	ino, nlink   uint64
	mode         uint32
	uid, gid     uint32
	mtime, ctime time.Time
}

// coarse is more than the steps in which the clock of a file system goes. A change within it
// may not show in the times of a directory.
const coarse = 20 * time.Millisecond

// widen returns a number of the system, which has another size on another system.
func widen[T ~uint16 | ~uint32 | ~uint64](n T) uint64 { return uint64(n) }

// lookAt returns the stamp of a directory below another, whose number is at, and follows no
// link to it.
func lookAt(at int, name string) (dirStamp, error) {
	var is unix.Stat_t
	if err := unix.Fstatat(at, name, &is, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return dirStamp{}, err
	}
	return dirStamp{
		ino:   is.Ino,
		nlink: widen(is.Nlink),
		mode:  uint32(widen(is.Mode)),
		uid:   is.Uid,
		gid:   is.Gid,
		mtime: time.Unix(is.Mtim.Unix()),
		ctime: time.Unix(is.Ctim.Unix()),
	}, nil
}

// stampOf returns the stamp of a directory.
func stampOf(path string) (dirStamp, error) { return lookAt(unix.AT_FDCWD, path) }

// isUnused reports whether nothing was changed since a time in a directory that was empty when it
// had a stamp.
func isUnused(path string, was dirStamp, since time.Time) bool {
	return isStillEmpty(unix.AT_FDCWD, path, was, since)
}

// hasSameOwner reports whether two directories belong to the same user, with the same rights.
func (s dirStamp) hasSameOwner(other dirStamp) bool {
	return s.mode == other.mode && s.uid == other.uid && s.gid == other.gid
}

// isSame reports whether a directory is the same one, and was not changed, as far as its
// times show.
func (s dirStamp) isSame(other dirStamp) bool {
	return s.ino == other.ino && s.hasSameOwner(other) && s.ctime.Equal(other.ctime)
}

// isOlder reports whether every change since a time shows in the directory's times.
func (s dirStamp) isOlder(since time.Time) bool { return since.Sub(s.ctime) > coarse }

// isStillEmpty reports whether nothing was changed since a time in a directory that was empty
// when it had a stamp.
func isStillEmpty(at int, name string, was dirStamp, since time.Time) bool {
	now, err := lookAt(at, name)
	return err == nil && now.isSame(was) && (was.isOlder(since) || isPlainWith(at, name))
}

// hasOnly reports whether nothing is in a directory but what belongs there; names are sorted.
func hasOnly(at int, name string, names ...string) bool {
	dir, err := openFolderAt(at, name)
	if err != nil {
		return false
	}
	defer dir.Close()
	return listsOnly(dir, names)
}

// isPlainWith is hasOnly for a directory whose times may not show what was done to it: it has no
// attributes besides those that the system gives every directory, such as rights of other users.
func isPlainWith(at int, name string, names ...string) bool {
	dir, err := openFolderAt(at, name)
	if err != nil {
		return false
	}
	defer dir.Close()
	return !hasAttributes(dir) && listsOnly(dir, names)
}

func listsOnly(dir *os.File, names []string) bool {
	has, err := dir.Readdirnames(-1)
	slices.Sort(has)
	return err == nil && slices.Equal(has, names)
}

func openFolderAt(at int, name string) (*os.File, error) {
	fd, err := retry(func() (int, error) {
		return unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// hasAttributes reports whether a directory has attributes that a job can have given it.
func hasAttributes(dir *os.File) bool {
	var names [512]byte
	n, err := unix.Flistxattr(int(dir.Fd()), names[:])
	if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.ENOSYS) {
		return false // this file system has none
	}
	if err != nil {
		return true
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names[:n]), "\x00"), "\x00") {
		if name != "" && !strings.HasPrefix(name, "security.") {
			return true
		}
	}
	return false
}
