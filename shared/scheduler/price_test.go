package scheduler_test

import (
	"testing"

	"dsvmpools/shared/pool"
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
			b.step(pool.Listed{Exists: true, Capacity: 1, Price: c.price, Currency: c.currency,
				Instances: []pool.Instance{{VMID: "n1", ID: "0", Name: "n1", Provisioning: "Creating"}}})
			if n := b.s.Nodes["n1"]; n.Price != c.want || n.Currency != c.in {
				t.Errorf("got %s %s, want %s %s", n.Price, n.Currency, c.want, c.in)
			}
		})
	}
}
