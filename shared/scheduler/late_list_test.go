package scheduler_test

import (
	"testing"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/pool"
)

// A list that is taken in late says nothing about what came after Azure was asked for it.
func TestListThatIsTakenInLate(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.node("a")
	b.step(wide("0")) // keeps it
	began := b.now
	b.now = b.now.Add(b.timing.MissingFor)
	b.step(pool.Listed{At: began.Add(-time.Second), Exists: true})
	b.now = b.now.Add(2 * b.timing.MissingFor)
	b.step(pool.Listed{At: began.Add(b.timing.MissingFor - time.Second), Exists: true})
	if n := b.s.Nodes["a"]; n.State == pool.NodeGone {
		t.Error("the list may be older than the node, and the node counts as gone")
	}
	b.step(pool.Listed{At: began.Add(b.timing.MissingFor), Exists: true})
	if n := b.s.Nodes["a"]; n.State != pool.NodeGone {
		t.Errorf("lists lack it for long enough, and it is %s", n.State)
	}
}

// A list that may be older than a node does not confirm that the node is gone after its
// deletion.
func TestDeletionOfANewNode(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.node("a")
	began := b.now
	b.step(pool.NodeRequest{VMID: "a", Verb: pool.VerbDelete})
	b.now = b.now.Add(2 * b.timing.MissingFor)
	r := b.step(pool.Listed{At: began.Add(b.timing.MissingFor - time.Second), Exists: true})
	if n := b.s.Nodes["a"]; n.State != pool.NodeDeleting {
		t.Errorf("by a list that may be older, it is %s", n.State)
	}
	if wake := b.s.Head.WakeAt; wake.IsZero() || wake.After(b.now.Add(b.timing.PollEvery)) {
		t.Errorf("it is looked for again only at %s: %+v", wake, r.Effects)
	}
	b.step(pool.Listed{At: began.Add(b.timing.MissingFor), Exists: true})
	if n := b.s.Nodes["a"]; n.State != pool.NodeGone {
		t.Errorf("by a list that is not, it is %s", n.State)
	}
}

// A capacity from before Azure accepted a call for more does not undo it.
func TestCapacityOfBeforeTheGrant(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.step(wide("0"))
	began := b.now
	b.step(pool.Answered{Kind: pool.OpGrow, Target: 1})
	b.now = b.now.Add(2 * b.timing.MissingFor)
	want(t, "by a list of before", asks(b.step(pool.Listed{At: began.Add(time.Second), Exists: true})), "")
	if s := b.set(""); s.Capacity != 1 || s.Pending() != 1 {
		t.Errorf("by a list of before: %+v", s)
	}
	b.step(pool.Listed{Exists: true})
	if s := b.set(""); s.Capacity != 0 {
		t.Errorf("by a list of now: %+v", s)
	}
}

// What a failed call may have made is given up when a list from well after it lacks it.
func TestListOfBeforeTheFailure(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.step(wide("0"))
	b.step(pool.Answered{Kind: pool.OpGrow, Target: 1, Token: "t"})
	b.now = b.now.Add(time.Minute)
	b.step(pool.Answered{Kind: pool.OpGrow, Of: "t", Err: fault.New(fault.NoCapacity, "", "no room")})
	failed := b.now
	b.now = b.now.Add(2 * b.timing.MissingFor)
	b.step(pool.Listed{At: failed.Add(time.Second), Exists: true})
	if n := b.set("").Pending(); n != 1 {
		t.Errorf("soon after it, %d are awaited, want 1", n)
	}
	b.step(pool.Listed{Exists: true})
	if n := b.set("").Pending(); n != 0 {
		t.Errorf("well after it, %d are awaited", n)
	}
}
