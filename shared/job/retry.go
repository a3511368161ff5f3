package job

import (
	"strconv"
	"strings"
)

// causes of a retry, besides exitCode:N.
var causes = map[string]AttemptState{"nodeLost": AttemptNodeLost, "evicted": AttemptEvicted, "startFailed": AttemptStartFailed,
	"timeout": AttemptTimedOut, "agentRestarted": AttemptAgentRestarted}

// platformCodes are the exit codes of ends that are not the process's own.
var platformCodes = map[AttemptState]int{AttemptNodeLost: ExitNodeLost, AttemptEvicted: ExitEvicted, AttemptStartFailed: ExitStartFailed,
	AttemptAgentRestarted: ExitAgentRestarted, AttemptTimedOut: ExitTimedOut}

// Covers reports whether another attempt should follow one that ended in this way.
// Without a list of causes it is every end but success, cancel and timeout.
// Success, cancel and a state that is no end are never covered. An end that the
// platform brought about counts as its code, whatever exitCode says.
func (r Retry) Covers(state AttemptState, exitCode int) bool {
	if code, ok := platformCodes[state]; ok {
		exitCode = code
	} else if state != AttemptFailed {
		return false
	}
	if len(r.On) == 0 {
		return state != AttemptTimedOut
	}
	for _, on := range r.On {
		if cause, ok := causes[on]; ok && cause == state {
			return true
		}
		if code, ok := strings.CutPrefix(on, "exitCode:"); ok && code == strconv.Itoa(exitCode) {
			return true
		}
	}
	return false
}
