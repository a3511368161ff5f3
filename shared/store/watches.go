package store

import (
	"context"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/store/table"
)

// StatusWatch watches a job of a push, to report its state to the commit, or to cancel it
// as soon as the job exists.
type StatusWatch struct {
	Job    string
	Cancel bool // cancel the job, and report nothing

	// Where the state goes.
	Rule       string
	Repository string
	Commit     string
	Context    string // what the status is called

	Sent  string    // the state that was reported last
	Tries int       // failed tries since then
	Next  time.Time // no try before
	At    time.Time // since when the job is watched
}

// watchPartition holds all watches: few at any time, so that reading them all costs
// one request.
const watchPartition = "follow"

func watchKey(job string, cancel bool) string {
	if cancel {
		return "cancel!" + idKey(job)
	}
	return "status!" + idKey(job)
}

func encodeStatusWatch(w *StatusWatch) []byte {
	e := table.NewRow(watchPartition, watchKey(w.Job, w.Cancel))
	e.Text("Job", w.Job)
	e.Bool("Cancel", w.Cancel)
	e.Text("Rule", w.Rule)
	e.Text("Repository", w.Repository)
	e.Text("Commit", w.Commit)
	e.Text("Context", w.Context)
	e.Text("Sent", w.Sent)
	e.Int("Tries", w.Tries)
	e.Time("Next", w.Next)
	e.Time("At", w.At)
	return e.JSON()
}

func decodeStatusWatch(raw []byte) (StatusWatch, error) {
	var row struct {
		StatusWatch
		Tries table.Number // read also when it was too large for Edm.Int32
	}
	err := table.Decode(raw, &row)
	row.StatusWatch.Tries = int(row.Tries)
	row.Next = table.TimeOf(row.Next)
	return row.StatusWatch, err
}

// PutStatusWatch writes a watch. It replaces the one over the same job.
func (p *Pushes) PutStatusWatch(ctx context.Context, w StatusWatch) error {
	return p.table.Put(ctx, "watch over a job", encodeStatusWatch(&w))
}

// DeleteStatusWatch ends a watch; one that does not exist is no error.
func (p *Pushes) DeleteStatusWatch(ctx context.Context, w StatusWatch) error {
	err := p.table.Delete(ctx, "end the watch over a job", watchPartition, watchKey(w.Job, w.Cancel), table.Any)
	if fault.CodeOf(err) == fault.NotFound {
		return nil
	}
	return err
}

// StatusWatches lists all watches.
func (p *Pushes) StatusWatches(ctx context.Context) ([]StatusWatch, error) {
	q := table.Query{Filter: table.Between(watchPartition, "", "~")}
	return readAll(ctx, p.table, "list the jobs that are watched", q, decodeStatusWatch)
}
