package httpapi_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"dsvmpools/local/apptest"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/service"
	"dsvmpools/shared/usage"
	"dsvmpools/shared/wire"
)

// A report is made once for all its pages, which together have each line once. Another
// process that gets the request for a page makes the report again, for the same time.
func TestPagesOfAReport(t *testing.T) {
	t.Parallel()
	app := apptest.New(t)
	fillLedger(t, app, 250)
	h := serve(app)
	read := func(query string) (page wire.UsageReport) {
		t.Helper()
		r := httptest.NewRequest("GET", "/api/usage?"+query, nil)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		check(t, r, w.Result())
		if err := json.Unmarshal(w.Body.Bytes(), &page); err != nil || w.Code != 200 {
			t.Fatalf("got %d %s, %v", w.Code, w.Body, err)
		}
		return page
	}
	const query = "by=job&sort=cost&limit=60&from=2026-02-01&to=2026-03-03"
	for _, other := range []bool{false, true} {
		seen := map[string]int{}
		page := read(query)
		first := page
		for n := 1; ; n++ {
			for _, g := range page.Items {
				seen[g.Key]++
			}
			if fmt.Sprint(page.Totals) != fmt.Sprint(first.Totals) || page.Lines != 251 || !page.From.Equal(first.From) {
				t.Errorf("page %d: got %+v, the first is %+v", n, page, first)
			}
			if page.Continue == "" {
				break
			}
			if other {
				h = serve(app)
			}
			before := app.Tables.Stats().Requests
			page = read(query + "&continue=" + url.QueryEscape(page.Continue))
			if n := app.Tables.Stats().Requests - before; !other && n != 0 {
				t.Errorf("a page costs %d requests to the tables", n)
			}
		}
		if len(seen) != 251 || seen["job-7"] != 1 || seen[""] != 1 {
			t.Errorf("other process %t: %d lines, %v", other, len(seen), seen)
		}
	}
}

// Another process makes the next page from a report as it was, although the clock has gone on
// and what ran has ended: no line goes, and the totals stay.
func TestPagesOfWhatStillRan(t *testing.T) {
	t.Parallel()
	app := apptest.Example(t) // in which job second runs
	app.Clock.Set(app.Clock.Now().Add(time.Hour))
	var pages []wire.UsageReport
	seen := map[string]bool{}
	for next := "&limit=1"; next != ""; {
		r := httptest.NewRequest("GET", "/api/usage?by=job&sort=cost"+next, nil)
		w := httptest.NewRecorder()
		serve(app).ServeHTTP(w, r)
		check(t, r, w.Result())
		var page wire.UsageReport
		if err := json.Unmarshal(w.Body.Bytes(), &page); err != nil || w.Code != 200 {
			t.Fatalf("got %d %s, %v", w.Code, w.Body, err)
		}
		pages = append(pages, page)
		for _, g := range page.Items {
			seen[g.Key] = true
		}
		if next = ""; page.Continue != "" {
			next = "&limit=1&continue=" + url.QueryEscape(page.Continue)
		}
		app.Clock.Set(app.Clock.Now().Add(time.Minute))
		if len(pages) == 1 {
			finish(t, app, "second")
		}
	}
	if len(pages) < 2 || len(seen) != pages[0].Lines || !seen["second"] {
		t.Fatalf("%d pages have lines %v, want %d", len(pages), seen, pages[0].Lines)
	}
	for _, page := range pages[1:] {
		if fmt.Sprint(page.Totals) != fmt.Sprint(pages[0].Totals) || page.Open != pages[0].Open || !page.AsOf.Equal(pages[0].AsOf) {
			t.Errorf("a later page is of %+v %+v at %s, the first of %+v %+v at %s",
				page.Totals, page.Open, page.AsOf, pages[0].Totals, pages[0].Open, pages[0].AsOf)
		}
	}
}

// A continuation goes on with its own report only.
func TestContinuationOfAnotherReport(t *testing.T) {
	t.Parallel()
	h := serve(apptest.Example(t))
	get := func(query string) (code int, page wire.UsageReport) {
		t.Helper()
		r := httptest.NewRequest("GET", "/api/usage?limit=1&"+query, nil)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		check(t, r, w.Result())
		_ = json.Unmarshal(w.Body.Bytes(), &page) // an error has no continuation
		return w.Code, page
	}
	_, page := get("by=job")
	if page.Continue == "" {
		t.Fatalf("got %+v, want more than one page", page)
	}
	for query, want := range map[string]int{"by=job": 200, "by=team": 400, "by=job&sort=cost": 400, "by=job&user=eva": 400} {
		if code, _ := get(query + "&continue=" + url.QueryEscape(page.Continue)); code != want {
			t.Errorf("%s: got %d, want %d", query, code, want)
		}
	}
}

func TestContinuationOfAReport(t *testing.T) {
	t.Parallel()
	h := serve(apptest.Example(t))
	for _, text := range []string{"x", "e30", "eyJuIjotMX0"} {
		r := httptest.NewRequest("GET", "/api/usage?continue="+text, nil)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		check(t, r, w.Result())
		if w.Code != 400 {
			t.Errorf("%s: got %d %s", text, w.Code, w.Body)
		}
	}
}

// What still runs is found where it is: in the pool, among what its pool has noted, and in the
// ledger; never twice, and with the same amounts.
func TestReportFollowsAnInterval(t *testing.T) {
	t.Parallel()
	app := apptest.Example(t) // in which job second runs
	report := func() usage.Report {
		t.Helper()
		r, err := app.Ledger.Report(t.Context(), usage.Query{By: usage.ByJob, From: apptest.Noon.Add(-24 * time.Hour), To: apptest.Noon.Add(24 * time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	line := func(r usage.Report) (found []usage.Group) {
		for _, g := range r.Groups {
			if g.Key == "second" {
				found = append(found, g)
			}
		}
		return found
	}
	running := report()
	if got := line(running); len(got) != 1 || got[0].Open != 1 || running.Open != (usage.Open{Attempts: 1, Nodes: 2}) {
		t.Fatalf("while it runs: got %+v, open %+v", got, running.Open)
	}
	finish(t, app, "second")
	noted := report()
	want := line(running)[0]
	want.Open = 0
	if got := line(noted); len(got) != 1 || got[0] != want || noted.Open.Attempts != 0 {
		t.Errorf("before it is copied: got %+v, open %+v; want %+v", got, noted.Open, want)
	}
	if err := app.Ledger.RecordAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	recorded := report()
	if got := line(recorded); len(got) != 1 || got[0] != want {
		t.Errorf("in the ledger: got %+v, want %+v", got, want)
	}
	if fmt.Sprint(recorded.Totals) != fmt.Sprint(noted.Totals) {
		t.Errorf("the totals are %+v, and were %+v", recorded.Totals, noted.Totals)
	}
}

// finish has a job that runs succeed at the time of the clock.
func finish(t *testing.T, app *apptest.Instance, id string) {
	t.Helper()
	j, err := app.Jobs.Job(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	a := j.Current()
	report := protocol.Report{V: protocol.Version, Pool: "cpu", VMID: a.VMID, Items: []protocol.ReportItem{{Finished: &protocol.Finished{
		N: j.N, State: string(job.AttemptSucceeded), StartedAt: a.StartedAt, EndedAt: app.Clock.Now(),
	}}}}
	if err := app.Nodes.Report(t.Context(), "cpu", []service.Report{{Report: report, At: app.Clock.Now()}}); err != nil {
		t.Fatal(err)
	}
}

// A report about a pool that is not there names the pool that may be meant.
func TestReportOfAnUnknownPool(t *testing.T) {
	t.Parallel()
	app := apptest.New(t)
	if err := app.Apply(t.Context(), `{"name":"cpu","sizes":["Standard_D4s_v5"],"nodes":{"max":1}}`); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	serve(app).ServeHTTP(w, httptest.NewRequest("GET", "/api/usage?pool=cpi", nil))
	if w.Code != 404 || !strings.Contains(w.Body.String(), "did you mean") || !strings.Contains(w.Body.String(), "cpu") {
		t.Errorf("got %d %s; want 404 and the pool that may be meant", w.Code, w.Body)
	}
}

// A job that a program has put together without what the parser gives every job is refused.
func TestSubmitWithoutParsing(t *testing.T) {
	t.Parallel()
	app := apptest.New(t)
	if err := app.Apply(t.Context(), `{"name":"cpu","sizes":["Standard_D4s_v5"],"nodes":{"max":1}}`); err != nil {
		t.Fatal(err)
	}
	for field, spec := range map[string]job.Spec{
		"resources.cpus": {ID: "a", Pool: "cpu", Command: []string{"true"}},
		"priority":       {ID: "b", Pool: "cpu", Command: []string{"true"}, Resources: job.Resources{CPUs: 1}},
	} {
		_, err := app.Service.Jobs.Submit(t.Context(), spec)
		var f *fault.Error
		if !errors.As(err, &f) || f.Code != fault.Invalid || f.Field != field {
			t.Errorf("without %s: got %v", field, err)
		}
	}
}

// Sums are built again over HTTP, and a report is the same before and after.
func TestRebuildSums(t *testing.T) {
	t.Parallel()
	app := apptest.New(t)
	fillLedger(t, app, 250)
	h := serve(app)
	call := func(method, url string, answer any) {
		t.Helper()
		r := httptest.NewRequest(method, url, nil)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		check(t, r, w.Result())
		if err := json.Unmarshal(w.Body.Bytes(), answer); err != nil || w.Code != 200 {
			t.Fatalf("%s %s: got %d %s, %v", method, url, w.Code, w.Body, err)
		}
	}
	const report = "/api/usage?by=user&from=2026-02-01&to=2026-03-03"
	var before, after wire.UsageReport
	call("GET", report, &before)
	var done wire.SumsRebuilt
	call("POST", "/api/usage/rebuild?to=2026-03-03", &done)
	if done.Days != 1 || done.Rows != 253 || done.To != nil {
		t.Errorf("got %+v, want 253 rows of one day", done)
	}
	if err := app.Store.Record(t.Context(), []usage.Entry{{Kind: usage.KindAttempt, Key: "x!1", Pool: "cpu", User: "user-1", From: apptest.Noon, To: apptest.Noon}}); err != nil {
		t.Fatal(err)
	}
	call("GET", report, &after) // from the sums, to which nobody has added that row
	if fmt.Sprint(before.Items, before.Totals) != fmt.Sprint(after.Items, after.Totals) {
		t.Errorf("the report is %+v, and was %+v", after, before)
	}
}
