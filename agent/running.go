package agent

import (
	"os"
	"path/filepath"

	"dsvmpools/agent/process"
)

// lockName is the file that an agent locks as long as it lives.
const lockName = "agent.lock"

// CountRunning counts the jobs and the sessions of people that run on a node, by the journal in its
// agent's directory. There are none when no agent lives there, or its journal cannot be read.
func CountRunning(instanceDir string) (jobs, sessions int) {
	lock, err := os.Open(filepath.Join(instanceDir, lockName))
	if err != nil {
		return 0, 0
	}
	defer lock.Close()
	if process.TryLock(lock, true) == nil {
		return 0, 0
	}
	f, err := os.Open(filepath.Join(instanceDir, "journal"))
	if err != nil {
		return 0, 0
	}
	defer f.Close()
	st := newState()
	_, _, _ = replay(f, st) // as far as it can be read
	for _, h := range st.held {
		switch {
		case h.phase != starting && h.phase != running:
		case h.isSession():
			sessions++
		default:
			jobs++
		}
	}
	return jobs, sessions
}
