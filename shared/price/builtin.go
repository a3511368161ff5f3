package price

import (
	"dsvmpools/shared/size"
)

// hoursPerMonth is how many hours Azure counts for a price per month.
const hoursPerMonth = 730

// tiers are the steps in which Azure bills a Standard SSD with local redundancy: a disk
// costs as much as the next larger tier. Prices are per month in USD, in East US, as
// noted on 2026-11-27 without asking the price service.
var tiers = []struct {
	gib   int
	name  string
	price string
}{
	{32, "E4", "2.40"}, {64, "E6", "4.80"}, {128, "E10", "9.60"}, {256, "E15", "19.20"},
	{512, "E20", "38.40"}, {1024, "E30", "76.80"}, {2048, "E40", "153.60"}, {4095, "E50", "307.20"},
}

// unknownDisk is the disk in GiB that counts where the image says how large it is, and
// nobody else.
const unknownDisk = 128

// Prices per hour in USD of what has one meter, as noted with those of the disks.
const (
	builtinAddress  = "0.005"
	builtinBalancer = "0.025"
)

// Tier is the name of the tier as which Azure bills a managed disk of so many GiB; 0 = its
// size is not known.
func Tier(gib int) string {
	if gib <= 0 {
		gib = unknownDisk
	}
	for _, t := range tiers {
		if gib <= t.gib {
			return t.name
		}
	}
	return tiers[len(tiers)-1].name
}

// builtin is the price that this version knows without asking anybody: pay-as-you-go in
// East US. It knows none for Spot, whose price changes every hour, none for Windows, whose
// license is in it, and none for a size that is not in its list.
func builtin(w Want) (string, bool) {
	switch w.What {
	case VM:
		has, known := size.Lookup(w.SKU)
		return has.PricePerHour, known && !w.Spot && !w.Windows
	case Disk:
		for _, t := range tiers {
			if t.name == w.SKU {
				return perHour(t.price, monthUnit)
			}
		}
	case Address:
		return builtinAddress, true
	case Balancer:
		return builtinBalancer, true
	}
	return "", false
}
