package store

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/scheduler"
	"dsvmpools/shared/store/table"
)

// since reads what changed, and fails when the change log does not have it.
func since(t *testing.T, s *Store, from pool.Version, keys ...string) (*pool.Delta, pool.Version) {
	t.Helper()
	d, v, ok, err := s.ChangesSince(deadline(t), "cpu", from, keys, 0)
	if err != nil || !ok {
		t.Fatalf("since %d: told %v (%v), want it told", from.Seq, ok, err)
	}
	return d, v
}

func TestSince(t *testing.T) {
	t.Parallel()
	s := open(t, serve(t))
	w := newWriter(t, s, "cpu")
	w.commit(insert(newJob(1)), insert(newJob(2)))
	from := w.version
	if d, v := since(t, s, from); v != from || !reflect.DeepEqual(d, &pool.Delta{Head: w.head}) {
		t.Errorf("nothing has changed, got %+v of %+v", d, v)
	}

	node := &pool.Node{VMID: "v1", Name: "cpu_1", State: pool.NodeReady, Since: dawn}
	second := newJob(2)
	second.State = job.Held
	w.commit(
		append(
			finish(newJob(1)),
			pool.Change{Key: pool.NodeKey("v1"), Value: node},
			pool.Change{Key: pool.LogKey(2), Value: &pool.Log{Seq: 2}},
		)...)
	w.commit(pool.Change{Key: pool.JobKey(second.Order), Value: second}, insert(newJob(3)))
	w.commit(append(finish(newJob(3)), finish(newJob(4))[1])...) // the last came and ended at once
	w.head.Spec.Nodes.Max = 9
	w.commit()
	d, v := since(t, s, from, pool.JobKey(order(5)), pool.NodeKey("v2"), pool.JobKey(order(2)))
	want := &pool.Delta{Head: w.head, Nodes: []*pool.Node{node}, Jobs: []*pool.Job{second},
		Gone:  []string{pool.JobKey(order(1)), pool.JobKey(order(3)), pool.JobKey(order(4)), pool.JobKey(order(5)), pool.NodeKey("v2")},
		Ended: []string{order(1), order(3), order(4)}}
	if !reflect.DeepEqual(d, want) || v != w.version {
		t.Errorf("got %+v of %+v,\nwant %+v of %+v", d, v, want, w.version)
	}
	// Whoever commits on what it caught up with is one of the writers.
	late := &writer{t: t, s: s, name: "cpu", head: d.Head, version: v}
	late.commit(insert(newJob(6)))
	if d, _ := since(t, s, w.version); len(d.Jobs) != 1 || d.Jobs[0].Order != order(6) {
		t.Errorf("got %+v, want the job of the late writer", d)
	}
	if d, _ := since(t, s, pool.Version{}); len(d.Jobs) != 2 || len(d.Nodes) != 1 {
		t.Errorf("from the pool's beginning: got %d jobs and %d nodes, want 2 and 1", len(d.Jobs), len(d.Nodes))
	}
}

func TestSinceCannotTell(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		do   func(w *writer)
	}{
		{"the ring is full", func(w *writer) {
			for range pool.ChangeLogLength + 2*mostEdits {
				w.commit()
			}
		}},
		{"a transaction without room for its edit", func(w *writer) {
			var changes []pool.Change
			for n := range table.MaxRows - 1 {
				changes = append(changes, insert(newJob(n+10)))
			}
			w.commit(changes...)
			w.commit()
		}},
		{"the pool is gone", func(w *writer) {
			w.head.Deleting = true
			w.commit()
			if err := w.s.DeletePool(deadline(w.t), "cpu"); err != nil {
				w.t.Fatal(err)
			}
		}},
		{"another pool has its name", func(w *writer) {
			w.head.Deleting = true
			w.commit()
			if err := w.s.DeletePool(deadline(w.t), "cpu"); err != nil {
				w.t.Fatal(err)
			}
			other := newWriter(w.t, w.s, "cpu")
			for range 3 {
				other.commit()
			}
		}},
		{"more has changed than a load would read", func(w *writer) {
			for n := range 3 {
				var changes []pool.Change
				for k := range 90 {
					changes = append(changes, insert(newJob(10+100*n+k)))
				}
				w.commit(changes...)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := open(t, serve(t))
			w := newWriter(t, s, "cpu")
			w.commit(insert(newJob(1)))
			from := w.version
			c.do(w)
			if d, _, ok, err := s.ChangesSince(deadline(t), "cpu", from, nil, 0); ok || err != nil {
				t.Errorf("it was told: %+v (%v), want that it cannot be", d, err)
			}
		})
	}
}

// While a large pool is read, others go on writing to it: it is read once all the
// same, and as a whole.
func TestLoadWhileOthersWrite(t *testing.T) {
	t.Parallel()
	connection := serve(t)
	w := newWriter(t, open(t, connection), "cpu")
	w.commit()
	const jobs = 2500
	var changes []pool.Change
	for n := range jobs {
		changes = append(changes, insert(newJob(n)))
	}
	w.commit(changes...)
	pages := 0
	between := tap(t, connection, func(r *http.Request) {
		if strings.Contains(r.URL.RawQuery, "NextRowKey") {
			pages++ // after a page: a job of an earlier one ends, one of a later changes, and one is new
			changed := newJob(jobs - pages)
			changed.State = job.Held
			w.commit(
				append(finish(newJob(pages)), pool.Change{Key: pool.JobKey(changed.Order), Value: changed}, insert(newJob(jobs+pages)))...)
		}
	})
	p, v, err := open(t, between).Load(deadline(t), "cpu")
	if err != nil || v != w.version || pages != 2 {
		t.Fatalf("loaded %+v after %d more pages (%v), want %+v after 2", v, pages, err, w.version)
	}
	whole, _, err := w.s.Load(deadline(t), "cpu")
	if err != nil || !reflect.DeepEqual(p, whole) {
		t.Errorf("what was read while others wrote is not what is there (%v): %d jobs, want %d", err, len(p.Jobs), len(whole.Jobs))
	}
}

// tap puts a line in front of a server that calls seen with each request.
func tap(t testing.TB, connection string, seen func(*http.Request)) string {
	t.Helper()
	target, forward := proxyTo(t, connection)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen(r)
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return strings.Replace(connection, target, strings.TrimPrefix(server.URL, "http://"), 1)
}

// A cold pool is loaded by what is live of it, however much has finished.
func TestLoadReadsWhatIsLive(t *testing.T) {
	t.Parallel()
	connection := serve(t)
	w := newWriter(t, open(t, connection), "cpu")
	w.commit(insert(newJob(0)), insert(newJob(1)))
	var requests atomic.Int32
	s := open(t, tap(t, connection, func(*http.Request) { requests.Add(1) }))
	for finished := range 3 {
		requests.Store(0)
		p, _, err := s.Load(deadline(t), "cpu")
		if err != nil || len(p.Jobs) != 2 || requests.Load() != 1 {
			t.Errorf(
				"after %d finished jobs, %d are live and were read by %d requests (%v), want 2 by 1", 1200*finished, len(p.Jobs),
				requests.Load(), err,
			)
		}
		var changes []pool.Change
		for n := range 1200 {
			changes = append(changes, finish(newJob(2 + 1200*finished + n))[1])
		}
		w.commit(changes...)
	}
}

// large writes a pool with jobs that wait.
func large(b *testing.B, s *Store, jobs int) *writer {
	w := newWriter(b, s, "cpu")
	w.commit()
	for chunk := range slices.Chunk(slices.Collect(func(yield func(int) bool) {
		for n := range jobs {
			if !yield(n) {
				return
			}
		}
	}), 98) {
		var changes []pool.Change
		for _, n := range chunk {
			j := newJob(n)
			j.Spec.ID = j.ID
			changes = append(changes, insert(j))
		}
		w.commit(changes...)
	}
	return w
}

// BenchmarkCatchUp compares two ways of a writer that some transactions of 6 rows
// have overtaken: catching up and loading everything.
func BenchmarkCatchUp(b *testing.B) {
	const jobs = 100_000
	s := open(b, serve(b))
	w := large(b, s, jobs)
	b.Run("load", func(b *testing.B) {
		for b.Loop() {
			var rows scheduler.Rows
			p, _, err := s.LoadInto(deadline(b), "cpu", &rows)
			if err != nil || rows.Len() != jobs {
				b.Fatal(err)
			}
			scheduler.NewStateOf(p.Head, p.Nodes, &rows, dawn)
		}
	})
	p, version, err := s.Load(deadline(b), "cpu")
	if err != nil {
		b.Fatal(err)
	}
	state := scheduler.NewState(p.Head, p.Nodes, p.Jobs, dawn)
	for _, behind := range []int{1, 10} {
		b.Run(fmt.Sprintf("catch-up/behind=%d", behind), func(b *testing.B) {
			for round := 0; b.Loop(); round++ {
				b.StopTimer()
				for k := range behind {
					var changes []pool.Change
					for i := range 6 {
						j := newJob((round*97 + k*6 + i) % jobs)
						changes = append(changes, pool.Change{Key: pool.JobKey(j.Order), Value: j})
					}
					w.commit(changes...)
				}
				b.StartTimer()
				d, v, ok, err := s.ChangesSince(deadline(b), "cpu", version, nil, jobs)
				if err != nil || !ok {
					b.Fatal(ok, err)
				}
				state.CatchUp(d.Head, d.Nodes, d.Jobs, d.Gone, dawn)
				version = v
			}
		})
	}
}

// BenchmarkMemoryOfALoad is what the jobs of a line take in memory while their pool is loaded: as rows, and packed page by page.
func BenchmarkMemoryOfALoad(b *testing.B) {
	const jobs = 50_000
	s := open(b, serve(b))
	large(b, s, jobs)
	b.Run("rows", func(b *testing.B) {
		for b.Loop() {
			before := bytesInUse()
			p, _, err := s.Load(deadline(b), "cpu")
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(bytesInUse()-before)/jobs, "B/job")
			runtime.KeepAlive(p)
		}
	})
	b.Run("pages", func(b *testing.B) {
		for b.Loop() {
			rows := sampledRows{before: bytesInUse()}
			if _, _, err := s.LoadInto(deadline(b), "cpu", &rows); err != nil || rows.Len() != jobs {
				b.Fatal(rows.Len(), err)
			}
			b.ReportMetric(float64(rows.most)/jobs, "B/job")
		}
	})
}

// sampledRows looks from time to time at what is in use.
type sampledRows struct {
	scheduler.Rows
	puts         int
	before, most int64
}

func (r *sampledRows) Put(rows ...*pool.Job) {
	r.Rows.Put(rows...)
	if r.puts++; r.puts%5_000 == 0 {
		r.most = max(r.most, bytesInUse()-r.before)
	}
}

// BenchmarkLoadCold loads a pool of 1,000 live jobs beside finished ones.
func BenchmarkLoadCold(b *testing.B) {
	for _, finished := range []int{0, 50_000} {
		s := open(b, serve(b))
		w := large(b, s, 999)
		var changes []pool.Change
		for n := range finished {
			changes = append(changes, finish(newJob(1_000 + n))[1])
		}
		w.commit(changes...)
		b.Run(fmt.Sprintf("finished=%d", finished), func(b *testing.B) {
			for b.Loop() {
				if p, _, err := s.Load(deadline(b), "cpu"); err != nil || len(p.Jobs) != 999 {
					b.Fatal(err)
				}
			}
		})
	}
}

// The outcome of a commit whose reply was lost is found in the ring, too.
func TestSinceAfterALostReply(t *testing.T) {
	t.Parallel()
	l, connection := newFaultyLine(t, serve(t))
	w := newWriter(t, open(t, connection), "cpu")
	w.commit()
	from := w.version
	l.mishaps <- replyLost
	w.commit(insert(newJob(1)))
	if d, v := since(t, w.s, from); v.Seq != w.version.Seq || len(d.Jobs) != 1 {
		t.Errorf("got %+v, want the one job", d)
	}
	wantCode(
		t, "a name that is none",
		func() error { _, _, _, err := w.s.ChangesSince(deadline(t), "a'b", from, nil, 0); return err }(), fault.Invalid,
	)
}
