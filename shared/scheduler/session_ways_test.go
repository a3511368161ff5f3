package scheduler_test

import (
	"slices"
	"testing"

	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
)

// The door of a node listens for the ways of its pool beside the relay, if its agent knows
// them, and the pool keeps where.
func TestSessionsHaveTheWaysOfTheirPool(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		features []string
		want     []string
	}{
		{"an agent of an earlier release", []string{protocol.FeatureSession}, nil},
		{"an agent of this release", []string{protocol.FeatureSession, protocol.FeatureWays}, []string{"direct", "balancer"}},
	} {
		b := newBench(t, people(func(s *pool.Spec) { s.Access = []string{"direct", "relay", "balancer"} }))
		b.step(open("01", "ann"))
		r := b.reports("a", protocol.ReportItem{Ready: &protocol.Ready{Name: "a", CPUs: 4, Boot: "1", Features: c.features,
			Listens: &protocol.Listens{Public: "20.1.2.3:443", Inside: "10.1.0.4:443"}}})
		items := append(r.Effects.Work["a"], b.list().Effects.Work["a"]...)
		at := slices.IndexFunc(items, func(i protocol.WorkItem) bool { return i.Assign != nil })
		if at < 0 || !slices.Equal(items[at].Assign.Session.Ways, c.want) {
			t.Errorf("%s: the session is assigned as %+v, want the ways %v", c.name, items, c.want)
		}
		if got := b.s.Nodes["a"].Listens; got.Public != "20.1.2.3:443" || got.Inside != "10.1.0.4:443" {
			t.Errorf("%s: its door listens at %+v", c.name, got)
		}
	}
}

// An agent of an earlier release is given JupyterLab in the place of a hub that it does not know.
func TestSessionsHaveAHubWhereItIsKnown(t *testing.T) {
	t.Parallel()
	for want, features := range map[string][]string{
		protocol.JupyterLab: {protocol.FeatureSession},
		protocol.JupyterHub: {protocol.FeatureHub, protocol.FeatureSession},
	} {
		b := newBench(t, people(func(s *pool.Spec) { s.Sessions.Jupyter = protocol.JupyterHub }))
		b.step(open("01", "ann"))
		r := b.reports("a", protocol.ReportItem{Ready: &protocol.Ready{Name: "a", CPUs: 4, Boot: "1", Features: features}})
		items := append(r.Effects.Work["a"], b.list().Effects.Work["a"]...)
		at := slices.IndexFunc(items, func(i protocol.WorkItem) bool { return i.Assign != nil })
		if at < 0 || items[at].Assign.Session.Jupyter != want {
			t.Errorf("an agent with %v is assigned %+v, want %s", features, items, want)
		}
	}
}
