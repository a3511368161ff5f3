package price_test

import (
	"testing"
	"time"

	"dsvmpools/shared/price"
	"dsvmpools/shared/usage"
)

var now = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

// Before anybody has asked, a node costs what this version has built in, with its disk and address.
func TestBuiltin(t *testing.T) {
	t.Parallel()
	const d2 = "Standard_D2s_v5" // 0.096
	var book price.Book
	for _, c := range []struct {
		name string
		node price.Node
		want string
	}{
		{"the VM alone", price.Node{Size: d2}, "0.096"},
		{"with an address", price.Node{Size: d2, Address: true}, "0.101"},
		{"with the disk of 128 GiB", price.Node{Size: d2, Disk: price.Tier(128)}, "0.109151"}, // 9.60 / 730
		{"a disk counts as the next larger tier", price.Node{Size: d2, Disk: price.Tier(129)}, "0.122302"},
		{"the disk of a Data Science VM and an address", price.Node{Size: d2, Disk: price.Tier(150), Address: true}, "0.127302"},
		{"a disk whose size is not known", price.Node{Size: d2, Disk: price.Tier(0)}, "0.109151"},
		{"a disk larger than all tiers", price.Node{Size: d2, Disk: price.Tier(9999)}, "0.516822"},
		{"Spot", price.Node{Size: d2, Spot: true, Address: true}, usage.UnknownPrice},
		{"Windows", price.Node{Size: d2, Windows: true}, usage.UnknownPrice},
		{"a size that is not known", price.Node{Size: "Standard_X1", Address: true}, usage.UnknownPrice},
	} {
		got := book.Cost(c.node, now)
		if got.PerHour != c.want || got.Currency != "USD" {
			t.Errorf("%s: got %s %s, want %s USD", c.name, got.PerHour, got.Currency, c.want)
		}
		if source := map[bool]string{true: price.Unknown, false: price.Builtin}[c.want == usage.UnknownPrice]; got.Source != source {
			t.Errorf("%s: source %q, want %q", c.name, got.Source, source)
		}
	}
}
