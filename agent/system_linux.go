package agent

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// toDisk writes the file's data to the disk; its times may wait.
func toDisk(f *os.File) error { return unix.Fdatasync(int(f.Fd())) }

// machineBoot names this boot of the machine; "" when it is not known.
func machineBoot() string {
	id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id))
}

// seclude keeps what the agent knows from processes of its own user: its memory
// and its environment, where the connection string is, and files that whoever
// started it left open.
func seclude() {
	unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC)
}

// processAttr starts a process in a session and group of its own, to die with
// the thread that starts it.
func processAttr(as *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL, Credential: as}
}

// awaitEnd returns when a child has ended, and leaves it unreaped, so that its
// number stays its own.
func awaitEnd(pid int) {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			return
		}
	}
}

// stat is what /proc tells of a process.
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
// name may hold anything, so fields are counted from the last parenthesis.
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

// birthOf is the start time of a process; "" when it is gone.
func birthOf(pid int) string {
	s, err := readStat(pid)
	if err != nil {
		return ""
	}
	return s.birth
}

// stray lists the living processes that belong to one of the attempts: by the
// key in their environment, or by the session that the attempt's process began,
// while that process lives. Without it the session's number may be somebody
// else's by now, and is not trusted.
func stray(attempts map[string]process) []int {
	sessions := map[int]bool{}
	for _, p := range attempts {
		if p.PID <= 1 {
			continue
		}
		if birth := birthOf(p.PID); birth != "" && birth == p.Birth {
			sessions[p.PID] = true
		}
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var found []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		s, err := readStat(pid)
		if err != nil || s.dead {
			continue
		}
		if sessions[s.session] || attemptOf(pid, attempts) {
			found = append(found, pid)
		}
	}
	return found
}

// attemptOf reports whether a process has the key of one of the attempts in its
// environment.
func attemptOf(pid int, attempts map[string]process) bool {
	env, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return false
	}
	for _, entry := range bytes.Split(env, []byte{0}) {
		if key, ok := bytes.CutPrefix(entry, []byte(keyVariable+"=")); ok {
			_, ours := attempts[string(key)]
			return ours
		}
	}
	return false
}
