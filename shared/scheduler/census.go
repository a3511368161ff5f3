package scheduler

import (
	"dsvmpools/shared/pool"
)

func (s *State) countBusy() int {
	n := 0
	for _, node := range s.Nodes {
		if node.State == pool.NodeBusy {
			n++
		}
	}
	return n
}

// census counts the pool's nodes by what they are good for.
type census struct {
	working int // ready or busy
	coming  int // creating or booting
	leaving int // draining, failed or lost: still there, taking no work
	aside   int // quarantined: kept for a look, beside the pool's nodes
	going   int // deleting
	dying   int // of those that are leaving: their deletion was asked for, so that the capacity may not count them any more
}

func (s *State) census() census { return s.tally(func(*Node) bool { return true }) }

func (s *State) tally(of func(*Node) bool) census {
	var c census
	for _, n := range s.Nodes {
		if !of(n) {
			continue
		}
		switch n.State {
		case pool.NodeReady, pool.NodeBusy:
			c.working++
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

// here is what Azure has, as far as it is not being deleted.
func (c census) here() int { return c.working + c.coming + c.leaving + c.aside }

// counted is what counts towards `nodes.max`.
func (c census) counted() int { return c.working + c.coming + c.leaving }

// stays is what a capacity counts when the deletions that were asked for have begun.
func (c census) stays() int { return c.here() - c.dying }

// censusOf counts the nodes of one set.
func (s *State) censusOf(set *pool.Set) census {
	return s.tally(func(n *Node) bool { return n.Set == set.Name })
}

// pending is the number of instances that were asked of all sets and have not been
// seen yet.
func (s *State) pending() int {
	n := 0
	for i := range s.Head.Sets {
		n += s.Head.Sets[i].Pending()
	}
	return n
}

func (s *State) anyAlive() bool {
	c := s.census()
	return c.here()+c.going > 0
}

// counts says how many jobs wait and how many are on nodes.
func (s *State) counts() (waiting, running int) {
	return len(s.Jobs) - len(s.sweeps) + s.unstarted - s.running, s.running
}
