package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/store/table"
)

// JobFilter says which jobs to list. An empty field matches all.
type JobFilter struct {
	Team   string
	User   string
	States []job.State // any of them
	Since  time.Time   // submitted then or later
	Until  time.Time   // submitted before
	// Sweep is the order of a sweep whose members to list; without it, members
	// are left out.
	Sweep string
	// Labels and Name are what jobs have: all of these labels, and a name that Name takes. Only the
	// index of finished jobs looks at them, so that the answer has others, too.
	Labels map[string]string
	Name   func(lowerCase string) bool
}

// odata is the filter for live or for finished rows. Table Storage takes 15 comparisons
// in one query: there are 5 states at most, 5 others here, and 3 in the range. For live rows
// that may be bundles there is ofLive.
func (f JobFilter) odata(final bool) string {
	s := ""
	if f.Sweep == "" {
		s += " and Kind ne '" + kindMember + "'"
	}
	if f.Team != "" {
		s += fmt.Sprintf(" and Team eq '%s'", table.Quote(f.Team))
	}
	if f.User != "" {
		s += fmt.Sprintf(" and User eq '%s'", table.Quote(f.User))
	}
	s += f.ofTimes()
	var states []string
	for _, state := range f.States {
		if state.Final() == final {
			states = append(states, fmt.Sprintf("State eq '%s'", table.Quote(string(state))))
		}
	}
	if len(states) > 0 {
		s += " and (" + strings.Join(states, " or ") + ")"
	}
	return s
}

// ofTimes is the part of a filter that is about when jobs were submitted.
func (f *JobFilter) ofTimes() (s string) {
	if !f.Since.IsZero() {
		s += fmt.Sprintf(" and SubmittedAt ge datetime'%s'", f.Since.UTC().Format(table.TimeLayout))
	}
	if !f.Until.IsZero() {
		s += fmt.Sprintf(" and SubmittedAt lt datetime'%s'", f.Until.UTC().Format(table.TimeLayout))
	}
	return s
}

// wants reports whether live jobs, or finished ones, can pass the filter.
func (f JobFilter) wants(final bool) bool {
	return len(f.States) == 0 || slices.ContainsFunc(f.States, func(s job.State) bool { return s.Final() == final })
}

// check refuses a filter that makes the query too long.
func (f JobFilter) check() error {
	if len(f.Team) > maxFilter || len(f.User) > maxFilter {
		return fault.New(fault.Invalid, "team", "the filter is longer than %d characters", maxFilter)
	}
	return nil
}

// orderSlack is more than the clock moves between the making of an order and the
// reading of the time of submission, which the filter is exact about.
const orderSlack = time.Minute

// bounds are the orders between which the jobs of the filter lie that come after `below`
// in the list: from <= order < to. "" = there is no bound.
func (f JobFilter) bounds(below string) (from, to string, err error) {
	if f.Sweep != "" { // a member's time is that of its sweep; the character after the point ends the range
		from, to = f.Sweep+".", f.Sweep+"/"
	} else {
		if !f.Since.IsZero() {
			if from, err = orderAt(f.Since.Add(-orderSlack)); err != nil {
				return "", "", err
			}
		}
		if !f.Until.IsZero() {
			if to, err = orderAt(f.Until.Add(orderSlack)); err != nil {
				return "", "", err
			}
		}
	}
	if below != "" && (to == "" || below < to) {
		to = below
	}
	return from, to, nil
}

const (
	// maxPage bounds what one call of Jobs returns.
	maxPage = 1000
	// maxFilter bounds a filter's value; the service bounds the whole query.
	maxFilter = 256
)

// JobList is a list of jobs of a pool that is read page by page. It lists the keys of the live
// jobs once, and the pages read the rows. It is not for several goroutines.
type JobList struct {
	pools  *Pools
	name   string
	filter JobFilter
	keys   []string // of live jobs that are still to come, and of newer ones
	listed bool
}

// ListJobs begins a list.
func (p *Pools) ListJobs(name string, filter JobFilter) *JobList {
	return &JobList{pools: p, name: name, filter: filter}
}

// Jobs is the page of a list that comes after below; see JobList.Page.
func (p *Pools) Jobs(ctx context.Context, name string, filter JobFilter, limit int, below string) ([]*pool.Job, string, error) {
	return p.ListJobs(name, filter).Page(ctx, limit, below)
}

// Page lists jobs of a pool, live and finished, in one order: the newest first, at most
// limit (1 to 1000) of them. below is "" or the text that the call before has returned:
// the order below which the list goes on; that text is "" at the end. A page may have
// fewer jobs than asked for, even none, and not be the last. A job that stays in the
// filter is in the list once, also when it ends while the list is read.
func (l *JobList) Page(ctx context.Context, limit int, below string) ([]*pool.Job, string, error) {
	name, filter := l.name, l.filter
	if err := job.CheckPool("pool", name); err != nil {
		return nil, "", err
	}
	if err := filter.check(); err != nil {
		return nil, "", err
	}
	if below != "" && !isOrder(below) {
		return nil, "", fault.New(fault.Invalid, "continue", "this is not a continuation of a list of jobs; start again without it")
	}
	from, to, err := filter.bounds(below)
	if err != nil {
		return nil, "", err
	}
	limit = min(max(limit, 1), maxPage)

	// The live jobs come first: one that ends meanwhile is found again among the
	// finished ones. Both lists are whole down to the floor, and the page ends there.
	var live, done []*pool.Job
	floor := ""
	if filter.wants(false) {
		if live, floor, err = l.liveJobs(ctx, limit, from, to); err != nil {
			return nil, "", err
		}
	}
	if filter.wants(true) {
		end := ""
		if done, end, err = l.pools.finishedJobs(ctx, name, filter, limit, max(from, floor), to); err != nil {
			return nil, "", err
		}
		if floor = max(floor, end); len(done) == limit {
			floor = max(floor, done[limit-1].Order)
		}
	}
	jobs := mergeNewest(live, done)
	end := slices.IndexFunc(jobs, func(j *pool.Job) bool { return j.Order < floor })
	if end < 0 {
		end = len(jobs)
	}
	if end = min(end, limit); end < len(jobs) && end > 0 {
		floor = jobs[end-1].Order
	}
	return jobs[:end], floor, nil
}

// mergeNewest merges lists of live and of finished jobs. Of a job in both, the finished
// row is the newer one.
func mergeNewest(live, done []*pool.Job) []*pool.Job {
	all := append(slices.Clone(done), live...)
	slices.SortStableFunc(all, func(a, b *pool.Job) int { return strings.Compare(b.Order, a.Order) })
	return slices.CompactFunc(all, func(a, b *pool.Job) bool { return a.Order == b.Order })
}

// liveJobs lists live jobs with from <= order < to, newest first. Their keys rise with
// their age, and a range cannot be read backwards: so the keys come first, then the rows
// of the page. It returns the order down to which the list is whole; "" = to its end.
func (l *JobList) liveJobs(ctx context.Context, limit int, from, to string) (jobs []*pool.Job, floor string, err error) {
	what, t := "list jobs of pool "+l.name, l.pools.table
	if !l.listed {
		l.keys, err = readAll(ctx, t, what, liveQuery(l.name, l.filter, from, to, "PartitionKey,RowKey"), table.DecodeKey)
		if err != nil {
			return nil, "", err
		}
		l.listed = true
	}
	end := endOfLive(&l.filter, to)
	l.keys = slices.DeleteFunc(l.keys, func(key string) bool {
		order, _ := pool.OrderOf(key)
		return key >= end || to != "" && order >= to && !pool.IsBundleKey(key)
	})
	if len(l.keys) == 0 {
		return nil, "", nil
	}
	// A job that has left its bundle since the keys were listed has a row between those of the page.
	if first := pageFrom(l.keys, limit); first > 0 {
		floor = pool.LeastOrder(l.keys[first])
	}
	rows, err := readAll(ctx, t, what, liveQuery(l.name, l.filter, max(from, floor), to, ""), l.filter.decodeLive(from, to))
	if err != nil {
		return nil, "", err
	}
	jobs = slices.Concat(rows...)
	slices.SortFunc(jobs, func(a, b *pool.Job) int { return compareOrders(b, a) })
	return jobs, floor, nil
}

// bundleWeight is as how many jobs a bundle counts before it is read. If it has fewer, the
// page is shorter.
const bundleWeight = 8

// pageFrom is the first key of the rows that hold the newest jobs, about so many. Rows whose
// orders are below that of a bundle's last job, and above that of its first, are read with it.
func pageFrom(keys []string, limit int) int {
	first, jobs := len(keys), 0
	for first > 0 && jobs < limit {
		if first--; pool.IsBundleKey(keys[first]) {
			jobs += bundleWeight
		} else {
			jobs++
		}
	}
	for first > 0 && pool.IsBundleKey(keys[first]) && keys[first-1] >= pool.JobKey(pool.LeastOrder(keys[first])) {
		first--
	}
	return first
}

// decodeLive reads the live jobs of a row that pass the filter, with from <= order < to.
func (f *JobFilter) decodeLive(from, to string) func(raw []byte) ([]*pool.Job, error) {
	return func(raw []byte) ([]*pool.Job, error) {
		jobs, err := decodeJobs(raw)
		return slices.DeleteFunc(jobs, func(j *pool.Job) bool {
			return j.Order < from || to != "" && j.Order >= to || f.Sweep == "" && !f.matches(j)
		}), err
	}
}

// liveQuery asks for live jobs with from <= order < to, and for bundles that may have some.
func liveQuery(name string, filter JobFilter, from, to, fields string) table.Query {
	return table.Query{Filter: liveRange(name, filter, from, to) + filter.ofLive(), Fields: fields}
}

// liveRange is the range of the rows of liveQuery.
func liveRange(name string, filter JobFilter, from, to string) string {
	return table.Between(name, pool.JobKey(from), endOfLive(&filter, to))
}

// endOfLive is after the keys of all rows that may hold a live job whose order is below to.
func endOfLive(filter *JobFilter, to string) string {
	end := "job\"" // after every live job
	if to != "" {
		if end = pool.JobKey(to); filter.Sweep == "" {
			if last := pool.LastKeyBelow(to); last != end {
				end = last + "!" // what else is before it is left out later
			}
		}
	}
	return end
}

// finishedJobs lists finished jobs with from <= order < to, newest first. If it has not come so
// far, it returns the order down to which the list is whole.
func (p *Pools) finishedJobs(ctx context.Context, name string, filter JobFilter, limit int, from, to string) (
	jobs []*pool.Job, floor string, err error,
) {
	if filter.Sweep == "" && filter.hasTraits() {
		found, err := p.listByIndex(ctx, name, &filter, limit, from, to)
		if err != nil || found.isAll || found.floor != "" || len(found.jobs) == limit {
			return found.jobs, found.floor, err
		}
		jobs, to = found.jobs, found.below
	}
	q := doneQuery(name, filter, from, to, "")
	q.Limit = limit - len(jobs)
	rest, err := readAll(ctx, p.table, "list finished jobs of pool "+name, q, decodeJob)
	return append(jobs, rest...), "", err
}

// doneQuery asks for finished jobs with from <= order < to; the keys have them in the
// other direction.
func doneQuery(name string, filter JobFilter, from, to, fields string) table.Query {
	first, end := pool.DoneFrom, pool.DoneTo
	if filter.Sweep != "" {
		first, end = pool.DoneKey(filter.Sweep)+".", pool.DoneKey(filter.Sweep)+"/"
	}
	if isOrder(to) {
		first = pool.DoneKey(to) + "!" // the first key after it
	}
	if isOrder(from) {
		end = pool.DoneKey(from) + "!"
	}
	return table.Query{Filter: table.Between(name, first, end) + filter.odata(true), Fields: fields}
}

// CountJobs counts the jobs of a pool that pass the filter and come after `below` in the
// list, up to a number: it reads no more than their keys, a thousand in each request.
func (p *Pools) CountJobs(ctx context.Context, name string, filter JobFilter, below string, most int) (int, error) {
	if err := job.CheckPool("pool", name); err != nil {
		return 0, err
	}
	from, to, err := filter.bounds(below)
	if err != nil {
		return 0, err
	}
	n := 0
	if filter.wants(false) {
		n, err = p.countLive(ctx, name, filter, from, to, most)
	}
	if err == nil && filter.wants(true) && n < most {
		q := doneQuery(name, filter, from, to, "PartitionKey,RowKey")
		q.Limit = most - n
		_, err = p.table.Scan(ctx, "count jobs of pool "+name, q, func([]byte) error { n++; return nil })
	}
	if err != nil {
		return 0, err
	}
	return min(n, most), nil
}

// errCounted ends the reading of rows when there are enough.
var errCounted = errors.New("enough jobs are counted")

// countLive counts live jobs: those with rows of their own by their keys, and those in bundles
// by reading them. It stops when it has counted so many or more.
func (p *Pools) countLive(ctx context.Context, name string, filter JobFilter, from, to string, most int) (n int, err error) {
	what, bundles := "count jobs of pool "+name, 0
	q := liveQuery(name, filter, from, to, "PartitionKey,RowKey")
	_, err = p.table.Scan(ctx, what, q, func(raw []byte) error {
		key, err := table.DecodeKey(raw)
		switch order, _ := pool.OrderOf(key); {
		case err != nil:
			return err
		case pool.IsBundleKey(key):
			bundles++
		case to == "" || order < to:
			if n++; n >= most {
				return errCounted
			}
		}
		return nil
	})
	if err == nil && bundles > 0 {
		q = table.Query{Filter: liveRange(name, filter, from, to) + " and Kind eq '" + kindBundle + "'" + filter.ofBundles()}
		_, err = p.table.Scan(ctx, what, q, func(raw []byte) error {
			jobs, err := filter.decodeLive(from, to)(raw)
			if n += len(jobs); err == nil && n >= most {
				return errCounted
			}
			return err
		})
	}
	if errors.Is(err, errCounted) {
		err = nil
	}
	return n, err
}
