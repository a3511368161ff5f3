package scheduler_test

import (
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/scheduler"
)

// people makes a pool interactive: two sessions fit on a node.
func people(change func(*pool.Spec)) func(*pool.Spec) {
	return func(s *pool.Spec) {
		s.Kind = pool.KindInteractive
		s.Sessions = &pool.Sessions{Resources: job.Resources{CPUs: 2}, IdleAfter: job.Duration(time.Hour),
			Warning: job.Duration(15 * time.Minute), MaxAge: job.Duration(24 * time.Hour), Home: "local", Jupyter: "lab"}
		if change != nil {
			change(s)
		}
	}
}

func open(order, owner string) pool.Open {
	return pool.Open{Order: order, ID: order, Spec: job.Spec{User: owner, Team: "vision"}, Session: pool.Session{Owner: "id-" + owner, UID: 200001}}
}

// host brings a node up whose agent knows sessions.
func (b *bench) host(vmid string) {
	b.t.Helper()
	b.ready(vmid, "1", protocol.FeatureSession)
	b.list()
}

// session is the live session of an owner.
func (b *bench) session(owner string) *pool.Job {
	b.t.Helper()
	j := b.s.SessionOf("id-" + owner)
	if j == nil {
		b.t.Fatalf("%s has no live session", owner)
	}
	return j
}

// enters has the node of a session report that it is ready.
func (b *bench) enters(owner string) *pool.Job {
	b.t.Helper()
	j := b.session(owner)
	b.reports(j.VMID, protocol.ReportItem{Started: &protocol.Started{N: j.N, At: b.now}})
	return j
}

// votes has the node of a session report how long it is idle.
func (b *bench) votes(owner string, idle time.Duration, change func(*protocol.SessionState)) scheduler.Result {
	b.t.Helper()
	j := b.session(owner)
	st := protocol.SessionState{N: j.N, Idle: int64(idle / time.Second), Warned: j.Session.WarnN}
	if change != nil {
		change(&st)
	}
	return b.reports(j.VMID, protocol.ReportItem{Session: &st})
}

// warnings are the warnings that a step has sent.
func warnings(r scheduler.Result) (all []protocol.WorkItem) {
	for _, items := range r.Effects.Work {
		for _, item := range items {
			if item.Warn != nil {
				all = append(all, item)
			}
		}
	}
	return all
}

func TestSessionsAreOpenedOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t, people(nil))
	if r := b.step(open("01", "ann")); r.Effects.Sets == nil {
		t.Fatal("no node was asked for")
	}
	b.step(open("02", "ann"), open("01", "ann"))
	b.step(open("03", "bob"))
	if b.s.Jobs.Len() != 2 || b.session("ann").Order != "01" {
		t.Fatalf("got %d sessions", b.s.Jobs.Len())
	}
	b.node("old")
	if ann := b.session("ann"); ann.State != job.Queued {
		t.Fatalf("an agent that knows no sessions got one: %s", ann.State)
	}
	if e := b.explain("01"); !strings.Contains(e.Reason, "can let people in") {
		t.Errorf("got %s", e.Reason)
	}
	b.host("new")
	ann, bob := b.enters("ann"), b.enters("bob")
	if ann.VMID != "new" || bob.VMID != "new" || ann.State != job.Running || ann.Session.ReadyAt.IsZero() {
		t.Fatalf("got %s on %s and %s on %s", ann.State, ann.VMID, bob.State, bob.VMID)
	}
	if n := b.s.Nodes["new"]; n.Slot != 1 || n.Entity("p") != "p-1" {
		t.Errorf("the node's slot is %d", n.Slot)
	}
	b.step(pool.Cancel{Order: "01", Reason: job.CancelledByRequest})
	b.step(open("04", "ann")) // it is being ended, and lives
	if b.session("ann").Order != "01" {
		t.Fatal("she has two")
	}
	r := b.reports("new", protocol.ReportItem{Finished: &protocol.Finished{N: ann.N, State: "cancelled", EndedAt: b.now}})
	if j := endedJob(r); j == nil || j.Session.EndsBy != pool.EndUser || j.State != job.Cancelled {
		t.Fatalf("got %+v", j)
	}
	b.step(open("04", "ann"))
	if b.session("ann").Order != "04" {
		t.Fatal("she has no new one")
	}
}

func TestSessionsThatAreRefused(t *testing.T) {
	t.Parallel()
	zero := 0
	for _, c := range []struct {
		name   string
		change func(*pool.Spec)
		event  pool.Event
		want   string
	}{
		{"in a batch pool", nil, open("01", "ann"), `pool "p" runs jobs, and nobody logs on`},
		{"of nobody", people(nil), pool.Open{Order: "01", ID: "01"}, "the session has no owner"},
		{"a job", people(nil), submission("01", nil), `pool "p" is for people, and takes no jobs`},
		{"above the limit", people(func(s *pool.Spec) { s.Limits.Default.Jobs = &zero }), open("01", "ann"), "never let team"},
	} {
		b := newBench(t, c.change)
		r := b.step(c.event)
		if len(r.Refused) != 1 || !strings.Contains(r.Refused[0].Err.Message, c.want) || r.Refused[0].Err.Code == fault.Conflict {
			t.Errorf("%s: got %+v", c.name, r.Refused)
		}
	}
}

func TestIdleSessionsEndAfterAWarning(t *testing.T) {
	t.Parallel()
	b := newBench(t, people(nil))
	b.host("vm")
	b.step(open("01", "ann"))
	ann := b.enters("ann")
	at := func(d time.Duration) { b.now = monday.Add(d) }
	tick := func() { b.step(pool.Tick{At: b.now}) }
	untold := func(s *protocol.SessionState) { s.Warned = 0 }

	at(61 * time.Minute)
	r := b.votes("ann", time.Hour, nil)
	if w := warnings(r); len(w) != 1 || w[0].Warn.EndsIn != 15*60 || w[0].N != ann.Session.WarnN || w[0].Warn.Target != ann.N {
		t.Fatalf("got %+v", w)
	}
	at(65 * time.Minute)
	if r = b.votes("ann", time.Minute, nil); len(warnings(r)) != 1 || !ann.Session.EndsAt.IsZero() {
		t.Fatalf("she has typed something, and is still warned: %+v", ann.Session)
	}
	at(3 * time.Hour)
	b.votes("ann", time.Hour, nil)
	at(3*time.Hour + 20*time.Minute)
	if b.votes("ann", 80*time.Minute, untold); ann.Cancel != "" {
		t.Fatal("it has ended without a tick in between")
	}
	tick()
	if b.votes("ann", 80*time.Minute, untold); ann.Cancel != "" {
		t.Fatal("it has ended by a report that is no younger than the tick")
	}
	at(3*time.Hour + 21*time.Minute)
	if b.votes("ann", 81*time.Minute, untold); ann.Cancel != "" {
		t.Fatal("it has ended, and its people were never told")
	}
	if b.votes("ann", 81*time.Minute, nil); ann.Cancel == "" || ann.Session.EndsBy != pool.EndIdle {
		t.Fatalf("it goes on: %+v", ann.Session)
	}
	if want := "nobody had used it for 1h21m"; ann.Cancel != want {
		t.Errorf("got %s, want %s", ann.Cancel, want)
	}
}

func TestSilentAndUnknownSessionsGoOn(t *testing.T) {
	t.Parallel()
	b := newBench(t, people(func(s *pool.Spec) { s.Sessions.MaxAge = 0 }))
	b.host("vm")
	b.step(open("01", "ann"))
	ann := b.enters("ann")
	unknown := func(s *protocol.SessionState) { s.Unknown = true }
	for range 24 {
		b.now = b.now.Add(time.Hour)
		if b.votes("ann", b.now.Sub(monday), unknown); !ann.Session.EndsAt.IsZero() {
			t.Fatalf("warned after %s", b.now.Sub(monday))
		}
	}
	b.now = b.now.Add(2 * time.Hour)
	if b.votes("ann", b.now.Sub(monday), unknown); ann.Session.EndsAt.IsZero() {
		t.Fatal("a voter that finds nothing out keeps it for more than a day")
	}
	for range 10 { // nobody hears of it any more
		b.now = b.now.Add(time.Hour)
		b.step(pool.Tick{At: b.now})
	}
	if ann.Cancel != "" {
		t.Fatalf("silence has ended it: %s", ann.Cancel)
	}
}

func TestAKeptSessionGoesOn(t *testing.T) {
	t.Parallel()
	b := newBench(t, people(nil))
	b.host("vm")
	b.step(open("01", "ann"))
	ann := b.enters("ann")
	b.now = monday.Add(61 * time.Minute)
	b.votes("ann", time.Hour, nil)
	r := b.step(pool.Extend{Order: "01", Until: b.now.Add(8 * time.Hour)})
	if w := warnings(r); len(w) != 1 || w[0].Warn.EndsIn != 0 || ann.Session.EndsBy != "" {
		t.Fatalf("got %+v, %+v", w, ann.Session)
	}
	until := ann.Session.KeepTill
	b.step(pool.Extend{Order: "01", Until: b.now.Add(time.Hour)}) // does not take back what was said
	if !ann.Session.KeepTill.Equal(until) {
		t.Errorf("it is kept until %s, want %s", ann.Session.KeepTill, until)
	}
	b.now = until.Add(59 * time.Minute)
	if r = b.votes("ann", 9*time.Hour, nil); len(warnings(r)) > 0 {
		t.Fatal("warned before it was idle for an hour after it was kept")
	}
	b.now = until.Add(time.Hour)
	if r = b.votes("ann", 10*time.Hour, nil); len(warnings(r)) != 1 {
		t.Fatal("not warned")
	}
	b.step(pool.Extend{Order: "01", Until: monday.Add(400 * time.Hour)})
	if want := ann.Session.ReadyAt.Add(24*time.Hour + 15*time.Minute); !ann.Session.KeepTill.Equal(want) {
		t.Errorf("kept until %s, want %s: its greatest age", ann.Session.KeepTill, want)
	}
}

func TestSessionsAreNoOlderThanTheirPoolAllows(t *testing.T) {
	t.Parallel()
	b := newBench(t, people(nil))
	b.host("vm")
	b.step(open("01", "ann"))
	ann := b.enters("ann")
	if b.s.Head.WakeAt.IsZero() {
		t.Fatal("nobody wakes the pool")
	}
	b.now = monday.Add(24 * time.Hour)
	if w := warnings(b.step(pool.Tick{At: b.now})); len(w) != 1 || ann.Session.EndsBy != pool.EndMaxAge {
		t.Fatalf("got %+v", w)
	}
	b.votes("ann", 0, nil) // no veto
	b.now = b.now.Add(15 * time.Minute)
	if b.step(pool.Tick{At: b.now}); ann.Cancel == "" || ann.Session.EndsBy != pool.EndMaxAge {
		t.Fatalf("it goes on: %+v", ann.Session)
	}
}

func TestSessionsAndTheSchedule(t *testing.T) {
	t.Parallel()
	for _, onRunning := range []string{"wait", "kill"} {
		b := newBench(t, people(func(s *pool.Spec) {
			s.Schedule = &pool.Schedule{DownAt: "20:00", UpAt: "07:00", TimeZone: "UTC", OnRunning: onRunning, Grace: job.Duration(10 * time.Minute)}
		}))
		b.host("vm")
		b.step(open("01", "ann"))
		ann := b.enters("ann")
		b.step(pool.Extend{Order: "01", Until: monday.Add(48 * time.Hour)})
		b.now = time.Date(2026, 3, 2, 20, 0, 0, 0, time.UTC)
		w := warnings(b.step(pool.Tick{At: b.now}))
		if onRunning == "wait" {
			if len(w) > 0 || ann.Cancel != "" {
				t.Errorf("wait: got %+v", w)
			}
			continue
		}
		if end := b.now.Add(10 * time.Minute); len(w) != 1 || !ann.Session.EndsAt.Equal(end) || ann.Session.KeepTill.After(end) {
			t.Fatalf("kill: got %+v, %+v", w, ann.Session)
		}
		b.now = b.now.Add(10 * time.Minute)
		if b.step(pool.Tick{At: b.now}); ann.Session.EndsBy != pool.EndSchedule || ann.Cancel == "" {
			t.Errorf("kill: it goes on: %+v", ann.Session)
		}
	}
}

// A warning that nobody says it has comes again, under another number.
func TestLostWarningsComeAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t, people(nil))
	b.host("vm")
	b.step(open("01", "ann"))
	ann := b.enters("ann")
	b.now = monday.Add(61 * time.Minute)
	b.votes("ann", time.Hour, nil)
	first := ann.Session.WarnN
	b.now = b.now.Add(time.Minute)
	if w := warnings(b.step(pool.Tick{At: b.now})); len(w) != 1 || w[0].N <= first || w[0].Warn.EndsIn != 14*60 {
		t.Fatalf("got %+v", w)
	}
	b.votes("ann", 62*time.Minute, nil)
	b.now = b.now.Add(time.Minute)
	if w := warnings(b.step(pool.Tick{At: b.now}, pool.Loaded{})); len(w) != 0 {
		t.Fatalf("it has it, and is told again: %+v", w)
	}
}

func TestWhatEndsWithTheNode(t *testing.T) {
	t.Parallel()
	b := newBench(t, people(nil))
	b.host("vm")
	b.step(open("01", "ann"), open("02", "bob"))
	b.enters("ann")
	bob := b.session("bob")
	b.reports("vm", protocol.ReportItem{Leaving: &protocol.Leaving{Reason: "Azure takes it away"}})
	ann := b.session("ann")
	r := b.reports("vm", protocol.ReportItem{Finished: &protocol.Finished{N: ann.N, State: "evicted", ExitCode: job.ExitEvicted, StartedAt: b.now, EndedAt: b.now}},
		protocol.ReportItem{Finished: &protocol.Finished{N: bob.N, State: "evicted", ExitCode: job.ExitEvicted, EndedAt: b.now}})
	if j := endedJob(r); j == nil || j.Order != "01" || j.Session.EndsBy != pool.EndEvicted || j.State != job.Failed {
		t.Fatalf("got %+v", j)
	}
	if bob := b.session("bob"); bob.State != job.Queued {
		t.Errorf("a session that nobody has used yet is %s", bob.State)
	}
}

// A report that changes nothing for a rule or a person changes no row of the session.
func TestQuietSessionsWriteNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t, people(nil))
	b.host("vm")
	b.step(open("01", "ann"))
	b.enters("ann")
	writes := 0
	for minute := range 60 {
		b.now = monday.Add(time.Duration(minute) * time.Minute)
		r := b.votes("ann", time.Duration(minute)*time.Minute+time.Second, func(s *protocol.SessionState) {
			s.Votes = map[string]string{"cpu": b.now.String()}
		})
		for _, c := range r.Changes {
			if _, ok := c.Value.(*pool.Job); ok {
				writes++
			}
		}
	}
	if writes > 5 {
		t.Errorf("an hour of an idle session has written its row %d times", writes)
	}
}

func TestSpareSlots(t *testing.T) {
	t.Parallel()
	b := newBench(t, people(func(s *pool.Spec) { s.Sessions.Spare = 2 }))
	b.host("a")
	b.now = b.now.Add(time.Hour)
	if b.step(pool.Tick{At: b.now}); b.s.Nodes["a"].State != pool.NodeDeleting {
		t.Fatalf("with nobody there, the spare node is %s", b.s.Nodes["a"].State)
	}
	b.host("b")
	r := b.step(open("01", "ann"))
	if got := r.Effects.Sets["d4s-v5"]; got == nil || got.Grow < 1 {
		t.Fatalf("one slot is free, two are to be: got %+v", got)
	}
	b.host("c")
	b.enters("ann")
	b.now = b.now.Add(time.Hour)
	if b.step(pool.Tick{At: b.now}); b.s.Nodes["c"].State != pool.NodeReady {
		t.Errorf("the node with the spare slots is %s", b.s.Nodes["c"].State)
	}
}

// Two nodes never have the same slot, and one is used again when its VM is gone.
func TestSlotsOfNodes(t *testing.T) {
	t.Parallel()
	b := newBench(t, people(func(s *pool.Spec) { s.Pack = false }))
	b.host("a")
	b.host("b")
	b.step(open("01", "ann"), open("02", "bob"))
	a, other := b.s.Nodes["a"], b.s.Nodes["b"]
	if a.Slot+other.Slot != 3 {
		t.Fatalf("got the slots %d and %d", a.Slot, other.Slot)
	}
	b.step(pool.NodeRequest{VMID: "a", Verb: pool.VerbDelete})
	b.host("c")
	b.step(open("03", "eve"))
	if c := b.s.Nodes["c"]; c.Slot != 3 {
		t.Errorf("a node got the slot %d, and the VM of one that had it may be there still", c.Slot)
	}
}

// Nodes without root or without an SSH server do not name the feature, and are not called old.
// When that is mended and they have left, `resume` has the pool try another one.
func TestNobodyIsLetInWhereAgentsCannot(t *testing.T) {
	t.Parallel()
	b := newBench(t, people(nil))
	b.ready("bare", "1")
	b.step(open("s", "ann"))
	e, _ := scheduler.Explain(b.s, "s", b.now, b.timing)
	if want := "no node of pool \"p\" can let people in: its agent does not run as root, finds no SSH server, or is an older one"; e.Reason != want {
		t.Errorf("got %q, want %q", e.Reason, want)
	}
	if !strings.Contains(e.Unblocks, "openssh-server") {
		t.Errorf("it waits for %q, which names no remedy", e.Unblocks)
	}
	if p := scheduler.ExplainPool(b.s, b.now, b.timing); p.State != "blocked" || p.Unblocks != e.Unblocks {
		t.Errorf("the pool is %s and waits for %q", p.State, p.Unblocks)
	}
	b.s.Nodes["bare"].State = pool.NodeGone
	if r := b.step(); grown(r) > 0 {
		t.Errorf("%d nodes are bought, which would be as the one before", grown(r))
	}
	if r := b.step(pool.Resume{}); grown(r) != 1 {
		t.Errorf("after `resume` the pool grows by %d, want 1", grown(r))
	}
}

// What is said of a session in line counts sessions, and what is said of an open one is what its
// voters say: one that finds nothing out does not hide one that is busy.
func TestSessionsAreExplained(t *testing.T) {
	t.Parallel()
	b := newBench(t, people(nil))
	b.step(open("01", "ann"), open("02", "bob"))
	if e := b.explain("02"); !strings.Contains(e.Reason, "1 session goes before it in line") {
		t.Errorf("in line: %s", e.Reason)
	}
	b.host("vm")
	b.enters("ann")
	unknown := func(s *protocol.SessionState) { s.Unknown = true }
	for idle, want := range map[time.Duration]string{0: "somebody uses it", time.Minute: "a voter cannot find out"} {
		b.votes("ann", idle, unknown)
		if e := b.explain("01"); !strings.Contains(e.Reason, want) {
			t.Errorf("idle for %s: %s", idle, e.Reason)
		}
	}
	if e := b.explain("01"); !strings.HasSuffix(e.Unblocks, "its greatest age, at 2026-03-03T09:00:00Z, and a warning of 15m") {
		t.Errorf("it waits for %s", e.Unblocks)
	}
}
