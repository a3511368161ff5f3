package pool

import (
	"reflect"
	"slices"
	"sort"
	"strings"
	"time"

	"dsvmpools/shared/job"
)

// Several processes may drive one pool. Who loses a race learns from the ring of
// edits which rows the others changed, reads those, and goes on from there: the
// line of a hundred thousand jobs stays where it is.

// Touched lists the keys of the live rows that a transaction changes, for the
// ring of edits. A job that came and ended within it is among them, so that who
// reads on learns of its end.
func Touched(changes []Change) []string {
	var keys []string
	for _, c := range changes {
		switch {
		case strings.HasPrefix(c.Key, jobPrefix), strings.HasPrefix(c.Key, nodePrefix):
			keys = append(keys, c.Key)
		case strings.HasPrefix(c.Key, donePrefix):
			if j, ok := c.Value.(*Job); ok {
				keys = append(keys, JobKey(j.Order))
			}
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// CatchUp brings a state that is behind, or that a step has changed which was not
// committed, to the version of head. nodes, jobs and gone are the rows that have
// changed since, and those the step would have written, as they are now; it takes
// them over. It returns the ids of jobs that have ended or may have, and that
// others wait for: what became of them is to be asked for.
func (s *State) CatchUp(head Head, nodes []*Node, jobs []*Job, gone []string, now time.Time) (ask []string) {
	out, ask := s.concerned(jobs, gone)
	kept := s.takeOut(out)
	respec := !reflect.DeepEqual(s.Head.Spec, head.Spec)
	s.Head = head
	for _, n := range nodes {
		s.replace(n)
	}
	for _, key := range gone {
		if vmid, ok := strings.CutPrefix(key, nodePrefix); ok && s.Nodes[vmid] != nil {
			s.Nodes[vmid].State = NodeGone // takes no work
			s.offer(s.Nodes[vmid])
			delete(s.Nodes, vmid)
		}
	}
	isNew := map[string]bool{}
	for _, j := range jobs {
		isNew[j.Order] = true
	}
	for _, key := range gone {
		isNew[strings.TrimPrefix(key, jobPrefix)] = true
	}
	for _, j := range kept {
		if !isNew[j.Order] {
			jobs = append(jobs, j)
		}
	}
	s.takeIn(jobs, now)
	if respec {
		s.respecced()
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
	ask = slices.DeleteFunc(ask, func(id string) bool { return len(s.queue.after[id]) == 0 })
	slices.Sort(ask)
	return slices.Compact(ask)
}

// concerned lists the orders of the live jobs that are to be looked at anew:
// those whose rows have changed, and of a sweep always all of it, since what it
// may run depends on all of its members. ask is the ids of those that are gone.
func (s *State) concerned(jobs []*Job, gone []string) (out map[string]bool, ask []string) {
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
		order, isJob := strings.CutPrefix(key, jobPrefix)
		if !isJob {
			continue
		}
		concern(order)
		if j := s.Jobs[order]; j != nil {
			ask = append(ask, j.ID)
		}
	}
	return out, ask
}

// takeOut takes live jobs out of all that is derived from them, and returns them.
func (s *State) takeOut(orders map[string]bool) []*Job {
	var jobs []*Job
	for order := range orders {
		if j := s.Jobs[order]; j != nil {
			jobs = append(jobs, j)
		}
		// Sweeps first, so that nothing is counted for them on the way.
		if w := s.sweeps[order]; w != nil {
			s.unstarted -= w.job.unstarted()
			delete(s.sweeps, order)
		}
	}
	slices.SortFunc(jobs, byOrder)
	for _, j := range jobs {
		delete(s.Jobs, j.Order)
		if j.VMID == "" {
			s.queue.remove(j)
			continue
		}
		for _, p := range j.places() {
			if n := s.Nodes[p.vmid]; n != nil {
				s.free(j, n, p.n, p.gpus)
			}
		}
		s.team(j.Spec.Team).count(j, -1)
		s.onNodes(j, -1)
	}
	s.ending = slices.DeleteFunc(s.ending, func(order string) bool { return orders[order] })
	return jobs
}

// replace takes a node's row over, with what runs on it.
func (s *State) replace(n *Node) {
	old := s.Nodes[n.VMID]
	if old == nil {
		n.jobs, n.space = map[int64]*Job{}, nowhere
		s.Nodes[n.VMID] = n
		s.offer(n)
		return
	}
	n.jobs, n.used, n.gpus, n.space, n.acks, n.spoken = old.jobs, old.used, old.gpus, old.space, old.acks, old.spoken
	*old = *n // the spaces hold it where it is
	s.offer(old)
}

// takeIn adds jobs to the state as their rows say.
func (s *State) takeIn(jobs []*Job, now time.Time) {
	for _, j := range jobs {
		s.Jobs[j.Order] = j
		if j.Spec.Sweep != nil { // first, so that their members find them
			s.know(j)
			if j.Cancel != "" {
				s.ending = append(s.ending, j.Order)
			}
		}
	}
	sort.Strings(s.ending)
	for _, j := range jobs {
		if j.Spec.Sweep == nil {
			s.know(j)
		}
		if j.VMID != "" {
			s.occupy(j)
			continue
		}
		s.wait(j, now)
		// A job that was to be marked as held, or as queued again, may not be.
		s.marking = s.marking || j.inLine() != nil && (j.State == job.Held) != s.Head.Down
	}
}

// respecced follows a change of the spec: what jobs take of a node, and where
// there is room, depends on it.
func (s *State) respecced() {
	for _, j := range s.Jobs {
		if j.VMID != "" {
			s.team(j.Spec.Team).count(j, -1)
			j.part = s.Head.Spec.part(j.Spec.Resources) * float64(max(j.Spec.Nodes, 1))
			s.team(j.Spec.Team).count(j, 1)
		}
	}
	for _, n := range s.Nodes {
		s.offer(n)
	}
}
