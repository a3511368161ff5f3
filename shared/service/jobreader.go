package service

import (
	"context"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"
	"golang.org/x/sync/errgroup"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
)

const (
	// listWorkers is how many pools are read at once.
	listWorkers = 8
	// leastChunk and mostChunk bound how many rows of a pool are read at once.
	leastChunk, mostChunk = 10, 1000
	// rejectedCost is as how many rows a rejected document counts: it costs a request.
	rejectedCost = 10
)

// jobReader merges the lists of several pools, each of which is in order, into one. It
// reads ahead little: a pool whose jobs are old is not read far.
type jobReader struct {
	match   func(*pool.Job) bool
	streams []*jobStream
	last    position // of the job that was returned last
	left    int      // rows that may still be read
	began   bool
}

// jobStream is one list that is in order, read in chunks.
type jobStream struct {
	// read reads at most n jobs that come after a place, and the place that follows; "" =
	// this was the end.
	read  func(ctx context.Context, after string, n int) ([]streamedJob, string, error)
	after string
	bound string // all jobs that are still to be read come after this one
	ended bool
	ahead []streamedJob
	chunk int

	isRejected bool
}

// streamedJob is a job with its key in the merged list, the largest first, and its place
// in its own.
type streamedJob struct {
	*pool.Job
	key, place string
}

// newestKey comes before all keys.
const newestKey = "~"

// read begins to read jobs that come after a position.
func (l *jobLister) read(from position) *jobReader {
	r := &jobReader{match: l.matches, last: from, left: maxRead}
	for _, name := range l.pools {
		if slices.Equal(l.query.States, []job.State{job.Rejected}) {
			break
		}
		r.streams = append(r.streams, &jobStream{after: from.Order, bound: newestKey, read: l.readPool(name)})
	}
	if slices.Contains(l.query.States, job.Rejected) {
		r.streams = append(r.streams, &jobStream{after: from.Rejected, bound: newestKey, read: l.readRejected, isRejected: true})
	}
	for _, s := range r.streams {
		s.chunk = min(max(2*l.query.Limit/len(r.streams), leastChunk), mostChunk)
		if l.query.Name != "" || len(l.query.Labels) > 0 {
			s.chunk = mostChunk / 4 // most rows may be of other jobs
		}
	}
	return r
}

// readPool reads the jobs of a pool.
func (l *jobLister) readPool(name string) func(context.Context, string, int) ([]streamedJob, string, error) {
	list := l.jobs.store.ListJobs(name, l.store)
	return func(ctx context.Context, below string, n int) ([]streamedJob, string, error) {
		jobs, next, err := list.Page(ctx, n, below)
		out := make([]streamedJob, len(jobs))
		for i, j := range jobs {
			out[i] = streamedJob{j, j.Order, j.Order}
		}
		return out, next, err
	}
}

// readRejected reads the rejected documents. Each costs a request.
func (l *jobLister) readRejected(ctx context.Context, after string, n int) ([]streamedJob, string, error) {
	rows, next, err := l.jobs.store.RejectedAfter(ctx, after, min(n, l.query.Limit+1))
	var out []streamedJob
	for _, row := range rows {
		q := &l.query
		if q.Pool != "" && q.Pool != row.Pool || row.At.Before(q.Since) || !q.Until.IsZero() && !row.At.Before(q.Until) {
			continue
		}
		out = append(out, streamedJob{rejectedJob(row), timeKey(row.At), row.RejectedKey()})
	}
	return out, next, err
}

// timeKey is what the orders of all jobs of a millisecond begin with.
func timeKey(at time.Time) string {
	var u ulid.ULID
	if u.SetTime(ulid.Timestamp(at)) != nil {
		return ""
	}
	return u.String()[:10]
}

// next returns the next job; nil = there is none, or too many rows would have to be read;
// hasMore tells which.
func (r *jobReader) next(ctx context.Context) (*pool.Job, error) {
	if !r.began {
		r.began = true
		if err := r.fillAll(ctx); err != nil {
			return nil, err
		}
	}
	for {
		s := r.first()
		switch {
		case s == nil:
			return nil, nil
		case len(s.ahead) > 0:
			j := s.ahead[0]
			s.ahead = s.ahead[1:]
			if s.isRejected {
				r.last.Rejected = j.place
			} else {
				r.last.Order = j.place
			}
			return j.Job, nil
		case r.left <= 0:
			return nil, nil
		}
		n, err := s.fill(ctx, r.match)
		if err != nil {
			return nil, err
		}
		r.left -= n
	}
}

// first is the stream whose next job comes first, or may come first; nil = all have ended.
func (r *jobReader) first() *jobStream {
	var best *jobStream
	for _, s := range r.streams {
		if (len(s.ahead) > 0 || !s.ended) && (best == nil || s.top() > best.top()) {
			best = s
		}
	}
	return best
}

// top is the key of a stream's next job, or what that key is below.
func (s *jobStream) top() string {
	if len(s.ahead) > 0 {
		return s.ahead[0].key
	}
	return s.bound
}

// hasMore reports whether the list goes on.
func (r *jobReader) hasMore() bool { return !r.began || r.first() != nil }

// position is where the list goes on. Where the reader has stopped at rows that do not
// pass the filter, that is after them.
func (r *jobReader) position() position {
	at := r.last
	if s := r.first(); s != nil && len(s.ahead) == 0 && s.after != "" {
		if s.isRejected {
			at.Rejected = s.after
		} else {
			at.Order = s.after
		}
	}
	return at
}

// fillAll reads the first chunk of each stream, several at once.
func (r *jobReader) fillAll(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(listWorkers)
	read := make([]int, len(r.streams))
	for i, s := range r.streams {
		group.Go(func() (err error) {
			read[i], err = s.fill(ctx, r.match)
			return err
		})
	}
	err := group.Wait()
	for _, n := range read {
		r.left -= n
	}
	return err
}

// fill reads a chunk, and returns as how many rows that counts.
func (s *jobStream) fill(ctx context.Context, match func(*pool.Job) bool) (cost int, err error) {
	jobs, next, err := s.read(ctx, s.after, s.chunk)
	if err != nil {
		return 0, err
	}
	s.chunk = min(2*s.chunk, mostChunk)
	s.after, s.ended = next, next == ""
	switch n := len(jobs); {
	case !s.isRejected:
		s.bound, cost = next, max(n, 1)
	case n > 0:
		s.bound, cost = jobs[n-1].key, n*rejectedCost
	default:
		cost = rejectedCost
	}
	s.ahead = slices.DeleteFunc(jobs, func(j streamedJob) bool { return !match(j.Job) })
	return cost, nil
}
