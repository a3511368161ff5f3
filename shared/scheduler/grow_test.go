package scheduler_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/scheduler"
)

// wide is a job that fills a node of 4 cpus.
func wide(order string) pool.Submit {
	return submission(order, func(s *job.Spec) { s.Resources.CPUs = 4 })
}

// A burst one second after a first job is asked for in the step that sees it, while
// the operation for the first node goes on.
func TestBurstIsAskedForAtOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(s *pool.Spec) { s.Nodes.Max = 10 })
	want(t, "the first", asks(b.step(wide("0"))), "d4s-v5:1")
	b.step(pool.Answered{Kind: pool.OpGrow, Target: 1, Token: "t1", After: 30 * time.Second})
	b.now = b.now.Add(time.Second)
	var burst []pool.Event
	for i := range 5 {
		burst = append(burst, wide(fmt.Sprint("b", i)))
	}
	want(t, "the burst", asks(b.step(burst...)), "d4s-v5:6")
	// The first operation ends as one whose place another took. Whenever that is
	// heard, it is no failure.
	b.step(pool.Answered{Kind: pool.OpGrow, Of: "t1", Err: fault.New(fault.Preempted, "", "overtaken")})
	b.step(pool.Answered{Kind: pool.OpGrow, Target: 6, Token: "t2"})
	want(t, "overtaken", asks(b.step(pool.Answered{Kind: pool.OpGrow, Of: "t1", Err: fault.New(fault.Preempted, "", "overtaken")})), "")
	if s := b.set(""); s.Op.Token != "t2" || s.Blocked != (pool.Block{}) || s.Unbacked {
		t.Errorf("got %+v", s)
	}
}

// The same when the messages come one by one, as long as they are few; with more,
// requests are put together, and none waits longer than one write takes to come into
// the service's bucket.
func TestWritesStayWithinTheBucket(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(s *pool.Spec) { s.Nodes.Max = 1000 })
	var writes []time.Time
	accepted := func(r scheduler.Result) {
		for grown(r) > 0 {
			writes = append(writes, b.now)
			r = b.step(pool.Answered{Kind: pool.OpGrow, Target: grown(r), Token: fmt.Sprint("t", len(writes))})
		}
	}
	const jobs, every = 600, 200 * time.Millisecond
	asked := 0
	arrived := make([]time.Time, 0, jobs)
	for i := range jobs {
		arrived = append(arrived, b.now)
		r := b.step(wide(fmt.Sprintf("%04d", i)))
		accepted(r)
		if i < 5 && b.set("").Op.Target != i+1 {
			t.Errorf("job %d is not asked for in its step", i)
		}
		for next := b.now.Add(every); b.now.Before(next); {
			// The pool is called again when it wished to be, at the latest.
			if at := b.s.Head.WakeAt; at.After(b.now) && at.Before(next) {
				b.now = at
				accepted(b.step(pool.Tick{}))
				continue
			}
			b.now = next
		}
		for ; asked < min(b.set("").Op.Target, len(arrived)); asked++ {
			if waited := b.now.Sub(arrived[asked]); waited > 15*time.Second+every {
				t.Fatalf("job %d waited %s for its request", asked, waited)
			}
		}
	}
	const burst, refill = 12, 15 * time.Second // Azure's bucket of a set
	tokens, last := float64(burst), writes[0]
	for i, at := range writes {
		tokens = min(burst, tokens+at.Sub(last).Seconds()/refill.Seconds()) - 1
		if last = at; tokens < 0 {
			t.Fatalf("write %d of %d is one too many", i, len(writes))
		}
	}
	if len(writes) < 12 {
		t.Errorf("only %d writes", len(writes))
	}
}

// An instance that sticks in Creating holds up nobody: it is seen at once, counts
// from the request for it, and is named in a delete when its time is up, while the
// operation that it belongs to goes on; the capacity of the others stays.
func TestStuckInstance(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(s *pool.Spec) { s.Nodes.Max = 6 })
	b.step(wide("0"))
	asked := b.now
	if r := b.step(pool.Answered{Kind: pool.OpGrow, Target: 1, Token: "t1"}); !r.Effects.List {
		t.Error("what was accepted is not looked at at once")
	}
	stuck := pool.Instance{VMID: "stuck", ID: "0", Name: "p_0", Provisioning: "Creating"}
	b.now = b.now.Add(10 * time.Second)
	b.step(pool.Listed{Exists: true, Capacity: 1, Instances: []pool.Instance{stuck}})
	if n := b.s.Nodes["stuck"]; n == nil || n.State != pool.NodeCreating || !n.AskedAt.Equal(asked) {
		t.Fatalf("the node is not there from its first list: %+v", n)
	}
	var more []pool.Event
	for i := range 17 {
		more = append(more, wide(fmt.Sprintf("m%02d", i)))
	}
	want(t, "the others", asks(b.step(more...)), "d4s-v5:6")
	b.step(pool.Answered{Kind: pool.OpGrow, Target: 6, Token: "t2"})
	list := pool.Listed{Exists: true, Capacity: 6, Instances: []pool.Instance{stuck}}
	for i := range 5 {
		id := fmt.Sprint(i + 1)
		b.node2(id)
		list.Instances = append(list.Instances, pool.Instance{VMID: id, ID: id, Name: id, Provisioning: "Succeeded", Power: "running"})
	}
	b.step(list)
	if queued, running := b.s.Head.Queued, b.s.Head.Running; running != 5 || queued != 13 {
		t.Fatalf("%d run and %d wait; the five others are to run", running, queued)
	}
	for b.now.Sub(asked) <= b.timing.BootDeadline {
		b.now = b.now.Add(time.Minute)
		r := b.step(pool.Tick{})
		if !r.Effects.List {
			t.Fatal("nothing is listed while an operation is under way")
		}
		late := b.now.Sub(asked) > b.timing.BootDeadline
		if removed := len(r.Effects.Remove) == 1 && r.Effects.Remove[0].VMID == "stuck"; removed != late {
			t.Fatalf("%s after the request: removed %v", b.now.Sub(asked), removed)
		}
		b.step(list)
	}
	list.Capacity--
	list.Instances[0].Provisioning = "Deleting"
	want(t, "instead of it", asks(b.step(list)), "d4s-v5:6")
}

// node2 brings a node up that only its agent has reported.
func (b *bench) node2(vmid string) {
	b.t.Helper()
	b.step(
		pool.Reported{
			At: b.now,
			Report: protocol.Report{
				Pool:  "p",
				VMID:  vmid,
				Items: []protocol.ReportItem{{Ready: &protocol.Ready{Name: vmid, CPUs: 4, Boot: "1"}}},
			},
		},
	)
}

// While an operation is in flight for one rung and stuck, the others go on.
func TestStuckRungAndTheNext(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(s *pool.Spec) { s.Sizes = []string{"Standard_D4s_v5", "Standard_D8s_v5"} })
	b.step(wide("0"))
	b.step(pool.Answered{Set: "d4s-v5", Kind: pool.OpGrow, Target: 1, Token: "t1"})
	b.now = b.now.Add(time.Second)
	want(t, "a size that only the next has", asks(b.step(submission("1", func(s *job.Spec) { s.Resources.CPUs = 8 }))), "d8s-v5:1")
	b.step(wide("2"))
	// The larger request is refused: the one below it goes on, the rest is asked of
	// the next rung.
	got := asks(b.step(pool.Answered{Set: "d4s-v5", Kind: pool.OpGrow, Target: 2, Err: fault.New(fault.NoCapacity, "", "none")}))
	if s := b.set("d4s-v5"); s.Op.Token != "t1" || len(s.Requests) != 1 || s.Requests[0].N != 1 {
		t.Errorf("the operation below: got %+v", s)
	}
	want(t, "while the call to the next rung has no answer", got, "")
	want(t, "the rest", asks(b.step(pool.Answered{Set: "d8s-v5", Kind: pool.OpGrow, Target: 1, Token: "u1"})), "d8s-v5:2")
}

// A call that has no answer is waited for as long as a write takes to come into the
// bucket; then a larger one leaves. Its own answer, if it ever comes, is not taken
// for that of the larger one.
func TestCallWithoutAnswer(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	want(t, "the first", asks(b.step(wide("0"))), "d4s-v5:1")
	b.now = b.now.Add(time.Second)
	r := b.step(wide("1"))
	want(t, "no answer yet", asks(r), "")
	if wake := b.s.Head.WakeAt; wake.After(b.now.Add(15 * time.Second)) {
		t.Errorf("called again only at %s", wake)
	}
	b.now = b.now.Add(14 * time.Second)
	want(t, "the time is up", asks(b.step(pool.Tick{})), "d4s-v5:2")
	b.step(pool.Answered{Kind: pool.OpGrow, Target: 1, Token: "t1"})
	if s := b.set(""); s.Op.Token != "" || s.Op.Target != 2 {
		t.Errorf("the late answer is taken for another's: %+v", s.Op)
	}
}

// Nodes that leave while an operation is under way leave no gap in which new jobs
// count as provided for.
func TestLeavingNodesHoldUpNoGrowth(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.step(wide("0"), wide("1"))
	b.step(pool.Answered{Kind: pool.OpGrow, Target: 2, Token: "t1"}) // never ends
	b.node("a")
	b.node("b")
	b.finish("0")
	b.finish("1")
	b.now = b.now.Add(31 * time.Second)
	if r := b.step(pool.Tick{}); len(r.Effects.Remove) != 2 {
		t.Fatalf("%d of two idle nodes leave", len(r.Effects.Remove))
	}
	want(t, "a new job", asks(b.step(wide("2"))), "d4s-v5:1")
}

// What Azure has accepted and not even begun to make within the time of a boot is
// not waited for: the next rung is asked.
func TestAcceptedAndNeverListed(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(s *pool.Spec) { s.Sizes = []string{"Standard_D4s_v5", "Standard_D8s_v5"} })
	b.step(wide("0"))
	b.step(pool.Answered{Set: "d4s-v5", Kind: pool.OpGrow, Target: 1, Token: "t1"})
	empty := pool.Listed{Set: "d4s-v5", Exists: true, Capacity: 1}
	b.now = b.now.Add(b.timing.BootDeadline)
	want(t, "in time", asks(b.step(empty)), "")
	b.now = b.now.Add(time.Second)
	want(t, "late", asks(b.step(empty)), "d8s-v5:1")
	if s := b.set("d4s-v5"); s.Blocked.Until.IsZero() || !strings.Contains(s.Blocked.Message, "1 node has not come within 30m") {
		t.Errorf("got %+v", s.Blocked)
	}
}

// A row of an older release says since when instances are awaited, not how many.
func TestRowsOfBeforeAsks(t *testing.T) {
	t.Parallel()
	since := monday.Add(-20 * time.Minute)
	head := pool.Head{Spec: spec(), Sets: []pool.Set{{Name: "d4s-v5", Size: "Standard_D4s_v5", Used: true, Capacity: 1, PendingSince: since,
		Op: pool.Op{Kind: pool.OpGrow, Target: 3, AskedAt: since, Token: "t"}}}}
	b := &bench{t: t, s: scheduler.NewState(head, nil, nil, monday), now: monday, timing: scheduler.DefaultTiming}
	b.step(pool.Tick{})
	if s := b.set(""); len(s.Requests) != 1 || s.Requests[0] != (pool.Request{N: 3, At: since}) || !s.PendingSince.IsZero() {
		t.Errorf("got %+v", s)
	}
	b.step(pool.Listed{Exists: true, Capacity: 3, Instances: []pool.Instance{{VMID: "a", ID: "0", Name: "a", Provisioning: "Creating"}}})
	if n := b.s.Nodes["a"]; n == nil || !n.AskedAt.Equal(since) {
		t.Errorf("got %+v", n)
	}
}

// A call that had no answer may never have been made, so to repeat it is a new
// decision: it is made for what may be asked for by then.
func TestRepeatIsANewDecision(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		meanwhile func(*bench) // after three nodes were asked for
		want      string
		seen      bool
	}{
		"nothing has changed": {func(*bench) {}, "d4s-v5:3", false},
		"all of them are there": {func(b *bench) {
			var all []pool.Instance
			for i := range 3 {
				all = append(all, pool.Instance{VMID: fmt.Sprint(i), ID: fmt.Sprint(i), Provisioning: "Creating"})
			}
			b.step(pool.Listed{Exists: true, Capacity: 3, Instances: all})
		}, "", true},
		"two more may not be had": {func(b *bench) {
			s := b.s.Head.Spec
			s.Nodes.Max = 1
			b.step(pool.Apply{Spec: s})
		}, "d4s-v5:1", false},
		"none may be had": {func(b *bench) {
			s := b.s.Head.Spec
			s.Nodes.Max = 0
			b.step(pool.Apply{Spec: s})
		}, "", false},
		"the pool is down": {func(b *bench) {
			s := b.s.Head.Spec
			s.Schedule = &pool.Schedule{DownAt: b.now.Add(time.Minute).Format("15:04"), UpAt: "23:59", TimeZone: "UTC"}
			b.step(pool.Apply{Spec: s})
		}, "", false},
		"the pool is deleted": {func(b *bench) { b.step(pool.Delete{}) }, "", false},
		"its nodes do not come up": {func(b *bench) {
			b.set("").AddRequest(1, b.now)
			for i := range 3 { // others than those of the call, one of which is still awaited
				b.step(pool.Listed{Exists: true, Capacity: 4, Instances: []pool.Instance{{VMID: fmt.Sprint(i), ID: fmt.Sprint(i), Provisioning: "Failed"}}})
			}
		}, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, nil)
			want(t, "the first", asks(b.step(wide("0"), wide("1"), wide("2"))), "d4s-v5:3")
			tt.meanwhile(b)
			if seen := b.set("d4s-v5").Pending() == 0; seen != tt.seen {
				t.Fatalf("all that was asked for was seen: %v", seen)
			}
			b.now = b.now.Add(time.Minute + time.Second)
			r := b.step()
			want(t, "without an answer", asks(r), tt.want)
			if op := b.set("d4s-v5").Op; tt.want == "" && (op.Kind == pool.OpGrow || !r.Effects.List) {
				t.Errorf("the call counts as under way, or what it may have made is not looked for: %+v", op)
			}
		})
	}
}

// A quarantined node that is released counts again: a call that is repeated asks for
// one less.
func TestRepeatAfterARelease(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(s *pool.Spec) { s.Nodes.Max = 2 })
	b.node("a")
	n := *b.s.Nodes["a"].Node
	n.State, n.Since = pool.NodeQuarantined, b.now
	b.s = scheduler.NewState(b.s.Head, []*pool.Node{&n}, nil, b.now)
	want(t, "beside a quarantined node", asks(b.step(wide("0"), wide("1"))), "d4s-v5:3")
	b.step(pool.NodeRequest{VMID: "a", Verb: pool.VerbRelease})
	b.now = b.now.Add(time.Minute + time.Second)
	want(t, "without an answer", asks(b.step(pool.Tick{})), "d4s-v5:2")
	if n := b.set("").Pending(); n != 1 {
		t.Errorf("%d nodes count as on their way, want 1", n)
	}
}
