package service_test

import (
	"log/slog"
	"slices"
	"testing"
	"time"

	"dsvmpools/local/apptest"
	"dsvmpools/local/chaos"
	"dsvmpools/local/prices"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/fleet"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/price"
	"dsvmpools/shared/retail"
	"dsvmpools/shared/service"
	"dsvmpools/shared/wire"
)

// withPrices gives an instance prices from a price list of its own.
func withPrices(t *testing.T, factor string) (app *apptest.Instance, list *prices.Server, faults *chaos.Set) {
	t.Helper()
	faults = chaos.New(1)
	clock := apptest.NewClock(apptest.Noon)
	list, err := prices.Start(prices.Config{Addr: "127.0.0.1:0", Chaos: faults, Now: clock.Now,
		Sizes: []prices.Size{{Name: "Standard_D2s_v5", PerHour: "0.1"}, {Name: "Standard_D4s_v5", PerHour: "0.2"}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { list.Close() })
	client, err := retail.New(list.URL())
	if err != nil {
		t.Fatal(err)
	}
	paid, err := price.ParseFactor(factor)
	if err != nil {
		t.Fatal(err)
	}
	app = apptest.New(t, func(c *service.Config) {
		c.Prices = service.NewPrices(service.PricesConfig{Store: c.Store, List: client, Region: "westeurope", Factor: paid,
			Nodes: service.NodeModel{Model: fleet.Model{PublicIP: true}}, Log: slog.New(slog.DiscardHandler), Now: c.Now})
	})
	return app, list, faults
}

// one is the price of a thing among all.
func one(t *testing.T, app *apptest.Instance, what, sku string, spot bool) wire.Price {
	t.Helper()
	all, err := app.Prices.All(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(p wire.Price) bool { return p.What == what && p.SKU == sku && p.Spot == spot })
	if i < 0 {
		t.Fatalf("no price for %s %s among %+v", what, sku, all)
	}
	return all[i]
}

// A pool that names a new size has its price asked for; until then the one that is built in
// counts. What the list cannot say keeps its last price, and is a trouble after a week.
func TestPricesOfPools(t *testing.T) {
	t.Parallel()
	app, list, faults := withPrices(t, "")
	spec := pool.Spec{Name: "cpu", Kind: "batch", OS: "linux", Sizes: []string{"Standard_D2s_v5"}, Capacity: "spot-then-regular", Nodes: pool.Range{Max: 2}, Pack: true}
	if _, err := app.Pools.Apply(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	if p := one(t, app, "vm", "Standard_D2s_v5", false); p.PerHour != "0.096" || p.Source != price.Builtin || !p.InUse {
		t.Errorf("before anybody has asked: got %+v", p)
	}
	if p := one(t, app, "vm", "Standard_D2s_v5", true); p.PerHour != "unknown" {
		t.Errorf("Spot before anybody has asked: got %+v", p)
	}
	if err := app.Prices.RefreshPool(t.Context(), "cpu"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what, sku, want string
		spot            bool
	}{{"vm", "Standard_D2s_v5", "0.1", false}, {"vm", "Standard_D2s_v5", "0.02", true}, {"address", "", "0.005", false}} {
		if p := one(t, app, c.what, c.sku, c.spot); p.PerHour != c.want || p.Source != price.Retail || p.Currency != "USD" {
			t.Errorf("%s %s, Spot %v: got %+v, want %s", c.what, c.sku, c.spot, p, c.want)
		}
	}
	if troubles, err := app.Prices.Troubles(t.Context()); err != nil || len(troubles) != 0 {
		t.Errorf("got troubles %+v, %v, want none", troubles, err)
	}
	list.SetPrice("Standard_D2s_v5", "0.3", app.Clock.Now().Add(-time.Hour))
	if _, err := faults.Add(chaos.Injection{Do: chaos.Throttle, Target: "prices", RetryAfter: time.Hour}); err != nil {
		t.Fatal(err)
	}
	app.Clock.Set(app.Clock.Now().Add(price.OldAfter + time.Hour))
	if _, err := app.Prices.Refresh(t.Context()); fault.CodeOf(err) != fault.Throttled {
		t.Errorf("a price list that does not answer: got %v, want throttled", err)
	}
	if p := one(t, app, "vm", "Standard_D2s_v5", false); p.PerHour != "0.1" {
		t.Errorf("a price list that does not answer: got %+v, want the last good price", p)
	}
	troubles, err := app.Prices.Troubles(t.Context())
	if err != nil || len(troubles) == 0 || !troubles[0].IsGrave {
		t.Errorf("after a week: got troubles %+v, %v", troubles, err)
	}
	shown, err := app.Overview.Troubles(t.Context())
	if err != nil || !slices.ContainsFunc(shown, func(w wire.Trouble) bool { return w.Kind == wire.TroublePrices }) {
		t.Errorf("after a week: the troubles are %+v, %v", shown, err)
	}
	faults.Remove("")
	if r, err := app.Prices.Refresh(t.Context()); err != nil || r.Changed == 0 || len(r.Problems) != 0 {
		t.Errorf("got %+v, %v, want changes", r, err)
	}
	if p := one(t, app, "vm", "Standard_D2s_v5", false); p.PerHour != "0.3" || !p.From.Equal(app.Clock.Now()) {
		t.Errorf("got %+v, want the new price from when it is known", p)
	}
	again, err := app.Prices.Refresh(t.Context())
	if err != nil || again.Changed != 0 {
		t.Errorf("the same once more: got %+v, %v, want no change", again, err)
	}
}

// A price that is set by hand counts until it is taken back, and no factor changes it.
func TestSetPrice(t *testing.T) {
	t.Parallel()
	app, _, _ := withPrices(t, "0.5 EUR")
	set := func(s wire.SetPrice) wire.Price {
		t.Helper()
		app.Clock.Set(app.Clock.Now().Add(time.Minute))
		p, err := app.Prices.Set(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	if p := set(wire.SetPrice{SKU: "Standard_D4s_v5", PerHour: "0.4"}); p.PerHour != "0.4" || p.Source != price.Manual || p.Currency != "EUR" {
		t.Errorf("got %+v", p)
	}
	if p := set(wire.SetPrice{SKU: "Standard_D4s_v5"}); p.PerHour != "0.096" || p.Source != price.Builtin || p.List != "0.192" {
		t.Errorf("taken back: got %+v, want what is built in, with the factor", p)
	}
	if p := set(wire.SetPrice{SKU: "E10", PerHour: "0"}); p.PerHour != "0" || p.What != "disk" {
		t.Errorf("a disk for nothing: got %+v", p)
	}
	for _, s := range []wire.SetPrice{
		{SKU: "D4s_v5", PerHour: "1"}, {PerHour: "1"}, {SKU: "Standard_D4s_v5", PerHour: "-1"}, {SKU: "Standard_D4s_v5", PerHour: "1e9"},
		{SKU: "Standard_D4s_v5", PerHour: "100001"}, {SKU: "address", PerHour: "1", Spot: true}, {SKU: "Standard_D4s_v5", OS: "beos", PerHour: "1"},
		{SKU: "E10", OS: "linux", PerHour: "1"}, {SKU: "Standard_" + string(make([]byte, 10)), PerHour: "1"},
	} {
		if p, err := app.Prices.Set(t.Context(), s); fault.CodeOf(err) != fault.Invalid {
			t.Errorf("%+v: got %+v, %v, want invalid", s, p, err)
		}
	}
}
