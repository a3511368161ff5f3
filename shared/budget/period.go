package budget

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"dsvmpools/shared/document"
)

// Period is the time that an amount is for: month, quarter or year, again and again, or the days
// FIRST..LAST once. Its days begin at midnight in a time zone.
type Period struct {
	kind        string
	zone        *time.Location
	first, last time.Time // of FIRST..LAST: their days, at midnight UTC
}

// Kinds of periods.
const (
	Month   = "month"
	Quarter = "quarter"
	Year    = "year"
)

// Years that the days of a period may be in: tables and JSON do not hold the times of all years.
const (
	firstYear = 2000
	lastYear  = 2999
)

// readPeriod reads the period of a document and its time zone; month and UTC are the defaults.
func readPeriod(r *document.Reader) Period {
	text, zone := r.String("period", Month), r.String("timeZone", "Europe/Amsterdam")
	p := Period{kind: cmp.Or(text, Month), zone: time.UTC}
	if zone != "" {
		loc, err := time.LoadLocation(zone)
		if err != nil || zone == "Local" {
			r.Fail("timeZone", "`timeZone` is %q; write the name of a time zone, such as Europe/Amsterdam", document.Clip(zone))
			return p
		}
		p.zone = loc
	}
	if slices.Contains([]string{Month, Quarter, Year}, p.kind) {
		return p
	}
	first, last, found := strings.Cut(text, "..")
	var err error
	if p.first, err = time.Parse(time.DateOnly, first); err == nil {
		p.last, err = time.Parse(time.DateOnly, last)
	}
	if !found || err != nil || p.last.Before(p.first) {
		r.Fail("period", "`period` is %q; write month, quarter or year, or the first and the last day: 2026-01-01..2026-03-31",
			document.Clip(text))
		return p
	}
	if p.first.Year() < firstYear || p.last.Year() > lastYear {
		r.Fail("period", "`period` is %q; write days of the years %d to %d", document.Clip(text), firstYear, lastYear)
	}
	return p
}

// Window is one period: From <= t < To.
type Window struct {
	From, To time.Time
	Name     string // for sentences: November 2026
}

// At is the period that a time is in; false: it is in none.
func (p Period) At(now time.Time) (Window, bool) {
	local := now.In(p.zone)
	year, month := local.Year(), local.Month()
	switch p.kind {
	case Month:
		return Window{p.day(year, month, 1), p.day(year, month+1, 1), fmt.Sprintf("%s %d", month, year)}, true
	case Quarter:
		first := (month-1)/3*3 + 1
		return Window{p.day(year, first, 1), p.day(year, first+3, 1), fmt.Sprintf("quarter %d of %d", (first-1)/3+1, year)}, true
	case Year:
		return Window{p.day(year, 1, 1), p.day(year+1, 1, 1), fmt.Sprintf("the year %d", year)}, true
	}
	w := Window{p.day(p.first.Date()), p.day(p.last.Year(), p.last.Month(), p.last.Day()+1),
		p.first.Format(time.DateOnly) + " to " + p.last.Format(time.DateOnly)}
	return w, !now.Before(w.From) && now.Before(w.To)
}

// day is when a day begins in the zone. Where the clock skips midnight, it is the first moment of
// the day: time.Date gives one before or after the gap.
func (p Period) day(year int, month time.Month, day int) time.Time {
	at := time.Date(year, month, day, 0, 0, 0, 0, p.zone)
	want := time.Date(year, month, day, 0, 0, 0, 0, time.UTC).Day()
	if at.Day() != want { // before the gap: the day begins where the clock goes on
		_, offset := at.Zone()
		_, after := at.Add(2 * time.Hour).Zone()
		at = at.Add(time.Duration(after-offset) * time.Second)
	}
	return at.UTC()
}
