package job_test

import (
	"testing"

	"dsvmpools/shared/job"
)

func TestCovers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		on    []string
		state job.AttemptState
		code  int
		want  bool
	}{
		{"by default: a failure", nil, job.AttemptFailed, 1, true},
		{"by default: a killed process", nil, job.AttemptFailed, 137, true},
		{"by default: a lost node", nil, job.AttemptNodeLost, job.ExitNodeLost, true},
		{"by default: an eviction", nil, job.AttemptEvicted, job.ExitEvicted, true},
		{"by default: a failed start", nil, job.AttemptStartFailed, job.ExitStartFailed, true},
		{"by default: a restarted agent", nil, job.AttemptAgentRestarted, job.ExitAgentRestarted, true},
		{"by default: no timeout", nil, job.AttemptTimedOut, job.ExitTimedOut, false},
		{"by default: no success", nil, job.AttemptSucceeded, 0, false},
		{"by default: no cancel", nil, job.AttemptCancelled, job.ExitCancelled, false},
		{"by default: nothing that runs", nil, job.AttemptRunning, 0, false},
		{"by default: nothing that is assigned", nil, job.AttemptAssigned, 0, false},
		{"by default: nothing unknown", nil, "", 0, false},

		{"a cause that is named", []string{"evicted", "nodeLost"}, job.AttemptNodeLost, job.ExitNodeLost, true},
		{"a cause that is not named", []string{"evicted"}, job.AttemptNodeLost, job.ExitNodeLost, false},
		{"a failure when causes are named", []string{"nodeLost"}, job.AttemptFailed, 1, false},
		{"a failed start", []string{"startFailed"}, job.AttemptStartFailed, job.ExitStartFailed, true},
		{"a restarted agent", []string{"agentRestarted"}, job.AttemptAgentRestarted, job.ExitAgentRestarted, true},
		{"a timeout", []string{"timeout"}, job.AttemptTimedOut, job.ExitTimedOut, true},
		{"a success with every cause", []string{"exitCode:0", "timeout"}, job.AttemptSucceeded, 0, false},
		{"a cancel by its code", []string{"exitCode:1006"}, job.AttemptCancelled, job.ExitCancelled, false},

		{"an exit code", []string{"exitCode:137"}, job.AttemptFailed, 137, true},
		{"another exit code", []string{"exitCode:13"}, job.AttemptFailed, 137, false},
		{"a lost node by its code", []string{"exitCode:1001"}, job.AttemptNodeLost, 0, true},
		{"a timeout by its code", []string{"exitCode:1005"}, job.AttemptTimedOut, 0, true},
		{"a lost node is no exit with zero", []string{"exitCode:0"}, job.AttemptNodeLost, 0, false},
		{"a failure by no state's name", []string{""}, job.AttemptFailed, 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := (job.Retry{On: c.on}).Covers(c.state, c.code); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}
