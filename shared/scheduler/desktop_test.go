package scheduler_test

import (
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/scheduler"
)

// asked are the requests for a password that a step has sent.
func asked(r scheduler.Result) (all []protocol.Desktop) {
	for _, items := range r.Effects.Work {
		for _, item := range items {
			if item.Desktop != nil {
				all = append(all, *item.Desktop)
			}
		}
	}
	return all
}

func TestPasswordsOfDesktops(t *testing.T) {
	t.Parallel()
	b := newBench(t, people(nil))
	b.host("vm")
	ask := func(key string) []protocol.Desktop { return asked(b.step(pool.Desktop{Order: "01", SealTo: key})) }
	answer := func(of protocol.Sealed) pool.Session {
		b.now = b.now.Add(time.Second)
		b.votes("ann", time.Second, func(s *protocol.SessionState) { s.Desktop = &of })
		return *b.session("ann").Session
	}
	if got := ask("K1"); len(got) != 0 {
		t.Fatalf("nobody has a session, and a node is asked: %+v", got)
	}
	b.step(open("01", "ann"))
	if got := ask("K1"); len(got) != 0 {
		t.Fatalf("it is not ready, and its node is asked: %+v", got)
	}
	ann := b.enters("ann")
	if s := answer(protocol.Sealed{To: "K1", Secret: "s"}); s.Sealed != "" {
		t.Errorf("nobody has asked, and the row has a password: %+v", s)
	}
	for range 2 { // until it answers, each call asks again
		if got := ask("K1"); len(got) != 1 || got[0] != (protocol.Desktop{Target: ann.N, SealTo: "K1"}) {
			t.Fatalf("got %+v", got)
		}
	}
	if s := answer(protocol.Sealed{To: "K0", Secret: "old"}); s.Sealed != "" || s.SealTo != "K1" {
		t.Errorf("one for another key was taken: %+v", s)
	}
	if s := answer(protocol.Sealed{To: "K1", Secret: strings.Repeat("x", 10_000)}); s.Sealed != "" {
		t.Error("one of 10 kB was taken")
	}
	if s := answer(protocol.Sealed{To: "K1", Fault: "no chpasswd"}); s.DesktopFault != "no chpasswd" {
		t.Errorf("got %+v", s)
	}
	if got, s := ask("K1"), b.session("ann").Session; len(got) != 1 || s.DesktopFault != "" {
		t.Errorf("after a failure it is not tried again: %+v, %+v", got, s)
	}
	if s := answer(protocol.Sealed{To: "K1", Secret: "s1"}); s.Sealed != "s1" || s.DesktopFault != "" {
		t.Errorf("got %+v", s)
	}
	if got := ask("K1"); len(got) != 0 {
		t.Errorf("it has one, and is asked again: %+v", got)
	}
	if got, s := ask("K2"), b.session("ann").Session; len(got) != 1 || s.Sealed != "" || s.SealTo != "K2" {
		t.Errorf("another machine: got %+v, %+v", got, s)
	}
	if s := answer(protocol.Sealed{To: "K1", Secret: "s1"}); s.Sealed != "" { // late
		t.Errorf("the first machine's password came back: %+v", s)
	}
	b.step(pool.Cancel{Order: "01", Reason: "enough"})
	if got := ask("K3"); len(got) != 0 {
		t.Errorf("it ends, and its node is asked: %+v", got)
	}
}
