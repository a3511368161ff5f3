package scheduler_test

import (
	"maps"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/scheduler"
)

// Each mutation makes the core decide wrongly in one way, and the checker has to
// say so by the name of the invariant: a checker that never bites proves nothing.
func TestSimulationBites(t *testing.T) {
	t.Parallel()
	if underDetector {
		t.Skip("a mutation looks at the world while a driver runs, which is a race: `go test` runs this")
	}
	type state = *scheduler.State
	type result = *scheduler.Result
	placed := func(s state, want func(*pool.Job) bool) *pool.Job {
		var found []*pool.Job
		for j := range s.Jobs.All() {
			if j.VMID != "" && want(j.Job) {
				found = append(found, j.Job)
			}
		}
		if len(found) == 0 {
			return nil
		}
		return slices.MinFunc(found, func(a, b *pool.Job) int {
			if a.Order < b.Order {
				return -1
			}
			return 1
		})
	}
	plain := func(j *pool.Job) bool { return j.Spec.Nodes == 0 }
	unused := maps.Clone(showsIn)
	for name, tt := range map[string]struct {
		want   []string // any of these
		mutate func(*world, state, result)
	}{
		"a busy node is deleted": {[]string{"busy node"}, func(_ *world, s state, r result) {
			if j := placed(s, plain); j != nil {
				r.Effects.Remove = append(r.Effects.Remove, s.Nodes[j.VMID].Node)
			}
		}},
		"an ended job's row is forgotten": {[]string{"lost job"}, func(_ *world, s state, r result) {
			r.Changes = slices.DeleteFunc(r.Changes, func(c pool.Change) bool {
				j, ok := c.Value.(*pool.Job)
				return ok && j.State.Final()
			})
		}},
		"a job is never written": {[]string{"lost job", "rest", "rows"}, func(w *world, s state, r result) {
			r.Changes = slices.DeleteFunc(r.Changes, func(c pool.Change) bool {
				j, ok := c.Value.(*pool.Job)
				if ok && c.Insert && !j.State.Final() && j.Spec.Sweep == nil && j.Spec.Index == nil && j.VMID == "" {
					s.Jobs.Remove(j.Order)
					return true
				}
				return false
			})
		}},
		"an attempt is entered twice": {[]string{"counted twice"}, func(_ *world, s state, r result) {
			for _, c := range r.Changes {
				if l, ok := c.Value.(*pool.Log); ok {
					l.Entries = append(l.Entries, l.Entries[0])
				}
			}
		}},
		"an attempt is left out of the ledger": {[]string{"ledger"}, func(_ *world, s state, r result) {
			for _, c := range r.Changes {
				if l, ok := c.Value.(*pool.Log); ok && l.Entries[0].Kind == "attempt" {
					l.Entries = l.Entries[1:]
				}
			}
		}},
		"an attempt does not pay for its GPUs": {[]string{"ledger"}, func(_ *world, s state, r result) {
			for _, c := range r.Changes {
				if l, ok := c.Value.(*pool.Log); ok {
					l.Entries[0].GPUs = 0
				}
			}
		}},
		"a second of a node is lost": {[]string{"ledger"}, func(_ *world, s state, r result) {
			for _, c := range r.Changes {
				if l, ok := c.Value.(*pool.Log); ok {
					for i := range l.Entries {
						if e := &l.Entries[i]; e.Kind == "node" && e.Idle > time.Second {
							e.To, e.Idle = e.To.Add(-time.Second), e.Idle-time.Second
						}
					}
				}
			}
		}},
		"a running job is placed again": {[]string{"runs twice"}, func(w *world, s state, r result) {
			for vmid, items := range r.Effects.Work {
				for _, item := range items {
					if item.Assign != nil && item.Assign.Gang == nil {
						for other, n := range s.Nodes {
							if other != vmid && n.State == pool.NodeReady {
								s.Head.N++
								item.N = s.Head.N
								r.Effects.Work[other] = append(r.Effects.Work[other], item)
								return
							}
						}
					}
				}
			}
		}},
		"a lost node's jobs are placed before it is gone": {[]string{"runs twice"}, func(w *world, s state, r result) {
			// The VM is taken for deleted as soon as its session is taken.
			for vmid, n := range s.Nodes {
				if n.State == pool.NodeLost {
					l := w.list(n.Set)
					l.Instances = slices.DeleteFunc(l.Instances, func(i pool.Instance) bool { return i.VMID == vmid })
					w.events = append(w.events, mail{event: l, at: w.now})
				}
			}
		}},
		"limits are not looked at": {[]string{"limits"}, func(_ *world, s state, r result) {
			if j := placed(s, func(j *pool.Job) bool { return j.Spec.Team == "c" && j.Spec.Resources.CPUs > 20 }); j != nil {
				s.Head.Spec.Limits.Default.CPUs = &j.Spec.Resources.GPUs
			}
		}},
		"a node holds more than it has": {[]string{"capacity"}, func(_ *world, s state, r result) {
			if j := placed(s, plain); j != nil {
				j.Spec.Resources.CPUs += 64
			}
		}},
		"a GPU has two owners": {[]string{"gpus"}, func(_ *world, s state, r result) {
			for j := range s.Jobs.All() {
				if a := j.Attempts; j.VMID != "" && j.Spec.Nodes == 0 && len(a[len(a)-1].GPUs) > 0 {
					a[len(a)-1].GPUs[0] = 0
				}
			}
		}},
		"a gang begins without one of its nodes": {[]string{"gang"}, func(_ *world, s state, r result) {
			if j := placed(s, func(j *pool.Job) bool { return j.Spec.Nodes > 0 }); j != nil {
				a := &j.Attempts[len(j.Attempts)-1]
				a.Ranks = a.Ranks[1:]
			}
		}},
		"a sweep runs more than its parallel": {[]string{"sweep"}, func(_ *world, s state, r result) {
			for j := range s.Jobs.All() {
				if j.Spec.Sweep != nil && j.Progress.Running > 1 {
					j.Spec.Sweep.Parallel = 1
				}
			}
		}},
		"a held job does not say why": {[]string{"reason"}, func(_ *world, s state, r result) {
			for j := range s.Jobs.All() {
				if j.State == job.Held {
					j.Reason = ""
				}
			}
		}},
		"a job stays on a node that is gone": {[]string{"gone node"}, func(_ *world, s state, r result) {
			for _, n := range s.Nodes {
				if n.State == pool.NodeGone {
					if j := placed(s, plain); j != nil {
						a := &j.Attempts[len(j.Attempts)-1]
						a.VMID, j.VMID = n.VMID, n.VMID
					}
				}
			}
		}},
		"boots have no deadline": {[]string{"deadline"}, func(w *world, s state, r result) {
			for _, n := range s.Nodes {
				if n.State == pool.NodeFailed {
					n.State, n.DeleteAt = pool.NodeBooting, time.Time{}
					r.Effects.Remove = nil
				}
			}
		}},
		"deletions are not asked for again": {[]string{"deadline", "rest"}, func(w *world, s state, r result) { r.Effects.Remove = nil }},
		"more nodes than nodes.max": {[]string{"nodes.max"}, func(_ *world, s state, r result) {
			for _, c := range r.Effects.Sets {
				c.Grow *= 6
			}
		}},
		"an answer to Azure is forgotten": {[]string{"deadline", "rest"}, func(_ *world, s state, r result) {
			for _, c := range r.Effects.Sets {
				c.Poll = ""
			}
		}},
		"what a node has forgotten is not concluded": {[]string{"no process"}, func(w *world, s state, r result) { w.noHolds = true }},
		"a lost journal is given no counter": {[]string{"runs twice"}, func(_ *world, s state, r result) {
			for _, items := range r.Effects.Work {
				for _, i := range items {
					if i.Counter != nil {
						i.Counter.N = 0
					}
				}
			}
		}},
		"what does not begin is not asked back": {[]string{"deadline"}, func(_ *world, s state, r result) {
			for j := range s.Jobs.All() {
				if j.State == job.Assigned && j.Requeue {
					j.Requeue = false
				}
			}
			for vmid, items := range r.Effects.Work {
				r.Effects.Work[vmid] = slices.DeleteFunc(items, func(i protocol.WorkItem) bool {
					return i.Cancel != nil && strings.Contains(i.Cancel.Reason, notBegun)
				})
			}
		}},
		"what was asked back is placed before the answer": {[]string{"runs twice"}, func(w *world, s state, r result) {
			for vmid, items := range r.Effects.Work {
				for _, i := range items {
					if i.Cancel != nil && strings.Contains(i.Cancel.Reason, notBegun) {
						w.deliver(pool.Reported{At: w.now, Report: protocol.Report{V: 1, Pool: "p", VMID: vmid, Seen: s.Head.N, Items: []protocol.ReportItem{
							{Finished: &protocol.Finished{N: i.Cancel.Target, State: "cancelled", EndedAt: w.now}}}}})
					}
				}
			}
		}},
		"too many rows": {[]string{"rows"}, func(_ *world, s state, r result) {
			for i := 0; len(r.Changes) > 20 && len(r.Changes) < 101; i++ {
				r.Changes = append(r.Changes, r.Changes[0])
			}
		}},
		"growth waits for the operation in flight": {[]string{"growth"}, func(_ *world, s state, r result) {
			for i := range s.Head.Sets {
				set := &s.Head.Sets[i]
				calls := r.Effects.Sets[set.Name]
				if calls == nil || calls.Grow == 0 || set.Op.Under == nil {
					continue
				}
				calls.Grow = 0
				set.Requests = slices.Clone(set.Requests[:len(set.Requests)-1])
				set.Op = *set.Op.Under
			}
		}},
		"nothing is listed while an operation is under way": {[]string{"unseen"}, func(_ *world, s state, r result) {
			if slices.ContainsFunc(s.Head.Sets, func(set pool.Set) bool { return set.Op.Kind == pool.OpGrow }) {
				r.Effects.List = false
			}
		}},
		"the time to come up begins again and again": {[]string{"deadline"}, func(w *world, s state, r result) {
			for _, n := range s.Nodes {
				if n.State == pool.NodeCreating || n.State == pool.NodeBooting {
					n.AskedAt = w.now
				}
			}
		}},
		"nodes that do not come up are bought again": {[]string{"breaker"}, func(_ *world, s state, r result) {
			for i := range s.Head.Sets {
				s.Head.Sets[i].Breaker = pool.Breaker{}
			}
		}},
		"an operation that was overtaken counts as a failure": {[]string{"preempted"}, func(w *world, s state, r result) {
			if w.checker.seen["operation preempted"] > 0 {
				s.Head.Sets[0].Blocked.Code = string(fault.Preempted)
			}
		}},
		"a job's cause counts against its node": {[]string{"blame"}, func(_ *world, s state, r result) {
			for _, c := range r.Changes {
				if j, ok := c.Value.(*pool.Job); ok && len(j.Attempts) > 0 && j.Spec.Nodes == 0 {
					if a := j.Attempts[len(j.Attempts)-1]; a.State == job.AttemptStartFailed && a.Cause.Owner() == job.OwnerJob {
						s.Nodes[a.VMID].Breaks++
					}
				}
			}
		}},
		"each attempt that a restart ends counts": {[]string{"blame"}, func(_ *world, s state, r result) {
			for _, n := range s.Nodes {
				restarts := 0
				for _, b := range n.Blames {
					if b.What == "agentRestarted" {
						restarts++
					}
				}
				n.Breaks = max(n.Breaks, restarts)
			}
		}},
		"a node's cause is taken for the job's": {[]string{"owner"}, func(w *world, s state, r result) {
			for _, m := range w.events {
				if e, ok := m.event.(pool.Reported); ok {
					for i, item := range e.Report.Items {
						if f := item.Finished; f != nil && f.Cause.Owner() == job.OwnerNode && f.State == "startFailed" {
							unheard := *f
							unheard.Cause = ""
							e.Report.Items[i].Finished = &unheard
						}
					}
				}
			}
		}},
		"a restart is taken for a failure": {[]string{"owner"}, func(_ *world, s state, r result) {
			for _, c := range r.Changes {
				if j, ok := c.Value.(*pool.Job); ok && len(j.Attempts) > 0 && j.Attempts[len(j.Attempts)-1].State == job.AttemptAgentRestarted {
					j.Retries = len(j.Attempts)
				}
			}
		}},
		"all broken nodes are kept": {[]string{"kept"}, func(_ *world, s state, r result) {
			for _, n := range s.Nodes {
				if n.State == pool.NodeDraining && n.JobCount() > 0 {
					n.State = pool.NodeQuarantined
				}
			}
		}},
		"the last sound node is set aside": {[]string{"last node"}, func(_ *world, s state, r result) {
			var works []*pool.Node
			for _, n := range s.Nodes {
				if n.State == pool.NodeReady || n.State == pool.NodeBusy {
					works = append(works, n.Node)
				}
			}
			if len(works) == 1 && scheduler.InLine(s) > 0 {
				works[0].State = pool.NodeQuarantined
			}
		}},
		"quarantined nodes count towards nodes.max": {[]string{"grows", "rest", "stall"}, func(_ *world, s state, r result) {
			for _, n := range s.Nodes {
				if n.State == pool.NodeQuarantined { // no more are asked for beside it
					for name := range r.Effects.Sets {
						r.Effects.Sets[name].Grow = 0
					}
					for i := range s.Head.Sets {
						if set := &s.Head.Sets[i]; set.Op.Kind == pool.OpGrow && set.Op.Token == "" {
							set.Op = pool.Op{}
						}
					}
				}
			}
		}},
		"a sweep that fails goes on": {[]string{"stop"}, func(_ *world, s state, r result) {
			for j := range s.Jobs.All() {
				if j.Spec.Sweep != nil && j.State == job.Held && j.NotBefore.Equal(scheduler.Released) {
					j.State, j.NotBefore = job.Running, time.Time{}
				}
			}
		}},
		"a held sweep begins more members": {[]string{"stop"}, func(_ *world, s state, r result) {
			for j := range s.Jobs.All() {
				if j.Spec.Sweep != nil && j.State == job.Held && j.NotBefore.Equal(scheduler.Released) && j.Progress.Next < j.Spec.Sweep.Members()-1 {
					j.Progress.Next++
				}
			}
		}},
		"an explanation promises what cannot be": {[]string{"reason"}, func(_ *world, s state, r result) {
			for _, n := range s.Nodes {
				if n.State == pool.NodeQuarantined {
					n.Since = n.Since.Add(-2 * time.Hour) // and it stays
				}
				if n.State == pool.NodeBusy {
					n.State = pool.NodeLost
				}
			}
		}},
		"work is not sent": {[]string{"stall"}, func(w *world, s state, r result) {
			if !w.faults {
				clear(r.Effects.Work)
			}
		}},
		"features are not looked at": {[]string{"features"}, func(_ *world, s state, r result) {
			for _, n := range s.Nodes {
				n.Features = protocol.Features()
			}
		}},
		"outdated nodes stay": {[]string{"outdated", "rest"}, func(w *world, s state, r result) { w.noOutdated = true }},
		"an outdated node leaves with its jobs": {[]string{"busy node"}, func(_ *world, s state, r result) {
			for _, n := range s.Nodes {
				if n.Outdated && n.State == pool.NodeDraining && n.JobCount() > 0 {
					r.Effects.Remove = append(r.Effects.Remove, n.Node)
				}
			}
		}},
		"an upgrade ends jobs": {[]string{"rolled"}, func(_ *world, s state, r result) {
			for vmid, n := range s.Nodes {
				if n.Outdated && n.State == pool.NodeDraining && n.JobCount() > 0 {
					r.Effects.Work[vmid] = append(r.Effects.Work[vmid], protocol.WorkItem{Cancel: &protocol.Cancel{Reason: scheduler.RollRequeue}})
				}
			}
		}},
		"a model is written again and again": {[]string{"model"}, func(_ *world, s state, r result) {
			for i := range s.Head.Sets {
				if m := &s.Head.Sets[i].Model; m.Has != "" && m.Wanted != "" {
					m.Has, m.RetryAt = "another", time.Time{}
				}
			}
		}},
		"a set is made again under its nodes": {[]string{"busy node"}, func(_ *world, s state, r result) {
			for _, set := range s.Head.Sets {
				if set.Model.Fixed {
					r.Effects.Sets = map[string]*pool.SetCalls{set.Name: {Set: set, Drop: true}}
				}
			}
		}},
		"a held job is placed": {[]string{"held"}, func(_ *world, s state, r result) {
			for j := range s.Jobs.All() {
				if j.Spec.Sweep == nil && j.VMID != "" {
					j.NotBefore = scheduler.Released
				}
			}
		}},
		"a job does not wait for those of another pool": {[]string{"too early"}, func(_ *world, s state, r result) {
			for _, c := range r.Changes {
				if j, ok := c.Value.(*pool.Job); ok && c.Insert && len(j.Waits) > 0 {
					j.Waits = slices.DeleteFunc(j.Waits, func(text string) bool { return strings.HasPrefix(text, "far-") })
				}
			}
		}},
		"what waits for its turn begins at once": {[]string{"turn"}, func(_ *world, s state, r result) {
			for _, items := range r.Effects.Work {
				for _, i := range items {
					if i.Assign != nil {
						i.Assign.Room = 0
					}
				}
			}
		}},
		"what waits for too long is not recalled": {[]string{"waits"}, func(_ *world, s state, r result) {
			for vmid, items := range r.Effects.Work {
				r.Effects.Work[vmid] = slices.DeleteFunc(items, func(i protocol.WorkItem) bool { return i.Cancel != nil && i.Cancel.IfWaiting })
			}
		}},
		"a recall ends what runs": {[]string{"recall"}, func(_ *world, s state, r result) {
			for _, items := range r.Effects.Work {
				for _, i := range items {
					if i.Cancel != nil {
						i.Cancel.IfWaiting = false
					}
				}
			}
		}},
		"what was recalled is placed before the answer": {[]string{"runs twice"}, func(w *world, s state, r result) {
			for vmid, items := range r.Effects.Work {
				r.Effects.Work[vmid] = slices.DeleteFunc(items, func(i protocol.WorkItem) bool {
					if i.Cancel == nil || !i.Cancel.IfWaiting {
						return false
					}
					w.deliver(pool.Reported{At: w.now, Report: protocol.Report{V: 1, Pool: "p", VMID: vmid, Seen: s.Head.N, Items: []protocol.ReportItem{
						{Finished: &protocol.Finished{N: i.Cancel.Target, State: "cancelled", EndedAt: w.now}}}}})
					return true
				})
			}
		}},
		"a node holds more than may wait there": {[]string{"capacity"}, func(_ *world, s state, r result) {
			for j := range s.Jobs.All() {
				if j.State == job.Assigned && j.Spec.Index != nil {
					j.Spec.Resources.CPUs *= 40
				}
			}
		}},
		"nothing wakes the pool": {[]string{"deadline", "rest"}, func(w *world, s state, r result) {
			r.Effects.WakeAt = time.Time{}
			w.events = slices.DeleteFunc(w.events, func(m mail) bool { _, tick := m.event.(pool.Tick); return tick })
			r.Effects.List = false
		}},
	} {
		delete(unused, name)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var missed []string
			const worlds = 100
			for n := range int64(worlds) {
				seed := (showsIn[name] + n) % worlds
				w := simulate(t, seed, true, func(w *world) { w.mutate = tt.mutate }, (*world).play)
				if slices.Contains(tt.want, w.checker.broken) {
					return
				}
				missed = append(missed, w.checker.broken)
			}
			sort.Strings(missed)
			t.Errorf("want a violation of %v, got %q", tt.want, slices.Compact(missed))
		})
	}
	for name := range unused {
		t.Errorf("there is no mutation %q", name)
	}
}
