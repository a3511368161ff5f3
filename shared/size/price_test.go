package size_test

import (
	"testing"

	"dsvmpools/shared/size"
)

func TestNodePrice(t *testing.T) {
	t.Parallel()
	d2, _ := size.Lookup("Standard_D2s_v5") // 0.096
	for _, c := range []struct {
		name    string
		disk    size.Disk
		address bool
		want    string
	}{
		{"the VM alone", size.Disk{Ephemeral: true}, false, "0.096"},
		{"with an address", size.Disk{Ephemeral: true}, true, "0.101"},
		{"with the disk of 128 GiB", size.Disk{GiB: 128}, false, "0.109151"}, // 9.60 / 730
		{"a disk counts as the next larger tier", size.Disk{GiB: 129}, false, "0.122302"},
		{"the disk of a Data Science VM and an address", size.Disk{GiB: 150}, true, "0.127302"},
		{"a disk whose size is not known", size.Disk{}, false, "0.109151"},
		{"a disk larger than all tiers", size.Disk{GiB: 9999}, false, "0.516822"},
	} {
		if got := size.NodePrice(d2, c.disk, c.address); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
	if got := size.NodePrice(size.Size{}, size.Disk{}, true); got != "" {
		t.Errorf("a size without a price: got %q, want none", got)
	}
}
