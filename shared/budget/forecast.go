package budget

import (
	"math/big"
	"slices"
	"time"

	"dsvmpools/shared/usage"
)

// Forecast is what a period is expected to cost, by what the days before cost. It is a guess,
// and shown with its range alone.
type Forecast struct {
	Low, Expected, High string // decimal; nine of ten such days end below High, and one below Low
}

const (
	// HistoryDays is how far back a forecast looks: four of each weekday.
	HistoryDays = 28
	// fewDays of history or less say nothing of weekdays: then all of the last week count alike.
	fewDays   = 14
	weekDays  = 7
	lowTenth  = 1
	highTenth = 9
	tenths    = 10
)

// Guess forecasts a period of which so much is spent. days is what each of the last days cost,
// the newest first; today is not among them, and a day before there was anything is not either.
// False: there is no day to go by.
func Guess(w Window, now time.Time, spent *big.Rat, days []*big.Rat) (Forecast, bool) {
	days = days[:min(len(days), HistoryDays)]
	if len(days) == 0 || !now.Before(w.To) {
		return Forecast{}, false
	}
	if len(days) <= fewDays {
		days = days[:min(len(days), weekDays)]
	}
	low, expected, high := new(big.Rat).Set(spent), new(big.Rat).Set(spent), new(big.Rat).Set(spent)
	today := now.UTC().Truncate(usageDay)
	for at := now; at.Before(w.To); {
		next := at.UTC().Truncate(usageDay).Add(usageDay)
		if next.After(w.To) {
			next = w.To
		}
		part := big.NewRat(int64(next.Sub(at)/usage.Tick), int64(usageDay/usage.Tick))
		ahead := int(at.UTC().Truncate(usageDay).Sub(today) / usageDay)
		like := alike(days, ahead)
		add := func(to *big.Rat, day *big.Rat) { to.Add(to, new(big.Rat).Mul(part, day)) }
		add(expected, mean(like))
		add(low, quantile(like, lowTenth))
		add(high, quantile(like, highTenth))
		at = next
	}
	return Forecast{usage.Amount(low), usage.Amount(expected), usage.Amount(high)}, true
}

// usageDay is a day of the ledger, which is one of UTC.
const usageDay = 24 * time.Hour

// alike are the days of history by which a day is guessed that is so many days ahead of today:
// those of its weekday, or all where there are few.
func alike(days []*big.Rat, ahead int) []*big.Rat {
	if len(days) <= weekDays {
		return days
	}
	var like []*big.Rat
	for i := range days { // days[i] is i+1 days before today
		if (ahead+i+1)%weekDays == 0 {
			like = append(like, days[i])
		}
	}
	return like
}

func mean(of []*big.Rat) *big.Rat {
	sum := new(big.Rat)
	for _, r := range of {
		sum.Add(sum, r)
	}
	return sum.Quo(sum, big.NewRat(int64(len(of)), 1))
}

// quantile is the value below which so many tenths lie, the nearest one.
func quantile(of []*big.Rat, tenth int) *big.Rat {
	sorted := slices.Clone(of)
	slices.SortFunc(sorted, (*big.Rat).Cmp)
	return sorted[min(tenth*len(sorted)/tenths, len(sorted)-1)]
}
