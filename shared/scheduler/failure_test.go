package scheduler_test

import (
	"fmt"
	"strings"
	"testing"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/scheduler"
)

// end ends the attempt of a job that is on a node, in some other way than well.
func (b *bench) end(order string, state job.AttemptState, code int) scheduler.Result {
	b.t.Helper()
	return b.endBy(order, state, code, "")
}

func (b *bench) endBy(order string, state job.AttemptState, code int, cause job.Cause) scheduler.Result {
	b.t.Helper()
	j := b.s.Jobs.Get(order)
	if j == nil || j.VMID == "" {
		b.t.Fatalf("job %s is not on a node", order)
	}
	f := &protocol.Finished{N: j.N, State: string(state), ExitCode: code, Cause: cause, EndedAt: b.now, Reason: string(state)}
	if state == job.AttemptEvicted { // of one that had begun
		f.StartedAt = b.now
	}
	return b.step(
		pool.Reported{At: b.now, Report: protocol.Report{Pool: "p", VMID: j.VMID, Seen: j.N, Items: []protocol.ReportItem{{Finished: f}}}},
	)
}

// The loss of a node costs a job no retry, until its attempts have lost so many
// nodes in a row that it may be the job.
func TestLossesAreFreeAndBounded(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.step(submission("1", nil))
	for i := range 4 {
		if b.s.Jobs.Get("1") == nil {
			t.Fatalf("the job ended after %d losses", i)
		}
		vmid := fmt.Sprint("n", i)
		b.node(vmid)
		b.now = b.now.Add(b.timing.MissingFor) // no list is older than the node
		b.step(pool.Fenced{VMID: vmid, Taken: true})
		b.step(pool.Listed{Exists: true})
	}
	j := b.s.Jobs.Get("1")
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
