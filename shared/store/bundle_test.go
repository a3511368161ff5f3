package store

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"reflect"
	"slices"
	"sort"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/store/table"
)

// bundleWorld is a pool whose jobs come, change and end at random, and what is right of it.
type bundleWorld struct {
	*writer
	r    *rand.Rand
	live map[string]*pool.Job
	done map[string]*pool.Job
	next int
	seen map[string]bool
}

// runOrder is an order of jobs that come together.
func runOrder(n int) string {
	const crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	return fmt.Sprintf("01KG9A61R0%013d%c%c%c", 0, crockford[n>>10], crockford[n>>5&31], crockford[n&31])
}

func (w *bundleWorld) newJob() *pool.Job {
	w.next++
	j := &pool.Job{Order: runOrder(w.next), ID: fmt.Sprint("job-", w.next), State: job.Queued, SubmittedAt: dawn.Add(time.Duration(w.next) * time.Millisecond),
		Spec: job.Spec{ID: fmt.Sprint("job-", w.next), Pool: "cpu", Team: fmt.Sprint("team", w.r.IntN(3)), User: "ann",
			Command: []string{"true", "a'\"\\<é"}, Resources: job.Resources{CPUs: 1}, Priority: job.Normal}}
	if w.r.IntN(6) == 0 {
		j.Spec.Script = strings.Repeat("x", 1000)
	}
	return j
}

// step changes some of the jobs in one transaction.
func (w *bundleWorld) step() {
	var changes []pool.Change
	if w.r.IntN(3) > 0 {
		w.next += w.r.IntN(20)
		for range w.r.IntN(30) {
			j := w.newJob()
			w.live[j.Order] = j
			changes = append(changes, insert(j))
		}
	}
	for _, order := range slices.Sorted(maps.Keys(w.live)) {
		before := w.live[order]
		if len(changes) > 70 || w.r.IntN(4) > 0 || slices.ContainsFunc(changes, func(c pool.Change) bool { return c.Key == pool.JobKey(order) }) {
			continue
		}
		j := *before // rows that were read or written are not changed
		switch w.r.IntN(6) % 4 {
		case 0:
			j.State, j.EndedAt, j.ExitCode = job.Failed, dawn, 7
			delete(w.live, order)
			w.done[order] = &j
			changes = append(changes, pool.Change{Key: pool.JobKey(order)}, pool.Change{Key: pool.DoneKey(order), Value: &j, Insert: true})
			continue
		case 1:
			j.State, j.VMID, j.N = job.Running, "v1", int64(w.r.IntN(100))
			j.Attempts = []job.Attempt{{Number: 1, Node: "n", VMID: "v1", State: job.AttemptRunning, AssignedAt: dawn}}
		case 2:
			j.State, j.Reason = job.Held, strings.Repeat("why ", w.r.IntN(100))
		case 3:
			j.Attempts = append(slices.Clone(j.Attempts), job.Attempt{Number: 2, State: job.AttemptFailed}, job.Attempt{Number: 3})
		}
		w.live[order] = &j
		changes = append(changes, pool.Change{Key: pool.JobKey(order), Value: &j})
	}
	pool.AddBundles(changes, 98, func(order string) *pool.Job { return w.live[order] })
	for _, c := range changes {
		j, isLive := c.Value.(*pool.Job)
		w.seen["bundled"] = w.seen["bundled"] || isLive && j.Bundled
		w.seen["left"] = w.seen["left"] || isLive && c.Bundle != nil && !j.Bundled
		w.seen["emptied"] = w.seen["emptied"] || c.Bundle != nil && len(c.Bundle.Jobs) == 0
		w.seen["own"] = w.seen["own"] || isLive && c.Bundle == nil && !c.Insert
	}
	w.commit(changes...)
}

// asText shows jobs so that they can be compared: a row keeps times with less precision than
// a bundle, and these have none that would show it.
func asText(jobs []*pool.Job) string {
	var b strings.Builder
	for _, j := range jobs {
		text, _ := json.Marshal(j)
		fmt.Fprintf(&b, "%s\n", text)
	}
	return b.String()
}

func (w *bundleWorld) sorted(jobs map[string]*pool.Job) (list []*pool.Job) {
	for _, order := range slices.Sorted(maps.Keys(jobs)) {
		list = append(list, jobs[order])
	}
	return list
}

// checkState makes sure that a pool is read as it is: from its rows, and from older versions.
func (w *bundleWorld) checkState(old *bundleWorld, from pool.Version) {
	part, version, err := w.s.Load(deadline(w.t), "cpu")
	if err != nil || version != w.version {
		w.t.Fatalf("loaded %+v (%v), want %+v", version, err, w.version)
	}
	if got, want := asText(part.Jobs), asText(w.sorted(w.live)); got != want {
		w.t.Fatalf("loaded\n%s\nwant\n%s", got, want)
	}
	suspects := []string{pool.JobKey(runOrder(1)), pool.JobKey(runOrder(w.next)), pool.JobKey(runOrder(w.next + 1))}
	d, _, ok, err := w.s.ChangesSince(deadline(w.t), "cpu", from, suspects, 10_000)
	if err != nil || !ok {
		w.t.Fatalf("since %d: %t (%v)", from.Seq, ok, err)
	}
	caught := maps.Clone(old.live)
	for _, j := range d.Jobs {
		caught[j.Order] = j
	}
	for _, key := range d.Gone {
		order, _ := pool.OrderOf(key)
		delete(caught, order)
	}
	if got, want := asText(w.sorted(caught)), asText(w.sorted(w.live)); got != want {
		w.t.Fatalf("caught up from %d with\n%s\nwant\n%s", from.Seq, got, want)
	}
	for order := range w.done {
		if old.done[order] == nil && !slices.Contains(d.Ended, order) {
			w.t.Errorf("%s has ended since %d, and the changes do not say so", order, from.Seq)
		}
	}
	for range 40 {
		order := runOrder(w.r.IntN(w.next + 2))
		want := w.live[order]
		if want == nil {
			want = w.done[order]
		}
		got, err := w.s.Job(deadline(w.t), "cpu", order)
		if want == nil && fault.CodeOf(err) == fault.NotFound {
			continue
		}
		if err != nil || want == nil || got.State != want.State || got.ID != want.ID {
			w.t.Fatalf("job %s is read as %+v (%v), want %+v", order, got, err, want)
		}
	}
}

// checkLists makes sure that lists and counts are those of a pool without bundles.
func (w *bundleWorld) checkLists() {
	for range 6 {
		filter := JobFilter{}
		if w.r.IntN(2) == 0 {
			filter.Team = "team1"
		}
		if w.r.IntN(2) == 0 {
			filter.States = [][]job.State{{job.Queued}, {job.Held, job.Running}, {job.Failed}, {job.Queued, job.Failed}}[w.r.IntN(4)]
		}
		if w.r.IntN(3) == 0 {
			filter.Since = dawn.Add(time.Duration(w.r.IntN(w.next+1)) * time.Millisecond)
		}
		if w.r.IntN(3) == 0 {
			filter.Until = dawn.Add(time.Duration(w.r.IntN(w.next+1)) * time.Millisecond)
		}
		var want []string
		for _, jobs := range []map[string]*pool.Job{w.live, w.done} {
			for order, j := range jobs {
				if filter.matches(j) {
					want = append(want, order)
				}
			}
		}
		slices.SortFunc(want, func(a, b string) int { return strings.Compare(b, a) })
		limit, below := 1+w.r.IntN(20), ""
		var got []string
		for pages := 0; ; pages++ {
			page, next, err := w.s.Jobs(deadline(w.t), "cpu", filter, limit, below)
			if err != nil || len(page) > limit || pages > 10*(w.next+1) {
				w.t.Fatalf("page %d of %+v: %d jobs, and %s follows %s (%v)", pages, filter, len(page), next, below, err)
			}
			for _, j := range page {
				got = append(got, j.Order)
			}
			if below = next; below == "" {
				break
			}
		}
		if !slices.Equal(got, want) { // each page by a list of its own
			w.t.Fatalf("%+v in pages of %d: %d jobs\n%v\nwant %d\n%v", filter, limit, len(got), got, len(want), want)
		}
		after := runOrder(w.r.IntN(w.next + 2))
		number := len(slices.DeleteFunc(slices.Clone(want), func(order string) bool { return order >= after }))
		for _, most := range []int{1000, 7} {
			if n, err := w.s.CountJobs(deadline(w.t), "cpu", filter, after, most); err != nil || n != min(number, most) {
				w.t.Fatalf("%+v below %s: %d counted (%v), want %d of at most %d", filter, after, n, err, number, most)
			}
		}
	}
}

// checkListMeanwhile makes sure that a list has each job once that was there when it began, while
// jobs come, end, and leave their bundles between its pages.
func (w *bundleWorld) checkListMeanwhile() {
	was := map[string]bool{}
	for _, jobs := range []map[string]*pool.Job{w.live, w.done} {
		for order := range jobs {
			was[order] = true
		}
	}
	list, below := w.s.ListJobs("cpu", JobFilter{}), ""
	got := map[string]int{}
	for first := true; first || below != ""; first = false {
		page, next, err := list.Page(deadline(w.t), 10+w.r.IntN(30), below)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, j := range page {
			got[j.Order]++
		}
		below = next
		w.step()
	}
	for order := range was {
		if got[order] != 1 {
			w.t.Errorf("job %s is in the list %d times", order, got[order])
		}
	}
}

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
