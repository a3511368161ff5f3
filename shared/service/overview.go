package service

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"math/big"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"dsvmpools/shared/drive"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/scheduler"
	"dsvmpools/shared/store"
	"dsvmpools/shared/usage"
	"dsvmpools/shared/wire"
)

// A page asks every few seconds what goes on. What costs more than a look at the heads of the
// pools is remembered by this process for a short time.
const (
	// namesLast is how long the names of pools are remembered: a new pool is shown so much later.
	namesLast = 10 * time.Second
	// slowLast is how long the month's cost, the budgets and the troubles are remembered.
	slowLast = time.Minute
	// headsAtOnce bounds the pools that are looked at side by side.
	headsAtOnce = 16
)

// Overview shows what goes on over all pools, and what a person must do. It writes nothing.
type Overview struct {
	store    *store.Store
	driver   *drive.Driver
	ledger   *Ledger
	troubles []troubleSource
	budgets  func(ctx context.Context) ([]wire.NowBudget, error) // nil = there are none
	log      *slog.Logger
	now      func() time.Time

	mu    sync.Mutex
	names remembered[[]string]
	slow  remembered[slowFacts]
}

// remembered is something that was found out at a time.
type remembered[T any] struct {
	value T
	at    time.Time
}

// slowFacts are what is found out once a minute.
type slowFacts struct {
	month    string
	currency string
	budgets  []wire.NowBudget
	troubles int
}

// Version names what Now would answer to a query, without quotes: as long as it stays the same,
// so does the answer but for times and amounts that are less than a minute old. It reads the
// version of each pool and nothing else.
func (o *Overview) Version(ctx context.Context, q wire.NowQuery) (string, error) {
	names, err := o.poolNames(ctx)
	if err != nil {
		return "", err
	}
	slow, err := o.slowFacts(ctx)
	if err != nil {
		return "", err
	}
	versions := make([]pool.Version, len(names))
	group, grouped := errgroup.WithContext(ctx)
	group.SetLimit(headsAtOnce)
	for i, name := range names {
		group.Go(func() (err error) {
			if versions[i], err = o.store.Head(grouped, name); fault.CodeOf(err) == fault.NotFound {
				return nil
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return "", err
	}
	sum := sha256.New()
	fmt.Fprintf(sum, "%q %d %v\n", []string{q.Team, q.User}, o.now().Unix()/int64(slowLast/time.Second), slow)
	for i, v := range versions {
		fmt.Fprintf(sum, "%q %d %q\n", names[i], v.Seq, v.Nonce)
	}
	return hex.EncodeToString(sum.Sum(nil)[:12]), nil
}

// Now says what goes on.
func (o *Overview) Now(ctx context.Context, q wire.NowQuery) (wire.Now, error) {
	out := wire.Now{Time: o.now(), User: q.User, Team: q.Team, Pools: []wire.NowPool{}, Budgets: []wire.NowBudget{}}
	all, err := o.tallies(ctx)
	if err != nil {
		return out, err
	}
	slow, err := o.slowFacts(ctx)
	if err != nil {
		return out, err
	}
	var jobs, mine scheduler.JobCounts
	var prices priceSum
	for _, t := range all {
		for of, n := range t.Jobs {
			if q.Team != "" && of.Team != q.Team {
				continue
			}
			jobs.Add(n)
			if q.User != "" && of.User == q.User {
				mine.Add(n)
			}
		}
		line, of := o.poolLine(t)
		out.Pools = append(out.Pools, line)
		prices.addAll(of)
	}
	out.Jobs, out.Mine = wire.NewNowJobs(jobs), wire.NewNowJobs(mine)
	out.CostPerHour, out.Unpriced = prices.text(), prices.unknown
	out.MonthToDate, out.Currency = slow.month, cmp.Or(prices.currency, slow.currency)
	out.Budgets, out.Troubles = append(out.Budgets, slow.budgets...), slow.troubles
	return out, nil
}

// poolLine is a pool in one line, with what its nodes cost.
func (o *Overview) poolLine(t *drive.Tally) (wire.NowPool, *priceSum) {
	shown := wire.NewPool(summaryOf(t, o.now()))
	sum := &priceSum{}
	for _, n := range t.Nodes {
		if isBilled(n) {
			price, ok := usage.ParsePrice(n.Price)
			sum.add(price, ok, n.Currency)
		}
	}
	return wire.NowPool{Name: shown.Name, State: shown.State, Kind: shown.Kind, Nodes: wire.NewNowNodes(shown.Nodes),
		Queued: shown.Queued, Running: shown.Running, PricePerHour: sum.text()}, sum
}

// summaryOf is what is known of a pool as other routes have it.
func summaryOf(t *drive.Tally, now time.Time) wire.PoolSummary {
	h := t.Head
	return wire.PoolSummary{Head: h, Queued: h.Queued, Running: h.Running, Wanted: h.Wanted, Nodes: t.Nodes, At: now}
}

// isBilled reports whether a node costs money now.
func isBilled(n *pool.Node) bool { return n.State != pool.NodeGone && !n.RunningAt.IsZero() }

// tallies counts all pools, by name.
func (o *Overview) tallies(ctx context.Context) ([]*drive.Tally, error) {
	names, err := o.poolNames(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]*drive.Tally, len(names))
	group, grouped := errgroup.WithContext(ctx)
	group.SetLimit(headsAtOnce)
	for i, name := range names {
		group.Go(func() (err error) {
			if all[i], err = o.driver.Tally(grouped, name); fault.CodeOf(err) == fault.NotFound {
				return nil
			}
			return err
		})
	}
	err = group.Wait()
	return slices.DeleteFunc(all, func(t *drive.Tally) bool { return t == nil }), err
}

// poolNames are the names of all pools, some seconds old.
func (o *Overview) poolNames(ctx context.Context) ([]string, error) {
	o.mu.Lock()
	known := o.names
	o.mu.Unlock()
	if !known.isOlder(o.now(), namesLast) {
		return known.value, nil
	}
	names, err := o.store.PoolNames(ctx)
	if err != nil {
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.names = remembered[[]string]{names, o.now()}
	return names, nil
}

// isOlder reports whether something has to be found out again. A clock that was set back makes
// everything old.
func (r *remembered[T]) isOlder(now time.Time, than time.Duration) bool {
	return r.at.IsZero() || now.Sub(r.at) >= than || now.Before(r.at)
}

// slowFacts are the facts that are found out once a minute. One that cannot be found out is
// unknown, and does not keep the rest from being shown.
func (o *Overview) slowFacts(ctx context.Context) (slowFacts, error) {
	o.mu.Lock()
	known := o.slow
	o.mu.Unlock()
	if !known.isOlder(o.now(), slowLast) {
		return known.value, nil
	}
	facts := slowFacts{}
	group, grouped := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		if facts.month, facts.currency, err = o.monthToDate(grouped); err != nil && grouped.Err() == nil {
			o.log.ErrorContext(ctx, "cost of the month not found out", "error", err)
			facts.month, err = usage.UnknownPrice, nil
		}
		return err
	})
	group.Go(func() error {
		found, err := o.Troubles(grouped)
		facts.troubles = len(found)
		return err
	})
	if o.budgets != nil {
		group.Go(func() (err error) {
			if facts.budgets, err = o.budgets(grouped); err != nil && grouped.Err() == nil {
				o.log.ErrorContext(ctx, "budgets not found out", "error", err)
				err = nil
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return slowFacts{}, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.slow = remembered[slowFacts]{facts, o.now()}
	return facts, nil
}

// monthToDate is what the nodes of this month, in UTC, have cost until now, used or not.
func (o *Overview) monthToDate(ctx context.Context) (amount, currency string, err error) {
	now := o.now().UTC()
	begin := time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC)
	if !begin.Before(now) {
		return usage.Amount(new(big.Rat)), "", nil
	}
	report, err := o.ledger.Report(ctx, usage.Query{By: usage.ByPool, From: begin})
	if err != nil {
		return "", "", err
	}
	var sum priceSum
	for _, g := range report.Totals {
		cost, ok := new(big.Rat).SetString(g.Cost)
		if waste, more := new(big.Rat).SetString(g.Waste); ok && more {
			cost.Add(cost, waste)
		}
		sum.add(cost, ok, g.Currency)
	}
	return sum.text(), sum.currency, nil
}

// priceSum adds up amounts of one currency.
type priceSum struct {
	sum      big.Rat
	currency string
	known    int
	unknown  int // amounts that are not known, or in another currency
}

func (s *priceSum) add(value *big.Rat, ok bool, currency string) {
	if !ok || s.known > 0 && currency != s.currency {
		s.unknown++
		return
	}
	s.sum.Add(&s.sum, value)
	s.currency = currency
	s.known++
}

// addAll adds a whole sum.
func (s *priceSum) addAll(other *priceSum) {
	if other.known > 0 {
		s.add(&other.sum, true, other.currency)
	}
	s.unknown += other.unknown
}

// text is the sum; where nothing is known of what there is, that it is unknown.
func (s *priceSum) text() string {
	if s.known == 0 && s.unknown > 0 {
		return usage.UnknownPrice
	}
	return usage.Amount(&s.sum)
}
