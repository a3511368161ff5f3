package httpapi_test

import (
	"encoding/csv"
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"

	"dsvmpools/local/apptest"
	"dsvmpools/shared/wire"
)

// A report by two keys has both in each line, and as CSV, asked for either way, the same lines as in JSON.
func TestReportAsCSV(t *testing.T) {
	t.Parallel()
	app := apptest.New(t)
	fillLedger(t, app, 250)
	h := serve(app)
	get := func(query, accept string) *httptest.ResponseRecorder {
		t.Helper()
		r := httptest.NewRequest("GET", "/api/usage?from=2026-02-01&to=2026-03-03&"+query, nil)
		r.Header.Set("Accept", accept)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		check(t, r, w.Result())
		return w
	}
	var page wire.UsageReport
	if err := json.Unmarshal(get("by=month,team&limit=1000", "").Body.Bytes(), &page); err != nil {
		t.Fatal(err)
	}
	if len(page.Items) != 8 || page.Items[0].Key != "2026-03\x1f" || page.Items[0].By != "month,team" {
		t.Fatalf("got %+v", page.Items)
	}
	for _, w := range []*httptest.ResponseRecorder{get("by=month,team", "text/csv, */*;q=0.1"), get("by=month,team&format=csv", "")} {
		records, err := csv.NewReader(w.Body).ReadAll()
		if err != nil || w.Code != 200 || len(records) != len(page.Items)+1 || strings.Join(records[0][:3], " ") != "month team jobs" {
			t.Fatalf("got %d, %v: %q", w.Code, err, records)
		}
		for i, g := range page.Items {
			if r := records[i+1]; r[0]+"\x1f"+r[1] != g.Key || r[5] != g.Cost || r[6] != g.Waste || r[10] != g.Currency {
				t.Errorf("line %d is %q, and in JSON %+v", i, r, g)
			}
		}
		if got := w.Header().Get("Content-Disposition"); got != `attachment; filename="usage.csv"` {
			t.Errorf("stored as %q", got)
		}
	}
	for query, says := range map[string]string{
		"by=pool,colour": "two of them", "by=pool&format=xml": "json or csv", "by=pool&format=csv&limit=5": "all lines at once", "by=job,day": "no other key",
	} {
		if w := get(query, ""); w.Code != 400 || !strings.Contains(w.Body.String(), says) {
			t.Errorf("%s: got %d %s", query, w.Code, w.Body)
		}
	}
}
