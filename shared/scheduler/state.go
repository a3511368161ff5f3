package scheduler

import (
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
)

// State is everything that Step decides on: one pool's head, nodes and live
// jobs. It is loaded from the rows of one partition and kept in memory while
// its head is current. Step changes it in place; CatchUp brings it up to date
// when somebody else was first.
type State struct {
	Head  pool.Head
	Nodes map[string]*Node // by VMID
	Jobs  map[string]*Job  // live jobs, by Order

	queue     queue             // live jobs that wait for a place; see queue.go
	running   int               // jobs on nodes
	sweeps    map[string]*sweep // by Order; see sweep.go
	unstarted int               // members of sweeps that have not come into being
	ending    []string          // cancelled sweeps whose members are being cancelled
	teams     map[string]*team  // what each team has running; see share.go
	spaces    spaces            // the nodes that take work, by what is free on them; see place.go
	marking   bool              // waiting jobs are being marked as held, or as queued again
	asked     string            // where the asking for ended jobs goes on
	outcomes  []outcome         // ends that jobs which wait for them have not been told of
}

// Node is a node's row with what follows from the rows of its jobs.
type Node struct {
	*pool.Node

	jobs   map[int64]*Job // its assignments, by N
	used   job.Resources  // by those
	gpus   uint64         // GPUs in use, one bit each
	space  int            // where it is in State.spaces, or none
	spoken time.Time      // when a word was sent to it that asks for nothing; may be lost
	acks   []int64        // finished assignments to acknowledge with the next message; may be lost
}

func newNode(row *pool.Node) *Node {
	return &Node{Node: row, jobs: map[int64]*Job{}, space: nowhere}
}

// JobCount is how many jobs have a place on the node.
func (n *Node) JobCount() int { return len(n.jobs) }

// Job is a live job's row with where it waits and what it takes.
type Job struct {
	*pool.Job

	part   float64  // of its node that it takes
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
