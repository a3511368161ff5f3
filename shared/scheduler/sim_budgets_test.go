package scheduler_test

import (
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"dsvmpools/shared/budget"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/scheduler"
	"dsvmpools/shared/usage"
)

// Budgets in the simulation: somebody looks at the ledger every looksEvery, and sends boards
// that come late, twice and out of order, and now and then not at all. A function of a release
// that knows no budgets writes the head without them. When work was held for a while, an
// operator raises the amounts, and all jobs have to end.

const (
	looksEvery  = 20 * time.Second // in place of five minutes
	cancelGrace = 10 * time.Second
	raisedAfter = 8 * time.Minute // since the world began
)

// books are the budgets of a world, and what it knows of them by itself.
type books struct {
	budgets []*budgetOf
	every   time.Duration // between looks
	seq     int64         // of the last look
	boards  map[int64][]budget.Standing
	dropped int64 // the number of the last look before a release that knows no budgets wrote the head
	acked   int64 // the highest number of a board whose sender was told that the pool has it
	raised  bool

	placed   map[string]bool      // ledger keys of all attempts that were placed
	asked    map[string]time.Time // by set: when it was asked last for more nodes
	byBudget map[string]bool      // orders of jobs that a budget has ended
}

// budgetOf is one budget of a world.
type budgetOf struct {
	budget.Budget
	ended   *big.Rat        // what has ended in its scope has cost
	over    time.Time       // since when all of its amount is spent
	holds   bool            // as the pool was told
	heldAt  time.Time       // since when
	runs    map[string]bool // ledger keys of attempts that ran when it began to hold
	cancels time.Time       // since when it cancels, as the pool was told
}

// budgetsOf are the budgets of a world.
func budgetsOf(seed int64) []*budgetOf {
	amount := []string{"0.05", "0.1", "0.2"}[seed/3%3]
	one := func(name string, scope budget.Scope, steps ...budget.Step) *budgetOf {
		return &budgetOf{Budget: budget.Budget{Name: name, Scope: scope, Amount: amount, Currency: "USD", Steps: steps,
			Grace: job.Duration(cancelGrace)}, ended: new(big.Rat)}
	}
	hold := budget.Step{At: "1", Do: budget.Hold}
	switch seed % 3 {
	case 0:
		return []*budgetOf{one("a", budget.Scope{Team: "a"}, hold), one("c", budget.Scope{Team: "c"}, budget.Step{At: "0.2", Do: budget.Low})}
	case 1:
		return []*budgetOf{one("v", budget.Scope{User: "v"}, hold, budget.Step{At: "1.1", Do: budget.Cancel}), one("c", budget.Scope{Team: "c"}, hold)}
	default:
		return []*budgetOf{one("p", budget.Scope{Pool: "p"}, hold)}
	}
}

// covers reports whether an entry of the ledger counts in a budget.
func (b *budgetOf) covers(e *usage.Entry) bool {
	if b.Scope.Pool != "" {
		return e.Kind == usage.KindNode
	}
	return e.Kind == usage.KindAttempt && b.Scope.Covers(e.Pool, &job.Spec{Team: e.Team, User: e.User})
}

// spent is what a budget's scope has cost up to now, with what runs.
func (b *budgetOf) spent(open []usage.Entry) *big.Rat {
	sum := new(big.Rat).Set(b.ended)
	for i := range open {
		if cost, ok := open[i].Cost(); ok && b.covers(&open[i]) {
			sum.Add(sum, cost)
		}
	}
	return sum
}

// amount is how much may be spent.
func (b *budgetOf) amount() *big.Rat {
	r, _ := new(big.Rat).SetString(b.Amount)
	return r
}

// lookAtBudgets is a look at all budgets: its number first, then what was spent.
func (w *world) lookAtBudgets() {
	k := w.books
	k.seq++
	open := w.load().OpenEntries(w.now)
	period := budget.Window{Name: "March 2026", From: monday.Add(-time.Hour), To: monday.Add(24 * time.Hour)}
	var standings []budget.Standing
	for _, b := range k.budgets {
		s := b.Of(period, b.spent(open), false, w.now)
		if b.Scope.Pool != "" || budget.Stops(s.Do(w.now)) {
			standings = append(standings, s)
		}
	}
	k.boards[k.seq] = standings
	if !k.raised && w.chance(8) {
		w.checker.seen["look lost"]++
		return
	}
	w.deliver(pool.Budgets{Board: budget.Board{Seq: k.seq, Standings: slices.Clone(standings)}})
}

// dropBudgets lets a function of a release that knows no budgets write the head.
func (w *world) dropBudgets() {
	head := w.head()
	if head.Seq == 0 || len(head.Budgets.Standings) == 0 {
		return
	}
	w.checker.seen["budgets dropped"]++
	head.Seq, head.Nonce, head.Budgets = head.Seq+1, fmt.Sprint("older ", head.Seq), budget.Board{}
	w.write(head, nil)
	w.current, w.writer = pool.Version{Seq: head.Seq, Nonce: head.Nonce}, nil
	w.books.dropped, w.books.acked = w.books.seq, 0
}

// playBudgets lets a world live whose work is held by budgets. Then the amounts are raised, and
// the pool has to come to rest.
func (w *world) playBudgets(seed int64) string {
	faults := w.faults
	w.faults = false
	spec := simSpec(seed)
	w.proceed([][]pool.Event{{pool.Apply{Spec: spec}}})
	w.faults = faults
	w.books = &books{budgets: budgetsOf(seed), every: looksEvery, boards: map[int64][]budget.Standing{},
		placed: map[string]bool{}, byBudget: map[string]bool{}}
	if seed%3 == 2 {
		w.books.every = time.Hour // the pool follows its budget by itself
	}
	begun := w.now
	for n := range 3 * 3600 {
		switch age := w.now.Sub(begun); {
		case !w.checker.ok():
			return w.checker.problem
		case n < 300 && n%100 == 0:
			w.submit(25)
		case age == 420*time.Second:
			w.faults = false
		case age == raisedAfter:
			w.books.raised = true
			for _, b := range w.books.budgets {
				b.Amount = "1000000"
			}
			w.lookAtBudgets()
		}
		if (n == 1 || time.Duration(n)*time.Second%w.books.every == 0) && !w.books.raised {
			w.lookAtBudgets()
		}
		if n < 420 && w.books.every == looksEvery && w.chance(150) {
			w.dropBudgets()
		}
		w.second()
		w.checker.budgetsInTime()
		if w.books.raised && w.open() == 0 && len(w.instances) == spec.Nodes.Min && w.isRolled() {
			for range 130 {
				w.second()
			}
			return w.checker.end()
		}
	}
	w.checker.fail("rest", "three hours after the budgets were raised %d jobs are open, %d instances are there, head %+v",
		w.open(), len(w.instances), w.load().Head)
	return w.checker.problem
}

// budgets checks a step that was committed against the board that the pool has by its number,
// as it was sent, and not by what the head says of it.
func (c *checker) budgets(s *scheduler.State, r *scheduler.Result) {
	k := c.w.books
	if k == nil {
		return
	}
	if s.Head.Budgets.Seq < k.acked {
		c.fail("budget late", "the pool has the board %d, and has taken in the board %d", s.Head.Budgets.Seq, k.acked)
	}
	for _, ch := range r.Changes {
		l, isLog := ch.Value.(*pool.Log)
		for i := 0; isLog && i < len(l.Entries); i++ {
			c.enter(&l.Entries[i])
		}
	}
	placed := c.placedNow(s)
	sent := k.boards[s.Head.Budgets.Seq]
	for _, b := range k.budgets {
		do := ""
		if i := slices.IndexFunc(sent, func(of budget.Standing) bool { return of.Name == b.Name }); i >= 0 {
			do = sent[i].Do(sent[i].At)
		}
		c.follow(b, do, s, placed)
		for _, j := range placed {
			c.mayStart(b, j, s)
		}
	}
	c.endsWithin(s, r)
	c.growsWithin(s, r)
}

// placedNow lists the jobs that have been placed since the last call.
func (c *checker) placedNow(s *scheduler.State) (placed []*pool.Job) {
	for j := range s.Jobs.All() {
		if j.VMID == "" {
			continue
		}
		if key := usage.AttemptKey(j.Order, j.Attempts[len(j.Attempts)-1].Number); !c.w.books.placed[key] {
			c.w.books.placed[key] = true
			placed = append(placed, j.Job)
		}
	}
	return placed
}

// follow notes what a budget does, as the pool was told.
func (c *checker) follow(b *budgetOf, do string, s *scheduler.State, placed []*pool.Job) {
	if do != budget.Cancel {
		b.cancels = time.Time{}
	} else if b.cancels.IsZero() {
		c.seen["budget cancels"]++
		b.cancels = c.stepAt
	}
	if holds := budget.Holds(do); holds && !b.holds {
		c.seen["budget holds"]++
		b.heldAt, b.runs = c.w.now, map[string]bool{}
		for j := range s.Jobs.All() {
			if j.VMID != "" && !slices.Contains(placed, j.Job) && b.Scope.Covers(j.Spec.Pool, &j.Spec) {
				b.runs[usage.AttemptKey(j.Order, j.Attempts[len(j.Attempts)-1].Number)] = true
			}
		}
	}
	if b.holds = budget.Holds(do); do == budget.Low {
		c.seen["budget spares"]++
	}
}

// enter counts what has ended. While a budget holds, only what ran when it began to do so costs
// anything: that is the bound of docs/budgets.md.
func (c *checker) enter(e *usage.Entry) {
	for _, b := range c.w.books.budgets {
		cost, ok := e.Cost()
		if !ok || !b.covers(e) {
			continue
		}
		b.ended.Add(b.ended, cost)
		key := e.Key
		if parts := strings.Split(key, "!"); len(parts) > 2 { // the rank of a gang
			key = strings.Join(parts[:2], "!")
		}
		if b.holds && b.Scope.Pool == "" && !b.runs[key] {
			c.fail("budget start", "%s has cost %s, and did not run when its budget began to hold at %s", e.Key, cost.FloatString(6), b.heldAt)
		}
	}
}

// mayStart checks that nothing of a scope that is held is placed.
func (c *checker) mayStart(b *budgetOf, j *pool.Job, s *scheduler.State) {
	switch {
	case !b.Scope.Covers(j.Spec.Pool, &j.Spec) || c.w.books.raised:
	case b.Scope.Pool == "" && b.holds:
		c.fail("budget start", "job %s is placed, and budget %s holds since %s", j.ID, b.Name, b.heldAt)
	case b.Scope.Pool != "" && s.Head.Budgets.Seq > 0:
		if spent := b.spent(s.OpenEntries(c.w.now)); spent.Cmp(b.amount()) > 0 && c.isClearlyOver(b, spent, s) {
			c.fail("budget start", "job %s is placed, and the nodes of the pool have cost %s of %s", j.ID, spent.FloatString(6), b.Amount)
		}
	}
}

// isClearlyOver reports whether a pool has spent more than its amount, whatever part of a minute
// its nodes are billed from before the pool hears of them.
func (c *checker) isClearlyOver(b *budgetOf, spent *big.Rat, s *scheduler.State) bool {
	within := 15*time.Second + 2*c.slack
	if !c.w.clean {
		within = 4 * time.Minute
	}
	rate := new(big.Rat)
	for _, n := range s.Nodes {
		if price, ok := usage.ParsePrice(n.Price); ok && n.State != pool.NodeGone {
			rate.Add(rate, price)
		}
	}
	late := rate.Mul(rate, big.NewRat(int64(within/time.Second), 3600))
	return spent.Cmp(late.Add(late, b.amount())) > 0
}

// endsWithin checks that budgets end what runs only where they cancel, after their grace, and
// then all of it, by the time of the step: a slow commit may come later.
func (c *checker) endsWithin(s *scheduler.State, r *scheduler.Result) {
	due := func(j *pool.Job, after time.Duration) bool {
		return slices.ContainsFunc(c.w.books.budgets, func(b *budgetOf) bool {
			return b.Scope.Covers(j.Spec.Pool, &j.Spec) && !b.cancels.IsZero() && !c.stepAt.Before(b.cancels.Add(after))
		})
	}
	for _, ch := range r.Changes {
		if j, ok := ch.Value.(*pool.Job); ok && strings.Contains(j.Cancel, "by budget") && !c.w.books.byBudget[j.Order] {
			c.w.books.byBudget[j.Order] = true
			c.seen["ended by a budget"]++
			if !due(j, cancelGrace-2*c.slack-time.Second) {
				c.fail("budget ends", "job %s is ended before its time: %s", j.ID, j.Cancel)
			}
		}
	}
	if r.More || len(r.Rest) > 0 {
		return
	}
	for j := range s.Jobs.All() {
		if j.VMID != "" && j.Cancel == "" && due(j.Job, cancelGrace+2*c.slack+time.Second) {
			c.fail("budget goes on", "job %s goes on, and its budget cancels", j.ID)
		}
	}
}

// growsWithin checks that no node is asked for where budgets let all work wait. A call that
// failed is made again.
func (c *checker) growsWithin(s *scheduler.State, r *scheduler.Result) {
	asked := c.w.books.asked
	c.w.books.asked = map[string]time.Time{}
	for _, set := range s.Head.Sets {
		c.w.books.asked[set.Name] = set.Op.AskedAt
	}
	if s.Head.Spec.Nodes.Min > 0 || s.Head.Budgets.Seq == 0 {
		return
	}
	wants := false
	for j := range s.Jobs.All() {
		if j.VMID == "" && (j.State == job.Queued || j.Spec.Sweep != nil && j.State == job.Running) {
			wants = wants || !slices.ContainsFunc(c.w.books.boards[s.Head.Budgets.Seq], func(of budget.Standing) bool {
				return of.Scope.Covers(j.Spec.Pool, &j.Spec) && budget.Stops(of.Do(of.At))
			})
		}
	}
	for _, set := range s.Head.Sets {
		if calls := r.Effects.Sets[set.Name]; !wants && calls != nil && calls.Grow > 0 && set.Op.Tries == 0 && set.Op.AskedAt != asked[set.Name] {
			c.fail("budget nodes", "%d nodes are asked for, and budgets let all work wait that is in line", calls.Grow)
		}
	}
}

// budgetsInTime checks each few seconds that a budget that is spent holds within the time
// between two looks, and what comes late.
func (c *checker) budgetsInTime() {
	k := c.w.books
	if c.w.now.Second()%5 != 0 || k.raised || c.w.rows[pool.HeadKey] == nil {
		return
	}
	within := looksEvery + 10*time.Second
	if !c.w.clean {
		within = 4*looksEvery + 3*time.Minute
	}
	open := c.w.load().OpenEntries(c.w.now)
	for _, b := range k.budgets {
		if b.Scope.Pool != "" || !budget.Holds(b.Steps[0].Do) {
			continue
		}
		if spent := b.spent(open); spent.Cmp(b.amount()) < 0 || b.holds {
			b.over = time.Time{}
			continue
		}
		if b.over.IsZero() {
			b.over = c.w.now
		}
		if late := c.w.now.Sub(b.over); late > within {
			c.fail("budget late", "budget %s is spent for %s, and does not hold", b.Name, late)
		}
	}
}

// acknowledge notes that the sender of a board was told that the pool has it.
func (c *checker) acknowledge(of *invocation) {
	for _, e := range of.events {
		if board, ok := e.(pool.Budgets); ok && board.Seq > c.w.books.dropped {
			c.w.books.acked = max(c.w.books.acked, board.Seq)
		}
	}
}

func TestSimulationOfBudgets(t *testing.T) {
	t.Parallel()
	if simSeeds.given {
		playSeeds(t, (*world).playBudgets)
		return
	}
	worlds := worldsOf(3, 60, 2)
	seen := map[string]int{}
	var steps atomic.Int64
	for seed := int64(1); seed <= worlds; seed++ { // the world 0 has spent nothing when the amounts are raised
		w := simulate(t, seed, seed%8 != 7, nil, (*world).playBudgets)
		if problem := w.checker.problem; problem != "" {
			t.Fatalf("seed %d, after %d steps: %s", seed, w.steps, problem)
		}
		steps.Add(w.steps)
		for what, n := range w.checker.seen {
			seen[what] += n
		}
	}
	t.Logf("%d steps in %d worlds, nothing violated; seen %v", steps.Load(), worlds, seen)
	for i, what := range []string{"budget holds", "budget spares", "budget cancels", "ended by a budget", "budgets dropped", "look lost"} {
		if seen[what] == 0 && (i == 0 || worlds > 10) && !underDetector { // few worlds show few of them
			t.Errorf("never seen: %s", what)
		}
	}
}
