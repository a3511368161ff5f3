package price_test

import (
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/price"
	"dsvmpools/shared/usage"
)

var vm = price.Want{What: price.VM, SKU: d4}

// apply takes a change into the book, as the store does.
func apply(b *price.Book, c price.Change) {
	b.Rows = append(b.Rows, c.Put...)
	b.Looks = []price.Look{c.Look}
}

// The last good price stays when the API has none any more, and a price that it never had is
// not known, whatever is built in.
func TestLastGoodPriceStays(t *testing.T) {
	t.Parallel()
	var book price.Book
	apply(&book, book.Update(vm, nil, region, now))
	if k := book.Find(vm, now); k.PerHour != usage.UnknownPrice || k.Source != price.Unknown {
		t.Errorf("asked, and no price: got %+v", k)
	}
	apply(&book, book.Update(vm, []price.Item{good(nil)}, region, now))
	later := now.Add(24 * time.Hour)
	apply(&book, book.Update(vm, nil, region, later))
	if k := book.Find(vm, later); k.PerHour != "0.23" || k.Source != price.Retail {
		t.Errorf("asked again, and no price: got %+v, want the last good one", k)
	}
	look, _ := book.Look(vm)
	if look.Problem == "" || !look.GoodAt.Equal(now) || !look.AskedAt.Equal(later) {
		t.Errorf("got %+v, want the problem and the time of the good one", look)
	}
}

// A new price counts from when it is known; what was paid before stays.
func TestHistory(t *testing.T) {
	t.Parallel()
	var book price.Book
	apply(&book, book.Update(vm, []price.Item{good(nil)}, region, now))
	later := now.Add(24 * time.Hour)
	dear := good(func(i *price.Item) { i.RetailPrice, i.EffectiveStartDate = "0.3", "2026-11-29T18:00:00Z" })
	apply(&book, book.Update(vm, []price.Item{dear}, region, later))
	for at, want := range map[time.Time]string{now: "0.23", later.Add(-time.Second): "0.23", later: "0.3"} {
		if got := book.Find(vm, at).PerHour; got != want {
			t.Errorf("at %s: got %s, want %s", at, got, want)
		}
	}
}

// What is set by hand comes before all else, without the factor, until it is taken back.
func TestManual(t *testing.T) {
	t.Parallel()
	factor, err := price.ParseFactor("0.5 EUR")
	if err != nil {
		t.Fatal(err)
	}
	book := price.Book{Factor: factor}
	apply(&book, book.Update(vm, []price.Item{good(nil)}, region, now))
	if c := book.Cost(price.Node{Size: d4}, now); c.PerHour != "0.115" || c.Currency != "EUR" || c.VM != "0.115" || c.Source != price.Retail {
		t.Errorf("with a factor: got %+v", c)
	}
	set := func(at time.Time, perHour string) {
		book.Rows = append(book.Rows, price.Row{Want: vm, Price: price.Price{PerHour: perHour, From: at}, Source: price.Manual})
	}
	set(now.Add(time.Hour), "0.2")
	set(now.Add(2*time.Hour), "")
	for hours, want := range []string{"0.115", "0.2", "0.115"} {
		if got := book.Cost(price.Node{Size: d4}, now.Add(time.Duration(hours)*time.Hour)).PerHour; got != want {
			t.Errorf("after %d hours: got %s, want %s", hours, got, want)
		}
	}
}

// The source of a node's price is that of its least sure part, and the parts add up.
func TestCost(t *testing.T) {
	t.Parallel()
	var book price.Book
	apply(&book, book.Update(vm, []price.Item{good(nil)}, region, now))
	c := book.Cost(price.Node{Size: d4, Disk: "E10", Address: true}, now)
	if c.Parts != (usage.Parts{VM: "0.23", Disk: "0.013151", Address: "0.005", Source: price.Builtin}) || c.PerHour != "0.248151" {
		t.Errorf("got %+v", c)
	}
	if c := book.Cost(price.Node{Size: d4, Disk: "E99"}, now); c.PerHour != usage.UnknownPrice || c.Source != price.Unknown || c.VM != "0.23" {
		t.Errorf("a disk without a price: got %+v, want it not known", c)
	}
}

func TestParseFactor(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"": "USD", "0.82": "USD", " 0.92 EUR ": "EUR", "1000 JPY": "JPY"} {
		if f, err := price.ParseFactor(text); err != nil || f.Currency() != want {
			t.Errorf("%q: got %s, %v, want %s", text, f.Currency(), err, want)
		}
	}
	for _, text := range []string{"0", "-1", "1001", "82%", "0,82", "EUR", "1 euro", "1 USD x", "1e3", strings.Repeat("1", 50)} {
		if _, err := price.ParseFactor(text); fault.CodeOf(err) != fault.Invalid {
			t.Errorf("%q: got %v, want invalid", text, err)
		}
	}
}
