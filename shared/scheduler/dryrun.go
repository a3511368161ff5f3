package scheduler

import (
	"fmt"
	"math/big"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/usage"
)

// dryRunSteps bounds the steps of a dry run. One is enough, unless a transaction is full.
const dryRunSteps = 20

// DryRunResult says what would become of a job that is submitted now.
type DryRunResult struct {
	Explanation
	Node         string // that it would begin on at once; of a gang that of rank 0; "" = none
	Size         string // of the node that it would run on; "" = no size of the pool has room
	Spot         bool   // that node is Spot
	PricePerHour string // of what one attempt takes, with all nodes of a gang; "" = not known
	Currency     string
}

// DryRun submits a job to a state, which must be a copy that nobody else uses and that is
// dropped afterwards. It decides by Step and explains by Explain, as for a real job. The
// error says why the pool refuses the job.
func DryRun(s *State, j pool.Submit, now time.Time, timing Timing) (DryRunResult, error) {
	changes := []pool.Change(nil)
	events := []pool.Event{j}
	for i, more := 0, true; more && i < dryRunSteps; i++ {
		r := Step(s, events, now, timing)
		for _, refused := range r.Refused {
			if refused.Order == j.Order {
				return DryRunResult{}, refused.Err
			}
		}
		changes = append(changes, r.Changes...)
		events, more = r.Rest, r.More
	}
	out := DryRunResult{}
	var live bool
	out.Explanation, live = Explain(s, j.Order, now, timing)
	if !live {
		return endedAtOnce(changes, j.Order)
	}
	of := s.Jobs.Get(j.Order)
	running, total := of, 0
	if of.Spec.Sweep != nil {
		running, total = s.firstMember(of)
	}
	if running != nil && running.VMID != "" {
		at := s.Nodes[running.VMID]
		out.Node, out.Size, out.Spot = at.Name, at.Size, at.Spot
		out.PricePerHour, out.Currency = s.attemptPrice(of, at.Node)
		out.Reason, out.Unblocks = fmt.Sprintf("node %s has room for it, and starts it at once", at.Name), ""
		if total > 0 {
			out.Reason = fmt.Sprintf("%d of its %d members start at once", total, of.Spec.Sweep.Members())
		}
		return out, nil
	}
	if set := s.firstSetFor(of); set != nil {
		n := s.nodeOf(set)
		out.Size, out.Spot = n.Size, n.Spot
		out.PricePerHour, out.Currency = s.attemptPrice(of, n)
	}
	return out, nil
}

// endedAtOnce is the result for a job that the step has ended already, such as one that
// comes after a job that has failed.
func endedAtOnce(changes []pool.Change, order string) (DryRunResult, error) {
	for _, c := range changes {
		if j, ok := c.Value.(*pool.Job); ok && j.Order == order && j.State.Final() {
			return DryRunResult{Explanation: Explanation{State: string(j.State), Reason: j.Reason}}, nil
		}
	}
	return DryRunResult{}, fault.New(fault.Conflict, "id", "the pool has such a job already; use another id")
}

// firstMember is the first member of a sweep that has a node, and how many have one; nil:
// none has.
func (s *State) firstMember(of *Job) (first *Job, count int) {
	for m := range s.sweeps[of.Order].live {
		if m.VMID == "" {
			continue
		}
		if count++; first == nil || isOlder(m, first) {
			first = m
		}
	}
	return first, count
}

// firstSetFor is the best rung whose nodes have room for a job, whatever their agents know
// today; nil: none has.
func (s *State) firstSetFor(j *Job) *pool.Set {
	of := shapeOf(j)
	of.needs = ""
	for i := range s.Head.Sets {
		if set := &s.Head.Sets[i]; s.rungOf(set.Name) >= 0 && s.canGive(set, of) {
			return set
		}
	}
	return nil
}

// attemptPrice is what an attempt of a job costs per hour on nodes like this one, by the
// rule of the ledger; "" = not known.
func (s *State) attemptPrice(j *Job, n *pool.Node) (perHour, currency string) {
	e := s.entryOf(j, n)
	e.To = e.From.Add(time.Hour)
	cost, known := e.Cost()
	if !known {
		return "", ""
	}
	return usage.Amount(cost.Mul(cost, new(big.Rat).SetInt64(int64(max(j.Spec.Nodes, 1))))), n.Currency
}

// entryOf is a row of the ledger for what an attempt of a job holds of a node, without its
// times and its end.
func (s *State) entryOf(j *Job, n *pool.Node) usage.Entry {
	held := j.Spec.Resources
	if !s.Head.Spec.Pack {
		held.CPUs = max(held.CPUs, n.CPUs) // nobody else could use the rest of the node
	}
	return usage.Entry{
		Kind: usage.KindAttempt, Pool: s.Head.Spec.Name,
		Team: j.Spec.Team, User: j.Spec.User, Job: j.ID, JobName: j.Spec.Name, Node: n.Name, VMID: n.VMID, Size: n.Size, Spot: n.Spot,
		CPUs: held.CPUs, NodeCPUs: n.CPUs, GPUs: held.GPUs, NodeGPUs: n.GPUs, Memory: int64(held.Memory), NodeMem: int64(n.Memory),
		Price: n.Price, Currency: n.Currency, Parts: n.Parts, Labels: j.Spec.Labels,
	}
}
