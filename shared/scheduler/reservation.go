package scheduler

import (
	"sort"
	"time"

	"dsvmpools/shared/job"
)

// reservation keeps nodes for the job that waits longest: one, or those of a gang.
// The others may use them as long as the job does not wait any longer for it: when
// they end before it can begin, or fit beside it.
type reservation struct {
	job   *Job
	spare map[*Node]job.Resources // what is left on each of its nodes beside the job, when it begins
	at    time.Time               // when all of them have room, at the latest; zero = nobody knows
}

func rankOf(unknown int, at, now time.Time) uint64 {
	return uint64(unknown)<<48 | uint64(max(at.Sub(now), 0)/time.Millisecond)&(1<<48-1)
}

// findRoom finds out when the node has room for what is wanted: how many jobs without a
// known end have to end first, when the last of the others does, and what is
// left beside it then.
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

// endsBy is when a job's attempt is over at the latest; zero when nobody knows.
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
	spare, kept := r.spare[n]
	if !kept || of.within > 0 && !r.at.IsZero() && !now.Add(of.within).After(r.at) {
		return true
	}
	return of.cpus <= spare.CPUs && of.gpus <= spare.GPUs && (n.Memory == 0 || of.memory <= spare.Memory)
}

// recordUse notes that a job was let past onto a reserved node.
func (r *reservation) recordUse(j *Job, on []*Node) {
	if r == nil {
		return
	}
	if end := j.endsBy(j.Current().AssignedAt); !end.IsZero() && !r.at.IsZero() && !end.After(r.at) {
		return
	}
	for _, n := range on {
		if spare, kept := r.spare[n]; kept {
			spare.CPUs -= j.Spec.Resources.CPUs
			spare.GPUs -= j.Spec.Resources.GPUs
			spare.Memory -= j.Spec.Resources.Memory
			r.spare[n] = spare
		}
	}
}
