package scheduler

import (
	"cmp"
	"maps"
	"slices"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
)

// bin is a node that is coming or may be added, and what jobs would take of it.
type bin struct {
	set  *pool.Set
	has  job.Resources // zero cpus: not known
	used job.Resources
}

// plan computes how many nodes the pool wants in all, and how many more each set should
// give. It packs the waiting jobs onto nodes, the largest shapes first, each on the first
// node with room, and each rank of a gang on a node of its own: first onto the nodes that
// are coming, then onto new ones of the best rung that can give any. Jobs that wait for a
// limit of their team count for nothing.
func (sz *sizing) plan() (wanted int, more map[string]int) {
	if sz.Head.Deleting || sz.Head.Down {
		return 0, nil
	}
	c := sz.census()
	bounds := pool.Range{Min: sz.minNodes(), Max: sz.Head.Spec.Nodes.Max}
	p := planning{sizing: sz, free: sz.room(), more: map[string]int{}}
	for i := range sz.Head.Sets {
		set := &sz.Head.Sets[i]
		if !set.Used {
			continue
		}
		sc := sz.censusOf(set)
		for range sc.coming + set.Pending() {
			p.bins = append(p.bins, bin{set: set, has: sz.newNodeResources(set)})
		}
	}
	coming := len(p.bins)
	demand := sz.demand()
	if d, ok := sz.spareDemand(); ok {
		demand = append(demand, d)
	}
	slices.SortFunc(demand, func(a, b demandOf) int {
		pa, pb := sz.Head.Spec.PartOfNode(a.Resources), sz.Head.Spec.PartOfNode(b.Resources)
		return cmp.Or(cmp.Compare(pb, pa), cmp.Compare(b.CPUs, a.CPUs), cmp.Compare(b.GPUs, a.GPUs), cmp.Compare(b.Memory, a.Memory),
			cmp.Compare(b.nodes, a.nodes), cmp.Compare(btoi(b.regular), btoi(a.regular)),
			cmp.Compare(a.avoid, b.avoid), cmp.Compare(a.needs, b.needs))
	})
	for _, d := range demand {
		if d.nodes == 1 {
			p.fill(d, d.jobs, d.jobs)
			continue
		}
		// The first gang already has the nodes with room for it.
		here := min(sz.placement.countNodesWithRoom(d.shape()), d.nodes)
		for range min(d.jobs, bounds.Max) {
			p.fill(d, d.nodes-here, 1)
			here = 0
		}
	}
	used := 0
	for i := range p.bins {
		if i >= coming || p.bins[i].used.CPUs > 0 {
			used++
		}
	}
	// A node that is outdated is kept until another has come up that takes its place in
	// `nodes.min`, as long as the pool may have one more.
	for len(p.bins)-coming < bounds.Min-(c.working-c.outdated)-c.leaving-coming && p.open(demandOf{}) {
		used++
	}
	return min(max(c.working+c.leaving+used+p.missing, bounds.Min), bounds.Max), p.more
}

// planning packs waiting jobs onto nodes that are not there yet.
type planning struct {
	*sizing
	bins    []bin
	free    int // how many more the pool may have
	more    map[string]int
	missing int // nodes that no rung can give now
}

// fill puts n jobs or ranks of a demand onto nodes, at most each of them on one node.
func (p *planning) fill(d demandOf, n, each int) {
	for i := 0; n > 0; i++ {
		if i == len(p.bins) && !p.open(d) {
			if p.missing < p.free && !p.noSetHas(d.shape()) {
				p.missing++
			}
			return
		}
		b := &p.bins[i]
		if d.regular && b.set.Spot && p.Head.Spec.HasRegular() || p.lacks(b.set, d.needs) {
			continue
		}
		var fit int
		switch {
		case b.has.CPUs == 0 || !p.Head.Spec.Pack:
			if b.used.CPUs == 0 && (b.has.CPUs == 0 || times(b.has, b.used, d.Resources) > 0) {
				fit = 1
			}
		default:
			fit = min(n, each, max(times(b.has, b.used, d.Resources), 0))
		}
		n -= fit
		b.used.CPUs += fit * d.CPUs
		b.used.GPUs += fit * d.GPUs
		b.used.Memory += job.Bytes(fit) * d.Memory
	}
}

// open adds a node of the best rung that can give one with room for a demand.
func (p *planning) open(d demandOf) bool {
	if p.free <= 0 {
		return false
	}
	for i := range p.Head.Sets {
		set := &p.Head.Sets[i]
		has := p.newNodeResources(set)
		switch {
		case p.rungOf(set.Name) < 0 || p.now.Before(set.Blocked.Until) || set.Op.Kind == pool.OpDrop || set.Model.Fixed:
		case p.capacity.mayBuy(set, p.more[set.Name]+1) <= p.more[set.Name]: // its breaker is open
		case d.regular && set.Spot && p.Head.Spec.HasRegular():
		case p.lacks(set, d.needs):
		case has.CPUs > 0 && d.CPUs > 0 && times(has, job.Resources{}, d.Resources) < 1:
		case p.free < p.brings(set)+p.unseenBeside(set): // a list is to show first what other rungs have made
		case set.QuotaLimit > 0 && p.more[set.Name] >= set.QuotaLimit: // the next rung gives the rest
		default:
			n := p.brings(set)
			for range n {
				p.bins = append(p.bins, bin{set: set, has: has})
			}
			p.more[set.Name] += n
			p.free -= n
			return true
		}
	}
	return false
}

// brings is how many nodes come with the next one that a set is asked for: those that an
// earlier call has failed to bring come too.
func (p *planning) brings(set *pool.Set) int { return max(p.unbackedBeyond(set)-p.more[set.Name], 1) }

// unseenBeside is how many instances the other sets may have that the pool has not seen, and
// that are not in the plan for them.
func (p *planning) unseenBeside(set *pool.Set) int {
	n := 0
	for i := range p.Head.Sets {
		if other := &p.Head.Sets[i]; other.Name != set.Name {
			n += max(p.unseen(other)-p.more[other.Name], 0)
		}
	}
	return n
}

// times is how many jobs of a demand fit on a node with so much in use.
func times(of, used, d job.Resources) int {
	n := (of.CPUs - used.CPUs) / d.CPUs
	if d.GPUs > 0 {
		n = min(n, (of.GPUs-used.GPUs)/d.GPUs)
	}
	if d.Memory > 0 && of.Memory > 0 {
		n = min(n, int((of.Memory-used.Memory)/d.Memory))
	}
	return n
}

// demandOf is a number of waiting jobs that need the same resources of a node.
type demandOf struct {
	job.Resources // of each of its nodes
	nodes         int
	regular       bool
	avoid, needs  string // as in shape
	jobs          int
}

// shape is that of each of the jobs.
func (d demandOf) shape() shape {
	return shape{nodes: d.nodes, cpus: d.CPUs, gpus: d.GPUs, memory: d.Memory, regular: d.regular, avoid: d.avoid, needs: d.needs}
}

// demand sums up the jobs in line, without those that the limits of their teams keep
// from running.
func (sz *sizing) demand() []demandOf {
	type kind struct {
		job.Resources
		nodes   int
		regular bool
		avoid   string
		needs   string
	}
	sums := map[kind]int{}
	planned := map[string]*team{}
	for _, class := range sz.line.classes[:spared] {
		for name, l := range class {
			limit := sz.Head.Spec.LimitOf(name)
			t := planned[name]
			if t == nil {
				t = &team{}
				if now := sz.teams[name]; now != nil {
					*t = *now
				}
				planned[name] = t
			}
			heaps := slices.Collect(maps.Values(l.shapes))
			slices.SortFunc(heaps, func(a, b *jobHeap) int { return byAge(a.jobs[0], b.jobs[0]) })
			for _, h := range heaps { // the oldest first, up to the limit
				of := h.of
				r := job.Resources{CPUs: of.nodes * of.cpus, GPUs: of.nodes * of.gpus}
				n := roomUnder(limit, t, r, h.n)
				t.jobs, t.cpus, t.gpus = t.jobs+n, t.cpus+n*r.CPUs, t.gpus+n*r.GPUs
				if n > 0 {
					sums[kind{of.resources(), of.nodes, of.regular, of.avoid, of.needs}] += n
				}
			}
		}
	}
	list := make([]demandOf, 0, len(sums))
	for k, n := range sums {
		list = append(list, demandOf{k.Resources, k.nodes, k.regular, k.avoid, k.needs, n})
	}
	return list
}

// roomUnder is how many of n jobs a limit lets a team run beside its other jobs.
func roomUnder(l pool.Limit, t *team, r job.Resources, n int) int {
	for _, b := range []struct {
		most       *int
		have, each int
	}{{l.Jobs, t.jobs, 1}, {l.CPUs, t.cpus, r.CPUs}, {l.GPUs, t.gpus, r.GPUs}} {
		if b.most != nil && b.each > 0 {
			n = min(n, max(*b.most-b.have, 0)/b.each)
		}
	}
	return n
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
