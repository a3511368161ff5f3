package scheduler_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/scheduler"
)

// knowing brings a node up whose agent lets assignments wait for their turn.
func (b *bench) knowing(vmid string) scheduler.Result {
	b.t.Helper()
	r := b.reports(vmid, protocol.ReportItem{Ready: &protocol.Ready{Name: vmid, CPUs: 4, Boot: "1", Features: protocol.Features()}})
	b.list()
	return r
}

// ends ends jobs that are on nodes, which have run for some time.
func (b *bench) ends(state job.AttemptState, ran time.Duration, orders ...string) scheduler.Result {
	b.t.Helper()
	var events []pool.Event
	for _, order := range orders {
		j := b.s.Jobs.Get(order)
		events = append(events, pool.Reported{At: b.now, Report: protocol.Report{Pool: "p", VMID: j.VMID, Seen: j.N, Items: []protocol.ReportItem{
			{Finished: &protocol.Finished{N: j.N, State: string(state), StartedAt: b.now, EndedAt: b.now.Add(ran)}}}}})
	}
	return b.step(events...)
}

// givesBack answers what was asked of nodes: everything has waited.
func (b *bench) givesBack(r scheduler.Result) scheduler.Result {
	b.t.Helper()
	var events []pool.Event
	for vmid, items := range r.Effects.Work {
		report := protocol.Report{Pool: "p", VMID: vmid, Seen: b.s.Head.N}
		for _, i := range items {
			if i.Cancel != nil {
				report.Items = append(report.Items, protocol.ReportItem{Finished: &protocol.Finished{N: i.Cancel.Target,
					State: string(job.AttemptCancelled), ExitCode: job.ExitCancelled, EndedAt: b.now}})
			}
		}
		events = append(events, pool.Reported{At: b.now, Report: report})
	}
	return b.step(events...)
}

// recalled lists the jobs that a step asks back, in order, and why the first one.
func (b *bench) recalled(r scheduler.Result) (orders []string, why string) {
	b.t.Helper()
	for vmid, items := range r.Effects.Work {
		for _, i := range items {
			if i.Cancel == nil {
				continue
			}
			if why = i.Cancel.Reason; !i.Cancel.IfWaiting {
				b.t.Errorf("an assignment is ended also if it runs: %+v", i.Cancel)
			}
			if j := b.s.Assigned(vmid, i.Cancel.Target); j != nil {
				orders = append(orders, j.Order)
			}
		}
	}
	slices.Sort(orders)
	return orders, why
}

// orders names jobs.
func orders(from, to int) (list []string) {
	for i := from; i < to; i++ {
		list = append(list, fmt.Sprintf("j%03d", i))
	}
	return list
}

// submits brings jobs, a few with each step.
func (b *bench) submits(from, to int, change func(*job.Spec)) (r scheduler.Result) {
	b.t.Helper()
	for _, order := range orders(from, to) {
		r = b.step(submission(order, change))
	}
	return r
}

// held counts the jobs that are on nodes.
func (b *bench) held() (n int) {
	for j := range b.s.Jobs.All() {
		if j.VMID != "" {
			n++
		}
	}
	return n
}

// known is a pool of one node, in which four jobs of the plain kind have run for so long.
func known(t *testing.T, ran time.Duration, change func(*pool.Spec)) *bench {
	t.Helper()
	b := newBench(t, func(s *pool.Spec) {
		s.Nodes.Max = 1
		if change != nil {
			change(s)
		}
	})
	b.knowing("a")
	for _, order := range orders(0, 4) {
		b.step(submission(order, nil))
		b.ends(job.AttemptSucceeded, ran, order)
	}
	return b
}

func TestAssignedAhead(t *testing.T) {
	t.Parallel()
	const short = 3 * time.Millisecond
	plain := func(*job.Spec) {}
	limit := 6
	for name, c := range map[string]struct {
		ran  time.Duration
		pool func(*pool.Spec)
		job  func(*job.Spec)
		want int // on a node of 4 cpus, of 100
	}{
		"short ones":                {short, nil, plain, 68},
		"longer ones":               {100 * time.Millisecond, nil, plain, 21},
		"half a second":             {500 * time.Millisecond, nil, plain, 5},
		"long ones":                 {501 * time.Millisecond, nil, plain, 4},
		"of another name":           {short, nil, func(s *job.Spec) { s.Name = "another" }, 4},
		"of another user":           {short, nil, func(s *job.Spec) { s.User = "bob" }, 4},
		"of another team":           {short, nil, func(s *job.Spec) { s.Team = "b" }, 4},
		"with another script":       {short, nil, func(s *job.Spec) { s.Command, s.Script = nil, "true" }, 4},
		"with another argument":     {short, nil, func(s *job.Spec) { s.Command = []string{"x", "y"} }, 4},
		"with a source":             {short, nil, func(s *job.Spec) { s.Source = &job.Source{Repository: "r", Commit: "c"} }, 4},
		"of two cpus":               {short, nil, func(s *job.Spec) { s.Resources.CPUs = 2 }, 34},
		"with little memory":        {short, nil, func(s *job.Spec) { s.Resources.Memory = 4 * job.Gi }, 68},
		"with much memory":          {short, nil, func(s *job.Spec) { s.Resources.Memory = 5 * job.Gi }, 3},
		"a node for each":           {short, func(s *pool.Spec) { s.Pack = false }, plain, 1},
		"up to the limit of a team": {short, func(s *pool.Spec) { s.Limits.Default.Jobs = &limit }, plain, 6},
		"up to the cpus of a team":  {short, func(s *pool.Spec) { s.Limits.Default.CPUs = &limit }, plain, 6},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := known(t, c.ran, c.pool)
			b.submits(10, 110, c.job)
			if got := b.held(); got != c.want {
				t.Errorf("the node has %d, want %d", got, c.want)
			}
			if got := b.s.Head.Running; got != c.want {
				t.Errorf("%d count as running, want %d", got, c.want)
			}
		})
	}
}

// TestKindOfCommand: options and the first argument that is none are of the kind, later ones
// are not.
func TestKindOfCommand(t *testing.T) {
	t.Parallel()
	command := func(words ...string) func(*job.Spec) { return func(s *job.Spec) { s.Command = words } }
	for name, c := range map[string]struct {
		ran, now []string
		want     int
	}{
		"other arguments": {[]string{"python", "train.py", "--lr", "1"}, []string{"python", "train.py", "--lr", "2"}, 68},
		"another program": {[]string{"python", "train.py"}, []string{"python", "eval.py"}, 4},
		"another text":    {[]string{"sh", "-c", "true"}, []string{"sh", "-c", "sleep 1000"}, 4},
	} {
		b := newBench(t, func(s *pool.Spec) { s.Nodes.Max = 1 })
		b.knowing("a")
		b.submits(0, 4, command(c.ran...))
		b.ends(job.AttemptFailed, time.Millisecond, orders(0, 4)...)
		if b.submits(10, 110, command(c.now...)); b.held() != c.want {
			t.Errorf("%s: the node has %d, want %d", name, b.held(), c.want)
		}
	}
}

// TestKindOfSweep: what the first members show holds for the others, and one slow member of
// the last few is enough to end it.
func TestKindOfSweep(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(s *pool.Spec) { s.Nodes.Max = 1 })
	b.knowing("a")
	b.step(submission("s", func(s *job.Spec) { s.Sweep = &job.Sweep{Count: 500} }))
	member := func(i int) string { return job.MemberOrder("s", i) }
	if b.ends(job.AttemptSucceeded, time.Millisecond, member(0), member(1), member(2)); b.held() != 4 {
		t.Errorf("after three: the node has %d, want 4", b.held())
	}
	if b.ends(job.AttemptSucceeded, time.Millisecond, member(3)); b.held() != 20 {
		t.Errorf("after four: the node has %d, want 20: 3 that began before, and 17 that share one cpu", b.held())
	}
	if b.ends(job.AttemptSucceeded, time.Millisecond, member(4), member(5), member(6)); b.held() != 68 {
		t.Errorf("after all that began before: the node has %d, want 68", b.held())
	}
	if b.ends(job.AttemptSucceeded, time.Minute, member(7)); b.held() != 67 {
		t.Errorf("after a slow one: the node has %d, want 67", b.held())
	}
}

// TestAheadOnlyWhereItIsKnown: an agent of an earlier release gets what fits, and starts it at
// once; one of this release learns what it has room for.
func TestAheadOnlyWhereItIsKnown(t *testing.T) {
	t.Parallel()
	b := known(t, time.Millisecond, nil)
	r := b.step(submission("x", nil))
	if w := r.Effects.Work["a"]; len(w) == 0 || w[0].Assign.Room != 4 {
		t.Errorf("got %+v, want room for 4", w)
	}
	b.reports("a", protocol.ReportItem{Ready: &protocol.Ready{Name: "a", CPUs: 4, Boot: "2"}})
	r = b.submits(10, 30, nil)
	if b.held() != 4 {
		t.Errorf("it has %d, want 4", b.held())
	}
	if b.s.Jobs.Get("j010").VMID == "" || len(r.Effects.Work) > 0 {
		t.Errorf("got %+v", r.Effects.Work)
	}
}

// TestNothingPassesAheadOfTheLine: while a job waits that is before them, no others are
// assigned ahead, and what waits on a node is in its way for no longer than that takes.
func TestNothingPassesAheadOfTheLine(t *testing.T) {
	t.Parallel()
	b := known(t, time.Millisecond, nil)
	b.submits(10, 14, nil)
	b.step(submission("j020", func(s *job.Spec) { s.Name = "not known" }))
	if b.submits(30, 40, nil); b.held() != 4 {
		t.Errorf("%d are on the node, want 4: one of another kind waits", b.held())
	}
	if r := b.ends(job.AttemptSucceeded, 0, "j010"); assigned(r)["j020"] == 0 || b.held() != 14 {
		t.Errorf("after an end: got %v, %d are on the node", assigned(r), b.held())
	}
}

// TestSecondAttemptIsNotAhead: a job that has had an attempt gets room, or waits in line.
func TestSecondAttemptIsNotAhead(t *testing.T) {
	t.Parallel()
	b := known(t, time.Millisecond, nil)
	b.submits(10, 15, func(s *job.Spec) { s.Retry.Max = 1 })
	if b.ends(job.AttemptFailed, 0, "j010"); b.s.Jobs.Get("j010").VMID != "" || b.held() != 4 {
		t.Errorf("%d are on the node, want 4: the first one waits in line again", b.held())
	}
	if b.ends(job.AttemptSucceeded, 0, "j011"); b.s.Jobs.Get("j010").VMID == "" {
		t.Error("it is not on the node that has room")
	}
}

func TestRecall(t *testing.T) {
	t.Parallel()
	held := func(t *testing.T, priority job.Priority) *bench {
		b := known(t, time.Millisecond, func(s *pool.Spec) { s.Nodes.Max = 2 })
		b.submits(10, 30, func(s *job.Spec) { s.Priority = priority })
		if b.held() != 20 {
			t.Fatalf("%d are on the node, want 20", b.held())
		}
		return b
	}
	check := func(t *testing.T, b *bench, r scheduler.Result, reason string, want ...string) {
		t.Helper()
		if got, why := b.recalled(r); !slices.Equal(got, want) || !strings.Contains(why, reason) {
			t.Fatalf("recalled: got %v, %q; want %v, %q", got, why, want, reason)
		}
		for _, order := range want { // until the answer they are there
			if j := b.s.Jobs.Get(order); j.VMID != "a" || j.Requeue {
				t.Fatalf("job %s: got %+v", order, j)
			}
		}
		if more, _ := b.recalled(b.step()); len(more) > 0 {
			t.Errorf("asked again at once: %v", more)
		}
	}
	t.Run("another node has room", func(t *testing.T) {
		t.Parallel()
		b := held(t, job.Normal)
		r := b.knowing("b")
		check(t, b, r, "another node", orders(26, 30)...)
		r = b.givesBack(r)
		for _, order := range orders(26, 30) {
			j := b.s.Jobs.Get(order)
			if j.VMID != "b" || len(j.Attempts) != 1 || j.Attempts[0].Number != 1 || assigned(r)[order] != j.N || j.Retries != 0 {
				t.Errorf("job %s: got %+v", order, j)
			}
		}
	})
	t.Run("a second time, on its next node", func(t *testing.T) {
		t.Parallel()
		b := held(t, job.Normal)
		b.s.Head.Spec.Nodes.Max = 3
		r := b.givesBack(b.step(pool.NodeRequest{VMID: "a", Verb: pool.VerbDrain}))
		if b.held() != 4 || len(assigned(r)) > 0 {
			t.Fatalf("%d are on nodes", b.held())
		}
		b.knowing("b")
		if b.held() != 20 {
			t.Fatalf("%d are on nodes, want 20", b.held())
		}
		if got, _ := b.recalled(b.knowing("c")); !slices.Equal(got, orders(26, 30)) {
			t.Errorf("got %v", got)
		}
	})
	t.Run("one of a better priority waits", func(t *testing.T) {
		t.Parallel()
		b := held(t, job.Normal)
		r := b.step(submission("j900", func(s *job.Spec) { s.Name, s.Priority = "not known", job.High }))
		check(t, b, r, "better priority", orders(14, 30)...)
		b.givesBack(r)
		if r = b.ends(job.AttemptSucceeded, 0, "j010"); assigned(r)["j900"] == 0 {
			t.Errorf("the place of the first that ends goes to %v", assigned(r))
		}
	})
	t.Run("one of the same priority waits", func(t *testing.T) {
		t.Parallel()
		b := held(t, job.High)
		check(t, b, b.step(submission("j900", func(s *job.Spec) { s.Name, s.Priority = "not known", job.High })), "")
	})
	t.Run("the node drains", func(t *testing.T) {
		t.Parallel()
		b := held(t, job.Normal)
		r := b.step(pool.NodeRequest{VMID: "a", Verb: pool.VerbDrain})
		check(t, b, r, "no more work", orders(14, 30)...)
		b.givesBack(r)
		if j := b.s.Jobs.Get("j020"); j.State != job.Queued || len(j.Attempts) != 0 || !strings.Contains(j.Reason, "gave it back") {
			t.Errorf("got %+v", j)
		}
	})
	t.Run("it has waited too long", func(t *testing.T) {
		t.Parallel()
		b := held(t, job.Normal)
		if due := b.s.Head.WakeAt; due.After(b.now.Add(b.timing.AheadFor)) {
			t.Errorf("the pool wakes at %s", due)
		}
		b.now = b.now.Add(b.timing.AheadFor)
		r := b.step(pool.Tick{})
		check(t, b, r, "has waited there for 2s", orders(14, 30)...)
		if r = b.givesBack(r); b.held() != 4 || len(assigned(r)) > 0 {
			t.Errorf("%d are on the node again, which is slower than expected", b.held()-4)
		}
		b.now = b.now.Add(time.Second)
		if b.ends(job.AttemptSucceeded, 0, orders(10, 14)...); b.held() != 16 {
			t.Errorf("when it has become free it has %d, want 16", b.held())
		}
	})
	t.Run("without an answer it is asked again", func(t *testing.T) {
		t.Parallel()
		b := held(t, job.Normal)
		r := b.knowing("b")
		check(t, b, r, "another node", orders(26, 30)...)
		b.now = b.now.Add(b.timing.AheadFor)
		if again, _ := b.recalled(b.step(pool.Tick{})); len(again) != 16 {
			t.Errorf("asked again: %v", again)
		}
	})
	t.Run("its node is deleted by request", func(t *testing.T) {
		t.Parallel()
		b := held(t, job.Normal)
		r := b.step(pool.NodeRequest{VMID: "a", Verb: pool.VerbDelete})
		b.givesBack(r)
		if j := b.s.Jobs.Get("j020"); j.State != job.Queued || len(j.Attempts) != 0 || j.Requeue {
			t.Errorf("got %+v", j)
		}
	})
	t.Run("its node is evicted", func(t *testing.T) {
		t.Parallel()
		b := held(t, job.Normal)
		never := evicted(b.s.Jobs.Get("j020").N)
		never.Finished.StartedAt = time.Time{}
		b.say("a", leaving(), evicted(b.s.Jobs.Get("j010").N), never)
		if j := b.s.Jobs.Get("j020"); j.State != job.Queued || len(j.Attempts) != 0 {
			t.Errorf("what never began: got %+v", j)
		}
		if j := b.s.Jobs.Get("j010"); j.State != job.Queued || len(j.Attempts) != 1 {
			t.Errorf("what ran: got %+v", j)
		}
	})
	t.Run("its node is lost", func(t *testing.T) {
		t.Parallel()
		b := held(t, job.Normal)
		b.step(pool.Fenced{VMID: "a", Taken: true})
		b.step(pool.Listed{Exists: true})
		b.now = b.now.Add(b.timing.MissingFor)
		b.step(pool.Listed{Exists: true})
		for _, order := range orders(10, 30) {
			j := b.s.Jobs.Get(order) // it may have begun, and nobody has heard of it
			if j == nil || j.State != job.Queued || j.Retries != 0 || len(j.Attempts) != 1 || j.Attempts[0].State != job.AttemptNodeLost {
				t.Fatalf("job %s: got %+v", order, j)
			}
		}
	})
	t.Run("it had begun, and fails", func(t *testing.T) {
		t.Parallel()
		b := held(t, job.Normal)
		b.knowing("b")
		if b.ends(job.AttemptFailed, 0, "j029"); b.s.Jobs.Get("j029") != nil {
			t.Errorf("it is tried again: %+v", b.s.Jobs.Get("j029"))
		}
	})
	t.Run("its owner cancels it", func(t *testing.T) {
		t.Parallel()
		b := held(t, job.Normal)
		r := b.knowing("b")
		b.step(pool.Cancel{Order: "j029", Reason: "no more"})
		if b.givesBack(r); b.s.Jobs.Get("j029") != nil {
			t.Errorf("it goes on: %+v", b.s.Jobs.Get("j029"))
		}
	})
}

func TestExplainAhead(t *testing.T) {
	t.Parallel()
	b := known(t, time.Millisecond, nil)
	b.submits(10, 20, nil)
	e, _ := scheduler.Explain(b.s, "j016", b.now, b.timing)
	if e.State != "assigned" || e.Reason != "it waits on node a for its turn, after 6 other jobs" ||
		!strings.HasSuffix(e.Unblocks, "by 2026-03-02T09:00:02Z, it goes back in line") {
		t.Errorf("got %+v", e)
	}
	e, _ = scheduler.Explain(b.s, "j012", b.now, b.timing)
	if !strings.Contains(e.Reason, "which has not begun it yet") {
		t.Errorf("one that has room: got %+v", e)
	}
}

// TestWaitingCostsNoShare: a team pays for the time that its jobs have a node, and not for
// that in which they wait there.
func TestWaitingCostsNoShare(t *testing.T) {
	t.Parallel()
	b := known(t, time.Millisecond, nil)
	before := b.s.Head.Shares["a"].Used
	b.submits(10, 30, func(s *job.Spec) { s.Team = "a" })
	b.now = b.now.Add(time.Second)
	b.ends(job.AttemptSucceeded, 100*time.Millisecond, orders(10, 14)...)
	if got := b.s.Head.Shares["a"].Used - before; got < 0.09 || got > 0.11 { // of one node
		t.Errorf("four of four cpus for a tenth of a second cost %.3f seconds of a node", got)
	}
}
