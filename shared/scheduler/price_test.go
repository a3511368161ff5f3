package scheduler_test

import (
	"testing"
	"time"

	"dsvmpools/shared/pool"
	"dsvmpools/shared/scheduler"
	"dsvmpools/shared/usage"
)

// A node costs what the list of its set says, with its disk and address; without a list
// that says so, what its size costs.
func TestPriceComesWithTheList(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, price, currency, want, in string }{
		{"no price", "", "", "0.192", "USD"},
		{"with disk and address", "0.21", "EUR", "0.21", "EUR"},
		{"not known", usage.UnknownPrice, "USD", usage.UnknownPrice, "USD"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, nil)
			var tariffs []pool.Tariff
			if c.price != "" {
				tariffs = []pool.Tariff{{PerHour: c.price, Currency: c.currency}}
			}
			b.step(pool.Listed{Exists: true, Capacity: 1, Tariffs: tariffs,
				Instances: []pool.Instance{{VMID: "n1", ID: "0", Name: "n1", Provisioning: "Creating"}}})
			if n := b.s.Nodes["n1"]; n.Price != c.want || n.Currency != c.in {
				t.Errorf("got %s %s, want %s %s", n.Price, n.Currency, c.want, c.in)
			}
		})
	}
}

// entriesIn are the facts for the ledger in a step's changes.
func entriesIn(r scheduler.Result) (all []usage.Entry) {
	for _, c := range r.Changes {
		if l, ok := c.Value.(*pool.Log); ok {
			all = append(all, l.Entries...)
		}
	}
	return all
}

// When a price changes, the interval of each node ends where the new price begins, to the
// second, if the change was known before; what has not ended costs the new price from then on.
func TestIntervalsEndWherePricesChange(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	change := b.now.Add(10 * time.Minute)
	old := pool.Tariff{PerHour: "1", Currency: "USD", Parts: usage.Parts{VM: "1", Source: "retail"}}
	dear := pool.Tariff{From: change, PerHour: "2", Currency: "USD", Parts: usage.Parts{VM: "2", Source: "retail"}}
	list := func(tariffs ...pool.Tariff) pool.Listed {
		l := pool.Listed{Exists: true, Capacity: 2, Tariffs: tariffs}
		for _, id := range []string{"0", "1"} {
			l.Instances = append(l.Instances, pool.Instance{VMID: "n" + id, ID: id, Name: "n" + id, Provisioning: "Succeeded", Power: "running"})
		}
		return l
	}
	begin := b.now
	b.step(list(old, dear))
	b.now = change.Add(7 * time.Minute) // nobody has looked when it changed
	entries := entriesIn(b.step(list(dear)))
	if n := b.s.Nodes["n0"]; n.Price != "2" || n.Parts.VM != "2" || !n.From.Equal(change) {
		t.Errorf("the node: got %s %+v from %s, want 2 from %s", n.Price, n.Parts, n.From, change)
	}
	if len(entries) != 2 {
		t.Fatalf("got %d entries, want one of each node", len(entries))
	}
	for _, e := range entries {
		if e.Price != "1" || !e.From.Equal(begin) || !e.To.Equal(change) || e.Boot != change.Sub(begin) || e.Parts != old.Parts {
			t.Errorf("got %+v, want 1 from %s to %s", e, begin, change)
		}
	}
	// A change that nobody announced counts from when it is known.
	known := b.now.Add(3 * time.Minute)
	b.now = known
	b.step(list(pool.Tariff{From: change.Add(time.Minute), PerHour: "3", Currency: "USD"}))
	if n := b.s.Nodes["n1"]; n.Price != "3" || !n.From.Equal(known) {
		t.Errorf("not announced: got %s from %s, want 3 from %s", n.Price, n.From, known)
	}
	// Without prices nothing changes: the store may be away.
	b.step(list())
	if n := b.s.Nodes["n1"]; n.Price != "3" {
		t.Errorf("without prices: got %s, want 3", n.Price)
	}
}
