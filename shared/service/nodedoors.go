package service

import (
	"context"
	"slices"

	"dsvmpools/shared/caller"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/sshca"
	"dsvmpools/shared/wire"
)

// Certificate signs a certificate for SSH that lets in to a node as a whole, and has the node open
// its door for some minutes, at the relay whatever ways its pool has. in is the node's pool, or ""
// for any. The caller is an operator of every team and a person, never a program with the key.
func (s *Nodes) Certificate(ctx context.Context, in, name, publicKey string) (wire.SessionCertificate, error) {
	var none wire.SessionCertificate
	c, err := person(ctx)
	if err != nil {
		return none, err
	}
	if err := c.Need(caller.Operator, caller.AllTeams); err != nil {
		return none, err
	}
	if s.doors == nil {
		return none, errNoDoors()
	}
	p, node, err := s.enterable(ctx, in, name)
	if err != nil {
		return none, err
	}
	entry := protocol.EntryOfNode(node.VMID)
	cert, err := s.doors.ca.Sign(ctx, sshca.Login{PublicKey: publicKey, User: c.Name, For: entry, At: s.now()})
	if err != nil {
		return none, err
	}
	if err := driveIfThere(ctx, s.driver, p.Head.Spec.Name, pool.Enter{VMID: node.VMID, For: doorStaysOpen}); err != nil {
		return none, err
	}
	p, node, err = s.enterable(ctx, p.Head.Spec.Name, node.VMID) // it has a place at the relay now
	if err != nil {
		return none, err
	}
	out := entryAnswer(cert, c.Name, node)
	if out.Doors = s.doors.relayWays(&p.Head, node, entry); len(out.Doors) == 0 {
		return none, noPlace("node", node)
	}
	return out, nil
}

// enterable is a node that operators can come to, with its pool.
func (s *Nodes) enterable(ctx context.Context, in, name string) (wire.PoolSummary, *pool.Node, error) {
	pools, err := s.pools.Pools(ctx, in)
	if err != nil {
		return wire.PoolSummary{}, nil, err
	}
	p, n, err := findNode(pools, name)
	switch {
	case err != nil:
		return wire.PoolSummary{}, nil, err
	case !letsIn(n):
		return p, nil, fault.New(fault.Conflict, "node", "node %q is %s, and nobody can come to it; `dsvm node console %s` shows what it wrote",
			n.Name, n.State, n.Name)
	case !slices.Contains(n.Features, protocol.FeatureShell) || len(n.HostKeys) == 0:
		return p, nil, fault.New(fault.Conflict, "node", "the agent of node %q is of an older release, which lets no operator in; "+
			"after `dsvm upgrade`, new nodes can be entered", n.Name)
	}
	return p, n, nil
}
