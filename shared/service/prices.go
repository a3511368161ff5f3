package service

import (
	"context"
	"log/slog"
	"math/big"
	"regexp"
	"strings"
	"sync"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/fleet"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/price"
	"dsvmpools/shared/usage"
	"dsvmpools/shared/wire"
)

// PriceStore keeps prices. shared/store implements it.
type PriceStore interface {
	PoolNames(ctx context.Context) ([]string, error)
	Overview(ctx context.Context, name string) (*pool.Partition, error)
	ReadPrices(ctx context.Context, currency, region string) ([]price.Row, []price.Look, error)
	WritePrices(ctx context.Context, currency, region string, c price.Change) error
}

// PriceList is the price list of Azure.
type PriceList interface {
	// Items are all rows for a filter. It tries again what may pass; fault.Throttled: nobody
	// answers now.
	Items(ctx context.Context, filter string) ([]price.Item, error)
}

// PricesConfig is what the prices stand on.
type PricesConfig struct {
	Store  PriceStore
	List   PriceList
	Nodes  NodeModel
	Region string // of the deployment
	Factor price.Factor
	Log    *slog.Logger
	Now    func() time.Time // UTC; nil = the clock
}

// Prices keeps what nodes cost: it asks the price list, and takes what people set by hand.
type Prices struct {
	PricesConfig

	mu     sync.Mutex
	book   *price.Book // nil = not read yet
	readAt time.Time
}

// listCurrency is that in which the price list is asked.
const listCurrency = "USD"

// bookAge is how old the prices in memory may be: another process may have written newer
// ones.
const bookAge = time.Minute

// NewPrices returns the prices of a deployment.
func NewPrices(c PricesConfig) *Prices {
	if c.Now == nil {
		c.Now = func() time.Time { return time.Now().UTC() }
	}
	return &Prices{PricesConfig: c}
}

// read returns the prices as they are in the store, or were a moment ago. After an error
// the ones that are known stay.
func (p *Prices) read(ctx context.Context, fresh bool) (*price.Book, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.Now()
	if !fresh && p.book != nil && now.Sub(p.readAt) < bookAge {
		return p.book, nil
	}
	rows, looks, err := p.Store.ReadPrices(ctx, listCurrency, p.Region)
	if currency := p.Factor.Currency(); err == nil && currency != listCurrency {
		var own []price.Row
		own, _, err = p.Store.ReadPrices(ctx, currency, p.Region)
		rows = append(without(rows, price.Manual), own...)
	}
	if err != nil {
		return p.book, err
	}
	p.book, p.readAt = &price.Book{Rows: rows, Looks: looks, Factor: p.Factor}, now
	return p.book, nil
}

// without leaves out what is set by hand in another currency.
func without(rows []price.Row, source string) (left []price.Row) {
	for _, r := range rows {
		if r.Source != source {
			left = append(left, r)
		}
	}
	return left
}

// forget has the next reader read the store.
func (p *Prices) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.readAt = time.Time{}
}

// pricedNode is what a node of a model is paid for. Who brings a license of their own pays for
// Windows what Linux costs.
func pricedNode(m fleet.Model) price.Node {
	n := price.Node{Size: m.Size, Windows: m.Windows && m.License == "", Spot: m.Spot, Address: m.PublicIP}
	if m.OSDisk.Placement == "" {
		n.Disk = price.Tier(m.OSDisk.GiB)
	}
	return n
}

// tariffs are what a node of a model costs, now and as far as is announced. nil: the prices
// cannot be read now.
func (p *Prices) tariffs(ctx context.Context, m fleet.Model) []pool.Tariff {
	if p == nil {
		return tariffsOf(&price.Book{}, m, time.Time{})
	}
	book, err := p.read(ctx, false)
	if err != nil {
		p.Log.WarnContext(ctx, "prices cannot be read", "error", err)
	}
	if book == nil {
		return nil
	}
	return tariffsOf(book, m, p.Now())
}

func tariffsOf(book *price.Book, m fleet.Model, now time.Time) (all []pool.Tariff) {
	for _, c := range book.Costs(pricedNode(m), now) {
		all = append(all, pool.Tariff{From: c.From, PerHour: c.PerHour, Currency: c.Currency, Parts: c.Parts})
	}
	return all
}

// wantsOf are the things that a pool needs prices of.
func (p *Prices) wantsOf(head *pool.Head) (all []price.Want) {
	for _, set := range head.Sets {
		m, err := p.Nodes.of(head.Spec.Name, head.Spec, set)
		if err != nil {
			continue // such a set has no nodes
		}
		all = append(all, pricedNode(m).Wants()...)
	}
	if head.Spec.IsInteractive() {
		all = append(all, price.Want{What: price.Balancer})
	}
	return all
}

// inUse are the things that the pools need prices of, each once.
func (p *Prices) inUse(ctx context.Context) (all []price.Want, err error) {
	names, err := p.Store.PoolNames(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		part, err := p.Store.Overview(ctx, name)
		if fault.CodeOf(err) == fault.NotFound {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, p.wantsOf(&part.Head)...)
	}
	return once(all), nil
}

// once leaves out what is there already.
func once(all []price.Want) (left []price.Want) {
	seen := map[string]bool{}
	for _, w := range all {
		if !seen[w.Key()] {
			seen[w.Key()] = true
			left = append(left, w)
		}
	}
	return left
}

// Refresh asks the price list for all that the pools use. What has no price there is in the
// problems, and keeps the last good one. fault.Throttled: the price list does not answer.
func (p *Prices) Refresh(ctx context.Context) (wire.PricesRefreshed, error) {
	wants, err := p.inUse(ctx)
	if err != nil {
		return wire.PricesRefreshed{}, err
	}
	return p.ask(ctx, wants)
}

// RefreshPool asks the price list for what a pool uses and nobody has asked for yet. What it
// cannot ask, the next Refresh does.
func (p *Prices) RefreshPool(ctx context.Context, name string) error {
	part, err := p.Store.Overview(ctx, name)
	if fault.CodeOf(err) == fault.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	book, err := p.read(ctx, true)
	if err != nil {
		return err
	}
	if _, err := p.ask(ctx, unasked(book, p.wantsOf(&part.Head))); err != nil {
		p.Log.WarnContext(ctx, "prices cannot be asked for", "pool", name, "error", err)
	}
	return nil
}

// unasked are the things for which the price list has not been asked.
func unasked(book *price.Book, wants []price.Want) (left []price.Want) {
	for _, w := range once(wants) {
		if _, asked := book.Look(w); !asked {
			left = append(left, w)
		}
	}
	return left
}

// hasNew reports whether a pool uses something that the price list has not been asked for.
func (p *Prices) hasNew(ctx context.Context, head *pool.Head) bool {
	book, err := p.read(ctx, false)
	return err == nil && len(unasked(book, p.wantsOf(head))) > 0
}

// ask asks the price list, once for things with the same filter, and writes what it says.
func (p *Prices) ask(ctx context.Context, wants []price.Want) (r wire.PricesRefreshed, err error) {
	r.Problems = []string{}
	if len(wants) == 0 {
		return r, nil
	}
	defer p.forget()
	book, err := p.read(ctx, true)
	if err != nil {
		return r, err
	}
	answers := map[string][]price.Item{}
	for _, w := range wants {
		filter := w.Filter(p.Region)
		items, has := answers[filter]
		if !has {
			if items, err = p.List.Items(ctx, filter); err != nil {
				return r, err
			}
			answers[filter] = items
		}
		r.Asked++
		change := book.Update(w, items, p.Region, p.Now())
		if err := p.Store.WritePrices(ctx, listCurrency, p.Region, change); err != nil {
			return r, err
		}
		if len(change.Put)+len(change.Drop) > 0 {
			r.Changed++
		}
		if change.Look.Problem != "" {
			r.Problems = append(r.Problems, change.Look.Problem)
			p.Log.WarnContext(ctx, "a price is not known", "thing", w.String(), "reason", change.Look.Problem)
		}
	}
	return r, nil
}

var (
	sizeName = regexp.MustCompile(`^(Standard|Basic)_[A-Za-z0-9_-]{1,60}$`)
	tierName = regexp.MustCompile(`^E[0-9]{1,3}$`)
)

// mostPerHour is a price that no machine has.
var mostPerHour = big.NewRat(100_000, 1)

// Set sets a price by hand, or takes that back. Errors have code Invalid.
func (p *Prices) Set(ctx context.Context, s wire.SetPrice) (wire.Price, error) {
	w, err := wantOf(s)
	if err != nil {
		return wire.Price{}, err
	}
	amount, ok := usage.ParsePrice(s.PerHour)
	if s.PerHour != "" && (!ok || amount.Cmp(mostPerHour) > 0) {
		return wire.Price{}, fault.New(fault.Invalid, "perHour", "perHour is %.40q; write a decimal number up to %s, such as 0.192",
			s.PerHour, mostPerHour.FloatString(0))
	}
	now := p.Now().Truncate(time.Second)
	row := price.Row{Want: w, Source: price.Manual, FetchedAt: now, Price: price.Price{PerHour: s.PerHour, From: now}}
	defer p.forget()
	if err := p.Store.WritePrices(ctx, p.Factor.Currency(), p.Region, price.Change{Put: []price.Row{row}}); err != nil {
		return wire.Price{}, err
	}
	book, err := p.read(ctx, true)
	if err != nil {
		return wire.Price{}, err
	}
	return p.show(book, w, false), nil
}

// wantOf is the thing that a request names.
func wantOf(s wire.SetPrice) (w price.Want, err error) {
	switch sku := strings.TrimSpace(s.SKU); {
	case sku == string(price.Address) || sku == string(price.Balancer):
		w.What = price.What(sku)
	case tierName.MatchString(sku):
		w.What, w.SKU = price.Disk, sku
	case sizeName.MatchString(sku):
		w.What, w.SKU, w.Spot, w.Windows = price.VM, sku, s.Spot, s.OS == pool.Windows
		if s.OS != "" && s.OS != pool.Windows && s.OS != pool.Linux {
			return w, fault.New(fault.Invalid, "os", "os is %.40q; write linux or windows", s.OS)
		}
		return w, nil
	default:
		return w, fault.New(fault.Invalid, "sku",
			"there is no price for %.80q; name a size such as Standard_D4s_v5, a tier of disks such as E10, address or balancer", s.SKU)
	}
	if s.Spot || s.OS != "" {
		return w, fault.New(fault.Invalid, "sku", "Spot and a system are those of a size; %q is none", s.SKU)
	}
	return w, nil
}

// All are the prices of what the pools use, and of all else that was asked for or set.
func (p *Prices) All(ctx context.Context) ([]wire.Price, error) {
	used, err := p.inUse(ctx)
	if err != nil {
		return nil, err
	}
	book, err := p.read(ctx, true)
	if err != nil {
		return nil, err
	}
	wants := used
	for _, l := range book.Looks {
		wants = append(wants, l.Want)
	}
	for _, r := range book.Rows {
		wants = append(wants, r.Want)
	}
	all := []wire.Price{}
	for i, w := range once(wants) {
		all = append(all, p.show(book, w, i < len(used)))
	}
	return all, nil
}

// show is a price for people.
func (p *Prices) show(book *price.Book, w price.Want, inUse bool) wire.Price {
	now := p.Now()
	k := book.Find(w, now)
	out := wire.Price{What: string(w.What), SKU: w.SKU, Spot: w.Spot, PerHour: k.PerHour, List: k.List, Source: k.Source,
		Currency: p.Factor.Currency(), InUse: inUse}
	if w.What == price.VM {
		out.OS = pool.Linux
		if w.Windows {
			out.OS = pool.Windows
		}
	}
	if !k.From.IsZero() {
		out.From = &k.From
	}
	if l, ok := book.Look(w); ok {
		out.AskedAt, out.Problem = &l.AskedAt, l.Problem
	}
	if next, from, ok := book.Next(w, now); ok {
		out.Next = &wire.NextPrice{PerHour: next, From: from}
	}
	return out
}

// Troubles says what a person should do about the prices of what the pools use.
func (p *Prices) Troubles(ctx context.Context) (all []price.Trouble, err error) {
	used, err := p.inUse(ctx)
	if err != nil {
		return nil, err
	}
	book, err := p.read(ctx, false)
	if err != nil {
		return nil, err
	}
	for _, w := range used {
		if t, bad := book.Trouble(w, p.Now()); bad {
			all = append(all, t)
		}
	}
	return all, nil
}

// troubles are those that leave the ledger without a price, or with an old one.
func (p *Prices) troubles(ctx context.Context) ([]wire.Trouble, error) {
	if p == nil {
		return nil, nil
	}
	found, err := p.Troubles(ctx)
	var all []wire.Trouble
	for _, t := range found {
		if !t.IsGrave {
			continue
		}
		one := wire.Trouble{Kind: wire.TroublePrices, About: "prices", Text: t.Text, Do: t.Do}
		if !t.Since.IsZero() {
			one.Since = &t.Since
		}
		all = append(all, one)
	}
	return all, err
}
