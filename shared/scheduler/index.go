package scheduler

import (
	"math/bits"
	"sort"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
)

// freeIndex holds the nodes that take work by the number of cpus free on them, so
// that the one with the least room that is enough is found at once.
type freeIndex [][]*Node

const (
	notIndexed = -1
	manyCPUs   = 1024 // free on an empty node whose number of cpus is not known
	neverEnds  = 1 << 62
)

// indexNode puts a node where it belongs among the spaces.
func (s *State) indexNode(n *Node) {
	space := notIndexed
	if n.State == pool.NodeReady || n.State == pool.NodeBusy {
		switch {
		case len(n.jobs) == 0 && n.CPUs == 0:
			space = manyCPUs
		case len(n.jobs) == 0 || s.Head.Spec.Pack:
			space = max(n.CPUs-n.used.CPUs, 0)
		}
	}
	if space == n.freeSlot {
		return
	}
	if n.freeSlot != notIndexed {
		at := s.index[n.freeSlot]
		i := sort.Search(len(at), func(i int) bool { return at[i].VMID >= n.VMID })
		s.index[n.freeSlot] = append(at[:i], at[i+1:]...)
	}
	if n.freeSlot = space; space == notIndexed {
		return
	}
	for len(s.index) <= space {
		s.index = append(s.index, nil)
	}
	at := s.index[space]
	i := sort.Search(len(at), func(i int) bool { return at[i].VMID >= n.VMID })
	at = append(at, nil)
	copy(at[i+1:], at[i:])
	at[i] = n
	s.index[space] = at
}

// occupyNodes gives nodes what the job's current attempt takes of them, and counts it
// for its team.
func (s *State) occupyNodes(j *Job) {
	for _, p := range j.Assignments() {
		if n := s.Nodes[p.VMID]; n != nil {
			s.occupyNode(j, n, p.N, p.GPUs)
		}
	}
	j.part = s.Head.Spec.PartOfNode(j.Spec.Resources) * float64(max(j.Spec.Nodes, 1))
	s.team(j.Spec.Team).count(j, 1)
	s.countRunning(j, 1)
}

// clearPlace says that the attempt has no part on any node any more.
func (s *State) clearPlace(j *Job) {
	s.team(j.Spec.Team).count(j, -1)
	j.N, j.VMID = 0, ""
	s.countRunning(j, -1)
}

// occupyNode gives a node what a job takes of it.
func (s *State) occupyNode(j *Job, n *Node, number int64, gpus []int) {
	r := j.Spec.Resources
	n.jobs[number] = j
	n.used = job.Resources{CPUs: n.used.CPUs + r.CPUs, GPUs: n.used.GPUs + r.GPUs, Memory: n.used.Memory + r.Memory}
	for _, i := range gpus {
		n.gpus |= 1 << i
	}
	s.indexNode(n)
}

// freeNode takes it away again.
func (s *State) freeNode(j *Job, n *Node, number int64, gpus []int) {
	r := j.Spec.Resources
	delete(n.jobs, number)
	n.used = job.Resources{CPUs: n.used.CPUs - r.CPUs, GPUs: n.used.GPUs - r.GPUs, Memory: n.used.Memory - r.Memory}
	for _, i := range gpus {
		n.gpus &^= 1 << i
	}
	s.indexNode(n)
}

// countRunning counts a job that runs, or does not any more.
func (s *State) countRunning(j *Job, sign int) {
	s.running += sign
	if w := s.sweepOf(j); w != nil {
		w.job.Progress.Running += sign
		s.syncSweep(w)
	}
}

// total is what a node has.
func (n *Node) total() job.Resources {
	return job.Resources{CPUs: n.CPUs, GPUs: n.GPUs, Memory: n.Memory}
}

// fits reports whether a node with this much in use has room for more. A node
// whose size is not known takes one job at a time.
func fits(total, used, want job.Resources) bool {
	if total.CPUs == 0 {
		return used.CPUs == 0
	}
	return used.CPUs+want.CPUs <= total.CPUs && used.GPUs+want.GPUs <= total.GPUs &&
		(total.Memory == 0 || used.Memory+want.Memory <= total.Memory)
}

// indexes picks GPUs of a node that nobody uses, the lowest first.
func (n *Node) indexes(want int) []int {
	var picked []int
	for used := n.gpus; len(picked) < want; used |= 1 << picked[len(picked)-1] {
		picked = append(picked, bits.TrailingZeros64(^used))
	}
	return picked
}

// hasNoRoom reports whether no node takes any work, without looking at the line.
func (s *State) hasNoRoom() bool {
	for free := len(s.index) - 1; free > 0; free-- {
		if len(s.index[free]) > 0 {
			return false
		}
	}
	return true
}

func (s *State) kindSuits(of shape, n *Node) bool {
	return !of.regular || !n.Spot || !s.Head.Spec.HasRegular()
}
