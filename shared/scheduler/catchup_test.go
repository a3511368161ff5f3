package scheduler_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/scheduler"
)

// shared is the rows that several drivers write, with the keys that each version
// has changed.
type shared struct {
	t    *testing.T
	rng  *rand.Rand
	now  time.Time
	rows map[string][]byte
	keys [][]string // by Seq - 1
	next int        // of jobs and nodes
}

// replica is one driver's copy of the pool.
type replica struct {
	*shared
	state  *scheduler.State
	seq    int64
	unsure []string // rows its last step wanted to write and could not
	asked  []string
}

func (s *shared) head() pool.Head {
	var h pool.Head
	read(s.t, s.rows[pool.HeadKey], &h)
	return h
}

func (s *shared) live() (nodes []*pool.Node, jobs []*pool.Job) {
	for key := range s.rows {
		if n, j := s.row(key); n != nil {
			nodes = append(nodes, n)
		} else if j != nil {
			jobs = append(jobs, j)
		}
	}
	slices.SortFunc(nodes, func(a, b *pool.Node) int { return strings.Compare(a.VMID, b.VMID) })
	slices.SortFunc(jobs, func(a, b *pool.Job) int { return strings.Compare(a.Order, b.Order) })
	return nodes, jobs
}

func (s *shared) row(key string) (*pool.Node, *pool.Job) {
	row, there := s.rows[key]
	switch {
	case there && strings.HasPrefix(key, pool.NodeKey("")):
		n := &pool.Node{}
		read(s.t, row, n)
		return n, nil
	case there && strings.HasPrefix(key, pool.JobKey("")):
		j := &pool.Job{}
		read(s.t, row, j)
		return nil, j
	}
	return nil, nil
}

// step runs one step on a replica and commits it, unless another has been first.
func (r *replica) step(events ...pool.Event) {
	res := scheduler.Step(r.state, events, r.now, scheduler.DefaultTiming)
	if !res.Changed {
		return
	}
	if r.seq != r.head().Seq || r.rng.Intn(6) == 0 { // lost the race, or the write failed
		r.unsure = append(r.unsure, pool.ChangedKeys(res.Changes)...)
		r.catchUp()
		return
	}
	if len(res.Changes) > 98 {
		r.t.Fatalf("%d rows besides the head and its edit", len(res.Changes))
	}
	r.state.Head.Seq++
	for _, c := range res.Changes {
		if delete(r.rows, c.Key); c.Value != nil {
			r.rows[c.Key], _ = json.Marshal(c.Value)
		}
	}
	r.rows[pool.HeadKey], _ = json.Marshal(r.state.Head)
	r.seq = r.state.Head.Seq
	r.keys = append(r.keys, pool.ChangedKeys(res.Changes))
	r.compare("writing")
}

// catchUp does what the driver does with what the store reads.
func (r *replica) catchUp() {
	keys := r.unsure
	for _, k := range r.keys[r.seq:] {
		keys = append(keys, k...)
	}
	slices.Sort(keys)
	var nodes []*pool.Node
	var jobs []*pool.Job
	var gone []string
	for _, key := range slices.Compact(keys) {
		switch n, j := r.row(key); {
		case n != nil:
			nodes = append(nodes, n)
		case j != nil:
			jobs = append(jobs, j)
		default:
			gone = append(gone, key)
		}
	}
	head := r.head()
	r.asked = append(r.asked, r.state.CatchUp(head, nodes, jobs, gone, r.now)...)
	r.seq, r.unsure = head.Seq, nil
	r.compare("catching up to")
}

// compare compares what a replica remembers with a state that is loaded from all rows.
func (r *replica) compare(what string) {
	r.t.Helper()
	head := r.head()
	allNodes, allJobs := r.live()
	got, want := scheduler.Dump(r.state, r.now), scheduler.Dump(scheduler.NewState(head, allNodes, allJobs, r.now), r.now)
	if got != want {
		g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
		for _, line := range g {
			if !slices.Contains(w, line) {
				r.t.Log("got ", line)
			}
		}
		for _, line := range w {
			if !slices.Contains(g, line) {
				r.t.Log("want", line)
			}
		}
		r.t.Fatalf("after %s version %d", what, head.Seq)
	}
}

// event is something that happens to a pool, as one replica sees it.
func (r *replica) event() pool.Event {
	var jobs []*pool.Job
	for j := range r.state.Jobs.All() {
		jobs = append(jobs, j.Job)
	}
	slices.SortFunc(jobs, func(a, b *pool.Job) int { return strings.Compare(a.Order, b.Order) })
	var nodes []*pool.Node
	for _, n := range r.state.Nodes {
		nodes = append(nodes, n.Node)
	}
	slices.SortFunc(nodes, func(a, b *pool.Node) int { return strings.Compare(a.VMID, b.VMID) })
	report := func(n *pool.Node, items ...protocol.ReportItem) pool.Event {
		return pool.Reported{At: r.now, Report: protocol.Report{V: 1, Pool: "p", VMID: n.VMID, Seen: r.state.Head.N, Items: items}}
	}
	switch k := r.rng.Intn(20); {
	case k < 7:
		r.next++
		s := pool.Submit{
			Order: order(r.next),
			ID:    fmt.Sprint("job-", r.next),
			At:    r.now,
			Spec: job.Spec{Pool: "p", Command: []string{"x"}, Team: fmt.Sprint("team", r.rng.Intn(3)),
				Priority: []job.Priority{job.Low, job.Normal, job.High}[r.rng.Intn(3)], Resources: job.Resources{CPUs: 1 + r.rng.Intn(3)}, Retry: job.Retry{Max: 2, Backoff: job.Duration(r.rng.Intn(2)) * job.Duration(time.Minute)}},
		}
		switch r.rng.Intn(6) {
		case 0:
			s.Spec.After = []string{fmt.Sprint("job-", 1+r.rng.Intn(r.next))}
		case 1:
			s.Spec.NotBefore = r.now.Add(time.Minute)
		case 2:
			s.Spec.Sweep = &job.Sweep{Count: 1 + r.rng.Intn(30), Parallel: r.rng.Intn(5), MaxFails: r.rng.Intn(3)}
		case 3:
			s.Spec.Nodes = 2
		}
		return s
	case k < 9 && len(jobs) > 0:
		j := jobs[r.rng.Intn(len(jobs))]
		if j.Spec.Sweep != nil && r.rng.Intn(4) > 0 {
			return pool.Cancel{Order: job.MemberOrder(j.Order, r.rng.Intn(j.Spec.Sweep.Count)), Reason: "not this one"}
		}
		return pool.Cancel{Order: j.Order, Reason: "not wanted"}
	case k < 14 && len(jobs) > 0:
		state := []string{"succeeded", "succeeded", "failed", "evicted", "startFailed"}[r.rng.Intn(5)]
		for _, i := range r.rng.Perm(len(jobs)) {
			if j := jobs[i]; j.VMID != "" {
				n := r.state.Nodes[j.VMID]
				f := &protocol.Finished{N: j.N, State: state, StartedAt: r.now, EndedAt: r.now}
				if f.State != "succeeded" {
					f.ExitCode = 1
				}
				switch {
				case f.State == "startFailed" && r.rng.Intn(2) == 0:
					f.Cause = nodeCauses[r.rng.Intn(len(nodeCauses))]
				case f.State == "failed" && r.rng.Intn(3) == 0:
					f.State = "agentRestarted"
				}
				if r.rng.Intn(3) == 0 {
					return report(n.Node, protocol.ReportItem{Started: &protocol.Started{N: j.N, At: r.now}})
				}
				return report(n.Node, protocol.ReportItem{Finished: f})
			}
		}
	case k < 15 && len(nodes) > 0 && r.rng.Intn(2) == 0:
		if len(jobs) > 0 && r.rng.Intn(2) == 0 {
			return pool.Release{Order: jobs[r.rng.Intn(len(jobs))].Order}
		}
		return pool.NodeRequest{
			VMID: nodes[r.rng.Intn(len(nodes))].VMID,
			Verb: []pool.Verb{pool.VerbRelease, pool.VerbDrain, pool.VerbDelete}[r.rng.Intn(3)],
		}
	case k < 15 && len(nodes) > 0:
		return report(nodes[r.rng.Intn(len(nodes))], protocol.ReportItem{Holds: &protocol.Holds{}}) // it has lost everything
	case k < 16:
		vmid := fmt.Sprint("vm-", r.rng.Intn(12))
		return pool.Reported{
			At: r.now,
			Report: protocol.Report{
				V:     1,
				Pool:  "p",
				VMID:  vmid,
				Items: []protocol.ReportItem{{Ready: &protocol.Ready{Name: vmid, CPUs: 4, Boot: fmt.Sprint(r.next)}}},
			},
		}
	case k < 17:
		l := pool.Listed{Exists: true, Capacity: len(nodes)}
		for _, n := range nodes {
			if n.State != pool.NodeGone && r.rng.Intn(6) > 0 {
				l.Instances = append(
					l.Instances,
					pool.Instance{VMID: n.VMID, ID: n.VMID, Name: n.Name, Provisioning: "Succeeded", Power: "running"},
				)
			}
		}
		return l
	case k < 18:
		s := spec()
		s.Nodes.Max, s.Pack = 4+r.rng.Intn(8), r.rng.Intn(4) > 0
		if r.rng.Intn(3) == 0 {
			s.Sizes = []string{"Standard_D8s_v5"}
		}
		if r.rng.Intn(3) == 0 {
			s.Schedule = &pool.Schedule{DownAt: "09:10", UpAt: "09:20", TimeZone: "UTC", OnRunning: "requeue"}
		}
		return pool.Apply{Spec: s}
	case k < 19 && len(jobs) > 0:
		return pool.JobEnd{ID: fmt.Sprint("job-", 1+r.rng.Intn(r.next)), State: job.Succeeded}
	}
	return pool.Tick{At: r.now}
}

var seeds = flag.Int64("seeds", 20, "how many runs TestCatchUpIsAsLoading makes")

// Several drivers with copies that fall behind write one pool. Whatever the lost
// steps had done to a copy, catching up makes it what the rows say.
func TestCatchUpIsAsLoading(t *testing.T) {
	t.Parallel()
	for seed := range *seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			s := &shared{t: t, rng: rand.New(rand.NewSource(seed)), now: monday, rows: map[string][]byte{}}
			s.rows[pool.HeadKey], _ = json.Marshal(pool.Head{Spec: spec()})
			var replicas []*replica
			for range 2 + 2*(seed%2) {
				replicas = append(replicas, &replica{shared: s, state: scheduler.NewState(s.head(), nil, nil, s.now)})
			}
			for range 200 {
				s.now = s.now.Add(time.Duration(s.rng.Intn(8)) * time.Second)
				r := replicas[s.rng.Intn(len(replicas))]
				var events []pool.Event
				for range 1 + s.rng.Intn(4) {
					events = append(events, r.event())
				}
				r.step(events...)
			}
			if len(s.keys) < 30 {
				t.Errorf("%d steps were committed; the test does not do much", len(s.keys))
			}
		})
	}
}

// undone runs a step whose rows are not written, and has the state catch up with
// the rows as they were. It returns what the step would have changed.
func (b *bench) undone(events ...pool.Event) []string {
	b.t.Helper()
	head, rows := b.s.Head, map[string][]byte{}
	for j := range b.s.Jobs.All() {
		order := j.Order
		rows[pool.JobKey(order)], _ = json.Marshal(j)
	}
	for vmid, n := range b.s.Nodes {
		rows[pool.NodeKey(vmid)], _ = json.Marshal(n)
	}
	was := shared{t: b.t, rows: rows}
	var nodes []*pool.Node
	var jobs []*pool.Job
	var gone []string
	keys := pool.ChangedKeys(scheduler.Step(b.s, events, b.now, b.timing).Changes)
	for _, key := range keys {
		switch n, j := was.row(key); {
		case n != nil:
			nodes = append(nodes, n)
		case j != nil:
			jobs = append(jobs, j)
		default:
			gone = append(gone, key)
		}
	}
	b.s.CatchUp(head, nodes, jobs, gone, b.now)
	return keys
}

// What a step that was not committed knew must not leave the process: neither the
// acknowledgement of a result, nor the end of a job that others wait for, nor that
// a sweep was cancelled.
func TestCatchUpForgetsWhatWasNotWritten(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(s *pool.Spec) { s.Nodes.Max = 40 })
	b.node("n1")
	b.step(of("a", "first", nil), of("a", "stays", nil))
	const waiting = 150
	for i := range waiting {
		b.settle(of("a", fmt.Sprint("after", i), func(s *job.Spec) { s.After, s.NotBefore = []string{"first"}, b.now.Add(time.Hour) }))
	}
	n := b.s.Jobs.Get("first").N
	keys := b.undone(pool.Reported{At: b.now, Report: protocol.Report{Pool: "p", VMID: "n1", Seen: n,
		Items: []protocol.ReportItem{{Finished: &protocol.Finished{N: n, State: "succeeded", StartedAt: b.now, EndedAt: b.now}}}}})
	if len(keys) < 50 || len(keys) > waiting {
		t.Fatalf("the step changes %d rows, want it to be full", len(keys))
	}
	res := scheduler.Step(b.s, []pool.Event{of("a", "another", nil)}, b.now, b.timing)
	if len(res.Effects.Work["n1"]) == 0 {
		t.Fatal("nothing was sent to the node")
	}
	for _, item := range res.Effects.Work["n1"] {
		if len(item.Ack) > 0 {
			t.Errorf("the result of %v is acknowledged and was never written", item.Ack)
		}
	}
	for i := range waiting {
		if j := b.s.Jobs.Get(fmt.Sprint("after", i)); len(j.Waits) != 1 {
			t.Fatalf("job %s does not wait any more; the first has not ended", j.ID)
		}
	}
	// Once it is gone by another's hand, the jobs that wait for it are asked about.
	if ask := b.s.CatchUp(b.s.Head, nil, nil, []string{pool.JobKey("first")}, b.now); !slices.Equal(ask, []string{"first"}) {
		t.Errorf("asked for %v, want the first job", ask)
	}

	for i := range 30 {
		b.node(fmt.Sprint("m", i))
	}
	b.settle(of("a", order(1), sweepOf(110, 0)))
	b.undone(pool.Cancel{Order: order(1), Reason: "not wanted"})
	for vmid, items := range scheduler.Step(b.s, []pool.Event{pool.Tick{}}, b.now, b.timing).Effects.Work {
		for _, item := range items {
			if item.Cancel != nil {
				t.Fatalf("node %s is told to end attempt %d for a cancel that was not written", vmid, item.Cancel.Target)
			}
		}
	}
}

func read(t *testing.T, row []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(row, into); err != nil {
		t.Fatal(err)
	}
}
