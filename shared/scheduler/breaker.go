package scheduler

import (
	"fmt"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
)

// The circuit breaker. A machine that boots and never reports costs money for as
// long as it is waited for, and what is wrong with it (image, setup, network,
// rights) is wrong with the next one too. After some in a row no more are bought,
// but for one now and then, to see whether it has been mended.
//
// Each rung has a breaker of its own: a driver that lacks for one size, or a rung
// that Azure never makes, says nothing about the others. What is wrong with all of
// them shows soon enough: while one is open and no node of the pool works, the next
// rung's first failure opens its own.

const (
	// badBoots is how many nodes of a rung in a row may not come up before no more
	// are bought.
	badBoots = 3
	// restAfterBadBoots is the pause before one node is bought to see whether the
	// next comes up; it doubles with each that does not, up to longestRest.
	restAfterBadBoots = 30 * time.Minute
	longestRest       = 8 * time.Hour
)

// Where to look, by how far a node has got.
const (
	lookAtNode = "look at whether nodes reach Service Bus and the share (network, rights), at the pool's image and setup, " +
		"and at a node's boot log"
	lookAtAzure = "look at the scale set's activity log and at the state of Azure in the region"
)

// recordNodeUp closes the breaker of a node's rung: its agent has spoken.
func (cp *capacity) recordNodeUp(n *Node) {
	if set := cp.set(n.Set); set != nil {
		set.Breaker = pool.Breaker{}
	}
}

// recordNodeFailure counts a node that did not come up.
func (cp *capacity) recordNodeFailure(n *Node, why string) {
	set := cp.set(n.Set)
	if set == nil {
		return
	}
	b := &set.Breaker
	b.Bad++
	b.Why = why
	switch {
	case b.Open() && !n.askedAt().After(b.OpenedAt):
		return // it was on its way already, and says nothing new
	case b.Open():
		b.Probes++
	case b.Bad < cp.badBootsAllowed(set):
		return
	default:
		b.OpenedAt = cp.now
	}
	b.ProbeAt = cp.now.Add(min(restAfterBadBoots<<min(b.Probes, 10), longestRest))
}

// badBootsAllowed is how many failures open the breaker of a set: one, where nothing in
// the pool works and another of its rungs has failed before.
func (cp *capacity) badBootsAllowed(set *pool.Set) int {
	if cp.census().working > 0 {
		return badBoots
	}
	for i := range cp.Head.Sets {
		if other := &cp.Head.Sets[i]; other.Name != set.Name && other.Breaker.Open() {
			return 1
		}
	}
	return badBoots
}

// askedAt is when a node's time to come up began.
func (n *Node) askedAt() time.Time {
	if n.AskedAt.IsZero() {
		return n.CreatedAt
	}
	return n.AskedAt
}

// blockNeverMade keeps a set from being asked for what it has accepted and not made.
func (cp *capacity) blockNeverMade(n int) pool.Block {
	return pool.Block{Code: string(fault.NoCapacity), Until: cp.now.Add(blockNoCapacity),
		Message: fmt.Sprintf("Azure accepted a request for nodes, and %s not come within %s; %s",
			countNodes(n, "has", "have"), job.Duration(cp.timing.BootDeadline), lookAtAzure)}
}

// mayBuy is how many of n more nodes the breaker of a set lets it be asked for.
func (cp *capacity) mayBuy(set *pool.Set, n int) int {
	switch b := &set.Breaker; {
	case !b.Open():
		return n
	case cp.now.Before(b.ProbeAt) || cp.censusOf(set).coming+set.Pending() > 0:
		return 0
	}
	return min(n, 1)
}

// haltReason says why a set whose breaker is open is asked for nothing now, and until
// when; "" when it may be.
func (cp *capacity) haltReason(set *pool.Set) (message string, until time.Time) {
	if !set.Breaker.Open() || cp.mayBuy(set, 1) > 0 {
		return "", time.Time{}
	}
	message, until = set.Breaker.Message(cp.Head.Spec.Name), set.Breaker.ProbeAt
	if asked := cp.oldestComing(set); !asked.IsZero() {
		message += "; one was asked for at " + stamp(asked) + ", to see whether the next comes up"
		until = later(until, asked.Add(cp.timing.BootDeadline))
	}
	return message, later(until, cp.now.Add(cp.timing.PollEvery)) // past its time, it is given up with the next look
}

func (cp *capacity) isHalted(set *pool.Set) bool {
	message, _ := cp.haltReason(set)
	return message != ""
}

// isProbing reports whether all nodes that are on their way are such as are bought to
// see whether they come up.
func (cp *capacity) isProbing() bool {
	found := false
	for i := range cp.Head.Sets {
		set := &cp.Head.Sets[i]
		if cp.oldestComing(set).IsZero() {
			continue
		}
		if found = set.Breaker.Open(); !found {
			return false
		}
	}
	return found
}

// oldestComing is when the oldest of the nodes was asked for that are on their way
// in a set; zero when none is.
func (s *State) oldestComing(set *pool.Set) time.Time {
	var oldest time.Time
	take := func(t time.Time) {
		if oldest.IsZero() || t.Before(oldest) {
			oldest = t
		}
	}
	for _, n := range s.Nodes {
		if n.Set == set.Name && (n.State == pool.NodeCreating || n.State == pool.NodeBooting) {
			take(n.askedAt())
		}
	}
	for _, a := range set.Requests {
		take(a.At)
	}
	return oldest
}

// closeBreakers closes every breaker, and has the rungs asked again that were left alone
// for a refusal. A service that is throttling is left alone all the same.
func (cp *capacity) closeBreakers() {
	for i := range cp.Head.Sets {
		set := &cp.Head.Sets[i]
		set.Breaker = pool.Breaker{}
		if set.Blocked.Code != string(fault.Throttled) {
			set.Blocked, set.QuotaLimit = pool.Block{}, 0
		}
	}
}

// probeNow has the rungs whose breaker is open try one node now: the pool was changed.
func (cp *capacity) probeNow() {
	for i := range cp.Head.Sets {
		if b := &cp.Head.Sets[i].Breaker; b.Open() {
			b.ProbeAt = cp.now
		}
	}
}
