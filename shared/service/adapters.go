package service

import (
	"context"
	"strings"
	"time"

	"dsvmpools/shared/drive"
	"dsvmpools/shared/fleet"
	"dsvmpools/shared/pool"
)

// driveBus is the bus as the driver uses it.
type driveBus struct{ Bus }

// Wake has the pool driven at a time, through its queue.
func (b driveBus) Wake(ctx context.Context, name, kind string, at time.Time) error {
	return wake(ctx, b.Bus, name, kind, at)
}

// Subscribe asks another pool to notify the pool `by` when jobs have ended.
func (b driveBus) Subscribe(ctx context.Context, name, by string, ids []string) error {
	return sendJobs(ctx, b.Bus, Wake{Pool: name, Kind: drive.WakeSubscribe, By: by}, ids)
}

// Ended notifies a pool that jobs of another one have ended.
func (b driveBus) Ended(ctx context.Context, name string, ids []string) error {
	return sendJobs(ctx, b.Bus, Wake{Pool: name, Kind: drive.WakeEnded}, ids)
}

// NewFleet returns the Fleet over VM scale sets: it knows how a pool's set is named and
// what its model holds. prices say what nodes cost; nil = those that this version has built in.
func NewFleet(client *fleet.Client, nodes NodeModel, prices *Prices) Fleet {
	return scaleSets{client, nodes, prices}
}

// scaleSets is the Fleet over VM scale sets.
type scaleSets struct {
	client *fleet.Client
	nodes  NodeModel
	prices *Prices
}

func (p scaleSets) List(ctx context.Context, name string, spec pool.Spec, set pool.Set) (pool.Listed, error) {
	full := pool.SetName(name, set.Name)
	l, err := p.client.List(ctx, full)
	if err != nil {
		return pool.Listed{}, err
	}
	out := pool.Listed{
		Set:       set.Name,
		Exists:    l.Exists,
		Capacity:  l.Capacity,
		Model:     modelIn(l),
		Instances: make([]pool.Instance, len(l.Instances)),
	}
	if m, err := p.nodes.of(name, spec, set); err == nil { // what is wrong with it, Grow says
		out.Wanted = m.Hash(full)
		out.Tariffs = p.prices.tariffs(ctx, m)
		if m.IsOlderThan(l.Deployed) {
			out.Wanted = out.Model // this program is about to be replaced, and leaves the set as it is
		}
	}
	for i, inst := range l.Instances {
		out.Instances[i] = pool.Instance{VMID: strings.ToLower(inst.VMID), ID: inst.ID, Name: inst.Name,
			Provisioning: inst.Provisioning, Power: inst.Power, Error: inst.Error, Outdated: inst.Outdated}
	}
	return out, nil
}

// modelIn is the model of a set by its tag. A set without the tag, as the first release made
// them, has a model that differs from every one that is wanted.
func modelIn(l fleet.Listing) string {
	if l.Exists && l.Model == "" {
		return "untagged"
	}
	return l.Model
}

func (p scaleSets) Grow(ctx context.Context, name string, spec pool.Spec, set pool.Set, target int) (drive.Operation, error) {
	m, err := p.nodes.of(name, spec, set)
	if err != nil {
		return drive.Operation{}, err
	}
	op, err := p.client.Grow(ctx, pool.SetName(name, set.Name), m, target)
	return drive.Operation{Token: op.Token, After: op.RetryAfter}, err
}

// Check has Azure judge the model of a pool's set by one without instances, and the quota
// by what it says of itself.
func (p scaleSets) Check(ctx context.Context, name string, spec pool.Spec, set pool.Set) error {
	m, err := p.nodes.of(name, spec, set)
	if err != nil {
		return err
	}
	if err := p.client.Check(ctx, m); err != nil {
		return err
	}
	return p.client.Room(ctx, m)
}

// Quotas says how much room the quotas have that count for a pool's set.
func (p scaleSets) Quotas(ctx context.Context, name string, spec pool.Spec, set pool.Set) ([]string, error) {
	m, err := p.nodes.of(name, spec, set)
	if err != nil {
		return nil, err
	}
	return p.client.Quotas(ctx, m)
}

// Console returns the end of a node's serial console.
func (p scaleSets) Console(ctx context.Context, name string, node *pool.Node) ([]byte, error) {
	return p.client.Console(ctx, pool.SetName(name, node.Set), node.InstanceID)
}

func (p scaleSets) UpdateModel(ctx context.Context, name string, spec pool.Spec, set pool.Set) (drive.Operation, error) {
	m, err := p.nodes.of(name, spec, set)
	if err != nil {
		return drive.Operation{}, err
	}
	op, err := p.client.UpdateModel(ctx, pool.SetName(name, set.Name), m)
	return drive.Operation{Token: op.Token, After: op.RetryAfter}, err
}

func (p scaleSets) Shrink(ctx context.Context, name, set string, listed int) (drive.Operation, error) {
	op, err := p.client.Settle(ctx, pool.SetName(name, set), listed)
	return drive.Operation{Token: op.Token, After: op.RetryAfter}, err
}

func (p scaleSets) Remove(ctx context.Context, name, set string, nodes []*pool.Node) error {
	ids := make([]string, len(nodes))
	for i, n := range nodes {
		ids[i] = n.InstanceID
	}
	_, err := p.client.Remove(ctx, pool.SetName(name, set), ids)
	return err
}

func (p scaleSets) Drop(ctx context.Context, name, set string) (drive.Operation, error) {
	op, err := p.client.Drop(ctx, pool.SetName(name, set))
	return drive.Operation{Token: op.Token, After: op.RetryAfter}, err
}

func (p scaleSets) Poll(ctx context.Context, token string) (drive.Operation, error) {
	done, after, err := p.client.Poll(ctx, token)
	if done {
		token = ""
	}
	return drive.Operation{Token: token, After: after}, err
}
