package handlers

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"dsvmpools/handlers/httpapi"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/store"
	"dsvmpools/shared/usage"
	"dsvmpools/shared/wire"
)

// backend is the HTTP API's view of the functions: it drives the same pools in
// the same way, and reads the same rows.
type backend struct{ *Functions }

// Submit takes one job in and answers when it is committed.
func (b backend) Submit(ctx context.Context, spec job.Spec) (*pool.Job, error) {
	s := &submission{spec: spec}
	refused, err := b.take(ctx, spec.Pool, []*submission{s})
	switch {
	case fault.CodeOf(err) == fault.NotFound:
		repeated, err := b.repeated(ctx, &spec)
		switch {
		case err != nil:
			return nil, err
		case repeated:
			return b.Job(ctx, spec.ID)
		}
		return nil, job.NoPool(spec.Pool)
	case err != nil:
		return nil, err
	case refused[s] != nil:
		return nil, refused[s]
	}
	if s.order != "" {
		if j, err := b.store.Job(ctx, spec.Pool, s.order); fault.CodeOf(err) != fault.NotFound {
			return j, err
		}
	}
	return b.Job(ctx, spec.ID)
}

// Cancel asks for a job to end.
func (b backend) Cancel(ctx context.Context, id string) (*pool.Job, error) {
	return b.tell(ctx, id, func(order string) pool.Event { return pool.Cancel{Order: order, Reason: job.CancelledByRequest} })
}

// Release lets a job or a sweep go on that is held.
func (b backend) Release(ctx context.Context, id string) (*pool.Job, error) {
	return b.tell(ctx, id, func(order string) pool.Event { return pool.Release{Order: order} })
}

// tell brings a job's pool an event about it.
func (b backend) tell(ctx context.Context, id string, event func(order string) pool.Event) (*pool.Job, error) {
	row, err := b.registered(ctx, id)
	if err != nil {
		return nil, err
	}
	if row.State == job.Rejected || row.HasEnded() {
		return b.Job(ctx, id)
	}
	if err := b.drive(ctx, row.Pool, event(row.Order)); err != nil {
		return nil, err
	}
	return b.Job(ctx, id)
}

// CancelAll asks everything of a team or a user to end, pool by pool.
func (b backend) CancelAll(ctx context.Context, f httpapi.JobFilter) (int, error) {
	pools := []string{f.Pool}
	if f.Pool == "" {
		var err error
		if pools, err = b.store.PoolNames(ctx); err != nil {
			return 0, err
		}
	}
	all := 0
	for _, name := range pools {
		out, err := b.driver.Drive(ctx, name, pool.CancelAll{Team: f.Team, User: f.User, Reason: job.CancelledByRequest})
		switch {
		case fault.CodeOf(err) == fault.NotFound && f.Pool != "":
			return 0, job.NoPool(name)
		case err != nil && fault.CodeOf(err) != fault.NotFound:
			return 0, err
		}
		all += out.Cancelled
	}
	return all, nil
}

// Job finds a job in any state.
func (b backend) Job(ctx context.Context, id string) (*pool.Job, error) {
	j, err := b.find(ctx, id)
	if fault.CodeOf(err) == fault.NotFound {
		return nil, job.NoJob(id)
	}
	return j, err
}

// Explain says why a job is where it is: of a live one, its pool does.
func (b backend) Explain(ctx context.Context, id string) (wire.Explanation, error) {
	j, err := b.Job(ctx, id)
	if err != nil {
		return wire.Explanation{}, err
	}
	if !j.State.Final() {
		e, live, err := b.driver.Explain(ctx, j.Spec.Pool, j.Order)
		if err != nil && fault.CodeOf(err) != fault.NotFound {
			return wire.Explanation{}, err
		}
		if live {
			return wire.NewExplanation(j.ID, j.Spec.Pool, e), nil
		}
	}
	return wire.ExplainEnded(wire.NewJob(j)), nil
}

// ExplainPool says why a pool has the size it has.
func (b backend) ExplainPool(ctx context.Context, name string) (wire.PoolExplanation, error) {
	e, err := b.driver.ExplainPool(ctx, name)
	if fault.CodeOf(err) == fault.NotFound {
		return wire.PoolExplanation{}, job.NoPool(name)
	}
	return wire.NewPoolExplanation(name, e), err
}

func (b backend) registered(ctx context.Context, id string) (store.ID, error) {
	row, err := b.store.Find(ctx, id)
	if fault.CodeOf(err) == fault.NotFound {
		return row, job.NoJob(id)
	}
	return row, err
}

// rejected is a refused job as readers see it.
func rejected(row store.ID) *pool.Job {
	return &pool.Job{ID: row.ID, State: job.Rejected, Reason: row.Reason, SubmittedAt: row.At, EndedAt: row.At, Spec: job.Spec{ID: row.ID, Pool: row.Pool}}
}

// position is where a list over several pools goes on.
type position struct {
	Pool string `json:"p"`
	Cont string `json:"c,omitempty"`
}

// Jobs lists jobs pool by pool; those that were rejected come last, since they
// belong to no pool.
func (b backend) Jobs(ctx context.Context, f httpapi.JobFilter, limit int, cont string) ([]*pool.Job, string, error) {
	if f.State == job.Rejected {
		rows, err := b.store.Rejected(ctx, limit)
		var jobs []*pool.Job
		for _, row := range rows {
			if f.Pool == "" || row.Pool == f.Pool {
				jobs = append(jobs, rejected(row))
			}
		}
		return jobs, "", err
	}
	var at position
	if cont != "" {
		raw, err := base64.RawURLEncoding.DecodeString(cont)
		if err != nil || json.Unmarshal(raw, &at) != nil {
			return nil, "", fault.New(fault.Invalid, "continue", "the continuation cannot be read; begin the list anew without it")
		}
	}
	inside := store.JobFilter{Team: f.Team, User: f.User, State: f.State}
	if f.Sweep != "" {
		row, err := b.registered(ctx, f.Sweep)
		if err != nil {
			return nil, "", err
		}
		f.Pool, inside.Sweep = row.Pool, row.Order
	}
	pools := []string{f.Pool}
	if f.Pool == "" {
		var err error
		if pools, err = b.store.PoolNames(ctx); err != nil {
			return nil, "", err
		}
	}
	var jobs []*pool.Job
	for _, name := range pools {
		if name < at.Pool {
			continue
		}
		inner := ""
		if name == at.Pool {
			inner = at.Cont
		}
		for {
			page, next, err := b.store.Jobs(ctx, name, inside, limit-len(jobs), inner)
			if err != nil {
				return nil, "", err
			}
			jobs = append(jobs, page...)
			if len(jobs) >= limit && next != "" {
				token, _ := json.Marshal(position{name, next})
				return jobs, base64.RawURLEncoding.EncodeToString(token), nil
			}
			if inner = next; inner == "" {
				break
			}
		}
		if len(jobs) >= limit && name != pools[len(pools)-1] {
			token, _ := json.Marshal(position{Pool: name + "\x00"})
			return jobs, base64.RawURLEncoding.EncodeToString(token), nil
		}
	}
	return jobs, "", nil
}

// Pools summarizes one pool, or all.
func (b backend) Pools(ctx context.Context, name string) ([]httpapi.PoolSummary, error) {
	names := []string{name}
	if name == "" {
		var err error
		if names, err = b.store.PoolNames(ctx); err != nil {
			return nil, err
		}
	}
	var all []httpapi.PoolSummary
	for _, n := range names {
		s, err := b.summary(ctx, n)
		if fault.CodeOf(err) == fault.NotFound {
			if name == "" {
				continue
			}
			return nil, job.NoPool(n)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

func (b backend) summary(ctx context.Context, name string) (httpapi.PoolSummary, error) {
	h, nodes, jobs, err := b.driver.Nodes(ctx, name)
	if err != nil {
		return httpapi.PoolSummary{}, err
	}
	slices.SortFunc(nodes, func(a, b *pool.Node) int { return strings.Compare(a.VMID, b.VMID) })
	return httpapi.PoolSummary{Head: h, Queued: h.Queued, Running: h.Running, Wanted: h.Wanted, Nodes: nodes, NodeJobs: jobs, At: b.now()}, nil
}

// Apply creates or changes a pool.
func (b backend) Apply(ctx context.Context, spec pool.Spec) (httpapi.PoolSummary, error) {
	warnings, err := b.checkSizes(ctx, spec)
	if err == nil {
		err = b.apply(ctx, spec)
	}
	if err != nil {
		return httpapi.PoolSummary{}, err
	}
	summary, err := b.summary(ctx, spec.Name)
	summary.Warnings = warnings
	return summary, err
}

// Resume ends the pauses in which a pool asks for no nodes.
func (b backend) Resume(ctx context.Context, name string) (httpapi.PoolSummary, error) {
	_, err := b.driver.Drive(ctx, name, pool.Resume{})
	if fault.CodeOf(err) == fault.NotFound {
		return httpapi.PoolSummary{}, job.NoPool(name)
	}
	if err != nil {
		return httpapi.PoolSummary{}, err
	}
	return b.summary(ctx, name)
}

// Delete begins to delete a pool.
func (b backend) Delete(ctx context.Context, name string) error {
	_, err := b.driver.Drive(ctx, name, pool.Delete{})
	if fault.CodeOf(err) == fault.NotFound {
		return job.NoPool(name)
	}
	return err
}

// Usage reports from the ledger.
func (b backend) Usage(ctx context.Context, from, to time.Time, by string) ([]usage.Group, error) {
	sum, err := usage.NewSum(usage.Grouping(by))
	if err != nil {
		return nil, fault.New(fault.Invalid, "by", "%v", err)
	}
	err = b.store.Usage(ctx, from, to, func(row usage.Row) error {
		sum.Add(&row)
		return nil
	})
	return sum.Groups(), err
}
