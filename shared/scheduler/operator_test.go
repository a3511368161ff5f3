package scheduler_test

import (
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/scheduler"
)

func ask(vmid string, verb pool.Verb) pool.Event { return pool.NodeRequest{VMID: vmid, Verb: verb} }

// A quarantined node that is released takes work again, and what stood against it is
// forgotten; saying it twice changes nothing.
func TestReleaseNode(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(s *pool.Spec) { s.Nodes.Max = 2 })
	b.node("n1")
	b.step(submission("stays", nil))
	b.breakNode("n1", 1)
	n := b.s.Nodes["n1"]
	if n.State != pool.NodeQuarantined || !strings.Contains(n.Reason, "dsvm node release n1") {
		t.Fatalf("got %s: %s", n.State, n.Reason)
	}
	b.step(ask("n1", pool.VerbRelease))
	if n.State != pool.NodeBusy || n.Breaks != 0 || len(n.Blames) != 0 || n.Reason != "" {
		t.Errorf("released with work: %s with %d breaks", n.State, n.Breaks)
	}
	if r := b.step(ask("n1", pool.VerbRelease)); r.Changed {
		t.Errorf("released twice: %d rows change", len(r.Changes))
	}
	b.step(submission("next", nil))
	if b.s.Jobs.Get("next").VMID != "n1" {
		t.Error("it takes no work")
	}
	b.step(ask("unknown", pool.VerbRelease), ask("unknown", pool.VerbDelete))
}

// A drained node gets nothing more, leaves when its work has ended, and is taken
// back by a release until then.
func TestDrainNode(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.node("n1")
	b.step(submission("1", nil))
	n := b.s.Nodes["n1"]
	b.step(ask("n1", pool.VerbDrain))
	b.step(submission("2", nil))
	if n.State != pool.NodeDraining || b.s.Jobs.Get("2").VMID != "" || b.s.Jobs.Get("1").VMID != "n1" {
		t.Fatalf("got %s, jobs on %q and %q", n.State, b.s.Jobs.Get("1").VMID, b.s.Jobs.Get("2").VMID)
	}
	if r := b.step(ask("n1", pool.VerbDrain)); r.Changed {
		t.Error("drained twice changes something")
	}
	b.step(ask("n1", pool.VerbRelease))
	if n.State != pool.NodeBusy || b.s.Jobs.Get("2").VMID != "n1" {
		t.Errorf("taken back: %s", n.State)
	}
	b.step(ask("n1", pool.VerbDrain))
	b.finish("1")
	r := b.finish("2")
	if n.State != pool.NodeDeleting || len(r.Effects.Remove) != 1 {
		t.Errorf("without work: %s, %d to be deleted", n.State, len(r.Effects.Remove))
	}
}

func TestEveryVerbInEveryState(t *testing.T) {
	t.Parallel()
	for _, verb := range []pool.Verb{pool.VerbRelease, pool.VerbDrain, pool.VerbDelete} {
		for _, state := range []pool.NodeState{pool.NodeCreating, pool.NodeBooting, pool.NodeReady, pool.NodeDraining, pool.NodeDeleting, pool.NodeGone,
			pool.NodeLost, pool.NodeFailed, pool.NodeQuarantined} {
			b := newBench(t, func(s *pool.Spec) { s.IdleTimeout = job.Duration(time.Hour) })
			b.node("n1")
			n := b.s.Nodes["n1"]
			n.State = state
			b.s = scheduler.NewState(b.s.Head, []*pool.Node{n.Node}, nil, b.now)
			r := b.step(ask("n1", verb))
			want := state
			removed := 0
			switch verb {
			case pool.VerbRelease:
				if state == pool.NodeQuarantined {
					want = pool.NodeReady
				}
			case pool.VerbDrain:
				if state == pool.NodeCreating || state == pool.NodeBooting || state == pool.NodeReady || state == pool.NodeQuarantined {
					want = pool.NodeDeleting
				}
			case pool.VerbDelete:
				if state != pool.NodeGone {
					removed = 1
					if state != pool.NodeLost && state != pool.NodeFailed {
						want = pool.NodeDeleting
					}
				}
			}
			if state == pool.NodeDraining {
				want = pool.NodeDeleting // there is nothing on it
			}
			if n.State != want || len(r.Effects.Remove) < removed {
				t.Errorf(
					"%s of a node that is %s: it is %s, want %s; %d deletions are asked for", verb, state, n.State, want,
					len(r.Effects.Remove),
				)
			}
			if problem := scheduler.Claims(b.s, b.now, b.timing); problem != "" {
				t.Errorf("%s, %s: %s", verb, state, problem)
			}
		}
	}
}

// What runs on a node that is deleted by request goes back in line, at the cost of
// nothing: when its agent has ended it, or when the VM is gone.
func TestDeleteNode(t *testing.T) {
	t.Parallel()
	for _, agentAnswers := range []bool{true, false} {
		b := newBench(t, nil)
		b.node("n1")
		for i := range 5 { // more often than a job may lose its node
			if i > 0 {
				b.node("n" + string(rune('1'+i)))
			} else {
				b.step(submission("1", nil))
			}
			j := b.s.Jobs.Get("1")
			if j.VMID == "" {
				t.Fatalf("round %d: %s: %s", i, j.State, j.Reason)
			}
			n := b.s.Nodes[j.VMID]
			b.now = b.now.Add(b.timing.MissingFor) // no list is older than the node
			r := b.step(ask(n.VMID, pool.VerbDelete))
			if n.State != pool.NodeDeleting || len(r.Effects.Remove) != 1 || len(r.Effects.Work[n.VMID]) != 1 ||
				r.Effects.Work[n.VMID][0].Cancel == nil ||
				j.VMID == "" {
				t.Fatalf("got %s, %+v", n.State, r.Effects)
			}
			if e := b.explain("1"); !strings.Contains(e.Reason, "deleted by request") {
				t.Errorf("%s", e.Reason)
			}
			if agentAnswers {
				b.end("1", job.AttemptCancelled, job.ExitCancelled)
			}
			b.step(ask(n.VMID, pool.VerbDelete)) // once more
			var left []pool.Instance
			b.step(pool.Listed{Exists: true, Instances: left})
			if j.State != job.Queued || j.Retries != 0 || n.State != pool.NodeGone {
				t.Fatalf(
					"answers %v, round %d: job %s with %d retries (%s), node %s", agentAnswers, i, j.State, j.Retries, j.Reason,
					n.State,
				)
			}
		}
		// None of that was a loss: the next one is the first.
		b.node("last")
		b.now = b.now.Add(b.timing.MissingFor) // no list is older than the node
		b.step(pool.Fenced{VMID: "last", Taken: true})
		b.step(pool.Listed{Exists: true})
		if j := b.s.Jobs.Get("1"); j.State != job.Queued {
			t.Errorf("answers %v: after one lost node the job is %s: %s", agentAnswers, j.State, j.Reason)
		}
	}
}

// A gang on a deleted node is put back as a whole; a job that was cancelled stays so.
func TestDeleteNodeOfGangAndCancelled(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.node("n1")
	b.node("n2")
	b.step(submission("g", func(s *job.Spec) { s.Nodes, s.Resources.CPUs = 2, 3 }))
	b.step(submission("c", nil))
	b.step(pool.Cancel{Order: "c", Reason: "no more"})
	c, on := b.s.Jobs.Get("c"), b.s.Jobs.Get("c").VMID
	r := b.step(ask(on, pool.VerbDelete))
	for _, vmid := range []string{"n1", "n2"} {
		if len(r.Effects.Work[vmid]) == 0 {
			t.Errorf("the rank on %s is not asked to end", vmid)
		}
	}
	b.endBy("c", job.AttemptCancelled, job.ExitCancelled, "")
	if c.State != job.Cancelled {
		t.Errorf("the cancelled job is %s", c.State)
	}
	if g := b.s.Jobs.Get("g"); !g.Requeue {
		t.Errorf("the gang is not put back: %+v", g)
	}
}
