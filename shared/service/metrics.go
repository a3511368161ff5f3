package service

import (
	"context"
	"math/big"
	"slices"
	"strconv"

	"dsvmpools/shared/metrics"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/scheduler"
	"dsvmpools/shared/usage"
	"dsvmpools/shared/wire"
)

// Metrics are the figures of the deployment for a system that watches it. There is no job, user
// or team in them: such labels have no bound.
func (o *Overview) Metrics(ctx context.Context) ([]metrics.Family, error) {
	all, err := o.tallies(ctx)
	if err != nil {
		return nil, err
	}
	slow, err := o.slowFacts(ctx)
	if err != nil {
		return nil, err
	}
	jobs := metrics.Gauge("dsvm_jobs", "Jobs that have not ended. A sweep counts as its members.", "pool", "state")
	nodes := metrics.Gauge("dsvm_nodes", "Nodes that are there.", "pool", "size", "spot", "state")
	wanted := metrics.Gauge("dsvm_wanted_nodes", "Nodes that the pool wants to have.", "pool")
	states := metrics.Gauge("dsvm_pool_state", "1 for the state that the pool is in.", "pool", "state")
	cost := metrics.Gauge("dsvm_cost_per_hour", "What the nodes with a known price cost an hour.", "pool", "currency")
	unpriced := metrics.Gauge("dsvm_unpriced_nodes", "Nodes that are billed and whose price is not known.", "pool")
	for _, t := range all {
		line, prices := o.poolLine(t)
		name := line.Name
		var count scheduler.JobCounts
		for _, n := range t.Jobs {
			count.Add(n)
		}
		for state, n := range map[string]int{"held": count.Held, "queued": count.Queued, "assigned": count.Assigned, "running": count.Running} {
			jobs.Add(strconv.Itoa(n), name, state)
		}
		addNodes(&nodes, name, t.Nodes)
		wanted.Add(strconv.Itoa(t.Head.Wanted), name)
		states.Add("1", name, string(line.State))
		if prices.known > 0 {
			cost.Add(usage.Amount(&prices.sum), name, prices.currency)
		}
		unpriced.Add(strconv.Itoa(prices.unknown), name)
	}
	for _, f := range []*metrics.Family{&jobs, &nodes} {
		slices.SortFunc(f.Samples, func(a, b metrics.Sample) int { return slices.Compare(a.Labels, b.Labels) })
	}
	month := metrics.Gauge("dsvm_month_cost", "What the nodes have cost since the month began in UTC.", "currency")
	if slow.month != usage.UnknownPrice && slow.currency != "" {
		month.Add(slow.month, slow.currency)
	}
	troubles := metrics.Gauge("dsvm_troubles", "Things that a person must do something about.")
	troubles.Add(strconv.Itoa(slow.troubles))
	return []metrics.Family{jobs, nodes, wanted, states, cost, unpriced, month, budgetRatios(slow.budgets), troubles}, nil
}

// addNodes counts the nodes of a pool that are there.
func addNodes(f *metrics.Family, name string, nodes []*pool.Node) {
	type kind struct {
		size, state string
		spot        bool
	}
	counts := map[kind]int{}
	for _, n := range nodes {
		if n.State != pool.NodeGone {
			counts[kind{n.Size, string(n.State), n.Spot}]++
		}
	}
	for k, n := range counts {
		f.Add(strconv.Itoa(n), name, k.size, strconv.FormatBool(k.spot), k.state)
	}
}

// budgetRatios says how far budgets are used: 1 = all of it.
func budgetRatios(budgets []wire.NowBudget) metrics.Family {
	f := metrics.Gauge("dsvm_budget_ratio", "What of a budget is spent; 1 is all of it.", "budget")
	for _, b := range budgets {
		spent, ok := new(big.Rat).SetString(b.Spent)
		amount, known := new(big.Rat).SetString(b.Amount)
		if ok && known && amount.Sign() > 0 {
			f.Add(spent.Quo(spent, amount).FloatString(4), b.Name)
		}
	}
	return f
}
