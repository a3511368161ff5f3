package person

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"dsvmpools/shared/plain"
	"dsvmpools/shared/wholefile"
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

// lastEndFile is in the home: by it the person learns how a session has ended.
const lastEndFile = ".dsvm-last-end"

// noteEnd tells JupyterLab why the session ends, and writes it into the home: the next one says it.
func (k *keeper) noteEnd(reason string) {
	k.tellLab(labNotice{Text: plain.Line(reason), Ended: true})
	text := fmt.Sprintf("%s: %s", time.Now().UTC().Format("2006-01-02 15:04 MST"), plain.Line(reason))
	if err := k.asPerson(noteScript, text, lastEndFile); err != nil {
		k.log.Warn("noting the end of the session has failed", "error", err.Error())
	}
}

// noteScript writes a text as a file of the home, or of another folder of the person's. What was
// there is replaced and never opened: opening a pipe would wait for whoever is at its other end.
const noteScript = `
in=${3:-$HOME}
new=$(mktemp "$in/.dsvm-new.XXXXXX") || exit
printf '%s\n' "$1" >"$new" && mv -fT "$new" "$in/$2" && exit
rm -f "$new"
exit 1
`

// greetScript has interactive shells greet, by a line that is put into the person's profile
// once. The greeting is on the node's own disk: another pool with the same home has another one.
const greetScript = `
line='[ -t 1 ] && cat "${DSVM_LOCAL:-$HOME}/.dsvm-greeting" 2>/dev/null; true'
for profile in .bash_profile .bash_login .profile; do [ -f "$HOME/$profile" ] && break; done
[ -f "$HOME/$profile" ] || [ ! -e "$HOME/$profile" ] || exit 0 # a pipe would hold us up
grep -qF .dsvm-greeting "$HOME/$profile" 2>/dev/null || printf '\n%s\n' "$line" >>"$HOME/$profile"
`

// greet writes what the person reads at each login. How the last session ended is said once.
func (k *keeper) greet() error {
	p := k.plan
	var b strings.Builder
	fmt.Fprintf(&b, "Session %s on node %s of pool %s.\n", p.Session, p.Node, p.Pool)
	if p.OnShare {
		fmt.Fprintf(&b, "Your home is on the share and stays. What is in %s goes with the node.", p.local())
	} else {
		fmt.Fprintf(&b, "~/notebooks/remote and ~/share are on the share and stay. All else in %s goes with the node.", p.home())
	}
	if last := k.readHome(lastEndFile); last != "" {
		fmt.Fprintf(&b, "\nYour last session here ended at %s", last)
	}
	if err := k.asPerson(noteScript, b.String(), ".dsvm-greeting", p.local()); err != nil {
		return err
	}
	return k.asPerson(greetScript)
}

// maxHomeFile bounds what is read of a file that the person writes.
const maxHomeFile = 512

// readHome reads the first line of a small file in the home, as the person. A link is no such
// file, and a pipe is empty: nobody waits for who is at its other end.
func (k *keeper) readHome(name string) string {
	ctx, cancel := context.WithTimeout(context.Background(), probeWithin)
	defer cancel()
	text, err := k.reaper.runOut(ctx, command{
		argv: []string{
			"dd", "if=" + filepath.Join(k.plan.home(), name), "iflag=nofollow,nonblock",
			"bs=" + strconv.Itoa(maxHomeFile), "count=1", "status=none",
		},
		as:  k.person(),
		env: k.environment(),
		dir: "/",
	})
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(text, "\n")
	return plain.Line(line)
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
	if w.EndsAt.IsZero() {
		k.tellLab(labNotice{})
		k.tellTerminals("The warning is withdrawn: the session goes on.")
		return
	}
	text := plain.Line(w.Text)
	k.tellLab(labNotice{Text: text, EndsAt: w.EndsAt.UTC().Truncate(time.Second)})
	k.tellTerminals(text)
}

// labNotice is what the door reads for JupyterLab.
type labNotice struct {
	Text   string    `json:"text"`
	EndsAt time.Time `json:"endsAt,omitzero"`
	Ended  bool      `json:"ended,omitempty"` // Text is why
}

// tellLab writes a notice. That of the end stays.
func (k *keeper) tellLab(n labNotice) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ending && !n.Ended {
		return
	}
	text, err := json.Marshal(n)
	if err == nil {
		err = wholefile.Replace(k.plan.Notice(), append(text, '\n'), 0o644)
	}
	if err != nil {
		k.log.Warn("writing the notice has failed", "error", err.Error())
	}
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
