package drive_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"dsvmpools/local/apptest"
	"dsvmpools/local/tables"
	"dsvmpools/shared/drive"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/scheduler"
	"dsvmpools/shared/store"
)

// keepingBus keeps the work that nodes are sent.
type keepingBus struct {
	quietBus
	mu   sync.Mutex
	sent []protocol.WorkItem
}

func (b *keepingBus) Work(_ context.Context, _ string, items []protocol.WorkItem) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sent = append(b.sent, items...)
	return nil
}

// Fence takes no session: the agent holds it.
func (*keepingBus) Fence(context.Context, string) (bool, error) { return false, nil }

// take returns what was sent since it was asked last.
func (b *keepingBus) take() []protocol.WorkItem {
	b.mu.Lock()
	defer b.mu.Unlock()
	sent := b.sent
	b.sent = nil
	return sent
}

// doors opens doors, unless it is away.
type doors struct{ away bool }

func (d *doors) Listen(_ context.Context, entity string) (protocol.Door, error) {
	if d.away {
		return protocol.Door{}, errors.New("the relay is away")
	}
	return protocol.Door{URL: "wss://ns/$hc/" + entity, Token: "a secret"}, nil
}

func (d *doors) Keys(context.Context) (drive.DoorKeys, error) {
	return drive.DoorKeys{CAs: []string{"ssh-ed25519 AAAA"}, Ticket: "key"}, nil
}

// A session waits for the door of its node, gets it with its assignment, and its node gets new
// tokens before the old ones are over. No row has a token.
func TestDoorsOfNodes(t *testing.T) {
	t.Parallel()
	server, err := tables.Open(tables.Config{Path: filepath.Join(t.TempDir(), "tables.db"), Account: "example", Key: "a2V5a2V5a2V5a2V5"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	s, err := store.Open(store.Config{ConnectionString: server.ConnectionString(), Transport: server})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if err := s.CreateTables(t.Context()); err != nil {
		t.Fatal(err)
	}
	spec, err := pool.Parse([]byte("name: lab\nkind: interactive\nsizes: [Standard_D4s_v5]\nnodes: {max: 2}\n"), "")
	if err != nil {
		t.Fatal(err)
	}
	clock, bus, relay := apptest.NewClock(apptest.Noon), &keepingBus{}, &doors{away: true}
	d := drive.New(drive.Config{Store: s, Bus: bus, Fleet: apptest.NewFleet(), Doors: relay, Timing: scheduler.DefaultTiming,
		Log: slog.New(slog.DiscardHandler), Now: clock.Now})
	bring := func(events ...pool.Event) []protocol.WorkItem {
		t.Helper()
		if _, err := d.Drive(t.Context(), "lab", events...); err != nil {
			t.Fatal(err)
		}
		return bus.take()
	}
	report := func(items ...protocol.ReportItem) pool.Event {
		return pool.Reported{At: clock.Now(), Report: protocol.Report{Pool: "lab", VMID: "vm", Items: items}}
	}
	assigned := func(items []protocol.WorkItem) *protocol.WorkItem {
		for i := range items {
			if items[i].Assign != nil {
				return &items[i]
			}
		}
		return nil
	}
	open := pool.Open{Order: "01K000000000000000000000A1", ID: "s1", Spec: job.Spec{User: "ann"}, Session: pool.Session{Owner: "id", UID: 200001}, At: clock.Now()}
	sent := bring(pool.Apply{Spec: spec}, open,
		report(protocol.ReportItem{Ready: &protocol.Ready{Name: "vm", CPUs: 4, Boot: "1", Features: []string{protocol.FeatureSession}}}))
	if assigned(sent) != nil {
		t.Fatal("a session without a door was sent")
	}
	relay.away = false
	clock.Set(clock.Now().Add(scheduler.DefaultTiming.ResendAfter + time.Second))
	item := assigned(bring(pool.Tick{At: clock.Now()}))
	if item == nil {
		t.Fatal("the door is there, and the session was not sent")
	}
	of := item.Assign.Session
	if of.Door == nil || of.Door.URL != "wss://ns/$hc/lab-1" || of.Door.Token != "a secret" || len(of.CAs) != 1 || of.TicketKey != "key" || of.User != "ann" ||
		of.Home != "local" {
		t.Errorf("got %+v", of)
	}
	bring(report(protocol.ReportItem{Started: &protocol.Started{N: item.N, At: clock.Now()}}))
	renewed := func() (n int) {
		for _, i := range bring(pool.Tick{At: clock.Now()}) {
			if i.Door != nil && i.Door.Token == "a secret" && i.N == 0 {
				n++
			}
		}
		return n
	}
	clock.Set(clock.Now().Add(drive.TokenFor/2 - time.Minute))
	if n := renewed(); n != 0 {
		t.Errorf("its tokens are young, and it got %d new ones", n)
	}
	relay.away = true
	clock.Set(clock.Now().Add(time.Hour))
	if n := renewed(); n != 0 {
		t.Errorf("it got %d tokens from a relay that is away", n)
	}
	relay.away = false
	if n := renewed(); n != 1 {
		t.Errorf("its tokens are old, and it got %d new ones", n)
	}
	if n := renewed(); n != 0 {
		t.Errorf("it got %d more", n)
	}
	part, _, err := s.Load(t.Context(), "lab")
	if err != nil {
		t.Fatal(err)
	}
	if rows, err := json.Marshal(part); err != nil || strings.Contains(string(rows), "a secret") {
		t.Errorf("a row has a token, or %v", err)
	}
	if j := part.Jobs[0]; j.Session == nil || j.Session.Owner != "id" || j.Session.ReadyAt.IsZero() || part.Nodes[0].Slot != 1 {
		t.Errorf("got %+v on %+v", j, part.Nodes[0])
	}
	// A late copy of the event, after the end, opens nothing.
	bring(report(protocol.ReportItem{Finished: &protocol.Finished{N: item.N, State: "succeeded", EndedAt: clock.Now()}}))
	other := drive.New(drive.Config{Store: s, Bus: bus, Fleet: apptest.NewFleet(), Timing: scheduler.DefaultTiming, Log: slog.New(slog.DiscardHandler), Now: clock.Now})
	if out, err := other.Drive(t.Context(), "lab", open); err != nil || out.Head.Queued+out.Head.Running != 0 {
		t.Errorf("got %+v, %v", out, err)
	}
	// A session of a pool that leaves the relay out waits for none.
	relay.away = true
	direct, err := pool.Parse([]byte("name: lab\nkind: interactive\nsizes: [Standard_D4s_v5]\nnodes: {max: 2}\naccess: [direct]\n"), "")
	if err != nil {
		t.Fatal(err)
	}
	second := pool.Open{Order: "01K000000000000000000000A2", ID: "s2", Spec: job.Spec{User: "bob"}, Session: pool.Session{Owner: "id2", UID: 200002}, At: clock.Now()}
	again := report(protocol.ReportItem{Ready: &protocol.Ready{Name: "vm", CPUs: 4, Boot: "1", Features: []string{protocol.FeatureSession}}})
	if item := assigned(bring(pool.Apply{Spec: direct}, second, again)); item == nil || item.Assign.Session.Door != nil || item.Assign.Session.TicketKey != "key" {
		t.Errorf("without the relay: got %+v", item)
	}
	if n := renewed(); n != 0 {
		t.Errorf("its node got %d tokens", n)
	}
}
