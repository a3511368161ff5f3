package store

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"reflect"
	"sort"
	"strings"
	"sync/atomic"
	"testing"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/store/table"
)

// TestBundles makes sure that jobs which share rows are read, listed and counted as others.
func TestBundles(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			w := &bundleWorld{
				writer: newWriter(t, open(t, serve(t)), "cpu"), r: rand.New(rand.NewPCG(seed, 1)),
				live: map[string]*pool.Job{}, done: map[string]*pool.Job{}, seen: seen,
			}
			w.commit()
			for range 10 {
				old, from := &bundleWorld{live: maps.Clone(w.live), done: maps.Clone(w.done)}, w.version
				for range 1 + w.r.IntN(3) {
					w.step()
				}
				w.checkState(old, from)
				w.checkLists()
			}
			w.checkListMeanwhile()
		})
	}
	if want := map[string]bool{"bundled": true, "left": true, "emptied": true, "own": true}; !reflect.DeepEqual(seen, want) {
		t.Errorf("seen %v, want %v", seen, want)
	}
}

// TestBundlesFit makes sure that the largest jobs that may share a row fit into it.
func TestBundlesFit(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("\x01", 25) // as long as such a sentence may be
	var changes []pool.Change
	live := map[string]*pool.Job{}
	for n := range 16 {
		j := &pool.Job{Order: runOrder(n), ID: strings.Repeat("i", 100), State: job.Running, Reason: long, Cancel: long, VMID: strings.Repeat("v", 36),
			Spec:     job.Spec{ID: strings.Repeat("i", 100), Pool: "cpu", Script: strings.Repeat("\x01", 80), Retry: job.Retry{On: []string{"nodeLost", "timedOut"}}},
			Attempts: []job.Attempt{{Number: 1, Node: strings.Repeat("n", 64), VMID: strings.Repeat("v", 36), Reason: long, Cause: "nodeLost", GPUs: make([]int, 16)}}}
		live[j.Order] = j
		changes = append(changes, insert(j))
	}
	pool.AddBundles(changes, 98, func(order string) *pool.Job { return live[order] })
	b := changes[0].Bundle
	if b == nil || len(b.Jobs) != 16 {
		t.Fatalf("%+v, want a bundle of all", b)
	}
	raw, err := encodeBundle("cpu", b)
	if err != nil || len(raw) > 4<<20/98 {
		t.Errorf("%d bytes (%v)", len(raw), err)
	}
	if jobs, err := decodeBundle(again(t, raw)); err != nil || asText(jobs) != asText(b.Jobs) {
		t.Errorf("it came back as %s (%v)", asText(jobs), err)
	}
	if row := again(t, raw); len(row) > 1<<20 {
		t.Errorf("the row has %d bytes", len(row))
	}
}

// requests counts the requests of a store.
type requests struct{ n atomic.Int64 }

func (r *requests) RoundTrip(req *http.Request) (*http.Response, error) {
	r.n.Add(1)
	return http.DefaultTransport.RoundTrip(req)
}

// TestListsPassOverBundles makes sure that a list of few jobs does not read the bundles of
// all others, and that jobs are counted no further than asked for.
func TestListsPassOverBundles(t *testing.T) {
	t.Parallel()
	connection, sent := serve(t), &requests{}
	w := newWriter(t, open(t, connection), "cpu")
	w.commit()
	live := map[string]*pool.Job{}
	find := func(order string) *pool.Job { return live[order] }
	for n := 0; n < 1600; n += 80 {
		var changes []pool.Change
		for i := range 80 {
			j := &pool.Job{Order: runOrder(n + i), ID: fmt.Sprint("job-", n+i), State: job.Queued, SubmittedAt: dawn,
				Spec: job.Spec{Pool: "cpu", Team: "vision", User: "ann", Command: []string{"true"}, Priority: job.Normal}}
			if n+i < 20 {
				j.State, j.Spec.User = job.Running, fmt.Sprint("user-", n+i)
			}
			live[j.Order] = j
			changes = append(changes, insert(j))
		}
		pool.AddBundles(changes, 98, find)
		w.commit(changes...)
	}
	s, err := Open(Config{ConnectionString: connection, Transport: sent})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	for _, c := range []struct {
		filter JobFilter
		want   int
	}{
		{JobFilter{States: []job.State{job.Running}}, 20},
		{JobFilter{States: []job.State{job.Held, job.Assigned, job.Running}, Team: "vision", Since: dawn, Until: dawn.Add(1)}, 20},
		{JobFilter{User: "user-7"}, 1},
		{JobFilter{States: []job.State{job.Submitted}}, 0},
		{JobFilter{Team: "other"}, 0},
	} {
		sent.n.Store(0)
		found, below := 0, ""
		for {
			jobs, next, err := s.Jobs(deadline(t), "cpu", c.filter, 50, below)
			if err != nil {
				t.Fatal(err)
			}
			found += len(jobs)
			if below = next; below == "" {
				break
			}
		}
		if n := sent.n.Load(); found != c.want || n > 6 {
			t.Errorf("%+v: %d jobs by %d requests, want %d by 6 at most", c.filter, found, n, c.want)
		}
		n, err := s.CountJobs(deadline(t), "cpu", c.filter, "", 1000)
		if err != nil || n != c.want {
			t.Errorf("%+v: %d counted (%v), want %d", c.filter, n, err, c.want)
		}
	}

	// The pages of a list do not list the keys again.
	sent.n.Store(0)
	list, found, below := s.ListJobs("cpu", JobFilter{}), 0, ""
	pages := 0
	for first := true; first || below != ""; first = false {
		jobs, next, err := list.Page(deadline(t), 100, below)
		if err != nil {
			t.Fatal(err)
		}
		pages, found, below = pages+1, found+len(jobs), next
	}
	if n := int(sent.n.Load()); found != 1600 || n > 1+2*pages { // one for live, one for finished rows
		t.Errorf("%d jobs on %d pages by %d requests, want 1600 by %d at most", found, pages, n, 1+2*pages)
	}

	// Each has a row of its own: two pages of keys, of which the first is enough.
	w = newWriter(t, w.s, "gpu")
	for n := range 15 {
		var changes []pool.Change
		for i := range 90 {
			changes = append(changes, insert(newJob(90*n+i)))
		}
		w.commit(changes...)
	}
	sent.n.Store(0)
	n, err := s.CountJobs(deadline(t), "gpu", JobFilter{}, "", 10)
	if err != nil || n != 10 || sent.n.Load() != 1 {
		t.Errorf("%d counted by %d requests (%v), want 10 by one", n, sent.n.Load(), err)
	}
}

// TestEarlierReleasesLoadBundles makes sure that an earlier release does not catch up over a
// transaction with bundles: it would take the keys for rows that are gone. It compares Prev
// with the nonce of the version before.
func TestEarlierReleasesLoadBundles(t *testing.T) {
	t.Parallel()
	w := newWriter(t, open(t, serve(t)), "cpu")
	w.commit()
	prevOf := func() (prev string) {
		raw, _, err := w.s.Pools.table.Get(deadline(t), "read", "cpu", pool.ChangeLogKey(w.version.Seq))
		if err != nil {
			t.Fatal(err)
		}
		var row struct{ Prev string }
		if err := table.Decode(raw, &row); err != nil {
			t.Fatal(err)
		}
		return row.Prev
	}
	one, two := newJob(1), newJob(2)
	one.Order, two.Order = runOrder(1), runOrder(2)
	live := map[string]*pool.Job{one.Order: one, two.Order: two}
	for _, c := range []struct {
		changes func() []pool.Change
		shared  bool
	}{
		{func() []pool.Change { return []pool.Change{insert(one), insert(two)} }, true},
		{func() []pool.Change { return []pool.Change{insert(newJob(3))} }, false},
		{func() []pool.Change { delete(live, one.Order); return finish(one) }, true},
	} {
		before, changes := w.version, c.changes()
		for n := range 20 { // so many keys get a row of their own in the change log
			vmid := fmt.Sprintf("a-node-with-a-long-name-%d", n)
			changes = append(changes, pool.Change{Key: pool.NodeKey(vmid), Value: &pool.Node{VMID: vmid}})
		}
		pool.AddBundles(changes, 98, func(order string) *pool.Job { return live[order] })
		w.commit(changes...)
		if gap := prevOf() != before.Nonce; gap != c.shared {
			t.Errorf("the change log has Prev %q after %q: a gap is %t, want %t", prevOf(), before.Nonce, gap, c.shared)
		}
		if _, version, ok, err := w.s.ChangesSince(deadline(t), "cpu", before, nil, 10); err != nil || !ok || version != w.version {
			t.Errorf("this release caught up: %t (%v)", ok, err)
		}
	}
}

// TestDamagedBundles makes sure that rows which cannot be read are an error for lists.
func TestDamagedBundles(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{
		`{"PartitionKey":"cpu","RowKey":"job!01KG9A61R00000000000000001","Spec":"{"}`,
		`{"PartitionKey":"cpu","RowKey":"job!01KG9A61R0000000000000000~0","Jobs":"[null]"}`,
		`{"PartitionKey":"cpu","RowKey":"job!01KG9A61R0000000000000000~0"}`,
	} {
		if _, err := (&JobFilter{}).decodeLive("", "")([]byte(raw)); err == nil || !strings.Contains(err.Error(), "job!01KG9A61R0") {
			t.Errorf("%s: got %v, want an error that names the row", raw, err)
		}
	}
}

// A transaction that changes a job in each of as many bundles as it has rows is written, with
// the longest texts that jobs in bundles may have, whatever characters these are made of.
func TestBundlesFitIntoATransaction(t *testing.T) {
	t.Parallel()
	const bundles, each = 98, 16
	for name, unit := range map[string]string{"letters": "x", "quotes": `"`, "backslashes": `\`, "control characters": "\x01", "markup": "<", "accents": "é"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWriter(t, open(t, serve(t)), "cpu")
			live := map[string]*pool.Job{}
			add := func(changes []pool.Change) {
				pool.AddBundles(changes, bundles, func(order string) *pool.Job { return live[order] })
				w.commit(changes...)
			}
			long := func(most int, fits func(text string) bool) string { // the longest text of such characters that fits
				n := sort.Search(most, func(n int) bool { return !fits(strings.Repeat(unit, n+1)) })
				return strings.Repeat(unit, n)
			}
			newJob := func(order, script string, on ...string) *pool.Job {
				j := &pool.Job{Order: order, ID: "job-" + order, State: job.Queued, SubmittedAt: dawn}
				j.Spec = job.Spec{ID: j.ID, Pool: "cpu", Team: "vision", User: "ann", Script: script, Resources: job.Resources{CPUs: 1}, Priority: job.Normal}
				j.Spec.Retry.On = on
				return j
			}
			isShared := func(j *pool.Job) bool {
				other := *j
				other.Order = j.Order[:len(j.Order)-1] + "1"
				pool.AddBundles([]pool.Change{insert(j), insert(&other)}, bundles, func(string) *pool.Job { return nil })
				return j.Bundled
			}
			script := long(2000, func(text string) bool { return isShared(newJob(runOrder(0), text)) })
			if script == "" || isShared(newJob(runOrder(0), script, strings.Repeat("nodeLost", 50))) {
				t.Errorf("script of %d bytes: the causes to try again do not count", len(script))
			}
			for b := range bundles {
				var changes []pool.Change
				for n := range each {
					j := newJob(runOrder(b*each+n), script)
					live[j.Order] = j
					changes = append(changes, insert(j))
				}
				add(changes)
			}
			var changes []pool.Change
			for b := range bundles {
				j := *live[runOrder(b*each)]
				if !j.Bundled {
					t.Fatalf("job %d has a row of its own", b*each)
				}
				j.State = job.Running
				live[j.Order] = &j
				changes = append(changes, pool.Change{Key: pool.JobKey(j.Order), Value: &j})
			}
			add(changes)
		})
	}
}
