package scheduler

import (
	"cmp"
	"math/big"
	"slices"
	"time"

	"dsvmpools/shared/budget"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/usage"
)

// budgets carries out what the budgets say that concern the pool. Somebody else adds up what
// was spent, and sends boards; what a pool's own budget says, the pool adds up by itself from
// the prices of its nodes.
type budgets struct {
	*turn
	jobs     *jobStates
	sessions *sessions
}

// budgetRule is what a budget does to work in line.
type budgetRule struct {
	scope budget.Scope
	do    string
}

// receive takes a newer board in. Where nothing has changed that the pool acts on, the old
// standing stays. One without standings counts, too: without its number, an older board that
// comes after it would hold work for a budget that was raised or deleted.
func (bu *budgets) receive(e pool.Budgets) {
	old := bu.Head.Budgets
	if e.Seq <= old.Seq {
		return
	}
	standings := slices.Clone(e.Standings)
	for i := range standings {
		at := slices.IndexFunc(old.Standings, func(s budget.Standing) bool { return s.Name == standings[i].Name })
		switch {
		case at < 0:
		case old.Standings[at].IsSame(&standings[i], bu.now):
			standings[i] = old.Standings[at]
		default:
			standings[i].CancelAt, standings[i].PerHour = old.Standings[at].CancelAt, old.Standings[at].PerHour
		}
	}
	bu.Head.Budgets = budget.Board{Seq: e.Seq, Standings: standings}
}

// enforce follows the costs of the pool's own nodes, lets work wait, and ends it.
func (bu *budgets) enforce() {
	if len(bu.Head.Budgets.Standings) > 0 {
		bu.Head.Budgets.Standings = slices.Clone(bu.Head.Budgets.Standings) // the head before the step is compared with
	}
	for i := range bu.Head.Budgets.Standings {
		s := &bu.Head.Budgets.Standings[i]
		if s.Scope.Pool != "" && bu.now.Before(s.Until) {
			s.Settle(bu.now, bu.nodesPerHour(s.Currency))
		}
		switch {
		case s.Do(bu.now) != budget.Cancel:
			s.CancelAt = time.Time{}
		case s.CancelAt.IsZero():
			s.CancelAt = bu.now.Add(time.Duration(s.Grace))
		}
	}
	bu.reline(bu.now)
	bu.endWork()
}

// nodesPerHour is what the nodes that are billed cost in a currency; "" = nothing that is known.
func (bu *budgets) nodesPerHour(currency string) string {
	sum := new(big.Rat)
	for _, n := range bu.Nodes {
		if n.From.IsZero() || n.State == pool.NodeGone || n.Currency != currency {
			continue
		}
		if price, ok := usage.ParsePrice(n.Price); ok {
			sum.Add(sum, price)
		}
	}
	if sum.Sign() == 0 {
		return ""
	}
	return usage.Amount(sum)
}

// budgetRules are the rules of the pool's budgets at a time.
func (s *State) budgetRules(now time.Time) (rules []budgetRule) {
	for i := range s.Head.Budgets.Standings {
		of := &s.Head.Budgets.Standings[i]
		if do := of.Do(now); budget.Stops(do) {
			rules = append(rules, budgetRule{of.Scope, do})
		}
	}
	return rules
}

// reline moves the jobs in line to the classes in which the rules of now have them.
func (s *State) reline(now time.Time) {
	rules := s.budgetRules(now)
	if slices.Equal(rules, s.line.budgets) {
		return
	}
	s.line.budgets = rules
	var moved []*Job
	s.line.each(func(j *Job) bool {
		if s.line.classOf(j) != j.inLine().class {
			moved = append(moved, j)
		}
		return true
	})
	for _, j := range moved {
		s.line.remove(j)
		s.line.push(j)
	}
}

// classOf is the class in which a job waits.
func (ln *line) classOf(j *Job) int {
	class := rank(j.Spec.Priority)
	if len(ln.budgets) == 0 {
		return class
	}
	row := j.row() // a packed job has its labels there alone
	for i := range ln.budgets {
		of := &ln.budgets[i]
		switch {
		case !of.scope.Covers(row.Spec.Pool, &row.Spec):
		case budget.Holds(of.do):
			return stopped
		default:
			class = spared
		}
	}
	return class
}

// stopsPool reports whether the pool's own budget keeps all of its work from starting.
func (ln *line) stopsPool() bool {
	return slices.ContainsFunc(ln.budgets, func(of budgetRule) bool { return of.scope.Pool != "" && budget.Holds(of.do) })
}

// minNodes is how many nodes the pool keeps: its `nodes.min`, unless its own budget stops it.
func (s *State) minNodes() int {
	if s.line.stopsPool() {
		return 0
	}
	return s.Head.Spec.Nodes.Min
}

// endWork ends what runs and is in the scope of a budget that cancels, when its grace is over,
// the newest attempts first. The people of sessions are warned at once.
func (bu *budgets) endWork() {
	for i := range bu.Head.Budgets.Standings {
		s := &bu.Head.Budgets.Standings[i]
		if s.CancelAt.IsZero() {
			continue
		}
		for _, j := range bu.workOf(&s.Scope) {
			if !bu.hasRoom() {
				return
			}
			switch {
			case j.Session != nil:
				bu.sessions.warnForBudget(j, s)
			case !bu.now.Before(s.CancelAt):
				bu.jobs.cancel(j, s.Sentence(bu.now))
			}
		}
	}
}

// workOf lists the jobs on nodes that are in a scope and go on, the newest first.
func (s *State) workOf(scope *budget.Scope) (work []*Job) {
	seen := map[*Job]bool{}
	for _, n := range s.Nodes {
		for _, j := range n.jobs {
			if !seen[j] && j.Cancel == "" && scope.Covers(j.Spec.Pool, &j.Spec) {
				seen[j] = true
				work = append(work, j)
			}
		}
	}
	slices.SortFunc(work, func(a, b *Job) int {
		return cmp.Or(b.Current().AssignedAt.Compare(a.Current().AssignedAt), byOrder(b, a))
	})
	return work
}

// standingOf is the budget that keeps a job from starting as usual, or from going on; nil: none does.
func (t *turn) standingOf(j *Job, does func(do string) bool) *budget.Standing {
	row := j.row()
	for i := range t.Head.Budgets.Standings {
		s := &t.Head.Budgets.Standings[i]
		if does(s.Do(t.now)) && s.Scope.Covers(row.Spec.Pool, &row.Spec) {
			return s
		}
	}
	return nil
}

func isCancel(do string) bool { return do == budget.Cancel }

// addBudgets adds when time alone changes what budgets do.
func (dl *deadlines) addBudgets(at func(time.Time)) {
	for i := range dl.Head.Budgets.Standings {
		s := &dl.Head.Budgets.Standings[i]
		if change := s.NextChange(dl.now); !change.IsZero() {
			at(change)
		}
		if s.CancelAt.After(dl.now) {
			at(s.CancelAt)
		}
	}
}
