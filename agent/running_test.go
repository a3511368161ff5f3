//go:build unix

package agent

import "testing"

// TestCountRunning: what runs is counted while the agent lives, and no longer.
func TestCountRunning(t *testing.T) {
	t.Parallel()
	n := begin(t)
	count := func(want int) func() bool {
		return func() bool {
			jobs, sessions := CountRunning(n.cfg.InstanceDir)
			return jobs == want && sessions == 0
		}
	}
	n.work(assign(1, "true"), script(2, "echo up; sleep 1000"), script(3, "echo up; sleep 1000"))
	n.finished(1)
	awaitText(t, n, 2, "up\n")
	awaitText(t, n, 3, "up\n")
	eventually(t, "two to run", count(2))
	n.work(cancel(4, 2))
	n.finished(2)
	eventually(t, "one to run", count(1))
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	if jobs, sessions := CountRunning(n.cfg.InstanceDir); jobs+sessions != 0 {
		t.Errorf("got %d jobs and %d sessions of an agent that has ended", jobs, sessions)
	}
}
