package service

import (
	"context"
	"strings"
	"time"

	"dsvmpools/shared/drive"
	"dsvmpools/shared/fleet"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/size"
)

// driveBus is the bus as the driver uses it.
type driveBus struct{ Bus }

// Wake has the pool driven at a time, through its queue.
func (b driveBus) Wake(ctx context.Context, name, kind string, at time.Time) error {
	return wake(ctx, b.Bus, name, kind, at)
}

// NewFleet returns the driver's Fleet over VM scale sets: it knows how a pool's set
// is named and what its model holds. The model is what all pools of the deployment
// share.
func NewFleet(client *fleet.Client, model fleet.Model) drive.Fleet { return scaleSets{client, model} }

// scaleSets is the driver's Fleet over VM scale sets.
type scaleSets struct {
	client *fleet.Client
	model  fleet.Model // what all pools of the deployment share
}

func (p scaleSets) List(ctx context.Context, name, set string) (pool.Listed, error) {
	l, err := p.client.List(ctx, pool.SetName(name, set))
	if err != nil {
		return pool.Listed{}, err
	}
	out := pool.Listed{Set: set, Exists: l.Exists, Capacity: l.Capacity, Instances: make([]pool.Instance, len(l.Instances))}
	for i, inst := range l.Instances {
		out.Instances[i] = pool.Instance{VMID: strings.ToLower(inst.VMID), ID: inst.ID, Name: inst.Name,
			Provisioning: inst.Provisioning, Power: inst.Power, Error: inst.Error}
	}
	return out, nil
}

func (p scaleSets) Grow(ctx context.Context, name string, spec pool.Spec, set pool.Set, target int) (drive.Operation, error) {
	m := p.model
	m.Pool, m.Size, m.Spot = name, set.Size, set.Spot
	if known, ok := size.Lookup(set.Size); ok {
		m.CPUs = known.CPUs
	}
	if spec.Region != "" {
		m.Region = spec.Region
	}
	m.Image = fleet.Image{
		Publisher: spec.Image.Publisher,
		Offer:     spec.Image.Offer,
		SKU:       spec.Image.SKU,
		Version:   spec.Image.Version,
		ID:        spec.Image.ID,
	}
	m.Tags = map[string]string{}
	for k, v := range spec.Labels {
		m.Tags[k] = v
	}
	op, err := p.client.Grow(ctx, pool.SetName(name, set.Name), m, target)
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
