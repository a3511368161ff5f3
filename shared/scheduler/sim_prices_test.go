package scheduler_test

import (
	"math/big"
	"math/rand"
	"time"

	"dsvmpools/shared/pool"
	"dsvmpools/shared/usage"
)

// planPrices decides what a node costs in the world and when that changes. It draws its own
// numbers, so that the rest of a world is as it was without prices.
func (w *world) planPrices(seed int64) {
	rng := rand.New(rand.NewSource(seed))
	for at := w.now.Add(-time.Hour); len(w.prices) < 8; at = at.Add(time.Duration(1+rng.Intn(600_000)) * time.Millisecond) {
		perHour := big.NewRat(int64(1+rng.Intn(1_000_000)), 100_000).FloatString(6)
		w.prices = append(w.prices, pool.Tariff{From: at, PerHour: perHour, Currency: "USD", Parts: usage.Parts{VM: perHour, Source: "retail"}})
		if len(w.prices) == 1 {
			at = w.now
		}
	}
}

// tariffs are those that the price list has now: the one that counts, and those that are
// announced.
func (w *world) tariffs() []pool.Tariff {
	from := 0
	for from+1 < len(w.prices) && !w.prices[from+1].From.After(w.now) {
		from++
	}
	return w.prices[from:]
}

// amount is what the provider bills for a VM: each second at the price of that second.
func (w *world) amount(b bill) *big.Rat {
	sum := new(big.Rat)
	for i, t := range w.prices {
		from, to := t.From, b.to
		if from.Before(b.from) {
			from = b.from
		}
		if i+1 < len(w.prices) && w.prices[i+1].From.Before(to) {
			to = w.prices[i+1].From
		}
		if from.Before(to) {
			sum.Add(sum, costOf(t.PerHour, to.Sub(from)))
		}
	}
	return sum
}

func costOf(perHour string, d time.Duration) *big.Rat {
	price, ok := usage.ParsePrice(perHour)
	if !ok {
		return new(big.Rat)
	}
	return price.Mul(price, big.NewRat(int64(d), int64(time.Hour)))
}

// amounts compares what the ledger says that each VM has cost with the provider's bill. Where
// the drivers' clocks disagree, so may the seconds at both ends.
func (c *checker) amounts() {
	sums := map[string]*big.Rat{}
	for _, e := range c.ledger {
		if e.Kind != usage.KindNode {
			continue
		}
		cost, ok := e.Cost()
		if !ok {
			c.fail("ledger", "an interval of node %s from %s has the price %q", e.VMID, e.From, e.Price)
			continue
		}
		if sums[e.VMID] == nil {
			sums[e.VMID] = new(big.Rat)
		}
		sums[e.VMID].Add(sums[e.VMID], cost)
	}
	const dearest = "10" // per hour, of those that planPrices draws
	for vmid, b := range c.bills {
		if b.to.IsZero() {
			continue // it is still there
		}
		got, want := sums[vmid], c.w.amount(b)
		if got == nil {
			got = new(big.Rat)
		}
		may := costOf(dearest, c.slack)
		if off := new(big.Rat).Sub(got, want); off.Abs(off).Cmp(may) > 0 {
			c.fail("ledger", "node %s: it costs %s in the ledger, and the provider bills %s", vmid, got.FloatString(6), want.FloatString(6))
		}
		c.seen["billed at several prices"] += c.pricesOf(vmid) - 1
	}
}

// pricesOf counts the prices at which the ledger has a VM.
func (c *checker) pricesOf(vmid string) int {
	prices := map[string]bool{}
	for _, e := range c.ledger {
		if e.Kind == usage.KindNode && e.VMID == vmid {
			prices[e.Price] = true
		}
	}
	return max(len(prices), 1)
}
