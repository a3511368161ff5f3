package prices_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"dsvmpools/local/chaos"
	"dsvmpools/local/prices"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/price"
	"dsvmpools/shared/retail"
)

const (
	region = "westeurope"
	d4     = "Standard_D4s_v5"
)

func start(t *testing.T, cfg prices.Config) (*prices.Server, *retail.Client) {
	t.Helper()
	cfg.Addr = "127.0.0.1:0"
	cfg.Sizes = []prices.Size{{Name: "Standard_D2s_v5", PerHour: "0.096"}, {Name: d4, PerHour: "0.192"}}
	s, err := prices.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	c, err := retail.New(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	return s, c
}

// Each price is found among all that is refused, over several pages.
func TestPrices(t *testing.T) {
	t.Parallel()
	_, c := start(t, prices.Config{PageSize: 3})
	now := time.Now().UTC()
	for w, want := range map[price.Want]string{
		{What: price.VM, SKU: d4}:                            "0.192",
		{What: price.VM, SKU: d4, Spot: true}:                "0.0384",
		{What: price.VM, SKU: d4, Windows: true}:             "0.3648",
		{What: price.VM, SKU: d4, Windows: true, Spot: true}: "0.07296",
		{What: price.Disk, SKU: "E10"}:                       "0.013151",
		{What: price.Address}:                                "0.005",
		{What: price.Balancer}:                               "0.025",
	} {
		items, err := c.Items(t.Context(), w.Filter(region))
		if err != nil {
			t.Fatal(err)
		}
		if w.What == price.VM && len(items) < 10 {
			t.Errorf("%s: %d rows, want those that are refused, too", w, len(items))
		}
		if got, err := price.Pick(items, w, region, now); err != nil || got.PerHour != want {
			t.Errorf("%s: got %+v, %v, want %s", w, got, err, want)
		}
	}
	items, err := c.Items(t.Context(), price.Want{What: price.VM, SKU: "Standard_None"}.Filter(region))
	if err != nil || len(items) != 0 {
		t.Errorf("a size that nobody sells: got %d rows, %v, want none", len(items), err)
	}
}

// A change of a price is announced, and counts from its time on.
func TestSetPrice(t *testing.T) {
	t.Parallel()
	s, c := start(t, prices.Config{})
	now := time.Now().UTC().Truncate(time.Second)
	s.SetPrice(d4, "0.3", now.Add(time.Hour))
	s.SetPrice(d4, "0.2", now.Add(-time.Hour))
	w := price.Want{What: price.VM, SKU: d4}
	items, err := c.Items(t.Context(), w.Filter(region))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := price.Pick(items, w, region, now); err != nil || got.PerHour != "0.2" {
		t.Errorf("now: got %+v, %v, want 0.2", got, err)
	}
	if got := price.Announced(items, w, region, now); len(got) != 1 || got[0].PerHour != "0.3" || !got[0].From.Equal(now.Add(time.Hour)) {
		t.Errorf("announced: got %+v, want 0.3 in an hour", got)
	}
}

// A client that is refused for now waits as long as it is told, and one that is refused for
// good is told so.
func TestRefusals(t *testing.T) {
	t.Parallel()
	faults := chaos.New(1)
	s, c := start(t, prices.Config{Chaos: faults})
	inject := func(r chaos.Injection) {
		t.Helper()
		faults.Remove("")
		if _, err := faults.Add(r); err != nil {
			t.Fatal(err)
		}
	}
	w := price.Want{What: price.Address}
	inject(chaos.Injection{Do: chaos.Throttle, Target: "prices", RetryAfter: time.Hour})
	if _, err := c.Items(t.Context(), w.Filter(region)); fault.CodeOf(err) != fault.Throttled {
		t.Errorf("an hour: got %v, want throttled", err)
	}
	if all, _ := faults.List(); all[0].Hits != 1 {
		t.Errorf("asked %d times, want once: it said for how long", all[0].Hits)
	}
	inject(chaos.Injection{Do: chaos.Disconnect, Target: "prices", Count: 1})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if items, err := c.Items(ctx, w.Filter(region)); err != nil || len(items) != 1 {
		t.Errorf("a connection that ends: got %v, %v, want the row", items, err)
	}
	if _, err := c.Items(t.Context(), "armRegionName eq 'a' or armRegionName eq 'b'"); err == nil || fault.CodeOf(err) != fault.Internal {
		t.Errorf("a filter with `or`: got %v, want it refused", err)
	}
	for _, query := range []string{"$filter=x", "currencyCode='EUR'", "$skip=-1", "$filter=" + strings.Repeat("a", 5000), "$filter=armSkuName eq 'a"} {
		name, value, _ := strings.Cut(query, "=")
		response, err := http.Get(s.URL() + prices.Path + "?" + url.Values{name: {value}}.Encode()) //nolint:noctx // a test on loopback
		if err != nil {
			t.Fatal(err)
		}
		var body struct{ Error struct{ Message string } }
		err = json.NewDecoder(response.Body).Decode(&body)
		response.Body.Close()
		if err != nil || response.StatusCode != http.StatusBadRequest || body.Error.Message == "" {
			t.Errorf("%.40s: got %d %+v, %v", query, response.StatusCode, body, err)
		}
	}
}
