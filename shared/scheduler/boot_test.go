package scheduler_test

import (
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/scheduler"
)

// reports brings a report of a node.
func (b *bench) reports(vmid string, items ...protocol.ReportItem) scheduler.Result {
	b.t.Helper()
	return b.step(pool.Reported{At: b.now, Report: protocol.Report{Pool: "p", VMID: vmid, Items: items}})
}

// ready brings a node up whose agent has these features.
func (b *bench) ready(vmid, boot string, features ...string) {
	b.t.Helper()
	b.reports(vmid, protocol.ReportItem{Ready: &protocol.Ready{Name: vmid, CPUs: 4, Boot: boot, Features: features}})
}

// secret is a job that names a secret.
func secret(order string) pool.Submit {
	return submission(order, func(s *job.Spec) { s.Secrets = map[string]string{"A": "keyvault:vault/a"} })
}

func TestFeaturesDecideWhereWorkGoes(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.ready("old", "1")
	r := b.step(secret("s"))
	if len(assigned(r)) > 0 || grown(r) > 0 {
		t.Errorf("given to %v, grown to %d: its nodes run an older agent, and so would another", assigned(r), grown(r))
	}
	e, _ := scheduler.Explain(b.s, "s", b.now, b.timing)
	if want := "it waits for a node with `secrets`; the nodes of pool \"p\" run an older agent"; e.Reason != want {
		t.Errorf("got %q, want %q", e.Reason, want)
	}
	b.step(submission("r", func(s *job.Spec) { s.Command, s.Script = nil, "#!/usr/bin/env Rscript\n1" }))
	if e, _ := scheduler.Explain(b.s, "r", b.now, b.timing); !strings.Contains(e.Reason, "a node with `script`") {
		t.Errorf("a script of another interpreter: got %q", e.Reason)
	}
	b.step(pool.Cancel{Order: "r"})
	if r = b.step(submission("plain", nil)); assigned(r)["plain"] == 0 {
		t.Error("what needs no feature is not given to an older agent")
	}
	// Another model is wanted: with it comes another agent, perhaps.
	if r = b.models("old", "new"); grown(r) == 0 {
		t.Error("no node of the new model is asked for")
	}
	b.now = b.now.Add(time.Minute)
	b.ready("new", "1", protocol.Features()...)
	j := b.s.Jobs.Get("s")
	if j.VMID != "new" {
		t.Errorf("it is %s on %q, want it on the new node", j.State, j.VMID)
	}
}

func TestAnAssignmentThatAnAgentDoesNotKnowIsTriedElsewhere(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.node("a")
	b.step(submission("1", nil))
	b.step(pool.Reported{At: b.now, Report: protocol.Report{Pool: "p", VMID: "a", Seen: 1, Items: []protocol.ReportItem{{Finished: &protocol.Finished{
		N: 1, State: string(job.AttemptStartFailed), ExitCode: job.ExitStartFailed, Cause: job.CauseRelease, Reason: "older", EndedAt: b.now}}}}})
	if j := b.s.Jobs.Get("1"); j == nil || j.Retries != 0 || j.VMID == "a" {
		t.Errorf("got %+v, want it in line again without a retry", j)
	}
}

func TestStagesOfABoot(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.step(wide("1"))
	share := protocol.Booting{Stage: protocol.StageShare, Reason: "it is not mounted", Boot: "1", Name: "a"}
	b.reports("a", protocol.ReportItem{Booting: &share})
	b.list()
	n := b.s.Nodes["a"]
	if n == nil || n.State != pool.NodeBooting || scheduler.StageText(n.Stage, n.StageWhy) != "waits for the share: it is not mounted" {
		t.Fatalf("got %+v", n)
	}
	// What the node waits for is why the pool and the job wait, and perhaps somebody has to do something.
	ofJob, _ := scheduler.Explain(b.s, b.s.Jobs.Get("1").Order, b.now, b.timing)
	for about, e := range map[string]scheduler.Explanation{"pool": scheduler.ExplainPool(b.s, b.now, b.timing), "job": ofJob} {
		if !strings.Contains(e.Reason, "node a waits for the share: it is not mounted") || strings.Contains(e.Unblocks, "nothing has to be done") {
			t.Errorf("%s: got %q, which waits for %q", about, e.Reason, e.Unblocks)
		}
	}
	b.ready("a", "1")
	if n.State != pool.NodeBusy || n.Stage != "" {
		t.Errorf("ready: got %s, stage %q", n.State, n.Stage)
	}
	b.reports("a", protocol.ReportItem{Booting: &share}) // late, and of the same start
	if n.Stage != "" {
		t.Errorf("a late report takes it out of use: stage %q", n.Stage)
	}
	// Its agent starts again and waits: nothing is given to it meanwhile.
	b.now = b.now.Add(time.Second)
	share.Boot = "2"
	b.reports("a", protocol.ReportItem{Booting: &share})
	if r := b.step(submission("2", func(s *job.Spec) { s.Priority = job.High })); len(assigned(r)) > 0 {
		t.Errorf("given to a node that waits for the share: %v", assigned(r))
	}
}

func TestAFailedStageIsTheNodesFailure(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.step(wide("1"))
	for i, vmid := range []string{"a", "b", "c"} {
		b.reports(vmid, protocol.ReportItem{Booting: &protocol.Booting{Stage: protocol.StageSetup, Reason: "pip: not found", Failed: true, Boot: "1", Name: vmid}})
		if n := b.s.Nodes[vmid]; n.State != pool.NodeFailed || !strings.Contains(n.Reason, "it failed while it runs its setup: pip: not found") {
			t.Errorf("%s is %s: %s", vmid, n.State, n.Reason)
		}
		if open := b.set("").Breaker.Open(); open != (i == 2) {
			t.Errorf("after %d: the breaker is open: %v", i+1, open)
		}
	}
	if e := scheduler.ExplainPool(b.s, b.now, b.timing); !strings.Contains(e.Reason, "pip: not found") {
		t.Errorf("explain does not say why: %s", e.Reason)
	}
}

func TestTheDeadlineOfABootNamesItsStage(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.step(wide("1"))
	b.reports("a", protocol.ReportItem{Booting: &protocol.Booting{Stage: protocol.StageShare, Reason: "it is not mounted", Boot: "1", Name: "a"}})
	b.now = b.now.Add(b.timing.BootDeadline + time.Second)
	b.step(pool.Tick{At: b.now})
	if n := b.s.Nodes["a"]; n.State != pool.NodeFailed || !strings.Contains(n.Reason, "30m of its being asked for it still waits for the share: it is not mounted") {
		t.Errorf("got %s: %s", n.State, n.Reason)
	}
}

func TestAnAgentOfForeignVersionsIsNotSpokenTo(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.step(wide("1"))
	b.reports("a", protocol.ReportItem{Ready: &protocol.Ready{Name: "a", CPUs: 4, Boot: "1", Versions: []int{7, 8}}})
	if n := b.s.Nodes["a"]; n.State != pool.NodeFailed || !strings.Contains(n.Reason, "versions 7, 8") || b.s.Jobs.Get("1").VMID != "" {
		t.Errorf("got %s: %s", n.State, n.Reason)
	}
	b.reports("b", protocol.ReportItem{Ready: &protocol.Ready{Name: "b", CPUs: 4, Boot: "1", Versions: []int{1, 2}}})
	if n := b.s.Nodes["b"]; n.Protocol != 1 || n.JobCount() != 1 {
		t.Errorf("got version %d and %d jobs", n.Protocol, n.JobCount())
	}
}

// A node that worked, boots again and waits for the share for ever is given up.
func TestANodeThatBootsAgainAndStaysThereIsGivenUp(t *testing.T) {
	t.Parallel()
	for _, jobs := range []int{0, 1} {
		b := newBench(t, func(s *pool.Spec) { s.Nodes.Min = 1 })
		if jobs > 0 {
			b.step(wide("1"))
		}
		b.ready("a", "1")
		b.list()
		share := protocol.Booting{Stage: protocol.StageShare, Reason: "it is not mounted", Boot: "2", Name: "a"}
		for range 3 {
			b.now = b.now.Add(b.timing.BootDeadline / 3)
			b.reports("a", protocol.ReportItem{Booting: &share})
		}
		n := b.s.Nodes["a"]
		if n.State == pool.NodeFailed || n.JobCount() != jobs {
			t.Fatalf("too early: %s with %d jobs", n.State, n.JobCount())
		}
		b.now = b.now.Add(b.timing.BootDeadline/3 + time.Minute)
		r := b.reports("a", protocol.ReportItem{Booting: &share})
		if n.State != pool.NodeFailed || len(r.Effects.Remove) != 1 || !strings.Contains(n.Reason, "it still waits for the share: it is not mounted") {
			t.Errorf("with %d jobs: %s: %s, deleted %v", jobs, n.State, n.Reason, r.Effects.Remove)
		}
	}
}

// Where the share is away for all, those with jobs stay.
func TestNodesThatAllWaitForTheShareKeepTheirJobs(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	all := []string{"a", "b"}
	for i, vmid := range all {
		b.ready(vmid, "1")
		b.step(wide(string(rune('1' + i))))
	}
	b.list()
	for range 4 {
		for _, vmid := range all {
			b.reports(vmid, protocol.ReportItem{Booting: &protocol.Booting{Stage: protocol.StageShare, Boot: "2", Name: vmid}})
		}
		b.now = b.now.Add(b.timing.BootDeadline)
	}
	for _, vmid := range all {
		if n := b.s.Nodes[vmid]; n.State != pool.NodeBusy {
			t.Errorf("%s is %s: %s", vmid, n.State, n.Reason)
		}
	}
}

// An agent that waits in a stage does not show that nodes come up.
func TestAnEvictionInABootDoesNotCloseTheBreaker(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.step(wide("1"))
	b.reports("a", protocol.ReportItem{Booting: &protocol.Booting{Stage: protocol.StageShare, Boot: "1", Name: "a"}})
	b.s.Head.Sets[0].Breaker = pool.Breaker{Bad: 3, OpenedAt: b.now, ProbeAt: b.now.Add(time.Hour)}
	b.reports("a", protocol.ReportItem{Leaving: &protocol.Leaving{Reason: "evicted"}})
	if !b.set("").Breaker.Open() {
		t.Error("the breaker is closed")
	}
}

// A node that works and starts again with an agent that cannot be spoken to gets no more work.
func TestAWorkingNodeWithForeignVersionsLeaves(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.node("a")
	b.now = b.now.Add(time.Second)
	b.reports("a", protocol.ReportItem{Ready: &protocol.Ready{Name: "a", CPUs: 4, Boot: "2", Versions: []int{7}}})
	if r := b.step(wide("1")); len(assigned(r)) > 0 || b.s.Nodes["a"].State != pool.NodeFailed {
		t.Errorf("given %v, it is %s", assigned(r), b.s.Nodes["a"].State)
	}
}

// An idle node that boots again and waits gets nothing, and what it lists does not bring it up.
func TestANodeInAStageTakesNoWork(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.ready("idle", "1")
	b.now = b.now.Add(time.Second)
	b.reports("idle", protocol.ReportItem{Booting: &protocol.Booting{Stage: protocol.StageShare, Boot: "2", Name: "idle"}})
	b.reports("coming", protocol.ReportItem{Booting: &protocol.Booting{Stage: protocol.StageShare, Boot: "1", Name: "coming"}})
	b.reports("coming", protocol.ReportItem{Holds: &protocol.Holds{}})
	if n := b.s.Nodes["coming"]; n.State != pool.NodeBooting {
		t.Errorf("a node that waits for the share is %s", n.State)
	}
	if r := b.step(submission("1", nil)); len(assigned(r)) > 0 {
		t.Errorf("given to nodes that wait for the share: %v", assigned(r))
	}
}
