package scheduler

import (
	"math/bits"
	"sort"

	"dsvmpools/shared/job"
)

// freeIndex holds the nodes that take work by the number of their free cpus, so that the
// node with the least room that is enough is found at once.
type freeIndex [][]*Node

const (
	notIndexed = -1
	manyCPUs   = 1024 // taken as free on an empty node whose number of cpus is not known
)

// indexNode puts a node where it belongs in the index, or takes it out if it takes no
// work.
func (s *State) indexNode(n *Node) {
	s.noteBacklog(n)
	free := notIndexed
	if n.takesWork() {
		switch {
		case len(n.jobs) == 0 && n.CPUs == 0:
			free = manyCPUs
		case len(n.jobs) == 0 || s.Head.Spec.Pack:
			free = max(n.CPUs-n.used.CPUs, 0)
		}
	}
	if free == n.freeSlot {
		return
	}
	if n.freeSlot != notIndexed {
		at := s.index[n.freeSlot]
		i := sort.Search(len(at), func(i int) bool { return at[i].VMID >= n.VMID })
		s.index[n.freeSlot] = append(at[:i], at[i+1:]...)
	}
	if n.freeSlot = free; free == notIndexed {
		return
	}
	for len(s.index) <= free {
		s.index = append(s.index, nil)
	}
	at := s.index[free]
	i := sort.Search(len(at), func(i int) bool { return at[i].VMID >= n.VMID })
	at = append(at, nil)
	copy(at[i+1:], at[i:])
	at[i] = n
	s.index[free] = at
}

// occupyNodes reserves on its nodes what the job's current attempt takes of them, and
// counts the job for its team.
func (s *State) occupyNodes(j *Job) {
	if j.onNode == nil {
		j.onNode = &onNode{}
	}
	for _, p := range j.Assignments() {
		if n := s.Nodes[p.VMID]; n != nil {
			s.occupyNode(j, n, p.N, p.GPUs)
		}
	}
	j.part = s.Head.Spec.PartOfNode(j.Spec.Resources) * float64(max(j.Spec.Nodes, 1))
	s.team(j.Spec.Team).count(j, 1)
	s.countRunning(j, 1)
}

// clearPlace takes the job's ended attempt out of the counts: it is on no node any more.
func (s *State) clearPlace(j *Job) {
	s.team(j.Spec.Team).count(j, -1)
	j.N, j.VMID = 0, ""
	s.countRunning(j, -1)
}

// occupyNode reserves on a node what a job takes of it.
func (s *State) occupyNode(j *Job, n *Node, number int64, gpus []int) {
	r := j.Spec.Resources
	n.jobs[number] = j
	n.used = job.Resources{CPUs: n.used.CPUs + r.CPUs, GPUs: n.used.GPUs + r.GPUs, Memory: n.used.Memory + r.Memory}
	for _, i := range gpus {
		n.gpus |= 1 << i
	}
	s.countLoad(j, n)
	s.indexNode(n)
}

// freeNode frees on a node what a job has taken of it.
func (s *State) freeNode(j *Job, n *Node, number int64, gpus []int) {
	r := j.Spec.Resources
	delete(n.jobs, number)
	n.used = job.Resources{CPUs: n.used.CPUs - r.CPUs, GPUs: n.used.GPUs - r.GPUs, Memory: n.used.Memory - r.Memory}
	for _, i := range gpus {
		n.gpus &^= 1 << i
	}
	n.load.add(j, -1)
	if j.HasBegun(number) {
		n.load.forgetSince() // what came before it may still wait, as far as the pool knows then
	}
	s.indexNode(n)
}

// countRunning adds sign to the number of running jobs, also of the job's sweep.
func (s *State) countRunning(j *Job, sign int) {
	s.running += sign
	if w := s.sweepOf(j); w != nil {
		w.job.Progress.Running += sign
		s.syncSweep(w)
	}
}

// total is what a node has in all.
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

// indexes picks so many GPUs of a node that no job uses, the lowest first.
func (n *Node) indexes(want int) []int {
	var picked []int
	for used := n.gpus; len(picked) < want; used |= 1 << picked[len(picked)-1] {
		picked = append(picked, bits.TrailingZeros64(^used))
	}
	return picked
}

// hasNoRoom reports whether no node has a free cpu.
func (s *State) hasNoRoom() bool {
	for free := len(s.index) - 1; free > 0; free-- {
		if len(s.index[free]) > 0 {
			return false
		}
	}
	return true
}

// kindSuits reports whether a shape may go on nodes of this kind, Spot or regular, with an
// agent that knows what it needs.
func (s *State) kindSuits(of shape, n *Node) bool {
	return n.hasFeatures(of.needs) && s.prioritySuits(of, n)
}

// prioritySuits reports whether a shape may go on nodes that are Spot, or regular, as this
// one.
func (s *State) prioritySuits(of shape, n *Node) bool {
	return !of.regular || !n.Spot || !s.Head.Spec.HasRegular()
}
