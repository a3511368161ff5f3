package deploy

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"dsvmpools/cmd/dsvm/cli"
)

// modelParameters are what ends up in the model of the scale sets: another value gives every
// pool new nodes.
var modelParameters = []string{
	paramAgent, paramImage, paramKey, "securityType", "zones", "proximityGroupId", "nodePublicIp", "subnetId", "shareName", "shareAuth",
	"existingShareAccountId", "existingVaultId",
}

// plan is what an upgrade will do; it is what `dsvm upgrade --check -o json` prints.
type plan struct {
	Name         string       `json:"name"`
	Handler      versions     `json:"handler"`
	Agent        versions     `json:"agent"`
	Parameters   []difference `json:"parameters"`
	ReplaceNodes bool         `json:"replaceNodes"` // the model of the pools' nodes changes
	Pools        []rolling    `json:"pools"`
}

type versions struct {
	Now  string `json:"now"`
	Then string `json:"then"`
}

type difference struct {
	Name string `json:"name"`
	Now  string `json:"now"`
	Then string `json:"then"`
}

// rolling is a scale set of a pool with the nodes that it has.
type rolling struct {
	Pool  string `json:"pool"`
	Set   string `json:"set"`
	Nodes int    `json:"nodes"`
}

// upgrade says what will happen, and does it.
func (r *run) upgrade(ctx context.Context, args []string) error {
	end, err := r.prepare(ctx, args)
	defer end()
	if err != nil {
		return err
	}
	if r.last == nil {
		return cli.WrongUse("nothing is deployed under the name %q in the subscription %s; `dsvm deploy %s` does that",
			r.name(), r.account.Name, r.name())
	}
	plan, err := r.plan(ctx)
	if err != nil {
		return err
	}
	if r.checkOnly {
		return r.Answer(plan, plan.lines()...)
	}
	for _, line := range plan.lines() {
		r.Say("%s", line)
	}
	return r.apply(ctx)
}

// plan compares what is deployed with what will be.
func (r *run) plan(ctx context.Context) (plan, error) {
	p := plan{Name: r.name(), Parameters: []difference{}, Pools: []rolling{}}
	g, err := get[group](ctx, r.az, "group", "show", "--name", r.name())
	if err != nil && !isMissing(err) {
		return p, err
	}
	p.Handler = versions{cmp.Or(g.Tags[versionTag], "unknown"), r.packed.App.Version}
	p.Agent = versions{cmp.Or(g.Tags[agentVersionTag], "unknown"), r.packed.Agent.Version}
	for _, name := range slices.Sorted(maps.Keys(r.parameters.values)) {
		if r.parameters.declared[name].isSecret() {
			continue // what it was is not known, and what it will be is not shown
		}
		now, then := r.last.Properties.Parameters[name].Value, r.parameters.values[name]
		if len(now) == 0 {
			now = r.parameters.declared[name].DefaultValue
		}
		if sameJSON(now, then) {
			continue
		}
		p.Parameters = append(p.Parameters, difference{name, shorten(now), shorten(then)})
		p.ReplaceNodes = p.ReplaceNodes || slices.Contains(modelParameters, name)
	}
	sets, err := r.scaleSets(ctx, r.name())
	if err != nil {
		return p, err
	}
	for _, set := range sets {
		p.Pools = append(p.Pools, rolling{cmp.Or(set.Tags[poolTag], set.Name), set.Name, set.SKU.Capacity})
	}
	return p, nil
}

// lines is the plan for a person.
func (p plan) lines() []string {
	lines := []string{
		fmt.Sprintf("handler: %s now, %s then", p.Handler.Now, p.Handler.Then),
		fmt.Sprintf("agent: %s now, %s then", p.Agent.Now, p.Agent.Then),
	}
	for _, d := range p.Parameters {
		lines = append(lines, fmt.Sprintf("parameter %s: %s now, %s then", d.Name, cmp.Or(d.Now, "not set"), d.Then))
	}
	lines = append(lines, "order: the agent's program is uploaded first, where no node uses it yet; then the template; then the handler. "+
		"Handler and agents of neighbouring versions work together meanwhile")
	if !p.ReplaceNodes {
		return append(lines, "nodes: none is replaced")
	}
	lines = append(lines, "nodes: new ones come with the new model; one that is there is replaced when it runs nothing, "+
		"and takes no new job from the time the pool is driven on")
	for _, set := range p.Pools {
		what := "has no node; its next ones are new"
		if set.Nodes > 0 {
			what = fmt.Sprintf("has %d to replace", set.Nodes)
		}
		lines = append(lines, fmt.Sprintf("pool %s: %s %s", set.Pool, set.Set, what))
	}
	return lines
}

// poolTag is the tag of a scale set that names its pool.
const poolTag = "dsvmpools-pool"

// scaleSet is what az says of one.
type scaleSet struct {
	ID, Name string
	Tags     map[string]string
	SKU      struct {
		Name     string
		Capacity int
	}
}

// scaleSets lists those of a deployment; none if the group is not there.
func (r *run) scaleSets(ctx context.Context, name string) ([]scaleSet, error) {
	sets, err := get[[]scaleSet](ctx, r.az, "vmss", "list", "--resource-group", nodesGroup(name))
	if isMissing(err) {
		return nil, nil
	}
	slices.SortFunc(sets, func(a, b scaleSet) int { return strings.Compare(a.Name, b.Name) })
	return sets, err
}
