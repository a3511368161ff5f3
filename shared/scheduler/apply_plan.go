package scheduler

import (
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/pool"
)

// ApplyPlan is what a new spec would do to a pool, as far as its rows say.
type ApplyPlan struct {
	Head     pool.Head
	Leaving  []*pool.Node // the ladder has their size, or their capacity, no more
	BusyOnes int          // of these, how many leave when their jobs end
	Staying  []*pool.Node
	Counted  int         // nodes that count towards `nodes.max`
	Wanted   int         // nodes that it would ask for to have `nodes.min`
	Stuck    []StuckJob  // waiting jobs that no node could ever run, and that one could run until now
	Down     bool        // it would go down at once by its schedule
	Until    time.Time   // when it would come up again; zero = when there is work
	Hit      []*pool.Job // the jobs that run then
}

// StuckJob is a job that could never run, and why.
type StuckJob struct {
	*pool.Job
	Why *fault.Error
}

// PlanApply says what a new spec would do to a pool. It changes nothing, and the rows that
// it returns must not be changed.
func PlanApply(s *State, spec pool.Spec, now time.Time) ApplyPlan {
	plan := ApplyPlan{Head: s.Head, Counted: s.census().counted()}
	rungs := map[string]bool{}
	for _, set := range spec.Rungs() {
		rungs[set.Name] = true
	}
	for _, n := range s.sortedNodes() {
		switch {
		case n.State == pool.NodeGone || n.State == pool.NodeDeleting:
		case rungs[n.Set] || n.Set == "":
			plan.Staying = append(plan.Staying, n.Node)
		default:
			plan.Leaving = append(plan.Leaving, n.Node)
			if len(n.jobs) > 0 {
				plan.BusyOnes++
			}
		}
	}
	if spec.Schedule != nil && s.Head.Spec.Schedule != nil {
		down, since, until := spec.Schedule.Window(now)
		if plan.Down = since.After(s.Head.DownSince); plan.Down && down {
			plan.Until = until
		}
	}
	for _, j := range s.liveJobs() {
		if j.VMID != "" {
			if plan.Down {
				plan.Hit = append(plan.Hit, j.Job)
			}
			continue
		}
		if why := refuses(&spec, j); why != nil && refuses(&s.Head.Spec, j) == nil {
			plan.Stuck = append(plan.Stuck, StuckJob{j.row(), why})
		}
	}
	if !plan.Down && !s.Head.Down {
		plan.Wanted = max(spec.Nodes.Min-max(plan.Counted-len(plan.Leaving), s.Head.Spec.Nodes.Min), 0)
	}
	return plan
}
