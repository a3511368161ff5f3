package store

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/store/table"
)

// endedAt is a job that was submitted and has ended at a time, with traits of all kinds: some
// are common, some are rare, and some are of this job alone.
func endedAt(r *rand.Rand, n int, at time.Time) *pool.Job {
	id := fmt.Sprint("job-", n)
	j := &pool.Job{Order: ulid.MustNew(ulid.Timestamp(at), ulid.DefaultEntropy()).String(), ID: id, State: job.Succeeded, SubmittedAt: at, EndedAt: at}
	j.Spec = job.Spec{ID: id, Pool: "cpu", Team: fmt.Sprint("team", r.IntN(3)), User: "ann", Name: fmt.Sprint("Train-", r.IntN(4)),
		Command: []string{"true"}, Resources: job.Resources{CPUs: 1}, Priority: job.Normal, Labels: map[string]string{"project": fmt.Sprint("p", r.IntN(3))}}
	switch r.IntN(60) {
	case 0:
		j.State = job.TimedOut
	case 1:
		j.Spec.User = "bob"
	case 2:
		j.Spec.Team, j.Spec.Name = "", "seldom"
	case 3:
		j.Spec.Labels["run"] = id
	case 4:
		for i := range maxLabels {
			j.Spec.Labels[fmt.Sprint("l", i)] = "x"
		}
	case 5:
		index := n
		j.Spec.Index, j.Order = &index, fmt.Sprintf("%s.%05d", j.Order, n)
	case 6, 7, 8, 9:
		j.State = job.Failed
	}
	if n%1000 > 700 { // for a while, each job has a name and a label of its own
		j.Spec.Name, j.Spec.Labels["run"] = id, id
	}
	return j
}

// TestListsByIndex compares lists by what some jobs have with all jobs, for an index that was
// written by two processes, at rates from one job in an hour to a thousand in a second, with jobs
// that end long after others that were submitted later.
func TestListsByIndex(t *testing.T) {
	t.Parallel()
	for seed := range uint64(2) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 7))
			connection := serve(t)
			w := newWriter(t, open(t, connection), "cpu")
			other := open(t, connection)
			w.commit()
			var all []*pool.Job
			at := dawn
			for len(all) < 2000 {
				gap := []time.Duration{time.Hour, time.Minute, time.Second, time.Millisecond}[len(all)/250%4]
				var changes []pool.Change
				for range 1 + r.IntN(40) {
					at = at.Add(time.Duration(r.Int64N(int64(2 * gap))))
					submitted := at
					if r.IntN(50) == 0 {
						submitted = at.Add(-time.Duration(r.Int64N(int64(72 * time.Hour))))
					}
					j := endedAt(r, len(all), submitted)
					all = append(all, j)
					changes = append(changes, pool.Change{Key: pool.DoneKey(j.Order), Value: j, Insert: true})
				}
				w.commit(changes...)
				w.s, other = other, w.s
			}
			slices.SortFunc(all, func(a, b *pool.Job) int { return compareOrders(b, a) })
			for _, f := range []JobFilter{
				{States: []job.State{job.TimedOut}},
				{States: []job.State{job.TimedOut, job.Failed}},
				{States: []job.State{job.Cancelled}},
				{States: []job.State{job.Succeeded}, Team: "team1"},
				{User: "bob"},
				{User: "nobody"},
				{User: "ann", Team: "team2"},
				{User: "bob", States: []job.State{job.Succeeded}, Since: dawn.Add(10 * time.Hour), Until: at.Add(-time.Hour)},
				{Labels: map[string]string{"project": "p1"}, User: "bob"},
				{Labels: map[string]string{"run": all[40].ID}},
				{Labels: map[string]string{"l1": "x"}},
				{Labels: map[string]string{"l1": "x", "project": "p0"}},
				{Name: func(name string) bool { return strings.Contains(name, "seldom") }},
				{Name: func(name string) bool { return strings.Contains(name, "job-71") }},
				{Name: func(name string) bool { return name == "train-2" }, States: []job.State{job.Failed}},
			} {
				want := idsThat(all, &f)
				for _, limit := range []int{15, 1000} {
					var got []*pool.Job
					pages, below := 0, ""
					for first := true; first || below != ""; first = false {
						page, next, err := w.s.Jobs(deadline(t), "cpu", f, limit, below)
						if err != nil {
							t.Fatal(err)
						}
						if got, below = append(got, page...), next; pages > len(all) {
							t.Fatalf("%+v: the list does not end", f)
						}
						pages++
					}
					if ids := idsThat(got, &f); !slices.Equal(ids, want) {
						t.Errorf("%+v, %d a page: %d jobs, want %d:\n%v\n%v", f, limit, len(ids), len(want), ids, want)
					}
				}
			}
		})
	}
}

// idsThat lists the ids of the jobs that pass a filter.
func idsThat(jobs []*pool.Job, f *JobFilter) (ids []string) {
	for _, j := range jobs {
		passes := f.matches(j) && j.Spec.Index == nil && (f.Name == nil || f.Name(strings.ToLower(j.Spec.Name)))
		for name, value := range f.Labels {
			passes = passes && j.Spec.Labels[name] == value
		}
		if passes {
			ids = append(ids, j.ID)
		}
	}
	return ids
}

// TestRequestsOfAList counts the requests of the first page of lists in a pool with many finished
// jobs of which few match, and the rows of the index of each job.
func TestRequestsOfAList(t *testing.T) {
	t.Parallel()
	const jobs = 6000
	connection, sent := serve(t), &requests{}
	s, err := Open(Config{ConnectionString: connection, Transport: sent})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	w := newWriter(t, s, "cpu")
	var changes []pool.Change
	for n := range jobs {
		at := dawn.Add(time.Duration(n) * time.Second)
		j := &pool.Job{Order: ulid.MustNew(ulid.Timestamp(at), nil).String(), ID: fmt.Sprint("job-", n), State: job.Succeeded, SubmittedAt: at, EndedAt: at}
		j.Spec = job.Spec{ID: j.ID, Pool: "cpu", Team: fmt.Sprint("team", n%7), User: fmt.Sprint("user", n%50), Name: "train", Labels: map[string]string{"project": fmt.Sprint("p", n%5)}}
		switch {
		case n == 3:
			j.Spec.User = "rare"
		case n%1000 == 500:
			j.State, j.Spec.Labels["why"] = job.TimedOut, "slow"
		}
		if changes = append(changes, pool.Change{Key: pool.DoneKey(j.Order), Value: j, Insert: true}); len(changes) == 60 {
			w.commit(changes...)
			changes = nil
		}
	}
	rows := 0
	_, err = s.Pools.table.Scan(t.Context(), "count", table.Query{Filter: table.Between("cpu", seenPrefix, "seen~")}, func([]byte) error { rows++; return nil })
	if err != nil || rows*mostPoints > jobs {
		t.Errorf("the index has %d rows for %d jobs (%v)", rows, jobs, err)
	}
	t.Logf("%.3f rows of the index for each job", float64(rows)/jobs)
	for _, tt := range []struct {
		name           string
		filter         JobFilter
		jobs, requests int
	}{
		{"a state that one in a thousand has", JobFilter{States: []job.State{job.TimedOut}}, 6, 9},
		{"a state that none has", JobFilter{States: []job.State{job.Cancelled}}, 0, 3},
		{"a user with one job", JobFilter{User: "rare", States: []job.State{job.Succeeded}}, 1, 8},
		{"a user without jobs", JobFilter{User: "nobody", States: []job.State{job.Succeeded, job.Failed}}, 0, 6},
		{"a user of many", JobFilter{User: "user3", States: []job.State{job.Succeeded}}, 100, 8},
		{"a label that few have", JobFilter{Labels: map[string]string{"why": "slow"}, States: []job.State{job.TimedOut}}, 6, 12},
		{"a name that none has", JobFilter{Name: func(string) bool { return false }, States: []job.State{job.Succeeded}}, 0, 4},
	} {
		before := sent.n.Load()
		got, _, err := s.Jobs(t.Context(), "cpu", tt.filter, 100, "")
		n := int(sent.n.Load() - before)
		if err != nil || len(got) != tt.jobs || n > tt.requests {
			t.Errorf("%s: %d jobs with %d requests, want %d with %d (%v)", tt.name, len(got), n, tt.jobs, tt.requests, err)
		}
		t.Logf("%s: %d jobs with %d requests", tt.name, len(got), n)
	}
}

// TestIndexBeginsAnew has an earlier release, which keeps no index, end a job in between: lists by
// what that job has show it, and so they do what ended later.
func TestIndexBeginsAnew(t *testing.T) {
	t.Parallel()
	w := newWriter(t, open(t, serve(t)), "cpu")
	end := func(n int, at time.Time) {
		j := &pool.Job{Order: ulid.MustNew(ulid.Timestamp(at), ulid.DefaultEntropy()).String(), ID: fmt.Sprint("job-", n), State: job.TimedOut, SubmittedAt: at, EndedAt: at}
		j.Spec = job.Spec{ID: j.ID, Pool: "cpu", User: "ann"}
		w.commit(pool.Change{Key: pool.DoneKey(j.Order), Value: j, Insert: true})
	}
	list := func() (ids []string) {
		jobs, _, err := w.s.Jobs(deadline(t), "cpu", JobFilter{User: "ann", States: []job.State{job.TimedOut}}, 100, "")
		if err != nil {
			t.Fatal(err)
		}
		for _, j := range jobs {
			ids = append(ids, j.ID)
		}
		return ids
	}
	now := time.Now()
	end(1, now.Add(-time.Hour))
	if w.version.Index == "" {
		t.Fatal("a new pool has no index")
	}
	// What an earlier release leaves: another transaction, and the property as it was.
	j := &pool.Job{Order: ulid.MustNew(ulid.Timestamp(now), nil).String(), ID: "job-2", State: job.TimedOut, SubmittedAt: now, EndedAt: now, Spec: job.Spec{ID: "job-2", Pool: "cpu", User: "ann"}}
	row, err := encodeJob("cpu", pool.DoneKey(j.Order), j)
	if err != nil {
		t.Fatal(err)
	}
	head := table.NewRow("cpu", pool.HeadKey)
	head.Int64("Seq", w.head.Seq+1)
	head.Text("Nonce", "earlier")
	if err := w.s.Pools.table.Transact(t.Context(), "as an earlier release", []table.Operation{
		{Kind: table.Merge, Row: head.JSON(), Match: table.Any}, {Kind: table.Insert, Row: row},
	}); err != nil {
		t.Fatal(err)
	}
	if got := list(); !slices.Equal(got, []string{"job-2", "job-1"}) {
		t.Errorf("after an earlier release: %v", got)
	}
	w.head.Seq++
	if w.version, err = w.s.Head(t.Context(), "cpu"); err != nil || w.version.Index != "" {
		t.Fatalf("version %+v (%v), want no index", w.version, err)
	}
	end(3, now.Add(time.Minute))
	end(4, now.Add(time.Hour))
	if got := list(); !slices.Equal(got, []string{"job-4", "job-3", "job-2", "job-1"}) || w.version.Index == "" {
		t.Errorf("with a new index %q: %v", w.version.Index, got)
	}
}

// TestDropSeen drops what the index has of jobs that have gone, and nothing of others.
func TestDropSeen(t *testing.T) {
	t.Parallel()
	w := newWriter(t, open(t, serve(t)), "cpu")
	r := rand.New(rand.NewPCG(1, 1))
	var keys []string
	for n := range 200 {
		j := endedAt(r, n, dawn.Add(time.Duration(n)*time.Hour))
		keys = append(keys, pool.DoneKey(j.Order))
		w.commit(pool.Change{Key: pool.DoneKey(j.Order), Value: j, Insert: true})
	}
	count := func() (n int) {
		_, err := w.s.Pools.table.Scan(t.Context(), "count", table.Query{Filter: table.Between("cpu", seenPrefix, "seen~")}, func([]byte) error { n++; return nil })
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	drop := func(before, now time.Time) int {
		n, err := w.s.DropSeen(t.Context(), "cpu", before, now)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	all, later := count(), time.Now().Add(3*noteLasts)
	if n := drop(dawn.Add(180*time.Hour), later); n > 0 {
		t.Errorf("%d rows went while their jobs are there", n)
	}
	for _, key := range keys[:150] {
		w.commit(pool.Change{Key: key})
	}
	if n := drop(dawn.Add(150*time.Hour), time.Now()); n > 0 {
		t.Errorf("%d rows went that a process may rely on", n)
	}
	if n := drop(dawn.Add(150*time.Hour), later); n < all/4 || count() != all-n {
		t.Errorf("%d of %d rows went, %d are left", n, all, count())
	}
	jobs, _, err := w.s.Jobs(deadline(t), "cpu", JobFilter{User: "ann", States: []job.State{job.Succeeded, job.Failed, job.TimedOut}}, 1000, "")
	without, _, err2 := w.s.Jobs(deadline(t), "cpu", JobFilter{}, 1000, "")
	f := JobFilter{User: "ann"}
	if err != nil || err2 != nil || !slices.Equal(idsThat(jobs, &f), idsThat(without, &f)) || len(jobs) == 0 {
		t.Errorf("%d jobs by user, %d in all (%v, %v)", len(jobs), len(without), err, err2)
	}
}
