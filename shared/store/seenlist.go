package store

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/store/table"
)

// How the index of finished jobs is read; seen.go says how it is written. A place is a mirrored
// order, or its beginning: places rise from the newest job to the oldest.

const (
	// Rows of one trait that are read at first, and at once at most.
	fewSeen, manySeen = 50, 1000
	// maxNames bounds the rows that are read to find names that a text is part of. If there are
	// more, the list is not narrowed by name.
	maxNames = 3000
	// maxLooks bounds the places at which one call looks; then it says how far it has come.
	maxLooks = 100
	// spansAtOnce bounds the spans that one query reads.
	spansAtOnce = 16
	// getsAtOnce bounds the finished jobs that are read side by side.
	getsAtOnce = 16
)

// stretch is a part of the finished rows, or one of them: first <= place < end.
type stretch struct{ first, end string }

func (s stretch) isJob() bool { return s.end == s.first+"!" }

// orderAtZero is the order of the oldest possible job.
const orderAtZero = "00000000000000000000000000"

// endOfPlace is behind all places that begin with this one.
func endOfPlace(place string) string {
	if len(place) >= len(orderAtZero) {
		return place + "!"
	}
	return place + "~"
}

// follower is the beginning of places after this one, of the same length; "" = there is none.
func follower(place string) string {
	const digits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	b := []byte(place)
	for i := len(b) - 1; i >= 0; i-- {
		if at := strings.IndexByte(digits, b[i]); at >= 0 && at < len(digits)-1 {
			b[i] = digits[at+1]
			return string(b)
		}
		b[i] = digits[0]
	}
	return ""
}

// stream reads where the jobs of one trait are, or of some: the stretches rise by their begin.
type stream struct {
	read  func(ctx context.Context, from string, n int) ([]stretch, error)
	ahead []stretch
	last  string // place of the last row that was read
	began bool
	ended bool
	n     int
}

// next is the first stretch that ends behind a place; the zero stretch: there is none.
func (s *stream) next(ctx context.Context, place string) (stretch, error) {
	for {
		for len(s.ahead) > 0 && s.ahead[0].end <= place {
			s.ahead = s.ahead[1:]
		}
		if len(s.ahead) > 0 || s.ended {
			break
		}
		from := s.last + "!"
		if !s.began {
			s.began, from, s.n = true, place, fewSeen
		}
		more, err := s.read(ctx, from, s.n)
		if err != nil {
			return stretch{}, err
		}
		if s.ahead = more; len(more) > 0 {
			s.last = more[len(more)-1].first
		}
		s.ended = len(more) < s.n
		s.n = min(2*s.n, manySeen)
	}
	if len(s.ahead) == 0 {
		return stretch{}, nil
	}
	return s.ahead[0], nil
}

// newStream reads the rows of a trait: spans of each length, and single jobs. A span comes
// before what it contains.
func (p *Pools) newStream(name, key string) *stream {
	read := func(ctx context.Context, from string, n int) ([]stretch, error) {
		var found []stretch
		for length := longestSpan; length <= shortestSpan && length < len(from); length++ { // spans that contain the place
			_, _, err := p.table.Get(ctx, "look where finished jobs of pool "+name+" are", name, key+from[:length])
			if err == nil {
				found = append(found, stretch{from[:length], endOfPlace(from[:length])})
			} else if fault.CodeOf(err) != fault.NotFound {
				return nil, err
			}
		}
		more, err := p.readSeen(ctx, name, key, from, n-len(found), nil)
		return append(found, more...), err
	}
	first := read
	return &stream{read: func(ctx context.Context, from string, n int) ([]stretch, error) {
		if first != nil {
			first = nil
			return read(ctx, from, n)
		}
		return p.readSeen(ctx, name, key, from, n, nil)
	}}
}

// readSeen reads rows of the index whose keys begin with key, n at most, from a place on. With
// takes, those whose names it takes.
func (p *Pools) readSeen(ctx context.Context, name, key, from string, n int, takes func(text string) bool) (found []stretch, err error) {
	q := table.Query{
		Filter: table.Between(name, key+from, strings.TrimSuffix(key, "!")+`"`),
		Fields: "PartitionKey,RowKey,Name",
		Limit:  n,
		Bare:   true,
	}
	rows := 0
	_, err = p.table.Scan(ctx, "look where finished jobs of pool "+name+" are", q, func(raw []byte) error {
		var row struct{ RowKey, Name string }
		if err := table.Decode(raw, &row); err != nil {
			return err
		}
		rows++
		place := row.RowKey[strings.LastIndexByte(row.RowKey, '!')+1:]
		if takes == nil || row.Name == "" || takes(row.Name) {
			found = append(found, stretch{place, endOfPlace(place)})
		}
		return nil
	})
	if err == nil && takes != nil && rows >= n {
		return nil, errCounted
	}
	return found, err
}

// nameStream reads all names that jobs have, and where those are that are asked for; nil: there
// are too many names.
func (p *Pools) nameStream(ctx context.Context, name string, takes func(string) bool) (*stream, error) {
	found, err := p.readSeen(ctx, name, seenPrefix+kindName+"!", "", maxNames, takes)
	if errors.Is(err, errCounted) {
		return nil, nil
	}
	slices.SortFunc(found, func(a, b stretch) int { return cmp.Compare(a.first, b.first) })
	return &stream{ahead: found, ended: true, began: true}, err
}

// seenWalk goes through the stretches in which jobs may be that pass a filter.
type seenWalk struct{ all [][]*stream } // one of each list has to have the job

// walk begins a walk; nil: the filter asks for nothing that the index has.
func (p *Pools) walk(ctx context.Context, name string, f *JobFilter) (*seenWalk, error) {
	w := &seenWalk{}
	add := func(keys ...string) {
		var some []*stream
		for _, key := range keys {
			some = append(some, p.newStream(name, key))
		}
		w.all = append(w.all, some)
	}
	trait := func(kind, value string) { add(newTrait(kind, value).key, traitKey(kind, anyValue)) }
	if states := f.finalStates(); len(states) > 0 {
		keys := []string{traitKey(kindState, anyValue)}
		for _, state := range states {
			keys = append(keys, newTrait(kindState, string(state)).key)
		}
		add(keys...)
	}
	if f.Team != "" {
		trait(kindTeam, f.Team)
	}
	if f.User != "" {
		trait(kindUser, f.User)
	}
	for label, value := range f.Labels {
		kind := labelKind(label)
		add(newTrait(kind, value).key, traitKey(kind, anyValue), traitKey(manyLabels, anyValue))
	}
	if f.Name != nil {
		names, err := p.nameStream(ctx, name, f.Name)
		if err != nil {
			return nil, err
		}
		if names != nil {
			w.all = append(w.all, []*stream{names})
		}
	}
	if len(w.all) == 0 {
		return nil, nil
	}
	return w, nil
}

// next is the first stretch behind a place in which jobs may be, all of it behind that place.
func (w *seenWalk) next(ctx context.Context, place string) (stretch, bool, error) {
	for looks := 0; ; looks++ {
		both, err := w.firstOf(ctx, place)
		if err != nil {
			return stretch{}, false, err
		}
		at := stretch{place, "~"}
		for _, s := range both {
			if s.end == "" {
				return stretch{}, false, nil // no more jobs have this trait
			}
			at.first, at.end = max(at.first, s.first), min(at.end, s.end)
		}
		if at.first < at.end {
			return at, true, nil
		}
		place = at.first
	}
}

// firstOf finds, for each trait that is asked for, its first stretch behind a place.
func (w *seenWalk) firstOf(ctx context.Context, place string) ([]stretch, error) {
	found := make([][]stretch, len(w.all))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(getsAtOnce)
	for i, some := range w.all {
		found[i] = make([]stretch, len(some))
		for k, s := range some {
			group.Go(func() (err error) {
				found[i][k], err = s.next(ctx, place)
				return err
			})
		}
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	firsts := make([]stretch, len(w.all))
	for i, some := range found {
		some = slices.DeleteFunc(some, func(s stretch) bool { return s.end == "" })
		if len(some) > 0 {
			firsts[i] = slices.MinFunc(some, func(a, b stretch) int { return cmp.Compare(max(a.first, place), max(b.first, place)) })
		}
	}
	return firsts, nil
}

// hasTraits reports whether a filter asks for something that the index has.
func (f *JobFilter) hasTraits() bool {
	return len(f.finalStates())+len(f.Labels) > 0 || f.Team != "" || f.User != "" || f.Name != nil
}

// indexed is what the index has brought of a list.
type indexed struct {
	jobs  []*pool.Job
	floor string // the list is whole down to this order, and the index has more; "" = it has not
	below string // below this order the list has to go on without the index
	isAll bool   // there is nothing below
}

// listByIndex is finishedJobs for the jobs that are in the index.
func (p *Pools) listByIndex(ctx context.Context, name string, f *JobFilter, limit int, from, to string) (indexed, error) {
	none := indexed{below: to}
	head, err := p.Head(ctx, name)
	if fault.CodeOf(err) == fault.NotFound {
		return none, nil
	}
	if err != nil {
		return none, err
	}
	since, has := indexFrom(head.Index)
	if !has {
		return none, nil
	}
	least, err := orderAt(since)
	if err != nil || to != "" && to <= least {
		return none, err
	}
	w, err := p.walk(ctx, name, f)
	if err != nil || w == nil {
		return none, err
	}
	found := indexed{below: least, isAll: from >= least || least == orderAtZero}
	found.jobs, found.floor, err = p.seenJobs(ctx, name, f, w, limit, max(from, least), to)
	return found, err
}

// seenJobs lists finished jobs as finishedJobs does, where the index says that they may be. It
// returns the order down to which the list is whole; "" = down to from, or there are limit jobs.
func (p *Pools) seenJobs(ctx context.Context, name string, filter *JobFilter, w *seenWalk, limit int, from, to string) (
	jobs []*pool.Job, floor string, err error,
) {
	place, last := "", "~"
	if to != "" {
		place = mirrored(to) + "!"
	}
	if from != "" {
		last = mirrored(from) + "!"
	}
	for range maxLooks {
		at, ok, err := w.next(ctx, place)
		if err != nil {
			return nil, "", err
		}
		if !ok || at.first >= last {
			return jobs, "", nil
		}
		var more []*pool.Job
		if at.isJob() {
			if at, more, err = p.readNoted(ctx, name, filter, w, at, last, limit-len(jobs)); err != nil {
				return nil, "", err
			}
		} else {
			if at, err = w.widen(ctx, at); err != nil {
				return nil, "", err
			}
			q := table.Query{
				Filter: table.Between(name, pool.DoneFrom+at.first, pool.DoneFrom+min(at.end, last)) + filter.odata(true),
				Limit:  limit - len(jobs),
			}
			if more, err = readAll(ctx, p.table, "list finished jobs of pool "+name, q, decodeJob); err != nil {
				return nil, "", err
			}
		}
		if jobs = append(jobs, more...); len(jobs) >= limit {
			return jobs, "", nil
		}
		place = at.end
	}
	return jobs, oldestBefore(place), nil
}

// widen adds the spans that follow without a gap, so that one query reads all of them.
func (w *seenWalk) widen(ctx context.Context, at stretch) (stretch, error) {
	for spans := 1; ; spans++ {
		next, ok, err := w.next(ctx, at.end)
		if err != nil || !ok || spans == spansAtOnce || next.isJob() || next.first != follower(strings.TrimSuffix(at.end, "~")) {
			return at, err
		}
		at.end = next.end
	}
}

// readNoted reads finished jobs that are noted one by one, at most limit, from the first one on.
// It returns the stretch in which it has found them.
func (p *Pools) readNoted(ctx context.Context, name string, filter *JobFilter, w *seenWalk, at stretch, last string, limit int) (
	stretch, []*pool.Job, error,
) {
	places := []string{at.first}
	for len(places) < limit {
		next, ok, err := w.next(ctx, at.end)
		if err != nil {
			return at, nil, err
		}
		if !ok || !next.isJob() || next.first >= last {
			break
		}
		places, at.end = append(places, next.first), next.end
	}
	found := make([]*pool.Job, len(places))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(getsAtOnce)
	for i, place := range places {
		group.Go(func() error {
			raw, _, err := p.table.Get(ctx, "read a finished job of pool "+name, name, pool.DoneFrom+place)
			if fault.CodeOf(err) == fault.NotFound {
				return nil // it is not finished, or its row has gone
			}
			if err == nil {
				found[i], err = decodeJob(raw)
			}
			return err
		})
	}
	err := group.Wait()
	found = slices.DeleteFunc(found, func(j *pool.Job) bool { return j == nil || !filter.matches(j) })
	return at, found, err
}

// oldestBefore is the order down to which a list is whole that ends at a place.
func oldestBefore(place string) string {
	place = strings.TrimRight(place, "~!")
	return mirrored(place + strings.Repeat("Z", max(len(orderAtZero)-len(place), 0)))
}
