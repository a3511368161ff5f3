package scheduler

import (
	"maps"
	"slices"
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

// sortedNodes lists the nodes by VMID, so that every process decides the same. The list is
// not to be changed; it stays as it is when nodes come and go.
func (s *State) sortedNodes() []*Node { return s.byVMID }

// addNode adds a node that is new.
func (s *State) addNode(n *Node) {
	s.Nodes[n.VMID] = n
	i, _ := s.placeOf(n.VMID)
	s.byVMID = slices.Concat(s.byVMID[:i], []*Node{n}, s.byVMID[i:])
}

// dropNode forgets a node.
func (s *State) dropNode(vmid string) {
	delete(s.backlogs, s.Nodes[vmid])
	delete(s.Nodes, vmid)
	if i, found := s.placeOf(vmid); found {
		s.byVMID = slices.Concat(s.byVMID[:i], s.byVMID[i+1:])
	}
}

// placeOf is where a node is in the sorted list, or belongs.
func (s *State) placeOf(vmid string) (int, bool) {
	return slices.BinarySearchFunc(s.byVMID, vmid, func(n *Node, vmid string) int { return strings.Compare(n.VMID, vmid) })
}

// liveJobs lists the live jobs in their order.
func (s *State) liveJobs() []*Job {
	list := make([]*Job, 0, s.Jobs.Len())
	for j := range s.Jobs.All() {
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
	Jobs  Jobs             // live jobs

	line       line               // live jobs that wait for a place; see line.go
	packer     packer             // see packed.go
	running    int                // jobs on nodes
	sweeps     map[string]*sweep  // by Order; see sweep.go
	unstarted  int                // members of sweeps that are still to start
	ending     []string           // cancelled sweeps whose members are being cancelled
	teams      map[string]*team   // what each team has running; see share.go
	byVMID     []*Node            // Nodes, sorted; a change makes another list
	index      freeIndex          // the nodes that take work, by their free cpus; see index.go
	marking    bool               // waiting jobs are being marked as held, or as queued again
	lookUpFrom string             // id from which the next lookUpEnds asks on
	outcomes   []outcome          // ends of jobs; the jobs that wait for them are still to be moved on
	runTimes   runTimes           // of kinds of jobs; this process only, see runtimes.go
	backlogs   map[*Node]struct{} // nodes that hold more than they run at once; see ahead.go
	sessions   map[string]*Job    // live sessions, by their owners
	tickAt     time.Time          // enqueued time of the last tick; this process only
	recalls    []*Job             // that a step has recalled which is not known to be committed; see recall.go
}

// Node is a node's row, and what is derived from the rows of its jobs.
type Node struct {
	*pool.Node

	jobs         map[int64]*Job // its assignments, by N
	used         job.Resources  // by those
	gpus         uint64         // GPUs in use, one bit each
	freeSlot     int            // its place in State.index, or notIndexed
	load         load           // what those are expected to take; see ahead.go
	signOfLifeAt time.Time      // when it was last sent a sign of life; this process only
	acks         []int64        // finished assignments to acknowledge with the next message; this process only
}

func newNode(row *pool.Node) *Node {
	return &Node{Node: row, jobs: map[int64]*Job{}, freeSlot: notIndexed}
}

// JobCount is how many jobs have a place on the node.
func (n *Node) JobCount() int { return len(n.jobs) }

// hasSession reports whether a person works on the node: it is not asked to leave then.
func (n *Node) hasSession() bool {
	for _, j := range n.jobs {
		if j.Session != nil {
			return true
		}
	}
	return false
}

// Job is a live job's row, where it waits, and what it takes of a node. There are many of
// them: TestMemoryOfALine bounds what one takes.
type Job struct {
	*pool.Job        // its row; of a packed job, what it has in common with others; see packed.go
	Order     string // of the row
	ID        string // of the row
	alone     string // of a packed job, what it has alone; "" = it is not packed

	*onNode          // nil before its first attempt; see State.occupyNodes
	heap    *jobHeap // where it waits, or nil; see Job.awaits
	index   int32    // its place there
	weight  int32    // how many jobs it stands for in line
}

// onNode is what a job on a node has besides.
type onNode struct {
	part       float64       // what it takes, in whole nodes; see Spec.PartOfNode
	expect     time.Duration // how long it was expected to run; 0 = long, or not known
	isRich     bool          // it takes more memory for each cpu than the node has
	toldAt     time.Time     // of a session: when its node was last told its warning; this process only
	recalledAt time.Time     // when its node was asked for it back; this process only
}

func newJob(row *pool.Job) *Job { return &Job{Job: row, Order: row.Order, ID: row.ID} }

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
	var rows Rows
	rows.Put(jobs...)
	return NewStateOf(head, nodes, &rows, now)
}

// NewStateOf is NewState with jobs that were read page by page, which it takes over.
func NewStateOf(head pool.Head, nodes []*pool.Node, jobs *Rows, now time.Time) *State {
	s := &State{
		Head:   head,
		Nodes:  map[string]*Node{},
		line:   newLine(),
		packer: jobs.packer,
		teams:  map[string]*team{},
		sweeps: map[string]*sweep{},

		sessions: map[string]*Job{},
		backlogs: map[*Node]struct{}{},
	}
	for _, n := range nodes {
		s.Nodes[n.VMID] = newNode(n)
	}
	s.byVMID = slices.SortedFunc(maps.Values(s.Nodes), func(a, b *Node) int { return strings.Compare(a.VMID, b.VMID) })
	s.line.budgets = s.budgetRules(now)
	s.takeIn(jobs.take(), now)
	for _, n := range s.Nodes {
		s.indexNode(n)
	}
	s.pack()
	return s
}

// LiveJob is the row of a live job, or nil. That of a job which the last step has not changed
// may be a copy.
func (s *State) LiveJob(order string) *pool.Job {
	if j := s.Jobs.Get(order); j != nil {
		return j.row()
	}
	return nil
}

// addJob adds a live job.
func (s *State) addJob(j *Job) {
	s.Jobs.put(j)
	if j.Session != nil {
		s.sessions[j.Session.Owner] = j
	}
}

// removeJob removes a job that is live no longer.
func (s *State) removeJob(j *Job) {
	s.Jobs.Remove(j.Order)
	if j.Session != nil && s.sessions[j.Session.Owner] == j {
		delete(s.sessions, j.Session.Owner)
	}
}
