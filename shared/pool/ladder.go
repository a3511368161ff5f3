package pool

import (
	"strings"

	"dsvmpools/shared/job"
	"dsvmpools/shared/size"
)

// SetName is the name of a pool's scale set in Azure.
func SetName(pool, set string) string { return "dsvm-" + pool + "-" + set }

// setName is the name of a set within its pool: the size without `Standard_`, and
// `-spot` after it if it is Spot.
func setName(size string, spot bool) string {
	name := strings.ReplaceAll(strings.TrimPrefix(strings.ToLower(size), "standard_"), "_", "-")
	if spot {
		name += "-spot"
	}
	return name
}

// Rungs are the sets that a spec asks for, best first.
func (s *Spec) Rungs() []Set {
	var list []Set
	for _, spot := range []bool{true, false} {
		if spot && !s.HasSpot() || !spot && !s.HasRegular() {
			continue
		}
		for _, size := range s.Sizes {
			list = append(list, Set{Name: setName(size, spot), Size: size, Spot: spot})
		}
	}
	return list
}

// Resources is what a node of a set has; zero where that is not known.
func (s *Set) Resources() job.Resources {
	of, _ := size.Lookup(s.Size)
	return job.Resources{CPUs: of.CPUs, GPUs: of.GPUs, Memory: job.Bytes(of.MemoryGiB) * job.Gi}
}

// String names the rung for people.
func (s *Set) String() string {
	if s.Spot {
		return s.Size + " (Spot)"
	}
	return s.Size
}

// HasSpot reports whether the ladder has rungs that are Spot.
func (s *Spec) HasSpot() bool { return s.Capacity == "spot" || s.Capacity == "spot-then-regular" }

// HasRegular reports whether the ladder has rungs that are not Spot.
func (s *Spec) HasRegular() bool { return s.Capacity != "spot" }
