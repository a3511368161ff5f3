package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"dsvmpools/shared/job"
)

// standsStill is how long nothing may end in a pool that is at work and has lost the
// agents of all its nodes: they start again after a second, and what they ran is
// placed again.
const standsStill = 10 * time.Second

// Two agents are killed within a second, and they are those of all nodes. What each
// of them ran ends with it, and the pool goes on with both nodes as soon as they are
// back.
func TestTwoKillsWithinASecond(t *testing.T) {
	const jobs = 300
	m := startMachine(t, t.TempDir())
	apply(m, `{"name":"cpu","sizes":["Standard_D4s_v5"],"nodes":{"max":2},"idleTimeout":"30s"}`)
	messages := make([]*azservicebus.Message, jobs)
	for i := range messages {
		messages[i] = &azservicebus.Message{Body: fmt.Appendf(nil, `{"id":"job-%d","pool":"cpu","command":["sleep","0.1"]}`, i)}
	}
	m.send(messages...)
	ended := func(n int) func() bool { return func() bool { return len(m.ended()) >= n } }
	m.until("the end of 40 jobs", ended(40))
	agents := m.agents()
	if len(agents) != 2 {
		t.Fatalf("%d agents run", len(agents))
	}
	syscall.Kill(agents[0], syscall.SIGKILL)
	first := time.Now()
	m.until("half a second", func() bool { return time.Since(first) > 500*time.Millisecond })
	syscall.Kill(agents[1], syscall.SIGKILL)
	done, moved, longest := 0, time.Now(), time.Duration(0)
	m.until("the end of all jobs", func() bool {
		still := time.Since(moved)
		longest = max(longest, still)
		if still > standsStill {
			e, _ := m.client.ExplainPool(m.ctx, "cpu")
			t.Fatalf("nothing has ended for %s, after %d jobs: %s", still, done, e.Reason)
		}
		if n := len(m.ended()); n > done {
			done, moved = n, time.Now()
		}
		return done == jobs
	})
	again := 0
	for _, j := range m.ended() {
		if len(j.Attempts) > 1 {
			again++
		}
		if j.State != job.Succeeded {
			t.Errorf("job %s is %s: %s", j.ID, j.State, j.Reason)
		}
	}
	if again == 0 {
		t.Error("no attempt was lost by a kill")
	}
	t.Logf("%d jobs were run again; nothing ended for %s at most", again, longest.Round(time.Millisecond))
}

// agents lists the agents of the nodes: children of their supervisors.
func (m *machine) agents() []int {
	var found []int
	for _, pid := range descendants(m.cmd.Process.Pid) {
		args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err == nil && strings.HasPrefix(string(args), os.Args[0]+"\x00agent\x00") && !forked(pid) {
			found = append(found, pid)
		}
	}
	return found
}

// forked reports whether a process has the command line of its parent: it is about to
// become a job.
func forked(pid int) bool {
	f := stat(pid)
	if len(f) < 2 {
		return true
	}
	own, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	parent, _ := os.ReadFile(fmt.Sprintf("/proc/%s/cmdline", f[1]))
	return string(own) == string(parent)
}
