package scheduler

import (
	"sort"
	"time"

	"dsvmpools/shared/job"
)

// reservation holds the nodes that are reserved for the first job that finds no place.
// Other jobs may use these nodes as long as they do not delay that job: if they end before
// it can begin, or fit beside it.
type reservation struct {
	job   *Job
	spare map[*Node]job.Resources // what is left on each of its nodes beside the job, when it begins
	at    time.Time               // when all of them have room, at the latest; zero = not known
}

// rankOf orders nodes by how soon they have room: first by the number of jobs without a
// known end, then by time.
func rankOf(unknown int, at, now time.Time) uint64 {
	return uint64(unknown)<<48 | uint64(max(at.Sub(now), 0)/time.Millisecond)&(1<<48-1)
}

// findRoom finds out when the node has room for want: how many jobs without a known end
// have to end first, when the last of the other jobs that have to end does, and what is
// left beside want then.
func (n *Node) findRoom(want job.Resources, now time.Time, pack bool) (unknown int, at time.Time, spare job.Resources) {
	running := make([]*Job, 0, len(n.jobs))
	for _, j := range n.jobs {
		running = append(running, j)
	}
	sort.Slice(running, func(i, k int) bool {
		a, b := running[i].endsBy(now), running[k].endsBy(now)
		if a.Equal(b) {
			return running[i].N < running[k].N
		}
		return !a.IsZero() && (b.IsZero() || a.Before(b))
	})
	used, at := n.used, now
	for i := 0; i < len(running) && (!fits(n.total(), used, want) || !pack); i++ {
		j := running[i]
		used.CPUs -= j.Spec.Resources.CPUs
		used.GPUs -= j.Spec.Resources.GPUs
		used.Memory -= j.Spec.Resources.Memory
		if end := j.endsBy(now); end.IsZero() {
			unknown++
		} else {
			at = end
		}
	}
	if pack {
		spare = job.Resources{
			CPUs:   n.CPUs - used.CPUs - want.CPUs,
			GPUs:   n.GPUs - used.GPUs - want.GPUs,
			Memory: n.Memory - used.Memory - want.Memory,
		}
	}
	return unknown, at, spare
}

// endsBy is when a job's attempt ends at the latest, and not before now; zero: not known.
func (j *Job) endsBy(now time.Time) time.Time {
	a := j.Current()
	if j.Spec.Timeout == 0 {
		return time.Time{}
	}
	return later(later(a.AssignedAt, a.StartedAt).Add(time.Duration(j.Spec.Timeout)), now)
}

// allows reports whether a job of a shape may use a node in spite of the
// reservation.
func (r *reservation) allows(of shape, n *Node, now time.Time) bool {
	if r == nil {
		return true
	}
	spare, isReserved := r.spare[n]
	if !isReserved || of.within > 0 && !r.at.IsZero() && !now.Add(of.within).After(r.at) {
		return true
	}
	return of.cpus <= spare.CPUs && of.gpus <= spare.GPUs && (n.Memory == 0 || of.memory <= spare.Memory)
}

// recordUse notes that another job is placed on reserved nodes. It takes what is left on
// them, unless it ends before the reservation begins.
func (r *reservation) recordUse(j *Job, on []*Node) {
	if r == nil {
		return
	}
	if end := j.endsBy(j.Current().AssignedAt); !end.IsZero() && !r.at.IsZero() && !end.After(r.at) {
		return
	}
	for _, n := range on {
		if spare, isReserved := r.spare[n]; isReserved {
			spare.CPUs -= j.Spec.Resources.CPUs
			spare.GPUs -= j.Spec.Resources.GPUs
			spare.Memory -= j.Spec.Resources.Memory
			r.spare[n] = spare
		}
	}
}
