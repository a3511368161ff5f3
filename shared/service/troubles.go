package service

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"dsvmpools/shared/drive"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/usage"
	"dsvmpools/shared/wire"
)

// troubleSource finds troubles of one kind in what is there. It keeps no state of its own: a
// trouble is gone when its cause is.
type troubleSource struct {
	what string // what it finds, for the sentence that it could not
	find func(ctx context.Context) ([]wire.Trouble, error)
}

// troubleSources are all of them. What mends itself is no trouble.
func (o *Overview) troubleSources(rejected *Rejected, budgets *Budgets, prices *Prices) []troubleSource {
	return []troubleSource{
		{"whether pools and nodes are in trouble", o.poolTroubles},
		{"whether messages were rejected", rejected.troubles},
		{"whether use waits to be recorded", o.ledgerTroubles},
		{"whether budgets hold work", budgets.troubles},
		{"whether prices are known", prices.troubles},
	}
}

// Troubles lists what a person must do something about, by pool.
func (o *Overview) Troubles(ctx context.Context) ([]wire.Trouble, error) {
	all := []wire.Trouble{}
	for _, source := range o.troubles {
		found, err := source.find(ctx)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err != nil {
			o.log.ErrorContext(ctx, "troubles not found out", "what", source.what, "error", err)
			found = []wire.Trouble{{Kind: wire.TroubleUnknown, About: "the deployment",
				Text: "it cannot be found out now " + source.what, Do: "`dsvm doctor` says which service does not answer"}}
		}
		all = append(all, found...)
	}
	slices.SortStableFunc(all, func(a, b wire.Trouble) int { return strings.Compare(a.Pool, b.Pool) })
	return all, nil
}

// poolTroubles finds what is wrong with pools and their nodes.
func (o *Overview) poolTroubles(ctx context.Context) ([]wire.Trouble, error) {
	tallies, err := o.tallies(ctx)
	if err != nil {
		return nil, err
	}
	now := o.now()
	var all []wire.Trouble
	for _, t := range tallies {
		if t.Head.Deleting {
			continue
		}
		all = append(all, setTroubles(t, now)...)
		all = append(all, networkTroubles(t)...)
		for _, n := range t.Nodes {
			if n.State == pool.NodeQuarantined {
				all = append(all, quarantineTrouble(t.Head.Spec.Name, n))
			}
		}
	}
	return all, nil
}

// setTroubles finds what keeps the scale sets of a pool from giving nodes.
func setTroubles(t *drive.Tally, now time.Time) (all []wire.Trouble) {
	name := t.Head.Spec.Name
	shown := wire.NewPool(summaryOf(t, now))
	add := func(kind, text, do string, since time.Time) {
		one := wire.Trouble{Kind: kind, About: fmt.Sprintf("pool %q", name), Pool: name, Text: text, Do: do}
		if !since.IsZero() {
			one.Since = &since
		}
		all = append(all, one)
	}
	for i := range t.Head.Sets {
		set := &t.Head.Sets[i]
		if p := set.Model.Problem; p != "" {
			add(wire.TroubleModel, fmt.Sprintf("new nodes of %s are made as before, since what they are made of cannot be written: %s", set, p),
				"mend the cause; it is tried again by itself", time.Time{})
		}
		if set.Breaker.Open() {
			do := fmt.Sprintf("`dsvm node console` shows what a node wrote; then `dsvm pool resume %s`", name)
			add(wire.TroubleBreaker, set.Breaker.Message(name), do, set.Breaker.OpenedAt)
			continue
		}
		if set.Blocked.Code == "" || !now.Before(set.Blocked.Until) {
			continue
		}
		text := fmt.Sprintf("%s: %s", set, set.Blocked.Message)
		switch fault.Code(set.Blocked.Code) {
		case fault.NoQuota:
			add(wire.TroubleQuota, text, "ask for more quota in the portal under Quotas, name another size, or let the jobs wait", time.Time{})
		case fault.Invalid, fault.NotFound, fault.Forbidden:
			add(wire.TroubleSize, text, fmt.Sprintf("change the pool with `dsvm pool apply`, then `dsvm pool resume %s`", name), time.Time{})
		}
	}
	if len(all) == 0 && shown.State == wire.PoolBlocked && t.Head.Queued > 0 {
		add(wire.TroubleBlocked, fmt.Sprintf("%d jobs wait, and no size can be had: %s", t.Head.Queued, shown.Reason),
			"name more sizes, Spot and regular, in the pool, or wait", time.Time{})
	}
	return all
}

// networkTroubles finds what keeps people from coming in beside the relay.
func networkTroubles(t *drive.Tally) []wire.Trouble {
	why := t.Head.Opening.Problem
	if why == "" {
		return nil
	}
	name := t.Head.Spec.Name
	return []wire.Trouble{{Kind: wire.TroubleNetwork, About: fmt.Sprintf("pool %q", name), Pool: name,
		Text: "people come in through the relay alone: " + why, Do: "mend the cause; it is tried again by itself"}}
}

// quarantineTrouble is a node that is kept for a look, and billed.
func quarantineTrouble(name string, n *pool.Node) wire.Trouble {
	price := "at an unknown price"
	if n.Price != "" && n.Price != usage.UnknownPrice {
		price = fmt.Sprintf("%s %s an hour", n.Price, n.Currency)
	}
	since := n.Since.UTC()
	return wire.Trouble{Kind: wire.TroubleNode, About: fmt.Sprintf("node %q", n.Name), Pool: name, Node: n.Name, Since: &since,
		Text: fmt.Sprintf("quarantined until %s and billed %s: %s", n.QuarantinedUntil().UTC().Format(time.RFC3339), price,
			cmp.Or(n.Reason, "it broke different jobs in a row")),
		Do: fmt.Sprintf("look with `dsvm node console %s`, then `dsvm node release %s` or `dsvm node delete %s`", n.Name, n.Name, n.Name)}
}

// ledgerLate is how long use may wait to be recorded. It is recorded within minutes, and a timer
// does it each hour at the latest.
const ledgerLate = 2 * time.Hour

// ledgerTroubles finds use that waits for too long to be recorded.
func (o *Overview) ledgerTroubles(ctx context.Context) ([]wire.Trouble, error) {
	names, err := o.poolNames(ctx)
	if err != nil {
		return nil, err
	}
	var all []wire.Trouble
	for _, name := range names {
		logs, err := o.store.Logs(ctx, name, 1)
		if err != nil {
			return nil, err
		}
		if len(logs) == 0 || len(logs[0].Entries) == 0 {
			continue
		}
		since := logs[0].Entries[0].To.UTC()
		if o.now().Sub(since) < ledgerLate {
			continue
		}
		all = append(all, wire.Trouble{Kind: wire.TroubleLedger, About: fmt.Sprintf("pool %q", name), Pool: name, Since: &since,
			Text: "what was used is not in the ledger yet, so that reports and budgets are too low",
			Do:   "look at the log of the function RecordUsage; `dsvm doctor` says which service does not answer"})
	}
	return all, nil
}

// mostCounted bounds the rejected messages that are counted for a trouble.
const mostCounted = 100

// troubles finds messages that were rejected.
func (r *Rejected) troubles(ctx context.Context) ([]wire.Trouble, error) {
	seen, err := r.bus.Peek(ctx, r.queue(), 0, mostCounted)
	if err != nil || len(seen) == 0 {
		return nil, err
	}
	first := rejectedMessage(seen[0])
	count := fmt.Sprintf("%d messages were rejected", len(seen))
	switch len(seen) {
	case 1:
		count = "1 message was rejected"
	case mostCounted:
		count = fmt.Sprintf("%d messages or more were rejected", mostCounted)
	}
	return []wire.Trouble{{Kind: wire.TroubleRejected, About: fmt.Sprintf("queue %q", r.queue()), Since: first.RejectedAt,
		Text: fmt.Sprintf("%s, the oldest from queue %s: %s", count, first.Source, cmp.Or(first.Reason, "no reason was recorded")),
		Do:   "`dsvm rejected list` shows them; send them again, corrected, or delete them"}}, nil
}
