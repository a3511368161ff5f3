package drive

import (
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dsvmpools/local/tables"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/scheduler"
	"dsvmpools/shared/store"
)

// counted is a store that counts what is read through it.
type counted struct {
	*store.Store
	loads, loaded   atomic.Int64 // full loads, and rows read by them
	catches, caught atomic.Int64
	conflicts       atomic.Int64
}

func (c *counted) LoadInto(ctx context.Context, name string, jobs pool.JobSink) (*pool.Partition, pool.Version, error) {
	p, v, err := c.Store.LoadInto(ctx, name, jobs)
	if err == nil {
		c.loads.Add(1)
		c.loaded.Add(int64(jobs.Len() + len(p.Nodes)))
	}
	return p, v, err
}

func (c *counted) ChangesSince(
	ctx context.Context,
	name string,
	from pool.Version,
	keys []string,
	live int,
) (*pool.Delta, pool.Version, bool, error) {
	d, v, ok, err := c.Store.ChangesSince(ctx, name, from, keys, live)
	if ok {
		c.catches.Add(1)
		c.caught.Add(int64(len(d.Nodes) + len(d.Jobs) + len(d.Gone)))
	}
	return d, v, ok, err
}

func (c *counted) Commit(ctx context.Context, name string, v pool.Version, head pool.Head, changes []pool.Change) (pool.Version, error) {
	next, err := c.Store.Commit(ctx, name, v, head, changes)
	if fault.CodeOf(err) == fault.Conflict {
		c.conflicts.Add(1)
	}
	return next, err
}

// nodes are the agents and the scale set of a pool: every attempt they are given
// ends at once, and well.
type nodes struct {
	mu      sync.Mutex
	seen    map[string]int64   // by VMID
	held    map[string][]int64 // by VMID: all it has ever been given
	started map[string]int64   // by job: the number of its attempt
	twice   []string           // jobs that were given out twice
	over    chan pool.Reported // reports on their way
	wanted  int                // jobs below this number are waited for
}

func (n *nodes) Work(_ context.Context, session string, items []protocol.WorkItem) error {
	_, vmid, _ := strings.Cut(session, ".")
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, item := range items {
		if item.Assign == nil || slices.Contains(n.held[vmid], item.N) {
			continue // sent again
		}
		if item.N <= n.seen[vmid] { // overtaken: refused, as an agent refuses it
			n.over <- n.report(vmid, protocol.ReportItem{Holds: &protocol.Holds{N: slices.Clone(n.held[vmid])}})
			continue
		}
		n.held[vmid] = append(n.held[vmid], item.N)
		n.seen[vmid] = item.N
		if _, twice := n.started[item.Assign.Job]; twice {
			n.twice = append(n.twice, item.Assign.Job)
		}
		n.started[item.Assign.Job] = item.N
		at := time.Now().UTC()
		n.over <- n.report(vmid, protocol.ReportItem{Finished: &protocol.Finished{N: item.N, State: string(job.AttemptSucceeded), StartedAt: at, EndedAt: at}})
	}
	return nil
}

func (n *nodes) report(vmid string, items ...protocol.ReportItem) pool.Reported {
	return pool.Reported{At: time.Now().UTC(), Report: protocol.Report{V: 1, Pool: "cpu", VMID: vmid, Seen: n.seen[vmid], Items: items}}
}

func (*nodes) Wake(context.Context, string, string, time.Time) error     { return nil }
func (*nodes) Subscribe(context.Context, string, string, []string) error { return nil }
func (*nodes) Ended(context.Context, string, []string) error             { return nil }
func (*nodes) Fence(context.Context, string) (bool, error)               { return false, nil }

func (n *nodes) List(_ context.Context, _ string, _ pool.Spec, set pool.Set) (pool.Listed, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := pool.Listed{Set: set.Name, Exists: true, Capacity: len(n.seen)}
	for vmid := range n.seen {
		l.Instances = append(l.Instances, pool.Instance{VMID: vmid, ID: vmid, Name: vmid, Provisioning: "Succeeded", Power: "running"})
	}
	return l, nil
}

func (*nodes) Grow(context.Context, string, pool.Spec, pool.Set, int) (Operation, error) {
	return Operation{}, nil
}
func (*nodes) UpdateModel(context.Context, string, pool.Spec, pool.Set) (Operation, error) {
	return Operation{}, nil
}
func (*nodes) Shrink(context.Context, string, string, int) (Operation, error) {
	return Operation{}, nil
}
func (*nodes) Remove(context.Context, string, string, []*pool.Node) error { return nil }
func (*nodes) Drop(context.Context, string, string) (Operation, error)    { return Operation{}, nil }
func (*nodes) Poll(context.Context, string) (Operation, error)            { return Operation{}, nil }

// submissions are n jobs, registered now.
func submissions(from, n int, priority job.Priority) []Submission {
	var list []Submission
	for i := from; i < from+n; i++ {
		list = append(
			list,
			Submission{
				Registered: time.Now(),
				Submit: pool.Submit{Order: fmt.Sprintf("%026d", i), ID: fmt.Sprint("job-", i), At: time.Now().UTC(),
					Spec: job.Spec{
						Pool:      "cpu",
						Team:      fmt.Sprint("team", i%3),
						Command:   []string{"true"},
						Priority:  priority,
						Resources: job.Resources{CPUs: 1},
					}},
			},
		)
	}
	return list
}

// Four processes drive one pool in which thousands of jobs wait: each reads the
// pool once, and afterwards only what the others have changed. No job is lost,
// none is given out twice.
func TestFourDriversOnePool(t *testing.T) {
	t.Parallel()
	const drivers, waiting, each, machines = 4, 2500, 60, 8
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	key := base64.StdEncoding.EncodeToString([]byte("the key of a test account"))
	server, err := tables.Start(
		tables.Config{Addr: "127.0.0.1:0", Path: filepath.Join(t.TempDir(), "tables.db"), Account: "test", Key: key},
	)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	n := &nodes{
		seen:    map[string]int64{},
		held:    map[string][]int64{},
		started: map[string]int64{},
		over:    make(chan pool.Reported, waiting+drivers*each),
	}
	open := func() (*Driver, *counted) {
		s, err := store.Open(store.Config{ConnectionString: server.ConnectionString()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		c := &counted{Store: s}
		return New(Config{Store: c, Bus: n, Fleet: n, Timing: scheduler.DefaultTiming, Log: slog.New(slog.DiscardHandler)}), c
	}

	first, s := open()
	if err := s.CreateTables(ctx); err != nil {
		t.Fatal(err)
	}
	spec := pool.Spec{Name: "cpu", Kind: "batch", OS: "linux", Sizes: []string{"Standard_D4s_v5"}, Capacity: "regular",
		Nodes: pool.Range{Max: machines}, IdleTimeout: job.Duration(time.Hour), Pack: true}
	events := []pool.Event{pool.Apply{Spec: spec}}
	if _, err := first.Drive(ctx, "cpu", events...); err != nil {
		t.Fatal(err)
	}
	// These wait behind all others.
	if _, err := first.Submit(ctx, "cpu", submissions(drivers*each, waiting, job.Low)); err != nil {
		t.Fatal(err)
	}

	n.wanted = drivers * each
	var wg sync.WaitGroup
	var left atomic.Int64 // jobs that have not ended
	left.Store(drivers * each)
	var stores []*counted
	all := make(chan struct{}) // closed with the last
	drive := func(d *Driver, events []pool.Event, jobs []Submission) bool {
		for {
			_, err := d.drive(ctx, "cpu", events, jobs)
			if err == nil {
				return true
			}
			if fault.CodeOf(err) != fault.Conflict { // beaten too often: the message comes again
				t.Error(err)
				return false
			}
		}
	}
	for i := range drivers {
		d, c := open()
		stores = append(stores, c)
		wg.Go(func() {
			if i == 0 {
				for k := range machines {
					vmid := fmt.Sprint("vm-", k)
					n.mu.Lock()
					n.seen[vmid] = 0
					e := n.report(vmid, protocol.ReportItem{Ready: &protocol.Ready{Name: vmid, CPUs: 4, Boot: "1"}})
					n.mu.Unlock()
					if !drive(d, []pool.Event{e}, nil) {
						return
					}
				}
			}
			for from := 0; from < each; from += 10 {
				if !drive(d, nil, submissions(i*each+from, 10, job.High)) {
					return
				}
				if !n.finish(ctx, d, drive, &left, all, false) {
					return
				}
			}
			for n.finish(ctx, d, drive, &left, all, true) {
			}
		})
	}
	wg.Wait()
	if t.Failed() || left.Load() > 0 {
		t.Fatalf("%d jobs have not ended", left.Load())
	}

	part, _, err := s.Store.Load(ctx, "cpu")
	if err != nil {
		t.Fatal(err)
	}
	live := map[string]bool{}
	for _, j := range part.Jobs {
		live[j.ID] = true
	}
	ended := 0
	for i := range drivers*each + waiting {
		id := fmt.Sprint("job-", i)
		if i >= drivers*each && live[id] {
			continue
		}
		j, err := s.FinishedJob(ctx, "cpu", fmt.Sprintf("%026d", i))
		switch {
		case live[id] == (err == nil):
			t.Errorf("job %s: live %v, ended %v; want one of them", id, live[id], err == nil)
		case err == nil && (j.State != job.Succeeded || len(j.Attempts) != 1):
			t.Errorf("job %s is %s after %d attempts", id, j.State, len(j.Attempts))
		case err == nil:
			ended++
		case i < drivers*each:
			t.Errorf("job %s has not ended", id)
		}
	}
	if len(n.twice) > 0 {
		t.Errorf("given out twice: %v", n.twice)
	}
	var conflicts int64
	for i, c := range stores {
		conflicts += c.conflicts.Load()
		t.Logf(
			"driver %d: %d loads of %d rows, %d times caught up by %d rows, %d commits lost", i, c.loads.Load(), c.loaded.Load(),
			c.catches.Load(), c.caught.Load(), c.conflicts.Load(),
		)
		if c.loads.Load() != 1 {
			t.Errorf("driver %d has loaded the pool %d times, want once", i, c.loads.Load())
		}
	}
	if conflicts < drivers {
		t.Errorf("%d commits were lost; the drivers hardly met", conflicts)
	}
}

// finish brings reports of ended attempts to the pool, if there are any; with
// wait, it waits for one. It returns false when there are to be no more.
func (n *nodes) finish(
	ctx context.Context,
	d *Driver,
	drive func(*Driver, []pool.Event, []Submission) bool,
	left *atomic.Int64,
	all chan struct{},
	wait bool,
) bool {
	var events []pool.Event
	high := int64(0)
	for len(events) < 10 {
		if len(events) == 0 && wait {
			select {
			case e := <-n.over:
				events = append(events, e)
			case <-all:
				return false
			case <-ctx.Done():
				return false
			}
			continue
		}
		select {
		case e := <-n.over:
			events = append(events, e)
			continue
		default:
		}
		break
	}
	if len(events) == 0 {
		return true
	}
	if !drive(d, events, nil) {
		return false
	}
	n.mu.Lock()
	for _, e := range events {
		for id, number := range n.started {
			var i int
			fmt.Sscanf(id, "job-%d", &i)
			if done := e.(pool.Reported).Report.Items[0].Finished; done != nil && number == done.N && i < n.wanted {
				high++
			}
		}
	}
	n.mu.Unlock()
	if high > 0 && left.Add(-high) == 0 {
		close(all)
	}
	return true
}
