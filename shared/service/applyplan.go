package service

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/scheduler"
	"dsvmpools/shared/wire"
)

// maxPlanNames is how many names an effect has.
const maxPlanNames = 20

// PlanApply says what Apply would change and end. It writes nothing, and asks Azure only
// for what the pool's nodes are made of.
func (p *Pools) PlanApply(ctx context.Context, spec pool.Spec) (wire.PoolPlan, error) {
	if err := p.checkDocument(ctx, spec); err != nil {
		return wire.PoolPlan{}, err
	}
	warnings, err := p.checkSizes(ctx, spec)
	if err != nil {
		return wire.PoolPlan{}, err
	}
	out := wire.PoolPlan{Name: spec.Name, Action: wire.PlanCreate, Effects: []wire.PlanEffect{}, Warnings: warnings}
	plan, err := p.driver.PlanApply(ctx, spec.Name, spec)
	switch {
	case fault.CodeOf(err) == fault.NotFound:
		out.Changes = wire.ChangesOf(nil, &spec)
		if n := spec.Nodes.Min; n > 0 {
			out.Effects = append(out.Effects, newNodesAdded(n))
		}
		return out, nil
	case err != nil:
		return wire.PoolPlan{}, err
	case plan.Head.Deleting:
		return wire.PoolPlan{}, beingDeleted(spec.Name)
	}
	out.Action, out.Changes = wire.PlanChange, wire.ChangesOf(&plan.Head.Spec, &spec)
	if len(out.Changes) == 0 {
		out.Action = wire.PlanNothing
		return out, nil
	}
	out.Effects = append(out.Effects, planNodes(plan, spec)...)
	replaced, unknown := p.replacedNodes(ctx, plan, spec)
	if n := len(replaced); n > 0 {
		out.Effects = append(out.Effects, newEffect(wire.NodesReplaced, nodeNames(replaced), fmt.Sprintf(
			"%s replaced, a part at a time, since they are made of something else then; the jobs on them end by themselves first",
			countAre(n, "node"))))
	}
	if unknown != "" {
		out.Warnings = append(out.Warnings, unknown)
	}
	out.Effects = append(out.Effects, planJobs(plan, spec)...)
	if teams := teamsWithLess(&plan.Head.Spec, &spec); len(teams) > 0 {
		out.Effects = append(out.Effects, newEffect(wire.LimitsLowered, teams, "the limits are lower for "+strings.Join(teams, ", ")+
			": jobs that run go on, others wait until their team is below its limit"))
	}
	return out, nil
}

// planNodes is what becomes of nodes by their number and their sizes.
func planNodes(plan scheduler.ApplyPlan, spec pool.Spec) (effects []wire.PlanEffect) {
	if n := len(plan.Leaving); n > 0 {
		text := fmt.Sprintf("%s, since the pool's `sizes` or `capacity` do not have them any more", countLeave(n, "node"))
		switch plan.BusyOnes {
		case 0:
		case n:
			text += "; that is when the jobs there have ended"
		default:
			text += fmt.Sprintf("; %d of them when the jobs there have ended", plan.BusyOnes)
		}
		effects = append(effects, newEffect(wire.NodesLeave, nodeNames(plan.Leaving), text))
	}
	if stay := plan.Counted - len(plan.Leaving); stay > spec.Nodes.Max {
		e := newEffect(wire.NodesOverMax, nil, fmt.Sprintf(
			"the pool has %s, and `nodes.max` is %d: none is ended for that, and it asks for no more before enough have left",
			countOf(stay, "node"), spec.Nodes.Max))
		e.Count = stay - spec.Nodes.Max
		effects = append(effects, e)
	}
	if plan.Wanted > 0 {
		effects = append(effects, newNodesAdded(plan.Wanted))
	}
	return effects
}

func newNodesAdded(n int) wire.PlanEffect {
	e := newEffect(wire.NodesAdded, nil, countOf(n, "node")+" asked for at once, to have `nodes.min`, and paid for until it is lowered")
	e.Count = n
	return e
}

// replacedNodes are the nodes whose scale set would be written with another model, and a
// sentence where Azure cannot be asked.
func (p *Pools) replacedNodes(ctx context.Context, plan scheduler.ApplyPlan, spec pool.Spec) (replaced []*pool.Node, unknown string) {
	for _, set := range plan.Head.Sets {
		var of []*pool.Node
		for _, n := range plan.Staying {
			if n.Set == set.Name {
				of = append(of, n)
			}
		}
		if len(of) == 0 {
			continue
		}
		listed, err := p.fleet.List(ctx, spec.Name, spec, set)
		if err != nil {
			p.log.WarnContext(ctx, "reading model of scale set failed", "pool", spec.Name, "set", set.Name, "error", err)
			unknown = "whether the nodes would be replaced is not known: Azure could not be asked what they are made of"
			continue
		}
		if model := (pool.Model{Has: listed.Model, Wanted: listed.Wanted}); model.IsOutdated() {
			replaced = append(replaced, of...)
		}
	}
	return replaced, unknown
}

// planJobs is what becomes of jobs.
func planJobs(plan scheduler.ApplyPlan, spec pool.Spec) (effects []wire.PlanEffect) {
	if n := len(plan.Stuck); n > 0 {
		var ids []string
		for _, j := range plan.Stuck {
			ids = append(ids, j.ID)
		}
		effects = append(effects, newEffect(wire.JobsNeverRun, ids, fmt.Sprintf(
			"%s could never run then, and would wait until somebody cancels them; of job %q: %s",
			countOf(n, "waiting job"), ids[0], plan.Stuck[0].Why.Message)))
	}
	if !plan.Down {
		return effects
	}
	text := "the pool goes down at once by its schedule"
	if !plan.Until.IsZero() {
		text += " until " + plan.Until.UTC().Format(time.RFC3339)
	}
	effects = append(effects, newEffect(wire.PoolGoesDown, nil, text))
	if len(plan.Hit) == 0 {
		return effects
	}
	var ids []string
	for _, j := range plan.Hit {
		ids = append(ids, j.ID)
	}
	switch spec.Schedule.OnRunning {
	case "kill":
		effects = append(effects, newEffect(wire.JobsEnd, ids,
			countAre(len(ids), "running job")+" cancelled, since `schedule.onRunning` is kill"))
	case "requeue":
		effects = append(effects, newEffect(wire.JobsRequeued, ids,
			countAre(len(ids), "running job")+" put back in line, since `schedule.onRunning` is requeue; they begin again from the start"))
	}
	return effects
}

// teamsWithLess lists the teams that may have less running then; "default" stands for those
// that are not named.
func teamsWithLess(from, to *pool.Spec) (teams []string) {
	lower := func(a, b *int) bool { return b != nil && (a == nil || *b < *a) }
	less := func(a, b pool.Limit) bool {
		return lower(a.Jobs, b.Jobs) || lower(a.CPUs, b.CPUs) || lower(a.GPUs, b.GPUs)
	}
	all := maps.Clone(from.Limits.Team)
	if all == nil {
		all = map[string]pool.Limit{}
	}
	maps.Copy(all, to.Limits.Team)
	for _, team := range slices.Sorted(maps.Keys(all)) {
		if less(from.LimitOf(team), to.LimitOf(team)) {
			teams = append(teams, team)
		}
	}
	if less(from.Limits.Default, to.Limits.Default) {
		teams = append(teams, "default")
	}
	return teams
}

// newEffect makes an effect, with the first of the names.
func newEffect(kind string, all []string, detail string) wire.PlanEffect {
	e := wire.PlanEffect{Kind: kind, Count: len(all), Detail: detail, Names: []string{}}
	e.Names = append(e.Names, all[:min(len(all), maxPlanNames)]...)
	return e
}

func nodeNames(nodes []*pool.Node) []string {
	out := make([]string, len(nodes))
	for i, n := range nodes {
		out[i] = n.Name
	}
	return out
}

// countOf writes how many things there are.
func countOf(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// countAre and countLeave begin a sentence about some things.
func countAre(n int, thing string) string {
	if n == 1 {
		return countOf(n, thing) + " is"
	}
	return countOf(n, thing) + " are"
}

func countLeave(n int, thing string) string {
	if n == 1 {
		return countOf(n, thing) + " leaves"
	}
	return countOf(n, thing) + " leave"
}
