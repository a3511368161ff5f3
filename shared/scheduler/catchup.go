package scheduler

import (
	"reflect"
	"slices"
	"sort"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
)

// CatchUp brings a state that is behind, or that a step has changed which was not
// committed, to the version of head. nodes, jobs and gone are the rows that have
// changed since, and those the step would have written, as they are now; it takes
// them over. It returns the ids of jobs that have ended or may have, and that
// others wait for: what became of them is to be asked for.
func (s *State) CatchUp(head pool.Head, nodes []*pool.Node, jobs []*pool.Job, gone []string, now time.Time) (ask []string) {
	s.forgetRecalls()
	out, ask := s.concernedJobs(jobs, gone)
	kept := s.takeOut(out)
	respec := !reflect.DeepEqual(s.Head.Spec, head.Spec)
	// Who took the pool down, or up, may not have marked all waiting jobs yet.
	s.marking = s.marking || s.Head.Down != head.Down
	s.Head = head
	for _, n := range nodes {
		s.replaceNode(n)
	}
	for _, key := range gone {
		if vmid, ok := pool.VMIDOf(key); ok && s.Nodes[vmid] != nil {
			s.Nodes[vmid].State = pool.NodeGone // takes no work
			s.indexNode(s.Nodes[vmid])
			s.dropNode(vmid)
		}
	}
	isNew := map[string]bool{}
	for _, j := range jobs {
		isNew[j.Order] = true
	}
	for _, key := range gone {
		if order, ok := pool.OrderOf(key); ok {
			isNew[order] = true
		}
	}
	back := wrapJobs(jobs)
	for _, j := range kept {
		if !isNew[j.Order] {
			back = append(back, j)
		}
	}
	s.takeIn(back, now)
	s.reline(now)
	s.pack()
	if respec {
		s.applySpecChange()
	}
	// A result is acknowledged when the pool has it for good, and not because a
	// step had taken it in that was not committed.
	for _, n := range s.Nodes {
		n.acks = slices.DeleteFunc(n.acks, func(number int64) bool { return n.jobs[number] != nil })
	}
	for _, o := range s.outcomes {
		ask = append(ask, o.id)
	}
	s.outcomes = nil
	ask = slices.DeleteFunc(ask, func(id string) bool { return len(s.line.after[id]) == 0 || s.Jobs.WithID(id) != nil })
	slices.Sort(ask)
	return slices.Compact(ask)
}

// concernedJobs lists the orders of the live jobs that are to be looked at again:
// those whose rows have changed, and of a sweep always all of it, since what it
// may run depends on all of its members. ask is the ids of those that are gone.
func (s *State) concernedJobs(jobs []*pool.Job, gone []string) (out map[string]bool, ask []string) {
	out = map[string]bool{}
	concern := func(order string) {
		of, _, isMember := job.SweepOrder(order)
		if !isMember {
			of = order
		}
		out[order] = true
		if w := s.sweeps[of]; w != nil && !out[of+"."] {
			out[of], out[of+"."] = true, true
			for m := range w.live {
				out[m.Order] = true
			}
		}
	}
	for _, j := range jobs {
		concern(j.Order)
	}
	for _, key := range gone {
		order, isJob := pool.OrderOf(key)
		if !isJob {
			continue
		}
		concern(order)
		if j := s.Jobs.Get(order); j != nil {
			ask = append(ask, j.ID)
		}
	}
	return out, ask
}

// takeOut takes live jobs out of all that is derived from them, and returns them.
func (s *State) takeOut(orders map[string]bool) []*Job {
	var jobs []*Job
	for order := range orders {
		if j := s.Jobs.Get(order); j != nil {
			jobs = append(jobs, j)
		}
		// Sweeps first, so that nothing is counted for them on the way.
		if w := s.sweeps[order]; w != nil {
			s.unstarted -= w.job.Unstarted()
			delete(s.sweeps, order)
		}
	}
	slices.SortFunc(jobs, byOrder)
	for _, j := range jobs {
		s.removeJob(j)
		if j.VMID == "" {
			s.line.remove(j)
			continue
		}
		for _, p := range j.Assignments() {
			if n := s.Nodes[p.VMID]; n != nil {
				s.freeNode(j, n, p.N, p.GPUs)
			}
		}
		s.team(j.Spec.Team).count(j, -1)
		s.countRunning(j, -1)
	}
	s.ending = slices.DeleteFunc(s.ending, func(order string) bool { return orders[order] })
	return jobs
}

// replaceNode takes a node's row over, with what runs on it.
func (s *State) replaceNode(row *pool.Node) {
	n := s.Nodes[row.VMID]
	if n == nil {
		n = newNode(row)
		s.addNode(n)
	} else {
		*n.Node = *row // effects that are still to be performed hold the row
	}
	s.indexNode(n)
}

func wrapJobs(rows []*pool.Job) []*Job {
	jobs := make([]*Job, len(rows))
	for i, row := range rows {
		jobs[i] = newJob(row)
	}
	return jobs
}

// takeIn adds jobs to the state as their rows say.
func (s *State) takeIn(jobs []*Job, now time.Time) {
	for _, j := range jobs {
		s.addJob(j)
		if j.Spec.Sweep != nil { // first, so that their members find them
			s.addToSweep(j)
			if j.Cancel != "" {
				s.ending = append(s.ending, j.Order)
			}
		}
	}
	sort.Strings(s.ending)
	for _, j := range jobs {
		if j.alone != "" { // packed while it was read: what follows looks at all of it
			j.unpack()
		}
		if len(s.line.entered) >= packAtOnce {
			s.pack()
		}
		if j.Spec.Sweep == nil {
			s.addToSweep(j)
		}
		if j.VMID != "" {
			s.occupyNodes(j)
			continue
		}
		s.startWaiting(j, now)
	}
}

// applySpecChange follows a change of the spec: what jobs take of a node, and where
// there is room, depends on it.
func (s *State) applySpecChange() {
	for j := range s.Jobs.All() {
		if j.VMID != "" {
			s.team(j.Spec.Team).count(j, -1)
			j.part = s.Head.Spec.PartOfNode(j.Spec.Resources) * float64(max(j.Spec.Nodes, 1))
			s.team(j.Spec.Team).count(j, 1)
		}
	}
	for _, n := range s.Nodes {
		s.indexNode(n)
	}
}
