package scheduler

import (
	"sort"
	"strings"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
)

// newNodeResources is what a node that is added to a set will have, as far as that is
// known.
func (s *State) newNodeResources(set *pool.Set) job.Resources {
	of := set.Resources()
	if of.CPUs == 0 {
		for _, n := range s.Nodes {
			if n.Set == set.Name {
				of.CPUs = max(of.CPUs, n.CPUs)
			}
		}
	}
	return of
}

// set finds one of the pool's sets by name; nil: there is none.
func (s *State) set(name string) *pool.Set {
	for i := range s.Head.Sets {
		if s.Head.Sets[i].Name == name {
			return &s.Head.Sets[i]
		}
	}
	return nil
}

// rungOf is the place of a set in the ladder, best first; -1: the spec does not have it
// any more.
func (s *State) rungOf(name string) int {
	n := len(s.Head.Spec.Sizes)
	if s.Head.Spec.HasSpot() && s.Head.Spec.HasRegular() {
		n *= 2
	}
	for i := range min(n, len(s.Head.Sets)) {
		if s.Head.Sets[i].Name == name {
			return i
		}
	}
	return -1
}

// guessSet guesses the set of a node that is not listed yet from the name of its
// instance, which is the name of the set and a number. It falls back to the first set.
func (s *State) guessSet(name string) *pool.Set {
	if at := strings.LastIndexByte(name, '_'); at > 0 {
		if set, ok := strings.CutPrefix(name[:at], pool.SetName(s.Head.Spec.Name, "")); ok {
			if found := s.set(set); found != nil {
				return found
			}
		}
	}
	return &s.Head.Sets[0]
}

// setOrFirst finds a set by name; "" is the first set.
func (s *State) setOrFirst(name string) *pool.Set {
	if name == "" && len(s.Head.Sets) > 0 {
		return &s.Head.Sets[0]
	}
	return s.set(name)
}

// sortedNodes lists the nodes by VMID, so that every process decides the same.
func (s *State) sortedNodes() []*Node {
	list := make([]*Node, 0, len(s.Nodes))
	for _, n := range s.Nodes {
		list = append(list, n)
	}
	sort.Slice(list, func(i, j int) bool { return list[i].VMID < list[j].VMID })
	return list
}

// liveJobs lists the live jobs in their order.
func (s *State) liveJobs() []*Job {
	list := make([]*Job, 0, len(s.Jobs))
	for _, j := range s.Jobs {
		list = append(list, j)
	}
	sort.Slice(list, func(i, k int) bool { return list[i].Order < list[k].Order })
	return list
}

// State is everything that Step decides on: the head, nodes and live jobs of one pool.
// It is loaded from the rows of one partition and stays in memory while its head is
// current. Step changes it in place; CatchUp brings it up to date after another process
// has changed the rows.
type State struct {
	Head  pool.Head
	Nodes map[string]*Node // by VMID
	Jobs  map[string]*Job  // live jobs, by Order

	ids        map[string]*Job   // live jobs, by ID
	line       line              // live jobs that wait for a place; see line.go
	running    int               // jobs on nodes
	sweeps     map[string]*sweep // by Order; see sweep.go
	unstarted  int               // members of sweeps that are still to start
	ending     []string          // cancelled sweeps whose members are being cancelled
	teams      map[string]*team  // what each team has running; see share.go
	index      freeIndex         // the nodes that take work, by their free cpus; see index.go
	marking    bool              // waiting jobs are being marked as held, or as queued again
	lookUpFrom string            // id from which the next lookUpEnds asks on
	outcomes   []outcome         // ends of jobs; the jobs that wait for them are still to be moved on
}

// Node is a node's row, and what is derived from the rows of its jobs.
type Node struct {
	*pool.Node

	jobs         map[int64]*Job // its assignments, by N
	used         job.Resources  // by those
	gpus         uint64         // GPUs in use, one bit each
	freeSlot     int            // its place in State.index, or notIndexed
	signOfLifeAt time.Time      // when it was last sent a sign of life; this process only
	acks         []int64        // finished assignments to acknowledge with the next message; this process only
}

func newNode(row *pool.Node) *Node {
	return &Node{Node: row, jobs: map[int64]*Job{}, freeSlot: notIndexed}
}

// JobCount is how many jobs have a place on the node.
func (n *Node) JobCount() int { return len(n.jobs) }

// Job is a live job's row, where it waits, and what it takes of a node.
type Job struct {
	*pool.Job

	part   float64  // what it takes, in whole nodes; see Spec.PartOfNode
	awaits bool     // it waits for other jobs
	weight int32    // how many jobs it stands for in line
	heap   *jobHeap // where it waits, or nil
	index  int      // its place there
}

// Assigned is the row of the live job that a node has under an assignment's number,
// or nil.
func (s *State) Assigned(vmid string, number int64) *pool.Job {
	if n := s.Nodes[vmid]; n != nil && n.jobs[number] != nil {
		return n.jobs[number].Job
	}
	return nil
}

// NewState makes the state of a pool from its rows.
func NewState(head pool.Head, nodes []*pool.Node, jobs []*pool.Job, now time.Time) *State {
	s := &State{
		Head:   head,
		Nodes:  map[string]*Node{},
		Jobs:   map[string]*Job{},
		ids:    map[string]*Job{},
		line:   newLine(),
		teams:  map[string]*team{},
		sweeps: map[string]*sweep{},
	}
	for _, n := range nodes {
		s.Nodes[n.VMID] = newNode(n)
	}
	s.takeIn(wrapJobs(jobs), now)
	for _, n := range s.Nodes {
		s.indexNode(n)
	}
	return s
}

// addJob adds a live job.
func (s *State) addJob(j *Job) { s.Jobs[j.Order], s.ids[j.ID] = j, j }

// removeJob removes a job that is live no longer.
func (s *State) removeJob(j *Job) {
	delete(s.Jobs, j.Order)
	if s.ids[j.ID] == j {
		delete(s.ids, j.ID)
	}
}
