package usage

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// build makes a report of rows and of entries that still run.
func build(t *testing.T, q Query, rows []Row, open ...Entry) Report {
	t.Helper()
	b, err := NewBuilder(q)
	if err != nil {
		t.Fatal(err)
	}
	for i := range rows {
		b.Add(&rows[i])
	}
	for _, e := range open {
		b.AddOpen(e)
	}
	return b.Report(noon)
}

// aDay is around all rows of these tests.
func aDay(by Grouping) Query {
	return Query{By: by, From: noon.Add(-24 * time.Hour), To: noon.Add(48 * time.Hour)}
}

// allGroupings has one of each kind, alone and in twos.
func allGroupings() []Grouping {
	return append(slices.Clone(Groupings), "label:x", "day,team", "team,month", "pool,size", "year,label:x", "user,sweep", "team,user")
}

// The totals are those of the rows, for every grouping and with open intervals: money and
// node time add up exactly where nothing is rounded, and are the same for each grouping. What
// the nodes cost is what the jobs cost and the waste.
func TestTotalsEqualTheRows(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 5))
	var all []Row
	var open []Entry
	var paid int64 // seconds; one costs 0.001
	for i := range 600 {
		length := time.Duration(r.IntN(3600)) * time.Second
		name := fmt.Sprint("j", i%50)
		e := attempt(name, fmt.Sprint("t", i%3), length, 1+r.IntN(4), 4, "3.6", "EUR")
		e.Key, e.Size, e.Labels = fmt.Sprintf("01J.%05d!%d", i%50, i), fmt.Sprint("s", i%2), map[string]string{"x": fmt.Sprint(i % 4)}
		n := node(2*length, "3.6", "EUR")
		n.Key, n.Size = fmt.Sprintf("vm!%d", i), fmt.Sprint("s", i%2)
		paid += int64(2 * length / time.Second)
		if i%10 == 0 {
			open = append(open, e, n)
			continue
		}
		all = append(all, NewRow(e), NewRow(n))
	}
	var first Group
	for i, by := range allGroupings() {
		report := build(t, aDay(by), all, open...)
		if len(report.Totals) != 1 {
			t.Fatalf("by %s: got %+v", by, report.Totals)
		}
		total := report.Totals[0]
		var cost, waste int64
		var seconds, nodes Ticks
		intervals := 0
		for _, g := range report.Groups {
			cost, waste = cost+micro(t, g.Cost), waste+micro(t, g.Waste)
			seconds, nodes, intervals = seconds+g.Seconds, nodes+g.NodeSeconds, intervals+g.Open
		}
		if cost != micro(t, total.Cost) || waste != micro(t, total.Waste) || seconds != total.Seconds || nodes != total.NodeSeconds {
			t.Errorf("by %s: the rows add up to %d %d %s %s, and the total is %+v", by, cost, waste, seconds, nodes, total)
		}
		if micro(t, total.Cost)+micro(t, total.Waste) != paid*1000 {
			t.Errorf("by %s: cost and waste are %+v, and %d seconds were paid", by, total, paid)
		}
		if report.Open != (Open{60, 60}) || intervals != 120 || total.Open != 120 {
			t.Errorf("by %s: open is %+v, %d in the rows and %d in the total; want 60 of each", by, report.Open, intervals, total.Open)
		}
		if i == 0 {
			first = total
		}
		if total != first || total.Jobs != 50 {
			t.Errorf("by %s: the total is %+v, and by %s %+v", by, total, Groupings[0], first)
		}
	}
}

// With a filter for jobs there are no nodes: node time is that of the attempts' shares, in the
// rows and in the total.
func TestTotalsOfFilteredJobs(t *testing.T) {
	t.Parallel()
	all := rows(attempt("a", "vision", time.Hour, 1, 4, "1", "EUR"), attempt("b", "vision", time.Hour, 2, 4, "1", "EUR"), node(9*time.Hour, "1", "EUR"))
	for _, by := range allGroupings() {
		q := aDay(by)
		q.Filter.Team = "vision"
		report := build(t, q, all)
		var nodes Ticks
		for _, g := range report.Groups {
			nodes += g.NodeSeconds
		}
		if want := ticksOf(45 * time.Minute); nodes != want || report.Totals[0].NodeSeconds != want || report.Totals[0].Waste != "" {
			t.Errorf("by %s: node time is %s in the rows, and the total %+v; want %s", by, nodes, report.Totals[0], want)
		}
	}
}

// Where amounts are rounded the total is the sum of what is exact: it is not further from the
// sum of the rows than their rounding.
func TestTotalsAreExact(t *testing.T) {
	t.Parallel()
	var all []Row
	for i := range 3 {
		all = append(all, NewRow(attempt(fmt.Sprint("j", i), "", time.Hour, 1, 3, "1", "EUR")))
	}
	report := build(t, aDay(ByJob), all)
	if report.Totals[0].Cost != "1.00" || report.Groups[0].Cost != "0.333333" {
		t.Errorf("got %+v of %+v", report.Totals, report.Groups)
	}
}

func TestFilters(t *testing.T) {
	t.Parallel()
	a := attempt("a", "vision", time.Hour, 1, 4, "1", "EUR")
	a.Labels = map[string]string{"project": "x", "stage": "dev"}
	b := attempt("b", "speech", time.Hour, 1, 4, "1", "EUR")
	b.User, b.Labels = "bob", map[string]string{"project": "x"}
	c := attempt("c", "vision", time.Hour, 1, 4, "1", "EUR")
	c.Pool = "gpu"
	all := rows(a, b, c, node(time.Hour, "1", "EUR"))
	for name, test := range map[string]struct {
		filter Filter
		keys   string // of the lines by job; "" is that of the nodes
		waste  string
	}{
		"none":       {Filter{}, "[ a b c]", "0.25"},
		"pool":       {Filter{Pool: "cpu"}, "[ a b]", "0.50"},
		"team":       {Filter{Team: "vision"}, "[a c]", ""},
		"user":       {Filter{User: "bob"}, "[b]", ""},
		"label":      {Filter{Labels: map[string]string{"project": "x"}}, "[a b]", ""},
		"two labels": {Filter{Labels: map[string]string{"project": "x", "stage": "dev"}}, "[a]", ""},
		"all":        {Filter{Pool: "gpu", Team: "vision"}, "[c]", ""},
		"empty one":  {Filter{Labels: map[string]string{"missing": ""}}, "[]", ""},
	} {
		q := aDay(ByJob)
		q.Filter = test.filter
		report := build(t, q, all)
		keys, waste := []string{}, ""
		for _, g := range report.Groups {
			keys = append(keys, g.Key)
		}
		for _, g := range report.Totals {
			waste = g.Waste
		}
		if fmt.Sprint(keys) != test.keys || waste != test.waste {
			t.Errorf("%s: got %v with waste %q, want %s with %q", name, keys, waste, test.keys, test.waste)
		}
	}
}

func TestOrder(t *testing.T) {
	t.Parallel()
	all := rows(
		attempt("a", "", time.Hour, 1, 4, "1", "EUR"), attempt("b", "", 2*time.Hour, 1, 4, "9", "EUR"),
		attempt("c", "", 9*time.Hour, 1, 4, UnknownPrice, ""), attempt("d", "", 3*time.Hour, 1, 4, "1", "USD"),
		attempt("e", "", time.Hour, 4, 4, "1", "EUR"), attempt("f", "", time.Hour, 1, 4, "1", "EUR"),
	)
	for order, want := range map[Order]string{
		"":               "abcdef",
		OrderKey:         "abcdef",
		OrderCost:        "beafdc", // EUR by cost, equal ones by key, then USD, then what is not known
		OrderSeconds:     "cdbaef",
		OrderNodeSeconds: "cedbaf",
		OrderJobs:        "abcdef",
	} {
		q := aDay(ByJob)
		q.Order = order
		got := ""
		for _, g := range build(t, q, all).Groups {
			got += g.Key
		}
		if got != want {
			t.Errorf("by %q: got %s, want %s", order, got, want)
		}
	}
	q := aDay(ByPool)
	q.Order = OrderWaste
	cpu, gpu := node(time.Hour, "1", "EUR"), node(2*time.Hour, "1", "EUR")
	gpu.Pool = "gpu"
	if got := build(t, q, rows(cpu, gpu)).Groups; got[0].Key != "gpu" || got[1].Key != "cpu" {
		t.Errorf("by waste: got %+v", got)
	}
}

// With two keys of which nodes have one, the waste of each of its values stands in the line that has nothing else.
func TestByTwoKeys(t *testing.T) {
	t.Parallel()
	late := attempt("b", "vision", time.Hour, 1, 4, "1", "EUR")
	late.From, late.To = late.From.AddDate(0, 0, 1), late.To.AddDate(0, 0, 1)
	next := node(2*time.Hour, "1", "EUR")
	next.Key, next.From, next.To = "vm!2", next.From.AddDate(0, 0, 1), next.To.AddDate(0, 0, 1)
	all := rows(attempt("a", "vision", time.Hour, 2, 4, "1", "EUR"), attempt("c", "speech", time.Hour, 1, 4, "1", "EUR"), late, node(time.Hour, "1", "EUR"), next)
	for by, want := range map[Grouping]string{
		"day,team": `[{"day":"2026-01-31","team":"","jobs":0,"seconds":0,"nodeSeconds":900,"cost":"0.00","waste":"0.25","boot":"0.00","idle":"0.00","draining":"0.00","currency":"EUR","open":0},` +
			`{"day":"2026-01-31","team":"speech","jobs":1,"seconds":3600,"nodeSeconds":900,"cost":"0.25","waste":"","currency":"EUR","open":0},` +
			`{"day":"2026-01-31","team":"vision","jobs":1,"seconds":3600,"nodeSeconds":1800,"cost":"0.50","waste":"","currency":"EUR","open":0},` +
			`{"day":"2026-02-01","team":"","jobs":0,"seconds":0,"nodeSeconds":6300,"cost":"0.00","waste":"1.75","boot":"0.00","idle":"0.00","draining":"0.00","currency":"EUR","open":0},` +
			`{"day":"2026-02-01","team":"vision","jobs":1,"seconds":3600,"nodeSeconds":900,"cost":"0.25","waste":"","currency":"EUR","open":0}]`,
		"pool,month": `[{"pool":"cpu","month":"2026-01","jobs":2,"seconds":7200,"nodeSeconds":3600,"cost":"0.75","waste":"0.25","boot":"0.00","idle":"0.00","draining":"0.00","currency":"EUR","open":0},` +
			`{"pool":"cpu","month":"2026-02","jobs":1,"seconds":3600,"nodeSeconds":7200,"cost":"0.25","waste":"1.75","boot":"0.00","idle":"0.00","draining":"0.00","currency":"EUR","open":0}]`,
	} {
		groups := build(t, aDay(by), all).Groups
		got, err := json.Marshal(groups)
		if err != nil || string(got) != want {
			t.Errorf("by %s: got %s, %v; want %s", by, got, err, want)
		}
		var back []Group
		if err := json.Unmarshal(got, &back); err != nil || !slices.Equal(back, groups) {
			t.Errorf("by %s: came back as %+v, %v", by, back, err)
		}
	}
	for _, by := range []Grouping{"", "day,", ",day", "job,day", "day,job", "team,team", "day,team,user", "sweep,label:x", "label:", "colour", "day,label:"} {
		if CheckGrouping(by) == nil {
			t.Errorf("%q was taken", by)
		}
	}
	if err := CheckGrouping("label:a,day"); err != nil { // the name of a label may have a comma
		t.Error(err)
	}
}

// A member of a sweep is known by its order: an id may have a point without being one.
func TestBySweep(t *testing.T) {
	t.Parallel()
	member, other := attempt("tune.7", "", time.Hour, 1, 4, "1", "EUR"), attempt("v1.2", "", time.Hour, 1, 4, "1", "EUR")
	member.Key, other.Key = "01KGA6Y5Q3V6J3T0J9D2XW8C4R.00007!1", "01KGA6Y5Q3V6J3T0J9D2XW8C4S!1"
	report := build(t, aDay(BySweep), rows(member, other))
	if len(report.Groups) != 2 || report.Groups[0].Key != "" || report.Groups[1].Key != "tune" || report.Groups[1].Jobs != 1 {
		t.Errorf("got %+v", report.Groups)
	}
}

// What still runs is in the report of a time that it is in, and of one that ends now.
func TestOpenIntervalsOfATime(t *testing.T) {
	t.Parallel()
	running := attempt("a", "", time.Hour, 1, 4, "1", "EUR")
	now := running.To
	for name, test := range map[string]struct {
		from, to time.Time
		want     int
	}{
		"around":    {now.Add(-time.Minute), now.Add(time.Minute), 1},
		"up to now": {now.Add(-time.Minute), now, 1},
		"from now":  {now, now.Add(time.Minute), 1},
		"before":    {now.Add(-time.Hour), now.Add(-time.Minute), 0},
		"after":     {now.Add(time.Minute), now.Add(time.Hour), 0},
	} {
		if got := build(t, Query{By: ByPool, From: test.from, To: test.to}, nil, running).Open.Attempts; got != test.want {
			t.Errorf("%s: got %d, want %d", name, got, test.want)
		}
	}
	// What has ended now is of the time that begins now.
	row := NewRow(running)
	if got := build(t, Query{By: ByPool, From: now.Add(-time.Minute), To: now}, []Row{row}); len(got.Groups) != 0 {
		t.Errorf("got %+v", got.Groups)
	}
}

func TestParseInstant(t *testing.T) {
	t.Parallel()
	east := time.FixedZone("", 2*3600)
	now := time.Date(2026, 3, 2, 11, 30, 0, 0, time.UTC)
	for text, want := range map[string]string{
		"now": "2026-03-02T11:30:00Z", "today": "2026-03-02T00:00:00Z", "yesterday": "2026-03-01T00:00:00Z", "7d": "2026-02-23T11:30:00Z",
		"90m": "2026-03-02T10:00:00Z", "2026-01-31": "2026-01-31T00:00:00Z", "2026-01-31T18:00:00+02:00": "2026-01-31T16:00:00Z",
	} {
		if got, err := ParseInstant(text, now); err != nil || got.Format(time.RFC3339) != want || got.Location() != time.UTC {
			t.Errorf("%s: got %s, %v; want %s", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"today": "2026-03-02T00:00:00+02:00", "yesterday": "2026-03-01T00:00:00+02:00", "7d": "2026-02-23T13:30:00+02:00",
		"2026-01-31": "2026-01-31T00:00:00+02:00", "2026-01-31T18:00:00Z": "2026-01-31T20:00:00+02:00",
	} {
		if got, err := ParseInstant(text, now.In(east)); err != nil || got.Format(time.RFC3339) != want {
			t.Errorf("%s in the east: got %s, %v; want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"", "tomorrow", "-7d", "31.1.2026", "7"} {
		if got, err := ParseInstant(text, now); err == nil {
			t.Errorf("%q was taken for %s", text, got)
		}
	}
}

// The key of a label's line stands under "label", and a total has none.
func TestKeysInJSON(t *testing.T) {
	t.Parallel()
	a := attempt("a", "", time.Hour, 1, 4, "1", "EUR")
	a.Labels = map[string]string{"project": "x"}
	report := build(t, aDay(Grouping("label:project")), rows(a))
	line, _ := json.Marshal(report.Groups[0])
	total, _ := json.Marshal(report.Totals[0])
	if !strings.HasPrefix(string(line), `{"label":"x","jobs":1,`) || !strings.HasPrefix(string(total), `{"jobs":1,`) {
		t.Errorf("got %s and %s", line, total)
	}
	var back Group
	if err := json.Unmarshal(line, &back); err != nil || back.Key != "x" || back.By.Property() != "label" {
		t.Errorf("came back as %+v, %v", back, err)
	}
	if slices.Contains(Groupings, Grouping("label:project")) || CheckGrouping(Grouping("label:project")) != nil {
		t.Error("a label is no grouping of the list, and one that is taken")
	}
}
