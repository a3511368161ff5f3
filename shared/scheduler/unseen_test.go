package scheduler_test

import (
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/scheduler"
)

// A call for nodes writes a capacity. If a node had left before it and the pool had not
// noticed, Azure makes one more than the pool has asked for. So when the pool notices, no
// other rung is asked for the place of that node before a list of after the call is there.
func TestCallThatReplacesANode(t *testing.T) {
	t.Parallel()
	const small, large = "d4s-v5", "d8s-v5"
	instance := func(number string) pool.Instance {
		return pool.Instance{
			VMID: "vm-" + small + number, ID: number, Name: pool.SetName("p", small) + "_" + number,
			Provisioning: "Succeeded", Power: "running",
		}
	}
	list := func(capacity int, numbers ...string) pool.Listed {
		l := pool.Listed{Set: small, Exists: true, Capacity: capacity}
		for _, n := range numbers {
			l.Instances = append(l.Instances, instance(n))
		}
		return l
	}
	refused := pool.Answered{Set: small, Kind: pool.OpGrow, Err: fault.New(fault.NoCapacity, "", "none")}
	for name, answer := range map[string]func(*bench) scheduler.Result{
		"granted": func(b *bench) scheduler.Result {
			return b.step(pool.Answered{Set: small, Kind: pool.OpGrow, Target: 2})
		},
		"accepted": func(b *bench) scheduler.Result {
			return b.step(pool.Answered{Set: small, Kind: pool.OpGrow, Target: 2, Token: "t", After: time.Hour})
		},
		"accepted and overtaken": func(b *bench) scheduler.Result {
			b.step(pool.Answered{Set: small, Kind: pool.OpGrow, Target: 2, Token: "t", After: time.Hour})
			return b.step(pool.Answered{Set: small, Kind: pool.OpGrow, Of: "t", Err: fault.New(fault.Preempted, "", "overtaken")})
		},
		"accepted and failed": func(b *bench) scheduler.Result {
			b.step(pool.Answered{Set: small, Kind: pool.OpGrow, Target: 2, Token: "t", After: time.Hour})
			return b.step(pool.Answered{Set: small, Kind: pool.OpGrow, Of: "t", Err: fault.New(fault.NoCapacity, "", "none")})
		},
		"not known": func(b *bench) scheduler.Result {
			return b.step(pool.Answered{Set: small, Kind: pool.OpGrow, Target: 2, Err: fault.New(fault.Internal, "", "no answer")})
		},
		"no answer, and the repeated call is refused": func(b *bench) scheduler.Result {
			b.now = b.now.Add(2 * time.Minute)
			want(t, "once more", asks(b.step(pool.Tick{})), small+":2")
			return b.step(refused)
		},
		"no answer, and another call takes its place": func(b *bench) scheduler.Result {
			b.now = b.now.Add(time.Minute - time.Second)
			return scheduler.Result{}
		},
		"no answer yet": func(*bench) scheduler.Result { return scheduler.Result{} },
	} {
		for made, tt := range map[string]struct {
			list pool.Listed
			asks string
		}{
			"one in its place":  {list(2, "1", "2"), ""},
			"none in its place": {list(1, "1"), large + ":1"},
		} {
			t.Run(name+", "+made, func(t *testing.T) {
				t.Parallel()
				b := newBench(t, func(s *pool.Spec) { s.Sizes, s.Nodes.Max = []string{"Standard_D4s_v5", "Standard_D8s_v5"}, 2 })
				b.step(wide("1"))
				b.step(pool.Answered{Set: small, Kind: pool.OpGrow})
				left := b.up(small, "0")
				b.now = b.now.Add(b.timing.MissingFor)
				b.step(list(1, "0"))
				b.now = b.now.Add(time.Minute)
				want(t, "a second node", asks(b.step(wide("2"))), small+":2")
				r := answer(b) // the first one has left before
				for range 3 {
					if asks(r)[large] > 0 {
						break
					}
					if asks(r)[small] > 0 {
						r = b.step(refused)
						continue
					}
					if n := b.s.Nodes[left]; n.State == pool.NodeBusy {
						b.say(left, leaving())
						r = b.say(left, evicted(b.s.Jobs.Get("1").N))
					}
				}
				want(t, "before a list", asks(r), "")
				r = b.step(list(1, "0"), submission("3", func(s *job.Spec) { s.Resources.CPUs = 8 }))
				want(t, "by a list that may be older than the call", asks(r), "")
				if b.set(small).Op.Kind == "" && !b.now.Before(b.set(small).Blocked.Until) {
					t.Errorf("the first rung is not blocked: %+v", b.set(small))
				}
				b.now = b.now.Add(b.timing.MissingFor)
				if b.set(small).Op.Kind == "" {
					if e := b.explain("2"); !strings.Contains(e.Reason, "when a list shows") && !strings.Contains(e.Reason, "on its way") {
						t.Errorf("explain: %+v", e)
					}
				}
				if r = b.step(tt.list); asks(r)[small] > 0 {
					r = b.step(refused)
				}
				if name == "no answer yet" {
					return // it may still be taken
				}
				want(t, "after it", asks(r), tt.asks)
			})
		}
	}
}

// A node that the pool itself lets leave was there at the call, if it has reported since.
func TestLeavingNodeThatWasHeard(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		heard time.Duration // after the call
		asks  string
	}{
		"since the call": {0, "d8s-v5:1"},
		"before it":      {-time.Second, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, func(s *pool.Spec) { s.Sizes, s.Nodes.Max = []string{"Standard_D4s_v5", "Standard_D8s_v5"}, 1 })
			b.step(wide("1"))
			b.step(pool.Answered{Set: "d4s-v5", Kind: pool.OpGrow})
			small := b.up("d4s-v5", "0")
			b.say(small)
			b.finish("1")
			b.s.Nodes[small].InstanceID = "0"
			b.s.Nodes[small].HeardAt = b.set("d4s-v5").BoundAt.Add(tt.heard)
			want(t, "of another size", asks(b.step(submission("2", func(s *job.Spec) { s.Resources.CPUs = 8 }))), tt.asks)
			if got := b.s.Nodes[small].State; got != pool.NodeDeleting {
				t.Errorf("the small node is %s", got)
			}
		})
	}
}

// The answer to a call that another one has replaced may come late: the call may have been
// taken just before its answer.
func TestLateAnswerToAReplacedCall(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.step(wide("1"))
	b.now = b.now.Add(20 * time.Second)
	want(t, "in its place", asks(b.step(wide("2"))), "d4s-v5:2")
	b.now = b.now.Add(5 * time.Second)
	b.step(pool.Answered{Kind: pool.OpGrow, Target: 1, Token: "late"})
	for _, tt := range []struct {
		after time.Duration
		bound int
	}{{b.timing.MissingFor - time.Second, 1}, {time.Second, 0}} {
		b.now = b.now.Add(tt.after)
		b.step(pool.Listed{Exists: true})
		if got := b.set("").Bound; got != tt.bound {
			t.Errorf("after another %s: got %d, want %d", tt.after, got, tt.bound)
		}
	}
}
