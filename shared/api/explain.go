package api

import (
	"fmt"

	"dsvmpools/shared/job"
)

// Explanation says in a sentence why a job is where it is.
type Explanation struct {
	ID     string    `json:"id"`
	Pool   string    `json:"pool"`
	State  job.State `json:"state"`
	Reason string    `json:"reason"`
}

// Explain uses the reason the pool has published for the job, and where there
// is none, what the state of the pool says. The pool may be nil: not known.
func Explain(j Job, p *Pool) Explanation {
	out := Explanation{ID: j.ID, Pool: j.Pool, State: j.State, Reason: j.Reason}
	if out.Reason == "" {
		out.Reason = explain(j, p)
	}
	return out
}

func explain(j Job, p *Pool) string {
	switch j.State {
	case job.Submitted:
		return "accepted; its pool has not looked at it yet"
	case job.Held:
		return "held back until it may run"
	case job.Queued:
		return explainQueued(p)
	case job.Assigned:
		return "given to " + lastNode(j) + ", which has not reported its start yet"
	case job.Running:
		return "running on " + lastNode(j)
	case job.Succeeded:
		return "its process ended with exit code 0"
	case job.Failed:
		if j.ExitCode != nil {
			return fmt.Sprintf("its last attempt ended with exit code %d", *j.ExitCode)
		}
		return "its last attempt failed"
	case job.Cancelled:
		return "cancelled on request"
	case job.TimedOut:
		return "ran longer than its timeout"
	}
	return "no reason was recorded"
}

func explainQueued(p *Pool) string {
	switch {
	case p == nil:
		return "waiting for a place on a node"
	case p.Reason != "":
		return "waiting for a place on a node of pool " + p.Name + ": " + p.Reason
	}
	coming := p.Nodes.Creating + p.Nodes.Booting
	if coming < p.Wanted-p.Nodes.Ready-p.Nodes.Busy {
		coming = p.Wanted - p.Nodes.Ready - p.Nodes.Busy
	}
	if coming > 0 {
		return fmt.Sprintf("waiting for a place on a node of pool %s; %s on the way", p.Name, plural(coming, "node is", "nodes are"))
	}
	return fmt.Sprintf("waiting for a place on a node of pool %s, where %s and %s", p.Name,
		plural(p.Running, "job has one", "jobs have one"), plural(p.Queued, "waits", "wait"))
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func lastNode(j Job) string {
	if len(j.Attempts) == 0 || j.Attempts[len(j.Attempts)-1].Node == "" {
		return "a node"
	}
	return "node " + j.Attempts[len(j.Attempts)-1].Node
}
