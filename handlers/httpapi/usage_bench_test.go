package httpapi_test

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"testing"
	"time"

	"dsvmpools/local/apptest"
	"dsvmpools/shared/usage"
	"dsvmpools/shared/wire"
)

// fillLedger writes attempts of as many jobs, and the intervals of nodes that they ran on,
// over the ten days before noon.
func fillLedger(tb testing.TB, app *apptest.Instance, attempts int) {
	tb.Helper()
	const days, perNode = 10, 100
	var entries []usage.Entry
	flush := func() {
		if err := app.Store.Record(tb.Context(), entries); err != nil {
			tb.Fatal(err)
		}
		entries = entries[:0]
	}
	for i := range attempts {
		to := apptest.Noon.Add(-time.Duration(i%(days*24*60)) * time.Minute)
		entry := usage.Entry{
			Kind: usage.KindAttempt, Key: fmt.Sprintf("%026d!1", i), Pool: "cpu", Team: fmt.Sprint("team-", i%7), User: fmt.Sprint("user-", i%50),
			Job: fmt.Sprint("job-", i), JobName: "train", Attempt: 1, State: "succeeded", Node: "cpu-1", VMID: "vm", Size: "Standard_D4s_v5",
			CPUs: 1, NodeCPUs: 4, Memory: 1 << 30, NodeMem: 16 << 30, From: to.Add(-time.Minute), To: to, Price: "0.192", Currency: "USD",
			Labels: map[string]string{"project": fmt.Sprint("p", i%5)},
		}
		entries = append(entries, entry)
		if i%perNode == 0 {
			entry.Kind, entry.Key, entry.From = usage.KindNode, fmt.Sprintf("vm-%d!1", i), to.Add(-time.Hour)
			entry.Job, entry.Team, entry.User, entry.CPUs, entry.Memory, entry.Labels = "", "", "", 0, 0, nil
			entries = append(entries, entry)
		}
		if len(entries) >= 5000 {
			flush()
		}
	}
	flush()
}

// BenchmarkUsageBySums has first pages of reports of a month from sums: as many rows as the ledger has, none of
// them is read.
func BenchmarkUsageBySums(b *testing.B) {
	app := apptest.New(b)
	fillLedger(b, app, *rows)
	began := time.Now()
	for q := (wire.SumsQuery{}); ; {
		done, err := app.Ledger.RebuildSums(b.Context(), q)
		if err != nil {
			b.Fatal(err)
		}
		if done.To == nil {
			break
		}
		q.To = *done.To
	}
	built := time.Since(began)
	h := serve(app)
	for _, by := range []string{"pool", "team", "user", "size", "day", "sweep", "label:project",
		"job", "job&sort=cost", "job&user=user-7", "job&label=project%3Dp1&sort=seconds"} {
		b.Run(by, func(b *testing.B) {
			for b.Loop() {
				w := httptest.NewRecorder()
				h.ServeHTTP(w, httptest.NewRequest("GET", "/api/usage?from=2026-02-01&to=2026-03-03&by="+by, nil))
				if w.Code != 200 {
					b.Fatal(w.Code, w.Body)
				}
			}
			b.ReportMetric(float64(built.Microseconds())/float64(*rows), "µs/row-to-build")
		})
	}
}

// BenchmarkUsageByJob has a report of as many lines as there are attempts, all of it, page
// by page.
func BenchmarkUsageByJob(b *testing.B) {
	for _, attempts := range []int{10_000, 100_000} {
		b.Run(fmt.Sprint(attempts), func(b *testing.B) {
			app := apptest.New(b)
			fillLedger(b, app, attempts)
			h := serve(app)
			for b.Loop() {
				lines, next := 0, ""
				for first := true; first || next != ""; first = false {
					url := "/api/usage?by=job&limit=1000&from=2026-02-01&to=2026-03-03"
					if next != "" {
						url += "&continue=" + next
					}
					w := httptest.NewRecorder()
					h.ServeHTTP(w, httptest.NewRequest("GET", url, nil))
					var page wire.List[wire.UsageGroup]
					if err := json.Unmarshal(w.Body.Bytes(), &page); err != nil || w.Code != 200 {
						b.Fatal(w.Code, err)
					}
					lines, next = lines+len(page.Items), page.Continue
				}
				if lines < attempts {
					b.Fatalf("%d lines of %d jobs", lines, attempts)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/float64(attempts), "µs/attempt")
		})
	}
}
