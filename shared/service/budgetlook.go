package service

import (
	"context"
	"encoding/json"
	"math/big"
	"slices"
	"time"

	"dsvmpools/shared/budget"
	"dsvmpools/shared/store"
	"dsvmpools/shared/usage"
	"dsvmpools/shared/wire"
)

// look is one look at all budgets. Budgets of one period and kind of scope share a report.
type look struct {
	*Budgets
	now       time.Time
	before    map[string]store.BudgetState
	reports   map[reportOf]amounts
	standings []budget.Standing
}

// reportOf names a report: its grouping and its begin.
type reportOf struct {
	by   usage.Grouping
	from time.Time
}

// amounts are the lines of a report by their keys.
type amounts map[string][]usage.Group

// lookAt finds out where one budget stands.
func (l *look) lookAt(ctx context.Context, row store.BudgetRow) error {
	of, err := budget.Parse([]byte(row.Document))
	if err != nil {
		l.log.ErrorContext(ctx, "budget cannot be read and does nothing", "budget", row.Name, "error", err)
		return nil // its document says what is wrong with it to whoever looks
	}
	s := store.BudgetState{Name: of.Name, AsOf: l.now}
	w, isNow := of.Period.At(l.now)
	if !isNow {
		s.Level = wire.BudgetEnded
		return l.store.PutBudgetState(ctx, s)
	}
	spent, atLeast, err := l.spent(ctx, &of, w)
	if err != nil {
		return err
	}
	standing := of.Of(w, spent, atLeast, l.now)
	l.standings = append(l.standings, standing)
	s.Spent, s.AtLeast, s.From, s.To, s.Period = usage.Amount(spent), atLeast, w.From, w.To, w.Name
	before := l.before[of.Name]
	s.Forecast, s.ForecastLow, s.ForecastHigh, s.ForecastAt = before.Forecast, before.ForecastLow, before.ForecastHigh, before.ForecastAt
	if l.now.Sub(before.ForecastAt) >= forecastEvery || !before.From.Equal(w.From) {
		if err := l.guess(ctx, &of, w, spent, &s); err != nil {
			return err
		}
	}
	s.Level = of.Level(&standing, s.Forecast, l.now)
	if s.Since = before.Since; s.Level != before.Level || s.Since.IsZero() {
		s.Since = l.now
	}
	if s.Level != before.Level {
		l.log.InfoContext(ctx, "budget has another level", "budget", of.Name, "level", s.Level, "before", before.Level, "spent", s.Spent)
	}
	return l.store.PutBudgetState(ctx, s)
}

// forecastEvery is how often a forecast is made: it reads four weeks of sums.
const forecastEvery = time.Hour

// spent is what a budget's scope has used in a period, with what runs; atLeast: something of it
// has no known price, or is paid in another currency.
func (l *look) spent(ctx context.Context, of *budget.Budget, w budget.Window) (*big.Rat, bool, error) {
	by, key := groupingOf(&of.Scope)
	at := reportOf{by, w.From}
	lines, known := l.reports[at]
	if !known && w.From.Before(l.now) {
		report, err := l.ledger.Report(ctx, usage.Query{By: by, From: w.From, To: l.now, AsOf: l.now})
		if err != nil {
			return nil, false, err
		}
		lines = amounts{}
		for _, g := range report.Groups {
			lines[g.Key] = append(lines[g.Key], g)
		}
		l.reports[at] = lines
	}
	sum, atLeast := addUp(of, lines[key])
	return sum, atLeast, nil
}

// groupingOf is how a report is grouped in which a scope is one line, and the key of that line.
func groupingOf(s *budget.Scope) (by usage.Grouping, key string) {
	switch {
	case s.Pool != "":
		return usage.ByPool, s.Pool
	case s.Team != "":
		return usage.ByTeam, s.Team
	case s.User != "":
		return usage.ByUser, s.User
	}
	return usage.ByLabel(s.Label), s.Value
}

// addUp adds up lines of a report. Of a pool, its nodes count as a whole; of others, their
// attempts.
func addUp(of *budget.Budget, lines []usage.Group) (sum *big.Rat, atLeast bool) {
	sum = new(big.Rat)
	for _, g := range lines {
		amounts := []string{g.Cost}
		if of.Scope.Pool != "" && g.Waste != "" {
			amounts = append(amounts, g.Waste)
		}
		for _, text := range amounts {
			amount, ok := usage.ParseAmount(text)
			if !ok || g.Currency != of.Currency {
				atLeast = true
				continue
			}
			sum.Add(sum, amount)
		}
	}
	return sum, atLeast
}

// guess makes the forecast of a budget.
func (l *look) guess(ctx context.Context, of *budget.Budget, w budget.Window, spent *big.Rat, s *store.BudgetState) error {
	today := l.now.UTC().Truncate(oneDay)
	report, err := l.ledger.Report(ctx, usage.Query{
		By: usage.ByDay, From: today.Add(-budget.HistoryDays * oneDay), To: today, AsOf: l.now, Filter: of.Scope.Filter(),
	})
	if err != nil {
		return err
	}
	byDay := amounts{}
	for _, g := range report.Groups {
		byDay[g.Key] = append(byDay[g.Key], g)
	}
	var days []*big.Rat
	for i := 1; i <= budget.HistoryDays && len(byDay) > 0; i++ {
		key := today.Add(-time.Duration(i) * oneDay).Format(time.DateOnly)
		sum, _ := addUp(of, byDay[key])
		days = append(days, sum)
		delete(byDay, key) // days before the first one of the scope are not days without use
	}
	s.Forecast, s.ForecastLow, s.ForecastHigh, s.ForecastAt = "", "", "", l.now
	if f, ok := budget.Guess(w, l.now, spent, days); ok {
		s.Forecast, s.ForecastLow, s.ForecastHigh = f.Expected, f.Low, f.High
	}
	return nil
}

// boardOf is what a pool has to know: its own budget, and those of others as far as they keep
// work from starting as usual.
func (l *look) boardOf(ctx context.Context, name string, seq int64) budget.Board {
	board := budget.Board{Seq: seq}
	for i := range l.standings {
		s := &l.standings[i]
		if s.Scope.Pool == name || s.Scope.Pool == "" && budget.Stops(s.Do(l.now)) {
			board.Standings = append(board.Standings, *s)
		}
	}
	slices.SortStableFunc(board.Standings, func(a, b budget.Standing) int { return budget.CompareSeverity(b.Do(l.now), a.Do(l.now)) })
	for len(board.Standings) > 0 {
		if text, err := json.Marshal(board); err == nil && len(text) <= budget.MaxBoard {
			break
		}
		last := len(board.Standings) - 1
		l.log.ErrorContext(ctx, "pool cannot keep all budgets that hold its work", "pool", name, "leftOut", board.Standings[last].Name)
		board.Standings = board.Standings[:last]
	}
	return board
}
