// Package apitest has a Backend of the HTTP API in memory, for tests of the API
// and of what talks to it. It runs nothing: a test moves the jobs.
package apitest

import (
	"context"
	"reflect"
	"slices"
	"strconv"
	"sync"
	"time"

	"dsvmpools/handlers/httpapi"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/push"
	"dsvmpools/shared/scheduler"
	"dsvmpools/shared/usage"
	"dsvmpools/shared/wire"
)

// Backend is a Backend in memory. Jobs are listed newest first, as they were
// submitted; the token that continues a list is a position.
type Backend struct {
	Warnings []string // of each pool that is applied as a new one

	Now time.Time // when jobs are submitted
	// Submitted and Cancelled, when set, move a job that was just submitted or
	// cancelled. They are called without the lock.
	Submitted, Cancelled func(id string)

	mu     sync.Mutex
	jobs   []*pool.Job
	pools  []wire.PoolSummary
	groups []usage.Group
	rules  []push.Rule
	err    error
	asked  Report
}

// Report is what a usage report was last asked for.
type Report struct {
	From, To time.Time
	By       string
}

// Services returns the backend as all use cases.
func (b *Backend) Services() httpapi.Services {
	return httpapi.Services{Jobs: b, Pools: b, Nodes: b, Usage: b, Pushes: b}
}

// AddJob puts a job there.
func (b *Backend) AddJob(j pool.Job) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.jobs = append([]*pool.Job{&j}, b.jobs...)
}

// Change changes a job.
func (b *Backend) Change(id string, change func(j *pool.Job)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if j := b.find(id); j != nil {
		change(j)
	}
}

// AddPool puts a pool there.
func (b *Backend) AddPool(p wire.PoolSummary) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pools = append(b.pools, p)
}

// SetUsage sets what every report says.
func (b *Backend) SetUsage(groups []usage.Group) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.groups = groups
}

// Fail makes every call fail with an error, until it is nil.
func (b *Backend) Fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = err
}

// Asked is what a usage report was last asked for.
func (b *Backend) Asked() Report {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.asked
}

func (b *Backend) find(id string) *pool.Job {
	for _, j := range b.jobs {
		if j.ID == id {
			return j
		}
	}
	return nil
}

// get returns a copy of a job, which the caller may keep.
func (b *Backend) get(id string) (*pool.Job, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return nil, b.err
	}
	j := b.find(id)
	if j == nil {
		return nil, job.NoJob(id)
	}
	return clone(j), nil
}

func clone(j *pool.Job) *pool.Job {
	c := *j
	c.Attempts = slices.Clone(j.Attempts)
	return &c
}

// Submit accepts a job into the line of its pool.
func (b *Backend) Submit(_ context.Context, spec job.Spec) (*pool.Job, error) {
	fresh, err := b.submit(spec)
	if err != nil {
		return nil, err
	}
	if fresh && b.Submitted != nil {
		b.Submitted(spec.ID)
	}
	return b.get(spec.ID)
}

func (b *Backend) submit(spec job.Spec) (fresh bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return false, b.err
	}
	if !slices.ContainsFunc(b.pools, func(p wire.PoolSummary) bool { return p.Head.Spec.Name == spec.Pool }) {
		return false, job.NoPool(spec.Pool)
	}
	if j := b.find(spec.ID); j != nil {
		if !reflect.DeepEqual(j.Spec, spec) {
			return false, fault.New(fault.Conflict, "id", "job %q is another one; choose another id", spec.ID)
		}
		return false, nil
	}
	b.jobs = append([]*pool.Job{{ID: spec.ID, Spec: spec, State: job.Queued, SubmittedAt: b.Now}}, b.jobs...)
	return true, nil
}

// Cancel ends a job that waits; a running one only knows that it is to end.
func (b *Backend) Cancel(_ context.Context, id string) (*pool.Job, error) {
	if _, err := b.get(id); err != nil {
		return nil, err
	}
	b.Change(id, func(j *pool.Job) {
		switch {
		case j.State.Final():
		case len(j.Attempts) == 0:
			j.State, j.ExitCode, j.Reason, j.EndedAt = job.Cancelled, job.ExitCancelled, "on request", b.Now
		default:
			j.Cancel = "on request"
		}
	})
	if b.Cancelled != nil {
		b.Cancelled(id)
	}
	return b.get(id)
}

// Release changes nothing: no job is held here.
func (b *Backend) Release(_ context.Context, id string) (*pool.Job, error) { return b.get(id) }

// CommandNode moves a node as its pool would, where nothing runs on it.
func (b *Backend) CommandNode(_ context.Context, in, name string, verb pool.Verb) (wire.Node, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return wire.Node{}, b.err
	}
	for _, p := range b.pools {
		for _, n := range p.Nodes {
			if n.Name == name || n.VMID == name {
				n.State = map[pool.Verb]pool.NodeState{pool.VerbRelease: pool.NodeReady, pool.VerbDrain: pool.NodeDraining, pool.VerbDelete: pool.NodeDeleting}[verb]
				return wire.NewNode(p, n), nil
			}
		}
	}
	return wire.Node{}, pool.NoNode(name, nil)
}

// CancelAll cancels the live jobs that pass the filter.
func (b *Backend) CancelAll(ctx context.Context, f wire.JobFilter) (int, error) {
	jobs, _, err := b.List(ctx, f, len(b.jobs)+1, "")
	n := 0
	for _, j := range jobs {
		if !j.State.Final() {
			n++
			_, err = b.Cancel(ctx, j.ID)
		}
	}
	return n, err
}

// Job finds a job.
func (b *Backend) Job(_ context.Context, id string) (*pool.Job, error) { return b.get(id) }

// Jobs lists jobs.
func (b *Backend) List(_ context.Context, f wire.JobFilter, limit int, cont string) ([]*pool.Job, string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return nil, "", b.err
	}
	start, err := strconv.Atoi("0" + cont)
	if err != nil {
		return nil, "", fault.New(fault.Invalid, "continue", "continue is not one that this list has given out")
	}
	var found []*pool.Job
	for i, j := range b.jobs {
		if i < start || f.Pool != "" && j.Spec.Pool != f.Pool || f.Team != "" && j.Spec.Team != f.Team || f.User != "" && j.Spec.User != f.User || f.State != "" && j.State != f.State {
			continue
		}
		if len(found) == limit {
			return found, strconv.Itoa(i), nil
		}
		found = append(found, clone(j))
	}
	return found, "", nil
}

// Explain says of a live job that it waits for a node.
func (b *Backend) Explain(ctx context.Context, id string) (wire.Explanation, error) {
	j, err := b.Job(ctx, id)
	switch {
	case err != nil:
		return wire.Explanation{}, err
	case j.State.Final():
		return wire.ExplainEnded(wire.NewJob(j)), nil
	}
	return wire.NewExplanation(j.ID, j.Spec.Pool, scheduler.Explanation{State: string(j.State), Reason: "no node has room for it, and 1 node is on its way",
		Unblocks: "a node that comes up; nothing has to be done", Ahead: 2, Waiting: 5}), nil
}

// ExplainPool says that a pool is growing.
func (b *Backend) ExplainPool(ctx context.Context, name string) (wire.PoolExplanation, error) {
	if _, err := b.Pools(ctx, name); err != nil {
		return wire.PoolExplanation{}, err
	}
	return wire.PoolExplanation{Name: name, State: "growing", Reason: "it has 1 node and asked Azure for 2 in all 3s ago", Unblocks: "Azure's answer", Waiting: 5}, nil
}

// Pools lists pools.
func (b *Backend) Pools(_ context.Context, name string) ([]wire.PoolSummary, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return nil, b.err
	}
	if name == "" {
		return slices.Clone(b.pools), nil
	}
	for _, p := range b.pools {
		if p.Head.Spec.Name == name {
			return []wire.PoolSummary{p}, nil
		}
	}
	return nil, job.NoPool(name)
}

// Apply creates or changes a pool.
func (b *Backend) ApplyPool(_ context.Context, spec pool.Spec) (wire.PoolSummary, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return wire.PoolSummary{}, b.err
	}
	for i := range b.pools {
		if b.pools[i].Head.Spec.Name == spec.Name {
			b.pools[i].Head.Spec = spec
			return b.pools[i], nil
		}
	}
	p := wire.PoolSummary{Head: pool.Head{Spec: spec}}
	b.pools = append(b.pools, p)
	p.Warnings = b.Warnings
	return p, nil
}

// Resume ends the pauses of a pool's rungs.
func (b *Backend) Resume(_ context.Context, name string) (wire.PoolSummary, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return wire.PoolSummary{}, b.err
	}
	for i := range b.pools {
		if h := &b.pools[i].Head; h.Spec.Name == name {
			h.Sets = slices.Clone(h.Sets)
			for k := range h.Sets {
				h.Sets[k].Blocked, h.Sets[k].Breaker = pool.Block{}, pool.Breaker{}
			}
			return b.pools[i], nil
		}
	}
	return wire.PoolSummary{}, job.NoPool(name)
}

// Delete deletes a pool: at once when it has no nodes.
func (b *Backend) Delete(_ context.Context, name string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return b.err
	}
	for i := range b.pools {
		if b.pools[i].Head.Spec.Name != name {
			continue
		}
		if b.pools[i].Head.Deleting = true; len(b.pools[i].Nodes) == 0 {
			b.pools = slices.Delete(b.pools, i, i+1)
		}
		return nil
	}
	return job.NoPool(name)
}

// Usage reports what was set.
func (b *Backend) Usage(_ context.Context, from, to time.Time, by string) ([]usage.Group, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked = Report{from, to, by}
	if b.err != nil {
		return nil, b.err
	}
	groups := slices.Clone(b.groups)
	for i := range groups {
		groups[i].By = usage.Grouping(by)
	}
	return groups, nil
}
