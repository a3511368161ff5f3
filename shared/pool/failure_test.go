package pool_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
)

// end ends the attempt of a job that is on a node, in some other way than well.
func (b *bench) end(order string, state job.AttemptState, code int) pool.Result {
	b.t.Helper()
	j := b.s.Jobs[order]
	if j == nil || j.VMID == "" {
		b.t.Fatalf("job %s is not on a node", order)
	}
	f := &protocol.Finished{N: j.N, State: string(state), ExitCode: code, EndedAt: b.now, Reason: string(state)}
	return b.step(pool.Reported{At: b.now, Report: protocol.Report{Pool: "p", VMID: j.VMID, Seen: j.N, Items: []protocol.ReportItem{{Finished: f}}}})
}

// The loss of a node costs a job no retry, until its attempts have lost so many
// nodes in a row that it may be the job.
func TestLossesAreFreeAndBounded(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.step(submission("1", nil))
	for i := range 4 {
		if b.s.Jobs["1"] == nil {
			t.Fatalf("the job ended after %d losses", i)
		}
		vmid := fmt.Sprint("n", i)
		b.node(vmid)
		b.step(pool.Fenced{VMID: vmid, Taken: true})
		b.step(pool.Listed{Exists: true})
	}
	j := b.s.Jobs["1"]
	if j == nil || j.State != job.Held || !strings.Contains(j.Reason, "4 nodes in a row were lost under it, the last of them n3") {
		t.Fatalf("after four nodes lost in a row: %+v", j)
	}
	b.node("n5")
	if e := b.explain("1"); j.VMID != "" || e.Reason != j.Reason || b.s.Head.Wanted > 1 {
		t.Errorf("got %+v, %d nodes wanted", e, b.s.Head.Wanted)
	}
	b.step(pool.Release{Order: "1"}, pool.Release{Order: "1"})
	if j.VMID != "n5" {
		t.Errorf("released: got %s", j.State)
	}
}

func TestBrokenNodeIsQuarantined(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.node("n1")
	for i := range 3 {
		order := fmt.Sprint(i)
		b.step(submission(order, nil))
		if i == 1 {
			b.step(submission("well", nil))
		}
		b.end(order, job.AttemptStartFailed, job.ExitStartFailed)
	}
	n := b.s.Nodes["n1"]
	if n.State != pool.NodeQuarantined || !strings.Contains(n.Reason, "3 attempts in a row") {
		t.Fatalf("got %s: %s", n.State, n.Reason)
	}
	r := b.step(submission("next", nil))
	if grown(r) != 2 || b.s.Jobs["next"].VMID != "" {
		t.Errorf("got growth to %d, job on %q; want another node for it", grown(r), b.s.Jobs["next"].VMID)
	}
	b.now = b.now.Add(2 * time.Hour)
	if r := b.step(pool.Tick{}); len(r.Effects.Remove) != 0 {
		t.Error("removed although a job runs on it")
	}
	b.finish("well")
	if r := b.step(pool.Tick{}); len(r.Effects.Remove) != 1 && n.State != pool.NodeDeleting {
		t.Errorf("after the time to look at it: got %s", n.State)
	}
}

// An attempt that failed to start after it had begun failed over its source: a
// commit that is gone breaks no node, however often it is asked for.
func TestBadSourcesBreakNoNode(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.node("n1")
	for i := range 4 {
		order := fmt.Sprint(i)
		b.step(submission(order, nil))
		j := b.s.Jobs[order]
		b.step(pool.Reported{At: b.now, Report: protocol.Report{Pool: "p", VMID: j.VMID, Seen: j.N, Items: []protocol.ReportItem{{Finished: &protocol.Finished{
			N: j.N, State: string(job.AttemptStartFailed), ExitCode: job.ExitStartFailed, StartedAt: b.now, EndedAt: b.now}}}}})
		if b.s.Jobs[order] != nil {
			t.Fatalf("job %s has not ended", order)
		}
	}
	if n := b.s.Nodes["n1"]; n.State != pool.NodeReady || n.Breaks != 0 {
		t.Errorf("got %s with %d in a row", n.State, n.Breaks)
	}
}

func TestOneGoodAttemptClearsANode(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.node("n1")
	for i, end := range []job.AttemptState{job.AttemptStartFailed, job.AttemptAgentRestarted, job.AttemptSucceeded, job.AttemptStartFailed, job.AttemptStartFailed, job.AttemptCancelled} {
		b.step(submission(fmt.Sprint(i), nil))
		b.end(fmt.Sprint(i), end, 0)
	}
	if n := b.s.Nodes["n1"]; n.State != pool.NodeReady || n.Breaks != 2 {
		t.Errorf("got %s with %d in a row", n.State, n.Breaks)
	}
}
