package drive

import (
	"context"
	"maps"
	"slices"

	"dsvmpools/shared/pool"
	"dsvmpools/shared/scheduler"
)

// Tally is a pool at one version, in numbers. It is shared between callers, who must not change
// it.
type Tally struct {
	Version pool.Version
	Head    pool.Head
	Nodes   []*pool.Node
	Jobs    map[scheduler.Owner]scheduler.JobCounts
}

// Tally counts a pool. It goes through the jobs once for each version of the pool.
// fault.NotFound: there is no such pool.
func (d *Driver) Tally(ctx context.Context, name string) (t *Tally, err error) {
	a := d.actor(name)
	err = d.withState(ctx, name, func(s *scheduler.State) {
		if a.tally == nil || !a.tally.Version.Same(a.version) {
			a.tally = &Tally{Version: a.version, Head: s.Head, Jobs: s.CountByOwner()}
			a.tally.Head.Sets = slices.Clone(s.Head.Sets)
			for _, vmid := range slices.Sorted(maps.Keys(s.Nodes)) {
				row := *s.Nodes[vmid].Node
				a.tally.Nodes = append(a.tally.Nodes, &row)
			}
		}
		t = a.tally
	})
	return t, err
}
