package price

import (
	"math/big"
	"slices"
	"strings"
	"time"

	"dsvmpools/shared/usage"
)

// Where a price is from.
const (
	Retail  = "retail"  // the Retail Prices API
	Manual  = "manual"  // somebody has set it
	Builtin = "builtin" // this version has it built in, and nobody has asked the API yet
	Unknown = "unknown" // nobody knows one
)

// Row is one price in the history of a thing.
type Row struct {
	Want
	Price
	Source    string    // Retail or Manual. Manual with an empty PerHour: from then on it is not set by hand
	FetchedAt time.Time // when it was read or set
}

// Look is how asking the API for a thing went last.
type Look struct {
	Want
	AskedAt time.Time
	GoodAt  time.Time // when it had a price last; zero = never
	Problem string    // why it had none the last time; "" = it had
}

// Book is all prices of a deployment, in its region.
type Book struct {
	Rows   []Row
	Looks  []Look
	Factor Factor
}

// Known is the price of one thing at a time.
type Known struct {
	PerHour string // in the currency of the factor, with the factor in it; usage.UnknownPrice
	List    string // as the price list has it; "" = it is no price of the list
	Source  string
	From    time.Time // zero = it is not known since when
}

// Find is the price of a thing at a time: what is set by hand, else the last one of the API,
// else what is built in, as long as the API has not been asked.
func (b *Book) Find(w Want, at time.Time) Known {
	if row, ok := b.last(w, Manual, at); ok && row.PerHour != "" {
		return Known{PerHour: row.PerHour, Source: Manual, From: row.From}
	}
	if row, ok := b.last(w, Retail, at); ok {
		return Known{PerHour: b.Factor.of(row.PerHour), List: row.PerHour, Source: Retail, From: row.From}
	}
	if _, asked := b.Look(w); !asked {
		if list, ok := builtin(w); ok {
			return Known{PerHour: b.Factor.of(list), List: list, Source: Builtin}
		}
	}
	return Known{PerHour: usage.UnknownPrice, Source: Unknown}
}

// last is the row of a source that counts at a time: the one that began last.
func (b *Book) last(w Want, source string, at time.Time) (found Row, ok bool) {
	for _, row := range b.Rows {
		if row.Source == source && row.Want.is(w) && !row.From.After(at) && (!ok || row.From.After(found.From)) {
			found, ok = row, true
		}
	}
	return found, ok
}

// Look is how asking for a thing went last; false: the API has not been asked for it.
func (b *Book) Look(w Want) (Look, bool) {
	for _, l := range b.Looks {
		if l.Want.is(w) {
			return l, true
		}
	}
	return Look{}, false
}

// is compares two things; names of sizes differ by letter case alone.
func (w Want) is(other Want) bool { return w.Key() == other.Key() }

// Key names a thing in the store.
func (w Want) Key() string {
	system, kind := "linux", "regular"
	if w.Windows {
		system = "windows"
	}
	if w.Spot {
		kind = "spot"
	}
	return string(w.What) + "!" + strings.ToLower(w.SKU) + "!" + system + "!" + kind
}

// Node is what a node is paid for.
type Node struct {
	Size    string
	Windows bool
	Spot    bool
	Disk    string // tier of its managed OS disk; "" = its disk is on the machine itself, which costs nothing
	Address bool   // it has a public address
}

// Wants are the things that a node is paid for.
func (n Node) Wants() []Want {
	all := []Want{{What: VM, SKU: n.Size, Windows: n.Windows, Spot: n.Spot}}
	if n.Disk != "" {
		all = append(all, Want{What: Disk, SKU: n.Disk})
	}
	if n.Address {
		all = append(all, Want{What: Address})
	}
	return all
}

// Cost is what a node costs per hour from a time on.
type Cost struct {
	From     time.Time
	PerHour  string // the exact sum of the parts; usage.UnknownPrice if one of them is not known
	Currency string
	usage.Parts
}

// Cost is what a node costs at a time.
func (b *Book) Cost(n Node, at time.Time) Cost {
	c := Cost{Currency: b.Factor.Currency()}
	total, isKnown := new(big.Rat), true
	for _, w := range n.Wants() {
		k := b.Find(w, at)
		amount, ok := usage.ParsePrice(k.PerHour)
		if isKnown = isKnown && ok; ok {
			total.Add(total, amount)
		}
		if k.From.After(c.From) {
			c.From = k.From
		}
		if c.Source == "" || rank(k.Source) > rank(c.Source) {
			c.Source = k.Source
		}
		switch w.What {
		case VM:
			c.VM = k.PerHour
		case Disk:
			c.Disk = k.PerHour
		case Address:
			c.Address = k.PerHour
		case Balancer: // is no part of a node
		}
	}
	if c.PerHour = usage.UnknownPrice; isKnown {
		c.PerHour = write(total)
	}
	return c
}

// rank orders sources: the source of a sum is that of its least sure part.
func rank(source string) int { return slices.Index([]string{Retail, Manual, Builtin, Unknown}, source) }

// Costs is what a node costs now, and what it will cost as far as that is announced; the
// next change first.
func (b *Book) Costs(n Node, now time.Time) []Cost {
	all := []Cost{b.Cost(n, now)}
	var changes []time.Time
	for _, w := range n.Wants() {
		for _, row := range b.Rows {
			if row.Want.is(w) && row.From.After(now) {
				changes = append(changes, row.From)
			}
		}
	}
	slices.SortFunc(changes, time.Time.Compare)
	for _, at := range slices.CompactFunc(changes, time.Time.Equal) {
		if c := b.Cost(n, at); len(all) <= mostAnnounced && c.PerHour != all[len(all)-1].PerHour {
			c.From = at
			all = append(all, c)
		}
	}
	return all
}

// OldAfter is the age from which prices are a trouble: they are read once a day.
const OldAfter = 7 * 24 * time.Hour

// Change is what an answer of the API changes in the book.
type Change struct {
	Put  []Row
	Drop []Row // announced once, and not any more
	Look Look
}

// Update compares an answer of the API with the book. An answer without a price keeps the
// last good one. now is when the API was asked.
func (b *Book) Update(w Want, items []Item, region string, now time.Time) Change {
	look, _ := b.Look(w)
	look.Want, look.AskedAt, look.Problem = w, now, ""
	current, err := Pick(items, w, region, now)
	if err != nil {
		look.Problem = err.Error()
		return Change{Look: look}
	}
	look.GoodAt = now
	c := Change{Look: look}
	before, had := b.last(w, Retail, now)
	if !had || before.PerHour != current.PerHour {
		if had { // what was paid until now stays as it is
			current.From = now
		}
		c.Put = append(c.Put, Row{Want: w, Price: current, Source: Retail, FetchedAt: now})
	}
	announced := Announced(items, w, region, now)
	for _, row := range b.Rows {
		isSaid := func(p Price) bool { return p.From.Equal(row.From) }
		if row.Source == Retail && row.Want.is(w) && row.From.After(now) && !slices.ContainsFunc(announced, isSaid) {
			c.Drop = append(c.Drop, row)
		}
	}
	for _, p := range announced {
		if known, ok := b.last(w, Retail, p.From); !ok || known.PerHour != p.PerHour || !known.From.Equal(p.From) {
			c.Put = append(c.Put, Row{Want: w, Price: p, Source: Retail, FetchedAt: now})
		}
	}
	return c
}

// Next is the next change of a price that is known before it counts.
func (b *Book) Next(w Want, now time.Time) (perHour string, from time.Time, ok bool) {
	is := b.Find(w, now).PerHour
	for _, row := range b.Rows {
		if row.Want.is(w) && row.From.After(now) && (!ok || row.From.Before(from)) {
			if will := b.Find(w, row.From).PerHour; will != is {
				perHour, from, ok = will, row.From, true
			}
		}
	}
	return perHour, from, ok
}

// Trouble is something that a person should do about a price.
type Trouble struct {
	Text, Do string
	Since    time.Time // zero = not known
	IsGrave  bool      // what nodes cost is not known, or may be wrong by now
}

// Trouble says what a person should do about the price of a thing; false: nothing.
func (b *Book) Trouble(w Want, now time.Time) (Trouble, bool) {
	known := b.Find(w, now)
	look, asked := b.Look(w)
	switch {
	case known.Source == Manual:
	case !asked:
		return Trouble{Text: "the price of " + w.String() + " is the one that this version has built in, for East US",
			Do: "`dsvm price refresh` asks Azure's price list, which happens by itself once a day"}, true
	case known.Source == Unknown:
		text := "nobody knows a price for " + w.String() + ": " + look.Problem
		return Trouble{Text: text, Do: "set one with `dsvm price set`", IsGrave: true}, true
	case now.Sub(look.GoodAt) > OldAfter:
		return Trouble{Text: "the price of " + w.String() + " was read more than a week ago, and prices are read once a day",
			Do: "`dsvm price refresh` says why it cannot be read", Since: look.GoodAt, IsGrave: true}, true
	}
	return Trouble{}, false
}
