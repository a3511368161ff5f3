package scheduler

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
)

var walkNow = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)

// walk puts pools together, out of every state of a node, of a pool and of a job.
type walk struct {
	head  pool.Head
	nodes []*pool.Node
	jobs  []*pool.Job
}

func (w *walk) add(id string, change func(*pool.Job)) *pool.Job {
	j := &pool.Job{Order: fmt.Sprintf("%026d", len(w.jobs)+1), ID: id, State: job.Queued, SubmittedAt: walkNow,
		Spec: job.Spec{ID: id, Pool: "p", Command: []string{"x"}, Team: "t", Priority: job.Normal, Resources: job.Resources{CPUs: 1}}}
	if change != nil {
		change(j)
	}
	w.jobs = append(w.jobs, j)
	return j
}

// run puts a job on a node.
func (w *walk) run(n *pool.Node, state job.State) *pool.Job {
	return w.add("on-"+n.VMID, func(j *pool.Job) {
		w.head.N++
		j.State, j.VMID, j.N, j.Spec.Resources.CPUs = state, n.VMID, w.head.N, 3
		a := job.Attempt{Number: 1, Node: n.Name, VMID: n.VMID, State: job.AttemptAssigned, AssignedAt: walkNow.Add(-time.Minute)}
		if state == job.Running {
			a.State, a.StartedAt = job.AttemptRunning, a.AssignedAt
		}
		j.Attempts = []job.Attempt{a}
	})
}

// nodeKinds are all states of a node, with what may go with them.
var nodeKinds = map[string]func(w *walk, n *pool.Node){
	"none":                  nil,
	"creating":              func(_ *walk, n *pool.Node) { n.State, n.CPUs = pool.NodeCreating, 4 },
	"booting":               func(_ *walk, n *pool.Node) { n.State = pool.NodeBooting },
	"ready":                 func(_ *walk, n *pool.Node) { n.State = pool.NodeReady },
	"ready, idle for long":  func(_ *walk, n *pool.Node) { n.State, n.Since = pool.NodeReady, walkNow.Add(-time.Hour) },
	"ready, missing":        func(_ *walk, n *pool.Node) { n.State, n.MissingAt = pool.NodeReady, walkNow.Add(-time.Second) },
	"ready, broke two jobs": func(_ *walk, n *pool.Node) { n.State, n.Breaks, n.Blames = pool.NodeReady, 2, blamesOf("x", "y") },
	"ready, broken":         func(_ *walk, n *pool.Node) { n.State, n.Breaks, n.Blames = pool.NodeReady, 3, blamesOf("x", "y", "z") },
	"busy":                  func(w *walk, n *pool.Node) { n.State = pool.NodeBusy; w.run(n, job.Running) },
	"busy, assigned":        func(w *walk, n *pool.Node) { n.State = pool.NodeBusy; w.run(n, job.Assigned) },
	"busy, cancelled": func(w *walk, n *pool.Node) {
		n.State = pool.NodeBusy
		j := w.run(n, job.Running)
		j.Cancel, j.CancelAt = "no more", walkNow
	},
	"busy, put back in line": func(w *walk, n *pool.Node) { n.State = pool.NodeBusy; w.run(n, job.Running).Requeue = true },
	"busy, asked back": func(w *walk, n *pool.Node) {
		n.State = pool.NodeBusy
		j := w.run(n, job.Assigned)
		j.Current().AssignedAt = walkNow.Add(-DefaultTiming.AssignedFor - time.Minute)
		j.Requeue, j.CancelAt = true, walkNow.Add(-time.Minute)
	},
	"busy, assigned, put back in line": func(w *walk, n *pool.Node) {
		n.State = pool.NodeBusy
		j := w.run(n, job.Assigned)
		j.Requeue, j.CancelAt = true, walkNow
	},
	"draining": func(w *walk, n *pool.Node) {
		n.State, n.Reason = pool.NodeDraining, drainedByRequest
		w.run(n, job.Running)
	},
	"draining, nothing on it": func(_ *walk, n *pool.Node) { n.State, n.Reason = pool.NodeDraining, drainedByRequest },
	"evicted": func(w *walk, n *pool.Node) {
		n.State, n.Evicted, n.Reason = pool.NodeDraining, true, "evicted"
		w.run(n, job.Running)
	},
	"deleting":           func(_ *walk, n *pool.Node) { n.State, n.DeleteAt = pool.NodeDeleting, walkNow },
	"deleting with work": func(w *walk, n *pool.Node) { n.State, n.DeleteAt = pool.NodeDeleting, walkNow; w.run(n, job.Running) },
	"lost": func(w *walk, n *pool.Node) {
		n.State, n.DeleteAt, n.Reason = pool.NodeLost, walkNow, "silent"
		w.run(n, job.Running)
	},
	"failed": func(w *walk, n *pool.Node) {
		n.State, n.DeleteAt, n.Reason = pool.NodeFailed, walkNow, "stopped"
		w.run(n, job.Assigned)
	},
	"failed, nothing on it": func(_ *walk, n *pool.Node) { n.State, n.DeleteAt = pool.NodeFailed, walkNow },
	"quarantined":           func(_ *walk, n *pool.Node) { n.State = pool.NodeQuarantined },
	"quarantined with work": func(w *walk, n *pool.Node) { n.State = pool.NodeQuarantined; w.run(n, job.Running) },
	"quarantined for long": func(w *walk, n *pool.Node) {
		n.State, n.Since = pool.NodeQuarantined, walkNow.Add(-2*time.Hour)
		w.run(n, job.Running)
	},
	"gone": func(_ *walk, n *pool.Node) { n.State = pool.NodeGone },
}

func blamesOf(jobs ...string) []pool.Blame {
	var list []pool.Blame
	for _, j := range jobs {
		list = append(list, pool.Blame{Job: j, Event: j, What: "startFailed (disk)", At: walkNow.Add(-time.Second)})
	}
	return list
}

// poolKinds are the states of a pool.
var poolKinds = map[string]func(w *walk){
	"plain":         func(*walk) {},
	"one node":      func(w *walk) { w.head.Spec.Nodes.Max = 1 },
	"two at least":  func(w *walk) { w.head.Spec.Nodes.Min = 2 },
	"deleting":      func(w *walk) { w.head.Deleting = true },
	"deleting, set": func(w *walk) { w.head.Deleting = true; w.head.Sets[0].Blocked = blockedFor(time.Minute) },
	"down": func(w *walk) {
		w.head.Down, w.head.DownSince = true, walkNow.Add(-time.Hour)
		w.head.Spec.Schedule = &pool.Schedule{DownAt: "08:00", UpAt: "12:00", TimeZone: "UTC", OnRunning: "wait"}
	},
	"down no more":          func(w *walk) { w.head.Down = true },
	"nodes do not come up":  func(w *walk) { w.head.Sets[0].Breaker = openFor(time.Minute) },
	"one is tried":          func(w *walk) { w.head.Sets[0].Breaker = openFor(-time.Second) },
	"one was asked for":     func(w *walk) { w.head.Sets[0].Breaker = openFor(time.Hour); asked(w, 1) },
	"one of the lower rung": func(w *walk) { ladder(w); w.head.Sets[1].Breaker = openFor(time.Minute) },
	"one of the best rung":  func(w *walk) { ladder(w); w.head.Sets[0].Breaker = openFor(time.Minute) },
	"rung blocked before":   func(w *walk) { w.head.Sets[0].Blocked = blockedFor(-time.Second) },
	"many requests": func(w *walk) {
		w.head.Sets[0].WroteAt, w.head.Sets[0].FullAt = walkNow, walkNow.Add(9*writeEvery)
	},
	"rung blocked":              func(w *walk) { w.head.Sets[0].Blocked = blockedFor(time.Minute) },
	"grows":                     func(w *walk) { asked(w, 1) },
	"grows, accepted":           func(w *walk) { asked(w, 1); w.head.Sets[0].Op.Token = "t" },
	"grows, no answer for long": func(w *walk) { asked(w, 1); w.head.Sets[0].Op.AskedAt = walkNow.Add(-writeEvery) },
	"grows to what is": func(w *walk) {
		w.head.Sets[0].Op = pool.Op{Kind: pool.OpGrow, Target: len(w.nodes), AskedAt: walkNow, Token: "t"}
	},
	"settles":            func(w *walk) { w.head.Sets[0].Op = pool.Op{Kind: pool.OpShrink, AskedAt: walkNow} },
	"drops":              func(w *walk) { w.head.Sets[0].Op = pool.Op{Kind: pool.OpDrop, AskedAt: walkNow} },
	"pending":            func(w *walk) { asked(w, 1); w.head.Sets[0].Op = pool.Op{} },
	"unbacked":           func(w *walk) { w.head.Sets[0].Capacity += 1; w.head.Sets[0].Unbacked = true },
	"unbacked, in doubt": func(w *walk) { asked(w, 1); w.head.Sets[0].Op = pool.Op{}; w.head.Sets[0].Unbacked = true },
	"settles, accepted":  func(w *walk) { w.head.Sets[0].Op = pool.Op{Kind: pool.OpShrink, AskedAt: walkNow, Token: "t"} },
	"rung cut":           func(w *walk) { w.head.Sets[0].QuotaLimit = 1 },
	"ladder":             func(w *walk) { ladder(w) },
	"ladder, blocked":    func(w *walk) { ladder(w); w.head.Sets[1].Blocked = blockedFor(time.Minute) },
	"ladder, low rung":   func(w *walk) { ladder(w); w.head.Sets[0].Blocked = blockedFor(time.Minute) },
	"ladder, settles":    func(w *walk) { ladder(w); w.head.Sets[1].Op = pool.Op{Kind: pool.OpShrink, AskedAt: walkNow} },
	"spot then regular":  func(w *walk) { w.head.Spec.Capacity = "spot-then-regular"; spots(w) },
	"jobs in limit":      func(w *walk) { one := 1; w.head.Spec.Limits.Default.Jobs = &one },
	"nodes unlike jobs":  func(w *walk) { w.head.Spec.Pack = false },
}

func blockedFor(d time.Duration) pool.Block {
	return pool.Block{Code: "noQuota", Message: "no quota", Until: walkNow.Add(d), Tries: 1}
}

func openFor(d time.Duration) pool.Breaker {
	return pool.Breaker{Bad: 3, Why: "its agent did not report", OpenedAt: walkNow.Add(-time.Hour), ProbeAt: walkNow.Add(d)}
}

// asked asks the first set for n nodes more.
func asked(w *walk, n int) {
	set := &w.head.Sets[0]
	set.Capacity += n
	set.Requests = []pool.Request{{N: n, At: walkNow}}
	set.Op = pool.Op{Kind: pool.OpGrow, Target: set.Capacity, Adds: n, AskedAt: walkNow}
}

func ladder(w *walk) {
	w.head.Spec.Sizes = append(w.head.Spec.Sizes, "Standard_D8s_v5")
	w.head.Sets = append(w.head.Sets, pool.Set{Name: "d8s-v5", Size: "Standard_D8s_v5", Used: true, Listed: walkNow})
}

func spots(w *walk) {
	w.head.Sets = append([]pool.Set{{Name: "d4s-v5-spot", Size: "Standard_D4s_v5", Spot: true}}, w.head.Sets...)
}

// jobKinds are the jobs that have no place, one by one.
var jobKinds = map[string]func(w *walk){
	"none":  func(*walk) {},
	"small": func(w *walk) { w.add("small", nil) },
	"wide":  func(w *walk) { w.add("wide", cpusOf(4)) },
	"wider": func(w *walk) { w.add("wider", cpusOf(8)) },
	"never": func(w *walk) { w.add("never", cpusOf(64)) },
	"gang":  func(w *walk) { w.add("gang", func(j *pool.Job) { j.Spec.Nodes = 2 }) },
	"gang, wide": func(w *walk) {
		w.add("gang", func(j *pool.Job) { j.Spec.Nodes, j.Spec.Resources.CPUs = 2, 4 })
		w.add("small", nil)
	},
	"wide and small": func(w *walk) {
		w.add("wide", cpusOf(4))
		w.add("small", nil)
		w.add("other", func(j *pool.Job) { j.Spec.Team = "u" })
	},
	"evicted often": func(w *walk) {
		w.add("regular", func(j *pool.Job) {
			for range regularAfter {
				j.Attempts = append(j.Attempts, job.Attempt{Number: len(j.Attempts) + 1, State: job.AttemptEvicted})
			}
		})
	},
	"not started": func(w *walk) {
		w.add("shy", func(j *pool.Job) {
			j.Attempts = []job.Attempt{{Number: 1, Node: "n1", VMID: "v1", State: job.AttemptStartFailed, Cause: job.CauseDisk}}
		})
	},
	"not before": func(w *walk) {
		w.add("later", func(j *pool.Job) { j.State, j.NotBefore = job.Held, walkNow.Add(time.Hour) })
	},
	"time passed": func(w *walk) { w.add("now", func(j *pool.Job) { j.State, j.NotBefore = job.Held, walkNow }) },
	"sweep of later, passed": func(w *walk) {
		w.add("sweep", func(j *pool.Job) { j.State, j.NotBefore, j.Spec.Sweep = job.Held, walkNow, &job.Sweep{Count: 3} })
	},
	"after":     func(w *walk) { w.add("after", func(j *pool.Job) { j.State, j.Waits = job.Held, []string{"small"} }) },
	"held back": func(w *walk) { w.add("held", func(j *pool.Job) { heldJob(j) }) },
	"sweep":     func(w *walk) { w.add("sweep", func(j *pool.Job) { j.Spec.Sweep = &job.Sweep{Count: 3} }) },
	"sweep, parallel": func(w *walk) {
		s := w.add("sweep", func(j *pool.Job) { begun(j, 9, 1); j.Spec.Sweep.Parallel = 1 })
		w.member(s, 0, true)
		w.member(s, 1, false)
	},
	"sweep, stopped":   func(w *walk) { w.add("sweep", func(j *pool.Job) { begun(j, 9, 1); heldJob(j) }) },
	"sweep, cancelled": func(w *walk) { w.add("sweep", func(j *pool.Job) { begun(j, 9, 1); j.Cancel = "enough" }) },
	"sweep, cancelled, runs": func(w *walk) {
		s := w.add("sweep", func(j *pool.Job) { begun(j, 9, 1); j.Cancel = "enough" })
		w.member(s, 0, true)
	},
	"sweep, all begun": func(w *walk) {
		s := w.add("sweep", func(j *pool.Job) { begun(j, 2, 2) })
		w.member(s, 0, true)
		w.member(s, 1, false)
	},
	"sweep, member held": func(w *walk) {
		s := w.add("sweep", func(j *pool.Job) { begun(j, 2, 2) })
		heldJob(w.member(s, 0, false))
	},
}

func cpusOf(n int) func(*pool.Job) { return func(j *pool.Job) { j.Spec.Resources.CPUs = n } }

func heldJob(j *pool.Job) {
	j.State, j.NotBefore, j.Reason = job.Held, untilReleased, "something is wrong; `dsvm job release "+j.ID+"`"
}

func begun(j *pool.Job, count, next int) {
	j.State, j.Spec.Sweep = job.Running, &job.Sweep{Count: count}
	j.Progress = &pool.Progress{Next: next, StartedAt: walkNow.Add(-time.Minute)}
}

// member adds a member of a sweep, on the first node that takes work when it is to
// run and there is one.
func (w *walk) member(of *pool.Job, index int, runs bool) *pool.Job {
	of.Progress.Live++
	m := w.add(job.MemberID(of.ID, index), func(j *pool.Job) { j.Order, j.Spec.Index = job.MemberOrder(of.Order, index), &index })
	for _, n := range w.nodes {
		if runs && m.VMID == "" && (n.State == pool.NodeReady || n.State == pool.NodeBusy) && n.CPUs > 0 {
			w.head.N++
			n.State, m.State, m.VMID, m.N = pool.NodeBusy, job.Running, n.VMID, w.head.N
			m.Attempts = []job.Attempt{{Number: 1, Node: n.Name, VMID: n.VMID, State: job.AttemptRunning, StartedAt: walkNow}}
		}
	}
	return m
}

// walkState makes the pool of a kind with nodes and jobs of kinds.
func walkState(kind string, nodes []string, jobs ...string) *State {
	w := &walk{
		head: pool.Head{
			Seq: 1,
			Spec: pool.Spec{Name: "p", Kind: "batch", OS: "linux", Sizes: []string{"Standard_D4s_v5"}, Capacity: "regular",
				Nodes: pool.Range{Max: 2}, IdleTimeout: job.Duration(30 * time.Second), Pack: true},
			Sets: []pool.Set{{Name: "d4s-v5", Size: "Standard_D4s_v5", Used: true, Listed: walkNow}},
		},
	}
	for i, kind := range nodes {
		make := nodeKinds[kind]
		if make == nil {
			continue
		}
		id := fmt.Sprint(i + 1)
		n := &pool.Node{
			VMID:       "v" + id,
			InstanceID: id,
			Name:       "n" + id,
			Set:        "d4s-v5",
			Size:       "Standard_D4s_v5",
			CPUs:       4,
			Memory:     16 * job.Gi,
			Since:      walkNow,
			CreatedAt:  walkNow,
			HeardAt:    walkNow,
			RunningAt:  walkNow,
			From:       walkNow,
			Mark:       walkNow,
			Boot:       "1",
		}
		make(w, n)
		w.nodes = append(w.nodes, n)
		if n.State != pool.NodeGone && n.State != pool.NodeDeleting {
			w.head.Sets[0].Capacity++
		}
	}
	for _, kind := range jobs {
		jobKinds[kind](w)
	}
	poolKinds[kind](w)
	if w.head.Down {
		for _, j := range w.jobs { // as the step that took the pool down left them
			if j.State == job.Queued && j.Spec.Sweep == nil {
				j.State, j.Reason = job.Held, "down"
			}
		}
	}
	return NewState(w.head, w.nodes, w.jobs, walkNow)
}

// Every state of a node, of a pool and of a job is walked through both explains, with
// one other node or none: no sentence may promise what cannot happen there.
func TestExplainsSayWhatCanHappen(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for kind := range poolKinds {
		t.Run(kind, func(t *testing.T) {
			states, wrong := 0, 0
			look := func(nodes []string, jobs string) {
				s := walkState(kind, nodes, jobs)
				for _, n := range s.Nodes {
					seen["node "+string(n.State)] = true
				}
				for j := range s.Jobs.All() {
					seen["job "+string(j.State)] = true
				}
				seen["pool "+ExplainPool(s, walkNow, DefaultTiming).State] = true
				states++
				if problem := Claims(s, walkNow, DefaultTiming); problem != "" {
					if wrong++; wrong < 4 {
						t.Errorf("nodes %s, jobs %s: %s", strings.Join(nodes, " + "), jobs, problem)
					}
				}
			}
			for node := range nodeKinds {
				for jobs := range jobKinds {
					look([]string{node}, jobs)
				}
				for other := range nodeKinds {
					for _, jobs := range []string{"small", "gang", "not started"} {
						if node <= other {
							look([]string{node, other}, jobs)
						}
					}
				}
			}
			if wrong > 0 {
				t.Errorf("%d of %d states have a sentence that cannot be", wrong, states)
			}
		})
	}
	for _, want := range []pool.NodeState{pool.NodeCreating, pool.NodeBooting, pool.NodeReady, pool.NodeBusy, pool.NodeDraining, pool.NodeDeleting, pool.NodeGone, pool.NodeLost, pool.NodeFailed, pool.NodeQuarantined} {
		if !seen["node "+string(want)] {
			t.Errorf("no node was ever %s", want)
		}
	}
	for _, want := range []job.State{job.Held, job.Queued, job.Assigned, job.Running} {
		if !seen["job "+string(want)] {
			t.Errorf("no job was ever %s", want)
		}
	}
	for _, want := range []string{"resting", "growing", "working", "full", "blocked", "down", "deleting"} {
		if !seen["pool "+want] {
			t.Errorf("no pool was ever %s", want)
		}
	}
}
