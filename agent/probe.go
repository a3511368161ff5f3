//go:build unix

package agent

import (
	"bytes"
	"cmp"
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

	"dsvmpools/agent/process"
	"dsvmpools/agent/startfault"
)

// probeTimeout bounds one try to write to the share as a job does. What takes longer hangs.
const probeTimeout = time.Minute

// probeScript does in a directory what every job does: it makes a file, writes it, reads it,
// renames it and removes it.
const probeScript = `set -e; echo probe > a; read -r text < a; [ "$text" = probe ]; mv a b; rm b`

// probeShare tries whether jobs can write to the share, in the pool's directory. It is asked
// whenever the share was opened again, since another mount may have other options. It makes a
// directory as the agent makes an attempt's, gives it to the user, and works in it as that
// user. A change of owner that a share ignores or refuses shows in what the user can do:
// Azure Files over SMB keeps no owners, and says nothing. The error is a sentence that says
// what to change.
func (l *launcher) probeShare(root *os.Root) error {
	users := l.jobUsers()
	if len(users) == 0 {
		users = []*syscall.Credential{nil}
	}
	for _, as := range users {
		if err := l.probeShareAs(root, as); err != nil {
			return err
		}
	}
	return nil
}

func (l *launcher) probeShareAs(root *os.Root, as *syscall.Credential) error {
	name := "+probe." + l.cfg.VMID // + is in no job's id
	root.RemoveAll(name)           // of an agent that was killed in the middle
	if err := root.Mkdir(name, 0o700); err != nil {
		return fmt.Errorf("the agent cannot write to the share: %w; %s", startfault.Innermost(err), l.shareRemedy(as))
	}
	defer root.RemoveAll(name)
	switch {
	case l.cfg.ownerless != nil:
		l.cfg.ownerless(root, name)
	case as != nil:
		root.Lchown(name, int(as.Uid), int(as.Gid)) // whether it worked is seen below
	}
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", probeScript)
	cmd.Dir, cmd.Env = filepath.Join(l.cfg.Share, "jobs", l.cfg.Pool, name), []string{"PATH=" + process.Path, "LANG=C"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err == nil {
		return nil
	}
	said, _, _ := strings.Cut(string(bytes.TrimSpace(out)), "\n")
	switch {
	case ctx.Err() != nil:
		said = "it does not answer"
	case said == "":
		said = startfault.Innermost(err).Error()
	}
	if startfault.IsExhausted(err) || errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("writing to the share cannot be tried: %w", err)
	}
	return fmt.Errorf("jobs cannot write to the share%s: %s; %s", userOf(as), startfault.Clip(said), l.shareRemedy(as))
}

func userOf(as *syscall.Credential) string {
	if as == nil {
		return ""
	}
	return fmt.Sprintf(" as the user %d with the group %d", as.Uid, as.Gid)
}

// shareRemedy says how to mount the share so that jobs can write to it.
func (l *launcher) shareRemedy(as *syscall.Credential) string {
	group := os.Getgid()
	if as != nil {
		group = int(as.Gid)
	}
	switch fileSystem(l.cfg.Share) {
	case "cifs":
		user := cmp.Or(l.cfg.JobUser, strconv.Itoa(group))
		return fmt.Sprintf("mount it with the options uid=%s,gid=%s,dir_mode=0770,file_mode=0660", user, user)
	case "nfs":
		return "export it with rootSquash NoRootSquash, and mount it for reading and writing"
	}
	return fmt.Sprintf("let the group %d write in %s", group, l.cfg.Share)
}
