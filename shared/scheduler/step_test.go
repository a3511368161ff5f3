package scheduler_test

import (
	"fmt"
	"testing"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/scheduler"
)

var monday = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)

// spec is a pool of up to five nodes of 4 cpus.
func spec() pool.Spec {
	return pool.Spec{Name: "p", Kind: "batch", OS: "linux", Sizes: []string{"Standard_D4s_v5"}, Capacity: "regular",
		Nodes: pool.Range{Max: 5}, IdleTimeout: job.Duration(30 * time.Second), Pack: true}
}

// bench is a pool at work, a step at a time.
type bench struct {
	t      *testing.T
	s      *scheduler.State
	now    time.Time
	timing scheduler.Timing
}

func newBench(t *testing.T, change func(*pool.Spec)) *bench {
	sp := spec()
	if change != nil {
		change(&sp)
	}
	b := &bench{t: t, s: scheduler.NewState(pool.Head{}, nil, nil, monday), now: monday, timing: scheduler.DefaultTiming}
	b.step(pool.Apply{Spec: sp})
	return b
}

func (b *bench) step(events ...pool.Event) scheduler.Result {
	b.t.Helper()
	r := scheduler.Step(b.s, events, b.now, b.timing)
	b.s.Head.Seq++
	if r.More {
		b.t.Fatal("a small step left something over")
	}
	return r
}

// node brings a node up, listed and ready.
func (b *bench) node(vmid string) {
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
	b.list()
}

// list tells the pool that all its nodes are there and running.
func (b *bench) list() scheduler.Result {
	b.t.Helper()
	l := pool.Listed{Exists: true}
	for vmid, n := range b.s.Nodes {
		if n.State != pool.NodeGone {
			l.Capacity++
			l.Instances = append(
				l.Instances,
				pool.Instance{VMID: vmid, ID: "id-" + vmid, Name: vmid, Provisioning: "Succeeded", Power: "running"},
			)
		}
	}
	return b.step(l)
}

func submission(order string, change func(*job.Spec)) pool.Submit {
	s := job.Spec{Pool: "p", Command: []string{"x"}, Priority: job.Normal, Resources: job.Resources{CPUs: 1}}
	if change != nil {
		change(&s)
	}
	return pool.Submit{Order: order, ID: order, Spec: s}
}

// assigned lists the jobs that a step gave to nodes, by job.
func assigned(r scheduler.Result) map[string]int64 {
	out := map[string]int64{}
	for _, items := range r.Effects.Work {
		for _, item := range items {
			if item.Assign != nil {
				out[item.Assign.Job] = item.N
			}
		}
	}
	return out
}

func TestGrowthInTheStepThatSeesTheDemand(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		pack bool
		cpus []int // of the jobs; a node has 4
		want int
	}{
		{"one small job", true, []int{1}, 1},
		{"four fit on one node", true, []int{1, 1, 1, 1}, 1},
		{"five do not", true, []int{1, 1, 1, 1, 1}, 2},
		{"threes do not share", true, []int{3, 3, 3}, 3},
		{"threes and ones do", true, []int{3, 1, 3, 1}, 2},
		{"a node each without packing", false, []int{1, 1, 1}, 3},
		{"never more than the most", true, []int{4, 4, 4, 4, 4, 4, 4, 4}, 5},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, func(s *pool.Spec) { s.Pack = tt.pack })
			var events []pool.Event
			for i, cpus := range tt.cpus {
				events = append(events, submission(fmt.Sprint(i), func(s *job.Spec) { s.Resources.CPUs = cpus }))
			}
			if got := grown(b.step(events...)); got != tt.want {
				t.Errorf("capacity asked for: got %d, want %d", got, tt.want)
			}
			if got := grown(b.step(pool.Tick{})); got != 0 {
				t.Errorf("asked for again while the first request is under way: %d", got)
			}
		})
	}
}

func TestLineByPriorityThenArrival(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	class := func(order string, p job.Priority) pool.Submit {
		return submission(order, func(s *job.Spec) { s.Priority, s.Resources.CPUs = p, 2 })
	}
	b.step(class("1", job.Low), class("2", job.Normal), class("3", job.High), class("4", job.Normal))
	r := scheduler.Step(
		b.s,
		[]pool.Event{
			pool.Reported{
				At: b.now,
				Report: protocol.Report{
					Pool:  "p",
					VMID:  "a",
					Items: []protocol.ReportItem{{Ready: &protocol.Ready{Name: "a", CPUs: 4, Boot: "1"}}},
				},
			},
		},
		b.now,
		b.timing,
	)
	got := assigned(r)
	if len(got) != 2 || got["3"] == 0 || got["2"] == 0 || got["3"] > got["2"] {
		t.Errorf("got %v, want job 3 and then job 2", got)
	}
}

// A job that fits nowhere now is not overtaken by a smaller one after it.
func TestNoOvertaking(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(s *pool.Spec) { s.Nodes.Max = 1 })
	b.node("a")
	b.step(submission("1", func(s *job.Spec) { s.Resources.CPUs = 2 }))
	got := assigned(b.step(submission("2", func(s *job.Spec) { s.Resources.CPUs = 4 }), submission("3", nil)))
	if len(got) != 0 {
		t.Errorf("got %v, want nothing placed", got)
	}
}

func TestJobLargerThanANode(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	r := b.step(submission("1", func(s *job.Spec) { s.Resources.CPUs = 5 }))
	if len(r.Refused) != 1 || r.Refused[0].Err.Field != "resources.cpus" || b.s.Jobs.Len() != 0 {
		t.Errorf("got %+v", r.Refused)
	}
}

func TestIdleNodesLeaveByName(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(s *pool.Spec) { s.Nodes.Min = 1 })
	b.node("a")
	b.node("b")
	b.now = b.now.Add(29 * time.Second)
	if r := b.step(pool.Tick{}); len(r.Effects.Remove) != 0 {
		t.Errorf("before the idle time: %d nodes leave", len(r.Effects.Remove))
	}
	b.now = b.now.Add(time.Second)
	r := b.step(pool.Tick{})
	if len(r.Effects.Remove) != 1 || r.Effects.Remove[0].InstanceID != "id-a" {
		t.Errorf("got %+v, want one node, by name; one stays as the least", r.Effects.Remove)
	}
}

// What Azure refuses keeps the pool from asking for a while, and says why.
func TestRefusedCapacity(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.step(submission("1", nil))
	b.step(pool.Answered{Kind: pool.OpGrow, Err: fault.New(fault.NoQuota, "", "no quota")})
	if b.s.Head.Sets[0].Blocked.Code != string(fault.NoQuota) || b.s.Head.Sets[0].Blocked.Message != "no quota" {
		t.Errorf("got %+v", b.s.Head.Sets[0].Blocked)
	}
	b.now = b.now.Add(5 * time.Minute)
	if r := b.step(pool.Tick{}); grown(r) != 0 {
		t.Error("asked again within the time")
	}
	b.now = b.now.Add(6 * time.Minute)
	if r := b.step(pool.Tick{}); grown(r) != 1 {
		t.Errorf("after the time: got %d, want 1", grown(r))
	}
}

// A grow that was accepted and then failed leaves a capacity that never comes:
// it is asked for again after a while, or written down when nobody needs it.
func TestAcceptedCapacityThatNeverComes(t *testing.T) {
	t.Parallel()
	for _, wanted := range []bool{true, false} {
		b := newBench(t, nil)
		b.step(submission("1", nil))
		b.step(pool.Answered{Kind: pool.OpGrow, Token: "token"})
		b.step(pool.Answered{Kind: pool.OpGrow, Err: fault.New(fault.NoCapacity, "", "no room")})
		b.step(pool.Listed{Exists: true, Capacity: 1})
		if b.s.Head.Sets[0].Op.Kind != "" {
			t.Fatalf("wanted %v: asked for %+v at once", wanted, b.s.Head.Sets[0].Op)
		}
		b.now = b.now.Add(11 * time.Minute)
		if !wanted {
			b.step(pool.Cancel{Order: "1", Reason: "not needed"})
		}
		r := b.step(pool.Listed{Exists: true, Capacity: 1})
		if (grown(r) == 1) != wanted || settles(r) == wanted {
			t.Errorf("wanted %v: got grow %d, settle %v", wanted, grown(r), settles(r))
		}
		if !wanted {
			b.step(pool.Answered{Kind: pool.OpShrink})
			if r := b.step(pool.Listed{Exists: true}); settles(r) || b.s.Head.Sets[0].Capacity != 0 {
				t.Errorf("settled: got %+v", b.s.Head)
			}
		}
	}
}

func TestSilence(t *testing.T) {
	t.Parallel()
	later := monday.Add(4 * time.Minute)
	tests := []struct {
		name   string
		silent []string
		speaks []string
		want   int
	}{
		{"one of three", []string{"a"}, []string{"b", "c"}, 1},
		{"the only one", []string{"a"}, nil, 1},
		{"half of the pool", []string{"a", "b"}, []string{"c"}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, func(s *pool.Spec) { s.Nodes.Min = 3; s.IdleTimeout = job.Duration(time.Hour) })
			for _, n := range append(append([]string{}, tt.silent...), tt.speaks...) {
				b.node(n)
			}
			b.now = later
			for _, n := range tt.speaks {
				b.step(
					pool.Reported{
						At:     later,
						Report: protocol.Report{Pool: "p", VMID: n, Items: []protocol.ReportItem{{Holds: &protocol.Holds{}}}},
					},
				)
			}
			if got := b.step(pool.Tick{At: later}).Effects.Fence; len(got) != tt.want {
				t.Errorf("sessions to be tried: got %v, want %d", got, tt.want)
			}
		})
	}
}

// A silent node whose session was taken is lost: its VM is deleted, and its job
// is placed again only when the VM is gone. What it says later is not heard.
func TestLostNode(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.node("a")
	n := assigned(b.step(submission("1", func(s *job.Spec) { s.Retry = job.Retry{Max: 1} })))["1"]
	b.now = b.now.Add(b.timing.MissingFor) // no list is older than the node
	r := b.step(pool.Fenced{VMID: "a", Taken: true})
	if len(r.Effects.Remove) != 1 || b.s.Jobs.Get("1").State != job.Assigned {
		t.Fatalf("got %+v, job %s", r.Effects.Remove, b.s.Jobs.Get("1").State)
	}
	late := pool.Reported{
		At: b.now,
		Report: protocol.Report{
			Pool:  "p",
			VMID:  "a",
			Seen:  n,
			Items: []protocol.ReportItem{{Finished: &protocol.Finished{N: n, State: "succeeded"}}},
		},
	}
	if r := b.step(late); len(r.Effects.Work["a"]) != 1 || r.Effects.Work["a"][0].Stop == "" || b.s.Jobs.Get("1") == nil {
		t.Errorf("a lost node's word: got %+v", r.Effects.Work)
	}
	b.step(pool.Listed{Exists: true})
	j := b.s.Jobs.Get("1")
	if j.State != job.Queued || j.Retries != 0 || j.Attempts[0].State != job.AttemptNodeLost || b.s.Nodes["a"].State != pool.NodeGone {
		t.Errorf("got %+v", j)
	}
}

// A listing that was not made says nothing, and one that lacks a node is not
// believed at once.
func TestMissingNode(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.node("a")
	b.step(pool.Listed{Exists: true})
	if b.s.Nodes["a"].State == pool.NodeGone {
		t.Fatal("gone after one listing")
	}
	b.now = b.now.Add(b.timing.MissingFor)
	b.step(pool.Listed{Exists: true})
	if b.s.Nodes["a"].State != pool.NodeGone {
		t.Errorf("after the second listing: %s", b.s.Nodes["a"].State)
	}
}

func TestSchedule(t *testing.T) {
	t.Parallel()
	for _, onRunning := range []string{"wait", "requeue", "kill"} {
		t.Run(onRunning, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, func(s *pool.Spec) {
				s.Schedule = &pool.Schedule{DownAt: "20:00", UpAt: "07:00", TimeZone: "UTC", OnRunning: onRunning}
				s.IdleTimeout = job.Duration(24 * time.Hour)
			})
			b.node("a")
			b.node("b")
			b.step(submission("1", nil))
			b.now = monday.Add(11*time.Hour + time.Minute) // 20:01
			r := b.step(pool.Tick{}, submission("2", nil))
			cancels := 0
			for _, items := range r.Effects.Work {
				for _, item := range items {
					if item.Cancel != nil {
						cancels++
					}
				}
			}
			if want := map[string]int{"wait": 0, "requeue": 1, "kill": 1}[onRunning]; cancels != want {
				t.Errorf("cancels: got %d, want %d", cancels, want)
			}
			if len(r.Effects.Remove) != 1 || grown(r) != 0 {
				t.Errorf(
					"got %d nodes removed and capacity %d asked for; the idle one leaves, nothing comes",
					len(r.Effects.Remove),
					grown(r),
				)
			}
			if j := b.s.Jobs.Get("2"); j.State != job.Held || j.Reason != "the pool is down by its schedule until 2026-03-03T07:00:00Z" {
				t.Errorf("a job that comes meanwhile: %s %q", j.State, j.Reason)
			}
			b.now = monday.Add(22*time.Hour + time.Minute) // 07:01
			if r := b.step(pool.Tick{}); len(assigned(r)) == 0 && grown(r) == 0 {
				t.Error("in the morning nothing is done for the held job")
			}
		})
	}
}

func BenchmarkStep1000Jobs(b *testing.B) {
	for range b.N {
		s := scheduler.NewState(pool.Head{}, nil, nil, monday)
		events := []pool.Event{pool.Apply{Spec: spec()}}
		for i := range 1000 {
			events = append(events, submission(fmt.Sprintf("%04d", i), nil))
		}
		for more := true; more; {
			r := scheduler.Step(s, events, monday, scheduler.DefaultTiming)
			s.Head.Seq++
			events, more = r.Rest, r.More
		}
	}
}

// grown is the capacity that a step asks for of all sets.
func grown(r scheduler.Result) int {
	n := 0
	for _, c := range r.Effects.Sets {
		n += c.Grow
	}
	return n
}

// calls finds a set of which a step wants something.
func calls(r scheduler.Result, want func(*pool.SetCalls) bool) bool {
	for _, c := range r.Effects.Sets {
		if want(c) {
			return true
		}
	}
	return false
}

func settles(r scheduler.Result) bool {
	return calls(r, func(c *pool.SetCalls) bool { return c.Shrink })
}

// A node without work hears from its pool once an hour, and only then.
func TestIdleNodesHearFromThePool(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(s *pool.Spec) { s.Nodes.Min = 1 })
	b.node("a")
	words := func() int {
		n := 0
		for _, item := range b.step(pool.Reported{At: b.now, Report: protocol.Report{Pool: "p", VMID: "a", Items: []protocol.ReportItem{{Holds: &protocol.Holds{}}}}}).Effects.Work["a"] {
			if item.Here {
				n++
			}
		}
		return n
	}
	for _, tt := range []struct{ minutes, want int }{{0, 1}, {1, 0}, {58, 0}, {1, 1}, {1, 0}} {
		b.now = b.now.Add(time.Duration(tt.minutes) * time.Minute)
		if got := words(); got != tt.want {
			t.Errorf("at %s: %d words, want %d", b.now.Format(time.TimeOnly), got, tt.want)
		}
	}
}
