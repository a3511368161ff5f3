package scheduler_test

import (
	"maps"
	"testing"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
)

// Secrets and homes on the share go to nodes alone whose agents know them; an agent of the release
// before would refuse the session. A session keeps what its pool said when it was opened.
func TestWhatSessionsNeed(t *testing.T) {
	t.Parallel()
	secrets := map[string]string{"HF_TOKEN": "keyvault:acme-ml/hf-token"}
	for name, test := range map[string]struct {
		change  func(*pool.Sessions)
		lacking []string // features of a node that gets no such session
	}{
		"secrets": {
			func(s *pool.Sessions) { s.Secrets = secrets },
			[]string{protocol.FeatureSession, protocol.FeatureSessionHome, protocol.FeatureSecrets},
		},
		"home": {
			func(s *pool.Sessions) { s.Home = protocol.HomeShare },
			[]string{protocol.FeatureSession, protocol.FeatureSessionSecrets, protocol.FeatureSecrets},
		},
	} {
		b := newBench(t, people(func(s *pool.Spec) { test.change(s.Sessions) }))
		b.step(open("01", "ann"))
		b.ready("old", "1", test.lacking...)
		b.list()
		if ann := b.session("ann"); ann.State != job.Queued {
			t.Errorf("%s: an older agent got the session: %s", name, ann.State)
		}
		later := b.s.Head.Spec
		later.Sessions = &pool.Sessions{}
		*later.Sessions = *b.s.Head.Spec.Sessions
		later.Sessions.Secrets, later.Sessions.Home = nil, protocol.HomeLocal
		b.step(pool.Apply{Spec: later})
		r := b.reports("new", protocol.ReportItem{Ready: &protocol.Ready{Name: "new", CPUs: 4, Boot: "1", Features: protocol.SessionFeatures()}})
		ann := b.session("ann")
		if ann.VMID != "new" {
			t.Fatalf("%s: the session is %s on %q", name, ann.State, ann.VMID)
		}
		var got *protocol.Assignment
		for _, item := range r.Effects.Work["new"] {
			if item.Assign != nil {
				got = item.Assign
			}
		}
		wants := pool.Sessions{Home: protocol.HomeLocal}
		test.change(&wants)
		if got == nil || !maps.Equal(got.Secrets, wants.Secrets) || got.Session.Home != wants.Home {
			t.Errorf("%s: the node was sent %+v", name, got)
		}
	}
}
