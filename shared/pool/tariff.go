package pool

import (
	"slices"
	"time"

	"dsvmpools/shared/usage"
)

// Tariff is what a node of a set costs from a time on, until the next one begins.
type Tariff struct {
	From     time.Time   `json:"from,omitzero"` // zero = as long as is known
	PerHour  string      `json:"perHour"`       // of the node with its disk and address, decimal or usage.UnknownPrice
	Currency string      `json:"currency"`
	Parts    usage.Parts `json:"parts,omitzero"`
}

// isSame reports whether two tariffs are the same but for their begin.
func (t Tariff) isSame(other Tariff) bool {
	t.From = other.From
	return t == other
}

// pastTariffs are the tariffs that a set keeps of those that are over: attempts that began
// under them may still run.
const pastTariffs = 3

// Learn takes in what nodes of the set cost: the tariff that counted when somebody has looked,
// and those that begin later. What has counted until now stays as it was, also if the new one
// is said to have begun earlier; what was looked up before something that is known already is
// left aside. It reports whether anything has changed.
func (s *Set) Learn(tariffs []Tariff, looked, now time.Time) bool {
	if len(tariffs) == 0 || looked.Before(s.LookedAt) {
		return false
	}
	s.LookedAt, now = looked, s.notBefore(now)
	for len(tariffs) > 1 && !tariffs[1].From.After(now) {
		tariffs = tariffs[1:]
	}
	all := slices.Clone(s.Tariffs)
	if len(all) == 0 && s.Price != "" { // as an earlier release has left it
		all = []Tariff{{PerHour: s.Price, Currency: s.Currency}}
	}
	all = slices.DeleteFunc(all, func(t Tariff) bool { return t.From.After(now) })
	first := tariffs[0]
	if n := len(all); n == 0 || !all[n-1].isSame(first) {
		if n > 0 || first.From.IsZero() || first.From.After(now) {
			first.From = now
		}
		all = append(all, first)
	}
	for _, t := range tariffs[1:] {
		if t.From.After(now) && t.From.After(all[len(all)-1].From) {
			all = append(all, t)
		}
	}
	current := 0
	for current+1 < len(all) && !all[current+1].From.After(now) {
		current++
	}
	all = slices.Clone(all[max(current-pastTariffs, 0):])
	changed := !slices.Equal(all, s.Tariffs)
	s.Tariffs = all
	return changed
}

// notBefore is a time that is not before the tariff that nodes have already: clocks of
// processes differ, and what has begun by one of them has begun.
func (s *Set) notBefore(now time.Time) time.Time {
	if now.Before(s.Followed) {
		return s.Followed
	}
	return now
}

// CurrentTariff is the tariff that counts now, by the clock of a process.
func (s *Set) CurrentTariff(now time.Time) (Tariff, bool) { return s.TariffAt(s.notBefore(now)) }

// Begun are the tariffs that have begun and that nodes do not have yet, the oldest first.
func (s *Set) Begun(now time.Time) (begun []Tariff) {
	for _, t := range s.Tariffs {
		if t.From.After(s.Followed) && !t.From.After(now) {
			begun = append(begun, t)
		}
	}
	return begun
}

// TariffAt is the tariff that counts at a time: of those that the set still knows the last
// that has begun, else the oldest. False: it knows none.
func (s *Set) TariffAt(at time.Time) (Tariff, bool) {
	if len(s.Tariffs) == 0 {
		return Tariff{}, false
	}
	found := s.Tariffs[0]
	for _, t := range s.Tariffs[1:] {
		if t.From.After(at) {
			break
		}
		found = t
	}
	return found, true
}
