package pool

import (
	"math"
	"time"

	"dsvmpools/shared/job"
)

// TeamShare is what a team had used at a time, in seconds of a whole node.
type TeamShare struct {
	Used float64   `json:"used"`
	At   time.Time `json:"at"`
}

// Shares holds the shares of the teams by name.
type Shares map[string]TeamShare

// Left is what is left of a share at a time: it halves with every half-life.
func (s TeamShare) Left(now time.Time, halfLife time.Duration) float64 {
	if s.Used == 0 || halfLife <= 0 {
		return 0
	}
	return s.Used * math.Exp2(-max(now.Sub(s.At), 0).Seconds()/halfLife.Seconds())
}

// Weight is how large a team's share should be, compared with other teams.
func (s *Spec) Weight(team string) int {
	for _, name := range []string{team, "default"} {
		if w, ok := s.Weights[name]; ok {
			return w
		}
	}
	return 1
}

// LimitOf is the limit of what a team may have running at once.
func (s *Spec) LimitOf(team string) Limit {
	if l, ok := s.Limits.Team[team]; ok {
		return l
	}
	return s.Limits.Default
}

// PartOfNode is the part of a node that a job takes, from 0 to 1: the largest of its
// parts of cpus, GPUs and memory; 1 if jobs do not share nodes.
func (s *Spec) PartOfNode(r job.Resources) float64 {
	if !s.Pack {
		return 1
	}
	of := s.node()
	part := 0.0
	for _, p := range [][2]float64{
		{float64(r.CPUs), float64(of.CPUs)},
		{float64(r.GPUs), float64(of.GPUs)},
		{float64(r.Memory), float64(of.Memory)},
	} {
		if p[1] > 0 {
			part = max(part, p[0]/p[1])
		}
	}
	if part == 0 {
		return 1
	}
	return min(part, 1)
}

// node is what a node of the pool's first size has; zero where that is not known.
func (s *Spec) node() job.Resources {
	set := Set{Size: s.Sizes[0]}
	return set.Resources()
}
