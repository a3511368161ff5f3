package service

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"dsvmpools/shared/budget"
	"dsvmpools/shared/drive"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/store"
	"dsvmpools/shared/wire"
)

// Budgets keeps the budgets, looks where they stand, and tells the pools.
type Budgets struct {
	store  *store.Store
	driver *drive.Driver
	ledger *Ledger
	log    *slog.Logger
	now    func() time.Time
}

// Budgets lists the budgets by name, as they stood at the last look.
func (b *Budgets) Budgets(ctx context.Context) ([]wire.Budget, error) {
	rows, err := b.store.Budgets.Budgets(ctx)
	if err != nil {
		return nil, err
	}
	states, err := b.store.BudgetStates(ctx)
	if err != nil {
		return nil, err
	}
	list := []wire.Budget{}
	for _, row := range rows {
		list = append(list, showBudget(row, states[row.Name]))
	}
	return list, nil
}

// Budget returns one budget, as it stood at the last look.
func (b *Budgets) Budget(ctx context.Context, name string) (wire.Budget, error) {
	row, err := b.store.Budget(ctx, name)
	if err != nil {
		return wire.Budget{}, err
	}
	states, err := b.store.BudgetStates(ctx)
	return showBudget(row, states[row.Name]), err
}

// summaries are the budgets in short.
func (b *Budgets) summaries(ctx context.Context) ([]wire.NowBudget, error) {
	list, err := b.Budgets(ctx)
	out := []wire.NowBudget{}
	for _, w := range list {
		out = append(out, wire.NowBudget{Name: w.Name, Spent: w.Spent, Amount: w.Amount, Level: w.Level})
	}
	return out, err
}

// troubles finds budgets that keep work from starting, and those that do nothing by fault.
func (b *Budgets) troubles(ctx context.Context) ([]wire.Trouble, error) {
	list, err := b.Budgets(ctx)
	var all []wire.Trouble
	for _, w := range list {
		t := wire.Trouble{Kind: wire.TroubleBudget, About: fmt.Sprintf("budget %q", w.Name), Pool: w.Scope.Pool, Since: w.Since}
		switch {
		case w.Problem != "":
			t.Text, t.Do = w.Problem, "`dsvm budget apply -f FILE`, or `dsvm budget delete "+w.Name+"`"
		case budget.Holds(w.Level):
			t.Text = fmt.Sprintf("%s has spent %s of its %s %s for %s, and its work waits",
				w.Scope.String(), w.Spent, w.Amount, w.Currency, w.Period)
			t.Do = "`dsvm budget raise " + w.Name + "`, or wait for the next period"
		default:
			continue
		}
		all = append(all, t)
	}
	return all, err
}

// showBudget is a budget as the API shows it.
func showBudget(row store.BudgetRow, s store.BudgetState) wire.Budget {
	w := wire.Budget{Name: row.Name, ChangedAt: row.ChangedAt, Budget: json.RawMessage(row.Document), Level: wire.BudgetUnknown}
	of, err := budget.Parse([]byte(row.Document))
	if err != nil {
		w.Problem = fmt.Sprintf("the budget cannot be read (%v); apply it again", err)
		return w
	}
	w.Scope, w.Amount, w.Currency = of.Scope, of.Amount, of.Currency
	if s.AsOf.IsZero() {
		return w
	}
	w.AsOf, w.Level = &s.AsOf, cmp.Or(s.Level, wire.BudgetOK)
	if !s.Since.IsZero() {
		w.Since = &s.Since
	}
	if s.From.IsZero() {
		return w
	}
	w.Spent, w.AtLeast, w.Period, w.From, w.To = s.Spent, s.AtLeast, s.Period, &s.From, &s.To
	if s.Forecast != "" {
		w.Forecast = &wire.BudgetForecast{Low: s.ForecastLow, Expected: s.Forecast, High: s.ForecastHigh}
	}
	return w
}

// ApplyBudgets creates or changes budgets, and looks where they stand. It returns them as they
// are then.
func (b *Budgets) ApplyBudgets(ctx context.Context, budgets []budget.Budget) ([]wire.Budget, error) {
	rows, err := b.store.Budgets.Budgets(ctx)
	if err != nil {
		return nil, err
	}
	count := len(rows)
	for i := range budgets {
		if !slices.ContainsFunc(rows, func(r store.BudgetRow) bool { return r.Name == budgets[i].Name }) {
			count++
		}
	}
	if count > budget.Most {
		return nil, fault.New(fault.Invalid, "budgets", "these would make %d budgets, and a deployment has at most %d; delete some first",
			count, budget.Most)
	}
	for i := range budgets {
		row := store.BudgetRow{Name: budgets[i].Name, Document: string(budgets[i].Document()), ChangedAt: b.now()}
		if err := b.store.PutBudget(ctx, row); err != nil {
			return nil, err
		}
	}
	list, err := b.lookAndList(ctx)
	return slices.DeleteFunc(list, func(w wire.Budget) bool {
		return !slices.ContainsFunc(budgets, func(of budget.Budget) bool { return of.Name == w.Name })
	}), err
}

// lookAndList looks where the budgets stand and lists them. A look that fails is made again by
// the timer, so that what was written is not undone for it.
func (b *Budgets) lookAndList(ctx context.Context) ([]wire.Budget, error) {
	if err := b.Look(ctx); err != nil {
		b.log.WarnContext(ctx, "budgets were changed and not looked at yet", "error", err)
	}
	return b.Budgets(ctx)
}

// RaiseBudget gives a budget a higher amount, and looks where it stands.
func (b *Budgets) RaiseBudget(ctx context.Context, name string, raise wire.BudgetRaise) (wire.Budget, error) {
	row, err := b.store.Budget(ctx, name)
	if err != nil {
		return wire.Budget{}, err
	}
	of, err := budget.Parse([]byte(row.Document))
	if err != nil {
		return wire.Budget{}, err
	}
	raised, err := of.Raise(raise.To, raise.By)
	if err != nil {
		return wire.Budget{}, err
	}
	row.Document, row.ChangedAt = string(raised.Document()), b.now()
	err = b.store.PutBudget(ctx, row)
	if fault.CodeOf(err) == fault.Conflict {
		err = fault.New(fault.Conflict, "name",
			"somebody has changed budget %q meanwhile; look at it with `dsvm budget show %s`, and try again", name, name)
	}
	if err != nil {
		return wire.Budget{}, err
	}
	if _, err := b.lookAndList(ctx); err != nil {
		return wire.Budget{}, err
	}
	return b.Budget(ctx, name)
}

// DeleteBudget removes a budget. What it held goes on.
func (b *Budgets) DeleteBudget(ctx context.Context, name string) error {
	if err := b.store.DeleteBudget(ctx, name); err != nil {
		return err
	}
	_, err := b.lookAndList(ctx)
	return err
}

// Look finds out where all budgets stand, writes it down, and tells each pool what concerns it.
// It may run twice at once, and be killed at any point: a pool takes the board of the look that
// began last, and the timer looks again.
func (b *Budgets) Look(ctx context.Context) error {
	rows, err := b.store.Budgets.Budgets(ctx)
	if err != nil {
		return err
	}
	if len(rows) == 0 {
		if rests, err := b.store.Rests(ctx); rests || err != nil {
			return err
		}
	}
	seq, err := b.store.NextLook(ctx)
	if err != nil {
		return err
	}
	rows, err = b.store.Budgets.Budgets(ctx) // after the number: what a later look reads is not older
	if err != nil {
		return err
	}
	before, err := b.store.BudgetStates(ctx)
	if err != nil {
		return err
	}
	l := &look{Budgets: b, now: b.now(), before: before, reports: map[reportOf]amounts{}}
	var errs []error
	for _, row := range rows {
		if err := l.lookAt(ctx, row); err != nil {
			return err // a board without it would let its work go on
		}
	}
	names, err := b.store.PoolNames(ctx)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := driveIfThere(ctx, b.driver, name, pool.Budgets{Board: l.boardOf(ctx, name, seq)}); err != nil {
			errs = append(errs, fmt.Errorf("telling pool %q of its budgets: %w", name, err))
		}
	}
	if len(rows) == 0 && len(errs) == 0 {
		return b.store.Rest(ctx, seq)
	}
	return errors.Join(errs...)
}
