package httpapi_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"dsvmpools/local/apptest"
	"dsvmpools/shared/wire"
)

// A report with more lines than are made at once goes on after the last of them, in this process or in
// another one: the pages have each line once, and all have the same totals.
func TestPagesOfALongReport(t *testing.T) {
	t.Parallel()
	app := apptest.New(t)
	const jobs = 2_300
	fillLedger(t, app, jobs)
	h := serve(app)
	get := func(query string) (code int, page wire.UsageReport) {
		t.Helper()
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "/api/usage?"+query, nil))
		_ = json.Unmarshal(w.Body.Bytes(), &page) // an error has no page
		return w.Code, page
	}
	for _, sort := range []string{"key", "cost", "seconds"} {
		query := "by=job&limit=900&from=2026-02-01&to=2026-03-03&sort=" + sort
		seen := map[string]int{}
		code, page := get(query)
		for first := page; ; {
			if code != 200 || page.Lines != jobs+1 || fmt.Sprint(page.Totals) != fmt.Sprint(first.Totals) {
				t.Fatalf("by %s: got %d, %d lines of %+v, want %d of %+v", sort, code, page.Lines, page.Totals, jobs+1, first.Totals)
			}
			for _, g := range page.Items {
				seen[g.Key]++
			}
			if page.Continue == "" {
				break
			}
			h = serve(app) // that has no report yet
			code, page = get(query + "&continue=" + url.QueryEscape(page.Continue))
		}
		if len(seen) != jobs+1 || seen["job-7"] != 1 || seen[""] != 1 {
			t.Errorf("by %s: got %d different lines, want %d", sort, len(seen), jobs+1)
		}
	}
	// An earlier release counts all lines of a report; its continuation is refused where it has not been kept.
	const query = "by=job&limit=900&from=2026-02-01&to=2026-03-03"
	_, page := get(query)
	raw, err := base64.RawURLEncoding.DecodeString(page.Continue)
	if err != nil {
		t.Fatal(err)
	}
	h = serve(app)
	old := base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(string(raw), `"n":900`, `"n":2100`, 1)))
	if code, _ := get(query + "&continue=" + old); code != 400 {
		t.Errorf("a continuation of an earlier release: got %d, want 400", code)
	}
}
