package scheduler_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/scheduler"
)

// ladder is a pool of two sizes, 4 and 8 cpus, first as Spot and then as regular.
func ladder(s *pool.Spec) {
	s.Sizes, s.Capacity = []string{"Standard_D4s_v5", "Standard_D8s_v5"}, "spot-then-regular"
}

// asks lists what a step asks of the sets.
func asks(r scheduler.Result) map[string]int {
	out := map[string]int{}
	for name, c := range r.Effects.Sets {
		if c.Grow > 0 {
			out[name] = c.Grow
		}
	}
	return out
}

func want(t *testing.T, what string, got map[string]int, want string) {
	t.Helper()
	if g := strings.TrimPrefix(fmt.Sprint(got), "map"); g != "["+want+"]" {
		t.Errorf("%s: asked for %s, want [%s]", what, g, want)
	}
}

// up brings a node of a set up.
func (b *bench) up(set, number string) string {
	b.t.Helper()
	vmid, name := "vm-"+set+number, pool.SetName("p", set)+"_"+number
	cpus := 4
	if strings.HasPrefix(set, "d8") {
		cpus = 8
	}
	b.step(
		pool.Reported{
			At: b.now,
			Report: protocol.Report{
				Pool:  "p",
				VMID:  vmid,
				Items: []protocol.ReportItem{{Ready: &protocol.Ready{Name: name, CPUs: cpus, Boot: "1"}}},
			},
		},
	)
	return vmid
}

func TestLadderGoesDownAndRemembers(t *testing.T) {
	t.Parallel()
	b := newBench(t, ladder)
	refuse := func(set string, code fault.Code) map[string]int {
		return asks(b.step(pool.Answered{Set: set, Kind: pool.OpGrow, Err: fault.New(code, "", "none of %s", set)}))
	}
	want(t, "the best rung", asks(b.step(submission("1", nil))), "d4s-v5-spot:1")
	want(t, "no capacity", refuse("d4s-v5-spot", fault.NoCapacity), "d8s-v5-spot:1")
	want(t, "no quota", refuse("d8s-v5-spot", fault.NoQuota), "d4s-v5:1")
	if e := b.explain("1"); !strings.Contains(e.Reason, "on its way") {
		t.Errorf("got %q", e.Reason)
	}
	want(t, "no more", refuse("d4s-v5", fault.NoCapacity), "d8s-v5:1")
	want(t, "nothing", refuse("d8s-v5", fault.NoCapacity), "")
	if e := b.explain("1"); !strings.Contains(
		e.Reason,
		"Standard_D4s_v5 (Spot): none of d4s-v5-spot; Standard_D8s_v5 (Spot): none of d8s-v5-spot; Standard_D4s_v5: none of d4s-v5",
	) {
		t.Errorf("got %q", e.Reason)
	}
	b.now = b.now.Add(11 * time.Minute)
	want(t, "after a while", asks(b.step(pool.Tick{})), "d4s-v5-spot:1")
}

// An operation that was accepted may have made something before it failed, so the
// next rung waits for a list.
func TestLadderWaitsForWhatMayHaveCome(t *testing.T) {
	t.Parallel()
	b := newBench(t, ladder)
	b.step(submission("1", func(s *job.Spec) { s.Nodes, s.Resources.CPUs = 3, 4 }))
	b.step(pool.Answered{Set: "d4s-v5-spot", Kind: pool.OpGrow, Token: "t"})
	want(t, "failed", asks(b.step(pool.Answered{Set: "d4s-v5-spot", Kind: pool.OpGrow, Err: fault.New(fault.NoCapacity, "", "x")})), "")
	b.now = b.now.Add(b.timing.MissingFor)
	one := pool.Instance{VMID: "vm-d4s-v5-spot0", ID: "0", Name: pool.SetName("p", "d4s-v5-spot") + "_0", Provisioning: "Creating"}
	want(
		t, "one has come",
		asks(b.step(pool.Listed{Set: "d4s-v5-spot", Exists: true, Capacity: 3, Instances: []pool.Instance{one}})),
		"d8s-v5-spot:2",
	)
}

// What quota allows in part is taken in part, and the rest is asked of the next rung.
func TestQuotaInPart(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(s *pool.Spec) { s.Sizes = []string{"Standard_D4s_v5", "Standard_D8s_v5"} })
	var jobs []pool.Event
	for i := range 4 {
		jobs = append(jobs, submission(fmt.Sprint(i), func(s *job.Spec) { s.Resources.CPUs = 4 }))
	}
	want(t, "all", asks(b.step(jobs...)), "d4s-v5:4")
	want(
		t, "half", asks(b.step(pool.Answered{Set: "d4s-v5", Kind: pool.OpGrow, Err: fault.New(fault.NoQuota, "", "x")})),
		"d4s-v5:2 d8s-v5:1",
	)
	want(t, "given", asks(b.step(pool.Answered{Set: "d4s-v5", Kind: pool.OpGrow}, pool.Answered{Set: "d8s-v5", Kind: pool.OpGrow})), "")
	b.now = b.now.Add(time.Minute)
	want(t, "one more", asks(b.step(submission("5", func(s *job.Spec) { s.Resources.CPUs = 4 }))), "d8s-v5:2")
}

// Where the refusal says what is left, exactly that is asked for.
func TestQuotaThatIsKnown(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		left int
		asks string
	}{
		{"most", 3, "d4s-v5:3 d8s-v5:1"},
		{"one", 1, "d4s-v5:1 d8s-v5:2"},
		{"none", 0, "d8s-v5:2"},
		{"more than was refused", 9, "d4s-v5:2 d8s-v5:1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, func(s *pool.Spec) { s.Sizes = []string{"Standard_D4s_v5", "Standard_D8s_v5"} })
			var jobs []pool.Event
			for i := range 4 {
				jobs = append(jobs, submission(fmt.Sprint(i), func(s *job.Spec) { s.Resources.CPUs = 4 }))
			}
			want(t, "all", asks(b.step(jobs...)), "d4s-v5:4")
			refusal := &fault.Error{Code: fault.NoQuota, Message: "x", Left: &c.left}
			want(t, "what is left", asks(b.step(pool.Answered{Set: "d4s-v5", Kind: pool.OpGrow, Err: refusal})), c.asks)
		})
	}
}

func TestJobsForTheSizeThatFits(t *testing.T) {
	t.Parallel()
	b := newBench(t, ladder)
	want(t, "wide", asks(b.step(submission("1", func(s *job.Spec) { s.Resources.CPUs = 6 }))), "d8s-v5-spot:1")
	r := b.step(submission("2", func(s *job.Spec) { s.Resources.CPUs = 9 }))
	if len(r.Refused) != 1 || !strings.Contains(r.Refused[0].Err.Message, "(Standard_D8s_v5) has 8") {
		t.Errorf("got %+v", r.Refused)
	}
}

// A job that was evicted again and again goes to regular nodes.
func TestEvictedJobsGoToRegularNodes(t *testing.T) {
	t.Parallel()
	b := newBench(t, ladder)
	b.step(submission("1", nil))
	b.step(pool.Answered{Set: "d4s-v5-spot", Kind: pool.OpGrow})
	for i := range 3 {
		vmid := b.up("d4s-v5-spot", fmt.Sprint(i))
		if got := b.s.Jobs.Get("1").VMID; got != vmid {
			t.Fatalf("eviction %d: it is on %q", i, got)
		}
		b.end("1", job.AttemptEvicted, job.ExitEvicted)
		if b.s.Jobs.Get("1").VMID == vmid && i < 2 { // it came back at once; the node is not really gone
			b.end("1", job.AttemptEvicted, job.ExitEvicted)
			break
		}
	}
	for b.s.Jobs.Get("1").VMID != "" {
		b.end("1", job.AttemptEvicted, job.ExitEvicted)
	}
	if op := b.s.Head.Sets[2].Op; op.Kind != pool.OpGrow || op.Target != 1 {
		t.Errorf("no regular node is asked for: %+v", b.s.Head.Sets)
	}
	vmid := b.up("d4s-v5", "0")
	if got := b.s.Jobs.Get("1").VMID; got != vmid {
		t.Errorf("it is on %q, want the regular node", got)
	}
}

// A full pool of nodes that are too small for the next job replaces them.
func TestSmallNodesMakeRoom(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(s *pool.Spec) {
		s.Sizes, s.Nodes.Max = []string{"Standard_D4s_v5", "Standard_D8s_v5"}, 1
	})
	b.step(submission("1", nil))
	b.step(pool.Answered{Set: "d4s-v5", Kind: pool.OpGrow})
	small := b.up("d4s-v5", "0")
	b.step(
		pool.Listed{
			Set:       "d4s-v5",
			Exists:    true,
			Capacity:  1,
			Instances: []pool.Instance{{VMID: small, ID: "0", Name: b.s.Nodes[small].Name, Provisioning: "Succeeded", Power: "running"}},
		},
	)
	b.step(submission("2", func(s *job.Spec) { s.Resources.CPUs = 8 }), submission("3", nil))
	if b.s.Jobs.Get("3").VMID != "" {
		t.Error("a job after it is put on the node that is to go")
	}
	r := b.finish("1")
	if n := b.s.Nodes[small]; n.State != pool.NodeDeleting {
		t.Fatalf("the small node is %s", n.State)
	}
	want(t, "instead of it", asks(r), "d8s-v5:1")
}

// A size that the spec no longer names runs empty and goes, and its set with it.
func TestSizesThatAreTakenAway(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(s *pool.Spec) { s.Sizes = []string{"Standard_D4s_v5"} })
	b.step(submission("1", nil))
	b.step(pool.Answered{Set: "d4s-v5", Kind: pool.OpGrow})
	old := b.up("d4s-v5", "0")
	list := pool.Listed{
		Set:       "d4s-v5",
		Exists:    true,
		Capacity:  1,
		Instances: []pool.Instance{{VMID: old, ID: "0", Name: b.s.Nodes[old].Name, Provisioning: "Succeeded", Power: "running"}},
	}
	b.step(list)
	s := spec()
	s.Sizes = []string{"Standard_D8s_v5"}
	b.step(pool.Apply{Spec: s})
	if n := b.s.Nodes[old]; n.State != pool.NodeDraining {
		t.Fatalf("the busy node of the old size is %s", n.State)
	}
	want(t, "a new job", asks(b.step(submission("2", nil))), "d8s-v5:1")
	b.finish("1")
	b.now = b.now.Add(b.timing.MissingFor) // no list is older than the node
	b.step(pool.Tick{})
	r := b.step(pool.Listed{Set: "d4s-v5", Exists: true})
	if c := r.Effects.Sets["d4s-v5"]; c == nil || !c.Drop {
		t.Fatalf("the old set is not deleted: %+v", b.s.Head.Sets)
	}
	b.step(pool.Answered{Set: "d4s-v5", Kind: pool.OpDrop})
	if len(b.s.Head.Sets) != 1 || b.s.Head.Sets[0].Name != "d8s-v5" {
		t.Errorf("left: %+v", b.s.Head.Sets)
	}
}

// Without packing, too, a node that is on its way and too small for a job is not awaited for it.
func TestSmallNodeIsNotAwaitedForALargeJob(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(s *pool.Spec) { s.Sizes, s.Pack = []string{"Standard_D4s_v5", "Standard_D8s_v5"}, false })
	want(t, "the small one", asks(b.step(wide("1"))), "d4s-v5:1")
	large := submission("2", func(s *job.Spec) { s.Resources.CPUs = 8 })
	want(t, "the large one", asks(b.step(large)), "d8s-v5:1")
	if e := b.explain("2"); !strings.Contains(e.Reason, "on its way") {
		t.Errorf("got %q", e.Reason)
	}
}
