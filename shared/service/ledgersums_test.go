package service_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"dsvmpools/local/apptest"
	"dsvmpools/local/chaos"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/usage"
	"dsvmpools/shared/wire"
)

// history makes a random history of use, and knows all of it.
type history struct {
	t     *testing.T
	app   *apptest.Instance
	rand  *rand.Rand
	facts map[string]usage.Entry // by identity
	pools []string
	next  int
	loses bool // answers of the tables

	manyLabels bool // a label differs for each job
}

func newHistory(t *testing.T, seed uint64) *history {
	h := &history{t: t, app: apptest.New(t), rand: rand.New(rand.NewPCG(seed, 7)), facts: map[string]usage.Entry{}, pools: []string{"cpu", "gpu"}}
	h.makePools()
	return h
}

func (h *history) makePools() {
	h.t.Helper()
	for _, name := range h.pools {
		if err := h.app.Apply(h.t.Context(), fmt.Sprintf(`{"name":%q,"sizes":["Standard_D4s_v5"],"nodes":{"max":1}}`, name)); err != nil {
			h.t.Fatal(err)
		}
	}
}

// note has a pool note some facts in one transaction, as a step does.
func (h *history) note(name string) { h.noteSome(name, 1+h.rand.IntN(6)) }

func (h *history) noteSome(name string, n int) {
	h.t.Helper()
	part, version, err := h.app.Store.Load(h.t.Context(), name)
	if err != nil {
		h.t.Fatal(err)
	}
	head := part.Head
	head.Seq++
	head.Nonce = uuid.NewString()
	var entries []usage.Entry
	for range n {
		entries = append(entries, h.fact(name))
	}
	log := &pool.Log{Seq: head.Seq, Entries: entries}
	if _, err := h.app.Store.Commit(h.t.Context(), name, version, head, []pool.Change{{Key: pool.LogKey(head.Seq), Value: log}}); err != nil {
		h.t.Fatal(err)
	}
	for _, e := range entries {
		h.facts[e.Identity()] = e
	}
}

// fact is an attempt or the interval of a node: most have just ended, others days ago or by a
// clock that is ahead.
func (h *history) fact(name string) usage.Entry {
	r := h.rand
	h.next++
	to := h.app.Clock.Now().Add(-time.Duration(r.Int64N(int64(time.Hour))))
	switch r.IntN(8) {
	case 0:
		to = to.Add(-time.Duration(r.IntN(72)) * time.Hour)
	case 1:
		to = h.app.Clock.Now().Truncate(24 * time.Hour).Add(time.Duration(r.IntN(3)-1) * usage.Tick) // around midnight
	case 2:
		if r.IntN(2) == 0 {
			to = h.app.Clock.Now().Add(time.Duration(r.IntN(20)) * time.Second)
		}
	}
	e := usage.Entry{
		Kind: usage.KindAttempt, Pool: name, Node: "n", VMID: "vm", Size: fmt.Sprint("size-", r.IntN(2)), Spot: r.IntN(3) == 0,
		CPUs: r.IntN(4), NodeCPUs: []int{4, 4, 8, 0}[r.IntN(4)], Memory: int64(r.IntN(3)) << 30, NodeMem: 7 << 30,
		From: to.Add(-time.Duration(r.Int64N(int64(30 * time.Hour)))), To: to,
		Price: []string{"0.192", "1.234567", usage.UnknownPrice, "x"}[r.IntN(4)], Currency: []string{"USD", "EUR"}[r.IntN(2)],
		State: []string{"succeeded", "failed", "evicted"}[r.IntN(3)],
	}
	if r.IntN(4) == 0 {
		e.Kind, e.Key, e.State = usage.KindNode, fmt.Sprintf("vm-%d!1", h.next), ""
		e.Boot, e.Idle, e.Draining = time.Duration(r.IntN(9))*time.Second, time.Duration(r.IntN(9))*time.Minute, time.Duration(r.IntN(9))*usage.Tick
		return e
	}
	job := h.next
	number := 1
	if r.IntN(3) == 0 {
		job, number = h.next-1, 2 // perhaps another attempt of a job
	}
	e.Job, e.Team, e.User = fmt.Sprint("job-", job), fmt.Sprint("team-", job%3), fmt.Sprint("user-", job%5)
	for _, name := range []string{"x", "y"} {
		if r.IntN(3) > 0 {
			e.Labels = map[string]string{name: fmt.Sprint(r.IntN(3)), "z": "z"}
		}
	}
	if h.manyLabels {
		e.Labels = map[string]string{"x": "1", "run": e.Job}
	}
	e.Key, e.Attempt = fmt.Sprintf("%026d!%d", job, number), number
	if job%4 == 0 {
		e.Job = fmt.Sprintf("sweep-%d.%d", job%8, job) // a member
		e.Key = fmt.Sprintf("%026d.%d!%d", job%8, job, number)
	}
	if number == 1 && e.State == "succeeded" && r.IntN(6) == 0 {
		e.Key += "!0" // a rank of a gang
	}
	first := strings.TrimSuffix(e.Key, fmt.Sprint(number)) + "1"
	if before, ok := h.facts[name+"!attempt!"+first]; number == 2 && (!ok || before.State == "succeeded") {
		return h.fact(name)
	}
	return e
}

// check compares a report from sums with one from all facts, and one that is made Lines at a time.
func (h *history) check(q usage.Query) {
	h.t.Helper()
	lines := q.Lines
	q.Lines = 0
	got, err := h.app.Ledger.Report(h.t.Context(), q)
	if err != nil {
		h.t.Error(err)
		return
	}
	q.From, q.To, q.AsOf = got.From, got.To, got.AsOf
	b, err := usage.NewBuilder(q)
	if err != nil {
		h.t.Error(err)
		return
	}
	for _, e := range h.facts {
		if !e.To.After(q.AsOf) && e.To.Before(q.To) {
			row := usage.NewRow(e)
			b.Add(&row)
		} else if e.From.Before(q.AsOf) && !e.To.Before(q.From) {
			e.To = q.AsOf
			b.AddOpen(e)
		}
	}
	want := b.Report(q.AsOf)
	if lines > 0 {
		q.Lines = lines
		got.Groups = h.pages(q, got)
	}
	if !slices.Equal(got.Groups, want.Groups) || !slices.Equal(got.Totals, want.Totals) || got.Open != want.Open {
		h.t.Errorf("by %s, %+v: got\n%+v\n%+v %+v\nwant\n%+v\n%+v %+v", q.By, q, got.Groups, got.Totals, got.Open, want.Groups, want.Totals, want.Open)
	}
}

// pages makes a report again, some lines at a time, as of the same moment, and returns the lines of all.
func (h *history) pages(q usage.Query, whole usage.Report) (all []usage.Group) {
	h.t.Helper()
	for {
		r, err := h.app.Ledger.Report(h.t.Context(), q)
		if err != nil {
			h.t.Error(err)
			return all
		}
		if r.Lines != whole.Lines || !slices.Equal(r.Totals, whole.Totals) {
			h.t.Errorf("after %+v there are %d lines of %+v, and were %d of %+v", q.After, r.Lines, r.Totals, whole.Lines, whole.Totals)
		}
		if all = append(all, r.Groups...); r.More == nil {
			return all
		}
		q.After = r.More
	}
}

// query is any question that sums answer, for days as a whole or for parts of them.
func (h *history) query() usage.Query {
	r := h.rand
	q := usage.Query{By: []usage.Grouping{usage.ByPool, usage.ByTeam, usage.ByUser, usage.ByDay, usage.BySize, "label:x", usage.BySweep, usage.ByJob, usage.ByJob,
		usage.ByMonth, usage.ByYear, "day,team", "user,month", "pool,label:x", "size,sweep"}[r.IntN(15)]}
	q.Order = usage.Orders[r.IntN(len(usage.Orders))]
	q.Lines = max(0, r.IntN(12)-6)
	now := h.app.Clock.Now()
	q.From = now.Add(-time.Duration(r.IntN(200)+1) * time.Hour)
	if r.IntN(2) == 0 {
		q.From = q.From.Truncate(24 * time.Hour)
	}
	switch r.IntN(4) {
	case 0:
		q.To = now.Truncate(24 * time.Hour)
	case 1:
		q.To = now.Add(-time.Duration(r.IntN(50)) * time.Minute)
	case 2:
		q.To = now.Add(48 * time.Hour)
	}
	if !q.To.IsZero() && !q.From.Before(q.To) {
		q.To = time.Time{}
	}
	if r.IntN(3) == 0 {
		q.Filter.Pool = h.pools[r.IntN(len(h.pools))]
	}
	switch r.IntN(4) {
	case 0:
		q.Filter.Team = "team-1"
	case 1:
		q.Filter.User = "user-2"
	case 2:
		q.Filter.Labels = map[string]string{"x": "1"}
	}
	return q
}

func (h *history) record() {
	h.t.Helper()
	var wait sync.WaitGroup
	for range 2 {
		q := h.query()
		wait.Go(func() { h.check(q) })
	}
	for _, name := range h.pools {
		for range 1 + h.rand.IntN(2) { // often by two processes at once
			wait.Go(func() {
				if err := h.app.Ledger.Record(h.t.Context(), name); err != nil && !h.loses {
					h.t.Error(err)
				}
			})
		}
	}
	wait.Wait()
}

// rebuild builds sums again, until no answer is lost.
func (h *history) rebuild(q wire.SumsQuery) {
	h.t.Helper()
	for {
		_, err := h.app.Ledger.RebuildSums(h.t.Context(), q)
		if err == nil {
			return
		}
		if !h.loses {
			h.t.Fatal(err)
		}
	}
}

// correct changes the price of a fact in the ledger, and builds the sums of its day again.
func (h *history) correct() {
	h.t.Helper()
	h.record()
	for id, e := range h.facts {
		e.Price = "9.99"
		h.facts[id] = e
		if err := h.app.Store.Record(h.t.Context(), []usage.Entry{e}); err != nil {
			h.t.Fatal(err)
		}
		day := e.To.Truncate(24 * time.Hour)
		h.rebuild(wire.SumsQuery{From: day, To: day.Add(24 * time.Hour)})
		return
	}
}

// replacePool deletes a pool and makes it again: it counts its transactions from one.
func (h *history) replacePool() {
	h.t.Helper()
	name := h.pools[h.rand.IntN(len(h.pools))]
	if err := h.app.Pools.Delete(h.t.Context(), name); err != nil {
		h.t.Fatal(err)
	}
	if _, err := h.app.Service.Driver().Drive(h.t.Context(), name, pool.Tick{}); err != nil && fault.CodeOf(err) != fault.NotFound {
		h.t.Fatal(err)
	}
	if _, _, err := h.app.Store.Load(h.t.Context(), name); fault.CodeOf(err) != fault.NotFound {
		h.t.Fatalf("the pool is still there: %v", err)
	}
	h.makePools()
}

// Reports from sums are those from the rows, to the last digit, whatever happens: facts that
// come late or twice or from a clock that is ahead, recorders that run side by side or are cut
// off, answers that are lost, prices that are corrected, sums that are built again, and pools
// that are deleted and made again.
func TestSumsEqualTheRows(t *testing.T) {
	t.Parallel()
	steps := 60
	if os.Getenv("DSVM_LONG") != "" {
		steps = 300
	}
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			h := newHistory(t, seed)
			// Some requests take longer, so that the order of those that run side by side varies.
			if _, err := h.app.Chaos.Add(chaos.Injection{Do: chaos.Delay, Target: "tables/query", Probability: 0.2, Delay: 5 * time.Millisecond}); err != nil {
				t.Fatal(err)
			}
			if seed%2 == 1 {
				h.lose()
			}
			for range steps {
				h.step()
				h.check(h.query())
			}
		})
	}
}

// lose has one in ten transactions answered by nobody, although it is written.
func (h *history) lose() {
	h.t.Helper()
	h.loses = true
	if _, err := h.app.Chaos.Add(chaos.Injection{Do: chaos.Lose, Target: "tables/transaction", Probability: 0.1}); err != nil {
		h.t.Fatal(err)
	}
}

func (h *history) step() {
	h.t.Helper()
	if h.rand.IntN(2) == 0 {
		h.app.Clock.Set(h.app.Clock.Now().Add(time.Duration(h.rand.IntN(180)) * time.Minute))
	}
	name := h.pools[h.rand.IntN(len(h.pools))]
	switch h.rand.IntN(12) {
	case 0, 1, 2:
		h.record()
	case 3: // a recorder is cut off after it has written the rows
		logs, err := h.app.Store.Logs(h.t.Context(), name, 0)
		if err != nil {
			h.t.Fatal(err)
		}
		for _, log := range logs {
			if err := h.app.Store.Record(h.t.Context(), log.Entries); err != nil {
				h.t.Fatal(err)
			}
		}
	case 4: // and after it has added them
		if _, _, err := h.app.Ledger.CopyEntries(h.t.Context(), name); err != nil && !h.loses {
			h.t.Fatal(err)
		}
	case 5:
		h.correct()
	case 6:
		h.rebuild(wire.SumsQuery{})
	case 7:
		if h.rand.IntN(3) == 0 {
			h.replacePool()
		}
	default:
		h.note(name)
	}
}

// A ledger from before there were sums is found: its days are read from the rows, until they
// are built. Facts that are recorded meanwhile count once.
func TestSumsOfAnEarlierRelease(t *testing.T) {
	t.Parallel()
	h := newHistory(t, 11)
	for range 20 {
		h.note("cpu")
	}
	logs, err := h.app.Store.Logs(t.Context(), "cpu", 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, log := range logs { // as that release did
		if err := errors.Join(h.app.Store.Record(t.Context(), log.Entries)); err != nil {
			t.Fatal(err)
		}
		if _, err := h.app.Service.Driver().Drive(t.Context(), "cpu", pool.Recorded{Seqs: []int64{log.Seq}}); err != nil {
			t.Fatal(err)
		}
	}
	all := usage.Query{By: usage.ByUser, From: apptest.Noon.AddDate(0, 0, -10)}
	h.check(all)
	h.note("cpu")
	h.record()
	h.check(all)
	if err := h.app.Ledger.BuildMissingSums(t.Context()); err != nil {
		t.Fatal(err)
	}
	if state, err := h.app.Store.SumsState(t.Context()); err != nil || state.IsWhole(apptest.Noon) {
		t.Errorf("the sums are %+v, %v, while functions of the earlier release may go on", state, err)
	}
	h.app.Clock.Set(h.app.Clock.Now().Add(2 * time.Hour))
	if err := h.app.Ledger.BuildMissingSums(t.Context()); err != nil {
		t.Fatal(err)
	}
	if state, err := h.app.Store.SumsState(t.Context()); err != nil || !state.WholeFrom.IsZero() {
		t.Errorf("the sums are %+v, %v; want all of them whole", state, err)
	}
	h.check(all)
	before := h.app.Tables.Stats().Requests
	h.check(usage.Query{By: usage.ByUser, From: all.From.Truncate(24 * time.Hour)})
	if n := h.app.Tables.Stats().Requests - before; n > 30 {
		t.Errorf("a report from sums costs %d requests", n)
	}
}

// A release that knows no sums may come back for a while. What it records is found when the day
// is over, and a day whose rows were let go stays as it is.
func TestSumsThatMissRows(t *testing.T) {
	t.Parallel()
	h := newHistory(t, 12)
	h.note("cpu")
	h.note("gpu")
	h.record()
	h.note("cpu")
	logs, err := h.app.Store.Logs(t.Context(), "cpu", 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, log := range logs { // as that release does
		if err := h.app.Store.Record(t.Context(), log.Entries); err != nil {
			t.Fatal(err)
		}
		if _, err := h.app.Service.Driver().Drive(t.Context(), "cpu", pool.Recorded{Seqs: []int64{log.Seq}}); err != nil {
			t.Fatal(err)
		}
	}
	day := apptest.Noon.Truncate(24 * time.Hour)
	count := func(name string) (summed, rows int) {
		days, err := h.app.Store.DaySums(t.Context(), name, day, day)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range days {
			summed += d.Rows
		}
		if rows, err = h.app.Store.CountUsage(t.Context(), day, name); err != nil {
			t.Fatal(err)
		}
		return summed, rows
	}
	if summed, rows := count("cpu"); summed >= rows {
		t.Fatalf("the sums have %d of %d rows: nothing is missed", summed, rows)
	}
	if err := h.app.Ledger.BuildMissingSums(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.app.Clock.Set(day.Add(26 * time.Hour))
	if err := h.app.Ledger.BuildMissingSums(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, name := range h.pools {
		if summed, rows := count(name); summed != rows {
			t.Errorf("pool %s: the sums have %d of %d rows", name, summed, rows)
		}
	}
	state, err := h.app.Store.SumsState(t.Context())
	if want := day.Add(24 * time.Hour); err != nil || !state.CheckedTo.Equal(want) {
		t.Errorf("days are compared to %s (%v), want %s", state.CheckedTo, err, want)
	}
	before := h.app.Tables.Stats().Requests
	if err := h.app.Ledger.BuildMissingSums(t.Context()); err != nil || h.app.Tables.Stats().Requests != before {
		t.Errorf("comparing again on the same day costs requests (%v)", err)
	}
}

// A label that differs for each job has no sums: reports by labels read the rows of that day, and
// others do not.
func TestSumsWithManyLabels(t *testing.T) {
	t.Parallel()
	h := newHistory(t, 5)
	h.manyLabels = true
	for range 16 {
		h.noteSome("cpu", 90)
		h.record()
	}
	h.app.Clock.Set(h.app.Clock.Now().Add(time.Hour)) // after the last end, so that the day is in the reports as a whole
	for _, by := range []usage.Grouping{usage.ByTeam, "label:x", "label:run"} {
		h.check(usage.Query{By: by})
		h.check(usage.Query{By: by, Filter: usage.Filter{Pool: "cpu"}})
	}
	h.check(usage.Query{By: usage.ByUser, Filter: usage.Filter{Labels: map[string]string{"x": "1"}}})
	days, err := h.app.Store.DaySums(t.Context(), "cpu", apptest.Noon, apptest.Noon)
	if err != nil || len(days) != 1 || !days[0].NoLabels {
		t.Fatalf("got %+v, %v; want a day without sums of labels", days, err)
	}
	h.rebuild(wire.SumsQuery{})
	h.check(usage.Query{By: "label:run"})
	h.check(usage.Query{By: usage.ByDay})
}
