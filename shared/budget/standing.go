package budget

import (
	"cmp"
	"fmt"
	"math/big"
	"slices"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/usage"
)

// Board is what a pool knows of the budgets that concern it. It is replaced as a whole, and the
// one with the highest number is the newest.
type Board struct {
	Seq       int64      `json:"seq,omitempty"` // of the look that it is of; 0 = nobody has looked yet
	Standings []Standing `json:"standings,omitempty"`
}

// Standing is where a budget stands in its period, as far as a pool has to know it. That of a
// pool is followed by the pool itself: what its nodes cost since is added to what was spent.
type Standing struct {
	Name     string       `json:"name"`
	Scope    Scope        `json:"scope"`
	Amount   string       `json:"amount"`
	Currency string       `json:"currency"`
	Period   string       `json:"period"` // its name, for sentences
	Until    time.Time    `json:"until"`  // end of the period: the standing says nothing from then on
	Steps    []Step       `json:"steps"`  // those that look at what is spent
	Grace    job.Duration `json:"grace,omitempty"`

	Spent    string    `json:"spent"` // at At, decimal
	At       time.Time `json:"at"`
	PerHour  string    `json:"perHour,omitempty"` // of a pool: what its nodes cost since At; "" = nothing
	AtLeast  bool      `json:"atLeast,omitempty"` // something has no known price, or is in another currency
	Unknown  bool      `json:"unknown,omitempty"` // that holds the scope
	CancelAt time.Time `json:"cancelAt,omitzero"` // when what runs ends, once a step that cancels is reached
}

// Of is the standing of a budget in a period.
func (b *Budget) Of(w Window, spent *big.Rat, atLeast bool, at time.Time) Standing {
	return Standing{
		Name: b.Name, Scope: b.Scope, Amount: b.Amount, Currency: b.Currency, Period: w.Name, Until: w.To, Grace: b.Grace,
		Steps: slices.DeleteFunc(slices.Clone(b.Steps), func(s Step) bool { return s.Of == OfForecast }),
		Spent: usage.Amount(spent), At: at, AtLeast: atLeast, Unknown: atLeast && b.HoldUnknown,
	}
}

// SpentAt is what is spent at a time, not before At.
func (s *Standing) SpentAt(now time.Time) *big.Rat {
	spent := decimal(s.Spent)
	if since := now.Sub(s.At); since > 0 && s.PerHour != "" {
		spent.Add(spent, new(big.Rat).Mul(decimal(s.PerHour), big.NewRat(int64(since/usage.Tick), int64(time.Hour/usage.Tick))))
	}
	return spent
}

// decimal reads what the app itself has written; a damaged text is zero.
func decimal(text string) *big.Rat {
	if r, ok := usage.ParsePrice(text); ok {
		return r
	}
	return new(big.Rat)
}

// Do is what the budget does now: the most severe of the steps that are reached; "" = nothing.
func (s *Standing) Do(now time.Time) string {
	if !now.Before(s.Until) {
		return ""
	}
	spent, do := s.SpentAt(now), ""
	if s.Unknown {
		do = Hold
	}
	for _, step := range s.Steps {
		if spent.Cmp(s.line(step)) >= 0 && severity(step.Do) > severity(do) {
			do = step.Do
		}
	}
	return do
}

// line is the amount at which a step is reached.
func (s *Standing) line(step Step) *big.Rat {
	return new(big.Rat).Mul(decimal(s.Amount), decimal(step.At))
}

// NextChange is when time alone changes what the budget does: at the end of the period, or where
// the nodes of a pool reach a step. Zero: never.
func (s *Standing) NextChange(now time.Time) time.Time {
	if !now.Before(s.Until) {
		return time.Time{}
	}
	next := s.Until
	perHour := decimal(s.PerHour)
	if perHour.Sign() <= 0 {
		return next
	}
	do := severity(s.Do(now))
	for _, step := range s.Steps {
		if severity(step.Do) <= do {
			continue
		}
		left := new(big.Rat).Sub(s.line(step), s.SpentAt(now))
		ticks := left.Quo(left, perHour)
		ticks.Mul(ticks, big.NewRat(int64(time.Hour/usage.Tick), 1))
		// One tick more, since what is left of one is cut off.
		if n := new(big.Int).Quo(ticks.Num(), ticks.Denom()); n.IsInt64() && n.Int64() < int64(s.Until.Sub(now)/usage.Tick) {
			if at := now.Add(time.Duration(n.Int64()+1) * usage.Tick); at.Before(next) {
				next = at
			}
		}
	}
	return next
}

// Settle follows a pool whose nodes cost so much per hour from now on; "" = nothing that is
// known. It reports whether anything has changed.
func (s *Standing) Settle(now time.Time, perHour string) bool {
	if s.PerHour == perHour {
		return false
	}
	s.Spent, s.PerHour = usage.Amount(s.SpentAt(now)), perHour
	if now.After(s.At) {
		s.At = now
	}
	return true
}

// CompareSeverity compares two actions: the more severe one is greater.
func CompareSeverity(a, b string) int { return cmp.Compare(severity(a), severity(b)) }

// Level is what a budget does, with the steps that look at the forecast; "" = nothing.
func (b *Budget) Level(s *Standing, forecast string, now time.Time) string {
	do := s.Do(now)
	expected, known := usage.ParsePrice(forecast)
	for _, step := range b.Steps {
		if step.Of == OfForecast && known && expected.Cmp(s.line(step)) >= 0 && CompareSeverity(step.Do, do) > 0 {
			do = step.Do
		}
	}
	return do
}

// Stops reports whether an action keeps work from starting as usual.
func Stops(do string) bool { return severity(do) >= severity(Low) }

// Holds reports whether an action keeps work from starting at all.
func Holds(do string) bool { return severity(do) >= severity(Hold) }

// Sentence says why work of the scope waits.
func (s *Standing) Sentence(now time.Time) string {
	if s.Unknown && decimal(s.Amount).Cmp(s.SpentAt(now)) > 0 {
		return fmt.Sprintf("nobody knows the price of something that %s used in %s, and `unknown` of budget %q is hold",
			s.Scope.String(), s.Period, s.Name)
	}
	least := ""
	if s.AtLeast {
		least = "at least "
	}
	return fmt.Sprintf("%s has spent %s%s of its %s %s for %s, by budget %q",
		s.Scope.String(), least, usage.Amount(cents(s.SpentAt(now))), usage.Amount(decimal(s.Amount)), s.Currency, s.Period, s.Name)
}

// Unblocks says what lets it go on.
func (s *Standing) Unblocks() string {
	return fmt.Sprintf("the next period at %s, or an operator: `dsvm budget raise %s`", s.Until.UTC().Format(time.RFC3339), s.Name)
}

// cents rounds an amount for a sentence.
func cents(r *big.Rat) *big.Rat {
	rounded, _ := new(big.Rat).SetString(r.FloatString(2)) //nolint:mnd // as is usual for money
	return rounded
}

// IsSame reports whether a newer standing of the same budget says nothing that a pool acts on:
// then the pool keeps the one that it has, and writes nothing.
func (s *Standing) IsSame(newer *Standing, now time.Time) bool {
	same := s.Name == newer.Name && s.Scope == newer.Scope && s.Amount == newer.Amount && s.Currency == newer.Currency &&
		s.Until.Equal(newer.Until) && s.Grace == newer.Grace && slices.Equal(s.Steps, newer.Steps) && s.Unknown == newer.Unknown &&
		s.AtLeast == newer.AtLeast && s.Do(now) == newer.Do(now)
	if !same || s.Scope.Pool == "" {
		return same
	}
	off := new(big.Rat).Sub(s.SpentAt(now), newer.SpentAt(now))
	return off.Abs(off).Mul(off, big.NewRat(maxDrift, 1)).Cmp(decimal(s.Amount)) <= 0
}

// maxDrift: what a pool has added up by itself may be off by this part of the amount.
const maxDrift = 1000
