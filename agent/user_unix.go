//go:build unix

package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/user"
	"slices"
	"strconv"
	"syscall"

	"dsvmpools/agent/process"
	"dsvmpools/shared/protocol"
)

// lookUpUser decides whom attempts run as.
func (l *launcher) lookUpUser() error {
	if os.Geteuid() != 0 || l.cfg.JobUser == "" {
		if u, err := user.Current(); err == nil {
			l.login = u.Username
		}
		return nil
	}
	u, err := user.Lookup(l.cfg.JobUser)
	if err != nil {
		return fmt.Errorf("the user %q of DSVM_JOB_USER is not known on this node; create it or name another: %w", l.cfg.JobUser, err)
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	l.as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	groups, err := u.GroupIds()
	if err != nil {
		return fmt.Errorf("the groups of the user %q cannot be read: %w", l.cfg.JobUser, err)
	}
	for _, g := range groups {
		if id, err := strconv.Atoi(g); err == nil {
			l.as.Groups = append(l.as.Groups, uint32(id))
		}
	}
	l.owner, l.login = owner{uid: uid, gid: gid}, u.Username
	return nil
}

// credential is whose a process is: its slot's, and its gang's.
func (k *slot) credential(pool string, w protocol.Assignment) *process.User {
	if k.owner.after == nil || k.owner.bare || w.Gang == nil {
		return k.as
	}
	as := *k.as
	as.Groups = append(slices.Clone(as.Groups), uint32(gangGroup(pool, w)))
	return &as
}

// ownerOf is the number of the user whose a file is; < 0 = not known.
func ownerOf(at fs.FileInfo) int {
	if sys, ok := at.Sys().(*syscall.Stat_t); ok {
		return int(sys.Uid)
	}
	return -1
}

// hasOneName reports whether a file has no other name.
func hasOneName(at fs.FileInfo) bool {
	sys, ok := at.Sys().(*syscall.Stat_t)
	return ok && sys.Nlink == 1
}

// systemEnvironment is what every attempt has in its environment by the system.
func systemEnvironment(scratch, login string) map[string]string {
	env := map[string]string{"PATH": process.Path, "HOME": scratch, "LANG": jobLang, "TMPDIR": scratch}
	if login != "" {
		env["USER"], env["LOGNAME"] = login, login
	}
	return env
}

// setVariables adds variables to an environment, in the place of those of the same name.
func setVariables(env, more map[string]string) { maps.Copy(env, more) }

// checkSystem says what of an assignment is not possible on this system: nothing.
func checkSystem(protocol.Assignment) error { return nil }
