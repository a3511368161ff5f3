package person

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"dsvmpools/shared/protocol"
	"dsvmpools/shared/seal"
)

// A desktop is the image's: its server for RDP lets in who has the account's password. The
// account has none until its owner asks for the desktop; then it gets one that is in the
// memory of the keeper for a moment, and after that in the hands of whoever has the key alone.

// makeDesktop gives the account a new password, sealed to a key. The same key again changes
// nothing.
func (k *keeper) makeDesktop(to string) {
	k.desktop.Lock()
	defer k.desktop.Unlock()
	k.mu.Lock()
	has, busy := k.state.Desktop, k.ending || !k.state.Ready
	k.mu.Unlock()
	if busy || has != nil && has.To == to && has.Secret != "" {
		return
	}
	sealed := protocol.Sealed{To: to}
	secret, err := k.newPassword(to)
	if err != nil {
		k.log.Error("making a password for the desktop has failed", "error", err.Error())
		sealed.Fault = err.Error()
	}
	sealed.Secret = secret
	k.change(func(s *State) { s.Desktop = &sealed })
}

// newPassword returns the account's new password, sealed.
func (k *keeper) newPassword(to string) (sealed string, err error) {
	p, password := k.plan, rand.Text()
	if p.Own { // it is somebody's own account, with a password that is theirs
		return "", errors.New("a desktop needs an account of the session's own: run the agent, or `dsvm up`, as root")
	}
	if sealed, err = seal.Seal(to, protocol.DesktopPurpose(p.Session, p.User), password); err != nil {
		return "", err
	}
	unlock, err := lockAccounts()
	if err != nil {
		return "", err
	}
	defer unlock()
	read, write, err := os.Pipe() // what is an argument can be read by others
	if err != nil {
		return "", err
	}
	defer read.Close()
	_, err = write.WriteString(p.User + ":" + password + "\n")
	if err = errors.Join(err, write.Close()); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), stepWithin)
	defer cancel()
	set := command{argv: []string{"chpasswd", "--crypt-method", "SHA512"}, env: toolEnvironment, dir: "/", stdin: read}
	if _, err := k.reaper.runOut(ctx, set); err != nil {
		return "", fmt.Errorf("the account cannot be given a password: %w", err)
	}
	return sealed, nil
}

const voteDesktop = "desktop"

// idleProgram prints for how many milliseconds nobody has typed or clicked on a display.
const idleProgram = "xprintidle"

// voteOfDesktop: somebody types or clicks on a desktop. Its display is asked, since an open
// connection is no use, and bytes come by themselves.
func (k *keeper) voteOfDesktop(now time.Time, every time.Duration) (vote, bool) {
	k.mu.Lock()
	asked := k.state.Desktop != nil
	k.mu.Unlock()
	if !asked {
		return vote{}, false
	}
	all := k.below()
	k.takeIn(all)
	displays := displaysOf(all)
	if len(displays) == 0 {
		return vote{words: "idle: no desktop is open"}, true
	}
	if _, err := exec.LookPath(idleProgram); err != nil {
		return vote{unknown: true, words: "unknown: the image has no " + idleProgram}, true
	}
	last := k.votes.began
	for _, display := range displays {
		idle, err := k.idleOf(display)
		if err != nil {
			return vote{unknown: true, words: "unknown: the desktop does not answer"}, true
		}
		if at := now.Add(-idle); at.After(last) {
			last = at
		}
	}
	idle := now.Sub(last)
	if idle < every {
		return vote{busy: true, words: "busy: input in the last " + ago(every)}, true
	}
	return vote{words: "idle for " + ago(idle), since: last}, true
}

// idleOf asks a display, as the person.
func (k *keeper) idleOf(display string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(context.Background(), probeWithin)
	defer cancel()
	text, err := k.reaper.runOut(ctx, command{
		argv: []string{idleProgram},
		as:   k.person(),
		env:  append(k.environment(), "DISPLAY="+display, "XAUTHORITY="+filepath.Join(k.plan.home(), ".Xauthority")),
		dir:  "/",
	})
	if err != nil {
		return 0, err
	}
	ms, err := strconv.ParseInt(text, 10, 32)
	return time.Duration(ms) * time.Millisecond, err
}

// displayPrograms are servers of displays that a server for RDP starts.
var displayPrograms = []string{"Xorg", "Xvnc", "Xtigervnc", "Xtightvnc"}

// displaysOf lists the displays, such as ":10", that processes serve.
func displaysOf(pids []int) (all []string) {
	for _, pid := range pids {
		text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
		if err != nil {
			continue
		}
		args := strings.Split(string(text), "\x00")
		if !slices.Contains(displayPrograms, filepath.Base(args[0])) {
			continue
		}
		for _, arg := range args[1:] {
			number, isDisplay := strings.CutPrefix(arg, ":")
			if _, err := strconv.ParseUint(number, 10, 16); isDisplay && err == nil && !slices.Contains(all, arg) {
				all = append(all, arg)
			}
		}
	}
	return all
}

// takeIn brings processes of the session into its control groups, so that their use is bounded
// and counted: those of a desktop are started by a service of the node.
func (k *keeper) takeIn(pids []int) {
	for _, group := range k.plan.Groups {
		file := filepath.Join(group, "cgroup.procs")
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		inside := strings.Fields(string(text))
		for _, pid := range pids {
			id := strconv.Itoa(pid)
			if slices.Contains(inside, id) {
				continue
			}
			if err := os.WriteFile(file, []byte(id), 0); err != nil && !errors.Is(err, os.ErrNotExist) && lives(pid) {
				k.log.Warn("a process of the desktop cannot be bounded", "pid", pid, "error", err.Error())
			}
		}
	}
}

// lives reports whether a process is there.
func lives(pid int) bool {
	s, ok := readStatus(pid)
	return ok && !s.dead
}
