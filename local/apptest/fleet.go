package apptest

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"dsvmpools/shared/drive"
	"dsvmpools/shared/pool"
)

// Fleet is a service.Fleet in memory. Its instances come up at once: a set that grows
// has them running with the next list.
type Fleet struct {
	mu      sync.Mutex
	sets    map[string]*pool.Listed
	made    map[string]int   // instances of a set so far
	refused map[string]error // pools that get no instances
	err     error

	modelOf func(pool.Spec, pool.Set) string // nil = all instances are alike
}

// UseModels gives each set a model, from the spec that it is written with.
func (f *Fleet) UseModels(modelOf func(pool.Spec, pool.Set) string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.modelOf = modelOf
}

// NewFleet returns a fleet without sets.
func NewFleet() *Fleet {
	return &Fleet{sets: map[string]*pool.Listed{}, made: map[string]int{}, refused: map[string]error{}}
}

// clone returns a fleet of its own with the same instances.
func (f *Fleet) clone() *Fleet {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := &Fleet{sets: map[string]*pool.Listed{}, made: maps.Clone(f.made), refused: maps.Clone(f.refused)}
	for name, l := range f.sets {
		own := *l
		own.Instances = slices.Clone(l.Instances)
		c.sets[name] = &own
	}
	return c
}

// Refuse makes every request for instances of a pool fail with an error, until it is nil.
func (f *Fleet) Refuse(name string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refused[name] = err
}

// Fail makes every call fail with an error, until it is nil.
func (f *Fleet) Fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

// List lists the instances of a set.
func (f *Fleet) List(_ context.Context, name string, spec pool.Spec, set pool.Set) (pool.Listed, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return pool.Listed{}, f.err
	}
	l := f.sets[pool.SetName(name, set.Name)]
	if l == nil {
		return pool.Listed{Set: set.Name}, nil
	}
	out := *l
	out.Instances = slices.Clone(l.Instances)
	if f.modelOf != nil {
		out.Wanted = f.modelOf(spec, set)
	}
	return out, nil
}

// Grow makes instances up to the target.
func (f *Fleet) Grow(_ context.Context, name string, spec pool.Spec, set pool.Set, target int) (drive.Operation, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := cmp.Or(f.err, f.refused[name]); err != nil {
		return drive.Operation{}, err
	}
	full := pool.SetName(name, set.Name)
	l := f.sets[full]
	if l == nil {
		l = &pool.Listed{Set: set.Name, Exists: true}
		f.sets[full] = l
	}
	if f.modelOf != nil {
		l.Model = f.modelOf(spec, set)
	}
	for len(l.Instances) < target {
		n := f.made[full]
		f.made[full]++
		l.Instances = append(l.Instances, pool.Instance{
			VMID:         fmt.Sprintf("%s-%d", name, n),
			ID:           fmt.Sprint(n),
			Name:         fmt.Sprintf("%s_%d", full, n),
			Provisioning: "Succeeded",
			Power:        "running",
		})
	}
	l.Capacity = target
	return drive.Operation{}, nil
}

// UpdateModel changes nothing: all instances are alike.
func (f *Fleet) UpdateModel(context.Context, string, pool.Spec, pool.Set) (drive.Operation, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return drive.Operation{}, f.err
}

// Shrink lowers the capacity to what is listed.
func (f *Fleet) Shrink(_ context.Context, name, set string, listed int) (drive.Operation, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if l := f.sets[pool.SetName(name, set)]; l != nil && f.err == nil {
		l.Capacity = listed
	}
	return drive.Operation{}, f.err
}

// Remove deletes instances at once.
func (f *Fleet) Remove(_ context.Context, name, set string, nodes []*pool.Node) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.sets[pool.SetName(name, set)]
	if l == nil || f.err != nil {
		return f.err
	}
	l.Instances = slices.DeleteFunc(l.Instances, func(i pool.Instance) bool {
		return slices.ContainsFunc(nodes, func(n *pool.Node) bool { return n.InstanceID == i.ID })
	})
	l.Capacity = len(l.Instances)
	return nil
}

// Drop deletes a set.
func (f *Fleet) Drop(_ context.Context, name, set string) (drive.Operation, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		delete(f.sets, pool.SetName(name, set))
	}
	return drive.Operation{}, f.err
}

// Poll finds every operation ended.
func (f *Fleet) Poll(context.Context, string) (drive.Operation, error) { return drive.Operation{}, nil }

// Check answers as Grow would.
func (f *Fleet) Check(_ context.Context, name string, _ pool.Spec, _ pool.Set) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return f.err
	}
	return f.refused[name]
}

// Quotas knows one quota.
func (f *Fleet) Quotas(context.Context, string, pool.Spec, pool.Set) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return []string{"Total Regional vCPUs: 0 of 100 cores in use"}, f.err
}

// Console is what a node of that name writes at its start.
func (f *Fleet) Console(_ context.Context, _ string, node *pool.Node) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return []byte("[  OK  ] " + node.Name + " login:\n"), f.err
}
