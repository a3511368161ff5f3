package service

import (
	"context"
	"strings"
	"time"

	"dsvmpools/shared/drive"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/wire"
)

// Nodes takes what agents report of their nodes, and what operators command them.
type Nodes struct {
	driver *drive.Driver
	pools  *Pools
	fleet  Fleet
	files  *jobFiles
	doors  *Doors // nil = nobody comes in
	now    func() time.Time
}

// Report is a report of an agent. At is when its message was enqueued.
type Report struct {
	protocol.Report
	At time.Time
}

// Report brings the reports of a pool's agents to the pool. A report that says what
// a job file holds starts the jobs of that file first.
func (s *Nodes) Report(ctx context.Context, name string, reports []Report) error {
	events := make([]pool.Event, len(reports))
	for i, r := range reports {
		if err := s.files.start(ctx, &r.Report); err != nil {
			return err
		}
		events[i] = pool.Reported{Report: r.Report, At: r.At}
	}
	return driveIfThere(ctx, s.driver, name, events...)
}

// CommandNode brings an operator's command to a node, and returns the node as it is
// then. in is the node's pool, or "" for any.
func (s *Nodes) CommandNode(ctx context.Context, in, name string, verb pool.Verb) (wire.Node, error) {
	pools, err := s.pools.Pools(ctx, in)
	if err != nil {
		return wire.Node{}, err
	}
	p, n, err := findNode(pools, name)
	if err != nil {
		return wire.Node{}, err
	}
	of := p.Head.Spec.Name
	if err := driveIfThere(ctx, s.driver, of, pool.NodeRequest{VMID: n.VMID, Verb: verb}); err != nil {
		return wire.Node{}, err
	}
	now, err := s.pools.summary(ctx, of)
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

// Console returns the end of a node's serial console, as Azure has it: what a node wrote
// that never reported. in is the node's pool, or "" for any.
func (s *Nodes) Console(ctx context.Context, in, name string) ([]byte, error) {
	pools, err := s.pools.Pools(ctx, in)
	if err != nil {
		return nil, err
	}
	p, n, err := findNode(pools, name)
	if err != nil {
		return nil, err
	}
	if n.State == pool.NodeGone || n.InstanceID == "" {
		return nil, fault.New(fault.Gone, "node", "node %q is gone, and Azure keeps the console of no machine that it has deleted", n.Name)
	}
	log, err := s.fleet.Console(ctx, p.Head.Spec.Name, n)
	if fault.CodeOf(err) == fault.NotFound {
		return nil, fault.New(fault.NotFound, "node",
			"node %q has no serial console yet; it comes a minute after the machine has started", n.Name)
	}
	return log, err
}

// findNode finds a node by its name or its id. Of several of one name, those that are
// gone do not count where others are there.
func findNode(pools []wire.PoolSummary, name string) (wire.PoolSummary, *pool.Node, error) {
	type found struct {
		pool wire.PoolSummary
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
		return wire.PoolSummary{}, nil, pool.NoNode(name, known)
	}
	var ids []string
	for _, f := range here {
		ids = append(ids, f.node.VMID)
	}
	return wire.PoolSummary{}, nil, fault.New(fault.Conflict, "node", "%d nodes have the name %q; name one by its id: %s",
		len(here), name, strings.Join(ids, ", "))
}
