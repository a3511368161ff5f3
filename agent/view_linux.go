package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// jobsUmask is that of attempts whose slots have users of their own.
const jobsUmask = 0o002

// view is what attempts of a slot see of the machine: a mount namespace of the
// slot's thread, in which /tmp, /var/tmp and /dev/shm are the slot's own, processes
// of other users are not listed, and the slot's user has a name.
type view struct {
	dir     string              // of the slot's own folders; removed with the slot
	folders []string            // as the slot's thread sees them, emptied after each attempt
	stamps  map[string]dirStamp // of those that are empty
}

// giveView gives a slot its view, on its thread. What cannot be had is said once: the
// slot's user protects what matters most.
func (s *slots) giveView(k *slot) {
	v, err := s.newView(k)
	if err != nil {
		s.said.Do(func() {
			s.log.Warn("hiding jobs from each other has failed: they may see each other's files in /tmp and command lines", "error", err.Error())
		})
	}
	if v != nil {
		k.view, k.covers = v, s.covers
	}
}

func (s *slots) newView(k *slot) (*view, error) {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return nil, err
	}
	// Of this thread alone: jobs share a group, and what one of them makes on the
	// share is for the others as well.
	unix.Umask(jobsUmask)
	if s.covers != nil {
		if err := unix.Setns(int(s.covers.namespace.Fd()), unix.CLONE_NEWNS); err != nil {
			return nil, err
		}
	}
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return nil, err
	}
	// What the machine mounts later is seen here as well; what is mounted here is
	// seen by nobody else.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return nil, err
	}
	l := s.launcher
	v := &view{dir: filepath.Join(l.local, ".slot"+strconv.Itoa(k.number)), stamps: map[string]dirStamp{}}
	if err := os.MkdirAll(v.dir, 0o711); err != nil {
		return nil, err
	}
	var all error
	all = errors.Join(all, unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "hidepid=invisible"))
	for _, point := range []string{"/tmp", "/var/tmp"} {
		if !fileExists(point) || contains(point, l.cfg.Share) || contains(point, l.local) {
			continue
		}
		own := filepath.Join(v.dir, strings.ReplaceAll(point[1:], "/", "-"))
		err := os.Mkdir(own, 0o700)
		if err == nil {
			err = os.Chown(own, k.owner.uid, k.owner.gid)
		}
		if err == nil {
			err = unix.Mount(own, point, "", unix.MS_BIND, "")
		}
		if err == nil {
			v.folders = append(v.folders, point)
		}
		all = errors.Join(all, err)
	}
	if point := "/dev/shm"; fileExists(point) && !contains(point, l.cfg.Share) && !contains(point, l.local) {
		options := fmt.Sprintf("mode=0700,uid=%d,gid=%d", k.owner.uid, k.owner.gid)
		err := unix.Mount("shm", point, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, options)
		if err == nil {
			v.folders = append(v.folders, point)
		}
		all = errors.Join(all, err)
	}
	all = errors.Join(all, v.addName("/etc/passwd", fmt.Sprintf("%s:x:%d:%d::/nonexistent:/bin/sh\n", k.login, k.owner.uid, k.as.Gid)),
		v.addName("/etc/group", fmt.Sprintf("%s:x:%d:\ndsvmjobs:x:%d:\n", k.login, k.owner.gid, jobsGroup)))
	return v, all
}

// addName shows a list of names with one more: programs such as ssh refuse a user
// without a name.
func (v *view) addName(file, line string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil // a system without such a list has no use for the name
	}
	if len(text) > 0 && text[len(text)-1] != '\n' {
		text = append(text, '\n')
	}
	own := filepath.Join(v.dir, filepath.Base(file))
	if err := os.WriteFile(own, append(text, line...), 0o644); err != nil {
		return err
	}
	return unix.Mount(own, file, "", unix.MS_BIND, "")
}

// emptyFolders empties the slot's own folders, on its thread. It leaves those alone in which
// nothing was changed since a time.
func (v *view) emptyFolders(since time.Time) error {
	var all error
	for _, folder := range v.folders {
		if was, ok := v.stamps[folder]; ok && isStillEmpty(unix.AT_FDCWD, folder, was, since) {
			continue
		}
		delete(v.stamps, folder)
		if err := emptyFolder(folder); err != nil {
			all = errors.Join(all, err)
		} else if now, err := lookAt(unix.AT_FDCWD, folder); err == nil {
			v.stamps[folder] = now
		}
	}
	return all
}

func emptyFolder(folder string) error {
	dir, err := os.Open(folder)
	if err != nil {
		return err
	}
	names, err := dir.Readdirnames(-1)
	dir.Close()
	for _, name := range names {
		err = errors.Join(err, os.RemoveAll(filepath.Join(folder, name)))
	}
	return err
}

func (v *view) close() { os.RemoveAll(v.dir) }

// contains reports whether a path is a folder or lies in it.
func contains(folder, path string) bool {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	rel, err := filepath.Rel(folder, path)
	return err == nil && filepath.IsLocal(rel)
}

// covers hide running attempts from each other where the share keeps no owners of
// files, as Azure Files over SMB does: every file belongs to the user and group of
// the mount, and slots share that group. Each running attempt's directory is covered
// by an empty one in a namespace of their own, from which the slots' receive what is
// mounted; the attempt's own slot takes the cover off for itself alone.
type covers struct {
	namespace *os.File
	empty     string // the folder that is shown instead
	tasks     chan func()
}

// newCovers makes the namespace, on a thread of its own.
func newCovers(share, local string) (*covers, error) {
	c := &covers{empty: filepath.Join(local, ".covered"), tasks: make(chan func())}
	if err := os.MkdirAll(c.empty, 0o700); err != nil {
		return nil, err
	}
	onThread(func() {
		for task := range c.tasks {
			task()
		}
	})
	err := c.runOnThread(func() error {
		if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
			return err
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
			return err
		}
		if err := unix.Mount(share, share, "", unix.MS_BIND, ""); err != nil {
			return err
		}
		if err := unix.Mount("", share, "", unix.MS_SHARED, ""); err != nil {
			return err
		}
		var err error
		c.namespace, err = os.Open("/proc/thread-self/ns/mnt")
		return err
	})
	if err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

func (c *covers) runOnThread(task func() error) error {
	done := make(chan error)
	c.tasks <- func() { done <- task() }
	return <-done
}

func (c *covers) cover(dir string) error {
	return c.runOnThread(func() error { return unix.Mount(c.empty, dir, "", unix.MS_BIND, "") })
}

func (c *covers) uncover(dir string) {
	c.runOnThread(func() error { return unix.Unmount(dir, unix.MNT_DETACH) })
}

func (c *covers) close() {
	close(c.tasks)
	if c.namespace != nil {
		c.namespace.Close()
	}
}
