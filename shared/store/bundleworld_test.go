package store

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
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
