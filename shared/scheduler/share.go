package scheduler

import (
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
)

// Fair share. Within a priority class, the next job comes from the team with the
// least charge for its weight:
//
//	charge = (used + held now x shareAhead) / weight
//
// used is what the team's attempts have taken of nodes, in seconds of a whole node,
// halved with every half-life. An attempt's part of a node is the largest of its parts of
// cpus, GPUs and memory. held is the sum of those parts over the attempts that run now,
// so that teams that begin together share from the start.

const (
	// shareAhead is how much longer a running attempt is expected to run.
	shareAhead = time.Hour
	// minUsed is the smallest use, in seconds of a node, that the head keeps.
	minUsed = 0.01
)

// team is what a team has running now, derived from the jobs' rows.
type team struct {
	jobs, cpus, gpus int
	held             float64 // sum of the parts of nodes
	since            float64 // sum of part x second at which it began
}

// team returns what a team has running, and makes an entry for a new team.
func (s *State) team(name string) *team {
	t := s.teams[name]
	if t == nil {
		t = &team{}
		s.teams[name] = t
	}
	return t
}

// count adds a job's current attempt to its team, or takes it away.
func (t *team) count(j *Job, sign int) {
	t.jobs += sign
	all := j.Spec.Total()
	t.cpus += sign * all.CPUs
	t.gpus += sign * all.GPUs
	t.held += float64(sign) * j.part
	t.since += float64(sign) * j.part * seconds(j.Current().AssignedAt)
	if t.jobs == 0 {
		*t = team{} // errors of rounding do not stay
	}
}

func seconds(at time.Time) float64 { return float64(at.UnixMilli()) / 1000 }

// charge is the number by which teams are compared; the least is first.
func (t *turn) charge(name string) float64 {
	used := t.Head.Shares[name].Left(t.now, t.timing.ShareHalfLife)
	if has := t.teams[name]; has != nil {
		used += max(has.held*seconds(t.now)-has.since, 0) + has.held*shareAhead.Seconds()
	}
	return used / float64(t.Head.Spec.Weight(name))
}

// addUse adds an attempt that has ended to what its team has used.
func (t *turn) addUse(j *Job) {
	used := j.part * max(t.timeOnNode(j.Current()), 0).Seconds()
	shares := pool.Shares{}
	for name, s := range t.Head.Shares {
		if left := s.Left(t.now, t.timing.ShareHalfLife); left >= minUsed {
			shares[name] = pool.TeamShare{Used: left, At: t.now}
		}
	}
	if left := shares[j.Spec.Team].Used + used; left > 0 {
		shares[j.Spec.Team] = pool.TeamShare{Used: left, At: t.now}
	}
	t.Head.Shares = shares
}

// timeOnNode is how long an attempt that has ended had its part of a node. One that was
// assigned ahead had none while it waited.
func (t *turn) timeOnNode(a *job.Attempt) time.Duration {
	since := t.now.Sub(a.AssignedAt)
	if len(a.Ranks) == 0 && !a.StartedAt.IsZero() {
		return min(since, a.EndedAt.Sub(a.StartedAt)) // both of the node's clock
	}
	return since
}

// isWithin reports whether a limit lets a team start a job that takes r; t, which may be
// nil, is what the team has running.
func isWithin(l pool.Limit, t *team, r job.Resources) bool {
	if t == nil {
		t = &team{}
	}
	return (l.Jobs == nil || t.jobs < *l.Jobs) && (l.CPUs == nil || t.cpus+r.CPUs <= *l.CPUs) && (l.GPUs == nil || t.gpus+r.GPUs <= *l.GPUs)
}
