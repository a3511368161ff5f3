package scheduler_test

import (
	"context"
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
)

// The network in the simulation: what the calls of processes have made of it. A call that was
// decided earlier may come later than others, and undo what they have done.

// leftOpenFor is how long the door of a node may be open without a session: until a look after
// which no earlier call can come, with services that are away and ticks that are lost.
const leftOpenFor = 8 * time.Minute

// wayIn is how long a session may be ready without that people can come in beside the relay.
const wayIn = 8 * time.Minute

// networkSeen is the network of a world, and since when it is otherwise than the rows say.
type networkSeen struct {
	isUsed   bool // the pool has other ways than the relay
	is       pool.Network
	openTo   map[string]time.Time // addresses that are open and have no session: since when
	closedTo map[string]time.Time // addresses that have a ready session and are not open
	idle     time.Time            // since when a balancer is there and no VM
}

// address is where the door of a VM listens.
func (v *vm) address() string {
	h := fnv.New32a()
	h.Write([]byte(v.vmid))
	n := h.Sum32()
	return fmt.Sprintf("10.%d.%d.%d:443", n>>16&255, n>>8&255, 1+n&127)
}

// listens is what an agent tells of its door.
func (v *vm) listens() *protocol.Listens {
	if !slices.Contains(v.features(), protocol.FeatureWays) {
		return nil
	}
	return &protocol.Listens{Inside: v.address()}
}

// accessOf are the ways of a pool in the simulation.
func accessOf(s *pool.Spec, seed int64) {
	switch seed % 4 {
	case 1:
		s.Access = []string{pool.AccessRelay, pool.AccessDirect}
	case 2:
		s.Access, s.Balancer.Keep = []string{pool.AccessBalancer}, seed%8 == 2
	}
}

// Open changes the network as a call of it does: perhaps not all at once.
func (p *ports) Open(ctx context.Context, _ string, want pool.Network) (address string, after time.Duration, err error) {
	w := p.w
	p.owed.done("network", want.Key())
	err = p.call(ctx, "network open", "", func(*call) error {
		switch is := &w.network.is; {
		case w.chance(30):
			is.Open = want.Open // the other half fails
			return unknown()
		case w.rng.Intn(2) == 0 && (is.Balancer != want.Balancer || is.Address != want.Address):
			is.Open, after = want.Open, 3*time.Second // Azure works on the balancer
			is.Balancer, is.Address = want.Balancer, is.Address || want.Address
		default:
			*is = want
		}
		if w.network.is.Address {
			address = "lab.example.com:22"
		}
		return nil
	})
	if err != nil {
		return "", 0, err
	}
	return address, after, nil
}

// ways checks each second that what is open follows from the sessions.
func (c *checker) ways() {
	if !c.w.network.isUsed || c.w.now.Second()%3 != 0 { // each look reads all rows
		return
	}
	s, seen, now := c.w.load(), &c.w.network, c.w.now
	lives, ready := map[string]bool{}, map[string]bool{}
	for _, j := range s.Sessions() {
		if n := s.Nodes[j.VMID]; n != nil && n.Listens.Inside != "" {
			lives[n.Listens.Inside] = true
			ready[n.Listens.Inside] = ready[n.Listens.Inside] || j.State == job.Running && j.Cancel == ""
		}
	}
	isOpen := map[string]bool{}
	for _, at := range seen.is.Open {
		if isOpen[at] = true; !lives[at] {
			c.seen["open without a session"]++
		} else {
			c.seen["open"]++
		}
	}
	c.watch(&seen.openTo, isOpen, lives, leftOpenFor, "is open, and has no session")
	c.watch(&seen.closedTo, ready, isOpen, wayIn, "has a session, and is not open")
	if !seen.is.Balancer || len(c.w.instances) > 0 || seen.idle.IsZero() {
		seen.idle = now
	} else if now.Sub(seen.idle) > leftOpenFor {
		c.fail("way", "a balancer is there, and no VM for %s", now.Sub(seen.idle))
	}
	if seen.is.Balancer {
		c.seen["balancer"]++
	}
}

// watch notes since when addresses are among these and not among those, and fails after a while.
func (c *checker) watch(since *map[string]time.Time, these, those map[string]bool, within time.Duration, what string) {
	left := map[string]time.Time{}
	for at, is := range these {
		if !is || those[at] {
			continue
		}
		if left[at] = (*since)[at]; left[at].IsZero() {
			left[at] = c.w.now
		}
		if long := c.w.now.Sub(left[at]); long > within {
			c.fail("way", "for %s, %s %s", long, at, what)
		}
	}
	*since = left
}

// waysAtRest checks that nothing is left in the network of a pool without nodes.
func (c *checker) waysAtRest() {
	s, is := c.w.load(), c.w.network.is
	if len(c.w.instances) > 0 {
		return
	}
	if len(is.Open) > 0 || is.Balancer || is.Address && !s.Head.Spec.Balancer.Keep {
		c.fail("way", "the pool is at rest, and left in the network is %+v; its head says %+v", is, s.Head.Opening)
	}
	if !is.Address && s.Head.Opening != (pool.Opening{}) {
		c.fail("way", "the pool is at rest, and still looks at the network: %+v", s.Head.Opening)
	}
}
