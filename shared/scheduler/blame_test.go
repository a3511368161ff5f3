package scheduler_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/scheduler"
)

// nodeCauses are all that a node owns, jobCauses the others, and what an agent of
// another release says.
var (
	nodeCauses = []job.Cause{
		job.CauseScratch,
		job.CauseShare,
		job.CauseDisk,
		job.CauseGPU,
		job.CauseJournalLost,
		job.CauseNoProcess,
		job.CauseVault,
		job.CauseLeftover,
	}
	jobCauses = []job.Cause{
		job.CauseNoProgram,
		job.CauseNotExecutable,
		job.CauseNoWorkdir,
		job.CauseScript,
		job.CauseSource,
		job.CauseSecret,
		job.CauseDocument,
		"",
		"unheardOf",
	}
)

// endedJob is the row of a job that ended in a step.
func endedJob(r scheduler.Result) *pool.Job {
	for _, c := range r.Changes {
		if j, ok := c.Value.(*pool.Job); ok && j.State.Final() {
			return j
		}
	}
	return nil
}

// full makes a job take a node for itself.
func full(s *job.Spec) { s.Resources.CPUs = 4 }

// startFails has the attempt of a job fail to start.
func (b *bench) startFails(order string, cause job.Cause) scheduler.Result {
	b.t.Helper()
	return b.endBy(order, job.AttemptStartFailed, job.ExitStartFailed, cause)
}

// restart has agents start again and say what became of their attempts, all in one
// message each, as agents do. The others say it a second later each.
func (b *bench) restart(boot string, vmids ...string) {
	b.t.Helper()
	for _, vmid := range vmids {
		items := []protocol.ReportItem{{Ready: &protocol.Ready{Name: vmid, CPUs: 4, Boot: boot}}}
		for j := range b.s.Jobs.All() {
			if j.VMID == vmid {
				items = append(
					items,
					protocol.ReportItem{
						Finished: &protocol.Finished{
							N:         j.N,
							State:     string(job.AttemptAgentRestarted),
							ExitCode:  job.ExitAgentRestarted,
							StartedAt: b.now,
							EndedAt:   b.now,
						},
					},
				)
			}
		}
		b.step(pool.Reported{At: b.now, Report: protocol.Report{Pool: "p", VMID: vmid, Seen: b.s.Head.N, Items: items}})
		b.now = b.now.Add(time.Second)
	}
}

func (b *bench) states(want map[string]pool.NodeState) {
	b.t.Helper()
	for vmid, state := range want {
		if n := b.s.Nodes[vmid]; n.State != state {
			b.t.Errorf("node %s: got %s (%s), want %s", vmid, n.State, n.Reason, state)
		}
	}
}

// Forty jobs of a misspelt program end, on sound nodes, and the job of another team
// runs.
func TestFortyMisspeltJobs(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(s *pool.Spec) { s.Nodes.Max = 3 })
	for i := range 3 {
		b.node(fmt.Sprint("n", i))
	}
	var events []pool.Event
	for i := range 40 {
		events = append(events, of("a", order(i), func(s *job.Spec) { s.Command = []string{"pyhton3", "train.py"} }))
	}
	b.settle(append(events, of("b", order(99), full))...)
	failed := 0
	for range 100 {
		for i := range 40 {
			if j := b.s.Jobs.Get(order(i)); j != nil && j.VMID != "" {
				if e := endedJob(b.startFails(order(i), job.CauseNoProgram)); e == nil || e.State != job.Failed ||
					e.ExitCode != job.ExitStartFailed {
					t.Fatalf("job %d: got %+v", i, e)
				}
				failed++
			}
		}
	}
	if failed != 40 {
		t.Errorf("%d jobs have failed, want all 40", failed)
	}
	if j := b.s.Jobs.Get(order(99)); j == nil || j.VMID == "" {
		t.Errorf("the other team's job does not run: %+v", b.explain(order(99)))
	}
	for _, n := range b.s.Nodes {
		if n.Breaks != 0 || n.State != pool.NodeReady && n.State != pool.NodeBusy {
			t.Errorf("node %s is %s with %d breaks: %s", n.VMID, n.State, n.Breaks, n.Reason)
		}
	}
}

func TestJobsCauseEndsTheJobAndNotTheNode(t *testing.T) {
	t.Parallel()
	for _, cause := range jobCauses {
		b := newBench(t, func(s *pool.Spec) { s.Nodes.Max = 1 })
		b.node("n1")
		for i := range 5 {
			b.step(submission(fmt.Sprint(i), nil))
			if e := endedJob(b.startFails(fmt.Sprint(i), cause)); e == nil || e.State != job.Failed || e.Attempts[0].Cause != cause {
				t.Fatalf("cause %q: got %+v", cause, e)
			}
		}
		// One with retries spends them, and all on this node.
		b.step(submission("nope", func(s *job.Spec) { s.Retry = job.Retry{Max: 3} }))
		for i := range 4 {
			e := endedJob(b.startFails("nope", cause))
			if (e != nil) != (i == 3) || e != nil && (e.State != job.Failed || e.Retries != 3) {
				t.Fatalf("cause %q, attempt %d: got %+v", cause, i+1, e)
			}
			b.step(pool.Tick{})
		}
		if n := b.s.Nodes["n1"]; n.State != pool.NodeReady || n.Breaks != 0 {
			t.Errorf("cause %q: the node is %s with %d breaks", cause, n.State, n.Breaks)
		}
	}
}

// A node that cannot make a scratch directory fails nobody for good: three jobs that
// allow no retry run on another node, and the node is kept for a look.
func TestNodesCauseSendsTheJobElsewhere(t *testing.T) {
	t.Parallel()
	for _, cause := range nodeCauses {
		b := newBench(t, func(s *pool.Spec) { s.Nodes.Max = 2 })
		b.node("bad")
		for i := range 3 {
			b.step(submission(order(i), nil))
		}
		for i := range 3 {
			r := b.startFails(order(i), cause)
			if j := b.s.Jobs.Get(order(i)); j == nil || j.State != job.Queued || j.Retries != 0 || j.VMID != "" {
				t.Fatalf("cause %s, job %d: %+v", cause, i, j)
			}
			if i == 0 && grown(r) != 2 {
				t.Errorf("cause %s: asked for %d nodes in all, want another", cause, grown(r))
			}
		}
		want := 3
		if cause == job.CauseJournalLost {
			want = 1 // all of it at one start of the agent
		}
		n := b.s.Nodes["bad"]
		if n.Breaks != want || n.State != pool.NodeReady {
			t.Errorf("cause %s: the only node is %s with %d breaks, want %d; it stays while work waits", cause, n.State, n.Breaks, want)
		}
		if e := b.explain(order(0)); !strings.Contains(e.Reason, "on its way") ||
			!strings.Contains(e.Reason, "node bad has room, but could not start it") {
			t.Errorf("cause %s: %s", cause, e.Reason)
		}
		b.node("good")
		for i := range 3 {
			if j := b.s.Jobs.Get(order(i)); j.VMID != "good" {
				t.Errorf("cause %s, job %d is on %q", cause, i, j.VMID)
			}
		}
		if want == 3 {
			b.states(map[string]pool.NodeState{"bad": pool.NodeQuarantined})
			if !strings.Contains(n.Reason, "failed 3 different jobs in a row") || !strings.Contains(n.Reason, string(cause)) ||
				!n.QuarantinedUntil().Equal(b.now.Add(time.Hour)) {
				t.Errorf("cause %s: %s", cause, n.Reason)
			}
		}
		for i := range 3 {
			if e := endedJob(b.finish(order(i))); e == nil || e.State != job.Succeeded || e.Retries != 0 {
				t.Errorf("cause %s, job %d: %+v", cause, i, e)
			}
		}
	}
}

// On a pool of one node the job goes back there after a pause that doubles, and is
// held in the end; somebody may release it.
func TestNodesCauseOnThePoolsOnlyNode(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(s *pool.Spec) { s.Nodes.Max = 1 })
	b.node("n1")
	b.step(submission("1", nil))
	j := b.s.Jobs.Get("1")
	for _, pause := range []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute} {
		b.startFails("1", job.CauseShare)
		if j.State != job.Held || !j.NotBefore.Equal(b.now.Add(pause)) {
			t.Fatalf("got %s until %s, want a pause of %s", j.State, j.NotBefore, pause)
		}
		b.now = b.now.Add(pause)
		b.list()
		if b.step(pool.Tick{}); j.VMID != "n1" {
			t.Fatalf("after a pause of %s: %+v", pause, b.explain("1"))
		}
	}
	b.startFails("1", job.CauseShare)
	if e := b.explain("1"); j.State != job.Held || !strings.Contains(e.Reason, "4 attempts in a row came to nothing") ||
		!strings.Contains(e.Reason, "n1 as startFailed (share)") ||
		!strings.Contains(e.Reason, "dsvm job release 1") {
		t.Fatalf("got %s: %s", j.State, e.Reason)
	}
	if n := b.s.Nodes["n1"]; n.Breaks != 1 {
		t.Errorf("one job has broken the node %d times", n.Breaks)
	}
	b.step(pool.Release{Order: "1"})
	if j.VMID != "n1" || j.Retries != 0 {
		t.Errorf("released: got %s, %d retries", j.State, j.Retries)
	}
}

// A job does not wait for ever beside an idle node that failed it once, and not at
// all once that node has done well.
func TestShunningEnds(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		do func(b *bench)
	}{
		"after a time":            {func(b *bench) { b.now = b.now.Add(10 * time.Minute); b.list(); b.step(pool.Tick{}) }},
		"when the node does well": {func(b *bench) { b.step(submission("2", nil)); b.finish("2") }},
		"when it is released":     {func(b *bench) { b.step(pool.NodeRequest{VMID: "n1", Verb: pool.VerbRelease}) }},
		"when others are gone":    {func(b *bench) { b.step(pool.NodeRequest{VMID: "n2", Verb: pool.VerbDrain}) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, func(s *pool.Spec) { s.Nodes = pool.Range{Min: 2, Max: 2} })
			b.node("n2")
			b.step(submission("long", full))
			b.node("n1")
			b.step(submission("1", nil))
			b.startFails("1", job.CauseDisk)
			j := b.s.Jobs.Get("1")
			if j.VMID != "" || j.State != job.Queued {
				t.Fatalf("it is %s on %q", j.State, j.VMID)
			}
			b.now = b.now.Add(5 * time.Second)
			if b.step(pool.Tick{}); j.VMID != "" {
				t.Fatal("it goes back to the node that failed it")
			}
			if tt.do(b); j.VMID != "n1" {
				t.Errorf("it is %s: %+v", j.State, b.explain("1"))
			}
		})
	}
}

// A gang whose rank cannot be started stays away from that node and no other.
func TestGangOfANodesCause(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(s *pool.Spec) { s.Nodes.Max = 3 })
	b.node("n1")
	b.node("n2")
	b.step(submission("g", func(s *job.Spec) { s.Nodes, s.Resources.CPUs = 2, 4 }))
	j := b.s.Jobs.Get("g")
	bad := j.Attempts[0].Ranks[1]
	say := func(r job.Rank, state string, code int, cause job.Cause) {
		b.step(pool.Reported{At: b.now, Report: protocol.Report{Pool: "p", VMID: r.VMID, Seen: b.s.Head.N, Items: []protocol.ReportItem{
			{Finished: &protocol.Finished{N: r.N, State: state, ExitCode: code, Cause: cause, EndedAt: b.now}}}}})
	}
	say(bad, "startFailed", job.ExitStartFailed, job.CauseScratch)
	say(j.Attempts[0].Ranks[0], "cancelled", job.ExitCancelled, "")
	if j.State != job.Queued || j.Retries != 0 || j.Attempts[0].Cause != job.CauseScratch || j.VMID != "" {
		t.Fatalf("got %+v", j)
	}
	if b.s.Nodes[bad.VMID].Breaks != 1 || b.s.Nodes[j.Attempts[0].Ranks[0].VMID].Breaks != 0 {
		t.Error("the wrong node is blamed")
	}
	b.node("n3")
	if on := j.On(); len(on) != 2 || slices.Contains(on, bad.VMID) {
		t.Errorf("it runs on %v, want two without %s", on, bad.VMID)
	}
}

func TestOneGoodAttemptClearsANode(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(s *pool.Spec) { s.Nodes.Max = 2 })
	b.node("n1")
	for i, cause := range []job.Cause{job.CauseDisk, job.CauseDisk, "", job.CauseDisk, job.CauseDisk} {
		b.step(submission(fmt.Sprint(i), nil))
		if cause == "" {
			b.finish(fmt.Sprint(i))
			continue
		}
		b.startFails(fmt.Sprint(i), cause)
		b.step(pool.Cancel{Order: fmt.Sprint(i), Reason: "no more"})
	}
	if n := b.s.Nodes["n1"]; n.State != pool.NodeReady || n.Breaks != 2 {
		t.Errorf("got %s with %d in a row", n.State, n.Breaks)
	}
}

// A process that loads the pool knows what stands against a node, and rows of
// before, which know the number only, are no trouble.
func TestBlamesAreLoaded(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(s *pool.Spec) { s.Nodes.Max = 2 })
	b.node("n1")
	for i := range 2 {
		b.step(submission(order(i), nil))
		b.startFails(order(i), job.CauseDisk)
		b.step(pool.Cancel{Order: order(i), Reason: "no more"})
	}
	load := func(change func(*pool.Node)) {
		row, _ := json.Marshal(b.s.Nodes["n1"])
		n := &pool.Node{}
		read(t, row, n)
		change(n)
		b.s = scheduler.NewState(b.s.Head, []*pool.Node{n}, nil, b.now)
		b.step(submission(order(7), nil))
		b.startFails(order(7), job.CauseDisk)
		b.step(pool.Cancel{Order: order(7), Reason: "no more"})
	}
	load(func(*pool.Node) {})
	b.states(map[string]pool.NodeState{"n1": pool.NodeQuarantined})
	b.step(pool.NodeRequest{VMID: "n1", Verb: pool.VerbRelease})
	load(func(n *pool.Node) { n.Breaks, n.Blames = 3, nil })
	if n := b.s.Nodes["n1"]; n.State == pool.NodeBusy {
		t.Errorf("got %s with %d breaks", n.State, n.Breaks)
	}
}

// What an agent calls a cause is kept as a word, whatever it sends.
func TestLongCausesAreCut(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.node("n1")
	b.step(submission("1", nil))
	e := endedJob(b.startFails("1", job.Cause(strings.Repeat("é", 50_000))))
	if got := e.Attempts[0].Cause; len(got) > 40 || !strings.HasPrefix(string(got), "éé") {
		t.Errorf("%d bytes are kept", len(got))
	}
}
