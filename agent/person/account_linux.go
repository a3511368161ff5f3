package person

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"dsvmpools/shared/wholefile"
)

// accountsLock keeps two keepers of a machine from changing its accounts at once.
const accountsLock = "/run/dsvmpools/accounts.lock"

// stepWithin bounds each program that a step runs.
const stepWithin = time.Minute

// makeAccount makes the person's group and account, with the same number on each node. It
// changes nothing that is there already and is right. A password of "*" matches nothing; the
// "!" that useradd writes would be taken by sshd for an account that is locked.
func (k *keeper) makeAccount() error {
	p := k.plan
	unlock, err := lockAccounts()
	if err != nil {
		return err
	}
	defer unlock()
	id := strconv.Itoa(p.UID)
	if has := k.lookUp("group", p.User); has == "" {
		if err := k.tool("groupadd", "-K", "GID_MAX="+strconv.Itoa(maxUID), "-g", id, p.User); err != nil {
			return fmt.Errorf("the group %q with the number %s cannot be made: %w", p.User, id, err)
		}
	}
	const group = 2
	if has := k.lookUp("group", p.User); field(has, group) != id {
		return fmt.Errorf("there is a group %q with another number than %s on the node; take that name out of the image", p.User, id)
	}
	if has := k.lookUp("passwd", p.User); has == "" {
		if err := k.tool("useradd", "-K", "UID_MAX="+strconv.Itoa(maxUID), "-M", "-N", "-u", id, "-g", id,
			"-d", p.home(), "-s", "/bin/bash", "-c", p.User, p.User); err != nil {
			return fmt.Errorf("the account %q with the number %s cannot be made: %w", p.User, id, err)
		}
	}
	const uid, gid, home = 2, 3, 5
	has := k.lookUp("passwd", p.User)
	if other := field(has, home); other != p.home() && (other == p.local() || other == p.sharedHome()) { // the pool has changed
		if err := k.tool("usermod", "-d", p.home(), p.User); err != nil {
			return fmt.Errorf("the account %q cannot get the home %s: %w", p.User, p.home(), err)
		}
		has = k.lookUp("passwd", p.User)
	}
	if field(has, uid) != id || field(has, gid) != id || field(has, home) != p.home() {
		return fmt.Errorf("there is an account %q on the node that is not the person's: its number is not %s, or its home not %s; "+
			"take that name out of the image", p.User, id, p.home())
	}
	if err := k.tool("usermod", "-p", "*", "-e", "", p.User); err != nil {
		return fmt.Errorf("the account %q cannot be opened: %w", p.User, err)
	}
	return k.joinShareGroup()
}

// joinShareGroup makes the person a member of the group that the share is written by, if it
// is: on SMB all files belong to one user and group.
func (k *keeper) joinShareGroup() error {
	p := k.plan
	const writable = 0o020
	var at unix.Stat_t
	if err := unix.Stat(p.Share, &at); err != nil {
		return fmt.Errorf("the share cannot be looked at: %w", err)
	}
	if at.Gid == 0 || at.Mode&writable == 0 {
		return nil
	}
	id := strconv.FormatUint(uint64(at.Gid), 10)
	name := field(k.lookUp("group", id), 0)
	if name == "" {
		name = "dsvmshare"
		if err := k.tool("groupadd", "-K", "GID_MAX="+strconv.Itoa(maxUID), "-g", id, name); err != nil {
			return fmt.Errorf("the group of the share cannot be given a name: %w", err)
		}
	}
	if err := k.tool("usermod", "-a", "-G", name, p.User); err != nil {
		return fmt.Errorf("the person cannot join the group %q, which the share is written by: %w", name, err)
	}
	k.groups = append(k.groups, at.Gid)
	return nil
}

// allowSudo lets the person be root, if the pool says so.
func (k *keeper) allowSudo() error {
	p := k.plan
	if !p.Sudo {
		return nil
	}
	if p.OwnUsers {
		return errors.New("`sudo` would make the person root of this machine, which is not the node's own; leave it out of the pool")
	}
	if _, err := exec.LookPath("sudo"); err != nil {
		return errors.New("`sudo` is not on the node; put it into the image, or leave it out of the pool")
	}
	return wholefile.Replace(sudoFile(p), []byte(p.User+" ALL=(ALL) NOPASSWD:ALL\n"), 0o440)
}

// sudoFile has a name that sudo reads: it passes over those with a dot.
func sudoFile(p Plan) string { return filepath.Join("/etc/sudoers.d", "dsvm-"+p.User) }

// expired is a day that has been: cron, at and the user's own systemd start nothing for an
// account that ended then, while they do for one whose password is locked.
const expired = "1"

// lockAccount closes an account, for a session that has ended. Files stay the person's.
func lockAccount(p Plan) {
	if p.OwnUsers { // it was made in a layer that is gone with the keeper
		return
	}
	os.Remove(sudoFile(p))
	unlock, err := lockAccounts()
	if err != nil {
		return
	}
	defer unlock()
	cmd := exec.Command("usermod", "-p", "!", "-e", expired, p.User)
	cmd.Env = toolEnvironment
	if exec.Command("getent", "passwd", p.User).Run() == nil {
		cmd.Run()
	}
}

// lockAccounts waits for the lock.
func lockAccounts() (func(), error) {
	if err := os.MkdirAll(filepath.Dir(accountsLock), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(accountsLock, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX); err == nil {
			return func() { f.Close() }, nil
		} else if err != unix.EINTR {
			f.Close()
			return nil, err
		}
	}
}

var toolEnvironment = []string{"PATH=" + systemPath, "LANG=C.UTF-8"}

// tool runs a program of the system as root.
func (k *keeper) tool(argv ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), stepWithin)
	defer cancel()
	_, err := k.reaper.runOut(ctx, command{argv: argv, env: toolEnvironment, dir: "/"})
	return err
}

// lookUp is the line of an account or a group, by name or number; "" = there is none.
func (k *keeper) lookUp(database, key string) string {
	ctx, cancel := context.WithTimeout(context.Background(), stepWithin)
	defer cancel()
	line, err := k.reaper.runOut(ctx, command{argv: []string{"getent", database, key}, env: toolEnvironment, dir: "/"})
	if err != nil {
		return ""
	}
	return line
}

// field is one of a line's fields; "" = it has not so many.
func field(line string, n int) string {
	all := strings.Split(line, ":")
	if n >= len(all) {
		return ""
	}
	return all[n]
}

// person is whom the session's programs run as; nil = as the keeper.
func (k *keeper) person() *syscall.Credential {
	if k.plan.Own {
		return nil
	}
	return &syscall.Credential{Uid: uint32(k.plan.UID), Gid: uint32(k.plan.UID), Groups: append([]uint32{uint32(k.plan.UID)}, k.groups...)}
}
