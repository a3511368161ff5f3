package service_test

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"dsvmpools/local/apptest"
	"dsvmpools/shared/store"
	"dsvmpools/shared/usage"
)

var attempts = flag.Int("attempts", 10_000_000, "attempts of the year of BenchmarkReportOfAYear")

// BenchmarkReportOfAYear makes reports of a year and of a month from generated sums: 10 million attempts of 300 users in
// 15 teams, each in one size of each of two pools, of which one in ten did not succeed at once, and a node's interval
// for each hundred. Sums are as RecordUsage writes them, and those of months as its timer does.
func BenchmarkReportOfAYear(b *testing.B) {
	app := apptest.New(b)
	begin := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	end := begin.AddDate(1, 0, 0)
	app.Clock.Set(end.AddDate(0, 0, 4))
	fillSums(b, app, begin, end)
	reports := map[string][2]time.Time{"year": {begin, end}, "month": {begin.AddDate(0, 4, 0), begin.AddDate(0, 5, 0)}}
	for _, months := range []bool{false, true} {
		if months {
			for range 2 { // a call ends with a pool after ten seconds
				if err := app.Ledger.KeepMonths(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		}
		for _, of := range []string{"year", "month"} {
			for _, by := range []usage.Grouping{usage.ByTeam, "month,user", usage.ByPool, usage.BySize, "label:project"} {
				b.Run(fmt.Sprintf("months=%t/%s/%s", months, of, by), func(b *testing.B) {
					for b.Loop() {
						r, err := app.Ledger.Report(b.Context(), usage.Query{By: by, From: reports[of][0], To: reports[of][1]})
						if err != nil || len(r.Totals) != 1 || r.Totals[0].Jobs == 0 {
							b.Fatalf("%+v, %v", r.Totals, err)
						}
					}
				})
			}
		}
	}
}

// fillSums writes the sums of each day, without rows of the ledger.
func fillSums(b *testing.B, app *apptest.Instance, begin, end time.Time) {
	b.Helper()
	if err := app.Store.BeginSums(b.Context(), store.SumsState{Began: begin, UsesFrom: store.AllDays}); err != nil {
		b.Fatal(err)
	}
	const users, perNode = 300, 100
	next := 0
	for _, name := range []string{"cpu", "gpu"} {
		for day := begin; day.Before(end); day = day.AddDate(0, 0, 1) {
			var sums usage.Sums
			for i := range *attempts / 365 / 2 {
				next++
				e := usage.Entry{
					Kind: usage.KindAttempt, Key: fmt.Sprintf("%026d!1", next), Pool: name, Team: fmt.Sprint("team-", i%users%15), User: fmt.Sprint("user-", i%users),
					Job: fmt.Sprint("job-", next), State: "succeeded", Size: []string{"Standard_D4s_v5", "Standard_D8s_v5"}[i%users%2],
					CPUs: 1, NodeCPUs: 4, From: day, To: day.Add(time.Duration(i%1440) * time.Minute), Price: "0.192", Currency: "USD",
				}
				if i%10 == 0 {
					e.State = "failed"
				}
				if i%3 == 0 {
					e.Labels = map[string]string{"project": fmt.Sprint("p", i%users%20)}
				}
				sums.Add(&e)
				if i%perNode == 0 {
					e.Kind, e.Key, e.Labels = usage.KindNode, fmt.Sprintf("vm-%d!1", next), nil
					sums.Add(&e)
				}
			}
			sums.TakeUses()
			version, err := app.Store.SumsVersion(b.Context(), name)
			if err == nil {
				err = app.Store.ReplaceSums(b.Context(), name, version, day, &sums)
			}
			if err != nil {
				b.Fatal(err)
			}
		}
	}
}
