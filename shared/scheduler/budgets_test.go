package scheduler_test

import (
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/budget"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/scheduler"
)

// spentOf is a standing of which so much of 100 is spent, at the end of whose period is a day off.
func (b *bench) spentOf(scope budget.Scope, spent string, steps ...budget.Step) budget.Standing {
	if len(steps) == 0 {
		steps = []budget.Step{{At: "1", Do: budget.Hold}}
	}
	return budget.Standing{Name: "b", Scope: scope, Amount: "100", Currency: "USD", Period: "March 2026", Until: b.now.Add(24 * time.Hour),
		Steps: steps, Grace: job.Duration(10 * time.Minute), Spent: spent, At: b.now}
}

func board(seq int64, standings ...budget.Standing) pool.Budgets {
	return pool.Budgets{Board: budget.Board{Seq: seq, Standings: standings}}
}

func ofTeam(name string) func(*job.Spec) { return func(s *job.Spec) { s.Team = name } }

var visionTeam = budget.Scope{Team: "vision"}

// A spent budget lets the jobs of its scope wait, asks for no node on their behalf, and says so.
// Those of others go on, and so does what runs.
func TestSpentBudgetHolds(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.node("n1")
	b.step(submission("1", ofTeam("vision")))
	b.is("1", job.Assigned, "")
	b.step(board(1, b.spentOf(visionTeam, "100.1")))
	whole := func(s *job.Spec) { s.Team, s.Resources.CPUs = "vision", 4 }
	r := b.step(submission("2", whole), submission("3", ofTeam("speech")))
	b.is("1", job.Assigned, "")
	b.is("2", job.Queued, "")
	b.is("3", job.Assigned, "")
	if len(r.Effects.Sets) > 0 || b.s.Head.Wanted > 1 {
		t.Errorf("%d nodes are wanted, with the calls %v", b.s.Head.Wanted, r.Effects.Sets)
	}
	e := b.explain("2")
	if !strings.HasPrefix(e.Reason, `team "vision" has spent 100.10 of its 100.00 USD for March 2026, by budget "b"`) ||
		!strings.Contains(e.Unblocks, "dsvm budget raise b") || e.Ahead != 0 {
		t.Errorf("it is explained by %+v", e)
	}
	if e := scheduler.ExplainPool(b.s, b.now, b.timing); e.State != "blocked" || !strings.Contains(e.Reason, `budget "b"`) {
		t.Errorf("the pool is explained by %+v", e)
	}
	b.isAsLoaded("with a budget that holds")

	// A board that is late changes nothing, and one that holds nothing lets the job go on.
	b.step(board(1))
	b.is("2", job.Queued, "")
	b.finish("1")
	b.finish("3")
	b.is("2", job.Queued, "")
	b.step(board(3, b.spentOf(visionTeam, "99.9")))
	b.is("2", job.Assigned, "")
	b.step(board(2, b.spentOf(visionTeam, "100")))
	if rest := b.explain("2"); strings.Contains(rest.Reason, "budget") {
		t.Errorf("a late board was taken: %+v", rest)
	}
}

// A board of a look that began while there was a budget, and that comes after that of the look
// which found none, holds nothing: no look would end that.
func TestLateBoardAfterTheLastBudgetIsGone(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.node("n1")
	b.step(board(5))
	b.step(board(4, b.spentOf(visionTeam, "100")))
	b.step(submission("1", ofTeam("vision")))
	b.is("1", job.Assigned, "")
}

// A hold ends with its period, without a message.
func TestHoldEndsWithItsPeriod(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.node("n1")
	s := b.spentOf(budget.Scope{Label: "project", Value: "x"}, "100")
	b.step(board(1, s), submission("1", func(s *job.Spec) { s.Labels = map[string]string{"project": "x"} }))
	b.is("1", job.Queued, "")
	b.s = b.load() // packed by now, and read again
	if b.s.Head.WakeAt.After(s.Until) || b.s.Head.WakeAt.IsZero() {
		t.Errorf("the pool wakes at %s, and its budget ends at %s", b.s.Head.WakeAt, s.Until)
	}
	b.now = s.Until
	b.step(pool.Tick{})
	if j := b.s.Jobs.Get("1"); j.VMID == "" && b.s.Head.Wanted == 0 {
		t.Errorf("it still waits: %+v", b.explain("1"))
	}
}

// A pool follows its own budget: it holds in the step in which the money is spent, also if
// nobody looks, and keeps no nodes for `nodes.min`.
func TestPoolFollowsItsOwnBudget(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(s *pool.Spec) { s.Nodes.Min = 1 })
	b.node("n1") // 0.192 an hour
	b.step(board(1, b.spentOf(budget.Scope{Pool: "p"}, "99.904")))
	half := b.s.Head.WakeAt
	b.step(submission("1", nil))
	b.is("1", job.Assigned, "")
	b.now = b.now.Add(29 * time.Minute)
	b.finish("1")
	b.step(submission("2", nil))
	b.is("2", job.Assigned, "")
	b.finish("2")
	b.now = b.now.Add(time.Minute + time.Second)
	r := b.step(submission("3", nil))
	b.is("3", job.Queued, "")
	if b.s.Head.Wanted != 0 && len(r.Effects.Sets) > 0 {
		t.Errorf("%d nodes are wanted", b.s.Head.Wanted)
	}
	if half.After(b.now) {
		t.Errorf("nobody wakes the pool before %s", half)
	}
	b.now = b.now.Add(time.Minute)
	b.step(pool.Tick{})
	if n := b.s.Nodes["n1"]; n.State != pool.NodeDeleting {
		t.Errorf("its idle node is %s", n.State)
	}
	b.isAsLoaded("with a spent budget of its own")
}

// Jobs of a budget that is nearly spent take room that others leave, after them, and make no
// pool grow.
func TestLowTakesWhatIsLeft(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.node("n1")
	b.step(board(1, b.spentOf(visionTeam, "95", budget.Step{At: "0.9", Do: budget.Low})))
	wide := func(team string, cpus int) func(*job.Spec) {
		return func(s *job.Spec) { s.Team, s.Resources.CPUs = team, cpus }
	}
	r := b.step(submission("1", wide("vision", 2)), submission("2", wide("vision", 2)), submission("3", wide("speech", 2)))
	b.is("3", job.Assigned, "")
	b.is("1", job.Assigned, "")
	b.is("2", job.Queued, "")
	if len(r.Effects.Sets) > 0 {
		t.Errorf("nodes are asked for: %+v", r.Effects.Sets)
	}
	if e := b.explain("2"); !strings.Contains(e.Reason, "only room that other work leaves") {
		t.Errorf("it is explained by %+v", e)
	}
	b.isAsLoaded("with a budget that is nearly spent")
}

// A budget that cancels ends what runs after its grace, and warns people at once.
func TestBudgetCancels(t *testing.T) {
	t.Parallel()
	steps := []budget.Step{{At: "1", Do: budget.Hold}, {At: "1.2", Do: budget.Cancel}}
	b := newBench(t, nil)
	b.node("n1")
	b.step(submission("1", ofTeam("vision")), submission("2", ofTeam("speech")))
	b.step(board(1, b.spentOf(visionTeam, "120", steps...)))
	b.now = b.now.Add(10*time.Minute - time.Second)
	b.step(pool.Tick{}, board(2, b.spentOf(visionTeam, "121", steps...)))
	b.is("1", job.Assigned, "")
	b.now = b.now.Add(time.Second)
	r := b.step(pool.Tick{})
	if j := b.s.LiveJob("1"); !strings.Contains(j.Cancel, `by budget "b"`) || b.s.LiveJob("2").Cancel != "" {
		t.Errorf("got %q and %q", j.Cancel, b.s.LiveJob("2").Cancel)
	}
	if len(r.Effects.Work["n1"]) == 0 {
		t.Error("the node is not asked")
	}

	b = newBench(t, people(nil))
	b.host("n1")
	b.step(open("s1", "ann"))
	b.enters("ann")
	r = b.step(board(1, b.spentOf(visionTeam, "120", steps...)))
	if told := warnings(r); len(told) != 1 || told[0].Warn.EndsIn != 600 {
		t.Errorf("the warnings are %+v", told)
	}
	if r := b.step(open("s2", "bob")); len(r.Refused) != 1 || r.Refused[0].Err.Code != fault.OverBudget {
		t.Errorf("got %+v", r.Refused)
	}
	b.step(pool.Extend{Order: "s1", Until: b.now.Add(time.Hour)})
	b.now = b.now.Add(5 * time.Minute)
	b.step(board(2)) // raised: the warning is taken back
	if s := b.session("ann").Session; s.EndsBy != "" {
		t.Errorf("the session still ends by %s", s.EndsBy)
	}
	b.step(board(3, b.spentOf(visionTeam, "120", steps...)))
	b.now = b.now.Add(10 * time.Minute)
	b.step(pool.Tick{})
	if s := b.session("ann"); s.Cancel == "" || s.Session.EndsBy != pool.EndBudget {
		t.Errorf("the session goes on: %+v", s.Session)
	}
}
