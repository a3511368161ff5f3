package scheduler_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
)

// notified is whom a step has notified, and of which jobs.
func notified(e pool.Effects) string {
	var all []string
	for _, other := range slices.Sorted(maps.Keys(e.Notify)) {
		all = append(all, other+": "+strings.Join(e.Notify[other], " "))
	}
	return strings.Join(all, ", ")
}

// Pools that subscribe to a job are notified when it has ended, each once; one that asks too
// late, or before the job is there, at once.
func TestSubscribersAreNotified(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.node("n1")
	b.step(submission("1", nil), submission("2", nil))
	subscribe := func(by string, ids ...string) pool.Event { return pool.Subscribe{IDs: ids, By: by} }
	if r := b.step(subscribe("gpu", "1", "2"), subscribe("gpu", "1"), subscribe("big", "1")); notified(r.Effects) != "" || !r.Changed {
		t.Errorf("notified of live jobs: %s", notified(r.Effects))
	}
	if r := b.step(subscribe("gpu", "1")); r.Changed {
		t.Error("the same subscriber again changes a row")
	}
	if r := b.step(subscribe("gpu", "nobody")); notified(r.Effects) != "gpu: nobody" || r.Changed {
		t.Errorf("notified: %s", notified(r.Effects))
	}
	if got := notified(b.finish("1").Effects); got != "big: 1, gpu: 1" {
		t.Errorf("notified: %s", got)
	}
	if r := b.step(pool.Cancel{Order: "2", Reason: "enough"}); notified(r.Effects) != "" {
		t.Errorf("notified of a job that its node has not given back: %s", notified(r.Effects))
	}
	if r := b.step(subscribe("big", "1")); notified(r.Effects) != "big: 1" {
		t.Errorf("notified: %s", notified(r.Effects))
	}
}

// Those who subscribe to a member that has not begun are remembered with its sweep, until it
// begins; if it never does, they are notified with the end of the sweep.
func TestSubscribersOfMembers(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.node("n1")
	b.step(submission(order(1), func(s *job.Spec) { s.Sweep = &job.Sweep{Count: 4, Parallel: 1} }))
	w := b.s.Jobs.Get(order(1))
	member := func(index int) string { return job.MemberID(w.ID, index) }
	r := b.step(pool.Subscribe{IDs: []string{w.ID, member(0), member(1), member(2), member(3), member(4)}, By: "gpu"})
	if got := notified(r.Effects); got != "gpu: "+member(4) {
		t.Errorf("notified: %s, want what is no member", got)
	}
	if got := b.s.Jobs.Get(job.MemberOrder(order(1), 0)).Subscribers; len(got) != 1 || len(w.Subscribers) != 4 {
		t.Errorf("the member has %v, its sweep %v", got, w.Subscribers)
	}
	if got := notified(b.finish(job.MemberOrder(order(1), 0)).Effects); got != "gpu: "+member(0) {
		t.Errorf("notified: %s", got)
	}
	if got := b.s.Jobs.Get(job.MemberOrder(order(1), 1)).Subscribers; !slices.Equal(got, []pool.Subscriber{{Pool: "gpu"}}) {
		t.Errorf("the next member has %v", got)
	}
	if r = b.step(pool.Cancel{Order: job.MemberOrder(order(1), 2), Reason: "not this one"}); notified(r.Effects) != "gpu: "+member(2) {
		t.Errorf("notified: %s", notified(r.Effects))
	}
	b.step(pool.Cancel{Order: order(1), Reason: "enough"})
	if got, want := notified(b.finish(job.MemberOrder(order(1), 1)).Effects), fmt.Sprintf("gpu: %s %s %s", w.ID, member(3), member(1)); got != want {
		t.Errorf("notified: %s, want %s", got, want)
	}
}

// A row remembers a bounded number of subscribers, and more jobs than a transaction has rows
// are subscribed to in several.
func TestManySubscribers(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.step(submission("1", nil))
	for i := range pool.MaxSubscribers + 5 {
		b.step(pool.Subscribe{IDs: []string{"1"}, By: fmt.Sprint("p", i)})
	}
	if n := len(b.s.Jobs.Get("1").Subscribers); n != pool.MaxSubscribers {
		t.Errorf("a row remembers %d subscribers", n)
	}
	var events []pool.Event
	var ids []string
	for i := range 150 {
		events = append(events, submission(fmt.Sprintf("2%03d", i), nil))
		ids = append(ids, fmt.Sprintf("2%03d", i))
	}
	b.settle(events...)
	b.settle(pool.Subscribe{IDs: ids, By: "gpu"})
	for i := range 150 {
		if len(b.s.Jobs.Get(fmt.Sprintf("2%03d", i)).Subscribers) != 1 {
			t.Fatalf("job %d has no subscriber", i)
		}
	}
}

// What another pool says is looked up, if somebody waits for it, and nobody subscribes again.
func TestSaidToHaveEnded(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.node("n1")
	b.step(submission("3", after("far", "farther:any")))
	if r := b.step(pool.Ended{IDs: []string{"far", "stranger"}}); !slices.Equal(r.Effects.LookAt, []string{"far"}) || len(r.Effects.LookUp) != 0 {
		t.Errorf("looks at %v, looks up %v", r.Effects.LookAt, r.Effects.LookUp)
	}
	b.step(pool.JobEnd{ID: "farther", Forgotten: true})
	if j := b.s.Jobs.Get("3"); !slices.Equal(j.Waits, []string{"far"}) {
		t.Errorf("it waits for %v; any end of a forgotten job will do", j.Waits)
	}
	j := b.s.Jobs.Get("3")
	b.step(pool.JobEnd{ID: "far", Forgotten: true})
	if j.State != job.Cancelled || j.Reason != "it comes after job far, and nobody knows any more how that has ended" {
		t.Errorf("got %s: %s", j.State, j.Reason)
	}
}
