package service_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"dsvmpools/local/apptest"
	"dsvmpools/shared/bus"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/usage"
	"dsvmpools/shared/wire"
)

// Each trouble is found in what is there, says what to do, and is gone with its cause.
func TestTroubles(t *testing.T) {
	t.Parallel()
	app := apptest.New(t)
	if err := app.Apply(t.Context(), `{"name":"cpu","sizes":["Standard_D2s_v5","Standard_D4s_v5"],"nodes":{"max":4}}`); err != nil {
		t.Fatal(err)
	}
	kinds := func() string {
		t.Helper()
		all, err := app.Overview.Troubles(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		found := []string{}
		for _, one := range all {
			if one.Text == "" || one.Do == "" || one.About == "" {
				t.Errorf("a trouble without words: %+v", one)
			}
			found = append(found, one.Kind)
		}
		return fmt.Sprint(found)
	}
	// change writes what another process would write.
	change := func(edit func(h *pool.Head) []pool.Change) {
		t.Helper()
		part, version, err := app.Store.Load(t.Context(), "cpu")
		if err != nil {
			t.Fatal(err)
		}
		changes := edit(&part.Head)
		part.Head.Seq++
		part.Head.Nonce = uuid.NewString()
		if _, err := app.Store.Commit(t.Context(), "cpu", version, part.Head, changes); err != nil {
			t.Fatal(err)
		}
	}
	now, later := app.Clock.Now(), app.Clock.Now().Add(time.Hour)
	expect := func(when, want string) {
		t.Helper()
		if got := kinds(); got != want {
			t.Errorf("%s: got %s, want %s", when, got, want)
		}
	}
	expect("at rest", "[]")
	block := func(code string, until time.Time) func(*pool.Head) []pool.Change {
		return func(h *pool.Head) []pool.Change {
			h.Queued = 3
			for i := range h.Sets {
				h.Sets[i].Blocked = pool.Block{Code: code, Message: "it is so", Until: until}
			}
			return nil
		}
	}
	change(block("noQuota", later))
	expect("no quota", "[quota quota]")
	change(block("invalid", later))
	expect("a size that is not sold", "[size size]")
	change(block("noCapacity", later))
	expect("no room in the region", "[blocked]")
	change(func(h *pool.Head) []pool.Change {
		h.Sets[1].Blocked = pool.Block{}
		return nil
	})
	expect("room for one size", "[]")
	change(block("noQuota", now.Add(-time.Second)))
	expect("after the time of a refusal", "[]")
	change(func(h *pool.Head) []pool.Change {
		h.Sets[0].Breaker = pool.Breaker{Bad: 3, Why: "its agent did not report", OpenedAt: now, ProbeAt: later}
		h.Sets[1].Model = pool.Model{Problem: "the image is not there"}
		return nil
	})
	expect("nodes that do not come up", "[breaker model]")
	change(func(h *pool.Head) []pool.Change {
		h.Sets[0].Breaker, h.Sets[1].Model = pool.Breaker{}, pool.Model{}
		n := &pool.Node{VMID: "vm", Name: "cpu_1", Set: h.Sets[0].Name, State: pool.NodeQuarantined, Since: now, RunningAt: now, Price: "0.1", Currency: "USD"}
		e := usage.Entry{Kind: usage.KindNode, Key: "vm!1", Pool: "cpu", VMID: "vm", From: now.Add(-4 * time.Hour), To: now.Add(-3 * time.Hour), Price: "0.1", Currency: "USD"}
		seq := h.Seq + 1
		return []pool.Change{
			{Key: pool.NodeKey("vm"), Value: n, Insert: true},
			{Key: pool.LogKey(seq), Value: &pool.Log{Seq: seq, Entries: []usage.Entry{e}}, Insert: true},
		}
	})
	expect("a broken node and a late ledger", "[node ledger]")
	if err := app.Bus.Send(t.Context(), app.Bus.Queues().Rejected, bus.Message{ID: "a", Body: []byte("{}")}); err != nil {
		t.Fatal(err)
	}
	if all, err := app.Overview.Troubles(t.Context()); err != nil || len(all) != 3 || all[0].Kind != wire.TroubleRejected {
		t.Errorf("with a rejected message: got %+v, %v", all, err)
	}
	if err := app.Ledger.Record(t.Context(), "cpu"); err != nil {
		t.Fatal(err)
	}
	expect("after the ledger has caught up", "[rejected node]")
}
