package scheduler

import (
	"fmt"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
)

// Steps in which people are told how long a node has been booting: a sign of life, and not a
// line for each look.
const (
	shortSteps = 20 * time.Second
	longSteps  = time.Minute
	longBoot   = 5 * time.Minute
)

// comingText says which node of these sets is on its way longest, for how long, and how long
// that usually takes.
func (ex *explainer) comingText(of func(*pool.Set) bool) string {
	var first *Node
	name, asked := "a new node", ex.now
	for i := range ex.Head.Sets {
		if set := &ex.Head.Sets[i]; of(set) && set.Pending() > 0 && set.Requests[0].At.Before(asked) {
			asked = set.Requests[0].At
		}
	}
	for _, n := range ex.Nodes {
		set := ex.set(n.Set)
		if n.State != pool.NodeCreating && n.State != pool.NodeBooting || set == nil || !of(set) {
			continue
		}
		if at := n.comingSince(); first == nil || at.Before(first.comingSince()) || at.Equal(first.comingSince()) && n.VMID < first.VMID {
			first = n
		}
	}
	if first != nil {
		name, asked = "node "+first.Name, first.comingSince()
	}
	took, step := max(ex.now.Sub(asked), 0), shortSteps
	if took >= longBoot {
		step = longSteps
	}
	text := fmt.Sprintf("%s is booting (%s", name, job.Duration(took.Truncate(step)))
	if usual := pool.UsualBoot(ex.Head.Sets); usual > 0 {
		if usual >= time.Minute {
			usual = usual.Round(shortSteps)
		}
		text += "; usually " + job.Duration(usual).String()
	}
	return text + ")"
}

// comingSince is when a node was asked for, as far as the pool knows.
func (n *Node) comingSince() time.Time {
	if n.AskedAt.IsZero() {
		return n.CreatedAt
	}
	return n.AskedAt
}
