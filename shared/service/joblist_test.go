package service_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"dsvmpools/local/apptest"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/service"
	"dsvmpools/shared/store"
	"dsvmpools/shared/wire"
)

// countedTables counts requests.
type countedTables struct {
	http.RoundTripper
	requests atomic.Int64
}

func (c *countedTables) RoundTrip(r *http.Request) (*http.Response, error) {
	c.requests.Add(1)
	return c.RoundTripper.RoundTrip(r)
}

// library is use cases over pools with many jobs.
type library struct {
	*service.Service
	tables *countedTables
	app    *apptest.Instance
}

var libraryPools = []string{"cpu", "gpu", "large", "night"}

// newLibrary has n jobs, one a second until noon, in four pools by turns: job-0 is the
// oldest. The last `live` ones have not ended.
func newLibrary(t *testing.T, n, live int, change ...func(*pool.Job)) *library {
	t.Helper()
	var config service.Config
	l := &library{app: apptest.New(t, func(c *service.Config) { config = *c })}
	l.tables = &countedTables{RoundTripper: l.app.Tables}
	counted, err := store.Open(store.Config{ConnectionString: l.app.Tables.ConnectionString(), Transport: l.tables})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(counted.Close)
	config.Store = counted
	l.Service = service.New(config)
	rows := map[string][]pool.Change{}
	for i := range n {
		j := libraryJob(i, n)
		for _, f := range change {
			f(j)
		}
		key := pool.JobKey(j.Order)
		if i < n-live {
			key = pool.DoneKey(j.Order)
			j.State, j.EndedAt = []job.State{job.Succeeded, job.Failed}[i/4%2], j.SubmittedAt.Add(time.Hour)
			j.Attempts = []job.Attempt{{Number: 1, State: job.AttemptState(j.State), StartedAt: j.SubmittedAt.Add(time.Duration(i*7%100) * time.Second)}}
		}
		rows[j.Spec.Pool] = append(rows[j.Spec.Pool], pool.Change{Key: key, Value: j, Insert: true})
	}
	for _, name := range libraryPools {
		head, version := pool.Head{Spec: pool.Spec{Name: name, Sizes: []string{"Standard_D2s_v5"}}}, pool.Version{}
		for chunk := range slices.Chunk(append(rows[name], pool.Change{Key: pool.LogKey(1)}), 98) {
			head.Seq++
			head.Nonce = fmt.Sprint(name, head.Seq)
			if version, err = l.app.Store.Commit(t.Context(), name, version, head, chunk); err != nil {
				t.Fatal(err)
			}
		}
	}
	l.tables.requests.Store(0)
	return l
}

func libraryJob(i, n int) *pool.Job {
	at := apptest.Noon.Add(time.Duration(i-n) * time.Second)
	var order ulid.ULID
	_ = order.SetTime(ulid.Timestamp(at)) // it is a time of this century
	spec := job.Spec{Pool: libraryPools[i%4], Name: fmt.Sprintf("Train-%d", i%10), Team: "vision", User: []string{"ann", "bob"}[i/8%2],
		Command: []string{"true"}, Labels: map[string]string{"round": strconv.Itoa(i % 100)}}
	return &pool.Job{Order: order.String(), ID: fmt.Sprintf("job-%d", i), State: job.Queued, SubmittedAt: at, Spec: spec}
}

// all reads a list to its end, and returns the ids and the first page.
func (l *library) all(t *testing.T, q wire.JobQuery) (ids []string, first wire.JobPage) {
	t.Helper()
	for n := 0; ; n++ {
		page, err := l.Jobs.List(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			first = page
		}
		if len(page.Jobs) > q.Limit {
			t.Fatalf("a page has %d jobs, want %d at most", len(page.Jobs), q.Limit)
		}
		for _, j := range page.Jobs {
			ids = append(ids, j.ID)
		}
		if q.Continue = page.Continue; q.Continue == "" || n > 10_000 {
			return ids, first
		}
	}
}

// TestJobListMergesPools: over all pools, the newest job comes first, live or finished, in
// pages of any size, and each filter is applied before the list is cut.
func TestJobListMergesPools(t *testing.T) {
	t.Parallel()
	const n = 300
	l := newLibrary(t, n, 37)
	for name, test := range map[string]struct {
		filter wire.JobFilter
		want   func(i int, j *pool.Job) bool
	}{
		"all":       {wire.JobFilter{}, func(int, *pool.Job) bool { return true }},
		"of a pool": {wire.JobFilter{Pool: "gpu"}, func(i int, _ *pool.Job) bool { return i%4 == 1 }},
		"of a user": {wire.JobFilter{User: "bob", Team: "vision"}, func(i int, _ *pool.Job) bool { return i/8%2 == 1 }},
		"in states": {wire.JobFilter{States: []job.State{job.Failed, job.Queued}},
			func(i int, _ *pool.Job) bool { return i >= n-37 || i/4%2 == 1 }},
		"a part of the name": {wire.JobFilter{Name: "AIN-3"}, func(i int, _ *pool.Job) bool { return i%10 == 3 }},
		"a pattern":          {wire.JobFilter{Name: "t*-?"}, func(int, *pool.Job) bool { return true }},
		"no such pattern":    {wire.JobFilter{Name: "rain*"}, func(int, *pool.Job) bool { return false }},
		"labels":             {wire.JobFilter{Labels: map[string]string{"round": "7"}}, func(i int, _ *pool.Job) bool { return i%100 == 7 }},
		"in a time": {wire.JobFilter{Since: apptest.Noon.Add(-200 * time.Second), Until: apptest.Noon.Add(-20 * time.Second)},
			func(i int, _ *pool.Job) bool { return i >= n-200 && i < n-20 }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var want []string
			for i := n - 1; i >= 0; i-- {
				if test.want(i, libraryJob(i, n)) {
					want = append(want, fmt.Sprintf("job-%d", i))
				}
			}
			for _, limit := range []int{7, 100, 1000} {
				got, first := l.all(t, wire.JobQuery{JobFilter: test.filter, Limit: limit, Count: true})
				if !slices.Equal(got, want) {
					t.Errorf("pages of %d: got %d jobs %v, want %d: %v", limit, len(got), got, len(want), want)
				}
				if first.Total == nil || *first.Total != len(want) || first.AtLeast || len(first.Jobs) != min(limit, len(want)) {
					t.Errorf("pages of %d: the first one has %d jobs and the total %v, want %d", limit, len(first.Jobs), first.Total, len(want))
				}
			}
		})
	}
}

// TestJobListSorted: a list in another order is whole, in pages too.
func TestJobListSorted(t *testing.T) {
	t.Parallel()
	const n = 120
	l := newLibrary(t, n, 20)
	for _, by := range wire.JobSorts {
		for _, reverse := range []bool{false, true} {
			whole, first := l.all(t, wire.JobQuery{Sort: by, Reverse: reverse, Limit: 1000, Count: true})
			pages, _ := l.all(t, wire.JobQuery{Sort: by, Reverse: reverse, Limit: 11})
			if !slices.Equal(whole, pages) || len(whole) != n || *first.Total != n {
				t.Errorf("%s: got %v in pages, %v as a whole, total %d", by, pages, whole, *first.Total)
			}
			last := ""
			for _, j := range first.Jobs {
				shown := wire.NewJob(j)
				value := map[wire.JobSort]*time.Time{
					wire.BySubmitted: shown.SubmittedAt, wire.ByStarted: shown.StartedAt, wire.ByEnded: shown.EndedAt, wire.ByTook: shown.EndedAt,
				}[by]
				text := "" // they come last
				if value != nil {
					text = value.Format(time.RFC3339)
				}
				if by == wire.ByTook && value != nil {
					text = fmt.Sprintf("%09d", shown.EndedAt.Sub(*shown.StartedAt))
				}
				if last != "" && text != "" && text != last && (text > last) != reverse || last == "" && text != "" && j != first.Jobs[0] {
					t.Errorf("%s, reverse %v: %q comes after %q", by, reverse, text, last)
				}
				last = text
			}
		}
	}
}

// TestJobListCost: what a list costs does not grow with the jobs that nobody asks for.
func TestJobListCost(t *testing.T) {
	t.Parallel()
	l := newLibrary(t, 11_600, 100)
	const names = 5 // requests for the names of four pools
	for name, test := range map[string]struct {
		query    wire.JobQuery
		requests int64
		jobs     int
		total    int
		atLeast  bool
	}{
		"the newest":       {wire.JobQuery{Limit: 100}, names + 4*3, 100, -1, false},
		"counted":          {wire.JobQuery{Limit: 100, Count: true}, names + 4*3 + 4*4, 100, 10_000, true},
		"counted in part":  {wire.JobQuery{JobFilter: wire.JobFilter{User: "ann"}, Limit: 100, Count: true}, names + 4*6 + 4*3, 100, 5800, false},
		"of one pool":      {wire.JobQuery{JobFilter: wire.JobFilter{Pool: "gpu"}, Limit: 1000, Count: true}, 3 + 4, 1000, 2900, false},
		"since a minute":   {wire.JobQuery{JobFilter: wire.JobFilter{Since: apptest.Noon.Add(-time.Minute)}, Limit: 100, Count: true}, names + 4*3, 60, 60, false},
		"with a label":     {wire.JobQuery{JobFilter: wire.JobFilter{Labels: map[string]string{"round": "7"}}, Limit: 100, Count: true}, names + 4*21, 100, 116, false},
		"none of the name": {wire.JobQuery{JobFilter: wire.JobFilter{Name: "eval"}, Limit: 100}, names + 4*9, 0, -1, false},
		"a thousand":       {wire.JobQuery{Limit: 1000}, names + 4*5, 1000, -1, false},
	} {
		t.Run(name, func(t *testing.T) {
			before := l.tables.requests.Load()
			page, err := l.Jobs.List(t.Context(), test.query)
			if err != nil {
				t.Fatal(err)
			}
			total := -1
			if page.Total != nil {
				total = *page.Total
			}
			if cost := l.tables.requests.Load() - before; cost > test.requests {
				t.Errorf("it cost %d requests, want %d at most", cost, test.requests)
			}
			if len(page.Jobs) != test.jobs || total != test.total || page.AtLeast != test.atLeast {
				t.Errorf("got %d jobs of %d (or more: %v), want %d of %d (or more: %v)",
					len(page.Jobs), total, page.AtLeast, test.jobs, test.total, test.atLeast)
			}
		})
	}
	_, err := l.Jobs.List(t.Context(), wire.JobQuery{Sort: wire.ByTook, Limit: 10})
	if fault.CodeOf(err) != fault.Invalid || !strings.Contains(fmt.Sprint(err), "narrow the list") {
		t.Errorf("11,600 jobs are sorted: %v", err)
	}
}

// TestLongSearch: what one call does not find for all that it reads, the next one goes on with. The
// index does not say where jobs with so many labels are.
func TestLongSearch(t *testing.T) {
	t.Parallel()
	l := newLibrary(t, 11_600, 100, func(j *pool.Job) {
		for i := range 10 {
			j.Spec.Labels[fmt.Sprint("label", i)] = "x"
		}
	})
	search := wire.JobQuery{JobFilter: wire.JobFilter{Labels: map[string]string{"label1": "y"}}, Limit: 10}
	if ids, first := l.all(t, search); len(ids) > 0 || first.Continue == "" {
		t.Errorf("a long search found %v, continue %q", ids, first.Continue)
	}
}

// TestJobListOfRejected: rejected jobs are merged with others by time, and no filter is
// taken that nothing is known about.
func TestLongJobListsWaitForTheirTurn(t *testing.T) {
	t.Parallel()
	l := newLibrary(t, 20, 5)
	release := l.Jobs.HoldLongLists()
	long := map[string]wire.JobQuery{
		"sorted":   {Limit: 5, Sort: wire.ByTook},
		"reversed": {Limit: 5, Reverse: true},
		"wide":     {Limit: 1000},
		"by name":  {JobFilter: wire.JobFilter{Name: "x*"}, Limit: 5},
		"by label": {JobFilter: wire.JobFilter{Labels: map[string]string{"a": "b"}}, Limit: 5},
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, q := range long {
		if _, err := l.Jobs.List(ended, q); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if page, err := l.Jobs.List(t.Context(), wire.JobQuery{Limit: 10}); err != nil || len(page.Jobs) != 10 {
		t.Errorf("a short list: %d jobs, %v", len(page.Jobs), err)
	}
	release()
	for range 2 * 5 { // each gives its turn back
		for name, q := range long {
			if _, err := l.Jobs.List(t.Context(), q); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestJobListOfRejected(t *testing.T) {
	t.Parallel()
	app := apptest.New(t)
	if err := app.Apply(t.Context(), apptest.PoolDocument); err != nil {
		t.Fatal(err)
	}
	var want []string
	for i := range 9 {
		app.Clock.Set(apptest.Noon.Add(time.Duration(i) * time.Second))
		id := fmt.Sprintf("job-%d", i)
		if i%2 == 0 {
			if err := app.Submit(t.Context(), fmt.Sprintf(`{"id":%q,"pool":"cpu","command":["true"]}`, id)); err != nil {
				t.Fatal(err)
			}
		} else if err := app.Send(t.Context(), fmt.Sprintf(`{"id":%q,"pool":"cpu","command":["true"],"resources":{"cpus":99}}`, id)); err != nil {
			t.Fatal(err)
		}
		want = append([]string{id}, want...)
	}
	l := &library{Service: app.Service}
	for _, limit := range []int{1, 2, 5, 100} {
		q := wire.JobQuery{JobFilter: wire.JobFilter{States: []job.State{job.Rejected, job.Queued}}, Limit: limit, Count: true}
		got, first := l.all(t, q)
		if !slices.Equal(got, want) || *first.Total != len(want) {
			t.Errorf("pages of %d: got %v of %d, want %v", limit, got, *first.Total, want)
		}
	}
	for _, f := range []wire.JobFilter{{User: "ann"}, {Name: "x"}, {Labels: map[string]string{"a": "b"}}} {
		f.States = []job.State{job.Rejected}
		if _, err := app.Jobs.List(t.Context(), wire.JobQuery{JobFilter: f, Limit: 1}); fault.CodeOf(err) != fault.Invalid {
			t.Errorf("%+v: got %v, want a refusal", f, err)
		}
	}
}

// FuzzJobListContinue: whatever comes as a continuation, a list ends or says that it
// cannot be read.
func FuzzJobListContinue(f *testing.F) {
	for _, text := range []string{"", "e30", "eyJvIjoiMDFLRDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAifQ", "eyJvIjoiJyBvciAxIGVxIDEifQ", "eyJyIjoiJyJ9", "eyJ2IjoxfQ"} {
		f.Add(text)
	}
	app := apptest.Example(f)
	f.Fuzz(func(t *testing.T, text string) {
		for _, q := range []wire.JobQuery{
			{Limit: 2, Continue: text},
			{Limit: 2, Continue: text, Sort: wire.ByTook},
			{Limit: 2, Continue: text, JobFilter: wire.JobFilter{States: []job.State{job.Rejected}}},
		} {
			if _, err := app.Jobs.List(t.Context(), q); err != nil && fault.CodeOf(err) != fault.Invalid {
				t.Errorf("%q: got %v", text, err)
			}
		}
	})
}
