package budget_test

import (
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/budget"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
)

func parse(t *testing.T, text string) budget.Budget {
	t.Helper()
	all, err := budget.ParseAll([]byte(text), "application/yaml")
	if err != nil {
		t.Fatal(err)
	}
	return all[0]
}

const vision = "name: vision\nscope: {team: vision}\namount: 1000\n"

// A document has defaults, and is the same when it is read again.
func TestParse(t *testing.T) {
	t.Parallel()
	b := parse(t, vision)
	again, err := budget.Parse(b.Document())
	if err != nil || fmt.Sprint(again) != fmt.Sprint(b) {
		t.Errorf("got %v, %v; want %v", again, err, b)
	}
	if b.Currency != "USD" || len(b.Steps) != 2 || b.Steps[1].Do != budget.Hold || time.Duration(b.Grace) != 10*time.Minute {
		t.Errorf("got %+v", b)
	}
	all, err := budget.ParseAll([]byte(`{"budgets":[{"name":"a","scope":{"pool":"p"},"amount":"9.5","period":"year"},
		{"name":"b","scope":{"label":{"project":"x"}},"amount":7,"unknown":"hold","steps":[{"at":0.5,"of":"forecast","do":"notify"}]}]}`), "application/json")
	if err != nil || len(all) != 2 || all[1].Scope.Value != "x" || !all[1].HoldUnknown || all[1].Steps[0].Of != budget.OfForecast {
		t.Errorf("got %+v, %v", all, err)
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"name: vision\namount: 1\n":                           "`scope` is missing",
		"name: V\nscope: {team: a}\namount: 1\n":              "`name` is \"V\"",
		"name: a\nscope: {team: a, user: b}\namount: 1\n":     "`scope` names 2",
		"name: a\nscope: {label: {a: b, c: d}}\namount: 1\n":  "has 2 labels",
		"name: a\nscope: {team: a}\namount: -1\n":             "`amount` is \"-1\"",
		"name: a\nscope: {team: a}\namount: 0.0\n":            "`amount` is \"0.0\"",
		"name: a\nscope: {team: a}\n":                         "`amount` is \"\"",
		vision + "currency: dollars\n":                        "`currency` is",
		vision + "period: week\n":                             "`period` is \"week\"",
		vision + "period: 2026-02-01..2026-01-01\n":           "`period` is",
		vision + "period: 2026-01-01..9999-12-31\n":           "years 2000 to 2999",
		vision + "period: 1000-01-01..2026-12-31\n":           "years 2000 to 2999",
		"name: a\nscope: {label: {a: ''}}\namount: 1\n":       "`scope.label` has no value",
		vision + "timeZone: Local\n":                          "`timeZone` is",
		vision + "steps: [{at: 11, do: hold}]\n":              "`at` is \"11\"",
		vision + "steps: [{at: 1, do: stop}]\n":               "`do` is \"stop\"",
		vision + "steps: [{at: 1, of: forecast, do: hold}]\n": "of the forecast",
		vision + "unknown: maybe\n":                           "`unknown` is",
		vision + "grace: 2d\n":                                "`grace` is 2d",
		vision + "limit: 3\n":                                 "`amount`",
		"budgets: []\n":                                       "0 budgets",
		"budgets:\n- {name: a, scope: {team: a}, amount: 1}\n- {name: a, scope: {team: b}, amount: 1}\n": "two budgets",
	} {
		_, err := budget.ParseAll([]byte(text), "application/yaml")
		if fault.CodeOf(err) != fault.Invalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}

func at(text string) time.Time {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		panic(err)
	}
	return t
}

// Periods begin at midnight of their zone, also where the clock changes.
func TestPeriods(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ period, zone, now, from, to, name string }{
		{"month", "UTC", "2026-11-30T23:59:59Z", "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z", "November 2026"},
		{"month", "Europe/Amsterdam", "2026-10-31T23:30:00Z", "2026-10-31T23:00:00Z", "2026-11-30T23:00:00Z", "November 2026"},
		{"month", "Europe/Amsterdam", "2026-03-31T21:59:59Z", "2026-02-28T23:00:00Z", "2026-03-31T22:00:00Z", "March 2026"},
		{"quarter", "UTC", "2026-05-05T00:00:00Z", "2026-04-01T00:00:00Z", "2026-07-01T00:00:00Z", "quarter 2 of 2026"},
		{"year", "America/New_York", "2026-01-01T04:59:59Z", "2025-01-01T05:00:00Z", "2026-01-01T05:00:00Z", "the year 2025"},
		// The clock skips midnight: the day begins at one o'clock.
		{"month", "America/Asuncion", "2017-10-15T00:00:00Z", "2017-10-01T04:00:00Z", "2017-11-01T03:00:00Z", "October 2017"},
		{"2026-01-01..2026-01-31", "UTC", "2026-01-31T23:59:59Z", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z", "2026-01-01 to 2026-01-31"},
	} {
		b := parse(t, vision+fmt.Sprintf("period: %s\ntimeZone: %s\n", test.period, test.zone))
		w, ok := b.Period.At(at(test.now))
		if !ok || !w.From.Equal(at(test.from)) || !w.To.Equal(at(test.to)) || w.Name != test.name {
			t.Errorf("%s in %s: got %v, %v", test.period, test.zone, w, ok)
		}
	}
	b := parse(t, vision+"period: 2026-01-01..2026-01-31\n")
	if _, ok := b.Period.At(at("2026-02-01T00:00:00Z")); ok {
		t.Error("a period that is over goes on")
	}
}

// Every moment is in one period of a kind, and each begins where the one before ends.
func TestPeriodsLeaveNoGap(t *testing.T) {
	t.Parallel()
	for _, zone := range []string{"Europe/Amsterdam", "America/Asuncion", "Australia/Lord_Howe", "Pacific/Apia"} {
		for _, kind := range []string{budget.Month, budget.Quarter, budget.Year} {
			of := parse(t, vision+fmt.Sprintf("period: %s\ntimeZone: %s\n", kind, zone)).Period
			w, _ := of.At(at("2008-01-15T00:00:00Z"))
			for range 60 {
				next, _ := of.At(w.To)
				last, _ := of.At(w.To.Add(-1))
				if !next.From.Equal(w.To) || last != w {
					t.Fatalf("%s in %s: %v follows %v", kind, zone, next, w)
				}
				w = next
			}
		}
	}
}

func standing(t *testing.T, text, spent string, now time.Time) budget.Standing {
	t.Helper()
	b := parse(t, text)
	w, _ := b.Period.At(now)
	amount, _ := new(big.Rat).SetString(spent)
	return b.Of(w, amount, false, now)
}

func TestSteps(t *testing.T) {
	t.Parallel()
	now := at("2026-11-15T12:00:00Z")
	steps := vision + "steps: [{at: 0.8, do: notify}, {at: 0.9, do: low}, {at: 1, do: hold}, {at: 1.2, do: cancel}]\n"
	for spent, want := range map[string]string{
		"0": "", "799.999999": "", "800": "notify", "900": "low", "999.99": "low", "1000": "hold", "1199.99": "hold", "1200": "cancel", "5000": "cancel",
	} {
		s := standing(t, steps, spent, now)
		if got := s.Do(now); got != want {
			t.Errorf("%s: got %q, want %q", spent, got, want)
		}
		if got := s.Do(s.Until); got != "" {
			t.Errorf("%s: after the period got %q", spent, got)
		}
	}
	s := standing(t, vision, "1002.1", now)
	if got := s.Sentence(now); got != `team "vision" has spent 1002.10 of its 1000.00 USD for November 2026, by budget "vision"` {
		t.Errorf("got %s", got)
	}
}

// What a pool adds up by itself is exact, also over changes of what its nodes cost.
func TestFollowingAPool(t *testing.T) {
	t.Parallel()
	now := at("2026-11-15T12:00:00Z")
	s := standing(t, "name: p\nscope: {pool: p}\namount: 100\n", "90", now)
	if s.Settle(now, "6") != true || s.Settle(now.Add(time.Hour), "6") {
		t.Error("what costs the same is written again, or what costs more is not")
	}
	change := s.NextChange(now)
	if d := change.Sub(now.Add(100 * time.Minute)); d < 0 || d > time.Second {
		t.Errorf("it holds at %s", change)
	}
	if s.Do(change.Add(-time.Second)) != budget.Notify || s.Do(change) != budget.Hold {
		t.Errorf("at %s: %q, then %q", change, s.Do(change.Add(-time.Second)), s.Do(change))
	}
	s.Settle(now.Add(time.Hour), "1.5") // 96 by now
	if got := s.SpentAt(now.Add(3 * time.Hour)).FloatString(2); got != "99.00" {
		t.Errorf("got %s", got)
	}
	s.Settle(now.Add(3*time.Hour), "")
	if got := s.NextChange(now.Add(3 * time.Hour)); !got.Equal(s.Until) {
		t.Errorf("a pool without nodes changes at %s", got)
	}
}

func TestCovers(t *testing.T) {
	t.Parallel()
	spec := &job.Spec{Team: "vision", User: "ann", Labels: map[string]string{"project": "x", "empty": ""}}
	for _, test := range []struct {
		scope budget.Scope
		want  bool
	}{
		{budget.Scope{Pool: "cpu"}, true}, {budget.Scope{Pool: "gpu"}, false}, {budget.Scope{Team: "vision"}, true},
		{budget.Scope{Team: "speech"}, false}, {budget.Scope{User: "ann"}, true}, {budget.Scope{User: "bob"}, false},
		{budget.Scope{Label: "project", Value: "x"}, true}, {budget.Scope{Label: "project", Value: "y"}, false},
		{budget.Scope{Label: "missing"}, false}, {budget.Scope{Label: "empty"}, true},
	} {
		if got := test.scope.Covers("cpu", spec); got != test.want {
			t.Errorf("%v: got %v", test.scope, got)
		}
	}
}

func TestRaise(t *testing.T) {
	t.Parallel()
	b := parse(t, vision+"period: year\n")
	for _, test := range []struct{ to, by, want string }{{"1500", "", "1500.00"}, {"", "0.5", "1000.50"}} {
		raised, err := b.Raise(test.to, test.by)
		if err != nil || raised.Amount != test.want || raised.Scope != b.Scope {
			t.Errorf("%v: got %+v, %v", test, raised, err)
		}
		if again, err := budget.Parse(raised.Document()); err != nil || again.Amount != test.want {
			t.Errorf("%v: read again it is %+v, %v", test, again, err)
		}
	}
	for _, test := range [][2]string{{"", ""}, {"1", "1"}, {"1000", ""}, {"999", ""}, {"", "0"}, {"x", ""}} {
		if _, err := b.Raise(test[0], test[1]); fault.CodeOf(err) != fault.Invalid {
			t.Errorf("%v: got %v", test, err)
		}
	}
}

// A month whose days cost as those of the weeks before has them as its forecast.
func TestGuess(t *testing.T) {
	t.Parallel()
	now := at("2026-11-16T00:00:00Z") // a Monday
	w := budget.Window{From: at("2026-11-01T00:00:00Z"), To: at("2026-12-01T00:00:00Z")}
	var days []*big.Rat
	for i := range budget.HistoryDays {
		cost := int64(10)
		if weekday := now.AddDate(0, 0, -i-1).Weekday(); weekday == time.Saturday || weekday == time.Sunday {
			cost = 1
		}
		days = append(days, big.NewRat(cost, 1))
	}
	f, ok := budget.Guess(w, now, big.NewRat(100, 1), days)
	// Fifteen days are left: eleven weekdays, two Saturdays and two Sundays.
	if want := (budget.Forecast{Low: "214.00", Expected: "214.00", High: "214.00"}); !ok || f != want {
		t.Errorf("got %v, %v; want %v", f, ok, want)
	}
	f, ok = budget.Guess(w, now, new(big.Rat), []*big.Rat{big.NewRat(4, 1), new(big.Rat)})
	if want := (budget.Forecast{Low: "0.00", Expected: "30.00", High: "60.00"}); !ok || f != want {
		t.Errorf("of two days: got %v, %v; want %v", f, ok, want)
	}
	if _, ok := budget.Guess(w, now, new(big.Rat), nil); ok {
		t.Error("a forecast was made of nothing")
	}
}

// No document makes the parser fail in another way than by an error.
func FuzzParse(f *testing.F) {
	f.Add([]byte(vision))
	f.Add([]byte(`{"budgets":[{"name":"a","scope":{"label":{"a":"b"}},"amount":"1","steps":[{"at":1,"do":"cancel"}]}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		all, err := budget.ParseAll(body, "application/yaml")
		if err != nil {
			return
		}
		for _, b := range all {
			if again, err := budget.Parse(b.Document()); err != nil || again.Scope != b.Scope || again.Amount != b.Amount {
				t.Errorf("read again it is %+v, %v; want %+v", again, err, b)
			}
		}
	})
}
