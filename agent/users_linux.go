package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"dsvmpools/agent/startfault"
)

// claims is where slots of all agents of a machine note which users are taken: a
// locked file for each, which the system unlocks when its agent ends.
const claims = "/run/dsvmpools/users"

// jobsGroup is the group of all slots where DSVM_JOB_USER names nobody.
const jobsGroup = gangGroups - 1

// users gives each slot a user of its own, by number: it needs no entry in
// /etc/passwd, and owns nothing but what its slot's attempts make.
type users struct {
	uidRange
	common int      // the group that all slots have: of DSVM_JOB_USER, or jobsGroup
	groups []uint32 // the other groups of DSVM_JOB_USER
	owner  owner    // whose files are once an attempt has ended
	bare   bool     // the share keeps no owners of files
	mimic  func(root *os.Root, names ...string)
}

// decideUsers finds out whether slots can have users of their own.
func (s *slots) decideUsers() {
	l := s.launcher
	if l.cfg.UIDs.count == 0 {
		return
	}
	u := newUsers(l)
	if dir, err := u.findClosed(l.cfg.Share, l.local); err != nil {
		s.log.Warn("missing users of their own for jobs, so that team is no boundary on this node: such a user cannot pass a folder; "+
			"let others pass it and those above it (chmod o+x), or set DSVM_JOB_UIDS=off",
			"folder", dir, "error", startfault.Innermost(err).Error())
		return
	}
	if u.owner.uid < 0 {
		u.owner = u.openShare(l.cfg.Share)
	}
	u.bare = l.cfg.ownerless != nil || !keepsOwners(&l.share, l.cfg.VMID, u.base)
	s.users = u
	if u.bare {
		var err error
		if s.covers, err = newCovers(l.cfg.Share, l.local); err != nil {
			s.log.Warn("missing owners of files on the share, and hiding attempts from each other has failed: "+
				"jobs of this node can read each other's files", "error", err.Error())
		}
	}
}

func newUsers(l *launcher) *users {
	u := &users{uidRange: l.cfg.UIDs, common: jobsGroup, owner: l.owner, mimic: l.cfg.ownerless}
	if l.as != nil {
		u.common, u.groups = int(l.as.Gid), l.as.Groups
	}
	return u
}

// findClosed returns the first folder that users of slots cannot pass, and why.
func (u *users) findClosed(dirs ...string) (string, error) {
	for _, dir := range dirs {
		cmd := exec.Command("/bin/true")
		cmd.Dir, cmd.SysProcAttr = dir, &syscall.SysProcAttr{Credential: u.credential(u.base)}
		if err := cmd.Run(); err != nil {
			return dir, err
		}
	}
	return "", nil
}

// jobUsers are the users that attempts have, as far as they differ on a share: the first and
// the last of the slots' users, which share a group; nil: the agent's own user.
func (l *launcher) jobUsers() []*syscall.Credential {
	if os.Geteuid() == 0 && l.cfg.UIDs.count > 0 {
		u := newUsers(l)
		if _, err := u.findClosed(l.cfg.Share, l.local); err == nil {
			return []*syscall.Credential{u.credential(u.base), u.credential(u.base + u.count - 1)}
		}
	}
	if l.as != nil {
		return []*syscall.Credential{l.as}
	}
	return nil
}

// openShare makes the top of a share that is root's alone one that jobs can write to, as
// they could while they were root, and returns whose it is. What the agent keeps
// there stays its own.
func (u *users) openShare(path string) owner {
	const shared = 0o775 | fs.ModeSetgid | fs.ModeSticky
	at, err := os.Stat(path)
	if err != nil {
		return nobodyElse
	}
	sys, ok := at.Sys().(*syscall.Stat_t)
	if !ok {
		return nobodyElse
	}
	if sys.Uid == 0 && sys.Gid == 0 && os.Chown(path, 0, u.common) == nil {
		os.Chmod(path, shared)
		return owner{uid: 0, gid: u.common}
	}
	return owner{uid: int(sys.Uid), gid: int(sys.Gid)}
}

// credential is a slot's user: with the common group first, so that what jobs make
// where they share is for all of them, and one of its own, for what is its alone.
func (u *users) credential(uid int) *syscall.Credential {
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(u.common), Groups: append([]uint32{uint32(uid)}, u.groups...)}
}

// keepsOwners tries whether a file on the share can be given to another user.
func keepsOwners(d *shareDir, vmid string, uid int) bool {
	root, _, err := d.open()
	if err != nil {
		return false
	}
	name := "+owner." + vmid // + is in no job's id
	f, err := root.OpenFile(name, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return false
	}
	f.Close()
	defer root.Remove(name)
	if root.Lchown(name, uid, uid) != nil {
		return false
	}
	at, err := root.Lstat(name)
	if err != nil {
		return false
	}
	sys, ok := at.Sys().(*syscall.Stat_t)
	return ok && int(sys.Uid) == uid
}

// mustHandOver reports whether slots have users of their own whose files are handed to
// somebody else in the end.
func (s *slots) mustHandOver() bool {
	s.deciding.Do(s.decide)
	return s.users != nil && !s.users.bare
}

// lateOwner is whose the files of an earlier life's attempts are.
func (s *slots) lateOwner() owner {
	return owner{uid: s.users.base, gid: s.users.base, after: &s.users.owner}
}

// furnish gives a slot its user.
func (u *users) furnish(k *slot) error {
	uid, claim, err := u.claim()
	if err != nil {
		return err
	}
	k.uid = claim
	k.login = "dsvmjob" + strconv.Itoa(k.number)
	k.as = u.credential(uid)
	k.owner = owner{uid: uid, gid: uid, after: &u.owner, bare: u.bare, mimic: u.mimic}
	return nil
}

// claim takes the lowest number that no slot of the machine has.
func (u *users) claim() (int, *os.File, error) {
	if err := os.MkdirAll(claims, 0o700); err != nil {
		return 0, nil, fmt.Errorf("the folder of users that are taken cannot be made: %w", err)
	}
	for uid := u.base; uid < u.base+u.count; uid++ {
		f, err := os.OpenFile(filepath.Join(claims, strconv.Itoa(uid)), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return 0, nil, err
		}
		// The claim is on the file itself: one whose name is another file's, or nobody's,
		// by now keeps nobody out.
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil && isNamed(f, f.Name()) {
			return uid, f, nil
		}
		f.Close()
	}
	return 0, nil, errors.New("all users of DSVM_JOB_UIDS are taken; give it a larger range")
}
