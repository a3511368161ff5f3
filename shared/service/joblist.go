package service

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"slices"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/store"
	"dsvmpools/shared/wire"
)

// maxRead is how many rows one call of List reads to find jobs that pass a filter which
// the table cannot apply, to sort them, or to count them.
const maxRead = 10_000

// A long list holds thousands of jobs, each with a document of up to 32 KiB: few are read at
// once, and others wait for their turn.
const (
	shortList       = 100 // jobs that a list may have and is not long
	longListsAtOnce = 3
	longListWait    = 30 * time.Second
)

// isLong reports whether many jobs have to be read for a list.
func isLong(q wire.JobQuery) bool {
	isSorted := cmp.Or(q.Sort, wire.BySubmitted) != wire.BySubmitted || q.Reverse
	return isSorted || q.Limit > shortList || q.Name != "" || len(q.Labels) > 0
}

// takeLongList waits for the turn of a long list.
func (s *Jobs) takeLongList(ctx context.Context) (release func(), err error) {
	late := time.NewTimer(longListWait)
	defer late.Stop()
	select {
	case s.longLists <- struct{}{}:
		return func() { <-s.longLists }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-late.C:
		return nil, &fault.Error{Code: fault.Throttled, RetryAfter: time.Second,
			Message: "other long lists are being read; try again, or narrow the list with since, pool or a smaller limit"}
	}
}

// position is where a list goes on: behind these jobs.
type position struct {
	Order    string    `json:"o,omitempty"` // of the last job; "" = none was listed
	Rejected string    `json:"r,omitempty"` // key of the last rejected document
	Value    *int64    `json:"v,omitempty"` // what a sorted list is sorted by; nil = the last job has none
	At       time.Time `json:"t,omitzero"`  // of a sorted list: the time of its first page
}

func (p position) String() string {
	text, _ := json.Marshal(p) // texts, a number and a time can always be written
	return base64.RawURLEncoding.EncodeToString(text)
}

// maxContinuation is longer than any continuation of a list of jobs.
const maxContinuation = 2048

// parsePosition reads a continuation that a client sends back.
func parsePosition(text string) (position, error) {
	var p position
	if text == "" {
		return p, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if len(text) > maxContinuation || err != nil || json.Unmarshal(raw, &p) != nil {
		return position{}, fault.New(fault.Invalid, "continue", "the continuation cannot be read; begin the list again without it")
	}
	return p, nil
}

// List lists jobs of all pools, or of one, newest first. Those that were rejected have no
// rows in a pool; they are listed only when their state is asked for, and count for the
// pool that their document names.
func (s *Jobs) List(ctx context.Context, q wire.JobQuery) (wire.JobPage, error) {
	if q.Pool != "" {
		if err := checkPoolName(ctx, s.store, q.Pool); err != nil {
			return wire.JobPage{}, err
		}
	}
	from, err := parsePosition(q.Continue)
	if err != nil {
		return wire.JobPage{}, err
	}
	if isLong(q) {
		release, err := s.takeLongList(ctx)
		if err != nil {
			return wire.JobPage{}, err
		}
		defer release()
	}
	if err := checkRejected(q.JobFilter); err != nil {
		return wire.JobPage{}, err
	}
	l, err := s.newJobLister(ctx, q)
	if err != nil {
		return wire.JobPage{}, err
	}
	var page wire.JobPage
	if cmp.Or(q.Sort, wire.BySubmitted) != wire.BySubmitted || q.Reverse {
		page, err = l.sorted(ctx, from)
	} else {
		page, err = l.newest(ctx, from)
	}
	if err == nil && len(page.Jobs) == 0 && q.Pool != "" {
		// A pool that is not there must not look like a pool without jobs.
		err = s.checkPool(ctx, q.Pool)
	}
	return page, err
}

// checkRejected refuses a filter by what nobody keeps of a rejected document.
func checkRejected(f wire.JobFilter) error {
	if slices.Contains(f.States, job.Rejected) && (f.Team != "" || f.User != "" || f.Name != "" || f.Sweep != "" || len(f.Labels) > 0) {
		return fault.New(fault.Invalid, "state",
			"of a rejected job only its id and its pool are kept; ask for those in state rejected without team, user, name, labels and sweep")
	}
	return nil
}

// jobLister lists jobs for one query.
type jobLister struct {
	jobs  *Jobs
	query wire.JobQuery
	pools []string
	store store.JobFilter // the part of the filter that the table applies
}

func (s *Jobs) newJobLister(ctx context.Context, q wire.JobQuery) (*jobLister, error) {
	l := &jobLister{jobs: s, query: q, store: store.JobFilter{Team: q.Team, User: q.User, States: q.States, Since: q.Since, Until: q.Until,
		Labels: q.Labels}}
	if q.Name != "" {
		l.store.Name = func(name string) bool { return matchesName(q.Name, name) }
	}
	switch {
	case q.Sweep != "":
		row, err := s.registered(ctx, q.Sweep)
		if err != nil {
			return nil, err
		}
		if q.Pool == "" || q.Pool == row.Pool {
			l.pools, l.store.Sweep = []string{row.Pool}, row.Order
		}
	case q.Pool != "":
		l.pools = []string{q.Pool}
	case !slices.Equal(q.States, []job.State{job.Rejected}):
		names, err := s.store.PoolNames(ctx)
		if err != nil {
			return nil, err
		}
		l.pools = names
	}
	return l, nil
}

// matches reports whether a job passes the part of the filter that the table cannot apply.
func (l *jobLister) matches(j *pool.Job) bool {
	q := &l.query
	if q.Name != "" && !matchesName(q.Name, j.Spec.Name) {
		return false
	}
	for name, value := range q.Labels {
		if has, ok := j.Spec.Labels[name]; !ok || has != value {
			return false
		}
	}
	return true
}

// newest lists the page of jobs that comes after a position.
func (l *jobLister) newest(ctx context.Context, from position) (wire.JobPage, error) {
	r := l.read(from)
	var page wire.JobPage
	for len(page.Jobs) < l.query.Limit {
		j, err := r.next(ctx)
		if err != nil {
			return wire.JobPage{}, err
		}
		if j == nil {
			break
		}
		page.Jobs = append(page.Jobs, j)
	}
	if r.hasMore() {
		page.Continue = r.position().String()
	}
	return page, l.count(ctx, &page, r)
}

// count says how many jobs there are in all, where somebody asks.
func (l *jobLister) count(ctx context.Context, page *wire.JobPage, r *jobReader) error {
	if !l.query.Count {
		return nil
	}
	n := len(page.Jobs)
	switch {
	case page.Continue == "" && l.query.Continue == "":
	case l.query.Name != "" || len(l.query.Labels) > 0 || slices.Contains(l.query.States, job.Rejected):
		// The rows have to be read to be counted: on from here, and as far as one call reads.
		if l.query.Continue != "" {
			r, n = l.read(position{}), 0
		}
		r.left = maxRead
		for n < wire.MaxCounted {
			j, err := r.next(ctx)
			if err != nil {
				return err
			}
			if j == nil {
				break
			}
			n++
		}
		page.AtLeast = r.hasMore()
	default:
		n = 0
		for _, name := range l.pools {
			more, err := l.jobs.store.CountJobs(ctx, name, l.store, "", wire.MaxCounted+1-n)
			if err != nil {
				return err
			}
			if n += more; n > wire.MaxCounted {
				n, page.AtLeast = wire.MaxCounted, true
				break
			}
		}
	}
	page.Total = &n
	return nil
}

// sortedJob is a job with what it is sorted by.
type sortedJob struct {
	*pool.Job
	value *int64 // nil = it has none, and comes last
}

// sorted lists a page of jobs in another order than that of their submission. It reads
// all jobs of the filter for it, and keeps those of the page.
func (l *jobLister) sorted(ctx context.Context, from position) (wire.JobPage, error) {
	now := from.At
	if now.IsZero() {
		now = l.jobs.now()
	}
	r := l.read(position{})
	before := func(a, b sortedJob) int {
		if a.value == nil || b.value == nil {
			if c := cmp.Compare(boolToInt(a.value == nil), boolToInt(b.value == nil)); c != 0 {
				return c
			}
		} else if c := cmp.Compare(*b.value, *a.value); c != 0 {
			return flip(c, l.query.Reverse)
		}
		return flip(cmp.Compare(b.Order+b.ID, a.Order+a.ID), l.query.Reverse)
	}
	last := sortedJob{&pool.Job{Order: from.Order}, from.Value}
	all, behind := 0, 0
	var kept []sortedJob
	for {
		j, err := r.next(ctx)
		if err != nil {
			return wire.JobPage{}, err
		}
		if j == nil {
			break
		}
		all++
		one := sortedJob{j, sortValue(j, l.query.Sort, now)}
		if l.query.Continue != "" && before(one, last) <= 0 {
			continue
		}
		behind++
		if kept = append(kept, one); len(kept) >= 2*l.query.Limit+1 {
			slices.SortFunc(kept, before)
			kept = slices.Delete(kept, l.query.Limit, len(kept))
		}
	}
	if r.hasMore() {
		return wire.JobPage{}, fault.New(fault.Invalid, "sort",
			"more than %d jobs would have to be sorted; narrow the list with since, pool, state or another filter", maxRead)
	}
	slices.SortFunc(kept, before)
	kept = kept[:min(len(kept), l.query.Limit)]
	var page wire.JobPage
	for _, one := range kept {
		page.Jobs = append(page.Jobs, one.Job)
	}
	if behind > len(kept) {
		end := kept[len(kept)-1]
		page.Continue = position{Order: end.Order + end.ID, Value: end.value, At: now}.String()
	}
	if l.query.Count {
		page.Total = &all
	}
	return page, nil
}

func boolToInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

func flip(c int, reverse bool) int {
	if reverse {
		return -c
	}
	return c
}

// sortValue is what a job is sorted by, in nanoseconds; nil = it has not come that far.
func sortValue(j *pool.Job, by wire.JobSort, now time.Time) *int64 {
	shown := wire.NewJob(j)
	var value int64
	switch {
	case by == wire.ByStarted && shown.StartedAt != nil:
		value = shown.StartedAt.UnixNano()
	case by == wire.ByEnded && shown.EndedAt != nil:
		value = shown.EndedAt.UnixNano()
	case by == wire.ByTook && shown.StartedAt != nil && shown.EndedAt != nil:
		value = int64(shown.EndedAt.Sub(*shown.StartedAt))
	case by == wire.ByTook && shown.StartedAt != nil:
		value = int64(now.Sub(*shown.StartedAt))
	case cmp.Or(by, wire.BySubmitted) == wire.BySubmitted && shown.SubmittedAt != nil:
		value = shown.SubmittedAt.UnixNano()
	default:
		return nil
	}
	return &value
}
