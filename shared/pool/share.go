package pool

import (
	"math"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/size"
)

// Fair share. Within a priority class, the next job comes from the team with the
// least charge for its weight:
//
//	charge = (used + held now x shareAhead) / weight
//
// used is what the team's attempts have taken of nodes lately, in seconds of a
// whole node, halved with every half-life; an attempt's part of a node is the
// largest of its parts of cpus, GPUs and memory. held is the sum of those parts
// over what runs now, so that teams that begin together also share at once.

const (
	// shareAhead is how long what runs now is expected to go on.
	shareAhead = time.Hour
	// shareForgotten is a use, in seconds of a node, that is not kept any more.
	shareForgotten = 0.01
)

// Share is what a team had used at a time, in seconds of a whole node.
type Share struct {
	Used float64   `json:"used"`
	At   time.Time `json:"at"`
}

// Shares holds the shares of the teams by name.
type Shares map[string]Share

// at is what is left of a share at a time.
func (s Share) at(now time.Time, halfLife time.Duration) float64 {
	if s.Used == 0 || halfLife <= 0 {
		return 0
	}
	return s.Used * math.Exp2(-max(now.Sub(s.At), 0).Seconds()/halfLife.Seconds())
}

// team is what a team has running now; derived from the jobs' rows.
type team struct {
	jobs, cpus, gpus int
	held             float64 // sum of the parts of nodes
	since            float64 // sum of part x second at which it began
}

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
	t.since += float64(sign) * j.part * seconds(j.current().AssignedAt)
	if t.jobs == 0 {
		*t = team{} // no rest of rounding stays
	}
}

func seconds(at time.Time) float64 { return float64(at.UnixMilli()) / 1000 }

// charge is what the team's next job is compared by.
func (st *step) charge(name string) float64 {
	used := st.Head.Shares[name].at(st.now, st.rules.ShareHalfLife)
	if t := st.teams[name]; t != nil {
		used += max(t.held*seconds(st.now)-t.since, 0) + t.held*shareAhead.Seconds()
	}
	return used / float64(st.Head.Spec.weight(name))
}

// use adds an attempt that has ended to what its team has used.
func (st *step) use(j *Job) {
	began := j.current().AssignedAt
	used := j.part * max(st.now.Sub(began), 0).Seconds()
	shares := Shares{}
	for name, s := range st.Head.Shares {
		if left := s.at(st.now, st.rules.ShareHalfLife); left >= shareForgotten {
			shares[name] = Share{Used: left, At: st.now}
		}
	}
	if left := shares[j.Spec.Team].Used + used; left > 0 {
		shares[j.Spec.Team] = Share{Used: left, At: st.now}
	}
	st.Head.Shares = shares
}

// weight is how large a team's share is to be, compared with others.
func (s *Spec) weight(team string) int {
	for _, name := range []string{team, "default"} {
		if w, ok := s.Weights[name]; ok {
			return w
		}
	}
	return 1
}

// limit is what a team may have running at once.
func (s *Spec) limit(team string) Limit {
	if l, ok := s.Limits.Team[team]; ok {
		return l
	}
	return s.Limits.Default
}

// within reports whether a team that has this running may add a job.
func (l Limit) within(t *team, r job.Resources) bool {
	if t == nil {
		t = &team{}
	}
	return (l.Jobs == nil || t.jobs < *l.Jobs) && (l.CPUs == nil || t.cpus+r.CPUs <= *l.CPUs) && (l.GPUs == nil || t.gpus+r.GPUs <= *l.GPUs)
}

// part is the largest part of a node that a job takes of any resource.
func (s *Spec) part(r job.Resources) float64 {
	if !s.Pack {
		return 1
	}
	of := s.node()
	part := 0.0
	for _, p := range [][2]float64{{float64(r.CPUs), float64(of.CPUs)}, {float64(r.GPUs), float64(of.GPUs)}, {float64(r.Memory), float64(of.Memory)}} {
		if p[1] > 0 {
			part = max(part, p[0]/p[1])
		}
	}
	if part == 0 {
		return 1
	}
	return min(part, 1)
}

// node is what a node of the pool's size has; zero where that is not known.
func (s *Spec) node() job.Resources {
	of, _ := size.Lookup(s.Sizes[0])
	return job.Resources{CPUs: of.CPUs, GPUs: of.GPUs, Memory: job.Bytes(of.MemoryGiB) * job.Gi}
}
