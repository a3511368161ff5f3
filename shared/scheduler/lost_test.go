package scheduler_test

import (
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/scheduler"
)

// says has a node's agent report, some time from now.
func (b *bench) says(at time.Time, seen int64, items ...protocol.ReportItem) scheduler.Result {
	b.t.Helper()
	return b.step(pool.Reported{At: at, Report: protocol.Report{Pool: "p", VMID: "a", Seen: seen, Items: items}})
}

func up(boot string, asks bool) protocol.ReportItem {
	return protocol.ReportItem{Ready: &protocol.Ready{Name: "a", CPUs: 4, Boot: boot, Counter: asks}}
}

func has(lost int64, n ...int64) protocol.ReportItem {
	return protocol.ReportItem{Holds: &protocol.Holds{N: n, Lost: lost}}
}

func runs(n int64) protocol.ReportItem {
	return protocol.ReportItem{Started: &protocol.Started{N: n, At: monday}}
}

// counters lists the counters that a step sends to the node.
func counters(r scheduler.Result) (list []protocol.Counter) {
	for _, i := range r.Effects.Work["a"] {
		if i.Counter != nil {
			list = append(list, *i.Counter)
		}
	}
	return list
}

// TestCounter: who asks is answered, and who comes up again with less than it had.
// A word of an earlier start that comes late, or a copy, proves nothing.
func TestCounter(t *testing.T) {
	t.Parallel()
	later := func(seconds int) time.Time { return monday.Add(time.Duration(seconds) * time.Second) }
	for name, tt := range map[string]struct {
		say  func(*bench, int64) scheduler.Result // at the end, when attempt n runs since boot 2
		want string                               // boot of the counter; "" = none is sent
	}{
		"a new start that asks":                 {func(b *bench, n int64) scheduler.Result { return b.says(later(20), 0, up("3", true), has(0)) }, "3"},
		"a start that has seen less":            {func(b *bench, n int64) scheduler.Result { return b.says(later(20), n-1, up("3", false), has(0)) }, "3"},
		"a start that has seen as much":         {func(b *bench, n int64) scheduler.Result { return b.says(later(20), n, up("3", false), has(0, n)) }, ""},
		"a copy of this start's first word":     {func(b *bench, n int64) scheduler.Result { return b.says(later(10), 0, up("2", false), has(0)) }, ""},
		"the first word of an earlier start":    {func(b *bench, n int64) scheduler.Result { return b.says(later(0), 0, up("1", false), has(0)) }, ""},
		"an earlier start that asked":           {func(b *bench, n int64) scheduler.Result { return b.says(later(0), 0, up("1", true), has(0)) }, ""},
		"a report that says nothing of a start": {func(b *bench, n int64) scheduler.Result { return b.says(later(20), 0, has(0)) }, ""},
		"the row does not know the number, the job does": {func(b *bench, n int64) scheduler.Result {
			b.s.Nodes["a"].Seen = 0
			return b.says(later(20), n-1, up("3", false), has(0))
		}, "3"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, nil)
			b.step(submission("1", nil))
			b.says(later(0), 0, up("1", false), has(0))
			b.list()
			b.says(later(10), 0, up("2", false), has(0))
			n := b.s.Jobs.Get("1").N
			b.says(later(11), n, runs(n))
			b.now = later(20)
			got := counters(tt.say(b, n))
			switch {
			case tt.want == "" && len(got) > 0:
				t.Errorf("got %+v, want none", got)
			case tt.want != "" && (len(got) != 1 || got[0].Boot != tt.want || got[0].N != b.s.Head.N):
				t.Errorf("got %+v, want %d for start %s", got, b.s.Head.N, tt.want)
			}
			// The attempt goes on until the agent has answered.
			if j := b.s.Jobs.Get("1"); j.State != job.Running || j.N != n {
				t.Errorf("the job is %s under %d", j.State, j.N)
			}
		})
	}
}

// TestLostJournalIsConcluded: with the counter taken, what the agent does not list
// has ended, with its cause; what it still has goes on.
func TestLostJournalIsConcluded(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		begun, held bool
		lost        bool // the agent says so
		want        job.AttemptState
	}{
		"ran":                         {true, false, true, job.AttemptAgentRestarted},
		"may have run":                {false, false, true, job.AttemptAgentRestarted},
		"ran, and nobody said so":     {true, false, false, job.AttemptAgentRestarted},
		"never came":                  {false, false, false, ""},
		"is there, and runs":          {true, true, true, job.AttemptRunning},
		"is there, and did not begin": {false, true, true, job.AttemptAssigned},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, nil)
			b.step(submission("1", func(s *job.Spec) { s.Retry = job.Retry{Max: 1, Backoff: job.Duration(time.Hour)} }))
			b.node("a")
			j := b.s.Jobs.Get("1")
			n := j.N
			if tt.begun {
				b.says(b.now, n, runs(n))
			}
			items := has(0)
			if tt.lost {
				items.Holds.Lost = n
			}
			if tt.held {
				items.Holds.N = []int64{n}
			}
			b.says(b.now, n, items)
			first := job.AttemptState("")
			if len(j.Attempts) > 0 && (tt.want == "" || j.Attempts[0].State == tt.want) {
				first = j.Attempts[0].State
			}
			if tt.want == "" {
				if j.VMID != "" && j.N == n {
					t.Errorf("the job is still under %d", n)
				}
				return
			}
			if first != tt.want {
				t.Fatalf("got %+v, want %s", j.Attempts, tt.want)
			}
			if tt.want == job.AttemptAgentRestarted &&
				(j.Attempts[0].ExitCode != job.ExitAgentRestarted || !strings.Contains(j.Attempts[0].Reason, "journal")) {
				t.Errorf("got %+v", j.Attempts[0])
			}
			if tt.held && j.N != n {
				t.Errorf("it was taken away: number %d", j.N)
			}
		})
	}
}

// TestAssignmentThatNeverArrived: an assignment was committed and its message lost, and the
// agent starts again meanwhile. It has lost nothing: it gets the assignment once more, under
// its number, and nobody pays for the restart.
func TestAssignmentThatNeverArrived(t *testing.T) {
	t.Parallel()
	later := func(seconds int) time.Time { return monday.Add(time.Duration(seconds) * time.Second) }
	b := newBench(t, nil)
	b.step(submission("1", nil))
	b.says(later(0), 0, up("1", false), has(0))
	n := b.s.Jobs.Get("1").N
	b.now = later(20)
	for _, boot := range []string{"2", "2", "3"} { // its first word comes twice, and it starts once more
		r := b.says(b.now, 0, up(boot, false), has(0))
		if got := counters(r); len(got) > 0 {
			t.Errorf("start %s: got the counters %+v, as if its journal were lost", boot, got)
		}
		sent := 0
		for _, i := range r.Effects.Work["a"] {
			if i.Assign != nil && i.N == n {
				sent++
			}
		}
		if sent != 1 {
			t.Errorf("start %s: the assignment was sent %d times", boot, sent)
		}
		if j := b.s.Jobs.Get("1"); j.State != job.Assigned || j.N != n || j.Retries != 0 || len(j.Attempts) != 1 {
			t.Errorf("start %s: the job is %s under %d: %+v", boot, j.State, j.N, j.Attempts)
		}
	}
	b.says(b.now, n, runs(n))
	if j, node := b.s.Jobs.Get("1"), b.s.Nodes["a"]; j.State != job.Running || j.N != n || node.Breaks != 0 {
		t.Errorf("in the end the job is %s under %d, the node has %d breaks", j.State, j.N, node.Breaks)
	}
}

// TestLostJournalBeforeTheCounter: an agent whose journal is lost lists nothing. As long as
// it has not taken the counter, a copy of the assignment may still be on its way to it and
// run: nothing is concluded, however often it says so, and the counter is sent each time
// that it asks.
func TestLostJournalBeforeTheCounter(t *testing.T) {
	t.Parallel()
	later := func(seconds int) time.Time { return monday.Add(time.Duration(seconds) * time.Second) }
	b := newBench(t, nil)
	b.step(submission("1", nil))
	b.says(later(0), 0, up("1", false), has(0))
	n := b.s.Jobs.Get("1").N
	b.says(later(1), n, runs(n))
	for i := range 3 { // the answer is lost twice
		b.now = later(20 + 10*i)
		r := b.says(b.now, 0, up("2", true), has(0))
		if got := counters(r); len(got) != 1 || got[0].Boot != "2" || got[0].N < n {
			t.Errorf("question %d: got %+v, want the counter", i, got)
		}
		if j := b.s.Jobs.Get("1"); j.State != job.Running || j.N != n {
			t.Fatalf("question %d: the job is %s under %d, and its old assignment may run yet", i, j.State, j.N)
		}
	}
	taken := b.s.Head.N
	b.now = later(60)
	b.says(b.now, taken, has(taken))
	j := b.s.Jobs.Get("1")
	if len(j.Attempts) != 2 || j.Attempts[0].State != job.AttemptAgentRestarted || j.N <= taken {
		t.Errorf("with the counter: the job is %s under %d, the counter was %d: %+v", j.State, j.N, taken, j.Attempts)
	}
}

// TestAskedBack: what does not begin is asked back from a node that reports, placed
// again when it has answered and not before, and a node that never answers goes.
func TestAskedBack(t *testing.T) {
	t.Parallel()
	begin := func(t *testing.T) (*bench, int64) {
		b := newBench(t, nil)
		b.step(submission("1", nil))
		b.node("a")
		return b, b.s.Jobs.Get("1").N
	}
	// pass lets time pass in which the node reports.
	pass := func(b *bench, d time.Duration, n int64) (r scheduler.Result) {
		for range d / time.Minute {
			b.now = b.now.Add(time.Minute)
			b.says(b.now, n, has(0, n))
			r = b.step(pool.Tick{At: b.now})
		}
		return r
	}
	asked := func(r scheduler.Result, n int64) bool {
		for _, i := range r.Effects.Work["a"] {
			if i.Cancel != nil && i.Cancel.Target == n {
				return true
			}
		}
		return false
	}
	t.Run("in time", func(t *testing.T) {
		t.Parallel()
		b, n := begin(t)
		if r := pass(b, 4*time.Minute, n); asked(r, n) {
			t.Error("asked back too early")
		}
		b.says(b.now, n, runs(n))
		if r := pass(b, 10*time.Minute, n); asked(r, n) || b.s.Jobs.Get("1").State != job.Running {
			t.Error("asked back though it runs")
		}
	})
	t.Run("answered", func(t *testing.T) {
		t.Parallel()
		b, n := begin(t)
		r := pass(b, 5*time.Minute, n)
		j := b.s.Jobs.Get("1")
		if !asked(r, n) || j.N != n || j.State != job.Assigned {
			t.Fatalf("asked: %v; the job is %s under %d", asked(r, n), j.State, j.N)
		}
		e, _ := scheduler.Explain(b.s, "1", b.now, b.timing)
		if !strings.Contains(e.Reason, "asked to give it back") || !strings.Contains(e.Unblocks, "deleted") {
			t.Errorf("explained as %+v", e)
		}
		b.says(
			b.now,
			n,
			protocol.ReportItem{Finished: &protocol.Finished{N: n, State: "cancelled", ExitCode: job.ExitCancelled, EndedAt: b.now}},
		)
		if j.N == n || j.Retries != 0 || j.State.Final() {
			t.Errorf("the job is %s under %d after %d retries", j.State, j.N, j.Retries)
		}
	})
	t.Run("it began after all", func(t *testing.T) {
		t.Parallel()
		b, n := begin(t)
		pass(b, 5*time.Minute, n)
		j := b.s.Jobs.Get("1")
		b.says(b.now, n, protocol.ReportItem{Finished: &protocol.Finished{N: n, State: "succeeded", StartedAt: b.now, EndedAt: b.now}})
		if j.State != job.Succeeded {
			t.Errorf("the job is %s", j.State)
		}
	})
	t.Run("never answered", func(t *testing.T) {
		t.Parallel()
		b, n := begin(t)
		pass(b, 9*time.Minute, n)
		if s := b.s.Nodes["a"].State; s != pool.NodeBusy {
			t.Errorf("the node is %s", s)
		}
		pass(b, time.Minute, n)
		node, j := b.s.Nodes["a"], b.s.Jobs.Get("1")
		if node.State != pool.NodeFailed || j.N != n {
			t.Fatalf("the node is %s (%s), the job under %d", node.State, node.Reason, j.N)
		}
		b.step(pool.Listed{Exists: true}) // its VM is gone
		if j.VMID == "a" || j.State.Final() || j.Retries != 0 {
			t.Errorf("the job is %s on %q after %d retries", j.State, j.VMID, j.Retries)
		}
	})
	t.Run("other work goes on", func(t *testing.T) {
		t.Parallel()
		b, n := begin(t)
		b.step(submission("2", nil))
		other := b.s.Jobs.Get("2").N
		b.says(b.now, other, runs(other))
		for range 15 {
			b.now = b.now.Add(time.Minute)
			b.says(b.now, other, has(0, n, other))
			b.step(pool.Tick{At: b.now})
		}
		if s := b.s.Nodes["a"].State; s != pool.NodeDraining || b.s.Jobs.Get("2").State != job.Running {
			t.Errorf("the node is %s, the other job %s", s, b.s.Jobs.Get("2").State)
		}
		b.says(
			b.now,
			other,
			protocol.ReportItem{Finished: &protocol.Finished{N: other, State: "succeeded", StartedAt: b.now, EndedAt: b.now}},
		)
		b.step(pool.Tick{At: b.now})
		if s := b.s.Nodes["a"].State; s != pool.NodeFailed {
			t.Errorf("alone with what is stuck, the node is %s", s)
		}
	})
	t.Run("a node that is silent", func(t *testing.T) {
		t.Parallel()
		b, n := begin(t)
		b.now = b.now.Add(20 * time.Minute)
		if r := b.step(pool.Tick{}); asked(r, n) || b.s.Jobs.Get("1").Requeue {
			t.Error("asked back, though what it has said may be behind in the queue")
		}
	})
}

// TestLostJournalIsOneEvent: the start that finds the journal lost, what the agent
// itself says has ended, and all that it does not know any more, are one event; a
// first start has no journal to lose.
func TestLostJournalIsOneEvent(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		boot  string // of the start that asks; "1" = the first
		begun bool   // an attempt had, as the pool has heard
		ended bool   // the agent says of one that it has ended
		want  int
	}{
		"another start":                    {"2", false, true, 1},
		"another start, one had begun":     {"2", true, false, 1},
		"another start, nothing had begun": {"2", false, false, 0},
		"the first start":                  {"1", false, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, func(s *pool.Spec) { s.Nodes.Max, s.IdleTimeout = 3, job.Duration(time.Hour) })
			for _, vmid := range []string{"a", "b", "c"} {
				b.node(vmid)
			}
			var events []pool.Event
			for i := range 12 {
				events = append(events, submission(order(i), nil))
			}
			b.settle(events...)
			var on []*pool.Job
			for i := range 12 {
				if j := b.s.Jobs.Get(order(i)); j.VMID == "a" {
					on = append(on, j.Job)
				}
			}
			if len(on) < 3 {
				t.Fatalf("%d jobs are on the node", len(on))
			}
			if tt.begun {
				b.says(b.now, on[0].N, protocol.ReportItem{Started: &protocol.Started{N: on[0].N, At: b.now}})
			}
			items := []protocol.ReportItem{up(tt.boot, true)}
			if tt.ended {
				items = append(
					items,
					protocol.ReportItem{
						Finished: &protocol.Finished{
							N:        on[0].N,
							State:    string(job.AttemptAgentRestarted),
							ExitCode: job.ExitAgentRestarted,
							EndedAt:  b.now,
						},
					},
				)
			}
			n := b.s.Head.N
			b.says(b.now, 0, items...)
			b.says(b.now, n, has(n))
			for _, j := range on {
				a := j.Attempts[0]
				if a.State != job.AttemptAgentRestarted || j.Retries != 0 || j.State.Final() {
					t.Errorf("job %s is %s after %d retries: %+v", j.ID, j.State, j.Retries, a)
				}
			}
			if got := b.s.Nodes["a"]; got.Breaks != tt.want {
				t.Errorf("got %d breaks, want %d: %+v", got.Breaks, tt.want, got.Blames)
			}
		})
	}
}

// TestAskedBackIsTheNodes: a node that has seen an attempt and does not begin it is to
// blame; one that it has not seen was held up elsewhere.
func TestAskedBackIsTheNodes(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		seen int64 // less than the attempt's number
		want int
	}{"seen": {0, 1}, "not seen": {1, 0}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, nil)
			b.step(submission("1", nil))
			b.node("a")
			n := b.s.Jobs.Get("1").N
			for range 5 {
				b.now = b.now.Add(time.Minute)
				b.says(b.now, n-tt.seen, has(0, n))
				b.step(pool.Tick{At: b.now})
			}
			if !b.s.Jobs.Get("1").Requeue {
				t.Fatal("it was not asked back")
			}
			if got := b.s.Nodes["a"]; got.Breaks != tt.want {
				t.Errorf("got %d breaks, want %d: %+v", got.Breaks, tt.want, got.Blames)
			}
		})
	}
}
