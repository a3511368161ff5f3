//go:build unix

package agent

import (
	"log/slog"
	"testing"
	"time"

	"dsvmpools/agent/person"
	"dsvmpools/agent/process"
	"dsvmpools/shared/protocol"
)

// TestForgottenSessions: a node whose pool is silent goes only if nobody uses its sessions,
// and what is not known counts as use.
func TestForgottenSessions(t *testing.T) {
	t.Parallel()
	const long = int64(forgottenAfter/time.Second) + 1
	session := protocol.Assignment{Job: "S1", Session: &protocol.Session{User: "ann"}}
	for name, test := range map[string]struct {
		held held
		want bool
	}{
		"unused for long":        {held{work: session, link: &link{state: person.State{Idle: long}}}, true},
		"unused for a while":     {held{work: session, link: &link{state: person.State{Idle: long - 2}}}, false},
		"in use":                 {held{work: session, link: &link{}}, false},
		"unknown":                {held{work: session, link: &link{state: person.State{Idle: long, Unknown: true}}}, false},
		"its keeper is not seen": {held{work: session}, false},
		"an attempt":             {held{work: protocol.Assignment{Job: "J1"}, link: &link{state: person.State{Idle: long}}}, false},
		"an end":                 {held{work: session, phase: ended}, true},
	} {
		b := newNotebook(Config{}, slog.New(slog.DiscardHandler), nil, newState())
		h := test.held
		if h.phase != ended {
			h.phase = running
		}
		b.st.held[1] = &h
		if got := b.isIdle(); got != test.want {
			t.Errorf("%s: got %v, want %v", name, got, test.want)
		}
	}
}

// TestJournalKeepsWhatASessionIsTold: an end and a warning that have come are not lost with
// the agent.
func TestJournalKeepsWhatASessionIsTold(t *testing.T) {
	t.Parallel()
	warning := person.Warning{Number: 3, Text: "it ends", EndsAt: time.Now().UTC().Truncate(time.Second)}
	s, _, _ := read(t, lines(
		record{N: 2, Assign: &protocol.Assignment{Job: "S1", Session: &protocol.Session{User: "ann"}}},
		record{N: 2, Starting: true},
		record{N: 2, Started: &process.Process{At: time.Now()}},
		record{N: 2, Warning: &warning},
		record{N: 2, Ending: "asked to"},
		record{Door: &protocol.Door{URL: "wss://ns/$hc/lab-1", Token: "later"}},
	))
	again := newState()
	for _, r := range s.records() {
		again.apply(r)
	}
	for name, st := range map[string]*state{"read": s, "rewritten": again} {
		h := st.held[2]
		if h == nil || h.phase != running || h.ending != "asked to" || h.warning == nil || *h.warning != warning {
			t.Errorf("%s: got %+v", name, h)
		}
		if d := st.newestDoor(&protocol.Door{URL: "wss://ns/$hc/lab-1", Token: "first"}); d.Token != "later" {
			t.Errorf("%s: the door is %+v", name, d)
		}
		if d := st.newestDoor(&protocol.Door{URL: "wss://ns/$hc/lab-2", Token: "first"}); d.Token != "first" {
			t.Errorf("%s: another door is %+v", name, d)
		}
	}
}
