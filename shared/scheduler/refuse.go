package scheduler

import (
	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
)

// Refuses says why no node of a pool can ever run a job; nil when one can.
func Refuses(of pool.Spec, spec job.Spec) *fault.Error {
	if of.IsInteractive() {
		return fault.New(fault.Invalid, "pool",
			"pool %q is for people, and takes no jobs; name a pool of `kind: batch`, or open a session by `dsvm connect %s`", of.Name, of.Name)
	}
	return refusesAmount(&of, spec)
}

// refuses is Refuses for a live job, which may be a session.
func refuses(of *pool.Spec, j *Job) *fault.Error {
	switch {
	case j.Session == nil:
		return Refuses(*of, j.Spec)
	case !of.IsInteractive():
		return nil // it was opened before the pool's kind was changed, and goes on
	}
	return refusesAmount(of, j.Spec)
}

// refusesAmount says why no node of a pool has room for a job, or no team the right to it.
func refusesAmount(of *pool.Spec, spec job.Spec) *fault.Error {
	if spec.Nodes > of.Nodes.Max {
		return fault.New(fault.Invalid, "nodes",
			"the job asks for %d nodes, and pool %q never has more than %d; ask for fewer, or have `nodes.max` raised",
			spec.Nodes, spec.Pool, of.Nodes.Max)
	}
	if err := refusesSize(of, spec); err != nil {
		return err
	}
	l := of.LimitOf(spec.Team)
	if all := spec.Total(); l.Jobs != nil && *l.Jobs < 1 || l.CPUs != nil && *l.CPUs < all.CPUs || l.GPUs != nil && *l.GPUs < all.GPUs {
		return fault.New(fault.Invalid, "team",
			"the limits of pool %q never let team %q run a job of this size; ask for less, or have `limits` changed",
			spec.Pool, spec.Team)
	}
	return nil
}

// refusesSize says why no size of the pool has room for a job; nil when one has.
func refusesSize(s *pool.Spec, spec job.Spec) *fault.Error {
	var largest pool.Set
	for _, name := range s.Sizes {
		set := pool.Set{Size: name}
		has := set.Resources()
		if has.CPUs == 0 || fits(has, job.Resources{}, spec.Resources) {
			return nil // it has room, or its cpus are not known before a node reports them
		}
		if of := largest.Resources(); has.GPUs > of.GPUs || has.GPUs == of.GPUs && has.CPUs > of.CPUs {
			largest = set
		}
	}
	has, want := largest.Resources(), spec.Resources
	gpus := "gpus"
	if want.GPUs == 1 {
		gpus = "gpu"
	}
	for _, r := range []struct {
		field, unit string
		want, has   any
		tooMuch     bool
		ask         string
	}{
		{"cpus", "cpus", want.CPUs, has.CPUs, want.CPUs > has.CPUs, "fewer"},
		{"gpus", gpus, want.GPUs, has.GPUs, want.GPUs > has.GPUs, "fewer"},
		{"memory", "of memory", want.Memory, has.Memory, want.Memory > has.Memory, "less"},
	} {
		if r.tooMuch {
			return fault.New(fault.Invalid, "resources."+r.field,
				"the job asks for %v %s, and a node of pool %q (%s) has %v; ask for %s or use a pool of a larger size",
				r.want, r.unit, spec.Pool, largest.Size, r.has, r.ask)
		}
	}
	return fault.New(fault.Invalid, "resources",
		"the job asks for more than any one size of pool %q has; ask for less or use another pool", spec.Pool)
}
