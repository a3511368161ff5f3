package scheduler

import (
	"dsvmpools/shared/pool"
)

// countBusy counts the nodes that run jobs and take work.
func (s *State) countBusy() int {
	n := 0
	for _, node := range s.Nodes {
		if node.State == pool.NodeBusy {
			n++
		}
	}
	return n
}

// census counts the pool's nodes by their use.
type census struct {
	working  int // ready or busy
	coming   int // creating or booting
	leaving  int // draining, failed or lost: still there, but they take no work
	aside    int // quarantined: they do not count towards `nodes.max`
	going    int // deleting
	outdated int // those of working that are made from an earlier model
	dying    int // those of leaving whose deletion was asked for: the capacity may not count them any more
}

func (s *State) census() census { return s.tally(func(*Node) bool { return true }) }

// tally counts the nodes for which of returns true.
func (s *State) tally(of func(*Node) bool) census {
	var c census
	for _, n := range s.Nodes {
		if !of(n) {
			continue
		}
		switch n.State {
		case pool.NodeReady, pool.NodeBusy:
			c.working++
			if n.Outdated {
				c.outdated++
			}
		case pool.NodeCreating, pool.NodeBooting:
			c.coming++
		case pool.NodeDraining, pool.NodeFailed, pool.NodeLost:
			c.leaving++
			if !n.DeleteAt.IsZero() {
				c.dying++
			}
		case pool.NodeQuarantined:
			c.aside++
		case pool.NodeDeleting:
			c.going++
		case pool.NodeGone:
		}
	}
	return c
}

// here is the number of nodes that exist and are not being deleted.
func (c census) here() int { return c.working + c.coming + c.leaving + c.aside }

// counted is the number of nodes that count towards `nodes.max`.
func (c census) counted() int { return c.working + c.coming + c.leaving }

// stays is what a capacity counts after the deletions that were asked for have begun.
func (c census) stays() int { return c.here() - c.dying }

// censusOf counts the nodes of one set.
func (s *State) censusOf(set *pool.Set) census {
	return s.tally(func(n *Node) bool { return n.Set == set.Name })
}

// pending is the number of instances that all sets were asked for and that are not listed
// yet.
func (s *State) pending() int {
	n := 0
	for i := range s.Head.Sets {
		n += s.Head.Sets[i].Pending()
	}
	return n
}

// anyAlive reports whether the pool has any node that is not gone.
func (s *State) anyAlive() bool {
	c := s.census()
	return c.here()+c.going > 0
}

// counts is how many jobs wait, also the held ones, and how many are on nodes.
func (s *State) counts() (waiting, running int) {
	return s.Jobs.Len() - len(s.sweeps) + s.unstarted - s.running, s.running
}
