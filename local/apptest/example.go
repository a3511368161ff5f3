package apptest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"dsvmpools/shared/bus"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/push"
	"dsvmpools/shared/service"
)

// Documents of the example's pool, of a job for it, and of its push rule.
const (
	PoolDocument = `{"name":"cpu","sizes":["Standard_D2s_v5"],"nodes":{"max":4}}`
	JobDocument  = `{"pool":"cpu","name":"train","team":"vision","user":"ann","command":["python","train.py"]}`
	RuleDocument = `{"name":"train","provider":"github","repository":"octo/model","secret":"` + PushSetting +
		`","source":false,"job":{"pool":"cpu","command":["make"]}}`
)

// Example returns an instance in the middle of its work, at noon:
//
//	pool cpu    a node that has gone, a busy one and one that boots
//	pool gpu    gets no node, since its quota is used up
//	job bad     rejected
//	job first   failed in its second attempt; the node of the first was lost
//	job second  running
//	job third   queued
//	rule train  starts a job with every push
//
// It was made by the use cases alone, once; each call returns a copy of its own.
func Example(t testing.TB, options ...Option) *Instance {
	t.Helper()
	made, err := example()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "tables.db")
	if err := os.WriteFile(path, made.tables, 0o600); err != nil {
		t.Fatal(err)
	}
	return newInstance(t, path, made.fleet.clone(), options)
}

// snapshot is an instance that has been closed.
type snapshot struct {
	tables []byte // the file
	fleet  *Fleet
}

var example = sync.OnceValues(func() (snapshot, error) {
	dir, err := os.MkdirTemp("", "apptest")
	if err != nil {
		return snapshot{}, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "tables.db")
	ctx := context.Background()
	i, err := open(ctx, path, NewFleet(), dir, nil)
	if err != nil {
		return snapshot{}, err
	}
	err = i.makeExample(ctx)
	i.close()
	if err != nil {
		return snapshot{}, fmt.Errorf("the example cannot be made: %w", err)
	}
	file, err := os.ReadFile(path)
	return snapshot{file, i.Fleet}, err
})

// makeExample has the use cases do what leads to the example.
func (i *Instance) makeExample(ctx context.Context) error {
	const gpu = `{"name":"gpu","sizes":["Standard_NC4as_T4_v3"],"nodes":{"min":1,"max":8}}`
	const work = `{"id":%q,"pool":"cpu","name":%q,"team":"vision","user":"ann","command":["python",%q],` +
		`"resources":{"cpus":2},"retry":{"max":1,"on":["nodeLost"]}}`
	const tooLarge = `{"id":"bad","pool":"cpu","name":"wrong size","team":"vision","user":"ann","command":["true"],"resources":{"cpus":8}}`
	i.Fleet.Refuse("gpu", fault.New(fault.NoQuota, "",
		"the quota of the family NCASv3_T4 in westeurope is used up; ask for more, or use another region"))
	ready := func(name string) protocol.ReportItem {
		return protocol.ReportItem{Ready: &protocol.Ready{Name: name, Size: "Standard_D2s_v5", CPUs: 2, Boot: "1"}}
	}
	var n int64 // the number of the assignment that was made last
	for _, step := range []struct {
		before time.Duration // noon
		do     func(now time.Time) error
	}{
		{3 * time.Hour, func(time.Time) error { return i.Apply(ctx, PoolDocument) }},
		{3 * time.Hour, func(time.Time) error { return i.Send(ctx, tooLarge) }},
		{2 * time.Hour, func(time.Time) error { return i.Submit(ctx, fmt.Sprintf(work, "first", "data", "prepare.py")) }},
		{119 * time.Minute, func(now time.Time) error { return i.Pools.Tick(ctx, "cpu", now) }},
		{110 * time.Minute, func(time.Time) error { return i.Report(ctx, "cpu", "cpu-0", ready("dsvm-cpu-d2s-v5_0")) }},
		{110 * time.Minute, func(time.Time) error { return i.readNumber(ctx, "first", &n) }},
		{110 * time.Minute, func(now time.Time) error {
			return i.Report(ctx, "cpu", "cpu-0", protocol.ReportItem{Started: &protocol.Started{N: n, At: now}})
		}},
		// Its agent says nothing more, so that its node is given up.
		{100 * time.Minute, func(now time.Time) error { return i.Pools.Tick(ctx, "cpu", now) }},
		{99 * time.Minute, func(now time.Time) error { return i.Pools.Tick(ctx, "cpu", now) }},
		{98 * time.Minute, func(now time.Time) error { return i.Pools.Tick(ctx, "cpu", now) }},
		{90 * time.Minute, func(time.Time) error { return i.Report(ctx, "cpu", "cpu-1", ready("dsvm-cpu-d2s-v5_1")) }},
		{90 * time.Minute, func(time.Time) error { return i.readNumber(ctx, "first", &n) }},
		{90 * time.Minute, func(now time.Time) error {
			return i.Report(ctx, "cpu", "cpu-1", protocol.ReportItem{Started: &protocol.Started{N: n, At: now}})
		}},
		{30 * time.Minute, func(now time.Time) error {
			return i.Report(ctx, "cpu", "cpu-1", protocol.ReportItem{Finished: &protocol.Finished{
				N: n, State: string(job.AttemptFailed), ExitCode: 3, StartedAt: now.Add(-time.Hour), EndedAt: now,
			}})
		}},
		{28 * time.Minute, func(time.Time) error { return i.Submit(ctx, fmt.Sprintf(work, "second", "train", "train.py")) }},
		{28 * time.Minute, func(time.Time) error { return i.readNumber(ctx, "second", &n) }},
		{27 * time.Minute, func(now time.Time) error {
			return i.Report(ctx, "cpu", "cpu-1", protocol.ReportItem{Started: &protocol.Started{N: n, At: now}})
		}},
		{90 * time.Second, func(time.Time) error {
			return i.Report(ctx, "cpu", "cpu-1", protocol.ReportItem{Holds: &protocol.Holds{N: []int64{n}}})
		}},
		{90 * time.Second, func(time.Time) error { return i.Submit(ctx, fmt.Sprintf(work, "third", "evaluate", "evaluate.py")) }},
		{time.Minute, func(now time.Time) error { return i.Pools.Tick(ctx, "cpu", now) }},
		{time.Minute, func(time.Time) error { return i.Apply(ctx, gpu) }},
		{20 * time.Second, func(time.Time) error {
			return i.Report(ctx, "cpu", "cpu-1", protocol.ReportItem{Holds: &protocol.Holds{N: []int64{n}}})
		}},
		{0, func(time.Time) error { return i.Ledger.RecordAll(ctx) }},
		{0, func(time.Time) error { return i.ApplyRule(ctx, RuleDocument) }},
	} {
		now := Noon.Add(-step.before)
		i.Clock.Set(now)
		if err := step.do(now); err != nil {
			return fmt.Errorf("%s before noon: %w", step.before, err)
		}
	}
	return nil
}

// Apply applies a pool's document.
func (i *Instance) Apply(ctx context.Context, document string) error {
	spec, err := pool.Parse([]byte(document), "application/json")
	if err == nil {
		_, err = i.Pools.ApplyPool(ctx, spec)
	}
	return err
}

// Submit submits a job's document, which has an id, as the API does.
func (i *Instance) Submit(ctx context.Context, document string) error {
	spec, err := job.Parse([]byte(document), "application/json")
	if err == nil {
		_, err = i.Jobs.Submit(ctx, spec)
	}
	return err
}

// Send sends a job's document, which has an id, as a message: a job that is refused is
// rejected, and its id remembers that.
func (i *Instance) Send(ctx context.Context, document string) error {
	spec, err := job.Parse([]byte(document), "application/json")
	if err != nil {
		return err
	}
	refused, err := i.Jobs.Admit(ctx, spec.Pool, []*service.Submission{{Spec: spec}})
	for _, cause := range refused {
		m := bus.Message{ID: spec.ID, Body: []byte(document), ContentType: "application/json"}
		err = i.Rejections.Reject(ctx, i.Bus.Queues().Jobs, m, service.NewRefusedJob(spec, ""), cause)
	}
	return err
}

// Report brings facts that a node's agent reports now.
func (i *Instance) Report(ctx context.Context, name, vmid string, items ...protocol.ReportItem) error {
	r := protocol.Report{V: protocol.Version, Pool: name, VMID: vmid, Items: items}
	return i.Nodes.Report(ctx, name, []service.Report{{Report: r, At: i.Clock.Now()}})
}

// ApplyRule applies a push rule's document.
func (i *Instance) ApplyRule(ctx context.Context, document string) error {
	rules, err := push.ParseRules([]byte(document), "application/json")
	if err == nil {
		_, err = i.Pushes.ApplyRules(ctx, rules)
	}
	return err
}

// readNumber reads the number of a job's assignment; a job without one is an error.
func (i *Instance) readNumber(ctx context.Context, id string, n *int64) error {
	j, err := i.Jobs.Job(ctx, id)
	if err != nil {
		return err
	}
	if j.State != job.Assigned {
		return fmt.Errorf("job %s is %s, not assigned: %s", id, j.State, j.Reason)
	}
	*n = j.N
	return nil
}
