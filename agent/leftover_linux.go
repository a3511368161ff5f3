package agent

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// sweepAll kills what is left of any attempt of this node, for an agent that does
// not know which there were. It reports whether all is gone.
func sweepAll(key func(n int64) string) bool {
	prefix := []byte(keyVariable + "=" + strings.TrimSuffix(key(0), "0"))
	for range sweepRounds {
		found := withPrefix(prefix)
		if len(found) == 0 {
			return true
		}
		for _, pid := range found {
			unix.Kill(pid, unix.SIGKILL)
		}
		time.Sleep(sweepPause)
	}
	return false
}

// withPrefix lists the living processes with a variable that begins so.
func withPrefix(prefix []byte) (found []int) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		env, err := os.ReadFile("/proc/" + e.Name() + "/environ")
		if err != nil {
			continue
		}
		if !bytes.HasPrefix(env, prefix) && !bytes.Contains(env, append([]byte{0}, prefix...)) {
			continue
		}
		if s, err := readStat(pid); err == nil && !s.dead {
			found = append(found, pid)
		}
	}
	return found
}
