package handlers

import (
	"context"
	"strings"

	"dsvmpools/handlers/httpapi"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/wire"
)

// TellNode brings an operator's word to a node.
func (b backend) TellNode(ctx context.Context, in, name string, verb pool.Verb) (wire.Node, error) {
	pools, err := b.Pools(ctx, in)
	if err != nil {
		return wire.Node{}, err
	}
	p, n, err := findNode(pools, name)
	if err != nil {
		return wire.Node{}, err
	}
	of := p.Head.Spec.Name
	if err := b.drive(ctx, of, pool.NodeRequest{VMID: n.VMID, Verb: verb}); err != nil {
		return wire.Node{}, err
	}
	now, err := b.summary(ctx, of)
	if err != nil && fault.CodeOf(err) != fault.NotFound {
		return wire.Node{}, err
	}
	for _, found := range now.Nodes {
		if found.VMID == n.VMID {
			return wire.NewNode(now, found), nil
		}
	}
	n.State, n.Reason = pool.NodeGone, "its pool has forgotten it"
	return wire.NewNode(p, n), nil
}

// findNode finds a node by its name or its id. Of several of one name, those that are
// gone do not count where others are there.
func findNode(pools []httpapi.PoolSummary, name string) (httpapi.PoolSummary, *pool.Node, error) {
	type found struct {
		pool httpapi.PoolSummary
		node *pool.Node
	}
	var here, gone []found
	var known []string
	for _, p := range pools {
		for _, n := range p.Nodes {
			if n.State != pool.NodeGone {
				known = append(known, n.Name)
			}
			switch {
			case n.Name != name && n.VMID != strings.ToLower(name):
			case n.State == pool.NodeGone:
				gone = append(gone, found{p, n})
			default:
				here = append(here, found{p, n})
			}
		}
	}
	if len(here) == 0 {
		here = gone
	}
	switch len(here) {
	case 1:
		return here[0].pool, here[0].node, nil
	case 0:
		return httpapi.PoolSummary{}, nil, pool.NoNode(name, known)
	}
	var ids []string
	for _, f := range here {
		ids = append(ids, f.node.VMID)
	}
	return httpapi.PoolSummary{}, nil, fault.New(fault.Conflict, "node", "%d nodes have the name %q; name one by its id: %s",
		len(here), name, strings.Join(ids, ", "))
}
