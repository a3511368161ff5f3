package size

import (
	"math/big"
	"strings"
)

// Disk is the OS disk of a node, as far as it costs.
type Disk struct {
	GiB       int  // 0 = not known
	Ephemeral bool // on the machine itself, which costs nothing
}

// hoursPerMonth is how many hours Azure counts for a price per month.
const hoursPerMonth = 730

// diskTiers are the steps in which Azure bills a Standard SSD with local redundancy: a
// disk costs as much as the next larger tier. Prices are per month in USD, in East US, as
// noted on 2026-11-27 without asking the price service.
var diskTiers = []struct {
	gib   int
	price string
}{
	{32, "2.40"}, {64, "4.80"}, {128, "9.60"}, {256, "19.20"}, {512, "38.40"}, {1024, "76.80"}, {2048, "153.60"}, {4095, "307.20"},
}

// unknownDisk is the disk that counts where the image says how large it is, and nobody else.
const unknownDisk = 128

// addressPrice is the price of a Standard public address in USD per hour.
const addressPrice = "0.005"

// NodePrice is what a node of a size costs per hour, with its OS disk and, if it has one,
// its public address: a decimal in the currency of the size, rounded up to the sixth digit.
func NodePrice(s Size, disk Disk, publicIP bool) string {
	total, ok := new(big.Rat).SetString(s.PricePerHour)
	if !ok {
		return s.PricePerHour
	}
	if !disk.Ephemeral {
		total.Add(total, diskPrice(disk.GiB))
	}
	if publicIP {
		total.Add(total, decimal(addressPrice))
	}
	return roundUp(total)
}

// diskPrice is the price of a managed disk per hour.
func diskPrice(gib int) *big.Rat {
	if gib <= 0 {
		gib = unknownDisk
	}
	price := diskTiers[len(diskTiers)-1].price
	for _, tier := range diskTiers {
		if gib <= tier.gib {
			price = tier.price
			break
		}
	}
	return new(big.Rat).Quo(decimal(price), big.NewRat(hoursPerMonth, 1))
}

// decimal is a number of this file.
func decimal(text string) *big.Rat {
	r, ok := new(big.Rat).SetString(text)
	if !ok {
		panic("not a number: " + text)
	}
	return r
}

// roundUp writes a price with six digits at most, and without zeros at its end.
func roundUp(r *big.Rat) string {
	const digits = 1_000_000
	up := new(big.Int).Mul(r.Num(), big.NewInt(digits))
	up.Add(up, new(big.Int).Sub(r.Denom(), big.NewInt(1)))
	up.Quo(up, r.Denom())
	text := new(big.Rat).SetFrac(up, big.NewInt(digits)).FloatString(6)
	return strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
}
