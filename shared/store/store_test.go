package store

import (
	"context"
	"encoding/base64"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"dsvmpools/local/tables"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/store/table"
	"dsvmpools/shared/usage"
)

const (
	testAccount = "test"
	testTimeout = time.Minute
)

var (
	testKey = base64.StdEncoding.EncodeToString([]byte("the key of a test account"))
	dawn    = time.Date(2026, 1, 31, 6, 0, 0, 0, time.UTC)
)

// serve starts a table server of its own for a test.
func serve(t testing.TB) string {
	t.Helper()
	server, err := tables.Start(tables.Config{
		Addr: "127.0.0.1:0", Path: filepath.Join(t.TempDir(), "tables.db"), Account: testAccount, Key: testKey,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	return server.ConnectionString()
}

func open(t testing.TB, connection string) *Store {
	t.Helper()
	s, err := Open(Config{ConnectionString: connection})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	if err := s.CreateTables(deadline(t)); err != nil {
		t.Fatal(err)
	}
	return s
}

func deadline(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	t.Cleanup(cancel)
	return ctx
}

// order is the ULID of the nth job of a test.
func order(n int) string {
	var u ulid.ULID
	if err := u.SetTime(ulid.Timestamp(dawn) + uint64(n)); err != nil {
		panic(err)
	}
	return u.String()
}

func newJob(n int) *pool.Job {
	return &pool.Job{
		Order: order(n), ID: fmt.Sprintf("job-%d", n), State: job.Queued, SubmittedAt: dawn.Add(time.Duration(n) * time.Millisecond),
		Spec: job.Spec{Pool: "cpu", Team: []string{"vision", "speech"}[n%2], Command: []string{"true"}, Resources: job.Resources{CPUs: 1}},
	}
}

func insert(j *pool.Job) pool.Change {
	return pool.Change{Key: pool.JobKey(j.Order), Value: j, Insert: true}
}

// finish moves a job from the live rows to the finished ones.
func finish(j *pool.Job) []pool.Change {
	done := *j
	done.State, done.EndedAt = job.Succeeded, dawn.Add(time.Hour)
	return []pool.Change{{Key: pool.JobKey(j.Order)}, {Key: pool.DoneKey(j.Order), Value: &done, Insert: true}}
}

// writer commits to a pool, one version after another.
type writer struct {
	t       testing.TB
	s       *Store
	name    string
	head    pool.Head
	version pool.Version
}

func newWriter(t testing.TB, s *Store, name string) *writer {
	return &writer{t: t, s: s, name: name, head: pool.Head{Spec: pool.Spec{Name: name, Sizes: []string{"Standard_D4s_v5"}}}}
}

func (w *writer) try(changes ...pool.Change) error {
	head := w.head
	head.Seq++
	head.Nonce = ulid.Make().String()
	version, err := w.s.Commit(deadline(w.t), w.name, w.version, head, changes)
	if err == nil {
		w.head, w.version = head, version
	}
	return err
}

func (w *writer) commit(changes ...pool.Change) {
	w.t.Helper()
	for chunk := range slices.Chunk(append(changes, pool.Change{}), table.MaxRows-1) {
		if chunk[len(chunk)-1].Key == "" {
			chunk = chunk[:len(chunk)-1]
		}
		if err := w.try(chunk...); err != nil {
			w.t.Fatal(err)
		}
	}
}

func wantCode(t *testing.T, what string, err error, want fault.Code) {
	t.Helper()
	if got := fault.CodeOf(err); got != want {
		t.Errorf("%s: error %v has code %q, want %q", what, err, got, want)
	}
}

func TestCommitAndLoad(t *testing.T) {
	t.Parallel()
	s, ctx := open(t, serve(t)), deadline(t)

	_, _, err := s.Load(ctx, "cpu")
	wantCode(t, "load before the pool is there", err, fault.NotFound)
	_, err = s.Head(ctx, "cpu")
	wantCode(t, "head before the pool is there", err, fault.NotFound)

	w := newWriter(t, s, "cpu")
	w.head.Sets, w.head.Down = []pool.Set{
		{Name: "d4s-v5", Size: "Standard_D4s_v5", Listed: dawn, Capacity: 3, Breaker: pool.Breaker{Bad: 3, Why: "x", OpenedAt: dawn}},
	}, true
	node := &pool.Node{VMID: "v1", Name: "cpu_1", State: pool.NodeReady, Since: dawn, BusyFor: time.Hour}
	log := &pool.Log{Seq: 1, Entries: []usage.Entry{{Kind: usage.KindNode, Key: "v1!x", From: dawn, To: dawn}}}
	a, b := newJob(1), newJob(2)
	w.commit(insert(b), insert(a), pool.Change{Key: pool.NodeKey("v1"), Value: node}, pool.Change{Key: pool.LogKey(1), Value: log})

	p, version, err := s.Load(ctx, "cpu")
	if err != nil {
		t.Fatal(err)
	}
	if want := (&pool.Partition{Head: w.head, Nodes: []*pool.Node{node}, Jobs: []*pool.Job{a, b}, Logs: []int64{1}}); !reflect.DeepEqual(
		p,
		want,
	) {
		t.Errorf("loaded %+v, want %+v", p, want)
	}
	if version != w.version {
		t.Errorf("version %+v was loaded, want %+v of the commit's reply", version, w.version)
	}
	if head, err := s.Head(ctx, "cpu"); err != nil || head != w.version {
		t.Errorf("head is %+v (%v), want %+v", head, err, w.version)
	}

	// A merge: the spec stays, and what became zero is zero.
	w.head.Sets, w.head.Down = nil, false
	w.commit(append(finish(a), pool.Change{Key: pool.LogKey(1)})...)
	w.head.Spec.Nodes.Max = 7
	w.commit()
	p, version, err = s.Load(ctx, "cpu")
	if err != nil || version != w.version || !reflect.DeepEqual(p.Head, w.head) {
		t.Errorf("head is %+v (%v), want %+v", p.Head, err, w.head)
	}
	if len(p.Jobs) != 1 || p.Jobs[0].ID != b.ID || p.Logs != nil {
		t.Errorf("jobs %v and logs %v are live, want the second job only", p.Jobs, p.Logs)
	}

	if got, err := s.FinishedJob(ctx, "cpu", a.Order); err != nil || got.State != job.Succeeded {
		t.Errorf("finished job is %+v (%v)", got, err)
	}
	if got, err := s.Job(ctx, "cpu", a.Order); err != nil || got.ID != a.ID {
		t.Errorf("job is %+v (%v), want the finished one", got, err)
	}
	if got, err := s.Job(ctx, "cpu", b.Order); err != nil || got.ID != b.ID {
		t.Errorf("job is %+v (%v), want the live one", got, err)
	}
	_, err = s.FinishedJob(ctx, "cpu", b.Order)
	wantCode(t, "a live job among the finished", err, fault.NotFound)
	_, err = s.Job(ctx, "cpu", "x' or 'y")
	wantCode(t, "an order that is none", err, fault.NotFound)
	if p, err := s.Overview(ctx, "cpu"); err != nil || !reflect.DeepEqual(p.Nodes, []*pool.Node{node}) || p.Jobs != nil {
		t.Errorf("overview is %+v (%v), want the node only", p, err)
	}
}

func TestOneOfTwoWritersWins(t *testing.T) {
	t.Parallel()
	connection := serve(t)
	first := newWriter(t, open(t, connection), "cpu")
	first.commit(insert(newJob(1)))
	second := newWriter(t, open(t, connection), "cpu")
	second.head, second.version = first.head, first.version

	wantCode(t, "the pool is there already", newWriter(t, first.s, "cpu").try(), fault.Conflict)
	first.commit(insert(newJob(2)))
	wantCode(t, "the second writer", second.try(insert(newJob(3))), fault.Conflict)
	p, _, err := first.s.Load(deadline(t), "cpu")
	if err != nil || len(p.Jobs) != 2 {
		t.Fatalf("%d jobs are there (%v), want the first writer's 2", len(p.Jobs), err)
	}

	wantCode(t, "a job that is there already", first.try(insert(newJob(2))), fault.Conflict)
	wantCode(t, "deleting a row that is not there", first.try(pool.Change{Key: pool.JobKey(order(9))}), fault.Conflict)
	first.commit(insert(newJob(4))) // and neither moved the head

	// Many writers who load again until they win lose no update.
	const writers = 8
	var group sync.WaitGroup
	for range writers {
		group.Go(func() {
			s := open(t, connection)
			for {
				p, version, err := s.Load(deadline(t), "cpu")
				if err != nil {
					t.Error(err)
					return
				}
				w := &writer{t: t, s: s, name: "cpu", head: p.Head, version: version}
				w.head.N++
				if err = w.try(); fault.CodeOf(err) != fault.Conflict {
					if err != nil {
						t.Error(err)
					}
					return
				}
			}
		})
	}
	group.Wait()
	if p, _, err := first.s.Load(deadline(t), "cpu"); err != nil || p.Head.N != writers {
		t.Errorf("N is %d (%v), want one for each of %d writers", p.Head.N, err, writers)
	}
}

func TestFullTransactionsAndManyPages(t *testing.T) {
	t.Parallel()
	s, ctx := open(t, serve(t)), deadline(t)
	w := newWriter(t, s, "cpu")
	w.commit()
	const jobs = 1500
	var changes []pool.Change
	for n := range jobs {
		changes = append(changes, insert(newJob(n)))
	}
	wantCode(t, "101 rows", w.try(changes[:table.MaxRows]...), fault.Invalid)
	w.commit(changes...)
	p, version, err := s.Load(ctx, "cpu")
	if err != nil || len(p.Jobs) != jobs || version != w.version {
		t.Fatalf("loaded %d jobs of %+v (%v), want %d of %+v", len(p.Jobs), version, err, jobs, w.version)
	}
	for n, j := range p.Jobs {
		if j.Order != order(n) {
			t.Fatalf("job %d is %s, want %s", n, j.Order, order(n))
		}
	}
}

func TestPools(t *testing.T) {
	t.Parallel()
	s := open(t, serve(t))
	if names, err := s.PoolNames(deadline(t)); err != nil || names != nil {
		t.Errorf("pools are %v (%v), want none", names, err)
	}
	for _, name := range []string{"gpu", "a", "cpu-2", "cpu"} {
		newWriter(t, s, name).commit(insert(newJob(1)), insert(newJob(2)))
	}
	want := []string{"a", "cpu", "cpu-2", "gpu"}
	if names, err := s.PoolNames(deadline(t)); err != nil || !slices.Equal(names, want) {
		t.Errorf("pools are %v (%v), want %v", names, err, want)
	}
}

func TestJobs(t *testing.T) {
	t.Parallel()
	s := open(t, serve(t))
	w := newWriter(t, s, "cpu")
	w.commit()
	var changes []pool.Change
	for n := range 40 {
		changes = append(changes, insert(newJob(n)))
	}
	w.commit(changes...)
	changes = nil
	for n := range 25 { // the oldest have finished
		changes = append(changes, finish(newJob(n))...)
	}
	w.commit(changes...)
	changes = nil
	for n := 30; n < 35; n++ { // and some of the newer ones
		changes = append(changes, finish(newJob(n))...)
	}
	w.commit(changes...)

	down := func(from, to, step int) (orders []string) {
		for n := from; n >= to; n -= step {
			orders = append(orders, order(n))
		}
		return orders
	}
	for _, c := range []struct {
		name   string
		filter JobFilter
		limit  int
		want   []string
	}{
		{"all", JobFilter{}, 100, down(39, 0, 1)},
		{"in pages", JobFilter{}, 7, down(39, 0, 1)},
		{"pages that end with the live ones", JobFilter{}, 15, down(39, 0, 1)},
		{"of a team", JobFilter{Team: "speech"}, 3, down(39, 1, 2)},
		{"of a team with an odd name", JobFilter{Team: "o'x"}, 3, nil},
		{"live", JobFilter{States: []job.State{job.Queued}}, 4, append(down(39, 35, 1), down(29, 25, 1)...)},
		{"finished", JobFilter{States: []job.State{job.Succeeded}, Team: "vision"}, 4, append(down(34, 30, 2), down(24, 0, 2)...)},
		{"in several states", JobFilter{States: []job.State{job.Queued, job.Succeeded, job.Failed}}, 6, down(39, 0, 1)},
		{"since", JobFilter{Since: newJob(30).SubmittedAt}, 4, down(39, 30, 1)},
		{"until", JobFilter{Until: newJob(30).SubmittedAt}, 4, down(29, 0, 1)},
		{"in a time", JobFilter{Since: newJob(20).SubmittedAt, Until: newJob(30).SubmittedAt}, 3, down(29, 20, 1)},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var got []string
			cont := ""
			for {
				jobs, next, err := s.Jobs(deadline(t), "cpu", c.filter, c.limit, cont)
				if err != nil {
					t.Fatal(err)
				}
				if len(jobs) > c.limit {
					t.Fatalf("a page has %d jobs, want at most %d", len(jobs), c.limit)
				}
				for _, j := range jobs {
					got = append(got, j.Order)
				}
				if cont = next; cont == "" {
					break
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %d jobs %v, want %d: %v", len(got), got, len(c.want), c.want)
			}
			for below, want := range map[string]int{"": len(c.want), order(10): len(c.want) - len(above(c.want, order(10)))} {
				n, err := s.CountJobs(deadline(t), "cpu", c.filter, below, 100)
				few, failed := s.CountJobs(deadline(t), "cpu", c.filter, below, 2)
				if err != nil || failed != nil || n != want || few != min(want, 2) {
					t.Errorf("counted %d and %d below %q (%v, %v), want %d and 2 at most", n, few, below, err, failed, want)
				}
			}
		})
	}
	_, _, err := s.Jobs(deadline(t), "cpu", JobFilter{}, 1, "nonsense!")
	wantCode(t, "a continuation that is none", err, fault.Invalid)
}

// above are the orders that come before another one in a list, and that one.
func above(orders []string, order string) []string {
	return slices.DeleteFunc(slices.Clone(orders), func(o string) bool { return o < order })
}

func TestDropAndDelete(t *testing.T) {
	t.Parallel()
	s, ctx := open(t, serve(t)), deadline(t)
	w := newWriter(t, s, "cpu")
	w.commit()
	var changes []pool.Change
	for n := range 150 {
		c := finish(newJob(n))[1]
		c.Value.(*pool.Job).EndedAt = newJob(n).SubmittedAt
		changes = append(changes, c)
	}
	w.commit(
		append(changes, insert(newJob(200)), pool.Change{Key: pool.LogKey(1), Value: &pool.Log{Seq: 1, Entries: []usage.Entry{{}}}})...)

	if n, err := s.DropDone(ctx, "cpu", dawn.Add(120*time.Millisecond), 0); err != nil || n != 120 {
		t.Errorf("%d finished jobs were dropped (%v), want 120", n, err)
	}
	if jobs, _, err := s.Jobs(ctx, "cpu", JobFilter{States: []job.State{job.Succeeded}}, 100, ""); err != nil || len(jobs) != 30 ||
		jobs[29].Order != order(120) {
		t.Errorf("%d finished jobs are left (%v), want the 30 newest", len(jobs), err)
	}

	wantCode(t, "facts that are not recorded", s.DeletePool(ctx, "cpu"), fault.Conflict)
	w.commit(pool.Change{Key: pool.LogKey(1)})
	wantCode(t, "a pool that is in use", s.DeletePool(ctx, "cpu"), fault.Conflict)
	w.head.Deleting = true
	w.commit()
	newWriter(t, s, "cpu2").commit()
	for range 2 {
		if err := s.DeletePool(ctx, "cpu"); err != nil {
			t.Fatal(err)
		}
	}
	if names, err := s.PoolNames(ctx); err != nil || !slices.Equal(names, []string{"cpu2"}) {
		t.Errorf("pools are %v (%v), want the other one only", names, err)
	}
	wantCode(t, "a writer of the deleted pool", w.try(), fault.Conflict)
}

func TestNamesFromOutside(t *testing.T) {
	t.Parallel()
	s := open(t, serve(t))
	for _, name := range []string{"", "Cpu", "a'b", "a/b", "!pools", "abcdefghijklmnopqrstuvwxy"} {
		_, _, err := s.Load(deadline(t), name)
		wantCode(t, "pool "+name, err, fault.Invalid)
	}
	if _, err := Open(Config{}); fault.CodeOf(err) != fault.Invalid {
		t.Errorf("no connection gives %v, want a refusal", err)
	}
}

// Two processes may record the same ledger rows; the deletion that comes second
// finds nothing, and is no reason to refuse all else.
func TestLedgerRowsMayBeGone(t *testing.T) {
	t.Parallel()
	s, ctx := open(t, serve(t)), deadline(t)
	w := newWriter(t, s, "cpu")
	log := &pool.Log{Seq: 1, Entries: []usage.Entry{{Kind: usage.KindNode, Key: "v1!x", From: dawn, To: dawn}}}
	a := newJob(1)
	w.commit(insert(a), pool.Change{Key: pool.LogKey(1), Value: log})
	w.commit(pool.Change{Key: pool.LogKey(1)})
	w.commit(append(finish(a), pool.Change{Key: pool.LogKey(1)}, pool.Change{Key: pool.LogKey(7)})...)
	p, _, err := s.Load(ctx, "cpu")
	if err != nil || len(p.Jobs)+len(p.Logs) != 0 {
		t.Errorf("loaded %+v, %v", p, err)
	}
	wantCode(t, "a job's row that is gone", w.try(pool.Change{Key: pool.JobKey(a.Order)}), fault.Conflict)
}
