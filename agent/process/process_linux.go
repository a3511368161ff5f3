package process

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Attr starts a process in a session and a group of its own. It dies with the
// thread that starts it. as = nil keeps the agent's own user.
func Attr(as *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL, Credential: as}
}

// AwaitEnd returns when a child has ended. It leaves the child unreaped, so that
// the child's number stays its own.
func AwaitEnd(pid int) {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			return
		}
	}
}

// BirthOf is the start time of a process; "" = there is no such process.
func BirthOf(pid int) string {
	s, err := readStat(pid)
	if err != nil {
		return ""
	}
	return s.birth
}

// Find lists the living processes of attempts: by the key in their environment, or
// by the session that the attempt's process began, while that process lives.
// Without it the session's number may be another's by now, and is not trusted.
func Find(attempts map[string]Process) []int {
	sessions := map[int]bool{}
	for _, p := range attempts {
		if p.PID <= 1 {
			continue
		}
		if birth := BirthOf(p.PID); birth != "" && birth == p.Birth {
			sessions[p.PID] = true
		}
	}
	return findLiving(func(s stat) bool {
		if sessions[s.session] {
			return true
		}
		return hasKey(s.pid, func(key string) bool {
			_, ours := attempts[key]
			return ours
		})
	})
}

// KillAll kills what is left of all attempts whose keys begin with a prefix, for an
// agent that does not know which attempts there were. It reports whether nothing is
// left.
func KillAll(prefix string) bool {
	return killUntilNone(func() []int {
		return findLiving(func(s stat) bool {
			return hasKey(s.pid, func(key string) bool { return strings.HasPrefix(key, prefix) })
		})
	})
}

// findLiving lists the living processes that match, this one left out.
func findLiving(match func(stat) bool) (found []int) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		if s, err := readStat(pid); err == nil && !s.dead && match(s) {
			found = append(found, pid)
		}
	}
	return found
}

// hasKey reports whether a process has a key in its environment that matches.
func hasKey(pid int, match func(key string) bool) bool {
	env, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return false
	}
	for entry := range bytes.SplitSeq(env, []byte{0}) {
		if key, ok := bytes.CutPrefix(entry, []byte(KeyVariable+"=")); ok && match(string(key)) {
			return true
		}
	}
	return false
}

// stat is what /proc says of a process.
type stat struct {
	pid, group, session int
	birth               string // ticks since the boot
	dead                bool
}

func readStat(pid int) (stat, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return stat{}, err
	}
	return parseStat(pid, text)
}

// parseStat reads a line of proc(5): pid (name) state ppid pgrp session ... The
// name may contain anything, so fields are counted from the last parenthesis.
func parseStat(pid int, text []byte) (stat, error) {
	const state, group, session, birth = 0, 2, 3, 19
	f := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(f) <= birth {
		return stat{}, fmt.Errorf("the state of process %d cannot be read", pid)
	}
	g, err1 := strconv.Atoi(f[group])
	s, err2 := strconv.Atoi(f[session])
	if err1 != nil || err2 != nil {
		return stat{}, fmt.Errorf("the state of process %d cannot be read", pid)
	}
	return stat{pid: pid, group: g, session: s, birth: f[birth], dead: f[state] == "Z" || f[state] == "X"}, nil
}
