package person

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// awaitEmpty waits until nothing of the session runs, and kills it meanwhile if asked to.
func (k *keeper) awaitEmpty(within time.Duration, kill bool) bool {
	const look = 10 * time.Millisecond
	for end := time.Now().Add(within); ; time.Sleep(look) {
		if kill && !k.plan.OwnUsers { // before they are listed: a list may miss what comes and goes
			if err := killAllOf(k.plan.UID); err != nil {
				k.log.Warn("killing all processes of the person at once has failed", "error", err.Error())
			}
		}
		left := k.below()
		if len(left) == 0 {
			return true
		}
		if time.Now().After(end) {
			return false
		}
		if kill {
			for _, pid := range left {
				syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	}
}

// Files in the home by which the person learns what has become of a session.
const (
	lastEndFile = ".dsvm-last-end"
	noticeFile  = "notice.json" // in the run folder, for JupyterLab's door
)

// noteEnd writes into the home why the session has ended: the next one says it.
func (k *keeper) noteEnd(reason string) {
	text := fmt.Sprintf("%s: %s", time.Now().UTC().Format("2006-01-02 15:04 MST"), oneLine(reason))
	if err := k.asPerson(`printf '%s\n' "$1" >"$HOME/`+lastEndFile+`"`, text); err != nil {
		k.log.Warn("noting the end of the session has failed", "error", err.Error())
	}
}

// greetScript has interactive shells greet, by a line that is put into the person's profile
// once.
const greetScript = `
printf '%s\n' "$1" >"$HOME/.dsvm-greeting"
line='[ -t 1 ] && cat "$HOME/.dsvm-greeting" 2>/dev/null; true'
for profile in .bash_profile .bash_login .profile; do [ -f "$HOME/$profile" ] && break; done
grep -qF .dsvm-greeting "$HOME/$profile" 2>/dev/null || printf '\n%s\n' "$line" >>"$HOME/$profile"
`

// greet writes what the person reads at each login. How the last session ended is said once.
func (k *keeper) greet() error {
	p := k.plan
	var b strings.Builder
	fmt.Fprintf(&b, "Session %s on node %s of pool %s.\n", p.Session, p.Node, p.Pool)
	fmt.Fprintf(&b, "~/notebooks/remote and ~/share are on the share and stay. All else in %s goes with the node.", p.home())
	if last := k.readHome(lastEndFile); last != "" {
		fmt.Fprintf(&b, "\nYour last session here ended at %s", last)
	}
	return k.asPerson(greetScript, b.String())
}

// maxHomeFile bounds what is read of a file that the person writes.
const maxHomeFile = 512

// readHome reads the first line of a small file in the home, as the person: root follows
// none of the person's links.
func (k *keeper) readHome(name string) string {
	ctx, cancel := context.WithTimeout(context.Background(), probeWithin)
	defer cancel()
	text, err := k.reaper.runOut(ctx, command{
		argv: []string{"head", "-c", strconv.Itoa(maxHomeFile), filepath.Join(k.plan.home(), name)},
		as:   k.person(),
		env:  k.environment(),
		dir:  "/",
	})
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(text, "\n")
	return oneLine(line)
}

// oneLine makes a text safe for a terminal: no escape, no second line.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, ""))
}

// warn tells the person on all terminals, and the door for JupyterLab. A number comes once.
func (k *keeper) warn(w Warning) {
	k.mu.Lock()
	again := w.Number <= k.warned
	k.warned = max(k.warned, w.Number)
	k.mu.Unlock()
	if again {
		return
	}
	file := filepath.Join(k.plan.Run, noticeFile)
	if w.EndsAt.IsZero() {
		os.Remove(file)
		k.tellTerminals("The warning is withdrawn: the session goes on.")
		return
	}
	text := oneLine(w.Text)
	notice := fmt.Appendf(nil, "{\"text\":%s,\"endsAt\":%q}\n", jsonText(text), w.EndsAt.UTC().Format(time.RFC3339))
	if err := replaceFile(file, notice, 0o644); err != nil {
		k.log.Warn("writing the notice has failed", "error", err.Error())
	}
	k.tellTerminals(text)
}

// tellTerminals writes a line on the person's terminals. One that takes nothing is passed
// over.
func (k *keeper) tellTerminals(text string) {
	for _, path := range k.terminals() {
		fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
		if err != nil {
			continue
		}
		unix.Write(fd, []byte("\r\n*** "+text+" ***\r\n"))
		unix.Close(fd)
	}
}

// terminals are those that belong to the person and that a process of the session has: on a
// machine with several nodes the person may have others.
func (k *keeper) terminals() []string {
	all, _ := filepath.Glob("/dev/pts/[0-9]*")
	ours := map[string]bool{}
	for _, pid := range descendants(os.Getpid()) {
		for _, fd := range []string{"0", "1", "2"} {
			if at, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, fd)); err == nil {
				ours[at] = true
			}
		}
	}
	var list []string
	for _, path := range all {
		var at unix.Stat_t
		if ours[path] && unix.Stat(path, &at) == nil && int(at.Uid) == k.plan.UID {
			list = append(list, path)
		}
	}
	return list
}
