package usage

import (
	"maps"
	"math/big"
	"slices"
)

// Amounts are what sums come to: for one currency, or for what has no known price (Currency is ""), which has no Cost.
type Amounts struct {
	Currency string
	Rows     int
	Seconds  Ticks    // of attempts
	Nodes    Ticks    // of nodes
	Cost     *big.Rat // of the attempts, exactly; zero where the price is not known
	Paid     *big.Rat // for the nodes, exactly
}

// Differences are the amounts, by currency, in which two sums of the same time are not equal: exactly, and by each
// team, user, size and price, also if these make no difference in the amounts. Sums with labels are left out, since
// they may have been dropped.
func (s *Sums) Differences(other *Sums) (mine, others []Amounts) {
	differ := map[string]bool{}
	compare := func(a, b *Sums) {
		for _, g := range a.list {
			o, zero := &sum{}, g.Rows == 0
			if i, ok := b.byKey[g.sumKey]; ok {
				o = b.list[i]
			} else if zero {
				continue
			}
			if g.Label == "" && (g.Rows != o.Rows || g.Seconds != o.Seconds || g.Held.Cmp(&o.Held.Int) != 0) {
				differ[g.currency()] = true
			}
		}
	}
	compare(s, other)
	compare(other, s)
	for _, currency := range slices.Sorted(maps.Keys(differ)) {
		mine, others = append(mine, s.amounts(currency)), append(others, other.amounts(currency))
	}
	return mine, others
}

// currency is the one that a sum is paid in; "" = its price or share is not known.
func (g *sum) currency() string {
	if _, ok := ParsePrice(g.Price); !ok || g.Of == 0 {
		return ""
	}
	return g.Currency
}

func (s *Sums) amounts(currency string) Amounts {
	a := Amounts{Currency: currency}
	used, paid := bill{}, bill{}
	for _, g := range s.list {
		switch {
		case g.Label != "" || g.currency() != currency:
			continue
		case g.Node:
			a.Nodes += g.Seconds
			paid.addHeld(tariff{g.Price, g.Of}, &g.Held.Int)
		default:
			a.Seconds += g.Seconds
			used.addHeld(tariff{g.Price, g.Of}, &g.Held.Int)
		}
		a.Rows += g.Rows
	}
	a.Cost, a.Paid = used.sum(), paid.sum()
	return a
}
